//! The device code of random handlers compiles. Without NVRTC the test says so and passes; with `RINGFLEET_REQUIRE_NVRTC=1` it fails then.
#![allow(missing_docs)]

use ringfleet_gpu::cuda::compile::{compile, nvrtc_version};
use ringfleet_gpu::cuda::types::device_types;
use ringfleet_kernels::{Arch, Geometry, Unit, Variant};

#[test]
fn random_handlers_compile_for_hopper() {
    if let Err(error) = nvrtc_version() {
        assert!(std::env::var_os("RINGFLEET_REQUIRE_NVRTC").is_none(), "RINGFLEET_REQUIRE_NVRTC is set: {error}");
        return println!("not run: {error}");
    }
    let geometry = Geometry::for_multiprocessors(132);
    // The first calls functions of `math`. All of them would take NVRTC a quarter of an hour; `tests/device/programs.sh` compiles them on a GPU.
    let types = device_types(&ringfleet_program_tests::types()[..2]).expect("they are in the language");
    let unit =
        Unit::new(&geometry, Arch { major: 9, minor: 0 }, Variant::default(), &types).expect("a possible geometry");
    let cubin = compile(&unit).unwrap_or_else(|error| panic!("{error}"));
    assert!(cubin.starts_with(b"\x7fELF"), "a cubin is an ELF file");
}
