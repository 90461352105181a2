//! Why a message was not handled: closed lists, the same words in counters, metrics, replies and documentation (C4, C7).

macro_rules! closed_list {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $code:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum $name { $($(#[$vdoc])* $variant = $code,)* }

        impl $name {
            /// All of them, in the order of their codes.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The word used in metrics, replies and documentation.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }

            /// The entry with this code.
            #[must_use]
            pub const fn from_code(code: u16) -> Option<Self> {
                match code { $($code => Some($name::$variant),)* _ => None }
            }

            /// The code that crosses boundaries.
            #[must_use]
            pub const fn code(self) -> u16 {
                self as u16
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}
pub(crate) use closed_list;

closed_list! {
    /// Why a message ended in the dead letters of a worker or an agent.
    DeadReason {
        /// The target's set is not known here.
        NoSuchSet = 0, "no_such_set";
        /// The set has no such key.
        NoSuchKey = 1, "no_such_key";
        /// The target has no handler of this kind, or the payload has another length.
        BadMessage = 2, "bad_message";
        /// The actor has failed before and stays so.
        ActorFailed = 3, "actor_failed";
        /// The handling of this very message failed.
        HandlerFailed = 4, "handler_failed";
        /// The table of the target's shard is full.
        ShardFull = 5, "shard_full";
        /// The worker's spill stood still and it consumed inputs without running them.
        Overloaded = 6, "overloaded";
        /// The shard is not resident where the message arrived, and the sender cannot be told to go elsewhere.
        NotResident = 7, "not_resident";
        /// The reply's client session has ended.
        ClientGone = 8, "client_gone";
        /// The stamp is too far ahead of the clock (C6).
        StampAhead = 9, "stamp_ahead";
        /// A reply to something that takes no replies.
        NoReplyTo = 10, "no_reply_to";
        /// A pending timer of an actor that stopped, failed or left with its shard.
        ActorGone = 11, "actor_gone";
    }
}

closed_list! {
    /// Why a message or a channel was reported lost (C3: nothing is lost silently).
    LostReason {
        /// The node of the target shard has died; its state is gone.
        NodeLost = 0, "node_lost";
        /// The session was idle for too long, or is not known.
        SessionExpired = 1, "session_expired";
        /// The shard lives elsewhere with no memory of this session.
        ShardRestarted = 2, "shard_restarted";
        /// The set was deleted.
        SetDeleted = 3, "set_deleted";
        /// The sender was fenced: its incarnation or its lease has ended.
        SenderFenced = 4, "sender_fenced";
        /// The node gave up re-sending, its bounded memory for the target being full for too long.
        Undeliverable = 5, "undeliverable";
    }
}

closed_list! {
    /// A device's answer to a client's message that was not handled. Carried in an envelope with the flags `reply` and
    /// `control`: `kind` is the verdict's code, the payload its detail.
    Verdict {
        /// Not executed: the worker is overloaded. Send again from this sequence on.
        Busy = 0, "busy";
        /// Not executed: the shard's table is full. Send again from this sequence on.
        ShardFull = 1, "shard_full";
        /// Not executed: no such set or key, or the kind or length is wrong.
        BadMessage = 2, "bad_message";
        /// Not executed: the actor has failed before.
        ActorFailed = 3, "actor_failed";
        /// Executed, and the handling failed; its sends were dropped.
        HandlerFailed = 4, "handler_failed";
        /// Not executed: the shard is no longer resident here.
        NotResident = 5, "not_resident";
        /// Handled, and the handler did not reply.
        NoReply = 6, "no_reply";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_positions_and_come_back() {
        for (at, reason) in DeadReason::ALL.iter().enumerate() {
            assert_eq!(reason.code() as usize, at);
            assert_eq!(DeadReason::from_code(reason.code()), Some(*reason));
        }
        assert_eq!(DeadReason::from_code(999), None);
        assert_eq!(LostReason::from_code(LostReason::COUNT as u16), None);
        assert_eq!(Verdict::from_code(1), Some(Verdict::ShardFull));
    }
}
