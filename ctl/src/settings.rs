//! Settings of processes that stay: flags over a YAML file over defaults.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ringfleet_env::Env;
use ringfleet_link::{Identity, file};
use serde::de::DeserializeOwned;

use crate::document::read_text;
use crate::error::{CtlError, CtlResult, chain};

/// The settings in a YAML file; all defaults without one.
pub fn load<T: DeserializeOwned + Default>(path: Option<&Path>) -> CtlResult<T> {
    let Some(path) = path else { return Ok(T::default()) };
    let (name, text) = read_text(&path.display().to_string())?;
    if text.trim().is_empty() {
        return Ok(T::default());
    }
    serde_yaml_ng::from_str(&text).map_err(|error| {
        let place = error.location().map_or_else(|| name.clone(), |at| format!("{name}:{}", at.line()));
        let text = error.to_string();
        let cause = text.rfind(" at line ").map_or(text.as_str(), |at| &text[..at]).to_owned();
        CtlError::usage(place, cause)
    })
}

/// Where an identity's files are: a folder of `tls.crt`, `tls.key` and `ca.crt`, or each by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The cluster's CA.
    pub ca: PathBuf,
}

/// The flags of an identity, each of which may be missing: those of [`IdentityFiles::of`], in its order.
pub type IdentityFlags = [Option<PathBuf>; 4];

impl IdentityFiles {
    /// What the flags say, over what the file of settings says.
    pub fn merged(flags: IdentityFlags, file: IdentityFlags) -> CtlResult<Self> {
        let ([folder, certificate, key, ca], [folder_file, certificate_file, key_file, ca_file]) = (flags, file);
        Self::of(folder.or(folder_file), certificate.or(certificate_file), key.or(key_file), ca.or(ca_file))
    }

    /// Files in `folder` unless named one by one.
    pub fn of(
        folder: Option<PathBuf>,
        certificate: Option<PathBuf>,
        key: Option<PathBuf>,
        ca: Option<PathBuf>,
    ) -> CtlResult<Self> {
        let pick = |given: Option<PathBuf>, name: &str, flag: &str| {
            given.or_else(|| folder.as_ref().map(|folder| folder.join(name))).ok_or_else(|| {
                CtlError::usage("reading the settings", format!("either --identity or --{flag} is needed"))
            })
        };
        Ok(Self {
            certificate: pick(certificate, file::CERTIFICATE, "certificate")?,
            key: pick(key, file::KEY, "key")?,
            ca: pick(ca, file::CA_CERTIFICATE, "ca")?,
        })
    }

    /// The identity in them.
    pub fn load(&self, env: &Env) -> CtlResult<Identity> {
        Identity::load_files(&*env.disk(), &self.certificate, &self.key, &self.ca)
            .map_err(|error| CtlError::usage("loading the own identity", chain(&error)))
    }
}

/// A setting without a default that neither the flags nor the file have.
pub fn missing(flag: &str) -> CtlError {
    CtlError::usage("reading the settings", format!("--{flag} is needed"))
}

/// What is wrong with an address that others are to dial.
pub fn check_dialable(flag: &str, addr: SocketAddr) -> CtlResult {
    let unspecified = match addr.ip() {
        IpAddr::V4(ip) => ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    if unspecified {
        let cause = format!("--listen {addr} is no address to dial; give {flag} HOST:PORT");
        return Err(CtlError::usage("reading the settings", cause));
    }
    Ok(())
}

/// A folder of the user's: what the variable says, else below the home folder.
fn user_folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    std::env::var_os(variable)
        .and_then(|path| absolute(path.into()))
        .or_else(|| Some(absolute(std::env::var_os("HOME")?.into())?.join(below_home)))
        .map(|folder| folder.join("ringfleet"))
}

/// Where nodes keep what they know of their devices, if nothing else is said; `None` without a home.
pub fn state_folder() -> Option<PathBuf> {
    user_folder("XDG_STATE_HOME", ".local/state")
}

/// Where compiled device code is kept, if nothing else is said.
pub fn cubin_cache() -> PathBuf {
    user_folder("XDG_CACHE_HOME", ".cache").unwrap_or_else(|| std::env::temp_dir().join("ringfleet")).join("cubin")
}

/// Ends this process when its parent ends, for children of a demonstration: nothing is left behind even if it is killed.
///
/// The kernel tells only of ends after the call, so a parent that is gone already is looked for after it.
pub fn die_with_parent(parent: i32) -> CtlResult {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    let attempt = "tying this process to its parent";
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| CtlError::failed(attempt, error))?;
    if getppid().is_some_and(|now| now.as_raw_nonzero().get() == parent) {
        Ok(())
    } else {
        Err(CtlError::failed(attempt, format!("process {parent} is gone")))
    }
}

/// Ready when somebody wants this process to end: SIGTERM or SIGINT.
pub async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        // Without handlers the signals end the process by themselves.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        lease_ms: Option<u32>,
    }

    #[test]
    fn a_settings_file_may_be_missing_and_its_errors_have_a_line() {
        assert_eq!(load::<Sample>(None).expect("defaults"), Sample::default());
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("node.yaml");
        std::fs::write(&path, "lease_ms: 5\n").expect("written");
        assert_eq!(load::<Sample>(Some(&path)).expect("read"), Sample { lease_ms: Some(5) });
        std::fs::write(&path, "\n\nleas_ms: 5\n").expect("written");
        let error = load::<Sample>(Some(&path)).expect_err("a wrong field").to_string();
        assert!(error.contains("node.yaml:3: ") && error.contains("unknown field `leas_ms`"), "{error}");
    }

    #[test]
    fn identity_files_come_from_a_folder_or_one_by_one() {
        let files = IdentityFiles::of(Some("/id".into()), None, Some("/elsewhere/key".into()), None).expect("all");
        assert_eq!(files.certificate, PathBuf::from("/id/tls.crt"));
        assert_eq!(files.key, PathBuf::from("/elsewhere/key"));
        assert!(IdentityFiles::of(None, None, None, None).is_err());
    }
}
