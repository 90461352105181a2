//! The ledger: a line of JSON for every run, appended, and what all lines of a file say together.
//!
//! A line that was cut off while it was written (the process was killed) is left out, and its run is done again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::run::{Depth, Report};

/// How this build was made: the same run has the same hash in both.
pub const BUILD: &str = if cfg!(debug_assertions) { "debug" } else { "release" };

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The seed.
    pub seed: u64,
    /// The scenario.
    pub scenario: String,
    /// How deep.
    pub depth: Depth,
    /// Virtual seconds of faults.
    pub seconds: u64,
    /// Whether it was run twice, and the traces compared.
    pub twice: bool,
    /// Of what commit the build was, as the command line said.
    pub commit: String,
    /// [`BUILD`].
    pub build: String,
    /// The trace's hash.
    pub hash: String,
    /// Steps of the executor, packets and changes of disks.
    pub steps: u64,
    /// Virtual time that passed.
    pub virtual_ms: u64,
    /// Processor time, of one run where there were two.
    pub cpu_ms: u64,
    /// Faults that happened.
    pub faults: u64,
    /// Operations of clients.
    pub operations: u64,
    /// What broke; `None` if nothing did.
    pub found: Option<String>,
}

impl Entry {
    /// The line about a run.
    #[must_use]
    pub fn of(report: &Report, twice: bool, commit: &str, cpu_ms: u64) -> Self {
        Self {
            seed: report.seed,
            scenario: report.scenario.to_owned(),
            depth: report.depth,
            seconds: report.seconds,
            twice,
            commit: commit.to_owned(),
            build: BUILD.to_owned(),
            hash: format!("{:016x}", report.hash),
            steps: report.steps,
            virtual_ms: report.virtual_ms,
            cpu_ms,
            faults: report.faults.values().sum(),
            operations: report.ops.values().sum(),
            found: report.violation.clone(),
        }
    }

    fn to_line(&self) -> String {
        let line = json!({
            "seed": self.seed, "scenario": self.scenario, "depth": self.depth.name(), "seconds": self.seconds,
            "twice": self.twice, "commit": self.commit, "build": self.build, "hash": self.hash, "steps": self.steps,
            "virtual_ms": self.virtual_ms, "cpu_ms": self.cpu_ms, "faults": self.faults,
            "operations": self.operations, "found": self.found,
        });
        format!("{line}\n")
    }

    fn from_line(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        let number = |name: &str| value.get(name)?.as_u64();
        let text = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
        Some(Self {
            seed: number("seed")?,
            scenario: text("scenario")?,
            depth: Depth::by_name(value.get("depth")?.as_str()?)?,
            seconds: number("seconds")?,
            twice: value.get("twice")?.as_bool()?,
            commit: text("commit")?,
            build: text("build")?,
            hash: text("hash")?,
            steps: number("steps")?,
            virtual_ms: number("virtual_ms")?,
            cpu_ms: number("cpu_ms")?,
            faults: number("faults")?,
            operations: number("operations")?,
            found: text("found"),
        })
    }
}

/// A file that lines are appended to.
#[derive(Debug)]
pub struct Ledger(File);

impl Ledger {
    /// Opens a file, or makes it, and reads what it says.
    ///
    /// # Errors
    /// When that fails, with the file's name.
    pub fn open(path: &Path) -> Result<(Self, Vec<Entry>), String> {
        let told = |error: std::io::Error| format!("opening {}: {error}", path.display());
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path).map_err(told)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(told)?;
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n").map_err(told)?;
        }
        Ok((Self(file), entries(&text)))
    }

    /// Appends a line, whole.
    ///
    /// # Errors
    /// When that fails.
    pub fn append(&mut self, entry: &Entry) -> Result<(), String> {
        self.0.write_all(entry.to_line().as_bytes()).map_err(|error| format!("writing the ledger: {error}"))
    }
}

fn entries(text: &str) -> Vec<Entry> {
    text.lines().filter_map(Entry::from_line).collect()
}

/// Reads a file.
///
/// # Errors
/// When that fails, with the file's name.
pub fn read(path: &Path) -> Result<Vec<Entry>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("reading {}: {error}", path.display()))?;
    Ok(entries(&text))
}

/// Runs of one depth, build and commit.
#[derive(Debug, Default)]
struct Sum {
    runs: u64,
    pairs: u64,
    virtual_ms: u64,
    cpu_ms: u64,
    faults: u64,
    found: u64,
}

/// What the lines say together: a table, then every finding, then every run whose traces differ between two builds of one commit.
#[must_use]
pub fn summary(entries: &[Entry]) -> String {
    let mut sums: BTreeMap<(&str, &str, &str), Sum> = BTreeMap::new();
    for entry in entries {
        let sum = sums.entry((entry.depth.name(), &entry.build, &entry.commit)).or_default();
        sum.runs += 1;
        sum.pairs += u64::from(entry.twice);
        sum.virtual_ms += entry.virtual_ms;
        sum.cpu_ms += entry.cpu_ms;
        sum.faults += entry.faults;
        sum.found += u64::from(entry.found.is_some());
    }
    let mut out = String::from(
        "| depth | build | commit | seeds | of those twice | virtual hours | times real time | faults | found |\n",
    );
    out.push_str("|---|---|---|---|---|---|---|---|---|\n");
    for ((depth, build, commit), sum) in sums {
        let Sum { runs, pairs, virtual_ms, cpu_ms, faults, found } = sum;
        let (hours, speed) = (virtual_ms as f64 / 3_600_000.0, virtual_ms as f64 / cpu_ms.max(1) as f64);
        let commit = if commit.is_empty() { "-" } else { commit };
        let _ = writeln!(
            out,
            "| {depth} | {build} | {commit} | {runs} | {pairs} | {hours:.1} | {speed:.0} | {faults} | {found} |"
        );
    }
    for entry in entries {
        if let Some(found) = &entry.found {
            let Entry { seed, scenario, seconds, .. } = entry;
            let depth = entry.depth.name();
            let what: String = found.chars().take(300).collect();
            let _ =
                writeln!(out, "found: --seed {seed} --scenario {scenario} --depth {depth} --seconds {seconds}: {what}");
        }
    }
    for what in differing(entries) {
        let _ = writeln!(out, "differs: {what}");
    }
    out
}

/// Runs of one commit that were done more than once, with different traces.
fn differing(entries: &[Entry]) -> Vec<String> {
    let mut hashes: BTreeMap<(&str, &str, &str, u64, u64), BTreeSet<&str>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| !entry.commit.is_empty()) {
        let run = (entry.commit.as_str(), entry.scenario.as_str(), entry.depth.name(), entry.seconds, entry.seed);
        hashes.entry(run).or_default().insert(&entry.hash);
    }
    let several = hashes.into_iter().filter(|(_, hashes)| hashes.len() > 1);
    several
        .map(|((commit, scenario, depth, seconds, seed), hashes)| {
            format!("--seed {seed} --scenario {scenario} --depth {depth} --seconds {seconds} of {commit}: {hashes:?}")
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn entry(seed: u64, hash: &str) -> Entry {
        Entry {
            seed,
            scenario: "cluster".to_owned(),
            depth: Depth::T1,
            seconds: 120,
            twice: false,
            commit: "abc".to_owned(),
            build: BUILD.to_owned(),
            hash: hash.to_owned(),
            steps: 5,
            virtual_ms: 120_000,
            cpu_ms: 3000,
            faults: 20,
            operations: 7,
            found: None,
        }
    }

    #[test]
    fn what_was_appended_is_read_again_and_a_line_that_was_cut_off_is_left_out() {
        let folder = std::env::temp_dir().join(format!("ringfleet-ledger-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("runs.jsonl");
        let broken = Entry { found: Some("C2: \"twice\"\n".to_owned()), ..entry(2, "b") };
        let (mut ledger, known) = Ledger::open(&path).unwrap();
        assert_eq!(known, []);
        ledger.append(&entry(1, "a")).unwrap();
        ledger.append(&broken).unwrap();
        drop(ledger);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        let (mut ledger, known) = Ledger::open(&path).unwrap();
        assert_eq!(known, [entry(1, "a")]);
        ledger.append(&broken).unwrap();
        assert_eq!(read(&path).unwrap(), [entry(1, "a"), broken]);
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(read(&path).unwrap_err().starts_with("reading "));
    }

    #[test]
    fn a_summary_counts_and_names_what_was_found_and_what_differs() {
        let found = Entry { found: Some("C3: a gap".to_owned()), twice: true, ..entry(2, "b") };
        let other = Entry { build: "other".to_owned(), ..entry(1, "c") };
        let said = summary(&[entry(1, "a"), found, other]);
        assert!(said.contains(&format!("| t1 | {BUILD} | abc | 2 | 1 | 0.1 | 40 | 40 | 1 |")), "{said}");
        assert!(said.contains("found: --seed 2 --scenario cluster --depth t1 --seconds 120: C3: a gap"), "{said}");
        assert!(said.contains("differs: --seed 1 --scenario cluster"), "{said}");
        assert!(!summary(&[entry(1, "a"), entry(1, "a")]).contains("differs"));
    }
}
