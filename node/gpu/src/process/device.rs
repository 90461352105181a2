//! A device in a process of its own, behind [`Device`] (C2, C3, C4, C6, C7, C9).
//!
//! * Envelopes go through shared memory that the device reads and writes; the device process's threads carry them only where the device
//!   is made of threads.
//! * **Lease.** The deadline is written into the shared page in device time when it is granted. The device obeys the word: a stopped
//!   agent cannot prolong it, and a stopped device process cannot hold it back.
//! * **Distrust.** Nothing read from shared memory is used as an index or a number before it is checked; a device that writes what cannot
//!   be is given up like one that has ended.
//! * **End.** A process that has ended is told as [`Status::WorkerLost`], once, and takes nothing more.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ringfleet_abi::{Control, Envelope, LAYOUT_HASH, SetId, Status, StatusWord, WorkerCounters, WorkerIndex};
use ringfleet_actor::TypeDescriptor;
use ringfleet_env::Clock;

use super::child::{Held, Launch, LaunchError, Ready, Starting, Witness, begin};
use super::group::Member;
use super::handshake::{Facts, GroupFabric, Hello, Kind, Plan, Setup};
use super::hub::Seat;
use super::rings::{Receiver, Sender};
use super::routing::Routing;
use super::shape::Shape;
use super::shared::SharedMap;
use crate::config::CpuDeviceConfig;
use crate::cuda::lease::Lease;
use crate::cuda::port::{self, EgressPort, IngressPort};
use crate::device::{CodeChanges, Device, Full};

/// How long a device of threads may take until it is ready.
pub const CPU_LIMIT: Duration = Duration::from_secs(10);
/// How long a GPU may take: its device code may have to be compiled.
pub const GPU_LIMIT: Duration = Duration::from_secs(90);
/// How long [`ProcessDevice`] waits, when it is dropped, for a device that was not told to stop before.
const STOP_LIMIT_NS: u64 = 1_000_000_000;

/// What is asked of a device process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Threads.
    Cpu(CpuDeviceConfig),
    /// A GPU.
    Gpu(GpuConfig),
}

/// Sizes of a GPU's device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuConfig {
    /// Bytes for actors' records; `None`: half of what is free.
    pub arena_bytes: Option<u64>,
    /// Sets, ids up to this number exclusive.
    pub sets: u32,
    /// Shards of all sets together.
    pub shards: u32,
    /// Slots of the agent's ring to the device, a power of two.
    pub host_ingress_slots: u32,
    /// How GPUs that form one device share memory.
    pub fabric: GroupFabric,
}

impl GpuConfig {
    /// The defaults.
    pub const DEFAULT: GpuConfig = GpuConfig {
        arena_bytes: None,
        sets: 1024,
        shards: 16384,
        host_ingress_slots: 1 << 16,
        fabric: GroupFabric::Vmm,
    };
}

impl Wanted {
    /// The kind of the device.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Wanted::Cpu(_) => Kind::Cpu,
            Wanted::Gpu(_) => Kind::Gpu,
        }
    }

    /// How long the process may take until it is ready.
    #[must_use]
    pub fn limit(&self) -> Duration {
        match self {
            Wanted::Cpu(_) => CPU_LIMIT,
            Wanted::Gpu(_) => GPU_LIMIT,
        }
    }

    /// For member `member` of these; a device alone is member 0 of itself.
    fn setup(&self, hellos: &[Hello], member: usize) -> Setup {
        match self {
            Wanted::Cpu(config) => Setup { shape: Shape::of_cpu(config), plan: Plan::of_cpu(config) },
            Wanted::Gpu(config) => {
                let (facts, devices) = (&hellos[member].facts, hellos.len() as u32);
                let cores = hellos.iter().map(|hello| hello.facts.cores).min().unwrap_or(facts.cores);
                let geometry = ringfleet_kernels::Geometry::for_group(cores, devices);
                let shape = Shape {
                    workers: geometry.workers as u16,
                    host_ingress_slots: config.host_ingress_slots,
                    ingress_slots: geometry.ingress_slots,
                    egress_slots: geometry.egress_slots,
                    control_slots: CpuDeviceConfig::DEFAULT.control_slots,
                    status_slots: CpuDeviceConfig::DEFAULT.status_slots,
                };
                let arena_bytes = config.arena_bytes.unwrap_or(facts.memory_free_bytes / 2);
                let (sets, shards, fabric) = (config.sets, config.shards, config.fabric);
                let plan = Plan::Gpu { arena_bytes, sets, shards, devices, device: member as u32, fabric };
                Setup { shape, plan }
            }
        }
    }
}

/// Begins to start the process of one device, alone or at its seat in a group.
pub(crate) fn begin_member(
    launch: Launch,
    wanted: &Wanted,
    types: &[&'static TypeDescriptor],
    member: usize,
    seat: Option<Seat>,
    clock: Arc<dyn Clock>,
) -> Result<Starting, LaunchError> {
    let chosen = wanted.clone();
    begin(launch, wanted.kind(), types.to_vec(), move |hellos| chosen.setup(hellos, member), seat, clock)
}

/// A device process, from the agent's side.
#[derive(Debug)]
pub struct ProcessDevice {
    /// Ends the process; before the memory goes.
    held: Held,
    map: Arc<SharedMap>,
    hello: Hello,
    ingress: IngressPort,
    egress: EgressPort,
    control: Sender,
    status: Receiver,
    routing: Routing,
    clock: Arc<dyn Clock>,
    lease: Lease,
    stopping: bool,
    stopped: bool,
    lost: bool,
    /// The device wrote what cannot be.
    condemned: bool,
    arena_bytes: u64,
    events: VecDeque<Status>,
}

impl ProcessDevice {
    /// Starts the process and waits until its device is ready. It is fenced until the first lease. `types` is the table that
    /// [`Control::AddSet`] indexes; the process must have the same.
    ///
    /// # Errors
    /// [`LaunchError`]; nothing is left behind then.
    pub fn start(
        launch: Launch,
        wanted: &Wanted,
        types: &[&'static TypeDescriptor],
        clock: Arc<dyn Clock>,
    ) -> Result<Self, LaunchError> {
        Ok(Self::new(begin_member(launch, wanted, types, 0, None, clock.clone())?.finish()?, clock))
    }

    pub(crate) fn new(ready: Ready, clock: Arc<dyn Clock>) -> Self {
        let map = ready.map;
        let shape = *map.shape();
        let geometry = shape.geometry();
        Self {
            held: ready.held,
            hello: ready.hello,
            ingress: IngressPort::new(&geometry, shape.host_ingress_slots),
            egress: EgressPort::new(&geometry),
            control: Sender::new(map.control()),
            status: Receiver::new(map.status()),
            routing: Routing::new(shape.workers),
            lease: Lease::new(clock.clone()),
            clock,
            stopping: false,
            stopped: false,
            lost: false,
            condemned: false,
            arena_bytes: ready.arena_bytes,
            events: VecDeque::from([Status::Started { workers: shape.workers, layout_hash: LAYOUT_HASH }]),
            map,
        }
    }

    /// What the process said about its device.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.hello.facts
    }

    /// Names of the types that this device runs.
    pub fn runs(&self) -> impl Iterator<Item = &str> {
        self.hello.types.iter().filter(|ty| ty.runs).map(|ty| ty.name.as_str())
    }

    /// Envelopes that may be outstanding at one worker.
    #[must_use]
    pub fn ingress_slots(&self) -> u32 {
        self.map.shape().ingress_slots
    }

    /// Sizes of the memory that is shared with the process.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        self.map.shape()
    }

    /// The id of the process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.held.pid
    }

    /// Why the device is lost, if it is: what it wrote that cannot be, its last words, or how it ended.
    #[must_use]
    pub fn why_lost(&self) -> Option<String> {
        self.is_lost().then(|| self.witness().why().unwrap_or_else(|| "it has ended".into()))
    }

    /// Who can say why the device was lost when this value is gone.
    #[must_use]
    pub fn witness(&self) -> Witness {
        self.held.witness()
    }

    /// Bytes for actors' records; 0 where the host's memory is taken as it is needed.
    #[must_use]
    pub fn arena_bytes(&self) -> u64 {
        self.arena_bytes
    }

    fn condemn(&mut self, what: &'static str) {
        if !self.condemned {
            self.condemned = true;
            self.held.condemn(format!("it wrote {what} that cannot be"));
        }
    }

    /// Whether the device wrote what cannot be: nothing of the shared memory is believed any more. What a process wrote before it ended is.
    fn is_distrusted(&self) -> bool {
        self.condemned || self.ingress.is_broken() || self.egress.is_broken()
    }

    fn is_lost(&self) -> bool {
        self.lost || self.is_distrusted() || self.held.is_gone()
    }

    fn next_status(&mut self) -> Option<Status> {
        let word = match self.status.pop() {
            Ok(word) => word?,
            Err(_) => {
                self.condemn("a position in the ring of statuses");
                return None;
            }
        };
        let word: StatusWord = bytemuck::cast(word);
        match Status::decode(&word) {
            Ok(status) if self.routing.came(&status) => Some(status),
            _ => {
                self.condemn("a status");
                None
            }
        }
    }

    fn state_event(&mut self) -> Option<Status> {
        if self.ingress.is_broken() || self.egress.is_broken() {
            self.condemn("a position in a ring of envelopes");
        }
        if self.is_lost() {
            if self.stopping {
                return (!std::mem::replace(&mut self.stopped, true)).then_some(Status::Stopped);
            }
            let first = !std::mem::replace(&mut self.lost, true);
            return first.then_some(Status::WorkerLost { worker: WorkerIndex(0) });
        }
        if self.stopping { None } else { self.lease.poll() }
    }
}

impl Member for ProcessDevice {
    fn push_to(&mut self, worker: WorkerIndex, envelope: &Envelope) -> bool {
        !self.is_lost() && self.ingress.push(&*self.map, worker, envelope)
    }

    fn publish(&mut self) {
        self.ingress.publish(&*self.map);
    }
}

impl Device for ProcessDevice {
    fn push_ingress(&mut self, envelopes: &[Envelope]) -> usize {
        if self.is_lost() {
            return 0;
        }
        let mut taken = 0;
        for envelope in envelopes {
            if !self.ingress.push(&*self.map, self.routing.worker_of(envelope), envelope) {
                break;
            }
            taken += 1;
        }
        self.ingress.publish(&*self.map);
        taken
    }

    fn ingress_worker(&self, envelope: &Envelope) -> WorkerIndex {
        self.routing.worker_of(envelope)
    }

    fn poll_egress(&mut self, envelopes: &mut [Envelope]) -> usize {
        if self.is_distrusted() {
            return 0;
        }
        self.egress.poll(&*self.map, envelopes)
    }

    fn egress_is_behind(&self) -> bool {
        self.is_distrusted() || self.egress.is_behind()
    }

    fn submit(&mut self, control: Control) -> Result<(), Full> {
        match control {
            Control::Lease { deadline_ns } => self.lease.grant(&*self.map, deadline_ns),
            Control::Pause | Control::Resume => self.lease.pause(&*self.map, control == Control::Pause),
            Control::Stop => {
                self.stopping = true;
                port::set_stop(&*self.map, true);
            }
            _ => match self.control.push(&bytemuck::cast(control.encode())) {
                Ok(true) => self.routing.sent(&control),
                Ok(false) => return Err(Full),
                // Nothing more is taken: what is refused now is refused for good, and the loss is told.
                Err(_) => {
                    self.condemn("a position in the ring of controls");
                    return Err(Full);
                }
            },
        }
        Ok(())
    }

    fn poll_status(&mut self) -> Option<Status> {
        if let Some(event) = self.events.pop_front().or_else(|| self.egress.take_event()) {
            return Some(event);
        }
        if !self.is_lost()
            && let Some(status) = self.next_status()
        {
            self.stopped |= status == Status::Stopped;
            return Some(status);
        }
        self.state_event()
    }

    fn counters(&self, worker: WorkerIndex) -> WorkerCounters {
        if worker.0 >= self.workers() {
            return WorkerCounters::default();
        }
        // Read before the other counters: whatever it acknowledges is in the egress ring already.
        let ingress_done = self.ingress_done(worker);
        self.map.ask_counters();
        WorkerCounters { ingress_done, ..self.map.read_counters(worker) }
    }

    fn ingress_done(&self, worker: WorkerIndex) -> u64 {
        if worker.0 >= self.workers() {
            return 0;
        }
        if self.is_distrusted() { self.ingress.last_done(worker) } else { self.ingress.done(&*self.map, worker) }
    }

    fn workers(&self) -> u16 {
        self.map.shape().workers
    }

    fn actors_by_set(&self) -> BTreeMap<SetId, u64> {
        self.map.ask_counters();
        if self.is_distrusted() { BTreeMap::new() } else { self.map.read_actors() }
    }

    fn code_changes(&self) -> CodeChanges {
        self.map.read_changes()
    }
}

impl Drop for ProcessDevice {
    fn drop(&mut self) {
        port::set_stop(&*self.map, true);
        // A kernel that runs while its process is torn down would be torn down with it; a moment is given to end in order.
        let began_ns = self.clock.monotonic_ns();
        self.stopping = true;
        while !self.stopped && !self.is_lost() && self.clock.monotonic_ns() - began_ns < STOP_LIMIT_NS {
            if self.next_status() == Some(Status::Stopped) {
                self.stopped = true;
            } else {
                std::thread::park_timeout(Duration::from_micros(100));
            }
        }
    }
}
