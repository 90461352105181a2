//! The agent's configuration: one struct, one set of defaults.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ringfleet_gpu::process::{GpuConfig, Launch, Wanted};

/// How an agent runs.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The cluster it belongs to; the one in its certificate.
    pub cluster: String,
    /// Its name; the one in its certificate.
    pub name: String,
    /// Where it listens for nodes and clients (QUIC over UDP). Port 0 takes a free one.
    pub listen: SocketAddr,
    /// What it tells others to dial; `listen` where it is not given. Differs behind address translation or a proxy.
    pub advertise: Option<String>,
    /// Where it serves `/livez`, `/readyz` and `/metrics` (HTTP over TCP). Port 0 takes a free one.
    pub http: SocketAddr,
    /// The coordinators, as `host:port`. All of them, so that any one of them may be down.
    pub coordinators: Vec<String>,
    /// The cluster's CA certificate, PEM.
    pub ca: PathBuf,
    /// Its own certificate chain, PEM.
    pub cert: PathBuf,
    /// The key of it, PEM.
    pub key: PathBuf,
    /// Its devices.
    pub devices: Vec<DeviceConfig>,
    /// Where it keeps what it knows of its devices from one start to the next; absent: in memory.
    pub state: Option<PathBuf>,
    /// Actors that one shard of a hashed set may hold; one more is `shard_full`. A table grows towards it as it fills.
    pub actors_per_shard: u32,
    /// Messages kept for other nodes until they acknowledge them, altogether; half of it for one node, an eighth for one shard. More rides
    /// out longer cuts of a link, at 64 bytes each.
    pub outbound_max: usize,
    /// Links of clients at a time; one more is refused. Each session that talks to this node has one.
    pub clients_max: usize,
    /// How long it tries to join before it gives up with an error.
    pub join_deadline: Duration,
}

/// One device of a node.
#[derive(Clone, Debug)]
pub enum DeviceConfig {
    /// Threads in the agent's own process.
    Cpu(ringfleet_gpu::CpuDeviceConfig),
    /// A device in a process of its own, which the agent starts and watches.
    Process {
        /// Its name on this node, such as `gpu-0`; unique.
        name: String,
        /// How the process is started.
        launch: Launch,
        /// What it is asked for.
        wanted: Wanted,
    },
    /// GPUs that send to each other, each in a process of its own: one device. Those that cannot are devices of their own.
    Group {
        /// Name and process of each; names as above. At least two, at most [`ringfleet_gpu::process::GROUP_MAX`].
        members: Vec<(String, Launch)>,
        /// What each is asked for.
        wanted: GpuConfig,
    },
}

impl NodeConfig {
    /// How long an agent tries to join if nothing else is said: a coordinator that is elected meanwhile takes 2 s (C10).
    pub const JOIN_DEADLINE: Duration = Duration::from_secs(20);
    /// Messages for other nodes if nothing else is said: 64 MiB.
    pub const OUTBOUND_MAX: usize = ringfleet_proto::limits::OUTBOUND_TOTAL_MAX;
    /// Links of clients if nothing else is said.
    pub const CLIENTS_MAX: usize = 4096;
    /// Actors of one shard if nothing else is said: 67 million in a set of 256 shards.
    pub const ACTORS_PER_SHARD: u32 = 1 << 18;
}
