//! More than a thousand random handlers do the same natively, as programs in the interpreter, and as device code compiled for the host:
//! states, sends and faults, bit for bit.
#![allow(missing_docs)]

#[path = "../../../kernels/actors/tests/device_code/compare.rs"]
mod compare;
#[path = "../../../kernels/actors/tests/device_code/host.rs"]
mod host;

use compare::compare;

/// Types per translation unit.
const PART: usize = 8;

#[test]
fn random_handlers_do_the_same_everywhere() {
    let types = ringfleet_program_tests::types();
    let handlers: usize = types.iter().map(|ty| ty.kinds.len()).sum();
    assert!(handlers >= 1_000, "{handlers} handlers");
    let (mut handled, mut failed) = (0, 0);
    std::thread::scope(|scope| {
        let (first, second) = types.chunks(PART).enumerate().partition::<Vec<_>, _>(|(at, _)| at % 2 == 0);
        let run = |parts: Vec<(usize, &[_])>| {
            let done = parts.into_iter().map(|(at, part)| {
                compare(&format!("random_{at}"), part, 60 * part.len(), 7 + at as u64).unwrap_or_default()
            });
            done.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
        };
        let other = scope.spawn(move || run(second));
        let (own, other) = (run(first), other.join().expect("the same"));
        (handled, failed) = (own.0 + other.0, own.1 + other.1);
    });
    println!("{handlers} handlers, {handled} messages handled, {failed} streams ended in a fault");
    // Without a C++ compiler nothing was counted, which is said where that is found out.
    assert!(handled == 0 || handled > 20_000, "most streams end at once: they say too little");
}

/// What the page of the language lists, as it looks in the text of the generator.
const CONSTRUCTS: &[(&str, &[&str])] = &[
    ("integers", &["i8", "i16", "i32", "i64", "isize", "u8", "u16", "u32", "u64", "usize", "u128", "i128"]),
    (
        "floats",
        &["f32", "f64", ".sqrt()", ".floor()", ".round()", ".copysign(", ".is_nan()", "from_bits", ".to_bits()"],
    ),
    ("enums", &["Mode::Busy", "Wind::East", "Why::Storm", "self.mode = ", "self.log[", "m.way", "Self::PAIR.1"]),
    ("structs", &["Seen {", "Pt {", ".modes[", ".at.k", "self.pts[", "self.seen = "]),
    ("tuples", &[": (i32, f64) = ", ".0 ", ", v", "Self::h5("]),
    ("arrays", &[": [u32; 4] = ", "; Self::LEN]", "self.grid[", "Self::ROWS", "; 2])", " = self.modes;"]),
    ("assignment", &[" += ", " -= ", " *= ", " /= ", " %= ", " <<= ", " >>= ", " &= ", " |= ", " ^= "]),
    ("let", &["let mut ", "let (", "let _ = ", "let Some(", ") else { return", "u64;\n", "if let Some("]),
    (
        "match",
        &["1..=5 =>", "0 | 7 =>", "..-3 =>", "-3..=-1 =>", "20.. =>", "FIRST", "Self::LIMIT =>", "true =>", " if "],
    ),
    ("match of tuples", &["(Mode::Idle, 0..=9) =>", "(FIRST | Mode::Lost, ..0) =>", "(Self::START, 7 | 100..) =>"]),
    ("loops", &["while v", "while let Some(", "= loop {", ": loop {", "for v", "in self.tab", "in self.log", "..="]),
    ("ways out of loops", &["break 'l", "continue 'l", "continue;", "break ", "return;", "return "]),
    ("checked_*", &["add", "sub", "mul", "div", "rem", "pow", "shl", "shr", "neg", "abs", "div_euclid", "rem_euclid"]),
    ("wrapping_*", &["wrapping_add", "wrapping_sub", "wrapping_mul", "wrapping_shl", "wrapping_neg", "wrapping_pow"]),
    ("saturating_*", &["saturating_add", "saturating_sub", "saturating_mul", "saturating_neg", "saturating_pow"]),
    ("other methods", &[".min(", ".max(", ".abs()", ".pow(", ".clamp(", ".abs_diff(", ".rotate_left(", ".signum()"]),
    ("bits", &["leading_zeros", "trailing_ones", "count_ones", "swap_bytes", "reverse_bits", "unsigned_abs"]),
    ("conversions", &[" as u8)", " as i128)", " as f32)", "u64::from(", "i128::from(", "unwrap_or("]),
    (
        "helpers",
        &["self.h0(", "Self::h1(", "self.h2(&self.tab", "Self::h3(&mut ", "self.h4(", "Self::h6(", "Self::h7(&self"],
    ),
    ("free functions", &["g0(", "far::g1(&self.tab", "g2(", "far::g3(&v", "g4(", "far::g5(", "g6("]),
    ("constants", &["const LIMIT", "Self::SCALE", "Self::KEY", "STEP", "Self::PAIR.0"]),
    ("math", &["math::exp(", "math::ln(", "math::sin(", "math::cos(", "math::pow("]),
    ("sends", &["ctx.tell(", "ctx.reply(&M", "ctx.reply(&v", "ctx.after(", "::in_set(", ", m);"]),
    (
        "ctx",
        &["ctx.random()", "ctx.random_below(", "ctx.key()", "ctx.now()", "ctx.sender()", "ctx.stop()", "ctx.fail("],
    ),
];

#[test]
fn the_random_handlers_have_everything_that_the_language_has() {
    let text = include_str!(concat!(env!("OUT_DIR"), "/programs.rs"));
    for (of, list) in CONSTRUCTS {
        for needle in *list {
            let needle = if *of == "checked_*" { format!("checked_{needle}(") } else { (*needle).to_owned() };
            let found = text.matches(&needle).count();
            assert!(found >= 5, "{of}: `{needle}` is there {found} times");
        }
    }
}
