//! The shipped actors do the same as native code, as programs in the interpreter, and as device code compiled for the host: bit for
//! bit, on random messages.
#![allow(missing_docs)]

mod compare;
mod enums;
mod functions;
mod graph;
mod host;
mod math;
#[path = "../schedule/mod.rs"]
mod schedule;
mod txmon;

use compare::{Random, compare, compare_streams, stream};
use ringfleet_actor::Fault;
use ringfleet_actor::prelude::*;
use ringfleet_actor::testing::{StateSlot, drive_program};

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

/// Asks for numbers.
#[message]
pub struct Throw {
    pub sides: u64,
    pub times: u32,
    pub at: u32,
}
#[message]
pub struct Thrown {
    pub any: u64,
    pub side: u64,
    pub sum: u64,
}

/// Draws random numbers wherever an expression may stand.
#[actor(name = "test.dice", max_sends = 4)]
#[derive(Default)]
pub struct Dice {
    sum: u64,
    faces: [u64; 6],
    last: u64,
}

#[handlers]
impl Dice {
    fn on_throw(&mut self, m: &Throw, ctx: &mut Ctx) {
        for _ in 0..m.times % 8 {
            self.faces[ctx.random_below(6) as usize] += 1;
            self.sum = self.sum.wrapping_add(ctx.random() ^ (ctx.random() >> 1));
        }
        if ctx.random() % 3 == 0 {
            ctx.random();
        }
        self.last = self.pick(ctx);
        ctx.reply(&Thrown { any: ctx.random(), side: ctx.random_below(m.sides % 40), sum: self.sum });
        let times = ctx.random_below(ctx.random()) as u32;
        ctx.after(ctx.random_below(1000) as u32, &Throw { sides: ctx.random(), times: times, at: ctx.random() as u32 });
    }

    fn pick(&mut self, ctx: &mut Ctx) -> u64 {
        match ctx.random_below(4) {
            0 => ctx.random(),
            1 | 2 => ctx.random_below(10),
            _ => 7,
        }
    }
}

#[test]
fn random_numbers_are_the_same_natively_as_programs_and_as_device_code() {
    if let Some((handled, failed)) = compare("random", &ringfleet_actor::types![Dice], 200, 7) {
        println!("{handled} messages handled, {failed} streams ended in a fault");
        assert!(handled > 1_000 && failed > 5, "{handled} handled, {failed} failed: the streams say too little");
    }
}

#[test]
fn the_generator_of_device_code_gives_the_known_answers_of_random123() {
    let main = r#"
        #include <cstdio>
        int main() {
            u32 tests[3][6] = {{0, 0, 0, 0, 0, 0},
                               {~0u, ~0u, ~0u, ~0u, ~0u, ~0u},
                               {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0}};
            for (auto &t : tests) {
                u32 counter[4] = {t[0], t[1], t[2], t[3]};
                philox(counter, t[4], t[5]);
                for (u32 word : counter) std::printf("%08x ", word);
            }
        }"#;
    let Some(binary) = host::compile_text("philox", &format!("#include \"ctx.cuh\"\n{main}")) else { return };
    let output = std::process::Command::new(binary).output().expect("the program starts");
    let answers =
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8 408f276d 41c83b0e a20bc7c6 6d5451fd d16cfe09 94fdcceb 5001e420 24126ea1 ";
    assert_eq!(String::from_utf8_lossy(&output.stdout), answers);
}

/// Random messages seldom make an alert: these are a month of transactions, with launderers of every pattern.
#[test]
fn the_txmon_actors_do_the_same_natively_as_programs_and_as_device_code_in_a_whole_month() {
    let types = ringfleet_actors::types();
    let streams = txmon::streams(&types);
    let messages: usize = streams.iter().map(|stream| stream.envelopes.len()).sum();
    if let Some((handled, failed)) = compare_streams("txmon", &types, &streams) {
        println!("{} actors, {handled} messages", streams.len());
        assert_eq!((handled, failed), (messages, 0));
    }
}

#[test]
fn enums_do_the_same_natively_as_programs_and_as_device_code() {
    let streams = enums::streams(&mut Random(5), 400);
    let messages: usize = streams.iter().map(|stream| stream.envelopes.len()).sum();
    if let Some((handled, failed)) = compare_streams("enums", &enums::types(), &streams) {
        println!("{messages} messages, {handled} handled");
        assert_eq!(failed, 0);
        assert!(handled < messages && handled * 10 > messages * 8, "{handled} of {messages}: some were to be refused");
    }
}

#[test]
fn free_functions_do_the_same_natively_as_programs_and_as_device_code() {
    if let Some((handled, failed)) = compare("functions", &functions::types(), 300, 11) {
        println!("{handled} messages handled, {failed} streams ended in a fault");
        assert!(handled > 1_000 && failed > 100, "{handled} handled, {failed} failed: the streams say too little");
    }
}

#[test]
fn a_program_has_every_free_function_that_it_calls_once_with_its_file() {
    let program = functions::types()[0].program().expect("a program");
    let functions: Vec<(&str, &str)> =
        program.functions.iter().map(|function| (function.name.as_str(), function.file.as_str())).collect();
    let (here, there) = ("kernels/actors/tests/device_code/functions.rs", "kernels/actors/src/graph/mod.rs");
    for (name, file) in [
        ("on_go", ""),
        ("walked", ""),
        ("steps", here),
        ("distance", here),
        ("size", here),
        ("turned", here),
        ("angle", here),
        ("drawn", here),
        ("pair", here),
        ("handed_on", there),
    ] {
        let found: Vec<_> = functions.iter().filter(|(known, _)| *known == name).collect();
        assert_eq!(found, [&(name, file)]);
    }
    assert_eq!(functions.iter().filter(|(name, _)| *name == "math::reduced").count(), 1, "{functions:?}");
    let text = ringfleet_ir::cuda::device_code(&program).expect("device code").text;
    let line =
        include_str!("../../src/graph/mod.rs").lines().position(|line| line.contains("rank / 100 *")).expect("it");
    assert!(text.contains(&format!("#line {} \"{there}\"", line + 1)), "{text}");
}

/// rustc refuses free functions that call each other; a program may come from anywhere.
#[test]
fn a_program_whose_functions_call_each_other_is_refused() {
    let program = functions::types()[0].program().expect("a program");
    let at = |name: &str| program.functions.iter().position(|function| function.name == name).expect("it is there");
    let (caller, callee) = (at("distance"), at("size"));
    let mut cyclic = program.clone();
    let call = program.functions[caller].blocks.iter().flatten().find(|stmt| {
        matches!(stmt.kind, ringfleet_ir::program::StmtKind::Call { function, .. } if function as usize == callee)
    });
    let mut call = call.expect("`distance` calls `size`").clone();
    if let ringfleet_ir::program::StmtKind::Call { function, args, to } = &mut call.kind {
        let arg = ringfleet_ir::program::Arg::Value(ringfleet_ir::program::Operand::Local(0));
        (*function, *args, *to) = (callee as u32, vec![arg], Some(0));
    }
    cyclic.functions[callee].blocks[0].insert(0, call);
    let error = ringfleet_ir::verify::verify(&cyclic).expect_err("refused");
    assert_eq!(error.text, "`size` calls itself");
}

#[test]
fn a_free_function_can_be_run_by_itself() {
    use functions::geometry::{Point, distance, steps};
    let mut at = Point { x: 3, y: -4 };
    assert_eq!(distance(at, &Point { x: 0, y: 0 }).run(), Ok(7));
    assert_eq!((steps(&mut at, 100).run(), at), (Ok(7), Point { x: 0, y: 0 }));
    assert_eq!(distance(Point { x: i32::MIN, y: 0 }, &Point { x: 1, y: 0 }).run(), Err(Fault::Overflow));
    let mut far = Point { x: i32::MAX, y: 0 };
    assert_eq!(steps(&mut far, u32::MAX).run(), Err(Fault::OutOfFuel));
    assert_eq!(far.x, i32::MAX - ringfleet_actor::FUEL_PER_MESSAGE as i32, "the fuel of one message");
}

/// Handlers cannot write the number of no variant into a state. One that is there all the same fails the actor, on every side.
#[test]
fn a_state_with_the_number_of_no_variant_is_refused_by_programs_and_device_code() {
    let ty = enums::types()[0];
    let program = ty.program().expect("a program");
    let envelope = enums::streams(&mut Random(6), 1).remove(0).envelopes.remove(0);
    let initial = StateSlot::new(ty);
    let damaged = (0..ty.state_bytes).filter(|at| {
        let mut slot = initial.clone();
        slot.bytes_mut()[*at] = 7;
        let effects = drive_program(&program, slot.bytes_mut(), &[envelope]).expect("verified");
        effects.failed == Some((0, Fault::OutOfBounds))
    });
    assert_eq!(damaged.collect::<Vec<_>>(), (8..8 + 8 + 5).collect::<Vec<_>>());
    let text = ringfleet_ir::cuda::device_code(&program).expect("device code").text;
    assert!(text.contains("(state.own)) return FAULT_OUT_OF_BOUNDS;"), "{text}");
}

/// Doubles of all sizes and kinds, and none of their bits may differ.
#[test]
fn transcendental_functions_do_the_same_natively_as_programs_and_as_device_code() {
    let types = math::types();
    let streams = math::streams(4_000);
    if let Some((handled, failed)) = compare_streams("math", &types, &streams) {
        assert_eq!((handled, failed), (4_000, 0));
    }
}

#[test]
fn programs_survive_being_sent() {
    for ty in ringfleet_actors::types().into_iter().chain(enums::types()).chain(functions::types()) {
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
    for ty in ringfleet_actors::types().into_iter().chain(enums::types()).chain(functions::types()) {
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
