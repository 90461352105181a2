//! The steps of leases and fences, written into a trace for [`crate::fence_trace`].
//!
//! Renewals, grants, elections, views and frames are told by the code that takes the step (`tracing`, target `fence`); what the log
//! says and what devices execute is seen by the observer. None of it is part of the trace's hash: a run is the same run whether it is
//! written or not.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use ringfleet_coordinator_core::MemberState;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Metadata, Subscriber};

use crate::cluster::Cluster;
use crate::exec::{Core, HostId, current_host};
use crate::world::name_of;

/// The target of the events that are steps.
const TARGET: &str = "fence";

/// Takes the steps out of the code's own log; everything else goes on to where it went before.
///
/// One run at a time may write a trace, and no other run may begin beside it: what `tracing` remembers of who listens is of the whole
/// process, and a thread on which nobody listens would have it forget this one.
pub struct FenceLog {
    core: Arc<Core>,
    before: Dispatch,
}

impl FenceLog {
    /// Writes to the trace of a run.
    #[must_use]
    pub fn new(core: Arc<Core>) -> Self {
        Self { core, before: tracing::dispatcher::get_default(Dispatch::clone) }
    }
}

/// The words of an event.
#[derive(Default)]
struct Words {
    step: String,
    fields: Vec<(&'static str, u64)>,
}

impl Visit for Words {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.push((field.name(), value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.step = format!("{value:?}");
        }
    }
}

impl Subscriber for FenceLog {
    fn register_callsite(&self, _metadata: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == TARGET || self.before.enabled(metadata)
    }

    fn event(&self, event: &Event<'_>) {
        if event.metadata().target() != TARGET {
            return self.before.event(event);
        }
        let mut words = Words::default();
        event.record(&mut words);
        self.core.trace.step(self.core.now_ns(), &words.step, &name_of(current_host()), &words.fields);
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.before.new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.before.record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.before.record_follows_from(span, follows);
    }

    fn enter(&self, span: &Id) {
        self.before.enter(span);
    }

    fn exit(&self, span: &Id) {
        self.before.exit(span);
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.before.clone_span(span)
    }

    fn try_close(&self, span: Id) -> bool {
        self.before.try_close(span)
    }
}

/// What the observer has told of the log and of devices.
#[derive(Debug, Default)]
pub struct FenceSteps {
    /// The state that a coordinator showed last, by host: its start and the index.
    applied: BTreeMap<HostId, (u64, u64)>,
    /// Incarnations that have joined, and whether it was told that they are gone.
    members: BTreeMap<u64, bool>,
    /// The last millisecond in which an incarnation was seen to execute.
    executed: BTreeMap<u64, u64>,
}

impl FenceSteps {
    /// Looks at what the log has said since the last step.
    pub fn look(&mut self, cluster: &Cluster) {
        let core = &cluster.world.core;
        for (host, start, service) in cluster.services() {
            let state = service.group.published().state();
            let shown = (start, state.applied_index());
            if self.applied.insert(host, shown) == Some(shown) {
                continue;
            }
            for member in state.members() {
                let fields = [("incarnation", member.incarnation), ("index", member.since_index)];
                let gone = self.members.entry(member.incarnation).or_insert_with(|| {
                    core.trace.step(core.now_ns(), "joined", &member.name, &fields[..1]);
                    false
                });
                if !member.is_alive() && !*gone {
                    *gone = true;
                    let step = if member.state == MemberState::Left { "left" } else { "lost" };
                    core.trace.step(core.now_ns(), step, &member.name, &fields);
                }
            }
        }
    }

    /// A device of an incarnation has handled a message.
    pub fn executed(&mut self, cluster: &Cluster, host: HostId, incarnation: u64) {
        let core = &cluster.world.core;
        let now_ms = core.now_ns() / 1_000_000;
        if self.executed.insert(incarnation, now_ms) != Some(now_ms) {
            core.trace.step(core.now_ns(), "executed", &name_of(host), &[("incarnation", incarnation)]);
        }
    }
}
