//! `ringfleet get nodes|devices|coordinators|sets|shards|actors`

use std::collections::BTreeMap;

use clap::Subcommand;
use ringfleet_proto::control::{
    AdminAnswer, AdminVerb, CoordinatorInfo, Directory, NodeInfo, NodeState, SetInfo, SetState, ShardState, ShardView,
};
use serde::Serialize;

use crate::app::{App, Cluster, unexpected};
use crate::cmd::get_devices;
use crate::error::{CtlError, CtlResult};
use crate::http;
use crate::metrics::Metrics;
use crate::out::{self, Table, thousands};

/// What can be listed.
#[derive(Debug, Subcommand)]
pub enum GetVerb {
    /// The nodes, live and recently gone.
    #[command(alias = "node")]
    Nodes,
    /// The devices of live nodes, with their GPUs and the NVLinks between them.
    #[command(alias = "device")]
    Devices,
    /// The coordinators.
    #[command(alias = "coordinator")]
    Coordinators,
    /// The actor sets.
    #[command(alias = "set")]
    Sets,
    /// The shards of one set or of all.
    #[command(alias = "shard")]
    Shards {
        /// The set.
        set: Option<String>,
    },
    /// How many actors are resident, by node and set.
    #[command(alias = "actor")]
    Actors {
        /// Only nodes that hold shards of this set.
        set: Option<String>,
    },
}

/// Lists.
pub async fn run(app: &App, verb: &GetVerb) -> CtlResult {
    let cluster = app.cluster()?;
    let format = app.global.output;
    match verb {
        GetVerb::Nodes => out::print(format, &nodes(&cluster).await?, |nodes| nodes_table(nodes)),
        GetVerb::Devices => out::print(format, &get_devices::rows(&cluster).await?, |rows| get_devices::table(rows)),
        GetVerb::Coordinators => {
            out::print(format, &coordinators(&cluster).await?, |coordinators| coordinators_table(coordinators))
        }
        GetVerb::Sets => out::print(format, &sets(&cluster).await?, |sets| sets_table(sets)),
        GetVerb::Shards { set } => {
            out::print(format, &shard_rows(&cluster, set.as_deref()).await?, |rows| shards_table(rows))
        }
        GetVerb::Actors { set } => {
            out::print(format, &actor_rows(&cluster, set.as_deref()).await?, |rows| actors_table(rows))
        }
    }
}

/// The nodes.
pub async fn nodes(cluster: &Cluster) -> CtlResult<Vec<NodeInfo>> {
    let attempt = "listing nodes";
    match cluster.call(attempt, AdminVerb::Nodes).await? {
        AdminAnswer::Nodes(mut nodes) => {
            nodes.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(nodes)
        }
        other => Err(unexpected(attempt, &other)),
    }
}

/// The coordinators.
pub async fn coordinators(cluster: &Cluster) -> CtlResult<Vec<CoordinatorInfo>> {
    let attempt = "listing coordinators";
    match cluster.call(attempt, AdminVerb::Coordinators).await? {
        AdminAnswer::Coordinators(coordinators) => Ok(coordinators),
        other => Err(unexpected(attempt, &other)),
    }
}

/// The sets.
pub async fn sets(cluster: &Cluster) -> CtlResult<Vec<SetInfo>> {
    let attempt = "listing sets";
    match cluster.call(attempt, AdminVerb::Sets).await? {
        AdminAnswer::Sets(sets) => Ok(sets),
        other => Err(unexpected(attempt, &other)),
    }
}

/// Members, sets and placement.
pub async fn directory(cluster: &Cluster) -> CtlResult<Directory> {
    let attempt = "reading the directory";
    match cluster.call(attempt, AdminVerb::Directory { have_index: 0, wait_ms: 0 }).await? {
        AdminAnswer::Directory(directory) => Ok(directory),
        other => Err(unexpected(attempt, &other)),
    }
}

/// The words of a node's state.
pub fn node_state(state: NodeState) -> &'static str {
    match state {
        NodeState::Alive => "alive",
        NodeState::Lost => "lost",
        NodeState::Left => "left",
    }
}

/// What a node is doing, in words, with what is wrong with it.
pub fn node_words(node: &NodeInfo) -> String {
    if node.quarantined {
        format!("quarantined (clock {:+} ms)", node.clock_offset_ms)
    } else if node.state == NodeState::Alive && !node.devices_lost.is_empty() {
        let lost: Vec<String> = node.devices_lost.iter().map(u16::to_string).collect();
        format!("alive (lost device {})", lost.join(", "))
    } else {
        node_state(node.state).to_owned()
    }
}

/// The words of a shard's state.
pub fn shard_state(state: ShardState) -> &'static str {
    match state {
        ShardState::Pending => "pending",
        ShardState::Resident => "resident",
        ShardState::Releasing => "releasing",
    }
}

fn nodes_table(nodes: &[NodeInfo]) -> String {
    let mut table = Table::new(&["NAME", "STATE", "ADDRESS", "WORKERS", "SHARDS", "ACTORS", "HANDLED", "LEASE"]);
    for node in nodes {
        let workers: u32 = node.devices.iter().map(|device| u32::from(device.workers)).sum();
        let lease = if node.state == NodeState::Alive { format!("{} ms", node.lease_left_ms) } else { "-".to_owned() };
        table.row([
            node.name.clone(),
            node_words(node),
            node.data_addr.clone(),
            workers.to_string(),
            node.shards.to_string(),
            thousands(node.load.actors),
            thousands(node.load.handled),
            lease,
        ]);
    }
    table.render()
}

/// Coordinators as a table.
pub fn coordinators_table(coordinators: &[CoordinatorInfo]) -> String {
    let mut table = Table::new(&["NAME", "ID", "ADDRESS", "ROLE", "INDEX"]);
    for coordinator in coordinators {
        let role = match (coordinator.leader, coordinator.voter) {
            (true, _) => "leader",
            (false, true) => "follower",
            (false, false) => "learner",
        };
        let index = if coordinator.matched_index == 0 { "-".to_owned() } else { coordinator.matched_index.to_string() };
        table.row([
            coordinator.name.clone(),
            format!("{:x}", coordinator.id),
            coordinator.addr.clone(),
            role.to_owned(),
            index,
        ]);
    }
    table.render()
}

fn sets_table(sets: &[SetInfo]) -> String {
    let mut table = Table::new(&["NAME", "TYPE", "STATE", "SHARDS", "IN EFFECT", "PENDING", "WORKERS", "USED"]);
    for info in sets {
        let spec = &info.document.spec;
        let state = match info.state {
            SetState::Active => "active",
            SetState::Deleting => "deleting",
        };
        table.row([
            info.document.metadata.name.clone(),
            spec.actor_type.clone(),
            state.to_owned(),
            spec.shards.to_string(),
            info.in_effect.to_string(),
            info.pending.to_string(),
            spec.workers.map_or_else(|| "all".to_owned(), |workers| workers.to_string()),
            info.workers_used.to_string(),
        ]);
    }
    table.render()
}

/// A shard with names instead of numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShardRow {
    /// The set's name.
    pub set: String,
    /// Its index in the set.
    pub index: u16,
    /// What it is doing.
    pub state: ShardState,
    /// The number of this residence.
    pub epoch: u64,
    /// The owner's name.
    pub node: Option<String>,
    /// The owner's device.
    pub device: Option<u16>,
    /// The owner's worker.
    pub worker: Option<u16>,
}

impl ShardRow {
    /// A shard of a directory.
    pub fn of(shard: &ShardView, directory: &Directory) -> Self {
        let set = directory.sets.iter().find(|set| set.set == shard.set);
        let owner = shard.owner();
        let name = |node: u32| {
            let member = directory.members.iter().find(|member| member.node == node);
            member.map_or_else(|| format!("node {node}"), |member| member.name.clone())
        };
        Self {
            set: set.map_or_else(|| shard.set.to_string(), |set| set.name.clone()),
            index: shard.index,
            state: shard.state,
            epoch: shard.epoch,
            node: owner.map(|(node, ..)| name(node.0)),
            device: owner.map(|(_, device, _)| device.0),
            worker: owner.map(|(.., worker)| worker.0),
        }
    }
}

async fn shard_rows(cluster: &Cluster, set: Option<&str>) -> CtlResult<Vec<ShardRow>> {
    let directory = directory(cluster).await?;
    let attempt = "listing shards";
    let shards = match cluster.call(attempt, AdminVerb::Shards { set: set.map(str::to_owned) }).await? {
        AdminAnswer::Shards(shards) => shards,
        other => return Err(unexpected(attempt, &other)),
    };
    Ok(shards.iter().map(|shard| ShardRow::of(shard, &directory)).collect())
}

/// Shards as a table.
pub fn shards_table(rows: &[ShardRow]) -> String {
    let mut table = Table::new(&["SET", "SHARD", "STATE", "EPOCH", "NODE", "DEVICE", "WORKER"]);
    let or_dash = |number: Option<u16>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    for row in rows {
        table.row([
            row.set.clone(),
            row.index.to_string(),
            shard_state(row.state).to_owned(),
            row.epoch.to_string(),
            row.node.clone().unwrap_or_else(|| "-".to_owned()),
            or_dash(row.device),
            or_dash(row.worker),
        ]);
    }
    table.render()
}

/// Actors in memory of one set on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ActorRow {
    node: String,
    set: String,
    /// Shards of the set there.
    shards: u32,
    /// Actors of the set in memory there. `None`: the node's devices do not count them by set.
    actors: Option<u64>,
}

/// The name of the gauge of resident actors, with the label `set`.
const ACTORS_GAUGE: &str = "ringfleet_set_actors";

async fn actor_rows(cluster: &Cluster, set: Option<&str>) -> CtlResult<Vec<ActorRow>> {
    let directory = directory(cluster).await?;
    if let Some(name) = set
        && directory.sets.iter().all(|known| known.name != name)
    {
        return Err(CtlError::refused("listing actors", format!("no set `{name}`")));
    }
    let mut rows = Vec::new();
    // The pages are open; who may not list nodes is not shown the way to them (the row `actors` of the table of roles).
    let mut members = nodes(cluster).await?;
    members.retain(|member| member.state == NodeState::Alive);
    for member in members {
        let text = http::get(&cluster.env, &member.http_addr, "/metrics", cluster.time_left()).await;
        let text = text.map_err(|error| error.during(format!("listing actors of {}", member.name)))?;
        let metrics = Metrics::parse(&text);
        let mut sets: BTreeMap<String, (u32, Option<u64>)> = BTreeMap::new();
        let here = |shard: &&ShardView| shard.owner().is_some_and(|(node, ..)| node.0 == member.node);
        for shard in directory.shards.iter().filter(here) {
            sets.entry(ShardRow::of(shard, &directory).set).or_default().0 += 1;
        }
        for sample in metrics.named(ACTORS_GAUGE) {
            // A set that has just left, or comes just now, has no shard here.
            if let Some((_, actors)) = sample.label("set").and_then(|name| sets.get_mut(name)) {
                *actors = Some(sample.value as u64);
            }
        }
        for (name, (shards, actors)) in sets {
            if set.is_none_or(|wanted| wanted == name) {
                rows.push(ActorRow { node: member.name.clone(), set: name, shards, actors });
            }
        }
    }
    Ok(rows)
}

fn actors_table(rows: &[ActorRow]) -> String {
    let mut table = Table::new(&["NODE", "SET", "SHARDS", "ACTORS"]);
    for row in rows {
        let actors = row.actors.map_or_else(|| "-".to_owned(), thousands);
        table.row([row.node.clone(), row.set.clone(), row.shards.to_string(), actors]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarantined_node_is_shown_with_its_clock() {
        let node = NodeInfo {
            node: 1,
            name: "n1".to_owned(),
            incarnation: 7,
            state: NodeState::Alive,
            data_addr: "10.0.0.1:7001".to_owned(),
            http_addr: "10.0.0.1:7002".to_owned(),
            devices: Vec::new(),
            devices_lost: vec![1, 2],
            types: Vec::new(),
            shards: 3,
            applied_index: 9,
            lease_left_ms: 1200,
            clock_offset_ms: 312,
            clock_error_ms: 2,
            quarantined: true,
            load: ringfleet_proto::control::Load::default(),
        };
        let expected = "\
NAME  STATE                         ADDRESS        WORKERS  SHARDS  ACTORS  HANDLED  LEASE
n1    quarantined (clock +312 ms)   10.0.0.1:7001  0        3       0       0        1200 ms
";
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&nodes_table(std::slice::from_ref(&node))), words(expected));
        let free = NodeInfo { quarantined: false, ..node };
        assert_eq!(node_words(&free), "alive (lost device 1, 2)");
        assert_eq!(node_words(&NodeInfo { devices_lost: Vec::new(), ..free }), "alive");
    }
}
