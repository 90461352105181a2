//! Two processes on loopback.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ringfleet_env::{Env, OsDisk};
use ringfleet_link::{
    Alpn, ClusterCa, ConnectError, Connection, Endpoint, Expect, Identity, LinkConfig, Listener, Role, RoleSet,
    Validity, file,
};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

/// No test waits longer for anything.
pub const LONG: Duration = Duration::from_secs(20);

/// Runs a test body on one thread, with a deadline.
pub fn run<T>(body: impl AsyncFnOnce(Env) -> T) -> T {
    Env::run_tokio(1, async |env: Env| {
        let guard = env.clone();
        guard.timeout(2 * LONG, body(env)).await.expect("the test hangs")
    })
    .expect("no runtime")
}

pub fn day(env: &Env) -> Validity {
    Validity::from_now(env.wall_ms(), Duration::from_secs(24 * 3600))
}

pub fn ca(env: &Env) -> ClusterCa {
    ClusterCa::create("blue", day(env)).unwrap()
}

pub fn endpoint(env: &Env, identity: Identity) -> Endpoint {
    Endpoint::bind(env, "127.0.0.1:0".parse().unwrap(), identity, LinkConfig::LOOPBACK).unwrap()
}

/// A node that listens as the agents do, and one that dials.
pub struct Pair {
    pub env: Env,
    pub ca: ClusterCa,
    pub server: Endpoint,
    pub listener: Listener,
}

impl Pair {
    pub fn new(env: &Env) -> Self {
        let ca = ca(env);
        let identity = ca.issue(Role::Node, "server", day(env)).unwrap();
        Self::with_server(env, ca, identity)
    }

    pub fn with_server(env: &Env, ca: ClusterCa, identity: Identity) -> Self {
        let server = endpoint(env, identity);
        let listener = server
            .listen(&[(Alpn::Data, RoleSet::of(&[Role::Node, Role::Client])), (Alpn::Control, RoleSet::ALL)])
            .unwrap();
        Self { env: env.clone(), ca, server, listener }
    }

    pub fn identity(&self, role: Role, name: &str) -> Identity {
        self.ca.issue(role, name, day(&self.env)).unwrap()
    }

    /// Dials from a fresh endpoint, and gives the endpoint as well: it sends what is outstanding.
    pub async fn dial(
        &self,
        identity: Identity,
        alpn: Alpn,
        expect: Expect,
    ) -> (Endpoint, Result<Connection, ConnectError>) {
        let endpoint = endpoint(&self.env, identity);
        let dialled = endpoint.connect(self.server.local_addr().unwrap(), alpn, expect, LONG).await;
        (endpoint, dialled)
    }

    /// Both ends of a connection of a client on the data protocol.
    pub async fn connect(&mut self) -> (Endpoint, Connection, Connection) {
        let identity = self.identity(Role::Client, "app");
        let (endpoint, near) = self.dial(identity, Alpn::Data, Expect::role(Role::Node)).await;
        let near = near.unwrap();
        let far = self.listener.accept().await.unwrap();
        (endpoint, near, far)
    }
}

/// A dialler that is not ours: it judges nobody and sends what it likes.
pub async fn hostile(identity: &Identity, alpn: Alpn, addr: SocketAddr) -> (quinn::Endpoint, quinn::Connection) {
    let folder = tempfile::tempdir().unwrap();
    identity.save(&OsDisk, folder.path()).unwrap();
    let chain = CertificateDer::from_pem_file(folder.path().join(file::CERTIFICATE)).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.path().join(file::KEY)).unwrap();
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_client_auth_cert(vec![chain], key)
        .unwrap();
    tls.alpn_protocols = vec![alpn.as_str().into()];
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(tls));
    let connection = endpoint.connect_with(config, addr, "whatever").unwrap().await.unwrap();
    (endpoint, connection)
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
