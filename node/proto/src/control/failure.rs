//! Why a request has no answer: a closed list of codes, and whether the request may have been executed (C4).

macro_rules! refusal_codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal;)*) => {
        wire! {
            /// Why a request is refused: provably not executed, and no retry will change the answer by itself.
            #[derive(Copy, PartialOrd, Ord, Hash)]
            #[serde(rename_all = "snake_case")]
            pub enum RefusalCode { $($(#[$doc])* $variant,)* }
        }

        impl RefusalCode {
            /// All codes.
            pub const ALL: &'static [RefusalCode] = &[$(RefusalCode::$variant,)*];

            /// The word used in replies, metrics and documentation.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(RefusalCode::$variant => $text,)* }
            }
        }
    };
}

refusal_codes! {
    /// The identity's role does not allow this verb.
    NotAllowed = "not_allowed";
    /// The bytes are no request of this version.
    BadRequest = "bad_request";
    /// The name or address in the request is not the one of the certificate, or breaks the rules of names.
    BadName = "bad_name";
    /// Another node with this name is alive.
    NameInUse = "name_in_use";
    /// The incarnation has been declared lost, or has left: join again.
    Fenced = "fenced";
    /// The node's clock is too far from the cluster's.
    ClockOff = "clock_off";
    /// The document has another `apiVersion`.
    UnknownApiVersion = "unknown_api_version";
    /// The document has another `kind`.
    UnknownKind = "unknown_kind";
    /// No node reports this actor type.
    UnknownType = "unknown_type";
    /// Nodes report this actor type with different code or layouts, and the document cannot say which is meant.
    TypeConflict = "type_conflict";
    /// The set is resident with another state layout.
    LayoutChanged = "layout_changed";
    /// A field that is fixed for the life of a set differs.
    FieldFixed = "field_fixed";
    /// The durability is not built yet.
    UnsupportedDurability = "unsupported_durability";
    /// The tenant is not built yet.
    UnsupportedTenant = "unsupported_tenant";
    /// Another set's name has the same tag.
    TagCollision = "tag_collision";
    /// A bound of the cluster, a set or a list would be passed.
    LimitExceeded = "limit_exceeded";
    /// No set of this name.
    UnknownSet = "unknown_set";
    /// No node of this name.
    UnknownNode = "unknown_node";
    /// No session of this number.
    UnknownSession = "unknown_session";
    /// The set is being deleted.
    SetDeleting = "set_deleting";
    /// Moving resident shards of a volatile set loses their state; the request does not agree to that.
    StateWouldBeLost = "state_would_be_lost";
    /// The operation id was used for another request.
    OperationReused = "operation_reused";
    /// The cluster has another name.
    WrongCluster = "wrong_cluster";
    /// The change of coordinators is not possible now.
    BadMembership = "bad_membership";
}

impl std::fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

wire! {
    /// A refusal: a code for programs, a sentence for people.
    pub struct Refusal {
        /// The code.
        pub code: RefusalCode,
        /// What was asked, what is the case, and what to do.
        pub message: String,
    }
}

impl Refusal {
    /// A refusal with this code and sentence.
    #[must_use]
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "refused ({}): {}", self.code, self.message)
    }
}

wire! {
    /// Where the leader was last seen.
    pub struct LeaderHint {
        /// The coordinator's name.
        pub name: String,
        /// Its address, as `host:port`.
        pub addr: String,
    }
}

wire! {
    /// Why a request has no answer.
    pub enum Failure {
        /// This coordinator does not lead. Not executed; ask the one in the hint, or any other.
        NotLeader {
            /// Who leads, if known.
            leader: Option<LeaderHint>,
        },
        /// Refused for good. Not executed.
        Refused(Refusal),
        /// No quorum by the deadline. Not executed; may be sent again.
        Unavailable {
            /// What was being attempted.
            message: String,
        },
        /// The outcome is not known by the deadline. Send it again with the same operation id to learn it.
        Unknown {
            /// What was being attempted.
            message: String,
        },
    }
}

impl Failure {
    /// A refusal.
    #[must_use]
    pub fn refused(code: RefusalCode, message: impl Into<String>) -> Self {
        Self::Refused(Refusal::new(code, message))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotLeader { leader: Some(hint) } => write!(f, "not the leader; {} at {} is", hint.name, hint.addr),
            Self::NotLeader { leader: None } => f.write_str("not the leader, and none is known"),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Unavailable { message } => write!(f, "unavailable: {message}"),
            Self::Unknown { message } => write!(f, "outcome unknown: {message}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_names_are_distinct_and_are_what_serde_writes() {
        let mut names: Vec<_> = RefusalCode::ALL.iter().map(|code| code.name()).collect();
        for (code, name) in RefusalCode::ALL.iter().zip(&names) {
            let snake: String = format!("{code:?}").chars().enumerate().fold(String::new(), |mut text, (at, c)| {
                if c.is_ascii_uppercase() && at > 0 {
                    text.push('_');
                }
                text.push(c.to_ascii_lowercase());
                text
            });
            assert_eq!(&snake, name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), RefusalCode::ALL.len());
    }
}
