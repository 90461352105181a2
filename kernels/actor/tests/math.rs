//! `ringfleet::math`: accuracy against the standard library, whose functions are within one unit in the last place here, special values,
//! and the same bits from the native functions and from the program.
#![allow(missing_docs, clippy::float_cmp)]

use ringfleet_abi::{ActorId, Envelope, Flags, SetId};
use ringfleet_actor::prelude::*;
use ringfleet_actor::testing::{StateSlot, drive, drive_program};

#[message]
pub struct Numbers {
    pub x: f64,
    pub y: f64,
}

#[actor(name = "test.math", width = lane)]
#[derive(Default)]
pub struct Functions {
    results: [f64; 5],
}

#[handlers]
impl Functions {
    fn on_numbers(&mut self, m: &Numbers, _ctx: &mut Ctx) {
        self.results[0] = math::exp(m.x);
        self.results[1] = math::ln(m.x);
        self.results[2] = math::sin(m.x);
        self.results[3] = math::cos(m.x);
        self.results[4] = Self::power(m.x, m.y);
    }

    fn power(x: f64, y: f64) -> f64 {
        math::pow(x, y)
    }
}

#[actor(name = "test.sine", width = lane)]
#[derive(Default)]
pub struct Sine {
    result: f64,
}

#[handlers]
impl Sine {
    fn on_numbers(&mut self, m: &Numbers, _ctx: &mut Ctx) {
        self.result = math::sin(m.x);
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// From `low` to `high`.
    fn within(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// How many doubles lie between two: one more than the error in units in the last place.
fn apart(a: f64, b: f64) -> u64 {
    let place = |x: f64| if x.is_sign_negative() { -((x.to_bits() << 1 >> 1) as i64) } else { x.to_bits() as i64 };
    if a.is_nan() && b.is_nan() { 0 } else { place(a).abs_diff(place(b)) }
}

fn close(name: &str, args: &[f64], own: f64, std: f64) {
    assert!(apart(own, std) <= 2, "{name}{args:?} = {own:e}, not {std:e}");
    assert!(!own.is_nan() || own.to_bits() == 0x7ff8_0000_0000_0000);
}

const SPECIAL: [f64; 26] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    2.0,
    -2.0,
    3.0,
    -3.0,
    5e-324,
    -5e-324,
    2.2250738585072014e-308,
    1e-300,
    f64::EPSILON,
    1e300,
    f64::MAX,
    f64::MIN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    709.782712893384,
    -745.1332191019411,
    9007199254740991.0,
    9007199254740992.0,
    -9007199254740993.0,
];

/// Special values and random ones of all sizes.
fn inputs(count: usize) -> Vec<(f64, f64)> {
    let mut random = Random(11);
    let mut all: Vec<(f64, f64)> = SPECIAL.iter().flat_map(|x| SPECIAL.map(|y| (*x, y))).collect();
    all.extend((0..count).map(|at| match at % 4 {
        0 => (f64::from_bits(random.next()), f64::from_bits(random.next())),
        1 => (random.within(0.0, 20.0), random.within(-20.0, 20.0)),
        2 => (random.within(-745.2, 709.9), random.within(0.0, 400.0).floor()),
        _ => (random.within(-1_048_576.0, 1_048_576.0), random.within(-40.0, 40.0)),
    }));
    all
}

#[test]
fn results_are_within_two_units_of_the_standard_library() {
    for (x, y) in inputs(200_000) {
        close("exp", &[x], math::exp(x), x.exp());
        close("ln", &[x], math::ln(x), x.ln());
        close("sin", &[x], math::sin(x), x.sin());
        close("cos", &[x], math::cos(x), x.cos());
        close("pow", &[x, y], math::pow(x, y), x.powf(y));
    }
}

#[test]
fn arguments_close_to_multiples_of_a_right_angle_and_huge_ones_lose_nothing() {
    let mut random = Random(12);
    for at in 0..100_000_u64 {
        let near = (at + 1) as f64 * std::f64::consts::FRAC_PI_2;
        let huge =
            f64::from_bits(random.next() % (0x7ff0_0000_0000_0000 - 0x4130_0000_0000_0000) + 0x4130_0000_0000_0000);
        for x in [near, -near, huge, -huge] {
            close("sin", &[x], math::sin(x), x.sin());
            close("cos", &[x], math::cos(x), x.cos());
        }
    }
    // The double that is closest to a multiple of a right angle (J.-M. Muller, "Elementary Functions"); its cosine by 1,400 bits.
    let closest = 6_381_956_970_095_103.0 * 2.0_f64.powi(797);
    close("cos", &[closest], math::cos(closest), -4.687_165_924_254_628e-19);
}

#[test]
fn special_values_are_defined() {
    assert_eq!(math::exp(f64::NEG_INFINITY), 0.0);
    assert_eq!(math::exp(710.0), f64::INFINITY);
    assert_eq!(math::exp(-745.2), 0.0);
    assert_eq!(math::exp(-745.0), 5e-324);
    assert_eq!(math::ln(0.0), f64::NEG_INFINITY);
    assert_eq!(math::ln(-0.0), f64::NEG_INFINITY);
    assert_eq!(math::ln(1.0).to_bits(), 0);
    assert!(math::ln(-5e-324).is_nan());
    assert_eq!(math::sin(-0.0).to_bits(), (-0.0_f64).to_bits());
    assert!(math::sin(f64::INFINITY).is_nan());
    assert!(math::cos(f64::NEG_INFINITY).is_nan());
    assert_eq!(math::pow(f64::NAN, 0.0), 1.0);
    assert_eq!(math::pow(1.0, f64::NAN), 1.0);
    assert_eq!(math::pow(-1.0, f64::INFINITY), 1.0);
    assert_eq!(math::pow(-0.0, -3.0), f64::NEG_INFINITY);
    assert_eq!(math::pow(-2.0, 3.0), -8.0);
    assert!(math::pow(-2.0, 0.5).is_nan());
    assert_eq!(math::pow(10.0, 22.0), 1e22);
}

#[test]
fn a_program_gives_the_same_bits() {
    let ty = <Functions as ringfleet_actor::Behaviour>::DESCRIPTOR;
    let program = ty.program().expect("the functions are in the language");
    for (x, y) in inputs(2_000) {
        let body = [x.to_le_bytes(), y.to_le_bytes()].concat();
        let from = ActorId::new(SetId(9), 1);
        let to = ActorId::new(SetId(3), 77);
        let message = [Envelope::new(from, to, ty.kinds[0].kind, Flags::NONE, &body).expect("it fits")];
        let (mut native, mut interpreted) = (StateSlot::new(ty), StateSlot::new(ty));
        let effects = drive(ty, native.bytes_mut(), &message);
        assert_eq!(effects.failed, None, "{x:e} {y:e}");
        assert_eq!(drive_program(&program, interpreted.bytes_mut(), &message).expect("verified"), effects);
        assert_eq!(native.bytes(), interpreted.bytes(), "{x:e} {y:e}");
    }
}

#[test]
fn a_program_has_the_functions_that_it_calls_and_no_others() {
    let names = |ty: &ringfleet_actor::TypeDescriptor| -> Vec<String> {
        ty.program().expect("a program").functions.into_iter().map(|function| function.name).collect()
    };
    let sine = names(<Sine as ringfleet_actor::Behaviour>::DESCRIPTOR);
    assert!(sine.iter().any(|name| name == "math::reduced_large"), "{sine:?}");
    for other in ["exp", "ln", "cos", "pow", "exp_of_sum"] {
        assert!(!sine.contains(&format!("math::{other}")), "{sine:?}");
    }
}
