//! What a device process drives: threads, behind the same shared pages that a GPU's kernel reads and writes.
//!
//! The kernel reads the agent's ring and writes the egress rings by itself. Threads know neither, so [`CpuEngine`] carries: it is the
//! kernel's router block and the ends of its workers, in one loop of one thread. It keeps what the pages promise: what was said by
//! control before is carried out before an envelope behind it; a worker's verdicts are in its egress ring before `ingress_done` counts
//! their messages (C3, C4); nothing is published past the lease (C2).
#![allow(unsafe_code)]

use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use ringfleet_abi::{Control, Envelope, Status, WorkerIndex};
use ringfleet_env::Clock;
use ringfleet_kernels::layout::HostPage;

pub(crate) use super::rings::Broken as Unbelievable;
use super::rings::Broken;
use super::shared::SharedMap;
use crate::cpu::CpuDevice;
use crate::cuda::port::{DEST_SLOT_BITS, word32, word64};
use crate::device::{Device, Full};
use crate::host_memory::HostMemory;

/// Envelopes carried for one worker at a time.
const BATCH: usize = 512;

/// The agent's words, read before the rings: what they say holds for everything that is found behind them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    pub(crate) stop: bool,
    pub(crate) lease_ns: u64,
    pub(crate) ingress_tail: u32,
}

impl Words {
    pub(crate) fn read(map: &SharedMap) -> Self {
        // Acquire: pairs with the agent's releases; controls that it sent before are found in the ring.
        Self {
            stop: word32(map, offset_of!(HostPage, stop)).load(Ordering::Acquire) != 0,
            lease_ns: word64(map, offset_of!(HostPage, lease_deadline_ns)).load(Ordering::Acquire),
            ingress_tail: word32(map, offset_of!(HostPage, ingress_tail)).load(Ordering::Acquire),
        }
    }
}

/// What serves the shared pages.
pub(crate) trait Engine {
    /// Takes a control of the ring.
    fn submit(&mut self, control: Control) -> Result<(), Full>;
    /// The next event.
    fn poll_status(&mut self) -> Option<Status>;
    /// Carries on; says whether anything moved.
    fn carry(&mut self, words: Words) -> Result<bool, Broken>;
    /// Copies all counters into the shared memory.
    fn copy_counters(&mut self);
    /// Something that operators may want to know, once.
    fn said(&mut self) -> Option<String> {
        None
    }
    /// Why it cannot go on, if it cannot.
    fn fault(&mut self) -> Option<String>;
}

/// Threads behind shared pages.
#[derive(Debug)]
pub(crate) struct CpuEngine {
    map: Arc<SharedMap>,
    device: CpuDevice,
    clock: Arc<dyn Clock>,
    head: u32,
    tails: Vec<u32>,
    lease_ns: u64,
    stopping: bool,
    batch: Vec<Envelope>,
    lost: Option<WorkerIndex>,
    /// Flushed routes, while egress that was published before may still be in the device.
    flushed: Option<u64>,
    /// Flushed routes of which the agent may be told: the shared memory has that egress.
    carried: Option<u64>,
}

impl CpuEngine {
    pub(crate) fn new(map: Arc<SharedMap>, device: CpuDevice, clock: Arc<dyn Clock>) -> Self {
        let workers = usize::from(device.workers());
        let engine = Self {
            map,
            device,
            clock,
            head: 0,
            tails: vec![0; workers],
            lease_ns: 0,
            stopping: false,
            batch: vec![Envelope::default(); BATCH],
            lost: None,
            flushed: None,
            carried: None,
        };
        engine.show_time();
        engine
    }

    /// The router's word for "I run": device time, which is this machine's clock.
    fn show_time(&self) {
        word64(&*self.map, offset_of!(HostPage, device_ns)).store(self.clock.monotonic_ns(), Ordering::Release);
    }

    fn carry_ingress(&mut self, tail: u32) -> Result<bool, Broken> {
        let slots = self.map.shape().host_ingress_slots;
        if tail.wrapping_sub(self.head) > slots {
            return Err(Broken);
        }
        let before = self.head;
        while self.head != tail {
            let at = (self.head & (slots - 1)) as usize;
            // SAFETY: a slot below the published tail that has not been given back: the agent does not write it.
            let (envelope, dest) = unsafe {
                (self.map.host_ingress().at::<Envelope>(at).read(), self.map.host_dest().at::<u32>(at).read())
            };
            let worker = dest >> DEST_SLOT_BITS;
            if worker >= u32::from(self.device.workers()) {
                return Err(Broken);
            }
            // Never full: the agent keeps no more outstanding at a worker than its ring holds.
            if !self.device.push_to(WorkerIndex(worker as u16), &envelope) {
                break;
            }
            self.head = self.head.wrapping_add(1);
        }
        if self.head == before {
            return Ok(false);
        }
        self.device.publish_ingress();
        // Release: our reads of these slots are over.
        word32(&*self.map, offset_of!(HostPage, ingress_head)).store(self.head, Ordering::Release);
        Ok(true)
    }

    /// Carries what a worker sent, and then says what it is done with. Gives whether anything moved, and whether that was all.
    fn carry_egress(&mut self, worker: WorkerIndex) -> Result<(bool, bool), Broken> {
        let w = usize::from(worker.0);
        let slots = self.map.shape().egress_slots;
        // Before the taking: every verdict that this number counts is in the worker's egress by now.
        let done = self.device.ingress_done(worker);
        let mut moved = false;
        loop {
            let head = word32(&*self.map, offset_of!(HostPage, egress_head) + w * 4).load(Ordering::Acquire);
            let used = self.tails[w].wrapping_sub(head);
            if used > slots {
                return Err(Broken);
            }
            let room = ((slots - used) as usize).min(BATCH);
            let count = self.device.poll_egress_of(worker, &mut self.batch[..room]);
            for (k, envelope) in self.batch[..count].iter().enumerate() {
                let at = w * slots as usize + (self.tails[w].wrapping_add(k as u32) & (slots - 1)) as usize;
                // SAFETY: a slot beyond the published tail and not before the agent's head: the agent does not read it.
                unsafe { self.map.egress().at::<Envelope>(at).write(*envelope) };
            }
            if count > 0 {
                moved = true;
                self.tails[w] = self.tails[w].wrapping_add(count as u32);
                // Pairs with the agent's acquire fence after its load.
                fence(Ordering::Release);
                word32(&*self.map, offset_of!(HostPage, egress_tail) + w * 4).store(self.tails[w], Ordering::Relaxed);
            }
            if count < room {
                break;
            }
            if room == 0 {
                // The agent does not drain it; what is done waits with what is said about it.
                return Ok((moved, false));
            }
        }
        let shown = word64(&*self.map, offset_of!(HostPage, ingress_done) + w * 8);
        if shown.load(Ordering::Relaxed) != done {
            shown.store(done, Ordering::Release);
            moved = true;
        }
        Ok((moved, true))
    }
}

impl Engine for CpuEngine {
    fn submit(&mut self, control: Control) -> Result<(), Full> {
        self.device.submit(control)
    }

    fn poll_status(&mut self) -> Option<Status> {
        if let Some(version) = self.carried.take() {
            return Some(Status::RouteFlushed { version });
        }
        loop {
            let status = self.device.poll_status()?;
            match status {
                // C3: what was sent before is in the device's egress now, and in the shared memory after the next carrying.
                Status::RouteFlushed { version } => self.flushed = self.flushed.max(Some(version)),
                // The agent derives these from the lease that it writes.
                Status::Fenced | Status::Unfenced | Status::Started { .. } => {}
                Status::WorkerLost { worker } => {
                    self.lost = Some(worker);
                    return Some(status);
                }
                _ => return Some(status),
            }
        }
    }

    fn carry(&mut self, words: Words) -> Result<bool, Broken> {
        self.show_time();
        if words.lease_ns != self.lease_ns && self.device.submit(Control::Lease { deadline_ns: words.lease_ns }).is_ok()
        {
            self.lease_ns = words.lease_ns;
        }
        if words.stop && !self.stopping && self.device.submit(Control::Stop).is_ok() {
            self.stopping = true;
        }
        let mut moved = self.carry_ingress(words.ingress_tail)?;
        let mut all = true;
        for worker in 0..self.device.workers() {
            // C2: looked at for every worker, because carrying takes time.
            if self.clock.monotonic_ns() < self.lease_ns {
                let (any, all_of_it) = self.carry_egress(WorkerIndex(worker))?;
                moved |= any;
                all &= all_of_it;
            } else {
                all = false;
            }
        }
        if all && let Some(version) = self.flushed.take() {
            self.carried = Some(version);
            moved = true;
        }
        Ok(moved)
    }

    fn copy_counters(&mut self) {
        for worker in 0..self.device.workers() {
            let worker = WorkerIndex(worker);
            self.map.write_counters(worker, &self.device.counters(worker));
        }
        self.map.write_actors(&self.device.actors_by_set());
    }

    fn fault(&mut self) -> Option<String> {
        self.lost.map(|worker| format!("worker {worker} has failed"))
    }
}
