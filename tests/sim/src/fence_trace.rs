//! Traces of runs as behaviours of `specs/Fence.tla`: what the code did, step by step, is what the model allows.
//!
//! The model has one chain of owners, each with an epoch: here the incarnations of one node, by its name. The log gives the name to the
//! next one only after it has declared the last one lost, as it does with a shard, and in the same record; a joining incarnation
//! holds no lease yet, as in the model. The receiver is one process on another host.
//!
//! | step of a trace | told by | action of the model |
//! |---|---|---|
//! | `renewed` | `Member::renew`, whenever a renewal is made | `Renew`, before it `SeesOwn`, and `SeesLost` of the last |
//! | `granted` | the leader's table | `Grant` of the youngest renewal that is older than the receipt; `GrantDeposed` if a later leader was elected before the receipt |
//! | `held` | the agent's protocol takes the lease | `Granted` |
//! | `executed`, `published` | a device has handled; a frame goes to another node | `Execute` |
//! | `saw` | the receiver takes a view | `ReceiverSees`, by the records at which incarnations were lost |
//! | `accepted` | the receiver takes a frame past fence and lease | `Accept` |
//! | `elected`, `doomed`, `lost` | the leader's table, the log | `Elect` and `Ready`, `GiveUp`, `Lost` |
//! | `start` | the process of the host was started anew | `Crash` of the one before |
//!
//! `refused` is no action. Time is ticks of [`TICK_US`], counted from the beginning of the run, so an age in ticks is less than one tick
//! off. `CLOCKS` is such that the model's clocks, which may be off by one in so many, allow that and what simulated clocks do, and
//! not a tick more. No step is guessed: a trace gives exactly one sequence of steps, and TLC finds whether all can be taken.
//!
//! Where a node leaves of its own accord its trace ends: the model has no leaving.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ringfleet_abi::limits::LEASE_GRACE_MS;
use ringfleet_coordinator_core::leases::MARGIN_MS;

use crate::faults::WALL_OFFSET_MS;

/// The length of a tick.
pub const TICK_US: u64 = 25_000;
const TICK_MS: u64 = TICK_US / 1000;
/// The lease of the scenarios whose traces are read.
pub const LEASE_MS: u64 = 1000;
/// The model's `Lease`, `Patience`, `Grace`, `Skew`, in ticks.
const LEASE: u64 = LEASE_MS / TICK_MS;
const PATIENCE: u64 = (LEASE_MS + LEASE_MS / 10 + MARGIN_MS) / TICK_MS;
const GRACE: u64 = LEASE_GRACE_MS / TICK_MS;
const SKEW: u64 = (2 * WALL_OFFSET_MS).div_ceil(TICK_MS);
/// The model's `S`: clocks run at rates within one in so many.
const CLOCKS: u64 = 40;
/// The model's `Cap`: older than all that counts.
const CAP: u64 = (if PATIENCE > LEASE + GRACE + SKEW { PATIENCE } else { LEASE + GRACE + SKEW }) + 2;
// A lease may look one tick older than it is, and no more; so may the leader's patience look one tick shorter.
const _: () = assert!((LEASE + 1) * (CLOCKS - 1) < LEASE * CLOCKS && (LEASE + 2) * (CLOCKS - 1) >= LEASE * CLOCKS);
const _: () =
    assert!((PATIENCE - 1) * (CLOCKS + 1) > PATIENCE * CLOCKS && (PATIENCE - 2) * (CLOCKS + 1) <= PATIENCE * CLOCKS);

/// A step of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// When, microseconds of virtual time.
    pub us: u64,
    /// What.
    pub name: String,
    /// Where; of what the log says: about which node.
    pub host: String,
    /// Its numbers.
    pub fields: BTreeMap<String, u64>,
}

impl Step {
    fn number(&self, name: &str) -> u64 {
        self.fields.get(name).copied().unwrap_or_default()
    }

    fn incarnation(&self) -> u64 {
        self.number("incarnation")
    }

    /// The same at another time, with other numbers.
    #[must_use]
    pub fn but(&self, us: u64, name: &str, fields: &[(&str, u64)]) -> Self {
        let mut step = Self { us, name: name.to_owned(), ..self.clone() };
        step.fields.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), *value)));
        step
    }
}

/// The steps of a trace that was written with `--trace`.
///
/// # Errors
/// Which line is none of a trace.
pub fn read(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let value: serde_json::Value =
            serde_json::from_str(line).map_err(|error| format!("line {}: {error}", at + 1))?;
        let word = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let name = match value["event"].as_str() {
            Some("fence") => word("step"),
            Some("start") => "start".to_owned(),
            Some(_) => continue,
            None => return Err(format!("line {}: no event", at + 1)),
        };
        let seconds = value["t"].as_f64().ok_or_else(|| format!("line {}: no time", at + 1))?;
        let object = value.as_object().into_iter().flatten();
        let fields = object.filter_map(|(name, value)| Some((name.clone(), value.as_u64()?))).collect();
        steps.push(Step { us: (seconds * 1e6).round() as u64, name, host: word("host"), fields });
    }
    Ok(steps)
}

/// Whose chain of incarnations a behaviour is about, and who receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The node.
    pub node: String,
    /// Its incarnations, in order: the owners of epochs 1, 2, ...
    pub incarnations: Vec<u64>,
    /// The incarnation that is the receiver; 0 if nobody took anything.
    pub receiver: u64,
    /// The record of the log by which each was lost.
    lost_at: Vec<u64>,
}

/// The chains of a trace, one for each node that joined.
#[must_use]
pub fn chains(steps: &[Step]) -> Vec<Chain> {
    let joined = || steps.iter().filter(|step| step.name == "joined");
    let nodes: BTreeSet<&str> = joined().map(|step| step.host.as_str()).collect();
    let chain = |node: &str| {
        let incarnations: Vec<u64> = joined().filter(|step| step.host == node).map(Step::incarnation).collect();
        let lost = |incarnation: &u64| {
            let lost = steps.iter().find(|step| step.name == "lost" && step.incarnation() == *incarnation);
            lost.map_or(u64::MAX, |step| step.number("index"))
        };
        let mut taken: BTreeMap<u64, (BTreeSet<u64>, u64)> = BTreeMap::new();
        for step in steps.iter().filter(|step| step.name == "accepted" && step.host != node) {
            if incarnations.contains(&step.incarnation()) {
                let (from, count) = taken.entry(step.number("receiver")).or_default();
                from.insert(step.incarnation());
                *count += 1;
            }
        }
        let receiver = taken.iter().max_by_key(|(_, (from, count))| (from.len(), *count)).map_or(0, |(who, _)| *who);
        let lost_at = incarnations.iter().map(lost).collect();
        Chain { node: node.to_owned(), incarnations, receiver, lost_at }
    };
    nodes.into_iter().map(chain).collect()
}

/// A sequence of steps of the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// What it is of.
    pub about: String,
    /// The steps, as tuples of TLA+.
    pub steps: Vec<String>,
    epochs: u64,
    terms: u64,
}

impl Behaviour {
    /// How many steps of an action there are.
    #[must_use]
    pub fn count(&self, action: &str) -> usize {
        let begins = format!("<<\"{action}\"");
        self.steps.iter().filter(|step| step.starts_with(&begins)).count()
    }
}

const fn tick(us: u64) -> u64 {
    us / TICK_US
}

#[derive(Debug, Clone, Copy)]
struct Ask {
    us: u64,
    sent_ns: u64,
}

/// What is known on the way through a trace. Epochs are from 1.
struct Projection<'a> {
    chain: &'a Chain,
    out: Behaviour,
    now_us: u64,
    epoch: u64,
    /// The last that has begun, and whether its process is gone.
    begun: u64,
    crashed: bool,
    proposed: bool,
    term: u64,
    elected_us: u64,
    seen: u64,
    asks: BTreeMap<u64, Vec<Ask>>,
    /// When the renewal was made that a lease comes from, by epoch and end of the lease.
    leases: BTreeMap<(u64, u64), u64>,
    /// Executions and acceptances of this tick: more of the same change nothing.
    said: BTreeSet<String>,
}

/// The behaviour of a chain.
#[must_use]
pub fn behaviour(steps: &[Step], chain: &Chain, about: &str) -> Behaviour {
    let mut projection = Projection {
        chain,
        out: Behaviour { about: format!("{about}, {}", chain.node), epochs: 1, terms: 1, ..Behaviour::default() },
        now_us: 0,
        epoch: 0,
        begun: 1,
        crashed: false,
        proposed: false,
        term: 0,
        elected_us: 0,
        seen: 1,
        asks: BTreeMap::new(),
        leases: BTreeMap::new(),
        said: BTreeSet::new(),
    };
    for step in steps {
        if step.name == "left" && chain.incarnations.contains(&step.incarnation()) {
            break;
        }
        projection.take(step);
    }
    projection.out
}

impl Projection<'_> {
    fn epoch_of(&self, incarnation: u64) -> Option<u64> {
        self.chain.incarnations.iter().position(|own| *own == incarnation).map(|at| at as u64 + 1)
    }

    fn say(&mut self, step: String) {
        self.out.steps.push(step);
    }

    /// Says it unless it was said in this tick.
    fn say_once(&mut self, step: String) {
        if self.said.insert(step.clone()) {
            self.say(step);
        }
    }

    fn age(&self, us: u64) -> u64 {
        tick(self.now_us) - tick(us.min(self.now_us))
    }

    fn take(&mut self, step: &Step) {
        if self.epoch == 0 {
            if step.name == "elected" {
                (self.term, self.elected_us) = (step.number("term"), step.us);
            }
            if step.name == "joined" && self.epoch_of(step.incarnation()) == Some(1) {
                (self.epoch, self.now_us) = (1, step.us);
            }
            return;
        }
        let ticks = tick(step.us) - tick(self.now_us);
        if ticks > 0 {
            self.say(format!("<<\"tick\", {ticks}>>"));
            self.said.clear();
        }
        self.now_us = step.us;
        match step.name.as_str() {
            "elected" if step.number("term") > self.term => {
                (self.term, self.elected_us, self.proposed) = (step.number("term"), step.us, false);
                self.out.terms += 1;
                self.say("<<\"elect\">>".to_owned());
                self.say("<<\"ready\">>".to_owned());
            }
            "start" if step.host == self.chain.node && !self.crashed => {
                self.crashed = true;
                self.say(format!("<<\"crash\", {}>>", self.begun));
            }
            "saw" if step.incarnation() == self.chain.receiver => {
                let index = step.number("index");
                let seen = 1 + self.chain.lost_at.iter().filter(|lost| **lost <= index).count() as u64;
                if seen > self.seen {
                    self.seen = seen;
                    self.say(format!("<<\"see\", {seen}>>"));
                }
            }
            _ => {
                if let Some(epoch) = self.epoch_of(step.incarnation()) {
                    self.act(epoch, step);
                }
            }
        }
        self.out.epochs = self.out.epochs.max(self.epoch).max(self.begun);
    }

    /// A step of, or about, the owner of an epoch.
    fn act(&mut self, epoch: u64, step: &Step) {
        match step.name.as_str() {
            "renewed" => {
                if epoch > self.begun {
                    if !self.crashed {
                        self.say(format!("<<\"disown\", {}>>", self.begun));
                    }
                    self.say(format!("<<\"own\", {epoch}>>"));
                    (self.begun, self.crashed) = (epoch, false);
                }
                self.asks.entry(epoch).or_default().push(Ask { us: step.us, sent_ns: step.number("sent_ns") });
                self.say(format!("<<\"renew\", {epoch}>>"));
            }
            "granted" => {
                let received_us = step.us - step.number("waited_ns") / 1000;
                let asks = self.asks.get(&epoch).map_or(&[][..], Vec::as_slice);
                let of = asks.iter().rev().find(|ask| ask.us <= received_us);
                let age = of.map_or(0, |ask| self.age(ask.us));
                // Nobody waits for its answer any more.
                if age >= CAP {
                    return;
                }
                let deposed = step.number("term") < self.term && received_us > self.elected_us;
                self.say(if deposed {
                    format!("<<\"deposed\", {epoch}, {age}>>")
                } else {
                    format!("<<\"grant\", {epoch}, {age}, {}>>", self.age(received_us))
                });
            }
            "held" => {
                let sent_ns = step.number("end_ns").saturating_sub(LEASE_MS * 1_000_000);
                let asks = self.asks.get(&epoch).map_or(&[][..], Vec::as_slice);
                // A lease that comes from no renewal is one from now: nobody granted that.
                let us = asks.iter().rev().find(|ask| ask.sent_ns == sent_ns).map_or(step.us, |ask| ask.us);
                self.leases.insert((epoch, step.number("lease_end_ms")), us);
                // Whatever is executed from now on goes out with another lease.
                self.said.clear();
                let age = self.age(us);
                if age < CAP {
                    self.say(format!("<<\"granted\", {epoch}, {age}>>"));
                }
            }
            "executed" | "published" => self.say_once(format!("<<\"execute\", {epoch}>>")),
            "accepted" if step.number("receiver") == self.chain.receiver => {
                let age = self.leases.get(&(epoch, step.number("lease_end_ms"))).map_or(CAP, |us| self.age(*us));
                self.say_once(format!("<<\"accept\", {epoch}, {age}>>"));
            }
            // What a leader that was deposed takes for lost it cannot have written.
            "doomed" if epoch == self.epoch && !self.proposed && step.number("term") >= self.term => {
                self.proposed = true;
                self.say("<<\"give up\">>".to_owned());
            }
            "lost" => {
                (self.epoch, self.proposed) = (epoch + 1, false);
                self.say(format!("<<\"lost\", {}>>", epoch + 1));
            }
            _ => {}
        }
    }
}

/// A module with these behaviours as literals, and its configuration. They must all be behaviours of the model to their end, or, if they
/// were damaged, none.
#[must_use]
pub fn module(name: &str, behaviours: &[Behaviour], damaged: bool) -> (String, String) {
    let mut text = format!(
        "---- MODULE {name} ----\n\\* Generated from traces of the simulator; read by FenceTrace.tla.\nEXTENDS FenceTrace\n"
    );
    for (at, behaviour) in behaviours.iter().enumerate() {
        let _ = write!(text, "\\* {}\nTrace{} == <<\n", behaviour.about, at + 1);
        let _ = write!(text, "{}\n>>\n", behaviour.steps.join(",\n"));
    }
    let names: Vec<String> = (1..=behaviours.len()).map(|at| format!("Trace{at}")).collect();
    let _ = write!(text, "Recorded == <<{}>>\n====\n", names.join(", "));

    // One epoch more than was seen: the model's last owner never crashes.
    let epochs = behaviours.iter().map(|behaviour| behaviour.epochs).max().unwrap_or(1) + 1;
    let terms = behaviours.iter().map(|behaviour| behaviour.terms).max().unwrap_or(1);
    let mut cfg = "SPECIFICATION TraceSpec\nCONSTANT Traces <- Recorded\n".to_owned();
    let numbers = [("Epochs", epochs), ("Terms", terms), ("Lease", LEASE), ("Patience", PATIENCE), ("Grace", GRACE)];
    // Room for everything that is under way: the bounds of the model are there to keep it finite.
    let more = [("Skew", SKEW), ("S", CLOCKS), ("AsksMax", 1000), ("FramesMax", 1000), ("Starts", 1)];
    for (constant, value) in numbers.into_iter().chain(more) {
        let _ = writeln!(cfg, "CONSTANT {constant} = {value}");
    }
    cfg += "CONSTANT Mutant = \"none\"\n";
    let properties: &[&str] = if damaged {
        &["NoneEnds"]
    } else {
        &[
            "TypeOK",
            "C2_OneEffectiveIncarnation",
            "C2_OneWorkerPerEpoch",
            "C2_EpochsNeverGoBack",
            "C2_NothingAfterLeaseEnd",
            "C2_NothingBesideSuccessor",
        ]
    };
    properties.iter().for_each(|property| cfg += &format!("INVARIANT {property}\n"));
    (text, cfg)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = r#"{"t":0.100000,"event":"fence","step":"joined","host":"n1","incarnation":7}
{"t":0.110000,"event":"fence","step":"renewed","host":"n1","incarnation":7,"sent_ns":5000000000}
{"t":0.110000,"event":"fault","host":"n1","what":"pause for 3 ms"}
{"t":0.130000,"event":"fence","step":"granted","host":"c1","incarnation":7,"term":1,"waited_ns":4000000}
{"t":0.140000,"event":"fence","step":"held","host":"n1","incarnation":7,"end_ns":6000000000,"lease_end_ms":1110}
{"t":0.210000,"event":"fence","step":"published","host":"n1","incarnation":7,"lease_end_ms":1110}
{"t":0.211000,"event":"fence","step":"accepted","host":"n2","receiver":8,"incarnation":7,"lease_end_ms":1110}
"#;

    #[test]
    fn each_step_becomes_an_action_with_the_age_of_its_renewal() {
        let steps = read(TRACE).unwrap();
        let chains = chains(&steps);
        assert_eq!((chains.len(), chains[0].receiver), (1, 8));
        let behaviour = behaviour(&steps, &chains[0], "seed 1");
        let expected = ["\"renew\", 1", "\"tick\", 1", "\"grant\", 1, 1, 0", "\"granted\", 1, 1", "\"tick\", 3"];
        let expected = expected.into_iter().chain(["\"execute\", 1", "\"accept\", 1, 4"]);
        assert_eq!(behaviour.steps, expected.map(|step| format!("<<{step}>>")).collect::<Vec<_>>());
        assert_eq!(behaviour.count("accept"), 1);
    }

    #[test]
    fn what_is_no_trace_is_refused_with_its_line() {
        assert!(read(&format!("{TRACE}torn")).unwrap_err().starts_with("line 8: "));
        assert_eq!(read("{\"t\":0.1}").unwrap_err(), "line 1: no event");
        assert_eq!(read("{\"event\":\"start\",\"host\":\"n1\"}").unwrap_err(), "line 1: no time");
    }
}
