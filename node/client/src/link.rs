//! The link of a session to one node: dials, says hello, then writes frames and reads answers until it breaks.
//!
//! One task per link and try; its end is reported to the driver, which decides whether to dial again.

use bytes::Bytes;
use ringfleet_abi::{Incarnation, SessionId};
use ringfleet_env::{Env, TaskHandle};
use ringfleet_link::{Alpn, Connection, Endpoint, Expect, FrameError, FrameReceiver, FrameSender, Lanes, Role};
use ringfleet_proto::PeerIdentity;
use ringfleet_proto::wire::{Frame, Hello, decode, encode_hello, negotiate};
use std::time::Duration;
use tokio::sync::mpsc;

use crate::driver::Input;

/// How long dialling a node and saying hello may take.
const DIAL_LIMIT: Duration = Duration::from_secs(2);

/// What a link task needs.
pub(crate) struct Target {
    pub(crate) env: Env,
    pub(crate) endpoint: Endpoint,
    /// The number of this try.
    pub(crate) link: u64,
    pub(crate) session: SessionId,
    pub(crate) incarnation: Incarnation,
    /// The node's name, which its certificate must bear.
    pub(crate) name: String,
    pub(crate) addr: String,
    pub(crate) placement_index: u64,
    pub(crate) inbox: mpsc::Sender<Input>,
}

/// A running link task. Dropping it ends the task and closes the connection.
#[derive(Debug)]
pub(crate) struct LinkTask {
    id: u64,
    // Unbounded as a type only: what lies in it was not accepted yet, and the protocol's window for one peer bounds that (C9).
    frames: mpsc::UnboundedSender<Vec<u8>>,
    _task: TaskHandle,
}

impl LinkTask {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Hands a frame over. A link that is ending drops it; the driver hears of the end and sends again.
    pub(crate) fn send(&self, frame: Vec<u8>) {
        let _ = self.frames.send(frame);
    }
}

/// Starts a link task.
pub(crate) fn start(target: Target) -> LinkTask {
    let (frames, outgoing) = mpsc::unbounded_channel();
    let (id, env) = (target.link, target.env.clone());
    let task = async move {
        let (incarnation, link, inbox) = (target.incarnation, target.link, target.inbox.clone());
        let reason = run(target, outgoing).await.err().unwrap_or_else(|| "closed".to_owned());
        // The driver has ended: nobody is left to be told.
        let _ = inbox.send(Input::Down { incarnation, link, reason }).await;
    };
    LinkTask { id, frames, _task: env.spawn("client link", task).abort_on_drop() }
}

async fn run(target: Target, mut outgoing: mpsc::UnboundedReceiver<Vec<u8>>) -> Result<(), String> {
    let connecting = target.env.timeout(DIAL_LIMIT, open(&target));
    let (connection, mut lanes) =
        connecting.await.map_err(|elapsed| format!("dialling {}: {elapsed}", target.addr))??;
    let up = Input::Up { incarnation: target.incarnation, link: target.link };
    target.inbox.send(up).await.map_err(|_| "the session has ended".to_owned())?;
    let ended = tokio::select! {
        biased;
        ended = write(&mut lanes.data_out, &mut outgoing) => ended,
        ended = read(&target, &mut lanes.answers_in) => ended,
    };
    connection.close(ringfleet_link::code::NORMAL, "the session closes the link");
    ended
}

/// Dials and says hello; the answer must come from the start of the node that was wanted (C2, C11).
async fn open(target: &Target) -> Result<(Connection, Lanes), String> {
    let addr = &target.addr;
    let resolved = target.env.resolve(addr).await.map_err(|error| format!("resolving {addr}: {error}"))?;
    let first = *resolved.first().ok_or_else(|| format!("resolving {addr}: no address"))?;
    let expect = Expect::named(Role::Node, &target.name);
    let connection = target.endpoint.connect(first, Alpn::Data, expect, DIAL_LIMIT).await.map_err(|e| e.to_string())?;
    let mut lanes = connection.open_lanes(DIAL_LIMIT).await.map_err(|error| format!("{addr}: {error}"))?;
    let mut hello = Vec::new();
    let identity = PeerIdentity::Client { session: target.session };
    encode_hello(&Hello::new(identity, target.placement_index), &mut hello);
    let lost = |error: FrameError| match connection.close_reason() {
        // What the node wrote when it refused says more than that the stream is gone.
        Some(reason) => format!("{addr}: {reason}"),
        None => format!("{addr}: {error}"),
    };
    lanes.answers_out.send(&hello).await.map_err(lost)?;
    let theirs = lanes.answers_in.recv().await.map_err(lost)?;
    let theirs = theirs.ok_or_else(|| format!("{addr}: closed before its hello"))?;
    match decode(&theirs).map_err(|error| format!("{addr}: {error}"))? {
        Frame::Hello(theirs) => {
            negotiate(&theirs).map_err(|error| format!("{addr}: {error}"))?;
            match theirs.identity {
                PeerIdentity::Node { incarnation, .. } if incarnation == target.incarnation => {}
                other => return Err(format!("{addr}: is {other:?} and not incarnation {}", target.incarnation)),
            }
        }
        Frame::Goodbye(reason) => return Err(format!("{addr}: refused the session: {}", reason.name())),
        _ => return Err(format!("{addr}: its first frame is no hello")),
    }
    Ok((connection, lanes))
}

/// Writes frames as they come, many with one flush.
async fn write(data: &mut FrameSender, outgoing: &mut mpsc::UnboundedReceiver<Vec<u8>>) -> Result<(), String> {
    while let Some(frame) = outgoing.recv().await {
        data.queue_bytes(Bytes::from(frame)).map_err(|error| error.to_string())?;
        while let Ok(frame) = outgoing.try_recv() {
            data.queue_bytes(Bytes::from(frame)).map_err(|error| error.to_string())?;
        }
        data.flush().await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Hands what comes to the driver. A full inbox stops the reading, and through it the node.
async fn read(target: &Target, answers: &mut FrameReceiver) -> Result<(), String> {
    while let Some(frame) = answers.recv().await.map_err(|error| error.to_string())? {
        let input = Input::Frame { incarnation: target.incarnation, link: target.link, frame };
        target.inbox.send(input).await.map_err(|_| "the session has ended".to_owned())?;
    }
    Err("the node ended the lane".to_owned())
}
