//! The bounded timer wheel of a worker: milliseconds, six levels of 256 slots (C7, C9).
//!
//! A timer due at t lies in the level of the highest byte in which t differs from the wheel's time, in the slot of that
//! byte. As time passes into the range of an occupied slot of a higher level, its timers are entered anew, each at
//! least one level lower; those whose time has come leave in order.
//!
//! **Order.** Timers leave by time, equal ones in the order they were set. Slots are queues. Two timers of equal time t
//! lie in one slot whenever both are in the wheel: the level depends on t and the wheel's time only. A later one is
//! always appended behind the earlier, and moving a slot down enters its queue front to back into slots that are empty:
//! the slots below cover only the range that time has just entered, and a timer of that range lay in the slot above
//! until now.
//!
//! Everything is bounded by the number of timers given at the start; the occupancy maps make a jump of the clock cost
//! the occupied slots it passes, not its length.

use ringfleet_abi::Envelope;

const LEVELS: usize = 6;
const SLOTS: usize = 256;
const NIL: u32 = u32::MAX;

/// A timer that is due, or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timer {
    /// When it is due, in milliseconds of the device's clock.
    pub(crate) due_ms: u64,
    /// Which activation of the actor set it.
    pub(crate) generation: u64,
    /// Packed shard of the actor.
    pub(crate) shard: u32,
    /// What the actor will be told.
    pub(crate) envelope: Envelope,
}

#[derive(Debug)]
struct Node {
    timer: Timer,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct Queue {
    first: u32,
    last: u32,
}

const EMPTY: Queue = Queue { first: NIL, last: NIL };

/// The wheel.
#[derive(Debug)]
pub(crate) struct TimerWheel {
    now_ms: u64,
    nodes: Vec<Node>,
    free: u32,
    len: u32,
    max: u32,
    queues: Box<[[Queue; SLOTS]; LEVELS]>,
    occupied: [[u64; SLOTS / 64]; LEVELS],
}

impl TimerWheel {
    /// An empty wheel for at most `max` timers.
    pub(crate) fn new(max: u32, now_ms: u64) -> Self {
        Self {
            now_ms,
            nodes: Vec::new(),
            free: NIL,
            len: 0,
            max,
            queues: Box::new([[EMPTY; SLOTS]; LEVELS]),
            occupied: [[0; SLOTS / 64]; LEVELS],
        }
    }

    /// Timers in the wheel.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Timers that still fit.
    #[inline]
    pub(crate) fn room(&self) -> u32 {
        self.max - self.len
    }

    /// Sets a timer; the caller has looked at [`TimerWheel::room`].
    pub(crate) fn set(&mut self, timer: Timer) {
        assert!(self.len < self.max, "C9: a timer beyond the wheel's bound");
        let node = if self.free == NIL {
            self.nodes.push(Node { timer, next: NIL });
            (self.nodes.len() - 1) as u32
        } else {
            let node = self.free;
            self.free = self.nodes[node as usize].next;
            self.nodes[node as usize] = Node { timer, next: NIL };
            node
        };
        self.len += 1;
        self.enter(node);
    }

    /// A time at which [`TimerWheel::pop_due`] may have something to do, never later than the next timer; `None` if
    /// there is none.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        let (level, slot) = self.next_slot()?;
        Some(self.slot_start(level, slot))
    }

    /// Takes the next timer that is due at `now_ms`.
    pub(crate) fn pop_due(&mut self, now_ms: u64) -> Option<Timer> {
        loop {
            let next = self.next_slot().map(|(level, slot)| (level, slot, self.slot_start(level, slot)));
            let Some((level, slot, start)) = next.filter(|(_, _, start)| *start <= now_ms) else {
                // No occupied slot begins up to now, so time passes into none.
                self.now_ms = self.now_ms.max(now_ms);
                return None;
            };
            self.now_ms = self.now_ms.max(start);
            if level == 0 {
                let node = self.queues[0][slot].first;
                let Node { timer, next } = self.nodes[node as usize];
                self.queues[0][slot].first = next;
                if next == NIL {
                    self.vacate(0, slot);
                }
                self.release(node);
                return Some(timer);
            }
            let mut node = self.queues[level][slot].first;
            self.vacate(level, slot);
            while node != NIL {
                let next = std::mem::replace(&mut self.nodes[node as usize].next, NIL);
                self.enter(node);
                node = next;
            }
        }
    }

    /// Drops the timers of a shard and returns how many there were.
    pub(crate) fn drop_shard(&mut self, shard: u32) -> u32 {
        let mut dropped = 0;
        for level in 0..LEVELS {
            for slot in 0..SLOTS {
                let mut node = self.queues[level][slot].first;
                if node == NIL {
                    continue;
                }
                self.vacate(level, slot);
                while node != NIL {
                    let next = std::mem::replace(&mut self.nodes[node as usize].next, NIL);
                    if self.nodes[node as usize].timer.shard == shard {
                        self.release(node);
                        dropped += 1;
                    } else {
                        self.append(level, slot, node);
                    }
                    node = next;
                }
            }
        }
        dropped
    }

    fn release(&mut self, node: u32) {
        self.nodes[node as usize].next = self.free;
        self.free = node;
        self.len -= 1;
    }

    fn enter(&mut self, node: u32) {
        // What is late is due now.
        let due = self.nodes[node as usize].timer.due_ms.max(self.now_ms);
        let differs = due ^ self.now_ms;
        let level = if differs == 0 { 0 } else { (differs.ilog2() / 8) as usize };
        // A clock of 64 bits of nanoseconds stays below 2^45 ms and a delay below 2^32, so six bytes hold every time.
        assert!(level < LEVELS, "C9: a timer beyond the wheel's range");
        let slot = (due >> (8 * level)) as usize % SLOTS;
        self.append(level, slot, node);
    }

    fn append(&mut self, level: usize, slot: usize, node: u32) {
        let queue = &mut self.queues[level][slot];
        if queue.first == NIL {
            queue.first = node;
            self.occupied[level][slot / 64] |= 1 << (slot % 64);
        } else {
            self.nodes[queue.last as usize].next = node;
        }
        queue.last = node;
    }

    fn vacate(&mut self, level: usize, slot: usize) {
        self.queues[level][slot] = EMPTY;
        self.occupied[level][slot / 64] &= !(1 << (slot % 64));
    }

    /// The occupied slot that begins first. A lower level lies wholly before the next slot of a higher one.
    fn next_slot(&self) -> Option<(usize, usize)> {
        if self.len == 0 {
            return None;
        }
        self.occupied.iter().enumerate().find_map(|(level, words)| {
            let word = words.iter().position(|word| *word != 0)?;
            Some((level, word * 64 + words[word].trailing_zeros() as usize))
        })
    }

    fn slot_start(&self, level: usize, slot: usize) -> u64 {
        let above = u32::try_from(8 * (level + 1)).expect("six levels");
        let high = self.now_ms.checked_shr(above).unwrap_or(0).checked_shl(above).unwrap_or(0);
        high | (slot as u64) << (8 * level)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn timer(due_ms: u64, name: u64, shard: u32) -> Timer {
        Timer { due_ms, generation: name, shard, envelope: Envelope::default() }
    }

    proptest! {
        #[test]
        fn timers_leave_by_time_and_equal_ones_in_the_order_they_were_set(
            start in prop_oneof![Just(0u64), Just((1u64 << 32) - 300), 0..1u64 << 40],
            steps in prop::collection::vec(
                (prop::collection::vec((0u64..600, 0u32..24, 0u32..3), 0..8), 0u64..1200, 0u32..20),
                1..60,
            ),
        ) {
            let mut wheel = TimerWheel::new(1000, start);
            let mut model: Vec<(u64, u64, u32)> = Vec::new();
            let (mut now, mut name) = (start, 0);
            for (sets, pass, shift) in steps {
                for (delay, scale, shard) in sets {
                    let due = now + (delay << scale);
                    wheel.set(timer(due, name, shard));
                    model.push((due, name, shard));
                    name += 1;
                }
                if let Some(first) = model.iter().map(|(due, ..)| *due).min() {
                    let next = wheel.next_ms().expect("there are timers");
                    prop_assert!(next <= first.max(now));
                }
                now += pass << shift;
                if shift == 3 {
                    let before = model.len();
                    model.retain(|(.., shard)| *shard != 1);
                    prop_assert_eq!(wheel.drop_shard(1) as usize, before - model.len());
                }
                let mut due: Vec<_> = model.iter().filter(|(due, ..)| *due <= now).copied().collect();
                due.sort_by_key(|(due, name, _)| (*due, *name));
                model.retain(|(due, ..)| *due > now);
                for (due, name, _) in due {
                    let popped = wheel.pop_due(now).map(|timer| (timer.due_ms, timer.generation));
                    prop_assert_eq!(popped, Some((due, name)));
                }
                prop_assert_eq!(wheel.pop_due(now), None);
                prop_assert_eq!(wheel.len() as usize, model.len());
            }
        }
    }

    #[test]
    fn a_jump_of_the_clock_by_years_costs_the_timers_only() {
        let mut wheel = TimerWheel::new(2, 5);
        wheel.set(timer(10, 0, 0));
        wheel.set(timer(1 << 31, 1, 0));
        assert_eq!(wheel.room(), 0);
        assert_eq!(wheel.pop_due(1 << 46).map(|timer| timer.generation), Some(0));
        assert_eq!(wheel.pop_due(1 << 46).map(|timer| timer.generation), Some(1));
        assert_eq!((wheel.pop_due(1 << 46), wheel.next_ms(), wheel.room()), (None, None, 2));
    }
}
