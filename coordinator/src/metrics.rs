//! Metrics of a coordinator. Every name begins with `ringfleet_coordinator_`.

use crate::raft::Group;
use crate::steward::Leases;
use prometheus::{
    Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder, core::Collector,
};
use ringfleet_coordinator_core::LeaseTable;
use ringfleet_coordinator_core::query::Liveness;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The counters and gauges of one coordinator.
pub struct Metrics {
    registry: Registry,
    /// Requests by verb.
    pub requests: IntCounterVec,
    /// Requests that a role may not make.
    pub denied: IntCounter,
    /// Leases granted.
    pub renewals: IntCounter,
    /// Leases not granted, because the node is quarantined for its clock.
    pub quarantined_renewals: IntCounter,
    quarantined: IntGauge,
    clock_offset_ms: IntGauge,
    is_leader: IntGauge,
    term: IntGauge,
    last_index: IntGauge,
    applied_index: IntGauge,
    snapshot_index: IntGauge,
    purged_index: IntGauge,
    placement_index: IntGauge,
    voters: IntGauge,
    proposals: IntCounter,
    /// Messages of the Raft group from who is not in it.
    pub raft_denied: IntCounter,
    /// Connections to the health port that were refused or cut.
    pub http_refused: Arc<AtomicU64>,
    http_refused_total: IntCounter,
    /// One page at a time: each brings the counters up to what is counted elsewhere.
    rendering: Mutex<()>,
    members: IntGaugeVec,
    sets: IntGauge,
    shards: IntGaugeVec,
    leases: IntGauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// Registers a collector, and gives it back.
fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: prometheus::Result<C>,
) -> prometheus::Result<C> {
    let collector = collector?;
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

impl Metrics {
    /// All at zero.
    ///
    /// # Errors
    /// When two have the same name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str| register(&registry, IntGauge::new(name, help));
        let gauges = |name: &str, help: &str, label: &str| {
            register(&registry, IntGaugeVec::new(Opts::new(name, help), &[label]))
        };
        let counter = |name: &str, help: &str| register(&registry, IntCounter::new(name, help));
        Ok(Self {
            requests: register(
                &registry,
                IntCounterVec::new(Opts::new("ringfleet_coordinator_requests_total", "Requests by verb."), &["verb"]),
            )?,
            denied: counter(
                "ringfleet_coordinator_requests_denied_total",
                "Requests that the caller's role may not make.",
            )?,
            renewals: counter("ringfleet_coordinator_lease_renewals_total", "Leases granted.")?,
            quarantined_renewals: counter(
                "ringfleet_coordinator_lease_renewals_quarantined_total",
                "Leases not granted because the node's clock is off.",
            )?,
            quarantined: gauge(
                "ringfleet_coordinator_members_quarantined",
                "Live nodes that are quarantined because their clock is off.",
            )?,
            clock_offset_ms: gauge(
                "ringfleet_coordinator_clock_offset_ms",
                "This coordinator's wall clock minus the median of all that it hears; 0 if it does not lead or too few are heard.",
            )?,
            is_leader: gauge("ringfleet_coordinator_is_leader", "Whether this coordinator leads: 1 or 0.")?,
            term: gauge("ringfleet_coordinator_term", "Term of the raft group.")?,
            last_index: gauge("ringfleet_coordinator_last_index", "Last record of the log.")?,
            applied_index: gauge("ringfleet_coordinator_applied_index", "Last record applied.")?,
            snapshot_index: gauge("ringfleet_coordinator_snapshot_index", "Last record covered by a snapshot.")?,
            purged_index: gauge("ringfleet_coordinator_purged_index", "Last record purged from the log.")?,
            placement_index: gauge(
                "ringfleet_coordinator_placement_index",
                "Last record that changed members, sets or shards.",
            )?,
            voters: gauge("ringfleet_coordinator_voters", "Coordinators that vote.")?,
            proposals: counter(
                "ringfleet_coordinator_proposals_total",
                "Commands put into the log by this coordinator.",
            )?,
            raft_denied: counter(
                "ringfleet_coordinator_raft_denied_total",
                "Messages of the raft group from who is not in it.",
            )?,
            http_refused: Arc::default(),
            http_refused_total: counter(
                "ringfleet_coordinator_http_refused_total",
                "Connections to this port refused or cut.",
            )?,
            rendering: Mutex::default(),
            members: gauges("ringfleet_coordinator_members", "Nodes by state.", "state")?,
            sets: gauge("ringfleet_coordinator_sets", "Actor sets.")?,
            shards: gauges("ringfleet_coordinator_shards", "Shards by state.", "state")?,
            leases: gauge("ringfleet_coordinator_leases", "Leases that the leader remembers.")?,
            registry,
        })
    }

    /// Takes the figures of this moment and writes all in Prometheus' text format.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn render(&self, group: &Group, leases: &Leases, now_ns: u64) -> prometheus::Result<String> {
        let status = group.status();
        let set = |gauge: &IntGauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.is_leader, u64::from(status.leads));
        set(&self.term, status.term);
        set(&self.last_index, status.last_index);
        set(&self.applied_index, status.applied_index);
        set(&self.snapshot_index, status.snapshot_index);
        set(&self.purged_index, status.purged_index);
        set(&self.voters, u64::from(status.voters));
        let _one_page = self.rendering.lock().unwrap_or_else(PoisonError::into_inner);
        let raise = |counter: &IntCounter, to: u64| counter.inc_by(to.saturating_sub(counter.get()));
        raise(&self.proposals, group.proposals());
        raise(&self.http_refused_total, self.http_refused.load(Ordering::Relaxed));
        set(&self.leases, leases.len() as u64);
        self.clock_offset_ms.set(leases.own_clock_offset_ms(now_ns).unwrap_or(0));
        let table = leases.snapshot();
        {
            let state = group.published().state();
            let table = table.unwrap_or_else(|| LeaseTable::elected(state.lease_ms(), now_ns, std::iter::empty()));
            let counts = state.shard_counts(None, &Liveness { leases: &table, now_ns });
            set(&self.placement_index, state.view_index());
            let alive = state.alive().count() as u64;
            set(&self.members.with_label_values(&["alive"]), alive);
            set(&self.members.with_label_values(&["gone"]), state.members().count() as u64 - alive);
            set(&self.sets, state.sets().count() as u64);
            set(&self.quarantined, state.alive().filter(|member| member.quarantine_ms.is_some()).count() as u64);
            set(&self.shards.with_label_values(&["pending"]), u64::from(counts.pending));
            set(&self.shards.with_label_values(&["resident"]), u64::from(counts.resident));
            set(&self.shards.with_label_values(&["releasing"]), u64::from(counts.releasing));
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}
