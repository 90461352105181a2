//! Scenarios: what a cluster looks like, and which faults it meets.

use crate::faults::Kind;

/// A scenario. The same ones run at every depth.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is for, in one line.
    pub about: &'static str,
    /// Coordinators.
    pub coordinators: u16,
    /// Nodes.
    pub nodes: u16,
    /// Clients.
    pub clients: u16,
    /// The lease of nodes.
    pub lease_ms: u32,
    /// Virtual seconds during which faults happen, unless the command line says otherwise.
    pub seconds: u64,
    /// Between two faults, on average.
    pub fault_every_ms: u64,
    /// Whether the sets of the workload are scaled, so that shards move without a fault.
    pub moves: bool,
    /// The faults; none happens where there are none.
    pub faults: &'static [Kind],
}

/// Everything that can go wrong.
const ALL: &[Kind] = &[
    Kind::Kill,
    Kind::PowerLoss,
    Kind::Pause,
    Kind::PauseAtLease,
    Kind::Isolate,
    Kind::Split,
    Kind::OneWay,
    Kind::Weather,
    Kind::ClockJump,
    Kind::ClockRate,
    Kind::DiskSlow,
    Kind::DiskFull,
    Kind::DiskFailing,
];

/// What can go wrong with nodes, and with the network between them.
const LEASES: &[Kind] = &[
    Kind::PauseAtLease,
    Kind::PauseAtLease,
    Kind::Isolate,
    Kind::Split,
    Kind::OneWay,
    Kind::ClockJump,
    Kind::ClockRate,
    Kind::Kill,
];

/// All scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "cluster",
        about: "three coordinators, four nodes and their clients, everything goes wrong",
        coordinators: 3,
        nodes: 4,
        clients: 3,
        lease_ms: 1000,
        seconds: 60,
        fault_every_ms: 1500,
        moves: true,
        faults: ALL,
    },
    Scenario {
        name: "leases",
        about: "three coordinators and four nodes that are cut off and stand still for about as long as a lease lasts",
        coordinators: 3,
        nodes: 4,
        clients: 3,
        lease_ms: 1000,
        seconds: 60,
        fault_every_ms: 1000,
        moves: false,
        faults: LEASES,
    },
    Scenario {
        name: "peace",
        about: "three coordinators and four nodes, nothing goes wrong",
        coordinators: 3,
        nodes: 4,
        clients: 3,
        lease_ms: 1000,
        seconds: 15,
        fault_every_ms: 1000,
        moves: false,
        faults: &[],
    },
    Scenario {
        name: "moves",
        about: "three coordinators and four nodes, sets are scaled all the time, nothing goes wrong",
        coordinators: 3,
        nodes: 4,
        clients: 3,
        lease_ms: 1000,
        seconds: 15,
        fault_every_ms: 1000,
        moves: true,
        faults: &[],
    },
    Scenario {
        name: "coordinators",
        about: "three coordinators and their clients, everything goes wrong",
        coordinators: 3,
        nodes: 0,
        clients: 2,
        lease_ms: 1000,
        seconds: 60,
        fault_every_ms: 1500,
        moves: false,
        faults: ALL,
    },
    Scenario {
        name: "crashes",
        about: "five coordinators that lose power with writes under way, on bad disks",
        coordinators: 5,
        nodes: 0,
        clients: 2,
        lease_ms: 1000,
        seconds: 60,
        fault_every_ms: 1000,
        moves: false,
        faults: &[Kind::PowerLoss, Kind::Kill, Kind::DiskSlow, Kind::DiskFailing, Kind::DiskFull],
    },
    Scenario {
        name: "calm",
        about: "nothing goes wrong",
        coordinators: 3,
        nodes: 0,
        clients: 2,
        lease_ms: 1000,
        seconds: 20,
        fault_every_ms: 1000,
        moves: false,
        faults: &[],
    },
];

/// The scenario of this name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}
