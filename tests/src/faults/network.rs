//! Machines of a cluster on one machine: a network namespace for each process, all on one bridge.
//!
//! ```text
//!   this process, proxies          c1        n1
//!   10.a.b.1  on the bridge ──┬── veth ──┬── veth ── ...      each in a namespace, 10.a.b.10 and up
//! ```
//! A process whose cable is pulled is cut off from everybody: from coordinators, nodes and clients alike. Making namespaces takes
//! privileges; without them all processes are on the loopback interface and only what goes through a proxy can be cut.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use ringfleet::local::Host;

/// Where the processes run.
#[derive(Debug)]
pub enum Network {
    /// All on the loopback interface. The reason why there are no namespaces.
    Loopback(String),
    /// Each in a namespace of its own.
    Namespaces(Namespaces),
}

impl Network {
    /// Namespaces for these processes; the loopback interface where they are not permitted.
    #[must_use]
    pub fn of(names: &[String]) -> Self {
        match Namespaces::create(names) {
            Ok(namespaces) => Self::Namespaces(namespaces),
            Err(error) => Self::Loopback(format!("{error:#}")),
        }
    }

    /// Where the processes run, in the order of their names.
    #[must_use]
    pub fn hosts(&self) -> Vec<Host> {
        match self {
            Self::Loopback(_) => Vec::new(),
            Self::Namespaces(namespaces) => namespaces.hosts(),
        }
    }

    /// Whether the cable of a process can be pulled.
    #[must_use]
    pub fn has_cables(&self) -> bool {
        matches!(self, Self::Namespaces(_))
    }

    /// Pulls the cable of a process, or plugs it in again.
    pub fn plug(&self, name: &str, plugged: bool) -> Result<()> {
        match self {
            Self::Loopback(_) => Ok(()),
            Self::Namespaces(namespaces) => {
                let cable = namespaces.cable(name);
                ip(&["link", "set", &cable, if plugged { "up" } else { "down" }])
            }
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback(why) => write!(f, "loopback and proxies, because there are no network namespaces: {why}"),
            Self::Namespaces(namespaces) => write!(f, "{} network namespaces and proxies", namespaces.names.len()),
        }
    }
}

/// Namespaces on a bridge; gone when dropped.
#[derive(Debug)]
pub struct Namespaces {
    /// Tells them from those of other runs on this machine.
    id: u16,
    names: Vec<String>,
}

impl Namespaces {
    fn create(names: &[String]) -> Result<Self> {
        let id = (std::process::id() & 0xffff) as u16;
        // From here on whatever was made is removed, also if the rest fails.
        let made = Self { id, names: names.to_vec() };
        let bridge = made.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}/24", made.address(1)), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for (at, name) in names.iter().enumerate() {
            let (space, cable) = (made.space(name), made.cable(name));
            let inside = format!("{}/24", made.address(10 + at as u8));
            ip(&["netns", "add", &space])?;
            ip(&["link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &space])?;
            ip(&["link", "set", &cable, "master", &bridge, "up"])?;
            ip(&["-n", &space, "link", "set", "lo", "up"])?;
            ip(&["-n", &space, "addr", "add", &inside, "dev", "eth0"])?;
            ip(&["-n", &space, "link", "set", "eth0", "up"])?;
        }
        Ok(made)
    }

    fn address(&self, host: u8) -> IpAddr {
        let [high, low] = self.id.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(10, 64 | high & 63, low, host))
    }

    fn bridge(&self) -> String {
        format!("rf{:04x}", self.id)
    }

    fn space(&self, name: &str) -> String {
        format!("rf{:04x}-{name}", self.id)
    }

    /// The end of the cable at the bridge.
    fn cable(&self, name: &str) -> String {
        format!("rf{:04x}v{name}", self.id)
    }

    fn hosts(&self) -> Vec<Host> {
        let host = |(at, name): (usize, &String)| Host {
            ip: self.address(10 + at as u8),
            proxy_ip: self.address(1),
            wrap: ["ip", "netns", "exec", &self.space(name)].map(str::to_owned).to_vec(),
        };
        self.names.iter().enumerate().map(host).collect()
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // What was not made cannot be removed; nothing can be done about the rest.
        for name in &self.names {
            let _ = ip(&["link", "del", &self.cable(name)]);
            let _ = ip(&["netns", "del", &self.space(name)]);
        }
        let _ = ip(&["link", "del", &self.bridge()]);
    }
}

fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output().context("running `ip`")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", args.join(" "), stderr.trim());
    Ok(())
}
