//! The device code of random handlers compiles. Without NVRTC the tests say so and pass; with `RINGFLEET_REQUIRE_NVRTC=1` they fail then.
#![allow(missing_docs)]

use ringfleet_gpu::cuda::CudaError;
use ringfleet_gpu::cuda::compile::{compile, compile_to_ptx, nvrtc_version};
use ringfleet_gpu::cuda::types::device_types;
use ringfleet_kernels::{Arch, DeviceType, Geometry, Unit, Variant};

const HOPPER: Arch = Arch { major: 9, minor: 0 };
/// Types per translation unit, of which two are compiled at a time.
const PART: usize = 8;

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

/// The kernel with two types, to the last step. The first calls functions of `math`. With all of them NVRTC would take a quarter of an hour;
/// `tests/device/programs.sh` compiles them on a GPU.
#[test]
fn random_handlers_compile_for_hopper() {
    if !can_compile() {
        return;
    }
    let geometry = Geometry::for_multiprocessors(132);
    let types = device_types(&ringfleet_program_tests::types()[..2]).expect("they are in the language");
    let unit = Unit::new(&geometry, HOPPER, Variant::default(), &types).expect("a possible geometry");
    let cubin = compile(&unit).unwrap_or_else(|error| panic!("{error}"));
    assert!(cubin.starts_with(b"\x7fELF"), "a cubin is an ELF file");
}

/// Compiles these types to PTX; gives in how many of them a kernel calls.
fn compiled(types: &[DeviceType]) -> Result<usize, CudaError> {
    let unit = Unit::of_types(&Geometry::for_multiprocessors(132), HOPPER, types).expect("a possible geometry");
    let ptx = compile_to_ptx(&unit)?;
    Ok((0..types.len()).filter(|at| ptx.contains(&format!(".visible .entry handle_{at}("))).count())
}

fn every_type() -> Vec<DeviceType> {
    device_types(&ringfleet_program_tests::types()).expect("they are in the language")
}

#[test]
fn the_text_of_every_random_handler_compiles_to_ptx() {
    if !can_compile() {
        return;
    }
    let types = every_type();
    let (first, second) = types.chunks(PART).enumerate().partition::<Vec<_>, _>(|(at, _)| at % 2 == 0);
    let run = |parts: Vec<(usize, &[DeviceType])>| {
        let count = |(_, part): (usize, _)| compiled(part).unwrap_or_else(|error| panic!("{error}"));
        parts.into_iter().map(count).sum::<usize>()
    };
    let count = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(second));
        run(first) + other.join().expect("the same")
    });
    assert_eq!(count, types.len());
}

#[test]
fn one_text_that_is_broken_is_told_with_its_line() {
    if !can_compile() {
        return;
    }
    let mut part = every_type().split_off(120);
    let broken = &mut part[5];
    let check = "u) return FAULT_OUT_OF_BOUNDS;";
    let at = broken.text.rfind(check).expect("some index is checked") + "u) ".len();
    // The line of the user's text that it stands on.
    let before = broken.text[..at].rfind("#line ").expect("it stands in a handler");
    let mut lines = broken.text[before..at].lines();
    let first = lines.next().and_then(|line| line.split(' ').nth(1)?.parse::<usize>().ok()).expect("a number");
    let line = first + lines.count() - 1;
    broken.text.insert_str(at, "no_such_operation(); ");
    let Err(CudaError::Compile { log }) = compiled(&part) else { panic!("it compiled") };
    let told = format!("programs.rs({line}): error: identifier \"no_such_operation\" is undefined");
    assert!(log.contains(&told), "{told}\n{log}");
}
