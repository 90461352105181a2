//! Looks at nodes while things go wrong: nobody handles anything after the end of its lease (C2).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use ringfleet::http;
use ringfleet::metrics::Metrics;
use ringfleet_env::{Env, Instant};

/// C2: no act of a shard is accepted later than its node's lease end and this.
const GRACE: Duration = Duration::from_millis(250);
/// What a page says may be older than the look at it. A test that knows no bound of that takes a large one: leases that end stay
/// ended for seconds.
const PAGE_AGE: Duration = Duration::from_secs(1);
/// Between two looks at a node, and how long one may take: a node that stands still does not answer.
const PACE: Duration = Duration::from_millis(200);

/// What a page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Before the page was asked for.
    pub at: Instant,
    /// The end of the lease that the node has; on the clock of `at`, as it is one machine.
    pub lease_end_ns: u64,
    /// What its actors have handled.
    pub handled: u64,
}

/// The looks at one node.
#[derive(Debug, Default)]
pub struct Leased {
    /// The first look after the end of the lease that the last one showed.
    ended: Option<Look>,
    /// A look that showed more than that.
    more: Option<Look>,
    /// Pairs of looks after the end of one lease.
    pub pairs: u64,
}

impl Leased {
    /// C2: what is handled stands still from the end of a lease until there is another. A page may show what was handled under a new
    /// lease before it shows the lease; it does not do so for long.
    ///
    /// # Errors
    /// What broke.
    pub fn look(&mut self, now: Look) -> Result<()> {
        let Some(ended) = self.ended.filter(|ended| ended.lease_end_ns == now.lease_end_ns) else {
            self.more = None;
            let end = Instant::from_ns(now.lease_end_ns) + GRACE + PAGE_AGE;
            self.ended = Some(now).filter(|now| now.lease_end_ns > 0 && now.at > end);
            return Ok(());
        };
        self.pairs += 1;
        match self.more {
            Some(more) if now.at > more.at + PAGE_AGE => {
                bail!("C2: handled after the end of a lease: {ended:?}, then {more:?}, and no other lease at {now:?}")
            }
            None if now.handled > ended.handled => self.more = Some(now),
            _ => {}
        }
        Ok(())
    }
}

/// Looks at these nodes, by their names and addresses, until `over`. Gives how many looks showed something about C2.
///
/// # Errors
/// What broke.
pub async fn watch(env: &Env, nodes: &[(String, String)], over: &AtomicBool) -> Result<u64> {
    let mut leased: BTreeMap<&str, Leased> = BTreeMap::new();
    while !over.load(Ordering::Relaxed) {
        for (name, addr) in nodes {
            let at = env.now();
            let Ok(text) = http::get(env, addr, "/metrics", PACE).await else { continue };
            let page = Metrics::parse(&text);
            let by_actors = page.named("ringfleet_messages_handled_total");
            let by_actors = by_actors.filter(|sample| sample.label("by") == Some("actor"));
            let handled = by_actors.map(|sample| sample.value as u64).sum();
            let lease_end_ns = page.sum("ringfleet_node_lease_end_ns") as u64;
            let looked = leased.entry(name).or_default().look(Look { at, lease_end_ns, handled });
            looked.map_err(|error| error.context(name.clone()))?;
        }
        env.sleep(PACE).await;
    }
    Ok(leased.values().map(|leased| leased.pairs).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(looks: &[(u64, u64, u64)]) -> Result<u64> {
        let mut leased = Leased::default();
        for &(at_ms, end_ms, handled) in looks {
            let at = Instant::from_ns(at_ms * 1_000_000);
            leased.look(Look { at, lease_end_ns: end_ms * 1_000_000, handled })?;
        }
        Ok(leased.pairs)
    }

    #[test]
    fn who_handles_after_its_lease_is_found_and_nobody_else() {
        assert_eq!(looks(&[(1000, 3000, 5), (2900, 3000, 9), (5000, 3000, 12), (6000, 3000, 12)]).ok(), Some(1));
        assert_eq!(looks(&[(5000, 3000, 5), (6000, 9000, 9), (7000, 9000, 12)]).ok(), Some(0), "it has a new lease");
        assert_eq!(looks(&[(5000, 3000, 5), (6000, 3000, 9), (6100, 9000, 12)]).ok(), Some(1), "it is shown late");
        assert_eq!(looks(&[(5000, 0, 5), (6000, 0, 9), (8000, 0, 12)]).ok(), Some(0), "it never had one");
        assert!(looks(&[(5000, 3000, 5), (6000, 3000, 6), (8000, 3000, 6)]).is_err());
    }
}
