//! `ringfleet describe set|node|type NAME`

use clap::Subcommand;
use ringfleet_proto::control::document::{FailurePolicy, OnFailure, SetSpec};
use ringfleet_proto::control::{AdminAnswer, AdminVerb, Keys, Load, NodeState, Restart, SetDetail};
use serde_json::json;

use crate::app::{App, unexpected};
use crate::cmd::get::{ShardRow, directory, node_words, shards_table};
use crate::cmd::get_devices;
use crate::error::CtlResult;
use crate::out::{self, thousands};

/// What can be described.
#[derive(Debug, Subcommand)]
pub enum DescribeVerb {
    /// An actor set.
    Set {
        /// Its name.
        name: String,
    },
    /// A node.
    Node {
        /// Its name.
        name: String,
    },
    /// An actor type.
    Type {
        /// Its name.
        name: String,
    },
}

/// Describes.
pub async fn run(app: &App, verb: &DescribeVerb) -> CtlResult {
    match verb {
        DescribeVerb::Set { name } => set(app, name).await,
        DescribeVerb::Node { name } => node(app, name).await,
        DescribeVerb::Type { name } => crate::cmd::actor::show(app, name, false).await,
    }
}

async fn set(app: &App, name: &str) -> CtlResult {
    let attempt = format!("describing set {name}");
    let cluster = app.cluster()?;
    let detail = match cluster.call(&attempt, AdminVerb::DescribeSet { name: name.to_owned() }).await? {
        AdminAnswer::SetDetail(detail) => detail,
        other => return Err(unexpected(&attempt, &other)),
    };
    let directory = directory(&cluster).await?;
    let rows: Vec<ShardRow> = detail.shards.iter().map(|shard| ShardRow::of(shard, &directory)).collect();
    let value = json!({ "info": detail.info, "layout": detail.layout, "shards": rows });
    out::print(app.global.output, &value, |_| format!("{}\n{}", set_page(&detail), shards_table(&rows)))
}

fn set_page(detail: &SetDetail) -> String {
    let (info, spec) = (&detail.info, &detail.info.document.spec);
    let word = |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let nodes = if spec.placement.nodes.is_empty() { "anywhere".to_owned() } else { spec.placement.nodes.join(" ") };
    let keys = match spec.keys {
        Keys::Hashed => "hashed".to_owned(),
        Keys::Dense { count } => format!("dense, {} keys", thousands(count)),
    };
    let workers = spec.workers.map_or_else(|| "all".to_owned(), |workers| workers.to_string());
    let shards = format!(
        "{} ({} in effect, {} resident, {} pending, {} releasing)",
        spec.shards, info.in_effect, info.resident, info.pending, info.releasing
    );
    out::properties(&[
        ("name", info.document.metadata.name.clone()),
        ("id", info.set.to_string()),
        ("state", word(json!(info.state))),
        ("type", spec.actor_type.clone()),
        ("keys", keys),
        ("shards", shards),
        ("workers", format!("{workers} ({} used)", info.workers_used)),
        ("placement", nodes),
        ("durability", word(json!(spec.durability))),
        ("on failure", on_failure(spec)),
        ("tenant", spec.tenant.clone()),
        ("code hash", format!("{:#018x}", info.code_hash)),
        ("layout hash", format!("{:#018x}", info.layout_hash)),
        ("layout", detail.layout.clone()),
    ])
}

/// What becomes of a failed actor of the set, in words.
fn on_failure(spec: &SetSpec) -> String {
    let Some(OnFailure { policy, max_restarts, window_ms, parent }) = &spec.on_failure else {
        return match spec.restart {
            Restart::Stop => "stop".to_owned(),
            Restart::Restart => "restart".to_owned(),
        };
    };
    let last = match parent {
        Some(parent) => format!("escalate to {parent}"),
        None => "stop".to_owned(),
    };
    match (policy, max_restarts, window_ms) {
        (FailurePolicy::Restart, Some(restarts), Some(window_ms)) => {
            format!("restart {restarts} times in {window_ms} ms, then {last}")
        }
        (FailurePolicy::Restart, ..) => "restart".to_owned(),
        (FailurePolicy::Stop | FailurePolicy::Escalate, ..) => last,
    }
}

/// How many actors failed on a node since its start, and what became of them.
fn failed_actors(load: &Load) -> String {
    let stayed = load.failures.saturating_sub(load.restarts);
    format!(
        "{} ({} restarted, {} stayed failed, {} of them escalated)",
        thousands(load.failures),
        thousands(load.restarts),
        thousands(stayed),
        thousands(load.escalations)
    )
}

async fn node(app: &App, name: &str) -> CtlResult {
    let attempt = format!("describing node {name}");
    let cluster = app.cluster()?;
    let (info, types, shards) = match cluster.call(&attempt, AdminVerb::DescribeNode { name: name.to_owned() }).await? {
        AdminAnswer::NodeDetail { info, types, shards } => (info, types, shards),
        other => return Err(unexpected(&attempt, &other)),
    };
    let directory = directory(&cluster).await?;
    let rows: Vec<ShardRow> = shards.iter().map(|shard| ShardRow::of(shard, &directory)).collect();
    let value = json!({ "info": info, "types": types, "shards": rows });
    out::print(app.global.output, &value, |_| {
        let lease =
            if info.state == NodeState::Alive { format!("{} ms left", info.lease_left_ms) } else { "-".to_owned() };
        let devices: Vec<String> = info
            .devices
            .iter()
            .map(|device| get_devices::words(device, info.devices_lost.contains(&device.index)))
            .collect();
        let load = &info.load;
        let clock = match info.clock_error_ms {
            0 => "not measured".to_owned(),
            error => format!("{:+} ms (give or take {error})", info.clock_offset_ms),
        };
        let page = out::properties(&[
            ("name", info.name.clone()),
            ("id", format!("{} (incarnation {})", info.node, info.incarnation)),
            ("state", node_words(&info)),
            ("address", info.data_addr.clone()),
            ("http", info.http_addr.clone()),
            ("devices", devices.join(", ")),
            ("types", info.types.join(" ")),
            ("lease", lease),
            ("clock offset", clock),
            ("placement applied", info.applied_index.to_string()),
            ("actors", thousands(load.actors)),
            ("handled", thousands(load.handled)),
            ("in flight", thousands(load.in_flight)),
            ("dead-lettered", thousands(load.dead_lettered)),
            ("failed actors", failed_actors(load)),
            ("shards", info.shards.to_string()),
        ]);
        if rows.is_empty() { page } else { format!("{page}\n{}", shards_table(&rows)) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(yaml: &str) -> String {
        let on_failure = serde_yaml_ng::from_str(yaml).expect("a policy");
        on_failure_of(Some(on_failure))
    }

    fn on_failure_of(policy: Option<OnFailure>) -> String {
        let mut document = ringfleet_proto::control::ActorSet::new("a", "t");
        document.spec.on_failure = policy;
        on_failure(&document.spec)
    }

    #[test]
    fn a_policy_is_said_in_words() {
        assert_eq!(on_failure_of(None), "stop");
        assert_eq!(words("{policy: stop}"), "stop");
        assert_eq!(words("{policy: restart}"), "restart");
        assert_eq!(words("{policy: restart, max_restarts: 3, window_ms: 500}"), "restart 3 times in 500 ms, then stop");
        assert_eq!(
            words("{policy: restart, max_restarts: 3, window_ms: 500, parent: b}"),
            "restart 3 times in 500 ms, then escalate to b"
        );
        assert_eq!(words("{policy: escalate, parent: b}"), "escalate to b");
        let load = Load { failures: 1200, restarts: 1000, escalations: 50, ..Load::default() };
        assert_eq!(failed_actors(&load), "1,200 (1,000 restarted, 200 stayed failed, 50 of them escalated)");
    }
}
