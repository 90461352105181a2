//! What an agent and its device process say to each other: one JSON object a packet over a socket pair.
//!
//! ```text
//!   device process                         agent
//!     hello: who I am, what I was built from  ->   refuses what does not fit, with a clear line
//!                                             <-   setup: sizes, and the shared memory as a descriptor
//!     fabric: what other devices write here       ->                                            (only in a group, `vmm`)
//!                                             <-   peer: the same of another device, for each   (only in a group, `vmm`)
//!     id: by which the others find the first      ->                                            (only the first of a group, `nvshmem`)
//!                                             <-   id: of the first, to the others              (only in a group, `nvshmem`)
//!     ready  (or: fault, in words)            ->   traffic begins, in shared memory
//!     ...
//!     fault, in words                         ->   the last words of a process that gives up
//! ```
//! The end of either process is the end of the socket, which is how the other notices.

use std::collections::BTreeMap;
use std::io;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use ringfleet_abi::LAYOUT_HASH;
use ringfleet_abi::hash::fnv1a64;
use ringfleet_actor::TypeDescriptor;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use super::shape::Shape;
use crate::config::CpuDeviceConfig;

/// The version of this conversation.
pub const PROTOCOL: u32 = 3;
/// The longest packet, in bytes: room for the types of a large build.
const PACKET_BYTES_MAX: usize = 128 << 10;

/// What runs the actors of a device process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Threads: the CPU device.
    Cpu,
    /// A GPU: the persistent kernel.
    Gpu,
}

/// What a device process knows about its device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// What it is.
    pub kind: Kind,
    /// Its name, as its maker calls it.
    pub name: String,
    /// A GPU's UUID, `GPU-...`; empty for a CPU device.
    pub uuid: String,
    /// Cores, or multiprocessors.
    pub cores: u32,
    /// A GPU's compute capability.
    pub capability: (u32, u32),
    /// The CUDA driver's version, such as 13000; 0 for a CPU device.
    pub driver_version: u32,
    /// A GPU's memory; 0 for a CPU device.
    pub memory_bytes: u64,
    /// A GPU's memory that nobody uses.
    pub memory_free_bytes: u64,
    /// UUIDs of other GPUs of the host whose memory this one can reach.
    pub peers: Vec<String>,
    /// NVLinks between this GPU and those, by UUID; empty where NVML is not there to be asked.
    pub nvlinks: BTreeMap<String, u32>,
}

/// An actor type of the device process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownType {
    /// Its name.
    pub name: String,
    /// Hash of its code.
    pub code_hash: u64,
    /// Whether this device can run it; a GPU needs device code for it.
    pub runs: bool,
}

/// The first packet of a device process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// The version of the build.
    pub version: String,
    /// Hash of the contract of host and device.
    pub layout_hash: u64,
    /// Hash of the pages that host and device share beyond it.
    pub pages_hash: u64,
    /// The device.
    pub facts: Facts,
    /// The type table, in the order of the build.
    pub types: Vec<KnownType>,
}

/// The agent's answer; the shared memory comes with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// Sizes of the shared memory.
    pub shape: Shape,
    /// Sizes beyond it.
    pub plan: Plan,
}

/// What the device is made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plan {
    /// Of threads.
    Cpu {
        /// Slots of the rings between workers.
        ring_slots: u32,
        /// Messages that one worker may hold because their ring is full.
        spill_slots: u32,
        /// Messages of a batch, at most.
        batch: u32,
        /// Timers pending in one worker.
        timers_max: u32,
        /// How long an idle worker spins.
        spin_ns: u64,
        /// How long a round may take before its worker counts as stalled.
        stall_ns: u64,
    },
    /// A kernel.
    Gpu {
        /// Bytes for actors' records.
        arena_bytes: u64,
        /// Sets, ids up to this number exclusive.
        sets: u32,
        /// Shards of all sets together.
        shards: u32,
        /// GPUs of the group that send to each other, this one among them; 1: it is alone.
        devices: u32,
        /// Which of them this is.
        device: u32,
        /// How they share memory.
        fabric: GroupFabric,
    },
}

/// How the GPUs of a group share the memory that they write to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupFabric {
    /// Each maps what the others hand over as descriptors.
    #[default]
    Vmm,
    /// A heap of NVSHMEM. The loss of one ends the group: NVSHMEM has no way back for it.
    Nvshmem,
}

impl Plan {
    /// The plan of a CPU device of this configuration.
    #[must_use]
    pub fn of_cpu(config: &CpuDeviceConfig) -> Self {
        let CpuDeviceConfig { ring_slots, spill_slots, batch, timers_max, spin_ns, stall_ns, .. } = *config;
        Self::Cpu { ring_slots, spill_slots, batch, timers_max, spin_ns, stall_ns }
    }
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Packet {
    Hello(Hello),
    Setup(Setup),
    /// The memory of this device that others of its group write; it comes as a descriptor.
    Fabric {
        bytes: u64,
    },
    /// The same of another device of the group.
    Peer {
        device: u32,
        bytes: u64,
    },
    /// NVSHMEM's unique id of the first device of the group, in hexadecimal digits.
    Id(String),
    Ready,
    Fault(String),
}

/// What a device process and an agent must have in common, and do not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Another conversation.
    #[error("the device process ({version}) speaks protocol {theirs} of agent and device, this agent {PROTOCOL}")]
    Protocol {
        /// Its build.
        version: String,
        /// Its protocol.
        theirs: u32,
    },
    /// Another contract.
    #[error("the device process ({version}) was built from contract {theirs:#018x}, this agent from {ours:#018x}")]
    Layout {
        /// Its build.
        version: String,
        /// Its hash.
        theirs: u64,
        /// Ours.
        ours: u64,
    },
    /// Other actor types.
    #[error("the device process ({version}) has other actor types: {what}")]
    Types {
        /// Its build.
        version: String,
        /// The first difference.
        what: String,
    },
    /// Another kind of device than was asked for.
    #[error("the device process is of kind {theirs:?}, {ours:?} was asked for")]
    Kind {
        /// Its kind.
        theirs: Kind,
        /// What was asked for.
        ours: Kind,
    },
}

/// Hash of the structs that host and device share beyond the contract, and of the header of the shared memory.
#[must_use]
pub fn pages_hash() -> u64 {
    fnv1a64(ringfleet_kernels::layout::c_text().as_bytes())
}

impl Hello {
    /// Of this build.
    pub(crate) fn new(facts: Facts, types: &[&'static TypeDescriptor], runs: impl Fn(&TypeDescriptor) -> bool) -> Self {
        let known = |ty: &&'static TypeDescriptor| KnownType {
            name: ty.name.to_owned(),
            code_hash: ty.code_hash,
            runs: runs(ty),
        };
        Self {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            layout_hash: LAYOUT_HASH,
            pages_hash: pages_hash(),
            facts,
            types: types.iter().map(known).collect(),
        }
    }

    /// Whether this device process fits to this agent.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn check(&self, kind: Kind, types: &[&'static TypeDescriptor]) -> Result<(), Mismatch> {
        let version = self.version.clone();
        if self.protocol != PROTOCOL {
            return Err(Mismatch::Protocol { version, theirs: self.protocol });
        }
        for (theirs, ours) in [(self.layout_hash, LAYOUT_HASH), (self.pages_hash, pages_hash())] {
            if theirs != ours {
                return Err(Mismatch::Layout { version, theirs, ours });
            }
        }
        if self.facts.kind != kind {
            return Err(Mismatch::Kind { theirs: self.facts.kind, ours: kind });
        }
        let differs = |what: String| Err(Mismatch::Types { version: version.clone(), what });
        if self.types.len() != types.len() {
            return differs(format!("{} of them, this agent has {}", self.types.len(), types.len()));
        }
        for (at, (theirs, ours)) in self.types.iter().zip(types).enumerate() {
            if theirs.name != ours.name {
                return differs(format!("type {at} is `{}`, here `{}`", theirs.name, ours.name));
            }
            if theirs.code_hash != ours.code_hash {
                return differs(format!("`{}` has other code", ours.name));
            }
        }
        Ok(())
    }
}

/// Sends a packet, with a descriptor if there is one.
pub(crate) fn send(socket: BorrowedFd<'_>, packet: &Packet, file: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let bytes = serde_json::to_vec(packet)?;
    let files: Vec<BorrowedFd<'_>> = file.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    let sent = sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    if sent != bytes.len() { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
}

/// Receives a packet that is there, with the descriptor that came with it; `None` at the end of the other side.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Packet, Option<OwnedFd>)>> {
    let mut bytes = vec![0; PACKET_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC) {
        Ok(message) => message.bytes,
        Err(rustix::io::Errno::CONNRESET | rustix::io::Errno::PIPE) => 0,
        Err(error) => return Err(error.into()),
    };
    if received == 0 {
        return Ok(None);
    }
    let mut file = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(files) = message {
            file = files.into_iter().next().or(file);
        }
    }
    let packet = serde_json::from_slice(&bytes[..received])?;
    Ok(Some((packet, file)))
}

/// Waits until one of the descriptors has something to read or has ended, for at most `limit`; says which.
pub(crate) fn await_any<const N: usize>(files: [BorrowedFd<'_>; N], limit: Duration) -> io::Result<[bool; N]> {
    let mut polled = files.map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN));
    let limit =
        Timespec { tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: limit.subsec_nanos().into() };
    match poll(&mut polled, Some(&limit)) {
        // A signal: nothing yet, the caller looks again.
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(polled.map(|file| !file.revents().is_empty()))
}

/// Receives the next packet within `limit`.
pub(crate) fn await_packet(
    socket: &impl AsFd,
    limit: Duration,
    clock: &dyn ringfleet_env::Clock,
) -> io::Result<Option<(Packet, Option<OwnedFd>)>> {
    let until = clock.now() + limit;
    loop {
        let left = until - clock.now();
        if await_any([socket.as_fd()], left)?[0] {
            return receive(socket.as_fd());
        }
        if clock.now() >= until {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing was said for {limit:?}")));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;
    use crate::process::shared::SharedMap;
    use crate::process::shared::tests::SMALL;

    pub(crate) fn facts() -> Facts {
        Facts {
            kind: Kind::Cpu,
            name: "threads".into(),
            uuid: String::new(),
            cores: 2,
            capability: (0, 0),
            driver_version: 0,
            memory_bytes: 0,
            memory_free_bytes: 0,
            peers: Vec::new(),
            nvlinks: BTreeMap::new(),
        }
    }

    #[test]
    fn packets_carry_what_they_were_given_and_the_memory() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a pair");
        let map = SharedMap::create(SMALL).expect("memory");
        let setup = Setup { shape: SMALL, plan: Plan::of_cpu(&CpuDeviceConfig::DEFAULT) };
        send(ours.as_fd(), &Packet::Setup(setup.clone()), Some(map.file())).expect("sent");
        let (packet, file) = receive(theirs.as_fd()).expect("received").expect("a packet");
        assert_eq!(packet, Packet::Setup(setup));
        SharedMap::adopt(file.expect("a descriptor"), SMALL).expect("the memory");
        drop(ours);
        assert!(receive(theirs.as_fd()).expect("the end").is_none());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let good = Hello::new(facts(), &[], |_| true);
        assert_eq!(good.check(Kind::Cpu, &[]), Ok(()));
        let text = |hello: Hello| hello.check(Kind::Cpu, &[]).expect_err("a mismatch").to_string();
        assert!(text(Hello { protocol: 9, ..good.clone() }).contains("speaks protocol 9"));
        assert!(text(Hello { layout_hash: 1, ..good.clone() }).contains("contract 0x0000000000000001"));
        assert!(text(Hello { pages_hash: 2, ..good.clone() }).contains("contract 0x0000000000000002"));
        let types = vec![KnownType { name: "x".into(), code_hash: 1, runs: true }];
        assert!(text(Hello { types, ..good.clone() }).contains("1 of them, this agent has 0"));
        assert!(good.check(Kind::Gpu, &[]).expect_err("another kind").to_string().contains("Gpu was asked for"));
    }

    /// One packet of each kind.
    fn packets() -> Vec<Vec<u8>> {
        let types = vec![KnownType { name: "a.b".into(), code_hash: 1 << 60, runs: true }; 2];
        let fabric = GroupFabric::Vmm;
        let plan = Plan::Gpu { arena_bytes: 1 << 33, sets: 48, shards: 4096, devices: 2, device: 1, fabric };
        let packets = [
            Packet::Hello(Hello { types, ..Hello::new(facts(), &[], |_| true) }),
            Packet::Setup(Setup { shape: SMALL, plan: Plan::of_cpu(&CpuDeviceConfig::DEFAULT) }),
            Packet::Setup(Setup { shape: SMALL, plan }),
            Packet::Fabric { bytes: 1 << 21 },
            Packet::Peer { device: 1, bytes: 1 << 21 },
            Packet::Id("00ff".into()),
            Packet::Ready,
            Packet::Fault("an illegal address".into()),
        ];
        packets.iter().map(|packet| serde_json::to_vec(packet).expect("plain data")).collect()
    }

    /// A fuzz target, like those of `tests/tests/decoders`: places and bytes are put into a packet. What is read reads the same again, and
    /// sizes that are possible make a memory of a size that can be told.
    #[test]
    fn packets_from_outside_are_read_or_refused() {
        let packets = packets();
        bolero::check!().with_test_time(Duration::from_secs(5)).with_max_len(256).for_each(|plan: &[u8]| {
            let Some((&which, changes)) = plan.split_first() else { return };
            let mut bytes = packets.get(usize::from(which) % (packets.len() + 1)).map_or(changes.to_vec(), Vec::clone);
            for &[low, high, byte] in changes.as_chunks().0 {
                let at = usize::from(u16::from_le_bytes([low, high])) % bytes.len().max(1);
                match byte {
                    0 => bytes.truncate(at),
                    1 => bytes.extend_from_within(at..),
                    // Digits, so that numbers grow out of their range.
                    2..=11 => bytes.insert(at.min(bytes.len()), b'0' + byte - 2),
                    _ if at < bytes.len() => bytes[at] = byte,
                    _ => {}
                }
                bytes.truncate(PACKET_BYTES_MAX);
            }
            let Ok(packet) = serde_json::from_slice::<Packet>(&bytes) else { return };
            let again = serde_json::to_vec(&packet).expect("plain data");
            assert_eq!(serde_json::from_slice::<Packet>(&again).expect("what was written can be read"), packet);
            match packet {
                Packet::Hello(hello) => drop(hello.check(Kind::Cpu, &[])),
                Packet::Setup(setup) if setup.shape.check().is_ok() => {
                    let parts = setup.shape.parts();
                    assert!(parts.bytes > parts.egress.at && i64::try_from(parts.bytes).is_ok(), "{parts:?}");
                }
                _ => {}
            }
        });
    }
}
