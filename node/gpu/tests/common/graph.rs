//! The `graph` application on any device: loads a graph, lets it be computed, and asks for the results.
#![allow(dead_code, missing_docs, clippy::disallowed_methods)] // Real time, for limits.

#[path = "rig.rs"]
mod device_rig;

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use device_rig::{Rig, WAIT};
use ringfleet_abi::SetId;
use ringfleet_actors::graph::list::Graph;
use ringfleet_actors::graph::rounds::{Standing, StandingAsked, Start};
use ringfleet_actors::graph::tables::Results;
use ringfleet_actors::graph::vertex::{RankAsked, Ranked};
use ringfleet_actors::graph::{IDLE, LABEL, RANK, load};
use ringfleet_gpu::Device;

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(2);
const VERTICES: SetId = SetId(1);
const BLOCKS: SetId = SetId(2);
const GROUPS: SetId = SetId(3);
const ROUNDS: SetId = SetId(4);

/// The whole graph of WordNet.
pub fn wordnet() -> Graph {
    let name = "kernels/actors/data/wordnet-3.0.tsv.gz";
    let there = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    // On another machine than the one that built it a test runs in the root of the repository.
    let file =
        std::fs::File::open(there).or_else(|_| std::fs::File::open(name)).expect("the data is in the repository");
    let mut list = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut list).expect("readable");
    Graph::parse(&list).expect("a good list")
}

/// A device with the actor sets of the application. `turn` lets it do something.
pub struct GraphRig<'a, D, T> {
    rig: Rig<'a, D, T>,
    /// The most that was in flight in a round.
    pub in_flight_max: i128,
}

impl<'a, D: Device, T: FnMut(&mut D)> GraphRig<'a, D, T> {
    pub fn new(device: &'a mut D, lease_deadline_ns: u64, turn: T) -> Self {
        let mut rig = Rig::new(device, lease_deadline_ns, turn);
        rig.deploy(VERTICES, "graph.vertex", 64, 4096);
        rig.deploy(BLOCKS, "graph.block", 32, 1024);
        rig.deploy(GROUPS, "graph.group", 16, 64);
        rig.deploy(ROUNDS, "graph.rounds", 1, 2);
        Self { rig, in_flight_max: 0 }
    }

    /// Starts a computation and waits for its end. A lost message leaves it without an end, which is a failure here.
    fn compute(&mut self, start: &Start) -> Standing {
        self.rig.tell(ROUNDS, 0, start);
        let (mut last, mut began) = (Standing::default(), Instant::now());
        loop {
            let stands: Standing = self.rig.ask(ROUNDS, [0], &StandingAsked {})[0];
            if stands.what == IDLE {
                return stands;
            }
            if stands.steps != last.steps {
                (last, began) = (stands, Instant::now());
            }
            assert!(began.elapsed() < WAIT, "it stands still at {stands:?}: {:?}", self.rig.device.total());
            let looked = Instant::now();
            let mut in_flight_max = 0;
            self.rig.until("the next look", |rig| {
                in_flight_max = rig.device.total().in_flight().max(in_flight_max);
                looked.elapsed() >= LOOK
            });
            self.in_flight_max = self.in_flight_max.max(in_flight_max);
        }
    }

    /// Loads the graph, computes, and asks every vertex.
    pub fn results(&mut self, graph: &Graph, rounds: u32) -> Results {
        let began = Instant::now();
        // Edges reach the blocks before anything that their vertices send later; what clients send later may go to other workers.
        self.rig.tell_all(VERTICES, load::messages(graph).map(|(vertex, edges)| (vertex.into(), edges)));
        let (loaded, vertices) = (began.elapsed(), graph.vertices());
        let Standing { moved, closed, .. } = self.compute(&Start { vertices, rounds, what: RANK });
        let ranked = began.elapsed();
        let Standing { closed: all_closed, begun, .. } = self.compute(&Start { vertices, rounds: 0, what: LABEL });
        let ended = began.elapsed();
        println!(
            "{vertices} vertices, {} edges: loaded in {:.3} s; {closed} rounds of ranks in {:.3} s, {} of components in {:.3} s; {begun} \
             vertices begun, {} messages handled, {} in flight at most",
            graph.edges(),
            loaded.as_secs_f64(),
            (ranked - loaded).as_secs_f64(),
            all_closed - closed,
            (ended - ranked).as_secs_f64(),
            self.rig.device.total().handled,
            self.in_flight_max,
        );
        let answers: Vec<Ranked> = self.rig.ask(VERTICES, 0..u64::from(vertices), &RankAsked {});
        Results {
            ranks: answers.iter().map(|answer| answer.rank).collect(),
            moved,
            components: answers.iter().map(|answer| answer.component).collect(),
        }
    }
}
