//! C1 directory: operations through the coordinators are linearizable.
//!
//! A history is of operations with the times at which they began and ended. Two things are checked:
//!
//! * **numbers that the log gives** (sessions, placement indices): an operation that ended before another began has the smaller
//!   number, and a session's number is given once. For a counter this is all of linearizability;
//! * **a set** as a register that is absent, active or being deleted (which ends by itself), with the operations create, delete and
//!   look up: the history is searched for an order of all operations that keeps the order of those that did not overlap and explains every answer (Wing and Gong, with the
//!   states that were seen remembered). An operation without a known outcome may have taken effect at any later time, or never.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;

/// Operations of one register that one search takes; a longer history is cut where nothing was under way.
const SEARCH_MAX: usize = 60;

/// What a set may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Is {
    /// Not there.
    Absent,
    /// There.
    Active,
    /// On its way out; at some moment it is absent.
    Deleting,
}

/// What was asked of a set, and what the answer says that it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetOp {
    /// Apply: creates it where it was absent, changes nothing otherwise. `None` has no known outcome.
    Create(Option<Is>),
    /// Delete: begins to delete it where it was there. `None` has no known outcome.
    Delete(Option<Is>),
    /// Look-up.
    Look(Is),
}

/// One operation of a history.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    /// When it was called.
    pub began_ns: u64,
    /// When its answer came; `u64::MAX` if none did.
    pub ended_ns: u64,
    /// What it was.
    pub what: SetOp,
}

/// The histories of one run.
#[derive(Debug, Default)]
pub struct Directory {
    sets: BTreeMap<String, Vec<Op>>,
    sessions: Numbers,
    indices: Numbers,
}

/// Numbers that rise in real time.
#[derive(Debug, Default)]
struct Numbers {
    /// Ends of operations and the largest number known by then, both rising.
    known: BTreeMap<u64, u64>,
    given: BTreeSet<u64>,
}

impl Numbers {
    /// The largest number of an operation that had ended before `began_ns`.
    fn before(&self, began_ns: u64) -> u64 {
        self.known.range(..began_ns).next_back().map_or(0, |(_, number)| *number)
    }

    fn end(&mut self, ended_ns: u64, number: u64) {
        let largest = self.known.last_key_value().map_or(0, |(_, known)| *known).max(number);
        self.known.insert(ended_ns, largest);
    }
}

impl Directory {
    /// Sessions were opened, in the order of their ends.
    ///
    /// # Errors
    /// What broke.
    pub fn session(&mut self, began_ns: u64, ended_ns: u64, session: u64) -> Result<(), Violation> {
        if !self.sessions.given.insert(session) {
            return Err(format!("C1: session {session} was given twice"));
        }
        let before = self.sessions.before(began_ns);
        if session <= before {
            return Err(format!("C1: session {session} was opened after session {before} had been answered"));
        }
        self.sessions.end(ended_ns, session);
        Ok(())
    }

    /// A placement index was read, in the order of the ends.
    ///
    /// # Errors
    /// What broke.
    pub fn index(&mut self, began_ns: u64, ended_ns: u64, index: u64) -> Result<(), Violation> {
        let before = self.indices.before(began_ns);
        if index < before {
            return Err(format!(
                "C1: a read gave placement index {index} after {before} had been answered: a stale read"
            ));
        }
        self.indices.end(ended_ns, index);
        Ok(())
    }

    /// An operation on a set.
    pub fn op(&mut self, set: &str, op: Op) {
        self.sets.entry(set.to_owned()).or_default().push(op);
    }

    /// Operations on sets so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sets.values().map(Vec::len).sum()
    }

    /// Whether there were none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Searches an order for every set; for the end of a run.
    ///
    /// # Errors
    /// The set without one.
    pub fn check(&self) -> Result<(), Violation> {
        for (set, ops) in &self.sets {
            if !linearizable(ops) {
                return Err(format!("C1: no order explains the answers about set `{set}`: {ops:?}"));
            }
        }
        Ok(())
    }
}

/// Whether an order of the operations explains all answers, from a set that is not there.
#[must_use]
pub fn linearizable(ops: &[Op]) -> bool {
    let mut ops = ops.to_vec();
    ops.sort_by_key(|op| (op.began_ns, op.ended_ns));
    let mut states = BTreeSet::from([Is::Absent]);
    let mut rest = &ops[..];
    while !rest.is_empty() {
        let (part, after) = rest.split_at(part_of(rest));
        states = states.into_iter().flat_map(|state| outcomes(part, state)).collect();
        rest = after;
    }
    !states.is_empty()
}

/// The length of the first part that nothing reaches over, bounded.
fn part_of(ops: &[Op]) -> usize {
    let mut end = 0;
    for (at, op) in ops.iter().enumerate() {
        if at > 0 && op.began_ns > end {
            return at;
        }
        end = end.max(op.ended_ns);
    }
    ops.len()
}

/// The states that the register may have after all of these.
fn outcomes(ops: &[Op], from: Is) -> BTreeSet<Is> {
    let mut found = BTreeSet::new();
    if ops.len() > SEARCH_MAX {
        // Too long to search: it says nothing either way.
        return BTreeSet::from([Is::Absent, Is::Active, Is::Deleting]);
    }
    let mut seen = BTreeSet::new();
    search(ops, 0, from, &mut seen, &mut found);
    found
}

fn search(ops: &[Op], done: u64, state: Is, seen: &mut BTreeSet<(u64, Is)>, found: &mut BTreeSet<Is>) {
    if !seen.insert((done, state)) {
        return;
    }
    if state == Is::Deleting {
        search(ops, done, Is::Absent, seen, found);
    }
    let open = |at: usize| done & (1 << at) == 0;
    // What has no outcome need not have happened.
    if (0..ops.len()).filter(|at| open(*at)).all(|at| ops[at].ended_ns == u64::MAX) {
        found.insert(state);
    }
    let first_end = (0..ops.len()).filter(|at| open(*at)).map(|at| ops[at].ended_ns).min().unwrap_or(u64::MAX);
    for at in (0..ops.len()).filter(|at| open(*at)) {
        if ops[at].began_ns > first_end {
            break;
        }
        let (said, after) = match ops[at].what {
            SetOp::Create(said) => (said, if state == Is::Absent { Is::Active } else { state }),
            SetOp::Delete(said) => (said, if state == Is::Absent { state } else { Is::Deleting }),
            SetOp::Look(said) => (Some(said), state),
        };
        if said.is_none_or(|said| said == state) {
            search(ops, done | 1 << at, after, seen, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Rng};

    fn op(began_ns: u64, ended_ns: u64, what: SetOp) -> Op {
        Op { began_ns, ended_ns, what }
    }

    const NEVER: u64 = u64::MAX;

    #[test]
    fn good_histories_have_an_order() {
        use Is::{Absent, Active, Deleting};
        use SetOp::{Create, Delete, Look};
        let good: &[&[Op]] = &[
            &[
                op(0, 1, Create(Some(Absent))),
                op(2, 3, Look(Active)),
                op(4, 5, Delete(Some(Active))),
                op(6, 7, Look(Absent)),
            ],
            // Two at once: either order.
            &[op(0, 10, Create(Some(Absent))), op(1, 9, Look(Absent)), op(2, 8, Look(Active))],
            &[op(0, 10, Create(Some(Active))), op(0, 10, Create(Some(Absent)))],
            // On its way out, and at some moment gone; while it is on its way it cannot be created.
            &[
                op(0, 1, Create(Some(Absent))),
                op(2, 3, Delete(Some(Active))),
                op(4, 5, Create(Some(Deleting))),
                op(6, 7, Look(Absent)),
                op(8, 9, Create(Some(Absent))),
            ],
            // Without an outcome: now, much later, or never.
            &[op(0, NEVER, Create(None)), op(1, 2, Look(Absent)), op(3, 4, Look(Active))],
            &[op(0, NEVER, Create(None)), op(1, 2, Look(Absent))],
            &[op(0, NEVER, Create(None)), op(1, 2, Look(Active)), op(3, 4, Look(Active))],
        ];
        for history in good {
            assert!(linearizable(history), "{history:?}");
        }
    }

    #[test]
    fn damaged_histories_are_flagged() {
        use Is::{Absent, Active};
        use SetOp::{Create, Delete, Look};
        let damaged: &[&[Op]] = &[
            // A stale read.
            &[op(0, 1, Create(Some(Absent))), op(2, 3, Look(Absent))],
            // Created twice, deleted twice.
            &[op(0, 1, Create(Some(Absent))), op(2, 3, Create(Some(Absent)))],
            &[op(0, 5, Create(Some(Absent))), op(0, 5, Create(Some(Absent)))],
            &[op(0, 1, Create(Some(Absent))), op(2, 3, Delete(Some(Active))), op(4, 5, Delete(Some(Active)))],
            // Back and forth: true, then false, with nothing that deletes.
            &[op(0, NEVER, Create(None)), op(1, 2, Look(Active)), op(3, 4, Look(Absent))],
            // Back from its way out.
            &[op(0, 1, Create(Some(Absent))), op(2, 3, Delete(Some(Active))), op(4, 5, Look(Active))],
            // A lost acknowledged write.
            &[op(0, 1, Create(Some(Absent))), op(2, 9, Delete(Some(Absent)))],
        ];
        for history in damaged {
            assert!(!linearizable(history), "{history:?}");
        }
        let mut directory = Directory::default();
        directory.session(0, 5, 1).unwrap();
        directory.session(1, 6, 3).unwrap();
        directory.session(2, 7, 2).unwrap();
        assert!(directory.session(8, 9, 3).unwrap_err().contains("twice"));
        directory.index(0, 1, 10).unwrap();
        assert!(directory.index(2, 3, 9).unwrap_err().contains("stale"));
        directory.op("s", op(0, 1, Look(Active)));
        assert_eq!(directory.len(), 1);
        assert!(directory.check().unwrap_err().starts_with("C1: no order"));
    }

    /// Histories made by a real register are in order; with one answer turned round, nearly all are not.
    #[test]
    fn histories_of_a_register_pass_and_turned_answers_do_not() {
        let mut flagged = 0;
        for seed in 0..300 {
            let mut rng = Rng::new(seed, Purpose::Work);
            let (mut state, mut ops) = (Is::Absent, Vec::new());
            for at in 0..30_u64 {
                // The moment of the effect lies within the operation; neighbours overlap.
                let (began, ended) = (at * 10 - rng.below(8).min(at * 10), at * 10 + rng.below(8));
                if state == Is::Deleting && rng.chance(300_000) {
                    state = Is::Absent;
                }
                let what = match rng.below(3) {
                    0 => SetOp::Create(Some(state)),
                    1 => SetOp::Delete(Some(state)),
                    _ => SetOp::Look(state),
                };
                state = match (what, state) {
                    (SetOp::Create(_), Is::Absent) => Is::Active,
                    (SetOp::Delete(_), Is::Active) => Is::Deleting,
                    _ => state,
                };
                ops.push(op(began, ended, what));
            }
            assert!(linearizable(&ops), "seed {seed}");
            let at = rng.index(ops.len());
            let turned = |is: Is| if is == Is::Active { Is::Absent } else { Is::Active };
            ops[at].what = match ops[at].what {
                SetOp::Create(said) => SetOp::Create(said.map(turned)),
                SetOp::Delete(said) => SetOp::Delete(said.map(turned)),
                SetOp::Look(said) => SetOp::Look(turned(said)),
            };
            flagged += u32::from(!linearizable(&ops));
        }
        assert!(flagged > 150, "{flagged} of 300");
    }
}
