//! Raft's own (C1): one leader a term, one history of states, and a leader that knows everything that was ever applied.
//!
//! * election safety: two coordinators never lead in one term;
//! * state machine safety: what one coordinator has at an applied index, every other one has there, too. As a state is made by
//!   the records up to its index, this also says that the logs match as far as they are committed;
//! * leader completeness: a coordinator that has taken over, by a confirmed read in its term, has applied whatever any
//!   coordinator had applied when that term's leader was first seen;
//! * what holds in each state and from one state to the next (`ringfleet_coordinator_core`'s own list);
//! * in one life a coordinator's term and applied index never go back.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringfleet_coordinator_core::ClusterState;

use super::Violation;
use crate::exec::HostId;
use crate::lanes;

/// Applied indices whose state's digest is remembered.
const REMEMBERED: usize = 4096;
/// Applied indices whose state itself is remembered: of a coordinator that is no further behind only equality is looked at.
const STATES: usize = 128;
/// Of sessions and remembered operations so many of the youngest are compared after every record; all of them in [`Raft::see_whole`].
const YOUNGEST: usize = 32;

/// One coordinator at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which coordinator.
    pub host: HostId,
    /// Which start of it.
    pub start: u64,
    /// Its term.
    pub term: u64,
    /// Whether it leads.
    pub leads: bool,
    /// Whether it has taken over: confirmed its leadership and begun to keep leases.
    pub in_charge: bool,
    /// Its applied index.
    pub applied: u64,
    /// The digest of its state.
    pub digest: u64,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Raft {
    leaders: BTreeMap<u64, (HostId, u64)>,
    /// What was applied anywhere when the leader of a term was first seen.
    applied_at_election: BTreeMap<u64, u64>,
    digests: BTreeMap<u64, u64>,
    applied_anywhere: u64,
    last: BTreeMap<HostId, Seen>,
    states: BTreeMap<HostId, (u64, Arc<ClusterState>)>,
    /// The last states, as they were first seen at their index, checked, with their digests; without what is older than [`YOUNGEST`].
    recent: BTreeMap<u64, (Arc<ClusterState>, u64)>,
    /// Digests of whole states.
    wholes: BTreeMap<u64, u64>,
}

/// A state that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its digest.
    pub digest: u64,
    /// Whether no coordinator was seen with it before.
    pub is_new: bool,
}

/// The digest of a state.
#[must_use]
pub fn digest(state: &ClusterState) -> u64 {
    state.to_snapshot().map_or(0, |bytes| lanes::digest(&bytes))
}

impl Raft {
    /// Terms that had a leader.
    #[must_use]
    pub fn terms(&self) -> usize {
        self.leaders.len()
    }

    /// The largest index applied anywhere.
    #[must_use]
    pub fn applied_anywhere(&self) -> u64 {
        self.applied_anywhere
    }

    /// The digest of a coordinator's state at this index, if it was seen in this life.
    #[must_use]
    pub fn known(&self, host: HostId, start: u64, applied: u64) -> Option<u64> {
        let last = self.last.get(&host)?;
        (last.start == start && last.applied == applied).then_some(last.digest)
    }

    /// Looks at one coordinator.
    ///
    /// # Errors
    /// What broke.
    pub fn see(&mut self, seen: Seen) -> Result<(), Violation> {
        let Seen { host, start, term, leads, in_charge, applied, digest } = seen;
        let before = self.last.insert(host, seen);
        if before == Some(seen) {
            // Everything below is already known of it.
            return Ok(());
        }
        if let Some(before) = before
            && before.start == start
            && (term < before.term || applied < before.applied)
        {
            return Err(format!("C1: a coordinator went back within one life: {before:?}, then {seen:?}"));
        }
        if leads {
            let leader = *self.leaders.entry(term).or_insert((host, start));
            if leader.0 != host {
                return Err(format!(
                    "C1: election safety: hosts {} and {} both lead in term {term}",
                    leader.0.0, host.0
                ));
            }
            let at_election = *self.applied_at_election.entry(term).or_insert(self.applied_anywhere);
            if in_charge && applied < at_election {
                return Err(format!(
                    "C1: leader completeness: host {} is in charge in term {term} with state {applied}, though {at_election} had been applied before",
                    host.0
                ));
            }
        }
        let known = *self.digests.entry(applied).or_insert(digest);
        if known != digest {
            return Err(format!("C1: state machine safety: host {} has another state at index {applied}", host.0));
        }
        self.applied_anywhere = self.applied_anywhere.max(applied);
        while self.digests.len() > REMEMBERED {
            self.digests.pop_first();
        }
        Ok(())
    }

    /// Looks at the state of one coordinator, when its applied index has changed. A state that equals the one which another coordinator
    /// had at this index holds what that one holds; how this coordinator came to it is looked at all the same.
    ///
    /// # Errors
    /// What broke.
    pub fn see_state(&mut self, host: HostId, start: u64, state: &ClusterState) -> Result<Known, Violation> {
        let applied = state.applied_index();
        let recent = state.recent(YOUNGEST);
        let equal = self.recent.get(&applied).filter(|(known, _)| **known == recent).cloned();
        let is_new = equal.is_none();
        let (state, digest) = match equal {
            Some(equal) => equal,
            None => {
                state.check()?;
                let digest = digest(&recent);
                let recent = Arc::new(recent);
                self.recent.entry(applied).or_insert_with(|| (recent.clone(), digest));
                while self.recent.len() > STATES {
                    self.recent.pop_first();
                }
                (recent, digest)
            }
        };
        if let Some((before_start, before)) = self.states.get(&host)
            && *before_start == start
            // Record 0 names the coordinators before there is a placement index.
            && before.applied_index() > 0
            && before.applied_index() < applied
        {
            state.check_since(before)?;
        }
        self.states.insert(host, (start, state));
        Ok(Known { digest, is_new })
    }

    /// Compares the whole state of a coordinator with those that were compared at the same index; for now and then.
    ///
    /// # Errors
    /// What broke.
    pub fn see_whole(&mut self, host: HostId, state: &ClusterState) -> Result<(), Violation> {
        let (applied, digest) = (state.applied_index(), digest(state));
        if *self.wholes.entry(applied).or_insert(digest) != digest {
            return Err(format!("C1: state machine safety: host {} has another past at index {applied}", host.0));
        }
        while self.wholes.len() > REMEMBERED {
            self.wholes.pop_first();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfleet_coordinator_core::{Command, CommandBody};
    use ringfleet_proto::control::{CoordinatorView, Role};

    fn seen(host: u16, term: u64, leads: bool, applied: u64, digest: u64) -> Seen {
        Seen { host: HostId(host), start: 1, term, leads, in_charge: leads, applied, digest }
    }

    fn check(history: &[Seen]) -> Result<(), Violation> {
        let mut raft = Raft::default();
        history.iter().try_for_each(|seen| raft.see(*seen))
    }

    #[test]
    fn a_good_history_passes() {
        let history = [
            seen(1, 1, true, 5, 55),
            seen(2, 1, false, 4, 44),
            seen(2, 1, false, 5, 55),
            seen(2, 2, true, 6, 66),
            Seen { start: 2, ..seen(1, 1, false, 0, 0) },
        ];
        check(&history).unwrap();
    }

    #[test]
    fn damaged_histories_are_flagged() {
        let damaged: [(&str, &[Seen]); 5] = [
            ("election safety", &[seen(1, 3, true, 5, 55), seen(2, 3, true, 5, 55)]),
            ("state machine safety", &[seen(1, 3, true, 5, 55), seen(2, 3, false, 5, 56)]),
            ("leader completeness", &[seen(1, 3, true, 5, 55), seen(2, 4, true, 4, 44)]),
            ("went back", &[seen(1, 3, true, 5, 55), seen(1, 3, true, 4, 44)]),
            ("went back", &[seen(1, 3, false, 5, 55), seen(1, 2, false, 5, 55)]),
        ];
        for (what, history) in damaged {
            let violation = check(history).expect_err(what);
            assert!(violation.starts_with("C1: ") && violation.contains(what), "{violation}");
        }
    }

    #[test]
    fn an_equal_state_is_known_and_another_one_at_the_same_index_is_flagged() {
        let named = |name: &str| {
            let view = CoordinatorView { name: name.to_owned(), addr: "10.0.0.1:7400".to_owned() };
            let mut state = ClusterState::default();
            state.set_coordinators(7, BTreeMap::from([(1, view)]));
            state
        };
        let mut raft = Raft::default();
        let (one, other) = (named("c1"), named("c2"));
        let first = raft.see_state(HostId(1), 1, &one).unwrap();
        assert_eq!(first, Known { digest: digest(&one), is_new: true });
        assert_eq!(raft.see_state(HostId(2), 1, &one).unwrap(), Known { is_new: false, ..first });
        let damaged = raft.see_state(HostId(3), 1, &other).unwrap();
        assert_eq!(damaged, Known { digest: digest(&other), is_new: true });
        raft.see(seen(1, 1, true, 7, first.digest)).unwrap();
        let violation = raft.see(seen(3, 1, false, 7, damaged.digest)).unwrap_err();
        assert!(violation.contains("state machine safety"), "{violation}");
    }

    #[test]
    fn states_that_differ_in_something_old_are_flagged_when_they_are_compared_whole() {
        let state = |oldest: &str| {
            let mut state = ClusterState::default();
            for number in 1..=YOUNGEST as u64 + 1 {
                let name = if number == 1 { oldest } else { "a2" }.to_owned();
                let body = CommandBody::OpenSession { role: Role::Client, name };
                state.apply(number, &Command { operation: Some(u128::from(number)), body });
            }
            state
        };
        let (one, other) = (state("a1"), state("a9"));
        let mut raft = Raft::default();
        assert!(raft.see_state(HostId(1), 1, &one).unwrap().is_new);
        assert!(!raft.see_state(HostId(2), 1, &other).unwrap().is_new, "the difference is older than what is compared");
        raft.see_whole(HostId(1), &one).unwrap();
        raft.see_whole(HostId(3), &one).unwrap();
        assert!(raft.see_whole(HostId(2), &other).unwrap_err().contains("another past"));
    }
}
