//! The network between hosts: datagrams that are delayed, lost, repeated and overtaken, and ways that are cut in one or both
//! directions; or, at depth T1, the same weather for lanes ([`crate::lanes`]).

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use ringfleet_abi::hash::fnv1a64;
use ringfleet_env::{BoxFuture, Datagram, DatagramMeta, DatagramSocket, Net, UdpBinding};

use crate::exec::{Core, HostId, Life, lock};
use crate::lanes;
use crate::rng::Rng;
use crate::run::Depth;

/// Datagrams that wait in a socket; more are lost, as in a kernel.
const INBOX_MAX: usize = 2048;
/// Something lost on a lane is sent again after this long, and then after twice as long each time.
const LOST_AGAIN_NS: u64 = 5_000_000;
/// The longest such time.
const LOST_AGAIN_MAX_NS: u64 = 1_000_000_000;
/// The first port given to sockets that ask for any.
const PORT_ANY_FIRST: u16 = 20_000;

/// The weather of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// How long a datagram takes at least.
    pub delay_min_ns: u64,
    /// How long it takes at most, if nothing delays it further.
    pub delay_max_ns: u64,
    /// Lost, in a million.
    pub loss_ppm: u32,
    /// Delivered twice, in a million.
    pub repeat_ppm: u32,
    /// Held back so that others overtake it, in a million.
    pub overtaken_ppm: u32,
    /// How long such a one is held back at most.
    pub overtaken_ns: u64,
}

impl Weather {
    /// A good network of one building.
    pub const FINE: Self = Self {
        delay_min_ns: 150_000,
        delay_max_ns: 450_000,
        loss_ppm: 0,
        repeat_ppm: 0,
        overtaken_ppm: 0,
        overtaken_ns: 0,
    };
}

#[derive(Debug, Default)]
struct Inbox {
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct State {
    sockets: BTreeMap<SocketAddr, Weak<Mutex<Inbox>>>,
    weather: Weather,
    /// Ways that are cut, and until when.
    cut: BTreeMap<(HostId, HostId), u64>,
    rng: Rng,
    sent: u64,
    lost: u64,
}

impl State {
    fn delay_ns(&mut self) -> u64 {
        let weather = self.weather;
        let mut delay_ns = self.rng.between(weather.delay_min_ns, weather.delay_max_ns);
        if self.rng.chance(weather.overtaken_ppm) {
            delay_ns += self.rng.below(weather.overtaken_ns + 1);
        }
        delay_ns
    }
}

/// The network of a run.
#[derive(Debug)]
pub struct SimNet {
    core: Arc<Core>,
    depth: Depth,
    state: Mutex<State>,
    lanes: Mutex<BTreeMap<SocketAddr, Weak<lanes::Socket>>>,
    next_port: AtomicU16,
}

/// The address of a host.
#[must_use]
pub fn ip_of(host: HostId) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, (host.0 >> 8) as u8, host.0 as u8))
}

pub(crate) fn host_of(ip: IpAddr) -> HostId {
    match ip {
        IpAddr::V4(ip) => HostId(u16::from(ip.octets()[2]) << 8 | u16::from(ip.octets()[3])),
        IpAddr::V6(_) => HostId(u16::MAX),
    }
}

impl SimNet {
    /// A network in fine weather.
    #[must_use]
    pub fn new(core: Arc<Core>, depth: Depth, rng: Rng) -> Arc<Self> {
        let state =
            State { sockets: BTreeMap::new(), weather: Weather::FINE, cut: BTreeMap::new(), rng, sent: 0, lost: 0 };
        let lanes = Mutex::default();
        Arc::new(Self { core, depth, state: Mutex::new(state), lanes, next_port: AtomicU16::new(PORT_ANY_FIRST) })
    }

    /// The weather from now on.
    pub fn set_weather(&self, weather: Weather) {
        lock(&self.state).weather = weather;
    }

    /// Nothing gets from `from` to `to` until this virtual time.
    pub fn cut(&self, from: HostId, to: HostId, until_ns: u64) {
        let mut state = lock(&self.state);
        let until = state.cut.entry((from, to)).or_default();
        *until = until_ns.max(*until);
    }

    /// Every way is open again.
    pub fn heal(&self) {
        lock(&self.state).cut.clear();
    }

    /// Whether nothing gets from `from` to `to`.
    #[must_use]
    pub fn is_cut(&self, from: HostId, to: HostId) -> bool {
        lock(&self.state).cut.get(&(from, to)).is_some_and(|until_ns| self.core.now_ns() < *until_ns)
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn is_cut_between(&self, from: SocketAddr, to: SocketAddr) -> bool {
        self.is_cut(host_of(from.ip()), host_of(to.ip()))
    }

    /// How long something takes on a lane: what is lost is sent again, what would be overtaken is late. `None` if the way is cut.
    pub(crate) fn lane_delay(&self, from: SocketAddr, to: SocketAddr) -> Option<u64> {
        if self.is_cut_between(from, to) {
            return None;
        }
        let mut state = lock(&self.state);
        let state = &mut *state;
        state.sent += 1;
        let mut delay_ns = state.delay_ns();
        let mut again_ns = LOST_AGAIN_NS;
        while state.rng.chance(state.weather.loss_ppm) {
            state.lost += 1;
            delay_ns += again_ns;
            again_ns = LOST_AGAIN_MAX_NS.min(again_ns * 2);
        }
        Some(delay_ns)
    }

    /// The same for what nobody sends again.
    pub(crate) fn lane_once(&self, from: SocketAddr, to: SocketAddr) -> Option<u64> {
        let is_cut = self.is_cut_between(from, to);
        let mut state = lock(&self.state);
        let state = &mut *state;
        state.sent += 1;
        if is_cut || state.rng.chance(state.weather.loss_ppm) {
            state.lost += 1;
            return None;
        }
        Some(state.delay_ns())
    }

    pub(crate) fn lane_socket(&self, addr: SocketAddr) -> Option<Arc<lanes::Socket>> {
        lock(&self.lanes).get(&addr).and_then(Weak::upgrade)
    }

    /// Datagrams sent, and of those lost, so far.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let state = lock(&self.state);
        (state.sent, state.lost)
    }

    /// The network as one life of a host sees it.
    #[must_use]
    pub fn of(self: &Arc<Self>, life: &Arc<Life>) -> HostNet {
        HostNet { net: self.clone(), life: life.clone() }
    }

    fn send(self: &Arc<Self>, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let now_ns = self.core.now_ns();
        let mut state = lock(&self.state);
        let state = &mut *state;
        state.sent += 1;
        let weather = state.weather;
        let way = (host_of(from.ip()), host_of(to.ip()));
        let is_cut = state.cut.get(&way).is_some_and(|until_ns| now_ns < *until_ns);
        let lost = is_cut || state.rng.chance(weather.loss_ppm);
        let ports = u64::from(from.port()) << 16 | u64::from(to.port());
        let hosts = u64::from(host_of(from.ip()).0) << 16 | u64::from(host_of(to.ip()).0);
        self.core
            .trace
            .count("packet", &[now_ns, hosts, ports, (bytes.len() as u64) << 1 | u64::from(lost), fnv1a64(bytes)]);
        if lost {
            state.lost += 1;
            return;
        }
        let copies = 1 + u32::from(state.rng.chance(weather.repeat_ppm));
        for _ in 0..copies {
            let delay = state.delay_ns();
            let (net, bytes) = (self.clone(), bytes.to_vec());
            self.core.at(now_ns + delay, move || net.deliver(from, to, bytes));
        }
    }

    fn deliver(&self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let inbox = lock(&self.state).sockets.get(&to).and_then(Weak::upgrade);
        let Some(inbox) = inbox else { return };
        let waker = {
            let mut inbox = lock(&inbox);
            if inbox.datagrams.len() >= INBOX_MAX {
                return;
            }
            inbox.datagrams.push_back((from, bytes));
            inbox.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The [`Net`] of one life of a host.
#[derive(Debug)]
pub struct HostNet {
    net: Arc<SimNet>,
    life: Arc<Life>,
}

impl Net for HostNet {
    fn bind_udp(&self, addr: SocketAddr) -> io::Result<UdpBinding> {
        let ip = if addr.ip().is_unspecified() { ip_of(self.life.host) } else { addr.ip() };
        if host_of(ip) != self.life.host {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let port = match addr.port() {
            0 => self.net.next_port.fetch_add(1, Ordering::Relaxed),
            port => port,
        };
        let addr = SocketAddr::new(ip, port);
        if self.net.depth == Depth::T1 {
            if self.net.lane_socket(addr).is_some() {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let socket = Arc::new(lanes::Socket::new(addr, self.net.clone(), self.life.clone()));
            lock(&self.net.lanes).insert(addr, Arc::downgrade(&socket));
            return Ok(UdpBinding::Lanes(socket));
        }
        let mut state = lock(&self.net.state);
        if state.sockets.get(&addr).is_some_and(|inbox| inbox.strong_count() > 0) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        state.sockets.insert(addr, Arc::downgrade(&inbox));
        Ok(UdpBinding::Simulated(Arc::new(Socket { addr, net: self.net.clone(), life: self.life.clone(), inbox })))
    }

    fn listen_tcp(&self, _addr: SocketAddr) -> io::Result<std::net::TcpListener> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn resolve(&self, host_port: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let parsed = host_port.parse::<SocketAddr>().map_err(|e| io::Error::new(io::ErrorKind::NotFound, e));
        Box::pin(async move { Ok(vec![parsed?]) })
    }
}

#[derive(Debug)]
struct Socket {
    addr: SocketAddr,
    net: Arc<SimNet>,
    life: Arc<Life>,
    inbox: Arc<Mutex<Inbox>>,
}

impl DatagramSocket for Socket {
    fn send(&self, datagram: Datagram<'_>) -> io::Result<()> {
        // A killed process says no goodbye.
        if self.life.is_alive() {
            self.net.send(self.addr, datagram.destination, datagram.contents);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [DatagramMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inbox = lock(&self.inbox);
        let mut count = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let Some((source, contents)) = inbox.datagrams.pop_front() else { break };
            let bytes = contents.len().min(buffer.len());
            buffer[..bytes].copy_from_slice(&contents[..bytes]);
            *meta = DatagramMeta { source, bytes, ecn: None, destination_ip: Some(self.addr.ip()) };
            count += 1;
        }
        if count == 0 {
            inbox.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }
}
