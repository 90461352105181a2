//! The network as openraft wants it, on a [`Transport`].

use super::rpc::{Letter, RaftReply, RaftRequest, SnapshotPiece, decode, encode};
use super::types::{Snapshot, Types, Vote};
use crate::config::Peer;
use crate::transport::Transport;
use bytes::Bytes;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend};
use ringfleet_abi::mutants::{Mutant, is_on};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a piece of a snapshot: half a frame.
const PIECE_BYTES: usize = 512 << 10;
/// How long one piece may take.
const PIECE_LIMIT: Duration = Duration::from_secs(5);

/// Makes a [`Network`] per coordinator.
pub struct Networks {
    /// The way to the others.
    pub transport: Arc<dyn Transport>,
}

impl RaftNetworkFactory<Types> for Networks {
    type Network = Network;

    async fn new_client(&mut self, target: u64, node: &Peer) -> Network {
        Network { transport: self.transport.clone(), id: target, peer: node.clone() }
    }
}

/// The way to one coordinator.
pub struct Network {
    transport: Arc<dyn Transport>,
    id: u64,
    peer: Peer,
}

impl Network {
    async fn ask(&self, request: RaftRequest, limit: Duration) -> Result<RaftReply, RPCError<Types>> {
        let bytes = encode(&Letter { to: self.id, request }).map_err(broken)?;
        // Unreachable makes openraft wait a little before it tries again, which suits every transport error.
        let reply = self.transport.call(&self.peer, bytes, limit).await;
        let reply = reply.map_err(|e| RPCError::Unreachable(Unreachable::new(&e)))?;
        match decode(&reply).map_err(broken)? {
            // As if nobody were there: for the group nobody is.
            RaftReply::NotMe { id } => {
                let other = AnyError::error(format!(
                    "coordinator `{}` has number {id:x} now, not {:x}",
                    self.peer.name, self.id
                ));
                Err(RPCError::Unreachable(Unreachable::new(&other)))
            }
            RaftReply::Failed(reason) => Err(broken(format!("coordinator `{}`: {reason}", self.peer.name))),
            reply => Ok(reply),
        }
    }
}

fn broken(reason: String) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(&AnyError::error(reason)))
}

fn other_reply<T>() -> Result<T, RPCError<Types>> {
    Err(broken("the reply answers another request".to_owned()))
}

fn streaming(error: RPCError<Types>) -> StreamingError<Types> {
    match error {
        RPCError::Unreachable(e) => StreamingError::Unreachable(e),
        RPCError::Network(e) => StreamingError::Network(e),
        RPCError::Timeout(e) => StreamingError::Timeout(e),
        RPCError::RemoteError(e) => StreamingError::Network(NetworkError::new(&e)),
    }
}

impl RaftNetworkV2<Types> for Network {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        match self.ask(RaftRequest::Append(request), option.soft_ttl()).await? {
            RaftReply::Append(response) => Ok(response),
            _ => other_reply(),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let asked = request.vote;
        match self.ask(RaftRequest::Vote(request), option.soft_ttl()).await {
            Err(_) if is_on(Mutant::QuorumMinusOne) => Ok(VoteResponse::new(asked, None, true)),
            Err(error) => Err(error),
            Ok(RaftReply::Vote(response)) => Ok(response),
            _ => other_reply(),
        }
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let asked = request.vote;
        match self.ask(RaftRequest::PreVote(request), option.soft_ttl()).await {
            Err(_) if is_on(Mutant::QuorumMinusOne) => Ok(VoteResponse::new(asked, None, true)),
            Err(error) => Err(error),
            Ok(RaftReply::Vote(response)) => Ok(response),
            _ => other_reply(),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let mut cancel = std::pin::pin!(cancel);
        let data = &snapshot.snapshot;
        let mut offset = 0;
        loop {
            let end = data.len().min(offset + PIECE_BYTES);
            let piece = RaftRequest::Snapshot(SnapshotPiece {
                vote,
                meta: snapshot.meta.clone(),
                total_bytes: data.len() as u64,
                offset_bytes: offset as u64,
                bytes: data[offset..end].to_vec(),
            });
            let reply = tokio::select! {
                biased;
                closed = &mut cancel => return Err(StreamingError::Closed(closed)),
                reply = self.ask(piece, PIECE_LIMIT) => reply.map_err(streaming)?,
            };
            match reply {
                RaftReply::Snapshot(response) => return Ok(response),
                RaftReply::PieceTaken if end < data.len() => offset = end,
                _ => return other_reply().map_err(streaming),
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        match self.ask(RaftRequest::TransferLeader(request), option.soft_ttl()).await? {
            RaftReply::TransferLeader(response) => Ok(response),
            _ => other_reply(),
        }
    }
}
