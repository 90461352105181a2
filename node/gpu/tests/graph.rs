//! The `graph` application on CPU devices, stepped and with threads, gives what the serial computation gives, and keeps its bound on
//! what is in flight.

#[path = "common/graph.rs"]
mod rig;

use std::sync::Arc;

use proptest::prelude::*;
use rig::{GraphRig, wordnet};
use ringfleet_actors::graph::list::Graph;
use ringfleet_actors::graph::{GROUP_VERTICES, GROUPS_AT_A_TIME, IN_FLIGHT_MAX, serial};
use ringfleet_env::{ManualClock, SystemClock};
use ringfleet_gpu::{CpuDevice, CpuDeviceConfig, Device, SteppedDevice};

/// Small rings, so that most of what is sent spills; the spill is the default one.
fn narrow(workers: u16) -> CpuDeviceConfig {
    CpuDeviceConfig {
        workers,
        ring_slots: 16,
        ingress_slots: 64,
        egress_slots: 64,
        batch: 16,
        ..CpuDeviceConfig::DEFAULT
    }
}

fn stepped(config: &CpuDeviceConfig, graph: &Graph, rounds: u32) -> i128 {
    let clock = Arc::new(ManualClock::new(1_000_000_000, 1_700_000_000_000));
    let mut device = CpuDevice::stepped(config, &ringfleet_actors::types(), clock).expect("a device");
    let turn = |device: &mut SteppedDevice| {
        device.step_all();
    };
    let mut rig = GraphRig::new(&mut device, u64::MAX, turn);
    let results = rig.results(graph, rounds);
    let in_flight_max = rig.in_flight_max;
    assert_eq!(results.difference(&serial::results(graph, rounds)), None);
    let total = device.total();
    assert_eq!((total.failures, total.dead_total(), total.in_flight()), (0, 0, 0), "{total:?}");
    in_flight_max
}

fn threaded(config: &CpuDeviceConfig, graph: &Graph, rounds: u32) {
    let mut device = CpuDevice::start(config, &ringfleet_actors::types(), Arc::new(SystemClock)).expect("a device");
    let mut rig = GraphRig::new(&mut device, u64::MAX, |_: &mut CpuDevice| std::thread::yield_now());
    let results = rig.results(graph, rounds);
    assert_eq!(results.difference(&serial::results(graph, rounds)), None);
    let total = device.total();
    assert_eq!((total.failures, total.dead_total()), (0, 0), "{total:?}");
}

/// Every vertex to the next few and to a hub, which leads back to all.
fn wheel(vertices: u32) -> Graph {
    let edges = (1..vertices).flat_map(|v| [(v, 0), (0, v), (v, v % (vertices - 1) + 1), (v, v / 2), (v, v)]);
    Graph::of_edges(vertices, &edges.collect::<Vec<_>>())
}

#[test]
fn a_stepped_device_gives_the_same_through_full_rings_and_stays_below_the_bound() {
    for workers in [1, 3] {
        stepped(&narrow(workers), &Graph::of_edges(1, &[]), 2);
        let in_flight = stepped(&narrow(workers), &wheel(4000), 4);
        // Of eight groups; and the question how far it is, and its answer.
        let most = i128::from(IN_FLIGHT_MAX / GROUPS_AT_A_TIME * 4000_u32.div_ceil(GROUP_VERTICES)) + 2;
        assert!(in_flight > most / 10, "{in_flight} of {most}: the bound was not tried");
        assert!(in_flight <= most, "{in_flight} of {most}");
    }
}

#[test]
fn threads_give_the_same_for_the_whole_of_wordnet() {
    threaded(&CpuDeviceConfig::DEFAULT, &wordnet(), 5);
}

#[test]
fn threads_with_narrow_rings_give_the_same() {
    threaded(&narrow(3), &wheel(3000), 4);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_graph_on_any_number_of_workers_gives_what_the_serial_computation_gives(
        vertices in 1..1200_u32,
        edges in proptest::collection::vec((any::<u32>(), any::<u32>(), any::<bool>()), 0..1500),
        workers in 1..5_u16,
        rounds in 0..4_u32,
    ) {
        // Half of the edges begin at one of three vertices.
        let edge = |(a, b, hub): (u32, u32, bool)| (if hub { a % vertices.min(3) } else { a % vertices }, b % vertices);
        let graph = Graph::of_edges(vertices, &edges.into_iter().map(edge).collect::<Vec<_>>());
        stepped(&narrow(workers), &graph, rounds);
    }
}
