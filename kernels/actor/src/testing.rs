//! Unit tests of actors without a device: [`drive`] runs one actor, [`Town`] a whole population in one thread.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringfleet_abi::hash::fnv1a32;
use ringfleet_abi::{ActorId, ActorKey, Draws, Envelope, Flags, Hlc, SessionId, SetId};
use ringfleet_ir::Program;
use ringfleet_ir::interp::{Machine, Sent};

use crate::actor::{Actor, ActorRef, Behaviour, Handles};
use crate::ctx::Ctx;
use crate::descriptor::{TypeDescriptor, TypeRegistry};
use crate::fault::Fault;
use crate::message::Message;
use crate::ops::FUEL_PER_MESSAGE;
use crate::sends::{SendBuffer, Target};

/// The client that tests speak as.
const CLIENT: SessionId = SessionId(1);

/// The state of one actor, aligned as devices align it.
#[derive(Clone, Debug)]
pub struct StateSlot {
    words: Vec<u128>,
    bytes: usize,
}

impl StateSlot {
    /// The state of an actor that has just been activated.
    #[must_use]
    pub fn new(ty: &TypeDescriptor) -> Self {
        let mut slot = Self { words: vec![0; ty.state_bytes.div_ceil(16)], bytes: ty.state_bytes };
        (ty.init)(slot.bytes_mut());
        slot
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.bytes]
    }

    /// The bytes.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.bytes]
    }

    /// A copy of the state as its type.
    ///
    /// # Panics
    /// If the state is of another size, or an enum in it has the number of no variant.
    #[must_use]
    pub fn read<A: Actor>(&self) -> A {
        bytemuck::checked::pod_read_unaligned(self.bytes())
    }
}

/// What an actor did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Messages that were handled.
    pub handled: usize,
    /// What was sent, in order.
    pub sends: Vec<(Target, Envelope)>,
    /// The first fault that failed the actor, and the index of its message. Later messages were not handled.
    pub failed: Option<(usize, Fault)>,
    /// Messages refused with [`Fault::BadMessage`]: the actor went on.
    pub refused: usize,
    /// Whether the actor stopped. Later messages were not handled.
    pub stopped: bool,
}

impl Effects {
    /// The sent messages of type `M`, in order.
    #[must_use]
    pub fn sent<M: Message>(&self) -> Vec<M> {
        self.sends.iter().filter_map(|(_, envelope)| M::from_envelope(envelope)).collect()
    }
}

/// An envelope from the test's client to `to` that asks.
#[must_use]
pub fn ask<M: Message>(to: ActorId, message: &M) -> Envelope {
    message.to_envelope(ActorId::client(CLIENT, 1), to, Flags::ASK)
}

/// An envelope from the test's client to `to` that tells.
#[must_use]
pub fn tell<M: Message>(to: ActorId, message: &M) -> Envelope {
    message.to_envelope(ActorId::client(CLIENT, 0), to, Flags::NONE)
}

/// Lets one actor of the set that is named like its type handle `envelopes` in order. The handling of the n-th (from 0) is stamped `n + 1` milliseconds.
pub fn drive(ty: &TypeDescriptor, state: &mut [u8], envelopes: &[Envelope]) -> Effects {
    let mut effects = Effects::default();
    let mut sends = SendBuffer::new();
    let mut draws = Draws::new(fnv1a32(ty.name.as_bytes()));
    for (at, envelope) in envelopes.iter().enumerate() {
        let hlc = Hlc::from_wall_ms(at as u64 + 1);
        let mut ctx = Ctx::new(envelope.to(), envelope, hlc, &mut sends, &mut draws);
        let outcome = (ty.handle)(state, envelope, &mut ctx);
        let stopped = ctx.stopped();
        match outcome {
            Ok(()) => {
                effects.handled += 1;
                effects.sends.extend(sends.iter().map(|(target, envelope)| (target, *envelope)));
            }
            Err(Fault::BadMessage) => effects.refused += 1,
            Err(fault) => {
                effects.failed = Some((at, fault));
                return effects;
            }
        }
        if stopped {
            effects.stopped = true;
            return effects;
        }
    }
    effects
}

/// As [`drive`], but the program of the type runs in the interpreter.
///
/// # Errors
/// What is wrong with the program.
pub fn drive_program(
    program: &Program,
    state: &mut [u8],
    envelopes: &[Envelope],
) -> Result<Effects, ringfleet_ir::Error> {
    let machine = Machine::new(program, FUEL_PER_MESSAGE)?;
    let mut draws = Draws::new(fnv1a32(program.name.as_bytes()));
    let mut effects = Effects::default();
    for (at, envelope) in envelopes.iter().enumerate() {
        match machine.handle(state, envelope, Hlc::from_wall_ms(at as u64 + 1).0, &mut draws) {
            Ok(did) => {
                effects.handled += 1;
                effects.sends.extend(did.sends.into_iter().map(|(sent, envelope)| (target(sent), envelope)));
                if did.stopped {
                    effects.stopped = true;
                    return Ok(effects);
                }
            }
            Err(code) => match Fault::from_code(code) {
                Some(Fault::BadMessage) => effects.refused += 1,
                fault => {
                    effects.failed = fault.map(|fault| (at, fault));
                    return Ok(effects);
                }
            },
        }
    }
    Ok(effects)
}

fn target(sent: Sent) -> Target {
    match sent {
        Sent::Tag(tag) => Target::Tag(tag),
        Sent::Set(set) => Target::Set(set),
        Sent::Timer(delay_ms) => Target::Timer { delay_ms },
    }
}

/// A population of actors of several types in one thread: one set per type, named like it. Messages are handled in the order
/// they were sent, timers at once and in order of their delay when nothing else is left.
#[derive(Debug)]
pub struct Town {
    types: TypeRegistry,
    sets: BTreeMap<u32, (SetId, &'static TypeDescriptor)>,
    actors: BTreeMap<(u16, ActorKey), (StateSlot, Draws)>,
    queue: VecDeque<Envelope>,
    timers: BTreeMap<(u64, u64), Envelope>,
    replies: Vec<Envelope>,
    dead: BTreeSet<(u16, ActorKey)>,
    sends: Box<SendBuffer>,
    now_ms: u64,
    timers_made: u64,
    /// Messages that were handled.
    pub handled: u64,
    /// Messages that failed their actor, or that no handler took, with the reason. An actor that has failed stays failed.
    pub failed: Vec<(Envelope, Fault)>,
    /// Messages to actors that had failed before.
    pub dead_lettered: u64,
    /// Messages to a set that the town does not have.
    pub astray: u64,
}

impl Town {
    /// A town with one empty set per type.
    #[must_use]
    pub fn new(types: TypeRegistry) -> Self {
        let sets = types
            .iter()
            .enumerate()
            .map(|(at, ty)| (fnv1a32(ty.name.as_bytes()), (SetId(at as u16 + 1), ty)))
            .collect();
        Self {
            types,
            sets,
            actors: BTreeMap::new(),
            queue: VecDeque::new(),
            timers: BTreeMap::new(),
            replies: Vec::new(),
            dead: BTreeSet::new(),
            sends: Box::default(),
            now_ms: 1,
            timers_made: 0,
            handled: 0,
            failed: Vec::new(),
            dead_lettered: 0,
            astray: 0,
        }
    }

    /// Tells an actor something, as a client, and lets the town run until nothing is left to do.
    pub fn tell<A: Handles<M>, M: Message>(&mut self, to: ActorRef<A>, message: &M) {
        self.enter(to, message, ActorId::client(CLIENT, 0), Flags::NONE);
        self.run();
    }

    /// Asks an actor something, as a client, and gives its first reply.
    pub fn ask<A: Handles<M>, M: Message>(&mut self, to: ActorRef<A>, message: &M) -> Option<Envelope> {
        self.replies.clear();
        self.enter(to, message, ActorId::client(CLIENT, 1), Flags::ASK);
        self.run();
        self.replies.first().copied()
    }

    /// A copy of an actor's state; `None` if it was never activated.
    #[must_use]
    pub fn state<A: Behaviour>(&self, key: ActorKey) -> Option<A> {
        let (set, _) = self.sets.get(&fnv1a32(A::NAME.as_bytes()))?;
        Some(self.actors.get(&(set.0, key))?.0.read())
    }

    /// How many actors were activated.
    #[must_use]
    pub fn actors(&self) -> usize {
        self.actors.len()
    }

    /// The types of this town.
    #[must_use]
    pub fn types(&self) -> &TypeRegistry {
        &self.types
    }

    fn enter<A: Actor, M: Message>(&mut self, to: ActorRef<A>, message: &M, from: ActorId, flags: Flags) {
        match self.sets.get(&to.set_tag()) {
            Some((set, _)) => {
                let envelope = message.to_envelope(from, ActorId::new(*set, to.key()), flags);
                self.queue.push_back(envelope);
            }
            None => self.astray += 1,
        }
    }

    fn run(&mut self) {
        loop {
            if let Some(envelope) = self.queue.pop_front() {
                self.handle(&envelope);
            } else if let Some(((due_ms, _), envelope)) = self.timers.pop_first() {
                self.now_ms = self.now_ms.max(due_ms);
                self.handle(&envelope);
            } else {
                return;
            }
        }
    }

    fn handle(&mut self, envelope: &Envelope) {
        let to = envelope.to();
        let Some((tag, (_, ty))) = self.sets.iter().find(|(_, (set, _))| *set == to.set) else {
            self.astray += 1;
            return;
        };
        if self.dead.contains(&(to.set.0, to.key)) {
            self.dead_lettered += 1;
            return;
        }
        let new = || (StateSlot::new(ty), Draws::new(*tag));
        let (slot, draws) = self.actors.entry((to.set.0, to.key)).or_insert_with(new);
        let mut ctx = Ctx::new(to, envelope, Hlc::from_wall_ms(self.now_ms), &mut self.sends, draws);
        let outcome = (ty.handle)(slot.bytes_mut(), envelope, &mut ctx);
        let stopped = ctx.stopped();
        if let Err(fault) = outcome {
            self.failed.push((*envelope, fault));
            if fault != Fault::BadMessage {
                self.dead.insert((to.set.0, to.key));
            }
            return;
        }
        self.handled += 1;
        if stopped {
            self.actors.remove(&(to.set.0, to.key));
        }
        for (target, envelope) in self.sends.iter() {
            let mut envelope = *envelope;
            match target {
                Target::Set(SetId::CLIENT) => self.replies.push(envelope),
                Target::Set(_) => self.queue.push_back(envelope),
                Target::Timer { delay_ms } => {
                    self.timers_made += 1;
                    self.timers.insert((self.now_ms + u64::from(delay_ms), self.timers_made), envelope);
                }
                Target::Tag(tag) => match self.sets.get(&tag) {
                    Some((set, _)) => {
                        envelope.to_set = set.0;
                        self.queue.push_back(envelope);
                    }
                    None => self.astray += 1,
                },
            }
        }
    }
}
