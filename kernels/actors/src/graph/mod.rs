//! PageRank and connected components of a real graph, one actor per vertex: WordNet 3.0, 117,659 synsets and 232,739 relations between them
//! (`data/wordnet-3.0.tsv.gz`, made by `data/wordnet.sh` from Debian's package wordnet-base; its licence stands at its top).
//!
//! ```text
//!   client -- Start --> rounds -- Round --> group -- Go --> vertex -- Share --> vertex
//!                        (1)   <-GroupDone- (512     <-Done-   |   <-- Heard ---
//!                                           vertices           | Scatter
//!                                           each)              +----> block -- Scatter --> block ..     (edges that a vertex has no room for)
//! ```
//! A vertex keeps its first edges itself, the others in a chain of [edge blocks](block). In a round each vertex sends its neighbours one value, in
//! portions: each message is answered by [`Heard`](vertex::Heard), and the next portion leaves when the one before is answered. A vertex that has
//! heard from all of them is done, its [group](mod@group) counts it, the one actor of [`rounds`] counts the groups, and when all are done the round is closed:
//! nothing of it is under way. Groups and vertices are started a few at a time, so what is in flight stays below [`IN_FLIGHT_MAX`], whatever the
//! graph. A message that is lost leaves its round open for ever, which whoever waits notices: [`Standing::steps`](rounds::Standing) stands still.
//!
//! # What is computed
//! * **PageRank** in fixed point: [`ONE`] is 1. Ranks begin as `ONE / n`. In a round a vertex with `d` outgoing edges sends `rank / d` along each,
//!   and keeps the rest as loose; without outgoing edges all of it is loose. Then every rank becomes `(ONE * 15 / 100 + D(loose of all)) / n + D(sum of what it heard)`,
//!   where `D(x) = x * 85 / 100`. All divisions round down. Sums of integers do not depend on their order, so neither do ranks.
//! * **Components**, edges taken in both directions: each vertex tells its neighbours the lowest vertex that it knows of, and again when that has
//!   become lower; a round in which nobody has anything new ends it. The component of a vertex is called by its lowest vertex.
//! * An edge that is given several times counts as often; an edge may lead back to its vertex.
//!
//! Results are exact integers, compared with the serial computation in [`serial`], which shares only the list and the constants here with the actors.

pub mod block;
pub mod group;
pub mod list;
pub mod load;
pub mod rounds;
pub mod serial;
pub mod tables;
pub mod vertex;

use ringfleet_actor::prelude::*;

/// The actor-set documents of this application, one YAML document each.
pub const SETS_YAML: &str = include_str!("../../sets/graph.yaml");

/// A rank of 1, which is what all ranks together are, but for what divisions lose.
pub const ONE: u64 = 1 << 60;
/// The part of its rank that a vertex hands on, in per cent.
pub const HANDED_ON_PERCENT: u64 = 85;
/// Vertices of a graph. More are refused when a graph is read: the top bit of an edge says where it leads.
pub const VERTICES_MAX: usize = 1 << 31;
/// The bit of an edge that leads away from its vertex; without it only the other end has it.
pub const OUT: u32 = 1 << 31;

/// Edges that a vertex keeps itself; the next one goes to an edge block.
pub const OWN_EDGES: u32 = 6;
/// Edges of a block; the next one goes to the next block.
pub const BLOCK_EDGES: u32 = 48;
/// Messages that a block sends before it waits for their answers.
pub const PORTION: u32 = 8;
/// Vertices of a group.
pub const GROUP_VERTICES: u32 = 512;
/// Vertices of a group that are at it at a time.
pub const VERTICES_AT_A_TIME: u32 = 16;
/// Groups that are at it at a time.
pub const GROUPS_AT_A_TIME: u32 = 64;
/// Messages that one handling may send: `max_sends` of all types here.
pub const SENDS_MAX: u32 = 8;
/// What may be in flight at a time in a round, answers included: all of it fits the default spill of one worker (C9).
pub const IN_FLIGHT_MAX: u32 = GROUPS_AT_A_TIME * (1 + VERTICES_AT_A_TIME * (OWN_EDGES + PORTION + 1));

const _: () = assert!(OWN_EDGES < SENDS_MAX && PORTION <= SENDS_MAX, "a handling sends a portion at once");
const _: () = assert!(IN_FLIGHT_MAX <= 16_384, "the spill of a worker");
const _: () = assert!(GROUP_VERTICES == 8 * 64, "a group has eight words of marks");

/// The part of a rank that is handed on, without leaving 64 bits on the way. Vertices and rounds compute it, on every device.
#[device_fn]
pub fn handed_on(rank: u64) -> u64 {
    rank / 100 * HANDED_ON_PERCENT + rank % 100 * HANDED_ON_PERCENT / 100
}

/// Nothing is computed.
pub const IDLE: u32 = 0;
/// A round of PageRank.
pub const RANK: u32 = 1;
/// Only takes in what the last round of PageRank has brought.
pub const SETTLE: u32 = 2;
/// A round of components.
pub const LABEL: u32 = 3;
