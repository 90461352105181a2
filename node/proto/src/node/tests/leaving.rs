//! Shards that leave: what they sent arrives before their successors may begin (C3).

use ringfleet_abi::{
    ActorId, Control, DeviceIndex, Envelope, Epoch, Flags, Hlc, Incarnation, LostReason, NodeId, SetId, ShardId, Status,
};

use super::net::{Faults, Net, SHARDS, Shape, shard_of};
use crate::action::Action;
use crate::control::NodeView;
use crate::control::view::{SetState, ShardState};
use crate::node::leaving::{CLOSED_MS_MAX, HANDOVER_NS, OPEN_MS_MAX};
use crate::node::{DeviceConfig, NodeConfig, NodeProto};
use crate::now::{NS_PER_MS, Now};
use crate::peer::{Lane, LinkId, PeerIdentity, Source};
use crate::wire::{Answer, AnswersWriter};

const WALL_MS: u64 = 1_700_000_000_000;
const PEER: LinkId = LinkId(2);
const DEVICE: DeviceIndex = DeviceIndex(0);
const HANDOVER_MS: u64 = HANDOVER_NS / NS_PER_MS + 1;

fn at_ms(ms: u64) -> Now {
    Now::new(ms * NS_PER_MS, WALL_MS + ms)
}

/// An actor of a shard.
fn actor(shard: ShardId) -> ActorId {
    let key = (0..).find(|key| shard_of(ActorId::new(shard.set, *key)) == shard);
    ActorId::new(shard.set, key.expect("every shard has keys"))
}

fn shard(index: u16) -> ShardId {
    ShardId::new(SetId(1), ringfleet_abi::ShardIndex(index))
}

/// Node 1 owns the even shards, node 2 the odd ones. Shard 0 leaves node 1, after its actor has told one of shard 1 something and one of
/// shard 2 has done the same after it.
struct Rig {
    proto: NodeProto,
    view: NodeView,
    flushes: Vec<u64>,
    reported: bool,
    released: bool,
}

impl Rig {
    fn new() -> Self {
        let mut view = Net::new(1, Shape { nodes: 2, ..Shape::SMALL }, Faults::NONE).view;
        for shard in &mut view.shards {
            let node = shard.index % 2 + 1;
            (shard.node, shard.incarnation, shard.worker) = (u32::from(node), u64::from(node), 0);
        }
        let device = DeviceConfig { workers: 1, ingress_capacity: 64 };
        let config = NodeConfig::new(NodeId(1), Incarnation(1), vec![device], vec!["t".into()]);
        let proto = NodeProto::new(at_ms(0), config);
        let mut rig = Self { proto, view, flushes: Vec::new(), reported: false, released: false };
        rig.proto.handle_lease(at_ms(0), 100_000 * NS_PER_MS, WALL_MS + 100_000);
        rig.proto.handle_view(at_ms(0), &rig.view);
        rig.settle(at_ms(0));
        rig.flush(at_ms(0));
        rig.proto.link_up(at_ms(0), PEER, PeerIdentity::Node { node: NodeId(2), incarnation: Incarnation(2) });
        rig.tell(at_ms(1), 0);
        rig.tell(at_ms(1), 2);
        rig
    }

    /// Executes actions; flushes are confirmed by [`Rig::flush`].
    fn settle(&mut self, now: Now) {
        while let Some(action) = self.proto.poll_action(now) {
            match action {
                Action::Device { control: Control::Assign { shard, epoch, worker }, .. } => {
                    self.proto.handle_status(now, DEVICE, Status::Assigned { shard, epoch, worker });
                }
                Action::Device { control: Control::RouteCommit { version }, .. } => self.flushes.push(version),
                Action::Device { control: Control::Release { .. }, .. } => self.released = true,
                Action::ReportReleased { shard: of, .. } => {
                    assert_eq!(of, shard(0));
                    self.reported = true;
                }
                _ => {}
            }
        }
    }

    fn flush(&mut self, now: Now) {
        while !self.flushes.is_empty() {
            for version in std::mem::take(&mut self.flushes) {
                self.proto.handle_status(now, DEVICE, Status::RouteFlushed { version });
            }
            self.settle(now);
        }
    }

    /// An actor of shard `from` has told one of shard 1 something.
    fn tell(&mut self, now: Now, from: u16) {
        let (to, from) = (actor(shard(1)), actor(shard(from)));
        let mut envelope = Envelope::new(from, to, 3, Flags::NONE, &[1]).expect("fits");
        envelope.hlc = Hlc::from_wall_ms(WALL_MS).0;
        self.proto.handle_egress(now, DEVICE, &[envelope]);
        self.settle(now);
    }

    /// The coordinator wants shard 0 back, and the device drops it.
    fn release(&mut self, now: Now) {
        self.change(now, |view| view.shards[0].state = ShardState::Releasing);
        self.flush(now);
        assert!(self.released);
        self.proto.handle_status(now, DEVICE, Status::Released { shard: shard(0), epoch: Epoch(1) });
        self.settle(now);
    }

    fn change(&mut self, now: Now, change: impl FnOnce(&mut NodeView)) {
        self.view.index += 1;
        change(&mut self.view);
        assert_eq!(self.view.shards[0].shard_id(), shard(0));
        assert_eq!(self.view.shards.len() % usize::from(SHARDS), 0);
        self.proto.handle_view(now, &self.view.clone());
        self.settle(now);
    }

    /// Node 2 has handled so many of the messages for shard 1.
    fn acknowledge(&mut self, now: Now, generation: u32, through: u64) {
        let mut frame = Vec::new();
        let mut writer = AnswersWriter::new(&mut frame, Source::Node(Incarnation(1)));
        let (accepted_through, handled_through) = (through, through);
        writer.answer(&Answer::Ack { shard: shard(1), generation, accepted_through, handled_through });
        writer.finish();
        self.proto.handle_frame(now, PEER, Lane::Answers, &frame).expect("an answer");
        self.settle(now);
    }

    fn wait(&mut self, ms: u64) {
        self.proto.handle_timeout(at_ms(ms));
        self.settle(at_ms(ms));
    }

    fn lost(&self) -> u64 {
        self.proto.ledger().lost[LostReason::ShardRestarted as usize]
    }
}

#[test]
fn a_release_is_reported_when_everything_that_was_sent_has_been_handled() {
    let mut rig = Rig::new();
    rig.release(at_ms(2));
    rig.wait(2 + HANDOVER_MS);
    assert!(!rig.reported, "C3: messages in the device's rings have not been consumed");
    // Handled, but only what another shard has sent.
    rig.flush(at_ms(2 + HANDOVER_MS));
    rig.wait(3 + HANDOVER_MS);
    assert!(!rig.reported, "C3: the successor's messages could overtake this one");
    rig.acknowledge(at_ms(600), 1, 1);
    assert!(rig.reported, "the second message is another shard's");
    assert_eq!((rig.lost(), rig.proto.ledger().outbound_now), (0, 1));
}

#[test]
fn a_flush_that_began_before_the_release_proves_nothing() {
    let mut rig = Rig::new();
    rig.change(at_ms(2), |view| view.shards[0].state = ShardState::Releasing);
    rig.flush(at_ms(2));
    // Another shard leaves; its flush is under way when the first one is released.
    rig.change(at_ms(3), |view| view.shards[2].state = ShardState::Releasing);
    let other = std::mem::take(&mut rig.flushes);
    assert_eq!(other.len(), 1);
    rig.proto.handle_status(at_ms(4), DEVICE, Status::Released { shard: shard(0), epoch: Epoch(1) });
    rig.acknowledge(at_ms(4), 1, 2);
    rig.proto.handle_status(at_ms(5), DEVICE, Status::RouteFlushed { version: other[0] });
    rig.wait(5 + HANDOVER_MS);
    assert!(!rig.reported, "C3: what it sent after that flush began may be in the rings");
    rig.settle(at_ms(600));
    rig.flush(at_ms(600));
    assert!(rig.reported);
}

#[test]
fn what_a_broken_channel_keeps_still_holds_the_report_back() {
    let mut rig = Rig::new();
    rig.release(at_ms(2));
    rig.flush(at_ms(2));
    // Shard 1 begins anew elsewhere: both messages may have been executed and are lost; one that was never sent is kept.
    rig.proto.link_down(at_ms(3), PEER);
    rig.change(at_ms(4), |view| view.shards[1].epoch = 2);
    assert_eq!(rig.lost(), 2);
    rig.wait(2 + HANDOVER_MS);
    assert!(rig.reported, "nothing of it is under way");

    let mut rig = Rig::new();
    rig.proto.link_down(at_ms(2), PEER);
    rig.tell(at_ms(2), 0);
    rig.release(at_ms(2));
    rig.flush(at_ms(2));
    rig.change(at_ms(4), |view| view.shards[1].epoch = 2);
    assert_eq!((rig.lost(), rig.proto.ledger().outbound_now), (2, 1));
    rig.wait(2 + HANDOVER_MS);
    assert!(!rig.reported, "C3: the message that was kept has another number now");
    rig.proto.link_up(at_ms(600), PEER, PeerIdentity::Node { node: NodeId(2), incarnation: Incarnation(2) });
    rig.settle(at_ms(600));
    rig.acknowledge(at_ms(601), 2, 1);
    assert!(rig.reported);
}

#[test]
fn shards_that_move_at_once_and_send_to_each_other_do_not_wait_for_ever() {
    let mut rig = Rig::new();
    rig.proto.link_down(at_ms(2), PEER);
    rig.tell(at_ms(2), 0);
    rig.tell(at_ms(2), 2);
    rig.release(at_ms(3));
    rig.flush(at_ms(3));
    rig.change(at_ms(4), |view| view.shards[1].state = ShardState::Releasing);
    rig.wait(3 + CLOSED_MS_MAX - 1);
    assert!(!rig.reported);
    rig.wait(3 + CLOSED_MS_MAX);
    assert!(rig.reported, "C9");
    // Two that may have been executed, and the one of shard 0 behind them. That of shard 2 waits on.
    assert_eq!((rig.lost(), rig.proto.ledger().outbound_now), (3, 1));
}

#[test]
fn a_receiver_that_is_not_heard_of_holds_a_release_back_for_a_bounded_time() {
    let mut rig = Rig::new();
    rig.release(at_ms(3));
    rig.flush(at_ms(3));
    rig.wait(3 + OPEN_MS_MAX - 1);
    assert!(!rig.reported);
    let due_ns = rig.proto.poll_timeout().expect("something is due");
    assert!(due_ns <= (3 + OPEN_MS_MAX) * NS_PER_MS);
    rig.wait(3 + OPEN_MS_MAX);
    assert!(rig.reported, "C9");
    assert_eq!(rig.lost(), 2, "of this channel whatever may have been executed");
}

#[test]
fn what_a_shard_sent_to_itself_does_not_hold_it_back() {
    let mut rig = Rig::new();
    rig.acknowledge(at_ms(1), 1, 2);
    let (of, now) = (actor(shard(0)), at_ms(2));
    rig.change(now, |view| view.shards[0].state = ShardState::Releasing);
    // Sent while it drained: its routes lead away already.
    let envelope = Envelope::new(of, of, 3, Flags::NONE, &[1]).expect("fits");
    rig.proto.handle_egress(now, DEVICE, &[envelope]);
    rig.flush(now);
    rig.proto.handle_status(now, DEVICE, Status::Released { shard: shard(0), epoch: Epoch(1) });
    rig.settle(now);
    rig.flush(now);
    rig.wait(2 + HANDOVER_MS);
    assert!(rig.reported, "C9");
    assert_eq!((rig.lost(), rig.proto.ledger().outbound_now), (1, 0));
}

#[test]
fn a_shard_that_is_asked_back_before_it_was_heard_of_is_reported() {
    let mut rig = Rig::new();
    rig.release(at_ms(2));
    rig.change(at_ms(3), |_| ());
    assert!(!rig.reported, "it is being handed over");
    let mut view = rig.view.clone();
    view.shards[0].state = ShardState::Releasing;
    let device = DeviceConfig { workers: 1, ingress_capacity: 64 };
    let config = NodeConfig::new(NodeId(1), Incarnation(1), vec![device], vec!["t".into()]);
    rig.proto = NodeProto::new(at_ms(3), config);
    rig.proto.handle_lease(at_ms(3), 100_000 * NS_PER_MS, WALL_MS + 100_000);
    rig.proto.handle_view(at_ms(3), &view);
    rig.settle(at_ms(3));
    assert!(rig.reported, "C9: nobody else can say it");
}

#[test]
fn shards_of_a_deleted_set_have_no_successors_to_wait_for() {
    let mut rig = Rig::new();
    rig.change(at_ms(2), |view| view.sets[0].state = SetState::Deleting);
    rig.release(at_ms(3));
    assert!(rig.reported);
}
