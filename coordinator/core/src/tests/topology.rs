//! What nodes report of their GPUs, and what placement makes of it.

use super::helpers::{Cluster, assert_balanced, both_types, document, join_body, refusal};
use super::helpers::{TYPES, report};
use crate::planner::islands;
use crate::{CommandBody, Outcome};
use ringfleet_abi::SetId;
use ringfleet_proto::control::{
    DeviceKind, DeviceReport, GpuReport, Keys, LinkReport, RefusalCode, ShardState, TypeReport,
};
use std::collections::BTreeSet;

/// Devices of one GPU each; `links` are pairs of devices with NVLinks between them.
fn gpus(workers: &[u16], memory_bytes: u64, links: &[(u16, u16)]) -> Vec<DeviceReport> {
    let device = |(at, workers): (usize, &u16)| {
        let at = at as u16;
        let ends = links.iter().filter_map(|&(a, b)| if a == at { Some(b) } else { (b == at).then_some(a) });
        let links = ends.map(|device| LinkReport { device, gpu: 0, nvlinks: 18 }).collect();
        let gpu = GpuReport {
            name: "NVIDIA H200".into(),
            uuid: format!("GPU-{at}"),
            architecture: 90,
            multiprocessors: 132,
            memory_bytes: 141 << 30,
            links,
        };
        DeviceReport { index: at, kind: DeviceKind::Gpu, workers: *workers, memory_bytes, gpus: vec![gpu] }
    };
    workers.iter().enumerate().map(device).collect()
}

fn join(cluster: &mut Cluster, name: &str, devices: Vec<DeviceReport>) -> Outcome {
    join_with(cluster, name, devices, both_types())
}

fn join_with(cluster: &mut Cluster, name: &str, devices: Vec<DeviceReport>, types: Vec<TypeReport>) -> Outcome {
    let mut body = join_body(name, u128::from(cluster.index), &[1], types);
    if let CommandBody::Join { devices: place, .. } = &mut body {
        *place = devices;
    }
    cluster.plain(body)
}

fn small(name: &str, workers: u32) -> ringfleet_proto::control::ActorSet {
    let mut set = document(name, TYPES[0], 8);
    set.spec.workers = Some(workers);
    set
}

/// The devices, by node and index, that a set occupies.
fn occupied(cluster: &Cluster, set: SetId) -> BTreeSet<(u32, u16)> {
    cluster.counts(set).keys().map(|&(node, device, _)| (node, device)).collect()
}

#[test]
fn devices_that_nvlinks_join_are_one_island_over_whatever_others() {
    assert_eq!(islands(&gpus(&[1, 1, 1, 1, 1], 0, &[(3, 1), (0, 3), (2, 4)])), [0, 0, 2, 0, 2]);
    assert_eq!(islands(&gpus(&[1, 1], 0, &[])), [0, 1]);
    let mut reached = gpus(&[1, 1], 0, &[(0, 1)]);
    reached.iter_mut().for_each(|device| device.gpus[0].links[0].nvlinks = 0);
    assert_eq!(islands(&reached), [0, 1], "over PCIe");
}

#[test]
fn a_small_set_spreads_over_nodes_and_islands_and_stays_together_within_one() {
    let with = |links: &[(u16, u16)]| {
        let mut cluster = Cluster::new();
        join(&mut cluster, "n1", gpus(&[4, 4, 4, 4], 0, links));
        join(&mut cluster, "n2", gpus(&[4, 4, 4, 4], 0, links));
        cluster
    };
    let mut apart = with(&[]);
    let set = apart.create(small("a", 4));
    assert_eq!(occupied(&apart, set), BTreeSet::from([(1, 0), (1, 1), (2, 0), (2, 1)]), "without NVLinks");
    let mut joined = with(&[(0, 1), (2, 3)]);
    let set = joined.create(small("a", 4));
    assert_eq!(occupied(&joined, set), BTreeSet::from([(1, 0), (1, 2), (2, 0), (2, 2)]), "each island is opened once");
    let mut one = with(&[(0, 1), (1, 2), (2, 3)]);
    let set = one.create(small("a", 4));
    assert_eq!(occupied(&one, set), BTreeSet::from([(1, 0), (2, 0)]), "in one device of each node");
    assert_balanced(&one.counts(set), 4, 8);
    // What is more than a device has workers goes to its neighbours.
    let set = one.create(small("b", 16));
    assert_balanced(&one.counts(set), 8, 8);
    let mut wide = document("c", TYPES[0], 64);
    wide.spec.workers = None;
    let set = one.create(wide);
    assert_balanced(&one.counts(set), 32, 64);
    // Scaling down keeps what is together.
    let mut set = small("d", 8);
    set.spec.shards = 32;
    let set = one.create(set);
    let before = occupied(&one, set);
    assert_eq!(before.len(), 2, "{before:?}");
    assert!(matches!(one.scale("d", 4, true), Outcome::Set { .. }));
    one.release_all();
    assert_eq!(occupied(&one, set), before);
    assert_balanced(&one.counts(set), 4, 32);
}

#[test]
fn a_device_gets_no_shard_that_its_memory_has_certainly_no_room_for() {
    let types = || vec![TypeReport { state_bytes: 64, ..report(TYPES[0], 7, 8) }, report(TYPES[1], 7, 8)];
    let dense = |name: &str| {
        let mut set = document(name, TYPES[0], 12);
        set.spec.keys = Keys::Dense { count: 12 * 1000 };
        set
    };
    let mut cluster = Cluster::new();
    // A shard takes 64,000 bytes: the first has room for three, the second for five.
    join_with(&mut cluster, "n1", gpus(&[2], 3 * 64_000 + 63_999, &[]), types());
    join_with(&mut cluster, "n2", gpus(&[2], 5 * 64_000, &[]), types());
    let set = cluster.create(dense("a"));
    let on = |cluster: &Cluster, set, node| -> u32 {
        cluster.counts(set).iter().filter(|(worker, _)| worker.0 == node).map(|(_, count)| count).sum()
    };
    assert_eq!([on(&cluster, set, 1), on(&cluster, set, 2)], [3, 5]);
    assert_eq!(cluster.in_state(set, ShardState::Pending), 4);
    // Others count, too; sets whose actors nobody knows the number of do not.
    let other = cluster.create(dense("b"));
    assert_eq!(cluster.in_state(other, ShardState::Pending), 12);
    let hashed = cluster.create(document("c", TYPES[0], 12));
    assert_eq!(cluster.in_state(hashed, ShardState::Pending), 0);
    // What waits goes where there is room as soon as there is, by age.
    join_with(&mut cluster, "n3", gpus(&[2], 6 * 64_000, &[]), types());
    assert_eq!((cluster.in_state(set, ShardState::Pending), cluster.in_state(other, ShardState::Pending)), (0, 10));
    // Memory that is not set aside has no bound.
    join_with(&mut cluster, "n4", gpus(&[2], 0, &[]), types());
    assert_eq!(cluster.in_state(other, ShardState::Pending), 0);
    assert_eq!(on(&cluster, other, 4), 10);
}

#[test]
fn a_report_of_gpus_that_cannot_be_is_refused() {
    let refused = |change: fn(&mut Vec<DeviceReport>)| {
        let mut devices = gpus(&[1, 1], 0, &[(0, 1)]);
        change(&mut devices);
        refusal(join(&mut Cluster::new(), "n1", devices))
    };
    let twice = refused(|devices| devices[1].gpus[0].uuid = "GPU-0".into());
    assert_eq!(twice, (RefusalCode::BadRequest, "node `n1` reports the GPU GPU-0 twice".into()));
    let (code, text) = refused(|devices| devices[0].gpus[0].links[0].gpu = 1);
    assert_eq!(code, RefusalCode::BadRequest);
    assert!(text.contains("a link to GPU 1 of device 1, which is not there"), "{text}");
    assert_eq!(refused(|devices| devices[0].gpus[0].links[0].device = 2).0, RefusalCode::BadRequest);
    assert_eq!(refused(|devices| devices[0].gpus[0].name = "x".repeat(97)).0, RefusalCode::LimitExceeded);
    assert_eq!(refused(|devices| devices[0].gpus[0].name = "a\u{1b}[2J".into()).0, RefusalCode::BadRequest);
    let many = refused(|devices| {
        let gpu = devices[0].gpus[0].clone();
        devices[0].gpus = (0..65).map(|at| GpuReport { uuid: format!("GPU-{at}"), ..gpu.clone() }).collect();
    });
    assert_eq!(many, (RefusalCode::LimitExceeded, "66 GPUs, at most 64".into()));
    assert!(matches!(join(&mut Cluster::new(), "n1", gpus(&[1, 1], 0, &[(0, 1)])), Outcome::Joined { .. }));
}
