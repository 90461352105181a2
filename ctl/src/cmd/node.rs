//! `ringfleet node`: run one agent in the foreground.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ringfleet_actor::TypeRegistry;
use ringfleet_gpu::config::CpuDeviceConfig;
use ringfleet_gpu::process::GpuConfig;
use ringfleet_node::{NodeConfig, NodeError};
use serde::Deserialize;

use crate::app::App;
use crate::args::duration;
use crate::devices::{Defaults, DeviceList, Fabric, usable_gpus};
use crate::error::{CtlError, CtlResult, Exit, chain};
use crate::settings::{self, IdentityFiles, check_dialable};

/// Arguments of `node`. Each may also stand in the file, under its name with underscores; flags win.
#[derive(Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeArgs {
    /// A YAML file of these settings.
    #[arg(long, short, value_name = "FILE")]
    #[serde(skip)]
    pub file: Option<PathBuf>,
    /// Where it listens for nodes and clients (UDP).
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// What others dial, behind address translation or a proxy [default: what --listen says].
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Where it serves /livez, /readyz and /metrics (TCP) [default: the address of --listen, a free port].
    #[arg(long, value_name = "IP:PORT")]
    pub http: Option<SocketAddr>,
    /// All coordinators, as HOST:PORT, with commas between.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub coordinators: Vec<String>,
    /// A folder with tls.crt, tls.key and ca.crt. The certificate says which node of which cluster this is.
    #[arg(long, value_name = "FOLDER")]
    pub identity: Option<PathBuf>,
    /// The certificate chain, if not in the folder.
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// Its private key, if not in the folder.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The cluster's CA, if not in the folder.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// What runs the actors: auto, cpu:N (threads in this process), gpu:0,1 (each in a process of its own, together one device),
    /// process:cpu:N (threads in one), or several with + between [default: auto, which is the GPUs if there are any, else cpu].
    #[arg(long, value_name = "LIST")]
    #[serde(deserialize_with = "device_list")]
    pub devices: Option<DeviceList>,
    /// How GPUs that are named together share memory: vmm (they send to each other and are one device), none (each is a device of its own;
    /// what they send to each other goes through this process) [default: vmm].
    #[arg(long, value_enum)]
    pub fabric: Option<Fabric>,
    /// Where it keeps which devices are suspect [default: ~/.local/state/ringfleet/CLUSTER/NODE].
    #[arg(long, value_name = "FOLDER")]
    pub state: Option<PathBuf>,
    /// Where compiled device code is kept [default: ~/.cache/ringfleet/cubin].
    #[arg(long, value_name = "FOLDER")]
    pub cubin_cache: Option<PathBuf>,
    /// Memory of each GPU for actors, in MiB [default: half of what is free].
    #[arg(long, value_name = "MIB")]
    pub arena_mib: Option<u64>,
    /// Workers of a CPU device, where --devices does not say: threads that run actors [default: 2].
    #[arg(long, value_name = "N")]
    pub workers: Option<u16>,
    /// Slots of the rings between workers, a power of two [default: 4096].
    #[arg(long, value_name = "N")]
    pub ring_slots: Option<u32>,
    /// Slots of each worker's ring from the agent, a power of two [default: 8192].
    #[arg(long, value_name = "N")]
    pub ingress_slots: Option<u32>,
    /// Slots of each worker's ring to the agent, a power of two [default: 8192].
    #[arg(long, value_name = "N")]
    pub egress_slots: Option<u32>,
    /// Messages that one worker may hold because their ring is full [default: 16384].
    #[arg(long, value_name = "N")]
    pub spill_slots: Option<u32>,
    /// Messages that a worker handles before it publishes what they sent [default: 1024].
    #[arg(long, value_name = "N")]
    pub batch: Option<u32>,
    /// Messages kept for other nodes until they acknowledge them [default: 1048576, half of it for one node].
    #[arg(long, value_name = "N")]
    pub outbound_max: Option<usize>,
    /// Clients that may have a session with this node at a time; one more is refused [default: 4096].
    #[arg(long, value_name = "N")]
    pub clients_max: Option<usize>,
    /// Actors that one shard may hold; one more is refused [default: 262144].
    #[arg(long, value_name = "N")]
    pub actors_per_shard: Option<u32>,
    /// How long it tries to join before it gives up [default: 20s].
    #[arg(long, value_name = "TIME", value_parser = duration)]
    #[serde(deserialize_with = "duration_text")]
    pub join_deadline: Option<Duration>,
    /// End when this process ends.
    #[arg(long, value_name = "PID", hide = true)]
    #[serde(skip)]
    pub parent: Option<i32>,
}

fn device_list<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<DeviceList>, D::Error> {
    String::deserialize(from)?.parse().map(Some).map_err(serde::de::Error::custom)
}

fn duration_text<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    duration(&text).map(Some).map_err(serde::de::Error::custom)
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(app: &App, args: NodeArgs) -> CtlResult {
    if let Some(parent) = args.parent {
        settings::die_with_parent(parent)?;
    }
    let config = config(app, args)?;
    let attempt = format!("running node {}", config.name);
    let types = TypeRegistry::new(app.types.iter().copied()).map_err(|error| CtlError::usage(&attempt, error))?;
    let run = ringfleet_node::run(app.env.clone(), config, types, |_| {}, settings::asked_to_stop());
    run.await.map_err(|error| {
        let exit = match &error {
            NodeError::Refused { .. } => Exit::Refused,
            NodeError::Unreachable { .. } => Exit::Unreachable,
            _ => Exit::Failed,
        };
        CtlError::new(exit, format!("{attempt}: {}", chain(&error)))
    })
}

fn config(app: &App, flags: NodeArgs) -> CtlResult<NodeConfig> {
    let from_file: NodeArgs = settings::load(flags.file.as_deref())?;
    let attempt = "reading the settings";
    let files = IdentityFiles::merged(
        [flags.identity, flags.certificate, flags.key, flags.ca],
        [from_file.identity, from_file.certificate, from_file.key, from_file.ca],
    )?;
    let peer = files.load(&app.env)?.peer().clone();
    let listen = flags.listen.or(from_file.listen).ok_or_else(|| settings::missing("listen"))?;
    let advertise = flags.advertise.or(from_file.advertise);
    if advertise.is_none() {
        check_dialable("--advertise", listen)?;
    }
    let coordinators = if flags.coordinators.is_empty() { from_file.coordinators } else { flags.coordinators };
    if coordinators.is_empty() {
        return Err(settings::missing("coordinators"));
    }
    let defaults = CpuDeviceConfig::DEFAULT;
    let device = CpuDeviceConfig {
        workers: flags.workers.or(from_file.workers).unwrap_or(defaults.workers),
        ring_slots: flags.ring_slots.or(from_file.ring_slots).unwrap_or(defaults.ring_slots),
        ingress_slots: flags.ingress_slots.or(from_file.ingress_slots).unwrap_or(defaults.ingress_slots),
        egress_slots: flags.egress_slots.or(from_file.egress_slots).unwrap_or(defaults.egress_slots),
        spill_slots: flags.spill_slots.or(from_file.spill_slots).unwrap_or(defaults.spill_slots),
        batch: flags.batch.or(from_file.batch).unwrap_or(defaults.batch),
        ..defaults
    };
    device.check().map_err(|cause| CtlError::usage(attempt, cause))?;
    let arena_mib = flags.arena_mib.or(from_file.arena_mib);
    let program = std::env::current_exe().map_err(|error| CtlError::failed("finding the own executable", error))?;
    let fabric = flags.fabric.or(from_file.fabric).unwrap_or_default();
    let defaults = Defaults {
        cpu: device,
        gpu: GpuConfig { arena_bytes: arena_mib.map(|mib| mib << 20), ..GpuConfig::DEFAULT },
        fabric,
        program,
        cache: flags.cubin_cache.or(from_file.cubin_cache),
    };
    let list = flags.devices.or(from_file.devices).unwrap_or_else(DeviceList::auto);
    let devices = list.configs(&defaults, || usable_gpus(&defaults.program));
    let own_state = || settings::state_folder().map(|all| all.join(peer.cluster()).join(peer.name()));
    let state = flags.state.or(from_file.state).or_else(own_state);
    Ok(NodeConfig {
        cluster: peer.cluster().to_owned(),
        name: peer.name().to_owned(),
        listen,
        advertise,
        http: flags.http.or(from_file.http).unwrap_or_else(|| SocketAddr::new(listen.ip(), 0)),
        coordinators,
        ca: files.ca,
        cert: files.certificate,
        key: files.key,
        devices,
        state,
        clients_max: flags.clients_max.or(from_file.clients_max).unwrap_or(NodeConfig::CLIENTS_MAX),
        outbound_max: flags.outbound_max.or(from_file.outbound_max).unwrap_or(NodeConfig::OUTBOUND_MAX),
        actors_per_shard: flags.actors_per_shard.or(from_file.actors_per_shard).unwrap_or(NodeConfig::ACTORS_PER_SHARD),
        join_deadline: flags.join_deadline.or(from_file.join_deadline).unwrap_or(NodeConfig::JOIN_DEADLINE),
    })
}
