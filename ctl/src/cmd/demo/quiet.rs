//! When nothing is in flight in the whole cluster, and the conservation sum then (C7).

use std::time::Duration;

use ringfleet_env::Env;

use crate::error::{CtlError, CtlResult};
use crate::http;
use crate::local::{Kind, LocalCluster};
use crate::metrics::{Conservation, Metrics, SETTLED_AFTER};

/// How long reading a page may take.
const PAGE_PATIENCE: Duration = Duration::from_secs(20);
/// How long the cluster may take to become quiet.
const QUIET_PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at whether it is quiet.
const QUIET_POLL: Duration = Duration::from_millis(100);

/// The addresses of the pages of all nodes.
pub fn node_pages(cluster: &LocalCluster) -> Vec<String> {
    let nodes = cluster.processes().iter().filter(|process| process.kind == Kind::Node);
    nodes.map(|process| process.http.to_string()).collect()
}

/// The sum over all nodes, once nothing is in flight and pages have shown the same for long enough.
pub async fn wait_quiet(env: &Env, pages: &[String]) -> CtlResult<Conservation> {
    let deadline = env.now() + QUIET_PATIENCE;
    let (mut last, mut since) = (None, env.now());
    loop {
        let sum = conservation(env, pages).await?;
        if last != Some(sum) {
            (last, since) = (Some(sum), env.now());
        }
        if sum.in_flight == 0 && env.now() - since >= SETTLED_AFTER {
            return Ok(sum);
        }
        if env.now() >= deadline {
            let cause = format!("not within {} s: {sum:?}", QUIET_PATIENCE.as_secs());
            return Err(CtlError::unreachable("waiting until nothing is in flight", cause));
        }
        env.sleep(QUIET_POLL).await;
    }
}

async fn conservation(env: &Env, pages: &[String]) -> CtlResult<Conservation> {
    let mut sum = Conservation::default();
    for page in pages {
        let text = http::get(env, page, "/metrics", PAGE_PATIENCE).await?;
        sum.add(&Metrics::parse(&text))
            .map_err(|cause| CtlError::failed(format!("reading the counters of {page}"), cause))?;
    }
    Ok(sum)
}
