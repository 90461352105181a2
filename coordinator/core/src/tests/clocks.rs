use super::helpers::*;
use crate::clocks::{ClockTable, Judgement, VOICE_FRESH_MS};
use crate::{CommandBody, LeaseTable, Outcome};
use proptest::prelude::*;
use ringfleet_proto::control::ClockSample;
use ringfleet_proto::control::limits::{CLOCK_OFFSET_MS_MAX, CLOCK_STRIKES};

fn sample(number: u64, offset_ms: i64, error_ms: u32) -> ClockSample {
    ClockSample { coordinator: 1, number, offset_ms, error_ms }
}

/// A leader that has heard two other coordinators, whose clocks are as the third says of its own.
fn table(others: [i64; 2]) -> ClockTable {
    let mut table = ClockTable::default();
    for (at, offset) in others.into_iter().enumerate() {
        table.hear_coordinator(at as u64, sample(1, offset, 1), 0);
    }
    table
}

fn quarantine(incarnation: u64, offset_ms: i64) -> Judgement {
    Judgement::Quarantine { incarnation, offset_ms }
}

#[test]
fn a_node_is_quarantined_after_three_measurements_in_a_row_and_let_go_after_three() {
    let mut table = table([0, 0]);
    let mut number = 0;
    let mut hear = |table: &mut ClockTable, offset: i64| {
        number += 1;
        table.hear_node(7, sample(number, offset, 3), 0);
    };
    for offset in [312, 312] {
        hear(&mut table, offset);
        assert_eq!(table.judge(0, |_| false), []);
    }
    hear(&mut table, 2);
    hear(&mut table, 312);
    hear(&mut table, 312);
    assert_eq!(table.judge(0, |_| false), [], "one good one in between: it begins anew");
    hear(&mut table, 312);
    assert_eq!(table.judge(0, |_| false), [quarantine(7, 312)]);
    assert_eq!(table.judge(0, |_| true), [], "the log has it");
    for offset in [60, 60, 60, 0, 0] {
        hear(&mut table, offset);
        assert_eq!(table.judge(0, |_| true), [], "the way back is longer than the way in, so that nothing flaps");
    }
    hear(&mut table, -3);
    assert_eq!(table.judge(0, |_| true), [Judgement::LetGo { incarnation: 7 }]);
}

#[test]
fn a_measurement_counts_once_and_its_error_is_for_the_node() {
    let mut table = table([0, 0]);
    for _ in 0..5 {
        table.hear_node(7, sample(1, 312, 3), 0);
    }
    assert_eq!(table.judge(0, |_| false), []);
    for number in 2..20 {
        table.hear_node(7, sample(number, 312, 212), 0);
    }
    assert_eq!(table.judge(0, |_| false), [], "312 give or take 212 may be 100");
    for number in 20..20 + u64::from(CLOCK_STRIKES) {
        table.hear_node(7, sample(number, 313, 212), 0);
    }
    assert_eq!(table.judge(0, |_| false), [quarantine(7, 313)]);
}

#[test]
fn a_leader_whose_clock_is_wrong_quarantines_nobody_and_reports_itself() {
    let mut table = table([-400, -401]);
    for number in 1..9 {
        table.hear_node(7, sample(number, -399, 1), 0);
    }
    assert_eq!(table.judge(0, |_| false), []);
    assert_eq!(table.own_offset_ms(0), Some(400));
    assert_eq!(table.of(7, 0).offset_ms, 1);
    assert_eq!(table.admit(sample(1, -400, 1), 0), Ok(()));
    let refused = table.admit(sample(1, 0, 1), 0).unwrap_err();
    assert_eq!(refused.to_string(), "400 ms (give or take 1) ahead of the cluster's");
}

#[test]
fn where_nobody_knows_the_time_nobody_is_judged() {
    let mut lonely = ClockTable::default();
    let mut divided = table([0, 500]);
    let mut stale = table([0, 0]);
    for number in 1..9 {
        lonely.hear_node(7, sample(number, 312, 1), 0);
        divided.hear_node(7, sample(number, 500, 1), 0);
        stale.hear_node(7, sample(number, 312, 1), (VOICE_FRESH_MS + 1) * 1_000_000);
    }
    for (table, now_ns) in [(&lonely, 0), (&divided, 0), (&stale, (VOICE_FRESH_MS + 1) * 1_000_000)] {
        assert_eq!((table.median_ms(now_ns), table.judge(now_ns, |_| false)), (None, vec![]));
        assert_eq!(table.admit(sample(1, 9_999, 1), now_ns), Ok(()));
    }
}

#[test]
fn a_quarantined_node_keeps_what_it_has_and_gets_nothing_new() {
    let mut cluster = Cluster::new();
    let (good, wrong) = (cluster.join("n1", &[1]), cluster.join("n2", &[1]));
    let first = cluster.create(document("a", TYPES[0], 4));
    let set = |offset_ms| CommandBody::Quarantine { incarnation: wrong, offset_ms };
    assert_eq!(cluster.plain(set(Some(312))), Outcome::Done);
    assert_eq!(cluster.counts(first).len(), 2, "its shards are where they were");
    let second = cluster.create(document("b", TYPES[0], 4));
    assert_eq!(cluster.counts(second).len(), 1, "no new shard");
    assert_eq!(cluster.state.live(ringfleet_abi::Incarnation(wrong)).unwrap().quarantine_ms, Some(312));
    let table = LeaseTable::elected(3000, 0, [good, wrong].into_iter());
    let infos = cluster.state.node_infos(&crate::query::Liveness { leases: &table, now_ns: 0 });
    assert_eq!(infos.iter().map(|info| info.quarantined).collect::<Vec<_>>(), [false, true]);
    cluster.lose(good);
    assert_eq!(cluster.counts(first).values().sum::<u32>(), 2, "what was lost beside it waits");
    cluster.plain(set(None));
    assert_eq!(cluster.counts(first).values().sum::<u32>(), 4, "and comes when it is let go");
    assert_eq!(cluster.plain(set(Some(1))), Outcome::Done);
    cluster.lose(wrong);
    cluster.join("n2", &[1]);
    assert_eq!(cluster.counts(second).values().sum::<u32>(), 4, "a new start begins without it");
    assert_eq!(cluster.plain(set(Some(1))), Outcome::Done, "of an incarnation that is gone: nothing");
}

proptest! {
    /// Whatever a minority of clocks shows, nobody of the majority is quarantined, and everybody far off is.
    #[test]
    fn a_minority_of_wrong_clocks_convicts_nobody_else(
        good in prop::collection::vec(-40i64..40, 3..8),
        bad in prop::collection::vec(prop_oneof![-5_000i64..-300, 300i64..5_000], 0..2),
        errors in prop::collection::vec(1u32..20, 10),
        leader_is_bad: bool,
    ) {
        let mut all: Vec<i64> = bad.iter().chain(&good).copied().collect();
        if !leader_is_bad {
            all.reverse();
        }
        let leader = all[0];
        let mut table = ClockTable::default();
        for number in 1..=u64::from(CLOCK_STRIKES) + all.len() as u64 {
            for (at, clock) in all.iter().enumerate().skip(1) {
                table.hear_node(at as u64, sample(number, clock - leader, errors[at]), 0);
            }
        }
        for judgement in table.judge(0, |_| false) {
            let Judgement::Quarantine { incarnation, .. } = judgement else { panic!("{judgement:?}") };
            prop_assert!(bad.contains(&all[incarnation as usize]), "{judgement:?} of {all:?}");
        }
        let convicted = table.judge(0, |_| false).len();
        prop_assert_eq!(convicted, all[1..].iter().filter(|clock| bad.contains(clock)).count());
        let own = table.own_offset_ms(0).unwrap();
        prop_assert_eq!(own.abs() > i64::from(CLOCK_OFFSET_MS_MAX), bad.contains(&leader));
    }
}

/// Found by the random histories: with no worker left to give shards to, scaling down asked for no release at all.
#[test]
fn a_set_on_quarantined_nodes_alone_is_scaled_down_like_any_other() {
    let mut cluster = Cluster::new();
    let wrong = cluster.join("n1", &[2]);
    let set = cluster.create(document("a", TYPES[0], 4));
    cluster.plain(CommandBody::Quarantine { incarnation: wrong, offset_ms: Some(-500) });
    cluster.scale("a", 1, true);
    cluster.release_all();
    assert_eq!(cluster.counts(set).values().copied().collect::<Vec<_>>(), [2], "what it may keep; the others wait");
    cluster.plain(CommandBody::Quarantine { incarnation: wrong, offset_ms: None });
    assert_balanced(&cluster.counts(set), 1, 4);
}

/// A leader whose clock had been 8 s off for a while, and was set right, once took every node that wanted to join for 8 s off.
#[test]
fn a_leader_whose_clock_is_set_takes_no_right_clock_for_a_wrong_one() {
    const SET_BY_MS: u64 = 8_000;
    let (now_ns, before_ms) = (5_000_000_000, 1_700_000_000_000);
    for looks in [true, false] {
        let mut clocks = table([0, 0]);
        clocks.look_at_own(before_ms, 0);
        clocks.hear_node(7, sample(1, 0, 1), 0);
        if looks {
            clocks.look_at_own(before_ms + 5_000 + SET_BY_MS, now_ns);
        }
        // Measured against the new time: right clocks are behind by as much.
        let joins = clocks.admit(sample(1, -(SET_BY_MS as i64), 1), now_ns);
        assert_eq!(joins.is_ok(), looks, "{joins:?}");
        for number in 2..10 {
            clocks.hear_node(7, sample(number, -(SET_BY_MS as i64), 1), now_ns);
        }
        assert_eq!(clocks.judge(now_ns, |_| false).is_empty(), looks);
        if looks {
            assert_eq!(clocks.own_offset_ms(now_ns), Some(SET_BY_MS as i64), "the leader's is");
            assert!(clocks.admit(sample(1, 0, 1), now_ns).is_err(), "who agrees with it is wrong");
        }
    }
}

/// Two clocks that are read one behind the other, in whole milliseconds, once moved all that was measured by one.
#[test]
fn a_leader_whose_clocks_are_read_a_moment_apart_was_not_set() {
    let mut clocks = table([0, 0]);
    clocks.look_at_own(1_700_000_000_000, 0);
    clocks.hear_node(7, sample(1, 3, 1), 0);
    for (wall_ms, now_ns) in [(1_700_000_000_101, 100_000_000), (1_700_000_000_199, 200_000_000)] {
        clocks.look_at_own(wall_ms, now_ns);
        assert_eq!((clocks.own_offset_ms(now_ns), clocks.of(7, now_ns).offset_ms), (Some(0), 3));
    }
}
