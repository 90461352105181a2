//! `ringfleet coordinator`: run one coordinator in the foreground.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use ringfleet_coordinator::{CoordinatorConfig, CoordinatorError, Peer};
use serde::Deserialize;

use crate::app::App;
use crate::error::{CtlError, CtlResult, chain};
use crate::settings::{self, IdentityFiles};

/// Arguments of `coordinator`. Each may also stand in the file, under its name with underscores; flags win.
#[derive(Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoordinatorArgs {
    /// A YAML file of these settings.
    #[arg(long, short, value_name = "FILE")]
    #[serde(skip)]
    pub file: Option<PathBuf>,
    /// Where the log lives. Of one coordinator only.
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Where it listens for nodes, clients and coordinators (UDP).
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// Where it serves /livez, /readyz and /metrics (TCP) [default: nowhere].
    #[arg(long, value_name = "IP:PORT")]
    pub http: Option<SocketAddr>,
    /// All coordinators, this one included, as `NAME=HOST:PORT`, with commas between.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub peers: Vec<String>,
    /// A folder with tls.crt, tls.key and ca.crt. The certificate says which coordinator this is.
    #[arg(long, value_name = "FOLDER")]
    pub identity: Option<PathBuf>,
    /// The certificate chain, if not in the folder.
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// Its private key, if not in the folder.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The cluster's CA, if not in the folder.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// How long a node's lease lasts, when the cluster starts for the first time [default: 3000].
    #[arg(long, value_name = "MS")]
    pub lease_ms: Option<u32>,
    /// End when this process ends.
    #[arg(long, value_name = "PID", hide = true)]
    #[serde(skip)]
    pub parent: Option<i32>,
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(app: &App, args: CoordinatorArgs) -> CtlResult {
    if let Some(parent) = args.parent {
        settings::die_with_parent(parent)?;
    }
    let config = config(app, args)?;
    let attempt = format!("running coordinator {}", config.name);
    let failed = |error: CoordinatorError| CtlError::failed(&attempt, chain(&error));
    ringfleet_coordinator::run_until(app.env.clone(), config, settings::asked_to_stop()).await.map_err(failed)
}

fn config(app: &App, flags: CoordinatorArgs) -> CtlResult<CoordinatorConfig> {
    let from_file: CoordinatorArgs = settings::load(flags.file.as_deref())?;
    let attempt = "reading the settings";
    let identity = IdentityFiles::merged(
        [flags.identity, flags.certificate, flags.key, flags.ca],
        [from_file.identity, from_file.certificate, from_file.key, from_file.ca],
    )?
    .load(&app.env)?;
    let peers = if flags.peers.is_empty() { from_file.peers } else { flags.peers };
    let peers = peers.iter().map(|text| peer(text)).collect::<CtlResult<Vec<_>>>()?;
    let data = flags.data.or(from_file.data).ok_or_else(|| settings::missing("data"))?;
    let listen = flags.listen.or(from_file.listen).ok_or_else(|| settings::missing("listen"))?;
    let name = identity.peer().name().to_owned();
    let mut config = CoordinatorConfig::new(&name, data, listen, peers, identity);
    config.http = flags.http.or(from_file.http);
    if let Some(lease_ms) = flags.lease_ms.or(from_file.lease_ms) {
        config.lease_ms = lease_ms;
    }
    config.check().map_err(|cause| CtlError::usage(attempt, cause))?;
    Ok(config)
}

/// `NAME=HOST:PORT`
fn peer(text: &str) -> CtlResult<Peer> {
    match text.split_once('=') {
        Some((name, addr)) if !name.is_empty() && addr.contains(':') => {
            Ok(Peer { name: name.to_owned(), addr: addr.to_owned() })
        }
        _ => Err(CtlError::usage("reading the settings", format!("peer `{text}` is not NAME=HOST:PORT"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_have_a_name_and_an_address() {
        assert_eq!(
            peer("c1=127.0.0.1:7400").expect("a peer"),
            Peer { name: "c1".to_owned(), addr: "127.0.0.1:7400".to_owned() }
        );
        for bad in ["c1", "=127.0.0.1:1", "c1=127.0.0.1"] {
            assert!(peer(bad).is_err(), "{bad}");
        }
    }
}
