//! The devices of a node: started before it joins, watched, started again when they were lost, left out when they are suspect (C2, C9).
//!
//! ```text
//!             start                    lost                      twice within a minute
//!   Stopped ─────────> Running ──────────────────> Pausing ───────────────────────────> Suspect
//!                         ^   new incarnation         │                                    │ `ringfleet device clear`
//!                         └───────────────────────────┴────────────────────────────────────┘
//! ```
//!
//! * A device in a process of its own may be lost: the agent gives up the incarnation with all it held, leaves, and joins as a new one
//!   with new devices, so that every shard is placed anew at the next epoch and senders are told. (Losing one device of several costs all
//!   shards of the node; the seam for a finer answer is [`Devices::lost`].)
//! * GPUs that send to each other are one device with a process each. The one that was lost is counted, and marked; the others form the
//!   next group without it.
//! * A device of threads in the agent's process is lost by a bug only, and that ends the agent.
//! * A mark of suspicion is a file in the node's state folder, so it outlives the agent and anybody on the machine can look at it, and
//!   remove it. Without such a folder it is kept in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringfleet_abi::DeviceIndex;
use ringfleet_actor::TypeRegistry;
use ringfleet_env::Env;
use ringfleet_gpu::process::backoff::{Faults, Verdict};
use ringfleet_gpu::process::{GroupDevice, Kind, Launch, LaunchError, ProcessDevice, Wanted, Witness, start_group};
use ringfleet_gpu::{CpuDevice, CpuDeviceConfig, Device};
use ringfleet_proto::DeviceConfig as ProtoDevice;
use ringfleet_proto::control::{DeviceKind, DeviceReport, TypeReport};

use crate::agent::device_index;
use crate::config::DeviceConfig;
use crate::error::NodeError;
use crate::report;
use crate::shared::Shared;

/// Between two looks whether a mark of suspicion is gone, while no device is left.
const SUSPECT_LOOK: Duration = Duration::from_millis(250);
/// What the name of a mark begins with.
const MARK: &str = "suspect-";

/// A device that has started.
pub struct StartedDevice {
    /// The device.
    pub device: Box<dyn Device>,
    /// What the coordinator is told of it.
    pub report: DeviceReport,
    /// What the protocol is told of it.
    pub proto: ProtoDevice,
    /// Names of the types that it cannot run.
    cannot: BTreeSet<String>,
    /// The GPUs that each of its GPUs reaches, by UUID, with the NVLinks to them.
    reaches: Vec<BTreeMap<String, u16>>,
}

/// What the page of metrics shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceHealth {
    /// Losses by name of device.
    pub lost: BTreeMap<String, u64>,
    /// Names of devices that are not used.
    pub suspect: BTreeSet<String>,
}

/// A device that runs: its place among the configurations, and who saw the end of each of its processes, by name; none for threads in the
/// agent's process.
#[derive(Clone)]
struct Running {
    place: usize,
    processes: Vec<(String, Witness)>,
}

/// A device with its processes: a GPU, or several that send to each other.
type Started = (StartedDevice, Vec<(String, Witness)>);

/// The devices of a node.
pub struct Devices {
    env: Env,
    configs: Vec<DeviceConfig>,
    types: TypeRegistry,
    state: Option<PathBuf>,
    faults: BTreeMap<String, Faults>,
    pauses: BTreeMap<String, Duration>,
    /// Marks without a folder.
    marked: BTreeSet<String>,
    /// What runs, by index.
    running: Vec<Running>,
}

impl Devices {
    /// The devices of this configuration; none runs.
    #[must_use]
    pub fn new(env: &Env, configs: &[DeviceConfig], types: &TypeRegistry, state: Option<PathBuf>) -> Self {
        Self {
            env: env.clone(),
            configs: configs.to_vec(),
            types: types.clone(),
            state,
            faults: BTreeMap::new(),
            pauses: BTreeMap::new(),
            marked: BTreeSet::new(),
            running: Vec::new(),
        }
    }

    /// Starts every device that may be used, and waits until there is one; `shared` shows meanwhile which ones are lost and suspect.
    ///
    /// # Errors
    /// A device that did not start though it was never lost: what was configured is not there.
    pub async fn start(&mut self, shared: &Shared) -> Result<Vec<StartedDevice>, NodeError> {
        loop {
            self.show(shared);
            self.running.clear();
            let mut started = Vec::new();
            let mut place = 0;
            for config in self.configs.clone() {
                for (nth, (device, processes)) in
                    self.start_one(&config, started.len(), shared).await?.into_iter().enumerate()
                {
                    self.running.push(Running { place: place + nth, processes });
                    started.push(device);
                }
                // A group that had to be taken apart is as many devices.
                place += names_of(&config).len().max(1);
            }
            if !started.is_empty() {
                link_up(&mut started);
                self.show(shared);
                return Ok(started);
            }
            self.env.sleep(SUSPECT_LOOK).await;
        }
    }

    /// Starts what one configuration asks for, without what is suspect: nothing if all of it is, one device, or the members of a group of
    /// GPUs that cannot reach each other.
    async fn start_one(
        &mut self,
        config: &DeviceConfig,
        index: usize,
        shared: &Shared,
    ) -> Result<Vec<Started>, NodeError> {
        if let DeviceConfig::Cpu(cpu) = config {
            return Ok(vec![(self.start_threads(cpu, index)?, Vec::new())]);
        }
        let (mut apart, mut started) = (false, Vec::new());
        let mut waiting = processes_of(config);
        loop {
            waiting.retain(|process| !self.is_suspect(&process.name));
            if waiting.is_empty() {
                return Ok(started);
            }
            let now = if apart { &waiting[..1] } else { &waiting[..] };
            if let Some(pause) = now.iter().filter_map(|process| self.pauses.remove(&process.name)).max() {
                self.env.sleep(pause).await;
            }
            match self.start_processes(now, index + started.len()).await {
                Ok(device) => {
                    started.push(device);
                    waiting.drain(..now.len());
                }
                Err((_, LaunchError::Unreachable { .. })) if !apart => {
                    let names: Vec<&str> = now.iter().map(|process| process.name.as_str()).collect();
                    tracing::warn!(
                        devices = %names.join(", "),
                        "these GPUs do not all reach each other's memory: each is a device of its own"
                    );
                    apart = true;
                }
                Err((member, error)) => {
                    let name = now[member].name.clone();
                    // It has run before: the machine can do it, so it is tried again, within bounds.
                    if !self.faults.contains_key(&name) {
                        let index = device_index(index).0;
                        return Err(NodeError::Device { index, reason: format!("{name}: {error}") });
                    }
                    self.fault(&name, &error.to_string());
                    // A pause may follow, and starting takes its time.
                    self.show(shared);
                }
            }
        }
    }

    fn start_threads(&self, cpu: &CpuDeviceConfig, index: usize) -> Result<StartedDevice, NodeError> {
        let types: Vec<_> = self.types.iter().collect();
        let index = device_index(index);
        let device = if self.env.has_threads() {
            CpuDevice::start(cpu, &types, self.env.clock())
        } else {
            CpuDevice::start_tasks(&self.env, cpu, &types)
        };
        let device = device.map_err(|error| NodeError::Device { index: index.0, reason: error.to_string() })?;
        let report = DeviceReport {
            index: index.0,
            kind: DeviceKind::Cpu,
            workers: cpu.workers,
            // The host's memory is not set aside for actors: no bound of its own.
            memory_bytes: 0,
            gpus: Vec::new(),
        };
        let proto = ProtoDevice { workers: cpu.workers, ingress_capacity: cpu.ingress_slots };
        Ok(StartedDevice { device: Box::new(device), report, proto, cannot: BTreeSet::new(), reaches: Vec::new() })
    }

    /// Starts processes that are one device together; says which one failed.
    async fn start_processes(&self, processes: &[Process], index: usize) -> Result<Started, (usize, LaunchError)> {
        let types: Vec<_> = self.types.iter().collect();
        let (clock, mine) = (self.env.clock(), processes.to_vec());
        let start = move || match &mine[..] {
            [alone] => {
                let device = ProcessDevice::start(alone.launch.clone(), &alone.wanted, &types, clock);
                device.map(|device| vec![device]).map_err(|error| (0, error))
            }
            together => {
                // Every member of a group is a GPU of one configuration.
                let Wanted::Gpu(wanted) = &together[0].wanted else { return Err((0, LaunchError::Confused)) };
                let launches = together.iter().map(|process| process.launch.clone()).collect();
                start_group(launches, wanted, &types, &clock).map_err(|error| (error.member, error.source))
            }
        };
        let mut members = self.env.run_blocking(start).await?;
        let (mut cannot, mut seen) = (BTreeSet::new(), Vec::new());
        for (process, device) in processes.iter().zip(&members) {
            let (name, facts) = (&process.name, device.facts());
            tracing::info!(
                device = %name, pid = device.pid(), kind = ?facts.kind, hardware = %facts.name,
                group = members.len(), "device started"
            );
            let runs: BTreeSet<&str> = device.runs().collect();
            let types = self.types.iter().map(|ty| ty.name);
            cannot.extend(types.filter(|ty| !runs.contains(ty)).map(str::to_owned));
            seen.push((name.clone(), device.witness()));
        }
        let kind = match members[0].facts().kind {
            Kind::Cpu => DeviceKind::Cpu,
            Kind::Gpu => DeviceKind::Gpu,
        };
        let facts = || members.iter().map(ProcessDevice::facts).filter(|facts| facts.kind == Kind::Gpu);
        let (gpus, reaches) = (facts().map(report::gpu).collect(), facts().map(report::reaches).collect());
        let memory_bytes = members.iter().map(ProcessDevice::arena_bytes).sum();
        let ingress_capacity = members[0].ingress_slots();
        let device: Box<dyn Device> =
            if members.len() == 1 { Box::new(members.remove(0)) } else { Box::new(GroupDevice::new(members)) };
        let workers = device.workers();
        let report = DeviceReport { index: device_index(index).0, kind, workers, memory_bytes, gpus };
        let proto = ProtoDevice { workers, ingress_capacity };
        Ok((StartedDevice { device, report, proto, cannot, reaches }, seen))
    }

    /// The types that every one of these devices runs, as the coordinator is told: a set is only placed where all shards can live.
    #[must_use]
    pub fn types_of(&self, started: &[StartedDevice]) -> Vec<TypeReport> {
        let runs = |ty: &TypeReport| started.iter().all(|device| !device.cannot.contains(&ty.name));
        report::types(&self.types).into_iter().filter(runs).collect()
    }

    /// The places in the configuration of the devices that run, by index.
    #[must_use]
    pub fn places(&self) -> Vec<usize> {
        self.running.iter().map(|running| running.place).collect()
    }

    /// These devices were lost while they ran. Others may have gone while everything was being stopped for it; they count, too.
    ///
    /// # Errors
    /// One that was a part of this process, which then cannot go on.
    pub fn lost(&mut self, lost: &[DeviceIndex]) -> Result<(), NodeError> {
        for (index, running) in self.running.clone().into_iter().enumerate() {
            let index = device_index(index);
            if running.processes.is_empty() && lost.contains(&index) {
                return Err(NodeError::DeviceFailed { index: index.0 });
            }
            let one = running.processes.len() == 1;
            for (name, witness) in running.processes {
                // Of a group, those that were lost count, not those that were stopped for it.
                if witness.is_lost() || one && lost.contains(&index) {
                    let why = witness.why().unwrap_or_else(|| "it has ended".to_owned());
                    self.fault(&name, &why);
                }
            }
        }
        Ok(())
    }

    fn fault(&mut self, name: &str, why: &str) {
        let faults = self.faults.entry(name.to_owned()).or_default();
        match faults.fault(self.env.now()) {
            Verdict::Restart { after } => {
                tracing::error!(device = %name, %why, ?after, "device lost; it will be started again");
                self.pauses.insert(name.to_owned(), after);
            }
            Verdict::Suspect => {
                tracing::error!(
                    device = %name, %why,
                    "device lost twice within a minute: suspect, not used until `ringfleet device clear`"
                );
                faults.clear();
                self.mark(name, why);
            }
        }
    }

    fn mark(&mut self, name: &str, why: &str) {
        let Some(folder) = &self.state else {
            self.marked.insert(name.to_owned());
            return;
        };
        let disk = self.env.disk();
        let text = format!("{why}\n");
        let wrote =
            disk.create_dir_all(folder).and_then(|()| disk.write_atomic(&mark_path(folder, name), text.as_bytes()));
        if let Err(error) = wrote {
            tracing::error!(folder = %folder.display(), %error, "the mark of a suspect device is kept in memory only");
            self.marked.insert(name.to_owned());
        }
    }

    fn is_suspect(&self, name: &str) -> bool {
        let marked = |folder: &PathBuf| self.env.disk().exists(&mark_path(folder, name)).unwrap_or(false);
        self.marked.contains(name) || self.state.as_ref().is_some_and(marked)
    }

    fn show(&self, shared: &Shared) {
        let health = self.health();
        shared.update(|snapshot| snapshot.device_health = health);
    }

    /// For the page of metrics.
    #[must_use]
    pub fn health(&self) -> DeviceHealth {
        let names = self.configs.iter().flat_map(names_of);
        let mut health = DeviceHealth::default();
        for name in names {
            health.lost.insert(name.clone(), self.faults.get(&name).map_or(0, Faults::total));
            if self.is_suspect(&name) {
                health.suspect.insert(name);
            }
        }
        health
    }
}

/// Says in the reports which of the node's GPUs reach each other. Others of the machine are nobody's business.
fn link_up(started: &mut [StartedDevice]) {
    let mut places = BTreeMap::new();
    for (device, started) in started.iter().enumerate() {
        for (gpu, report) in started.report.gpus.iter().enumerate() {
            places.insert(report.uuid.clone(), (device_index(device).0, gpu as u16));
        }
    }
    for started in started {
        for (report, reaches) in started.report.gpus.iter_mut().zip(&started.reaches) {
            report.links = report::links(reaches, &places);
        }
    }
}

/// A device process as it is configured.
#[derive(Clone)]
struct Process {
    name: String,
    launch: Launch,
    wanted: Wanted,
}

fn processes_of(config: &DeviceConfig) -> Vec<Process> {
    match config {
        DeviceConfig::Cpu(_) => Vec::new(),
        DeviceConfig::Process { name, launch, wanted } => {
            vec![Process { name: name.clone(), launch: launch.clone(), wanted: wanted.clone() }]
        }
        DeviceConfig::Group { members, wanted } => {
            let process = |(name, launch): &(String, Launch)| Process {
                name: name.clone(),
                launch: launch.clone(),
                wanted: Wanted::Gpu(wanted.clone()),
            };
            members.iter().map(process).collect()
        }
    }
}

fn names_of(config: &DeviceConfig) -> Vec<String> {
    processes_of(config).into_iter().map(|process| process.name).collect()
}

fn mark_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{MARK}{name}"))
}

/// The devices that a node with this state folder does not use, and why.
///
/// # Errors
/// The system's, if the folder is there and cannot be read.
pub fn suspects(env: &Env, folder: &Path) -> std::io::Result<BTreeMap<String, String>> {
    let disk = env.disk();
    let mut found = BTreeMap::new();
    if !disk.exists(folder)? {
        return Ok(found);
    }
    for path in disk.list(folder)? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some(device) = name.strip_prefix(MARK) {
            let why = String::from_utf8_lossy(&disk.read(&path)?).trim().to_owned();
            found.insert(device.to_owned(), why);
        }
    }
    Ok(found)
}

/// Removes the mark of a device; `false` if it has none.
///
/// # Errors
/// The system's.
pub fn clear(env: &Env, folder: &Path, device: &str) -> std::io::Result<bool> {
    let path = mark_path(folder, device);
    let disk = env.disk();
    if !disk.exists(&path)? {
        return Ok(false);
    }
    disk.remove(&path)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use ringfleet_gpu::process::GpuConfig;

    use super::*;

    #[test]
    fn a_suspect_member_is_left_out_of_its_group() {
        let main = |env: Env| async move {
            let state = tempfile::tempdir().expect("a folder");
            let seen = state.path().join("seen");
            let member = |name: &str| {
                let script = format!("echo {name} >>{}; exit 3", seen.display());
                let args = ["-c".into(), script.into()].into();
                (
                    name.to_owned(),
                    Launch { program: "/bin/sh".into(), args, env: vec![], limit: Duration::from_secs(20) },
                )
            };
            let members = ["gpu-0", "gpu-1", "gpu-2"].map(member).into();
            let config = DeviceConfig::Group { members, wanted: GpuConfig::DEFAULT };
            let types = TypeRegistry::new([]).expect("no types");
            let mut devices = Devices::new(&env, &[config], &types, Some(state.path().to_owned()));
            let shared = Shared::new(&env, "n1");
            // All but one are suspect: that one is started alone, by its own name.
            for name in ["gpu-0", "gpu-2"] {
                std::fs::write(mark_path(state.path(), name), "signal: 9\n").expect("a mark");
            }
            let error = devices.start(&shared).await.err().expect("it gives up").to_string();
            assert_eq!(std::fs::read_to_string(&seen).expect("started"), "gpu-1\n");
            assert!(error.contains("gpu-1") && error.contains("exit status: 3"), "{error}");
            let health = devices.health();
            assert_eq!(health.lost.keys().collect::<Vec<_>>(), ["gpu-0", "gpu-1", "gpu-2"]);
            assert_eq!(health.suspect.iter().collect::<Vec<_>>(), ["gpu-0", "gpu-2"]);
            // One that has run before is tried again, within bounds: then it is suspect, too, and nobody else is.
            assert!(clear(&env, state.path(), "gpu-2").expect("removed"));
            devices.fault("gpu-1", "signal: 9");
            devices.fault("gpu-2", "signal: 9");
            let all_suspect = async {
                while shared.snapshot().device_health.suspect.len() < 3 {
                    env.sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                _ = devices.start(&shared) => panic!("there is nothing to start"),
                seen = env.timeout(Duration::from_secs(20), all_suspect) => seen.expect("all of them fail"),
            }
        };
        Env::run_tokio(1, main).expect("a runtime");
    }

    #[test]
    fn a_node_that_waits_for_a_suspect_device_says_so_while_it_waits() {
        let limit = Duration::from_secs(20);
        let main = |env: Env| async move {
            let state = tempfile::tempdir().expect("a folder");
            std::fs::write(mark_path(state.path(), "gpu-0"), "signal: 9\n").expect("a mark");
            let config = DeviceConfig::Process {
                name: "gpu-0".to_owned(),
                launch: Launch { program: "/nonexistent".into(), args: vec![], env: vec![], limit },
                wanted: Wanted::Cpu(CpuDeviceConfig::DEFAULT),
            };
            let types = TypeRegistry::new([]).expect("no types");
            let mut devices = Devices::new(&env, &[config], &types, Some(state.path().to_owned()));
            let shared = Shared::new(&env, "n1");
            let said = async {
                while !shared.not_ready().is_some_and(|why| why.contains("suspect devices: gpu-0")) {
                    env.sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                _ = devices.start(&shared) => panic!("there is a mark"),
                said = env.timeout(limit, said) => said.expect("it says so while it waits"),
            }
            assert!(clear(&env, state.path(), "gpu-0").expect("removed"));
            // Cleared: it is started, which fails here for want of a program.
            assert!(matches!(env.timeout(limit, devices.start(&shared)).await, Ok(Err(NodeError::Device { .. }))));
            assert!(shared.snapshot().device_health.suspect.is_empty());
        };
        Env::run_tokio(1, main).expect("a runtime");
    }
}
