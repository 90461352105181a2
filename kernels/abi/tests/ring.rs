//! C3, C9: the ring between two real threads, and what its ends do when the other end is broken.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use proptest::prelude::*;
use ringfleet_abi::hash::mix64;
use ringfleet_abi::ring::{Consumer, Producer, RingHeader, RingMemory, Slot, split};
use ringfleet_abi::{ActorId, Envelope, Flags, SetId};

#[derive(Clone, Debug)]
struct Heap(Arc<(RingHeader, Vec<Slot>)>);

// SAFETY: the Arc keeps both at their place.
unsafe impl RingMemory for Heap {
    fn header(&self) -> &RingHeader {
        &self.0.0
    }

    fn slots(&self) -> &[Slot] {
        &self.0.1
    }
}

impl Heap {
    fn new(slots: usize, position: u32) -> Self {
        Heap(Arc::new((RingHeader::starting_at(position), (0..slots).map(|_| Slot::default()).collect())))
    }

    fn split(&self) -> (Producer<Heap>, Consumer<Heap>) {
        // SAFETY: each test splits its memory once.
        unsafe { split(self.clone()) }
    }

    /// What another process could do: overwrite a position word.
    fn damage(&self, line: usize, value: u32) {
        let word = (&raw const self.0.0).cast_mut().cast::<u8>().wrapping_add(line * 128).cast::<u32>();
        // SAFETY: the word is an atomic, at the begin of a 128-byte line, and lives as long as `self`.
        unsafe { AtomicU32::from_ptr(word) }.store(value, Ordering::SeqCst);
    }
}

const TAIL: usize = 0;
const HEAD: usize = 1;

/// The `n`-th message; every field depends on `n`.
fn message(n: u64) -> Envelope {
    let mut payload = [0; 32];
    payload.chunks_exact_mut(8).zip(0..).for_each(|(bytes, at)| bytes.copy_from_slice(&mix64(n + at).to_le_bytes()));
    let (from, to) = (ActorId::new(SetId(n as u16), !n), ActorId::new(SetId(!n as u16), n));
    let mut envelope = Envelope::new(from, to, n as u16, Flags::NONE, &payload).expect("32 bytes");
    envelope.hlc = n;
    envelope
}

/// Small numbers from a seed: sizes of batches.
struct Dice(u64);

impl Dice {
    fn up_to(&mut self, most: u32) -> u32 {
        self.0 = mix64(self.0.wrapping_add(0x9e37_79b9_7f4a_7c15));
        1 + (self.0 >> 32) as u32 % most
    }
}

/// Sends `count` messages in batches; returns how often the ring was full.
fn produce(mut producer: Producer<Heap>, count: u64, mut dice: Dice) -> u64 {
    let (mut next, mut full) = (0, 0);
    while next < count {
        for _ in 0..dice.up_to(producer.capacity() * 2) {
            if next == count || !producer.push(&message(next)) {
                break;
            }
            next += 1;
        }
        if producer.unpublished() == producer.capacity() || producer.credit() == 0 {
            full += 1;
        }
        if !producer.publish() {
            thread::yield_now();
        }
    }
    full
}

/// Takes `count` messages, one by one or in batches, as copies or in place; returns how often the ring was empty.
fn consume(mut consumer: Consumer<Heap>, count: u64, mut dice: Dice) -> u64 {
    let (mut next, mut empty) = (0, 0);
    while next < count {
        if dice.up_to(3) == 1 {
            if let Some(envelope) = consumer.pop() {
                assert_eq!(envelope, message(next), "C3: whole and in order");
                next += 1;
            }
            continue;
        }
        let ready = consumer.poll();
        if ready == 0 {
            empty += 1;
            thread::yield_now();
            continue;
        }
        let take = dice.up_to(ready);
        for at in 0..take {
            assert_eq!(*consumer.peek_ref(at), message(next));
            assert_eq!(consumer.peek(at), message(next));
            next += 1;
        }
        consumer.release(take);
    }
    assert_eq!(consumer.poll(), 0, "nothing beyond what was sent");
    empty
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_threads_exchange_everything_whole_and_in_order(
        seed: u64,
        slots_log2 in 0u32..11,
        start in prop_oneof![Just(0), any::<u32>(), (0u32..5_000).prop_map(|before| u32::MAX - before)],
    ) {
        let count = 20_000;
        let (producer, consumer) = Heap::new(1 << slots_log2, start).split();
        let sender = thread::spawn(move || produce(producer, count, Dice(seed)));
        let empty = consume(consumer, count, Dice(!seed));
        let full = sender.join().expect("the sender");
        prop_assert!(full + empty > 0, "one side is faster than the other at some time");
    }
}

#[test]
fn nothing_is_visible_before_it_is_published_and_a_full_ring_says_so() {
    let (mut producer, mut consumer) = Heap::new(4, u32::MAX - 1).split();
    for n in 0..4 {
        assert_eq!(producer.credit(), 4 - n as u32);
        assert!(producer.push(&message(n)));
    }
    assert!(!producer.push(&message(4)));
    assert_eq!((producer.unpublished(), consumer.poll()), (4, 0));
    assert!(producer.publish() && !producer.publish());
    assert_eq!((consumer.ready(), consumer.poll(), producer.free()), (0, 4, 0));
    assert_eq!(consumer.pop(), Some(message(0)));
    assert!(producer.push(&message(4)) && !producer.push(&message(5)));
    assert_eq!(consumer.peek(2), message(3));
}

#[test]
fn a_new_end_goes_on_where_the_last_one_stopped() {
    let memory = Heap::new(4, 7);
    let (mut producer, mut consumer) = memory.split();
    for n in 0..3 {
        assert!(producer.push(&message(n)));
    }
    producer.publish();
    assert!(producer.push(&message(99)), "never published, so never sent");
    assert_eq!(consumer.pop(), Some(message(0)));
    drop((producer, consumer));
    // SAFETY: the earlier ends are gone.
    let (mut producer, mut consumer) = unsafe { (Producer::attach(memory.clone()), Consumer::attach(memory)) };
    assert_eq!((producer.credit(), producer.unpublished()), (2, 0));
    assert!(producer.push(&message(3)));
    producer.publish();
    for n in 1..4 {
        assert_eq!(consumer.pop(), Some(message(n)));
    }
    assert_eq!(consumer.pop(), None);
}

#[test]
fn the_address_for_a_prefetch_is_that_of_the_slot_to_be_written() {
    let (mut producer, mut consumer) = Heap::new(4, 3).split();
    let addresses = [0, 1, 2].map(|ahead| producer.slot_address(ahead));
    for (n, address) in (0..).zip(addresses) {
        assert_eq!(producer.slot_address(0), address);
        assert!(producer.push(&message(n)));
    }
    producer.publish();
    consumer.poll();
    assert!((0..3).all(|at| std::ptr::eq(consumer.peek_ref(at), addresses[at as usize])));
}

#[test]
#[should_panic(expected = "C9: a read beyond")]
fn a_slot_that_was_not_polled_cannot_be_read() {
    let (mut producer, mut consumer) = Heap::new(4, 0).split();
    assert!(producer.push(&message(0)));
    producer.publish();
    consumer.poll();
    let _ = consumer.peek(1);
}

#[test]
#[should_panic(expected = "C9: a release beyond")]
fn more_than_was_polled_cannot_be_given_back() {
    let (_producer, mut consumer) = Heap::new(4, 0).split();
    consumer.release(1);
}

#[test]
#[should_panic(expected = "C9: a ring of 3 slots")]
fn a_ring_has_a_power_of_two_of_slots() {
    let _ = Heap::new(3, 0).split();
}

#[test]
#[should_panic(expected = "C9: a ring's tail is 5 slots ahead")]
fn a_tail_further_than_the_ring_is_not_believed() {
    let memory = Heap::new(4, 0);
    let (_producer, mut consumer) = memory.split();
    memory.damage(TAIL, 5);
    consumer.poll();
}

#[test]
#[should_panic(expected = "C9: a ring's tail is 1 slots ahead of its head, after 2")]
fn a_tail_that_goes_back_is_not_believed() {
    let memory = Heap::new(4, 0);
    let (_producer, mut consumer) = memory.split();
    memory.damage(TAIL, 2);
    assert_eq!(consumer.poll(), 2);
    memory.damage(TAIL, 1);
    consumer.poll();
}

#[test]
#[should_panic(expected = "C9: a ring's head 2 is not between 0 and its tail 1")]
fn a_head_beyond_the_tail_gives_no_credit() {
    let memory = Heap::new(4, 0);
    let (mut producer, _consumer) = memory.split();
    assert!(producer.push(&message(0)));
    producer.publish();
    assert!(producer.push(&message(1)));
    memory.damage(HEAD, 2);
    producer.free();
}

#[test]
#[should_panic(expected = "C9: a ring's head 0 is not between 1 and its tail 2")]
fn a_head_that_goes_back_is_not_believed() {
    let memory = Heap::new(4, 0);
    let (mut producer, mut consumer) = memory.split();
    assert!(producer.push(&message(0)) && producer.push(&message(1)));
    producer.publish();
    assert_eq!(consumer.pop(), Some(message(0)));
    assert_eq!(producer.free(), 3);
    memory.damage(HEAD, 0);
    producer.free();
}

#[test]
#[should_panic(expected = "C9: a ring's tail is 5 slots ahead")]
fn positions_that_do_not_fit_are_not_continued() {
    let memory = Heap::new(4, 0);
    memory.damage(TAIL, 5);
    let _ = memory.split();
}

/// The ends may move to another thread and may not be used by two at once.
mod ends {
    use super::{Consumer, Heap, Producer};

    trait AmbiguousIfSync<A> {
        fn only_one() {}
    }
    impl<T: ?Sized> AmbiguousIfSync<()> for T {}
    impl<T: ?Sized + Sync> AmbiguousIfSync<u8> for T {}

    fn is_send<T: Send>() {}

    #[test]
    fn are_send_and_not_sync() {
        is_send::<Producer<Heap>>();
        is_send::<Consumer<Heap>>();
        // Neither line compiles if the type is Sync: two implementations apply then.
        <Producer<Heap> as AmbiguousIfSync<_>>::only_one();
        <Consumer<Heap> as AmbiguousIfSync<_>>::only_one();
    }
}
