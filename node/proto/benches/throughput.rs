//! Envelopes per second through one agent's protocol on one core: `cargo bench -p ringfleet-proto`.
//!
//! A client session sends to one agent (client's `Outbound` -> `handle_frame` -> `poll_ingress` -> `handle_ingress_done` -> answers),
//! then actors of that agent send to another (`handle_egress` -> frames -> the other's `handle_frame` -> answers back). Every
//! message is counted at the end; the figures are of this machine and are printed, not judged.
#![allow(clippy::disallowed_methods)]

use std::time::Instant;

use ringfleet_abi::hash::mix64;
use ringfleet_abi::{
    ActorId, Control, DeviceIndex, Envelope, Flags, Hlc, Incarnation, KeySpace, NodeId, SessionId, SetId, ShardId,
    Status, WorkerIndex,
};
use ringfleet_proto::control::view::{DeviceView, MemberView, SetState, SetView, ShardState, ShardView};
use ringfleet_proto::control::{Durability, FailureView, Keys, NodeView};
use ringfleet_proto::wire::{Frame, decode};
use ringfleet_proto::{
    Action, DeviceConfig, Lane, LinkId, NodeConfig, NodeProto, Now, Outbound, OutboundConfig, PeerIdentity, Source,
};

const SHARDS: u16 = 256;
const WORKERS: u16 = 2;
const TOTAL: u64 = 4_000_000;
const BATCH: u64 = 2048;
const NOW: Now = Now::new(1_000, 1_700_000_000_000);
const DEVICE: DeviceIndex = DeviceIndex(0);
const LINK: LinkId = LinkId(1);

/// Set 1 lives on node 1, set 2 on node 2.
fn view() -> NodeView {
    let member = |node: u32| MemberView {
        node,
        name: format!("n{node}"),
        incarnation: u64::from(node),
        data_addr: String::new(),
        http_addr: String::new(),
        devices: vec![DeviceView::joined(WORKERS, 1)],
    };
    let set = |set: u16| SetView {
        set,
        name: format!("s{set}"),
        tag: set.into(),
        actor_type: "t".into(),
        code_hash: 0,
        layout_hash: 0,
        keys: Keys::Hashed,
        shards: SHARDS,
        failures: FailureView::default(),
        durability: Durability::Volatile,
        tenant: "default".into(),
        state: SetState::Active,
    };
    let shard = |set: u16, index: u16| ShardView {
        set,
        index,
        state: ShardState::Resident,
        device: 0,
        worker: index % WORKERS,
        node: set.into(),
        incarnation: set.into(),
        epoch: 1,
        since_index: 10,
    };
    let shards = (1..=2).flat_map(|of| (0..SHARDS).map(move |index| shard(of, index))).collect();
    NodeView {
        index: 10,
        coordinators: vec![],
        members: vec![member(1), member(2)],
        sets: vec![set(1), set(2)],
        shards,
    }
}

struct Agent {
    proto: NodeProto,
    pushed: [u64; WORKERS as usize],
    ingress: Vec<Envelope>,
    handled: u64,
}

impl Agent {
    fn new(node: u32) -> Self {
        let device = DeviceConfig { workers: WORKERS, ingress_capacity: 8192 };
        let config = NodeConfig::new(NodeId(node), Incarnation(node.into()), vec![device], vec!["t".into()]);
        let mut agent = Self { proto: NodeProto::new(NOW, config), pushed: [0; 2], ingress: Vec::new(), handled: 0 };
        agent.proto.handle_lease(NOW, u64::MAX, u64::MAX / 2);
        agent.proto.handle_view(NOW, &view());
        while agent.turn(|_, _, _| {}) {}
        agent
    }

    /// Executes actions; assignments and routes are confirmed at once.
    fn turn(&mut self, mut send: impl FnMut(LinkId, Lane, &[u8])) -> bool {
        let mut any = false;
        while let Some(action) = self.proto.poll_action(NOW) {
            any = true;
            match action {
                Action::Send { link, lane, frame } => {
                    send(link, lane, &frame);
                    self.proto.recycle(frame);
                }
                Action::Device { control: Control::Assign { shard, epoch, worker }, .. } => {
                    self.proto.handle_status(NOW, DEVICE, Status::Assigned { shard, epoch, worker });
                }
                Action::Device { control: Control::RouteCommit { version }, .. } => {
                    self.proto.handle_status(NOW, DEVICE, Status::RouteFlushed { version });
                }
                _ => {}
            }
        }
        any
    }

    /// The device takes everything and is done with it at once.
    fn run_device(&mut self) {
        self.ingress.clear();
        while self.proto.poll_ingress(DEVICE, &mut self.ingress, 4096) > 0 {
            for envelope in &self.ingress {
                let index = KeySpace::Hashed.shard_of(SHARDS, envelope.to_key).expect("hashed");
                self.pushed[usize::from(index.0 % WORKERS)] += 1;
            }
            self.handled += self.ingress.len() as u64;
            self.ingress.clear();
            for worker in 0..WORKERS {
                let total = self.pushed[usize::from(worker)];
                self.proto.handle_ingress_done(NOW, DEVICE, WorkerIndex(worker), total);
            }
        }
    }
}

fn envelope(to_set: u16, from: ActorId, at: u64) -> Envelope {
    let mut envelope =
        Envelope::new(from, ActorId::new(SetId(to_set), mix64(at)), 7, Flags::NONE, &at.to_le_bytes()).expect("fits");
    envelope.hlc = Hlc::from_wall_ms(NOW.wall_ms).0;
    envelope
}

fn client_to_agent(keys: u64) {
    let mut agent = Agent::new(1);
    let session = SessionId(1);
    let mut client = Outbound::new(Source::Client(session), OutboundConfig::default());
    client.handle_view(NOW, &view());
    client.peer_up(NOW, Incarnation(1));
    agent.proto.link_up(NOW, LINK, PeerIdentity::Client { session });
    let batch: Vec<Envelope> = (0..BATCH).map(|at| envelope(1, ActorId::client(session, 0), at % keys)).collect();
    let shards: Vec<ShardId> = batch
        .iter()
        .map(|envelope| ShardId::new(SetId(1), KeySpace::Hashed.shard_of(SHARDS, envelope.to_key).expect("hashed")))
        .collect();
    let mut now = NOW;
    let begin = Instant::now();
    let (mut frame, mut frames, mut sent) = (Vec::new(), 0_u64, 0);
    while client.stats().handled < TOTAL {
        if sent < TOTAL {
            for (envelope, shard) in batch.iter().zip(&shards) {
                client.enqueue(*shard, envelope).expect("room");
            }
            sent += BATCH;
        }
        while client.poll_frame(0, &mut frame).is_some() {
            frames += 1;
            agent.proto.handle_frame(NOW, LINK, Lane::Data, &frame).expect("a frame");
            frame.clear();
        }
        agent.run_device();
        now.mono_ns += 1_000_000;
        while let Some(action) = agent.proto.poll_action(now) {
            if let Action::Send { frame, .. } = action {
                if let Ok(Frame::Answers(answers)) = decode(&frame) {
                    answers.iter().for_each(|answer| client.handle_answer(NOW, Incarnation(1), &answer));
                }
                agent.proto.recycle(frame);
            }
        }
        while client.poll_event().is_some() {}
    }
    let seconds = begin.elapsed().as_secs_f64();
    assert_eq!(agent.handled, sent, "every message once");
    println!(
        "client -> agent -> device, acknowledged; {keys:>5} keys: {:6.2} M/s, {:4} envelopes a frame",
        sent as f64 / seconds / 1e6,
        sent / frames
    );
}

fn agent_to_agent(keys: u64) {
    let (mut from, mut to) = (Agent::new(1), Agent::new(2));
    let identity = |node: u32| PeerIdentity::Node { node: NodeId(node), incarnation: Incarnation(node.into()) };
    from.proto.link_up(NOW, LINK, identity(2));
    to.proto.link_up(NOW, LINK, identity(1));
    let batch: Vec<Envelope> = (0..BATCH).map(|at| envelope(2, ActorId::new(SetId(1), at), at % keys)).collect();
    let mut now = NOW;
    let begin = Instant::now();
    let (mut sent, mut frames, mut back) = (0, 0_u64, Vec::new());
    while from.proto.ledger().node_out < TOTAL {
        if sent < TOTAL {
            from.proto.handle_egress(now, DEVICE, &batch);
            sent += BATCH;
        }
        while let Some(action) = from.proto.poll_action(now) {
            if let Action::Send { lane, frame, .. } = action {
                frames += 1;
                to.proto.handle_frame(NOW, LINK, lane, &frame).expect("a frame");
                from.proto.recycle(frame);
            }
        }
        to.run_device();
        now.mono_ns += 1_000_000;
        while let Some(action) = to.proto.poll_action(now) {
            if let Action::Send { lane, frame, .. } = action {
                back.push((lane, frame));
            }
        }
        for (lane, frame) in back.drain(..) {
            from.proto.handle_frame(NOW, LINK, lane, &frame).expect("a frame");
            to.proto.recycle(frame);
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    assert_eq!(to.handled, sent, "every message once");
    println!(
        "device -> agent -> agent -> device, acknowledged; {keys:>5} keys: {:6.2} M/s, {:4} envelopes a frame",
        sent as f64 / seconds / 1e6,
        sent / frames
    );
}

fn main() {
    for keys in [16, 1024, 1 << 20] {
        client_to_agent(keys);
        agent_to_agent(keys);
    }
}
