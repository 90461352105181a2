use ringfleet_abi::{NodeId, SessionId, SetId, ShardIndex};

use super::*;
use crate::control::view::{DeviceView, MemberView, SetState, SetView, ShardState, ShardView};
use crate::control::{Durability, FailureView, Keys, NodeView};
use crate::limits::EGRESS_RESERVE;
use crate::wire::{Frame, RunHeader, decode};

const A: Incarnation = Incarnation(1);
const B: Incarnation = Incarnation(2);

fn shard(index: u16) -> ShardId {
    ShardId::new(SetId(1), ShardIndex(index))
}

/// A view in which every shard of set 1 is at `owner` with `epoch`.
fn view(index: u64, owner: Incarnation, epoch: u64, members: &[Incarnation]) -> NodeView {
    let member = |incarnation: &Incarnation| MemberView {
        node: incarnation.0 as u32,
        name: "n".into(),
        incarnation: incarnation.0,
        data_addr: String::new(),
        http_addr: String::new(),
        devices: vec![DeviceView::joined(1, 1)],
    };
    let set = SetView {
        set: 1,
        name: "s".into(),
        tag: 1,
        actor_type: "t".into(),
        code_hash: 0,
        layout_hash: 0,
        keys: Keys::Hashed,
        shards: 2,
        failures: FailureView::default(),
        durability: Durability::Volatile,
        tenant: "default".into(),
        state: SetState::Active,
    };
    let shards = (0..2)
        .map(|at| ShardView {
            set: 1,
            index: at,
            state: ShardState::Resident,
            device: 0,
            worker: 0,
            node: owner.0 as u32,
            incarnation: owner.0,
            epoch,
            since_index: index,
        })
        .collect();
    NodeView { index, coordinators: vec![], members: members.iter().map(member).collect(), sets: vec![set], shards }
}

fn at_ms(ms: u64) -> Now {
    Now::new(ms * NS_PER_MS, ms)
}

fn message(key: u64) -> Envelope {
    Envelope { to_key: key, kind: 1, ..Envelope::default() }
}

fn client(config: OutboundConfig) -> Outbound {
    let mut outbound = Outbound::new(Source::Client(SessionId(1)), config);
    outbound.handle_view(at_ms(0), &view(10, A, 1, &[A, B]));
    outbound.peer_up(at_ms(0), A);
    outbound
}

fn send(outbound: &mut Outbound, count: u64) {
    for key in 0..count {
        outbound.enqueue(shard(0), &message(key)).expect("room");
    }
}

/// All runs that may be sent now: peer, header, keys.
fn sent(outbound: &mut Outbound) -> Vec<(Incarnation, RunHeader, Vec<u64>)> {
    let mut all = Vec::new();
    let mut frame = Vec::new();
    while let Some(peer) = outbound.poll_frame(0, &mut frame) {
        let Ok(Frame::Deliver(deliver)) = decode(&frame) else { panic!("a deliver frame") };
        for run in deliver.runs() {
            all.push((peer, run.header, run.envelopes(0).map(|envelope| envelope.to_key).collect()));
        }
        frame.clear();
    }
    all
}

fn events(outbound: &mut Outbound) -> Vec<OutboundEvent> {
    std::iter::from_fn(|| outbound.poll_event()).collect()
}

fn ack(accepted_through: u64, handled_through: u64) -> Answer {
    Answer::Ack { shard: shard(0), generation: 1, accepted_through, handled_through }
}

fn busy(attempt: u32, at: u64) -> Answer {
    Answer::Busy { shard: shard(0), generation: 1, attempt, at, certain: true }
}

#[test]
fn messages_of_many_shards_share_a_frame() {
    let mut outbound = client(OutboundConfig::default());
    for key in 0..100 {
        outbound.enqueue(shard((key % 2) as u16), &message(key)).expect("room");
    }
    let mut frame = Vec::new();
    assert_eq!(outbound.poll_frame(0, &mut frame), Some(A));
    let Ok(Frame::Deliver(deliver)) = decode(&frame) else { panic!("a deliver frame") };
    assert_eq!(deliver.runs().map(|run| run.header.count).collect::<Vec<_>>(), [50, 50]);
}

#[test]
fn a_new_link_gets_everything_unhandled_again_with_its_sequences() {
    let mut outbound = client(OutboundConfig::default());
    send(&mut outbound, 10);
    assert_eq!(sent(&mut outbound)[0].1.first_seq, 1);
    outbound.handle_answer(at_ms(1), A, &ack(6, 4));
    assert_eq!(events(&mut outbound), [OutboundEvent::Handled { shard: shard(0), count: 4 }]);
    outbound.peer_down(A);
    assert!(sent(&mut outbound).is_empty());
    outbound.peer_up(at_ms(2), A);
    let again = sent(&mut outbound);
    assert_eq!((again[0].1.first_seq, again[0].1.attempt, again[0].2.clone()), (5, 2, vec![4, 5, 6, 7, 8, 9]));
}

#[test]
fn busy_pauses_the_channel_and_repeats_from_there_with_growing_pauses() {
    let mut outbound = client(OutboundConfig::default());
    send(&mut outbound, 10);
    sent(&mut outbound);
    outbound.handle_answer(at_ms(1), A, &busy(1, 4));
    outbound.handle_answer(at_ms(1), A, &busy(1, 4));
    assert_eq!(events(&mut outbound), [OutboundEvent::Busy { shard: shard(0), index: 3 }], "a late one says nothing");
    send(&mut outbound, 1);
    assert!(sent(&mut outbound).is_empty(), "nothing of the channel is sent in between");
    assert_eq!(outbound.poll_timeout(), Some(6 * NS_PER_MS));
    outbound.handle_timeout(at_ms(6));
    let again = sent(&mut outbound);
    assert_eq!((again[0].1.first_seq, again[0].1.attempt), (4, 2));
    outbound.handle_answer(at_ms(7), A, &busy(2, 4));
    assert_eq!(outbound.poll_timeout(), Some(17 * NS_PER_MS), "10 ms now");
}

#[test]
fn only_what_was_provably_not_executed_is_taken_back() {
    let mut outbound = client(OutboundConfig::default());
    send(&mut outbound, 10);
    sent(&mut outbound);
    send(&mut outbound, 2);
    assert_eq!(outbound.give_up(shard(0), 5), Err(GiveUpError::MaybeExecuted));
    assert_eq!(outbound.give_up(shard(0), 11).map(|envelope| envelope.to_key), Ok(1), "never sent");
    outbound.handle_answer(at_ms(1), A, &busy(1, 4));
    assert_eq!(outbound.give_up(shard(0), 2), Err(GiveUpError::MaybeExecuted));
    assert_eq!(outbound.give_up(shard(0), 3).map(|envelope| envelope.to_key), Ok(3), "refused");
    outbound.handle_timeout(at_ms(100));
    let again = sent(&mut outbound);
    assert_eq!((again[0].1.first_seq, again[0].2.clone()), (4, vec![4, 5, 6, 7, 8, 9, 0]), "later ones move up");
    assert_eq!(outbound.give_up(shard(0), 3), Err(GiveUpError::MaybeExecuted), "sent again");
}

#[test]
fn a_link_that_breaks_after_busy_makes_nothing_provable_that_was_sent_since() {
    let mut outbound = client(OutboundConfig::default());
    send(&mut outbound, 10);
    sent(&mut outbound);
    outbound.handle_answer(at_ms(1), A, &busy(1, 4));
    outbound.handle_timeout(at_ms(100));
    sent(&mut outbound);
    outbound.peer_down(A);
    outbound.peer_up(at_ms(101), A);
    outbound.handle_answer(at_ms(102), A, &busy(2, 4));
    assert_eq!(outbound.give_up(shard(0), 4), Err(GiveUpError::MaybeExecuted), "the refusal was of an earlier attempt");
}

#[test]
fn moved_waits_for_a_younger_view_and_keeps_what_was_not_executed() {
    let mut outbound = client(OutboundConfig::default());
    outbound.peer_up(at_ms(0), B);
    send(&mut outbound, 10);
    sent(&mut outbound);
    outbound.handle_answer(at_ms(1), A, &ack(3, 3));
    let moved = Answer::Moved {
        shard: shard(0),
        generation: 1,
        attempt: 1,
        at: 6,
        certain: true,
        epoch: Epoch(2),
        hint: NodeId(2),
    };
    outbound.handle_answer(at_ms(1), A, &moved);
    assert!(sent(&mut outbound).is_empty());
    events(&mut outbound);
    outbound.handle_view(at_ms(2), &view(11, B, 2, &[A, B]));
    // 4 and 5 may have been executed by A, whose acknowledgement did not come; 6 to 10 were not.
    let lost = events(&mut outbound);
    let [OutboundEvent::Lost { after_seq: 3, reason: LostReason::ShardRestarted, messages, .. }] = &lost[..] else {
        panic!("{lost:?}")
    };
    assert_eq!(messages.iter().map(|envelope| envelope.to_key).collect::<Vec<_>>(), [3, 4]);
    let again = sent(&mut outbound);
    assert_eq!((again[0].0, again[0].1.generation, again[0].1.first_seq, again[0].1.epoch), (B, 2, 1, Epoch(2)));
    assert_eq!(again[0].2, [5, 6, 7, 8, 9]);
}

#[test]
fn a_lost_node_takes_what_was_sent_and_nothing_else() {
    let mut outbound = client(OutboundConfig::default());
    send(&mut outbound, 4);
    sent(&mut outbound);
    outbound.handle_answer(at_ms(1), A, &ack(2, 1));
    outbound.peer_down(A);
    send(&mut outbound, 3);
    events(&mut outbound);
    outbound.handle_view(at_ms(5), &view(12, B, 2, &[B]));
    let lost = events(&mut outbound);
    let [OutboundEvent::Lost { after_seq: 1, reason: LostReason::NodeLost, messages, .. }] = &lost[..] else {
        panic!("{lost:?}")
    };
    assert_eq!(messages.len(), 3);
    outbound.peer_up(at_ms(6), B);
    assert_eq!(sent(&mut outbound)[0].2, [0, 1, 2], "never sent before");
}

#[test]
fn a_receiver_that_forgot_the_channel_ends_its_generation() {
    let mut outbound = client(OutboundConfig::default());
    send(&mut outbound, 3);
    sent(&mut outbound);
    outbound.handle_answer(at_ms(1), A, &ack(3, 3));
    send(&mut outbound, 2);
    sent(&mut outbound);
    events(&mut outbound);
    let lost = Answer::ChannelLost {
        shard: shard(0),
        generation: 1,
        attempt: 1,
        after_seq: 3,
        generation_floor: 7,
        reason: LostReason::SessionExpired,
    };
    outbound.handle_answer(at_ms(2), A, &lost);
    let told = events(&mut outbound);
    assert!(
        matches!(&told[..], [OutboundEvent::Lost { generation: 1, after_seq: 3, messages, .. }] if messages.is_empty()),
        "{told:?}"
    );
    outbound.handle_timeout(at_ms(20));
    let again = sent(&mut outbound);
    assert_eq!((again[0].1.generation, again[0].1.first_seq, again[0].2.clone()), (8, 1, vec![0, 1]));
}

#[test]
fn a_deleted_set_takes_everything_with_it() {
    let mut outbound = client(OutboundConfig::default());
    send(&mut outbound, 3);
    let mut gone = view(11, A, 1, &[A, B]);
    gone.sets.clear();
    gone.shards.clear();
    outbound.handle_view(at_ms(1), &gone);
    let told = events(&mut outbound);
    assert!(
        matches!(&told[..], [OutboundEvent::Lost { reason: LostReason::SetDeleted, messages, .. }] if messages.len() == 3),
        "{told:?}"
    );
    assert_eq!(outbound.enqueue(shard(0), &message(1)), Err(EnqueueError::NoSuchShard));
    assert_eq!(outbound.stats().queued_now, 0);
}

#[test]
fn every_bound_is_kept() {
    let config = OutboundConfig { channel_max: 5, peer_max: 8, total_max: 100, peer_window: 3 };
    let mut outbound = client(config);
    send(&mut outbound, 5);
    assert_eq!(outbound.enqueue(shard(0), &message(9)), Err(EnqueueError::NoRoom));
    assert_eq!((outbound.room(shard(0)), outbound.room(shard(1))), (0, 3));
    for key in 0..3 {
        outbound.enqueue(shard(1), &message(key)).expect("room at the peer");
    }
    assert_eq!(outbound.enqueue(shard(1), &message(9)), Err(EnqueueError::NoRoom));
    let first: usize = sent(&mut outbound).iter().map(|(_, _, keys)| keys.len()).sum();
    assert_eq!(first, 3, "the window");
    outbound.handle_answer(at_ms(1), A, &ack(2, 0));
    let second: usize = sent(&mut outbound).iter().map(|(_, _, keys)| keys.len()).sum();
    assert_eq!(second, 2);
}

#[test]
fn egress_stops_at_a_bound_and_flows_again_when_the_bound_stays() {
    let config = OutboundConfig { channel_max: 4, peer_max: 100, total_max: 100, peer_window: 100 };
    let mut outbound = client(config);
    assert_eq!(outbound.can_take_egress(at_ms(1)), EGRESS_RESERVE);
    outbound.set_now(at_ms(1));
    for key in 0..6 {
        outbound.enqueue_egress(shard(0), &message(key)).expect("the reserve takes it");
    }
    assert_eq!(outbound.can_take_egress(at_ms(50)), 0);
    outbound.set_now(at_ms(101));
    assert_eq!(outbound.can_take_egress(at_ms(101)), EGRESS_RESERVE);
    assert_eq!(outbound.enqueue_egress(shard(0), &message(9)), Err(EnqueueError::NoRoom), "overloaded");
    outbound.enqueue_egress(shard(1), &message(9)).expect("others are not concerned");
    outbound.handle_timeout(at_ms(UNDELIVERABLE_AFTER_MS + 1));
    assert_eq!(outbound.stats().lost[LostReason::Undeliverable as usize], 6);
    assert_eq!(outbound.stats().queued_now, 1);
}

#[test]
fn messages_that_a_peer_took_and_gave_back_are_sent_again() {
    let mut outbound = client(OutboundConfig::default());
    send(&mut outbound, 10);
    sent(&mut outbound);
    outbound.handle_answer(at_ms(1), A, &ack(10, 2));
    // Its device refused 6; the refusal was lost to a change of attempts, the acknowledgement shows it.
    outbound.handle_answer(at_ms(2), A, &ack(5, 5));
    let again = sent(&mut outbound);
    assert_eq!((again[0].1.first_seq, again[0].1.attempt), (6, 2));
    assert_eq!(outbound.give_up(shard(0), 0), Err(GiveUpError::MaybeExecuted), "no proof without a refusal");
}
