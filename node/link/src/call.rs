//! Requests and replies: one stream each.
//!
//! A call ends by its deadline (C4, C9). What it can say about an unanswered request is in
//! [`CallError::is_unsent`]: only then is it certain that the peer did nothing.

use std::{future::Future, time::Duration};

use bytes::Bytes;

use crate::{CloseReason, Connection, FrameError, FrameReceiver, FrameSender, code};

/// How long a served peer may take to send a request after it opened the stream.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// Why a call has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The connection was gone before anything was sent.
    #[error("the request was not sent: {0}")]
    Unsent(CloseReason),
    /// The request is above the limit of a frame; nothing was sent.
    #[error("a request of {bytes} bytes is above the limit of a frame")]
    RequestTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The deadline passed.
    #[error("no reply within {limit:?}")]
    Deadline {
        /// The time that was given.
        limit: Duration,
        /// Whether the request may have reached the peer.
        sent: bool,
    },
    /// Connection or stream were lost after the request may have been sent.
    #[error("no reply: {0}")]
    Lost(FrameError),
    /// The peer finished the stream without a reply.
    #[error("the peer ended the request without a reply")]
    NoReply,
}

impl CallError {
    /// Whether it is certain that the peer has not seen the request.
    pub fn is_unsent(&self) -> bool {
        match self {
            Self::Unsent(_) | Self::RequestTooLarge { .. } => true,
            Self::Deadline { sent, .. } => !sent,
            Self::Lost(_) | Self::NoReply => false,
        }
    }
}

impl Connection {
    /// Sends a request on a stream of its own and waits for the reply, both one frame, for at most
    /// `limit` in total. The peer is told when the wait is given up.
    pub async fn call(&self, request: impl Into<Bytes>, limit: Duration) -> Result<Bytes, CallError> {
        let request = request.into();
        let deadline = self.env().now() + limit;
        let opened = self.env().timeout_at(deadline, self.open_stream()).await;
        let (mut send, mut recv) =
            opened.map_err(|_| CallError::Deadline { limit, sent: false })?.map_err(CallError::Unsent)?;
        let bytes = request.len();
        send.queue_bytes(request).map_err(|_| CallError::RequestTooLarge { bytes })?;
        let exchange = async {
            send.finish().await?;
            recv.recv().await
        };
        match self.env().timeout_at(deadline, exchange).await {
            Ok(Ok(Some(reply))) => Ok(reply),
            Ok(Ok(None)) => Err(CallError::NoReply),
            Ok(Err(e)) => Err(CallError::Lost(e)),
            Err(_) => {
                send.reset(code::DEADLINE);
                recv.stop(code::DEADLINE);
                Err(CallError::Deadline { limit, sent: true })
            }
        }
    }

    /// Serves the requests of the peer until the connection is closed, each by a task of its own, as
    /// many at a time as the peer may open streams.
    ///
    /// A handler is never dropped half-way, also when its caller is gone: it has to bound its own
    /// waits.
    pub async fn serve_calls<H, F>(&self, handler: H) -> CloseReason
    where
        H: Fn(Bytes) -> F + Clone + Send + 'static,
        F: Future<Output = Bytes> + Send + 'static,
    {
        loop {
            let (send, recv) = match self.accept_stream().await {
                Ok(stream) => stream,
                Err(reason) => return reason,
            };
            let (connection, handler) = (self.clone(), handler.clone());
            let serve = async move { connection.serve_call(send, recv, handler).await };
            self.env().spawn("call", serve).detach();
        }
    }

    /// Serves one request on a stream that was accepted elsewhere. Gone callers are no error.
    pub async fn serve_call<F>(&self, mut send: FrameSender, mut recv: FrameReceiver, handler: impl FnOnce(Bytes) -> F)
    where
        F: Future<Output = Bytes>,
    {
        let request = match self.env().timeout(REQUEST_LIMIT, recv.recv()).await {
            Ok(Ok(Some(request))) => request,
            Ok(Ok(None)) | Ok(Err(FrameError::Lost(_) | FrameError::Stopped { .. })) => return,
            bad => {
                tracing::debug!(peer = %self.peer(), ?bad, "request cannot be read");
                send.reset(code::BAD_REQUEST);
                recv.stop(code::BAD_REQUEST);
                return;
            }
        };
        let reply = handler(request).await;
        if let Err(e) = send.queue_bytes(reply) {
            tracing::error!(peer = %self.peer(), error = %e, "reply cannot be sent");
            send.reset(code::BAD_REQUEST);
            return;
        }
        // Bounded by the idle timeout of the connection: a caller that lives reads its reply or
        // gives it up.
        if let Err(e) = send.finish().await {
            tracing::debug!(peer = %self.peer(), error = %e, "the caller of a request is gone");
        }
    }
}
