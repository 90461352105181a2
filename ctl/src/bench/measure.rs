//! The measurements, in the order of the table.

use ringfleet_abi::{Envelope, Flags, WorkerCounters};
use ringfleet_actor::Message;
use ringfleet_actors::counter::Add;
use ringfleet_actors::echo::{Ping, Pong};
use ringfleet_actors::hop::Step;

use super::Row;
use super::rig::{BenchError, Rig};

/// What is measured, and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Populations of the throughput, in the order measured.
    pub actors: Vec<u64>,
    /// About how long each throughput takes.
    pub millis: u64,
    /// Asks that are timed, one after another.
    pub asks: u32,
    /// Messages that go in and come out.
    pub through: u64,
    /// Hops of one message through an idle device.
    pub hops: u32,
}

impl Plan {
    /// For a device that handles about so many messages a second.
    #[must_use]
    pub fn for_rate(per_second: u64) -> Self {
        let large = per_second >= 1_000_000_000;
        Self {
            actors: if large {
                vec![1 << 10, 16 << 10, 128 << 10, 1 << 20, 4 << 20, 16 << 20]
            } else {
                vec![1 << 10, 16 << 10, 128 << 10, 1 << 20]
            },
            millis: if large { 500 } else { 1000 },
            asks: if large { 20_000 } else { 2_000 },
            through: per_second.clamp(1_000_000, 16_000_000),
            hops: if large { 20_000 } else { 2_000 },
        }
    }
}

/// Asks before the timed ones.
const WARM_UP: u32 = 500;
/// How long a measurement may take.
const LIMIT_NS: u64 = 30_000_000_000;
/// The least time in which a rate is measured; counters are a millisecond or two old.
const WINDOW_MIN_NS: u64 = 20_000_000;
/// The most steps of one message.
const STEPS_MAX: u64 = 10_000_000;
/// Steps of all messages of the first flight.
const PILOT_MESSAGES: u64 = 4_000_000;
/// The most messages in flight at once: what rings and spills of a GPU hold with room to spare, so that nothing is shed.
const IN_FLIGHT_MAX: u64 = 4 << 20;
/// The share of the wanted time that is enough.
const ENOUGH: f64 = 0.4;
/// The most flights of one population.
const FLIGHTS_MAX: u32 = 8;

/// Measures; `note` is told what begins.
///
/// # Errors
/// [`BenchError`]: what is left cannot be measured.
pub fn run(rig: &mut Rig, plan: &Plan, mut note: impl FnMut(&str)) -> Result<Vec<Row>, BenchError> {
    let mut rows = Vec::new();
    note("asks, one after another");
    rows.push(asks(rig, plan.asks)?);
    note("hops of one message");
    rows.push(idle_hop(rig, plan.hops)?);
    note("tells in");
    rows.push(ingress(rig, plan.through)?);
    note("asks in and answers out");
    rows.push(through(rig, plan.through)?);
    for &actors in &plan.actors {
        note(&format!("{actors} actors"));
        match throughput(rig, actors, plan.millis) {
            Ok(row) => rows.push(row),
            // What is larger does not fit either.
            Err(BenchError::NoRoom { .. }) => {
                rows.push(Row::rate("throughput", actors, 0, 0.0, "the device has no room for them".into()));
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(rows)
}

/// What was counted since, compared with what has to come out.
fn check(before: &WorkerCounters, after: &WorkerCounters, handled: u64) -> String {
    let did = after.handled - before.handled;
    if did != handled {
        return format!("{did} handled, {handled} had to be");
    }
    if after.dead_total() != before.dead_total() {
        return format!("{} dead-lettered", after.dead_total() - before.dead_total());
    }
    if after.in_flight() != 0 {
        return format!("{} left in flight", after.in_flight());
    }
    "ok".into()
}

fn asks(rig: &mut Rig, count: u32) -> Result<Row, BenchError> {
    const ACTORS: u64 = 10_000;
    let before = rig.deploy("echo", ACTORS)?;
    let mut times_us = Vec::with_capacity(count as usize);
    let mut wrong = None;
    let mut out = [Envelope::default(); 16];
    for number in 1..=count + WARM_UP {
        let value = u64::from(number);
        let message = rig.message(value * 7919 % ACTORS, number, &Ping { value });
        let began_ns = rig.now_ns();
        if rig.device.push_ingress(&[message]) != 1 {
            wrong = Some("the ring has no room for one ask".to_owned());
            break;
        }
        let mut got = 0;
        rig.until("an answer", 5_000_000_000, |rig| {
            got = rig.device.poll_egress(&mut out);
            got != 0
        })?;
        let took_ns = rig.now_ns() - began_ns;
        let answer = Pong::from_envelope(&out[0]).filter(|_| got == 1 && out[0].flags().has(Flags::REPLY));
        if answer.is_none_or(|pong| pong.value != value) || out[0].to_key != message.from_key {
            wrong = Some(format!("a wrong answer to ask {number}"));
            break;
        }
        if number > WARM_UP {
            times_us.push(took_ns as f64 / 1e3);
        }
    }
    let after = rig.settled()?;
    let counted = check(&before, &after, u64::from(count + WARM_UP));
    rig.withdraw()?;
    Ok(Row::times("ask round trip", Some(ACTORS), times_us, wrong.unwrap_or(counted)))
}

fn idle_hop(rig: &mut Rig, hops: u32) -> Result<Row, BenchError> {
    const ACTORS: u64 = 4096;
    let before = rig.deploy("hop", ACTORS)?;
    let step = rig.message(0, 0, &Step { seed: 7, actors: ACTORS as u32, ttl: hops - 1 });
    let began_ns = rig.now_ns();
    let taken = rig.device.push_ingress(&[step]);
    let goal = before.handled + u64::from(hops);
    rig.until("the last hop", LIMIT_NS, |rig| rig.device.total().handled >= goal)?;
    let took_ns = rig.now_ns() - began_ns;
    let after = rig.settled()?;
    let counted = check(&before, &after, u64::from(hops));
    rig.withdraw()?;
    let mean = took_ns as f64 / 1e3 / f64::from(hops);
    let check = if taken == 1 { counted } else { "no room for one message".into() };
    let mut row = Row::times("idle hop (mean)", Some(ACTORS), vec![mean], check);
    (row.count, row.p99_us) = (u64::from(hops), None);
    Ok(row)
}

/// Pushes `count` messages that `make` makes, taking what comes out; gives the nanoseconds until the last was taken and what came out.
fn push_all(rig: &mut Rig, count: u64, mut make: impl FnMut(&Rig, u64) -> Envelope) -> Result<(u64, u64), BenchError> {
    const BATCH: usize = 1024;
    let mut batch = Vec::with_capacity(BATCH);
    let (mut made, mut out) = (0, 0);
    let began_ns = rig.now_ns();
    let end_ns = began_ns + LIMIT_NS;
    loop {
        while batch.len() < BATCH && made < count {
            let message = make(rig, made);
            batch.push(message);
            made += 1;
        }
        let taken = rig.device.push_ingress(&batch);
        batch.drain(..taken);
        out += rig.drain() as u64;
        if batch.is_empty() && made == count {
            return Ok((rig.now_ns() - began_ns, out));
        }
        if taken == 0 && rig.now_ns() >= end_ns {
            return Err(rig.late("room in the device", LIMIT_NS));
        }
    }
}

/// Envelopes that go in again and again: what is measured is what a device takes, not how fast they are made.
const PREPARED: u64 = 128 << 10;

/// Pushes `count` envelopes, the prepared ones in turn, taking what comes out; as [`push_all`].
fn push_prepared(rig: &mut Rig, count: u64, prepared: &[Envelope]) -> Result<(u64, u64), BenchError> {
    const BATCH: usize = 1024;
    let (mut pushed, mut out) = (0_u64, 0);
    let began_ns = rig.now_ns();
    let end_ns = began_ns + LIMIT_NS;
    while pushed < count {
        let at = (pushed % prepared.len() as u64) as usize;
        let room = BATCH.min(prepared.len() - at).min(usize::try_from(count - pushed).unwrap_or(BATCH));
        let taken = rig.device.push_ingress(&prepared[at..at + room]);
        pushed += taken as u64;
        out += rig.drain() as u64;
        if taken == 0 && rig.now_ns() >= end_ns {
            return Err(rig.late("room in the device", LIMIT_NS));
        }
    }
    Ok((rig.now_ns() - began_ns, out))
}

fn ingress(rig: &mut Rig, count: u64) -> Result<Row, BenchError> {
    let before = rig.deploy("counter", PREPARED)?;
    let tells: Vec<_> = (0..PREPARED).map(|n| rig.message(n * 7919 % PREPARED, 0, &Add { amount: 1 })).collect();
    let (took_ns, _) = push_prepared(rig, count, &tells)?;
    let after = rig.settled()?;
    let counted = check(&before, &after, count);
    rig.withdraw()?;
    Ok(Row::rate("tells in, one thread", PREPARED, count, count as f64 * 1e9 / took_ns as f64, counted))
}

fn through(rig: &mut Rig, count: u64) -> Result<Row, BenchError> {
    let before = rig.deploy("echo", PREPARED)?;
    let asks: Vec<_> = (0..PREPARED).map(|n| rig.message(n * 7919 % PREPARED, 1, &Ping { value: n })).collect();
    let began_ns = rig.now_ns();
    let (_, mut out) = push_prepared(rig, count, &asks)?;
    rig.until("the last answer", LIMIT_NS, |rig| {
        out += rig.drain() as u64;
        out >= count
    })?;
    let took_ns = rig.now_ns() - began_ns;
    let after = rig.settled()?;
    let mut counted = check(&before, &after, count);
    if out != count {
        counted = format!("{out} answers to {count} asks");
    }
    rig.withdraw()?;
    Ok(Row::rate("asks in and answers out, one thread", PREPARED, count, count as f64 * 1e9 / took_ns as f64, counted))
}

/// One message in flight per actor ([`IN_FLIGHT_MAX`] of more), random targets, dense keys. Messages live longer from flight to flight,
/// until all of them are in flight together for long enough.
fn throughput(rig: &mut Rig, actors: u64, millis: u64) -> Result<Row, BenchError> {
    let deployed = rig.deploy("hop", actors)?;
    let messages = actors.min(IN_FLIGHT_MAX);
    let mut before = deployed;
    if messages < actors {
        // A message to each, so that all are resident.
        push_all(rig, actors, |rig, n| rig.message(n, 0, &Step { seed: n, actors: actors as u32, ttl: 0 }))?;
        before = rig.settled()?;
    }
    let enough_ns = (millis * 1_000_000) as f64;
    let mut steps = (PILOT_MESSAGES / actors).clamp(8, 4096);
    let mut tries = 0;
    let (counted, per_second) = loop {
        let flown = flight(rig, actors, messages, steps as u32)?;
        let after = rig.settled()?;
        let mut counted = check(&before, &after, messages * steps);
        let resident = after.activations - deployed.activations;
        // Every actor was told something, so each is resident.
        if counted == "ok" && resident != actors {
            counted = format!("{resident} of {actors} actors are resident");
        }
        tries += 1;
        if flown.together_ns >= enough_ns * ENOUGH || counted != "ok" || tries == FLIGHTS_MAX || steps == STEPS_MAX {
            break (counted, flown.per_second);
        }
        steps = ((steps as f64 * (enough_ns / flown.together_ns.max(1.0)).clamp(2.0, 8.0)) as u64).min(STEPS_MAX);
        before = after;
    };
    rig.withdraw()?;
    Ok(Row::rate("throughput", actors, messages * steps, per_second, counted))
}

/// One flight of all messages.
struct Flight {
    /// How long they were all in flight: from the last push to nine tenths of all steps.
    together_ns: f64,
    /// The rate in that time; in all of the flight if that is too short for counters that are a millisecond or two old.
    per_second: f64,
}

/// Pushes that many messages, to an actor each, that make `steps` steps, and waits for the last, or for the first that is dead-lettered:
/// its steps will never be made.
fn flight(rig: &mut Rig, actors: u64, messages: u64, steps: u32) -> Result<Flight, BenchError> {
    let total = rig.device.total();
    let (before, dead) = (total.handled, total.dead_total());
    let goal = before + messages * u64::from(steps);
    let (pushed_from_ns, pushed_from) = (rig.now_ns(), before);
    push_all(rig, messages, |rig, n| rig.message(n, 0, &Step { seed: n, actors: actors as u32, ttl: steps - 1 }))?;
    // Nobody has looked while it was pushed.
    let (mut began, mut began_ns) = (rig.fresh().handled, rig.now_ns());
    let nine_tenths = before + messages * u64::from(steps) / 10 * 9;
    let mut handled = began;
    rig.until("the messages in flight", LIMIT_NS, |rig| {
        let total = rig.device.total();
        handled = total.handled;
        handled >= nine_tenths || total.dead_total() > dead
    })?;
    let (ended_ns, ended) = (rig.now_ns(), handled);
    rig.until("the last message", LIMIT_NS, |rig| {
        let total = rig.device.total();
        total.handled >= goal || total.dead_total() > dead
    })?;
    let together_ns = ended_ns.saturating_sub(began_ns);
    if together_ns < WINDOW_MIN_NS {
        (began_ns, began) = (pushed_from_ns, pushed_from);
    }
    let seconds = (ended_ns - began_ns).max(1) as f64 / 1e9;
    Ok(Flight { together_ns: together_ns as f64, per_second: (ended - began) as f64 / seconds })
}
