//! What is logged concerns nobody but its readers.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};
use ringfleet::local::Host;
use ringfleet_tests::cluster::TestCluster;

use super::support::{BINARY, Streams, run};

/// A process once panicked in the first task that logged: the log could not be written, and saying so could not, either.
#[test]
fn processes_whose_log_is_on_a_full_disk_work() {
    run(async |env| -> Result<()> {
        let cluster = TestCluster::start(&env, BINARY, |config| {
            (config.coordinators, config.nodes) = (1, 2);
            let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let wrap = ["sh", "-c", "exec \"$@\" >/dev/full 2>&1", "sh"].map(str::to_owned).to_vec();
            config.hosts = vec![Host { ip: here, proxy_ip: here, wrap }; 3];
        })
        .await?;
        let mut streams = Streams::prepare(&cluster, 16).await?;
        streams.send(20).await?;
        streams.check(&cluster).await?;
        let sum = cluster.conserved().await?;
        ensure!(sum.dead_lettered == 0 && sum.lost == 0, "{sum:?}");
        cluster.stop().await
    });
}
