//! One agent, one rule at a time.

use ringfleet_abi::limits::{HLC_AHEAD_MS_MAX, LEASE_GRACE_MS};
use ringfleet_abi::{
    ActorId, Control, DeadReason, DeviceIndex, Envelope, Epoch, Flags, Hlc, Incarnation, LostReason, NodeId,
    RestartMode, SessionId, SetId, ShardId, Status, WorkerIndex,
};

use super::net::{Faults, Net, Shape, shard_of};
use crate::action::Action;
use crate::control::NodeView;
use crate::control::view::{FailureView, ShardState};
use crate::limits::VIEW_WAIT_MS_MAX;
use crate::node::{DeviceConfig, NodeConfig, NodeProto, ProtocolError};
use crate::now::{NS_PER_MS, Now};
use crate::peer::{CloseReason, Lane, LinkId, PeerIdentity, Source};
use crate::wire::{Answer, AnswersWriter, DeliverHeader, DeliverWriter, Frame, RunHeader, decode};

const WALL_MS: u64 = 1_700_000_000_000;
const LINK: LinkId = LinkId(1);
const PEER: LinkId = LinkId(2);
const DEVICE: DeviceIndex = DeviceIndex(0);
const SESSION: SessionId = SessionId(9);

fn at_ms(ms: u64) -> Now {
    Now::new(ms * NS_PER_MS, WALL_MS + ms)
}

/// The view of a two-node cluster in which node 1 owns every shard.
fn view() -> NodeView {
    let mut view = Net::new(1, Shape { nodes: 2, ..Shape::SMALL }, Faults::NONE).view;
    for shard in &mut view.shards {
        (shard.node, shard.incarnation, shard.worker) = (1, 1, shard.index % 2);
    }
    view
}

struct Rig {
    proto: NodeProto,
    actions: Vec<Action>,
}

impl Rig {
    /// Node 1 with a lease of 10 s, its shards live, a client and node 2 linked.
    fn new() -> Self {
        let mut rig = Self::empty();
        rig.proto.handle_lease(at_ms(0), 10_000 * NS_PER_MS, WALL_MS + 10_000);
        rig.proto.handle_view(at_ms(0), &view());
        rig.settle(at_ms(0));
        rig.proto.link_up(at_ms(0), LINK, PeerIdentity::Client { session: SESSION });
        rig.proto.link_up(at_ms(0), PEER, PeerIdentity::Node { node: NodeId(2), incarnation: Incarnation(2) });
        rig.actions.clear();
        rig
    }

    fn empty() -> Self {
        let device = DeviceConfig { workers: 2, ingress_capacity: 64 };
        let mut config = NodeConfig::new(NodeId(1), Incarnation(1), vec![device], vec!["t".into()]);
        config.pending_worker_max = 8;
        Self { proto: NodeProto::new(at_ms(0), config), actions: Vec::new() }
    }

    /// Executes actions, confirming assignments and routes.
    fn settle(&mut self, now: Now) {
        while let Some(action) = self.proto.poll_action(now) {
            match &action {
                Action::Device { control: Control::Assign { shard, epoch, worker }, .. } => {
                    let status = Status::Assigned { shard: *shard, epoch: *epoch, worker: *worker };
                    self.proto.handle_status(now, DEVICE, status);
                }
                Action::Device { control: Control::RouteCommit { version }, .. } => {
                    self.proto.handle_status(now, DEVICE, Status::RouteFlushed { version: *version });
                }
                _ => {}
            }
            self.actions.push(action);
        }
    }

    fn answers(&mut self, now: Now) -> Vec<Answer> {
        self.settle(now);
        let mut answers = Vec::new();
        for action in self.actions.drain(..) {
            if let Action::Send { lane: Lane::Answers, frame, .. } = action
                && let Ok(Frame::Answers(of)) = decode(&frame)
            {
                answers.extend(of.iter());
            }
        }
        answers
    }

    fn ingress(&mut self) -> Vec<Envelope> {
        let mut all = Vec::new();
        self.proto.poll_ingress(DEVICE, &mut all, 1000);
        all
    }

    fn closed(&self) -> Vec<CloseReason> {
        let reason = |action: &Action| if let Action::Close { reason, .. } = action { Some(*reason) } else { None };
        self.actions.iter().filter_map(reason).collect()
    }
}

const CLIENT: DeliverHeader = DeliverHeader { source: Source::Client(SESSION), lease_end_ms: 0, placement_index: 10 };
const NODE: DeliverHeader =
    DeliverHeader { source: Source::Node(Incarnation(2)), lease_end_ms: WALL_MS + 5_000, placement_index: 10 };

fn message() -> Envelope {
    let mut envelope =
        Envelope::new(ActorId::new(SetId(1), 5), ActorId::new(SetId(1), 7), 3, Flags::NONE, &[1]).expect("fits");
    envelope.hlc = Hlc::from_wall_ms(WALL_MS).0;
    envelope
}

fn shard() -> ShardId {
    shard_of(ActorId::new(SetId(1), 7))
}

fn frame_at(header: &DeliverHeader, epoch: u64, first_seq: u64, envelopes: &[Envelope]) -> Vec<u8> {
    let mut frame = Vec::new();
    let mut writer = DeliverWriter::new(&mut frame, header);
    let run = RunHeader {
        shard: shard(),
        count: envelopes.len() as u32,
        generation: 1,
        attempt: 1,
        epoch: Epoch(epoch),
        first_seq,
    };
    writer.run(&run, (envelopes, &[]));
    writer.finish();
    frame
}

fn frame(header: &DeliverHeader, envelopes: &[Envelope]) -> Vec<u8> {
    frame_at(header, 1, 1, envelopes)
}

#[test]
fn a_client_speaks_in_the_name_of_its_session_whatever_it_writes() {
    let mut rig = Rig::new();
    let mut forged = message();
    forged.from_key = 77 << 32 | 4;
    rig.proto.handle_frame(at_ms(1), LINK, Lane::Data, &frame(&CLIENT, &[forged])).expect("taken");
    assert_eq!(rig.ingress()[0].from(), ActorId::client(SESSION, 4), "C11");
    let other = DeliverHeader { source: Source::Client(SessionId(1)), ..CLIENT };
    assert_eq!(
        rig.proto.handle_frame(at_ms(1), LINK, Lane::Data, &frame(&other, &[message()])),
        Err(ProtocolError::WrongSource)
    );
    rig.settle(at_ms(1));
    assert_eq!(rig.closed(), [CloseReason::ProtocolError]);
}

#[test]
fn what_no_actor_may_get_is_dead_lettered_in_its_turn() {
    let mut rig = Rig::new();
    let with = |change: &dyn Fn(&mut Envelope)| {
        let mut envelope = message();
        change(&mut envelope);
        envelope
    };
    let batch = [
        message(),
        with(&|e| e.set_flags(Flags::MARKER.with(Flags::CONTROL))),
        with(&|e| e.set_flags(Flags::REPLY)),
        with(&|e| e.bits = 40),
        with(&|e| e.to_set = 2),
        with(&|e| {
            e.to_key = (0..).find(|key| shard_of(ActorId::new(SetId(1), *key)) != shard()).expect("another shard")
        }),
        with(&|e| e.hlc = Hlc::from_wall_ms(WALL_MS + 1 + HLC_AHEAD_MS_MAX + 1).0),
        message(),
    ];
    rig.proto.handle_frame(at_ms(1), LINK, Lane::Data, &frame(&CLIENT, &batch)).expect("taken");
    assert_eq!(rig.ingress().len(), 2);
    assert_eq!(rig.proto.ledger().dead_total(), 0, "nothing is acknowledged before what was sent ahead of it");
    let worker = WorkerIndex(shard().index.0 % 2);
    rig.proto.handle_ingress_done(at_ms(1), DEVICE, worker, 2);
    let ledger = rig.proto.ledger();
    let dead = |reason: DeadReason| ledger.dead[reason as usize];
    assert_eq!(dead(DeadReason::BadMessage), 3);
    assert_eq!((dead(DeadReason::NoSuchSet), dead(DeadReason::NoSuchKey), dead(DeadReason::StampAhead)), (1, 1, 1));
    assert_eq!((ledger.ingress_done, ledger.arrived()), (2, ledger.accounted()));
    let acks = rig.answers(at_ms(2));
    let all = Answer::Ack { shard: shard(), generation: 1, accepted_through: 8, handled_through: 8 };
    assert_eq!(acks.last(), Some(&all));
}

#[test]
fn what_an_incarnation_held_is_accounted_for_when_it_ends() {
    let mut rig = Rig::new();
    let mut for_nobody = message();
    for_nobody.to_set = 2;
    let batch = [message(), message(), message(), for_nobody];
    rig.proto.handle_frame(at_ms(1), LINK, Lane::Data, &frame(&CLIENT, &batch)).expect("taken");
    rig.proto.handle_frame(at_ms(1), PEER, Lane::Data, &frame(&NODE, &[message(); 2])).expect("taken");
    assert_eq!(rig.ingress().len(), 5);
    rig.proto.handle_ingress_done(at_ms(1), DEVICE, WorkerIndex(shard().index.0 % 2), 2);
    // Never given to a device.
    rig.proto.handle_frame(at_ms(1), LINK, Lane::Data, &frame_at(&CLIENT, 1, 5, &[message()])).expect("taken");
    rig.settle(at_ms(1));
    rig.actions.clear();
    assert_eq!(rig.proto.abandon(LostReason::SenderFenced), 2, "one in a device, one here");
    let ledger = rig.proto.ledger();
    assert_eq!(ledger.lost[LostReason::SenderFenced as usize], 2);
    assert_eq!(ledger.dead[DeadReason::NoSuchSet as usize], 1);
    assert_eq!(
        (ledger.taken_back, ledger.taken_back_clients),
        (2, 0),
        "the node owns them again and reports them itself"
    );
    assert_eq!((ledger.pending_now, ledger.ingress_done, ledger.arrived()), (0, 2, ledger.accounted()), "C7");
    rig.settle(at_ms(2));
    assert!(rig.actions.is_empty(), "C2: nothing leaves any more: {:?}", rig.actions);
    let mut sum = ledger;
    sum.add(&ledger);
    assert_eq!((sum.arrived(), sum.accounted()), (2 * ledger.arrived(), 2 * ledger.accounted()));
}

#[test]
fn a_node_may_not_speak_for_a_client() {
    let mut rig = Rig::new();
    let mut forged = message();
    forged.from_set = SetId::CLIENT.0;
    rig.proto.handle_frame(at_ms(1), PEER, Lane::Data, &frame(&NODE, &[forged])).expect("taken");
    assert!(rig.ingress().is_empty());
    assert_eq!(rig.proto.ledger().dead[DeadReason::BadMessage as usize], 1, "C11");
}

#[test]
fn a_frame_past_its_lease_end_and_grace_is_not_accepted() {
    let mut rig = Rig::new();
    let late = DeliverHeader { lease_end_ms: WALL_MS + 1_000, ..NODE };
    let in_time = at_ms(1_000 + LEASE_GRACE_MS);
    let too_late = at_ms(1_000 + LEASE_GRACE_MS + 1);
    rig.proto.handle_frame(too_late, PEER, Lane::Data, &frame(&late, &[message()])).expect("answered");
    assert!(rig.ingress().is_empty(), "C2");
    assert!(matches!(rig.answers(too_late)[..], [Answer::Busy { at: 1, .. }]));
    rig.proto.handle_frame(in_time, PEER, Lane::Data, &frame(&late, &[message()])).expect("taken");
    assert_eq!(rig.ingress().len(), 1);
}

#[test]
fn a_fenced_incarnation_gets_channel_lost_and_its_link_is_closed() {
    let mut rig = Rig::new();
    let mut without = view();
    without.index = 20;
    without.members.retain(|member| member.incarnation != 2);
    rig.proto.handle_view(at_ms(1), &without);
    rig.settle(at_ms(1));
    assert_eq!(rig.closed(), [CloseReason::Fenced]);
    rig.actions.clear();
    rig.proto.link_up(at_ms(2), LinkId(5), PeerIdentity::Node { node: NodeId(2), incarnation: Incarnation(2) });
    rig.settle(at_ms(2));
    assert_eq!(rig.closed(), [CloseReason::Fenced], "nor may it come back");
    assert_eq!(
        rig.proto.handle_frame(at_ms(2), LinkId(5), Lane::Data, &frame(&NODE, &[message()])),
        Err(ProtocolError::UnknownLink)
    );
}

#[test]
fn a_frame_of_a_fenced_incarnation_that_was_held_is_refused() {
    let mut rig = Rig::new();
    let ahead = DeliverHeader { placement_index: 20, ..NODE };
    rig.proto.handle_frame(at_ms(1), PEER, Lane::Data, &frame(&ahead, &[message()])).expect("held");
    assert!(!rig.proto.can_read_data(at_ms(1), PEER));
    rig.settle(at_ms(1));
    assert!(rig.actions.contains(&Action::NeedView { index: 20 }));
    let mut without = view();
    without.index = 20;
    without.members.retain(|member| member.incarnation != 2);
    rig.proto.handle_view(at_ms(2), &without);
    rig.settle(at_ms(2));
    assert!(rig.ingress().is_empty(), "C2");
    assert_eq!(rig.closed(), [CloseReason::Fenced]);
}

#[test]
fn a_frame_waits_for_its_view_but_not_for_ever() {
    let mut rig = Rig::new();
    let ahead = DeliverHeader { placement_index: 20, ..NODE };
    rig.proto.handle_frame(at_ms(1), PEER, Lane::Data, &frame(&ahead, &[message()])).expect("held");
    assert!(rig.ingress().is_empty());
    rig.proto.handle_view(at_ms(2), &NodeView { index: 20, ..view() });
    assert_eq!(rig.ingress().len(), 1);
    assert!(rig.proto.can_read_data(at_ms(2), PEER));
    let further = DeliverHeader { placement_index: 30, ..NODE };
    rig.proto.handle_frame(at_ms(3), PEER, Lane::Data, &frame(&further, &[message()])).expect("held");
    let late = at_ms(3 + VIEW_WAIT_MS_MAX);
    assert!(rig.proto.poll_timeout().is_some_and(|at_ns| at_ns <= late.mono_ns));
    rig.proto.handle_timeout(late);
    rig.settle(late);
    assert_eq!(rig.closed(), [CloseReason::ViewTimeout]);
}

#[test]
fn devices_are_told_of_a_set_again_when_what_becomes_of_failed_actors_changes() {
    let mut rig = Rig::new();
    let told = |rig: &mut Rig, index: u64, restart: RestartMode| -> Vec<(SetId, RestartMode)> {
        let mut view = NodeView { index, ..view() };
        view.sets[1].failures =
            FailureView { restarts: restart.budget().restarts, window_ms: 0, parent: restart.budget().parent };
        rig.actions.clear();
        rig.proto.handle_view(at_ms(index), &view);
        rig.settle(at_ms(index));
        let added = |action: &Action| match action {
            Action::Device { control: Control::AddSet { set, restart, .. }, .. } => Some((*set, *restart)),
            _ => None,
        };
        rig.actions.iter().filter_map(added).collect()
    };
    assert_eq!(told(&mut rig, 20, RestartMode::Stop), [], "as it was");
    assert_eq!(told(&mut rig, 21, RestartMode::Restart), [(SetId(2), RestartMode::Restart)]);
    assert_eq!(told(&mut rig, 22, RestartMode::Restart), []);
    assert_eq!(told(&mut rig, 23, RestartMode::Stop), [(SetId(2), RestartMode::Stop)]);
}

#[test]
fn another_epoch_is_answered_with_where_the_shard_is() {
    let mut rig = Rig::new();
    let stale = frame_at(&NODE, 0, 1, &[message()]);
    rig.proto.handle_frame(at_ms(1), PEER, Lane::Data, &stale).expect("answered");
    let answers = rig.answers(at_ms(1));
    assert!(
        matches!(answers[..], [Answer::Moved { at: 1, epoch: Epoch(1), hint: NodeId(1), certain: false, .. }]),
        "{answers:?}"
    );
}

#[test]
fn a_set_that_is_gone_is_channel_lost() {
    let mut rig = Rig::new();
    let mut header = CLIENT;
    header.placement_index = 10;
    let mut bytes = frame(&header, &[message()]);
    // Set 40 instead of 1.
    bytes[34..36].copy_from_slice(&40_u16.to_le_bytes());
    rig.proto.handle_frame(at_ms(1), LINK, Lane::Data, &bytes).expect("answered");
    let answers = rig.answers(at_ms(1));
    assert!(matches!(answers[..], [Answer::ChannelLost { reason: LostReason::SetDeleted, .. }]), "{answers:?}");
}

#[test]
fn after_the_lease_nothing_is_accepted_or_sent_and_everything_is_kept() {
    let mut rig = Rig::new();
    let over = at_ms(10_000);
    rig.proto.handle_frame(over, LINK, Lane::Data, &frame(&CLIENT, &[message()])).expect("held");
    assert!(!rig.proto.can_read_data(over, LINK));
    assert_eq!(rig.proto.can_take_egress(over), 0);
    assert!(rig.ingress().is_empty() && rig.proto.poll_action(over).is_none(), "C2");
    rig.proto.handle_lease(at_ms(10_100), 20_000 * NS_PER_MS, WALL_MS + 20_000);
    assert_eq!(rig.ingress().len(), 1);
    assert!(rig.answers(at_ms(10_100)).is_empty(), "that it was accepted waits for more to say");
    assert!(rig.proto.poll_timeout().is_some_and(|at| at <= 10_101 * NS_PER_MS));
    assert!(!rig.answers(at_ms(10_101)).is_empty());
}

#[test]
fn a_worker_at_its_bound_is_busy_and_all_of_them_stop_the_reading() {
    let mut rig = Rig::new();
    let batch = [message(); 10];
    rig.proto.handle_frame(at_ms(1), LINK, Lane::Data, &frame(&CLIENT, &batch)).expect("taken");
    rig.answers(at_ms(1));
    assert!(!rig.proto.can_read_data(at_ms(1), LINK), "8 + 2 is where reading stops");
    rig.proto.handle_frame(at_ms(2), LINK, Lane::Data, &frame_at(&CLIENT, 1, 11, &batch)).expect("answered");
    let answers = rig.answers(at_ms(2));
    assert!(answers.iter().any(|answer| matches!(answer, Answer::Busy { at: 11, certain: true, .. })), "{answers:?}");
    assert_eq!(rig.ingress().len(), 10);
    assert!(rig.proto.can_read_data(at_ms(2), LINK));
}

#[test]
fn frames_on_the_wrong_lane_and_garbage_close_the_link() {
    for (lane, bytes, wanted) in [
        (Lane::Answers, frame(&CLIENT, &[message()]), ProtocolError::WrongLane),
        (Lane::Data, Vec::new(), ProtocolError::Wire(crate::wire::WireError::Length { kind: "short", bytes: 0 })),
    ] {
        let mut rig = Rig::new();
        assert_eq!(rig.proto.handle_frame(at_ms(1), LINK, lane, &bytes), Err(wanted));
        rig.settle(at_ms(1));
        assert_eq!(rig.closed(), [CloseReason::ProtocolError]);
    }
    let mut rig = Rig::new();
    let mut bytes = Vec::new();
    AnswersWriter::new(&mut bytes, Source::Node(Incarnation(1))).finish();
    assert_eq!(
        rig.proto.handle_frame(at_ms(1), LINK, Lane::Answers, &bytes),
        Err(ProtocolError::WrongLane),
        "a client has nothing to acknowledge"
    );
}

#[test]
fn a_second_link_replaces_the_first() {
    let mut rig = Rig::new();
    rig.proto.link_up(at_ms(1), LinkId(8), PeerIdentity::Client { session: SESSION });
    rig.settle(at_ms(1));
    assert_eq!(rig.closed(), [CloseReason::Replaced]);
    assert_eq!(
        rig.proto.handle_frame(at_ms(1), LINK, Lane::Data, &frame(&CLIENT, &[message()])),
        Err(ProtocolError::UnknownLink)
    );
    rig.proto.link_down(at_ms(1), LINK);
    rig.proto.handle_frame(at_ms(1), LinkId(8), Lane::Data, &frame(&CLIENT, &[message()])).expect("the new one is up");
}

#[test]
fn a_leaving_shard_is_drained_flushed_released_and_reported_in_this_order() {
    let mut rig = Rig::new();
    rig.proto.handle_frame(at_ms(1), LINK, Lane::Data, &frame(&CLIENT, &[message()])).expect("taken");
    assert_eq!(rig.ingress().len(), 1);
    let mut leaving = view();
    leaving.index = 20;
    for of in leaving.shards.iter_mut().filter(|of| of.shard_id() == shard()) {
        of.state = ShardState::Releasing;
    }
    rig.proto.handle_view(at_ms(2), &leaving);
    rig.settle(at_ms(2));
    let released = |rig: &Rig| {
        rig.actions.iter().any(|action| matches!(action, Action::Device { control: Control::Release { .. }, .. }))
    };
    assert!(!released(&rig), "a message for it is still in its worker");
    rig.proto.handle_frame(at_ms(3), LINK, Lane::Data, &frame_at(&CLIENT, 1, 2, &[message()])).expect("answered");
    let moved = |answer: &Answer| matches!(answer, Answer::Moved { at: 2, certain: true, .. });
    assert!(rig.answers(at_ms(3)).iter().any(moved));
    rig.proto.handle_ingress_done(at_ms(4), DEVICE, WorkerIndex(shard().index.0 % 2), 1);
    rig.settle(at_ms(4));
    assert!(released(&rig));
    rig.proto.handle_status(at_ms(5), DEVICE, Status::Released { shard: shard(), epoch: Epoch(1) });
    rig.settle(at_ms(5));
    let report = Action::ReportReleased { shard: shard(), epoch: Epoch(1) };
    assert!(!rig.actions.contains(&report), "C6: a clock that is behind is not yet past the stamps given here");
    let due_ns = at_ms(5).mono_ns + super::super::leaving::HANDOVER_NS;
    assert!(rig.proto.poll_timeout().is_some_and(|at_ns| at_ns <= due_ns));
    rig.proto.handle_timeout(at_ms(due_ns / NS_PER_MS));
    rig.settle(at_ms(due_ns / NS_PER_MS));
    assert!(rig.actions.contains(&report));
}

#[test]
fn a_view_without_us_ends_the_incarnation() {
    let mut rig = Rig::new();
    let mut without = view();
    without.index = 20;
    without.members.retain(|member| member.incarnation != 1);
    rig.proto.handle_view(at_ms(1), &without);
    assert_eq!(rig.proto.poll_action(at_ms(1)), Some(Action::Fenced));
    assert!(rig.proto.is_fenced(at_ms(1)) && rig.proto.poll_action(at_ms(1)).is_none());
}

#[test]
fn the_lower_node_dials_and_dials_again_after_a_pause() {
    let mut rig = Rig::empty();
    rig.proto.handle_lease(at_ms(0), 10_000 * NS_PER_MS, WALL_MS + 10_000);
    rig.proto.handle_view(at_ms(0), &view());
    rig.settle(at_ms(0));
    let dials = |rig: &Rig| rig.actions.iter().filter(|action| matches!(action, Action::Connect { .. })).count();
    assert_eq!(dials(&rig), 1);
    rig.proto.connect_failed(at_ms(1), Incarnation(2));
    rig.proto.handle_timeout(at_ms(5));
    rig.settle(at_ms(5));
    assert_eq!(dials(&rig), 1, "a pause of 10 ms first");
    rig.proto.handle_timeout(at_ms(11));
    rig.settle(at_ms(11));
    assert_eq!(dials(&rig), 2);
}
