//! `ringfleet device`: the process of one device, and what a node knows of its devices.
//!
//! `run` is started by agents, not by people: its standard input is the socket to the agent. The other verbs look at the state folder of a
//! node, on that node's machine; they need no cluster.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use ringfleet_actor::TypeRegistry;
use ringfleet_env::SystemClock;
use ringfleet_gpu::process::{Role, serve};
use ringfleet_node::devices;
use serde::Serialize;

use crate::app::App;
use crate::error::{CtlError, CtlResult};
use crate::out::{self, Table};
use crate::settings;

/// The verbs of `device`.
#[derive(Debug, Subcommand)]
pub enum DeviceVerb {
    /// Be the process of one device. Started by an agent, which is at the other end of standard input.
    #[command(hide = true)]
    Run(RunArgs),
    /// The devices that a node does not use because they failed twice within a minute.
    Suspects(StateArgs),
    /// Let a node use a device again.
    Clear(ClearArgs),
}

/// What runs the actors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceKind {
    /// Threads.
    Cpu,
    /// A GPU.
    Gpu,
}

/// Arguments of `device run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// What runs the actors.
    #[arg(long, value_enum)]
    pub kind: DeviceKind,
    /// Which GPU, as the driver counts.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub gpu: u32,
    /// Where compiled device code is kept [default: ~/.cache/ringfleet/cubin].
    #[arg(long, value_name = "FOLDER")]
    pub cache: Option<PathBuf>,
}

/// Where a node keeps what it knows of its devices.
#[derive(Debug, Args)]
pub struct StateArgs {
    /// The node's state folder, as its --state says.
    #[arg(long, value_name = "FOLDER")]
    pub state: PathBuf,
}

/// Arguments of `device clear`.
#[derive(Debug, Args)]
pub struct ClearArgs {
    /// The device, as `device suspects` shows it.
    #[arg(value_name = "DEVICE")]
    pub device: String,
    /// Where.
    #[command(flatten)]
    pub place: StateArgs,
}

#[derive(Debug, Serialize)]
struct SuspectRow {
    device: String,
    why: String,
}

/// Carries the verb out.
pub fn run(app: &App, verb: &DeviceVerb) -> CtlResult {
    match verb {
        DeviceVerb::Run(args) => serve_device(app, args),
        DeviceVerb::Suspects(args) => suspects(app, args),
        DeviceVerb::Clear(args) => clear(app, args),
    }
}

fn serve_device(app: &App, args: &RunArgs) -> CtlResult {
    let attempt = "being a device process";
    let role = match args.kind {
        DeviceKind::Cpu => Role::Cpu,
        DeviceKind::Gpu => {
            let cache = args.cache.clone().unwrap_or_else(settings::cubin_cache);
            Role::Gpu { ordinal: args.gpu, cache }
        }
    };
    let socket = std::io::stdin().as_fd().try_clone_to_owned().map_err(|error| CtlError::failed(attempt, error))?;
    // The order of the registry, as in the agent: types are told by their index.
    let types = TypeRegistry::new(app.types.iter().copied()).map_err(|error| CtlError::usage(attempt, error))?;
    let types: Vec<_> = types.iter().collect();
    serve(&role, &types, Arc::new(SystemClock), socket).map_err(|error| CtlError::failed(attempt, error))
}

fn suspects(app: &App, args: &StateArgs) -> CtlResult {
    let attempt = || format!("reading {}", args.state.display());
    if !args.state.is_dir() {
        eprintln!("there is no folder {}; a node makes it when it marks its first device", args.state.display());
    }
    let found = devices::suspects(&app.env, &args.state).map_err(|error| CtlError::failed(attempt(), error))?;
    let rows: Vec<SuspectRow> = found.into_iter().map(|(device, why)| SuspectRow { device, why }).collect();
    out::print(app.global.output, &rows, |rows| {
        let mut table = Table::new(&["DEVICE", "WHY"]);
        for row in rows {
            table.row([row.device.clone(), row.why.clone()]);
        }
        table.render()
    })
}

fn clear(app: &App, args: &ClearArgs) -> CtlResult {
    let (device, folder) = (&args.device, &args.place.state);
    let attempt = format!("clearing device {device}");
    // A name is no path: nothing outside the folder is meant.
    if device.is_empty() || !device.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Err(CtlError::usage(attempt, "no device has such a name"));
    }
    match devices::clear(&app.env, folder, device) {
        Ok(true) => {
            eprintln!(
                "cleared; a node that waits for {device} takes it at once, one that runs on others when it starts its devices next"
            );
            Ok(())
        }
        Ok(false) => Err(CtlError::failed(attempt, format!("it is not suspect in {}", folder.display()))),
        Err(error) => Err(CtlError::failed(attempt, error)),
    }
}
