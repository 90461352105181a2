//! A node that was declared lost goes on as another incarnation, and nothing that it held or counted goes missing.

use std::time::Duration;

use anyhow::{Result, ensure};
use ringfleet::local::Signal;
use ringfleet_tests::cluster::{PATIENCE, TestCluster};

use super::support::{BINARY, Streams, run};

#[test]
fn a_node_that_is_paused_beyond_its_lease_joins_anew_and_its_messages_are_accounted_for() {
    run(async |env| -> Result<()> {
        let mut cluster = TestCluster::start(&env, BINARY, |_| ()).await?;
        let mut streams = Streams::prepare(&cluster, 64).await?;
        streams.send(50).await?;
        streams.session.flush().await?;
        let before = cluster.conserved().await?;
        // Under load, so that it holds something when it stops: from clients, from nodes, and for nodes.
        streams.send(200).await?;
        cluster.local.signal("n2", Signal::STOP).map_err(anyhow::Error::msg)?;
        let stopped_at = env.now();
        while env.now() < stopped_at + Duration::from_secs(6) {
            // Streams to the paused node fill the client's window, so this may wait until they are reported lost.
            let _ = env.timeout(Duration::from_millis(100), streams.send(1)).await;
        }
        cluster.local.signal("n2", Signal::CONT).map_err(anyhow::Error::msg)?;
        cluster
            .until("the paused node to join anew", async || {
                Ok(cluster.metric("ringfleet_node_fenced_total").await? == 1)
            })
            .await?;
        let _ = env.timeout(PATIENCE, streams.session.flush()).await?;
        let sum = cluster.conserved().await?;
        println!("before {before:?}, after {sum:?}");
        ensure!(sum.sent > before.sent && sum.handled > before.handled, "counters went back: {before:?} {sum:?}");
        let fenced = cluster.lost("sender_fenced").await?;
        println!("{fenced} messages were lost with the fenced incarnation");
        cluster.stop().await
    });
}
