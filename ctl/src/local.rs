//! A cluster of real processes on this machine: `dev`, `demo` and black-box tests.
//!
//! ```text
//!   <folder>/ca/                   the cluster's CA
//!            operator/ client/ viewer/   identities of people and programs
//!            <process>/            identity, settings, log, and for a coordinator its data
//!            cluster.yaml          what runs, to find it again
//! ```
//! Every process is this very executable with the verb `coordinator` or `node`, in a process group of its own, so that a Ctrl-C
//! in the terminal stops the one who asked and not the cluster behind its back.
//!
//! Children of a cluster that is not to outlive its starter are told its process id: the kernel kills them when it ends, however
//! it ends. They must be started from the thread that lives longest (the kernel means the thread): [`LocalCluster`] starts them
//! on the thread that polls it.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ringfleet_env::{Env, Instant};
use ringfleet_link::{ClusterCa, Role, Validity};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use serde::{Deserialize, Serialize};

use crate::config::{ClusterEntry, Context, CredentialsEntry};
use crate::error::{CtlError, CtlResult, chain};
use crate::http;

/// What the processes log if nothing else is said: of Raft only what is wrong.
pub const LOG_DEFAULT: &str = "info,openraft=warn";
/// How long the certificates of a local cluster are valid.
const VALID_FOR: Duration = Duration::from_secs(365 * 24 * 3600);
/// Between two looks at whether a process has ended or is ready.
const POLL: Duration = Duration::from_millis(25);
/// The file that says what runs.
const STATE_FILE: &str = "cluster.yaml";
/// The roles of people and programs that get an identity.
const PEOPLE: [Role; 3] = [Role::Operator, Role::Client, Role::Viewer];

/// What to start.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// Where everything is put. Made if it is not there.
    pub folder: PathBuf,
    /// The cluster's name.
    pub cluster: String,
    /// How many coordinators, at least 1.
    pub coordinators: u16,
    /// How many nodes.
    pub nodes: u16,
    /// Workers of each node's CPU device.
    pub workers: u16,
    /// What each node runs its actors on, by node; absent: threads in its process.
    pub devices: Vec<String>,
    /// How long a lease lasts; absent: the default.
    pub lease_ms: Option<u32>,
    /// The log filter of the processes.
    pub log: String,
    /// Whether the processes end when this one ends.
    pub die_with_parent: bool,
    /// Whether nodes advertise other addresses than they listen at, for a proxy in front of each.
    pub proxied: bool,
    /// Further arguments of every node.
    pub node_args: Vec<String>,
    /// The executable; absent: this one.
    pub executable: Option<PathBuf>,
    /// Where each process runs, coordinators first; none: all on the loopback interface.
    pub hosts: Vec<Host>,
}

/// Where a process runs: something that looks like a machine of its own, such as a network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its address.
    pub ip: IpAddr,
    /// The address of the proxy in front of it, where there is one.
    pub proxy_ip: IpAddr,
    /// The command that runs a command there, which follows it. It must become that command, not start it.
    pub wrap: Vec<String>,
}

impl LocalConfig {
    /// Three coordinators and three nodes of two workers that end with this process.
    pub fn new(folder: PathBuf, cluster: &str) -> Self {
        Self {
            folder,
            cluster: cluster.to_owned(),
            coordinators: 3,
            nodes: 3,
            workers: 2,
            devices: Vec::new(),
            lease_ms: None,
            log: LOG_DEFAULT.to_owned(),
            die_with_parent: true,
            proxied: false,
            node_args: Vec::new(),
            executable: None,
            hosts: Vec::new(),
        }
    }
}

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A coordinator.
    Coordinator,
    /// A node's agent.
    Node,
}

/// A process of a local cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Where it listens (UDP).
    pub listen: SocketAddr,
    /// What others dial; differs from `listen` behind a proxy.
    pub advertise: SocketAddr,
    /// Where it serves health and metrics (TCP).
    pub http: SocketAddr,
    /// Its process id while it runs.
    pub pid: Option<i32>,
    /// When it was started, in the kernel's ticks since boot: tells it from a later process with the same id.
    pub started_ticks: u64,
    /// Its arguments.
    args: Vec<String>,
    /// Where its log is.
    pub log: PathBuf,
}

/// What `cluster.yaml` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    cluster: String,
    processes: Vec<Process>,
}

/// A local cluster. Dropping it kills what it has started, unless it was told to stay ([`LocalCluster::detach`]).
#[derive(Debug)]
pub struct LocalCluster {
    env: Env,
    folder: PathBuf,
    cluster: String,
    executable: PathBuf,
    die_with_parent: bool,
    /// What runs a command where each process lives ([`Host::wrap`]).
    wraps: Vec<Vec<String>>,
    processes: Vec<Process>,
    /// Children of this process, by index of `processes`; `None` if it was not started by this process or has ended.
    children: Vec<Option<Child>>,
    stays: bool,
}

impl LocalCluster {
    /// Makes folders, certificates and settings, and picks ports. Nothing runs yet.
    pub fn create(env: &Env, config: &LocalConfig) -> CtlResult<Self> {
        let attempt = || format!("making a local cluster in {}", config.folder.display());
        let io = |error: io::Error| CtlError::failed(attempt(), error);
        if config.coordinators == 0 {
            return Err(CtlError::usage(attempt(), "at least one coordinator is needed"));
        }
        fs::create_dir_all(&config.folder).map_err(io)?;
        let folder = config.folder.canonicalize().map_err(io)?;
        let executable = match &config.executable {
            Some(executable) => executable.clone(),
            None => std::env::current_exe().map_err(io)?,
        };
        let names: Vec<(Kind, String)> = (1..=config.coordinators)
            .map(|at| (Kind::Coordinator, format!("c{at}")))
            .chain((1..=config.nodes).map(|at| (Kind::Node, format!("n{at}"))))
            .collect();
        issue(env, &folder, &config.cluster, &names).map_err(|cause| CtlError::failed(attempt(), cause))?;
        let ports = Ports::pick(names.len() * 2, names.len()).map_err(io)?;
        let mut cluster = Self {
            env: env.clone(),
            folder,
            cluster: config.cluster.clone(),
            executable,
            die_with_parent: config.die_with_parent,
            wraps: config.hosts.iter().map(|host| host.wrap.clone()).collect(),
            children: names.iter().map(|_| None).collect(),
            processes: Vec::with_capacity(names.len()),
            stays: false,
        };
        for (at, (kind, name)) in names.into_iter().enumerate() {
            let (mut listen, mut front, mut http) = (ports.udp[2 * at], ports.udp[2 * at + 1], ports.tcp[at]);
            if let Some(host) = config.hosts.get(at) {
                listen.set_ip(host.ip);
                http.set_ip(host.ip);
                front.set_ip(host.proxy_ip);
            }
            let advertise = if config.proxied && kind == Kind::Node { front } else { listen };
            let log = cluster.folder.join(&name).join("log");
            let args = Vec::new();
            let process = Process { name, kind, listen, advertise, http, pid: None, started_ticks: 0, args, log };
            cluster.processes.push(process);
        }
        cluster.write_args(config);
        cluster.save()?;
        Ok(cluster)
    }

    /// The command line of every process.
    fn write_args(&mut self, config: &LocalConfig) {
        let coordinators: Vec<(String, SocketAddr)> = self
            .processes
            .iter()
            .filter(|process| process.kind == Kind::Coordinator)
            .map(|process| (process.name.clone(), process.advertise))
            .collect();
        let mut devices = config.devices.iter();
        for process in &mut self.processes {
            let folder = self.folder.join(&process.name);
            let mut args: Vec<String> = Vec::new();
            let mut flag = |name: &str, value: String| args.extend([format!("--{name}"), value]);
            flag("identity", folder.display().to_string());
            flag("listen", process.listen.to_string());
            flag("http", process.http.to_string());
            flag("log", config.log.clone());
            match process.kind {
                Kind::Coordinator => {
                    let peers = coordinators.iter().map(|(name, addr)| format!("{name}={addr}"));
                    flag("peers", peers.collect::<Vec<_>>().join(","));
                    flag("data", folder.join("data").display().to_string());
                    if let Some(lease_ms) = config.lease_ms {
                        flag("lease-ms", lease_ms.to_string());
                    }
                    args.insert(0, "coordinator".to_owned());
                }
                Kind::Node => {
                    let addrs = coordinators.iter().map(|(_, addr)| addr.to_string());
                    flag("coordinators", addrs.collect::<Vec<_>>().join(","));
                    flag("advertise", process.advertise.to_string());
                    flag("workers", config.workers.to_string());
                    flag("devices", devices.next().map_or("cpu", String::as_str).to_owned());
                    flag("state", folder.join("state").display().to_string());
                    args.extend(config.node_args.iter().cloned());
                    args.insert(0, "node".to_owned());
                }
            }
            process.args = args;
        }
    }

    /// The cluster that was made in `folder`, whoever made it.
    pub fn open(env: &Env, folder: &Path) -> CtlResult<Option<Self>> {
        let path = folder.join(STATE_FILE);
        let attempt = || format!("reading {}", path.display());
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(CtlError::failed(attempt(), error)),
        };
        let state: StateFile = serde_yaml_ng::from_str(&text).map_err(|error| CtlError::failed(attempt(), error))?;
        let executable = std::env::current_exe().map_err(|error| CtlError::failed(attempt(), error))?;
        Ok(Some(Self {
            env: env.clone(),
            folder: folder.canonicalize().map_err(|error| CtlError::failed(attempt(), error))?,
            cluster: state.cluster,
            executable,
            die_with_parent: false,
            wraps: Vec::new(),
            children: state.processes.iter().map(|_| None).collect(),
            processes: state.processes,
            stays: true,
        }))
    }

    /// Where everything is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The processes, coordinators first.
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// A process by its name.
    pub fn process(&self, name: &str) -> CtlResult<&Process> {
        let found = self.processes.iter().find(|process| process.name == name);
        found.ok_or_else(|| CtlError::failed("finding a process of the local cluster", format!("no `{name}`")))
    }

    /// The cluster as somebody of this role.
    pub fn context(&self, role: Role) -> Context {
        let folder = self.folder.join(role.as_str());
        let coordinators = self.processes.iter().filter(|process| process.kind == Kind::Coordinator);
        // The operator's context is called like the cluster: it is the one that people use.
        let name = if role == Role::Operator { self.cluster.clone() } else { format!("{}-{role}", self.cluster) };
        Context {
            name,
            cluster: ClusterEntry {
                name: self.cluster.clone(),
                coordinators: coordinators.map(|process| process.advertise.to_string()).collect(),
                ca: folder.join(ringfleet_link::file::CA_CERTIFICATE),
            },
            credentials: CredentialsEntry {
                name: format!("{}-{role}", self.cluster),
                certificate: folder.join(ringfleet_link::file::CERTIFICATE),
                key: folder.join(ringfleet_link::file::KEY),
            },
        }
    }

    /// Starts every process that does not run.
    pub fn start_all(&mut self) -> CtlResult {
        for at in 0..self.processes.len() {
            self.start_at(at)?;
        }
        Ok(())
    }

    /// Starts a process that does not run.
    pub fn start(&mut self, name: &str) -> CtlResult {
        let at = self.index(name)?;
        self.start_at(at)
    }

    fn start_at(&mut self, at: usize) -> CtlResult {
        if self.is_running_at(at) {
            return Ok(());
        }
        let process = &mut self.processes[at];
        let attempt = format!("starting {}", process.name);
        let io = |error: io::Error| CtlError::failed(&attempt, error);
        let log = fs::OpenOptions::new().create(true).append(true).open(&process.log).map_err(io)?;
        let mut command = match self.wraps.get(at).map(Vec::as_slice) {
            Some([program, args @ ..]) => {
                let mut wrapped = Command::new(program);
                wrapped.args(args).arg(&self.executable);
                wrapped
            }
            _ => Command::new(&self.executable),
        };
        command.args(&process.args).stdin(Stdio::null()).stdout(log.try_clone().map_err(io)?).stderr(log);
        // Its settings are all on its command line.
        command.env_remove("RINGFLEET_LOG").env_remove("RINGFLEET_CONFIG").env_remove("RINGFLEET_CONTEXT");
        command.process_group(0);
        if self.die_with_parent {
            command.args(["--parent", &std::process::id().to_string()]);
        }
        let child = command.spawn().map_err(io)?;
        let pid = i32::try_from(child.id()).map_err(|error| CtlError::failed(&attempt, error))?;
        process.pid = Some(pid);
        process.started_ticks = started_ticks(pid).unwrap_or(0);
        self.children[at] = Some(child);
        self.save()
    }

    /// Sends a signal to a running process.
    pub fn signal(&mut self, name: &str, signal: Signal) -> CtlResult {
        let at = self.index(name)?;
        self.signal_at(at, signal)
    }

    fn signal_at(&mut self, at: usize, signal: Signal) -> CtlResult {
        if !self.is_running_at(at) {
            return Ok(());
        }
        let process = &self.processes[at];
        let Some(pid) = process.pid.and_then(Pid::from_raw) else { return Ok(()) };
        match kill_process(pid, signal) {
            // It ended between the look and the signal.
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(CtlError::failed(format!("signalling {}", process.name), error)),
        }
    }

    /// Kills a process with SIGKILL and waits until it is gone.
    pub async fn kill(&mut self, name: &str) -> CtlResult {
        let at = self.index(name)?;
        self.signal_at(at, Signal::KILL)?;
        self.wait_ended(at, self.env.now() + Duration::from_secs(10)).await
    }

    /// Stops a process: SIGTERM, and SIGKILL when `patience` is over.
    pub async fn stop(&mut self, name: &str, patience: Duration) -> CtlResult {
        let at = self.index(name)?;
        self.signal_at(at, Signal::TERM)?;
        if self.wait_ended(at, self.env.now() + patience).await.is_err() {
            tracing::warn!(name, "did not stop in time, killed");
            self.signal_at(at, Signal::KILL)?;
            self.wait_ended(at, self.env.now() + Duration::from_secs(10)).await?;
        }
        Ok(())
    }

    /// Stops every process: SIGTERM to all nodes, then to all coordinators, `patience` for either, and SIGKILL to those that remain. Says
    /// which had to be killed.
    pub async fn stop_all(&mut self, patience: Duration) -> CtlResult<Vec<String>> {
        // Nodes say goodbye to coordinators that are still there.
        for kind in [Kind::Node, Kind::Coordinator] {
            // Each kind its own: nodes that are late leave coordinators their time.
            let deadline = self.env.now() + patience;
            let group: Vec<usize> = (0..self.processes.len()).filter(|&at| self.processes[at].kind == kind).collect();
            for &at in &group {
                self.signal_at(at, Signal::TERM)?;
            }
            for &at in &group {
                // Those that are late are killed below.
                let _ = self.wait_ended(at, deadline).await;
            }
        }
        let mut killed = Vec::new();
        for at in 0..self.processes.len() {
            if self.is_running_at(at) {
                killed.push(self.processes[at].name.clone());
                self.signal_at(at, Signal::KILL)?;
                self.wait_ended(at, self.env.now() + Duration::from_secs(10)).await?;
            }
        }
        self.save()?;
        Ok(killed)
    }

    /// Removes everything that was made, and the folder if nothing else is in it.
    pub fn remove_files(&self) -> CtlResult {
        let attempt = format!("removing {}", self.folder.display());
        let remove = || -> io::Result<()> {
            let folders = self.processes.iter().map(|process| process.name.clone());
            let folders = folders.chain(PEOPLE.iter().map(|role| role.as_str().to_owned())).chain(["ca".to_owned()]);
            for folder in folders {
                match fs::remove_dir_all(self.folder.join(folder)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            fs::remove_file(self.folder.join(STATE_FILE))?;
            // Somebody else's files stay, and the folder with them.
            let _ = fs::remove_dir(&self.folder);
            Ok(())
        };
        remove().map_err(|error| CtlError::failed(attempt, error))
    }

    /// Lets the processes stay when this value is dropped.
    pub fn detach(&mut self) {
        self.stays = true;
    }

    /// Whether a process runs.
    pub fn is_running(&mut self, name: &str) -> CtlResult<bool> {
        let at = self.index(name)?;
        Ok(self.is_running_at(at))
    }

    fn is_running_at(&mut self, at: usize) -> bool {
        if let Some(child) = &mut self.children[at] {
            // Waiting for it also reaps it.
            if matches!(child.try_wait(), Ok(None)) {
                return true;
            }
            self.children[at] = None;
            self.processes[at].pid = None;
            return false;
        }
        let process = &self.processes[at];
        process.pid.is_some_and(|pid| started_ticks(pid) == Some(process.started_ticks))
    }

    async fn wait_ended(&mut self, at: usize, deadline: Instant) -> CtlResult {
        while self.is_running_at(at) {
            if self.env.now() >= deadline {
                let attempt = format!("stopping {}", self.processes[at].name);
                return Err(CtlError::unreachable(attempt, "it has not ended in time"));
            }
            self.env.sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits until every process says that it is ready. Fails at once when one of them ends, with the last line of its log.
    pub async fn wait_ready(&mut self, deadline: Instant) -> CtlResult {
        for at in 0..self.processes.len() {
            self.wait_ready_at(at, deadline).await?;
        }
        Ok(())
    }

    async fn wait_ready_at(&mut self, at: usize, deadline: Instant) -> CtlResult {
        loop {
            // A process that ended will never be ready, also if it is not the one waited for.
            for other in 0..self.processes.len() {
                if !self.is_running_at(other) {
                    let process = &self.processes[other];
                    let cause = format!("it has ended: {} (log: {})", last_line(&process.log), process.log.display());
                    return Err(CtlError::failed(format!("starting {}", process.name), cause));
                }
            }
            let process = &self.processes[at];
            let http = process.http.to_string();
            let left = deadline - self.env.now();
            let not_ready = match http::get(&self.env, &http, "/readyz", left.min(Duration::from_secs(1))).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if self.env.now() >= deadline {
                let attempt = format!("waiting until {} is ready", process.name);
                let log = format!("{not_ready} (log: {})", process.log.display());
                return Err(CtlError::unreachable(attempt, log));
            }
            self.env.sleep(POLL).await;
        }
    }

    fn index(&self, name: &str) -> CtlResult<usize> {
        let found = self.processes.iter().position(|process| process.name == name);
        found.ok_or_else(|| CtlError::failed("finding a process of the local cluster", format!("no `{name}`")))
    }

    fn save(&self) -> CtlResult {
        let path = self.folder.join(STATE_FILE);
        let state = StateFile { cluster: self.cluster.clone(), processes: self.processes.clone() };
        let attempt = || format!("writing {}", path.display());
        let text = serde_yaml_ng::to_string(&state).map_err(|error| CtlError::failed(attempt(), error))?;
        self.env.disk().write_atomic(&path, text.as_bytes()).map_err(|error| CtlError::failed(attempt(), error))
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        for child in self.children.iter_mut().flatten() {
            // It has ended by itself otherwise.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The CA and an identity for everybody, each in a folder of its own.
fn issue(env: &Env, folder: &Path, cluster: &str, names: &[(Kind, String)]) -> Result<(), String> {
    let disk = env.disk();
    let validity = Validity::from_now(env.wall_ms(), VALID_FOR);
    let ca = ClusterCa::create(cluster, validity).map_err(|error| chain(&error))?;
    ca.save(&*disk, &folder.join("ca")).map_err(|error| chain(&error))?;
    let roles = names.iter().map(|(kind, name)| match kind {
        Kind::Coordinator => (Role::Coordinator, name.as_str()),
        Kind::Node => (Role::Node, name.as_str()),
    });
    let people = PEOPLE.into_iter().map(|role| (role, role.as_str()));
    for (role, name) in roles.chain(people) {
        let identity = ca.issue(role, name, validity).map_err(|error| chain(&error))?;
        identity.save(&*disk, &folder.join(name)).map_err(|error| chain(&error))?;
    }
    Ok(())
}

/// Ports that systems do not give to sockets which ask for any: those begin at 32768, or above. So between the picking of a port and
/// its use, or while the process that has it is restarted, nobody gets it by chance.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// Free ports of the loopback interface, each once in this process.
struct Ports {
    udp: Vec<SocketAddr>,
    tcp: Vec<SocketAddr>,
}

impl Ports {
    fn pick(udp: usize, tcp: usize) -> io::Result<Self> {
        let free_udp = |addr: SocketAddr| UdpSocket::bind(addr).map(drop);
        let free_tcp = |addr: SocketAddr| TcpListener::bind(addr).map(drop);
        Ok(Self {
            udp: (0..udp).map(|_| Self::next(free_udp)).collect::<io::Result<_>>()?,
            tcp: (0..tcp).map(|_| Self::next(free_tcp)).collect::<io::Result<_>>()?,
        })
    }

    /// The next port that can be bound. Processes begin at different ones.
    fn next(bind: impl Fn(SocketAddr) -> io::Result<()>) -> io::Result<SocketAddr> {
        static TAKEN: AtomicU32 = AtomicU32::new(0);
        let first = std::process::id().wrapping_mul(97);
        let mut refused = io::ErrorKind::AddrInUse.into();
        for _ in PORTS {
            let at = first.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % PORTS.len() as u32;
            let addr: SocketAddr = ([127, 0, 0, 1], PORTS.start + at as u16).into();
            match bind(addr) {
                Ok(()) => return Ok(addr),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

/// When a process was started, in ticks since boot; `None` if there is none, or it has ended and waits to be reaped.
fn started_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command in parentheses may hold anything; fields are counted from behind it, where the third stands first.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn last_line(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("its log is empty").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_made_found_again_and_removed_without_a_trace() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = folder.path().join("made");
        Env::run_tokio(1, |env| {
            let made = made.clone();
            async move {
                let config = LocalConfig { proxied: true, ..LocalConfig::new(made.clone(), "t") };
                let cluster = LocalCluster::create(&env, &config).expect("made");
                assert_eq!(cluster.processes().len(), 6);
                let node = cluster.process("n1").expect("a node");
                assert_ne!(node.listen, node.advertise);
                assert!(made.join("ca/ca.key").exists() && made.join("n1/tls.crt").exists());
                let context = cluster.context(Role::Operator);
                assert_eq!(context.cluster.coordinators.len(), 3);
                let mut again = LocalCluster::open(&env, &made).expect("readable").expect("there");
                assert_eq!(again.processes().len(), 6);
                assert!(!again.is_running("c1").expect("known"));
                again.remove_files().expect("removed");
                assert!(LocalCluster::open(&env, &made).expect("readable").is_none());
            }
        })
        .expect("a runtime");
        assert!(!made.exists());
    }

    #[test]
    fn this_process_runs_and_a_made_up_one_does_not() {
        let own = i32::try_from(std::process::id()).expect("a pid");
        assert!(started_ticks(own).is_some_and(|ticks| ticks > 0));
        assert_eq!(started_ticks(i32::MAX), None);
    }
}
