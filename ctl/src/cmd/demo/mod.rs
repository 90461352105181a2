//! `ringfleet demo`: the whole thing, end to end, with every result checked.
//!
//! ```text
//!   start 3 coordinators, 3 nodes ─▶ apply the application's sets ─▶ run it ───────────────────▶ quiet ─▶ ask ─▶ compare ─▶ C7 ─▶ stop
//!                                                                     └─ half-way: SIGKILL the leader,
//!                                                                        apply and use a second set
//! ```
//! The checks, all of which must hold for exit code 0:
//! - the leader was killed, and a second set was applied and used, before the application ended;
//! - every message was acknowledged as handled, none lost (C3);
//! - every result is equal to that of a computation written independently of the actors;
//! - the conservation sum of all nodes is exact and nothing is in flight (C7);
//! - every process stopped by itself when asked.

mod application;
mod ask;
mod chaos;
mod checks;
pub mod flights;
pub mod graph;
mod half_way;
mod leader;
mod progress;
mod quiet;
mod stream;
mod txmon;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ringfleet_client::Session;
use ringfleet_link::Role;
use tempfile::TempDir;

use crate::app::{App, Cluster};
use crate::cmd::apply;
use crate::cmd::demo::application::{Application, Stage};
use crate::cmd::demo::checks::Checks;
use crate::cmd::demo::quiet::{node_pages, wait_quiet};
use crate::devices::devices_of_nodes;
use crate::document;
use crate::error::{CtlError, CtlResult};
use crate::local::{LocalCluster, LocalConfig};
use crate::out;
use crate::settings::asked_to_stop;

/// How long starting the cluster may take.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long one call to the cluster may take.
const CALL_PATIENCE: Duration = Duration::from_secs(20);
/// How long processes may take to stop before they are killed.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// How long telling the peers that the demonstration is over may take.
const GOODBYE_LIMIT: Duration = Duration::from_millis(200);
/// How long the application takes at least when links are cut, so that each of them is.
const CHAOS_SPAN: Duration = Duration::from_secs(15);
/// The cluster's name.
const NAME: &str = "demo";

/// What is demonstrated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AppName {
    /// A year of real flights: CSV, one event a line [built in: all from New York in 2013].
    #[default]
    Flights,
    /// PageRank and connected components of a graph, a line a vertex: its name, a tab, the numbers of those that it leads to [built in: WordNet].
    Graph,
    /// Transaction monitoring: CSV, one transaction a line [built in: a month of a bank that does not exist, from a seeded model].
    Txmon,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// The application.
    #[arg(long, value_enum, default_value_t)]
    pub app: AppName,
    /// Its input, gzipped if the name ends in .gz [default: what is built in].
    #[arg(long, value_name = "FILE", visible_alias = "events")]
    pub input: Option<PathBuf>,
    /// Nodes.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub nodes: u16,
    /// Coordinators. With fewer than 3 the leader is not killed: nobody could follow it.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=7))]
    pub coordinators: u16,
    /// Workers of each node's CPU device.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,
    /// What the nodes run on: auto (each a GPU of its own while there are some, else cpu), or what a node's --devices may say.
    #[arg(long, value_name = "LIST", default_value = "cpu")]
    pub devices: String,
    /// Keep the folder with certificates, data and logs.
    #[arg(long)]
    pub keep: bool,
    /// Cut each link between nodes and to the client for a second, at random moments.
    #[arg(long)]
    pub chaos: bool,
}

/// Runs the demonstration.
pub async fn run(app: &App, args: &DemoArgs) -> CtlResult {
    let input = args.input.as_deref();
    match args.app {
        AppName::Flights => demonstrate(app, args, flights::Flights::open(input)?).await,
        AppName::Graph => demonstrate(app, args, graph::Graph::open(input)?).await,
        AppName::Txmon => demonstrate(app, args, txmon::Txmon::open(input)?).await,
    }
}

async fn demonstrate<A: Application>(app: &App, args: &DemoArgs, application: A) -> CtlResult {
    let folder = tempfile::Builder::new().prefix("ringfleet-demo-").tempdir();
    let folder = folder.map_err(|error| CtlError::failed("making a temporary folder", error))?;
    let mut config = LocalConfig::new(folder.path().to_owned(), NAME);
    config.coordinators = args.coordinators;
    config.nodes = args.nodes;
    config.workers = args.workers;
    config.devices = devices_of_nodes(&args.devices, args.nodes)?;
    config.proxied = args.chaos;
    config.log = app.global.log.clone().unwrap_or(config.log);
    let mut cluster = LocalCluster::create(&app.env, &config)?;
    let (outcome, interrupted) = tokio::select! {
        outcome = story(app, args, application, &mut cluster) => (outcome, false),
        () = asked_to_stop() => (Err(CtlError::failed("demo", "interrupted")), true),
    };
    let stopped = cluster.stop_all(STOP_PATIENCE).await;
    drop(cluster);
    let ended = outcome.and_then(|checks| conclude(checks, stopped));
    // The logs of a failure explain it.
    let finished = finish(folder, args.keep || ended.is_err() && !interrupted);
    ended.and(finished)
}

/// The last check, and whether all of them held.
fn conclude(mut checks: Checks, stopped: CtlResult<Vec<String>>) -> CtlResult {
    let killed = stopped?;
    checks.check("every process stopped when asked", killed.is_empty(), || format!("killed: {}", killed.join(", ")));
    checks.conclude()
}

/// Removes the folder, or says where it is.
fn finish(folder: TempDir, keep: bool) -> CtlResult {
    if keep {
        eprintln!("certificates, data and logs are kept in {}", folder.keep().display());
        return Ok(());
    }
    let attempt = format!("removing {}", folder.path().display());
    folder.close().map_err(|error| CtlError::failed(attempt, error))
}

async fn story<A: Application>(
    app: &App,
    args: &DemoArgs,
    application: A,
    cluster: &mut LocalCluster,
) -> CtlResult<Checks> {
    let mut checks = Checks::default();
    let proxies = if args.chaos { Some(chaos::Proxies::start(&app.env, cluster)?) } else { None };
    eprintln!("starting {} coordinators and {} nodes of {} workers", args.coordinators, args.nodes, args.workers);
    cluster.start_all()?;
    cluster.wait_ready(app.env.now() + START_PATIENCE).await?;

    let mut operator = Cluster::of(&app.env, &cluster.context(Role::Operator), CALL_PATIENCE)?;
    for located in document::parse(A::SETS.0, A::SETS.1)? {
        operator.deadline = app.env.now() + CALL_PATIENCE;
        let name = located.set.metadata.name.clone();
        apply::apply(&operator, located.set, &located.place, true).await?;
        eprintln!("applied {name}");
    }

    let client = Cluster::of(&app.env, &cluster.context(Role::Client), CALL_PATIENCE)?;
    let session = crate::cmd::tell::open_session(&client).await?;
    let pages = node_pages(cluster);
    let progress = progress::Progress::new(application.units(), A::UNIT);
    let half_way = half_way::HalfWay::default();
    let span_min = args.chaos.then_some(CHAOS_SPAN);
    let stage = Stage { env: &app.env, session: &session, progress: &progress, half_way: &half_way, span_min };
    let chaos = proxies.as_ref().map(|proxies| proxies.cut_links(&app.env));
    let running = application.run(&stage);
    let meanwhile = leader::kill_and_go_on(app, &operator, cluster, &session, &half_way, &progress);
    let watching = progress.watch(&app.env, &operator, &pages);
    let started = app.env.now();
    let both = tokio::select! {
        // The first failure of either ends both.
        both = async { tokio::try_join!(running, meanwhile) } => both,
        never = watching => match never {},
    };
    progress.finish();
    let (told, meanwhile) = both?;
    let took = app.env.now() - started;
    drop(chaos);

    report(&A::summary(&told, took), &session);
    let what = "a second set was applied and used before the application ended";
    checks.check(what, meanwhile.used, || meanwhile.what.clone());
    judge::<A>(told, &stage, &pages, &mut checks).await?;
    if let Some(proxies) = &proxies {
        let (links, cuts, dropped) = proxies.counts();
        eprintln!("chaos: {cuts} cuts of {links} links, {dropped} datagrams dropped");
        checks.check("every link was cut at least once", proxies.all_cut(), || format!("{cuts} cuts of {links} links"));
    }
    drop(session);
    client.client.close(GOODBYE_LIMIT).await;
    operator.client.close(GOODBYE_LIMIT).await;
    Ok(checks)
}

/// Checks acknowledgements, results and the conservation sum, and prints the results.
async fn judge<A: Application>(told: A::Told, stage: &Stage<'_>, pages: &[String], checks: &mut Checks) -> CtlResult {
    let counters = stage.session.counters();
    let complete = counters.outstanding() == 0 && counters.lost == 0;
    checks.check("every message was acknowledged, none lost (C3)", complete, || format!("{counters:?}"));

    // What actors told each other is handled when nothing is in flight.
    wait_quiet(stage.env, pages).await?;
    A::judge(told, stage, checks).await?;

    let sum = wait_quiet(stage.env, pages).await?;
    out::write_text(&format!("CONSERVATION (C7), all nodes\n{sum}\n"))?;
    checks.check("the conservation sum is exact (C7)", sum.holds() && sum.in_flight == 0, || format!("{sum:?}"));
    let clean = sum.dead_lettered == 0 && sum.lost == 0;
    checks.check("nothing was dead-lettered or lost between actors", clean, || format!("{sum:?}"));
    Ok(())
}

fn report(summary: &str, session: &Session) {
    let counters = session.counters();
    eprintln!(
        "{summary}; busy {}, moved {}, links broken {}",
        counters.busy_retries, counters.moved, counters.reconnects
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_failed_and_a_process_that_was_killed_are_failures_whose_logs_are_kept() {
        let mut failed = Checks::default();
        failed.check("one and one are two", false, || "they are three".to_owned());
        let ended = conclude(failed, Ok(Vec::new()));
        assert!(ended.as_ref().is_err_and(|error| error.text.contains("they are three")), "{ended:?}");
        assert!(conclude(Checks::default(), Ok(vec!["n1".to_owned()])).is_err());
        assert_eq!(conclude(Checks::default(), Ok(Vec::new())), Ok(()));

        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().to_owned();
        finish(folder, ended.is_err()).expect("kept");
        assert!(path.exists());
        std::fs::remove_dir(path).expect("empty");
    }
}
