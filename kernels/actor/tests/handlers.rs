//! What handlers do: faults, fuel, sends, replies, timers, descriptors.
// Users may forbid unsafe code: what the macros emit does not stand in their way.
#![forbid(unsafe_code)]
#![allow(missing_docs)]

use ringfleet_abi::Draws;
use ringfleet_actor::prelude::*;
use ringfleet_actor::testing::{self, Effects, StateSlot, drive};
use ringfleet_actor::{
    ActorId, Behaviour, Envelope, FUEL_PER_MESSAGE, Fault, FieldType, Flags, Hlc, SendBuffer, SetId, Target,
    TypeRegistryError,
};

const ME: ActorId = ActorId::new(SetId(3), 77);

fn run<A: Behaviour>(envelopes: &[Envelope]) -> (A, Effects) {
    let mut state = StateSlot::new(A::DESCRIPTOR);
    let effects = drive(A::DESCRIPTOR, state.bytes_mut(), envelopes);
    (state.read(), effects)
}

fn fault_of<A: Behaviour>(envelope: Envelope) -> Option<Fault> {
    let (_, effects) = run::<A>(&[envelope]);
    assert!(effects.sends.is_empty(), "a failed handling sends nothing");
    effects.failed.map(|(_, fault)| fault)
}

#[message]
pub struct Do {
    pub what: u32,
    pub a: i32,
    pub b: i32,
}

#[message]
#[derive(Debug, PartialEq)]
pub struct Done {
    pub value: i64,
}

#[plain]
#[derive(Debug, Default, PartialEq)]
pub struct Point {
    pub x: f32,
    pub y: f32,
}

#[actor(name = "test.machine", width = lane)]
#[derive(Debug)]
pub struct Machine {
    value: i64,
    rows: [[u16; 4]; 2],
    points: [Point; 2],
    small: i8,
    _pad: [u8; 7],
}

impl Default for Machine {
    fn default() -> Self {
        Self { value: 0, rows: [[1; 4]; 2], points: [Point::default(); 2], small: 0, _pad: [0; 7] }
    }
}

#[handlers]
impl Machine {
    const ADD: u32 = 0;
    const SUB: u32 = 1;
    const MUL: u32 = 2;
    const DIV: u32 = 3;
    const REM: u32 = 4;
    const SHL: u32 = 5;
    const SHR: u32 = 6;
    const NEG: u32 = 7;
    const INDEX: u32 = 8;
    const STORE: u32 = 9;
    const ABS: u32 = 10;
    const POW: u32 = 11;
    const CLAMP: u32 = 12;
    const USER: u32 = 13;
    const FOREVER: u32 = 14;
    const COUNT: u32 = 15;
    const SMALL: u32 = 16;
    const CAST: u32 = 17;
    const POINTS: u32 = 18;
    const HELPERS: u32 = 19;

    fn on_do(&mut self, m: &Do, ctx: &mut Ctx) {
        let value = match m.what {
            Self::ADD => m.a + m.b,
            Self::SUB => m.a - m.b,
            Self::MUL => m.a * m.b,
            Self::DIV => m.a / m.b,
            Self::REM => m.a % m.b,
            Self::SHL => m.a << m.b,
            Self::SHR => m.a >> m.b,
            Self::NEG => -m.a,
            Self::INDEX => self.rows[m.a as usize][m.b as usize] as i32,
            Self::STORE => {
                self.rows[m.a as usize][m.b as usize] += 41;
                self.rows[m.a as usize][m.b as usize] as i32
            }
            Self::ABS => m.a.abs(),
            Self::POW => m.a.pow(m.b as u32),
            Self::CLAMP => m.a.clamp(m.b, 10),
            Self::USER => ctx.fail(m.a as u16),
            Self::FOREVER => loop {
                self.value = self.value.wrapping_add(1);
            },
            Self::COUNT => {
                let mut n = 0;
                for _ in 0..m.a {
                    n += 1;
                }
                n
            }
            Self::SMALL => {
                self.small += m.a as i8;
                self.small as i32
            }
            Self::CAST => (m.a as f32 * 1e20) as i32 + (m.b as u8) as i32,
            Self::POINTS => {
                self.points[1].x += 1.5;
                self.points[0] = self.points[1];
                let mut sum = 0.0;
                for p in self.points {
                    sum += p.x;
                }
                sum as i32
            }
            Self::HELPERS => {
                let mut total = 10;
                self.bump(&mut total, m.a);
                Self::twice(total) + self.first(&self.rows)
            }
            _ => return,
        };
        self.value = value as i64;
        ctx.reply(&Done { value: self.value })
    }

    fn bump(&self, total: &mut i32, by: i32) {
        *total += by;
    }

    fn twice(x: i32) -> i32 {
        if x > 1000 {
            return 0;
        }
        2 * x
    }

    fn first(&self, rows: &[[u16; 4]; 2]) -> i32 {
        rows[0][0] as i32
    }
}

fn machine(what: u32, a: i32, b: i32) -> Result<i64, Fault> {
    let ask = testing::ask(ME, &Do { what, a, b });
    let (_, effects) = run::<Machine>(&[ask]);
    match effects.failed {
        Some((_, fault)) => Err(fault),
        None => Ok(effects.sent::<Done>()[0].value),
    }
}

#[test]
fn every_operation_has_its_fault() {
    assert_eq!(machine(Machine::ADD, i32::MAX, 1), Err(Fault::Overflow));
    assert_eq!(machine(Machine::ADD, i32::MAX, 0), Ok(i32::MAX.into()));
    assert_eq!(machine(Machine::SUB, i32::MIN, 1), Err(Fault::Overflow));
    assert_eq!(machine(Machine::MUL, 1 << 16, 1 << 16), Err(Fault::Overflow));
    assert_eq!(machine(Machine::DIV, 1, 0), Err(Fault::DivideByZero));
    assert_eq!(machine(Machine::DIV, i32::MIN, -1), Err(Fault::Overflow));
    assert_eq!(machine(Machine::REM, 1, 0), Err(Fault::DivideByZero));
    assert_eq!(machine(Machine::REM, i32::MIN, -1), Err(Fault::Overflow));
    assert_eq!(machine(Machine::SHL, 1, 32), Err(Fault::Overflow));
    assert_eq!(machine(Machine::SHL, 1, -1), Err(Fault::Overflow));
    assert_eq!(machine(Machine::SHL, 3, 31), Ok(i32::MIN.into()));
    assert_eq!(machine(Machine::SHR, -8, 2), Ok(-2));
    assert_eq!(machine(Machine::SHR, -8, 32), Err(Fault::Overflow));
    assert_eq!(machine(Machine::NEG, i32::MIN, 0), Err(Fault::Overflow));
    assert_eq!(machine(Machine::NEG, 5, 0), Ok(-5));
    assert_eq!(machine(Machine::INDEX, 1, 3), Ok(1));
    assert_eq!(machine(Machine::INDEX, 2, 0), Err(Fault::OutOfBounds));
    assert_eq!(machine(Machine::INDEX, 0, -1), Err(Fault::OutOfBounds));
    assert_eq!(machine(Machine::STORE, 1, 3), Ok(42));
    assert_eq!(machine(Machine::STORE, 1, 4), Err(Fault::OutOfBounds));
    assert_eq!(machine(Machine::ABS, i32::MIN, 0), Err(Fault::Overflow));
    assert_eq!(machine(Machine::POW, 2, 31), Err(Fault::Overflow));
    assert_eq!(machine(Machine::CLAMP, 5, 11), Err(Fault::OutOfBounds));
    assert_eq!(machine(Machine::CLAMP, 50, 1), Ok(10));
    assert_eq!(machine(Machine::USER, 7, 0), Err(Fault::User(7)));
    assert_eq!(machine(Machine::SMALL, 127, 0), Ok(127));
}

#[test]
fn casts_saturate_from_floats_and_truncate_between_integers_as_in_rust() {
    assert_eq!(machine(Machine::CAST, -3, 300), Ok(i64::from(i32::MIN) + 44));
    assert_eq!(machine(Machine::CAST, 3, 1), Err(Fault::Overflow));
}

#[test]
fn structs_arrays_and_helpers_work_in_place() {
    assert_eq!(machine(Machine::POINTS, 0, 0), Ok(3));
    assert_eq!(machine(Machine::HELPERS, 5, 0), Ok(31));
    let (state, _) = run::<Machine>(&[testing::tell(ME, &Do { what: Machine::POINTS, a: 0, b: 0 })]);
    assert_eq!(state.points, [Point { x: 1.5, y: 0.0 }; 2]);
}

#[test]
fn loops_end_when_the_fuel_does() {
    assert_eq!(machine(Machine::FOREVER, 0, 0), Err(Fault::OutOfFuel));
    assert_eq!(machine(Machine::COUNT, FUEL_PER_MESSAGE as i32, 0), Ok(FUEL_PER_MESSAGE.into()));
    assert_eq!(machine(Machine::COUNT, FUEL_PER_MESSAGE as i32 + 1, 0), Err(Fault::OutOfFuel));
}

#[test]
fn messages_that_no_handler_takes_leave_the_actor_as_it_was() {
    let good = testing::tell(ME, &Do { what: Machine::SMALL, a: 1, b: 0 });
    let mut wrong_kind = good;
    wrong_kind.kind = wrong_kind.kind.wrapping_add(1);
    let mut wrong_length = good;
    wrong_length.bits = 11;
    let (state, effects) = run::<Machine>(&[wrong_kind, good, wrong_length, good]);
    assert_eq!((effects.refused, effects.handled, effects.failed), (2, 2, None));
    assert_eq!(state.small, 2);
}

#[message]
pub struct Fan {
    pub count: u32,
    pub delay_ms: u32,
}

#[message]
#[derive(Debug, PartialEq)]
pub struct Seen {
    pub key: u64,
    pub sender_key: u64,
    pub wall_ms: u64,
    pub sender_set: u16,
    pub _pad: [u8; 6],
}

#[message]
pub struct Stop {}

#[message]
pub struct Look;

#[actor(name = "test.fan", width = lane, max_sends = 3, init = zero)]
pub struct Fanout {
    seen: u64,
}

#[handlers]
impl Fanout {
    fn on_fan(&mut self, m: &Fan, ctx: &mut Ctx) {
        self.seen += 1;
        for i in 0..m.count {
            self.send_one(i, m.delay_ms, ctx);
        }
    }

    fn send_one(&self, i: u32, delay_ms: u32, ctx: &mut Ctx) {
        match i % 3 {
            0 => ctx.tell(Fanout::at(i as u64), &Look),
            1 => ctx.tell(Fanout::in_set("other.set", 5), &Look),
            _ => ctx.after(delay_ms, &Stop {}),
        }
    }

    fn on_look(&mut self, _m: &Look, ctx: &mut Ctx) {
        let seen = Seen {
            key: ctx.key(),
            sender_key: ctx.sender().key,
            wall_ms: ctx.now().wall_ms(),
            sender_set: ctx.sender().set.0,
            _pad: [0; 6],
        };
        ctx.reply(&seen);
    }

    fn on_stop(&mut self, m: &Stop, ctx: &mut Ctx) {
        ctx.stop();
        ctx.reply(m)
    }
}

#[test]
fn sends_are_kept_in_order_stamped_and_addressed() {
    let (_, effects) = run::<Fanout>(&[testing::tell(ME, &Fan { count: 3, delay_ms: 9 })]);
    let targets: Vec<Target> = effects.sends.iter().map(|(target, _)| *target).collect();
    let tag = |name: &str| ringfleet_abi::hash::fnv1a32(name.as_bytes());
    assert_eq!(targets, [Target::Tag(tag("test.fan")), Target::Tag(tag("other.set")), Target::Timer { delay_ms: 9 }]);
    for (k, (_, envelope)) in effects.sends.iter().enumerate() {
        assert_eq!(envelope.stamp(), Hlc::from_wall_ms(1).plus(k as u64 + 1), "the k-th send is stamped handling + k");
        assert_eq!((envelope.from(), envelope.flags()), (ME, Flags::NONE));
    }
    assert_eq!(effects.sends[1].1.to_key, 5);
    assert_eq!(effects.sends[2].1.to(), ME, "a timer is a tell to oneself");
}

#[test]
fn one_send_more_than_declared_fails_the_actor_and_nothing_leaves() {
    let fan = |count, delay_ms| testing::tell(ME, &Fan { count, delay_ms });
    assert_eq!(run::<Fanout>(&[fan(3, 0)]).1.sends.len(), 3);
    assert_eq!(fault_of::<Fanout>(fan(4, 0)), Some(Fault::TooManySends));
    assert_eq!(fault_of::<Fanout>(fan(3, u32::MAX)), Some(Fault::DelayTooLong));
}

#[test]
fn a_reply_answers_the_asker_and_a_teller_alike() {
    let ask = testing::ask(ME, &Look);
    let mut tell = testing::tell(ME, &Look);
    (tell.from_set, tell.from_key) = (9, 1234);
    let (_, effects) = run::<Fanout>(&[ask, tell]);
    let (asked, told) = (&effects.sends[0], &effects.sends[1]);
    assert_eq!((asked.0, asked.1.to(), asked.1.flags()), (Target::Set(SetId::CLIENT), ask.from(), Flags::REPLY));
    assert_eq!((told.0, told.1.to(), told.1.flags()), (Target::Set(SetId(9)), tell.from(), Flags::NONE));
    let seen = Seen { key: 77, sender_key: 1234, wall_ms: 2, sender_set: 9, _pad: [0; 6] };
    assert_eq!(effects.sent::<Seen>()[1], seen);
}

#[test]
fn stop_ends_the_actor_after_its_sends() {
    let (_, effects) = run::<Fanout>(&[testing::tell(ME, &Stop {}), testing::tell(ME, &Look)]);
    assert!(effects.stopped);
    assert_eq!((effects.handled, effects.sends.len()), (1, 1));
}

#[test]
fn the_trace_flag_goes_on_with_what_a_traced_message_causes() {
    let mut traced = testing::tell(ME, &Fan { count: 1, delay_ms: 0 });
    traced.set_flags(Flags::TRACE);
    let (_, effects) = run::<Fanout>(&[traced]);
    assert_eq!(effects.sends[0].1.flags(), Flags::TRACE);
}

#[test]
fn a_send_buffer_is_forgotten_by_the_next_handling() {
    let (mut sends, mut draws) = (SendBuffer::new(), Draws::default());
    let mut state = StateSlot::new(Fanout::DESCRIPTOR);
    for count in [3, 1] {
        let envelope = testing::tell(ME, &Fan { count, delay_ms: 0 });
        let mut ctx = Ctx::new(ME, &envelope, Hlc::from_wall_ms(1), &mut sends, &mut draws);
        (Fanout::DESCRIPTOR.handle)(state.bytes_mut(), &envelope, &mut ctx).expect("within the bound");
    }
    assert_eq!(sends.len(), 1);
    assert_eq!(state.read::<Fanout>().seen, 2);
}

#[test]
fn descriptors_say_what_the_text_says() {
    let ty = Machine::DESCRIPTOR;
    assert_eq!((ty.name, ty.state_bytes, ty.max_sends), ("test.machine", 48, 8));
    assert_eq!(
        ty.state.iter().map(|f| (f.name, f.offset)).collect::<Vec<_>>(),
        [("value", 0), ("rows", 8), ("points", 24), ("small", 40), ("_pad", 41)]
    );
    assert_eq!(ty.state[1].ty.to_string(), "[[u16; 4]; 2]");
    let done = ty.kind(Done::KIND).expect("a reply");
    assert_eq!((done.name, done.bytes, done.fields[0].ty), ("Done", 8, FieldType::I64));
    assert_eq!(ty.kind_by_name("Do").expect("handled").kind, ringfleet_abi::hash::fnv1a16(b"Do"));
    assert_eq!(Fanout::DESCRIPTOR.sends.iter().map(|kind| kind.name).collect::<Vec<_>>(), ["Look", "Stop", "Seen"]);
    assert_eq!(Fanout::DESCRIPTOR.kinds.len(), 3);
}

#[test]
fn a_registry_finds_types_and_refuses_two_of_one_name() {
    let registry = TypeRegistry::new(types![Machine, Fanout]).expect("two names");
    assert_eq!(registry.by_name("test.fan").expect("known").state_bytes, 8);
    assert!(registry.by_name("test.fun").is_none());
    let error = TypeRegistry::new(types![Machine, Machine]).expect_err("one name twice");
    assert_eq!(error, TypeRegistryError::DuplicateName { name: "test.machine" });
}

#[actor(name = "test.stateless")]
#[derive(Default)]
pub struct Stateless {}

#[handlers]
impl Stateless {
    fn on_look(&mut self, m: &Look, ctx: &mut Ctx) {
        ctx.after(1, m);
        ctx.reply(&Done { value: ctx.key() as i64 })
    }
}

#[test]
fn an_actor_may_have_no_state() {
    let (_, effects) = run::<Stateless>(&[testing::ask(ME, &Look)]);
    assert_eq!(Stateless::DESCRIPTOR.state_bytes, 0);
    assert_eq!(effects.sent::<Done>(), [Done { value: 77 }]);
}

mod same_text {
    pub mod a {
        use ringfleet_actor::prelude::*;
        #[message]
        pub struct Tick {}
        #[actor(name = "same", width = lane)]
        #[derive(Default)]
        pub struct Same {
            n: u64,
        }
        #[handlers]
        impl Same {
            fn on_tick(&mut self, m: &Tick, ctx: &mut Ctx) {
                self.n += 1;
            }
        }
    }
    pub mod b {
        use ringfleet_actor::prelude::*;
        #[message]
        pub struct Tick {}
        /// Documented, and laid out otherwise.
        #[actor(name = "same", width = lane)]
        #[derive(Default)]
        pub struct Same {
            /// How many.
            n: u64,
        }
        #[handlers]
        impl Same {
            /// Counts.
            fn on_tick(&mut self, m: &Tick, ctx: &mut Ctx) {
                // One more.
                self.n += 1;
            }
        }
    }
    pub mod c {
        use ringfleet_actor::prelude::*;
        #[message]
        pub struct Tick {}
        #[actor(name = "same", width = lane)]
        #[derive(Default)]
        pub struct Same {
            n: i64,
        }
        #[handlers]
        impl Same {
            fn on_tick(&mut self, m: &Tick, ctx: &mut Ctx) {
                self.n += 2;
            }
        }
    }
}

#[test]
fn hashes_follow_the_code_and_not_its_comments() {
    let (a, b, c) = (same_text::a::Same::DESCRIPTOR, same_text::b::Same::DESCRIPTOR, same_text::c::Same::DESCRIPTOR);
    assert_eq!((a.code_hash, a.layout_hash), (b.code_hash, b.layout_hash));
    assert_ne!(a.code_hash, c.code_hash);
    assert_ne!(a.layout_hash, c.layout_hash);
}

mod same_handlers {
    macro_rules! counting {
        ($name:ident, $inner:literal) => {
            pub mod $name {
                use ringfleet_actor::prelude::*;
                #[message]
                pub struct Tick {}
                #[actor(name = "same", width = lane)]
                #[derive(Default)]
                pub struct Same {
                    n: u64,
                }
                #[device_fn]
                fn more(n: u64) -> u64 {
                    step() + n
                }
                #[device_fn]
                fn step() -> u64 {
                    $inner
                }
                #[handlers]
                impl Same {
                    fn on_tick(&mut self, _m: &Tick, _ctx: &mut Ctx) {
                        self.n = more(self.n);
                    }
                }
            }
        };
    }
    counting!(a, 1);
    counting!(b, 1);
    counting!(c, 2);
}

#[test]
fn hashes_follow_the_free_functions_that_are_called_through_others() {
    use same_handlers::{a, b, c};
    let (a, b, c) = (a::Same::DESCRIPTOR, b::Same::DESCRIPTOR, c::Same::DESCRIPTOR);
    assert_eq!(a.code_hash, b.code_hash);
    assert_ne!(a.code_hash, c.code_hash);
}
