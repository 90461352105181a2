use crate::leases::{LeaseTable, MARGIN_MS, Renewal};

const MS: u64 = 1_000_000;

#[test]
fn a_member_is_doomed_a_lease_and_its_margin_after_the_last_grant() {
    let mut table = LeaseTable::elected(3000, 0, [1, 2].into_iter());
    let patience = (3000 + 300 + MARGIN_MS) * MS;
    assert!(table.grant(1, 1000 * MS, Renewal::default()));
    assert_eq!(table.doom(patience), [] as [u64; 0]);
    assert_eq!(table.doom(patience + 1), [2]);
    assert!(!table.grant(2, patience + 2, Renewal::default()), "no grant overlaps the record");
    assert_eq!(table.doom(patience + 3), [2], "until the state has it");
    table.follow(patience + 4, [1].into_iter());
    assert_eq!(table.doom(patience + 5), [] as [u64; 0]);
    assert_eq!(table.doom(1000 * MS + patience), [] as [u64; 0]);
    assert_eq!(table.doom(1000 * MS + patience + 1), [1]);
}

#[test]
fn a_new_leader_counts_every_lease_as_renewed_at_its_election() {
    let mut old = LeaseTable::elected(3000, 0, [1].into_iter());
    let late = 3000 * MS;
    assert!(old.grant(1, 10, Renewal::default()));
    let mut new = LeaseTable::elected(3000, late, [1].into_iter());
    assert_eq!(old.doom(late + 2000 * MS), [1]);
    assert_eq!(new.doom(late + 2000 * MS), [] as [u64; 0]);
}

#[test]
fn a_grant_is_counted_from_the_receipt_and_never_goes_back() {
    let mut table = LeaseTable::elected(3000, 500, [1].into_iter());
    assert!(table.grant(1, 100, Renewal { applied_index: 9, ..Renewal::default() }));
    assert_eq!(table.node(1).unwrap().renewed_ns, 500);
    assert!(table.grant(1, 700, Renewal { applied_index: 4, ..Renewal::default() }));
    assert_eq!((table.node(1).unwrap().renewed_ns, table.node(1).unwrap().applied_index), (700, 9));
    assert!(!table.grant(7, 900, Renewal::default()), "who is not alive gets nothing");
}

/// Found by stopping all coordinators for 6 s: the leader that went on declared every node lost for its own silence.
#[test]
fn time_in_which_the_leader_was_out_of_touch_does_not_count() {
    let patience = (3000 + 300 + MARGIN_MS) * MS;
    let mut table = LeaseTable::elected(3000, 0, [1, 2].into_iter());
    assert!(table.grant(1, 1000 * MS, Renewal::default()));
    let (gap, now) = (6000 * MS, 7000 * MS);
    let mut counted = table.clone();
    table.skip(gap, now);
    assert_eq!(table.doom(now), [] as [u64; 0]);
    assert_eq!(counted.doom(now), [1, 2], "contrast: without it both were lost");
    assert_eq!(table.node(1).unwrap().renewed_ns, now, "never later than now");
    assert_eq!(table.doom(gap + patience), [] as [u64; 0]);
    assert_eq!(table.doom(gap + patience + 1), [2], "what was left before the gap is left after it");
}
