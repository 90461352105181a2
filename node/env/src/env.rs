//! The handle that is given to all code.

use std::{
    error, fmt,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use crate::{Clock, Disk, Executor, Instant, Net, Random, TaskHandle, ThreadHandle, Timer, UdpBinding};

/// What an [`Env`] is made of. A simulator or a test brings its own.
#[derive(Debug, Clone)]
pub struct EnvParts {
    /// Monotonic and wall time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub random: Arc<dyn Random>,
    /// Tasks, timers and threads.
    pub executor: Arc<dyn Executor>,
    /// Sockets.
    pub net: Arc<dyn Net>,
    /// Files.
    pub disk: Arc<dyn Disk>,
}

/// Time, randomness, tasks, sockets and disk. Cloning it copies one pointer.
#[derive(Debug, Clone)]
pub struct Env {
    parts: Arc<EnvParts>,
}

impl Env {
    /// An environment of the given parts.
    pub fn new(parts: EnvParts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    /// The parts, to make another environment that differs in one of them.
    pub fn parts(&self) -> &EnvParts {
        &self.parts
    }

    /// This environment with another clock. Timers go on by the executor's own time.
    pub fn with_clock(&self, clock: Arc<dyn Clock>) -> Self {
        Self::new(EnvParts { clock, ..EnvParts::clone(&self.parts) })
    }

    // Time

    /// The clock alone, for device threads.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.parts.clock.clone()
    }

    /// See [`Clock::monotonic_ns`].
    pub fn monotonic_ns(&self) -> u64 {
        self.parts.clock.monotonic_ns()
    }

    /// See [`Clock::wall_ms`].
    pub fn wall_ms(&self) -> u64 {
        self.parts.clock.wall_ms()
    }

    /// The monotonic time now.
    pub fn now(&self) -> Instant {
        self.parts.clock.now()
    }

    /// A timer that is ready at `deadline` and can be set again: for loops that keep one.
    pub fn timer(&self, deadline: Instant) -> Pin<Box<dyn Timer>> {
        self.parts.executor.timer(deadline)
    }

    /// Waits for a time.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now() + duration).await;
    }

    /// Waits until a time; returns at once when it has passed.
    pub async fn sleep_until(&self, deadline: Instant) {
        self.timer(deadline).await;
    }

    /// Runs `future` for at most `limit`, and drops it where that is not enough.
    pub async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Result<F::Output, Elapsed> {
        self.timeout_at(self.now() + limit, future).await
    }

    /// Runs `future` until `deadline`, and drops it where that is not enough. A future that is
    /// ready wins over a deadline that has passed.
    pub async fn timeout_at<F: Future>(&self, deadline: Instant, future: F) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        // Most futures under a deadline are ready before any timer is needed.
        let mut timer = None;
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            let timer = timer.get_or_insert_with(|| self.timer(deadline));
            timer.as_mut().poll(cx).map(|()| Err(Elapsed))
        })
        .await
    }

    /// Ticks every `period`, first after one period. Ticks that were missed are skipped.
    ///
    /// # Panics
    /// When the period is zero.
    pub fn interval(&self, period: Duration) -> Interval {
        assert!(!period.is_zero(), "an interval needs a period");
        let next = self.now() + period;
        Interval { clock: self.clock(), timer: self.timer(next), next, period }
    }

    // Randomness

    /// A random number.
    pub fn random_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_random(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A random number below `bound`: for jitter and for choosing one of a few.
    ///
    /// # Panics
    /// When the bound is zero.
    pub fn random_below(&self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below zero");
        // The high half of a product is uniform but for less than bound / 2^64.
        ((u128::from(self.random_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Fills `bytes` with random ones.
    pub fn fill_random(&self, bytes: &mut [u8]) {
        self.parts.random.fill(bytes);
    }

    // Tasks and threads

    /// Runs `future` as a task of the executor that the caller runs on.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) -> TaskHandle {
        TaskHandle::new(name, self.parts.executor.spawn(name, Box::pin(future)))
    }

    /// Runs `future`, and every task spawned inside it, on a thread that does nothing else, so that
    /// load elsewhere never delays it: leases and heartbeats (C10). When it ends, the tasks that it
    /// spawned end with it.
    pub fn spawn_on_own_thread(
        &self,
        name: &str,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<TaskHandle> {
        let task = self.parts.executor.spawn_on_own_thread(name, Box::pin(future))?;
        Ok(TaskHandle::new(name, task))
    }

    /// Runs code that blocks (the [`Disk`]) from async code, where it holds up no task.
    ///
    /// The work goes on when the caller is dropped.
    ///
    /// # Panics
    /// When the work panics.
    pub async fn run_blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let slot = Arc::new(Slot(Mutex::new(SlotState { value: None, gone: false, waker: None })));
        let filler = Filler(slot.clone());
        self.parts.executor.spawn_blocking(Box::new(move || filler.fill(work())));
        poll_fn(move |cx| {
            let mut state = slot.lock();
            match state.value.take() {
                Some(value) => Poll::Ready(value),
                None if state.gone => panic!("blocking work ended without a result"),
                None => {
                    state.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Whether there are threads beside the executor's own; see [`Executor::has_threads`].
    pub fn has_threads(&self) -> bool {
        self.parts.executor.has_threads()
    }

    /// Starts a thread.
    pub fn spawn_thread(&self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<ThreadHandle> {
        self.parts.executor.spawn_thread(name, Box::new(work))
    }

    // Sockets and disk

    /// See [`Net::bind_udp`].
    pub fn bind_udp(&self, addr: SocketAddr) -> io::Result<UdpBinding> {
        self.parts.net.bind_udp(addr)
    }

    /// See [`Net::listen_tcp`].
    pub fn listen_tcp(&self, addr: SocketAddr) -> io::Result<std::net::TcpListener> {
        self.parts.net.listen_tcp(addr)
    }

    /// See [`Net::resolve`].
    pub async fn resolve(&self, host_port: &str) -> io::Result<Vec<SocketAddr>> {
        self.parts.net.resolve(host_port.to_owned()).await
    }

    /// The disk.
    pub fn disk(&self) -> Arc<dyn Disk> {
        self.parts.disk.clone()
    }
}

/// A deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadline passed")
    }
}

impl error::Error for Elapsed {}

/// Ticks at a fixed rate; see [`Env::interval`].
#[derive(Debug)]
pub struct Interval {
    clock: Arc<dyn Clock>,
    timer: Pin<Box<dyn Timer>>,
    next: Instant,
    period: Duration,
}

impl Interval {
    /// Waits for the next tick and gives the time it was due. Dropping it half-way loses no tick.
    pub async fn tick(&mut self) -> Instant {
        self.timer.as_mut().await;
        let due = self.next;
        // Ticks stay on the grid of the first one; what a pause swallowed is not made up for.
        let late = self.clock.now().saturating_since(due);
        let skipped = late.as_nanos() / self.period.as_nanos();
        let skipped = u32::try_from(skipped).unwrap_or(u32::MAX - 1);
        self.next = due + self.period.saturating_mul(skipped + 1);
        self.timer.as_mut().reset(self.next);
        due
    }
}

/// Where blocking work leaves its result.
struct Slot<T>(Mutex<SlotState<T>>);

struct SlotState<T> {
    value: Option<T>,
    /// The work has ended, with or without a value.
    gone: bool,
    waker: Option<Waker>,
}

impl<T> Slot<T> {
    fn lock(&self) -> std::sync::MutexGuard<'_, SlotState<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The working side of a [`Slot`]; dropping it, also by a panic, ends the wait.
struct Filler<T>(Arc<Slot<T>>);

impl<T> Filler<T> {
    fn fill(self, value: T) {
        self.0.lock().value = Some(value);
    }
}

impl<T> Drop for Filler<T> {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.0.lock();
            state.gone = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
