//! The main of a device process.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ringfleet_abi::{Control, ControlWord, Status};
use ringfleet_actor::TypeDescriptor;
use ringfleet_env::Clock;
use rustix::process::{Signal, set_parent_process_death_signal};

use super::device::GPU_LIMIT;
use super::engine::{CpuEngine, Engine, Words};
use super::handshake::{Facts, GroupFabric, Hello, Kind, Packet, Plan, Setup, await_any, await_packet, receive, send};
use super::rings::{Receiver, Sender};
use super::shared::SharedMap;
use crate::config::CpuDeviceConfig;
use crate::cpu::CpuDevice;
use crate::cuda::driver::Gpu;
use crate::cuda::engine::Host;
use crate::cuda::memory_map::{Capacity, fabric_parts};
use crate::cuda::nvshmem::UniqueId;
use crate::cuda::served::{GpuEngine, device_code, facts};
use crate::cuda::{CudaError, Resident, nvshmem, peers};

/// How long the agent may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long the agent of a GPU may take: the other GPUs of a group open and compile in that time. It gives up itself before that.
const GROUP_LIMIT: Duration = GPU_LIMIT;
/// Rounds without work before the loop sleeps.
const SPIN_ROUNDS: u32 = 64;
/// A loop that never sleeps looks whether its agent is there once in so many rounds.
const LOOK_ROUNDS: u32 = 256;
/// The first sleep, and the longest.
const SLEEP_FIRST: Duration = Duration::from_micros(30);
const SLEEP_MAX: Duration = Duration::from_millis(1);
/// Controls taken in one round.
const CONTROLS_PER_ROUND: usize = 256;

/// What a device process is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Threads.
    Cpu,
    /// The GPU of this ordinal; compiled code is kept in the folder.
    Gpu {
        /// Which, as the driver counts.
        ordinal: u32,
        /// Where compiled device code is kept.
        cache: PathBuf,
    },
}

/// Why a device process ended, other than because its agent wanted it to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The conversation with the agent failed.
    #[error("talking to the agent: {0}")]
    Agent(#[source] io::Error),
    /// The device did not start.
    #[error("starting the device: {0}")]
    Start(String),
    /// The agent did not keep to the handshake.
    #[error("the agent does not keep to the handshake")]
    Confused,
    /// The device failed.
    #[error("{0}")]
    Fault(String),
}

/// Serves one device to the agent at the other end of `socket`, until that agent goes.
///
/// A process that has joined a group by NVSHMEM ends here ([`nvshmem::leave`]).
///
/// # Errors
/// [`ServeError`]; the agent has been told, if it could be.
pub fn serve(
    role: &Role,
    types: &[&'static TypeDescriptor],
    clock: Arc<dyn Clock>,
    socket: OwnedFd,
) -> Result<(), ServeError> {
    let served = serve_device(role, types, clock, &socket);
    if let Err(error) = &served {
        // The agent may be gone: then there is nobody to tell.
        let _ = send(socket.as_fd(), &Packet::Fault(error.to_string()), None);
    }
    if let Err(error) = &served
        && nvshmem::has_joined()
    {
        let _ = writeln!(io::stderr(), "ringfleet device: {error}");
    }
    nvshmem::leave(i32::from(served.is_err()));
    served
}

fn serve_device(
    role: &Role,
    types: &[&'static TypeDescriptor],
    clock: Arc<dyn Clock>,
    socket: &OwnedFd,
) -> Result<(), ServeError> {
    // Nothing is left behind by an agent that is killed. If it has gone already, the socket has ended.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| ServeError::Agent(error.into()))?;
    match role {
        Role::Cpu => {
            let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
            let facts = Facts {
                kind: Kind::Cpu,
                name: "threads".into(),
                uuid: String::new(),
                cores,
                capability: (0, 0),
                driver_version: 0,
                memory_bytes: 0,
                memory_free_bytes: 0,
                peers: Vec::new(),
                nvlinks: BTreeMap::new(),
            };
            let hello = Hello::new(facts, types, |_| true);
            let Some((setup, map)) = shake_hands(socket, hello, ANSWER_LIMIT, &*clock)? else { return Ok(()) };
            let Plan::Cpu { ring_slots, spill_slots, batch, timers_max, spin_ns, stall_ns } = setup.plan else {
                return Err(ServeError::Confused);
            };
            let config = CpuDeviceConfig {
                workers: setup.shape.workers,
                ring_slots,
                ingress_slots: setup.shape.ingress_slots,
                egress_slots: setup.shape.egress_slots,
                control_slots: setup.shape.control_slots,
                status_slots: setup.shape.status_slots,
                spill_slots,
                batch,
                timers_max,
                spin_ns,
                stall_ns,
            };
            let device =
                CpuDevice::start(&config, types, clock.clone()).map_err(|error| ServeError::Start(chain(&error)))?;
            run(CpuEngine::new(map.clone(), device, clock), &map, socket)
        }
        Role::Gpu { ordinal, cache } => {
            let wrong = |error: CudaError| ServeError::Start(error.to_string());
            let gpu = Gpu::open(*ordinal).map_err(wrong)?;
            let hello = Hello::new(facts(&gpu).map_err(wrong)?, types, |ty| device_code(ty).is_some());
            let Some((setup, map)) = shake_hands(socket, hello, GROUP_LIMIT, &*clock)? else { return Ok(()) };
            let Plan::Gpu { arena_bytes, sets, shards, devices, device, fabric } = setup.plan else {
                return Err(ServeError::Confused);
            };
            if device >= devices {
                return Err(ServeError::Confused);
            }
            let Some(geometry) = GpuEngine::geometry(&gpu, devices, &map) else {
                return Err(ServeError::Start("the shared memory is not of this GPU's sizes".into()));
            };
            let host_ingress_slots = setup.shape.host_ingress_slots;
            let capacity = Capacity { arena_bytes, sets, shards, host_ingress_slots };
            let timer = clock.clone();
            let mut connect = |resident: &mut Resident| match fabric {
                GroupFabric::Vmm => join(resident, socket, device, &*timer),
                GroupFabric::Nvshmem => join_heap(resident, socket, device, &*timer),
            };
            let host = Host { map: &map, connect: &mut connect };
            let engine = GpuEngine::start(gpu, geometry, types, &capacity, cache, clock, host).map_err(wrong)?;
            run(engine, &map, socket)
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", chain(source)))
}

/// Hands the agent what the other devices of the group write here, and maps what this one writes there. Nothing runs yet, anywhere or
/// elsewhere: memory is handed out zeroed, which is what rings are at first, so it does not matter who is launched first.
fn join(resident: &mut Resident, socket: &OwnedFd, device: u32, clock: &dyn Clock) -> Result<(), CudaError> {
    let others = resident.geometry.devices - 1;
    if others == 0 {
        return Ok(());
    }
    let wrong = |error: io::Error| CudaError::Fabric(error.to_string());
    peers::seat(resident, device);
    let file = resident.memory.fabric.export()?.ok_or_else(|| CudaError::Fabric("it cannot be shared".into()))?;
    let bytes = resident.memory.fabric.bytes() as u64;
    send(socket.as_fd(), &Packet::Fabric { bytes }, Some(file.as_fd())).map_err(wrong)?;
    let until = clock.now() + GROUP_LIMIT;
    let mut known = BTreeSet::from([device]);
    for _ in 0..others {
        match await_packet(socket, until - clock.now(), clock).map_err(wrong)? {
            Some((Packet::Peer { device, bytes }, Some(file))) if known.insert(device) => {
                peers::attach(resident, device, file.as_fd(), bytes)?;
            }
            Some(_) => return Err(CudaError::Fabric("the agent does not keep to the handshake".into())),
            None => return Err(CudaError::Fabric("the agent has gone".into())),
        }
    }
    Ok(())
}

/// The same in a heap of NVSHMEM, for which the agent tells all the id of the first.
fn join_heap(resident: &mut Resident, socket: &OwnedFd, device: u32, clock: &dyn Clock) -> Result<(), CudaError> {
    if resident.geometry.devices == 1 {
        return Ok(());
    }
    nvshmem_environment(fabric_parts(&resident.geometry).bytes);
    peers::join_heap(resident, device, |own| {
        let wrong = |error: io::Error| CudaError::Fabric(error.to_string());
        if let Some(id) = own {
            send(socket.as_fd(), &Packet::Id(id.to_hex()), None).map_err(wrong)?;
            return Ok(id);
        }
        match await_packet(socket, GROUP_LIMIT, clock).map_err(wrong)? {
            Some((Packet::Id(id), None)) => {
                UniqueId::from_hex(&id).ok_or_else(|| CudaError::Fabric("that is no id of NVSHMEM".into()))
            }
            Some(_) => Err(CudaError::Fabric("the agent does not keep to the handshake".into())),
            None => Err(CudaError::Fabric("the agent has gone".into())),
        }
    })
}

#[allow(unsafe_code)]
fn nvshmem_environment(bytes: u64) {
    // SAFETY: a device process has no thread but this one before its device runs. Those of the driver have read what they want to know when it
    // was initialised.
    unsafe { nvshmem::set_environment(bytes) };
}

/// Says hello and takes what the agent answers; `None` if it has gone.
fn shake_hands(
    socket: &OwnedFd,
    hello: Hello,
    limit: Duration,
    clock: &dyn Clock,
) -> Result<Option<(Setup, Arc<SharedMap>)>, ServeError> {
    send(socket.as_fd(), &Packet::Hello(hello), None).map_err(ServeError::Agent)?;
    match await_packet(socket, limit, clock).map_err(ServeError::Agent)? {
        Some((Packet::Setup(setup), Some(file))) => {
            let map = SharedMap::adopt(file, setup.shape).map_err(ServeError::Agent)?;
            Ok(Some((setup, Arc::new(map))))
        }
        Some(_) => Err(ServeError::Confused),
        None => Ok(None),
    }
}

/// The loop of a device process.
struct Service<E> {
    engine: E,
    map: Arc<SharedMap>,
    control: Receiver,
    status: Sender,
    /// A control that the device had no room for; those behind it wait.
    waiting: Option<Control>,
}

/// Serves until the agent has gone.
pub(crate) fn run<E: Engine>(engine: E, map: &Arc<SharedMap>, socket: &OwnedFd) -> Result<(), ServeError> {
    let (control, status) = (Receiver::new(map.control()), Sender::new(map.status()));
    let mut service = Service { engine, map: map.clone(), control, status, waiting: None };
    send(socket.as_fd(), &Packet::Ready, None).map_err(ServeError::Agent)?;
    let (mut idle, mut rounds, mut sleep) = (0_u32, 0_u32, SLEEP_FIRST);
    loop {
        rounds = rounds.wrapping_add(1);
        let mut limit = None;
        if service.round()? {
            (idle, sleep) = (0, SLEEP_FIRST);
        } else {
            idle += 1;
            if idle > SPIN_ROUNDS {
                limit = Some(sleep);
                sleep = (sleep * 2).min(SLEEP_MAX);
            } else {
                std::thread::yield_now();
            }
        }
        if limit.is_none() && rounds.is_multiple_of(LOOK_ROUNDS) {
            limit = Some(Duration::ZERO);
        }
        // Sleeping is waiting for the agent's end.
        if let Some(limit) = limit
            && await_any([socket.as_fd()], limit).map_err(ServeError::Agent)?[0]
            && receive(socket.as_fd()).map_err(ServeError::Agent)?.is_none()
        {
            return Ok(());
        }
    }
}

impl<E: Engine> Service<E> {
    /// One round; says whether anything moved.
    fn round(&mut self) -> Result<bool, ServeError> {
        let broken = |_| ServeError::Fault("the agent wrote a position that cannot be".into());
        // First: controls that were sent before what these words say are in the ring.
        let words = Words::read(&self.map);
        let mut moved = self.take_controls()?;
        if self.waiting.is_none() {
            moved |= self.engine.carry(words).map_err(broken)?;
        }
        while self.status.has_room().map_err(broken)? {
            let Some(status) = self.engine.poll_status() else { break };
            let sent = self.status.push(&bytemuck::cast(status.encode())).map_err(broken)?;
            debug_assert!(sent, "there was room");
            moved |= status != Status::Stopped;
        }
        if let Some(wish) = self.map.counters_wish() {
            self.engine.copy_counters();
            self.map.counters_answer(wish);
        }
        if let Some(said) = self.engine.said() {
            // Standard error is the agent's; if nobody reads it, nobody wants to know.
            let _ = writeln!(io::stderr(), "ringfleet device: {said}");
        }
        match self.engine.fault() {
            Some(fault) => Err(ServeError::Fault(fault)),
            None => Ok(moved),
        }
    }

    fn take_controls(&mut self) -> Result<bool, ServeError> {
        let wrong = || ServeError::Fault("the agent wrote a control that cannot be".into());
        let mut moved = false;
        for _ in 0..CONTROLS_PER_ROUND {
            let control = match self.waiting.take() {
                Some(control) => control,
                None => {
                    let Some(word) = self.control.pop().map_err(|_| wrong())? else { break };
                    Control::decode(&bytemuck::cast::<_, ControlWord>(word)).map_err(|_| wrong())?
                }
            };
            if self.engine.submit(control).is_err() {
                self.waiting = Some(control);
                break;
            }
            moved = true;
        }
        Ok(moved)
    }
}
