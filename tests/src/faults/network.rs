//! Machines of a cluster on one machine: a network namespace for each process, all on one bridge.
//!
//! ```text
//!   this process, proxies          c1        n1
//!   10.a.b.1  on the bridge ──┬── veth ──┬── veth ── ...      each in a namespace, 10.a.b.10 and up
//! ```
//! A process whose cable is pulled is cut off from everybody: from coordinators, nodes and clients alike. Making namespaces takes
//! privileges; without them all processes are on the loopback interface and only what goes through a proxy can be cut.
//!
//! Inside its namespace a process may have a filter (`nft`) and a bandwidth (`tc`). What goes between nodes and from clients passes the
//! proxies, so it has the address of the bridge; what goes to and from coordinators has theirs.

use std::fmt;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use ringfleet::local::Host;

/// Whose datagrams a filter drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peers {
    /// Everybody's.
    All,
    /// Those of coordinators.
    Coordinators,
    /// Those of nodes and clients.
    Others,
}

/// Drops datagrams at a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// What comes in; otherwise what goes out.
    pub inward: bool,
    /// Of a thousand.
    pub permille: u64,
    /// To or from whom.
    pub peers: Peers,
}

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
    ///
    /// # Errors
    /// If they are permitted and cannot be made all the same.
    pub fn of(names: &[String]) -> Result<Self> {
        match Namespaces::claim() {
            Ok(id) => Ok(Self::Namespaces(Namespaces::create(id, names)?)),
            Err(error) => Ok(Self::Loopback(format!("{error:#}"))),
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

    /// Drops what these filters say at a process, and nothing else.
    ///
    /// # Errors
    /// If there are no namespaces, no `nft`, or it is not permitted.
    pub fn filter(&self, name: &str, filters: &[Filter]) -> Result<()> {
        match self {
            Self::Loopback(_) => bail!("all processes share one interface"),
            Self::Namespaces(namespaces) => namespaces.filter(name, filters),
        }
    }

    /// Lets a process send that much a second and no more, or as much as it can.
    ///
    /// # Errors
    /// If there are no namespaces, no `tc` with `tbf`, or it is not permitted.
    pub fn throttle(&self, name: &str, kbit: Option<u64>) -> Result<()> {
        match self {
            Self::Loopback(_) => bail!("all processes share one interface"),
            Self::Namespaces(namespaces) => namespaces.throttle(name, kbit),
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
    /// Tells them from all others on this machine: the bridge of this number is ours.
    id: u16,
    names: Vec<String>,
}

/// How many numbers are tried before a machine counts as full.
const IDS_TRIED: u16 = 256;
/// The next number that this process tries.
static NEXT_ID: AtomicU16 = AtomicU16::new(0);

impl Namespaces {
    /// Namespaces on the bridge of a number that was claimed.
    fn create(id: u16, names: &[String]) -> Result<Self> {
        // From here on whatever was made is removed, also if the rest fails: the bridge is ours.
        let made = Self { id, names: names.to_vec() };
        let bridge = made.bridge();
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

    /// A number that nobody has, and a bridge of that number, made here. Other networks, of this process or another, have other
    /// numbers: the kernel gives a name once. The address of a number has 14 bits, and so has the number.
    fn claim() -> Result<u16> {
        let first = std::process::id() as u16;
        let mut refused = None;
        for _ in 0..IDS_TRIED {
            let id = first.wrapping_add(NEXT_ID.fetch_add(1, Ordering::Relaxed)) & 0x3fff;
            match ip(&["link", "add", &bridge(id), "type", "bridge"]) {
                Ok(()) => return Ok(id),
                Err(error) if error.to_string().contains("File exists") => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(refused.context("no number was tried")?)
    }

    fn address(&self, host: u8) -> IpAddr {
        let [high, low] = self.id.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(10, 64 | high, low, host))
    }

    fn bridge(&self) -> String {
        bridge(self.id)
    }

    fn space(&self, name: &str) -> String {
        format!("rf{:04x}-{name}", self.id)
    }

    /// The end of the cable at the bridge.
    fn cable(&self, name: &str) -> String {
        format!("rf{:04x}v{name}", self.id)
    }

    /// UDP only: health and metrics are looked at all the time.
    fn filter(&self, name: &str, filters: &[Filter]) -> Result<()> {
        let coordinators = self.names.iter().enumerate().filter(|(_, name)| name.starts_with('c'));
        let coordinators: Vec<String> = coordinators.map(|(at, _)| self.address(10 + at as u8).to_string()).collect();
        let chain = |inward: bool| {
            let (hook, side) = if inward { ("input", "saddr") } else { ("output", "daddr") };
            let rules = filters.iter().filter(|filter| filter.inward == inward).map(|filter| {
                let peers = match filter.peers {
                    Peers::All => String::new(),
                    Peers::Coordinators => format!("ip {side} {{ {} }} ", coordinators.join(", ")),
                    Peers::Others => format!("ip {side} {} ", self.address(1)),
                };
                // `nft` refuses a comparison that is always true.
                let chance = match filter.permille {
                    1000.. => String::new(),
                    permille => format!("numgen random mod 1000 < {permille} "),
                };
                format!("meta l4proto udp {peers}{chance}drop; ")
            });
            let rules: String = rules.collect();
            format!("chain {hook} {{ type filter hook {hook} priority 0; policy accept; {rules}}}\n")
        };
        let script =
            format!("table inet rf {{}}\ndelete table inet rf\ntable inet rf {{\n{}{}}}\n", chain(true), chain(false));
        let mut nft = Command::new("ip");
        nft.args(["netns", "exec", &self.space(name), "nft", "-f", "-"]);
        nft.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut nft = nft.spawn().context("running `ip`")?;
        // Its own message says more than a closed pipe does.
        let _ = nft.stdin.take().context("it has an input")?.write_all(script.as_bytes());
        let output = nft.wait_with_output()?;
        ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }

    fn throttle(&self, name: &str, kbit: Option<u64>) -> Result<()> {
        let space = self.space(name);
        let rate = format!("{}kbit", kbit.unwrap_or_default());
        let mut tc = Command::new("tc");
        tc.args(["-n", &space, "qdisc"]).stdin(Stdio::null());
        match kbit {
            Some(_) => tc
                .args(["replace", "dev", "eth0", "root", "tbf", "rate", &rate])
                .args(["burst", "32kb", "latency", "50ms"]),
            None => tc.args(["del", "dev", "eth0", "root"]),
        };
        let output = tc.output().context("running `tc`")?;
        ensure!(output.status.success(), "tc: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
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

fn bridge(id: u16) -> String {
    format!("rf{id:04x}")
}

fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output().context("running `ip`")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", args.join(" "), stderr.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two networks of one process once had the same number: the second, which could not be made, took the first one's links away.
    #[test]
    fn networks_of_one_process_do_not_touch_each_other() {
        let names = ["n1".to_owned()];
        let id = match Namespaces::claim() {
            Ok(id) => id,
            Err(error) => return println!("not run: no network namespaces here: {error:#}"),
        };
        let first = Namespaces::create(id, &names).expect("a network");
        let second = Namespaces::claim().and_then(|id| Namespaces::create(id, &names)).expect("a second network");
        assert_ne!(first.id, second.id);
        drop(second);
        let inside = ip(&["-n", &first.space("n1"), "link", "show", "eth0"]);
        inside.expect("the first network is whole after the second is gone");
        let (space, bridge) = (first.space("n1"), first.bridge());
        drop(first);
        assert!(ip(&["-n", &space, "link", "show", "eth0"]).is_err(), "nothing is left behind");
        assert!(ip(&["link", "show", &bridge]).is_err(), "nothing is left behind");
    }
}
