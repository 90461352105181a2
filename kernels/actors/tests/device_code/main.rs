//! The shipped actors do the same as native code, as programs in the interpreter, and as device code compiled for the host: bit for
//! bit, on random messages.
#![allow(missing_docs)]

mod compare;
mod graph;
mod host;
#[path = "../schedule/mod.rs"]
mod schedule;

use compare::{Random, compare, compare_streams, stream};
use ringfleet_actor::testing::drive_program;

#[test]
fn shipped_actors_do_the_same_natively_as_programs_and_as_device_code() {
    let types = ringfleet_actors::types();
    if let Some((handled, failed)) = compare("shipped", &types, 1_200, 42) {
        println!("{handled} messages handled, {failed} streams ended in a fault");
        assert!(handled > 5_000 && failed > 50, "{handled} handled, {failed} failed: the streams say too little");
    }
}

/// Random messages fail the actors of `graph` early: these are the messages of a whole computation, with a hub of several blocks.
#[test]
fn the_graph_actors_do_the_same_natively_as_programs_and_as_device_code_in_a_whole_computation() {
    let types = ringfleet_actors::types();
    let streams = graph::streams(&types);
    let messages: usize = streams.iter().map(|stream| stream.envelopes.len()).sum();
    if let Some((handled, failed)) = compare_streams("graph", &types, &streams) {
        println!("{} actors, {handled} messages", streams.len());
        assert_eq!((handled, failed), (messages, 0));
    }
}

#[test]
fn programs_survive_being_sent() {
    for ty in ringfleet_actors::types() {
        let program = ty.program().expect("a shipped type");
        let bytes = program.to_bytes();
        assert_eq!(ringfleet_ir::Program::from_bytes(&bytes).expect("its own bytes"), program);
        assert!(ringfleet_ir::Program::from_bytes(&bytes[..bytes.len() - 1]).is_err());
    }
}

/// A program may come from anywhere: what is broken is refused, and what is not refused runs, and is translated, without a panic.
#[test]
fn broken_programs_are_refused_or_harmless() {
    let mut random = Random(99);
    let (mut refused, mut ran) = (0, 0);
    for ty in ringfleet_actors::types() {
        let good = ty.program().expect("a shipped type").to_bytes();
        for _ in 0..400 {
            let mut bytes = good.clone();
            for _ in 0..=random.below(2) {
                let at = random.below(bytes.len() as u64) as usize;
                match random.below(3) {
                    0 => bytes[at] = random.next() as u8,
                    1 => bytes[at] = bytes[at].wrapping_add(1),
                    _ => bytes[at] ^= 1 << random.below(8),
                }
            }
            let Ok(program) = ringfleet_ir::Program::from_bytes(&bytes) else {
                refused += 1;
                continue;
            };
            let stream = stream(&mut random, 0, ty.kinds);
            let mut state = vec![0; program.initial.len()];
            drive_program(&program, &mut state, &stream.envelopes).expect("it has been verified");
            let _ = ringfleet_ir::cuda::device_code(&program);
            ran += 1;
        }
    }
    assert!(refused > 500 && ran > 50, "{refused} refused, {ran} ran: this says too little");
}
