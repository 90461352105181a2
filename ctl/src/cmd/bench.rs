//! `ringfleet bench device`: what one device does, through the process that agents use.

use std::sync::Arc;

use clap::{Args, Subcommand};
use ringfleet_actor::TypeRegistry;
use ringfleet_env::{Clock, SystemClock};
use ringfleet_gpu::cuda::baseline;
use ringfleet_gpu::process::{GpuConfig, GroupDevice, Kind, ProcessDevice, start_group};
use ringfleet_gpu::{CpuDevice, CpuDeviceConfig, Device};
use ringfleet_node::DeviceConfig;
use serde::Serialize;

use crate::app::App;
use crate::bench::{self, Plan, Rig, Row};
use crate::devices::{Defaults, DeviceList, Fabric};
use crate::error::{CtlError, CtlResult, chain};
use crate::out::{self, Table, thousands};

/// The verbs of `bench`.
#[derive(Debug, Subcommand)]
pub enum BenchVerb {
    /// Measure one device: throughput, hops, asks, ways in and out.
    Device(DeviceArgs),
}

/// Arguments of `bench device`.
#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// The device, as a node's --devices says; the first of several; gpu:0,1 is one device. What `auto` finds is a GPU, else threads in a process of their own.
    #[arg(long, value_name = "LIST", default_value = "auto")]
    pub devices: DeviceList,
    /// How GPUs that are named together share memory, as a node's --fabric says.
    #[arg(long, value_enum, default_value_t)]
    pub fabric: Fabric,
    /// Workers of a CPU device, where the list does not say.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub workers: u16,
    /// Populations of the throughput [default: 1024 to 16777216 on a GPU, to 1048576 on threads].
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub actors: Vec<u64>,
    /// About how long each throughput is measured, in milliseconds.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub millis: Option<u64>,
    /// Memory of a GPU for actors, in MiB [default: half of what is free].
    #[arg(long, value_name = "MIB")]
    pub arena_mib: Option<u64>,
}

/// What was measured on what.
#[derive(Debug, Serialize)]
struct Outcome {
    device: String,
    workers: u16,
    driver_version: u32,
    version: &'static str,
    rows: Vec<Row>,
}

/// Carries the verb out.
pub fn run(app: &App, verb: &BenchVerb) -> CtlResult {
    let BenchVerb::Device(args) = verb;
    let attempt = "measuring the device";
    let outcome = measure(app, args).map_err(|cause| CtlError::failed(attempt, cause))?;
    out::print(app.global.output, &outcome, table)?;
    let wrong: Vec<&str> = outcome.rows.iter().filter(|row| !row.is_ok()).map(|row| row.what.as_str()).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(CtlError::failed(attempt, format!("these do not add up: {}", wrong.join(", "))))
}

fn measure(app: &App, args: &DeviceArgs) -> Result<Outcome, String> {
    if let Some(wrong) = args.actors.iter().find(|count| !(1..=1 << 30).contains(*count)) {
        return Err(format!("{wrong} actors; 1 to {} are possible", 1_u64 << 30));
    }
    let clock = Arc::new(SystemClock);
    let types = TypeRegistry::new(app.types.iter().copied()).map_err(|error| error.to_string())?;
    let table: Vec<_> = types.iter().collect();
    let defaults = Defaults {
        cpu: CpuDeviceConfig { workers: args.workers, ..CpuDeviceConfig::DEFAULT },
        gpu: GpuConfig { arena_bytes: args.arena_mib.map(|mib| mib << 20), ..GpuConfig::DEFAULT },
        fabric: args.fabric,
        program: std::env::current_exe().map_err(|error| error.to_string())?,
        cache: None,
    };
    let (chosen, gpu) = args.devices.for_bench(&defaults).ok_or("no device was named")?;
    let (device, name, driver_version, kind): (Box<dyn Device>, _, _, _) = match chosen {
        DeviceConfig::Cpu(config) => {
            let device = CpuDevice::start(&config, &table, clock.clone()).map_err(|error| chain(&error))?;
            (Box::new(device), "threads of this process".to_owned(), 0, Kind::Cpu)
        }
        DeviceConfig::Process { launch, wanted, .. } => {
            let device = ProcessDevice::start(launch, &wanted, &table, clock.clone()).map_err(|error| chain(&error))?;
            let facts = device.facts().clone();
            let name = match facts.kind {
                Kind::Cpu => "threads of a device process".to_owned(),
                Kind::Gpu => format!("{} {}", facts.name, facts.uuid),
            };
            (Box::new(device), name, facts.driver_version, facts.kind)
        }
        DeviceConfig::Group { members, wanted } => {
            let launches = members.into_iter().map(|(_, launch)| launch).collect();
            let timer: Arc<dyn Clock> = clock.clone();
            let members = start_group(launches, &wanted, &table, &timer).map_err(|error| chain(&error))?;
            let facts: Vec<_> = members.iter().map(|member| member.facts().clone()).collect();
            let name = facts.iter().map(|facts| format!("{} {}", facts.name, facts.uuid)).collect::<Vec<_>>();
            (Box::new(GroupDevice::new(members)), name.join(" + "), facts[0].driver_version, Kind::Gpu)
        }
    };
    let workers = device.workers();
    let mut plan = Plan::for_rate(if kind == Kind::Gpu { 5_000_000_000 } else { 4_000_000 });
    if !args.actors.is_empty() {
        plan.actors.clone_from(&args.actors);
    }
    plan.millis = args.millis.unwrap_or(plan.millis);
    let mut rig = Rig::new(device, types, clock.clone());
    let rows = bench::run(&mut rig, &plan, |what| tracing::info!(%what, "measuring"));
    let stopped = rig.stop();
    let mut rows = rows.map_err(|error| error.to_string())?;
    stopped.map_err(|error| error.to_string())?;
    if kind == Kind::Gpu {
        // What users do today instead of a message, on the same GPU, which nobody else uses now.
        let gpu = gpu.ok_or("the device says that it is a GPU, and none was asked for")?;
        let times = baseline::measure(gpu, &*clock).map_err(|error| error.to_string())?;
        rows.push(Row::times("launch and synchronise", None, times.launch_us, "ok".into()));
        rows.push(Row::times("graph launch and synchronise", None, times.graph_us, "ok".into()));
    }
    Ok(Outcome { device: name, workers, driver_version, version: env!("CARGO_PKG_VERSION"), rows })
}

fn table(outcome: &Outcome) -> String {
    let mut table = Table::new(&["WHAT", "ACTORS", "COUNT", "MSG/S", "P50 US", "P99 US", "CHECK"]);
    let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    for row in &outcome.rows {
        table.row([
            row.what.clone(),
            row.actors.map_or_else(|| "-".to_owned(), thousands),
            thousands(row.count),
            row.per_second.map_or_else(|| "-".to_owned(), |rate| format!("{:.2} M", rate / 1e6)),
            cell(row.p50_us),
            cell(row.p99_us),
            row.check.clone(),
        ]);
    }
    format!("{}, {} workers\n{}", outcome.device, outcome.workers, table.render())
}
