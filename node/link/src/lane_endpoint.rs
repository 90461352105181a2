//! Dialling and listening over a simulator's lanes ([`LaneSocket`]), where there is no QUIC and no TLS.
//!
//! Who somebody is, the simulator says; what is done with that - whom a dialler expects, whom a listener admits, and that neither has
//! a [`Connection`] before (C11) - is the same as over QUIC. Chains, signatures and validity of certificates are not looked at.

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ringfleet_env::{LaneConnection, LaneEnd, LaneHello, LaneLimits, LaneSocket};
use tokio::sync::mpsc;

use crate::{
    Alpn, CertificateFault, ConnectError, Connection, Expect, Identity, LinkConfig, PeerId, RoleSet,
    connection::{self, code, one_line},
    endpoint::Inner,
};

/// Codes by which QUIC itself would refuse: a busy listener, no common protocol (RFC 9000, 20.1; RFC 9001, 4.8).
const BUSY: u32 = 0x2;
const NO_PROTOCOL: u32 = 0x178;

/// What a process says of itself: as a listener where no protocol is asked for.
pub(crate) fn hello(identity: &Identity, alpn: Option<Alpn>, config: &LinkConfig) -> LaneHello {
    LaneHello {
        identity: identity.peer().to_string(),
        protocol: alpn.map_or_else(String::new, |alpn| alpn.as_str().to_owned()),
        limits: LaneLimits {
            idle_timeout: config.idle_timeout,
            keep_alive: config.keep_alive,
            lanes_max: config.streams_max,
            lane_bytes_max: config.stream_window_bytes as usize,
            connection_bytes_max: config.connection_window_bytes.min(config.send_window_bytes) as usize,
            arrivals_max: config.handshakes_max,
        },
    }
}

fn peer_of(connection: &dyn LaneConnection) -> Result<(PeerId, String), CertificateFault> {
    let hello = connection.peer().ok_or_else(|| CertificateFault::BadIdentity("none was shown".to_owned()))?;
    Ok((hello.identity.parse().map_err(CertificateFault::BadIdentity)?, hello.protocol))
}

/// [`crate::Endpoint::connect`].
pub(crate) async fn connect(
    inner: &Inner,
    socket: &dyn LaneSocket,
    addr: SocketAddr,
    alpn: Alpn,
    expect: &Expect,
    limit: Duration,
) -> Result<Connection, ConnectError> {
    let own = inner.identity();
    let connection = socket.dial(addr, hello(&own, Some(alpn), &inner.config));
    match inner.env.timeout(limit, poll_fn(|cx| connection.poll_established(cx))).await {
        Ok(Ok(())) => {}
        Ok(Err(LaneEnd::Peer { code: code::REFUSED, reason })) => {
            return Err(ConnectError::NotAllowed { addr, reason: one_line(reason.as_bytes()) });
        }
        Ok(Err(LaneEnd::Peer { code: BUSY, .. })) => return Err(ConnectError::Busy { addr }),
        Ok(Err(LaneEnd::Peer { code: NO_PROTOCOL, .. })) => return Err(ConnectError::Protocol { addr, alpn }),
        Ok(Err(LaneEnd::Local)) => return Err(ConnectError::EndpointClosed { addr }),
        Ok(Err(LaneEnd::TimedOut)) | Err(_) => return Err(ConnectError::NoAnswer { addr, limit }),
        Ok(Err(end)) => {
            return Err(ConnectError::Transport { addr, reason: connection::CloseReason::from(end).to_string() });
        }
    }
    let judged = peer_of(&*connection)
        .and_then(|(peer, _)| expect.check(own.peer().cluster(), &peer).map(|()| peer))
        .map_err(|fault| ConnectError::PeerCertificate { addr, expected: expect.to_string(), fault });
    Ok(Connection::new(inner.env.clone(), connection::Inner::Lanes(connection), judged?, alpn))
}

/// Lets peers in, or tells them why not.
pub(crate) async fn gate(
    inner: Arc<Inner>,
    socket: Arc<dyn LaneSocket>,
    accept: Arc<[(Alpn, RoleSet)]>,
    admitted: mpsc::Sender<Connection>,
) {
    while let Some(arrival) = poll_fn(|cx| socket.poll_accept(cx)).await {
        let refuse = |code: u32, reason: String| {
            inner.refused.fetch_add(1, Ordering::Relaxed);
            tracing::info!(addr = %arrival.remote_addr(), reason, "refused a connection");
            arrival.close(code, &reason);
        };
        let (peer, protocol) = match peer_of(&*arrival) {
            Ok(said) => said,
            Err(fault) => {
                refuse(code::REFUSED, format!("its certificate {fault}"));
                continue;
            }
        };
        let Some(&(alpn, roles)) = accept.iter().find(|(alpn, _)| alpn.as_str() == protocol) else {
            refuse(NO_PROTOCOL, format!("{protocol} is not spoken here"));
            continue;
        };
        if let Err(fault) = Expect::role(roles).check(inner.identity().peer().cluster(), &peer) {
            refuse(code::REFUSED, format!("for {alpn} its certificate {fault}"));
            continue;
        }
        let Ok(place) = admitted.try_reserve() else {
            refuse(BUSY, "too many wait to be accepted".to_owned());
            continue;
        };
        inner.admitted.fetch_add(1, Ordering::Relaxed);
        arrival.admit();
        place.send(Connection::new(inner.env.clone(), connection::Inner::Lanes(arrival), peer, alpn));
    }
}
