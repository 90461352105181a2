//! What tests of device processes share: a test's own executable, started again with a variable that says what it is to be.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use ringfleet_abi::{Control, WorkerIndex};
use ringfleet_env::{Clock, SystemClock};
use ringfleet_gpu::Device;
use ringfleet_gpu::cuda::port;
use ringfleet_gpu::process::shape::Shape;
use ringfleet_gpu::process::shared::SharedMap;
use ringfleet_gpu::process::{Launch, ProcessDevice};
use rustix::process::{Pid, Signal, kill_process};

/// Far longer than anything here takes, even on a busy machine.
pub const WAIT_NS: u64 = 60_000_000_000;
/// How long an agent may be silent: a hundred starts of a device lie between two of its lines.
const SILENCE_LIMIT: Duration = Duration::from_secs(600);
/// What a started executable is to be.
pub const PART: &str = "RINGFLEET_TEST_PART";
/// What an agent is to do.
const AGENT: &str = "RINGFLEET_TEST_AGENT";

/// This executable's test `as_a_started_process`, as this part.
pub fn launch(part: &str, limit: Duration) -> Launch {
    Launch {
        program: std::env::current_exe().expect("the executable"),
        args: ["--exact", "as_a_started_process", "--nocapture"].map(Into::into).into(),
        env: vec![(PART.into(), part.into())],
        limit,
    }
}

/// What this agent is to do.
pub fn agents_task() -> String {
    std::env::var(AGENT).expect("what to do")
}

/// A deadline for a loop of a test.
pub struct Deadline(u64);

impl Deadline {
    pub fn new() -> Self {
        Self(SystemClock.monotonic_ns() + WAIT_NS)
    }

    /// Another look is due, unless the deadline has passed.
    pub fn look_again(&self, what: &str) {
        assert!(SystemClock.monotonic_ns() < self.0, "waited too long: {what}");
        std::thread::yield_now();
    }
}

pub fn lease(device: &mut ProcessDevice, ms: u64) {
    let deadline_ns = SystemClock.monotonic_ns() + ms * 1_000_000;
    device.submit(Control::Lease { deadline_ns }).expect("always taken");
}

/// Drives the device until the condition holds.
pub fn wait<T>(device: &mut ProcessDevice, what: &str, mut done: impl FnMut(&mut ProcessDevice) -> Option<T>) -> T {
    let until_ns = SystemClock.monotonic_ns() + WAIT_NS;
    loop {
        if let Some(value) = done(device) {
            return value;
        }
        let now_ns = SystemClock.monotonic_ns();
        assert!(now_ns < until_ns, "waited too long for {what}: {:?} {:?}", device.why_lost(), device.total());
        std::thread::yield_now();
    }
}

/// Renews a short lease until this process is killed.
pub fn renew_until_killed(device: &mut ProcessDevice) {
    wait(device, "nothing, until it is killed", |device| -> Option<()> {
        lease(device, 300);
        while device.poll_status().is_some() {}
        std::thread::park_timeout(Duration::from_millis(20));
        None
    });
}

/// Descriptors and threads of this process.
pub fn held() -> (usize, usize) {
    let count = |folder: &str| fs::read_dir(folder).expect("a folder").count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

/// A test agent. Killed when dropped.
pub struct TestAgent {
    child: Child,
    lines: Receiver<String>,
}

impl TestAgent {
    pub fn start(launch: Launch, what: &str) -> Self {
        let mut child = Command::new(launch.program)
            .args(launch.args)
            .envs(launch.env)
            .env(AGENT, what)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("an agent");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let (said, lines) = channel();
        // Ends with the agent, whose output ends then.
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        Self { child, lines }
    }

    /// The rest of the next line that begins with this word.
    pub fn says(&mut self, word: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(SILENCE_LIMIT).expect("the agent says it");
            if let Some(rest) = line.strip_prefix(word) {
                return rest.trim().to_owned();
            }
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the agent lives");
    }
}

impl Drop for TestAgent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The memory that an agent and a device process share, seen from outside.
pub struct Spy {
    pub map: Arc<SharedMap>,
}

impl Spy {
    /// On a process that has it open.
    pub fn on(pid: u32, shape: Shape) -> Self {
        let folder = format!("/proc/{pid}/fd");
        let memory = fs::read_dir(folder).expect("its descriptors").flatten().find(|entry| {
            fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().contains("ringfleet-device"))
        });
        let path = memory.expect("the shared memory").path();
        let file = fs::File::options().read(true).write(true).open(path).expect("opened");
        Self { map: Arc::new(SharedMap::adopt(file.into(), shape).expect("mapped")) }
    }

    /// Messages handled by all workers: a copy of the counters that was made after this call.
    pub fn handled(&self) -> u64 {
        let deadline = Deadline::new();
        for ask in [false, true] {
            if ask {
                self.map.ask_counters();
            }
            while self.map.counters_are_old() {
                deadline.look_again("nobody copies counters");
            }
        }
        (0..self.map.shape().workers).map(|worker| self.map.read_counters(WorkerIndex(worker)).handled).sum()
    }

    /// The last deadline, in device time, of an agent that has been stopped: the stop has taken effect when the word stands still.
    pub fn last_deadline_ns(&self) -> u64 {
        let deadline = Deadline::new();
        let (mut last_ns, mut since_ns) = (port::lease_deadline(&*self.map), SystemClock.monotonic_ns());
        while SystemClock.monotonic_ns() - since_ns < 60_000_000 {
            let now_ns = port::lease_deadline(&*self.map);
            if now_ns != last_ns {
                (last_ns, since_ns) = (now_ns, SystemClock.monotonic_ns());
            }
            deadline.look_again("the agent goes on renewing");
        }
        last_ns
    }

    /// Waits for this device time.
    pub fn await_device_ns(&self, device_ns: u64) {
        let deadline = Deadline::new();
        while port::device_ns(&*self.map) < device_ns {
            deadline.look_again("the device's clock stands still");
        }
    }
}
