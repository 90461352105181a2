//! One round, and what an idle worker watches.

use std::sync::atomic::Ordering;

use ringfleet_abi::Hlc;
use ringfleet_abi::limits::{HLC_AHEAD_MS_MAX, OVERLOAD_AFTER_MS};
use ringfleet_abi::mutants::{Mutant, is_on};
use ringfleet_abi::status::BATCH_BUCKETS;

use super::{NS_PER_MS, Round, Worker, phase};
use crate::parker::publish_fence;

/// The most that one round adds to the time for which a spill stood still: a worker that did not run for a second has
/// not been overloaded for a second, its peers may have stood still with it.
const STALL_STEP_NS_MAX: u64 = 10 * NS_PER_MS;

impl Worker {
    /// Does one round, and wakes the driver if there is something for it.
    pub(crate) fn round(&mut self) -> Round {
        let page = &self.page.workers[self.core.index as usize];
        self.rounds += 1;
        page.rounds.store(self.rounds, Ordering::Relaxed);
        let ended = self.one_round();
        // What was published has woken the driver already; this is for rounds that end before they publish.
        if std::mem::take(&mut self.core.driver_news) {
            publish_fence();
            self.page.driver.wake();
        }
        ended
    }

    fn one_round(&mut self) -> Round {
        // Acquire: pairs with the release of a renewal; the controls submitted before it are seen below.
        self.lease_seen_ns = self.page.lease_ns.load(Ordering::Acquire);
        let now_ns = self.clock.monotonic_ns();
        let since_last_ns = now_ns.saturating_sub(self.last_round_ns);
        self.last_round_ns = now_ns;
        self.core.now_ns = now_ns;
        let controls = self.take_controls();
        if self.ended || self.page.stop.load(Ordering::Acquire) {
            return self.end();
        }
        if is_over(now_ns, self.lease_seen_ns) {
            self.fence();
            return if controls { Round::Worked } else { Round::Idle { until_ns: u64::MAX } };
        }
        self.unfence();
        if self.paused {
            return if controls { Round::Worked } else { Round::Idle { until_ns: self.lease_seen_ns } };
        }
        let wall = Hlc::from_wall_ms(self.clock.wall_ms()).0;
        self.core.now_hlc = self.core.now_hlc.max(wall);
        self.core.hlc_max = wall.saturating_add(Hlc::from_wall_ms(HLC_AHEAD_MS_MAX).0);

        let moved = self.core.out.drain();
        let fired = self.core.fire_timers(self.batch);
        let quota = self.quota();
        let overloaded = self.is_overloaded(quota, moved, since_last_ns);
        let taken = if overloaded { self.shed() } else { self.take_batch(quota) };
        self.note_markers();

        let did = controls || moved || fired || taken > 0 || self.is_unpublished();
        if did && !self.publish(taken, now_ns) {
            return Round::Idle { until_ns: u64::MAX };
        }
        if did { Round::Worked } else { self.resting() }
    }

    /// Inputs for which there is room now.
    fn quota(&self) -> u32 {
        let out = &self.core.out;
        // One handling pushes at most its sends and one verdict.
        let each = self.core.sets.max_sends() + 1;
        (out.spill_max.saturating_sub(out.spill_used) / each).min(self.batch)
    }

    fn is_overloaded(&mut self, quota: u32, moved: bool, since_last_ns: u64) -> bool {
        if quota > 0 || moved {
            self.stalled_ns = 0;
            return false;
        }
        self.stalled_ns = self.stalled_ns.saturating_add(since_last_ns.min(STALL_STEP_NS_MAX));
        self.stalled_ns >= OVERLOAD_AFTER_MS * NS_PER_MS
    }

    /// Takes up to `quota` inputs and handles them.
    fn take_batch(&mut self, quota: u32) -> u32 {
        let sources = self.inputs.len();
        let mut left = quota;
        for turn in 0..sources {
            if left == 0 {
                break;
            }
            let at = (self.first + turn) % sources;
            let input = &mut self.inputs[at];
            let count = input.poll().min(left);
            if count == 0 {
                continue;
            }
            if at + 1 == sources {
                self.core.run_ingress(input, count);
            } else {
                self.core.run_ring(input, count);
            }
            left -= count;
        }
        self.first = (self.first + 1) % sources;
        quota - left
    }

    /// Overload: consumes inputs without running them.
    fn shed(&mut self) -> u32 {
        let sources = self.inputs.len();
        let mut shed = 0;
        for (at, input) in self.inputs.iter_mut().enumerate() {
            let count = input.poll().min(self.batch);
            shed += if at + 1 == sources {
                self.core.shed_ingress(input, count)
            } else {
                self.core.shed_ring(input, count)
            };
        }
        // A round without inputs shed nothing and does not make the worker busy.
        self.core.out.counters.overload_rounds += u64::from(shed > 0);
        shed
    }

    fn is_unpublished(&self) -> bool {
        self.counters_changed || self.core.out.lanes.iter().any(|lane| lane.is_unpublished())
    }

    /// Shows what the round did, unless the lease has ended meanwhile.
    fn publish(&mut self, taken: u32, started_ns: u64) -> bool {
        self.counters_changed = true;
        let counters = &mut self.core.out.counters;
        let now_ns = self.clock.monotonic_ns();
        if taken > 0 {
            counters.batches += 1;
            counters.batch_sizes[(taken.ilog2() as usize).min(BATCH_BUCKETS - 1)] += 1;
            counters.busy_ns += now_ns.saturating_sub(started_ns);
        }
        if is_over(now_ns, self.page.lease_ns.load(Ordering::Acquire)) {
            self.fence();
            return false;
        }
        let workers = self.page.workers.len();
        let mut woken = [0u64; WORDS];
        let mut any = false;
        for (at, lane) in self.core.out.lanes.iter_mut().enumerate() {
            if !lane.publish() {
                continue;
            }
            if at == workers {
                self.core.driver_news = true;
            } else if at != self.core.index as usize {
                woken[at / 64] |= 1 << (at % 64);
                any = true;
            }
        }
        self.publish_flushed();
        let core = &mut self.core;
        let oldest_verdict = core.out.lanes[core.out.egress as usize].oldest_verdict();
        // A verdict that is still spilled holds the acknowledgement back: it would be read too late (C4).
        let done = oldest_verdict.map_or(core.ingress_taken, |at| at.min(core.ingress_taken));
        core.driver_news |= done != core.out.counters.ingress_done;
        core.out.counters.ingress_done = done;
        core.out.counters.timers_now = u64::from(core.timers.len());
        self.page.workers[core.index as usize].counters.publish(&core.out.counters);
        self.counters_changed = false;
        let driver_news = std::mem::take(&mut core.driver_news);
        if any || driver_news {
            publish_fence();
            for (word, mut bits) in woken.into_iter().enumerate() {
                while bits != 0 {
                    self.page.workers[word * 64 + bits.trailing_zeros() as usize].parker.wake();
                    bits &= bits - 1;
                }
            }
            if driver_news {
                self.page.driver.wake();
            }
        }
        true
    }

    /// Markers prove what has been consumed.
    fn note_markers(&mut self) {
        for (worker, version) in self.core.markers.drain(..) {
            if let Some(received) = self.routes.received.get_mut(worker as usize) {
                *received = version.max(*received);
            }
        }
    }

    fn publish_flushed(&mut self) {
        let routes = &mut self.routes;
        let mut oldest = routes.received.iter().copied().min().unwrap_or(0).min(routes.adopted);
        if is_on(Mutant::FlushedEarly) {
            oldest = routes.adopted;
        }
        if oldest <= routes.flushed {
            return;
        }
        let egress = &self.core.out.lanes[self.core.out.egress as usize];
        if egress.is_spilling() && egress.passed() < routes.egress_pushed {
            return;
        }
        routes.flushed = oldest;
        self.core.driver_news = true;
        // Release: pairs with the acquire of the host, which then finds in the egress ring all that was sent there
        // before.
        self.page.workers[self.core.index as usize].flushed.store(oldest, Ordering::Release);
    }

    fn resting(&self) -> Round {
        let out = &self.core.out;
        if out.lanes.iter().any(|lane| lane.is_spilling()) {
            return Round::Blocked { full: self.quota() == 0 };
        }
        let timer_ns = self.core.timers.next_ms().map_or(u64::MAX, |ms| ms.saturating_mul(NS_PER_MS));
        Round::Idle { until_ns: timer_ns.min(if has_fence() { self.lease_seen_ns } else { u64::MAX }) }
    }

    /// Whether something has arrived that the last round did not see.
    pub(crate) fn has_news(&mut self) -> bool {
        let page = &self.page;
        if page.stop.load(Ordering::Acquire)
            || page.lease_ns.load(Ordering::Acquire) != self.lease_seen_ns
            || self.control.poll() > 0
        {
            return true;
        }
        self.running && !self.paused && self.inputs.iter_mut().any(|input| input.poll() > 0)
    }

    fn fence(&mut self) {
        if self.running {
            self.running = false;
            self.set_phase(phase::FENCED);
        }
    }

    fn unfence(&mut self) {
        if !self.running {
            self.running = true;
            self.stalled_ns = 0;
            self.set_phase(phase::RUNNING);
        }
    }

    fn end(&mut self) -> Round {
        if !self.ended || self.page.workers[self.core.index as usize].phase.load(Ordering::Relaxed) != phase::ENDED {
            self.ended = true;
            self.set_phase(phase::ENDED);
        }
        Round::Ended
    }

    fn set_phase(&mut self, phase: u32) {
        self.core.driver_news = true;
        // Release: pairs with the acquire of the host's poll.
        self.page.workers[self.core.index as usize].phase.store(phase, Ordering::Release);
    }
}

fn has_fence() -> bool {
    !is_on(Mutant::NoFence) && !is_on(Mutant::NoFenceInDevice)
}

fn is_over(now_ns: u64, lease_ns: u64) -> bool {
    now_ns >= lease_ns && (has_fence() || lease_ns == 0)
}

/// Words of a bit per worker.
const WORDS: usize = (ringfleet_abi::limits::WORKERS_MAX as usize).div_ceil(64);
