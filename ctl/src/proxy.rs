//! A UDP proxy that cuts links: the faults of `demo --chaos` and of tests.
//!
//! A node is told to advertise the proxy's address and listens at another; every datagram then takes the way over here:
//!
//! ```text
//!   source ──▶ front (advertised) ──▶ one socket per source ──▶ node (real)
//!          ◀──                    ◀──                       ◀──
//! ```
//! To the node every source is one of the proxy's sockets. A cut drops what comes from and goes to some sources, or all of them,
//! until it is over; without [`Weather`] nothing is delayed or reordered. QUIC sees loss, then silence, then traffic again.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringfleet_env::{Env, Instant, TaskHandle, UdpBinding};
use tokio::net::UdpSocket;

/// The largest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Datagrams that one proxy delays at a time. Further ones are dropped.
const LATE_MAX: u64 = 16_384;
/// Sources that one proxy remembers. Datagrams of further ones are dropped.
const SOURCES_MAX: usize = 1024;

/// A proxy in front of one UDP port. Dropping it ends it.
#[derive(Debug)]
pub struct UdpProxy {
    env: Env,
    front: SocketAddr,
    state: Arc<State>,
    // In a lock only because a handle alone cannot be shared between threads.
    task: Mutex<TaskHandle>,
}

/// What happens to datagrams on their way, by chance; times a thousand where it is a share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Dropped of those to the target.
    pub drop_to: u64,
    /// Dropped of those from the target.
    pub drop_from: u64,
    /// Sent twice.
    pub duplicate: u64,
    /// Sent with one byte changed.
    pub corrupt: u64,
    /// Each is held back by up to this; those that are held back for less overtake.
    pub delay_max: Duration,
}

/// Which way a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    To,
    From,
}

#[derive(Debug, Default)]
struct State {
    sources: Mutex<HashMap<SocketAddr, Arc<Source>>>,
    /// Cuts of sources that have not been seen yet, until when in monotonic ns.
    early: Mutex<HashMap<SocketAddr, u64>>,
    weather: Mutex<Weather>,
    late: AtomicU64,
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
        Ok(Self { env: env.clone(), front, state, task: Mutex::new(task) })
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

    /// Cuts the link of one source also if it is seen for the first time later. At most as many as there may be sources.
    pub fn cut_in_advance(&self, source: SocketAddr, duration: Duration) {
        if !self.cut(source, duration) {
            let mut early = self.state.early.lock().unwrap_or_else(PoisonError::into_inner);
            if early.len() < SOURCES_MAX {
                early.insert(source, (self.env.now() + duration).as_ns());
            }
        }
    }

    /// Cuts the links of all sources seen so far.
    pub fn cut_all(&self, duration: Duration) {
        self.state.early.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for source in self.sources() {
            self.cut(source, duration);
        }
    }

    /// What happens to datagrams of all sources from now on.
    pub fn set_weather(&self, weather: Weather) {
        *self.state.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// Datagrams forwarded and dropped so far, both ways.
    pub fn counts(&self) -> (u64, u64) {
        (self.state.forwarded.load(Ordering::Relaxed), self.state.dropped.load(Ordering::Relaxed))
    }
}

impl Drop for UdpProxy {
    fn drop(&mut self) {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).abort();
        // A source owns the task that waits at its socket, and that task the source: neither would go by itself.
        for source in std::mem::take(&mut *self.state.lock()).into_values() {
            drop(source.back.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

impl State {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, Arc<Source>>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a datagram and says what becomes of it: the pauses after which it is sent, one for each time; none: dropped.
    fn fate(&self, env: &Env, source: &Source, way: Way, datagram: &mut [u8]) -> Vec<Duration> {
        let weather = *self.weather.lock().unwrap_or_else(PoisonError::into_inner);
        let by_chance = |permille: u64| permille > 0 && env.random_below(1000) < permille;
        let cut = Instant::from_ns(source.cut_until_ns.load(Ordering::Relaxed)) > env.now();
        let dropped = by_chance(if way == Way::To { weather.drop_to } else { weather.drop_from });
        let full = !weather.delay_max.is_zero() && self.late.load(Ordering::Relaxed) >= LATE_MAX;
        if cut || dropped || full {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return Vec::new();
        }
        self.forwarded.fetch_add(1, Ordering::Relaxed);
        if by_chance(weather.corrupt) && !datagram.is_empty() {
            let at = env.random_below(datagram.len() as u64) as usize;
            datagram[at] ^= 1 << env.random_below(8);
        }
        let times = if by_chance(weather.duplicate) { 2 } else { 1 };
        let delay_us = weather.delay_max.as_micros() as u64;
        let delay = || Duration::from_micros(if delay_us == 0 { 0 } else { env.random_below(delay_us) });
        (0..times).map(|_| delay()).collect()
    }

    /// Sends a datagram as its fate says; what does not fit is lost, as on a real network.
    async fn pass<S, F>(self: &Arc<Self>, env: &Env, fate: Vec<Duration>, datagram: &[u8], send: S)
    where
        S: Fn(Vec<u8>) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        for pause in fate {
            let sent = send(datagram.to_vec());
            if pause.is_zero() {
                sent.await;
                continue;
            }
            self.late.fetch_add(1, Ordering::Relaxed);
            let (state, late_env) = (self.clone(), env.clone());
            let late = async move {
                late_env.sleep(pause).await;
                sent.await;
                state.late.fetch_sub(1, Ordering::Relaxed);
            };
            env.spawn("late datagram", late).detach();
        }
    }
}

fn bind(env: &Env, addr: SocketAddr) -> io::Result<UdpSocket> {
    match env.bind_udp(addr)? {
        UdpBinding::Os(socket) => UdpSocket::from_std(socket),
        UdpBinding::Simulated(_) | UdpBinding::Lanes(_) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, "the proxy needs a real socket"))
        }
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
        let fate = state.fate(&env, &source, Way::To, &mut buffer[..bytes]);
        let send = move |datagram: Vec<u8>| {
            let source = source.clone();
            async move { drop(source.socket.send(&datagram).await) }
        };
        state.pass(&env, fate, &buffer[..bytes], send).await;
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
    let local: IpAddr = match target.ip() {
        ip if ip.is_loopback() => ip,
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = bind(env, SocketAddr::new(local, 0))?;
    socket.connect(target).await?;
    let early = state.early.lock().unwrap_or_else(PoisonError::into_inner).remove(&from).unwrap_or(0);
    let source = Arc::new(Source { socket, cut_until_ns: AtomicU64::new(early), back: Mutex::default() });
    let (env_back, front, state_back) = (env.clone(), front.clone(), state.clone());
    let weak = Arc::downgrade(&source);
    let back = async move {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        while let Some(source) = weak.upgrade() {
            match source.socket.recv(&mut buffer).await {
                Ok(bytes) => {
                    let fate = state_back.fate(&env_back, &source, Way::From, &mut buffer[..bytes]);
                    let front = front.clone();
                    let send = move |datagram: Vec<u8>| {
                        let front = front.clone();
                        async move { drop(front.send_to(&datagram, from).await) }
                    };
                    state_back.pass(&env_back, fate, &buffer[..bytes], send).await;
                }
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

    #[test]
    fn a_proxy_that_is_dropped_leaves_no_socket_behind() {
        Env::run_tokio(1, |env| async move {
            let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
            let node = bind(&env, any).expect("a node");
            let proxy = UdpProxy::start(&env, any, node.local_addr().expect("bound")).expect("a proxy");
            let client = bind(&env, any).expect("a client");
            client.send_to(b"x", proxy.addr()).await.expect("sent");
            let (_, source) = env.timeout(LIMIT, node.recv_from(&mut [0; 16])).await.expect("in time").expect("read");
            drop(proxy);
            let give_up = env.now() + LIMIT;
            while bind(&env, source).is_err() {
                assert!(env.now() < give_up, "{source} is still bound");
                env.sleep(Duration::from_millis(5)).await;
            }
        })
        .expect("a runtime");
    }

    #[test]
    fn weather_drops_one_way_duplicates_corrupts_and_delays() {
        const SENT: u8 = 40;
        Env::run_tokio(1, |env| async move {
            let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
            let node = bind(&env, any).expect("a node");
            let proxy = UdpProxy::start(&env, any, node.local_addr().expect("bound")).expect("a proxy");
            let client = bind(&env, any).expect("a client");
            let mut buffer = [0; 16];
            let all = async |count: usize, buffer: &mut [u8]| {
                let mut seen = Vec::new();
                while seen.len() < count {
                    let read = env.timeout(LIMIT, node.recv_from(buffer)).await.expect("in time").expect("read");
                    seen.push((buffer[..read.0].to_vec(), read.1));
                }
                seen
            };
            proxy.set_weather(Weather { drop_from: 1000, duplicate: 1000, ..Weather::default() });
            client.send_to(b"x", proxy.addr()).await.expect("sent");
            let seen = all(2, &mut buffer).await;
            assert_eq!((&seen[0].0[..], &seen[1].0[..]), (&b"x"[..], &b"x"[..]), "twice");
            node.send_to(b"lost", seen[0].1).await.expect("sent");
            // Else it may meet the next weather.
            let dropped = async {
                while proxy.counts().1 == 0 {
                    tokio::task::yield_now().await;
                }
            };
            env.timeout(LIMIT, dropped).await.expect("the answer is dropped in time");
            proxy.set_weather(Weather { corrupt: 1000, ..Weather::default() });
            client.send_to(b"x", proxy.addr()).await.expect("sent");
            let seen = all(1, &mut buffer).await;
            assert!(seen[0].0 != b"x" && seen[0].0.len() == 1, "one byte differs: {seen:?}");
            proxy.set_weather(Weather { delay_max: Duration::from_millis(200), ..Weather::default() });
            for number in 0..SENT {
                client.send_to(&[number], proxy.addr()).await.expect("sent");
            }
            let mut order: Vec<u8> =
                all(usize::from(SENT), &mut buffer).await.iter().map(|(text, _)| text[0]).collect();
            assert!(!order.is_sorted(), "forty datagrams in order although each waits for a time of its own");
            order.sort_unstable();
            assert!(order.iter().copied().eq(0..SENT), "each once: {order:?}");
            assert_eq!(proxy.counts(), (2 + u64::from(SENT), 1), "the answer was dropped, nothing else");
        })
        .expect("a runtime");
    }
}
