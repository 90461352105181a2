//! A UDP proxy that cuts links: the faults of `demo --chaos` and of tests.
//!
//! A node is told to advertise the proxy's address and listens at another; every datagram then takes the way over here:
//!
//! ```text
//!   source ──▶ front (advertised) ──▶ one socket per source ──▶ node (real)
//!          ◀──                    ◀──                       ◀──
//! ```
//! To the node every source is one of the proxy's sockets. A cut drops what comes from and goes to some sources, or all of them,
//! until it is over; nothing is delayed or reordered. QUIC sees loss, then silence, then traffic again.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringfleet_env::{Env, Instant, TaskHandle, UdpBinding};
use tokio::net::UdpSocket;

/// The largest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Sources that one proxy remembers. Datagrams of further ones are dropped.
const SOURCES_MAX: usize = 1024;

/// A proxy in front of one UDP port. Dropping it ends it.
#[derive(Debug)]
pub struct UdpProxy {
    env: Env,
    front: SocketAddr,
    state: Arc<State>,
    // In a lock only because a handle alone cannot be shared between threads.
    _task: Mutex<TaskHandle>,
}

#[derive(Debug, Default)]
struct State {
    sources: Mutex<HashMap<SocketAddr, Arc<Source>>>,
    forwarded: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Source {
    socket: UdpSocket,
    /// Monotonic ns until which its link is cut.
    cut_until_ns: AtomicU64,
    back: Mutex<Option<TaskHandle>>,
}

impl UdpProxy {
    /// A proxy that listens at `front` and forwards to `target`.
    ///
    /// # Errors
    /// If the port cannot be opened.
    pub fn start(env: &Env, front: SocketAddr, target: SocketAddr) -> io::Result<Self> {
        let socket = Arc::new(bind(env, front)?);
        let front = socket.local_addr()?;
        let state = Arc::new(State::default());
        let task = env.spawn("udp proxy", forward(env.clone(), socket, target, state.clone())).abort_on_drop();
        Ok(Self { env: env.clone(), front, state, _task: Mutex::new(task) })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.front
    }

    /// The sources seen so far.
    pub fn sources(&self) -> Vec<SocketAddr> {
        let mut sources: Vec<SocketAddr> = self.state.lock().keys().copied().collect();
        sources.sort();
        sources
    }

    /// Cuts the link of one source, both ways, for a time from now. Says whether it is known.
    pub fn cut(&self, source: SocketAddr, duration: Duration) -> bool {
        let until = self.env.now() + duration;
        let source = self.state.lock().get(&source).cloned();
        source.inspect(|source| source.cut_until_ns.store(until.as_ns(), Ordering::Relaxed)).is_some()
    }

    /// Cuts the links of all sources seen so far.
    pub fn cut_all(&self, duration: Duration) {
        for source in self.sources() {
            self.cut(source, duration);
        }
    }

    /// Datagrams forwarded and dropped so far, both ways.
    pub fn counts(&self) -> (u64, u64) {
        (self.state.forwarded.load(Ordering::Relaxed), self.state.dropped.load(Ordering::Relaxed))
    }
}

impl State {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, Arc<Source>>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a datagram and says whether it may pass.
    fn passes(&self, env: &Env, source: &Source) -> bool {
        let cut = Instant::from_ns(source.cut_until_ns.load(Ordering::Relaxed)) > env.now();
        if cut { &self.dropped } else { &self.forwarded }.fetch_add(1, Ordering::Relaxed);
        !cut
    }
}

fn bind(env: &Env, addr: SocketAddr) -> io::Result<UdpSocket> {
    match env.bind_udp(addr)? {
        UdpBinding::Os(socket) => UdpSocket::from_std(socket),
        UdpBinding::Simulated(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "the proxy needs a real socket")),
    }
}

async fn forward(env: Env, front: Arc<UdpSocket>, target: SocketAddr, state: Arc<State>) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // An ICMP error of an earlier send shows up here and concerns nobody.
        let Ok((bytes, from)) = front.recv_from(&mut buffer).await else {
            env.sleep(Duration::from_millis(1)).await;
            continue;
        };
        let known = state.lock().get(&from).cloned();
        let source = match known {
            Some(source) => source,
            None => match new_source(&env, &front, from, target, &state).await {
                Ok(source) => source,
                Err(error) => {
                    tracing::warn!(%from, %error, "the proxy cannot take another source");
                    continue;
                }
            },
        };
        if state.passes(&env, &source) {
            // What does not fit is lost, as on a real network.
            let _ = source.socket.send(&buffer[..bytes]).await;
        }
    }
}

async fn new_source(
    env: &Env,
    front: &Arc<UdpSocket>,
    from: SocketAddr,
    target: SocketAddr,
    state: &Arc<State>,
) -> io::Result<Arc<Source>> {
    if state.lock().len() >= SOURCES_MAX {
        return Err(io::Error::other("too many sources"));
    }
    let socket = bind(env, SocketAddr::new(target.ip(), 0))?;
    socket.connect(target).await?;
    let source = Arc::new(Source { socket, cut_until_ns: AtomicU64::new(0), back: Mutex::default() });
    let (env_back, front, state_back) = (env.clone(), front.clone(), state.clone());
    let weak = Arc::downgrade(&source);
    let back = async move {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        while let Some(source) = weak.upgrade() {
            match source.socket.recv(&mut buffer).await {
                Ok(bytes) if state_back.passes(&env_back, &source) => {
                    let _ = front.send_to(&buffer[..bytes], from).await;
                }
                Ok(_) => {}
                // The node is not there (yet, or any more).
                Err(_) => env_back.sleep(Duration::from_millis(1)).await,
            }
        }
    };
    let task = env.spawn("udp proxy back", back).abort_on_drop();
    *source.back.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    state.lock().insert(from, source.clone());
    Ok(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn datagrams_pass_both_ways_except_while_their_link_is_cut() {
        let passed = Env::run_tokio(1, |env| async move {
            let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
            let node = bind(&env, any).expect("a node");
            let proxy = UdpProxy::start(&env, any, node.local_addr().expect("bound")).expect("a proxy");
            let (a, b) = (bind(&env, any).expect("a client"), bind(&env, any).expect("a client"));
            let mut buffer = [0; 16];
            let mut seen = Vec::new();
            // Each client in turn says a word until the node has heard it and the answer has come back.
            for (client, word) in [(&a, b"a1"), (&b, b"b1")] {
                client.send_to(word, proxy.addr()).await.expect("sent");
                let (bytes, from) =
                    env.timeout(LIMIT, node.recv_from(&mut buffer)).await.expect("in time").expect("read");
                seen.push(buffer[..bytes].to_vec());
                node.send_to(b"ok", from).await.expect("sent");
                let (_, from) =
                    env.timeout(LIMIT, client.recv_from(&mut buffer)).await.expect("in time").expect("read");
                assert_eq!(from, proxy.addr(), "the answer comes from where the question went");
            }
            assert!(proxy.cut(a.local_addr().expect("bound"), LIMIT));
            a.send_to(b"a2", proxy.addr()).await.expect("sent");
            b.send_to(b"b2", proxy.addr()).await.expect("sent");
            let (bytes, _) = env.timeout(LIMIT, node.recv_from(&mut buffer)).await.expect("in time").expect("read");
            seen.push(buffer[..bytes].to_vec());
            (seen, proxy.counts(), proxy.sources().len())
        })
        .expect("a runtime");
        assert_eq!(passed, (vec![b"a1".to_vec(), b"b1".to_vec(), b"b2".to_vec()], (5, 1), 2));
    }
}
