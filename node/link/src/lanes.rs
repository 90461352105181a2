//! Lanes: the two ordered streams of a data connection.
//!
//! A receiver that has no room stops reading the data lane and the transport then stops the sender, while acknowledgements and
//! replies still flow on the answers lane: were both on one stream, two nodes with full buffers would wait for each other's
//! acknowledgements (C9).
//!
//! The dialler opens both streams and names each in its first frame, one byte; so the listener need not guess which of two
//! streams, whose first packets may overtake each other, is which. What the first frames after that mean (a `Hello` each way, on
//! the answers lane) is decided above (`ringfleet-proto`).

use std::time::Duration;

use crate::{CloseReason, Connection, FrameError, FrameReceiver, FrameSender};

/// The name of the data lane in its first frame.
const NAME_DATA: &[u8] = &[0xD0];
/// The name of the answers lane in its first frame.
const NAME_ANSWERS: &[u8] = &[0xA0];

/// Both lanes of one side of a data connection.
#[derive(Debug)]
pub struct Lanes {
    /// Messages, this side to the other.
    pub data_out: FrameSender,
    /// Messages, the other side to this.
    pub data_in: FrameReceiver,
    /// Acknowledgements and replies, this side to the other.
    pub answers_out: FrameSender,
    /// Acknowledgements and replies, the other side to this.
    pub answers_in: FrameReceiver,
}

/// Why a connection has no lanes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LanesError {
    /// The connection was closed.
    #[error("opening the lanes of a connection: {0}")]
    Closed(#[from] CloseReason),
    /// A stream broke.
    #[error("opening the lanes of a connection: {0}")]
    Stream(#[from] FrameError),
    /// The streams are not a data lane and an answers lane.
    #[error("the peer's streams are not the two lanes of a data connection")]
    NotLanes,
    /// It took too long.
    #[error("the lanes of a connection were not open within {limit:?}")]
    Deadline {
        /// The time that was given.
        limit: Duration,
    },
}

impl Connection {
    /// Opens the lanes, on the side that has dialled.
    ///
    /// # Errors
    /// [`LanesError`]; the connection is of no use then.
    pub async fn open_lanes(&self, limit: Duration) -> Result<Lanes, LanesError> {
        let open = async {
            let (mut answers_out, answers_in) = self.open_stream().await?;
            let (mut data_out, data_in) = self.open_stream().await?;
            answers_out.send(NAME_ANSWERS).await?;
            data_out.send(NAME_DATA).await?;
            Ok(Lanes { data_out, data_in, answers_out, answers_in })
        };
        self.env().timeout(limit, open).await.map_err(|_| LanesError::Deadline { limit })?
    }

    /// Takes the lanes that the other side opens, on the side that has listened.
    ///
    /// # Errors
    /// [`LanesError`]; the connection is of no use then.
    pub async fn accept_lanes(&self, limit: Duration) -> Result<Lanes, LanesError> {
        let accept = async {
            let (mut data, mut answers) = (None, None);
            for _ in 0..2 {
                let (out, mut inn) = self.accept_stream().await?;
                let name = inn.recv().await?;
                let lane = match name.as_deref() {
                    Some(NAME_DATA) => &mut data,
                    Some(NAME_ANSWERS) => &mut answers,
                    _ => return Err(LanesError::NotLanes),
                };
                *lane = Some((out, inn));
            }
            match (data, answers) {
                (Some((data_out, data_in)), Some((answers_out, answers_in))) => {
                    Ok(Lanes { data_out, data_in, answers_out, answers_in })
                }
                _ => Err(LanesError::NotLanes),
            }
        };
        self.env().timeout(limit, accept).await.map_err(|_| LanesError::Deadline { limit })?
    }
}
