//! What every actor of the `graph` application is told in a whole computation, in order.

use std::collections::{BTreeMap, VecDeque};

use ringfleet_abi::hash::fnv1a32;
use ringfleet_abi::{ActorId, Envelope, Flags, SessionId, SetId};
use ringfleet_actor::testing::{StateSlot, drive};
use ringfleet_actor::{Message, Target, TypeDescriptor};
use ringfleet_actors::graph::list::Graph;
use ringfleet_actors::graph::rounds::{Rounds, Start};
use ringfleet_actors::graph::vertex::{RankAsked, Ranked, Vertex};
use ringfleet_actors::graph::{LABEL, RANK, load, serial};

use crate::compare::Random;
use crate::host::Stream;

/// A set per type, numbered like the types, from 1.
struct Sets<'a> {
    types: &'a [&'static TypeDescriptor],
    streams: BTreeMap<(u16, u64), Vec<Envelope>>,
    states: BTreeMap<(u16, u64), StateSlot>,
    replies: Vec<Envelope>,
}

impl Sets<'_> {
    fn id(&self, tag: u32, key: u64) -> ActorId {
        let at = self.types.iter().position(|ty| fnv1a32(ty.name.as_bytes()) == tag).expect("a known type");
        ActorId::new(SetId(at as u16 + 1), key)
    }

    /// Tells or asks as a client, and lets the actors run until nothing is left to do.
    fn run<M: Message>(&mut self, tag: u32, key: u64, message: &M, flags: Flags) {
        let from = ActorId::client(SessionId(1), 1);
        let mut queue = VecDeque::from([message.to_envelope(from, self.id(tag, key), flags)]);
        while let Some(envelope) = queue.pop_front() {
            let to = (envelope.to_set, envelope.to_key);
            let ty = self.types[usize::from(to.0) - 1];
            let state = self.states.entry(to).or_insert_with(|| StateSlot::new(ty));
            let effects = drive(ty, state.bytes_mut(), &[envelope]);
            assert_eq!(effects.handled, 1, "{}: {effects:?}", ty.name);
            self.streams.entry(to).or_default().push(envelope);
            for (target, mut envelope) in effects.sends {
                match target {
                    Target::Tag(tag) => envelope.to_set = self.id(tag, envelope.to_key).set.0,
                    Target::Set(SetId::CLIENT) => {
                        self.replies.push(envelope);
                        continue;
                    }
                    Target::Set(_) => {}
                    Target::Timer { .. } => panic!("the application has no timers"),
                }
                queue.push_back(envelope);
            }
        }
    }
}

/// The streams of all actors that take part.
pub fn streams(types: &[&'static TypeDescriptor]) -> Vec<Stream> {
    let (vertices, mut random) = (1200, Random(7));
    let mut edges: Vec<(u32, u32)> = (1..400).map(|v| (3 * v, 5)).collect();
    edges.extend((0..300).map(|v| (5, 4 * v)));
    edges.extend((0..900).map(|_| (random.below(700) as u32, random.below(700) as u32)));
    let graph = Graph::of_edges(vertices, &edges);

    let mut sets = Sets { types, streams: BTreeMap::new(), states: BTreeMap::new(), replies: Vec::new() };
    let (vertex, rounds) = (Vertex::at(0).set_tag(), Rounds::at(0).set_tag());
    for (key, edges) in load::messages(&graph) {
        sets.run(vertex, key.into(), &edges, Flags::NONE);
    }
    sets.run(rounds, 0, &Start { vertices, rounds: 3, what: RANK }, Flags::NONE);
    sets.run(rounds, 0, &Start { vertices, rounds: 0, what: LABEL }, Flags::NONE);
    (0..u64::from(vertices)).for_each(|key| sets.run(vertex, key, &RankAsked {}, Flags::ASK));
    let expected = serial::results(&graph, 3);
    let results: Vec<Ranked> =
        sets.replies.iter().map(|reply| Ranked::from_envelope(reply).expect("a reply")).collect();
    assert!(results.iter().map(|ranked| ranked.rank).eq(expected.ranks), "it is a whole computation");
    assert!(results.iter().map(|ranked| ranked.component).eq(expected.components));
    let streams = sets.streams.into_iter();
    streams.map(|((set, _), envelopes)| Stream { ty: usize::from(set) - 1, envelopes }).collect()
}
