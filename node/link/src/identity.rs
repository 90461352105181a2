//! The cluster's certificate authority and the certificates it issues.

use std::{fmt, io, path::Path, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use ringfleet_env::Disk;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{BadName, CertificateFault, PeerId, Role, check_name};

/// File names of an identity in its folder: those of a Kubernetes TLS secret.
pub mod file {
    /// The certificate chain, own certificate first.
    pub const CERTIFICATE: &str = "tls.crt";
    /// The private key, mode 0600.
    pub const KEY: &str = "tls.key";
    /// The certificate of the cluster's authority.
    pub const CA_CERTIFICATE: &str = "ca.crt";
    /// The private key of the authority, mode 0600; only where certificates are issued.
    pub const CA_KEY: &str = "ca.key";
}

/// How far before now a certificate begins, so that a clock that is a little behind accepts it.
const BACKDATE: Duration = Duration::from_secs(300);

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Wall milliseconds since 1970; whole seconds are kept.
    pub not_before_ms: u64,
    /// Wall milliseconds since 1970; whole seconds are kept.
    pub not_after_ms: u64,
}

impl Validity {
    /// From now (a little before, for clocks that are behind) for the given time.
    pub fn from_now(wall_ms: u64, duration: Duration) -> Self {
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        Self { not_before_ms: wall_ms.saturating_sub(ms(BACKDATE)), not_after_ms: wall_ms.saturating_add(ms(duration)) }
    }
}

/// Why an identity could not be made, loaded or saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A name that cannot stand in an identity.
    #[error(transparent)]
    BadName(#[from] BadName),
    /// A file could not be read or written; the text names it.
    #[error(transparent)]
    File(#[from] io::Error),
    /// A file has not the expected content.
    #[error("{path} holds no usable {what}: {reason}")]
    Content {
        /// The file.
        path: String,
        /// What should have been in it.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A certificate that says nothing usable about who it is for.
    #[error("own certificate {0}")]
    Certificate(CertificateFault),
    /// Certificate and private key do not belong together.
    #[error("own certificate and private key do not belong together")]
    KeyMismatch,
    /// A certificate could not be made.
    #[error("cannot issue a certificate: {0}")]
    Issue(String),
}

impl From<rcgen::Error> for IdentityError {
    fn from(e: rcgen::Error) -> Self {
        Self::Issue(e.to_string())
    }
}

/// The authority of one cluster: whoever has its key can be anybody in that cluster.
pub struct ClusterCa {
    cluster: String,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key_pem: String,
}

impl fmt::Debug for ClusterCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key stays out of logs.
        f.debug_struct("ClusterCa").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl ClusterCa {
    /// Makes a new authority with a key of its own (ECDSA P-256).
    pub fn create(cluster: &str, validity: Validity) -> Result<Self, IdentityError> {
        check_name(cluster)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params(validity);
        // The organisational unit is where `load` finds the cluster again.
        params.distinguished_name.push(DnType::CommonName, format!("ringfleet cluster {cluster}"));
        params.distinguished_name.push(DnType::OrganizationalUnitName, cluster);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            cluster: cluster.to_owned(),
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// The cluster it speaks for.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Its certificate as PEM, which every process of the cluster needs.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Makes a key and a certificate for one process.
    pub fn issue(&self, role: Role, name: &str, validity: Validity) -> Result<Identity, IdentityError> {
        let peer = PeerId::new(&self.cluster, role, name)?;
        let issuer = Issuer::from_ca_cert_der(&self.certificate, KeyPair::from_pem(&self.key_pem)?)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params(validity);
        params.distinguished_name.push(DnType::CommonName, format!("{role} {name}"));
        let uri = peer.to_string().try_into().map_err(|e: rcgen::Error| IdentityError::Issue(e.to_string()))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A process that never listens cannot pose as one that does, whatever its name.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if role.listens() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &issuer)?;
        Identity::from_pem(&certificate.pem(), &key.serialize_pem(), &self.certificate_pem)
    }

    /// Writes certificate and key into a folder.
    pub fn save(&self, disk: &dyn Disk, folder: &Path) -> Result<(), IdentityError> {
        disk.create_dir_all(folder)?;
        disk.write_atomic_private(&folder.join(file::CA_KEY), self.key_pem.as_bytes())?;
        disk.write_atomic(&folder.join(file::CA_CERTIFICATE), self.certificate_pem.as_bytes())?;
        Ok(())
    }

    /// Reads what [`ClusterCa::save`] wrote.
    pub fn load(disk: &dyn Disk, folder: &Path) -> Result<Self, IdentityError> {
        let (certificate_path, key_path) = (folder.join(file::CA_CERTIFICATE), folder.join(file::CA_KEY));
        let certificate_pem = read_text(disk, &certificate_path, "certificate")?;
        let key_pem = read_text(disk, &key_path, "private key")?;
        let certificate = one_certificate(&certificate_pem).map_err(content(&certificate_path, "certificate"))?;
        let key = KeyPair::from_pem(&key_pem).map_err(|e| content(&key_path, "private key")(e.to_string()))?;
        let (_, parsed) = X509Certificate::from_der(&certificate)
            .map_err(|e| content(&certificate_path, "certificate")(e.to_string()))?;
        let cluster = parsed.subject().iter_organizational_unit().next().and_then(|unit| unit.as_str().ok());
        let cluster = cluster
            .filter(|cluster| check_name(cluster).is_ok())
            .ok_or_else(|| content(&certificate_path, "certificate")("it names no cluster".to_owned()))?
            .to_owned();
        // The public key as in the certificate is the uncompressed point that rcgen gives.
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(IdentityError::KeyMismatch);
        }
        Ok(Self { cluster, certificate, certificate_pem, key_pem })
    }
}

/// What one process shows to its peers, and what it believes of them.
pub struct Identity {
    peer: PeerId,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    ca: CertificateDer<'static>,
    not_after_ms: u64,
    chain_pem: String,
    key_pem: String,
    ca_pem: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key stays out of logs.
        f.debug_struct("Identity").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            peer: self.peer.clone(),
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            ca: self.ca.clone(),
            not_after_ms: self.not_after_ms,
            chain_pem: self.chain_pem.clone(),
            key_pem: self.key_pem.clone(),
            ca_pem: self.ca_pem.clone(),
        }
    }
}

impl Identity {
    /// Takes a chain (own certificate first), its private key and the authority's certificate.
    ///
    /// Whether the authority signed the chain and whether it is valid now is for peers to judge.
    pub fn from_pem(chain_pem: &str, key_pem: &str, ca_pem: &str) -> Result<Self, IdentityError> {
        Self::parse(
            chain_pem,
            key_pem,
            ca_pem,
            [Path::new(file::CERTIFICATE), Path::new(file::KEY), Path::new(file::CA_CERTIFICATE)],
        )
    }

    fn parse(
        chain_pem: &str,
        key_pem: &str,
        ca_pem: &str,
        [chain_path, key_path, ca_path]: [&Path; 3],
    ) -> Result<Self, IdentityError> {
        let chain = certificates(chain_pem).map_err(content(chain_path, "certificate chain"))?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|e| content(key_path, "private key")(e.to_string()))?;
        let ca = one_certificate(ca_pem).map_err(content(ca_path, "certificate"))?;
        let peer = PeerId::of_certificate(&chain[0]).map_err(IdentityError::Certificate)?;
        let (_, parsed) = X509Certificate::from_der(&chain[0])
            .map_err(|e| content(chain_path, "certificate chain")(e.to_string()))?;
        let not_after_ms = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0).saturating_mul(1000);
        rustls::sign::CertifiedKey::from_der(chain.clone(), key.clone_key(), &crate::tls::provider()).map_err(|e| {
            match e {
                rustls::Error::InconsistentKeys(_) => IdentityError::KeyMismatch,
                e => content(key_path, "private key")(e.to_string()),
            }
        })?;
        Ok(Self {
            peer,
            chain,
            key,
            ca,
            not_after_ms,
            chain_pem: chain_pem.to_owned(),
            key_pem: key_pem.to_owned(),
            ca_pem: ca_pem.to_owned(),
        })
    }

    /// Who it is.
    pub fn peer(&self) -> &PeerId {
        &self.peer
    }

    /// When its certificate ends, in wall milliseconds since 1970.
    pub fn not_after_ms(&self) -> u64 {
        self.not_after_ms
    }

    /// The certificate chain, own certificate first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    pub(crate) fn ca(&self) -> &CertificateDer<'static> {
        &self.ca
    }

    /// Writes `tls.crt`, `tls.key` (mode 0600) and `ca.crt` into a folder.
    pub fn save(&self, disk: &dyn Disk, folder: &Path) -> Result<(), IdentityError> {
        disk.create_dir_all(folder)?;
        disk.write_atomic_private(&folder.join(file::KEY), self.key_pem.as_bytes())?;
        disk.write_atomic(&folder.join(file::CERTIFICATE), self.chain_pem.as_bytes())?;
        disk.write_atomic(&folder.join(file::CA_CERTIFICATE), self.ca_pem.as_bytes())?;
        Ok(())
    }

    /// Reads what [`Identity::save`] wrote.
    pub fn load(disk: &dyn Disk, folder: &Path) -> Result<Self, IdentityError> {
        let paths = [file::CERTIFICATE, file::KEY, file::CA_CERTIFICATE].map(|name| folder.join(name));
        Self::load_files(disk, &paths[0], &paths[1], &paths[2])
    }

    /// Reads an identity from three files.
    pub fn load_files(disk: &dyn Disk, chain: &Path, key: &Path, ca: &Path) -> Result<Self, IdentityError> {
        let chain_pem = read_text(disk, chain, "certificate chain")?;
        let key_pem = read_text(disk, key, "private key")?;
        let ca_pem = read_text(disk, ca, "certificate")?;
        Self::parse(&chain_pem, &key_pem, &ca_pem, [chain, key, ca])
    }
}

/// What all certificates have in common.
fn params(validity: Validity) -> CertificateParams {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    // Four digits of the year are all that a certificate can say.
    let last_second = 253_402_300_799;
    let at = |ms: u64| epoch + Duration::from_secs((ms / 1000).min(last_second));
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = at(validity.not_before_ms);
    params.not_after = at(validity.not_after_ms);
    params
}

/// An error about the content of a file.
fn content(path: &Path, what: &'static str) -> impl FnOnce(String) -> IdentityError {
    let path = path.display().to_string();
    move |reason| IdentityError::Content { path, what, reason }
}

fn read_text(disk: &dyn Disk, path: &Path, what: &'static str) -> Result<String, IdentityError> {
    String::from_utf8(disk.read(path)?).map_err(|_| content(path, what)("it is not text".to_owned()))
}

/// At least one certificate.
fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if found.is_empty() => Err("it has no pem block of a certificate".to_owned()),
        Ok(found) => Ok(found),
        Err(e) => Err(e.to_string()),
    }
}

/// Exactly one certificate: a second authority would be a second way in.
fn one_certificate(pem: &str) -> Result<CertificateDer<'static>, String> {
    let mut found = certificates(pem)?;
    match found.len() {
        1 => Ok(found.remove(0)),
        n => Err(format!("it has {n} certificates instead of one")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use ringfleet_env::OsDisk;

    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn year() -> Validity {
        Validity::from_now(NOW_MS, Duration::from_secs(365 * 24 * 3600))
    }

    #[test]
    fn authority_and_identity_survive_the_disk_and_keys_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let ca = ClusterCa::create("blue", year()).unwrap();
        ca.save(&OsDisk, folder.path()).unwrap();
        let ca = ClusterCa::load(&OsDisk, folder.path()).unwrap();
        assert_eq!(ca.cluster(), "blue");

        let made = ca.issue(Role::Node, "n1", year()).unwrap();
        let own = folder.path().join("n1");
        made.save(&OsDisk, &own).unwrap();
        let loaded = Identity::load(&OsDisk, &own).unwrap();
        assert_eq!(loaded.peer(), &PeerId::new("blue", Role::Node, "n1").unwrap());
        assert_eq!(loaded.chain(), made.chain());
        assert_eq!(loaded.not_after_ms(), year().not_after_ms);
        for key in [folder.path().join(file::CA_KEY), own.join(file::KEY)] {
            let mode = std::fs::metadata(key).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let ca = ClusterCa::create("blue", year()).unwrap();
        let (a, b) = (ca.issue(Role::Node, "a", year()).unwrap(), ca.issue(Role::Node, "b", year()).unwrap());
        let mixed = Identity::from_pem(&a.chain_pem, &b.key_pem, &a.ca_pem).unwrap_err();
        assert!(matches!(mixed, IdentityError::KeyMismatch), "{mixed}");
        // An authority's own certificate names nobody.
        let nobody = Identity::from_pem(&a.ca_pem, &ca.key_pem, &a.ca_pem).unwrap_err();
        assert_eq!(nobody.to_string(), "own certificate has no usable identity: has no alternative names");

        let folder = tempfile::tempdir().unwrap();
        ca.save(&OsDisk, folder.path()).unwrap();
        let other = ClusterCa::create("blue", year()).unwrap();
        OsDisk.write_atomic(&folder.path().join(file::CA_KEY), other.key_pem.as_bytes()).unwrap();
        let mixed = ClusterCa::load(&OsDisk, folder.path()).unwrap_err();
        assert!(matches!(mixed, IdentityError::KeyMismatch), "{mixed}");
    }

    #[test]
    fn bad_files_are_named_with_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Identity::load(&OsDisk, folder.path()).unwrap_err().to_string();
        assert!(missing.contains("tls.crt"), "{missing}");
        for name in [file::CERTIFICATE, file::KEY, file::CA_CERTIFICATE] {
            OsDisk.write_atomic(&folder.path().join(name), b"nonsense").unwrap();
        }
        let nonsense = Identity::load(&OsDisk, folder.path()).unwrap_err().to_string();
        assert!(nonsense.contains("tls.crt holds no usable certificate chain"), "{nonsense}");
        assert!(matches!(ClusterCa::create("Blue", year()), Err(IdentityError::BadName(_))));
    }

    #[test]
    fn logs_show_no_key() {
        let ca = ClusterCa::create("blue", year()).unwrap();
        let shown = format!("{ca:?} {:?}", ca.issue(Role::Client, "c", year()).unwrap());
        assert!(!shown.contains("PRIVATE") && shown.contains("blue"), "{shown}");
    }
}
