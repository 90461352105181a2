//! Links: the tasks that carry frames between connections and the agent's loop.
//!
//! ```text
//!   listener --accepted--> handshake --\                 /--> reader of answers --> [answers, bounded]  \
//!                                       >-- LinkUp -----<---> reader of data -----> [data, per link]     >-- agent's loop
//!   Action::Connect --> dial, handshake/                 \--< writer per lane <---- [frames, bounded]   /
//! ```
//!
//! * The loop takes a data frame only when the protocol has room for it ([`ringfleet_proto::NodeProto::can_read_data`]); the reader
//!   has at most [`DATA_FRAMES_AHEAD`] frames in hand and then stops reading, so the transport stops the sender (C9).
//! * A peer that does not read what it is sent is closed once `WRITE_BYTES_MAX` wait for it (C9).
//! * There are at most [`NODE_LINKS_MAX`] links that nodes have made and [`LinksConfig::clients_max`] of clients; one more is refused with
//!   the reason, and counted (C9). Each session has one link to a node at a time, so this bounds the sessions that talk to it, too.
//!   A link whose peer has gone without a word keeps its place until that is noticed, by the idle timeout or by the session's next link,
//!   which replaces it: a session that dials anew has two for a moment, and at the bound it is refused until the idle timeout.
//! * C11: who is at the other end is what its certificate says; its `Hello` must say the same, in the view's words for a node (name and
//!   incarnation), in the coordinator's for a client (who opened the session).

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use ringfleet_abi::{Incarnation, NodeId};
use ringfleet_env::{Env, TaskHandle};
use ringfleet_link::{Alpn, Connection, Endpoint, Expect, FrameReceiver, FrameSender, Lanes, Role};
use ringfleet_proto::{
    Lane, LinkId, PeerIdentity,
    control::{NodeView, Verb, allowed},
    wire::{self, Frame, Hello},
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::{membership::Request, shared::Shared};

/// Data frames of one link that wait for the loop.
pub const DATA_FRAMES_AHEAD: usize = 8;
/// Answer frames of all links that wait for the loop. Readers wait at the bound; the loop always drains.
const ANSWERS_AHEAD: usize = 1024;
/// Bytes that wait to be written to one lane. More means that the peer does not read: the link is closed.
const WRITE_BYTES_MAX: usize = 64 << 20;
/// How long handshake and identity check may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(3);
/// Accepted connections in their handshake; one more is refused.
const HANDSHAKES_MAX: usize = 256;
/// How long one dial may take.
const DIAL_LIMIT: Duration = Duration::from_secs(1);
/// Links of other nodes. One more is refused, and dialled again by the other side.
pub const NODE_LINKS_MAX: usize = 1024;
/// Written frame buffers kept for reuse.
const SPARE_MAX: usize = 256;

/// What links tell the loop, in order per link.
#[derive(Debug)]
pub enum LinkEvent {
    /// A link is up.
    Up(Box<Link>),
    /// A frame of the answers lane.
    Answers(LinkId, Bytes),
    /// The link is down; nothing follows from it.
    Down(LinkId, String),
    /// A dial has failed.
    DialFailed(Incarnation, String),
}

/// One link, as the loop holds it.
#[derive(Debug)]
pub struct Link {
    /// Its number.
    pub id: LinkId,
    /// Who is at the other end.
    pub peer: PeerIdentity,
    /// The certificate's words for it, for logs.
    pub peer_name: String,
    /// Data frames that have arrived.
    pub data: mpsc::Receiver<Bytes>,
    connection: Connection,
    writers: [Arc<WriteQueue>; 2],
    _tasks: Vec<TaskHandle>,
}

impl Link {
    /// Queues a frame; `false` if so much waits already that the peer does not read.
    #[must_use]
    pub fn send(&self, lane: Lane, frame: Vec<u8>) -> bool {
        self.writers[lane as usize].push(frame)
    }

    /// Moves written buffers to `into`, for reuse.
    pub fn take_spares(&self, into: &mut Vec<Vec<u8>>) {
        for writer in &self.writers {
            // The loop asks in every turn: no lock, and no write, where nothing was written.
            if writer.written.load(Ordering::Relaxed) {
                // Before the lock: what is written after it says so again.
                writer.written.store(false, Ordering::Relaxed);
                into.append(&mut writer.lock().spares);
            }
        }
    }

    /// Closes it. What is queued may be lost; the protocol sends it again.
    pub fn close(&self, reason: &str) {
        self.connection.close(ringfleet_link::code::NORMAL, reason);
    }
}

#[derive(Debug, Default)]
struct Queued {
    frames: VecDeque<Vec<u8>>,
    /// Of the frames above and of those that are being written.
    bytes: usize,
    spares: Vec<Vec<u8>>,
}

/// Frames that wait for the writer of a lane.
#[derive(Debug, Default)]
struct WriteQueue {
    queued: Mutex<Queued>,
    notify: Notify,
    waiting: AtomicBool,
    /// Frames have been written since the spares were taken.
    written: AtomicBool,
}

impl WriteQueue {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queued> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, frame: Vec<u8>) -> bool {
        let mut queued = self.lock();
        if queued.bytes + frame.len() > WRITE_BYTES_MAX {
            return false;
        }
        queued.bytes += frame.len();
        queued.frames.push_back(frame);
        drop(queued);
        if self.waiting.swap(false, Ordering::AcqRel) {
            self.notify.notify_one();
        }
        true
    }

    /// Writes what is queued until the stream breaks.
    async fn write(self: Arc<Self>, mut sender: FrameSender) -> String {
        let mut batch = VecDeque::new();
        loop {
            let notified = self.notify.notified();
            {
                let mut queued = self.lock();
                std::mem::swap(&mut queued.frames, &mut batch);
                if batch.is_empty() {
                    self.waiting.store(true, Ordering::Release);
                }
            }
            if batch.is_empty() {
                notified.await;
                continue;
            }
            for frame in &batch {
                if let Err(error) = sender.queue(frame) {
                    return error.to_string();
                }
            }
            if let Err(error) = sender.flush().await {
                return error.to_string();
            }
            let mut queued = self.lock();
            for mut frame in batch.drain(..) {
                queued.bytes -= frame.len();
                if queued.spares.len() < SPARE_MAX {
                    frame.clear();
                    queued.spares.push(frame);
                }
            }
            drop(queued);
            self.written.store(true, Ordering::Relaxed);
        }
    }
}

/// Makes links and gives their events to the loop.
#[derive(Clone, Debug)]
pub struct Links {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    env: Env,
    endpoint: Endpoint,
    node: NodeId,
    incarnation: Incarnation,
    view: watch::Receiver<Option<Arc<NodeView>>>,
    requests: mpsc::Sender<Request>,
    events: mpsc::Sender<LinkEvent>,
    agent: Arc<Notify>,
    handshakes: Arc<Semaphore>,
    node_links: Arc<Semaphore>,
    client_links: Arc<Semaphore>,
    shared: Arc<Shared>,
    next_id: std::sync::atomic::AtomicU64,
}

/// Who this node is and whom it asks about others.
#[derive(Debug)]
pub struct LinksConfig {
    /// This node.
    pub node: NodeId,
    /// This start of it.
    pub incarnation: Incarnation,
    /// The youngest view: which nodes there are.
    pub view: watch::Receiver<Option<Arc<NodeView>>>,
    /// Where sessions are looked up.
    pub requests: mpsc::Sender<Request>,
    /// Woken with every event.
    pub agent: Arc<Notify>,
    /// Links of clients at a time.
    pub clients_max: usize,
    /// Where refusals are counted.
    pub shared: Arc<Shared>,
}

impl Links {
    /// Makes links over `endpoint`.
    #[must_use]
    pub fn new(env: &Env, endpoint: Endpoint, config: LinksConfig) -> (Self, mpsc::Receiver<LinkEvent>) {
        let (events, receiver) = mpsc::channel(ANSWERS_AHEAD);
        let LinksConfig { node, incarnation, view, requests, agent, clients_max, shared } = config;
        let inner = Inner {
            env: env.clone(),
            endpoint,
            node,
            incarnation,
            view,
            requests,
            events,
            agent,
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            node_links: Arc::new(Semaphore::new(NODE_LINKS_MAX)),
            client_links: Arc::new(Semaphore::new(clients_max.min(Semaphore::MAX_PERMITS))),
            shared,
            next_id: std::sync::atomic::AtomicU64::new(1),
        };
        (Self { inner: Arc::new(inner) }, receiver)
    }

    /// Takes an accepted connection through the handshake, in a task of its own.
    pub fn accepted(&self, connection: Connection) {
        let Ok(slot) = self.inner.handshakes.clone().try_acquire_owned() else {
            connection.close(ringfleet_link::code::REFUSED, "too many handshakes are under way");
            return;
        };
        let links = self.clone();
        let accept = async move {
            let _slot = slot;
            if let Err(why) = links.accept(&connection).await {
                tracing::warn!(peer = %connection.peer(), %why, "link refused");
                connection.close(ringfleet_link::code::REFUSED, &why);
            }
        };
        self.inner.env.spawn("link-accept", accept).detach();
    }

    /// Dials a node, in a task of its own; ends in [`LinkEvent::Up`] or [`LinkEvent::DialFailed`].
    pub fn dial(&self, node: NodeId, incarnation: Incarnation, addr: String) {
        let links = self.clone();
        let dial = async move {
            if let Err(why) = links.connect(node, incarnation, &addr).await {
                links.tell(LinkEvent::DialFailed(incarnation, format!("{addr}: {why}"))).await;
            }
        };
        self.inner.env.spawn("link-dial", dial).detach();
    }

    async fn connect(&self, node: NodeId, incarnation: Incarnation, addr: &str) -> Result<(), String> {
        let inner = &self.inner;
        let name = self.member_name(incarnation).ok_or("the node is not in the view")?;
        let deadline = inner.env.now() + DIAL_LIMIT;
        let resolved = inner.env.timeout_at(deadline, inner.env.resolve(addr)).await;
        let resolved = resolved.map_err(|_| "its name is not resolved in time")?.map_err(|error| error.to_string())?;
        let addr = *resolved.first().ok_or("no address")?;
        let expect = Expect::named(Role::Node, &name);
        let left = deadline.saturating_since(inner.env.now());
        let connection =
            inner.endpoint.connect(addr, Alpn::Data, expect, left).await.map_err(|error| error.to_string())?;
        let lanes = connection.open_lanes(HANDSHAKE_LIMIT).await.map_err(|error| error.to_string());
        let shaken = match lanes {
            Ok(lanes) => {
                let shake = self.greet(lanes, PeerIdentity::Node { node, incarnation });
                let limited = inner.env.timeout(HANDSHAKE_LIMIT, shake).await;
                limited.unwrap_or_else(|_| Err("no hello in time".to_owned()))
            }
            Err(why) => Err(why),
        };
        match shaken {
            Ok(lanes) => {
                // The view bounds these: one for each member.
                self.run(connection, PeerIdentity::Node { node, incarnation }, lanes, None).await;
                Ok(())
            }
            Err(why) => {
                connection.close(ringfleet_link::code::NORMAL, "handshake failed");
                Err(why)
            }
        }
    }

    /// The dialler's side of the handshake: says hello and checks that the answer comes from whom it wanted.
    async fn greet(&self, mut lanes: Lanes, wanted: PeerIdentity) -> Result<Lanes, String> {
        let mut bytes = Vec::new();
        wire::encode_hello(&self.hello(), &mut bytes);
        lanes.answers_out.send(&bytes).await.map_err(|error| error.to_string())?;
        let theirs = read_hello(&mut lanes).await?;
        if theirs.identity != wanted {
            return Err(format!("wanted {wanted:?}, there is {:?}", theirs.identity));
        }
        wire::negotiate(&theirs).map_err(|error| error.to_string())?;
        Ok(lanes)
    }

    async fn accept(&self, connection: &Connection) -> Result<(), String> {
        let env = &self.inner.env;
        let mut lanes = connection.accept_lanes(HANDSHAKE_LIMIT).await.map_err(|error| error.to_string())?;
        let shake = async {
            let theirs = read_hello(&mut lanes).await?;
            let version = wire::negotiate(&theirs).map_err(|error| error.to_string())?;
            self.check_identity(connection, theirs.identity).await?;
            let slot = self.slot(theirs.identity)?;
            let mut bytes = Vec::new();
            wire::encode_hello(&self.hello().picking(version), &mut bytes);
            lanes.answers_out.send(&bytes).await.map_err(|error| error.to_string())?;
            Ok::<_, String>((theirs.identity, slot))
        };
        let (peer, slot) = env.timeout(HANDSHAKE_LIMIT, shake).await.map_err(|_| "no hello in time".to_owned())??;
        self.run(connection.clone(), peer, lanes, Some(slot)).await;
        Ok(())
    }

    /// A place among the links that others have made.
    fn slot(&self, peer: PeerIdentity) -> Result<OwnedSemaphorePermit, String> {
        let (slots, refused, what) = match peer {
            PeerIdentity::Node { .. } => (&self.inner.node_links, &self.inner.shared.links_refused[0], "nodes"),
            PeerIdentity::Client { .. } => (&self.inner.client_links, &self.inner.shared.links_refused[1], "clients"),
        };
        slots.clone().try_acquire_owned().map_err(|_| {
            refused.fetch_add(1, Ordering::Relaxed);
            format!("this node has as many links of {what} as it may have")
        })
    }

    /// C11: the certificate must be that of the identity which the peer claims.
    async fn check_identity(&self, connection: &Connection, claimed: PeerIdentity) -> Result<(), String> {
        let peer = connection.peer();
        match claimed {
            PeerIdentity::Node { node, incarnation } => {
                if peer.role() != Role::Node {
                    return Err(format!("{peer} says that it is a node"));
                }
                let mut view = self.inner.view.clone();
                // A node that has just joined may be here before the view that says so; the caller bounds the wait.
                let seen = view.wait_for(|view| view.as_ref().is_some_and(|view| view.index >= incarnation.0)).await;
                let seen = seen.map_err(|_| "this node is leaving".to_owned())?;
                let member = seen
                    .as_ref()
                    .and_then(|view| view.members.iter().find(|member| member.incarnation == incarnation.0));
                match member {
                    Some(member) if member.name == peer.name() && member.node == node.0 => Ok(()),
                    Some(member) if member.name == peer.name() => {
                        Err(format!("{peer} says that its id is {node}, it is {}", member.node))
                    }
                    Some(member) => Err(format!("{peer} says that it is node {}", member.name)),
                    None => Err(format!("incarnation {incarnation} is not a live member")),
                }
            }
            PeerIdentity::Client { session } => {
                let role = ringfleet_proto::control::Role::from_name(peer.role().as_str());
                if !role.is_some_and(|role| allowed(role, Verb::Tell)) {
                    return Err(format!("{peer} may not tell actors anything"));
                }
                let (answer, answered) = oneshot::channel();
                let request = Request::Session { session, answer };
                self.inner.requests.send(request).await.map_err(|_| "this node is leaving".to_owned())?;
                let owner = answered
                    .await
                    .map_err(|_| "this node is leaving".to_owned())?
                    .map_err(|failure| format!("session {session} not found: {failure}"))?;
                if Some(owner.role) == role && owner.name == peer.name() {
                    Ok(())
                } else {
                    Err(format!("session {session} belongs to another identity than {peer}"))
                }
            }
        }
    }

    fn hello(&self) -> Hello {
        let index = self.inner.view.borrow().as_ref().map_or(0, |view| view.index);
        Hello::new(PeerIdentity::Node { node: self.inner.node, incarnation: self.inner.incarnation }, index)
    }

    fn member_name(&self, incarnation: Incarnation) -> Option<String> {
        let view = self.inner.view.borrow();
        let mut members = view.as_ref()?.members.iter();
        members.find(|member| member.incarnation == incarnation.0).map(|member| member.name.clone())
    }

    /// Tells the loop; `false` if it has ended.
    async fn tell(&self, event: LinkEvent) -> bool {
        let told = self.inner.events.send(event).await.is_ok();
        if told {
            self.inner.agent.notify_one();
        }
        told
    }

    /// Starts the tasks of a link and hands it to the loop.
    async fn run(&self, connection: Connection, peer: PeerIdentity, lanes: Lanes, slot: Option<OwnedSemaphorePermit>) {
        let id = LinkId(self.inner.next_id.fetch_add(1, Ordering::Relaxed));
        let (data_tx, data) = mpsc::channel(DATA_FRAMES_AHEAD);
        let writers = [Arc::new(WriteQueue::default()), Arc::new(WriteQueue::default())];
        let Lanes { data_out, data_in, answers_out, answers_in } = lanes;
        let (up, may_begin) = oneshot::channel::<()>();
        let read = self.clone().read(id, data_in, answers_in, data_tx);
        let write_data = writers[Lane::Data as usize].clone().write(data_out);
        let write_answers = writers[Lane::Answers as usize].clone().write(answers_out);
        let watch = {
            let (links, connection) = (self.clone(), connection.clone());
            async move {
                let _slot = slot;
                // Before anything else, so that no link is down, or has frames, before the loop has been told that it is up.
                if may_begin.await.is_err() {
                    connection.close(ringfleet_link::code::NORMAL, "the node is leaving");
                    return;
                }
                let why = tokio::select! {
                    biased;
                    why = read => why,
                    why = write_data => why,
                    why = write_answers => why,
                    why = connection.closed() => why.to_string(),
                };
                connection.close(ringfleet_link::code::NORMAL, "link is down");
                links.tell(LinkEvent::Down(id, why)).await;
            }
        };
        let task = self.inner.env.spawn("link", watch).abort_on_drop();
        let peer_name = connection.peer().to_string();
        let link = Link { id, peer, peer_name, data, connection, writers, _tasks: vec![task] };
        if self.tell(LinkEvent::Up(Box::new(link))).await {
            // The link may be gone again already.
            let _ = up.send(());
        }
    }

    /// Reads both lanes until one breaks; says why.
    async fn read(
        self,
        id: LinkId,
        mut data_in: FrameReceiver,
        mut answers_in: FrameReceiver,
        data: mpsc::Sender<Bytes>,
    ) -> String {
        let agent = self.inner.agent.clone();
        let read_data = async {
            loop {
                match data_in.recv().await {
                    Ok(Some(frame)) => {
                        if data.send(frame).await.is_err() {
                            return "the loop has dropped the link".to_owned();
                        }
                        agent.notify_one();
                    }
                    Ok(None) => return "the peer has ended the data lane".to_owned(),
                    Err(error) => return error.to_string(),
                }
            }
        };
        let read_answers = async {
            loop {
                match answers_in.recv().await {
                    Ok(Some(frame)) => {
                        if !self.tell(LinkEvent::Answers(id, frame)).await {
                            return "the loop has ended".to_owned();
                        }
                    }
                    Ok(None) => return "the peer has ended the answers lane".to_owned(),
                    Err(error) => return error.to_string(),
                }
            }
        };
        tokio::select! {
            biased;
            why = read_data => why,
            why = read_answers => why,
        }
    }
}

async fn read_hello(lanes: &mut Lanes) -> Result<Hello, String> {
    let frame = lanes.answers_in.recv().await.map_err(|error| error.to_string())?;
    let frame = frame.ok_or("the peer has ended the answers lane")?;
    match wire::decode(&frame).map_err(|error| error.to_string())? {
        Frame::Hello(hello) => Ok(hello),
        Frame::Goodbye(reason) => Err(format!("the peer says goodbye: {}", reason.name())),
        _ => Err("the peer's first frame is not a hello".to_owned()),
    }
}
