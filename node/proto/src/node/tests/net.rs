//! Nodes, clients, links and a coordinator in virtual time.

use std::collections::{BTreeMap, VecDeque};

use ringfleet_abi::hash::mix64;
use ringfleet_abi::{
    ActorId, DeviceIndex, Envelope, Flags, Hlc, Incarnation, NodeId, SessionId, SetId, ShardId, WorkerIndex,
};

use super::device::{Checker, Device};
use crate::action::Action;
use crate::control::view::{DeviceView, MemberView, SetState, SetView, ShardState, ShardView};
use crate::control::{Durability, FailureView, Keys, NodeView};
use crate::node::{DeviceConfig, NodeConfig, NodeProto};
use crate::now::{NS_PER_MS, Now};
use crate::outbound::{Outbound, OutboundConfig, OutboundEvent};
use crate::peer::{Lane, LinkId, PeerIdentity, Source};
use crate::wire::{Frame, decode};

pub const STEP_NS: u64 = 200_000;
pub const SHARDS: u16 = 8;
pub const LEASE_MS: u64 = 3_000;
const WALL_BASE_MS: u64 = 1_700_000_000_000;

#[derive(Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(mix64(seed ^ 0x9E37_79B9_7F4A_7C15))
    }
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix64(self.0)
    }
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
    /// Once in `n` on average.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

pub fn payload(sender: u64, seq: u64, hops: u32) -> [u8; 20] {
    let mut body = [0; 20];
    body[..8].copy_from_slice(&sender.to_le_bytes());
    body[8..16].copy_from_slice(&seq.to_le_bytes());
    body[16..].copy_from_slice(&hops.to_le_bytes());
    body
}

pub fn fields(envelope: &Envelope) -> (u64, u64, u32) {
    let word = |at: usize| u64::from_le_bytes(envelope.payload[at..at + 8].try_into().expect("8 bytes"));
    (word(0), word(8), u32::from_le_bytes(envelope.payload[16..20].try_into().expect("4 bytes")))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Node(usize),
    Client(usize),
}

/// One direction of one lane.
#[derive(Debug, Default)]
struct Pipe {
    frames: VecDeque<(u64, Vec<u8>)>,
    last_ns: u64,
}

#[derive(Debug)]
struct Wire {
    ends: [End; 2],
    /// The id of the link at each end, and whether that end still has it.
    up: [bool; 2],
    cut: bool,
    /// When each end notices that the link is gone.
    notice_ns: [u64; 2],
    /// [end that receives][lane]
    pipes: [[Pipe; 2]; 2],
}

pub struct Node {
    pub proto: NodeProto,
    pub devices: Vec<Device>,
    pub incarnation: u64,
    pub alive: bool,
    pub renewing: bool,
    pub views: VecDeque<(u64, NodeView)>,
    pub applied: u64,
}

pub struct Client {
    pub outbound: Outbound,
    pub session: u32,
    sequences: BTreeMap<(u16, u64), u64>,
    pub views: VecDeque<(u64, NodeView)>,
    pub enqueued: u64,
    pub handled: u64,
    pub lost: u64,
    pub taken_back: u64,
    pub busy: u64,
    pub replies: u64,
    pub asks: u64,
}

/// What goes wrong, and how often: once in so many steps; 0 is never.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    pub cut_once_in: u64,
    pub refuse_percent: u64,
    pub move_once_in: u64,
    pub give_up_percent: u64,
    pub lapse_once_in: u64,
    pub delay_max_ns: u64,
}

impl Faults {
    pub const NONE: Faults = Faults {
        cut_once_in: 0,
        refuse_percent: 0,
        move_once_in: 0,
        give_up_percent: 0,
        lapse_once_in: 0,
        delay_max_ns: 3 * NS_PER_MS,
    };
}

pub struct Net {
    pub rng: Rng,
    pub now_ns: u64,
    pub nodes: Vec<Node>,
    pub clients: Vec<Client>,
    wires: Vec<Wire>,
    pub view: NodeView,
    pub checker: Checker,
    pub faults: Faults,
    outbound: OutboundConfig,
    moving: BTreeMap<u32, (usize, u16)>,
    pub moves: u64,
    pub cuts: u64,
    lapse_until: Vec<u64>,
    devices: u16,
}

#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub nodes: usize,
    pub clients: usize,
    pub devices: u16,
    pub slots: u32,
    pub pending: usize,
    pub outbound: OutboundConfig,
    pub session_idle_ms: u64,
}

impl Shape {
    pub const SMALL: Shape = Shape {
        nodes: 3,
        clients: 2,
        devices: 1,
        slots: 16,
        pending: 64,
        outbound: OutboundConfig { channel_max: 20_000, peer_max: 40_000, total_max: 60_000, peer_window: 512 },
        session_idle_ms: 600_000,
    };
}

fn member(index: usize, incarnation: u64, devices: u16) -> MemberView {
    MemberView {
        node: index as u32 + 1,
        name: format!("n{}", index + 1),
        incarnation,
        data_addr: format!("{index}"),
        http_addr: String::new(),
        devices: vec![DeviceView::joined(2, 1); usize::from(devices)],
    }
}

fn set(id: u16) -> SetView {
    SetView {
        set: id,
        name: format!("set{id}"),
        tag: u32::from(id) + 100,
        actor_type: "t".into(),
        code_hash: 1,
        layout_hash: 1,
        keys: Keys::Hashed,
        shards: SHARDS,
        failures: FailureView::default(),
        durability: Durability::Volatile,
        tenant: "default".into(),
        state: SetState::Active,
    }
}

impl Net {
    pub fn new(seed: u64, shape: Shape, faults: Faults) -> Self {
        let mut rng = Rng::new(seed);
        let incarnation = |index: usize| index as u64 + 1;
        let members: Vec<_> = (0..shape.nodes).map(|at| member(at, incarnation(at), shape.devices)).collect();
        let mut shards = Vec::new();
        for id in 1..=2u16 {
            for index in 0..SHARDS {
                let at = rng.below(shape.nodes as u64) as usize;
                shards.push(ShardView {
                    set: id,
                    index,
                    state: ShardState::Resident,
                    device: rng.below(u64::from(shape.devices)) as u16,
                    worker: rng.below(2) as u16,
                    node: at as u32 + 1,
                    incarnation: incarnation(at),
                    epoch: 1,
                    since_index: 10,
                });
            }
        }
        let view = NodeView { index: 10, coordinators: vec![], members, sets: vec![set(1), set(2)], shards };
        let now = Now::new(0, WALL_BASE_MS);
        let nodes = (0..shape.nodes)
            .map(|at| {
                let device = DeviceConfig { workers: 2, ingress_capacity: shape.slots };
                let mut config = NodeConfig::new(
                    NodeId(at as u32 + 1),
                    Incarnation(incarnation(at)),
                    vec![device; usize::from(shape.devices)],
                    vec!["t".into()],
                );
                config.outbound = shape.outbound;
                config.pending_worker_max = shape.pending;
                config.session_idle_ms = shape.session_idle_ms;
                Node {
                    proto: NodeProto::new(now, config),
                    devices: (0..shape.devices)
                        .map(|d| {
                            let mut device = Device::new(incarnation(at) << 4 | u64::from(d), 2, shape.slots);
                            device.refuse_percent = faults.refuse_percent;
                            device
                        })
                        .collect(),
                    incarnation: incarnation(at),
                    alive: true,
                    renewing: true,
                    views: VecDeque::new(),
                    applied: 0,
                }
            })
            .collect();
        let clients = (0..shape.clients)
            .map(|at| Client {
                outbound: Outbound::new(
                    Source::Client(SessionId(at as u32 + 1)),
                    OutboundConfig { channel_max: 256, ..shape.outbound },
                ),
                session: at as u32 + 1,
                sequences: BTreeMap::new(),
                views: VecDeque::new(),
                enqueued: 0,
                handled: 0,
                lost: 0,
                taken_back: 0,
                busy: 0,
                replies: 0,
                asks: 0,
            })
            .collect();
        let mut net = Self {
            rng,
            now_ns: 0,
            nodes,
            clients,
            wires: Vec::new(),
            view,
            checker: Checker::default(),
            faults,
            outbound: shape.outbound,
            moving: BTreeMap::new(),
            moves: 0,
            cuts: 0,
            lapse_until: vec![0; shape.nodes],
            devices: shape.devices,
        };
        net.spread_view();
        net
    }

    pub fn now(&self) -> Now {
        Now::new(self.now_ns, WALL_BASE_MS + self.now_ns / NS_PER_MS)
    }

    fn delay(&mut self) -> u64 {
        self.now_ns + 1 + self.rng.below(self.faults.delay_max_ns)
    }

    /// Sends the view to everybody, each at its own time.
    pub fn spread_view(&mut self) {
        for at in 0..self.nodes.len() {
            let due = self.delay() + self.rng.below(5 * NS_PER_MS);
            let view = self.view.clone();
            self.nodes[at].views.push_back((due, view));
        }
        for at in 0..self.clients.len() {
            let due = self.delay() + self.rng.below(5 * NS_PER_MS);
            let view = self.view.clone();
            self.clients[at].views.push_back((due, view));
        }
    }

    // ---- what the outside does ----

    pub fn tell(&mut self, client: usize, hops: u32, ask: bool) -> bool {
        let target = ActorId::new(SetId(1 + self.rng.below(2) as u16), self.rng.below(64));
        self.tell_to(client, target, hops, ask)
    }

    pub fn tell_to(&mut self, client: usize, target: ActorId, hops: u32, ask: bool) -> bool {
        let wall_ms = self.now().wall_ms;
        let of = &mut self.clients[client];
        let shard = shard_of(target);
        let seq = of.sequences.entry((target.set.0, target.key)).or_insert(0);
        let body = payload(u64::from(of.session) | 1 << 63, *seq + 1, hops);
        let flags = if ask { Flags::ASK } else { Flags::NONE };
        // The sender's own idea of its name is overwritten by the agent.
        let from = ActorId::new(SetId(77), u64::from(ask) * (of.asks + 1));
        let mut envelope = Envelope::new(from, target, 9, flags, &body).expect("fits");
        envelope.hlc = Hlc::from_wall_ms(wall_ms).0;
        if of.outbound.enqueue(shard, &envelope).is_err() {
            return false;
        }
        *seq += 1;
        of.enqueued += 1;
        of.asks += u64::from(ask);
        true
    }

    /// Marks a shard as leaving for another node; the coordinator goes on when its owner reports.
    pub fn begin_move(&mut self, shard: ShardId, to: usize, worker: u16) {
        let Some(view) = self.view.shards.iter_mut().find(|view| view.shard_id() == shard) else { return };
        if view.state != ShardState::Resident || self.moving.contains_key(&shard.pack()) {
            return;
        }
        view.state = ShardState::Releasing;
        self.view.index += 1;
        self.moving.insert(shard.pack(), (to, worker));
        self.moves += 1;
        self.spread_view();
    }

    /// Makes a set known, its shards placed at random.
    pub fn apply_set(&mut self, id: u16) {
        self.view.index += 1;
        self.view.sets.push(set(id));
        for index in 0..SHARDS {
            let at = self.rng.below(self.nodes.len() as u64) as usize;
            self.view.shards.push(ShardView {
                set: id,
                index,
                state: ShardState::Resident,
                device: 0,
                worker: self.rng.below(2) as u16,
                node: at as u32 + 1,
                incarnation: self.nodes[at].incarnation,
                epoch: 1,
                since_index: self.view.index,
            });
        }
        self.spread_view();
    }

    /// Deletes a set: its shards leave, then it is gone.
    pub fn delete_set(&mut self, id: u16) {
        self.view.index += 1;
        for set in self.view.sets.iter_mut().filter(|set| set.set == id) {
            set.state = SetState::Deleting;
        }
        for shard in self.view.shards.iter_mut().filter(|shard| shard.set == id) {
            shard.state = ShardState::Releasing;
            self.moving.remove(&shard.shard_id().pack());
        }
        self.spread_view();
    }

    fn released_for_good(&mut self, shard: ShardId) -> bool {
        let deleting = |set: &SetView| set.set == shard.set.0 && set.state == SetState::Deleting;
        if !self.view.sets.iter().any(deleting) {
            return false;
        }
        self.view.index += 1;
        for view in self.view.shards.iter_mut().filter(|view| view.shard_id() == shard) {
            (view.state, view.node, view.incarnation) = (ShardState::Pending, 0, 0);
        }
        if self.view.shards.iter().all(|view| view.set != shard.set.0 || view.state == ShardState::Pending) {
            self.view.shards.retain(|view| view.set != shard.set.0);
            self.view.sets.retain(|view| view.set != shard.set.0);
        }
        self.spread_view();
        true
    }

    fn released(&mut self, shard: ShardId, epoch: u64) {
        if self.released_for_good(shard) {
            return;
        }
        let Some((to, worker)) = self.moving.remove(&shard.pack()) else { return };
        let to =
            if self.nodes[to].alive { to } else { self.nodes.iter().position(|node| node.alive).expect("some node") };
        self.view.index += 1;
        let (index, incarnation) = (self.view.index, self.nodes[to].incarnation);
        let device = self.rng.below(u64::from(self.devices)) as u16;
        let view = self.view.shards.iter_mut().find(|view| view.shard_id() == shard).expect("known");
        assert_eq!(view.epoch, epoch, "C2: the residence that ends is the one in the view");
        view.state = ShardState::Resident;
        (view.node, view.incarnation, view.device, view.worker) = (to as u32 + 1, incarnation, device, worker);
        view.epoch += 1;
        view.since_index = index;
        self.spread_view();
    }

    /// A node dies; its shards begin empty elsewhere.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].alive = false;
        self.view.index += 1;
        let dead = self.nodes[node].incarnation;
        self.view.members.retain(|member| member.incarnation != dead);
        for at in 0..self.view.shards.len() {
            if self.view.shards[at].incarnation != dead {
                continue;
            }
            let survivors: Vec<usize> = (0..self.nodes.len()).filter(|&at| self.nodes[at].alive).collect();
            let to = survivors[self.rng.below(survivors.len() as u64) as usize];
            let view = &mut self.view.shards[at];
            self.moving.remove(&view.shard_id().pack());
            view.state = ShardState::Resident;
            (view.node, view.incarnation) = (to as u32 + 1, self.nodes[to].incarnation);
            view.epoch += 1;
            view.since_index = self.view.index;
        }
        self.spread_view();
        for wire in &mut self.wires {
            if wire.ends.contains(&End::Node(node)) {
                wire.cut = true;
                for end in 0..2 {
                    wire.notice_ns[end] = self.now_ns + 20 * NS_PER_MS;
                }
            }
        }
    }

    /// Cuts a link; its ends notice at different times.
    pub fn cut(&mut self, wire: usize) {
        if self.wires[wire].cut {
            return;
        }
        self.cuts += 1;
        let notice = [self.now_ns + self.rng.below(30 * NS_PER_MS), self.now_ns + self.rng.below(30 * NS_PER_MS)];
        let wire = &mut self.wires[wire];
        wire.cut = true;
        wire.notice_ns = notice;
    }

    /// The links that an end has.
    pub fn wires_of(&self, end: End) -> Vec<usize> {
        (0..self.wires.len()).filter(|&at| !self.wires[at].cut && self.wires[at].ends.contains(&end)).collect()
    }

    // ---- one step ----

    pub fn step(&mut self) {
        self.now_ns += STEP_NS;
        self.inject();
        self.deliver_views_and_leases();
        self.run_links();
        for at in 0..self.nodes.len() {
            if self.nodes[at].alive {
                self.run_node(at);
            }
        }
        for at in 0..self.clients.len() {
            self.run_client(at);
        }
        self.check();
    }

    fn inject(&mut self) {
        let faults = self.faults;
        if faults.cut_once_in > 0 && self.rng.once_in(faults.cut_once_in) && !self.wires.is_empty() {
            let wire = self.rng.below(self.wires.len() as u64) as usize;
            self.cut(wire);
        }
        if faults.move_once_in > 0 && self.rng.once_in(faults.move_once_in) {
            let shard = self.view.shards[self.rng.below(self.view.shards.len() as u64) as usize].shard_id();
            let to = self.rng.below(self.nodes.len() as u64) as usize;
            let worker = self.rng.below(2) as u16;
            self.begin_move(shard, to, worker);
        }
        if faults.lapse_once_in > 0 && self.rng.once_in(faults.lapse_once_in) {
            let node = self.rng.below(self.nodes.len() as u64) as usize;
            self.lapse_until[node] = self.now_ns + (LEASE_MS + 200 + self.rng.below(800)) * NS_PER_MS;
        }
    }

    fn deliver_views_and_leases(&mut self) {
        let now = self.now();
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            if !node.alive {
                continue;
            }
            while node.views.front().is_some_and(|(due, _)| *due <= now.mono_ns) {
                let (_, view) = node.views.pop_front().expect("seen");
                node.proto.handle_view(now, &view);
            }
            let lapsed = now.mono_ns < self.lapse_until[at];
            if node.renewing && !lapsed && (now.mono_ns / STEP_NS) % 1000 == 1 || now.mono_ns == STEP_NS {
                node.proto.handle_lease(now, now.mono_ns + LEASE_MS * NS_PER_MS, now.wall_ms + LEASE_MS);
            }
        }
        for client in &mut self.clients {
            while client.views.front().is_some_and(|(due, _)| *due <= now.mono_ns) {
                let (_, view) = client.views.pop_front().expect("seen");
                client.outbound.handle_view(now, &view);
            }
        }
    }

    fn link_id(wire: usize, end: usize) -> LinkId {
        LinkId(wire as u64 * 2 + end as u64)
    }

    fn connect(&mut self, from: End, node: usize) {
        let wire = self.wires.len();
        let later = u64::MAX;
        self.wires.push(Wire {
            ends: [from, End::Node(node)],
            up: [true; 2],
            cut: false,
            notice_ns: [later; 2],
            pipes: Default::default(),
        });
        let now = self.now();
        let identity = match from {
            End::Node(at) => {
                PeerIdentity::Node { node: NodeId(at as u32 + 1), incarnation: Incarnation(self.nodes[at].incarnation) }
            }
            End::Client(at) => PeerIdentity::Client { session: SessionId(self.clients[at].session) },
        };
        let incarnation = Incarnation(self.nodes[node].incarnation);
        self.nodes[node].proto.link_up(now, Self::link_id(wire, 1), identity);
        match from {
            End::Node(at) => {
                let identity = PeerIdentity::Node { node: NodeId(node as u32 + 1), incarnation };
                self.nodes[at].proto.link_up(now, Self::link_id(wire, 0), identity);
            }
            End::Client(at) => self.clients[at].outbound.peer_up(now, incarnation),
        }
    }

    fn run_links(&mut self) {
        let now = self.now();
        // Clients keep a link to every node.
        for client in 0..self.clients.len() {
            for node in 0..self.nodes.len() {
                let has =
                    self.wires.iter().any(|wire| wire.up[0] && wire.ends == [End::Client(client), End::Node(node)]);
                if !has && self.nodes[node].alive && self.rng.percent(5) {
                    self.connect(End::Client(client), node);
                }
            }
        }
        for at in 0..self.wires.len() {
            for end in 0..2 {
                let of = self.wires[at].ends[end];
                if !self.wires[at].up[end] || matches!(of, End::Node(node) if !self.nodes[node].alive) {
                    continue;
                }
                if self.wires[at].cut {
                    if now.mono_ns >= self.wires[at].notice_ns[end] {
                        self.down(at, end);
                    }
                    continue;
                }
                for lane in [Lane::Data, Lane::Answers] {
                    self.receive(at, end, of, lane);
                }
            }
        }
    }

    fn down(&mut self, wire: usize, end: usize) {
        self.wires[wire].up[end] = false;
        let now = self.now();
        match self.wires[wire].ends[end] {
            End::Node(at) => self.nodes[at].proto.link_down(now, Self::link_id(wire, end)),
            End::Client(at) => {
                let End::Node(node) = self.wires[wire].ends[1 - end] else { return };
                self.clients[at].outbound.peer_down(Incarnation(self.nodes[node].incarnation));
            }
        }
    }

    fn receive(&mut self, wire: usize, end: usize, of: End, lane: Lane) {
        let now = self.now();
        let id = Self::link_id(wire, end);
        while self.wires[wire].up[end] && !self.wires[wire].cut {
            let pipe = &mut self.wires[wire].pipes[end][lane as usize];
            if pipe.frames.front().is_none_or(|(due, _)| *due > now.mono_ns) {
                return;
            }
            if let End::Node(at) = of
                && lane == Lane::Data
                && !self.nodes[at].proto.can_read_data(now, id)
            {
                return;
            }
            let (_, frame) = self.wires[wire].pipes[end][lane as usize].frames.pop_front().expect("seen");
            match of {
                End::Node(at) => {
                    self.nodes[at].proto.handle_frame(now, id, lane, &frame).expect("peers keep to the protocol");
                }
                End::Client(at) => {
                    let End::Node(node) = self.wires[wire].ends[1 - end] else { return };
                    let peer = Incarnation(self.nodes[node].incarnation);
                    let client = &mut self.clients[at];
                    match decode(&frame).expect("a frame") {
                        Frame::Answers(answers) => {
                            assert_eq!(answers.source, client.outbound.source());
                            answers.iter().for_each(|answer| client.outbound.handle_answer(now, peer, &answer));
                        }
                        Frame::Replies(replies) => {
                            for reply in replies.envelopes() {
                                let (session, _) = reply.to().as_client().expect("to a client");
                                assert_eq!(session.0, client.session, "C11: a reply to another session");
                                client.replies += 1;
                            }
                        }
                        other => panic!("a client got {other:?}"),
                    }
                }
            }
        }
    }

    fn send(&mut self, wire: usize, from_end: usize, lane: Lane, frame: Vec<u8>) {
        if self.wires[wire].cut {
            return;
        }
        let due = self.delay();
        let pipe = &mut self.wires[wire].pipes[1 - from_end][lane as usize];
        let due = due.max(pipe.last_ns);
        pipe.last_ns = due;
        pipe.frames.push_back((due, frame));
    }

    fn run_node(&mut self, at: usize) {
        let now = self.now();
        let node = &mut self.nodes[at];
        for (index, device) in node.devices.iter_mut().enumerate() {
            let index = DeviceIndex(index as u16);
            device.step(now.mono_ns, now.wall_ms, &mut self.rng, &mut self.checker);
            while let Some(status) = device.poll_status() {
                node.proto.handle_status(now, index, status);
            }
            let done = device.done();
            let room = node.proto.can_take_egress(now);
            let egress = device.take_egress(room);
            node.proto.handle_egress(now, index, &egress);
            if device.egress_len() == 0 {
                for (worker, total) in done.into_iter().enumerate() {
                    node.proto.handle_ingress_done(now, index, WorkerIndex(worker as u16), total);
                }
            }
        }
        if node.proto.poll_timeout().is_some_and(|at_ns| at_ns <= now.mono_ns) {
            node.proto.handle_timeout(now);
        }
        self.act(at);
        let node = &mut self.nodes[at];
        for (index, device) in node.devices.iter_mut().enumerate() {
            let mut batch = Vec::new();
            node.proto.poll_ingress(DeviceIndex(index as u16), &mut batch, 1000);
            device.push(&batch);
        }
    }

    fn act(&mut self, at: usize) {
        let now = self.now();
        while let Some(action) = self.nodes[at].proto.poll_action(now) {
            match action {
                Action::Send { link, lane, frame } => {
                    let (wire, end) = ((link.0 / 2) as usize, (link.0 % 2) as usize);
                    assert_eq!(self.wires[wire].ends[end], End::Node(at));
                    self.send(wire, end, lane, frame);
                }
                Action::Connect { incarnation, addr, .. } => {
                    let to: usize = addr.parse().expect("an index");
                    if self.nodes[to].alive && self.rng.percent(70) {
                        self.connect(End::Node(at), to);
                    } else {
                        self.nodes[at].proto.connect_failed(now, incarnation);
                    }
                }
                Action::Close { link, .. } => {
                    let (wire, end) = ((link.0 / 2) as usize, (link.0 % 2) as usize);
                    self.wires[wire].up[end] = false;
                    if !self.wires[wire].cut {
                        self.wires[wire].cut = true;
                        self.wires[wire].notice_ns = [self.now_ns + NS_PER_MS; 2];
                    }
                }
                Action::Device { device, control } => self.nodes[at].devices[usize::from(device.0)].submit(control),
                Action::ReportReleased { shard, epoch } => self.released(shard, epoch.0),
                Action::ReportApplied { index } => self.nodes[at].applied = index,
                Action::NeedView { .. } => {}
                Action::AssignFailed { shard, .. } => panic!("{shard} could not be assigned"),
                Action::Fenced => self.nodes[at].alive = false,
            }
        }
    }

    fn run_client(&mut self, at: usize) {
        let now = self.now();
        self.clients[at].outbound.handle_timeout(now);
        loop {
            let mut frame = Vec::new();
            let Some(peer) = self.clients[at].outbound.poll_frame(0, &mut frame) else { break };
            let node = self.nodes.iter().position(|node| node.incarnation == peer.0).expect("a node");
            let wire =
                self.wires.iter().rposition(|wire| wire.up[0] && wire.ends == [End::Client(at), End::Node(node)]);
            self.send(wire.expect("up"), 0, Lane::Data, frame);
        }
        while let Some(event) = self.clients[at].outbound.poll_event() {
            let give_up = self.rng.percent(self.faults.give_up_percent);
            let client = &mut self.clients[at];
            match event {
                OutboundEvent::Handled { count, .. } => client.handled += count,
                OutboundEvent::Busy { shard, index } => {
                    client.busy += 1;
                    if give_up && client.outbound.give_up(shard, index).is_ok() {
                        client.taken_back += 1;
                    }
                }
                OutboundEvent::Moved { .. } => {}
                OutboundEvent::Lost { messages, .. } => client.lost += messages.len() as u64,
            }
        }
    }

    // ---- checks ----

    fn check(&mut self) {
        for node in self.nodes.iter().filter(|node| node.alive) {
            let ledger = node.proto.ledger();
            assert_eq!(ledger.arrived(), ledger.accounted(), "C7 at incarnation {}: {ledger:?}", node.incarnation);
            let bound = self.outbound.total_max + 4 * crate::limits::EGRESS_RESERVE;
            assert!(ledger.outbound_now <= bound as u64, "C9: {} wait outbound", ledger.outbound_now);
        }
        for client in &self.clients {
            let waiting = client.outbound.stats().queued_now;
            assert_eq!(client.enqueued, client.handled + client.lost + client.taken_back + waiting, "C7 at a client");
        }
        assert!(self.checker.violations.is_empty(), "C3: {:?}", self.checker.violations);
    }

    pub fn is_quiet(&self) -> bool {
        let nodes = self.nodes.iter().filter(|node| node.alive).all(|node| {
            let ledger = node.proto.ledger();
            ledger.outbound_now == 0
                && ledger.pending_now == 0
                && node.devices.iter().all(|device| device.in_flight() == 0)
                && node.views.is_empty()
                && node.applied == self.view.index
        });
        nodes && self.clients.iter().all(|client| client.outbound.stats().queued_now == 0) && self.moving.is_empty()
    }

    /// Removes all faults and demands that everything ends.
    pub fn settle(&mut self) {
        let calm = Faults {
            cut_once_in: 0,
            refuse_percent: 0,
            move_once_in: 0,
            give_up_percent: 0,
            lapse_once_in: 0,
            ..self.faults
        };
        self.faults = calm;
        for node in &mut self.nodes {
            node.devices.iter_mut().for_each(|device| device.refuse_percent = 0);
        }
        for _ in 0..200_000 {
            self.step();
            if self.is_quiet() {
                return;
            }
        }
        let state: Vec<_> = self.nodes.iter().map(|node| (node.applied, node.proto.ledger())).collect();
        panic!("not quiet 40 s after the last fault: view {} {state:#?}", self.view.index);
    }

    /// C7 over a cluster whose nodes are all alive and quiet.
    pub fn assert_conserved(&self) {
        let (mut left, mut right) = (0, 0);
        for node in &self.nodes {
            let ledger = node.proto.ledger();
            left += ledger.client_in + ledger.node_in - ledger.taken_back;
            right += ledger.replies_out + ledger.node_out + ledger.dead_total() + ledger.lost_total();
            for device in &node.devices {
                left += device.sent;
                right += device.handled + device.dead;
            }
        }
        assert_eq!(left, right, "C7: sent and accepted = handled, replied, dead-lettered and lost");
    }

    pub fn lost(&self) -> u64 {
        let nodes: u64 = self.nodes.iter().map(|node| node.proto.ledger().lost_total()).sum();
        nodes + self.clients.iter().map(|client| client.lost).sum::<u64>()
    }

    pub fn sum(&self, of: impl Fn(&crate::Ledger) -> u64) -> u64 {
        self.nodes.iter().map(|node| of(&node.proto.ledger())).sum()
    }
}

pub fn shard_of(target: ActorId) -> ShardId {
    let index = ringfleet_abi::KeySpace::Hashed.shard_of(SHARDS, target.key).expect("hashed");
    ShardId::new(target.set, index)
}

impl Net {
    /// Cuts a wire if it is between two nodes; both ends notice at once.
    pub fn cut_between_nodes(&mut self, wire: usize) {
        let wire = &mut self.wires[wire];
        if matches!(wire.ends, [End::Node(_), End::Node(_)]) {
            wire.cut = true;
            wire.notice_ns = [self.now_ns; 2];
        }
    }
}
