//! What one GPU does, measured honestly: throughput is the sum of the workers' counters checked against the expected total, a
//! round trip holds an answer that the handler made, and a launch + synchronise of an empty kernel stands beside them.
#![allow(clippy::disallowed_methods)] // A benchmark of real time on a real GPU.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringfleet_abi::hash::mix64;
use ringfleet_abi::{ActorId, Envelope, Flags, KeySpace, SessionId, SetId, WorkerCounters, WorkerIndex};
use ringfleet_kernels::device_type::{bench_types, by_name, shipped};
use ringfleet_kernels::layout::{SetEntry, ShardEntry};
use ringfleet_kernels::source::SEED_KERNEL;
use ringfleet_kernels::{Arch, DeviceType, Geometry, Kind, Unit, Variant};

use ringfleet_gpu::cuda::CudaError;
use ringfleet_gpu::cuda::compile::compile;
use ringfleet_gpu::cuda::driver::{DeviceMemory, Gpu};
use ringfleet_gpu::cuda::kernel::Resident;
use ringfleet_gpu::cuda::memory_map::Capacity;
use ringfleet_gpu::cuda::peers;
use ringfleet_gpu::cuda::port::{EgressPort, IngressPort, device_ns, set_lease, set_stop};
use ringfleet_gpu::cuda::types::device_types;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const SET: u16 = 1;

#[derive(Clone, Debug)]
struct Scenario {
    name: String,
    ty: &'static str,
    actors: u64,
    each: u32,
    left: u32,
    hot: u32,
    burst: u32,
    hashed: bool,
    /// Device code made from the Rust text instead of that written by hand.
    rust: bool,
    /// Types that are compiled beside the one that runs, by bits of their places in the registry.
    all: u64,
    rounds: u32,
    /// Seconds after which a run is given up.
    limit: u64,
    geometry: Geometry,
    variant: Variant,
}

struct World {
    resident: Resident,
    /// Which of the devices this is.
    device: u32,
    ingress: IngressPort,
    egress: EgressPort,
    shards: u16,
    keys: KeySpace,
    owner: Vec<u16>,
    ty: DeviceType,
}

impl World {
    fn new(gpu: &Arc<Gpu>, scenario: &Scenario) -> Outcome<Self> {
        Self::of_several(gpu, scenario, 0)
    }

    fn of_several(gpu: &Arc<Gpu>, scenario: &Scenario, device: u32) -> Outcome<Self> {
        let types = if scenario.rust || scenario.all != 0 {
            // The same actor, from its Rust text; alone, or among all that ship.
            let known = ringfleet_actors::types();
            let wanted: Vec<_> = known
                .iter()
                .copied()
                .enumerate()
                .filter(|(at, ty)| scenario.all >> at & 1 != 0 || ty.name == scenario.ty)
                .map(|(_, ty)| ty)
                .collect();
            device_types(&wanted)?
        } else {
            vec![by_name(scenario.ty).ok_or("no such type")?]
        };
        let type_index = types.iter().position(|ty| ty.name == scenario.ty).ok_or("no such type in Rust")?;
        let ty = types[type_index].clone();
        let g = scenario.geometry;
        let per_worker = (4096 / g.peers()).clamp(1, 4);
        let shards = (g.peers() * per_worker) as u16;
        let keys = if scenario.hashed { KeySpace::Hashed } else { KeySpace::Dense { count: scenario.actors } };
        let each = match keys {
            KeySpace::Dense { .. } => keys.keys_per_shard(shards),
            // Half full at most.
            KeySpace::Hashed => (scenario.actors.div_ceil(u64::from(shards)) * 2).next_power_of_two(),
        };
        let units = u64::from(ty.record_units());
        let stride = (each + 1) * units + if scenario.hashed { each / 4 } else { 0 };
        let capacity = Capacity {
            arena_bytes: stride * u64::from(shards) * 32,
            sets: 16,
            shards: 8192,
            host_ingress_slots: 1 << 16,
        };
        let variant = Variant { seed: true, ..scenario.variant };
        let cache =
            PathBuf::from(std::env::var("RINGFLEET_CUBIN_CACHE").unwrap_or_else(|_| "/tmp/ringfleet-cubin".into()));
        let mut resident = Resident::new(gpu.clone(), g, variant, &types, &capacity, &cache)?;
        resident.memory.params.rounds_max = scenario.rounds;
        resident.memory.params.device = device;
        let owner: Vec<u16> = (0..shards).map(|shard| shard / per_worker as u16).collect();
        let entries: Vec<ShardEntry> = (0..u64::from(shards))
            .map(|shard| ShardEntry {
                base: (shard * stride) as u32,
                capacity: each as u32,
                epoch: 1,
                worker: Some(u32::from(owner[shard as usize]).wrapping_sub(device * g.workers))
                    .filter(|worker| *worker < g.workers)
                    .unwrap_or(u32::MAX),
                record_units: ty.record_units(),
                units: stride as u32,
                ..ShardEntry::default()
            })
            .collect();
        let set = SetEntry {
            route_base: 0,
            tag: ty.tag(),
            record_units: ty.record_units(),
            type_index: type_index as u16,
            ..SetEntry::of_keys(keys, shards)
        };
        let m = &resident.memory;
        m.sets.write(usize::from(SET) * size_of::<SetEntry>(), &[set], &resident.copy)?;
        m.shards.write(0, &entries, &resident.copy)?;
        m.routes.write(0, &owner, &resident.copy)?;
        set_lease(m, u64::MAX);
        let (ingress, egress) = (IngressPort::new(&g, capacity.host_ingress_slots), EgressPort::new(&g));
        Ok(Self { resident, device, ingress, egress, shards, keys, owner, ty })
    }

    fn kind(&self, name: &'static str) -> u16 {
        Kind { name }.number()
    }

    fn worker_of(&self, key: u64) -> WorkerIndex {
        WorkerIndex(self.keys.shard_of(self.shards, key).map_or(0, |shard| self.owner[shard.0 as usize]))
    }

    /// Puts `each` messages per actor into the rings, before the launch; returns how many found room.
    fn seed(&self, scenario: &Scenario) -> Outcome<u64> {
        let r = &self.resident;
        let placed = DeviceMemory::new(&r.gpu, 16)?;
        let kind = match scenario.ty {
            "hop" => self.kind("Step"),
            "hotspot" => self.kind("Hop"),
            "relay" => self.kind("Start"),
            other => return Err(format!("{other} is not seeded").into()),
        };
        let stride = match scenario.ty {
            "relay" => scenario.actors / 2 + 7,
            "hop" => 1,
            _ => 0,
        };
        let mut seed = Vec::new();
        for word in [12345_u64, scenario.actors, stride] {
            seed.extend_from_slice(&word.to_ne_bytes());
        }
        for word in [u32::from(SET), u32::from(kind), scenario.left, scenario.hot, scenario.burst, scenario.each] {
            seed.extend_from_slice(&word.to_ne_bytes());
        }
        let kernel = r.module.kernel(SEED_KERNEL, 0)?;
        let blocks = (scenario.actors * u64::from(scenario.each)).div_ceil(256).max(1) as u32;
        let address = placed.address().to_ne_bytes();
        // SAFETY: the kernel takes Params, Seed and an address, as in `bench_seed.cuh`.
        #[allow(unsafe_code)]
        unsafe {
            kernel.launch(blocks, 256, 0, &r.run, &[bytemuck::bytes_of(&r.memory.params), &seed, &address])?;
        }
        r.run.synchronize()?;
        let mut count = [0_u64];
        placed.read(0, &mut count, &r.copy)?;
        Ok(count[0])
    }

    fn stop(&self) -> Outcome<Duration> {
        let began = Instant::now();
        set_stop(&self.resident.memory, true);
        while !self.resident.run.is_idle()? {
            if began.elapsed() > Duration::from_secs(5) {
                // Freeing memory would wait for the kernel for ever.
                eprintln!("the kernel did not stop within 5 s: {:?}", self.resident.total());
                std::process::exit(3);
            }
            std::hint::spin_loop();
        }
        Ok(began.elapsed())
    }
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

/// The counters of all devices.
fn total_of(worlds: &[World]) -> Outcome<WorkerCounters> {
    let mut total = WorkerCounters::default();
    for world in worlds {
        total.add(&world.resident.total()?);
    }
    Ok(total)
}

fn throughput(gpus: &[Arc<Gpu>], scenario: &Scenario) -> Outcome<()> {
    let mut worlds = Vec::new();
    for (device, gpu) in gpus.iter().take(scenario.geometry.devices as usize).enumerate() {
        worlds.push(World::of_several(gpu, scenario, device as u32)?);
    }
    if worlds.len() < scenario.geometry.devices as usize {
        return Err(format!("{} GPUs are needed", scenario.geometry.devices).into());
    }
    if worlds.len() > 1 {
        peers::connect(worlds.iter_mut().map(|world| &mut world.resident))?;
    }
    let mut seeded = 0;
    for world in &worlds {
        seeded += world.seed(scenario)?;
    }
    let expected = (scenario.ty != "relay").then(|| seeded * u64::from(scenario.left));
    let began = Instant::now();
    for world in &worlds {
        world.resident.launch()?;
    }
    let mut last = 0;
    let mut last_change = Instant::now();
    let (elapsed, timed_out) = loop {
        let total = total_of(&worlds)?;
        let done = total.handled + total.dead_total();
        if done != last {
            last = done;
            last_change = Instant::now();
        }
        match expected {
            Some(expected) if done >= expected => break (began.elapsed(), false),
            None if done == seeded + total.sent && done > 0 => break (began.elapsed(), false),
            _ => {}
        }
        if last_change.elapsed() > Duration::from_millis(1500) || began.elapsed() > Duration::from_secs(scenario.limit)
        {
            break (began.elapsed(), true);
        }
    };
    for world in &worlds {
        world.stop()?;
    }
    let total = total_of(&worlds)?;
    let g = scenario.geometry;
    let rate = total.handled as f64 / elapsed.as_secs_f64() / 1e9;
    let conserved = seeded + total.sent == total.handled + total.dead_total() && total.egress_out == 0;
    let check = match (timed_out, conserved, expected) {
        (true, ..) => "TIMEOUT",
        (_, false, _) => "NOT CONSERVED",
        (_, true, Some(expected)) if total.handled != expected => "WRONG TOTAL",
        _ => "ok",
    };
    println!(
        "{:<26} gpus {} actors {:>9} ring {:>5} T {:>4} B {:>4}: {:>7.3} G msg/s  handled {} seeded {} in {:.3} s  batch {:.0}  {:.1} us/batch busy {:.0}%  spilled {} dead {} [{check}]",
        scenario.name,
        worlds.len(),
        scenario.actors,
        g.ring_slots,
        g.threads,
        g.batch,
        rate,
        total.handled,
        seeded,
        elapsed.as_secs_f64(),
        total.ring_in as f64 / total.batches.max(1) as f64,
        total.busy_ns as f64 / total.batches.max(1) as f64 / 1e3,
        total.busy_ns as f64 / elapsed.as_nanos() as f64 / f64::from(g.peers()) * 100.0,
        total.spilled,
        total.dead_total(),
    );
    for world in &worlds {
        print_phases(world, scenario)?;
        if scenario.hot != 0 && scenario.variant.profile {
            print_hottest(world)?;
        }
        if check != "ok" {
            print_workers(world)?;
        }
        if scenario.ty == "relay" && check_records(world, scenario)? != 0 {
            return Err("messages out of order, or stamps".into());
        }
    }
    if check == "ok" { Ok(()) } else { Err(check.into()) }
}

/// Clock ticks of each phase of a round, per batch.
fn print_phases(world: &World, scenario: &Scenario) -> Outcome<()> {
    if !scenario.variant.profile {
        return Ok(());
    }
    let mut ticks = vec![0_u64; scenario.geometry.workers as usize * 8];
    world.resident.memory.profile.read(0, &mut ticks, &world.resident.copy)?;
    let batches = world.resident.total()?.batches.max(1);
    let names = ["exchange", "choose", "stage", "resolve", "handle", "send", "idle"];
    let line: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let sum: u64 = ticks.chunks_exact(8).map(|worker| worker[at]).sum();
            format!("{name} {:.0}", sum as f64 / batches as f64)
        })
        .collect();
    println!("    ticks per batch: {}", line.join("  "));
    Ok(())
}

/// Clock ticks of the phases of worker 0, which has the first of the hot actors.
fn print_hottest(world: &World) -> Outcome<()> {
    let mut ticks = [0_u64; 8];
    world.resident.memory.profile.read(0, &mut ticks, &world.resident.copy)?;
    let counters = world.resident.counters(WorkerIndex(0))?;
    let batches = counters.batches.max(1);
    let line: Vec<String> = ticks.iter().map(|ticks| (ticks / batches).to_string()).collect();
    println!("    worker 0: batch {:.0}, ticks per batch {}", counters.handled as f64 / batches as f64, line.join(" "));
    Ok(())
}

/// The workers that stand out.
fn print_workers(world: &World) -> Outcome<()> {
    let mut rows = Vec::new();
    for worker in 0..world.resident.geometry.workers {
        rows.push((worker, world.resident.counters(WorkerIndex(worker as u16))?));
    }
    let in_flight: i128 = rows.iter().map(|(_, c)| c.in_flight()).sum();
    let total = world.resident.total()?;
    println!("    in flight by the counters {in_flight}, dead by reason {:?}", total.dead);
    rows.sort_by_key(|(_, c)| std::cmp::Reverse(c.spill_now));
    let zero = rows.iter().position(|(worker, _)| *worker == 0).unwrap_or(0);
    for at in [0, 1, rows.len() / 2, rows.len() - 1, zero] {
        let (worker, c) = &rows[at];
        println!(
            "    worker {worker}: spill {} handled {} sent {} batches {} busy {:.1} ms overload rounds {} dead {}",
            c.spill_now,
            c.handled,
            c.sent,
            c.batches,
            c.busy_ns as f64 / 1e6,
            c.overload_rounds,
            c.dead_total()
        );
    }
    Ok(())
}

/// Adds up what the relay actors found wrong.
fn check_records(world: &World, scenario: &Scenario) -> Outcome<u64> {
    let units = world.ty.record_units() as usize;
    let KeySpace::Dense { .. } = world.keys else { return Ok(0) };
    let each = world.keys.keys_per_shard(world.shards);
    let records = usize::from(world.shards) * (each as usize + 1);
    let mut words = vec![0_u64; records * units * 4];
    world.resident.memory.arena.read(0, &mut words, &world.resident.copy)?;
    let (mut order, mut stamps, mut actors) = (0, 0, 0_u64);
    for record in words.chunks_exact(units * 4) {
        order += record[4];
        stamps += record[7];
        actors += u64::from(record[1] != 0);
    }
    println!(
        "    device {}: order errors {order}, stamp errors {stamps}, actors activated {actors} of {}",
        world.device, scenario.actors
    );
    Ok(order + stamps)
}

fn idle_hop(gpu: &Arc<Gpu>, scenario: &Scenario) -> Outcome<()> {
    let mut world = World::new(gpu, scenario)?;
    world.resident.launch()?;
    let hops = scenario.left;
    let mut payload = [0_u8; 16];
    payload[0..8].copy_from_slice(&7_u64.to_le_bytes());
    payload[8..12].copy_from_slice(&(scenario.actors as u32).to_le_bytes());
    payload[12..16].copy_from_slice(&(hops - 1).to_le_bytes());
    let client = ActorId::client(SessionId(1), 0);
    let message = Envelope::new(client, ActorId::new(SetId(SET), 0), world.kind("Step"), Flags::NONE, &payload)?;
    wait_until_it_looks(&world)?;
    let began = Instant::now();
    let worker = world.worker_of(0);
    if !world.ingress.push(&world.resident.memory, worker, &message) {
        return Err("no room for the first message".into());
    }
    world.ingress.publish(&world.resident.memory);
    // The last hop's sender is an actor, so the end is read off the counters.
    let mut out = [Envelope::default(); 16];
    while world.resident.total()?.handled < u64::from(hops) {
        let _ = world.egress.poll(&world.resident.memory, &mut out);
        if began.elapsed() > Duration::from_secs(5) {
            break;
        }
    }
    let elapsed = began.elapsed();
    let total = world.resident.total()?;
    world.stop()?;
    println!(
        "{:<26} {} hops over {} workers: {:.3} us per hop [{}]",
        scenario.name,
        total.handled,
        scenario.geometry.workers,
        elapsed.as_secs_f64() * 1e6 / total.handled.max(1) as f64,
        if total.handled == u64::from(hops) { "ok" } else { "TIMEOUT" }
    );
    print_phases(&world, scenario)
}

/// Waits until the kernel's router has looked at the host's page: from then on the kernel runs.
fn wait_until_it_looks(world: &World) -> Outcome<()> {
    let began = Instant::now();
    while device_ns(&world.resident.memory) == 0 {
        if began.elapsed() > Duration::from_secs(5) {
            return Err("the kernel has not looked at the host's page within 5 s".into());
        }
        std::thread::yield_now();
    }
    Ok(())
}

fn ask(gpu: &Arc<Gpu>, scenario: &Scenario) -> Outcome<()> {
    let mut world = World::new(gpu, scenario)?;
    world.resident.launch()?;
    wait_until_it_looks(&world)?;
    let kind = world.kind("Ping");
    let mut times = Vec::new();
    let mut out = [Envelope::default(); 16];
    let (rounds, warm_up) = (22_000_u32, 2_000);
    for number in 1..=rounds {
        let key = mix64(u64::from(number)) % scenario.actors;
        let client = ActorId::client(SessionId(1), number);
        let body = u64::from(number).to_le_bytes();
        let message = Envelope::new(client, ActorId::new(SetId(SET), key), kind, Flags::ASK, &body)?;
        let worker = world.worker_of(key);
        let began = Instant::now();
        if !world.ingress.push(&world.resident.memory, worker, &message) {
            return Err("no room for an ask".into());
        }
        world.ingress.publish(&world.resident.memory);
        let count = loop {
            let count = world.egress.poll(&world.resident.memory, &mut out);
            if count != 0 {
                break count;
            }
            if began.elapsed() > Duration::from_secs(2) {
                let total = world.resident.total()?;
                world.stop()?;
                return Err(format!("no answer to ask {number}: {total:?}").into());
            }
        };
        let took = began.elapsed();
        let answer = out[0];
        if count != 1 || answer.to() != client || answer.payload[..8] != body || !answer.flags().has(Flags::REPLY) {
            return Err(format!("a wrong answer to ask {number}: {answer:?}").into());
        }
        if number > warm_up {
            times.push(took.as_secs_f64() * 1e6);
        }
    }
    world.stop()?;
    times.sort_by(f64::total_cmp);
    println!(
        "{:<26} {} asks: p50 {:.2} us p99 {:.2} us p99.9 {:.2} us [ok]",
        scenario.name,
        times.len(),
        percentile(&times, 0.5),
        percentile(&times, 0.99),
        percentile(&times, 0.999)
    );
    Ok(())
}

fn ingress(gpu: &Arc<Gpu>, scenario: &Scenario) -> Outcome<()> {
    let world = World::new(gpu, scenario)?;
    world.resident.launch()?;
    wait_until_it_looks(&world)?;
    let tell = scenario.ty == "counter";
    let (kind, flags) = if tell { (world.kind("Add"), Flags::NONE) } else { (world.kind("Ping"), Flags::ASK) };
    let asked = 16_000_000_u64;
    let actors = scenario.actors;
    let World { ref resident, mut ingress, mut egress, ref owner, shards, keys, .. } = world;
    let memory = &resident.memory;
    let began = Instant::now();
    let deadline = Duration::from_secs(6);
    let (pushed, answered, pushing) = std::thread::scope(|scope| -> Outcome<(u64, u64, Duration)> {
        let pusher = scope.spawn(move || -> Result<(u64, Duration), String> {
            let client = ActorId::client(SessionId(1), 1);
            let mut message = Envelope::new(client, ActorId::new(SetId(SET), 0), kind, flags, &1_u64.to_le_bytes())
                .map_err(|error| error.to_string())?;
            let (mut sent, mut key) = (0_u64, 0);
            while sent < asked && began.elapsed() < deadline {
                for _ in 0..256 {
                    message.to_key = key;
                    let worker = WorkerIndex(keys.shard_of(shards, key).map_or(0, |shard| owner[shard.0 as usize]));
                    if sent == asked || !ingress.push(memory, worker, &message) {
                        break;
                    }
                    key = if key + 7919 >= actors { key + 7919 - actors } else { key + 7919 };
                    sent += 1;
                }
                ingress.publish(memory);
            }
            Ok((sent, began.elapsed()))
        });
        let mut out = vec![Envelope::default(); 4096];
        let mut answered = 0;
        while !tell && answered < asked && began.elapsed() < deadline {
            answered += egress.poll(memory, &mut out) as u64;
        }
        let (sent, pushing) = pusher.join().map_err(|_| "the pushing thread failed")??;
        Ok((sent, answered, pushing))
    })?;
    while tell && resident.total()?.handled < asked && began.elapsed() < deadline {}
    let elapsed = began.elapsed();
    let handled = resident.total()?.handled;
    let answered = if tell { handled } else { answered };
    set_stop(memory, true);
    resident.run.synchronize()?;
    println!(
        "{:<26} {pushed} asks in, {answered} answers out, one thread each way: in {:.1} M/s out {:.1} M/s [{}]",
        scenario.name,
        pushed as f64 / pushing.as_secs_f64() / 1e6,
        answered as f64 / elapsed.as_secs_f64() / 1e6,
        if answered == asked && handled == asked { "ok" } else { "INCOMPLETE" }
    );
    Ok(())
}

fn baseline(gpu: &Arc<Gpu>, scenario: &Scenario) -> Outcome<()> {
    let world = World::new(gpu, scenario)?;
    let mut times = Vec::new();
    let r = &world.resident;
    let kernel = r.module.kernel(SEED_KERNEL, 0)?;
    let seed = [0_u8; 48];
    for round in 0..3000 {
        let began = Instant::now();
        // SAFETY: as in `World::seed`; with 0 actors the kernel returns at once.
        #[allow(unsafe_code)]
        unsafe {
            kernel.launch(1, 32, 0, &r.run, &[bytemuck::bytes_of(&r.memory.params), &seed, &[0; 8]])?;
        }
        r.run.synchronize()?;
        if round >= 500 {
            times.push(began.elapsed().as_secs_f64() * 1e6);
        }
    }
    times.sort_by(f64::total_cmp);
    println!(
        "{:<26} {} launches: p50 {:.2} us p99 {:.2} us",
        scenario.name,
        times.len(),
        percentile(&times, 0.5),
        percentile(&times, 0.99)
    );
    Ok(())
}

fn main() -> Outcome<()> {
    if std::env::args().nth(1).as_deref() == Some("compile") {
        return compile_all();
    }
    let gpu = Gpu::open(0)?;
    let mut gpus = vec![gpu.clone()];
    if std::env::args().any(|argument| argument.contains("gpus=")) {
        gpus.extend((1..8).map_while(|ordinal| Gpu::open(ordinal).ok()));
    }
    println!(
        "{}: {} multiprocessors, sm_{}{}, driver {}",
        gpu.name, gpu.multiprocessors, gpu.capability.0, gpu.capability.1, gpu.driver_version
    );
    let mut failed = 0;
    for argument in std::env::args().skip(1) {
        let scenario = parse(&argument, gpu.multiprocessors)?;
        let what = argument.split(',').next().unwrap_or_default();
        let result = match what {
            "hop" | "hot" | "relay" => throughput(&gpus, &scenario),
            "idle" => idle_hop(&gpu, &scenario),
            "ask" => ask(&gpu, &scenario),
            "ingress" | "tell" => ingress(&gpu, &scenario),
            "baseline" => baseline(&gpu, &scenario),
            other => Err(format!("no scenario {other}").into()),
        };
        if let Err(error) = result {
            println!("{argument}: FAILED: {error}");
            failed += 1;
            if error.downcast_ref::<CudaError>().is_some() {
                return Err(error);
            }
        }
    }
    if failed == 0 { Ok(()) } else { Err(format!("{failed} scenarios failed").into()) }
}

/// Compiles every type for every architecture: needs NVRTC, and no GPU.
fn compile_all() -> Outcome<()> {
    for (major, minor) in [(8, 0), (9, 0), (10, 0)] {
        let types: Vec<DeviceType> = shipped().into_iter().chain(bench_types()).collect();
        let variant = Variant { seed: true, profile: true, ..Variant::default() };
        for devices in [1, 2, 8] {
            let geometry = Geometry::for_multiprocessors(132).with_devices(devices);
            let unit = Unit::new(&geometry, Arch { major, minor }, variant, &types)?;
            println!("sm_{major}{minor}, {devices} devices: {} bytes", compile(&unit)?.len());
        }
    }
    Ok(())
}

/// `name,key=value,..`
fn parse(text: &str, multiprocessors: u32) -> Outcome<Scenario> {
    let mut parts = text.split(',');
    let name = parts.next().unwrap_or_default();
    let mut s = Scenario {
        name: text.to_owned(),
        ty: match name {
            "relay" => "relay",
            "hot" => "hotspot",
            "ask" | "ingress" => "echo",
            "tell" => "counter",
            _ => "hop",
        },
        actors: 1 << 20,
        each: 1,
        left: 1000,
        hot: 0,
        burst: 1,
        hashed: false,
        rust: false,
        all: 0,
        rounds: 0,
        limit: 8,
        geometry: Geometry::for_multiprocessors(multiprocessors),
        variant: Variant::default(),
    };
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((part, "1"));
        let number: u64 = value.parse()?;
        let small = number as u32;
        match key {
            "n" => s.actors = number,
            "each" => s.each = small,
            "left" => s.left = small,
            "hot" => s.hot = small,
            "rust" => s.rust = number != 0,
            "all" => s.all = if number == 1 { u64::MAX } else { number },
            // Hot actors lie apart, so that each has a worker of its own; else they are neighbours in one shard.
            "spread" => s.burst = (s.actors / u64::from(s.hot.max(1))) as u32,
            "burst" => s.burst = small,
            "hashed" => s.hashed = number != 0,
            "ring" => s.geometry.ring_slots = small,
            "t" => s.geometry.threads = small,
            "b" => s.geometry.batch = small,
            "buckets" => s.geometry.buckets = small,
            "spill" => s.geometry.spill_slots = small,
            "rounds" => s.rounds = small,
            "limit" => s.limit = number,
            "gpus" => s.geometry = s.geometry.with_devices(small),
            "workers" => s.geometry.workers = small,
            "order" => s.variant.order = number != 0,
            "hlc" => s.variant.hlc = number != 0,
            "count" => s.variant.count = number != 0,
            "profile" => s.variant.profile = number != 0,
            other => return Err(format!("no option {other}").into()),
        }
    }
    Ok(s)
}
