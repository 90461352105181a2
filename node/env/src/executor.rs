//! Tasks, timers and threads.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
};

use crate::Instant;

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Runs tasks and threads and wakes them in time.
pub trait Executor: Send + Sync + fmt::Debug {
    /// Runs `future` as a task of the executor that the caller runs on.
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Box<dyn Task>;

    /// Runs `future`, and every task that it spawns, on a thread that does nothing else. A
    /// simulator, which has one thread, runs it as a task.
    fn spawn_on_own_thread(&self, name: &str, future: BoxFuture<'static, ()>) -> io::Result<Box<dyn Task>>;

    /// Runs code that blocks where it holds up no task.
    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>);

    /// Starts a thread.
    fn spawn_thread(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<ThreadHandle>;

    /// Whether [`Executor::spawn_thread`] works. A simulator has one thread: what has threads elsewhere runs there as tasks.
    fn has_threads(&self) -> bool {
        true
    }

    /// A timer that is ready at `deadline`.
    fn timer(&self, deadline: Instant) -> Pin<Box<dyn Timer>>;
}

/// A future that is ready at a deadline, which can be moved while it is waited for.
pub trait Timer: Future<Output = ()> + Send + fmt::Debug {
    /// Waits for another deadline from now on, also after it was ready.
    fn reset(self: Pin<&mut Self>, deadline: Instant);
}

/// What an [`Executor`] gives for a task: the inside of a [`TaskHandle`].
pub trait Task: Send + fmt::Debug {
    /// Ends the task at its next await; nothing happens when it has ended.
    fn abort(&self);

    /// Whether the task has ended, in whatever way.
    fn is_finished(&self) -> bool;

    /// Ready when the task has ended. Not called again after that.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<TaskEnd>;
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEnd {
    /// It ran to its end.
    Completed,
    /// It was aborted, or its executor was shut down.
    Aborted,
    /// It panicked.
    Panicked,
}

/// A running task. Awaiting it gives its [`TaskEnd`]; dropping it lets the task go on.
#[must_use = "dropping a handle lets its task go on: write `.detach()` where that is meant"]
#[derive(Debug)]
pub struct TaskHandle {
    name: String,
    task: Box<dyn Task>,
    abort_on_drop: bool,
    ended: Option<TaskEnd>,
}

impl TaskHandle {
    pub(crate) fn new(name: &str, task: Box<dyn Task>) -> Self {
        Self { name: name.to_owned(), task, abort_on_drop: false, ended: None }
    }

    /// The name the task was spawned with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ends the task at its next await; nothing happens when it has ended.
    pub fn abort(&self) {
        self.task.abort();
    }

    /// Whether the task has ended, in whatever way.
    pub fn is_finished(&self) -> bool {
        self.ended.is_some() || self.task.is_finished()
    }

    /// From now on dropping the handle aborts the task: for tasks that belong to a structure.
    pub fn abort_on_drop(mut self) -> Self {
        self.abort_on_drop = true;
        self
    }

    /// Lets the task run on its own.
    pub fn detach(mut self) {
        self.abort_on_drop = false;
    }
}

impl Future for TaskHandle {
    type Output = TaskEnd;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TaskEnd> {
        if let Some(end) = self.ended {
            return Poll::Ready(end);
        }
        let end = std::task::ready!(self.task.poll_end(cx));
        self.ended = Some(end);
        Poll::Ready(end)
    }
}

impl Drop for TaskHandle {
    fn drop(&mut self) {
        if self.abort_on_drop {
            self.task.abort();
        }
    }
}

/// A running thread. Dropping it lets the thread go on.
#[derive(Debug)]
pub struct ThreadHandle {
    name: String,
    handle: std::thread::JoinHandle<()>,
}

impl ThreadHandle {
    /// Wraps a thread that an [`Executor`] has started.
    pub fn new(name: &str, handle: std::thread::JoinHandle<()>) -> Self {
        Self { name: name.to_owned(), handle }
    }

    /// The name the thread was started with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// Wakes the thread from `std::thread::park`.
    pub fn unpark(&self) {
        self.handle.thread().unpark();
    }

    /// Blocks until the thread has ended. Not for async code.
    pub fn join(self) -> TaskEnd {
        match self.handle.join() {
            Ok(()) => TaskEnd::Completed,
            Err(_) => TaskEnd::Panicked,
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// A waker that wakes the calling thread from `std::thread::park`: for threads beside the executor.
#[must_use]
pub fn thread_waker() -> Waker {
    Waker::from(Arc::new(Unpark(std::thread::current())))
}
