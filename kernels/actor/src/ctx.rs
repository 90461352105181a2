//! What a handler may do besides changing its state.
//!
//! C4: `reply` answers the ask that is being handled. C6: a handler's k-th send is stamped with the stamp of the handling
//! plus k, so that a replay makes the same stamps. C9: sends are counted against the type's `max_sends`.

use std::cell::Cell;

use ringfleet_abi::limits::{MAX_SENDS_DEFAULT, TIMER_DELAY_MS_MAX};
use ringfleet_abi::{ActorId, ActorKey, Draws, Envelope, Flags, Hlc, SetId};

use crate::actor::{ActorRef, Handles};
use crate::fault::Fault;
use crate::message::Message;
use crate::sends::{SendBuffer, Target};

/// The handling of one message. In the text of a handler the calls return nothing: the macro passes a failure on.
#[derive(Debug)]
pub struct Ctx<'a> {
    me: ActorId,
    incoming: &'a Envelope,
    hlc: Hlc,
    sends: &'a mut SendBuffer,
    /// A cell, so that a number can be drawn within the arguments of a send.
    draws: &'a Cell<Draws>,
    max_sends: usize,
    stopped: bool,
}

impl<'a> Ctx<'a> {
    /// For devices: the handling of `incoming` by `me`, stamped `hlc`. What `sends` held is forgotten; after a handler has
    /// returned `Ok` it holds what the handler sent. `draws` are those of the actor, kept from one handling to the next.
    #[must_use]
    #[inline]
    pub fn new(me: ActorId, incoming: &'a Envelope, hlc: Hlc, sends: &'a mut SendBuffer, draws: &'a mut Draws) -> Self {
        sends.clear();
        Self { me, incoming, hlc, sends, draws: Cell::from_mut(draws), max_sends: MAX_SENDS_DEFAULT, stopped: false }
    }

    /// For devices: whether the handler has called [`Ctx::stop`].
    #[must_use]
    #[inline]
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// For generated code: how many messages this handling may send.
    #[doc(hidden)]
    #[inline]
    pub fn allow_sends(&mut self, max_sends: u32) {
        self.max_sends = max_sends as usize;
    }

    /// Tells an actor something. Its type has to handle the message.
    ///
    /// # Errors
    /// [`Fault::TooManySends`] fails the handling.
    #[inline]
    pub fn tell<A: Handles<M>, M: Message>(&mut self, to: ActorRef<A>, message: &M) -> Result<(), Fault> {
        self.send(Target::Tag(to.set_tag()), ActorId::new(SetId::NONE, to.key()), message, Flags::NONE)
    }

    /// Answers the ask that is being handled; if it was told, tells the sender.
    ///
    /// # Errors
    /// [`Fault::TooManySends`] fails the handling.
    #[inline]
    pub fn reply<M: Message>(&mut self, message: &M) -> Result<(), Fault> {
        let flags = if self.incoming.flags().has(Flags::ASK) { Flags::REPLY } else { Flags::NONE };
        let to = self.incoming.from();
        self.send(Target::Set(to.set), to, message, flags)
    }

    /// Tells this actor something, `delay_ms` from now.
    ///
    /// # Errors
    /// [`Fault::TooManySends`] and [`Fault::DelayTooLong`] fail the handling.
    #[inline]
    pub fn after<M: Message>(&mut self, delay_ms: u32, message: &M) -> Result<(), Fault> {
        if delay_ms > TIMER_DELAY_MS_MAX {
            return Err(Fault::DelayTooLong);
        }
        self.send(Target::Timer { delay_ms }, self.me, message, Flags::NONE)
    }

    /// Who sent the message. A client is an actor of the pseudo-set [`SetId::CLIENT`].
    #[must_use]
    #[inline]
    pub fn sender(&self) -> ActorId {
        self.incoming.from()
    }

    /// The key of this actor.
    #[must_use]
    #[inline]
    pub fn key(&self) -> ActorKey {
        self.me.key
    }

    /// The stamp of this handling.
    #[must_use]
    #[inline]
    pub fn now(&self) -> Hlc {
        self.hlc
    }

    /// A random number, each of 2^64 equally likely, the same on every device: the next of this actor's own sequence, which follows from
    /// the name of its set and its key. A restart goes on with the sequence; an actor that stops, or that is lost with its state, begins
    /// it again. Nothing secret may depend on it.
    #[must_use]
    #[inline]
    pub fn random(&self) -> u64 {
        let mut draws = self.draws.get();
        let number = draws.random(self.me.key);
        self.draws.set(draws);
        number
    }

    /// A random number below `bound`, as [`Ctx::random`]; all are equally likely, to one part in 2^64.
    ///
    /// # Errors
    /// [`Fault::DivideByZero`] fails the handling if `bound` is 0.
    #[inline]
    pub fn random_below(&self, bound: u64) -> Result<u64, Fault> {
        let mut draws = self.draws.get();
        let number = draws.random_below(self.me.key, bound).ok_or(Fault::DivideByZero);
        self.draws.set(draws);
        number
    }

    /// Fails the actor with a code of its own. In the text of a handler this ends the handling at once.
    #[must_use]
    #[inline]
    pub fn fail(&self, code: u16) -> Fault {
        Fault::User(code)
    }

    /// Removes this actor after the handling; its name stays, and the next message activates it anew.
    #[inline]
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    #[inline]
    fn send<M: Message>(&mut self, target: Target, to: ActorId, message: &M, flags: Flags) -> Result<(), Fault> {
        let k = self.sends.len() + 1;
        if k > self.max_sends {
            return Err(Fault::TooManySends);
        }
        let flags = if self.incoming.flags().has(Flags::TRACE) { flags.with(Flags::TRACE) } else { flags };
        let mut envelope = message.to_envelope(self.me, to, flags);
        envelope.hlc = self.hlc.plus(k as u64).0;
        if self.sends.push(target, envelope) { Ok(()) } else { Err(Fault::TooManySends) }
    }
}
