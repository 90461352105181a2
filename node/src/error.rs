//! Why an agent does not run.

use std::{io, net::SocketAddr};

/// Why an agent could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Its identity could not be read or is not a node's of this name and cluster.
    #[error("loading the identity of node {name}: {reason}")]
    Identity {
        /// The node.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The UDP port could not be opened.
    #[error("opening the data port: {reason}")]
    Bind {
        /// What is wrong; names the address.
        reason: String,
    },
    /// The HTTP port could not be opened.
    #[error("opening the health port {addr}: {source}")]
    Http {
        /// The address asked for.
        addr: SocketAddr,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// A device did not start.
    #[error("starting device {index}: {reason}")]
    Device {
        /// Which.
        index: u16,
        /// What is wrong.
        reason: String,
    },
    /// A thread could not be started.
    #[error("starting a thread: {0}")]
    Thread(#[source] io::Error),
    /// A coordinator refuses this node.
    #[error("joining cluster {cluster} as {name}: {reason}")]
    Refused {
        /// The cluster.
        cluster: String,
        /// The node.
        name: String,
        /// Its words.
        reason: String,
    },
    /// No coordinator answered in time.
    #[error("joining cluster {cluster} as {name}: no coordinator of {tried} answered in {seconds} s; last: {last}")]
    Unreachable {
        /// The cluster.
        cluster: String,
        /// The node.
        name: String,
        /// The addresses tried.
        tried: String,
        /// For how long.
        seconds: u64,
        /// The last failure.
        last: String,
    },
    /// A device's pump or worker ended by itself.
    #[error("device {index} has failed")]
    DeviceFailed {
        /// Which.
        index: u16,
    },
    /// The agent's loop ended by a bug.
    #[error("the agent's loop has ended by a bug ({end})")]
    AgentFailed {
        /// How.
        end: String,
    },
}
