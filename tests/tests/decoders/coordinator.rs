//! What coordinators read from disk: records of the log, snapshots. The messages of the Raft group have their target where they are
//! (`coordinator/src/raft/rpc.rs`): nobody else sees their types.

use ringfleet_abi::hash::fnv1a64;
use ringfleet_coordinator::store::{seal, unseal};
use ringfleet_coordinator_core::{ClusterState, Command, CommandBody};
use ringfleet_proto::control::document::{FailurePolicy, OnFailure};
use ringfleet_proto::control::{ActorSet, DeviceKind, DeviceReport, Released, Role};

use crate::control::{gpu_report, type_report};
use crate::{bounded, feed, fuzz};

/// Memory for one byte of input: the archive is copied once, then names become `String`s.
const PER_BYTE: u64 = 64;

/// One command of each kind that carries something.
fn commands() -> Vec<Command> {
    let devices = vec![DeviceReport {
        index: 0,
        kind: DeviceKind::Cpu,
        workers: 2,
        memory_bytes: 1 << 30,
        gpus: vec![gpu_report(); 2],
    }];
    let join = CommandBody::Join {
        name: "n1".into(),
        boot: 7,
        data_addr: "127.0.0.1:7400".into(),
        http_addr: "127.0.0.1:7401".into(),
        devices,
        types: vec![type_report()],
    };
    let mut document = ActorSet::new("flights.carrier", "flights.carrier");
    document.spec.shards = 4;
    let mut supervised = ActorSet::new("flights.airport", "flights.carrier");
    supervised.spec.on_failure = Some(OnFailure {
        policy: FailurePolicy::Escalate,
        max_restarts: None,
        window_ms: None,
        parent: Some("flights.carrier".into()),
    });
    vec![
        Command::plain(CommandBody::InitCluster { cluster: "test".into(), lease_ms: 3000 }),
        Command::plain(join),
        Command::operation(1, CommandBody::ApplySet { document }),
        Command::operation(5, CommandBody::ApplySet { document: supervised }),
        Command::operation(2, CommandBody::OpenSession { role: Role::Client, name: "c".into() }),
        Command::operation(3, CommandBody::ScaleSet { set: "flights.carrier".into(), workers: 1, discard_state: true }),
        Command::plain(CommandBody::ShardsReleased {
            incarnation: 2,
            shards: vec![Released { set: 1, index: 2, epoch: 1 }; 2],
        }),
        Command::plain(CommandBody::Quarantine { incarnation: 2, offset_ms: Some(312) }),
        Command::plain(CommandBody::DeviceChanged { incarnation: 2, device: 0, generation: 1, up: false }),
        Command::plain(CommandBody::MemberLost { incarnation: 2 }),
        Command::operation(4, CommandBody::DeleteSet { set: "flights.carrier".into() }),
    ]
}

/// The state after all of them.
fn state() -> ClusterState {
    let mut state = ClusterState::default();
    for (index, command) in (1..).zip(&commands()) {
        state.apply(index, command);
    }
    state
}

/// Changes the archive behind a header and puts the digest of what it is now into bytes `digest`.
fn resealed(seeds: &[Vec<u8>], plan: &[u8], header_bytes: usize, digest: std::ops::Range<usize>) -> Vec<u8> {
    let bodies: Vec<Vec<u8>> = seeds.iter().map(|seed| seed[header_bytes..].to_vec()).collect();
    let body = feed(&bodies, plan);
    let mut bytes = seeds[0][..header_bytes].to_vec();
    bytes[digest].copy_from_slice(&fnv1a64(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

#[test]
fn records_of_the_log() {
    let seeds: Vec<Vec<u8>> = commands().iter().map(|command| command.to_bytes().expect("short")).collect();
    let before = state();
    fuzz!(|plan| {
        // As it comes, mostly stopped by the digest; then as if the digest were right.
        let bytes = feed(&seeds, plan);
        let _ = bounded(&bytes, PER_BYTE, || Command::from_bytes(&bytes).is_ok());
        let bytes = resealed(&seeds, plan, RECORD_HEADER_BYTES, RECORD_HEADER_BYTES - 8..RECORD_HEADER_BYTES);
        let Ok(command) = bounded(&bytes, PER_BYTE, || Command::from_bytes(&bytes)) else { return };
        let written = command.to_bytes().expect("what was read is not too long");
        assert_eq!(Command::from_bytes(&written).expect("what was written can be read"), command);
        // Whoever may write to the log may write anything: applying it keeps the invariants of the state.
        let mut state = before.clone();
        state.apply(100, &command);
        assert_eq!(state.check().and_then(|()| state.check_since(&before)), Ok(()), "after {command}");
    });
}

/// Bytes of a record before its archive: magic, digest.
const RECORD_HEADER_BYTES: usize = 10;

#[test]
fn snapshots() {
    let seeds = vec![state().to_snapshot().expect("small"), ClusterState::default().to_snapshot().expect("small")];
    fuzz!(|plan| {
        let bytes = feed(&seeds, plan);
        let _ = bounded(&bytes, PER_BYTE, || ClusterState::from_snapshot(&bytes).is_ok());
        let bytes = resealed(&seeds, plan, 16, 8..16);
        let Ok(state) = bounded(&bytes, PER_BYTE, || ClusterState::from_snapshot(&bytes)) else { return };
        let written = state.to_snapshot().expect("what was read can be written");
        let read = ClusterState::from_snapshot(&written).expect("what was written can be read");
        assert_eq!(read.to_snapshot().expect("again"), written);
    });
}

#[test]
fn records_on_disk() {
    let seeds = vec![seal(b""), seal(b"a payload of a record")];
    fuzz!(|plan| {
        let bytes = feed(&seeds, plan);
        if let Ok(payload) = bounded(&bytes, 1, || unseal(&bytes).map(<[u8]>::to_vec)) {
            assert_eq!(seal(&payload), bytes);
        }
    });
}
