//! Where the threads that start the device processes of one group meet (C9): sizes depend on all of them, and each process is handed
//! the memory of the others before it is launched.
//!
//! ```text
//!   thread of member 0:  hello 0 ─┐             ┌─> setup 0 ── fabric 0 ─┐             ┌─> peer 1 ── ready
//!                                 ├─ all there ─┤                        ├─ all there ─┤
//!   thread of member 1:  hello 1 ─┘             └─> setup 1 ── fabric 1 ─┘             └─> peer 0 ── ready
//! ```
//! With NVSHMEM the first member's id takes the place of the fabrics.
//!
//! Nobody waits for ever: each thread has the limit of its launch, and the first that fails ends the wait of all.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringfleet_env::{Clock, Instant};

use super::child::LaunchError;
use super::handshake::Hello;

/// Every thread fails by itself when its own process is late; this much later even one that only waits for the others gives up.
const GRACE: Duration = Duration::from_secs(1);

/// What other devices of a group write at one of them.
#[derive(Debug)]
pub(crate) struct Fabric {
    pub(crate) bytes: u64,
    pub(crate) file: OwnedFd,
}

#[derive(Debug)]
struct State {
    hellos: Vec<Option<Hello>>,
    fabrics: Vec<Option<Arc<Fabric>>>,
    ids: Vec<Option<Option<String>>>,
    failed: Option<usize>,
}

/// The meeting place.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    changed: Condvar,
}

/// A member's place in it.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    hub: Arc<Hub>,
    member: usize,
}

impl Hub {
    pub(crate) fn new(members: usize) -> Arc<Self> {
        let state =
            State { hellos: vec![None; members], fabrics: vec![None; members], ids: vec![None; members], failed: None };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    pub(crate) fn seat(self: &Arc<Self>, member: usize) -> Seat {
        Seat { hub: self.clone(), member }
    }

    /// The first member that failed.
    pub(crate) fn failed(&self) -> Option<usize> {
        self.lock().failed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Says hello; gives everybody's, in the order of members, if they can reach each other.
    pub(crate) fn meet(&self, hello: Hello, until: Instant, clock: &dyn Clock) -> Result<Vec<Hello>, LaunchError> {
        let all = self.await_all(hello, |state| &mut state.hellos, until, clock)?;
        for (other, theirs) in all.iter().enumerate().filter(|(other, _)| *other != self.member) {
            let (ours, theirs) = (&all[self.member].facts, &theirs.facts);
            if !ours.peers.contains(&theirs.uuid) {
                return Err(LaunchError::Unreachable { from: self.member, to: other, uuid: theirs.uuid.clone() });
            }
        }
        Ok(all)
    }

    /// Puts down what others of the group write here; gives the same of each other one.
    pub(crate) fn exchange(
        &self,
        fabric: Fabric,
        until: Instant,
        clock: &dyn Clock,
    ) -> Result<Vec<(u32, Arc<Fabric>)>, LaunchError> {
        let all = self.await_all(Arc::new(fabric), |state| &mut state.fabrics, until, clock)?;
        let numbered = all.into_iter().enumerate().filter(|(member, _)| *member != self.member);
        Ok(numbered.map(|(member, fabric)| (member as u32, fabric)).collect())
    }

    /// Whether it is the first of its group, whose id the others are told.
    pub(crate) fn is_first(&self) -> bool {
        self.member == 0
    }

    /// Puts down the id by which the others find this member, if it is the first; gives that of the first.
    pub(crate) fn learn_id(
        &self,
        own: Option<String>,
        until: Instant,
        clock: &dyn Clock,
    ) -> Result<String, LaunchError> {
        let all = self.await_all(own, |state| &mut state.ids, until, clock)?;
        all.into_iter().flatten().next().ok_or(LaunchError::Confused)
    }

    /// This member did not start, so nobody does. The first is to blame.
    pub(crate) fn fail(&self) {
        self.hub.lock().failed.get_or_insert(self.member);
        self.hub.changed.notify_all();
    }

    /// Whether any member has failed.
    pub(crate) fn is_off(&self) -> bool {
        self.hub.failed().is_some()
    }

    fn await_all<T: Clone>(
        &self,
        value: T,
        place: impl Fn(&mut State) -> &mut Vec<Option<T>>,
        until: Instant,
        clock: &dyn Clock,
    ) -> Result<Vec<T>, LaunchError> {
        let until = until + GRACE;
        let mut state = self.hub.lock();
        place(&mut state)[self.member] = Some(value);
        self.hub.changed.notify_all();
        loop {
            if state.failed.is_some() {
                return Err(LaunchError::Group);
            }
            if let Some(all) = place(&mut state).iter().cloned().collect() {
                return Ok(all);
            }
            let now = clock.now();
            if now >= until {
                return Err(LaunchError::Group);
            }
            state = self.hub.changed.wait_timeout(state, until - now).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;

    use ringfleet_env::SystemClock;
    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;
    use crate::process::child::Launch;
    use crate::process::handshake::tests::facts;
    use crate::process::handshake::{Facts, GroupFabric, Kind, Packet, Plan, receive, send};
    use crate::process::{GpuConfig, GroupError, ProcessDevice, start_group};

    /// Long enough for any machine.
    const LIMIT: Duration = Duration::from_secs(60);
    /// What a started member does, its UUID and multiprocessors, and whom it reaches.
    const PART: &str = "RINGFLEET_TEST_MEMBER";

    /// The main of the processes that these tests start. As a test it does nothing.
    #[test]
    fn as_a_member() {
        let Ok(part) = std::env::var(PART) else { return };
        let mut words = part.split(' ');
        let mut word = || words.next().expect("four words").to_owned();
        let (does, uuid, cores, peer) = (word(), word(), word().parse().expect("a number"), word());
        let socket = std::io::stdin().as_fd().try_clone_to_owned().expect("standard input");
        let heard = || receive(socket.as_fd()).expect("received").expect("a packet");
        let say = |packet: Packet, file: Option<&File>| {
            send(socket.as_fd(), &packet, file.map(AsFd::as_fd)).expect("sent");
        };
        if does == "silent" {
            assert!(receive(socket.as_fd()).expect("the end").is_none());
            std::process::exit(0);
        }
        let facts = Facts { kind: Kind::Gpu, uuid, cores, peers: vec![peer], ..facts() };
        say(Packet::Hello(Hello::new(facts, &[], |_| true)), None);
        let (Packet::Setup(setup), Some(_)) = heard() else { panic!("no setup") };
        let Plan::Gpu { devices: 2, device, fabric, .. } = setup.plan else { panic!("another plan: {setup:?}") };
        match does.as_str() {
            "works" if fabric == GroupFabric::Nvshmem => {
                if device == 0 {
                    say(Packet::Id("5a".into()), None);
                } else {
                    let (packet, file) = heard();
                    assert!(packet == Packet::Id("5a".into()) && file.is_none(), "{packet:?}");
                }
                say(Packet::Ready, None);
            }
            "ends" => std::process::exit(3),
            "fails" => say(Packet::Fault("no memory".into()), None),
            _ => {
                let mut ours = File::from(memfd_create("fabric", MemfdFlags::CLOEXEC).expect("a file"));
                write!(ours, "of {device}").expect("written");
                say(Packet::Fabric { bytes: u64::from(device) + 10 }, Some(&ours));
                let (Packet::Peer { device: other, bytes }, Some(theirs)) = heard() else { panic!("no peer") };
                let (mut theirs, mut text) = (File::from(theirs), String::new());
                theirs.rewind().expect("its begin");
                theirs.read_to_string(&mut text).expect("read");
                assert_eq!((other, bytes, text), (1 - device, u64::from(other) + 10, format!("of {other}")));
                say(Packet::Ready, None);
            }
        }
        assert!(receive(socket.as_fd()).expect("the end").is_none());
        std::process::exit(0);
    }

    fn try_group(parts: [&str; 2], limit: Duration) -> Result<Vec<ProcessDevice>, GroupError> {
        try_fabric(parts, limit, GroupFabric::Vmm)
    }

    fn try_fabric(parts: [&str; 2], limit: Duration, fabric: GroupFabric) -> Result<Vec<ProcessDevice>, GroupError> {
        let launch = |part: &str| Launch {
            program: std::env::current_exe().expect("the executable"),
            args: ["--exact", "process::hub::tests::as_a_member", "--nocapture"].map(Into::into).into(),
            env: vec![(PART.into(), part.into())],
            limit,
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        start_group(parts.map(launch).into(), &GpuConfig { fabric, ..GpuConfig::DEFAULT }, &[], &clock)
    }

    fn refused(parts: [&str; 2]) -> (usize, String) {
        let began = SystemClock.now();
        let error = try_group(parts, LIMIT).expect_err("refused");
        assert!(SystemClock.now() - began < LIMIT, "nobody waits for a group that will not be");
        (error.member, error.source.to_string())
    }

    #[test]
    fn each_process_is_handed_what_the_other_put_down_and_the_smallest_decides_the_workers() {
        let group = try_group(["works a 7 b", "works b 5 a"], LIMIT).expect("a group");
        let workers: Vec<u16> = group.iter().map(|member| member.shape().workers).collect();
        let cores: Vec<u32> = group.iter().map(|member| member.facts().cores).collect();
        assert_eq!((workers, cores), (vec![4, 4], vec![7, 5]));
        assert!(group.iter().all(|member| member.why_lost().is_none()));
    }

    #[test]
    fn with_nvshmem_the_first_says_its_id_and_the_others_are_told_it() {
        let group = try_fabric(["works a 7 b", "works b 5 a"], LIMIT, GroupFabric::Nvshmem).expect("a group");
        assert!(group.iter().all(|member| member.why_lost().is_none()));
        // Whoever is told waits for the first no longer than it lives, and hears nothing else.
        let refused = |parts| try_fabric(parts, LIMIT, GroupFabric::Nvshmem).expect_err("refused");
        let error = refused(["ends a 7 b", "works b 5 a"]);
        assert!(error.member == 0 && error.to_string().contains("exit status: 3"), "{error}");
        let error = refused(["fails a 7 b", "works b 5 a"]);
        assert_eq!((error.member, error.source.to_string()), (0, "the device process gave up: no memory".into()));
    }

    #[test]
    fn one_that_fails_ends_all_and_is_named() {
        assert_eq!(refused(["works a 7 b", "fails b 7 a"]), (1, "the device process gave up: no memory".into()));
        let (member, text) = refused(["ends a 7 b", "works b 7 a"]);
        assert_eq!((member, text.contains("exit status: 3")), (0, true), "{text}");
    }

    #[test]
    fn gpus_that_cannot_reach_each_other_are_no_group() {
        let (_, text) = refused(["works a 7 b", "works b 7 c"]);
        assert!(text.contains("the GPU of member 1 cannot reach the memory of that of member 0 (a)"), "{text}");
    }

    #[test]
    fn nobody_waits_for_ever_for_one_that_is_silent() {
        let error = try_group(["works a 7 b", "silent b 7 a"], Duration::from_secs(1)).expect_err("refused");
        assert!(error.to_string().contains("nothing was said for "), "{error}");
    }
}
