//! The same text as a handler and as plain Rust: where plain Rust gives a value the handler gives it too, where plain Rust
//! panics (with overflow checks) the handler faults.
#![allow(missing_docs)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;
use ringfleet_actor::testing::{self, StateSlot, drive};
use ringfleet_actor::{ActorId, Behaviour, SetId, message};

#[message]
#[derive(Debug, PartialEq)]
pub struct Run {
    pub a: i64,
    pub b: i64,
    pub n: u32,
    pub pick: u32,
}

#[message]
#[derive(Debug, PartialEq)]
pub struct Ran {
    pub value: i64,
    pub trail: u64,
}

macro_rules! both {
    ($($text:tt)*) => {
        mod checked {
            use super::{Ran, Run};
            use ringfleet_actor::prelude::*;

            #[actor(name = "both", width = lane)]
            #[derive(Debug, Default, PartialEq)]
            pub struct Both {
                pub sum: i64,
                pub table: [u32; 8],
                pub grid: [[i16; 4]; 4],
            }

            #[handlers]
            impl Both { $($text)* }
        }

        mod plain {
            use super::{Ran, Run};

            #[derive(Debug, Default, PartialEq)]
            pub struct Both {
                pub sum: i64,
                pub table: [u32; 8],
                pub grid: [[i16; 4]; 4],
            }

            #[derive(Default)]
            pub struct Ctx {
                pub replies: Vec<Ran>,
            }

            impl Ctx {
                pub fn reply(&mut self, ran: &Ran) {
                    self.replies.push(*ran);
                }
                pub fn fail(&mut self, code: u16) -> ! {
                    panic!("user {code}")
                }
            }

            #[allow(dead_code, clippy::manual_unwrap_or)]
            impl Both { pub $($text)* }
        }
    };
}

both! {
    fn on_run(&mut self, m: &Run, ctx: &mut Ctx) {
        let value = match m.pick {
            0 => m.a + m.b * 3 - 1,
            1 => m.a / m.b + m.a % (m.b - 1),
            2 => (m.a << (m.n % 70)) ^ (m.b >> m.n),
            3 => self.shuffle(m.n),
            4 if m.a > m.b => Self::collatz(m.a),
            4 => Self::collatz(m.b),
            5..=6 => {
                let mut acc = m.a;
                'outer: for i in 0..m.n as usize {
                    for j in 0..=3usize {
                        if i + j > 9 {
                            break 'outer;
                        }
                        self.grid[i % 4][j] += acc as i16;
                        acc -= self.grid[i][j] as i64 * m.b;
                        if acc % 7 == 0 {
                            continue 'outer;
                        }
                    }
                }
                acc
            }
            7 => {
                let Some(x) = m.a.checked_mul(m.b) else { ctx.fail(3) };
                if let Some(y) = x.checked_add(1) { y } else { -1 }
            }
            8 => {
                let (low, high) = (m.a.min(m.b), m.a.max(m.b));
                let mut best = low;
                while best < high && best < low.saturating_add(50) {
                    best += 1 + (m.n as i64).rem_euclid(3);
                }
                -best
            }
            9 => {
                let f = m.a as f64 / m.b as f64 * 1.5 - m.n as f64;
                f as i64
            }
            10 => (m.a as u8 as i8 as i64).abs().pow(m.n % 5) + m.b.unsigned_abs() as i64,
            _ => {
                self.sum |= m.a;
                self.sum &= !m.b;
                self.table[m.n as usize & 7] ^= m.a as u32;
                self.table[self.table[0] as usize % 8] = self.table[1].rotate_left(3);
                m.a.clamp(m.b, 100)
            }
        };
        self.sum += value;
        let trail = self.trail();
        ctx.reply(&Ran { value, trail });
    }

    fn shuffle(&mut self, n: u32) -> i64 {
        let mut i = 0;
        let mut steps = 0;
        loop {
            if steps == n % 100 {
                break;
            }
            let next = (i * 5 + 3) % 8;
            let kept = self.table[i];
            self.table[i] = self.table[next] + n;
            self.table[next] = kept - steps / 2;
            i = next;
            steps += 1;
        }
        i as i64
    }

    fn collatz(start: i64) -> i64 {
        let mut x = start.abs() % 1000 + 1;
        let mut steps = 0;
        while x != 1 {
            x = if x % 2 == 0 { x / 2 } else { 3 * x + 1 };
            steps += 1;
        }
        steps
    }

    fn trail(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for x in self.table {
            hash = (hash ^ x as u64).wrapping_mul(0x100_0000_01b3);
        }
        for row in self.grid {
            for x in row {
                hash = (hash ^ x as u16 as u64).wrapping_mul(0x100_0000_01b3);
            }
        }
        hash
    }
}

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => -20i64..20,
        2 => any::<i32>().prop_map(i64::from),
        1 => any::<i64>(),
        1 => prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(-1), Just(0)],
    ]
}

fn runs() -> impl Strategy<Value = Vec<Run>> {
    let run = (number(), number(), prop_oneof![0u32..12, 0u32..80, any::<u32>()], 0u32..12)
        .prop_map(|(a, b, n, pick)| Run { a, b, n, pick });
    prop::collection::vec(run, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_handler_is_plain_rust_that_cannot_panic(runs in runs()) {
        if !overflow_checks() {
            // Plain Rust wraps in this build: there is nothing to compare with.
            return Ok(());
        }
        std::panic::set_hook(Box::new(|_| {}));
        let mut plain = plain::Both::default();
        let mut ctx = plain::Ctx::default();
        let mut panicked_at = None;
        for (at, run) in runs.iter().enumerate() {
            if catch_unwind(AssertUnwindSafe(|| plain.on_run(run, &mut ctx))).is_err() {
                panicked_at = Some(at);
                break;
            }
        }
        let _ = std::panic::take_hook();

        let ty = checked::Both::DESCRIPTOR;
        let to = ActorId::new(SetId(1), 1);
        let envelopes: Vec<_> = runs.iter().map(|run| testing::ask(to, run)).collect();
        let mut state = StateSlot::new(ty);
        let effects = drive(ty, state.bytes_mut(), &envelopes);

        prop_assert_eq!(effects.failed.map(|(at, _)| at), panicked_at, "{:?}", effects.failed);
        prop_assert_eq!(effects.sent::<Ran>(), ctx.replies);
        let state: checked::Both = state.read();
        // Even after a failure: both stopped at the same operation.
        prop_assert_eq!((state.sum, state.table, state.grid), (plain.sum, plain.table, plain.grid));

        // The program of the handlers does the same, with the same faults.
        let program = ty.program().expect("the subset has programs");
        let mut other = StateSlot::new(ty);
        let by_program = testing::drive_program(&program, other.bytes_mut(), &envelopes).expect("verified");
        prop_assert_eq!(by_program, effects);
        prop_assert_eq!(other.read::<checked::Both>(), state);
    }
}

fn overflow_checks() -> bool {
    catch_unwind(|| std::hint::black_box(i32::MAX) + std::hint::black_box(1)).is_err()
}

/// Otherwise the comparison above compares nothing.
#[cfg(debug_assertions)]
#[test]
fn plain_rust_panics_on_overflow_in_this_build() {
    assert!(overflow_checks());
}
