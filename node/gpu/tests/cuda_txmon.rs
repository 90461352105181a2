//! The `txmon` actors on a GPU, from the text that runs on CPUs, give the alerts of the serial computation for the whole of the built-in
//! model. Without a GPU the test says so and passes; with `RINGFLEET_REQUIRE_GPU=1` it fails then.
#![allow(clippy::disallowed_methods)] // Real time on a real GPU.

#[path = "common/txmon.rs"]
mod rig;

use std::sync::Arc;
use std::time::Instant;

use rig::{TxmonRig, web};
use ringfleet_actors::txmon::ledger::Ledger;
use ringfleet_actors::txmon::model::Model;
use ringfleet_actors::txmon::serial;
use ringfleet_env::{Clock, SystemClock};
use ringfleet_gpu::Device;
use ringfleet_gpu::cuda::CudaDevice;
use ringfleet_gpu::cuda::driver::Gpu;
use ringfleet_gpu::cuda::memory_map::Capacity;
use ringfleet_gpu::cuda::types::device_types;
use ringfleet_kernels::Geometry;

/// For the whole test; nobody renews it.
const LEASE_NS: u64 = 300_000_000_000;

fn start() -> Option<CudaDevice> {
    let gpu = match Gpu::open(0) {
        Ok(gpu) => gpu,
        Err(error) => {
            assert!(std::env::var_os("RINGFLEET_REQUIRE_GPU").is_none(), "RINGFLEET_REQUIRE_GPU is set: {error}");
            println!("not run: {error}");
            return None;
        }
    };
    let types = device_types(&ringfleet_actors::types()).expect("shipped types have device code");
    let geometry = Geometry::for_multiprocessors(gpu.multiprocessors);
    let capacity = Capacity { arena_bytes: 512 << 20, sets: 64, shards: 2048, host_ingress_slots: 1 << 14 };
    let cache = std::env::temp_dir().join("ringfleet-cubin");
    let began = Instant::now();
    let device =
        CudaDevice::start(gpu, geometry, &types, &capacity, &cache, Arc::new(SystemClock)).expect("the device starts");
    println!("compiled, loaded and launched in {:.1} s", began.elapsed().as_secs_f64());
    Some(device)
}

fn check(ledger: &Ledger) {
    let Some(mut device) = start() else { return };
    let until_ns = SystemClock.monotonic_ns() + LEASE_NS;
    let mut rig = TxmonRig::new(&mut device, until_ns, |_: &mut CudaDevice| ());
    let results = rig.results(ledger);
    assert_eq!(results.difference(&serial::results(ledger)), None);
    let total = device.total();
    assert_eq!((total.failures, total.dead_total()), (0, 0), "{total:?}");
    println!("{}", results.tables(ledger));
}

#[test]
fn the_txmon_actors_say_on_a_gpu_what_the_serial_computation_says() {
    check(&Model::BUILT_IN.ledger());
}

#[test]
fn accounts_that_send_all_that_they_can_come_out_right_on_a_gpu() {
    check(&web());
}
