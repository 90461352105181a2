//! Faults of coordinators and links, under load.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ringfleet::local::{Kind, LocalCluster, Signal};
use ringfleet::metrics::SETTLED_AFTER;
use ringfleet::proxy::UdpProxy;
use ringfleet_actors::counter::{Add, Count, Counter, Read};
use ringfleet_client::FlushError;
use ringfleet_env::Env;
use ringfleet_proto::control::Keys;
use ringfleet_tests::cluster::{PATIENCE, TestCluster};

use crate::support::{BINARY, Streams, run};

#[test]
fn a_killed_leader_costs_no_message_and_the_next_one_takes_changes() {
    run(async |env| -> Result<()> {
        let mut cluster = TestCluster::start(&env, BINARY, |_| ()).await?;
        let mut streams = Streams::prepare(&cluster, 32).await?;
        streams.send(500).await?;
        let leader = cluster.leader().await?;
        cluster.local.kill(&leader).await.map_err(anyhow::Error::msg)?;
        let killed_at = env.now();
        streams.send(500).await?;
        cluster.apply("counter", Keys::Dense { count: 100 }, 12).await?;
        println!("a set was in effect {:?} after the leader was killed", env.now() - killed_at);
        ensure!(cluster.leader().await? != leader, "the killed coordinator still leads");
        streams.send(500).await?;
        streams.check(&cluster).await?;
        let sum = cluster.conserved().await?;
        ensure!(sum.dead_lettered == 0 && sum.lost == 0, "{sum:?}");
        cluster.stop().await
    });
}

#[test]
fn messages_flow_without_coordinators_while_the_leases_last() {
    run(async |env| -> Result<()> {
        let mut cluster = TestCluster::start(&env, BINARY, |config| config.lease_ms = Some(10_000)).await?;
        let mut streams = Streams::prepare(&cluster, 32).await?;
        streams.send(10).await?;
        streams.session.flush().await?;
        cluster.signal_coordinators(Signal::STOP)?;
        let until = env.now() + Duration::from_secs(3);
        let mut rounds = 0;
        while env.now() < until {
            streams.send(10).await?;
            streams.session.flush().await?;
            rounds += 1;
        }
        cluster.signal_coordinators(Signal::CONT)?;
        println!("{} messages were handled in 3 s without coordinators", rounds * 10 * streams.count);
        ensure!(rounds > 3, "only {rounds} rounds of messages flowed");
        streams.check(&cluster).await?;
        cluster.conserved().await?;
        cluster.stop().await
    });
}

#[test]
fn nothing_is_accepted_after_the_lease_and_nothing_is_lost_when_it_is_renewed() {
    run(async |env| -> Result<()> {
        const LEASE: Duration = Duration::from_millis(3000);
        const GRACE: Duration = Duration::from_millis(250);
        let mut cluster = TestCluster::start(&env, BINARY, |_| ()).await?;
        let mut streams = Streams::prepare(&cluster, 32).await?;
        streams.send(10).await?;
        streams.session.flush().await?;
        cluster.signal_coordinators(Signal::STOP)?;
        let stopped_at = env.now();
        let mut handled = Vec::new();
        // The load goes on all the time; the client's window and `Busy` hold it back.
        let mut last_flushed = stopped_at;
        while env.now() < stopped_at + Duration::from_secs(6) {
            if env.now() < stopped_at + LEASE {
                streams.send(1).await?;
                if env.timeout(Duration::from_millis(100), streams.session.flush()).await.is_ok() {
                    last_flushed = env.now();
                }
            } else {
                let now = env.now();
                handled.push((now - stopped_at, cluster.metric("ringfleet_messages_handled_total").await?));
                if handled.len() == 1 {
                    // Waits at the nodes' doors.
                    streams.send(20).await?;
                }
                env.sleep(Duration::from_millis(100)).await;
            }
        }
        ensure!(last_flushed > stopped_at + Duration::from_secs(1), "messages did not flow within the lease");
        // What pages show may be older than the look.
        let settled = LEASE + GRACE + SETTLED_AFTER;
        let late: Vec<_> = handled.iter().filter(|(at, _)| *at > settled).collect();
        ensure!(late.len() > 5, "too few looks after the lease: {handled:?}");
        ensure!(late.iter().all(|(_, count)| *count == late[0].1), "C2: handled after the lease's end: {late:?}");
        cluster.signal_coordinators(Signal::CONT)?;
        let renewed_at = env.now();
        streams.session.flush().await?;
        let resumed = env.now() - renewed_at;
        println!("flow resumed {resumed:?} after the coordinators went on");
        ensure!(resumed < Duration::from_secs(2), "flow took {resumed:?} to resume");
        streams.check(&cluster).await?;
        let sum = cluster.conserved().await?;
        ensure!(sum.lost == 0, "{sum:?}");
        cluster.stop().await
    });
}

#[test]
fn shards_of_a_killed_node_begin_empty_elsewhere_and_every_message_is_accounted_for() {
    run(async |env| -> Result<()> {
        const KEYS: u64 = 200;
        /// C10: lease + 2 s.
        const PLACED_WITHIN: Duration = Duration::from_secs(3 + 2);
        let mut cluster = TestCluster::start(&env, BINARY, |_| ()).await?;
        cluster.apply("counter", Keys::Dense { count: KEYS }, 24).await?;
        let session = cluster.session().await?;
        let add = Add { amount: 1 };
        for key in 0..KEYS {
            session.tell_to(Counter::at(key), &add).await?;
        }
        session.flush().await?;
        cluster.local.kill("n2").await.map_err(anyhow::Error::msg)?;
        let killed_at = env.now();
        // Half of these go to shards that live; the others wait for a place, or are reported lost.
        for key in 0..KEYS {
            session.tell_to(Counter::at(key), &add).await?;
        }
        let lost = match session.flush().await {
            Ok(()) => 0,
            Err(FlushError::Lost { messages, .. }) => messages,
            Err(ended @ FlushError::Ended { .. }) => return Err(ended.into()),
        };
        let resolved = env.now() - killed_at;
        println!("{lost} of {KEYS} messages reported lost, all accounted for {resolved:?} after the kill");
        ensure!(resolved < PLACED_WITHIN, "C10: it took {resolved:?} until every message was accounted for");
        let reported: u64 = std::iter::from_fn(|| session.poll_lost()).map(|lost| lost.messages).sum();
        ensure!(reported == lost, "C3: {reported} messages in reports, {lost} in the flush");
        let (mut survived, mut restarted, mut never) = (0, 0, 0);
        for key in 0..KEYS {
            let count: Count = session.ask_of(Counter::at(key), &Read {}, PATIENCE).await?;
            match count.adds {
                2 => survived += 1,
                1 => restarted += 1,
                0 => never += 1,
                more => bail!("C3: counter {key} was told {more} times"),
            }
        }
        println!("{survived} actors survived, {restarted} began again and were told, {never} began again");
        ensure!(survived > 0 && restarted + never > 0, "the killed node had no shard, or all of them");
        ensure!(never == lost, "C3: {never} messages are missing, {lost} were reported lost");
        Ok(())
    });
}

#[test]
fn a_link_that_is_cut_and_restored_under_load_loses_repeats_and_reorders_nothing() {
    run(async |env| -> Result<()> {
        /// Streams times rounds: more than a million stamped messages from the client, as many between nodes.
        const STREAMS: u64 = 256;
        const ROUNDS: u64 = 4096;
        let (mut cluster, proxies) = proxied(&env).await?;
        let mut streams = Streams::prepare(&cluster, STREAMS).await?;
        let begun = env.now();
        let mut cuts = 0;
        for part in 0..16_usize {
            streams.send(ROUNDS / 16).await?;
            if part % 4 == 1 {
                proxies[part % proxies.len()].cut_all(Duration::from_secs(1));
                cuts += 1;
            }
        }
        streams.check(&cluster).await?;
        let took = env.now() - begun;
        println!("{} stamped messages over {cuts} cuts in {took:?}", STREAMS * ROUNDS);
        let sum = cluster.conserved().await?;
        ensure!(sum.dead_lettered == 0 && sum.lost == 0, "{sum:?}");
        let dropped: u64 = proxies.iter().map(|proxy| proxy.counts().1).sum();
        ensure!(dropped > 0, "no datagram was dropped: the links were not cut");
        cluster.local.stop_all(Duration::from_secs(10)).await.map_err(anyhow::Error::msg)?;
        Ok(())
    });
}

#[test]
fn links_that_are_dead_for_so_long_that_quic_gives_up_lose_repeat_and_reorder_nothing() {
    run(async |env| -> Result<()> {
        const STREAMS: u64 = 256;
        /// What is sent while the links are dead is more than the client's window, so that the load goes on all the time.
        const ROUNDS: u64 = 512;
        const DEAD_FOR: Duration = Duration::from_secs(12);
        let (mut cluster, proxies) = proxied(&env).await?;
        let mut streams = Streams::prepare(&cluster, STREAMS).await?;
        streams.send(16).await?;
        streams.session.flush().await?;
        let links = async |peer: &str| -> Result<i128> {
            let pages = cluster.pages().await?;
            let samples = pages.iter().flat_map(|page| page.named("ringfleet_links"));
            Ok(samples.filter(|sample| sample.label("peer") == Some(peer)).map(|sample| sample.value as i128).sum())
        };
        // Both ends of the link of each pair of nodes, and a link of the client to each. What pages show is some milliseconds old: a
        // test that took the first page for the state before the cut once waited for fewer links than none.
        let nodes = proxies.len() as i128;
        let (nodes_before, clients_before) = (nodes * (nodes - 1), nodes);
        cluster
            .until("every link to be shown", async || {
                Ok(links("node").await? == nodes_before && links("client").await? == clients_before)
            })
            .await?;
        let listens: Vec<_> = cluster.local.processes().iter().map(|process| process.listen).collect();
        let cut_at = env.now();
        for (at, proxy) in proxies.iter().enumerate() {
            // Every link between nodes, and those of clients to the last node.
            // Also links that are made meanwhile, as by a node that had to join again on a slow machine.
            listens.iter().for_each(|&node| proxy.cut_in_advance(node, PATIENCE));
            if at == proxies.len() - 1 {
                for source in proxy.sources() {
                    proxy.cut(source, PATIENCE);
                }
            }
        }
        let watch = async {
            let mut last = None;
            cluster
                .until("every link between nodes, and one of the client, to be given up", async || {
                    let now = (links("node").await?, links("client").await?);
                    last = Some(now);
                    Ok(now.0 == 0 && now.1 < clients_before)
                })
                .await
                .with_context(|| {
                    format!("links of nodes and clients: {last:?}, before: {nodes_before}, {clients_before}")
                })?;
            let given_up = env.now() - cut_at;
            env.sleep_until(cut_at + DEAD_FOR).await;
            for proxy in &proxies {
                proxy.cut_all(Duration::ZERO);
            }
            Ok::<_, anyhow::Error>((given_up, env.now() - cut_at))
        };
        let (sent, watched) = tokio::join!(streams.send(ROUNDS), watch);
        let ((), (given_up, dead)) = (sent?, watched?);
        let restored_at = env.now();
        ensure!(
            given_up > Duration::from_secs(9),
            "links were given up after {given_up:?}: not by QUIC's idle timeout"
        );
        streams.check(&cluster).await?;
        let recovered = env.now() - restored_at;
        println!(
            "{} messages; {nodes_before} links of nodes given up after {given_up:?}, dead for {dead:?}; all checked {recovered:?} later",
            STREAMS * streams.sent
        );
        cluster
            .until("every link to be up again", async || {
                Ok(links("node").await? == nodes_before && links("client").await? == clients_before)
            })
            .await?;
        let sum = cluster.conserved().await?;
        ensure!(sum.dead_lettered == 0 && sum.lost == 0, "{sum:?}");
        cluster.local.stop_all(Duration::from_secs(10)).await.map_err(anyhow::Error::msg)?;
        Ok(())
    });
}

/// A cluster with a proxy in front of each node, in the nodes' order.
async fn proxied(env: &Env) -> Result<(TestCluster, Vec<UdpProxy>)> {
    let mut proxies = Vec::new();
    let before = |local: &LocalCluster| {
        for node in local.processes().iter().filter(|process| process.kind == Kind::Node) {
            proxies.push(UdpProxy::start(env, node.advertise, node.listen)?);
        }
        Ok(())
    };
    let cluster = TestCluster::start_with(env, BINARY, |config| config.proxied = true, before).await?;
    Ok((cluster, proxies))
}
