//! What a released shard leaves behind, and when its release is reported (C3, C6).
//!
//! ```text
//!   Released --no flush under way--> RouteCommit(v) --RouteFlushed(v)--> everything it sent is handled here or in our channels
//!            --no message of it in our channels, and every clock past its stamps--> ReportReleased
//! ```
//! **Order (C3).** An actor of the shard goes on at the next owner as soon as that may begin, and what it sends there takes another way
//! than what it sent here. So the release is reported only after everything that it sent here has been handled or reported lost:
//!
//! * (a) Through the device's rings: its worker has sent everything before `Released`, so before the markers of the commit that
//!   follows. `RouteFlushed` says that those have arrived, and with them everything before.
//! * (b) To egress: whoever calls the protocol hands over a `RouteFlushed` only after all egress that was published before it. From
//!   then on no message of the shard comes into our channels any more, and those which are there are found by their sender.
//! * (c) From there: a channel gives a message up when it is acknowledged as handled, or reported lost.
//!
//! **Bounds (C9).** (c) waits for receivers. Shards that move at the same time and send to each other would wait for each other's new
//! owners for ever, and a link may be down for long. So after [`CLOSED_MS_MAX`] at a shard which nobody runs, and after
//! [`OPEN_MS_MAX`] anywhere, what the released shard sent there is reported lost (`shard_restarted`) with all that may have been handled
//! of its channel. What it sent to itself could only be taken by its successor, which waits for the report: it is reported lost at once.
//! Like every message that may have been handled when its channel broke, one that is reported lost after [`OPEN_MS_MAX`] may have been
//! accepted by a receiver that is that far behind, and be handled after what the successor sends.
//!
//! **Time (C6).** Actors of the shard may have stamps ahead of this node's clock, and the next owner's clock may be behind it. So the
//! report also waits until every clock that nobody quarantines is past every stamp given here ([`HANDOVER_NS`]): the successor's stamps
//! are above its predecessor's. A lost node needs no such wait, its lease's margin is longer; one that leaves waits as long itself.
//!
//! A set that is being deleted has no successors: its shards are reported at once. So are shards that the view asks back before this
//! node has heard that they were given to it. Replies to clients are not waited for: an ask has one reply, whoever sends it (C4).

use ringfleet_abi::mutants::{Mutant, is_on};
use ringfleet_abi::{DeviceIndex, Envelope, Epoch, LostReason, SetId, ShardId};

use super::deliver::shard_of;
use super::{NodeProto, SetEntry};
use crate::action::Action;
use crate::control::limits::HANDOVER_MS;
use crate::limits::UNDELIVERABLE_AFTER_MS;
use crate::now::NS_PER_MS;
use crate::outbound::Mark;

/// [`HANDOVER_MS`] in nanoseconds.
pub(super) const HANDOVER_NS: u64 = HANDOVER_MS * NS_PER_MS;
/// How long a release waits for a shard that nobody runs to take its messages.
pub(super) const CLOSED_MS_MAX: u64 = 5_000;
/// How long a release waits for its messages to be handled.
pub(super) const OPEN_MS_MAX: u64 = UNDELIVERABLE_AFTER_MS;

/// A shard that is gone from its device and whose release has not been reported.
#[derive(Debug)]
pub(super) struct Leaving {
    shard: ShardId,
    epoch: Epoch,
    device: DeviceIndex,
    released_ns: u64,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Another flush of the device is under way.
    Waiting,
    /// Until this version of the device's routes is flushed.
    Flushing(u64),
    /// The last message of it in each channel that has one.
    Sending(Vec<Mark>),
}

impl NodeProto {
    /// A shard is gone from its device, and the coordinator waits for word of it.
    pub(super) fn leave(&mut self, device: DeviceIndex, shard: ShardId, epoch: Epoch) {
        // At most one entry per shard: an earlier one was for a residence that nobody asks for any more.
        self.leaving.retain(|leaving| leaving.shard != shard);
        if is_deleting(&self.sets, shard) {
            self.actions.push_back(Action::ReportReleased { shard, epoch });
            return;
        }
        let released_ns = self.now.mono_ns;
        self.leaving.push(Leaving { shard, epoch, device, released_ns, phase: Phase::Waiting });
        self.flush_leaving(device);
    }

    /// The view asks for a shard back that does not live here.
    pub(super) fn leave_unheard(&mut self, shard: ShardId, epoch: Epoch) {
        if !self.leaving.iter().any(|leaving| leaving.shard == shard) {
            self.actions.push_back(Action::ReportReleased { shard, epoch });
        }
    }

    /// Asks for a flush for what waits for one, unless one is under way: one at a time serves all shards that leave meanwhile.
    fn flush_leaving(&mut self, device: DeviceIndex) {
        let port = &mut self.devices[usize::from(device.0)];
        let waits = |leaving: &Leaving| leaving.device == device && matches!(leaving.phase, Phase::Waiting);
        if port.flushed >= port.version && self.leaving.iter().any(waits) {
            port.routes_changed = true;
            port.urgent = true;
        }
    }

    /// Routes are committed, for whatever reason: everything that waits for a flush is served by this one.
    pub(super) fn leaving_commit(&mut self, device: DeviceIndex, version: u64) {
        for leaving in self.leaving.iter_mut().filter(|leaving| leaving.device == device) {
            if matches!(leaving.phase, Phase::Waiting) {
                leaving.phase = Phase::Flushing(version);
            }
        }
    }

    /// What was sent under routes before `flushed` has been consumed, and its egress handed over.
    pub(super) fn leaving_flushed(&mut self, device: DeviceIndex, flushed: u64) {
        let sent = |leaving: &Leaving| {
            leaving.device == device && matches!(leaving.phase, Phase::Flushing(version) if version <= flushed)
        };
        self.mark_leaving(sent);
        self.flush_leaving(device);
        self.report_left();
    }

    /// Looks up in the channels what those shards have sent that `which` selects.
    fn mark_leaving(&mut self, which: impl Fn(&Leaving) -> bool) {
        let mut shards: Vec<ShardId> =
            self.leaving.iter().filter(|leaving| which(leaving)).map(|leaving| leaving.shard).collect();
        if shards.is_empty() {
            return;
        }
        shards.sort_unstable();
        let mut marks = vec![Vec::new(); shards.len()];
        self.outbound.last_of_each(
            shards.len(),
            |envelope| shards.binary_search(&sender(&self.sets, envelope)?).ok(),
            |at, mark| marks[at].push(mark),
        );
        for leaving in self.leaving.iter_mut().filter(|leaving| which(leaving)) {
            if let Ok(at) = shards.binary_search(&leaving.shard) {
                leaving.phase = Phase::Sending(std::mem::take(&mut marks[at]));
            }
        }
    }

    /// Reports what has nothing under way any more. Called whenever messages were acknowledged, or lost, or time has passed.
    pub(super) fn report_left(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        let now_ns = self.now.mono_ns;
        self.look_at_marks();
        if self.give_up_left(now_ns) {
            // Marks of others in the same channels.
            self.look_at_marks();
        }
        let Self { actions, sets, .. } = self;
        self.leaving.retain(|leaving| {
            let sent = matches!(&leaving.phase, Phase::Sending(marks) if marks.is_empty());
            let (mut sent, mut past) = (sent, leaving.released_ns + HANDOVER_NS <= now_ns);
            past |= is_on(Mutant::HandoverEarly);
            sent |= is_on(Mutant::ReleaseEarly);
            let done = sent && past || is_deleting(sets, leaving.shard);
            if done {
                actions.push_back(Action::ReportReleased { shard: leaving.shard, epoch: leaving.epoch });
            }
            !done
        });
    }

    /// Forgets the marks of what does not wait any more.
    fn look_at_marks(&mut self) {
        let outbound = &self.outbound;
        let mut renumbered = false;
        for leaving in &mut self.leaving {
            if let Phase::Sending(marks) = &mut leaving.phase {
                // A channel that broke has kept what was certainly not executed, under other numbers.
                renumbered |= marks.iter().any(|mark| outbound.is_renumbered(mark));
                marks.retain(|mark| outbound.is_waiting(mark));
            }
        }
        if renumbered {
            self.mark_leaving(|leaving| matches!(leaving.phase, Phase::Sending(_)));
        }
    }

    /// Reports lost what has waited for too long, or for itself (C9). Says whether there was any.
    fn give_up_left(&mut self, now_ns: u64) -> bool {
        let Self { leaving, outbound, sets, .. } = self;
        let mut lost = false;
        for leaving in leaving {
            let waited_ms = now_ns.saturating_sub(leaving.released_ns) / NS_PER_MS;
            let Phase::Sending(marks) = &mut leaving.phase else { continue };
            marks.retain(|mark| {
                let late = waited_ms >= OPEN_MS_MAX
                    || waited_ms >= CLOSED_MS_MAX && !outbound.is_open(mark)
                    || mark.shard() == leaving.shard;
                if late {
                    let of_it = |envelope: &Envelope| sender(sets, envelope) == Some(leaving.shard);
                    outbound.lose(mark, LostReason::ShardRestarted, of_it);
                    lost = true;
                }
                !late
            });
        }
        lost
    }

    /// When [`NodeProto::report_left`] has something to do by the clock alone.
    pub(super) fn left_due_ns(&self) -> Option<u64> {
        let due = |leaving: &Leaving| {
            let Phase::Sending(marks) = &leaving.phase else { return None };
            let after_ms = |ms: u64| leaving.released_ns + ms * NS_PER_MS;
            Some(if marks.is_empty() {
                leaving.released_ns + HANDOVER_NS
            } else if self.now.mono_ns < after_ms(CLOSED_MS_MAX) {
                after_ms(CLOSED_MS_MAX)
            } else {
                // A channel that is open now may be closed by a view, which comes through here anyway.
                after_ms(OPEN_MS_MAX)
            })
        };
        self.leaving.iter().filter_map(due).min()
    }
}

fn is_deleting(sets: &[Option<SetEntry>], shard: ShardId) -> bool {
    sets.get(usize::from(shard.set.0)).copied().flatten().is_none_or(|set| set.deleting)
}

/// The shard whose actor has sent this.
fn sender(sets: &[Option<SetEntry>], envelope: &Envelope) -> Option<ShardId> {
    let entry = sets.get(usize::from(envelope.from_set)).copied().flatten()?;
    shard_of(SetId(envelope.from_set), entry.keys, entry.shards, envelope.from_key)
}
