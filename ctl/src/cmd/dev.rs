//! `ringfleet dev up|down|status`: a local cluster of real processes that stays.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use ringfleet_link::Role;
use serde::Serialize;

use crate::app::App;
use crate::config::ConfigFile;
use crate::devices::devices_of_nodes;
use crate::error::{CtlError, CtlResult, Exit};
use crate::http;
use crate::local::{Kind, LocalCluster, LocalConfig};
use crate::out::{self, Table};

/// The cluster's and the context's name.
const NAME: &str = "dev";
/// The roles that get a context; the operator's is the current one.
const ROLES: [Role; 3] = [Role::Client, Role::Viewer, Role::Operator];
/// How long processes may take to stop before they are killed.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// The least time that starting is given, whatever `--deadline` says.
const UP_PATIENCE: Duration = Duration::from_secs(30);

/// The verbs of `dev`.
#[derive(Debug, Subcommand)]
pub enum DevVerb {
    /// Start it, wait until it is ready, and make its context the current one.
    Up(UpArgs),
    /// Stop it and remove what it made.
    Down(DownArgs),
    /// What runs.
    Status(WhereArgs),
}

/// Where it is.
#[derive(Debug, Args)]
pub struct WhereArgs {
    /// The cluster's folder [default: ~/.local/share/ringfleet/dev].
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<PathBuf>,
}

/// Arguments of `dev up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Where it is.
    #[command(flatten)]
    pub place: WhereArgs,
    /// Coordinators.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=7))]
    pub coordinators: u16,
    /// Nodes.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub nodes: u16,
    /// Workers of each node's CPU device.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,
    /// What the nodes run on: auto (each a GPU of its own while there are some, else cpu), or what a node's --devices may say.
    #[arg(long, value_name = "LIST", default_value = "auto")]
    pub devices: String,
    /// How long a node's lease lasts.
    #[arg(long, value_name = "MS")]
    pub lease_ms: Option<u32>,
}

/// Arguments of `dev down`.
#[derive(Debug, Args)]
pub struct DownArgs {
    /// Where it is.
    #[command(flatten)]
    pub place: WhereArgs,
    /// Keep data, certificates and logs; `dev up` goes on with them.
    #[arg(long)]
    pub keep_data: bool,
}

/// Carries the verb out.
pub async fn run(app: &App, verb: &DevVerb) -> CtlResult {
    match verb {
        DevVerb::Up(args) => up(app, args).await,
        DevVerb::Down(args) => down(app, args).await,
        DevVerb::Status(args) => status(app, args).await,
    }
}

fn folder(args: &WhereArgs) -> CtlResult<PathBuf> {
    if let Some(dir) = &args.dir {
        return Ok(dir.clone());
    }
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let data = data.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share")));
    let data = data.ok_or_else(|| CtlError::usage("choosing a folder", "HOME is not set; use --dir"))?;
    Ok(data.join("ringfleet").join(NAME))
}

async fn up(app: &App, args: &UpArgs) -> CtlResult {
    let attempt = "starting the local cluster";
    let folder = folder(&args.place)?;
    let mut cluster = match LocalCluster::open(&app.env, &folder)? {
        Some(mut cluster) => {
            let names: Vec<String> = cluster.processes().iter().map(|process| process.name.clone()).collect();
            for name in &names {
                if cluster.is_running(name)? {
                    let cause = format!("one runs in {} already; see `ringfleet dev status`", folder.display());
                    return Err(CtlError::failed(attempt, cause));
                }
            }
            cluster
        }
        None => {
            let mut config = LocalConfig::new(folder.clone(), NAME);
            config.die_with_parent = false;
            config.coordinators = args.coordinators;
            config.nodes = args.nodes;
            config.workers = args.workers;
            config.devices = devices_of_nodes(&args.devices, args.nodes)?;
            config.lease_ms = args.lease_ms;
            config.log = app.global.log.clone().unwrap_or(config.log);
            LocalCluster::create(&app.env, &config)?
        }
    };
    let deadline = app.env.now() + app.global.deadline.max(UP_PATIENCE);
    let started = match cluster.start_all() {
        Ok(()) => cluster.wait_ready(deadline).await,
        Err(error) => Err(error),
    };
    if let Err(error) = started {
        // The logs stay: they are what explains it.
        cluster.stop_all(STOP_PATIENCE).await?;
        let logs = format!("logs are in {}; `ringfleet dev down` removes them", folder.display());
        return Err(CtlError::new(error.exit, format!("{attempt}: {error} ({logs})")));
    }
    let path = app.config_path()?;
    let mut file = ConfigFile::load(&path)?;
    // The last one becomes the current one.
    for role in ROLES {
        file.put(cluster.context(role));
    }
    file.save(&path)?;
    cluster.detach();
    eprintln!("the cluster is ready; context {NAME} is current in {}", path.display());
    print_rows(app, &mut cluster).await
}

async fn down(app: &App, args: &DownArgs) -> CtlResult {
    let folder = folder(&args.place)?;
    let Some(mut cluster) = LocalCluster::open(&app.env, &folder)? else {
        let cause = format!("there is none in {}", folder.display());
        return Err(CtlError::new(Exit::Failed, format!("stopping the local cluster: {cause}")));
    };
    let killed = cluster.stop_all(STOP_PATIENCE.max(app.global.deadline)).await?;
    for name in killed {
        eprintln!("{name} did not stop in time and was killed");
    }
    if args.keep_data {
        eprintln!("stopped; everything is kept in {}", folder.display());
        return Ok(());
    }
    cluster.remove_files()?;
    let path = app.config_path()?;
    let mut file = ConfigFile::load(&path)?;
    let removed = ROLES.map(|role| file.remove(&cluster.context(role).name));
    if removed.contains(&true) {
        file.save(&path)?;
    }
    eprintln!("stopped and removed");
    Ok(())
}

async fn status(app: &App, args: &WhereArgs) -> CtlResult {
    let folder = folder(args)?;
    match LocalCluster::open(&app.env, &folder)? {
        Some(mut cluster) => print_rows(app, &mut cluster).await,
        None => {
            let cause = format!("there is none in {}; `ringfleet dev up` makes one", folder.display());
            Err(CtlError::failed("looking at the local cluster", cause))
        }
    }
}

#[derive(Debug, Serialize)]
struct ProcessRow {
    name: String,
    kind: Kind,
    state: String,
    pid: Option<i32>,
    listen: String,
    http: String,
    log: String,
}

async fn print_rows(app: &App, cluster: &mut LocalCluster) -> CtlResult {
    let mut rows = Vec::new();
    for process in cluster.processes().to_vec() {
        let running = cluster.is_running(&process.name)?;
        let http = process.http.to_string();
        let state = if !running {
            "stopped"
        } else if http::get(&app.env, &http, "/readyz", Duration::from_secs(1)).await.is_ok() {
            "ready"
        } else {
            "not ready"
        };
        rows.push(ProcessRow {
            name: process.name,
            kind: process.kind,
            state: state.to_owned(),
            pid: process.pid.filter(|_| running),
            listen: process.listen.to_string(),
            http,
            log: process.log.display().to_string(),
        });
    }
    out::print(app.global.output, &rows, |rows| {
        let mut table = Table::new(&["NAME", "KIND", "STATE", "PID", "ADDRESS", "HTTP", "LOG"]);
        for row in rows {
            let kind = match row.kind {
                Kind::Coordinator => "coordinator",
                Kind::Node => "node",
            };
            table.row([
                row.name.clone(),
                kind.to_owned(),
                row.state.clone(),
                row.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
                row.listen.clone(),
                row.http.clone(),
                row.log.clone(),
            ]);
        }
        table.render()
    })
}
