//! The `graph` application on any device: loads a graph, lets it be computed, and asks for the results.
#![allow(dead_code, missing_docs, clippy::disallowed_methods)] // Real time, for limits.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use ringfleet_abi::hash::fnv1a32;
use ringfleet_abi::{
    ActorId, Control, Envelope, Epoch, Flags, KeySpace, RestartMode, RouteTarget, SessionId, SetId, ShardId,
    ShardIndex, Status, WorkerIndex,
};
use ringfleet_actor::Message;
use ringfleet_actors::graph::list::Graph;
use ringfleet_actors::graph::rounds::{Standing, StandingAsked, Start};
use ringfleet_actors::graph::tables::Results;
use ringfleet_actors::graph::vertex::{RankAsked, Ranked};
use ringfleet_actors::graph::{IDLE, LABEL, RANK, load};
use ringfleet_gpu::Device;

/// How long nothing may come out of the device, and no group may end a round.
const WAIT: Duration = Duration::from_secs(60);
/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(2);
const VERTICES: SetId = SetId(1);
const BLOCKS: SetId = SetId(2);
const GROUPS: SetId = SetId(3);
const ROUNDS: SetId = SetId(4);
const SESSION: SessionId = SessionId(7);

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
    pub device: &'a mut D,
    turn: T,
    answers: Vec<Envelope>,
    statuses: Vec<Status>,
    asked: u32,
    /// The most that was in flight in a round.
    pub in_flight_max: i128,
}

impl<'a, D: Device, T: FnMut(&mut D)> GraphRig<'a, D, T> {
    pub fn new(device: &'a mut D, lease_deadline_ns: u64, turn: T) -> Self {
        let mut rig = Self { device, turn, answers: Vec::new(), statuses: Vec::new(), asked: 0, in_flight_max: 0 };
        rig.submit(Control::Lease { deadline_ns: lease_deadline_ns });
        rig.until("the lease", |rig| rig.statuses.contains(&Status::Unfenced));
        rig.deploy(VERTICES, "graph.vertex", 64, 4096);
        rig.deploy(BLOCKS, "graph.block", 32, 1024);
        rig.deploy(GROUPS, "graph.group", 16, 64);
        rig.deploy(ROUNDS, "graph.rounds", 1, 2);
        rig
    }

    fn submit(&mut self, control: Control) {
        let mut left = Some(control);
        self.until("room for a control", |rig| {
            left.take().is_none_or(|control| {
                let taken = rig.device.submit(control).is_ok();
                if !taken {
                    left = Some(control);
                }
                taken
            })
        });
    }

    fn deploy(&mut self, set: SetId, name: &str, shards: u16, actors_per_shard: u32) {
        let type_index = ringfleet_actors::types().iter().position(|ty| ty.name == name).map(|at| at as u16);
        let (tag, keys, restart) = (fnv1a32(name.as_bytes()), KeySpace::Hashed, RestartMode::Stop);
        self.submit(Control::AddSet { set, tag, type_index, keys, shards, actors_per_shard, restart });
        for index in 0..shards {
            let (shard, worker) = (ShardId::new(set, ShardIndex(index)), WorkerIndex(index % self.device.workers()));
            self.submit(Control::Assign { shard, epoch: Epoch(1), worker });
            self.submit(Control::Route { shard, target: RouteTarget::Worker(worker) });
        }
        let version = u64::from(set.0);
        self.submit(Control::RouteCommit { version });
        self.until("routes", |rig| rig.statuses.contains(&Status::RouteFlushed { version }));
    }

    /// Lets the device run and takes what it gives, until `done` or nothing has come for too long.
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let (mut began, mut out) = (Instant::now(), [Envelope::default(); 256]);
        while !done(self) {
            (self.turn)(self.device);
            let taken = self.device.poll_egress(&mut out);
            self.answers.extend_from_slice(&out[..taken]);
            let statuses = self.statuses.len();
            while let Some(status) = self.device.poll_status() {
                self.statuses.push(status);
            }
            if taken > 0 || self.statuses.len() > statuses {
                began = Instant::now();
            }
            assert!(began.elapsed() < WAIT, "waited too long for {what}: {:?}", self.device.total());
        }
    }

    /// Pushes all, however long the device takes.
    fn push(&mut self, envelopes: &[Envelope]) {
        let (mut left, mut began) = (envelopes, Instant::now());
        while !left.is_empty() {
            let taken = self.device.push_ingress(left);
            left = &left[taken..];
            if taken > 0 {
                began = Instant::now();
            }
            assert!(began.elapsed() < WAIT, "{} envelopes are left: {:?}", left.len(), self.device.total());
            let mut looked = false;
            self.until("a turn", |_| std::mem::replace(&mut looked, true));
        }
    }

    fn tell<M: Message>(&mut self, set: SetId, key: u64, message: &M) {
        let envelope = message.to_envelope(ActorId::client(SESSION, 0), ActorId::new(set, key), Flags::NONE);
        self.push(&[envelope]);
    }

    /// The answers, in the order of the questions.
    fn ask<M: Message, R: Message>(&mut self, set: SetId, keys: impl IntoIterator<Item = u64>, message: &M) -> Vec<R> {
        let first = self.asked;
        let asks: Vec<Envelope> = keys
            .into_iter()
            .map(|key| {
                self.asked += 1;
                message.to_envelope(ActorId::client(SESSION, self.asked), ActorId::new(set, key), Flags::ASK)
            })
            .collect();
        self.answers.clear();
        self.push(&asks);
        self.until("answers", |rig| rig.answers.len() >= asks.len());
        let mut answers = std::mem::take(&mut self.answers);
        answers.sort_by_key(|answer| answer.to().as_client().expect("to the client").1);
        assert!(answers.iter().zip(first + 1..).all(|(a, n)| a.to().as_client().is_some_and(|(_, it)| it == n)));
        answers.iter().map(|answer| R::from_envelope(answer).expect("a reply")).collect()
    }

    /// Starts a computation and waits for its end. A lost message leaves it without an end, which is a failure here.
    fn compute(&mut self, start: &Start) -> Standing {
        self.tell(ROUNDS, 0, start);
        let (mut last, mut began) = (Standing::default(), Instant::now());
        loop {
            let stands: Standing = self.ask(ROUNDS, [0], &StandingAsked {})[0];
            if stands.what == IDLE {
                return stands;
            }
            if stands.steps != last.steps {
                (last, began) = (stands, Instant::now());
            }
            assert!(began.elapsed() < WAIT, "it stands still at {stands:?}: {:?}", self.device.total());
            let looked = Instant::now();
            let mut in_flight_max = 0;
            self.until("the next look", |rig| {
                in_flight_max = rig.device.total().in_flight().max(in_flight_max);
                looked.elapsed() >= LOOK
            });
            self.in_flight_max = self.in_flight_max.max(in_flight_max);
        }
    }

    /// Loads the graph, computes, and asks every vertex.
    pub fn results(&mut self, graph: &Graph, rounds: u32) -> Results {
        let to_vertex = |key: u64| ActorId::new(VERTICES, key);
        let edges: Vec<Envelope> = load::messages(graph)
            .map(|(vertex, edges)| {
                edges.to_envelope(ActorId::client(SESSION, 0), to_vertex(vertex.into()), Flags::NONE)
            })
            .collect();
        let (began, done) = (Instant::now(), self.device.total().ingress_done);
        self.push(&edges);
        // Edges reach the blocks before anything that their vertices send later; what clients send later may go to other workers.
        self.until("the edges", |rig| rig.device.total().ingress_done >= done + edges.len() as u64);
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
            self.device.total().handled,
            self.in_flight_max,
        );
        let answers: Vec<Ranked> = self.ask(VERTICES, 0..u64::from(vertices), &RankAsked {});
        Results {
            ranks: answers.iter().map(|answer| answer.rank).collect(),
            moved,
            components: answers.iter().map(|answer| answer.component).collect(),
        }
    }
}
