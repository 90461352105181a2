//! An actor that calls every function of `ringfleet::math`.

use ringfleet_abi::{ActorId, Envelope, Flags, SetId};
use ringfleet_actor::prelude::*;
use ringfleet_actor::{Behaviour, TypeDescriptor};

use crate::compare::Random;
use crate::host::Stream;

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
        self.results[4] = math::pow(m.x, m.y);
    }
}

pub fn types() -> Vec<&'static TypeDescriptor> {
    types![Functions]
}

/// One message each: random bits, numbers of everyday size, large angles, and special values.
pub fn streams(count: usize) -> Vec<Stream> {
    const SPECIAL: [f64; 8] = [0.0, -0.0, 1.0, -1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 5e-324];
    let mut random = Random(5);
    let mut number = |at: usize| match at % 4 {
        0 => f64::from_bits(random.next()),
        1 => random.below(1 << 53) as f64 / (1_u64 << 47) as f64 - 32.0,
        2 => random.below(1 << 53) as f64 / (1_u64 << 33) as f64,
        _ => SPECIAL[random.below(8) as usize],
    };
    let kind = <Functions as Behaviour>::DESCRIPTOR.kinds[0].kind;
    let mut one = |at: usize| {
        let body = [number(at).to_le_bytes(), number(at / 4).to_le_bytes()].concat();
        let (from, to) = (ActorId::new(SetId(9), 1), ActorId::new(SetId(3), 77));
        let envelope = Envelope::new(from, to, kind, Flags::NONE, &body).expect("it fits");
        Stream { ty: 0, envelopes: vec![envelope] }
    };
    (0..count).map(&mut one).collect()
}
