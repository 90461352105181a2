//! A device with one set at a time, driven by the bench.

use std::sync::Arc;

use ringfleet_abi::hash::fnv1a32;
use ringfleet_abi::{
    ActorId, Control, Envelope, Epoch, Flags, KeySpace, RestartMode, RouteTarget, SessionId, SetId, ShardId,
    ShardIndex, Status, WorkerCounters, WorkerIndex,
};
use ringfleet_actor::{Message, TypeRegistry};
use ringfleet_env::Clock;
use ringfleet_gpu::Device;

/// How long anything that is not measured may take.
const WAIT_NS: u64 = 30_000_000_000;
/// A copy of counters that was asked for is there after this time.
const COPY_NS: u64 = 5_000_000;
/// Shards of the set; no less than the workers.
const SHARDS_MIN: u16 = 64;

/// Why a bench stopped.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Something did not come.
    #[error("waited {seconds} s for {what}; {counted}")]
    Late {
        /// What.
        what: String,
        /// What the workers have counted.
        counted: String,
        /// For how long.
        seconds: u64,
    },
    /// The device is gone.
    #[error("the device is lost")]
    Lost,
    /// A shard has no room.
    #[error("the device has no room for {actors} actors")]
    NoRoom {
        /// How many were asked for.
        actors: u64,
    },
    /// The build has no such type.
    #[error("the actor type `{0}` is not linked")]
    NoType(String),
    /// The device cannot run the type.
    #[error("the device's queue of controls stays full")]
    Full,
}

/// A device and what is deployed on it.
pub struct Rig {
    pub(super) device: Box<dyn Device>,
    pub(super) clock: Arc<dyn Clock>,
    types: TypeRegistry,
    set: SetId,
    shards: u16,
    version: u64,
    out: Vec<Envelope>,
}

impl Rig {
    /// A rig around a device that has just started; `types` is its table.
    #[must_use]
    pub fn new(mut device: Box<dyn Device>, types: TypeRegistry, clock: Arc<dyn Clock>) -> Self {
        // The bench is the only one who could be fenced.
        let deadline_ns = clock.monotonic_ns() + 24 * 3_600_000_000_000;
        let granted = device.submit(Control::Lease { deadline_ns });
        debug_assert!(granted.is_ok(), "a lease is always taken");
        let shards = device.workers().max(SHARDS_MIN);
        Self { device, clock, types, set: SetId(0), shards, version: 0, out: vec![Envelope::default(); 4096] }
    }

    /// Nanoseconds of the clock.
    pub(super) fn now_ns(&self) -> u64 {
        self.clock.monotonic_ns()
    }

    /// Drives the device until something is true.
    pub(super) fn until(
        &mut self,
        what: &str,
        limit_ns: u64,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> Result<(), BenchError> {
        let end_ns = self.now_ns() + limit_ns;
        while !done(self) {
            if self.now_ns() >= end_ns {
                return Err(self.late(what, limit_ns));
            }
            std::hint::spin_loop();
        }
        Ok(())
    }

    /// The error of a wait that was too long.
    pub(super) fn late(&self, what: &str, limit_ns: u64) -> BenchError {
        let total = self.fresh();
        let counted = format!(
            "{} handled, {} dead-lettered, {} refused, {} in flight",
            total.handled,
            total.dead_total(),
            total.refused,
            total.in_flight()
        );
        BenchError::Late { what: what.to_owned(), counted, seconds: limit_ns / 1_000_000_000 }
    }

    /// The counters of now: a look asks for a new copy and gives the old one.
    pub(super) fn fresh(&self) -> WorkerCounters {
        let (mut total, end_ns) = (self.device.total(), self.now_ns() + COPY_NS);
        while self.now_ns() < end_ns {
            total = self.device.total();
        }
        total
    }

    fn submit(&mut self, control: Control) -> Result<(), BenchError> {
        let end_ns = self.now_ns() + WAIT_NS;
        while self.device.submit(control).is_err() {
            if self.now_ns() >= end_ns {
                return Err(BenchError::Full);
            }
            std::hint::spin_loop();
        }
        Ok(())
    }

    /// Waits for so many statuses of a kind.
    fn await_statuses(&mut self, what: &str, count: u16, wanted: impl Fn(&Status) -> bool) -> Result<(), BenchError> {
        let (mut seen, mut failed, mut lost) = (0, false, false);
        self.until(what, WAIT_NS, |rig| {
            while let Some(status) = rig.device.poll_status() {
                seen += u16::from(wanted(&status));
                failed |= matches!(status, Status::AssignFailed { .. });
                lost |= matches!(status, Status::WorkerLost { .. });
            }
            seen >= count || failed || lost
        })?;
        match (lost, failed) {
            (true, _) => Err(BenchError::Lost),
            (_, true) => Err(BenchError::NoRoom { actors: 0 }),
            _ => Ok(()),
        }
    }

    /// Deploys a set that is named like its type, with these keys, on all workers; gives the counters before any message.
    pub(super) fn deploy(&mut self, name: &str, actors: u64) -> Result<WorkerCounters, BenchError> {
        let keys = KeySpace::Dense { count: actors };
        let index = self.types.iter().position(|ty| ty.name == name);
        let type_index = Some(index.ok_or_else(|| BenchError::NoType(name.to_owned()))? as u16);
        self.set = SetId(self.set.0 + 1);
        let (set, shards, workers) = (self.set, self.shards, self.device.workers());
        let tag = fnv1a32(name.as_bytes());
        let restart = RestartMode::Stop;
        let actors_per_shard = u32::try_from(keys.keys_per_shard(shards)).unwrap_or(u32::MAX);
        self.submit(Control::AddSet { set, tag, type_index, keys, shards, actors_per_shard, restart })?;
        for index in 0..shards {
            let shard = ShardId::new(set, ShardIndex(index));
            // Neighbouring shards on one worker: as a planner would not, but as a bench of dense keys may.
            let worker = WorkerIndex((u32::from(index) * u32::from(workers) / u32::from(shards)) as u16);
            self.submit(Control::Assign { shard, epoch: Epoch(1), worker })?;
            self.submit(Control::Route { shard, target: RouteTarget::Worker(worker) })?;
        }
        self.version += 1;
        let version = self.version;
        self.submit(Control::RouteCommit { version })?;
        self.await_statuses("the set", shards + 1, |status| {
            *status == Status::RouteFlushed { version } || matches!(status, Status::Assigned { .. })
        })
        .map_err(|error| match error {
            BenchError::NoRoom { .. } => BenchError::NoRoom { actors },
            other => other,
        })?;
        self.settled()
    }

    /// Removes the set, with its memory.
    pub(super) fn withdraw(&mut self) -> Result<(), BenchError> {
        let (set, shards) = (self.set, self.shards);
        for index in 0..shards {
            let shard = ShardId::new(set, ShardIndex(index));
            self.submit(Control::Release { shard, epoch: Epoch(1) })?;
        }
        self.await_statuses("the set's end", shards, |status| matches!(status, Status::Released { .. }))?;
        self.submit(Control::RemoveSet { set })
    }

    /// The counters of a device that does nothing: nothing in flight, and the same for some time.
    pub(super) fn settled(&mut self) -> Result<WorkerCounters, BenchError> {
        let (mut last, mut since_ns) = (self.device.total(), self.now_ns());
        self.until("the device to come to rest", WAIT_NS, |rig| {
            let now = rig.device.total();
            if now != last {
                (last, since_ns) = (now, rig.now_ns());
            }
            rig.drain();
            // Copies of counters may be some milliseconds old.
            now.in_flight() == 0 && rig.now_ns() - since_ns > 20_000_000
        })?;
        Ok(last)
    }

    /// An envelope from the bench's session; ask number 0 is a tell.
    pub(super) fn message<M: Message>(&self, key: u64, ask: u32, message: &M) -> Envelope {
        let flags = if ask == 0 { Flags::NONE } else { Flags::ASK };
        message.to_envelope(ActorId::client(SessionId(1), ask), ActorId::new(self.set, key), flags)
    }

    /// Takes what the device gives and forgets it; says how many.
    pub(super) fn drain(&mut self) -> usize {
        self.device.poll_egress(&mut self.out)
    }

    /// Stops the device and waits for its end.
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop(mut self) -> Result<(), BenchError> {
        self.submit(Control::Stop)?;
        self.await_statuses("the device's end", 1, |status| *status == Status::Stopped)
    }
}
