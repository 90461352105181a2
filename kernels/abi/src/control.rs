//! What the host tells a device. One [`Control`] is one 64-byte [`ControlWord`] in the control ring of a device, so a kernel
//! reads it as it reads a message; no control carries a pointer or a length that memory depends on.
//!
//! Controls are carried out in the order submitted, each between two batches of the worker it concerns.
//!
//! ```text
//!   AddSet -> Assign(shard)* -> Route(shard)* -> RouteCommit(v) ... Status::RouteFlushed(v) -> Release(shard)* -> RemoveSet
//! ```

use bytemuck::{Pod, Zeroable};

use crate::hlc::{COUNTER_BITS, Hlc};
use crate::ids::{Epoch, SetId, ShardId, ShardIndex, WorkerIndex};
use crate::keyspace::KeySpace;
use crate::limits::{RESTARTS_MAX, RESTARTS_UNLIMITED, SHARDS_MAX, WORKERS_MAX};
use crate::reason::closed_list;

/// One control as it lies in a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct ControlWord {
    /// Which control; 0 is none.
    pub op: u16,
    /// A set, or 0.
    pub set: u16,
    /// A shard index, a worker or a count, as the control says.
    pub small: [u16; 2],
    /// As the control says.
    pub words: [u64; 7],
}

const _: () = assert!(size_of::<ControlWord>() == 64);

/// Where a device finds a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// In a worker of this device.
    Worker(WorkerIndex),
    /// Beyond this device: through the egress ring to the agent.
    Egress,
    /// Nowhere: messages are dead-lettered `no_such_set`.
    None,
}

/// What becomes of an actor that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartMode {
    /// It stays failed; its messages are dead-lettered `actor_failed`.
    #[default]
    Stop,
    /// It goes on from its initial state with the next message, however often it fails.
    Restart,
    /// It goes on from its initial state so many times in a window; from then on as with `Stop`, or with `Escalate` if there is a parent.
    Limited {
        /// Restarts in a window, 1 to [`RESTARTS_MAX`].
        restarts: u32,
        /// The length of a window, at least 1. It begins with the first restart after the one before has ended.
        window_ms: u32,
        /// Tag of the parent set's name; 0: there is none.
        parent: u32,
    },
    /// It stays failed, and the actor with its key in the parent set fails, too: `child_failed`.
    Escalate {
        /// Tag of the parent set's name, not 0.
        parent: u32,
    },
}

/// A [`RestartMode`] in the numbers by which a worker decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartBudget {
    /// Restarts in a window; 0: none; [`RESTARTS_UNLIMITED`]: all.
    pub restarts: u32,
    /// The length of a window; 0 where nothing is counted.
    pub window_ms: u32,
    /// Tag of the parent set's name; 0: there is none.
    pub parent: u32,
}

impl RestartMode {
    /// Whether a device may go from this policy to another under running actors: both know no window, which would need room in every record,
    /// and have the same parent, which is fixed with the set.
    #[must_use]
    pub const fn may_become(self, other: RestartMode) -> bool {
        let (old, new) = (self.budget(), other.budget());
        !old.is_counted() && !new.is_counted() && old.parent == new.parent
    }

    /// The same in numbers.
    #[must_use]
    pub const fn budget(self) -> RestartBudget {
        match self {
            RestartMode::Stop => RestartBudget { restarts: 0, window_ms: 0, parent: 0 },
            RestartMode::Restart => RestartBudget { restarts: RESTARTS_UNLIMITED, window_ms: 0, parent: 0 },
            RestartMode::Limited { restarts, window_ms, parent } => RestartBudget { restarts, window_ms, parent },
            RestartMode::Escalate { parent } => RestartBudget { restarts: 0, window_ms: 0, parent },
        }
    }
}

impl RestartBudget {
    /// The same as a policy. Numbers that no policy has become the nearest that one has.
    #[must_use]
    pub const fn mode(self) -> RestartMode {
        let RestartBudget { restarts, window_ms, parent } = self;
        match (restarts, parent) {
            (0, 0) => RestartMode::Stop,
            (0, _) => RestartMode::Escalate { parent },
            (RESTARTS_UNLIMITED, _) => RestartMode::Restart,
            _ => RestartMode::Limited {
                restarts: if restarts < RESTARTS_MAX { restarts } else { RESTARTS_MAX },
                window_ms: if window_ms > 0 { window_ms } else { 1 },
                parent,
            },
        }
    }

    /// Whether restarts are counted, so that an actor needs a word for its window.
    #[must_use]
    pub const fn is_counted(&self) -> bool {
        self.restarts != 0 && self.restarts != RESTARTS_UNLIMITED
    }

    /// Whether an actor that fails at `stamp` (its own, C6) is restarted. `window` is its word: milliseconds of the first restart in the
    /// window, above 16 bits with their number; 0 before the first. Device twin: `kernels/device/restarts.cuh`.
    #[must_use]
    pub const fn take(&self, window: &mut u64, stamp: Hlc) -> bool {
        if !self.is_counted() {
            return self.restarts != 0;
        }
        let (began_ms, restarts) = (*window >> COUNTER_BITS, *window & RESTARTS_MAX as u64);
        // Stamps of an actor never go back.
        if restarts == 0 || stamp.wall_ms() - began_ms >= self.window_ms as u64 {
            *window = stamp.wall_ms() << COUNTER_BITS | 1;
            return true;
        }
        let room = restarts < self.restarts as u64;
        *window += room as u64;
        room
    }
}

const _: () =
    assert!(RESTARTS_MAX as u64 == (1 << COUNTER_BITS) - 1, "a window's word has room for the number of its restarts");

/// An order to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Makes a set known, so that its shards can be assigned and its name be addressed by actors. Of a set that is known already it changes
    /// whether failed actors are restarted, for failures from then on; see [`RestartMode::may_become`]. Everything else stays.
    AddSet {
        /// The set.
        set: SetId,
        /// `fnv1a32` of its name.
        tag: u32,
        /// Index of its type in the device's type table, or `None` if this device cannot run it and only routes to it.
        type_index: Option<u16>,
        /// Its keys.
        keys: KeySpace,
        /// How many shards, at least 1.
        shards: u16,
        /// Actors that one shard may hold; one more is `shard_full`.
        actors_per_shard: u32,
        /// What becomes of a failed actor.
        restart: RestartMode,
    },
    /// Forgets a set that has no shard here; messages to it are dead-lettered `no_such_set`.
    RemoveSet {
        /// The set.
        set: SetId,
    },
    /// Makes a shard resident in a worker, empty. Its route is told separately.
    Assign {
        /// The shard.
        shard: ShardId,
        /// Its residence.
        epoch: Epoch,
        /// The worker that owns it from now on.
        worker: WorkerIndex,
    },
    /// Drops a resident shard with its actors and timers. Answered by [`crate::Status::Released`].
    Release {
        /// The shard.
        shard: ShardId,
        /// The residence that ends. Another residence is left alone.
        epoch: Epoch,
    },
    /// One entry of the next route table.
    Route {
        /// The shard.
        shard: ShardId,
        /// Where it is.
        target: RouteTarget,
    },
    /// Makes all entries since the last commit the route table `version`. Workers adopt it between two batches and then put a
    /// marker into every ring; [`crate::Status::RouteFlushed`] says that everything sent before has been consumed.
    RouteCommit {
        /// Greater than every version before.
        version: u64,
    },
    /// The device may act until this instant of its own monotonic clock (C2). An earlier one than the last fences at once.
    Lease {
        /// Nanoseconds of the device's clock.
        deadline_ns: u64,
    },
    /// Workers stop between two batches and keep everything.
    Pause,
    /// Workers go on.
    Resume,
    /// Workers end between two batches. Nothing can be submitted afterwards.
    Stop,
}

/// A control word that this version does not understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadControl {
    /// The `op` of the word.
    pub op: u16,
}

impl core::fmt::Display for BadControl {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "control word with op {} is malformed or unknown", self.op)
    }
}

impl core::error::Error for BadControl {}

closed_list! {
    /// The `op` of a [`ControlWord`]. 0 is none. What each puts where:
    ///
    /// | op | `set` | `small` | `words` |
    /// |---|---|---|---|
    /// | add_set | set | shards, type index | tag, dense, keys, actors per shard, restart mode and parent << 32, restarts and window << 32 |
    /// | remove_set | set | | |
    /// | assign | set | shard, worker | epoch |
    /// | release | set | shard | epoch |
    /// | route | set | shard, worker or target | |
    /// | route_commit | | | version |
    /// | lease | | | deadline in ns |
    /// | pause, resume, stop | | | |
    ControlOp {
        /// [`Control::AddSet`].
        AddSet = 1, "add_set";
        /// [`Control::RemoveSet`].
        RemoveSet = 2, "remove_set";
        /// [`Control::Assign`].
        Assign = 3, "assign";
        /// [`Control::Release`].
        Release = 4, "release";
        /// [`Control::Route`].
        Route = 5, "route";
        /// [`Control::RouteCommit`].
        RouteCommit = 6, "route_commit";
        /// [`Control::Lease`].
        Lease = 7, "lease";
        /// [`Control::Pause`].
        Pause = 8, "pause";
        /// [`Control::Resume`].
        Resume = 9, "resume";
        /// [`Control::Stop`].
        Stop = 10, "stop";
    }
}

/// The type index of a set that this device only routes to.
pub const TYPE_NONE: u16 = u16::MAX;
/// The route target beyond this device.
pub const TARGET_EGRESS: u16 = u16::MAX;
/// The route target nowhere.
pub const TARGET_NONE: u16 = u16::MAX - 1;

const _: () = assert!(WORKERS_MAX < TARGET_NONE, "a worker is never taken for a special target");

impl Control {
    /// Which control this is.
    #[must_use]
    pub const fn op(&self) -> ControlOp {
        match self {
            Control::AddSet { .. } => ControlOp::AddSet,
            Control::RemoveSet { .. } => ControlOp::RemoveSet,
            Control::Assign { .. } => ControlOp::Assign,
            Control::Release { .. } => ControlOp::Release,
            Control::Route { .. } => ControlOp::Route,
            Control::RouteCommit { .. } => ControlOp::RouteCommit,
            Control::Lease { .. } => ControlOp::Lease,
            Control::Pause => ControlOp::Pause,
            Control::Resume => ControlOp::Resume,
            Control::Stop => ControlOp::Stop,
        }
    }

    /// The word that carries this control.
    ///
    /// # Panics
    /// If a field is out of its range, so that the word would read as another control: a worker beyond [`WORKERS_MAX`] as the
    /// egress, for example.
    #[must_use]
    pub fn encode(&self) -> ControlWord {
        let word = self.word();
        assert_eq!(Control::decode(&word), Ok(*self), "C9: a control with a field out of its range");
        word
    }

    /// The control that a word carries.
    ///
    /// # Errors
    /// [`BadControl`] if the op is unknown, a field is out of its range, or an unused field is not 0.
    pub fn decode(word: &ControlWord) -> Result<Self, BadControl> {
        Self::parse(word).filter(|control| control.word() == *word).ok_or(BadControl { op: word.op })
    }

    fn word(&self) -> ControlWord {
        let mut word = ControlWord { op: self.op().code(), ..ControlWord::default() };
        match *self {
            Control::AddSet { set, tag, type_index, keys, shards, actors_per_shard, restart } => {
                word.set = set.0;
                word.small = [shards, type_index.unwrap_or(TYPE_NONE)];
                let (dense, count) = match keys {
                    KeySpace::Hashed => (0, 0),
                    KeySpace::Dense { count } => (1, count),
                };
                let RestartBudget { restarts, window_ms, parent } = restart.budget();
                let (mode, counted) = match restart {
                    RestartMode::Stop => (0, 0),
                    RestartMode::Restart => (1, 0),
                    RestartMode::Limited { .. } => (2, u64::from(restarts) | u64::from(window_ms) << 32),
                    RestartMode::Escalate { .. } => (3, 0),
                };
                let mode = mode | u64::from(parent) << 32;
                word.words = [u64::from(tag), dense, count, u64::from(actors_per_shard), mode, counted, 0];
            }
            Control::RemoveSet { set } => word.set = set.0,
            Control::Assign { shard, epoch, worker } => {
                word.set = shard.set.0;
                word.small = [shard.index.0, worker.0];
                word.words[0] = epoch.0;
            }
            Control::Release { shard, epoch } => {
                word.set = shard.set.0;
                word.small[0] = shard.index.0;
                word.words[0] = epoch.0;
            }
            Control::Route { shard, target } => {
                word.set = shard.set.0;
                let target = match target {
                    RouteTarget::Worker(worker) => worker.0,
                    RouteTarget::Egress => TARGET_EGRESS,
                    RouteTarget::None => TARGET_NONE,
                };
                word.small = [shard.index.0, target];
            }
            Control::RouteCommit { version } => word.words[0] = version,
            Control::Lease { deadline_ns } => word.words[0] = deadline_ns,
            Control::Pause | Control::Resume | Control::Stop => {}
        }
        word
    }

    /// The control by the fields that its op uses; unused ones are not looked at.
    fn parse(word: &ControlWord) -> Option<Self> {
        let [first, second] = word.small;
        Some(match ControlOp::from_code(word.op)? {
            ControlOp::AddSet => Control::AddSet {
                set: set_of(word)?,
                tag: u32::try_from(word.words[0]).ok()?,
                type_index: (second != TYPE_NONE).then_some(second),
                keys: match (word.words[1], word.words[2]) {
                    (0, 0) => KeySpace::Hashed,
                    (1, count) if count > 0 => KeySpace::Dense { count },
                    _ => return None,
                },
                shards: Some(first).filter(|shards| (1..=SHARDS_MAX).contains(shards))?,
                actors_per_shard: u32::try_from(word.words[3]).ok()?,
                restart: restart_of(word)?,
            },
            ControlOp::RemoveSet => Control::RemoveSet { set: set_of(word)? },
            ControlOp::Assign => {
                Control::Assign { shard: shard_of(word)?, epoch: Epoch(word.words[0]), worker: worker_of(second)? }
            }
            ControlOp::Release => Control::Release { shard: shard_of(word)?, epoch: Epoch(word.words[0]) },
            ControlOp::Route => Control::Route {
                shard: shard_of(word)?,
                target: match second {
                    TARGET_EGRESS => RouteTarget::Egress,
                    TARGET_NONE => RouteTarget::None,
                    worker => RouteTarget::Worker(worker_of(worker)?),
                },
            },
            ControlOp::RouteCommit => Control::RouteCommit { version: word.words[0] },
            ControlOp::Lease => Control::Lease { deadline_ns: word.words[0] },
            ControlOp::Pause => Control::Pause,
            ControlOp::Resume => Control::Resume,
            ControlOp::Stop => Control::Stop,
        })
    }
}

fn restart_of(word: &ControlWord) -> Option<RestartMode> {
    let halves = |word: u64| (word as u32, (word >> 32) as u32);
    let ((mode, parent), (restarts, window_ms)) = (halves(word.words[4]), halves(word.words[5]));
    Some(match mode {
        0 => RestartMode::Stop,
        1 => RestartMode::Restart,
        2 if (1..=RESTARTS_MAX).contains(&restarts) && window_ms > 0 => {
            RestartMode::Limited { restarts, window_ms, parent }
        }
        3 if parent != 0 => RestartMode::Escalate { parent },
        _ => return None,
    })
}

fn set_of(word: &ControlWord) -> Option<SetId> {
    (word.set != SetId::NONE.0 && word.set != SetId::CLIENT.0).then_some(SetId(word.set))
}

fn shard_of(word: &ControlWord) -> Option<ShardId> {
    (word.small[0] < SHARDS_MAX).then_some(ShardId::new(set_of(word)?, ShardIndex(word.small[0])))
}

fn worker_of(index: u16) -> Option<WorkerIndex> {
    (index < WORKERS_MAX).then_some(WorkerIndex(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> [Control; 16] {
        let shard = ShardId::new(SetId(3), ShardIndex(9));
        let add = |keys, type_index, restart| Control::AddSet {
            set: SetId(3),
            tag: 77,
            type_index,
            keys,
            shards: 256,
            actors_per_shard: 1 << 20,
            restart,
        };
        [
            add(KeySpace::Hashed, None, RestartMode::Stop),
            add(KeySpace::Dense { count: u64::MAX }, Some(4), RestartMode::Restart),
            add(KeySpace::Hashed, Some(4), RestartMode::Limited { restarts: 3, window_ms: 60_000, parent: 0 }),
            add(KeySpace::Hashed, None, RestartMode::Limited { restarts: 65_535, window_ms: u32::MAX, parent: 9 }),
            add(KeySpace::Hashed, Some(4), RestartMode::Escalate { parent: u32::MAX }),
            Control::RemoveSet { set: SetId(3) },
            Control::Assign { shard, epoch: Epoch(u64::MAX), worker: WorkerIndex(5) },
            Control::Release { shard, epoch: Epoch(2) },
            Control::Route { shard, target: RouteTarget::Worker(WorkerIndex(1)) },
            Control::Route { shard, target: RouteTarget::Egress },
            Control::Route { shard, target: RouteTarget::None },
            Control::RouteCommit { version: 12 },
            Control::Lease { deadline_ns: 13 },
            Control::Pause,
            Control::Resume,
            Control::Stop,
        ]
    }

    #[test]
    fn every_control_survives_its_word() {
        for control in all() {
            assert_eq!(Control::decode(&control.encode()), Ok(control));
        }
        for op in ControlOp::ALL {
            assert!(all().iter().any(|control| control.op() == *op), "{op} is tested");
        }
    }

    #[test]
    fn unknown_ops_and_fields_out_of_range_are_refused() {
        assert_eq!(Control::decode(&ControlWord::default()), Err(BadControl { op: 0 }));
        assert!(Control::decode(&ControlWord { op: 99, ..Default::default() }).is_err());
        let damaged = |at: usize, damage: fn(&mut ControlWord)| {
            let mut word = all()[at].encode();
            damage(&mut word);
            assert_eq!(Control::decode(&word), Err(BadControl { op: word.op }), "{word:?}");
        };
        damaged(0, |word| word.set = 0);
        damaged(0, |word| word.set = SetId::CLIENT.0);
        damaged(0, |word| word.small[0] = 0);
        damaged(0, |word| word.small[0] = SHARDS_MAX + 1);
        damaged(0, |word| word.words[0] = 1 << 32);
        damaged(0, |word| word.words[1] = 2);
        damaged(0, |word| word.words[2] = 1);
        damaged(0, |word| word.words[4] = 2);
        damaged(0, |word| word.words[4] = 4);
        damaged(0, |word| word.words[4] = 1 << 32);
        damaged(0, |word| word.words[5] = 1);
        damaged(1, |word| word.words[2] = 0);
        damaged(2, |word| word.words[5] = 3);
        damaged(2, |word| word.words[5] = 60_000 << 32);
        damaged(2, |word| word.words[5] = 60_000 << 32 | 65_536);
        damaged(4, |word| word.words[4] = 3);
        damaged(6, |word| word.small[0] = SHARDS_MAX);
        damaged(6, |word| word.small[1] = WORKERS_MAX);
        damaged(8, |word| word.small[1] = WORKERS_MAX);
    }

    #[test]
    fn a_policy_may_become_another_without_a_window_and_with_the_same_parent() {
        let (stop, restart) = (RestartMode::Stop, RestartMode::Restart);
        let limited = RestartMode::Limited { restarts: 1, window_ms: 1, parent: 0 };
        let escalate = RestartMode::Escalate { parent: 7 };
        for (old, new, may) in [
            (stop, restart, true),
            (restart, stop, true),
            (stop, stop, true),
            (stop, limited, false),
            (limited, restart, false),
            (stop, escalate, false),
            (escalate, restart, false),
        ] {
            assert_eq!(old.may_become(new), may, "{old:?} to {new:?}");
        }
    }

    #[test]
    fn every_policy_survives_its_numbers_and_any_numbers_are_a_policy() {
        for control in all() {
            if let Control::AddSet { restart, .. } = control {
                assert_eq!(restart.budget().mode(), restart);
            }
        }
        for (restarts, window_ms, parent) in
            [(0, 7, 0), (RESTARTS_MAX + 1, 0, 0), (u32::MAX - 1, 0, 9), (u32::MAX, 1, 1)]
        {
            let restart = RestartBudget { restarts, window_ms, parent }.mode();
            let Control::AddSet { set, tag, type_index, keys, shards, actors_per_shard, .. } = all()[0] else {
                panic!("the first adds a set");
            };
            let _ = Control::AddSet { set, tag, type_index, keys, shards, actors_per_shard, restart }.encode();
        }
    }

    #[test]
    fn a_window_admits_its_restarts_and_the_next_begins_with_the_first_after_its_end() {
        let budget = RestartMode::Limited { restarts: 2, window_ms: 100, parent: 0 }.budget();
        let mut window = 0;
        let taken: std::vec::Vec<bool> = [1_000, 1_000, 1_000, 1_099, 1_100, 1_199, 1_199, 1_201]
            .map(|ms| budget.take(&mut window, Hlc(ms << COUNTER_BITS | 7)))
            .into();
        assert_eq!(taken, [true, true, false, false, true, true, false, true]);
        for (mode, restarts) in
            [(RestartMode::Stop, false), (RestartMode::Escalate { parent: 1 }, false), (RestartMode::Restart, true)]
        {
            let mut window = 0;
            assert!((0..9).all(|ms| mode.budget().take(&mut window, Hlc(ms)) == restarts) && window == 0);
        }
    }

    #[test]
    fn a_full_window_keeps_its_beginning() {
        let budget = RestartMode::Limited { restarts: RESTARTS_MAX, window_ms: 1, parent: 0 }.budget();
        let mut window = 0;
        let stamp = Hlc(5 << COUNTER_BITS);
        assert!((0..RESTARTS_MAX).all(|_| budget.take(&mut window, stamp)) && !budget.take(&mut window, stamp));
        assert_eq!(window, 5 << COUNTER_BITS | u64::from(RESTARTS_MAX));
    }

    #[test]
    fn a_word_with_something_in_an_unused_field_is_refused() {
        for control in all() {
            let mut word = control.encode();
            word.words[6] = 1;
            assert!(Control::decode(&word).is_err(), "{control:?}");
        }
    }

    #[test]
    #[should_panic(expected = "C9")]
    fn a_worker_that_would_read_as_the_egress_is_not_encoded() {
        let shard = ShardId::new(SetId(3), ShardIndex(9));
        let _ = Control::Route { shard, target: RouteTarget::Worker(WorkerIndex(TARGET_EGRESS)) }.encode();
    }
}
