//! The name of a process in its certificate.

use std::{fmt, str::FromStr};

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::{CertificateFault, Role};

/// The longest name of a cluster or process; a longer one is refused when it is made and when it
/// is read. Names appear in metrics, file names and Kubernetes objects, whose limit this is.
pub const NAME_BYTES_MAX: usize = 63;

/// What every identity begins with.
const SPIFFE_PREFIX: &str = "spiffe://ringfleet/";

/// Who a process is: `spiffe://ringfleet/<cluster>/<role>/<name>`, the only URI among the
/// alternative names of its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerId {
    cluster: String,
    role: Role,
    name: String,
}

/// A name that cannot stand in an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "name {name:?} is not 1 to {NAME_BYTES_MAX} lower-case letters, digits, '-', '_' or '.' \
     that begin with a letter or digit"
)]
pub struct BadName {
    /// The name as it was given, shortened.
    pub name: String,
}

/// Checks the name of a cluster or process.
pub fn check_name(name: &str) -> Result<(), BadName> {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let begins_well = name.bytes().next().is_some_and(alphanumeric);
    if begins_well
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|byte| alphanumeric(byte) || matches!(byte, b'-' | b'_' | b'.'))
    {
        return Ok(());
    }
    Err(BadName { name: name.chars().take(NAME_BYTES_MAX + 1).collect() })
}

impl PeerId {
    /// An identity of these parts.
    pub fn new(cluster: &str, role: Role, name: &str) -> Result<Self, BadName> {
        check_name(cluster)?;
        check_name(name)?;
        Ok(Self { cluster: cluster.to_owned(), role, name: name.to_owned() })
    }

    /// The cluster it belongs to.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Its name, unique within cluster and role.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The identity in a certificate. Says nothing about whether the certificate is genuine.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, CertificateFault> {
        let bad = |what: String| CertificateFault::BadIdentity(what);
        let (rest, certificate) =
            X509Certificate::from_der(certificate).map_err(|e| bad(format!("cannot be parsed: {e}")))?;
        if !rest.is_empty() {
            return Err(bad("has trailing bytes".to_owned()));
        }
        let names = certificate
            .subject_alternative_name()
            .map_err(|e| bad(format!("has unreadable alternative names: {e}")))?
            .ok_or_else(|| bad("has no alternative names".to_owned()))?;
        let mut uris = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        // With two of them, two readers could each believe in another one.
        match (uris.next(), uris.next()) {
            (Some(uri), None) => uri.parse().map_err(bad),
            (None, _) => Err(bad("has no uri".to_owned())),
            (Some(_), Some(_)) => Err(bad("has more than one uri".to_owned())),
        }
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SPIFFE_PREFIX}{}/{}/{}", self.cluster, self.role, self.name)
    }
}

impl FromStr for PeerId {
    /// One line that follows "certificate".
    type Err = String;

    fn from_str(uri: &str) -> Result<Self, String> {
        // Text from outside goes into logs: quoted and bounded.
        let shown = || uri.chars().take(200).collect::<String>();
        let path = uri.strip_prefix(SPIFFE_PREFIX).ok_or_else(|| format!("is of a foreign kind: {:?}", shown()))?;
        let mut parts = path.split('/');
        let (Some(cluster), Some(role), Some(name), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(format!("is not <cluster>/<role>/<name>: {:?}", shown()));
        };
        let role = Role::parse(role).ok_or_else(|| format!("has an unknown role: {:?}", shown()))?;
        Self::new(cluster, role, name).map_err(|e| format!("has a bad name: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_the_parse_of_its_text() {
        let id = PeerId::new("prod-1", Role::Node, "n1.rack_2").unwrap();
        assert_eq!(id.to_string(), "spiffe://ringfleet/prod-1/node/n1.rack_2");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn anything_else_is_refused() {
        for uri in [
            "",
            "spiffe://ringfleet/",
            "spiffe://ringfleet/c/node",
            "spiffe://ringfleet/c/node/n/more",
            "spiffe://ringfleet/c/node/",
            "spiffe://ringfleet//node/n",
            "spiffe://ringfleet/c/admin/n",
            "spiffe://ringfleet/c/Node/n",
            "spiffe://ringfleet/c/node/N",
            "spiffe://ringfleet/c/node/..",
            "spiffe://ringfleet/c/node/-n",
            "spiffe://ringfleet/c/node/n?x=1",
            "spiffe://ringfleet/c/node/n%2f",
            "spiffe://ringfleet/c/node/n\u{e9}",
            "spiffe://other/c/node/n",
            "https://ringfleet/c/node/n",
            "SPIFFE://ringfleet/c/node/n",
        ] {
            assert!(uri.parse::<PeerId>().is_err(), "{uri}");
        }
        let longest = "n".repeat(NAME_BYTES_MAX);
        assert!(check_name(&longest).is_ok());
        assert!(check_name(&format!("{longest}n")).is_err());
    }
}
