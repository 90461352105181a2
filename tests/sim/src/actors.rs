//! Actors of the simulated workload, and who watches them handle.
//!
//! A client tells a relay numbered messages, the relay tells the sink of the same key: two hops that usually lie on different
//! nodes. The devices run the shipped code of the actors; what is added here is an observer around each handler, which notes what was
//! handled where, when and with which stamps.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::OnceLock;

use ringfleet_abi::Envelope;
use ringfleet_actor::prelude::*;
use ringfleet_actor::{Behaviour, Fault, TypeDescriptor};

use crate::exec::{HostId, current_host, current_task};

/// One message of a client: numbers of one session to one key begin at 1.
#[message]
pub struct Stamped {
    /// Its number.
    pub seq: u64,
    /// The session.
    pub session: u64,
}

/// The same message, handed on by a relay.
#[message]
pub struct Relayed {
    /// Its number.
    pub seq: u64,
    /// The session.
    pub session: u64,
    /// The relay's stamp when it handled the message.
    pub relayed_at: u64,
}

/// Asks a sink what it has seen.
#[message]
pub struct Read {}

/// What a sink has seen.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    /// Messages handled since it was activated.
    pub handled: u64,
}

/// The first hop.
#[actor(name = "sim.relay", width = lane)]
#[derive(Default)]
pub struct Relay {
    handled: u64,
}

#[handlers]
impl Relay {
    fn on_stamped(&mut self, m: &Stamped, ctx: &mut Ctx) {
        self.handled += 1;
        ctx.tell(Sink::at(ctx.key()), &Relayed { seq: m.seq, session: m.session, relayed_at: ctx.now().0 });
    }

    fn on_read(&mut self, _m: &Read, ctx: &mut Ctx) {
        ctx.reply(&Seen { handled: self.handled });
    }
}

/// The second hop.
#[actor(name = "sim.sink", width = lane)]
#[derive(Default)]
pub struct Sink {
    handled: u64,
}

#[handlers]
impl Sink {
    fn on_relayed(&mut self, _m: &Relayed, _ctx: &mut Ctx) {
        self.handled += 1;
    }

    fn on_read(&mut self, _m: &Read, ctx: &mut Ctx) {
        ctx.reply(&Seen { handled: self.handled });
    }
}

/// Which actor type handled something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hop {
    /// The first.
    Relay,
    /// The second.
    Sink,
}

impl Hop {
    /// The name of the type, and of the set.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Relay => "sim.relay",
            Self::Sink => "sim.sink",
        }
    }
}

/// A handler has run.
#[derive(Debug, Clone, Copy)]
pub struct Handling {
    /// Which actor type.
    pub hop: Hop,
    /// Which actor.
    pub key: u64,
    /// On which host.
    pub host: HostId,
    /// In which task: every incarnation of a node has devices of its own, and every device a task.
    pub task: u64,
    /// The message's stamp.
    pub sent_at: u64,
    /// The stamp of the handling.
    pub handled_at: u64,
    /// Session and number, if it is one of a stream.
    pub of: Option<(u64, u64)>,
    /// The relay's stamp, at the second hop.
    pub relayed_at: Option<u64>,
}

thread_local! {
    /// Hosts whose device fails with the next message.
    static BROKEN: RefCell<BTreeSet<HostId>> = const { RefCell::new(BTreeSet::new()) };
    static HANDLED: RefCell<Vec<Handling>> = const { RefCell::new(Vec::new()) };
}

/// A run begins on this thread: nothing is left of another one.
pub fn begin() {
    BROKEN.with_borrow_mut(BTreeSet::clear);
    HANDLED.with_borrow_mut(Vec::clear);
}

/// The device of a host fails with the next message that it handles.
pub fn break_device(host: HostId) {
    BROKEN.with_borrow_mut(|broken| broken.insert(host));
}

/// It does not, if it has not yet.
pub fn mend_device(host: HostId) {
    BROKEN.with_borrow_mut(|broken| broken.remove(&host));
}

/// As a device does that faults: the worker is lost between two instructions of a handler.
fn fail_if_broken() {
    let broken = BROKEN.with_borrow_mut(|broken| broken.remove(&current_host()));
    assert!(!broken, "the device fails");
}

/// Takes what was handled on this thread since it was last taken.
pub fn take(into: &mut Vec<Handling>) {
    HANDLED.with_borrow_mut(|handled| into.append(handled));
}

fn word(payload: &[u8], at: usize) -> Option<u64> {
    payload.get(at * 8..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn note(hop: Hop, incoming: &Envelope, ctx: &Ctx<'_>) {
    let payload = incoming.payload();
    let stream = incoming.kind == Stamped::KIND || incoming.kind == Relayed::KIND;
    let of = if stream { word(payload, 1).zip(word(payload, 0)) } else { None };
    let relayed_at = (incoming.kind == Relayed::KIND).then(|| word(payload, 2)).flatten();
    let handling = Handling {
        hop,
        key: ctx.key(),
        host: current_host(),
        task: current_task(),
        sent_at: incoming.hlc,
        handled_at: ctx.now().0,
        of,
        relayed_at,
    };
    HANDLED.with_borrow_mut(|handled| handled.push(handling));
}

fn relay(state: &mut [u8], incoming: &Envelope, ctx: &mut Ctx<'_>) -> Result<(), Fault> {
    fail_if_broken();
    (Relay::DESCRIPTOR.handle)(state, incoming, ctx).inspect(|()| note(Hop::Relay, incoming, ctx))
}

fn sink(state: &mut [u8], incoming: &Envelope, ctx: &mut Ctx<'_>) -> Result<(), Fault> {
    fail_if_broken();
    (Sink::DESCRIPTOR.handle)(state, incoming, ctx).inspect(|()| note(Hop::Sink, incoming, ctx))
}

/// The types that simulated nodes carry.
#[must_use]
pub fn types() -> [&'static TypeDescriptor; 2] {
    static RELAY: OnceLock<TypeDescriptor> = OnceLock::new();
    static SINK: OnceLock<TypeDescriptor> = OnceLock::new();
    [
        RELAY.get_or_init(|| TypeDescriptor { handle: relay, ..*Relay::DESCRIPTOR }),
        SINK.get_or_init(|| TypeDescriptor { handle: sink, ..*Sink::DESCRIPTOR }),
    ]
}
