//! Depth T1: connections of ordered lanes in the place of QUIC over datagrams.
//!
//! ```text
//!   write ──▶ window of lane and connection ──▶ on the way (delay; what is lost comes later; what is cut off waits) ──▶ read
//! ```
//!
//! What the code above sees is what QUIC would show it: each lane in order, lanes beside each other in any; a connection that
//! hears nothing dies on each side by itself; what a killed process had under way still arrives, and nothing says that it is dead;
//! whoever speaks on a connection that its peer has given up is told so. Everything that waits is bounded by [`LaneLimits`].
//!
//! A connection is one `Pair`, and each side looks only at what has arrived there. Two things are known sooner than in truth:
//! that a piece was delivered while the way back is open, and room in a window to a writer that does not wait for it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ringfleet_env::{
    Lane, LaneConnection, LaneEnd, LaneError, LaneHello, LaneLimits, LaneReader, LaneSocket, LaneWriter,
};

use crate::exec::{Life, lock};
use crate::net::{SimNet, host_of};

/// A dial without an answer is tried again after this long, and then after twice as long each time.
const DIAL_AGAIN_NS: u64 = 60_000_000;
/// What is cut off is tried again after this long, and then after half as long as it has waited.
const AGAIN_NS: u64 = 10_000_000;
/// The longest time between two such tries.
const AGAIN_MAX_NS: u64 = 2_000_000_000;

/// The tasks that wait for one thing.
#[derive(Debug, Default)]
struct Waiting(Vec<Waker>);

impl Waiting {
    fn add(&mut self, cx: &Context<'_>) {
        if !self.0.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.0.push(cx.waker().clone());
        }
    }

    fn wake(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// One side of a connection.
struct Side {
    addr: SocketAddr,
    /// Unknown for a listener that no dial has reached.
    life: Option<Arc<Life>>,
    hello: Option<LaneHello>,
    established: bool,
    end: Option<LaneEnd>,
    /// What it said when it closed the connection itself.
    parting: Option<LaneEnd>,
    heard_ns: u64,
    sent_ns: u64,
    /// Lanes this side has opened so far, and of those the ones that are not over.
    opened: u64,
    open: u32,
    /// Lanes of the peer that were accepted, and that are known here.
    accepted: u64,
    known: u64,
    /// Bytes of this side that are under way or unread.
    out_bytes: usize,
    /// What cannot be sent now, in order, and since when.
    stuck: VecDeque<Piece>,
    stuck_ns: u64,
    establishing: Waiting,
    opening: Waiting,
    accepting: Waiting,
    closing: Waiting,
}

impl Side {
    fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            life: None,
            hello: None,
            established: false,
            end: None,
            parting: None,
            heard_ns: 0,
            sent_ns: 0,
            opened: 0,
            open: 0,
            accepted: 0,
            known: 0,
            out_bytes: 0,
            stuck: VecDeque::new(),
            stuck_ns: 0,
            establishing: Waiting::default(),
            opening: Waiting::default(),
            accepting: Waiting::default(),
            closing: Waiting::default(),
        }
    }

    fn lives(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.is_alive())
    }

    fn is_paused(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.is_paused())
    }
}

/// One direction of a lane.
#[derive(Default)]
struct Half {
    arrived: VecDeque<Vec<u8>>,
    /// Under way, and arrived but unread.
    bytes: usize,
    under_way: usize,
    /// When the last piece arrives: the next one does not overtake it.
    last_at_ns: u64,
    /// The writer has finished; said with the last bytes under way.
    finished: bool,
    end_arrived: bool,
    /// The writer has given up; the reader knows.
    reset: bool,
    reset_arrived: Option<u32>,
    /// The reader has given up; the writer knows.
    stopped: bool,
    stop_arrived: Option<u32>,
    reader_done: bool,
    writer: Waiting,
    reader: Waiting,
}

impl Half {
    fn is_over(&self) -> bool {
        (self.end_arrived || self.reset_arrived.is_some()) && (self.reader_done || self.stopped)
    }
}

/// Which lane: its number among those that one side has opened.
type LaneId = (usize, u64);

/// What is sent.
enum What {
    Bytes(Vec<u8>),
    End,
    Reset(u32),
    Stop(u32),
    Room,
    Welcome,
}

struct Piece {
    lane: LaneId,
    what: What,
}

struct State {
    sides: [Side; 2],
    lanes: BTreeMap<LaneId, [Half; 2]>,
}

/// A connection; side 0 has dialled.
struct Pair {
    net: Arc<SimNet>,
    limits: LaneLimits,
    state: Mutex<State>,
}

impl Pair {
    fn now_ns(&self) -> u64 {
        self.net.core().now_ns()
    }

    /// Sends a piece, or keeps it until the way is open.
    fn send(self: &Arc<Self>, state: &mut State, from: usize, piece: Piece) {
        if !state.sides[from].lives() {
            return;
        }
        if !state.sides[from].stuck.is_empty() {
            return state.sides[from].stuck.push_back(piece);
        }
        if let Some(piece) = self.try_send(state, from, piece) {
            let now_ns = self.now_ns();
            state.sides[from].stuck.push_back(piece);
            state.sides[from].stuck_ns = now_ns;
            self.again_later(from, now_ns + AGAIN_NS);
        }
    }

    /// Gives the piece back if the way is cut.
    fn try_send(self: &Arc<Self>, state: &mut State, from: usize, piece: Piece) -> Option<Piece> {
        let Some(delay_ns) = self.net.lane_delay(state.sides[from].addr, state.sides[1 - from].addr) else {
            return Some(piece);
        };
        let now_ns = self.now_ns();
        state.sides[from].sent_ns = now_ns;
        let mut at_ns = now_ns + delay_ns;
        // What goes the other way on a lane, or on none, has no order.
        if matches!(piece.what, What::Bytes(_) | What::End | What::Reset(_))
            && let Some(halves) = state.lanes.get_mut(&piece.lane)
        {
            at_ns = at_ns.max(halves[from].last_at_ns);
            halves[from].last_at_ns = at_ns;
        }
        let pair = self.clone();
        self.net.core().at(at_ns, move || pair.deliver(from, piece));
        None
    }

    fn again_later(self: &Arc<Self>, from: usize, at_ns: u64) {
        let pair = self.clone();
        self.net.core().at(at_ns, move || pair.again(from));
    }

    fn again(self: &Arc<Self>, from: usize) {
        let mut state = lock(&self.state);
        let state = &mut *state;
        let side = &mut state.sides[from];
        if side.end.is_some() || !side.lives() {
            return side.stuck.clear();
        }
        let now_ns = self.now_ns();
        let next_ns = now_ns + AGAIN_NS + ((now_ns - side.stuck_ns) / 2).min(AGAIN_MAX_NS);
        if side.is_paused() {
            return self.again_later(from, next_ns);
        }
        while let Some(piece) = state.sides[from].stuck.pop_front() {
            if let Some(piece) = self.try_send(state, from, piece) {
                state.sides[from].stuck.push_front(piece);
                return self.again_later(from, next_ns);
            }
        }
    }

    fn deliver(self: &Arc<Self>, from: usize, piece: Piece) {
        let mut state = lock(&self.state);
        let state = &mut *state;
        self.trace(state, from, &piece);
        if !self.hear(state, from) {
            return;
        }
        let to = 1 - from;
        let Piece { lane, what } = piece;
        if let What::Welcome = what {
            let side = &mut state.sides[to];
            side.established = true;
            side.establishing.wake();
            return self.begin_ticks(to);
        }
        if lane.0 == from && matches!(what, What::Bytes(_) | What::End | What::Reset(_)) {
            let side = &mut state.sides[to];
            if side.known <= lane.1 {
                side.known = lane.1 + 1;
                side.accepting.wake();
            }
        }
        if let What::Room = what {
            return state.lanes.values_mut().for_each(|halves| halves[to].writer.wake());
        }
        let Some(halves) = state.lanes.get_mut(&lane) else { return };
        match what {
            What::Bytes(bytes) => {
                let half = &mut halves[from];
                half.under_way -= bytes.len();
                if half.stopped || half.reset {
                    half.bytes -= bytes.len();
                    state.sides[from].out_bytes -= bytes.len();
                } else {
                    half.arrived.push_back(bytes);
                }
                if half.finished && half.under_way == 0 {
                    half.end_arrived = true;
                    half.writer.wake();
                }
                half.reader.wake();
            }
            What::End => {
                let half = &mut halves[from];
                half.end_arrived = true;
                half.reader.wake();
                half.writer.wake();
            }
            What::Reset(code) => {
                let half = &mut halves[from];
                half.reset_arrived = Some(code);
                let dropped: usize = half.arrived.drain(..).map(|bytes| bytes.len()).sum();
                half.bytes -= dropped;
                state.sides[from].out_bytes -= dropped;
                half.reader.wake();
            }
            What::Stop(code) => {
                let half = &mut halves[to];
                half.stop_arrived = Some(code);
                half.writer.wake();
                if !half.reset && !half.end_arrived {
                    half.reset = true;
                    self.send(state, to, Piece { lane, what: What::Reset(code) });
                }
            }
            What::Room | What::Welcome => {}
        }
        self.retire(state, lane);
    }

    fn trace(&self, state: &State, from: usize, piece: &Piece) {
        let (kind, length, content) = match &piece.what {
            What::Bytes(bytes) => (0, bytes.len() as u64, digest(bytes)),
            What::End => (1, 0, 0),
            What::Reset(code) => (2, 0, u64::from(*code)),
            What::Stop(code) => (3, 0, u64::from(*code)),
            What::Room => (4, 0, 0),
            What::Welcome => (5, 0, 0),
        };
        let [a, b] = [from, 1 - from].map(|side| u64::from(host_of(state.sides[side].addr.ip()).0));
        let lane = (piece.lane.0 as u64) << 63 | piece.lane.1 << 8 | kind;
        self.net.core().trace.count("lane", &[self.now_ns(), a << 16 | b, lane, length, content]);
    }

    /// Something of `from` has arrived. Says whether there is still somebody who listens to it.
    fn hear(self: &Arc<Self>, state: &mut State, from: usize) -> bool {
        let (to, now_ns) = (1 - from, self.now_ns());
        if !state.sides[to].lives() {
            return false;
        }
        if state.sides[to].end.is_some() {
            let told = state.sides[to].parting.clone();
            self.tell_end(state, to, told.unwrap_or(LaneEnd::Reset));
            return false;
        }
        state.sides[to].heard_ns = now_ns;
        // A sign of life is answered, unless the way back is cut or nobody is awake.
        if !state.sides[to].is_paused() && !self.net.is_cut_between(state.sides[to].addr, state.sides[from].addr) {
            state.sides[from].heard_ns = now_ns;
        }
        true
    }

    /// Tells the other side that this one has ended, once: whoever does not hear it is told when it speaks.
    fn tell_end(self: &Arc<Self>, state: &State, from: usize, told: LaneEnd) {
        let other = &state.sides[1 - from];
        if !state.sides[from].lives() || state.sides[from].is_paused() || other.end.is_some() {
            return;
        }
        if let Some(delay_ns) = self.net.lane_once(state.sides[from].addr, other.addr) {
            let (pair, at_ns) = (self.clone(), self.now_ns() + delay_ns);
            self.net.core().at(at_ns, move || {
                let mut state = lock(&pair.state);
                let [a, b] = [from, 1 - from].map(|side| u64::from(host_of(state.sides[side].addr.ip()).0));
                pair.net.core().trace.count("lane end", &[pair.now_ns(), a << 16 | b]);
                if state.sides[1 - from].lives() {
                    pair.end(&mut state, 1 - from, told);
                }
            });
        }
    }

    fn end(&self, state: &mut State, side: usize, end: LaneEnd) {
        if state.sides[side].end.is_some() {
            return;
        }
        let own = &mut state.sides[side];
        own.end = Some(end);
        own.stuck.clear();
        for waiting in [&mut own.establishing, &mut own.opening, &mut own.accepting, &mut own.closing] {
            waiting.wake();
        }
        for halves in state.lanes.values_mut() {
            halves[side].writer.wake();
            halves[1 - side].reader.wake();
        }
        if state.sides.iter().all(|side| side.end.is_some() || !side.lives()) {
            // Nothing moves any more; what has arrived may still be read.
            state.lanes.values_mut().flatten().for_each(|half| half.under_way = 0);
        }
    }

    fn close(self: &Arc<Self>, side: usize, code: u32, reason: &str) {
        let mut state = lock(&self.state);
        if state.sides[side].end.is_none() {
            self.end(&mut state, side, LaneEnd::Local);
            let parting = LaneEnd::Peer { code, reason: reason.to_owned() };
            state.sides[side].parting = Some(parting.clone());
            self.tell_end(&state, side, parting);
        }
    }

    fn begin_ticks(self: &Arc<Self>, side: usize) {
        let pair = self.clone();
        let at_ns = self.now_ns() + nanos(self.limits.keep_alive);
        self.net.core().at(at_ns, move || pair.tick(side));
    }

    /// Signs of life, and the end of a connection that hears none.
    fn tick(self: &Arc<Self>, side: usize) {
        let mut state = lock(&self.state);
        let state = &mut *state;
        let now_ns = self.now_ns();
        let (idle_ns, alive_ns) = (nanos(self.limits.idle_timeout), nanos(self.limits.keep_alive));
        let own = &mut state.sides[side];
        if own.end.is_some() || !own.lives() {
            return;
        }
        let mut next_ns = now_ns + AGAIN_NS;
        if !own.is_paused() {
            if now_ns >= own.heard_ns + idle_ns {
                return self.end(state, side, LaneEnd::TimedOut);
            }
            if now_ns >= own.sent_ns + alive_ns {
                own.sent_ns = now_ns;
                let (from, to) = (own.addr, state.sides[1 - side].addr);
                if let Some(delay_ns) = self.net.lane_once(from, to) {
                    let pair = self.clone();
                    self.net.core().at(now_ns + delay_ns, move || {
                        pair.hear(&mut lock(&pair.state), side);
                    });
                }
            }
            let own = &state.sides[side];
            next_ns = (own.sent_ns + alive_ns).min(own.heard_ns + idle_ns);
        }
        let pair = self.clone();
        self.net.core().at(next_ns, move || pair.tick(side));
    }

    /// Forgets a lane of which nobody will hear any more.
    fn retire(&self, state: &mut State, lane: LaneId) {
        if state.lanes.get(&lane).is_some_and(|halves| halves.iter().all(Half::is_over)) {
            let halves = state.lanes.remove(&lane).into_iter().flatten();
            for (from, half) in halves.enumerate() {
                state.sides[from].out_bytes -= half.bytes;
            }
            let opener = &mut state.sides[lane.0];
            opener.open -= 1;
            opener.opening.wake();
        }
    }

    /// Tries to reach a listener until there is an answer.
    fn dial(self: &Arc<Self>, wait_ns: u64) {
        let state = lock(&self.state);
        let dialler = &state.sides[0];
        if !dialler.lives() || dialler.end.is_some() || state.sides[1].life.is_some() {
            return;
        }
        if !dialler.is_paused()
            && let Some(delay_ns) = self.net.lane_once(dialler.addr, state.sides[1].addr)
        {
            let (pair, at_ns) = (self.clone(), self.now_ns() + delay_ns);
            self.net.core().at(at_ns, move || pair.arrive());
        }
        let (pair, at_ns) = (self.clone(), self.now_ns() + wait_ns);
        self.net.core().at(at_ns, move || pair.dial(wait_ns.saturating_mul(2)));
    }

    /// A dial has reached the machine of the listener.
    fn arrive(self: &Arc<Self>) {
        let to = lock(&self.state).sides[1].addr;
        let Some(socket) = self.net.lane_socket(to).filter(|socket| socket.life.is_alive()) else { return };
        let mut listener = lock(&socket.state);
        let mut state = lock(&self.state);
        let side = &mut state.sides[1];
        let Some(hello) = listener.hello.clone().filter(|_| side.life.is_none() && !listener.closed) else { return };
        if listener.arrivals.len() >= hello.limits.arrivals_max {
            return;
        }
        let [a, b] = [0, 1].map(|side: usize| u64::from(host_of(state.sides[side].addr.ip()).0));
        self.net.core().trace.count("lane dial", &[self.now_ns(), a << 16 | b]);
        let side = &mut state.sides[1];
        side.life = Some(socket.life.clone());
        side.hello = Some(hello);
        (side.heard_ns, side.sent_ns, side.established) = (self.now_ns(), self.now_ns(), true);
        drop(state);
        listener.note(self, 1);
        listener.arrivals.push_back(Arc::new(Handle { pair: self.clone(), side: 1 }));
        listener.accepting.wake();
        drop(listener);
        self.begin_ticks(1);
    }
}

/// A hash of bytes, eight at a time.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    let hash = words.iter().fold(bytes.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    rest.iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte)))
}

struct SocketState {
    hello: Option<LaneHello>,
    arrivals: VecDeque<Arc<Handle>>,
    accepting: Waiting,
    closed: bool,
    pairs: Vec<(Weak<Pair>, usize)>,
}

impl SocketState {
    fn open(&self) -> impl Iterator<Item = (Arc<Pair>, usize)> {
        let pairs = self.pairs.iter().filter_map(|(pair, side)| Some((pair.upgrade()?, *side)));
        pairs.filter(|(pair, side)| lock(&pair.state).sides[*side].end.is_none())
    }

    fn note(&mut self, pair: &Arc<Pair>, side: usize) {
        let open: Vec<_> = self.open().map(|(pair, side)| (Arc::downgrade(&pair), side)).collect();
        self.pairs = open;
        self.pairs.push((Arc::downgrade(pair), side));
    }
}

/// A bound address.
pub struct Socket {
    addr: SocketAddr,
    net: Arc<SimNet>,
    life: Arc<Life>,
    state: Mutex<SocketState>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({})", self.addr)
    }
}

impl Socket {
    /// Of one life of a host.
    #[must_use]
    pub fn new(addr: SocketAddr, net: Arc<SimNet>, life: Arc<Life>) -> Self {
        let state = SocketState {
            hello: None,
            arrivals: VecDeque::new(),
            accepting: Waiting::default(),
            closed: false,
            pairs: Vec::new(),
        };
        Self { addr, net, life, state: Mutex::new(state) }
    }
}

impl LaneSocket for Socket {
    fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    fn dial(&self, to: SocketAddr, hello: LaneHello) -> Arc<dyn LaneConnection> {
        let limits = hello.limits;
        let mut dialler = Side::new(self.addr);
        dialler.life = Some(self.life.clone());
        dialler.hello = Some(hello);
        (dialler.heard_ns, dialler.sent_ns) = (self.net.core().now_ns(), self.net.core().now_ns());
        let mut own = lock(&self.state);
        if own.closed {
            dialler.end = Some(LaneEnd::Local);
        }
        let state = State { sides: [dialler, Side::new(to)], lanes: BTreeMap::new() };
        let pair = Arc::new(Pair { net: self.net.clone(), limits, state: Mutex::new(state) });
        own.note(&pair, 0);
        drop(own);
        pair.dial(DIAL_AGAIN_NS);
        Arc::new(Handle { pair, side: 0 })
    }

    fn listen(&self, hello: Option<LaneHello>) {
        let dropped = {
            let mut state = lock(&self.state);
            state.hello = hello;
            if state.hello.is_none() { std::mem::take(&mut state.arrivals) } else { VecDeque::new() }
        };
        drop(dropped);
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Option<Arc<dyn LaneConnection>>> {
        let mut state = lock(&self.state);
        if let Some(handle) = state.arrivals.pop_front() {
            return Poll::Ready(Some(handle));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.accepting.add(cx);
        Poll::Pending
    }

    fn close(&self, code: u32, reason: &str) {
        let (pairs, dropped) = {
            let mut state = lock(&self.state);
            state.closed = true;
            state.accepting.wake();
            (state.open().collect::<Vec<_>>(), std::mem::take(&mut state.arrivals))
        };
        pairs.iter().for_each(|(pair, side)| pair.close(*side, code, reason));
        drop(dropped);
    }

    fn open_connections(&self) -> usize {
        lock(&self.state).open().count()
    }
}

/// A side of a connection, held by its connection and by each of its lanes.
struct Handle {
    pair: Arc<Pair>,
    side: usize,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle(side {})", self.side)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.pair.close(self.side, 0, "");
    }
}

impl Handle {
    fn lane(self: Arc<Self>, lane: LaneId) -> Lane {
        let reader = Reader { handle: self.clone(), lane, done: false };
        (Box::new(Writer { handle: self, lane, done: false }), Box::new(reader))
    }
}

impl LaneConnection for Handle {
    fn poll_established(&self, cx: &mut Context<'_>) -> Poll<Result<(), LaneEnd>> {
        let mut state = lock(&self.pair.state);
        let own = &mut state.sides[self.side];
        if let Some(end) = &own.end {
            return Poll::Ready(Err(end.clone()));
        }
        if own.established {
            return Poll::Ready(Ok(()));
        }
        own.establishing.add(cx);
        Poll::Pending
    }

    fn admit(&self) {
        self.pair.send(&mut lock(&self.pair.state), self.side, Piece { lane: (0, 0), what: What::Welcome });
    }

    fn peer(&self) -> Option<LaneHello> {
        lock(&self.pair.state).sides[1 - self.side].hello.clone()
    }

    fn remote_addr(&self) -> SocketAddr {
        lock(&self.pair.state).sides[1 - self.side].addr
    }

    fn poll_open(self: Arc<Self>, cx: &mut Context<'_>) -> Poll<Result<Lane, LaneEnd>> {
        let lane = {
            let mut state = lock(&self.pair.state);
            let own = &mut state.sides[self.side];
            if let Some(end) = &own.end {
                return Poll::Ready(Err(end.clone()));
            }
            if own.open >= self.pair.limits.lanes_max {
                own.opening.add(cx);
                return Poll::Pending;
            }
            let lane = (self.side, own.opened);
            own.opened += 1;
            own.open += 1;
            state.lanes.insert(lane, Default::default());
            lane
        };
        Poll::Ready(Ok(self.lane(lane)))
    }

    fn poll_accept(self: Arc<Self>, cx: &mut Context<'_>) -> Poll<Result<Lane, LaneEnd>> {
        let lane = {
            let mut state = lock(&self.pair.state);
            let own = &mut state.sides[self.side];
            if let Some(end) = &own.end {
                return Poll::Ready(Err(end.clone()));
            }
            if own.accepted == own.known {
                own.accepting.add(cx);
                return Poll::Pending;
            }
            own.accepted += 1;
            (1 - self.side, own.accepted - 1)
        };
        Poll::Ready(Ok(self.lane(lane)))
    }

    fn close(&self, code: u32, reason: &str) {
        self.pair.close(self.side, code, reason);
    }

    fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<LaneEnd> {
        let mut state = lock(&self.pair.state);
        let own = &mut state.sides[self.side];
        if let Some(end) = &own.end {
            return Poll::Ready(end.clone());
        }
        own.closing.add(cx);
        Poll::Pending
    }

    fn end(&self) -> Option<LaneEnd> {
        lock(&self.pair.state).sides[self.side].end.clone()
    }
}

/// The sending half of a lane.
#[derive(Debug)]
struct Writer {
    handle: Arc<Handle>,
    lane: LaneId,
    done: bool,
}

impl Writer {
    fn send(&self, state: &mut State, what: What) {
        self.handle.pair.send(state, self.handle.side, Piece { lane: self.lane, what });
    }

    /// Why nothing can be written.
    fn check(&self, state: &State) -> Result<(), LaneError> {
        if self.done {
            return Err(LaneError::Closed);
        }
        if let Some(end) = &state.sides[self.handle.side].end {
            return Err(LaneError::Lost(end.clone()));
        }
        match state.lanes.get(&self.lane).and_then(|halves| halves[self.handle.side].stop_arrived) {
            Some(code) => Err(LaneError::Stopped { code }),
            None => Ok(()),
        }
    }
}

impl LaneWriter for Writer {
    fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<Result<usize, LaneError>> {
        let mut state = lock(&self.handle.pair.state);
        let state = &mut *state;
        if let Err(error) = self.check(state) {
            return Poll::Ready(Err(error));
        }
        let (limits, side) = (self.handle.pair.limits, self.handle.side);
        let Some(halves) = state.lanes.get_mut(&self.lane) else { return Poll::Ready(Err(LaneError::Closed)) };
        let half = &mut halves[side];
        let free = limits.connection_bytes_max.saturating_sub(state.sides[side].out_bytes);
        let room = limits.lane_bytes_max.saturating_sub(half.bytes).min(free);
        if room == 0 {
            half.writer.add(cx);
            return Poll::Pending;
        }
        let mut bytes = Vec::with_capacity(room.min(parts.iter().map(|part| part.len()).sum()));
        for part in parts {
            bytes.extend_from_slice(&part[..part.len().min(room - bytes.len())]);
        }
        let count = bytes.len();
        half.bytes += count;
        half.under_way += count;
        state.sides[side].out_bytes += count;
        self.send(state, What::Bytes(bytes));
        Poll::Ready(Ok(count))
    }

    fn finish(&mut self) -> Result<(), LaneError> {
        let pair = self.handle.pair.clone();
        let mut state = lock(&pair.state);
        self.check(&state)?;
        self.done = true;
        let Some(halves) = state.lanes.get_mut(&self.lane) else { return Ok(()) };
        let half = &mut halves[self.handle.side];
        half.finished = true;
        // The last bytes under way say it, too.
        if half.under_way == 0 {
            self.send(&mut state, What::End);
        }
        Ok(())
    }

    fn reset(&mut self, code: u32) {
        let pair = self.handle.pair.clone();
        let mut state = lock(&pair.state);
        self.done = true;
        let over = state.sides[self.handle.side].end.is_some();
        let Some(halves) = state.lanes.get_mut(&self.lane) else { return };
        let half = &mut halves[self.handle.side];
        if !half.reset && !half.end_arrived && !over {
            half.reset = true;
            self.send(&mut state, What::Reset(code));
        }
    }

    fn poll_acknowledged(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LaneError>> {
        let mut state = lock(&self.handle.pair.state);
        let end = state.sides[self.handle.side].end.clone();
        let Some(halves) = state.lanes.get_mut(&self.lane) else { return Poll::Ready(Ok(())) };
        let half = &mut halves[self.handle.side];
        if half.end_arrived {
            return Poll::Ready(Ok(()));
        }
        if let Some(code) = half.stop_arrived {
            return Poll::Ready(Err(LaneError::Stopped { code }));
        }
        if let Some(end) = end {
            return Poll::Ready(Err(LaneError::Lost(end)));
        }
        half.writer.add(cx);
        Poll::Pending
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // An error says that there is nobody to tell.
        let _ = self.finish();
    }
}

/// The receiving half of a lane.
#[derive(Debug)]
struct Reader {
    handle: Arc<Handle>,
    lane: LaneId,
    done: bool,
}

impl LaneReader for Reader {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Vec<u8>>, LaneError>> {
        if self.done {
            return Poll::Ready(Err(LaneError::Closed));
        }
        let pair = self.handle.pair.clone();
        let mut state = lock(&pair.state);
        let state = &mut *state;
        let (own, from) = (self.handle.side, 1 - self.handle.side);
        let end = state.sides[own].end.clone();
        let Some(halves) = state.lanes.get_mut(&self.lane) else { return Poll::Ready(Err(LaneError::Closed)) };
        let half = &mut halves[from];
        if let Some(first) = half.arrived.pop_front() {
            let mut bytes = first;
            half.arrived.drain(..).for_each(|piece| bytes.extend_from_slice(&piece));
            half.bytes -= bytes.len();
            state.sides[from].out_bytes -= bytes.len();
            if state.lanes.values().any(|halves| !halves[from].writer.0.is_empty()) && end.is_none() {
                pair.send(state, own, Piece { lane: self.lane, what: What::Room });
            }
            return Poll::Ready(Ok(Some(bytes)));
        }
        let over = match half.reset_arrived {
            Some(code) => Some(Err(LaneError::Stopped { code })),
            None => half.end_arrived.then_some(Ok(None)),
        };
        if let Some(over) = over {
            half.reader_done = true;
            self.done = over.is_err();
            pair.retire(state, self.lane);
            return Poll::Ready(over);
        }
        if let Some(end) = end {
            return Poll::Ready(Err(LaneError::Lost(end)));
        }
        half.reader.add(cx);
        Poll::Pending
    }

    fn stop(&mut self, code: u32) {
        let pair = self.handle.pair.clone();
        let mut state = lock(&pair.state);
        let state = &mut *state;
        self.done = true;
        let from = 1 - self.handle.side;
        let Some(halves) = state.lanes.get_mut(&self.lane) else { return };
        let half = &mut halves[from];
        if half.stopped || half.reader_done {
            return;
        }
        half.stopped = true;
        let dropped: usize = half.arrived.drain(..).map(|bytes| bytes.len()).sum();
        half.bytes -= dropped;
        state.sides[from].out_bytes -= dropped;
        let over = half.end_arrived || half.reset_arrived.is_some();
        if !over && state.sides[self.handle.side].end.is_none() {
            pair.send(state, self.handle.side, Piece { lane: self.lane, what: What::Stop(code) });
        }
        pair.retire(state, self.lane);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop(0);
    }
}
