//! Certificates of the simulated cluster: real ones, whose lengths are always the same.
//!
//! A signature with ECDSA is now and then a byte longer, and with it a packet, and with that the run: so the simulated cluster
//! signs with Ed25519, and keys and serial numbers are fixed.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, SanType, SerialNumber,
};
use ringfleet_link::{Identity, PeerId, Role};
use rustls_pki_types::PrivatePkcs8KeyDer;

use crate::exec::{HostId, WORLD};
use crate::world::{client, coordinator, name_of, node, role_of};

/// The cluster's name.
pub const CLUSTER: &str = "sim";
/// Hosts of each kind that certificates are made for.
const HOSTS_EACH: u16 = 8;

/// The certificates of all hosts, made once in a process.
pub struct Authority(BTreeMap<HostId, Identity>);

/// The private key of a host; that of the authority for host 0.
fn key_of(host: HostId) -> Result<KeyPair, rcgen::Error> {
    // PKCS #8 of an Ed25519 key (RFC 8410) around its 32 bytes.
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend([0x5a; 30]);
    der.extend(host.0.to_be_bytes());
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &PKCS_ED25519)
}

fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2045, 1, 1);
    params
}

impl Authority {
    /// The certificates.
    ///
    /// # Panics
    /// When no certificate can be made.
    #[must_use]
    pub fn get() -> &'static Self {
        static AUTHORITY: OnceLock<Authority> = OnceLock::new();
        AUTHORITY.get_or_init(|| Self::create().expect("certificates can be made"))
    }

    fn create() -> Result<Self, Box<dyn std::error::Error>> {
        let key = key_of(WORLD)?;
        let mut ca = params();
        ca.distinguished_name.push(DnType::CommonName, format!("ringfleet cluster {CLUSTER}"));
        ca.distinguished_name.push(DnType::OrganizationalUnitName, CLUSTER);
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        ca.serial_number = Some(SerialNumber::from_slice(&[1; 8]));
        let ca_pem = ca.self_signed(&key)?.pem();
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, key)?;
        let mut identities = BTreeMap::new();
        for host in (1..=HOSTS_EACH).flat_map(|number| [coordinator(number), node(number), client(number)]) {
            identities.insert(host, issue(&issuer, &ca_pem, host)?);
        }
        Ok(Self(identities))
    }

    /// The identity of a host.
    ///
    /// # Panics
    /// When there is no such host.
    #[must_use]
    pub fn of(&self, host: HostId) -> Identity {
        self.0[&host].clone()
    }
}

fn issue(issuer: &Issuer<'_, KeyPair>, ca_pem: &str, host: HostId) -> Result<Identity, Box<dyn std::error::Error>> {
    let role = role_of(host);
    let name = name_of(host);
    let key = key_of(host)?;
    let mut params = params();
    params.distinguished_name.push(DnType::CommonName, format!("{role} {name}"));
    params.subject_alt_names = vec![SanType::URI(PeerId::new(CLUSTER, role, &name)?.to_string().try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if matches!(role, Role::Coordinator | Role::Node) {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    params.serial_number = Some(SerialNumber::from_slice(&[2, 2, 2, 2, 2, 2, (host.0 >> 8) as u8, host.0 as u8]));
    let certificate = params.signed_by(&key, issuer)?;
    Ok(Identity::from_pem(&certificate.pem(), &key.serialize_pem(), ca_pem)?)
}
