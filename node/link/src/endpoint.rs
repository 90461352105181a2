//! Endpoints: one UDP socket that dials and listens.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quinn::{
    Connecting, VarInt,
    crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig},
};
use ringfleet_env::{Env, LaneSocket, TaskHandle, UdpBinding};
use rustls_pki_types::CertificateDer;
use tokio::sync::{Semaphore, mpsc};

use crate::{
    Alpn, ConnectError, Connection, Expect, Identity, LinkConfig, PeerId, RoleSet,
    connect_error::Dial,
    connection::{self, code},
    lane_endpoint,
    random::{random_cid, token_key},
    runtime::{EnvRuntime, EnvWallTime},
    tls,
};

/// What a listener sends first to a peer that it has admitted.
const WELCOME: &[u8; 4] = b"RFL1";

/// One-way streams a listener may open to its peer: the welcome.
const WELCOME_STREAMS: u32 = 1;

/// Why an endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another process has the port.
    #[error("udp port {addr} is taken by another process")]
    PortTaken {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The operating system does not let this user have the port.
    #[error("no permission to use udp port {addr}")]
    NotPermitted {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// This machine does not have the address.
    #[error("this machine has no address {}", .addr.ip())]
    NoSuchAddress {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The socket could not be opened for another reason.
    #[error("cannot open udp port {addr}: {source}")]
    Socket {
        /// The address asked for.
        addr: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// A setting that cannot work.
    #[error("link settings: {0}")]
    Config(String),
    /// An identity that cannot be used.
    #[error("cannot use the own certificate: {0}")]
    Identity(String),
}

impl BindError {
    fn of_socket(addr: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::PortTaken { addr },
            io::ErrorKind::PermissionDenied => Self::NotPermitted { addr },
            io::ErrorKind::AddrNotAvailable => Self::NoSuchAddress { addr },
            _ => Self::Socket { addr, source },
        }
    }
}

/// One UDP socket with an identity. Cloning gives another handle; dropping the last handle, the last
/// connection and the listener closes it.
///
/// It lives on the executor that [`Endpoint::bind`] was called on. To give an endpoint a thread of
/// its own, so that load never looks like death (C10), bind it inside
/// [`Env::spawn_on_own_thread`] and work with its connections there.
#[derive(Clone)]
pub struct Endpoint {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) env: Env,
    transport: Transport,
    pub(crate) config: LinkConfig,
    identity: Mutex<Arc<Identity>>,
    /// The protocols of the listener, once there is one.
    alpns: Mutex<Vec<Alpn>>,
    pub(crate) admitted: AtomicU64,
    pub(crate) refused: AtomicU64,
}

/// What carries the connections of an endpoint.
enum Transport {
    /// QUIC.
    Quic(quinn::Endpoint),
    /// A simulator's lanes.
    Lanes(Arc<dyn LaneSocket>),
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({} at {:?})", self.identity().peer(), self.inner.local_addr())
    }
}

impl Endpoint {
    /// Opens a socket. It dials at once, and listens after [`Endpoint::listen`]. Port 0 takes a
    /// free one. Called on the executor that will drive it.
    pub fn bind(env: &Env, addr: SocketAddr, identity: Identity, config: LinkConfig) -> Result<Self, BindError> {
        config.check().map_err(BindError::Config)?;
        // Fails here rather than at the first dial.
        tls::server_config(env, &identity, &[]).map_err(|e| BindError::Identity(e.to_string()))?;
        if identity.not_after_ms() <= env.wall_ms() {
            tracing::warn!(identity = %identity.peer(), "the own certificate has expired, peers will refuse it");
        }
        let socket = env.bind_udp(addr).map_err(|e| BindError::of_socket(addr, e))?;
        let transport = match socket {
            UdpBinding::Lanes(socket) => Transport::Lanes(socket),
            socket => {
                let runtime = EnvRuntime::new(env.clone());
                let quinn = EnvRuntime::socket(socket).and_then(|socket| {
                    quinn::Endpoint::new_with_abstract_socket(config.endpoint(env), None, socket, Arc::new(runtime))
                });
                Transport::Quic(quinn.map_err(|e| BindError::of_socket(addr, e))?)
            }
        };
        Ok(Self {
            inner: Arc::new(Inner {
                env: env.clone(),
                transport,
                config,
                identity: Mutex::new(Arc::new(identity)),
                alpns: Mutex::default(),
                admitted: AtomicU64::new(0),
                refused: AtomicU64::new(0),
            }),
        })
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// Who it is.
    pub fn identity(&self) -> Arc<Identity> {
        self.inner.identity()
    }

    /// Shows another certificate from now on: renewal. Open connections stay. A new name or cluster
    /// is a mistake of the caller and refused.
    pub fn renew_identity(&self, identity: Identity) -> Result<(), BindError> {
        let inner = &self.inner;
        let mut current = inner.identity.lock().unwrap_or_else(PoisonError::into_inner);
        if current.peer() != identity.peer() {
            return Err(BindError::Identity(format!("it is of {} instead of {}", identity.peer(), current.peer())));
        }
        let alpns = inner.alpns.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !alpns.is_empty() {
            match &inner.transport {
                Transport::Quic(quinn) => quinn.set_server_config(Some(inner.server_config(&identity, &alpns)?)),
                Transport::Lanes(socket) => socket.listen(Some(lane_endpoint::hello(&identity, None, &inner.config))),
            }
        }
        *current = Arc::new(identity);
        Ok(())
    }

    /// Connects to a process, for at most `limit`. On success both sides know each other and the
    /// listener has admitted this one.
    pub async fn connect(
        &self,
        addr: SocketAddr,
        alpn: Alpn,
        expect: Expect,
        limit: Duration,
    ) -> Result<Connection, ConnectError> {
        let inner = &self.inner;
        let deadline = inner.env.now() + limit;
        let quinn = match &inner.transport {
            Transport::Quic(quinn) => quinn,
            Transport::Lanes(socket) => {
                return lane_endpoint::connect(inner, &**socket, addr, alpn, &expect, limit).await;
            }
        };
        let bad_identity = |reason: String| ConnectError::BadAddress { addr, reason };
        let (tls, fault) = tls::client_config(&inner.env, &self.identity(), alpn, expect.clone())
            .map_err(|e| bad_identity(e.to_string()))?;
        let tls = QuicClientConfig::try_from(tls).map_err(|e| bad_identity(e.to_string()))?;
        let mut config = quinn::ClientConfig::new(Arc::new(tls));
        config.transport_config(inner.config.transport(WELCOME_STREAMS));
        let env = inner.env.clone();
        config.initial_dst_cid_provider(Arc::new(move || random_cid(&env)));

        let dial = Dial { addr, limit, alpn, expect: &expect, fault: &fault };
        // The name is not sent and not checked: identities stand in its place.
        let mut connecting = quinn.connect_with(config, addr, "ringfleet.invalid").map_err(|e| dial.before_start(e))?;
        let mut answered = false;
        let handshake = async {
            connecting.handshake_data().await?;
            answered = true;
            let connection = connecting.await?;
            wait_for_welcome(&connection).await?;
            Ok(connection)
        };
        let connection = match inner.env.timeout_at(deadline, handshake).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(e)) => return Err(dial.failed(e, answered)),
            Err(_) => return Err(dial.late(answered)),
        };
        let peer = peer_of(&connection).map_err(|fault| ConnectError::PeerCertificate {
            addr,
            expected: expect.to_string(),
            fault,
        })?;
        Ok(Connection::new(inner.env.clone(), connection::Inner::Quic(connection), peer, alpn))
    }

    /// Starts to listen, for peers of the given roles on each protocol. There is one listener at a
    /// time.
    pub fn listen(&self, accept: &[(Alpn, RoleSet)]) -> Result<Listener, BindError> {
        let inner = &self.inner;
        let alpns: Vec<Alpn> = accept.iter().map(|(alpn, _)| *alpn).collect();
        let identity = self.identity();
        let config = inner.server_config(&identity, &alpns)?;
        {
            let mut current = inner.alpns.lock().unwrap_or_else(PoisonError::into_inner);
            if !current.is_empty() {
                return Err(BindError::Config("this endpoint listens already".to_owned()));
            }
            *current = alpns;
        }
        let (admitted, arrivals) = mpsc::channel(inner.config.backlog_max);
        let gate = Gate { inner: inner.clone(), accept: accept.into(), admitted };
        let task = match &inner.transport {
            Transport::Quic(quinn) => {
                quinn.set_server_config(Some(config));
                inner.env.spawn("listener", gate.run(quinn.clone()))
            }
            Transport::Lanes(socket) => {
                socket.listen(Some(lane_endpoint::hello(&identity, None, &inner.config)));
                let Gate { inner, accept, admitted } = gate;
                inner.env.clone().spawn("listener", lane_endpoint::gate(inner, socket.clone(), accept, admitted))
            }
        };
        let task = task.abort_on_drop();
        Ok(Listener { arrivals, inner: inner.clone(), _task: task })
    }

    /// Closes all connections, now and in future; the peers are told code and reason.
    pub fn close(&self, code: u32, reason: &str) {
        match &self.inner.transport {
            Transport::Quic(quinn) => quinn.close(VarInt::from_u32(code), reason.as_bytes()),
            Transport::Lanes(socket) => socket.close(code, reason),
        }
    }

    /// Waits until every connection is closed and the peers have been told, as far as that is
    /// possible. Bound it by a timeout.
    pub async fn wait_idle(&self) {
        // What a simulator's socket has closed is told already.
        if let Transport::Quic(quinn) = &self.inner.transport {
            quinn.wait_idle().await;
        }
    }

    /// Counts for metrics.
    pub fn stats(&self) -> EndpointStats {
        EndpointStats {
            connections: match &self.inner.transport {
                Transport::Quic(quinn) => quinn.open_connections(),
                Transport::Lanes(socket) => socket.open_connections(),
            },
            admitted: self.inner.admitted.load(Ordering::Relaxed),
            refused: self.inner.refused.load(Ordering::Relaxed),
        }
    }
}

/// Counts of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStats {
    /// Connections that are open or in their handshake, of both directions.
    pub connections: usize,
    /// Connections the listener has admitted so far.
    pub admitted: u64,
    /// Dials to the listener that ended before they were admitted.
    pub refused: u64,
}

impl Inner {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.transport {
            Transport::Quic(quinn) => quinn.local_addr(),
            Transport::Lanes(socket) => Ok(socket.local_addr()),
        }
    }

    pub(crate) fn identity(&self) -> Arc<Identity> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn server_config(&self, identity: &Identity, alpns: &[Alpn]) -> Result<quinn::ServerConfig, BindError> {
        let tls = tls::server_config(&self.env, identity, alpns).map_err(|e| BindError::Identity(e.to_string()))?;
        let tls = QuicServerConfig::try_from(tls).map_err(|e| BindError::Identity(e.to_string()))?;
        let mut config = quinn::ServerConfig::new(Arc::new(tls), token_key(&self.env));
        // A dialler opens no one-way streams.
        config.transport_config(self.config.transport(0));
        config.time_source(Arc::new(EnvWallTime(self.env.clone())));
        config.max_incoming(self.config.handshakes_max);
        Ok(config)
    }
}

/// The arrivals of an endpoint. After it was dropped dials get no answer, and the endpoint may listen
/// again; admitted connections stay.
pub struct Listener {
    arrivals: mpsc::Receiver<Connection>,
    inner: Arc<Inner>,
    _task: TaskHandle,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener(at {:?})", self.inner.local_addr())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Dials find nobody here from now on; without this they would queue for nobody.
        match &self.inner.transport {
            Transport::Quic(quinn) => quinn.set_server_config(None),
            Transport::Lanes(socket) => socket.listen(None),
        }
        self.inner.alpns.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Listener {
    /// Waits for a peer that was admitted; `None` when the endpoint was closed. May be dropped
    /// half-way.
    pub async fn accept(&mut self) -> Option<Connection> {
        self.arrivals.recv().await
    }
}

/// Lets peers in: each in a task of its own, so that a slow one holds up nobody.
struct Gate {
    inner: Arc<Inner>,
    accept: Arc<[(Alpn, RoleSet)]>,
    admitted: mpsc::Sender<Connection>,
}

impl Gate {
    async fn run(self, quinn: quinn::Endpoint) {
        let slots = Arc::new(Semaphore::new(self.inner.config.handshakes_max));
        while let Some(incoming) = quinn.accept().await {
            let addr = incoming.remote_address();
            let Ok(slot) = slots.clone().try_acquire_owned() else {
                self.inner.refused.fetch_add(1, Ordering::Relaxed);
                incoming.refuse();
                continue;
            };
            let (inner, accept, admitted) = (self.inner.clone(), self.accept.clone(), self.admitted.clone());
            let handshake = async move {
                let limit = inner.config.handshake_limit;
                let outcome = inner.env.timeout(limit, async {
                    let connecting = incoming.accept().map_err(|e| e.to_string())?;
                    let connection = admit(&inner, connecting, &accept).await?;
                    inner.admitted.fetch_add(1, Ordering::Relaxed);
                    // Nobody listens any more: dropping the connection closes it.
                    let _ = admitted.send(connection).await;
                    Ok::<_, String>(())
                });
                let refusal = match outcome.await {
                    Ok(Ok(())) => None,
                    Ok(Err(reason)) => Some(reason),
                    Err(_) => Some(format!("handshake not finished within {limit:?}")),
                };
                if let Some(reason) = refusal {
                    inner.refused.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(%addr, reason, "refused a connection");
                }
                drop(slot);
            };
            self.inner.env.spawn("handshake", handshake).detach();
        }
    }
}

/// Finishes the listener's side of a handshake. The error is for the own log; the peer was told.
async fn admit(inner: &Inner, connecting: Connecting, accept: &[(Alpn, RoleSet)]) -> Result<Connection, String> {
    let connection = connecting.await.map_err(|e| e.to_string())?;
    let refuse = |reason: String| {
        connection.close(VarInt::from_u32(code::REFUSED), reason.as_bytes());
        reason
    };
    // TLS chose one of the protocols of `accept`, or there is no connection.
    let chosen = connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok())
        .and_then(|data| data.protocol);
    let Some(&(alpn, roles)) = accept.iter().find(|(alpn, _)| chosen.as_deref() == Some(alpn.as_bytes())) else {
        return Err(refuse("no protocol was chosen".to_owned()));
    };
    let own = inner.identity();
    let peer = peer_of(&connection)
        .and_then(|peer| Expect::role(roles).check(own.peer().cluster(), &peer).map(|()| peer))
        .map_err(|fault| refuse(format!("for {alpn} its certificate {fault}")))?;
    // Never read from here on before this point; the dialler has nothing before it, either.
    let welcome = async {
        let mut stream = connection.open_uni().await.map_err(|e| e.to_string())?;
        stream.write_all(WELCOME).await.map_err(|e| e.to_string())?;
        stream.finish().map_err(|e| e.to_string())
    };
    welcome.await.map_err(refuse)?;
    Ok(Connection::new(inner.env.clone(), connection::Inner::Quic(connection), peer, alpn))
}

/// Waits until the listener has said that it admits this side. In TLS 1.3 the dialler's handshake is
/// over before the listener has judged its certificate.
async fn wait_for_welcome(connection: &quinn::Connection) -> Result<(), quinn::ConnectionError> {
    let mut stream = connection.accept_uni().await?;
    let mut welcome = [0; WELCOME.len()];
    match stream.read_exact(&mut welcome).await {
        Ok(()) if &welcome == WELCOME => Ok(()),
        Err(quinn::ReadExactError::ReadError(quinn::ReadError::ConnectionLost(e))) => Err(e),
        // Another program with a certificate of this cluster, or another version of this one.
        _ => Err(quinn::ConnectionError::VersionMismatch),
    }
}

/// Who a connection is with, from the certificate that TLS has verified.
fn peer_of(connection: &quinn::Connection) -> Result<PeerId, crate::CertificateFault> {
    let missing = || crate::CertificateFault::BadIdentity("none was shown".to_owned());
    let chain = connection
        .peer_identity()
        .and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok())
        .ok_or_else(missing)?;
    PeerId::of_certificate(chain.first().ok_or_else(missing)?)
}
