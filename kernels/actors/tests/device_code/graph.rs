//! What every actor of the `graph` application is told in a whole computation, in order.

use ringfleet_abi::Flags;
use ringfleet_actor::{Message, TypeDescriptor};
use ringfleet_actors::graph::list::Graph;
use ringfleet_actors::graph::rounds::{Rounds, Start};
use ringfleet_actors::graph::vertex::{RankAsked, Ranked, Vertex};
use ringfleet_actors::graph::{LABEL, RANK, load, serial};

use crate::compare::Random;
use crate::host::Stream;
use crate::schedule::Schedule;

/// The streams of all actors that take part.
pub fn streams(types: &[&'static TypeDescriptor]) -> Vec<Stream> {
    let (vertices, mut random) = (1200, Random(7));
    let mut edges: Vec<(u32, u32)> = (1..400).map(|v| (3 * v, 5)).collect();
    edges.extend((0..300).map(|v| (5, 4 * v)));
    edges.extend((0..900).map(|_| (random.below(700) as u32, random.below(700) as u32)));
    let graph = Graph::of_edges(vertices, &edges);

    let mut actors = Schedule::new(types, 7);
    let (vertex, rounds) = (Vertex::at(0).set_tag(), Rounds::at(0).set_tag());
    load::messages(&graph).for_each(|(key, edges)| actors.run(vertex, key.into(), &edges, Flags::NONE));
    actors.run(rounds, 0, &Start { vertices, rounds: 3, what: RANK }, Flags::NONE);
    actors.run(rounds, 0, &Start { vertices, rounds: 0, what: LABEL }, Flags::NONE);
    (0..u64::from(vertices)).for_each(|key| actors.run(vertex, key, &RankAsked {}, Flags::ASK));
    let expected = serial::results(&graph, 3);
    let ranked = |reply| Ranked::from_envelope(reply).expect("a reply");
    let results: Vec<Ranked> = actors.replies.iter().map(ranked).collect();
    assert!(results.iter().map(|ranked| ranked.rank).eq(expected.ranks), "it is a whole computation");
    assert!(results.iter().map(|ranked| ranked.component).eq(expected.components));
    let streams = actors.streams.into_iter();
    streams.map(|((set, _), envelopes)| Stream { ty: usize::from(set) - 1, envelopes }).collect()
}
