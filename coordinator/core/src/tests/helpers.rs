//! A cluster that a test drives by commands; every step checks the invariants.

use crate::{ClusterState, Command, CommandBody, Outcome};
use ringfleet_abi::{SetId, ShardId, ShardIndex};
use ringfleet_proto::control::node::Released;
use ringfleet_proto::control::{ActorSet, DeviceKind, DeviceReport, RefusalCode, SetChange, ShardState, TypeReport};
use std::collections::BTreeMap;

pub const TYPES: [&str; 2] = ["flights.carrier", "flights.airport"];

pub fn report(name: &str, code: u64, layout: u64) -> TypeReport {
    TypeReport {
        name: name.into(),
        width: "lane".into(),
        code_hash: code,
        layout_hash: layout,
        state_bytes: 16,
        max_sends: 8,
        layout: format!("layout {layout}"),
        state: vec![],
        handles: vec![],
        replies: vec![],
    }
}

pub fn both_types() -> Vec<TypeReport> {
    TYPES.iter().map(|name| report(name, 7, 8)).collect()
}

pub fn devices(workers: &[u16]) -> Vec<DeviceReport> {
    let device = |(at, &workers): (usize, &u16)| DeviceReport {
        index: at as u16,
        kind: DeviceKind::Cpu,
        workers,
        memory_bytes: 1 << 30,
        gpus: vec![],
    };
    workers.iter().enumerate().map(device).collect()
}

pub fn join_body(name: &str, boot: u128, workers: &[u16], types: Vec<TypeReport>) -> CommandBody {
    CommandBody::Join {
        name: name.into(),
        boot,
        data_addr: format!("{name}.test:7000"),
        http_addr: format!("{name}.test:7001"),
        devices: devices(workers),
        types,
    }
}

pub fn document(name: &str, actor_type: &str, shards: u16) -> ActorSet {
    let mut document = ActorSet::new(name, actor_type);
    document.spec.shards = shards;
    document
}

#[derive(Clone)]
pub struct Cluster {
    pub state: ClusterState,
    pub index: u64,
    pub log: Vec<(u64, Command)>,
}

impl Cluster {
    pub fn new() -> Self {
        let mut cluster = Self { state: ClusterState::default(), index: 0, log: Vec::new() };
        let init = CommandBody::InitCluster { cluster: "test".into(), lease_ms: 3000 };
        assert_eq!(cluster.plain(init), Outcome::Done);
        cluster
    }

    pub fn run(&mut self, command: Command) -> Outcome {
        self.index += 1;
        let before = self.state.clone();
        let outcome = self.state.apply(self.index, &command);
        self.log.push((self.index, command));
        self.state.check().unwrap();
        self.state.check_since(&before).unwrap();
        if let Outcome::Refused(_) = outcome {
            let mut unchanged = before.node_view();
            unchanged.index = self.state.view_index();
            assert_eq!(self.state.node_view(), unchanged, "a refusal changes nothing");
        }
        outcome
    }

    pub fn plain(&mut self, body: CommandBody) -> Outcome {
        self.run(Command::plain(body))
    }

    pub fn join(&mut self, name: &str, workers: &[u16]) -> u64 {
        self.join_with(name, workers, both_types())
    }

    pub fn join_with(&mut self, name: &str, workers: &[u16], types: Vec<TypeReport>) -> u64 {
        let boot = u128::from(self.index) + 1000;
        match self.plain(join_body(name, boot, workers, types)) {
            Outcome::Joined { incarnation, .. } => incarnation,
            other => panic!("{other}"),
        }
    }

    pub fn lose(&mut self, incarnation: u64) {
        assert_eq!(self.plain(CommandBody::MemberLost { incarnation }), Outcome::Done);
    }

    pub fn apply(&mut self, document: ActorSet) -> Outcome {
        self.plain(CommandBody::ApplySet { document })
    }

    pub fn create(&mut self, document: ActorSet) -> SetId {
        match self.apply(document) {
            Outcome::Set { set, change: SetChange::Created, .. } => SetId(set),
            other => panic!("{other}"),
        }
    }

    pub fn scale(&mut self, set: &str, workers: u32, discard_state: bool) -> Outcome {
        self.plain(CommandBody::ScaleSet { set: set.into(), workers, discard_state })
    }

    pub fn delete(&mut self, set: &str) -> Outcome {
        self.plain(CommandBody::DeleteSet { set: set.into() })
    }

    /// Every owner releases whatever it was asked to, one report per incarnation.
    pub fn release_all(&mut self) {
        let mut reports: BTreeMap<u64, Vec<Released>> = BTreeMap::new();
        for (shard, record) in self.state.shards() {
            if let (ShardState::Releasing, Some(owner)) = (record.state, record.owner) {
                let released = Released { set: shard.set.0, index: shard.index.0, epoch: record.epoch };
                reports.entry(owner.incarnation).or_default().push(released);
            }
        }
        for (incarnation, shards) in reports {
            assert_eq!(self.plain(CommandBody::ShardsReleased { incarnation, shards }), Outcome::Done);
        }
    }

    pub fn epoch(&self, set: SetId, index: u16) -> u64 {
        self.state.shard(ShardId::new(set, ShardIndex(index))).unwrap().epoch
    }

    /// Shards per (node, device, worker).
    pub fn counts(&self, set: SetId) -> BTreeMap<(u32, u16, u16), u32> {
        let mut counts = BTreeMap::new();
        for (_, record) in self.state.shards_of(set) {
            if let Some(owner) = record.owner {
                *counts.entry((owner.node, owner.device, owner.worker)).or_default() += 1;
            }
        }
        counts
    }

    pub fn in_state(&self, set: SetId, state: ShardState) -> usize {
        self.state.shards_of(set).filter(|(_, record)| record.state == state).count()
    }
}

pub fn refusal(outcome: Outcome) -> (RefusalCode, String) {
    match outcome {
        Outcome::Refused(refusal) => (refusal.code, refusal.message),
        other => panic!("not refused: {other}"),
    }
}

pub fn assert_balanced(counts: &BTreeMap<(u32, u16, u16), u32>, workers: usize, shards: u32) {
    assert_eq!(counts.len(), workers, "{counts:?}");
    assert_eq!(counts.values().sum::<u32>(), shards);
    let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
    assert!(most - least <= 1, "{counts:?}");
}
