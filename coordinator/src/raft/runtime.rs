//! The async runtime of openraft: an [`Env`].
//!
//! openraft asks for time, tasks, timers and randomness by functions without a receiver. They go to the environment that the
//! thread is in: that of real processes, unless whoever polls the task has entered another one ([`within`]). So the same type
//! serves real processes and a simulator that has many hosts, each with clocks of its own, on one thread.

use openraft::{AsyncRuntime, OptionalSend};
use openraft_rt_tokio::{TokioMpsc, TokioMutex, TokioOneshot, TokioWatch};
use ringfleet_env::{Elapsed, Env, Instant, TaskEnd, TaskHandle, Timer};
use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::oneshot;

thread_local! {
    static ENTERED: RefCell<Option<Env>> = const { RefCell::new(None) };
}

/// Calls `work` with `env` as the environment of the Raft code that runs inside it. An executor that is not tokio's calls this
/// around every poll of a coordinator's tasks.
pub fn within<T>(env: &Env, work: impl FnOnce() -> T) -> T {
    /// Goes back also when `work` panics.
    struct Leave(Option<Env>);
    impl Drop for Leave {
        fn drop(&mut self) {
            let before = self.0.take();
            ENTERED.with(|entered| *entered.borrow_mut() = before);
        }
    }
    let _leave = Leave(ENTERED.with(|entered| entered.borrow_mut().replace(env.clone())));
    work()
}

fn env() -> Env {
    static REAL: OnceLock<Env> = OnceLock::new();
    let entered = ENTERED.with(|entered| entered.borrow().clone());
    entered.unwrap_or_else(|| REAL.get_or_init(Env::tokio).clone())
}

/// See the module.
#[derive(Debug)]
pub struct EnvRuntime;

/// A point in time, on the clock of the environment it was read in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RaftInstant(Instant);

impl openraft::Instant for RaftInstant {
    fn now() -> Self {
        Self(env().now())
    }
}

impl Add<Duration> for RaftInstant {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}

impl AddAssign<Duration> for RaftInstant {
    fn add_assign(&mut self, duration: Duration) {
        self.0 += duration;
    }
}

impl Sub<Duration> for RaftInstant {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        Self(self.0 - duration)
    }
}

impl SubAssign<Duration> for RaftInstant {
    fn sub_assign(&mut self, duration: Duration) {
        self.0 = self.0 - duration;
    }
}

impl Sub for RaftInstant {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.0 - earlier.0
    }
}

/// A task has ended without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoValue {
    panicked: bool,
}

impl fmt::Display for NoValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.panicked { "the task panicked" } else { "the task was aborted" })
    }
}

/// A running task and its value.
#[derive(Debug)]
pub struct Join<T> {
    value: oneshot::Receiver<T>,
    /// Taken once the value is known to be missing.
    task: TaskHandle,
    missing: bool,
}

impl<T> Future for Join<T> {
    type Output = Result<T, NoValue>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.missing {
            if let Ok(value) = ready!(Pin::new(&mut self.value).poll(cx)) {
                return Poll::Ready(Ok(value));
            }
            self.missing = true;
        }
        let end = ready!(Pin::new(&mut self.task).poll(cx));
        Poll::Ready(Err(NoValue { panicked: end == TaskEnd::Panicked }))
    }
}

/// Ready at a point in time.
#[derive(Debug)]
pub struct Sleep(Pin<Box<dyn Timer>>);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

/// A future with a deadline; one that is ready wins over a deadline that has passed.
pub struct Timeout<T> {
    future: Pin<Box<T>>,
    deadline: Instant,
    timer: Option<Pin<Box<dyn Timer>>>,
}

impl<T: Future> Future for Timeout<T> {
    type Output = Result<T::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Poll::Ready(output) = this.future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        let timer = this.timer.get_or_insert_with(|| env().timer(this.deadline));
        timer.as_mut().poll(cx).map(|()| Err(Elapsed))
    }
}

/// Random numbers of the environment.
#[derive(Debug)]
pub struct EnvRng(Env);

impl rand_core::TryRng for EnvRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.0.random_u64() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.random_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill_random(bytes);
        Ok(())
    }
}

impl AsyncRuntime for EnvRuntime {
    type JoinError = NoValue;
    type JoinHandle<T: OptionalSend + 'static> = Join<T>;
    type Sleep = Sleep;
    type Instant = RaftInstant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = EnvRng;
    // Channels and locks of tokio work under every executor.
    type Mpsc = TokioMpsc;
    type Watch = TokioWatch;
    type Oneshot = TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

    fn spawn<T>(future: T) -> Join<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        let (tell, value) = oneshot::channel();
        let run = async move {
            // Nobody waits for it any more: as with every detached task.
            let _ = tell.send(future.await);
        };
        Join { value, task: env().spawn("raft", run), missing: false }
    }

    fn sleep(duration: Duration) -> Sleep {
        let env = env();
        Sleep(env.timer(env.now() + duration))
    }

    fn sleep_until(deadline: RaftInstant) -> Sleep {
        Sleep(env().timer(deadline.0))
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Timeout<F> {
        Self::timeout_at(RaftInstant(env().now() + duration), future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: RaftInstant, future: F) -> Timeout<F> {
        Timeout { future: Box::pin(future), deadline: deadline.0, timer: None }
    }

    fn is_panic(error: &NoValue) -> bool {
        error.panicked
    }

    fn thread_rng() -> EnvRng {
        EnvRng(env())
    }

    fn new(_threads: usize) -> Self {
        Self
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        Env::run_tokio(1, |_| future).expect("the operating system gives a runtime")
    }

    async fn spawn_blocking<F, T>(work: F) -> Result<T, io::Error>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Ok(env().run_blocking(work).await)
    }
}
