//! The agent's hold on a device process: starts it, shakes hands, watches it, and sees to it that it is gone in the end.
//!
//! One thread per process does all of it. It has to be the thread that starts the process: the system kills the child when that thread
//! ends ("parent death" means the thread), and it ends only after the child. The thread waits for the socket and for the process at
//! once, so an end of either is seen when it happens.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use ringfleet_actor::TypeDescriptor;
use ringfleet_env::Clock;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::handshake::{
    GroupFabric, Hello, Kind, Mismatch, Packet, Plan, Setup, await_any, await_packet, receive, send,
};
use super::hub::{Fabric, Seat};
use super::shared::SharedMap;

/// How long a process that was asked to end, or whose socket has ended, may take before it is killed.
const END_LIMIT: Duration = Duration::from_secs(2);
/// Between two looks whether the others of a group still start.
const LOOK: Duration = Duration::from_millis(50);
/// Between two looks while nothing ends; only a bound, whatever happens wakes the thread.
const WATCH: Duration = Duration::from_secs(60);

/// How a device process is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The executable: the agent's own.
    pub program: PathBuf,
    /// Its arguments. Its standard input is the socket.
    pub args: Vec<OsString>,
    /// Variables beside the agent's own.
    pub env: Vec<(OsString, OsString)>,
    /// How long it may take until it is ready.
    pub limit: Duration,
}

/// Why a device process does not run.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// Its answer.
        #[source]
        source: io::Error,
    },
    /// It is of another build.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// It gave up, in its own words.
    #[error("the device process gave up: {0}")]
    Fault(String),
    /// It ended without a word.
    #[error("the device process ended before it was ready ({0})")]
    Ended(String),
    /// Another device of its group did not start, and none does without it.
    #[error("another device of its group did not start")]
    Group,
    /// Two GPUs of a group that cannot send to each other.
    #[error(
        "the GPU of member {from} cannot reach the memory of that of member {to} ({uuid}), so they cannot be one device"
    )]
    Unreachable {
        /// Which.
        from: usize,
        /// Which other one.
        to: usize,
        /// The other one's UUID.
        uuid: String,
    },
    /// It said something else than it had to.
    #[error("the device process does not keep to the handshake")]
    Confused,
    /// Sizes that are not possible.
    #[error("`{field}` of the shared memory is {value}")]
    Shape {
        /// Which.
        field: &'static str,
        /// What was asked for.
        value: u32,
    },
}

fn system(what: &'static str) -> impl Fn(io::Error) -> LaunchError {
    move |source| LaunchError::System { what, source }
}

/// What the thread tells the others.
#[derive(Debug, Default)]
struct Watch {
    gone: AtomicBool,
    /// The agent has let go of it: its end from then on is no loss.
    let_go: AtomicBool,
    /// It has ended before that, or is not believed any more.
    lost: AtomicBool,
    words: Mutex<Option<String>>,
}

/// A device process that is ready. Dropping it ends the process and waits for its end.
#[derive(Debug)]
pub(crate) struct Held {
    watch: Arc<Watch>,
    socket: OwnedFd,
    thread: Option<JoinHandle<()>>,
    pub(crate) pid: i32,
}

/// What came of the handshake.
pub(crate) struct Ready {
    pub(crate) held: Held,
    pub(crate) hello: Hello,
    pub(crate) map: Arc<SharedMap>,
    pub(crate) arena_bytes: u64,
}

/// What the thread hands over when the process is ready.
type Outcome = Result<(i32, Hello, Plan, Arc<SharedMap>), LaunchError>;

/// A device process that is being started.
pub(crate) struct Starting {
    watch: Arc<Watch>,
    socket: OwnedFd,
    thread: JoinHandle<()>,
    outcome: mpsc::Receiver<Outcome>,
}

/// Begins to start a device process. `setup` chooses sizes by what the process says, and the others of its group: all of them, in order.
pub(crate) fn begin(
    launch: Launch,
    kind: Kind,
    types: Vec<&'static TypeDescriptor>,
    setup: impl FnOnce(&[Hello]) -> Setup + Send + 'static,
    seat: Option<Seat>,
    clock: Arc<dyn Clock>,
) -> Result<Starting, LaunchError> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(io::Error::from)
        .map_err(system("making a socket pair"))?;
    let socket = ours.try_clone().map_err(system("making a socket pair"))?;
    let watch = Arc::new(Watch::default());
    let (told, outcome) = mpsc::sync_channel::<Outcome>(1);
    let shared = watch.clone();
    let run = move || {
        let mut child = match spawn(&launch, theirs) {
            Ok(child) => child,
            Err(error) => {
                seat.iter().for_each(Seat::fail);
                return drop(told.send(Err(error)));
            }
        };
        let shaken = shake_hands(&ours, &launch, kind, &types, setup, seat.as_ref(), &*clock);
        if shaken.is_err() {
            seat.iter().for_each(Seat::fail);
        }
        // With it go the descriptors of other devices.
        drop(seat);
        let (ready, result) = match shaken {
            Ok((hello, plan, map)) => (true, Ok((child.id() as i32, hello, plan, map))),
            Err(LaunchError::Ended(_)) => (false, Err(LaunchError::Ended(end_within_limit(&mut child, &*clock)))),
            Err(error) => {
                // Whatever it is doing, nobody waits for it.
                let _ = child.kill();
                end(&mut child);
                (false, Err(error))
            }
        };
        // Nobody listens any more: the pair's other end is gone, too, and the process will see that.
        let _ = told.send(result);
        if ready {
            watch_over(&ours, &mut child, &shared, &*clock);
        }
    };
    let thread = Builder::new()
        .name("ringfleet-watch".into())
        .spawn(run)
        .map_err(system("starting the thread that watches the device process"))?;
    Ok(Starting { watch, socket, thread, outcome })
}

impl Starting {
    /// Waits until the process is ready, or has failed.
    pub(crate) fn finish(self) -> Result<Ready, LaunchError> {
        let Self { watch, socket, thread, outcome } = self;
        match outcome.recv() {
            Ok(Ok((pid, hello, plan, map))) => {
                let arena_bytes = match plan {
                    Plan::Cpu { .. } => 0,
                    Plan::Gpu { arena_bytes, .. } => arena_bytes,
                };
                Ok(Ready { held: Held { watch, socket, thread: Some(thread), pid }, hello, map, arena_bytes })
            }
            Ok(Err(error)) => {
                let _ = thread.join();
                Err(error)
            }
            Err(_) => Err(LaunchError::Confused),
        }
    }
}

fn spawn(launch: &Launch, socket: OwnedFd) -> Result<Child, LaunchError> {
    Command::new(&launch.program)
        .args(&launch.args)
        .envs(launch.env.iter().cloned())
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        // A Ctrl-C in the terminal is for the agent, which stops its devices in order.
        .process_group(0)
        .spawn()
        .map_err(system("starting the device process"))
}

fn shake_hands(
    socket: &OwnedFd,
    launch: &Launch,
    kind: Kind,
    types: &[&'static TypeDescriptor],
    setup: impl FnOnce(&[Hello]) -> Setup,
    seat: Option<&Seat>,
    clock: &dyn Clock,
) -> Result<(Hello, Plan, Arc<SharedMap>), LaunchError> {
    let listening = system("listening to the device process");
    let telling = system("telling the device process");
    let until = clock.now() + launch.limit;
    let next = || {
        // Nobody waits for a process whose group will not be.
        while let Some(seat) = seat
            && !await_any([socket.as_fd()], LOOK.min(until - clock.now())).map_err(&listening)?[0]
            && clock.now() < until
        {
            if seat.is_off() {
                return Err(LaunchError::Group);
            }
        }
        match await_packet(socket, until - clock.now(), clock).map_err(&listening)? {
            Some((Packet::Fault(text), _)) => Err(LaunchError::Fault(text)),
            Some(packet) => Ok(packet),
            None => Err(LaunchError::Ended(String::new())),
        }
    };
    let (Packet::Hello(hello), _) = next()? else { return Err(LaunchError::Confused) };
    hello.check(kind, types)?;
    let setup = match seat {
        None => setup(std::slice::from_ref(&hello)),
        Some(seat) => setup(&seat.meet(hello.clone(), until, clock)?),
    };
    setup.shape.check().map_err(|(field, value)| LaunchError::Shape { field, value })?;
    let map = SharedMap::create(setup.shape).map_err(system("making the shared memory"))?;
    let plan = setup.plan.clone();
    send(socket.as_fd(), &Packet::Setup(setup), Some(map.file())).map_err(&telling)?;
    if let Some(seat) = seat
        && let Plan::Gpu { fabric: GroupFabric::Nvshmem, .. } = plan
    {
        let own = match seat.is_first().then(&next).transpose()? {
            Some((Packet::Id(id), None)) => Some(id),
            None => None,
            Some(_) => return Err(LaunchError::Confused),
        };
        let id = seat.learn_id(own, until, clock)?;
        if !seat.is_first() {
            send(socket.as_fd(), &Packet::Id(id), None).map_err(&telling)?;
        }
    } else if let Some(seat) = seat {
        let (Packet::Fabric { bytes }, Some(file)) = next()? else { return Err(LaunchError::Confused) };
        for (device, fabric) in seat.exchange(Fabric { bytes, file }, until, clock)? {
            let packet = Packet::Peer { device, bytes: fabric.bytes };
            send(socket.as_fd(), &packet, Some(fabric.file.as_fd())).map_err(&telling)?;
        }
    }
    match next()? {
        (Packet::Ready, _) => Ok((hello, plan, Arc::new(map))),
        _ => Err(LaunchError::Confused),
    }
}

/// Waits for the end of the socket or of the process, whichever is first, then for the end of the process.
fn watch_over(socket: &OwnedFd, child: &mut Child, watch: &Watch, clock: &dyn Clock) {
    let process = descriptor(child);
    loop {
        let seen = match &process {
            Some(process) => await_any([socket.as_fd(), process.as_fd()], WATCH),
            // A system without descriptors of processes: the socket says it, too.
            None => await_any([socket.as_fd()], WATCH).map(|[socket]| [socket, false]),
        };
        let Ok([said, ended]) = seen else { break };
        if said {
            match receive(socket.as_fd()) {
                Ok(Some((Packet::Fault(text), _))) => {
                    *watch.words.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
                    continue;
                }
                Ok(Some(_)) => continue,
                Ok(None) | Err(_) => break,
            }
        }
        if ended {
            break;
        }
    }
    // Relaxed: whoever lets go of it asks after the end of this thread, and others take it for a hint.
    watch.lost.fetch_or(!watch.let_go.load(Ordering::Relaxed), Ordering::Relaxed);
    // Release: pairs with the acquire in `is_gone`; the last words are there.
    watch.gone.store(true, Ordering::Release);
    let how = end_within_limit(child, clock);
    let mut words = watch.words.lock().unwrap_or_else(PoisonError::into_inner);
    words.get_or_insert(how);
}

/// `None` on a system without descriptors of processes.
fn descriptor(child: &Child) -> Option<OwnedFd> {
    pidfd_open(Pid::from_child(child), PidfdFlags::empty()).ok()
}

/// Waits for a process that has closed its socket, kills it if it does not end in time (C9), and says how it ended.
fn end_within_limit(child: &mut Child, clock: &dyn Clock) -> String {
    if let Some(process) = descriptor(child) {
        let until = clock.now() + END_LIMIT;
        while let Ok([false]) = await_any([process.as_fd()], until - clock.now())
            && clock.now() < until
        {}
    }
    if !matches!(child.try_wait(), Ok(Some(_))) {
        let _ = child.kill();
    }
    end(child)
}

/// Waits for the process and says how it ended.
fn end(child: &mut Child) -> String {
    match child.wait() {
        Ok(status) => describe(status),
        Err(error) => error.to_string(),
    }
}

fn describe(status: ExitStatus) -> String {
    status.to_string()
}

impl Held {
    /// Whether the process has ended, or has closed its socket, which is its way to say so.
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        self.watch.gone.load(Ordering::Acquire)
    }

    /// Who can say more.
    pub(crate) fn witness(&self) -> Witness {
        Witness(self.watch.clone())
    }

    /// The agent has seen what cannot be, which is its end as well.
    pub(crate) fn condemn(&self, why: String) {
        *self.watch.words.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        self.watch.lost.store(true, Ordering::Relaxed);
    }
}

/// Who can say what became of a device process, after its device has gone, too.
#[derive(Clone, Debug)]
pub struct Witness(Arc<Watch>);

impl Witness {
    /// Why the device was lost, if it was: what it wrote that cannot be, its last words, or how it ended.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        self.0.words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the process ended by itself, and not because its device was dropped: also while it was being stopped. Or whether it wrote what
    /// cannot be.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.0.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.watch.let_go.store(true, Ordering::Relaxed);
        // Both sides see the end of the pair: the process ends, the thread waits for it, and kills it if it does not.
        let _ = shutdown(&self.socket, Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            // It does not panic, and nobody would be helped if it did.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use ringfleet_env::SystemClock;

    use super::*;
    use crate::config::CpuDeviceConfig;
    use crate::process::handshake::tests::facts;
    use crate::process::shared::tests::SMALL;

    /// What comes of a shell as a device process; `$HELLO` is a packet that it may say.
    fn try_to_start(script: &str, limit: Duration) -> LaunchError {
        let hello = Packet::Hello(Hello::new(facts(), &[], |_| true));
        let launch = Launch {
            program: "/bin/sh".into(),
            args: ["-c", script].map(Into::into).into(),
            env: vec![("HELLO".into(), serde_json::to_string(&hello).expect("text").into())],
            limit,
        };
        let setup = |_: &[Hello]| Setup { shape: SMALL, plan: Plan::of_cpu(&CpuDeviceConfig::DEFAULT) };
        let begun = begin(launch, Kind::Cpu, Vec::new(), setup, None, Arc::new(SystemClock)).expect("a thread");
        begun.finish().err().expect("refused")
    }

    #[test]
    fn a_process_that_closes_its_socket_and_stays_is_killed() {
        let error = try_to_start("exec 0<&-; exec sleep 1000", Duration::from_secs(30));
        assert_eq!(error.to_string(), "the device process ended before it was ready (signal: 9 (SIGKILL))");
    }

    #[test]
    fn a_process_that_ends_by_itself_is_not_killed() {
        let error = try_to_start("exec 0<&-; sleep 0.2; exit 3", Duration::from_secs(30));
        assert_eq!(error.to_string(), "the device process ended before it was ready (exit status: 3)");
    }

    #[test]
    fn the_limit_of_a_launch_is_for_the_whole_handshake() {
        let error = try_to_start("sleep 0.3; printf %s \"$HELLO\" >&0; exec sleep 1000", Duration::from_secs(1));
        let error = error.to_string();
        assert!(error.starts_with("listening to the device process: nothing was said for "), "{error}");
        assert!(!error.ends_with(" 1s"), "the whole limit again after the first packet: {error}");
    }
}
