//! The metrics page of a node: the counters that workers and agent keep, rendered when somebody asks.
//!
//! C7. Summed over all nodes of a quiet cluster, every label included:
//!
//! ```text
//!   ringfleet_messages_sent_total
//!     = ringfleet_messages_handled_total + ringfleet_messages_in_flight
//!     + ringfleet_messages_dead_lettered_total + ringfleet_messages_lost_total
//! ```
//!
//! A client's message that was accepted and then refused does not count as sent: its sender owns it again. So that one counter may go
//! back by a few; for rates take `ringfleet_agent_client_in_total`.
//!
//! A node that was fenced and joined anew goes on counting where it was; what the fenced incarnation held is lost (`sender_fenced`).
//!
//! **Lost and handled.** A message between nodes whose channel breaks may have been handled though its acknowledgement was lost: its
//! sender reports it lost, and its receiver has handled it. Then the right side is larger by as many as `ringfleet_agent_node_in_total`
//! less `ringfleet_agent_node_taken_back_total` is larger than `ringfleet_agent_node_out_total`, and the sum with that is exact.
//!
//! `by` says who: `actor` and `worker` are counted by the workers themselves, `client` and `agent` by the agent (a client sends when its
//! message is accepted and handles when a reply is handed to its link). What is in flight is counted where it lies, not computed from
//! the other side of the sum: otherwise the sum could not fail.

use prometheus::{Encoder, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};
use ringfleet_abi::{DeadReason, LostReason, WorkerCounters};

use crate::shared::Snapshot;

type Result<T> = std::result::Result<T, prometheus::Error>;

/// The page in Prometheus' text format.
///
/// # Errors
/// If a metric is declared twice: a bug.
pub fn render(snapshot: &Snapshot) -> Result<String> {
    let page = Page { registry: Registry::new() };
    agent(&page, snapshot)?;
    ledger(&page, snapshot)?;
    workers(&page, snapshot)?;
    let mut text = Vec::new();
    TextEncoder::new().encode(&page.registry.gather(), &mut text)?;
    String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
}

struct Page {
    registry: Registry,
}

impl Page {
    fn counter(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
        let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
        let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn total(&self, name: &str, help: &str, value: u64) -> Result<()> {
        self.counter(name, help, &[])?.with_label_values::<&str>(&[]).inc_by(value);
        Ok(())
    }

    fn now(&self, name: &str, help: &str, value: u64) -> Result<()> {
        self.gauge(name, help, &[])?.with_label_values::<&str>(&[]).set(gauge(value));
        Ok(())
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn agent(page: &Page, snapshot: &Snapshot) -> Result<()> {
    page.gauge("ringfleet_node_info", "Always 1; which node this is", &["node", "incarnation"])?
        .with_label_values(&[snapshot.node.as_str(), &snapshot.incarnation.to_string()])
        .set(1);
    page.now(
        "ringfleet_node_lease_end_ns",
        "End of the lease on this machine's monotonic clock",
        snapshot.lease_end.as_ns(),
    )?;
    page.now("ringfleet_node_view_index", "Placement index of the youngest view", snapshot.view_index)?;
    page.now("ringfleet_node_applied_index", "Placement index in effect", snapshot.applied_index)?;
    page.now("ringfleet_node_shards", "Shards that the youngest view gives to this node", snapshot.shards_owned)?;
    page.total("ringfleet_node_fenced_total", "Times this process was fenced and joined anew", snapshot.fenced_total)?;
    let lost =
        page.counter("ringfleet_device_lost_total", "Times a device in a process of its own was lost", &["device"])?;
    let suspect =
        page.gauge("ringfleet_device_suspect", "1: the device is not used until it is cleared", &["device"])?;
    for (device, times) in &snapshot.device_health.lost {
        lost.with_label_values(&[device.as_str()]).inc_by(*times);
        suspect.with_label_values(&[device.as_str()]).set(i64::from(snapshot.device_health.suspect.contains(device)));
    }
    let changes = page.counter(
        "ringfleet_device_code_changes_total",
        "Times a device changed the code that runs its actors while they ran",
        &["device"],
    )?;
    let standstill = page.counter(
        "ringfleet_device_code_standstill_ns_total",
        "Nanoseconds in which nothing ran on a device while its code was changed",
        &["device"],
    )?;
    for (place, change) in &snapshot.code_changes_total() {
        changes.with_label_values(&[place.to_string()]).inc_by(change.count);
        standstill.with_label_values(&[place.to_string()]).inc_by(change.standstill_ns);
    }
    let clock = snapshot.clock;
    page.gauge("ringfleet_node_clock_offset_ms", "This node's wall clock minus the leader's", &[])?
        .with_label_values::<&str>(&[])
        .set(clock.offset_ms);
    page.now("ringfleet_node_clock_error_ms", "How wrong that may be; 0: not measured yet", clock.error_ms.into())?;
    let kept_out = clock.quarantine_ms.is_some() || snapshot.kept_out.is_some();
    page.now("ringfleet_node_quarantined", "1 while the node gets no lease because its clock is off", kept_out.into())?;
    let links = page.gauge("ringfleet_links", "Links that are up", &["peer"])?;
    links.with_label_values(&["node"]).set(gauge(snapshot.links_node));
    links.with_label_values(&["client"]).set(gauge(snapshot.links_client));
    let refused =
        page.counter("ringfleet_links_refused_total", "Links refused because there are too many", &["peer"])?;
    refused.with_label_values(&["node"]).inc_by(snapshot.links_refused[0]);
    refused.with_label_values(&["client"]).inc_by(snapshot.links_refused[1]);
    let refused = snapshot.http_refused;
    page.total("ringfleet_http_refused_total", "Connections to this port refused or cut", refused)?;
    Ok(())
}

fn ledger(page: &Page, snapshot: &Snapshot) -> Result<()> {
    let ledger = &snapshot.ledger_total();
    let total = |name, help, value| page.total(name, help, value);
    total("ringfleet_agent_client_in_total", "Messages accepted from clients", ledger.client_in)?;
    total("ringfleet_agent_node_in_total", "Messages accepted from nodes", ledger.node_in)?;
    let again = ledger.taken_back - ledger.taken_back_clients;
    total("ringfleet_agent_node_taken_back_total", "Messages of nodes accepted that their senders own again", again)?;
    total("ringfleet_agent_egress_in_total", "Messages taken from devices", ledger.egress_in)?;
    total("ringfleet_agent_ingress_done_total", "Messages that workers are done with", ledger.ingress_done)?;
    total("ringfleet_agent_node_out_total", "Messages that nodes have acknowledged as handled", ledger.node_out)?;
    total("ringfleet_agent_replies_out_total", "Replies handed to clients", ledger.replies_out)?;
    total("ringfleet_agent_verdicts_out_total", "Verdicts handed to clients", ledger.verdicts_out)?;
    total("ringfleet_agent_duplicates_total", "Messages skipped by the duplicate filter", ledger.duplicates)?;
    total("ringfleet_agent_channels_lost_total", "Channels of this node that broke", ledger.channels_lost)?;
    total("ringfleet_agent_sessions_expired_total", "Client sessions that expired", ledger.sessions_expired)?;
    page.now(
        "ringfleet_agent_outbound_messages",
        "Messages that wait to be sent or acknowledged",
        ledger.outbound_now,
    )?;
    page.now("ringfleet_agent_pending_messages", "Messages accepted that no worker is done with", ledger.pending_now)?;
    let answers = page.counter("ringfleet_agent_answers_total", "Answers that refuse", &["answer"])?;
    answers.with_label_values(&["busy"]).inc_by(ledger.busy_answers);
    answers.with_label_values(&["moved"]).inc_by(ledger.moved_answers);
    answers.with_label_values(&["channel_lost"]).inc_by(ledger.channel_lost_answers);
    let lost = page.counter("ringfleet_messages_lost_total", "Messages reported lost", &["reason"])?;
    for reason in LostReason::ALL {
        lost.with_label_values(&[reason.name()]).inc_by(ledger.lost[*reason as usize]);
    }
    let dead =
        page.counter("ringfleet_agent_dead_lettered_total", "Messages dead-lettered by the agent", &["reason"])?;
    for reason in DeadReason::ALL {
        dead.with_label_values(&[reason.name()]).inc_by(ledger.dead[*reason as usize]);
    }
    Ok(())
}

/// One metric of a worker.
type WorkerMetric = (&'static str, &'static str, fn(&WorkerCounters) -> u64);

const WORKER_TOTALS: &[WorkerMetric] = &[
    ("ringfleet_worker_ingress_total", "Messages taken from the ingress ring", |w| w.ingress_in),
    ("ringfleet_worker_egress_total", "Messages handed to the egress ring", |w| w.egress_out),
    ("ringfleet_worker_refused_total", "Messages of clients refused with a verdict", |w| w.refused),
    ("ringfleet_worker_spilled_total", "Messages that went through the spill", |w| w.spilled),
    ("ringfleet_worker_activations_total", "Actors activated", |w| w.activations),
    ("ringfleet_worker_failures_total", "Actors failed", |w| w.failures),
    ("ringfleet_worker_restarts_total", "Failed actors restarted", |w| w.restarts),
    ("ringfleet_worker_escalations_total", "Failed actors told to the parent set", |w| w.escalations),
    ("ringfleet_worker_overload_rounds_total", "Rounds in overload", |w| w.overload_rounds),
    ("ringfleet_worker_batches_total", "Rounds that handled a message", |w| w.batches),
    ("ringfleet_worker_busy_ns_total", "Nanoseconds in such rounds", |w| w.busy_ns),
    ("ringfleet_worker_stamps_ahead_total", "Stamps refused as too far ahead", |w| w.stamps_ahead),
];

const WORKER_GAUGES: &[WorkerMetric] = &[
    ("ringfleet_worker_actors", "Actors resident", |w| w.actors_now),
    ("ringfleet_worker_spill_messages", "Messages in the spill", |w| w.spill_now),
    ("ringfleet_worker_timers", "Timers pending", |w| w.timers_now),
];

fn workers(page: &Page, snapshot: &Snapshot) -> Result<()> {
    let devices = snapshot.devices_total();
    let each = || {
        devices.iter().enumerate().flat_map(|(device, workers)| {
            workers.iter().enumerate().map(move |(worker, w)| ([device.to_string(), worker.to_string()], w))
        })
    };
    for (name, help, value) in WORKER_TOTALS {
        let metric = page.counter(name, help, &["device", "worker"])?;
        each().for_each(|(labels, worker)| metric.with_label_values(&labels).inc_by(value(worker)));
    }
    for (name, help, value) in WORKER_GAUGES {
        let metric = page.gauge(name, help, &["device", "worker"])?;
        each().for_each(|(labels, worker)| metric.with_label_values(&labels).set(gauge(value(worker))));
    }
    let stalled =
        page.gauge("ringfleet_worker_stalled", "1: it does not come back from a round", &["device", "worker"])?;
    for (at, workers) in snapshot.devices.iter().enumerate() {
        for worker in 0..workers.len() {
            let is = snapshot.stalled.iter().any(|&(d, w)| (d, usize::from(w)) == (at, worker));
            stalled.with_label_values(&[at.to_string(), worker.to_string()]).set(i64::from(is));
        }
    }
    let actors = page.gauge("ringfleet_set_actors", "Actors resident, of all workers together", &["set"])?;
    for (set, &count) in &snapshot.actors_by_set {
        actors.with_label_values(&[set.as_str()]).set(gauge(count));
    }
    let faults =
        page.counter("ringfleet_actor_faults_total", "Failures of actors, as devices reported them", &["fault"])?;
    for (&fault, &failures) in &snapshot.faults {
        faults.with_label_values(&[crate::faults::name(fault)]).inc_by(failures);
    }
    messages(page, snapshot, each)
}

/// The sum of C7; see the module documentation.
fn messages<'a, I>(page: &Page, snapshot: &Snapshot, each: impl Fn() -> I) -> Result<()>
where
    I: Iterator<Item = ([String; 2], &'a WorkerCounters)>,
{
    let ledger = &snapshot.ledger_total();
    let labels = &["by", "device", "worker"];
    let sent = page.counter("ringfleet_messages_sent_total", "Messages sent (timers and replies included)", labels)?;
    let handled = page.counter("ringfleet_messages_handled_total", "Messages handled", labels)?;
    let labels = &["by", "device", "worker", "reason"];
    let dead = page.counter("ringfleet_messages_dead_lettered_total", "Messages dead-lettered", labels)?;
    for ([device, worker], counters) in each() {
        sent.with_label_values(&["actor", &device, &worker]).inc_by(counters.sent);
        handled.with_label_values(&["actor", &device, &worker]).inc_by(counters.handled);
        for reason in DeadReason::ALL {
            let count = counters.dead[*reason as usize];
            dead.with_label_values(&["worker", &device, &worker, reason.name()]).inc_by(count);
        }
    }
    sent.with_label_values(&["client", "", ""]).inc_by(ledger.client_in.saturating_sub(ledger.taken_back_clients));
    handled.with_label_values(&["client", "", ""]).inc_by(ledger.replies_out);
    for reason in DeadReason::ALL {
        dead.with_label_values(&["agent", "", "", reason.name()]).inc_by(ledger.dead[*reason as usize]);
    }
    // Incarnations that have ended hold nothing: what they held is lost.
    let (sum, ledger) = (snapshot.workers(), &snapshot.ledger);
    let in_flight = page.gauge("ringfleet_messages_in_flight", "Messages sent and not yet handled", &["where"])?;
    // Counters of two workers are read one after the other, so a difference may be off by what moved in between.
    let lie_in = [
        ("rings", sum.ring_out.saturating_sub(sum.ring_in)),
        ("spill", sum.spill_now),
        ("timers", sum.timers_now),
        ("egress", sum.egress_out.saturating_sub(ledger.egress_in)),
        ("outbound", ledger.outbound_now),
        ("pending", ledger.pending_now),
    ];
    for (place, count) in lie_in {
        in_flight.with_label_values(&[place]).set(gauge(count));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ringfleet_gpu::CodeChanges;

    use super::*;

    #[test]
    fn changes_of_code_go_on_counting_in_the_next_incarnation() {
        let changes = |count, standstill_ns| CodeChanges { count, standstill_ns };
        let before = [(0, changes(2, 3_000_000)), (1, changes(9, 9))].into();
        let mut snapshot = Snapshot { code_changes: before, ..Snapshot::default() };
        snapshot.bury_changes();
        snapshot.code_changes = [(0, changes(1, 500)), (2, changes(0, 0))].into();
        let page = render(&snapshot).expect("a page");
        for line in [
            "ringfleet_device_code_changes_total{device=\"0\"} 3",
            "ringfleet_device_code_changes_total{device=\"2\"} 0",
            "ringfleet_device_code_standstill_ns_total{device=\"0\"} 3000500",
        ] {
            assert!(page.lines().any(|shown| shown == line), "{line}\n{page}");
        }
        assert!(!page.contains("code_changes_total{device=\"1\"}"), "it does not run now: {page}");
    }
}
