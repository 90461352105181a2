//! The requests of each verb that a coordinator is asked for.

use anyhow::Result;
use ringfleet_proto::control::{
    ActorSet, AdminRequest, AdminVerb, ClockSample, DeviceKind, DeviceReport, Keys, Load, NodeRequest, Released, Verb,
    encode,
};

/// What requests name.
pub struct Targets {
    /// A set to change.
    pub set: String,
    /// The id of a resident set.
    pub set_id: u16,
    /// A node's name.
    pub node: String,
    /// Its incarnation.
    pub incarnation: u64,
    /// An open session.
    pub session: u32,
    /// Name and address of a coordinator.
    pub coordinator: (String, String),
    /// A number of its own for each request.
    pub operation: u128,
}

/// How long coordinators may take.
const DEADLINE_MS: u32 = 10_000;

/// The encoded requests of a verb; none if coordinators are not asked for it.
pub fn requests(verb: Verb, about: &Targets) -> Result<Vec<Vec<u8>>> {
    let node = |request: NodeRequest| Ok(vec![encode(&request)?]);
    let (incarnation, deadline_ms) = (about.incarnation, DEADLINE_MS);
    let mut operation = about.operation;
    let mut admin = |verbs: Vec<AdminVerb>| -> Result<Vec<Vec<u8>>> {
        let mut all = Vec::new();
        for verb in verbs {
            operation += 1;
            all.push(encode(&AdminRequest { operation, deadline_ms, verb })?);
        }
        Ok(all)
    };
    let set = about.set.clone();
    match verb {
        Verb::Raft => Ok(vec![ringfleet_coordinator::raft::ping()]),
        // Without a measured clock the answer is a reading: nobody joins by it.
        Verb::Join => node(join(&about.node, "127.0.0.1:9", None)),
        Verb::ReadClock => node(NodeRequest::ReadClock),
        Verb::Renew => {
            let (applied_index, load) = (0, Load::default());
            node(NodeRequest::Renew { incarnation, applied_index, clock: None, load, deadline_ms })
        }
        Verb::WatchView => node(NodeRequest::WatchView { incarnation, have_index: 0, wait_ms: 0 }),
        Verb::ReportReleased => {
            let shards = vec![Released { set: about.set_id, index: 0, epoch: 1 }];
            node(NodeRequest::ReportReleased { incarnation, shards, deadline_ms })
        }
        // That it is up, which it is.
        Verb::ReportDevice => {
            node(NodeRequest::ReportDevice { incarnation, device: 0, generation: 1, up: true, deadline_ms })
        }
        Verb::LookupSession => node(NodeRequest::LookupSession { incarnation, session: about.session, deadline_ms }),
        Verb::Leave => node(NodeRequest::Leave { incarnation, deadline_ms }),
        Verb::Apply => {
            let mut document = ActorSet::new(&set, "counter");
            (document.spec.keys, document.spec.shards) = (Keys::Dense { count: 4 }, 4);
            admin(vec![AdminVerb::Apply { document }])
        }
        Verb::Scale => admin(vec![AdminVerb::Scale { set, workers: 1, discard_state: true }]),
        Verb::Delete => admin(vec![AdminVerb::Delete { set }]),
        // Of one that is a member already, and of one that is none.
        Verb::AddCoordinator => {
            let (name, addr) = about.coordinator.clone();
            admin(vec![AdminVerb::AddCoordinator { name, addr }])
        }
        Verb::RemoveCoordinator => admin(vec![AdminVerb::RemoveCoordinator { name: "nobody".into() }]),
        Verb::Nodes => admin(vec![AdminVerb::Nodes]),
        Verb::Coordinators => admin(vec![AdminVerb::Coordinators]),
        Verb::Sets => admin(vec![AdminVerb::Sets]),
        Verb::Shards => admin(vec![AdminVerb::Shards { set: None }, AdminVerb::Shards { set: Some("counter".into()) }]),
        Verb::Types => admin(vec![AdminVerb::Types]),
        Verb::Describe => admin(vec![
            AdminVerb::DescribeSet { name: "counter".into() },
            AdminVerb::DescribeNode { name: "n1".into() },
        ]),
        Verb::Directory => admin(vec![AdminVerb::Directory { have_index: 0, wait_ms: 0 }]),
        Verb::OpenSession => admin(vec![AdminVerb::OpenSession]),
        Verb::Status => admin(vec![AdminVerb::Status]),
        Verb::Deliver | Verb::Tell | Verb::Ask | Verb::Actors => Ok(Vec::new()),
    }
}

/// A node without actor types, which gets no shard, joins; repeating it gives the same incarnation.
pub fn join(name: &str, data_addr: &str, clock: Option<ClockSample>) -> NodeRequest {
    NodeRequest::Join {
        cluster: "test".to_owned(),
        name: name.to_owned(),
        boot: 0x5eed,
        data_addr: data_addr.to_owned(),
        http_addr: "127.0.0.1:9".to_owned(),
        devices: vec![DeviceReport {
            index: 0,
            kind: DeviceKind::Cpu,
            workers: 1,
            memory_bytes: 1 << 20,
            gpus: vec![],
        }],
        types: Vec::new(),
        clock,
        deadline_ms: DEADLINE_MS,
    }
}
