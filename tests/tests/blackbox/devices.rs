//! Devices in processes of their own: killed under a running cluster, suspect, cleared.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ringfleet::http;
use ringfleet::local::Signal;
use ringfleet_actors::counter::{Add, Count, Counter, Read};
use ringfleet_client::Session;
use ringfleet_env::TaskEnd;
use ringfleet_proto::control::Keys;
use ringfleet_tests::cluster::{PATIENCE, TestCluster};

use crate::support::{BINARY, Streams, run};

/// Counters that are asked.
const COUNTERS: u64 = 50;

/// The device processes of a node.
fn devices_of(cluster: &TestCluster, node: &str) -> Result<Vec<i32>> {
    let agent = cluster.local.process(node).map_err(anyhow::Error::msg)?.pid.context("the agent runs")?;
    let mut devices = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{agent}/task"))?.flatten() {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            devices.push(child.parse()?);
        }
    }
    Ok(devices)
}

/// The device process of a node that has one.
fn device_of(cluster: &TestCluster, node: &str) -> Result<i32> {
    devices_of(cluster, node)?.first().copied().with_context(|| format!("node {node} has no device process"))
}

fn kill(pid: i32) -> Result<()> {
    let pid = rustix::process::Pid::from_raw(pid).context("a process")?;
    Ok(rustix::process::kill_process(pid, Signal::KILL)?)
}

/// Every counter answers: every shard is resident somewhere.
async fn all_answer(cluster: &TestCluster, session: &Session) -> Result<()> {
    for key in 0..COUNTERS {
        cluster
            .until("every counter's answer", async || {
                let asked: Result<Count, _> = session.ask_of(Counter::at(key), &Read {}, Duration::from_secs(5)).await;
                Ok(asked.is_ok())
            })
            .await?;
    }
    Ok(())
}

async fn ready(cluster: &TestCluster, node: &str) -> Result<String> {
    let addr = cluster.local.process(node).map_err(anyhow::Error::msg)?.http.to_string();
    http::get(&cluster.env, &addr, "/readyz", PATIENCE).await.map_err(anyhow::Error::msg)
}

#[test]
fn actors_in_device_processes_keep_order_and_lose_nothing() {
    run(async |env| -> Result<()> {
        let devices = vec!["process:cpu:2".to_owned(), "process:cpu:1+process:cpu:1".to_owned(), "cpu:2".to_owned()];
        let cluster = TestCluster::start(&env, BINARY, |config| config.devices = devices).await?;
        let mut streams = Streams::prepare(&cluster, 32).await?;
        streams.send(500).await?;
        streams.check(&cluster).await?;
        let sum = cluster.conserved().await?;
        ensure!(sum.dead_lettered == 0 && sum.lost == 0, "{sum:?}");
        cluster.stop().await
    });
}

#[test]
fn devices_that_are_killed_under_load_each_count_as_lost_and_the_sum_is_exact_afterwards() {
    run(async |env| -> Result<()> {
        let cluster = TestCluster::start(&env, BINARY, |config| {
            (config.coordinators, config.nodes) = (1, 2);
            config.devices = vec!["process:cpu:1+process:cpu:1".to_owned(), "process:cpu:1".to_owned()];
        })
        .await?;
        cluster.apply("counter", Keys::Dense { count: COUNTERS }, 12).await?;
        let session = cluster.session().await?;
        all_answer(&cluster, &session).await?;

        let (telling, stop) = (session.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let teller = env.spawn("teller", async move {
            for number in 0.. {
                let told = telling.tell_to(Counter::at(number % COUNTERS), &Add { amount: 1 }).await;
                assert!(told.is_ok(), "{told:?}");
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        cluster.until("a load", async || Ok(session.counters().acked > 10_000)).await?;
        let devices = devices_of(&cluster, "n1")?;
        ensure!(devices.len() == 2, "{devices:?}");
        devices.into_iter().try_for_each(kill)?;
        cluster
            .until("both losses are counted", async || Ok(cluster.metric("ringfleet_device_lost_total").await? == 2))
            .await?;
        cluster.until("the node is ready again", async || Ok(ready(&cluster, "n1").await.is_ok())).await?;
        stop.store(true, Ordering::Relaxed);
        ensure!(teller.await == TaskEnd::Completed);
        all_answer(&cluster, &session).await?;
        // What the killed devices had is reported lost: that is what happened.
        let _ = session.flush().await;
        let sum = cluster.conserved().await?;
        ensure!(sum.handled > 10_000, "{sum:?}");
        cluster.stop().await
    });
}

#[test]
fn a_killed_device_comes_back_and_one_that_dies_twice_waits_until_it_is_cleared() {
    run(async |env| -> Result<()> {
        let cluster = TestCluster::start(&env, BINARY, |config| {
            (config.coordinators, config.nodes) = (1, 2);
            config.devices = vec!["process:cpu:2".to_owned(); 2];
        })
        .await?;
        cluster.apply("counter", Keys::Dense { count: COUNTERS }, 12).await?;
        let session = cluster.session().await?;
        for key in 0..COUNTERS {
            let _: Count = session.ask_of(Counter::at(key), &Read {}, PATIENCE).await?;
        }

        let killed_at = env.now();
        kill(device_of(&cluster, "n1")?)?;
        cluster
            .until("the loss is counted", async || Ok(cluster.metric("ringfleet_device_lost_total").await? == 1))
            .await?;
        cluster.until("the node is ready again", async || Ok(ready(&cluster, "n1").await.is_ok())).await?;
        let took = env.now() - killed_at;
        println!("ready {took:?} after its device was killed");
        // 2 s is what is promised of a machine that does nothing else; this one may build and test at the same time.
        ensure!(took < Duration::from_secs(10), "the node was ready only {took:?} after its device was killed");
        all_answer(&cluster, &session).await?;

        // Twice within a minute: its node waits without a device, the shards live on the other.
        kill(device_of(&cluster, "n1")?)?;
        cluster
            .until("the suspicion is shown", async || Ok(cluster.metric("ringfleet_device_suspect").await? == 1))
            .await?;
        let refused = ready(&cluster, "n1").await.expect_err("not ready").to_string();
        ensure!(refused.contains("suspect devices: cpu-0"), "{refused}");
        all_answer(&cluster, &session).await?;

        let state = cluster.local.folder().join("n1/state");
        let ctl = |args: &[&str]| Command::new(BINARY).args(args).arg("--state").arg(&state).output();
        let suspects = String::from_utf8(ctl(&["device", "suspects", "-o", "json"])?.stdout)?;
        ensure!(suspects.contains("cpu-0") && suspects.contains("signal: 9"), "{suspects}");
        ensure!(ctl(&["device", "clear", "cpu-0"])?.status.success());
        ensure!(!ctl(&["device", "clear", "cpu-0"])?.status.success(), "it was cleared already");
        cluster.until("the cleared device is used", async || Ok(ready(&cluster, "n1").await.is_ok())).await?;
        ensure!(cluster.metric("ringfleet_device_suspect").await? == 0);
        all_answer(&cluster, &session).await?;
        cluster.stop().await
    });
}
