//! The command `sim`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringfleet_env::{Clock, SystemClock};

use crate::exec::{current_host, current_ns, lock};
use crate::full;
use crate::ledger::{self, Entry, Ledger};
use crate::mutants::{MUTANTS, Mutant};
use crate::power::{self, cpu_ns};
use crate::run::{Depth, Plan, Report, run, run_twice};
use crate::scenario::{SCENARIOS, by_name};
use crate::world::name_of;

const USAGE: &str = "\
sim: runs a whole cluster in one thread and virtual time

  --seed S         the first seed (default 1)
  --seeds N        how many seeds from there (default 1)
  --scenario X     which cluster and faults (default coordinators)
  --depth D        t1: frames over simulated lanes, fast; t2 (default): real QUIC and TLS over simulated datagrams
  --seconds N      virtual seconds of faults (default: the scenario's)
  --jobs N         threads, each with a run of its own (default 1)
  --mutant M       something is wrong on purpose; the run must find it (--list names them)
  --power          runs every mutant of this build (or the one of --mutant) in the scenario that is to find it, until it is
                   found --seeds times, and prints a row each
  --twice          runs every seed twice and compares the traces
  --trace FILE     writes the events of the run as lines of JSON (one seed)
  --every-step     with --trace: also every poll, packet and change of a disk
  --ledger FILE    appends a line of JSON for every run
  --full           goes on with the campaign of 20,000 seeds at t1, 1,000 at t2 and 1,000 pairs over all scenarios, from where
                   the ledger ends; needs --ledger and --commit
  --minutes M      with --full: begins no run after this many minutes
  --summary FILE   says what the runs of a ledger came to
  --commit C       the commit that the ledger names
  --log FILTER     writes the code's own log, with virtual time and host, such as --log info or --log quinn=trace
  --list           the scenarios";

/// Virtual time and host, in the place of a log's time.
struct When;

impl tracing_subscriber::fmt::time::FormatTime for When {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        let now_ns = current_ns();
        write!(w, "{}.{:06} {}", now_ns / 1_000_000_000, now_ns / 1000 % 1_000_000, name_of(current_host()))
    }
}

fn log_to_stderr(filter: &str) -> Result<(), String> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).map_err(|error| format!("--log: {error}"))?;
    let log = tracing_subscriber::fmt().with_timer(When).with_env_filter(filter).with_writer(std::io::stderr);
    log.with_ansi(false).try_init().map_err(|error| format!("--log: {error}"))
}

/// What the command line says.
#[derive(Debug)]
struct Args {
    plan: Plan,
    seeds: u64,
    jobs: u64,
    twice: bool,
    power: bool,
    full: bool,
    minutes: Option<u64>,
    summary: Option<PathBuf>,
    ledger: Option<PathBuf>,
    commit: String,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Args>, String> {
    let (mut seed, mut seeds, mut jobs, mut seconds) = (1, 1, 1, None);
    let (mut scenario, mut depth) = ("coordinators".to_owned(), Depth::T2);
    let (mut twice, mut every_step) = (false, false);
    let (mut power, mut full, mut minutes, mut summary) = (false, false, None, None);
    let (mut trace, mut ledger, mut commit, mut mutant) = (None, None, String::new(), None);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("`{text}` is not a number"));
        match word.as_str() {
            "--seed" => seed = number(value()?)?,
            "--seeds" => seeds = number(value()?)?,
            "--jobs" => jobs = number(value()?)?.clamp(1, 64),
            "--seconds" => seconds = Some(number(value()?)?),
            "--scenario" => scenario = value()?,
            "--depth" => {
                let name = value()?;
                depth = Depth::by_name(&name).ok_or_else(|| format!("depth `{name}` is neither t1 nor t2"))?;
            }
            "--mutant" => {
                let name = value()?;
                let found = Mutant::by_name(&name);
                let found = found.ok_or_else(|| format!("no mutant `{name}`; --list names them"))?;
                if !found.is_built() {
                    return Err(format!("mutant `{name}` is in builds with --features mutants only"));
                }
                mutant = Some(found);
            }
            "--twice" => twice = true,
            "--power" => power = true,
            "--full" => full = true,
            "--minutes" => minutes = Some(number(value()?)?),
            "--summary" => summary = Some(PathBuf::from(value()?)),
            "--every-step" => every_step = true,
            "--trace" => trace = Some(PathBuf::from(value()?)),
            "--ledger" => ledger = Some(PathBuf::from(value()?)),
            "--commit" => commit = value()?,
            "--log" => log_to_stderr(&value()?)?,
            "--list" => {
                for scenario in SCENARIOS {
                    println!("{:<14}{}", scenario.name, scenario.about);
                }
                for entry in MUTANTS {
                    let missing = if entry.mutant.is_built() { "" } else { " (not in this build: --features mutants)" };
                    println!("{:<26}mutant, {}, for scenario {}{missing}", entry.name, entry.clause, entry.scenario);
                }
                return Ok(None);
            }
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(None);
            }
            other => return Err(format!("`{other}` is not known")),
        }
    }
    let scenario = by_name(&scenario).ok_or_else(|| format!("no scenario `{scenario}`; --list names them"))?;
    let seconds = seconds.unwrap_or(scenario.seconds);
    if trace.is_some() && seeds > 1 {
        return Err("--trace is of one seed".to_owned());
    }
    if full && (ledger.is_none() || commit.is_empty()) {
        return Err("--full needs --ledger FILE, which says what is done, and --commit C".to_owned());
    }
    let plan = Plan { seed, scenario, depth, seconds, mutant, trace, every_step };
    Ok(Some(Args { plan, seeds, jobs, twice, power, full, minutes, summary, ledger, commit }))
}

/// The command's `main`. Prints a line a run; ends with 1 if a run found something, with 2 if the command line is wrong.
#[must_use]
pub fn main() -> ExitCode {
    let args = match parse(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => return ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("sim: {why}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // A panic inside a run is a finding, and told as one.
    std::panic::set_hook(Box::new(|_| {}));
    if args.power {
        return power::measure(&args.plan, args.seeds, args.jobs);
    }
    let executed = match (&args.summary, &args.ledger) {
        (Some(path), _) => ledger::read(path).map(|entries| {
            print!("{}{}", ledger::summary(&entries), full::progress(&entries));
            0
        }),
        (None, Some(path)) if args.full => {
            let limit = args.minutes.map(|minutes| Duration::from_secs(minutes.saturating_mul(60)));
            full::go_on(path, &args.commit, args.jobs, limit)
        }
        _ => execute(Arc::new(args)),
    };
    match executed {
        Ok(0) => ExitCode::SUCCESS,
        Ok(found) => {
            println!("{found} runs found something");
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("sim: {why}");
            ExitCode::from(2)
        }
    }
}

fn execute(args: Arc<Args>) -> Result<u64, String> {
    let ledger = match &args.ledger {
        None => None,
        Some(path) => Some(Ledger::open(path)?.0),
    };
    let shared = Arc::new(Shared {
        next: AtomicU64::new(0),
        found: AtomicU64::new(0),
        out: Mutex::new(ledger),
        failure: Mutex::new(None),
    });
    let began_ns = SystemClock.monotonic_ns();
    let workers: Vec<_> = (0..args.jobs.min(args.seeds))
        .map(|_| {
            let (args, shared) = (args.clone(), shared.clone());
            std::thread::spawn(move || shared.work(&args))
        })
        .collect();
    for worker in workers {
        if worker.join().is_err() {
            return Err("a run could not be carried to its end".to_owned());
        }
    }
    if let Some(failure) = lock(&shared.failure).take() {
        return Err(failure);
    }
    if args.seeds > 1 {
        let seconds = (SystemClock.monotonic_ns() - began_ns) as f64 / 1e9;
        println!("{} seeds in {seconds:.1} s", args.seeds);
    }
    Ok(shared.found.load(Ordering::Relaxed))
}

struct Shared {
    next: AtomicU64,
    found: AtomicU64,
    out: Mutex<Option<Ledger>>,
    failure: Mutex<Option<String>>,
}

impl Shared {
    fn work(&self, args: &Args) {
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            if at >= args.seeds || lock(&self.failure).is_some() {
                return;
            }
            let plan = Plan { seed: args.plan.seed + at, ..args.plan.clone() };
            let before_ns = cpu_ns();
            let report = match if args.twice { run_twice(&plan) } else { run(&plan) } {
                Ok(report) => report,
                Err(error) => return self.fail(format!("running seed {}: {error}", plan.seed)),
            };
            let once_ns = (cpu_ns() - before_ns) / (1 + u64::from(args.twice));
            self.tell(&report, once_ns as f64 / 1e9, args);
        }
    }

    fn fail(&self, why: String) {
        *lock(&self.failure) = Some(why);
    }

    fn tell(&self, report: &Report, cpu_s: f64, args: &Args) {
        let speed = report.virtual_ms as f64 / 1000.0 / cpu_s.max(1e-9);
        let faults: u64 = report.faults.values().sum();
        let ops: u64 = report.ops.values().sum();
        let mut line = format!(
            "seed {} {} {}: hash {:016x}, {} steps, {:.1} s virtual in {cpu_s:.2} s of a processor ({speed:.0}x), {faults} faults, {ops} operations, {} terms",
            report.seed,
            report.scenario,
            report.depth.name(),
            report.hash,
            report.steps,
            report.virtual_ms as f64 / 1000.0,
            report.terms,
        );
        if let Some((led, placed)) = report.recovered_ms {
            line += &format!(", led after {led} ms, placed after {placed} ms");
        }
        let mut out = lock(&self.out);
        println!("{line}");
        if args.seeds == 1 {
            println!("  faults:     {}", counted(&report.faults));
            println!("  operations: {}", counted(&report.ops));
        }
        if let Some(violation) = &report.violation {
            self.found.fetch_add(1, Ordering::Relaxed);
            println!("  FOUND: {violation}\n  again: {}", report.command());
            if args.seeds == 1 {
                report.tail.iter().for_each(|event| println!("    {event}"));
            }
        }
        if let Some(ledger) = &mut *out {
            let entry = Entry::of(report, args.twice, &args.commit, (cpu_s * 1000.0) as u64);
            if let Err(why) = ledger.append(&entry) {
                self.fail(why);
            }
        }
    }
}

fn counted(counts: &BTreeMap<&'static str, u64>) -> String {
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Option<Args>, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_command_line_is_read_and_a_bad_one_is_told_in_one_line() {
        let args = parsed("--seed 7 --seeds 3 --jobs 2 --scenario crashes --twice").unwrap().unwrap();
        assert_eq!((args.plan.seed, args.seeds, args.jobs, args.twice), (7, 3, 2, true));
        assert_eq!(args.plan.scenario.name, "crashes");
        for (line, why) in [
            ("--seed", "--seed needs a value"),
            ("--seed x", "`x` is not a number"),
            ("--scenario none", "no scenario `none`"),
            ("--mutant none", "no mutant `none`"),
            ("--depth t9", "depth `t9`"),
            ("--seeds 2 --trace f", "--trace is of one seed"),
            ("--loud", "`--loud` is not known"),
            ("--full --commit abc", "--full needs --ledger"),
            ("--full --ledger f", "--full needs --ledger FILE, which says what is done, and --commit C"),
            ("--full --minutes soon", "`soon` is not a number"),
        ] {
            let told = parsed(line).unwrap_err();
            assert!(told.starts_with(why), "{told}");
        }
    }
}
