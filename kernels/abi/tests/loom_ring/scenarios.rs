//! What two threads do with one ring. Compiled once per set of primitives.

use std::sync::Arc;

use loom::thread;
use ringfleet_abi::envelope::Envelope;

use super::ring::{Consumer, Producer, RingHeader, RingMemory, Slot, split};

#[derive(Clone)]
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

fn ring(slots: usize, position: u32) -> (Producer<Heap>, Consumer<Heap>) {
    let slots = (0..slots).map(|_| Slot::default()).collect();
    // SAFETY: fresh memory, split once.
    unsafe { split(Heap(Arc::new((RingHeader::starting_at(position), slots)))) }
}

/// The `n`-th message: every byte depends on `n`, so that a torn slot shows.
fn message(n: u64) -> Envelope {
    let half = n as u16;
    Envelope {
        to_key: n,
        from_key: !n,
        hlc: n,
        to_set: half,
        from_set: half,
        kind: half,
        bits: half,
        payload: [n as u8; 32],
    }
}

/// Reads `count` messages in batches of what is there, in place, and gives each batch back after it was read.
fn consume(mut consumer: Consumer<Heap>, count: u64) {
    let mut next = 0;
    while next < count {
        let ready = consumer.poll();
        if ready == 0 {
            thread::yield_now();
            continue;
        }
        for at in 0..ready {
            assert_eq!(*consumer.peek_ref(at), message(next), "C3: whole and in order");
            next += 1;
        }
        consumer.release(ready);
    }
    assert_eq!(consumer.poll(), 0, "nothing beyond what was sent");
}

/// No slot is used twice: only the ordering of the tail matters.
pub fn published_one_by_one() {
    let (mut producer, consumer) = ring(4, 0);
    let reader = thread::spawn(move || consume(consumer, 3));
    for n in 0..3 {
        assert!(producer.push(&message(n)));
        assert!(producer.publish());
    }
    reader.join().expect("the reader");
}

/// Three slots, one store of the tail.
pub fn published_as_one_batch() {
    let (mut producer, mut consumer) = ring(4, 0);
    let reader = thread::spawn(move || {
        let ready = consumer.poll();
        assert!(ready == 0 || ready == 3, "all of a batch or nothing, not {ready}");
        for at in 0..ready {
            assert_eq!(consumer.peek(at), message(u64::from(at)));
        }
        consumer.release(ready);
    });
    for n in 0..3 {
        assert!(producer.push(&message(n)));
    }
    assert!(producer.publish() && !producer.publish());
    reader.join().expect("the reader");
}

/// What the reader reads was published before it started: only the ordering of the head matters.
pub fn slots_are_reused() {
    let (mut producer, mut consumer) = ring(2, 0);
    assert!(producer.push(&message(0)) && producer.push(&message(1)) && !producer.push(&message(2)));
    producer.publish();
    let reader = thread::spawn(move || {
        assert_eq!(consumer.poll(), 2);
        assert_eq!(*consumer.peek_ref(0), message(0));
        consumer.release(1);
        assert_eq!(*consumer.peek_ref(0), message(1));
        consumer.release(1);
    });
    let mut next = 2;
    while next < 4 {
        if producer.push(&message(next)) {
            next += 1;
        } else {
            thread::yield_now();
        }
    }
    reader.join().expect("the reader");
}

/// More messages than slots, published `batch` at a time, at positions that pass 2^32.
pub fn full_and_wrapping(slots: usize, count: u64, batch: u32) {
    let (mut producer, consumer) = ring(slots, u32::MAX - 1);
    let reader = thread::spawn(move || consume(consumer, count));
    let mut next = 0;
    while next < count {
        if producer.push(&message(next)) {
            next += 1;
            if producer.unpublished() == batch {
                producer.publish();
            }
        } else if !producer.publish() {
            thread::yield_now();
        }
    }
    producer.publish();
    reader.join().expect("the reader");
}
