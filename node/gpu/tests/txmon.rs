//! The `txmon` application on CPU devices, stepped and with threads, gives what the serial computation gives, and keeps its bound on
//! what is in flight.

#[path = "common/txmon.rs"]
mod rig;

use std::sync::Arc;

use proptest::prelude::*;
use rig::{TxmonRig, web};
use ringfleet_actors::txmon::ledger::Ledger;
use ringfleet_actors::txmon::model::Model;
use ringfleet_actors::txmon::{DESKS, IN_FLIGHT_MAX, serial};
use ringfleet_env::{ManualClock, SystemClock};
use ringfleet_gpu::{CpuDevice, CpuDeviceConfig, Device, SteppedDevice};

/// Small rings, so that most of what is sent spills; the spill is the default one.
fn narrow(workers: u16) -> CpuDeviceConfig {
    CpuDeviceConfig {
        workers,
        ring_slots: 32,
        ingress_slots: 64,
        egress_slots: 64,
        batch: 16,
        ..CpuDeviceConfig::DEFAULT
    }
}

fn stepped(config: &CpuDeviceConfig, ledger: &Ledger) -> i128 {
    let clock = Arc::new(ManualClock::new(1_000_000_000, 1_700_000_000_000));
    let mut device = CpuDevice::stepped(config, &ringfleet_actors::types(), clock).expect("a device");
    let turn = |device: &mut SteppedDevice| {
        device.step_all();
    };
    let mut rig = TxmonRig::new(&mut device, u64::MAX, turn);
    let results = rig.results(ledger);
    let in_flight_max = rig.in_flight_max;
    assert_eq!(results.difference(&serial::results(ledger)), None);
    // The questions what has come back, and the answers, are in flight as well.
    assert!(in_flight_max <= i128::from(IN_FLIGHT_MAX) + 2 * DESKS as i128, "{in_flight_max}");
    let total = device.total();
    assert_eq!((total.failures, total.dead_total(), total.in_flight()), (0, 0, 0), "{total:?}");
    in_flight_max
}

fn threaded(config: &CpuDeviceConfig, ledger: &Ledger) {
    let mut device = CpuDevice::start(config, &ringfleet_actors::types(), Arc::new(SystemClock)).expect("a device");
    let mut rig = TxmonRig::new(&mut device, u64::MAX, |_: &mut CpuDevice| std::thread::yield_now());
    let results = rig.results(ledger);
    assert_eq!(results.difference(&serial::results(ledger)), None);
    let total = device.total();
    assert_eq!((total.failures, total.dead_total()), (0, 0), "{total:?}");
}

#[test]
fn a_stepped_device_gives_the_same_through_full_rings_and_stays_below_the_bound() {
    for workers in [1, 3] {
        stepped(&narrow(workers), &Model { seed: 3, persons: 500, days: 10 }.ledger());
    }
}

#[test]
fn accounts_that_send_all_that_they_can_stay_below_the_bound() {
    for workers in [1, 3] {
        let in_flight = stepped(&narrow(workers), &web());
        assert!(in_flight > i128::from(IN_FLIGHT_MAX) / 5, "{in_flight} of {IN_FLIGHT_MAX}: the bound was not tried");
    }
}

#[test]
fn threads_give_the_same_for_the_whole_model() {
    threaded(&CpuDeviceConfig::DEFAULT, &Model::BUILT_IN.ledger());
}

#[test]
fn threads_with_narrow_rings_give_the_same() {
    threaded(&narrow(3), &Model { seed: 4, persons: 300, days: 8 }.ledger());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_seed_on_any_number_of_workers_gives_what_the_serial_computation_gives(
        seed: u64,
        persons in 20..120_u32,
        days in 1..12_u32,
        workers in 1..5_u16,
    ) {
        stepped(&narrow(workers), &Model { seed, persons, days }.ledger());
    }
}
