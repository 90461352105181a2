//! How soon each mutant is found: the report of `sim --power`.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringfleet_env::{Clock, SystemClock};

use crate::exec::lock;
use crate::mutants::{Entry, MUTANTS};
use crate::run::{Depth, Plan, run};
use crate::scenario::by_name;

/// Time that this thread has had a processor. Where the system does not say, the time that passed.
#[must_use]
pub fn cpu_ns() -> u64 {
    let read = std::fs::read_to_string("/proc/thread-self/schedstat");
    let spent = read.ok().and_then(|line| line.split_whitespace().next()?.parse().ok());
    spent.unwrap_or_else(|| SystemClock.monotonic_ns())
}

/// What came of one mutant.
struct Found {
    /// Seeds tried.
    tried: u64,
    /// The first seed that found it, and what it said.
    first: Option<(u64, String)>,
    /// CPU seconds from one find to the next.
    took_s: Vec<f64>,
}

fn search(entry: &Entry, first: u64, finds: u64) -> std::io::Result<Found> {
    let scenario = by_name(entry.scenario).expect("a test looks that it exists");
    let (mut found, mut since_ns) = (Found { tried: 0, first: None, took_s: Vec::new() }, cpu_ns());
    // As many fresh searches as finds, each within its bound.
    for seed in first..first + entry.seeds * finds {
        let plan = Plan {
            seed,
            scenario,
            depth: Depth::T2,
            seconds: entry.seconds,
            mutant: Some(entry.mutant),
            trace: None,
            every_step: false,
        };
        let report = run(&plan)?;
        found.tried += 1;
        if let Some(violation) = report.violation {
            let now_ns = cpu_ns();
            found.took_s.push((now_ns - since_ns) as f64 / 1e9);
            since_ns = now_ns;
            found.first.get_or_insert((seed, violation));
            if found.took_s.len() as u64 == finds {
                break;
            }
        } else if found.tried == entry.seeds && found.first.is_none() {
            break;
        }
    }
    Ok(found)
}

fn row(entry: &Entry, found: &mut Found) -> String {
    found.took_s.sort_by(f64::total_cmp);
    let median = found.took_s.get(found.took_s.len() / 2);
    let median = median.map_or_else(|| "not found".to_owned(), |seconds| format!("{seconds:.2}"));
    let (seed, said) = match &found.first {
        Some((seed, said)) => (seed.to_string(), said.chars().take(110).collect::<String>().replace('|', "/")),
        None => ("-".to_owned(), "-".to_owned()),
    };
    format!(
        "| {} | {} | {} {} s | {} | {seed} | {} | {median} | {said} |",
        entry.name,
        entry.clause,
        entry.scenario,
        entry.seconds,
        found.tried,
        found.took_s.len(),
    )
}

/// Searches for every mutant of this build, or for the plan's, until each is found `finds` times; prints a table. Ends with 1 if one
/// was not found.
#[must_use]
pub fn measure(plan: &Plan, finds: u64, jobs: u64) -> ExitCode {
    let wanted = |entry: &&Entry| entry.mutant.is_built() && plan.mutant.is_none_or(|mutant| mutant == entry.mutant);
    let entries: Vec<&Entry> = MUTANTS.iter().filter(wanted).collect();
    let rows = Mutex::new(vec![String::new(); entries.len()]);
    let (next, missed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some(entry) = entries.get(next.fetch_add(1, Ordering::Relaxed)) {
            let at = entries.iter().position(|other| other.name == entry.name).unwrap_or_default();
            let line = match search(entry, plan.seed, finds) {
                Ok(mut found) => {
                    missed.fetch_add(usize::from(found.first.is_none()), Ordering::Relaxed);
                    row(entry, &mut found)
                }
                Err(error) => format!("| {} | {error} |", entry.name),
            };
            eprintln!("{line}");
            lock(&rows)[at] = line;
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs {
            scope.spawn(work);
        }
        work();
    });
    println!("| mutant | clause | scenario | seeds tried | first seed | finds | median CPU s | what it said |");
    println!("|---|---|---|---|---|---|---|---|");
    lock(&rows).iter().for_each(|row| println!("{row}"));
    if missed.load(Ordering::Relaxed) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
