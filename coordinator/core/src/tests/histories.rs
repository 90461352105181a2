//! Random histories: the invariants after every record, replay, snapshots, and recovery when the faults stop.

use super::helpers::*;
use crate::{ClusterState, Command, CommandBody};
use proptest::prelude::*;
use ringfleet_abi::{SetId, ShardId};
use ringfleet_proto::control::node::Released;
use ringfleet_proto::control::{Role, ShardState};
use std::collections::BTreeMap;

/// A step of a history, before names and numbers are looked up in the state.
#[derive(Clone, Debug)]
enum Step {
    Join { name: u8, workers: Vec<u16>, variant: u8 },
    Lose { at: u8 },
    Leave { at: u8 },
    Device { at: u8, device: u16, generation: u32, up: bool },
    Quarantine { at: u8, offset_ms: Option<i64> },
    Apply { set: u8, actor_type: u8, shards: u16, workers: Option<u32>, nodes: Vec<u8>, operation: Option<u8> },
    Scale { set: u8, workers: u32, discard: bool },
    Delete { set: u8 },
    ReleaseSome { keep: u8 },
    ReleaseStale { set: u8, index: u16, epoch: u64 },
    OpenSession { operation: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let workers = || prop::collection::vec(1u16..4, 1..3);
    prop_oneof![
        4 => (0u8..6, workers(), 0u8..6).prop_map(|(name, workers, variant)| Step::Join { name, workers, variant }),
        2 => any::<u8>().prop_map(|at| Step::Lose { at }),
        1 => any::<u8>().prop_map(|at| Step::Leave { at }),
        2 => (any::<u8>(), 0u16..2, 1u32..4, any::<bool>())
            .prop_map(|(at, device, generation, up)| Step::Device { at, device, generation, up }),
        1 => (any::<u8>(), prop::option::of(-999i64..999)).prop_map(|(at, offset_ms)| Step::Quarantine { at, offset_ms }),
        3 => (0u8..4, 0u8..2, 1u16..20, prop::option::of(1u32..8), prop::collection::vec(0u8..6, 0..3), prop::option::of(0u8..8))
            .prop_map(|(set, actor_type, shards, workers, nodes, operation)| Step::Apply { set, actor_type, shards, workers, nodes, operation }),
        3 => (0u8..4, 1u32..8, any::<bool>()).prop_map(|(set, workers, discard)| Step::Scale { set, workers, discard }),
        1 => (0u8..4).prop_map(|set| Step::Delete { set }),
        4 => (1u8..5).prop_map(|keep| Step::ReleaseSome { keep }),
        1 => (0u8..6, 0u16..20, 0u64..4).prop_map(|(set, index, epoch)| Step::ReleaseStale { set, index, epoch }),
        1 => (0u8..8).prop_map(|operation| Step::OpenSession { operation }),
    ]
}

fn pick(cluster: &Cluster, at: u8) -> Option<u64> {
    let alive: Vec<u64> = cluster.state.alive().map(|member| member.incarnation).collect();
    (!alive.is_empty()).then(|| alive[usize::from(at) % alive.len()])
}

fn take(cluster: &mut Cluster, step: &Step) {
    let set_name = |set: u8| format!("set-{set}");
    let command = match step {
        Step::Join { name, workers, variant } => {
            // One node in six carries another layout of the first type.
            let types = if *variant == 0 { vec![report(TYPES[0], 7, 9)] } else { both_types() };
            Command::plain(join_body(&format!("n{name}"), u128::from(cluster.index), workers, types))
        }
        Step::Lose { at } => match pick(cluster, *at) {
            Some(incarnation) => Command::plain(CommandBody::MemberLost { incarnation }),
            None => return,
        },
        Step::Leave { at } => match pick(cluster, *at) {
            Some(incarnation) => Command::plain(CommandBody::Leave { incarnation }),
            None => return,
        },
        Step::Device { at, device, generation, up } => match pick(cluster, *at) {
            Some(incarnation) => Command::plain(CommandBody::DeviceChanged {
                incarnation,
                device: *device,
                generation: *generation,
                up: *up,
            }),
            None => return,
        },
        Step::Quarantine { at, offset_ms } => match pick(cluster, *at) {
            Some(incarnation) => Command::plain(CommandBody::Quarantine { incarnation, offset_ms: *offset_ms }),
            None => return,
        },
        Step::Apply { set, actor_type, shards, workers, nodes, operation } => {
            let mut document = document(&set_name(*set), TYPES[usize::from(*actor_type)], *shards);
            document.spec.workers = *workers;
            document.spec.placement.nodes = nodes.iter().map(|name| format!("n{name}")).collect();
            Command { operation: operation.map(u128::from), body: CommandBody::ApplySet { document } }
        }
        Step::Scale { set, workers, discard } => {
            Command::plain(CommandBody::ScaleSet { set: set_name(*set), workers: *workers, discard_state: *discard })
        }
        Step::Delete { set } => Command::plain(CommandBody::DeleteSet { set: set_name(*set) }),
        Step::ReleaseSome { keep } => {
            let mut reports: BTreeMap<u64, Vec<Released>> = BTreeMap::new();
            for (shard, record) in cluster.state.shards().step_by(usize::from(*keep)) {
                if let (ShardState::Releasing, Some(owner)) = (record.state, record.owner) {
                    let released = Released { set: shard.set.0, index: shard.index.0, epoch: record.epoch };
                    reports.entry(owner.incarnation).or_default().push(released);
                }
            }
            match reports.pop_first() {
                Some((incarnation, shards)) => Command::plain(CommandBody::ShardsReleased { incarnation, shards }),
                None => return,
            }
        }
        Step::ReleaseStale { set, index, epoch } => {
            let shards = vec![Released { set: u16::from(*set), index: *index, epoch: *epoch }];
            let incarnation = pick(cluster, *set).unwrap_or(1);
            Command::plain(CommandBody::ShardsReleased { incarnation, shards })
        }
        Step::OpenSession { operation } => Command::operation(
            100 + u128::from(*operation),
            CommandBody::OpenSession { role: Role::Client, name: "c".into() },
        ),
    };
    cluster.run(command);
}

/// Every owner that any shard ever had, by (shard, epoch).
type Owners = BTreeMap<(ShardId, u64), crate::Residence>;

fn note_owners(owners: &mut Owners, state: &ClusterState) -> Result<(), TestCaseError> {
    for (shard, record) in state.shards() {
        if let Some(owner) = record.owner {
            let first = *owners.entry((shard, record.epoch)).or_insert(owner);
            prop_assert_eq!(first, owner, "C2: one owner per shard and epoch");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn histories_keep_the_invariants_and_replay_to_the_same_state(steps in prop::collection::vec(step(), 1..60)) {
        let mut cluster = Cluster::new();
        let mut owners = Owners::new();
        for step in &steps {
            take(&mut cluster, step);
            note_owners(&mut owners, &cluster.state)?;
        }
        let mut replica = ClusterState::default();
        for (at, (index, command)) in cluster.log.iter().enumerate() {
            if at == cluster.log.len() / 2 {
                // A replica that got a snapshot half-way cannot be told from one that did not.
                replica = ClusterState::from_snapshot(&replica.to_snapshot().unwrap()).unwrap();
            }
            replica.apply(*index, command);
        }
        prop_assert_eq!(&replica, &cluster.state);
        prop_assert_eq!(replica.to_snapshot().unwrap(), cluster.state.to_snapshot().unwrap());
    }

    #[test]
    fn once_faults_stop_every_shard_with_capacity_is_placed(steps in prop::collection::vec(step(), 1..40)) {
        let mut cluster = Cluster::new();
        steps.iter().for_each(|step| take(&mut cluster, step));
        // Capacity for the common variant of both types arrives, also where sets are placed; then every owner does what it was asked.
        cluster.join("spare", &[2]);
        for name in 0u8..6 {
            let name = format!("n{name}");
            if !cluster.state.alive().any(|member| member.name == name) {
                cluster.join(&name, &[2]);
            }
        }
        let alive: Vec<u64> = cluster.state.alive().map(|member| member.incarnation).collect();
        for incarnation in alive {
            cluster.plain(CommandBody::Quarantine { incarnation, offset_ms: None });
        }
        for _ in 0..3 {
            cluster.release_all();
        }
        for set in cluster.state.sets() {
            let stuck = cluster.state.shards_of(SetId(set.set)).filter(|(_, r)| r.state != ShardState::Resident).count();
            let spec = &set.document.spec;
            let room = cluster.state.alive().any(|member| {
                let placed = spec.placement.nodes.is_empty() || spec.placement.nodes.contains(&member.name);
                let carries = member.actor_type(&spec.actor_type).is_some_and(|report| report.layout_hash == set.layout_hash);
                placed && carries && (0..2).any(|device| member.is_up(device))
            });
            prop_assert!(room || set.layout_hash != 8 || !spec.placement.nodes.is_empty(), "the spare node has room");
            prop_assert!(stuck == 0 || !room, "C10: {} has {stuck} shards without a home", set.name());
        }
    }

    #[test]
    fn a_fresh_set_is_balanced_within_one_shard_per_worker(
        nodes in prop::collection::vec(prop::collection::vec(1u16..6, 1..4), 1..5),
        shards in 1u16..300,
        bound in prop::option::of(1u32..40),
        scaled in 1u32..40,
    ) {
        let mut cluster = Cluster::new();
        for (at, workers) in nodes.iter().enumerate() {
            cluster.join(&format!("n{at}"), workers);
        }
        let all: u32 = nodes.iter().flatten().map(|&workers| u32::from(workers)).sum();
        let mut document = document("a", TYPES[0], shards);
        document.spec.workers = bound;
        let set = cluster.create(document);
        let wide = |bound: u32| all.min(bound).min(u32::from(shards)) as usize;
        assert_balanced(&cluster.counts(set), wide(bound.unwrap_or(u32::MAX)), u32::from(shards));
        cluster.scale("a", scaled, true);
        cluster.release_all();
        assert_balanced(&cluster.counts(set), wide(scaled), u32::from(shards));
        for (_, record) in cluster.state.shards_of(set) {
            prop_assert!(record.epoch <= 2, "no shard moves twice for one scale");
        }
    }

    #[test]
    fn damaged_snapshots_are_errors(
        steps in prop::collection::vec(step(), 1..10),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut cluster = Cluster::new();
        steps.iter().for_each(|step| take(&mut cluster, step));
        let mut bytes = cluster.state.to_snapshot().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let reserved = 6..8;
        prop_assert!(ClusterState::from_snapshot(&bytes).is_err() || reserved.contains(&at));
        prop_assert!(ClusterState::from_snapshot(&bytes[..at]).is_err());
    }
}

proptest! {
    #[test]
    fn commands_come_back_from_their_bytes_and_damaged_ones_are_errors(
        steps in prop::collection::vec(step(), 1..6),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut cluster = Cluster::new();
        steps.iter().for_each(|step| take(&mut cluster, step));
        for (_, command) in &cluster.log {
            let mut bytes = command.to_bytes().unwrap();
            prop_assert_eq!(&Command::from_bytes(&bytes).unwrap(), command);
            let at = at.index(bytes.len());
            prop_assert!(Command::from_bytes(&bytes[..at]).is_err());
            let was = std::mem::replace(&mut bytes[at], byte);
            prop_assert!(was == byte || Command::from_bytes(&bytes).is_err());
        }
    }
}

/// Found by the property above: without a digest, some truncated records were the archives of other commands.
#[test]
fn a_truncated_command_is_no_other_command() {
    let bytes = Command::plain(CommandBody::ShardsReleased { incarnation: 0, shards: Vec::new() }).to_bytes().unwrap();
    for end in 0..bytes.len() {
        assert!(Command::from_bytes(&bytes[..end]).is_err(), "{end} of {} bytes", bytes.len());
    }
}

#[test]
fn the_checker_sees_a_second_owner_in_one_epoch_and_a_falling_epoch() {
    let mut cluster = Cluster::new();
    cluster.join("n1", &[2]);
    cluster.create(document("a", TYPES[0], 4));
    let good = cluster.state.clone();
    let shard = *good.shards.keys().next().unwrap();

    let mut two_owners = good.clone();
    let record = two_owners.shards.get_mut(&shard).unwrap();
    let owner = record.owner.as_mut().unwrap();
    owner.worker = 1 - owner.worker;
    two_owners.view_index += 1;
    assert!(two_owners.check_since(&good).unwrap_err().contains("two owners"));

    let mut falling = good.clone();
    falling.shards.get_mut(&shard).unwrap().epoch = 0;
    falling.view_index += 1;
    assert!(falling.check_since(&good).unwrap_err().contains("fell"));

    let mut silent = good.clone();
    silent.shards.get_mut(&shard).unwrap().state = ShardState::Releasing;
    assert!(silent.check_since(&good).unwrap_err().contains("placement index"));

    let mut dead_owner = good.clone();
    dead_owner.members.values_mut().next().unwrap().state = crate::MemberState::Lost;
    assert!(dead_owner.check().unwrap_err().contains("not alive"));
}
