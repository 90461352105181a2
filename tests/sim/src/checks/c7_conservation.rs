//! C7 conservation and C9 bounds, from the counters that workers and agents keep themselves.
//!
//! * At any moment, what came into an agent is what became of it, exactly ([`Ledger`]).
//! * At any moment no counter of something that waits is above its bound (C9).
//! * In a quiet cluster nothing waits anywhere; and if no node was ever lost, over all workers and agents together
//!   `sent + client_in + node_in - taken_back = handled + replies_out + node_out + dead + lost`.

use ringfleet_abi::{DeadReason, WorkerCounters};
use ringfleet_proto::Ledger;

use super::Violation;

/// What may wait at most.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Messages that an agent keeps for other nodes.
    pub outbound: u64,
    /// Messages accepted by an agent that no worker is done with.
    pub pending: u64,
    /// Messages in the spills of a node's workers.
    pub spill: u64,
    /// Timers of a node's workers.
    pub timers: u64,
}

/// One node at one moment.
#[derive(Debug, Clone)]
pub struct Counted {
    /// Its name.
    pub node: String,
    /// The agent's counters.
    pub ledger: Ledger,
    /// The sum of its workers' counters.
    pub workers: WorkerCounters,
}

impl Counted {
    /// What holds at any moment.
    ///
    /// # Errors
    /// What broke.
    pub fn check(&self, bounds: &Bounds) -> Result<(), Violation> {
        let Self { node, ledger, workers } = self;
        let (arrived, accounted) = (ledger.arrived(), ledger.accounted());
        if arrived != accounted {
            return Err(format!(
                "C7: {arrived} messages came into the agent of {node}, {accounted} are accounted for: {ledger:?}"
            ));
        }
        let waiting = [
            ("outbound", ledger.outbound_now, bounds.outbound),
            ("pending", ledger.pending_now, bounds.pending),
            ("in spills", workers.spill_now, bounds.spill),
            ("timers", workers.timers_now, bounds.timers),
        ];
        match waiting.into_iter().find(|(_, now, bound)| now > bound) {
            Some((what, now, bound)) => Err(format!("C9: {now} messages {what} at {node}, at most {bound}")),
            None => Ok(()),
        }
    }

    /// What holds when nobody has sent anything for a while.
    ///
    /// # Errors
    /// What broke.
    pub fn check_quiet(&self) -> Result<(), Violation> {
        let Self { node, ledger, workers } = self;
        let waiting = (ledger.outbound_now, ledger.pending_now, workers.in_flight());
        if waiting != (0, 0, 0) {
            return Err(format!("C7: {node} is quiet and has outbound, pending, in flight: {waiting:?}"));
        }
        Ok(())
    }
}

/// The sum of a quiet cluster in which no node was ever lost.
///
/// # Errors
/// What broke.
pub fn check_sum(nodes: &[Counted]) -> Result<(), Violation> {
    let sum = |of: &dyn Fn(&Counted) -> u64| nodes.iter().map(of).sum::<u64>();
    let came = sum(&|n| n.workers.sent + n.ledger.client_in + n.ledger.node_in) - sum(&|n| n.ledger.taken_back);
    let went = sum(&|n| n.workers.handled + n.ledger.replies_out + n.ledger.node_out + n.workers.dead_total());
    let went = went + sum(&|n| n.ledger.dead_total() + n.ledger.lost_total());
    if came != went {
        return Err(format!("C7: {came} messages were sent in the cluster, {went} are accounted for: {nodes:?}"));
    }
    Ok(())
}

/// Where nothing ever went wrong, no message ends as a dead letter: not even while shards move. One exception: what waits for a shard
/// that moves is bounded at its senders' agents, and beyond that a message between actors may end there as `overloaded` (C9).
///
/// # Errors
/// What broke.
pub fn check_undisturbed(nodes: &[Counted], moves: bool) -> Result<(), Violation> {
    let overloaded = |node: &Counted| {
        let at = DeadReason::Overloaded as usize;
        if moves { node.ledger.dead[at] } else { 0 }
    };
    let dead = |node: &Counted| node.workers.dead_total() + node.ledger.dead_total() - overloaded(node);
    let dead: u64 = nodes.iter().map(dead).sum();
    if dead > 0 {
        return Err(format!("C7: {dead} messages ended as dead letters though nothing went wrong: {nodes:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { outbound: 10, pending: 10, spill: 10, timers: 10 };

    fn counted() -> Counted {
        let ledger = Ledger { client_in: 5, ingress_done: 5, ..Ledger::default() };
        let workers = WorkerCounters { ingress_in: 5, handled: 5, ingress_done: 5, ..WorkerCounters::default() };
        Counted { node: "n1".into(), ledger, workers }
    }

    #[test]
    fn damaged_counters_are_flagged_and_good_ones_pass() {
        let good = counted();
        good.check(&BOUNDS).unwrap();
        good.check_quiet().unwrap();
        check_sum(&[good.clone(), good.clone()]).unwrap();
        check_undisturbed(std::slice::from_ref(&good), false).unwrap();
        let mut dead = good.clone();
        dead.workers.dead[DeadReason::NotResident as usize] = 1;
        for moves in [false, true] {
            let told = check_undisturbed(std::slice::from_ref(&dead), moves).unwrap_err();
            assert!(told.starts_with("C7: 1 messages ended as dead letters"));
        }
        let mut shed = good.clone();
        shed.ledger.dead[DeadReason::Overloaded as usize] = 1;
        check_undisturbed(std::slice::from_ref(&shed), true).unwrap();
        assert!(check_undisturbed(&[shed], false).is_err());
        let mut stood = good.clone();
        stood.workers.dead[DeadReason::Overloaded as usize] = 1;
        assert!(check_undisturbed(&[stood], true).is_err(), "no worker's spill stands still");

        let mut lost = good.clone();
        lost.ledger.ingress_done = 4;
        assert!(lost.check(&BOUNDS).unwrap_err().starts_with("C7: 5 messages came"));
        let mut too_many = good.clone();
        too_many.workers.spill_now = 11;
        assert!(too_many.check(&BOUNDS).unwrap_err().starts_with("C9: 11 messages in spills"));
        let mut stuck = good.clone();
        stuck.workers.handled = 4;
        assert!(stuck.check_quiet().unwrap_err().contains("(0, 0, 1)"));
        assert!(check_sum(&[good, stuck]).unwrap_err().starts_with("C7: 10 messages were sent"));
    }
}
