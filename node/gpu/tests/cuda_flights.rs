//! The `flights` actors on a GPU, from the text that runs on CPUs, give the tables of the serial computation. Without a GPU the test says
//! so and passes; with `RINGFLEET_REQUIRE_GPU=1` it fails then.
#![allow(clippy::disallowed_methods)] // Real time on a real GPU.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringfleet_abi::hash::fnv1a32;
use ringfleet_abi::{
    ActorId, Control, Envelope, Epoch, Flags, KeySpace, RestartMode, RouteTarget, SessionId, SetId, ShardId,
    ShardIndex, Status, WorkerIndex,
};
use ringfleet_actor::Message;
use ringfleet_actors::flights::aircraft::{AircraftCounts, AircraftDelays, CountsAsked, DelaysAsked};
use ringfleet_actors::flights::airport::{AirportReport, ReportAsked};
use ringfleet_actors::flights::carrier::{CarrierReport, Summary};
use ringfleet_actors::flights::names::Names;
use ringfleet_actors::flights::serial::Serial;
use ringfleet_actors::flights::tables::Tables;
use ringfleet_actors::flights::{csv, keys};
use ringfleet_env::{Clock, SystemClock};
use ringfleet_gpu::Device;
use ringfleet_gpu::cuda::CudaDevice;
use ringfleet_gpu::cuda::driver::Gpu;
use ringfleet_gpu::cuda::memory_map::Capacity;
use ringfleet_gpu::cuda::types::device_types;
use ringfleet_kernels::Geometry;

const WAIT: Duration = Duration::from_secs(20);
const SHARDS: u16 = 64;
const AIRCRAFT: SetId = SetId(1);
const AIRPORT: SetId = SetId(2);
const CARRIER: SetId = SetId(3);

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
    let geometry = Geometry { spill_slots: 65_536, ..Geometry::for_multiprocessors(gpu.multiprocessors) };
    let capacity = Capacity { arena_bytes: 256 << 20, sets: 64, shards: 2048, host_ingress_slots: 1 << 14 };
    let cache = std::env::temp_dir().join("ringfleet-cubin");
    let began = Instant::now();
    let device =
        CudaDevice::start(gpu, geometry, &types, &capacity, &cache, Arc::new(SystemClock)).expect("the device starts");
    println!("compiled, loaded and launched in {:.1} s", began.elapsed().as_secs_f64());
    Some(device)
}

fn lease(device: &mut CudaDevice) {
    let deadline_ns = SystemClock.monotonic_ns() + 60_000_000_000;
    device.submit(Control::Lease { deadline_ns }).expect("a lease is always taken");
}

fn await_status(device: &mut CudaDevice, wanted: impl Fn(&Status) -> bool) {
    let began = Instant::now();
    while !device.poll_status().is_some_and(|status| wanted(&status)) {
        assert!(began.elapsed() < WAIT, "no such status in time");
    }
}

fn deploy(device: &mut CudaDevice, set: SetId, name: &str) {
    let type_index = ringfleet_actors::types().iter().position(|ty| ty.name == name).map(|at| at as u16);
    let (tag, keys, restart) = (fnv1a32(name.as_bytes()), KeySpace::Hashed, RestartMode::Stop);
    let add = Control::AddSet { set, tag, type_index, keys, shards: SHARDS, actors_per_shard: 1024, restart };
    device.submit(add).expect("room");
    for index in 0..SHARDS {
        let (shard, worker) = (ShardId::new(set, ShardIndex(index)), WorkerIndex(index % device.workers()));
        device.submit(Control::Assign { shard, epoch: Epoch(1), worker }).expect("room");
        device.submit(Control::Route { shard, target: RouteTarget::Worker(worker) }).expect("room");
    }
    let version = u64::from(set.0);
    device.submit(Control::RouteCommit { version }).expect("no commit is under way");
    await_status(device, |status| *status == Status::RouteFlushed { version });
}

/// Pushes all, however long the device takes, and collects what comes back.
fn push(device: &mut CudaDevice, mut envelopes: &[Envelope], answers: &mut Vec<Envelope>) {
    let (mut began, mut out) = (Instant::now(), [Envelope::default(); 256]);
    while !envelopes.is_empty() {
        let accepted = device.push_ingress(envelopes);
        envelopes = &envelopes[accepted..];
        let taken = device.poll_egress(&mut out);
        answers.extend_from_slice(&out[..taken]);
        if accepted + taken > 0 {
            began = Instant::now();
        }
        assert!(began.elapsed() < WAIT, "{} envelopes are left: {:?}", envelopes.len(), device.total());
    }
}

struct Asks {
    envelopes: Vec<Envelope>,
}

impl Asks {
    fn ask<M: Message>(&mut self, set: SetId, key: u64, message: &M) -> usize {
        let number = self.envelopes.len() as u32 + 1;
        let from = ActorId::client(SessionId(7), number);
        self.envelopes.push(message.to_envelope(from, ActorId::new(set, key), Flags::ASK));
        number as usize - 1
    }

    /// The answers, in the order of the questions.
    fn run(self, device: &mut CudaDevice) -> Vec<Envelope> {
        let mut answers = Vec::new();
        push(device, &self.envelopes, &mut answers);
        let (began, mut out) = (Instant::now(), [Envelope::default(); 256]);
        while answers.len() < self.envelopes.len() {
            let taken = device.poll_egress(&mut out);
            answers.extend_from_slice(&out[..taken]);
            assert!(began.elapsed() < WAIT, "{} of {} answers came", answers.len(), self.envelopes.len());
        }
        answers.sort_by_key(|answer| answer.to().as_client().expect("to the client").1);
        answers
    }
}

#[test]
fn the_flights_actors_say_on_a_gpu_what_the_serial_computation_says() {
    let Some(mut device) = start() else { return };
    lease(&mut device);
    await_status(&mut device, |status| *status == Status::Unfenced);
    deploy(&mut device, AIRPORT, "flights.airport");
    deploy(&mut device, CARRIER, "flights.carrier");
    deploy(&mut device, AIRCRAFT, "flights.aircraft");

    let name = "kernels/actors/data/nyc-flights-2013.csv.gz";
    let there = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    // On another machine than the one that built it the test runs in the root of the repository.
    let file =
        std::fs::File::open(there).or_else(|_| std::fs::File::open(name)).expect("the data is in the repository");
    let lines = BufReader::new(flate2::read::GzDecoder::new(file)).split(b'\n').skip(1);
    let (mut names, mut serial, mut tells) = (Names::default(), Serial::new(), Vec::new());
    for (at, line) in lines.enumerate() {
        let line = line.expect("readable");
        let event = csv::parse(at as u64 + 2, &line).expect("a good line");
        names.note(&event);
        serial.add(&event);
        let to = ActorId::new(AIRCRAFT, event.aircraft_key());
        tells.push(event.message().to_envelope(ActorId::client(SessionId(7), 0), to, Flags::NONE));
    }
    let serial = serial.tables();
    let knock_ons: u64 = serial.airports.iter().map(|row| row.knock_ons).sum();
    // Each flight is told to its aircraft, its carrier and two airports.
    let expected = 4 * tells.len() as u64 + knock_ons;

    let (began, mut verdicts) = (Instant::now(), Vec::new());
    push(&mut device, &tells, &mut verdicts);
    while device.total().handled < expected {
        assert!(began.elapsed() < WAIT, "{:?}, {expected} expected", device.total());
    }
    let took = began.elapsed();
    let total = device.total();
    println!("{expected} messages in {:.3} s, of them {} from the host", took.as_secs_f64(), tells.len());
    assert_eq!((verdicts.len(), total.handled, total.dead_total()), (0, expected, 0), "{total:?}");

    let mut asks = Asks { envelopes: Vec::new() };
    let code = |name: &str| u64::from(keys::pack(name).expect("a code"));
    let carriers: Vec<usize> = names.carriers.iter().map(|name| asks.ask(CARRIER, code(name), &Summary {})).collect();
    let airports: Vec<usize> =
        names.airports.iter().map(|name| asks.ask(AIRPORT, code(name), &ReportAsked {})).collect();
    let mut both = |key| (asks.ask(AIRCRAFT, key, &CountsAsked {}), asks.ask(AIRCRAFT, key, &DelaysAsked {}));
    let aircraft: Vec<_> = names.aircraft.iter().map(|name| both(keys::aircraft(name))).collect();
    let unknown = both(keys::UNKNOWN_AIRCRAFT);
    let answers = asks.run(&mut device);

    let mut tables = Tables::default();
    for (name, at) in names.carriers.iter().zip(carriers) {
        tables.add_carrier(name, &CarrierReport::from_envelope(&answers[at]).expect("a report"));
    }
    for (name, at) in names.airports.iter().zip(airports) {
        tables.add_airport(name, &AirportReport::from_envelope(&answers[at]).expect("a report"));
    }
    let told = |(counts, delays): (usize, usize)| {
        (
            AircraftCounts::from_envelope(&answers[counts]).expect("counts"),
            AircraftDelays::from_envelope(&answers[delays]).expect("delays"),
        )
    };
    for (name, at) in names.aircraft.iter().zip(aircraft) {
        let (counts, delays) = told(at);
        tables.add_aircraft(name, &counts, &delays);
    }
    let (counts, delays) = told(unknown);
    tables.set_unknown_aircraft(&counts, &delays);
    tables.rank();
    assert_eq!(tables.difference(&serial), None);
    println!("the tables are those of the serial computation");
}
