//! Graphs through the actors in one thread, compared with the serial computation.
#![allow(missing_docs)]

mod schedule;

use std::io::Read;

use proptest::prelude::*;
use ringfleet_abi::Flags;
use ringfleet_actor::testing::Town;
use ringfleet_actor::{Message, TypeRegistry};
use ringfleet_actors::graph::group::{Group, Round};
use ringfleet_actors::graph::list::Graph;
use ringfleet_actors::graph::rounds::{GroupDone, Rounds, Standing, StandingAsked, Start};
use ringfleet_actors::graph::tables::Results;
use ringfleet_actors::graph::vertex::{Edges, RankAsked, Ranked, Vertex};
use ringfleet_actors::graph::{BLOCK_EDGES, GROUP_VERTICES, IDLE, LABEL, OUT, OWN_EDGES, RANK, load, serial};
use schedule::Schedule;

fn town() -> Town {
    Town::new(TypeRegistry::new(ringfleet_actors::types()).expect("no name twice"))
}

fn standing(town: &mut Town) -> Standing {
    let reply = town.ask(Rounds::at(0), &StandingAsked {}).expect("a reply");
    Standing::from_envelope(&reply).expect("a standing")
}

fn computed(graph: &Graph, rounds: u32) -> (Town, Results) {
    let mut town = town();
    load::messages(graph).for_each(|(vertex, edges)| town.tell(Vertex::at(vertex.into()), &edges));
    let vertices = graph.vertices();
    town.tell(Rounds::at(0), &Start { vertices, rounds, what: RANK });
    let Standing { moved, what, closed, .. } = standing(&mut town);
    assert_eq!((what, closed), (IDLE, rounds + 1), "the last one settles");
    town.tell(Rounds::at(0), &Start { vertices, rounds: 0, what: LABEL });
    assert_eq!(standing(&mut town).what, IDLE);
    let mut results = Results { moved, ..Results::default() };
    for (vertex, to) in graph.to.iter().enumerate() {
        let reply = town.ask(Vertex::at(vertex as u64), &RankAsked {}).expect("a reply");
        let Ranked { rank, component, out_degree } = Ranked::from_envelope(&reply).expect("a rank");
        assert_eq!(out_degree as usize, to.len());
        results.ranks.push(rank);
        results.components.push(component);
    }
    assert_eq!((town.failed.len(), town.astray, town.dead_lettered), (0, 0, 0));
    (town, results)
}

fn check(graph: &Graph, rounds: u32) -> (Town, Results) {
    let (town, results) = computed(graph, rounds);
    assert_eq!(results.difference(&serial::results(graph, rounds)), None);
    assert!(results.float_error(&serial::float_ranks(graph, rounds)) < 1e-9);
    (town, results)
}

fn wordnet() -> (Vec<u8>, Graph) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/data/wordnet-3.0.tsv.gz");
    let file = std::fs::File::open(path).expect("the data is in the repository");
    let mut list = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut list).expect("readable");
    let graph = Graph::parse(&list).expect("a good list");
    (list, graph)
}

#[test]
fn small_graphs_of_every_kind_give_what_the_serial_computation_gives() {
    // Nothing but vertices; one of them.
    check(&Graph::of_edges(1, &[]), 3);
    check(&Graph::of_edges(5, &[]), 3);
    // Only to itself, once and twice.
    check(&Graph::of_edges(1, &[(0, 0)]), 3);
    check(&Graph::of_edges(3, &[(1, 1), (1, 1), (2, 1)]), 5);
    // A chain against the order of the vertices, with an end that hands nothing on.
    let chain: Vec<_> = (0..40).map(|v| (v + 1, v)).collect();
    check(&Graph::of_edges(41, &chain), 7);
    // The lowest vertex last; two components and one alone; several edges between the same two.
    check(&Graph::of_edges(7, &[(6, 5), (5, 0), (2, 3), (3, 2), (2, 3), (2, 3)]), 9);
    // No rounds at all.
    let (_, results) = check(&Graph::of_edges(3, &[(0, 1)]), 0);
    assert_eq!(results.ranks[0], results.ranks[2]);
}

#[test]
fn a_vertex_with_more_edges_than_it_has_room_for_chains_blocks() {
    for degree in [OWN_EDGES, OWN_EDGES + 1, OWN_EDGES + BLOCK_EDGES, OWN_EDGES + BLOCK_EDGES + 1, 3000] {
        // Away from the hub, towards it, and back from every other one.
        let out: Vec<_> = (1..=degree).map(|v| (0, v)).collect();
        let (town, _) = check(&Graph::of_edges(degree + 1, &out), 3);
        let blocks = (degree - OWN_EDGES).div_ceil(BLOCK_EDGES) as usize;
        let groups = (degree + 1).div_ceil(GROUP_VERTICES) as usize;
        assert_eq!(town.actors(), degree as usize + 1 + blocks + groups + 1);
        let back: Vec<_> = (0..degree).map(|v| (v, degree)).collect();
        check(&Graph::of_edges(degree + 1, &back), 3);
        let both: Vec<_> = out.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]).step_by(3).collect();
        check(&Graph::of_edges(degree + 1, &both), 3);
    }
}

#[test]
fn computing_again_gives_the_same() {
    let graph = Graph::of_edges(600, &(1..600).map(|v| (v, v / 2)).collect::<Vec<_>>());
    let (mut town, results) = check(&graph, 6);
    town.tell(Rounds::at(0), &Start { vertices: 600, rounds: 6, what: RANK });
    town.tell(Rounds::at(0), &Start { vertices: 600, rounds: 0, what: LABEL });
    for vertex in 0..600 {
        let reply = town.ask(Vertex::at(vertex), &RankAsked {}).expect("a reply");
        let again = Ranked::from_envelope(&reply).expect("a rank");
        assert_eq!(again.rank, results.ranks[vertex as usize]);
        assert_eq!(again.component, results.components[vertex as usize]);
    }
    assert!(town.failed.is_empty());
}

#[test]
fn what_nobody_may_say_fails_the_one_who_is_told() {
    let mut town = town();
    town.tell(Rounds::at(0), &Start { vertices: 5, rounds: 1, what: 9 });
    assert_eq!(town.failed.len(), 1);
    town.tell(Rounds::at(0), &Start { vertices: 5, rounds: 1, what: RANK });
    assert_eq!((town.failed.len(), town.dead_lettered), (1, 1), "it has failed");
    town.tell(Group::at(0), &Round { base: 0, round: 1, what: RANK, size: GROUP_VERTICES + 1, all: 1 });
    assert_eq!(town.failed.len(), 2);
    town.tell(Vertex::at(0), &Edges { count: 8, to: [OUT; 7] });
    assert_eq!(town.failed.len(), 3);
}

#[test]
fn a_message_that_is_lost_leaves_its_round_open() {
    let mut town = town();
    let graph = Graph::of_edges(700, &(1..700).map(|v| (v, v / 2)).collect::<Vec<_>>());
    load::messages(&graph).for_each(|(vertex, edges)| town.tell(Vertex::at(vertex.into()), &edges));
    // From now on vertex 650 takes nothing.
    town.tell(Vertex::at(650), &Edges { count: 8, to: [OUT; 7] });
    town.tell(Rounds::at(0), &Start { vertices: 700, rounds: 3, what: RANK });
    let stands = standing(&mut town);
    assert_eq!((stands.what, stands.round, stands.closed), (RANK, 1, 0));
    assert_eq!(stands.steps, 1, "the group of 0 to 511 has nothing to do with it");
    assert_eq!(standing(&mut town), stands, "it stands still");
}

#[test]
fn a_group_that_is_counted_twice_fails_the_counter() {
    let (mut town, _) = check(&Graph::of_edges(3, &[(0, 1)]), 1);
    let round = standing(&mut town).round;
    town.tell(Rounds::at(0), &GroupDone { loose: 0, moved: 0, begun: 0, round });
    assert_eq!(town.failed.len(), 1);
}

/// Up to 60 vertices and 200 edges, often between the same few.
fn graphs() -> impl Strategy<Value = Graph> {
    (1..60_u32).prop_flat_map(|vertices| {
        let vertex = prop_oneof![0..vertices, 0..vertices.min(3)];
        let edges = proptest::collection::vec((vertex.clone(), vertex), 0..200);
        edges.prop_map(move |edges| Graph::of_edges(vertices, &edges))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_graph_gives_what_the_serial_computation_gives(graph in graphs(), rounds in 0..6_u32) {
        check(&graph, rounds);
    }
}

/// The same graph among vertices without edges: several groups.
fn spread(graph: &Graph, by: u32) -> Graph {
    let edges = graph.to.iter().zip((0..).step_by(by as usize));
    let edges: Vec<_> = edges.flat_map(|(to, from)| to.iter().map(move |to| (from, to * by))).collect();
    Graph::of_edges(graph.vertices() * by, &edges)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nothing is taken for granted but the order of what one actor sends to another: a slow one may be as slow as it likes.
    #[test]
    fn any_order_of_messages_gives_the_same(graph in graphs(), rounds in 0..4_u32, seed: u64) {
        let graph = spread(&graph, 37);
        let types = ringfleet_actors::types();
        let mut actors = Schedule::new(&types, seed);
        let (vertex, counter, vertices) = (Vertex::at(0).set_tag(), Rounds::at(0).set_tag(), graph.vertices());
        load::messages(&graph).for_each(|(key, edges)| actors.run(vertex, key.into(), &edges, Flags::NONE));
        actors.run(counter, 0, &Start { vertices, rounds, what: RANK }, Flags::NONE);
        actors.run(counter, 0, &Start { vertices, rounds: 0, what: LABEL }, Flags::NONE);
        (0..u64::from(vertices)).for_each(|key| actors.run(vertex, key, &RankAsked {}, Flags::ASK));
        let ranked = |reply| Ranked::from_envelope(reply).expect("a reply");
        let (ranks, components): (Vec<_>, Vec<_>) =
            actors.replies.iter().map(ranked).map(|ranked| (ranked.rank, ranked.component)).unzip();
        let serial = serial::results(&graph, rounds);
        let results = Results { ranks, components, moved: serial.moved };
        prop_assert_eq!(results.difference(&serial), None);
    }
}

#[test]
fn the_built_in_graph_is_the_one_that_the_script_makes() {
    let (list, graph) = wordnet();
    // Of the list that data/wordnet.sh makes from wordnet-base 1:3.0-37; sha256 eb68f52138776637c93b9280071c11db59bd39531325759d6798cdbba706b27f.
    assert_eq!(ringfleet_abi::hash::fnv1a64(&list), 10_065_661_789_797_782_897);
    assert!(list.starts_with(b"# This software and database is being provided to you"), "its licence");
    assert_eq!((graph.vertices(), graph.edges()), (117_659, 232_739));
    let mut names = graph.names.clone();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 117_659);
    let of = |part: &str| graph.names.iter().filter(|name| name.split('.').rev().nth(1) == Some(part)).count();
    // As published: 82,115 nouns, 13,767 verbs, 18,156 adjectives, 3,621 adverbs.
    assert_eq!((of("n"), of("v"), of("a"), of("r")), (82_115, 13_767, 18_156, 3_621));
}

#[test]
fn the_verbs_of_wordnet_give_what_the_serial_computation_gives() {
    let graph = wordnet().1.part(|name| name.split('.').rev().nth(1) == Some("v"));
    let (town, results) = check(&graph, 10);
    println!("{}{} messages", results.tables(&graph), town.handled);
    assert_eq!(graph.vertices(), 13_767);
}
