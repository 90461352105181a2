use ringfleet_abi::{Epoch, SessionId, SetId, ShardIndex};

use super::*;

const LINK: LinkId = LinkId(1);

fn shard() -> ShardId {
    ShardId::new(SetId(1), ShardIndex(0))
}

fn run(generation: u32, attempt: u32, first_seq: u64, count: u32) -> RunHeader {
    RunHeader { shard: shard(), count, generation, attempt, epoch: Epoch(1), first_seq }
}

fn client(inbound: &mut Inbound, session: u32, now_ns: u64) -> u32 {
    inbound.source(Source::Client(SessionId(session)), LINK, now_ns).expect("room")
}

fn answers(inbound: &mut Inbound) -> Vec<Answer> {
    let mut all = Vec::new();
    let mut some = Vec::new();
    while inbound.poll_answers(100, &mut some).is_some() {
        all.append(&mut some);
    }
    all
}

/// Admits and accepts; returns how many were new.
fn take(inbound: &mut Inbound, source: u32, run: &RunHeader) -> u32 {
    match inbound.admit(source, run) {
        Admission::Take { filter, skip } => {
            inbound.accept(filter, run.count - skip);
            run.count - skip
        }
        Admission::Done { .. } => 0,
    }
}

fn filter_of(inbound: &mut Inbound, source: u32, run: &RunHeader) -> FilterId {
    match inbound.admit(source, run) {
        Admission::Take { filter, .. } => filter,
        Admission::Done { .. } => panic!("nothing new in {run:?}"),
    }
}

#[test]
fn duplicates_are_skipped_and_acknowledged_again() {
    let mut inbound = Inbound::new(InboundConfig::default());
    let source = client(&mut inbound, 1, 0);
    assert_eq!(take(&mut inbound, source, &run(1, 1, 1, 10)), 10);
    answers(&mut inbound);
    assert_eq!(take(&mut inbound, source, &run(1, 2, 1, 10)), 0);
    let ack = Answer::Ack { shard: shard(), generation: 1, accepted_through: 10, handled_through: 0 };
    assert_eq!(answers(&mut inbound), [ack]);
    assert_eq!(take(&mut inbound, source, &run(1, 2, 6, 10)), 5, "6 to 10 were there");
    assert_eq!(inbound.stats().duplicates, 15);
}

#[test]
fn a_gap_is_refused_at_the_next_sequence_once_per_attempt() {
    let mut inbound = Inbound::new(InboundConfig::default());
    let source = client(&mut inbound, 1, 0);
    take(&mut inbound, source, &run(1, 1, 1, 3));
    answers(&mut inbound);
    assert_eq!(take(&mut inbound, source, &run(1, 1, 5, 3)), 0);
    assert_eq!(take(&mut inbound, source, &run(1, 1, 8, 3)), 0);
    let busy = |attempt| Answer::Busy { shard: shard(), generation: 1, attempt, at: 4, certain: true };
    assert_eq!(answers(&mut inbound)[0], busy(1));
    assert_eq!(inbound.stats().busy_answers, 1);
    assert_eq!(take(&mut inbound, source, &run(1, 2, 5, 3)), 0);
    assert_eq!(answers(&mut inbound)[0], busy(2));
    assert_eq!(take(&mut inbound, source, &run(1, 3, 4, 3)), 3);
}

#[test]
fn only_sequence_one_begins_a_channel() {
    let mut inbound = Inbound::new(InboundConfig::default());
    let source = client(&mut inbound, 1, 0);
    assert_eq!(take(&mut inbound, source, &run(1, 1, 4, 1)), 0);
    let lost = answers(&mut inbound);
    assert!(
        matches!(lost[..], [Answer::ChannelLost { after_seq: 3, reason: LostReason::ShardRestarted, .. }]),
        "{lost:?}"
    );
    assert_eq!(take(&mut inbound, source, &run(2, 2, 1, 1)), 1);
    assert_eq!(take(&mut inbound, source, &run(1, 1, 1, 1)), 0, "an older generation is over");
    assert_eq!(take(&mut inbound, source, &run(3, 1, 1, 2)), 2, "a newer one begins anew");
}

#[test]
fn what_a_device_refuses_goes_back_and_is_not_acknowledged() {
    let mut inbound = Inbound::new(InboundConfig::default());
    let source = client(&mut inbound, 1, 0);
    let filter = filter_of(&mut inbound, source, &run(1, 1, 1, 10));
    inbound.accept(filter, 10);
    assert!(inbound.take_back(filter, 6));
    assert!(!inbound.take_back(filter, 8), "8 went back with 6");
    assert_eq!(inbound.done(source, filter, 10, 10), 5, "1 to 5 count as handled");
    let ack = Answer::Ack { shard: shard(), generation: 1, accepted_through: 5, handled_through: 5 };
    assert_eq!(answers(&mut inbound), [ack]);
    assert_eq!(take(&mut inbound, source, &run(1, 1, 8, 3)), 0, "nothing overtakes 6");
    assert_eq!(take(&mut inbound, source, &run(1, 2, 6, 5)), 5);
}

#[test]
fn an_expired_session_is_told_so_and_begins_no_fresh_channel() {
    let config = InboundConfig { session_idle_ms: 10, ..InboundConfig::default() };
    let mut inbound = Inbound::new(config);
    let source = client(&mut inbound, 7, 0);
    let filter = filter_of(&mut inbound, source, &run(2, 1, 1, 1));
    inbound.accept(filter, 1);
    inbound.expire(50 * NS_PER_MS);
    assert_eq!(inbound.sizes().0, 1, "a message is still in a worker");
    inbound.done(source, filter, 1, 1);
    inbound.expire(100 * NS_PER_MS);
    assert_eq!(inbound.sizes(), (0, 0));
    let source = client(&mut inbound, 7, 101 * NS_PER_MS);
    answers(&mut inbound);
    for first in [1, 2] {
        assert_eq!(take(&mut inbound, source, &run(2, 1, first, 1)), 0);
        let lost = answers(&mut inbound);
        assert!(
            matches!(lost[..], [Answer::ChannelLost { generation_floor: 2, reason: LostReason::SessionExpired, .. }]),
            "{lost:?}"
        );
    }
    assert_eq!(take(&mut inbound, source, &run(3, 1, 1, 1)), 1);
}

#[test]
fn forgotten_tombstones_are_covered_by_a_floor() {
    let config = InboundConfig { session_idle_ms: 1, tombstones_max: 2, ..InboundConfig::default() };
    let mut inbound = Inbound::new(config);
    for session in 1..=5 {
        let now_ns = u64::from(session) * 10 * NS_PER_MS;
        let source = client(&mut inbound, session, now_ns);
        let filter = filter_of(&mut inbound, source, &run(session, 1, 1, 1));
        inbound.accept(filter, 1);
        inbound.done(source, filter, 1, 1);
        inbound.expire(now_ns + 5 * NS_PER_MS);
    }
    for session in 1..=5 {
        let source = client(&mut inbound, session, NS_PER_MS * 1000);
        assert_eq!(take(&mut inbound, source, &run(session, 2, 1, 1)), 0, "session {session}");
    }
    assert_eq!(inbound.stats().channel_lost_answers, 5);
    let source = client(&mut inbound, 6, NS_PER_MS * 1000);
    assert_eq!(take(&mut inbound, source, &run(1, 1, 1, 1)), 1, "a younger session is not affected");
}

#[test]
fn at_its_bounds_the_agent_is_busy() {
    let config = InboundConfig { sources_max: 1, filters_max: 0, ..InboundConfig::default() };
    let mut inbound = Inbound::new(config);
    let source = client(&mut inbound, 1, 0);
    assert!(inbound.source(Source::Client(SessionId(2)), LINK, 0).is_none());
    assert_eq!(take(&mut inbound, source, &run(1, 1, 1, 1)), 0);
    assert_eq!(
        answers(&mut inbound),
        [Answer::Busy { shard: shard(), generation: 1, attempt: 1, at: 1, certain: false }]
    );
}

#[test]
fn the_last_acknowledgement_of_a_leaving_shard_is_sent_before_what_follows() {
    let mut inbound = Inbound::new(InboundConfig::default());
    let source = client(&mut inbound, 1, 0);
    let filter = filter_of(&mut inbound, source, &run(1, 1, 1, 4));
    inbound.accept(filter, 4);
    inbound.done(source, filter, 4, 4);
    inbound.forget_shard(shard());
    inbound.queue(source, busy(&run(1, 1, 5, 1), 5, false));
    let ack = Answer::Ack { shard: shard(), generation: 1, accepted_through: 4, handled_through: 4 };
    assert_eq!(
        answers(&mut inbound),
        [ack, Answer::Busy { shard: shard(), generation: 1, attempt: 1, at: 5, certain: false }]
    );
}
