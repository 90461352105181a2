//! Where the threads that start the device processes of one group meet (C9): sizes depend on all of them, and each process is handed
//! the memory of the others before it is launched.
//!
//! ```text
//!   thread of member 0:  hello 0 ─┐             ┌─> setup 0 ── fabric 0 ─┐             ┌─> peer 1 ── ready
//!                                 ├─ all there ─┤                        ├─ all there ─┤
//!   thread of member 1:  hello 1 ─┘             └─> setup 1 ── fabric 1 ─┘             └─> peer 0 ── ready
//! ```
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
        let state = State { hellos: vec![None; members], fabrics: vec![None; members], failed: None };
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
