//! A population of actors in one thread whose messages are handled in an order of one's own. Promised is only that what one actor sends to
//! another is handled in the order sent (C3): an application must come to the same results in any such order.

use std::collections::{BTreeMap, VecDeque};

use ringfleet_abi::hash::{fnv1a32, mix64};
use ringfleet_abi::{ActorId, ActorKey, Envelope, Flags, SessionId, SetId};
use ringfleet_actor::testing::{StateSlot, drive};
use ringfleet_actor::{Message, Target, TypeDescriptor};

/// An actor: its set and its key.
type Name = (u16, ActorKey);

/// A set per type, numbered like the types, from 1.
pub struct Schedule<'a> {
    types: &'a [&'static TypeDescriptor],
    seed: u64,
    /// What is under way, by the rank of the pair of sender and receiver: the first is always handled first, so the last waits until
    /// nothing else is left to do.
    channels: BTreeMap<(u64, Name, Name), VecDeque<Envelope>>,
    states: BTreeMap<Name, StateSlot>,
    /// What every actor was told, in order.
    pub streams: BTreeMap<Name, Vec<Envelope>>,
    /// What clients were told, in order.
    pub replies: Vec<Envelope>,
}

impl<'a> Schedule<'a> {
    /// The seed decides which pairs are quick and which are slow.
    pub fn new(types: &'a [&'static TypeDescriptor], seed: u64) -> Self {
        let (channels, states, streams) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { types, seed, channels, states, streams, replies: Vec::new() }
    }

    /// Tells or asks as a client, and lets the actors run until nothing is left to do.
    pub fn run<M: Message>(&mut self, tag: u32, key: ActorKey, message: &M, flags: Flags) {
        self.send(tag, key, message, flags);
        self.settle();
    }

    /// Tells or asks as a client.
    pub fn send<M: Message>(&mut self, tag: u32, key: ActorKey, message: &M, flags: Flags) {
        let from = ActorId::client(SessionId(1), 1);
        self.push(message.to_envelope(from, ActorId::new(self.set(tag), key), flags));
    }

    /// Lets the actors run until nothing is left to do.
    pub fn settle(&mut self) {
        while let Some(mut channel) = self.channels.first_entry() {
            match channel.get_mut().pop_front() {
                Some(envelope) => self.handle(&envelope),
                None => drop(channel.remove()),
            }
        }
    }

    fn set(&self, tag: u32) -> SetId {
        let at = self.types.iter().position(|ty| fnv1a32(ty.name.as_bytes()) == tag).expect("a known type");
        SetId(at as u16 + 1)
    }

    fn push(&mut self, envelope: Envelope) {
        let (from, to) = ((envelope.from_set, envelope.from_key), (envelope.to_set, envelope.to_key));
        let pair = mix64(mix64(u64::from(from.0) << 16 | u64::from(to.0)) ^ mix64(from.1) ^ to.1.rotate_left(17));
        self.channels.entry((mix64(self.seed ^ pair), from, to)).or_default().push_back(envelope);
    }

    fn handle(&mut self, envelope: &Envelope) {
        let to = (envelope.to_set, envelope.to_key);
        let ty = self.types[usize::from(to.0) - 1];
        let state = self.states.entry(to).or_insert_with(|| StateSlot::new(ty));
        let effects = drive(ty, state.bytes_mut(), &[*envelope]);
        assert_eq!(effects.handled, 1, "{}: {effects:?}", ty.name);
        self.streams.entry(to).or_default().push(*envelope);
        for (target, mut envelope) in effects.sends {
            match target {
                Target::Tag(tag) => envelope.to_set = self.set(tag).0,
                Target::Set(SetId::CLIENT) => {
                    self.replies.push(envelope);
                    continue;
                }
                Target::Set(_) => {}
                Target::Timer { .. } => panic!("timers are not scheduled here"),
            }
            self.push(envelope);
        }
    }
}
