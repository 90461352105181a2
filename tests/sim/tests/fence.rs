//! Trace validation: what simulated clusters did is what `specs/Fence.tla` allows, and traces that were damaged are not.
//!
//! TLC decides. Like the other checks of the specifications this says `not run` where there is no Java or no TLC, and fails instead with
//! `RINGFLEET_MUST_RUN=1`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ringfleet_sim::fence_trace::{Behaviour, Chain, LEASE_MS, Step, TICK_US, behaviour, chains, module, read};
use ringfleet_sim::mutants::Mutant;
use ringfleet_sim::scenario::by_name;
use ringfleet_sim::{Depth, Plan, run};

/// Nodes are cut off and stand still for about as long as a lease lasts; in part, so that devices go on without their agent.
const SCENARIOS: [&str; 2] = ["leases", "zombies"];
/// Each gives a trace for every node.
const SEEDS: [u64; 3] = [1, 2, 3];
/// Virtual seconds of faults.
const SECONDS: u64 = 12;

/// One run at a time: while one thread alone listens, an event that another thread meets first counts as one that nobody wants.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("there is a folder for traces");
    folder
}

fn trace(scenario: &str, seed: u64, mutant: Option<Mutant>, folder: &Path) -> Vec<Step> {
    let path = folder.join(format!("{scenario}-{seed}.jsonl"));
    let scenario = by_name(scenario).expect("the scenario exists");
    assert_eq!(u64::from(scenario.lease_ms), LEASE_MS);
    let trace = Some(path.clone());
    let plan = Plan { seed, scenario, depth: Depth::T2, seconds: SECONDS, mutant, trace, every_step: false };
    let report = run(&plan).expect("the trace is written");
    assert!(mutant.is_some() || report.violation.is_none(), "{:?}, again: {}", report.violation, report.command());
    read(&std::fs::read_to_string(path).expect("the trace can be read")).expect("every line is one of a trace")
}

/// What TLC says of the modules in a folder: whether all is as it must be, and its words. `None`: it cannot run here.
fn tlc(folder: &Path) -> Option<(bool, String)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../specs/check.sh");
    let output = Command::new("bash").arg(script).arg("--traces").arg(folder).output().expect("bash runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    let ran = !(output.status.success() && said.starts_with("specs: not run"));
    ran.then(|| (output.status.success(), said))
}

/// A way to damage the trace of a chain: what must not happen is put where it must not. `None` where the trace has no such place.
type Damage = fn(&Places<'_>) -> Option<Vec<Step>>;

const DAMAGES: [(&str, Damage); 12] = [
    ("an act of an older epoch is accepted after one of a newer", |p| {
        let new = p.taken(1, p.of("lost", 0)?)?;
        p.then(new, [p.again(p.taken(0, 0)?, new, &[])])
    }),
    ("the epoch goes back", |p| {
        let renewed = p.of("renewed", 1)?;
        p.then(renewed, [p.again(p.of("lost", 0)?, renewed, &[])])
    }),
    ("a member is lost that nobody gave up", |p| {
        let held = p.of("held", 0)?;
        p.then(held, [p.again(p.of("lost", 0)?, held, &[])])
    }),
    ("a member is given up while its lease lasts", |p| {
        let granted = p.of("granted", 0)?;
        p.then(granted, [p.again(p.of("doomed", 0)?, granted, &[])])
    }),
    ("a lost member executes", |p| {
        let lost = p.of("lost", 0)?;
        p.then(lost, [p.again(p.of("executed", 0)?, lost, &[])])
    }),
    ("a member executes when its lease is over", |p| {
        let doomed = p.of("doomed", 0)?;
        p.then(doomed, [p.again(p.of("executed", 0)?, doomed, &[])])
    }),
    ("a lease is held that nobody granted", |p| {
        let (renewed, held) = (p.of("renewed", 0)?, p.of("held", 0)?);
        let end_ns = p.steps[renewed].fields["sent_ns"] + LEASE_MS * 1_000_000;
        p.then(renewed, [p.again(held, renewed, &[("end_ns", end_ns)])])
    }),
    ("a lease counts from its answer", |p| {
        // A tick after the lease was taken: within one tick nobody can tell.
        let held = p.of("held", 0)?;
        let late = p.steps.iter().position(|step| step.us > p.steps[held].us + TICK_US)?;
        p.then(late, [p.again(held, late, &[("end_ns", u64::MAX)])])
    }),
    ("a frame is accepted that nobody sent", |p| {
        let taken = p.taken(0, 0)?;
        p.then(taken, [p.again(taken, taken, &[("lease_end_ms", 1)])])
    }),
    ("the next incarnation begins beside the last", |p| {
        let held = p.of("held", 0)?;
        p.then(held, [p.again(p.of("renewed", 1)?, held, &[])])
    }),
    ("a renewal of a doomed member is granted", |p| {
        let doomed = p.of("doomed", 0)?;
        let granted = p.again(p.of("granted", 0)?, doomed, &[("waited_ns", 0)]);
        p.then(doomed, [p.again(p.of("renewed", 0)?, doomed, &[]), granted])
    }),
    ("a deposed leader grants what came after the election of the next", |p| {
        let held = p.of("held", 0)?;
        let elected = p.steps.iter().skip(held).position(|step| step.name == "elected")? + held;
        p.of("lost", 0).is_none_or(|lost| elected < lost).then_some(())?;
        let mut granted = p.again(p.of("granted", 0)?, elected, &[("waited_ns", 0)]);
        granted.us += 1;
        p.then(elected, [p.again(p.of("renewed", 0)?, elected, &[]), granted])
    }),
];

/// Damaged traces of each kind.
const DAMAGED_MAX: usize = 3;

/// Where something happens in the trace of a chain.
struct Places<'a> {
    steps: &'a [Step],
    chain: &'a Chain,
}

impl Places<'_> {
    fn find(&self, from: usize, name: &str, owner: usize, also: impl Fn(&Step) -> bool) -> Option<usize> {
        let incarnation = self.chain.incarnations.get(owner)?;
        let is = |step: &Step| step.name == name && step.fields.get("incarnation") == Some(incarnation) && also(step);
        self.steps.iter().skip(from).position(is).map(|at| at + from)
    }

    /// The first step of this name of the first incarnation (0), or the second (1).
    fn of(&self, name: &str, owner: usize) -> Option<usize> {
        self.find(0, name, owner, |_| true)
    }

    /// The first that the receiver accepts of it.
    fn taken(&self, owner: usize, from: usize) -> Option<usize> {
        self.find(from, "accepted", owner, |step| step.fields.get("receiver") == Some(&self.chain.receiver))
    }

    /// A step once more, at the time of another and with other numbers.
    fn again(&self, step: usize, after: usize, fields: &[(&str, u64)]) -> Step {
        let step = &self.steps[step];
        step.but(self.steps[after].us, &step.name, fields)
    }

    /// The trace up to a step, then these.
    fn then(&self, at: usize, more: impl IntoIterator<Item = Step>) -> Option<Vec<Step>> {
        Some(self.steps[..=at].iter().cloned().chain(more).collect())
    }
}

fn write(folder: &Path, name: &str, behaviours: &[Behaviour], damaged: bool) {
    let (text, cfg) = module(name, behaviours, damaged);
    std::fs::write(folder.join(format!("{name}.tla")), text).expect("the module is written");
    std::fs::write(folder.join(format!("{name}.cfg")), cfg).expect("the configuration is written");
}

#[test]
fn a_run_is_the_same_whether_its_trace_is_written_or_not() {
    let _alone = alone();
    let scenario = by_name("peace").expect("the scenario exists");
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("peace.jsonl");
    let unwritten =
        Plan { seed: 1, scenario, depth: Depth::T2, seconds: 1, mutant: None, trace: None, every_step: false };
    let written = Plan { trace: Some(path), ..unwritten.clone() };
    let [one, other] = [unwritten, written].map(|plan| run(&plan).expect("the trace is written"));
    assert_eq!(one.hash, other.hash);
}

#[test]
fn what_clusters_did_is_what_the_model_of_fences_allows_and_damaged_traces_are_not() {
    let _alone = alone();
    let folder = folder("fence");
    let (mut recorded, mut damaged) = (Vec::new(), Vec::<Behaviour>::new());
    for (scenario, seed) in SCENARIOS.into_iter().flat_map(|scenario| SEEDS.map(move |seed| (scenario, seed))) {
        let steps = trace(scenario, seed, None, &folder);
        for chain in chains(&steps) {
            let of = format!("scenario {scenario}, seed {seed}");
            let whole = behaviour(&steps, &chain, &of);
            for (what, damage) in DAMAGES {
                let known = damaged.iter().filter(|behaviour| behaviour.about.starts_with(what)).count();
                let Some(steps) = damage(&Places { steps: &steps, chain: &chain }).filter(|_| known < DAMAGED_MAX)
                else {
                    continue;
                };
                let broken = behaviour(&steps, &chain, &format!("{what}: {of}"));
                // What comes before the damage is the beginning of a trace that must be accepted, so the damage is what is rejected.
                let same = whole.steps.iter().zip(&broken.steps).take_while(|(a, b)| a == b).count();
                assert!(same < broken.steps.len() && same + 3 >= broken.steps.len(), "{}: {same}", broken.about);
                damaged.push(broken);
            }
            recorded.push(whole);
        }
    }
    write(&folder, "Recorded", &recorded, false);
    write(&folder, "Damaged", &damaged, true);
    let count = |action| recorded.iter().map(|behaviour: &Behaviour| behaviour.count(action)).sum::<usize>();
    let counts = ["renew", "granted", "execute", "accept", "see", "elect", "give up", "lost", "own", "disown", "crash"];
    let counts = counts.map(|action| (action, count(action)));
    println!("{} traces, {counts:?}; {} damaged", recorded.len(), damaged.len());
    assert!(recorded.len() >= 20 && counts.iter().all(|(_, count)| *count > 0), "{counts:?}");
    for (what, _) in DAMAGES {
        assert!(damaged.iter().any(|behaviour| behaviour.about.starts_with(what)), "no trace was damaged so: {what}");
    }
    if let Some((accepted, said)) = tlc(&folder) {
        assert!(accepted, "{said}");
    }
}

/// A lease that does not run down while its process is paused, which is what a countdown would be.
#[test]
fn a_cluster_whose_clocks_stand_still_with_their_process_does_what_the_model_does_not_allow() {
    let _alone = alone();
    let folder = folder("fence-stopped");
    let steps = trace("leases", 3, Some(Mutant::StoppedClock), &folder);
    let recorded: Vec<Behaviour> =
        chains(&steps).iter().map(|chain| behaviour(&steps, chain, "stopped clocks")).collect();
    write(&folder, "Recorded", &recorded, false);
    if let Some((accepted, said)) = tlc(&folder) {
        assert!(!accepted && said.contains("Deadlock reached"), "{said}");
    }
}
