//! The pump against devices that misbehave on purpose.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
    time::Duration,
};

use ringfleet_abi::{
    ActorId, Control, DeviceIndex, Envelope, Epoch, Flags, KeySpace, RestartMode, SessionId, SetId, ShardId,
    ShardIndex, Status, WorkerCounters, WorkerIndex,
};
use ringfleet_actor::{Behaviour as _, Message as _};
use ringfleet_actors::counter::{self, Counter};
use ringfleet_env::{Env, Instant, ManualClock};
use ringfleet_gpu::{CpuDevice, CpuDeviceConfig, Device, Full};
use ringfleet_node::pump::{DeviceEvent, EGRESS_BACKLOG_MAX, Next, Pump, STOP_LIMIT};
use tokio::sync::Notify;

/// What a scripted device does when it is asked for egress.
type Egress = Box<dyn FnMut(&mut Script) -> Option<Envelope> + Send>;

#[derive(Default)]
struct Script {
    done: u64,
    stopped: bool,
    statuses: VecDeque<Status>,
    taken: Vec<Envelope>,
    refuse_ingress: bool,
}

struct Scripted {
    script: Script,
    /// Takes controls.
    obeys: bool,
    dropped: Arc<AtomicUsize>,
    egress: Egress,
    polled: Arc<AtomicUsize>,
    ingress: Arc<std::sync::Mutex<Vec<Envelope>>>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::Release);
    }
}

impl Device for Scripted {
    fn push_ingress(&mut self, envelopes: &[Envelope]) -> usize {
        // Takes one of each hand-over, then none, in turn: the pump has to keep the rest in order.
        self.script.refuse_ingress = !self.script.refuse_ingress;
        let taken = usize::from(!self.script.refuse_ingress).min(envelopes.len());
        self.script.taken.extend_from_slice(&envelopes[..taken]);
        *self.ingress.lock().expect("no panic") = self.script.taken.clone();
        taken
    }

    fn ingress_worker(&self, _envelope: &Envelope) -> WorkerIndex {
        WorkerIndex(0)
    }

    fn poll_egress(&mut self, envelopes: &mut [Envelope]) -> usize {
        self.polled.fetch_add(1, Ordering::Relaxed);
        match (self.egress)(&mut self.script) {
            Some(envelope) => {
                envelopes[0] = envelope;
                1
            }
            None => 0,
        }
    }

    fn submit(&mut self, control: Control) -> Result<(), Full> {
        if !self.obeys {
            return Err(Full);
        }
        if control == Control::Stop && !self.script.stopped {
            self.script.stopped = true;
            self.script.statuses.push_back(Status::Stopped);
        }
        Ok(())
    }

    fn poll_status(&mut self) -> Option<Status> {
        self.script.statuses.pop_front()
    }

    fn counters(&self, _worker: WorkerIndex) -> WorkerCounters {
        WorkerCounters { ingress_done: self.script.done, ..WorkerCounters::default() }
    }

    fn workers(&self) -> u16 {
        1
    }
}

fn envelope(key: u64) -> Envelope {
    let actor = ActorId::new(SetId(1), key);
    Envelope::new(actor, actor, 1, Flags::NONE, &[]).expect("an empty payload")
}

/// Stops a pump and waits for its end.
fn stop(pump: Pump) -> ringfleet_env::TaskEnd {
    Env::run_tokio(1, |_| pump.stop()).expect("a runtime")
}

struct Running {
    env: Env,
    pump: Pump,
    dropped: Arc<AtomicUsize>,
    polled: Arc<AtomicUsize>,
    ingress: Arc<std::sync::Mutex<Vec<Envelope>>>,
}

fn start(egress: Egress) -> Running {
    start_with(Env::tokio(), true, egress)
}

fn start_with(env: Env, obeys: bool, egress: Egress) -> Running {
    let (polled, dropped, ingress) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default(), Arc::default());
    let device = Scripted {
        script: Script::default(),
        obeys,
        dropped: dropped.clone(),
        egress,
        polled: polled.clone(),
        ingress: Arc::clone(&ingress),
    };
    let pump = Pump::start(&env, DeviceIndex(0), Box::new(device), Arc::new(Notify::new())).expect("a thread");
    Running { env, pump, dropped, polled, ingress }
}

impl Running {
    fn deadline(&self) -> Instant {
        self.env.now() + Duration::from_secs(20)
    }

    fn wait(&self, what: &str, mut ready: impl FnMut() -> bool) {
        let deadline = self.deadline();
        while !ready() {
            assert!(self.env.now() < deadline, "waited too long for {what}");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_refusal_is_seen_before_its_message_counts_as_done() {
    // The device refuses a message in the instant after its egress was found empty: verdict first, then `ingress_done`.
    let mut polls = 0;
    let mut verdict = None;
    let running = start(Box::new(move |script| {
        polls += 1;
        let out = verdict.take();
        if polls == 3 {
            verdict = Some(envelope(7));
            script.done = 1;
        }
        out
    }));
    let mut events = Vec::new();
    running.wait("the message to be done", || {
        running.pump.take_events(usize::MAX, &mut events);
        events.iter().any(|event| matches!(event, DeviceEvent::IngressDone { .. }))
    });
    assert!(
        matches!(&events[..], [DeviceEvent::Egress(batch), DeviceEvent::IngressDone { total: 1, .. }] if batch[0].to_key == 7),
        "{events:?}"
    );
    assert_eq!(stop(running.pump), ringfleet_env::TaskEnd::Completed);
}

#[test]
fn what_was_sent_before_a_flush_is_seen_before_it_counts_as_flushed() {
    // The device flushes its routes in the instant after its egress was found empty: egress first, then the status.
    let mut polls = 0;
    let mut sent = None;
    let running = start(Box::new(move |script| {
        polls += 1;
        let out = sent.take();
        if polls == 3 {
            sent = Some(envelope(7));
            script.statuses.push_back(Status::RouteFlushed { version: 1 });
        }
        out
    }));
    let mut events = Vec::new();
    running.wait("the flush", || {
        running.pump.take_events(usize::MAX, &mut events);
        events.iter().any(|event| matches!(event, DeviceEvent::Status(Status::RouteFlushed { .. })))
    });
    assert!(
        matches!(&events[..], [DeviceEvent::Egress(batch), DeviceEvent::Status(Status::RouteFlushed { version: 1 })] if batch[0].to_key == 7),
        "C3: {events:?}"
    );
    assert_eq!(stop(running.pump), ringfleet_env::TaskEnd::Completed);
}

#[test]
fn egress_that_nobody_takes_stays_in_the_device() {
    let mut key = 0;
    let running = start(Box::new(move |_| {
        key += 1;
        Some(envelope(key))
    }));
    running.wait("the backlog to fill", || running.polled.load(Ordering::Relaxed) >= EGRESS_BACKLOG_MAX);
    // The pump looks at the backlog before each round, so once it is full polling stops for good.
    let full = running.polled.load(Ordering::Relaxed);
    assert!(full <= EGRESS_BACKLOG_MAX, "{full} envelopes taken");
    let mut events = Vec::new();
    let taken = |events: &[DeviceEvent]| -> usize {
        let count = |event: &DeviceEvent| if let DeviceEvent::Egress(batch) = event { batch.len() } else { 0 };
        events.iter().map(count).sum()
    };
    // The last envelope is counted as polled before it is handed over. Taking the first makes room for more.
    running.wait("the backlog", || {
        running.pump.take_events(usize::MAX, &mut events);
        taken(&events) >= EGRESS_BACKLOG_MAX
    });
    let mut next = 1;
    for event in &events {
        let DeviceEvent::Egress(batch) = event else { panic!("{event:?}") };
        for envelope in batch {
            assert_eq!(envelope.to_key, next, "C3");
            next += 1;
        }
    }
    running.wait("the pump to go on", || running.polled.load(Ordering::Relaxed) > full);
    assert_eq!(stop(running.pump), ringfleet_env::TaskEnd::Completed);
}

#[test]
fn ingress_that_the_device_does_not_take_keeps_its_order() {
    let running = start(Box::new(|_| None));
    for first in [0, 100, 200] {
        running.pump.push_ingress(&mut (first..first + 100).map(envelope).collect());
    }
    let taken = || running.ingress.lock().expect("no panic").iter().map(|envelope| envelope.to_key).collect::<Vec<_>>();
    running.wait("the device to take everything", || taken().len() == 300);
    assert_eq!(taken(), (0..300).collect::<Vec<_>>(), "C3");
    assert_eq!(stop(running.pump), ringfleet_env::TaskEnd::Completed);
}

#[test]
fn steady_egress_does_not_hold_up_acknowledgements() {
    // There is never a moment in which egress is empty.
    let running = start(Box::new(|script| {
        script.done += 1;
        Some(envelope(script.done))
    }));
    let mut events = Vec::new();
    running.wait("a message to be done", || {
        running.pump.take_events(usize::MAX, &mut events);
        events.iter().any(|event| matches!(event, DeviceEvent::IngressDone { .. }))
    });
    let mut seen = 0;
    for event in &events {
        match event {
            DeviceEvent::Egress(batch) => seen = batch.last().map_or(seen, |last| last.to_key),
            DeviceEvent::IngressDone { total, .. } => {
                assert!(*total <= seen, "C3: {total} done, egress seen to {seen}")
            }
            DeviceEvent::Status(_) => {}
        }
    }
    assert_eq!(stop(running.pump), ringfleet_env::TaskEnd::Completed);
}

#[test]
fn a_device_that_takes_no_controls_is_dropped_at_the_limit() {
    let clock = Arc::new(ManualClock::new(1, 1));
    let mut running = start_with(Env::tokio().with_clock(clock.clone()), false, Box::new(|_| None));
    running.pump.submit(Control::Pause);
    running.pump.ask_to_stop();
    let deadline = Env::tokio().now() + Duration::from_secs(20);
    while !running.pump.is_dead() {
        assert!(Env::tokio().now() < deadline, "the pump goes on for ever");
        clock.advance(STOP_LIMIT);
        std::thread::yield_now();
    }
    assert_eq!(stop(running.pump), ringfleet_env::TaskEnd::Completed);
    assert_eq!(running.dropped.load(Ordering::Acquire), 1);
}

#[test]
fn a_dropped_pump_leaves_no_device_behind() {
    let Running { env, pump, dropped, .. } = start(Box::new(|_| None));
    drop(pump);
    let deadline = env.now() + Duration::from_secs(20);
    while dropped.load(Ordering::Acquire) == 0 {
        assert!(env.now() < deadline, "the device goes on");
        std::thread::yield_now();
    }
}

fn cpu_device(env: &Env, tasks: bool) -> Box<dyn Device> {
    let config = CpuDeviceConfig { workers: 1, spin_ns: 0, ..CpuDeviceConfig::DEFAULT };
    let types = [Counter::DESCRIPTOR];
    let device = if tasks {
        CpuDevice::start_tasks(env, &config, &types)
    } else {
        CpuDevice::start(&config, &types, env.clock())
    };
    Box::new(device.expect("a device"))
}

struct Notifier(Arc<Notify>);

impl Wake for Notifier {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// One ask after the other through a pump; gives how long they took.
async fn ask_by_ask(env: &Env, device: Box<dyn Device>, asks: u32) -> Duration {
    let agent = Arc::new(Notify::new());
    let mut pump = Pump::start(env, DeviceIndex(0), device, agent.clone()).expect("a pump");
    let waker = Waker::from(Arc::new(Notifier(agent.clone())));
    let (set, keys, shards) = (SetId(1), KeySpace::Dense { count: 1 }, 1);
    let shard = ShardId::new(set, ShardIndex(0));
    pump.submit(Control::AddSet {
        set,
        tag: 1,
        type_index: Some(0),
        keys,
        shards,
        actors_per_shard: 1,
        restart: RestartMode::Stop,
    });
    pump.submit(Control::Assign { shard, epoch: Epoch(1), worker: WorkerIndex(0) });
    pump.submit(Control::Lease { deadline_ns: u64::MAX });
    let began = env.now();
    let mut events = Vec::new();
    for number in 1..=asks {
        let (from, to) = (ActorId::client(SessionId(1), number), ActorId::new(set, 0));
        let ask = Envelope::new(from, to, counter::Read::KIND, Flags::ASK, &[]).expect("a payload");
        pump.push_ingress(&mut vec![ask]);
        loop {
            let next = pump.turn(&waker);
            pump.take_events(usize::MAX, &mut events);
            let answered =
                |event: &DeviceEvent| matches!(event, DeviceEvent::Egress(answers) if answers[0].to() == from);
            if events.drain(..).any(|event| answered(&event)) {
                break;
            }
            if next != Next::Now {
                agent.notified().await;
            }
        }
    }
    let took = env.now() - began;
    assert_eq!(pump.stop().await, ringfleet_env::TaskEnd::Completed);
    took
}

#[test]
fn agent_pump_and_workers_wake_each_other() {
    // Somebody who waited for his next look each time would need 300 times 100 ms.
    for tasks in [false, true] {
        let took = Env::run_tokio(2, |env| async move {
            let device = cpu_device(&env, tasks);
            ask_by_ask(&env, device, 300).await
        });
        let took = took.expect("a runtime");
        assert!(took < Duration::from_secs(15), "{took:?} for 300 asks, tasks {tasks}");
    }
}
