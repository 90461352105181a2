//! TLS configurations and the judgement of certificates.
//!
//! TLS 1.3 only, both sides show a certificate, the cluster's authority is the only root. No
//! tickets and no early data: every connection presents its certificate anew, and nothing can be
//! replayed.
//!
//! The dialler judges the whole identity of the listener inside the handshake, before it shows its
//! own certificate. The listener judges the chain inside the handshake and the identity right
//! after it (`admit`), so that it can say in words what it refuses; it does so before it reads any
//! stream, and the dialler does not call a connection its own before it was admitted.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ringfleet_env::Env;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier},
    time_provider::TimeProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{Alpn, Identity, PeerId, Role, RoleSet};

/// What is wrong with a certificate. The text follows "certificate".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateFault {
    /// Another authority signed it.
    #[error("is not signed by the authority of this cluster")]
    UnknownCa,
    /// It was valid once.
    #[error("has expired")]
    Expired,
    /// It will be valid later, or a clock is wrong.
    #[error("is not valid yet")]
    NotYetValid,
    /// It does not say who it is for.
    #[error("has no usable identity: {0}")]
    BadIdentity(String),
    /// It is of another cluster.
    #[error("is of cluster {found} instead of {expected}")]
    WrongCluster {
        /// The own cluster.
        expected: String,
        /// The cluster in the certificate.
        found: String,
    },
    /// It is of a role that was not expected there.
    #[error("is of role {found} instead of {expected}")]
    WrongRole {
        /// The roles that were expected.
        expected: RoleSet,
        /// The role in the certificate.
        found: Role,
    },
    /// It is of another process of the expected role.
    #[error("is of {found} instead of {expected}")]
    WrongName {
        /// The name that was expected.
        expected: String,
        /// The name in the certificate.
        found: String,
    },
    /// Anything else: not for this use, bad signature, bad encoding.
    #[error("is not acceptable: {0}")]
    Unusable(String),
}

impl CertificateFault {
    fn of(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(e) => match e {
                CertificateError::UnknownIssuer
                | CertificateError::BadSignature
                | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => Self::UnknownCa,
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
                e => Self::Unusable(e.to_string()),
            },
            e => Self::Unusable(e.to_string()),
        }
    }

    /// The error that ends the handshake; its alert tells the peer the kind of fault.
    fn into_tls(self) -> Error {
        Error::InvalidCertificate(match self {
            Self::UnknownCa => CertificateError::UnknownIssuer,
            Self::Expired => CertificateError::Expired,
            Self::NotYetValid => CertificateError::NotValidYet,
            _ => CertificateError::ApplicationVerificationFailure,
        })
    }
}

/// Whom a dialler expects to find at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    roles: RoleSet,
    name: Option<String>,
}

impl Expect {
    /// Any process of one of these roles.
    pub fn role(roles: impl Into<RoleSet>) -> Self {
        Self { roles: roles.into(), name: None }
    }

    /// One process.
    pub fn named(role: Role, name: &str) -> Self {
        Self { roles: role.into(), name: Some(name.to_owned()) }
    }

    /// Compares a genuine identity with the expectation.
    pub(crate) fn check(&self, cluster: &str, found: &PeerId) -> Result<(), CertificateFault> {
        if found.cluster() != cluster {
            return Err(CertificateFault::WrongCluster {
                expected: cluster.to_owned(),
                found: found.cluster().to_owned(),
            });
        }
        if !self.roles.contains(found.role()) {
            return Err(CertificateFault::WrongRole { expected: self.roles, found: found.role() });
        }
        match &self.name {
            Some(name) if name != found.name() => {
                Err(CertificateFault::WrongName { expected: name.clone(), found: found.name().to_owned() })
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} {name}", self.roles),
            None => write!(f, "a {}", self.roles),
        }
    }
}

/// The cryptography of this crate; the process default is left alone.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    // A process may have installed another one: a simulator, whose keys must come from its seed.
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(ring::default_provider()))
}

/// Wall time of the environment, for the validity of certificates.
#[derive(Debug)]
struct EnvTime(Env);

impl TimeProvider for EnvTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.wall_ms())))
    }
}

fn roots(identity: &Identity) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.ca().clone())?;
    Ok(Arc::new(roots))
}

/// The configuration of a listener that speaks these protocols.
pub(crate) fn server_config(env: &Env, identity: &Identity, alpns: &[Alpn]) -> Result<ServerConfig, Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(identity)?, provider())
        .build()
        .map_err(|e| Error::General(e.to_string()))?;
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(EnvTime(env.clone())))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain().to_vec(), identity.key())?;
    config.alpn_protocols = alpns.iter().map(|alpn| alpn.as_bytes().to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// The configuration of one dial, and where the reason is found when it refuses the listener.
pub(crate) fn client_config(
    env: &Env,
    identity: &Identity,
    alpn: Alpn,
    expect: Expect,
) -> Result<(ClientConfig, Arc<FaultSlot>), Error> {
    let fault = Arc::new(FaultSlot::default());
    let verifier = PeerVerifier {
        provider: provider(),
        roots: roots(identity)?,
        cluster: identity.peer().cluster().to_owned(),
        expect,
        fault: fault.clone(),
    };
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(EnvTime(env.clone())))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(identity.chain().to_vec(), identity.key())?;
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    // There is no DNS name to send.
    config.enable_sni = false;
    Ok((config, fault))
}

/// Why a dial refused the listener.
#[derive(Debug, Default)]
pub(crate) struct FaultSlot(Mutex<Option<CertificateFault>>);

impl FaultSlot {
    pub(crate) fn take(&self) -> Option<CertificateFault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, fault: CertificateFault) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }
}

/// Judges the certificate of a listener: chain and validity as webpki does, then the identity in
/// place of a DNS name.
#[derive(Debug)]
struct PeerVerifier {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    cluster: String,
    expect: Expect,
    fault: Arc<FaultSlot>,
}

impl PeerVerifier {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), CertificateFault> {
        let parsed = ParsedCertificate::try_from(end_entity).map_err(|e| CertificateFault::of(&e))?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)
            .map_err(|e| CertificateFault::of(&e))?;
        // Only a certificate that the authority signed is worth reading.
        self.expect.check(&self.cluster, &PeerId::of_certificate(end_entity)?)
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity, intermediates, now).map_err(|fault| {
            self.fault.set(fault.clone());
            fault.into_tls()
        })?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("tls 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
