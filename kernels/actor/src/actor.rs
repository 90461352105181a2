//! Actor types and references to actors.

use std::fmt;
use std::marker::PhantomData;

use bytemuck::{CheckedBitPattern, NoUninit};
use ringfleet_abi::ActorKey;
use ringfleet_abi::hash::fnv1a32;

use crate::descriptor::{TypeDescriptor, Width};
use crate::message::Message;
use crate::plain::{FieldDescriptor, Plain};

/// An actor type: the state. Implemented by `#[actor]`.
pub trait Actor: Plain + NoUninit + CheckedBitPattern {
    /// The type's name, and the name of the set that `Type::at(key)` addresses.
    const NAME: &'static str;
    /// How much of a GPU works on one message.
    const WIDTH: Width;
    /// The most messages that one handling may send.
    const MAX_SENDS: u32;
    /// The fields of the state, in the order of their offsets.
    const STATE: &'static [FieldDescriptor];
    /// Hash of the struct's text.
    #[doc(hidden)]
    const TEXT_HASH: u64;

    /// The state of an actor that has just been activated.
    fn initial() -> Self;
}

/// An actor type with its handlers. Implemented by `#[handlers]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no handlers",
    note = "put `#[handlers]` on an `impl` block of the actor"
)]
pub trait Behaviour: Actor {
    /// What a process knows about the type.
    const DESCRIPTOR: &'static TypeDescriptor;
}

/// `A: Handles<M>`: the actor type `A` has a handler of `M`. Implemented by `#[handlers]`, checked where something is told:
///
/// ```compile_fail,E0277
/// use ringfleet_actor::prelude::*;
/// # #[message] pub struct Go {}
/// # #[message] pub struct Other {}
/// # #[actor(name = "test.a")] #[derive(Default)] pub struct A { n: u32 }
/// #[handlers]
/// impl A {
///     fn on_go(&mut self, _m: &Go, ctx: &mut Ctx) {
///         ctx.tell(A::at(1), &Other {}) // actors of type `A` do not handle `Other`
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "actors of type `{Self}` do not handle `{M}`",
    label = "`{Self}` has no handler of this message",
    note = "add `fn on_..(&mut self, m: &{M}, ctx: &mut Ctx)` to its handlers"
)]
pub trait Handles<M: Message>: Actor {}

/// An actor by name: the set's name as a tag, and the key. Made by `Type::at(key)` and `Type::in_set(name, key)`.
pub struct ActorRef<A> {
    set_tag: u32,
    key: ActorKey,
    // A reference owns no actor: it is Copy, Send and Sync whatever `A` is.
    actor: PhantomData<fn() -> A>,
}

impl<A: Actor> ActorRef<A> {
    /// The actor `key` of the set that is named like the type.
    #[must_use]
    #[inline]
    pub const fn at(key: ActorKey) -> Self {
        Self { set_tag: const { fnv1a32(A::NAME.as_bytes()) }, key, actor: PhantomData }
    }

    /// The actor `key` of the set `set`.
    #[must_use]
    #[inline]
    pub const fn in_set(set: &str, key: ActorKey) -> Self {
        Self { set_tag: fnv1a32(set.as_bytes()), key, actor: PhantomData }
    }

    /// The tag of the set: `fnv1a32` of its name.
    #[must_use]
    #[inline]
    pub const fn set_tag(self) -> u32 {
        self.set_tag
    }

    /// The key.
    #[must_use]
    #[inline]
    pub const fn key(self) -> ActorKey {
        self.key
    }
}

impl<A> Clone for ActorRef<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for ActorRef<A> {}

impl<A> PartialEq for ActorRef<A> {
    fn eq(&self, other: &Self) -> bool {
        (self.set_tag, self.key) == (other.set_tag, other.key)
    }
}

impl<A> Eq for ActorRef<A> {}

impl<A> fmt::Debug for ActorRef<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActorRef({:#010x}, {:#x})", self.set_tag, self.key)
    }
}
