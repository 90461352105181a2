//! Devices in processes of their own: killed under a running cluster, suspect, cleared.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ringfleet::http;
use ringfleet::local::Signal;
use ringfleet_actors::counter::{Count, Counter, Read};
use ringfleet_client::Session;
use ringfleet_proto::control::Keys;
use ringfleet_tests::cluster::{PATIENCE, TestCluster};

use crate::support::{BINARY, Streams, run};

/// Counters that are asked.
const COUNTERS: u64 = 50;

/// The device process of a node.
fn device_of(cluster: &TestCluster, node: &str) -> Result<i32> {
    let agent = cluster.local.process(node).map_err(anyhow::Error::msg)?.pid.context("the agent runs")?;
    for task in std::fs::read_dir(format!("/proc/{agent}/task"))?.flatten() {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        if let Some(child) = children.split_whitespace().next() {
            return Ok(child.parse()?);
        }
    }
    anyhow::bail!("agent {agent} has no device process")
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
