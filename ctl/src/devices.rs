//! `--devices`: what a node runs its actors on.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use ringfleet_gpu::CpuDeviceConfig;
use ringfleet_gpu::process::{GpuConfig, GroupFabric, Launch, Wanted};
use ringfleet_node::DeviceConfig;

use crate::error::{CtlError, CtlResult};

/// What a node runs its actors on, as it is written: parts with a `+` between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceList(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// GPUs if there are any, else threads in the agent's process.
    Auto,
    /// Threads in the agent's process.
    Cpu(Option<u16>),
    /// Threads in a process of their own.
    ProcessCpu(Option<u16>),
    /// GPUs by ordinal, each in a process of its own, together one device.
    Gpu(Vec<u32>),
}

/// How the GPUs of a node share memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fabric {
    /// Each maps what the others hand over: those that are named together are one device.
    #[default]
    Vmm,
    /// They do not: each is a device of its own, and what they send to each other goes through the agent.
    None,
    /// They take it from a heap of NVSHMEM, where each finds the others': those that are named together are one device.
    Nvshmem,
}

impl Fabric {
    /// What a group of GPUs is started with.
    fn of_group(self) -> GroupFabric {
        if self == Fabric::Nvshmem { GroupFabric::Nvshmem } else { GroupFabric::Vmm }
    }
}

/// The most devices of one node.
const DEVICES_MAX: usize = 64;
/// The most GPUs that send to each other.
const GROUP_MAX: usize = ringfleet_gpu::process::GROUP_MAX;
/// How long `doctor` may take to say which GPUs are usable. A longer one is killed, and none is.
const DOCTOR_LIMIT: Duration = Duration::from_secs(20);

impl std::str::FromStr for DeviceList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split('+').map(part).collect::<Result<Vec<_>, _>>()?;
        let count: usize = parts.iter().map(|part| if let Part::Gpu(list) = part { list.len() } else { 1 }).sum();
        if count > DEVICES_MAX {
            return Err(format!("{count} devices; at most {DEVICES_MAX} are possible"));
        }
        let mut seen = std::collections::BTreeSet::new();
        for ordinal in
            parts.iter().filter_map(|part| if let Part::Gpu(list) = part { Some(list) } else { None }).flatten()
        {
            if !seen.insert(*ordinal) {
                return Err(format!("gpu {ordinal} is named twice"));
            }
        }
        Ok(Self(parts))
    }
}

/// What each node of a local cluster runs on: what `devices` says; `auto` gives each a GPU of its own while there are some.
///
/// # Errors
/// If `devices` is not what a node's `--devices` may say.
pub fn devices_of_nodes(devices: &str, nodes: u16) -> CtlResult<Vec<String>> {
    let attempt = "starting the local cluster";
    let list: DeviceList = devices.parse().map_err(|cause: String| CtlError::usage(attempt, cause))?;
    if list != DeviceList::auto() {
        return Ok(vec![devices.to_owned(); usize::from(nodes)]);
    }
    let program = std::env::current_exe().map_err(|error| CtlError::failed(attempt, error))?;
    // The nodes behind the last GPU run on threads.
    Ok(usable_gpus(&program).into_iter().map(|gpu| format!("gpu:{gpu}")).collect())
}

fn part(text: &str) -> Result<Part, String> {
    let wrong = || format!("`{text}` is none of auto, cpu:N, gpu:0,1, process:cpu:N");
    let workers = |count: Option<&str>| match count {
        None => Ok(None),
        Some(count) => match count.parse() {
            Ok(count) if count > 0 => Ok(Some(count)),
            _ => Err(format!("`{count}` is no number of workers")),
        },
    };
    let (kind, rest) = match text.split_once(':') {
        Some((kind, rest)) => (kind, Some(rest)),
        None => (text, None),
    };
    match (kind, rest) {
        ("auto", None) => Ok(Part::Auto),
        ("cpu", count) => Ok(Part::Cpu(workers(count)?)),
        ("process", Some("cpu")) => Ok(Part::ProcessCpu(None)),
        ("process", Some(rest)) => match rest.strip_prefix("cpu:") {
            Some(count) => Ok(Part::ProcessCpu(workers(Some(count))?)),
            None => Err(wrong()),
        },
        ("gpu", Some(list)) => {
            let ordinal = |text: &str| text.parse().map_err(|_| format!("`{text}` is no number of a GPU"));
            list.split(',').map(ordinal).collect::<Result<_, _>>().map(Part::Gpu)
        }
        _ => Err(wrong()),
    }
}

/// What every device of a node is made with.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// Of threads; workers where the list does not say.
    pub cpu: CpuDeviceConfig,
    /// Of GPUs.
    pub gpu: GpuConfig,
    /// Whether GPUs that are named together send to each other.
    pub fabric: Fabric,
    /// The executable of device processes.
    pub program: PathBuf,
    /// Where compiled device code is kept; absent: the process's own default.
    pub cache: Option<PathBuf>,
}

impl DeviceList {
    /// GPUs if there are any, else threads in the agent's process.
    #[must_use]
    pub fn auto() -> Self {
        Self(vec![Part::Auto])
    }

    /// The GPUs that are named one by one.
    #[must_use]
    pub fn gpus(&self) -> Vec<u32> {
        let of = |part: &Part| if let Part::Gpu(list) = part { list.clone() } else { Vec::new() };
        self.0.iter().flat_map(of).collect()
    }

    /// The first device, and which GPU it is, or the first of, if it is one. What `auto` finds is a GPU, else threads in a process of their own: a bench is
    /// about what agents start.
    #[must_use]
    pub fn for_bench(&self, defaults: &Defaults) -> Option<(DeviceConfig, Option<u32>)> {
        let first = match self.0.first()? {
            Part::Auto => {
                usable_gpus(&defaults.program).first().map_or(Part::ProcessCpu(None), |gpu| Part::Gpu(vec![*gpu]))
            }
            named => named.clone(),
        };
        let only = Self(vec![first]);
        let config = only.configs(defaults, Vec::new).into_iter().next()?;
        Some((config, only.gpus().first().copied()))
    }

    /// The devices, in order. `gpus` says which GPUs `auto` takes; it is asked at most once.
    #[must_use]
    pub fn configs(&self, defaults: &Defaults, gpus: impl FnOnce() -> Vec<u32>) -> Vec<DeviceConfig> {
        let cpu = |workers: Option<u16>| CpuDeviceConfig {
            workers: workers.unwrap_or(defaults.cpu.workers),
            ..defaults.cpu.clone()
        };
        let mut gpus = Some(gpus);
        let (mut all, mut processes) = (Vec::new(), 0);
        for part in &self.0 {
            match part {
                Part::Cpu(workers) => all.push(DeviceConfig::Cpu(cpu(*workers))),
                Part::ProcessCpu(workers) => {
                    let launch = launch(defaults, &["--kind", "cpu"], Wanted::Cpu(cpu(*workers)));
                    all.push(named(format!("cpu-{processes}"), launch));
                    processes += 1;
                }
                Part::Gpu(list) => all.extend(gpus_of(defaults, list)),
                Part::Auto => {
                    let found = gpus.take().map(|gpus| gpus()).unwrap_or_default();
                    if found.is_empty() {
                        all.push(DeviceConfig::Cpu(cpu(None)));
                    }
                    all.extend(gpus_of(defaults, &found));
                }
            }
        }
        all
    }
}

fn named(name: String, (launch, wanted): (Launch, Wanted)) -> DeviceConfig {
    DeviceConfig::Process { name, launch, wanted }
}

/// GPUs that are named together: one device, or as many as there are when they do not send to each other. More than can send to each other
/// are several groups.
fn gpus_of(defaults: &Defaults, ordinals: &[u32]) -> Vec<DeviceConfig> {
    let size = if defaults.fabric == Fabric::None { 1 } else { GROUP_MAX };
    ordinals.chunks(size).map(|together| gpu(defaults, together)).collect()
}

fn gpu(defaults: &Defaults, ordinals: &[u32]) -> DeviceConfig {
    let config = GpuConfig { fabric: defaults.fabric.of_group(), ..defaults.gpu.clone() };
    let wanted = Wanted::Gpu(config.clone());
    let members = ordinals.iter().map(|ordinal| {
        let number = ordinal.to_string();
        let (launch, _) = launch(defaults, &["--kind", "gpu", "--gpu", &number], wanted.clone());
        (format!("gpu-{ordinal}"), launch)
    });
    let mut members: Vec<_> = members.collect();
    match members.len() {
        1 => {
            let (name, launch) = members.remove(0);
            named(name, (launch, wanted))
        }
        _ => DeviceConfig::Group { members, wanted: config },
    }
}

fn launch(defaults: &Defaults, args: &[&str], wanted: Wanted) -> (Launch, Wanted) {
    let mut all: Vec<OsString> = ["device", "run"].iter().chain(args).map(OsString::from).collect();
    if let Some(cache) = &defaults.cache {
        all.extend([OsString::from("--cache"), cache.into()]);
    }
    // All modules are loaded before the kernel runs: loading beside it would wait for it.
    let env = vec![("CUDA_MODULE_LOADING".into(), "EAGER".into())];
    (Launch { program: defaults.program.clone(), args: all, env, limit: wanted.limit() }, wanted)
}

/// The GPUs that `auto` takes: those that `doctor` finds usable. It is asked in a process of its own, so that this one never loads the
/// driver; and only where a driver has made its device files.
#[must_use]
pub fn usable_gpus(program: &Path) -> Vec<u32> {
    if !["/dev/nvidiactl", "/dev/dxg"].iter().any(|file| Path::new(file).exists()) {
        return Vec::new();
    }
    let mut doctor = Command::new(program);
    doctor.args(["doctor", "-o", "json"]);
    ask_doctor(doctor, DOCTOR_LIMIT).unwrap_or_else(|reason| {
        tracing::warn!(reason, "no GPU is used: `ringfleet doctor` did not say which are usable");
        Vec::new()
    })
}

/// What `doctor` says, if it does within `limit`; a driver that hangs may keep it for ever.
fn ask_doctor(mut doctor: Command, limit: Duration) -> Result<Vec<u32>, String> {
    let doctor = doctor.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = doctor.spawn().map_err(|error| format!("starting it: {error}"))?;
    let stdout = child.stdout.take();
    let (said, hear) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let read = stdout.map_or(Ok(0), |mut stdout| stdout.read_to_end(&mut text));
        // Nobody listens any more when it was too late.
        let _ = said.send(read.map(|_| text));
    });
    let heard = hear.recv_timeout(limit);
    if heard.is_err() {
        // It has ended by itself otherwise.
        let _ = child.kill();
    }
    // What hangs in the driver ends whenever it can.
    std::thread::spawn(move || drop(child.wait()));
    let text = heard.map_err(|_| format!("no answer within {limit:?}; it was killed"))?;
    let text = text.map_err(|error| format!("reading what it says: {error}"))?;
    let report: Doctor =
        serde_json::from_slice(&text).map_err(|error| format!("what it says is no report: {error}"))?;
    Ok(report.usable)
}

/// What `auto` wants to know of doctor's report.
#[derive(serde::Deserialize)]
struct Doctor {
    usable: Vec<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Defaults {
        Defaults {
            cpu: CpuDeviceConfig { workers: 3, ..CpuDeviceConfig::DEFAULT },
            gpu: GpuConfig::DEFAULT,
            fabric: Fabric::Vmm,
            program: "/bin/ringfleet".into(),
            cache: None,
        }
    }

    fn configs(text: &str, gpus: &[u32]) -> Vec<String> {
        configs_by(&defaults(), text, gpus)
    }

    fn configs_by(defaults: &Defaults, text: &str, gpus: &[u32]) -> Vec<String> {
        let list: DeviceList = text.parse().expect("a list");
        let show = |config: DeviceConfig| match config {
            DeviceConfig::Cpu(cpu) => format!("cpu {}", cpu.workers),
            DeviceConfig::Process { name, launch, .. } => {
                let args: Vec<_> = launch.args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
                format!("{name}: {}", args.join(" "))
            }
            DeviceConfig::Group { members, .. } => {
                let last = |launch: &Launch| launch.args.last().expect("arguments").to_string_lossy().into_owned();
                let each = members.iter().map(|(name, launch)| format!("{name} as {}", last(launch)));
                format!("group of {}", each.collect::<Vec<_>>().join(", "))
            }
        };
        list.configs(defaults, || gpus.to_vec()).into_iter().map(show).collect()
    }

    #[test]
    fn lists_become_devices() {
        assert_eq!(configs("cpu:5", &[]), ["cpu 5"]);
        assert_eq!(
            configs("process:cpu+process:cpu:1", &[]),
            ["cpu-0: device run --kind cpu", "cpu-1: device run --kind cpu"]
        );
        assert_eq!(
            configs("gpu:1+gpu:0+cpu", &[]),
            ["gpu-1: device run --kind gpu --gpu 1", "gpu-0: device run --kind gpu --gpu 0", "cpu 3"]
        );
        assert_eq!(configs("auto", &[]), ["cpu 3"]);
        assert_eq!(configs("auto", &[2]), ["gpu-2: device run --kind gpu --gpu 2"]);
    }

    #[test]
    fn gpus_that_are_named_together_are_one_device_unless_there_is_no_fabric() {
        assert_eq!(configs("gpu:1,0+cpu", &[]), ["group of gpu-1 as 1, gpu-0 as 0", "cpu 3"]);
        assert_eq!(configs("auto", &[0, 3]), ["group of gpu-0 as 0, gpu-3 as 3"]);
        let nine = configs("auto", &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((nine.len(), nine[1].as_str()), (2, "gpu-8: device run --kind gpu --gpu 8"));
        let apart = Defaults { fabric: Fabric::None, ..defaults() };
        assert_eq!(
            configs_by(&apart, "gpu:1,0", &[]),
            ["gpu-1: device run --kind gpu --gpu 1", "gpu-0: device run --kind gpu --gpu 0"]
        );
        let fabrics = |fabric| {
            let defaults = Defaults { fabric, ..defaults() };
            let list: DeviceList = "gpu:0,1".parse().expect("a list");
            match list.configs(&defaults, Vec::new).remove(0) {
                DeviceConfig::Group { wanted, .. } => Some(wanted.fabric),
                _ => None,
            }
        };
        assert_eq!(
            [Fabric::Vmm, Fabric::Nvshmem, Fabric::None].map(fabrics),
            [Some(GroupFabric::Vmm), Some(GroupFabric::Nvshmem), None]
        );
    }

    #[test]
    fn a_bench_of_a_gpu_knows_which_one_it_is() {
        let of = |text: &str| text.parse::<DeviceList>().expect("a list").for_bench(&defaults()).expect("a device").1;
        assert_eq!((of("gpu:3,0"), of("cpu+gpu:3"), of("process:cpu")), (Some(3), None, None));
    }

    #[test]
    fn a_doctor_that_hangs_is_killed_and_one_that_says_nothing_of_use_is_told_of() {
        let shell = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            command
        };
        let hangs = ask_doctor(shell("exec sleep 600"), Duration::from_millis(200)).expect_err("too late");
        assert!(hangs.contains("no answer within 200ms"), "{hangs}");
        let failed = ask_doctor(shell("echo broken; exit 1"), DOCTOR_LIMIT).expect_err("no report");
        assert!(failed.contains("no report"), "{failed}");
        assert_eq!(
            ask_doctor(shell("echo '{\"usable\": [0, 2], \"findings\": []}'; exit 1"), DOCTOR_LIMIT),
            Ok(vec![0, 2])
        );
    }

    #[test]
    fn what_is_no_list_is_said() {
        for (text, why) in [
            ("", "none of auto"),
            ("gpu", "none of auto"),
            ("gpu:", "no number of a GPU"),
            ("gpu:0,0", "named twice"),
            ("cpu:0", "no number of workers"),
            ("process:gpu:0", "none of auto"),
            ("auto:1", "none of auto"),
        ] {
            let error = text.parse::<DeviceList>().expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
