//! Messages between coordinators and everybody: requests, replies, messages of the Raft group, identities.

use ringfleet_link::{ClusterCa, PeerId, Role as LinkRole, Validity};
use ringfleet_proto::control::document::{FailurePolicy, OnFailure};
use ringfleet_proto::control::{
    ActorSet, AdminAnswer, AdminReply, AdminRequest, AdminVerb, ClockReading, ClockSample, ControlMessage, DeviceKind,
    DeviceReport, Failure, FieldReport, GpuReport, Joined, Keys, LinkReport, Load, MessageReport, NodeAnswer,
    NodeReply, NodeRequest, RefusalCode, Released, Scalar, SetChange, TypeInfo, TypeReport, decode, encode, peek_kind,
};

use crate::node::view;
use crate::{bounded, feed, fuzz};

/// Memory for one byte of input: a name of a few bytes becomes a `String`, an entry of a list a struct of strings.
const PER_BYTE: u64 = 64;

pub fn type_report() -> TypeReport {
    let field = |name: &str, at| FieldReport { name: name.into(), scalar: Scalar::U32, count: 0, offset_bytes: at };
    let fields = vec![field("delay", 0), field("miles", 4)];
    let message = MessageReport { name: "Leg".into(), kind: 9, payload_bytes: 8, fields: fields.clone() };
    TypeReport {
        name: "flights.carrier".into(),
        width: "lane".into(),
        code_hash: 1,
        layout_hash: 2,
        state_bytes: 8,
        max_sends: 8,
        layout: "delay u32, miles u32".into(),
        state: fields,
        handles: vec![message.clone(), message.clone()],
        replies: vec![message],
    }
}

pub fn gpu_report() -> GpuReport {
    GpuReport {
        name: "NVIDIA H200".into(),
        uuid: "GPU-8a1c4e1e-0000-1111-2222-333344445555".into(),
        architecture: 90,
        multiprocessors: 132,
        memory_bytes: 141 << 30,
        links: vec![LinkReport { device: 0, gpu: 1, nvlinks: 18 }; 2],
    }
}

fn node_requests() -> Vec<NodeRequest> {
    let shards = vec![Released { set: 1, index: 2, epoch: 3 }; 3];
    let devices = vec![
        DeviceReport {
            index: 0,
            kind: DeviceKind::Cpu,
            workers: 2,
            memory_bytes: 1 << 30,
            gpus: vec![gpu_report(); 2]
        };
        2
    ];
    vec![
        NodeRequest::Join {
            cluster: "test".into(),
            name: "n1".into(),
            boot: 7,
            data_addr: "127.0.0.1:7400".into(),
            http_addr: "127.0.0.1:7401".into(),
            devices,
            types: vec![type_report()],
            clock: Some(ClockSample { coordinator: 9, number: 1, offset_ms: -312, error_ms: 2 }),
            deadline_ms: 5,
        },
        NodeRequest::Renew { incarnation: 1, applied_index: 2, clock: None, load: Load::default(), deadline_ms: 5 },
        NodeRequest::ReportReleased { incarnation: 1, shards, deadline_ms: 5 },
        NodeRequest::ReportDevice { incarnation: 1, device: 0, generation: 2, up: true, deadline_ms: 5 },
        NodeRequest::LookupSession { incarnation: 1, session: 2, deadline_ms: 5 },
    ]
}

fn admin_requests() -> Vec<AdminRequest> {
    let mut document = ActorSet::new("flights.carrier", "flights.carrier");
    document.spec.keys = Keys::Dense { count: 100 };
    document.spec.placement.nodes = vec!["n1".into(), "n2".into()];
    document.spec.on_failure = Some(OnFailure {
        policy: FailurePolicy::Restart,
        max_restarts: Some(3),
        window_ms: Some(60_000),
        parent: Some("flights.supervisor".into()),
    });
    let verbs = [
        AdminVerb::Apply { document },
        AdminVerb::Scale { set: "a".into(), workers: 3, discard_state: true },
        AdminVerb::Shards { set: Some("a".into()) },
        AdminVerb::Directory { have_index: 1, wait_ms: 2 },
        AdminVerb::AddCoordinator { name: "c4".into(), addr: "127.0.0.1:9".into() },
        AdminVerb::RemoveCoordinator { name: "c4".into() },
        AdminVerb::Delete { set: "a".into() },
        AdminVerb::DescribeSet { name: "a".into() },
        AdminVerb::DescribeNode { name: "n1".into() },
        AdminVerb::Nodes,
        AdminVerb::Coordinators,
        AdminVerb::Sets,
        AdminVerb::Types,
        AdminVerb::OpenSession,
        AdminVerb::Status,
    ];
    let request = |verb| AdminRequest { operation: 1 << 100, deadline_ms: 5, verb };
    verbs.into_iter().map(request).collect()
}

fn node_replies() -> Vec<NodeReply> {
    vec![
        NodeReply::Answer(NodeAnswer::Joined(Joined { node: 1, incarnation: 2, lease_ms: 3, index: 4 })),
        NodeReply::Answer(NodeAnswer::View(view())),
        NodeReply::Answer(NodeAnswer::Quarantined {
            offset_ms: 312,
            clock: ClockReading { coordinator: 9, wall_ms: 1, held_us: 2 },
        }),
        NodeReply::Failed(Failure::refused(RefusalCode::Fenced, "join again")),
        NodeReply::Failed(Failure::NotLeader { leader: None }),
    ]
}

fn admin_replies() -> Vec<AdminReply> {
    let types = vec![TypeInfo { report: type_report(), nodes: vec!["n1".into()] }];
    vec![
        AdminReply::Answer(AdminAnswer::Directory(view())),
        AdminReply::Answer(AdminAnswer::Set { set: 1, change: SetChange::Created, index: 3 }),
        AdminReply::Answer(AdminAnswer::Types(types)),
        AdminReply::Failed(Failure::Unknown { message: "no quorum".into() }),
    ]
}

fn seeds<M: ControlMessage>(messages: &[M]) -> Vec<Vec<u8>> {
    messages.iter().map(|message| encode(message).expect("short")).collect()
}

fn check<M: ControlMessage + PartialEq + std::fmt::Debug>(seeds: &[Vec<u8>], plan: &[u8]) {
    let bytes = feed(seeds, plan);
    let _ = bounded(&bytes, 0, || peek_kind(&bytes).is_ok());
    let Ok(message) = bounded(&bytes, PER_BYTE, || decode::<M>(&bytes)) else { return };
    let written = encode(&message).expect("what was read is not too long");
    assert_eq!(decode::<M>(&written).expect("what was written can be read"), message);
}

#[test]
fn requests_of_nodes() {
    let seeds = seeds(&node_requests());
    fuzz!(|plan| check::<NodeRequest>(&seeds, plan));
}

#[test]
fn requests_of_operators_and_clients() {
    let seeds = seeds(&admin_requests());
    fuzz!(|plan| check::<AdminRequest>(&seeds, plan));
}

#[test]
fn replies_to_nodes() {
    let seeds = seeds(&node_replies());
    fuzz!(|plan| check::<NodeReply>(&seeds, plan));
}

#[test]
fn replies_to_operators_and_clients() {
    let seeds = seeds(&admin_replies());
    fuzz!(|plan| check::<AdminReply>(&seeds, plan));
}

#[test]
fn identities_in_certificates() {
    let validity = Validity { not_before_ms: 0, not_after_ms: 4_000_000_000_000 };
    let ca = ClusterCa::create("test", validity).expect("a name");
    let certificate = |role| {
        let chain = ca.issue(role, "n1", validity).expect("a name").chain().to_vec();
        chain.first().expect("a certificate").to_vec()
    };
    let mut seeds: Vec<Vec<u8>> = LinkRole::ALL.into_iter().map(certificate).collect();
    seeds.push(b"spiffe://ringfleet/test/node/n1".to_vec());
    fuzz!(|plan| {
        let bytes = feed(&seeds, plan);
        if let Ok(text) = std::str::from_utf8(&bytes)
            && let Ok(peer) = text.parse::<PeerId>()
        {
            assert_eq!(peer.to_string(), text, "an identity has one spelling");
        }
        let certificate = bytes.as_slice().into();
        if let Ok(peer) = bounded(&bytes, 512, || PeerId::of_certificate(&certificate)) {
            assert_eq!(peer.to_string().parse(), Ok(peer));
        }
    });
}
