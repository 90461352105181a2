//! A node whose wall clock is off gets no lease until it is right again (C6), and nothing goes missing without a word (C7).

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result, bail, ensure};
use ringfleet::local::Host;
use ringfleet_proto::control::{AdminAnswer, AdminVerb, NodeInfo, NodeState};
use ringfleet_tests::cluster::{PATIENCE, TestCluster};
use ringfleet_tests::faults::preload::Library;

use super::support::{BINARY, Streams, run};

/// Far enough for the quarantine, near enough for every other check to let it pass: the hard case.
const OFFSET_MS: i64 = 180;

async fn node(cluster: &TestCluster, name: &str) -> Result<Option<NodeInfo>> {
    match cluster.client.call(AdminVerb::Nodes, PATIENCE).await? {
        AdminAnswer::Nodes(nodes) => {
            Ok(nodes.into_iter().find(|node| node.name == name && node.state == NodeState::Alive))
        }
        other => bail!("asked for nodes, got {other:?}"),
    }
}

#[test]
fn a_node_whose_clock_is_off_gets_no_lease_until_it_is_right_again() {
    run(async |env| -> Result<()> {
        let folder = tempfile::tempdir()?;
        let words = Library::build(folder.path())?.words("n3")?;
        let mut cluster = TestCluster::start(&env, BINARY, |config| {
            let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let host = Host { ip: here, proxy_ip: here, wrap: Vec::new() };
            config.hosts = vec![host; usize::from(config.coordinators + config.nodes)];
            let last = config.hosts.last_mut().expect("there are processes");
            last.wrap = words.wrap().to_vec();
        })
        .await?;
        let mut streams = Streams::prepare(&cluster, 64).await?;
        streams.send(50).await?;
        streams.check(&cluster).await?;
        let before = node(&cluster, "n3").await?.context("n3 has joined")?;
        ensure!(before.clock_offset_ms.abs() < OFFSET_MS / 2, "{before:?}");

        words.set_clock(OFFSET_MS, 0, 0)?;
        let mut seen = None;
        cluster
            .until("the node to be quarantined, and declared lost", async || {
                let now = node(&cluster, "n3").await?;
                if let Some(now) = &now {
                    seen = Some(now.clone()).filter(|now| now.quarantined).or(seen.take());
                }
                Ok(now.is_none())
            })
            .await?;
        let seen = seen.context("C6: a node that was declared lost without having been quarantined")?;
        ensure!((seen.clock_offset_ms - OFFSET_MS).abs() < OFFSET_MS / 2, "{seen:?}");
        // Its shards live elsewhere, empty; whatever was under way is accounted for below.
        for key in 0..streams.count {
            // The session may hear of the loss a moment after the coordinators; until then it asks the lost node.
            let answered = async || Ok(streams.at(ringfleet_tests::actors::RELAY, key).await.is_ok());
            cluster.until("every relay to answer", answered).await?;
        }
        streams.send(20).await?;
        // What was under way to the lost node may be reported lost here.
        let _ = env.timeout(PATIENCE, streams.session.flush()).await?;
        ensure!(node(&cluster, "n3").await?.is_none(), "C6: it has joined with a clock that is off");
        let page = &cluster.pages().await?[2];
        ensure!(page.sum("ringfleet_node_quarantined") == 1, "the node does not say that it is kept out");

        words.set_clock(0, 0, 0)?;
        cluster
            .until("the node to join again", async || {
                Ok(node(&cluster, "n3").await?.is_some_and(|node| !node.quarantined))
            })
            .await?;
        streams.send(20).await?;
        env.timeout(PATIENCE, streams.session.flush()).await??;
        let sum = cluster.conserved().await?;
        println!("{sum:?}");
        cluster.local.stop_all(PATIENCE).await.map_err(anyhow::Error::msg)?;
        Ok(())
    });
}
