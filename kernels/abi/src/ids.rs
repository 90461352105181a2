//! Identifiers. Each is a newtype, so that an index of one thing is never taken for an index of another.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id! {
    /// A deployed actor set. Given by the Raft log and never reused; 0 is "none".
    SetId(u16)
}
id! {
    /// The index of a shard within its set, `0..shards`.
    ShardIndex(u16)
}
id! {
    /// The number of one shard's residence, raised only by the Raft log (C2). The first residence is 1; 0 is "none".
    Epoch(u64)
}
id! {
    /// A node by name. Given by the Raft log and never reused.
    NodeId(u32)
}
id! {
    /// One start of one node; unique in the cluster, given by the Raft log, never reused.
    Incarnation(u64)
}
id! {
    /// A client session; unique in the cluster, given by the Raft log, never reused; 0 is "none".
    SessionId(u32)
}
id! {
    /// A worker of a device, `0..workers`.
    WorkerIndex(u16)
}
id! {
    /// A device of a node.
    DeviceIndex(u16)
}

/// The key of an actor within its set.
pub type ActorKey = u64;

impl SetId {
    /// No set.
    pub const NONE: SetId = SetId(0);
    /// The pseudo-set whose actors are client sessions: key = session << 32 | ask number.
    pub const CLIENT: SetId = SetId(u16::MAX);
}

impl Epoch {
    /// The epoch of a shard that was never resident.
    pub const NONE: Epoch = Epoch(0);

    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

/// A shard of a set: the unit of ownership and placement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct ShardId {
    /// The set.
    pub set: SetId,
    /// Which of its shards.
    pub index: ShardIndex,
}

impl ShardId {
    /// The shard `index` of `set`.
    #[must_use]
    pub const fn new(set: SetId, index: ShardIndex) -> Self {
        Self { set, index }
    }

    /// Both halves in one word: set << 16 | index.
    #[must_use]
    pub const fn pack(self) -> u32 {
        (self.set.0 as u32) << 16 | self.index.0 as u32
    }

    /// The inverse of [`ShardId::pack`].
    #[must_use]
    pub const fn unpack(word: u32) -> Self {
        Self { set: SetId((word >> 16) as u16), index: ShardIndex(word as u16) }
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.set, self.index)
    }
}

/// An actor by name: which set, which key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorId {
    /// The set.
    pub set: SetId,
    /// The key within it.
    pub key: ActorKey,
}

impl ActorId {
    /// The actor `key` of `set`.
    #[must_use]
    pub const fn new(set: SetId, key: ActorKey) -> Self {
        Self { set, key }
    }

    /// The client pseudo-actor of `session`; `ask` 0 names a tell.
    #[must_use]
    pub const fn client(session: SessionId, ask: u32) -> Self {
        Self { set: SetId::CLIENT, key: (session.0 as u64) << 32 | ask as u64 }
    }

    /// Session and ask number, if this is a client pseudo-actor.
    #[must_use]
    pub const fn as_client(self) -> Option<(SessionId, u32)> {
        if self.set.0 == SetId::CLIENT.0 { Some((SessionId((self.key >> 32) as u32), self.key as u32)) } else { None }
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:#x}", self.set, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_id_survives_packing() {
        let shard = ShardId::new(SetId(0xBEEF), ShardIndex(0x1234));
        assert_eq!(ShardId::unpack(shard.pack()), shard);
    }

    #[test]
    fn only_the_pseudo_set_is_a_client() {
        assert_eq!(ActorId::client(SessionId(7), 9).as_client(), Some((SessionId(7), 9)));
        assert_eq!(ActorId::new(SetId(1), 7 << 32 | 9).as_client(), None);
    }
}
