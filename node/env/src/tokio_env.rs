//! The environment of real processes: tokio tasks and timers, the operating system's sockets.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    BoxFuture, Clock, Env, EnvParts, Executor, Instant, Net, OsDisk, SeededRandom, SystemClock, Task, TaskEnd,
    ThreadHandle, Timer, UdpBinding,
};

/// Longest time that one timer waits for; the wheel of tokio holds about two years.
const TIMER_WAIT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Buffer asked for each way of a UDP socket: a burst that a reader has not yet fetched waits there,
/// beyond it datagrams are lost and sent again.
const UDP_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// How long [`Env::run_tokio`] waits for blocking work at the end, before it lets the process go.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(1);

impl Env {
    /// The environment of real processes. Tasks run on the tokio runtime that the caller of
    /// [`Env::spawn`] is on, so one `Env` serves all runtimes of a process.
    pub fn tokio() -> Self {
        Self::new(EnvParts {
            clock: Arc::new(SystemClock),
            random: Arc::new(SeededRandom::from_os()),
            executor: Arc::new(TokioExecutor),
            net: Arc::new(OsNet),
            disk: Arc::new(OsDisk),
        })
    }

    /// Starts a tokio runtime, runs `main` on it and gives its result: the first line of a process.
    /// With `threads` 1 everything runs on the calling thread.
    pub fn run_tokio<F: Future>(threads: usize, main: impl FnOnce(Env) -> F) -> io::Result<F::Output> {
        let runtime = match threads {
            0 | 1 => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            n => tokio::runtime::Builder::new_multi_thread()
                .worker_threads(n)
                .thread_name("ringfleet")
                .enable_all()
                .build()?,
        };
        let output = runtime.block_on(main(Self::tokio()));
        // A blocked name look-up or disk must not keep a finished process alive.
        runtime.shutdown_timeout(SHUTDOWN_WAIT);
        Ok(output)
    }
}

#[derive(Debug)]
struct TokioExecutor;

impl Executor for TokioExecutor {
    #[allow(clippy::disallowed_methods)]
    fn spawn(&self, _name: &'static str, future: BoxFuture<'static, ()>) -> Box<dyn Task> {
        Box::new(TokioTask(tokio::spawn(future)))
    }

    fn spawn_on_own_thread(&self, name: &str, future: BoxFuture<'static, ()>) -> io::Result<Box<dyn Task>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (running, ended) = oneshot::channel::<()>();
        let join = runtime.spawn(async move {
            // Dropped with the future: when it completes, panics or is aborted.
            let _running = running;
            future.await;
        });
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Nothing is ever sent: the error says that the other end was dropped.
            let _ = runtime.block_on(ended);
        })?;
        Ok(Box::new(TokioTask(join)))
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        tokio::task::spawn_blocking(work);
    }

    fn spawn_thread(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<ThreadHandle> {
        let handle = std::thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(ThreadHandle::new(name, handle))
    }

    #[allow(clippy::disallowed_methods)]
    fn timer(&self, deadline: Instant) -> Pin<Box<dyn Timer>> {
        Box::pin(tokio::time::sleep_until(tokio_deadline(deadline)))
    }
}

/// A deadline of our clock as one of tokio's. Tokio rounds timers up to whole milliseconds.
#[allow(clippy::disallowed_methods)]
fn tokio_deadline(deadline: Instant) -> tokio::time::Instant {
    let wait = deadline.saturating_since(SystemClock.now());
    tokio::time::Instant::now() + wait.min(TIMER_WAIT_MAX)
}

impl Timer for tokio::time::Sleep {
    fn reset(self: Pin<&mut Self>, deadline: Instant) {
        tokio::time::Sleep::reset(self, tokio_deadline(deadline));
    }
}

#[derive(Debug)]
struct TokioTask(JoinHandle<()>);

impl Task for TokioTask {
    fn abort(&self) {
        self.0.abort();
    }

    fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<TaskEnd> {
        Pin::new(&mut self.0).poll(cx).map(|end| match end {
            Ok(()) => TaskEnd::Completed,
            Err(e) if e.is_panic() => TaskEnd::Panicked,
            Err(_) => TaskEnd::Aborted,
        })
    }
}

/// The sockets of the operating system.
#[derive(Debug)]
struct OsNet;

impl Net for OsNet {
    fn bind_udp(&self, addr: SocketAddr) -> io::Result<UdpBinding> {
        let socket = std::net::UdpSocket::bind(addr)?;
        socket.set_nonblocking(true)?;
        // The kernel gives what its own limit allows (net.core.rmem_max); less costs speed only.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, UDP_BUFFER_BYTES);
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, UDP_BUFFER_BYTES);
        Ok(UdpBinding::Os(socket))
    }

    fn listen_tcp(&self, addr: SocketAddr) -> io::Result<std::net::TcpListener> {
        let listener = std::net::TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    fn resolve(&self, host_port: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host(&host_port).await?.collect();
            if found.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, format!("{host_port} has no address")));
            }
            Ok(found)
        })
    }
}
