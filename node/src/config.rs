//! The agent's configuration: one struct, one set of defaults.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

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
    /// Actors that one shard of a hashed set may hold; one more is `shard_full`. A table grows towards it as it fills.
    pub actors_per_shard: u32,
    /// Messages kept for other nodes until they acknowledge them, altogether; half of it for one node, an eighth for one shard. More rides
    /// out longer cuts of a link, at 64 bytes each.
    pub outbound_max: usize,
    /// How long it tries to join before it gives up with an error.
    pub join_deadline: Duration,
}

/// One device of a node.
#[derive(Clone, Debug)]
pub enum DeviceConfig {
    /// Threads of the host.
    Cpu(ringfleet_gpu::CpuDeviceConfig),
}

impl NodeConfig {
    /// How long an agent tries to join if nothing else is said: a coordinator that is elected meanwhile takes 2 s (C10).
    pub const JOIN_DEADLINE: Duration = Duration::from_secs(20);
    /// Messages for other nodes if nothing else is said: 64 MiB.
    pub const OUTBOUND_MAX: usize = ringfleet_proto::limits::OUTBOUND_TOTAL_MAX;
    /// Actors of one shard if nothing else is said: 67 million in a set of 256 shards.
    pub const ACTORS_PER_SHARD: u32 = 1 << 18;
}
