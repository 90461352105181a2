//! C1 directory: operations through the coordinators are linearizable.
//!
//! A history is of operations with the times at which they began and ended. Two things are checked:
//!
//! * **numbers that the log gives** (sessions, placement indices): an operation that ended before another began has the smaller
//!   number, and a session's number is given once. For a counter this is all of linearizability;
//! * **a set** as a register that is absent, active or being deleted (which ends by itself), with the operations create, delete and
//!   look up: the history is searched for an order of all operations that keeps the order of those that did not overlap and explains every
//!   answer (just-in-time linearization). An operation without a known outcome may have taken effect at any later time, or never.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;

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
    /// Calls that open a session, so far.
    asked: u32,
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
    /// Somebody begins to open a session.
    pub fn ask_session(&mut self) {
        self.asked += 1;
    }

    /// A state: sessions are numbered without gaps, and a call opens one at most, however often its client asks again (C4).
    ///
    /// # Errors
    /// What broke.
    pub fn opened(&self, is_known: impl Fn(u32) -> bool) -> Result<(), Violation> {
        let asked = self.asked;
        if is_known(asked + 1) {
            return Err(format!("C4: {asked} calls have opened more than {asked} sessions: one took effect twice"));
        }
        Ok(())
    }

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

/// What an order that explains the answers so far may have led to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reached {
    /// What the set is.
    is: Is,
    /// Operations under way that have taken effect.
    done: BTreeSet<usize>,
    /// Operations that never got an answer and have taken effect: those that create, and those that delete.
    silent: [usize; 2],
}

/// Whether an order of the operations explains all answers, from a set that is not there.
///
/// Goes through the beginnings and ends in time and keeps everything that may be the case (just-in-time linearization): before an
/// operation ends, it and any of the others that are under way take effect in every possible order. Operations without an answer stay
/// under way for ever; only how many of each kind have taken effect is remembered, so a history of any length is searched whole.
#[must_use]
pub fn linearizable(ops: &[Op]) -> bool {
    // Beginnings before ends at one instant: they overlap.
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (at, op) in ops.iter().enumerate() {
        events.push((op.began_ns, false, at));
        if op.ended_ns != u64::MAX {
            events.push((op.ended_ns, true, at));
        }
    }
    events.sort_unstable();
    let mut reached = BTreeSet::from([Reached { is: Is::Absent, done: BTreeSet::new(), silent: [0; 2] }]);
    let (mut open, mut silent) = (BTreeSet::new(), [0; 2]);
    for (_, ends, at) in events {
        if !ends {
            match ops[at].what {
                SetOp::Create(_) if ops[at].ended_ns == u64::MAX => silent[0] += 1,
                SetOp::Delete(_) if ops[at].ended_ns == u64::MAX => silent[1] += 1,
                // Nobody knows what a look without an answer saw.
                SetOp::Look(_) if ops[at].ended_ns == u64::MAX => {}
                _ => drop(open.insert(at)),
            }
            continue;
        }
        reached = before_end(ops, &open, silent, reached)
            .into_iter()
            .filter_map(|mut state| state.done.remove(&at).then_some(state))
            .collect();
        open.remove(&at);
        if reached.is_empty() {
            return false;
        }
    }
    true
}

/// Everything that may be the case once any of what is under way has taken effect.
fn before_end(ops: &[Op], open: &BTreeSet<usize>, silent: [usize; 2], from: BTreeSet<Reached>) -> BTreeSet<Reached> {
    let mut all = from.clone();
    let mut fresh: Vec<Reached> = from.into_iter().collect();
    while let Some(state) = fresh.pop() {
        let mut next = Vec::new();
        if state.is == Is::Deleting {
            next.push(Reached { is: Is::Absent, ..state.clone() });
        }
        for at in open.iter().filter(|at| !state.done.contains(at)) {
            if let Some(is) = effect(ops[*at].what, state.is) {
                let mut after = Reached { is, ..state.clone() };
                after.done.insert(*at);
                next.push(after);
            }
        }
        for (kind, what) in [SetOp::Create(None), SetOp::Delete(None)].into_iter().enumerate() {
            // One that changes nothing need not have happened.
            if let Some(is) = effect(what, state.is).filter(|is| *is != state.is && state.silent[kind] < silent[kind]) {
                let mut after = Reached { is, ..state.clone() };
                after.silent[kind] += 1;
                next.push(after);
            }
        }
        fresh.extend(next.into_iter().filter(|state| all.insert(state.clone())));
    }
    all
}

/// What a set is after an operation, if the answer is right.
fn effect(what: SetOp, is: Is) -> Option<Is> {
    let (said, after) = match what {
        SetOp::Create(said) => (said, if is == Is::Absent { Is::Active } else { is }),
        SetOp::Delete(said) => (said, if is == Is::Absent { is } else { Is::Deleting }),
        SetOp::Look(said) => (Some(said), is),
    };
    said.is_none_or(|said| said == is).then_some(after)
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
        directory.ask_session();
        directory.opened(|session| session <= 1).unwrap();
        assert!(directory.opened(|session| session <= 2).unwrap_err().contains("took effect twice"));
        directory.op("s", op(0, 1, Look(Active)));
        assert_eq!(directory.len(), 1);
        assert!(directory.check().unwrap_err().starts_with("C1: no order"));
    }

    /// The plainest way to say what linearizable means: every order of all operations is tried.
    fn by_every_order(ops: &[Op], left: &[usize], is: Is) -> bool {
        if is == Is::Deleting && by_every_order(ops, left, Is::Absent) {
            return true;
        }
        if left.iter().all(|at| ops[*at].ended_ns == NEVER) {
            return true;
        }
        left.iter().any(|at| {
            // Nobody else's end lies before its beginning.
            let first = left.iter().all(|other| ops[*other].ended_ns >= ops[*at].began_ns);
            let rest: Vec<usize> = left.iter().copied().filter(|other| other != at).collect();
            first && effect(ops[*at].what, is).is_some_and(|is| by_every_order(ops, &rest, is))
        })
    }

    #[test]
    fn small_histories_are_judged_as_by_trying_every_order() {
        let mut good = 0;
        for seed in 0..4_000 {
            let mut rng = Rng::new(seed, Purpose::Work);
            let is = |rng: &mut Rng| *rng.pick(&[Is::Absent, Is::Active, Is::Deleting]);
            let ops: Vec<Op> = (0..rng.between(1, 6))
                .map(|_| {
                    let began_ns = rng.below(12);
                    let silent = rng.chance(200_000);
                    let what = match rng.below(if silent { 2 } else { 3 }) {
                        0 => SetOp::Create((!silent).then(|| is(&mut rng))),
                        1 => SetOp::Delete(if silent || rng.chance(300_000) { None } else { Some(is(&mut rng)) }),
                        _ => SetOp::Look(is(&mut rng)),
                    };
                    op(began_ns, if silent { NEVER } else { began_ns + rng.below(8) }, what)
                })
                .collect();
            let all: Vec<usize> = (0..ops.len()).collect();
            let expected = by_every_order(&ops, &all, Is::Absent);
            good += u32::from(expected);
            assert_eq!(linearizable(&ops), expected, "seed {seed}: {ops:?}");
        }
        assert!((400..3_600).contains(&good), "{good} of 4000");
    }

    #[test]
    fn a_long_history_behind_an_operation_without_an_answer_is_searched_to_its_end() {
        let mut ops = vec![op(0, NEVER, SetOp::Create(None)), op(1, NEVER, SetOp::Delete(None))];
        for at in 1..200 {
            ops.push(op(at * 10, at * 10 + 15, SetOp::Create(Some(if at == 1 { Is::Absent } else { Is::Active }))));
        }
        assert!(linearizable(&ops));
        // Each of the two that were not answered can explain one change, and no more.
        ops.push(op(3_000, 3_001, SetOp::Look(Is::Absent)));
        assert!(linearizable(&ops));
        ops.push(op(3_002, 3_003, SetOp::Look(Is::Active)));
        assert!(linearizable(&ops));
        ops.push(op(3_004, 3_005, SetOp::Look(Is::Absent)));
        assert!(!linearizable(&ops));
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
