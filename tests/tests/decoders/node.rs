//! A node takes any sequence of frames from a linked client and a linked node: nothing that a peer can send makes it panic, what it
//! sends can be read, and its books balance.
//!
//! Frames are well-formed, their fields are wrong in every combination: shards and sets that are not there, epochs, generations and
//! sequences out of order and at the ends of their ranges, answers about channels that were never opened.

use ringfleet_abi::{
    ActorId, Control, DeviceIndex, Envelope, Epoch, Flags, Hlc, Incarnation, LostReason, NodeId, SessionId, SetId,
    ShardId, ShardIndex, Status, WorkerIndex,
};
use ringfleet_proto::control::view::{
    CoordinatorView, DeviceView, MemberView, SetState, SetView, ShardState, ShardView,
};
use ringfleet_proto::control::{Durability, FailureView, Keys, NodeView};
use ringfleet_proto::now::NS_PER_MS;
use ringfleet_proto::wire::{
    Answer, AnswersWriter, DeliverHeader, DeliverWriter, Frame, RunHeader, decode as decode_frame,
};
use ringfleet_proto::{
    Action, DeviceConfig, Lane, LinkId, NodeConfig, NodeProto, Now, OutboundConfig, PeerIdentity, Source,
};

use crate::{feed, fuzz, wire};

const WALL_MS: u64 = 1_700_000_000_000;
const CLIENT: (LinkId, PeerIdentity) = (LinkId(1), PeerIdentity::Client { session: SessionId(9) });
const PEER: (LinkId, PeerIdentity) = (LinkId(2), PeerIdentity::Node { node: NodeId(2), incarnation: Incarnation(2) });
const DEVICE: DeviceIndex = DeviceIndex(0);
const SHARDS: u16 = 4;
const KEYS: u64 = 64;

/// Two nodes; set 1 lives on the first, set 2 on the second.
pub fn view() -> NodeView {
    let member = |node: u32| MemberView {
        node,
        name: format!("n{node}"),
        incarnation: u64::from(node),
        data_addr: format!("127.0.0.1:{node}"),
        http_addr: String::new(),
        devices: vec![DeviceView::joined(2, 1)],
    };
    let set = |set: u16| SetView {
        set,
        name: format!("s{set}"),
        tag: u32::from(set),
        actor_type: "t".into(),
        code_hash: 1,
        layout_hash: 2,
        keys: Keys::Dense { count: KEYS },
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
        worker: index % 2,
        node: u32::from(set),
        incarnation: u64::from(set),
        epoch: 1,
        since_index: 10,
    };
    NodeView {
        index: 10,
        coordinators: vec![CoordinatorView { name: "c1".into(), addr: "127.0.0.1:9".into() }],
        members: vec![member(1), member(2)],
        sets: vec![set(1), set(2)],
        shards: [1, 2].into_iter().flat_map(|set| (0..SHARDS).map(move |index| shard(set, index))).collect(),
    }
}

/// Node 1 and what stands around it.
struct Rig {
    proto: NodeProto,
    now: Now,
    /// Envelopes in the rings of each worker, and how many it is done with.
    pushed: [u64; 2],
    done: [u64; 2],
    ingress: Vec<Envelope>,
}

/// Takes numbers from the plan; zeros when it is used up.
struct Dice<'a>(&'a [u8]);

impl Dice<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[usize::from(self.byte()) % values.len()]
    }

    fn shard(&mut self) -> ShardId {
        ShardId::new(SetId(self.of(&[1, 1, 1, 2, 0, 3, u16::MAX])), ShardIndex(self.of(&[0, 0, 1, 2, 3, 4, u16::MAX])))
    }

    fn number(&mut self) -> u64 {
        self.of(&[1, 1, 1, 2, 2, 3, 4, 5, 0, 7, 1 << 31, 1 << 32, (u64::MAX >> 1) - 1, u64::MAX >> 1, u64::MAX])
    }

    fn small(&mut self) -> u32 {
        self.of(&[1, 1, 1, 1, 2, 3, 0, u32::MAX - 1, u32::MAX])
    }

    fn envelope(&mut self, to: ShardId) -> Envelope {
        let per_shard = KEYS / u64::from(SHARDS);
        let key = u64::from(to.index.0).wrapping_mul(per_shard) + u64::from(self.byte() % 3);
        let (from, to) = (ActorId::new(SetId(1), self.number()), ActorId::new(to.set, key));
        let flags = self.of(&[Flags::NONE, Flags::NONE, Flags::ASK, Flags::REPLY, Flags::MARKER, Flags::CONTROL]);
        let mut envelope = Envelope::new(from, to, 3, flags, &[1]).expect("fits");
        envelope.from_set = self.of(&[1, 1, 2, SetId::CLIENT.0, 0]);
        envelope.hlc = self.of(&[Hlc::from_wall_ms(WALL_MS).0, 0, u64::MAX, Hlc::from_wall_ms(WALL_MS + 240).0]);
        if self.byte() > 250 {
            envelope.bits = u16::MAX;
        }
        envelope
    }

    fn deliver(&mut self, source: Source) -> Vec<u8> {
        let mut bytes = Vec::new();
        let header = DeliverHeader {
            source,
            lease_end_ms: self.of(&[WALL_MS + 5000, WALL_MS + 5000, 0, u64::MAX]),
            placement_index: self.of(&[10, 10, 10, 10, 0, 11, u64::MAX]),
        };
        let mut writer = DeliverWriter::new(&mut bytes, &header);
        for _ in 0..1 + self.byte() % 3 {
            let shard = self.shard();
            let envelopes: Vec<Envelope> = (0..1 + self.byte() % 4).map(|_| self.envelope(shard)).collect();
            let run = RunHeader {
                shard,
                count: envelopes.len() as u32,
                generation: self.small(),
                attempt: self.small(),
                epoch: Epoch(self.of(&[1, 1, 1, 2, 0, u64::MAX])),
                first_seq: self.number(),
            };
            writer.run(&run, (&envelopes, &[]));
        }
        writer.finish();
        bytes
    }

    fn answer(&mut self) -> Answer {
        let (shard, generation, attempt) = (self.shard(), self.small(), self.small());
        let (at, certain) = (self.number(), self.byte().is_multiple_of(2));
        match self.byte() % 4 {
            // The other way round is no frame (`wire::decode`).
            0 => Answer::Ack { shard, generation, accepted_through: at, handled_through: self.number().min(at) },
            1 => Answer::Busy { shard, generation, attempt, at, certain },
            2 => {
                let (epoch, hint) = (Epoch(self.number()), NodeId(self.small()));
                Answer::Moved { shard, generation, attempt, at, certain, epoch, hint }
            }
            _ => {
                let (generation_floor, reason) = (self.small(), self.of(LostReason::ALL));
                Answer::ChannelLost { shard, generation, attempt, after_seq: at, generation_floor, reason }
            }
        }
    }
}

impl Rig {
    fn new() -> Self {
        let now = Now::new(0, WALL_MS);
        let device = DeviceConfig { workers: 2, ingress_capacity: 16 };
        let mut config = NodeConfig::new(NodeId(1), Incarnation(1), vec![device], vec!["t".into()]);
        config.pending_worker_max = 8;
        config.outbound = OutboundConfig { channel_max: 8, peer_max: 16, total_max: 32, peer_window: 8 };
        let mut rig =
            Self { proto: NodeProto::new(now, config), now, pushed: [0; 2], done: [0; 2], ingress: Vec::new() };
        rig.proto.handle_lease(now, 1_000_000 * NS_PER_MS, WALL_MS + 1_000_000);
        rig.proto.handle_view(now, &view());
        rig.settle();
        rig.proto.link_up(now, CLIENT.0, CLIENT.1);
        rig.proto.link_up(now, PEER.0, PEER.1);
        rig.settle();
        rig
    }

    /// Carries out what the node wants; whatever it sends can be read by whom it is for.
    fn settle(&mut self) {
        let mut steps = 0;
        while let Some(action) = self.proto.poll_action(self.now) {
            steps += 1;
            assert!(steps < 10_000, "it never comes to rest");
            match action {
                Action::Device { control: Control::Assign { shard, epoch, worker }, .. } => {
                    self.proto.handle_status(self.now, DEVICE, Status::Assigned { shard, epoch, worker });
                }
                Action::Device { control: Control::RouteCommit { version }, .. } => {
                    self.proto.handle_status(self.now, DEVICE, Status::RouteFlushed { version });
                }
                Action::Send { frame, .. } => {
                    decode_frame(&frame).expect("a node sends frames that can be read");
                    self.proto.recycle(frame);
                }
                _ => {}
            }
        }
    }

    fn frame(&mut self, link: LinkId, lane: Lane, frame: &[u8]) {
        if lane == Lane::Data && !self.proto.can_read_data(self.now, link) {
            return;
        }
        // An error closes the link; the peer comes again.
        if self.proto.handle_frame(self.now, link, lane, frame).is_err() {
            self.settle();
            let (_, peer) = if link == CLIENT.0 { CLIENT } else { PEER };
            self.proto.link_down(self.now, link);
            self.proto.link_up(self.now, link, peer);
        }
    }

    /// The device takes what it is given and is done with part of it.
    fn work(&mut self, dice: &mut Dice<'_>) {
        self.ingress.clear();
        self.proto.poll_ingress(DEVICE, &mut self.ingress, 64);
        for envelope in &self.ingress {
            // Only what a worker owns comes in; shards of even index are the first worker's.
            let keys = Keys::Dense { count: KEYS };
            let key = envelope.as_gate_marker().map_or_else(
                || ringfleet_abi::KeySpace::from(keys).shard_of(SHARDS, envelope.to_key),
                |shard| Some(shard.index),
            );
            let index = key.expect("the key of an envelope is checked before a device sees it");
            self.pushed[usize::from(index.0 % 2)] += 1;
        }
        for worker in 0..2 {
            let left = self.pushed[worker] - self.done[worker];
            self.done[worker] += left.min(u64::from(dice.byte() % 8));
            self.proto.handle_ingress_done(self.now, DEVICE, WorkerIndex(worker as u16), self.done[worker]);
        }
        let room = self.proto.can_take_egress(self.now).min(usize::from(dice.byte() % 8));
        let egress: Vec<Envelope> = (0..room)
            .map(|_| {
                let index = ShardIndex(u16::from(dice.byte()) % SHARDS);
                let mut envelope = dice.envelope(ShardId::new(SetId(2), index));
                (envelope.from_set, envelope.hlc) = (1, Hlc::from_wall_ms(WALL_MS).0);
                envelope.set_flags(Flags::NONE);
                envelope
            })
            .collect();
        self.proto.handle_egress(self.now, DEVICE, &egress);
    }

    fn step(&mut self, dice: &mut Dice<'_>, seeds: &[Vec<u8>]) {
        match dice.byte() % 12 {
            0..=3 => {
                let frame = dice.deliver(CLIENT.1.source());
                self.frame(CLIENT.0, Lane::Data, &frame);
            }
            4 | 5 => {
                let frame = dice.deliver(PEER.1.source());
                self.frame(PEER.0, Lane::Data, &frame);
            }
            6 | 7 => {
                let mut frame = Vec::new();
                let mut writer = AnswersWriter::new(&mut frame, Source::Node(Incarnation(1)));
                for _ in 0..1 + dice.byte() % 3 {
                    writer.answer(&dice.answer());
                }
                writer.finish();
                self.frame(PEER.0, Lane::Answers, &frame);
            }
            8 => {
                let plan: Vec<u8> = (0..9).map(|_| dice.byte()).collect();
                let (link, lane) = (dice.of(&[CLIENT.0, PEER.0]), dice.of(&[Lane::Data, Lane::Answers]));
                self.frame(link, lane, &feed(seeds, &plan));
            }
            9 | 10 => self.work(dice),
            _ => {
                let ms = dice.of(&[1_u64, 10, 100, 1_000, 20_000]);
                self.now = Now::new(self.now.mono_ns + ms * NS_PER_MS, self.now.wall_ms + ms);
                self.proto.handle_timeout(self.now);
            }
        }
        self.settle();
        let ledger = self.proto.ledger();
        assert_eq!(ledger.arrived(), ledger.accounted(), "C7: {ledger:?}");
    }
}

#[test]
fn sequences_of_frames_of_linked_peers() {
    let seeds = wire::frames();
    fuzz!(|plan| {
        let mut rig = Rig::new();
        let mut dice = Dice(plan);
        while !dice.0.is_empty() {
            rig.step(&mut dice, &seeds);
        }
        // What was accepted is handled once the device has gone through it.
        for _ in 0..64 {
            let mut all = Dice(&[7, 7, 0]);
            rig.work(&mut all);
            rig.settle();
        }
        assert_eq!(rig.pushed, rig.done, "the device is done with everything");
        assert_eq!(rig.proto.ledger().pending_now, 0, "C7: nothing is left");
    });
}

/// Frames are what they say, so that a frame of the seeds that is not changed is taken.
#[test]
fn the_seeds_are_frames() {
    for frame in wire::frames() {
        assert!(matches!(
            decode_frame(&frame),
            Ok(Frame::Hello(_) | Frame::Deliver(_) | Frame::Answers(_) | Frame::Replies(_) | Frame::Goodbye(_))
        ));
    }
}
