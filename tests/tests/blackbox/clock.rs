//! A node whose wall clock is off gets no lease until it is right again (C6), and nothing goes missing without a word (C7).

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use ringfleet::local::Host;
use ringfleet_proto::control::{AdminAnswer, AdminVerb, NodeInfo, NodeState};
use ringfleet_tests::cluster::{PATIENCE, TestCluster};

use super::support::{BINARY, Streams, run};

/// Far enough for the quarantine, near enough for every other check to let it pass: the hard case.
const OFFSET_MS: i64 = 180;

/// Adds what a mapped file says to the wall clock of a process, and to no other clock.
const PRELOADED: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile long long *offset_ms;

__attribute__((constructor)) static void map_offset(void) {
    const char *path = getenv("RINGFLEET_TEST_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *page = fd < 0 ? MAP_FAILED : mmap(0, sizeof *offset_ms, PROT_READ, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) abort();
    offset_ms = page;
}

int clock_gettime(clockid_t id, struct timespec *t) {
    int failed = syscall(SYS_clock_gettime, id, t);
    if (!failed && id == CLOCK_REALTIME && offset_ms) {
        long long ns = t->tv_nsec + *offset_ms % 1000 * 1000000;
        t->tv_sec += *offset_ms / 1000 + (ns >= 1000000000) - (ns < 0);
        t->tv_nsec = (ns + 1000000000) % 1000000000;
    }
    return failed;
}
"#;

/// Builds the library; gives its path.
fn preloaded(folder: &Path) -> Result<PathBuf> {
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    fs::write(&source, PRELOADED)?;
    let built = Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output();
    let built = built.context("running `cc`, which building this needed, too")?;
    ensure!(built.status.success(), "cc: {}", String::from_utf8_lossy(&built.stderr));
    Ok(library)
}

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
        let library = preloaded(folder.path())?;
        let clock = folder.path().join("offset");
        fs::write(&clock, 0i64.to_ne_bytes())?;
        // In place: the file is mapped.
        let file = fs::OpenOptions::new().write(true).open(&clock)?;
        let set_clock = |ms: i64| file.write_all_at(&ms.to_ne_bytes(), 0);
        let mut cluster = TestCluster::start(&env, BINARY, |config| {
            let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let host = Host { ip: here, proxy_ip: here, wrap: Vec::new() };
            config.hosts = vec![host; usize::from(config.coordinators + config.nodes)];
            let last = config.hosts.last_mut().expect("there are processes");
            last.wrap = vec![
                "env".to_owned(),
                format!("LD_PRELOAD={}", library.display()),
                format!("RINGFLEET_TEST_CLOCK={}", clock.display()),
            ];
        })
        .await?;
        let mut streams = Streams::prepare(&cluster, 64).await?;
        streams.send(50).await?;
        streams.check(&cluster).await?;
        let before = node(&cluster, "n3").await?.context("n3 has joined")?;
        ensure!(before.clock_offset_ms.abs() < OFFSET_MS / 2, "{before:?}");

        set_clock(OFFSET_MS)?;
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

        set_clock(0)?;
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
