//! Generated device code compiles. Without NVRTC these tests say so and pass; with `RINGFLEET_REQUIRE_NVRTC=1` they fail then.

use ringfleet_actor::prelude::*;
use ringfleet_gpu::cuda::CudaError;
use ringfleet_gpu::cuda::compile::{compile, nvrtc_version};
use ringfleet_gpu::cuda::types::device_types;
use ringfleet_kernels::{Arch, DeviceType, Geometry, Unit, Variant};

fn can_compile() -> bool {
    match nvrtc_version() {
        Ok(_) => true,
        Err(error) => {
            assert!(std::env::var_os("RINGFLEET_REQUIRE_NVRTC").is_none(), "RINGFLEET_REQUIRE_NVRTC is set: {error}");
            println!("not run: {error}");
            false
        }
    }
}

fn unit(types: &[DeviceType], major: u32) -> Unit {
    Unit::new(&Geometry::for_multiprocessors(132), Arch { major, minor: 0 }, Variant::default(), types)
        .expect("a possible geometry")
}

fn shipped() -> Vec<DeviceType> {
    device_types(&ringfleet_actors::types()).expect("shipped types have device code")
}

fn compiles_for(major: u32) {
    if can_compile() {
        let cubin = compile(&unit(&shipped(), major)).unwrap_or_else(|error| panic!("sm_{major}0: {error}"));
        assert!(cubin.starts_with(b"\x7fELF"), "a cubin is an ELF file");
    }
}

#[test]
fn shipped_types_compile_for_ampere() {
    compiles_for(8);
}

#[test]
fn shipped_types_compile_for_hopper() {
    compiles_for(9);
}

#[test]
fn shipped_types_compile_for_blackwell() {
    compiles_for(10);
}

/// Draws a number.
#[message]
pub struct Throw {
    /// How many sides.
    pub sides: u64,
}

/// A type that draws random numbers, and so has longer records.
#[actor(name = "test.dice", max_sends = 1)]
#[derive(Default)]
pub struct Dice {
    last: u64,
}

#[handlers]
impl Dice {
    fn on_throw(&mut self, m: &Throw, ctx: &mut Ctx) {
        self.last = ctx.random() ^ ctx.random_below(m.sides);
    }
}

#[test]
fn types_that_draw_random_numbers_compile_for_every_architecture() {
    let dice = device_types(&ringfleet_actor::types![Dice]).expect("it has device code");
    assert!(dice[0].draws && shipped().iter().all(|ty| !ty.draws));
    assert_eq!(
        (dice[0].record(false).units, dice[0].record_units()),
        (2, 2),
        "16 bytes of header, state and numbers each"
    );
    if can_compile() {
        for major in [8, 9, 10] {
            let cubin = compile(&unit(&dice, major)).unwrap_or_else(|error| panic!("sm_{major}0: {error}"));
            assert!(cubin.starts_with(b"\x7fELF"), "a cubin is an ELF file");
        }
    }
}

#[test]
fn an_error_of_the_compiler_names_the_file_and_the_line_of_the_user() {
    if !can_compile() {
        return;
    }
    let mut types = shipped();
    let counter = types.iter_mut().find(|ty| ty.name == "counter").expect("a shipped type");
    let whole = counter.text.clone();
    counter.text = whole.replacen("rf_add(", "no_such_operation(", 1);
    assert_ne!(counter.text, whole);
    let Err(CudaError::Compile { log }) = compile(&unit(&types, 9)) else { panic!("it compiled") };
    let source = include_str!("../../../kernels/actors/src/counter.rs");
    let line = 1 + source.lines().position(|line| line.contains("self.total += m.amount")).expect("the text");
    assert!(log.contains(&format!("kernels/actors/src/counter.rs({line})")), "{log}");
}

mod transcendental {
    use ringfleet_actor::prelude::*;

    #[message]
    pub struct Numbers {
        pub x: f64,
        pub y: f64,
    }

    #[actor(name = "test.math")]
    #[derive(Default)]
    pub struct Functions {
        sum: f64,
    }

    #[handlers]
    impl Functions {
        fn on_numbers(&mut self, m: &Numbers, _ctx: &mut Ctx) {
            self.sum += math::exp(m.x) + math::ln(m.x) + math::sin(m.x) + math::cos(m.x) + math::pow(m.x, m.y);
        }
    }
}

#[test]
fn transcendental_functions_compile() {
    if can_compile() {
        let types = ringfleet_actor::types![transcendental::Functions];
        let types = device_types(&types).expect("they are in the language");
        let cubin = compile(&unit(&types, 9)).unwrap_or_else(|error| panic!("{error}"));
        assert!(cubin.starts_with(b"\x7fELF"), "a cubin is an ELF file");
    }
}
