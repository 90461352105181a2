//! Contexts: which cluster, as whom. One YAML file, `~/.config/ringfleet/config.yaml`, or where `--config` or
//! `RINGFLEET_CONFIG` points.
//!
//! ```yaml
//! currentContext: dev
//! contexts:
//! - name: dev
//!   cluster: dev
//!   credentials: dev-operator
//! clusters:
//! - name: dev
//!   coordinators: ["127.0.0.1:7400", "127.0.0.1:7401"]
//!   ca: /home/me/.local/share/ringfleet/dev/ca.pem
//! credentials:
//! - name: dev-operator
//!   certificate: /home/me/.local/share/ringfleet/dev/operator.pem
//!   key: /home/me/.local/share/ringfleet/dev/operator.key
//! ```
//! Relative paths count from the file's own folder.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{CtlError, CtlResult};

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigFile {
    /// The context used without `--context`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_context: Option<String>,
    /// Pairs of a cluster and credentials.
    #[serde(default)]
    pub contexts: Vec<ContextEntry>,
    /// Clusters.
    #[serde(default)]
    pub clusters: Vec<ClusterEntry>,
    /// Credentials.
    #[serde(default)]
    pub credentials: Vec<CredentialsEntry>,
}

/// A cluster and as whom to use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextEntry {
    /// Its name.
    pub name: String,
    /// Name of the cluster entry.
    pub cluster: String,
    /// Name of the credentials entry.
    pub credentials: String,
}

/// Where a cluster is and whom to believe there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterEntry {
    /// Its name, also the one in the certificates of its members.
    pub name: String,
    /// Addresses of coordinators, as `host:port`; one that answers is enough.
    pub coordinators: Vec<String>,
    /// The cluster's CA, PEM.
    pub ca: PathBuf,
}

/// Who somebody is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialsEntry {
    /// Its name.
    pub name: String,
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// A context with everything it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Its name.
    pub name: String,
    /// The cluster.
    pub cluster: ClusterEntry,
    /// The credentials.
    pub credentials: CredentialsEntry,
}

/// The file that is used when `--config` says nothing (clap reads `RINGFLEET_CONFIG`).
pub fn default_path() -> CtlResult<PathBuf> {
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    let base = base.ok_or_else(|| CtlError::usage("finding the configuration", "HOME is not set; use --config"))?;
    Ok(base.join("ringfleet").join("config.yaml"))
}

impl ConfigFile {
    /// The file at `path`; a missing one is empty.
    pub fn load(path: &Path) -> CtlResult<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(CtlError::usage(format!("reading {}", path.display()), error)),
        };
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_yaml_ng::from_str(&text).map_err(|error| CtlError::usage(format!("reading {}", path.display()), error))
    }

    /// Writes the file at `path` as a whole, for its owner only: a reader sees the old one or the new one.
    pub fn save(&self, path: &Path) -> CtlResult {
        let attempt = || format!("writing {}", path.display());
        let text = serde_yaml_ng::to_string(self).map_err(|error| CtlError::failed(attempt(), error))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(|error| CtlError::failed(attempt(), error))?;
        let scratch = path.with_extension(format!("new.{}", std::process::id()));
        let write = || -> std::io::Result<()> {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&scratch)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&scratch, path)
        };
        write().map_err(|error| CtlError::failed(attempt(), error))
    }

    /// The context `name`, or the current one, with everything it names. `path` is where this file stands.
    pub fn context(&self, name: Option<&str>, path: &Path) -> CtlResult<Context> {
        let attempt = "choosing a context";
        let at = path.display();
        let name = name.or(self.current_context.as_deref()).ok_or_else(|| {
            let hint = "run `ringfleet dev up` for a local cluster, or `ringfleet config use-context NAME`";
            CtlError::usage(attempt, format!("none is current in {at}; {hint}"))
        })?;
        let missing = |what: &str, name: &str| CtlError::usage(attempt, format!("no {what} `{name}` in {at}"));
        let entry = self.contexts.iter().find(|c| c.name == name).ok_or_else(|| missing("context", name))?;
        let cluster = self.clusters.iter().find(|c| c.name == entry.cluster);
        let mut cluster = cluster.cloned().ok_or_else(|| missing("cluster", &entry.cluster))?;
        let credentials = self.credentials.iter().find(|c| c.name == entry.credentials);
        let mut credentials = credentials.cloned().ok_or_else(|| missing("credentials", &entry.credentials))?;
        if cluster.coordinators.is_empty() {
            return Err(CtlError::usage(attempt, format!("cluster `{}` has no coordinators in {at}", cluster.name)));
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        for file in [&mut cluster.ca, &mut credentials.certificate, &mut credentials.key] {
            *file = folder.join(&*file);
        }
        Ok(Context { name: name.to_owned(), cluster, credentials })
    }

    /// Adds or replaces a context with its cluster and credentials, and makes it current.
    pub fn put(&mut self, context: Context) {
        fn put<T>(list: &mut Vec<T>, entry: T, same: impl Fn(&T) -> bool) {
            match list.iter_mut().find(|old| same(old)) {
                Some(old) => *old = entry,
                None => list.push(entry),
            }
        }
        let Context { name, cluster, credentials } = context;
        let entry =
            ContextEntry { name: name.clone(), cluster: cluster.name.clone(), credentials: credentials.name.clone() };
        put(&mut self.contexts, entry, |old| old.name == name);
        let cluster_name = cluster.name.clone();
        put(&mut self.clusters, cluster, |old| old.name == cluster_name);
        let credentials_name = credentials.name.clone();
        put(&mut self.credentials, credentials, |old| old.name == credentials_name);
        self.current_context = Some(name);
    }

    /// Removes a context and what only it used. Says whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let Some(at) = self.contexts.iter().position(|context| context.name == name) else { return false };
        let gone = self.contexts.remove(at);
        if self.contexts.iter().all(|context| context.cluster != gone.cluster) {
            self.clusters.retain(|cluster| cluster.name != gone.cluster);
        }
        if self.contexts.iter().all(|context| context.credentials != gone.credentials) {
            self.credentials.retain(|credentials| credentials.name != gone.credentials);
        }
        if self.current_context.as_deref() == Some(name) {
            self.current_context = self.contexts.first().map(|context| context.name.clone());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(name: &str) -> Context {
        Context {
            name: name.to_owned(),
            cluster: ClusterEntry {
                name: name.to_owned(),
                coordinators: vec!["127.0.0.1:1".to_owned()],
                ca: "ca.pem".into(),
            },
            credentials: CredentialsEntry {
                name: format!("{name}-operator"),
                certificate: "/abs/o.pem".into(),
                key: "o.key".into(),
            },
        }
    }

    #[test]
    fn a_context_survives_the_file_and_its_paths_count_from_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/config.yaml");
        assert_eq!(ConfigFile::load(&path).expect("missing is empty"), ConfigFile::default());
        let mut file = ConfigFile::default();
        file.put(context("a"));
        file.put(context("b"));
        file.put(context("b"));
        file.save(&path).expect("written");
        let read = ConfigFile::load(&path).expect("read");
        assert_eq!(read, file);
        assert_eq!(read.contexts.len(), 2);
        let current = read.context(None, &path).expect("current");
        assert_eq!(current.name, "b");
        assert_eq!(current.cluster.ca, folder.path().join("deep/ca.pem"));
        assert_eq!(current.credentials.certificate, PathBuf::from("/abs/o.pem"));
    }

    #[test]
    fn removing_a_context_takes_what_only_it_used() {
        let mut file = ConfigFile::default();
        file.put(context("a"));
        file.put(context("b"));
        assert!(file.remove("b") && !file.remove("b"));
        assert_eq!((file.clusters.len(), file.credentials.len()), (1, 1));
        assert_eq!(file.current_context.as_deref(), Some("a"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let path = Path::new("/x/config.yaml");
        let mut file = ConfigFile::default();
        let error = |file: &ConfigFile, name| file.context(name, path).expect_err("missing").to_string();
        assert!(error(&file, None).contains("none is current in /x/config.yaml"));
        assert!(error(&file, Some("z")).contains("no context `z`"));
        file.put(context("a"));
        file.clusters.clear();
        assert!(error(&file, None).contains("no cluster `a`"));
    }
}
