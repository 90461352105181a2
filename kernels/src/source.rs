//! One translation unit of device code: files by name, options, and the key under which its cubin is cached.

use std::fmt::Write;

use ringfleet_abi::hash::fnv1a64;

use crate::device_type::DeviceType;
use crate::geometry::{
    COUNTERS_STRIDE, DEVICES_MAX, Geometry, GeometryError, SETS_PER_DEVICE_MAX, SHARDS_PER_WORKER_MAX, SPILL_PAGE,
};
use crate::layout;

/// A compute capability, such as 9.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arch {
    /// The part before the dot.
    pub major: u32,
    /// The part behind it.
    pub minor: u32,
}

impl Arch {
    /// The option of NVRTC and nvcc that makes code for it.
    #[must_use]
    pub fn option(self) -> String {
        format!("-arch=sm_{}{}", self.major, self.minor)
    }
}

/// What a build leaves out or adds. The default is what a device runs; the others exist to measure what something costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Messages of one sender to one actor keep their order.
    pub order: bool,
    /// Stamps are kept and checked.
    pub hlc: bool,
    /// Handled and sent messages are counted.
    pub count: bool,
    /// Clock ticks of the phases of a round are kept.
    pub profile: bool,
    /// The kernel that puts messages into rings for benches and tests.
    pub seed: bool,
}

impl Default for Variant {
    fn default() -> Self {
        Self { order: true, hlc: true, count: true, profile: false, seed: false }
    }
}

/// A translation unit.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The text that is compiled.
    pub main: String,
    /// What it includes, by name.
    pub headers: Vec<(String, String)>,
    /// Options of the compiler, the architecture among them.
    pub options: Vec<String>,
}

/// The name of the text that is compiled.
pub const MAIN_NAME: &str = "ringfleet_device.cu";
/// The kernel.
pub const KERNEL: &str = "ringfleet_device";
/// The kernel that puts messages into rings, in builds with [`Variant::seed`].
pub const SEED_KERNEL: &str = "ringfleet_seed";
/// A u64 in the module: the layout hash of the contract that it was built from.
pub const LAYOUT_HASH_SYMBOL: &str = "ringfleet_layout_hash";
/// A u32 in the module: dynamic shared memory of a block.
pub const SHARED_BYTES_SYMBOL: &str = "ringfleet_shared_bytes";

macro_rules! device_files {
    ($($name:literal),* $(,)?) => { [$(($name, include_str!(concat!("../device/", $name)))),*] };
}

/// The files of `device/`, by name.
pub const FILES: &[(&str, &str)] = &device_files![
    "alone.cuh",
    "base.cuh",
    "bell.cuh",
    "bell_lanes.cuh",
    "bench_seed.cuh",
    "config.cuh",
    "ctx.cuh",
    "handle.cuh",
    "hlc.cuh",
    "kernel.cuh",
    "keys.cuh",
    "memory.cuh",
    "ops.cuh",
    "resolve.cuh",
    "restarts.cuh",
    "ring.cuh",
    "rounds.cuh",
    "router.cuh",
    "run.cuh",
    "send.cuh",
    "shards.cuh",
    "shared.cuh",
    "spill.cuh",
    "team.cuh",
    "timers.cuh",
    "worker.cuh",
];

/// The contract's header.
pub const ABI_HEADER: (&str, &str) = ("ringfleet_abi.h", include_str!("../abi/include/ringfleet_abi.h"));

/// NVRTC has no system headers; the contract's header needs so much of them.
const STDINT: &str = "#pragma once\ntypedef unsigned char uint8_t;\ntypedef unsigned short uint16_t;\ntypedef unsigned int uint32_t;\n\
                      typedef unsigned long long uint64_t;\ntypedef int int32_t;\ntypedef long long int64_t;\n";
const STDDEF: &str = "#pragma once\ntypedef decltype(sizeof(0)) size_t;\n#ifndef offsetof\n#define offsetof(type, field) \
                      __INTADDR__(&(((type *)0)->field))\n#endif\n";

impl Unit {
    /// The unit of a device with these types.
    ///
    /// # Errors
    /// A size that is out of its range.
    pub fn new(geometry: &Geometry, arch: Arch, variant: Variant, types: &[DeviceType]) -> Result<Self, GeometryError> {
        geometry.check()?;
        let mut headers: Vec<(String, String)> =
            FILES.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
        headers.push((ABI_HEADER.0.into(), ABI_HEADER.1.into()));
        headers.push(("stdint.h".into(), STDINT.into()));
        headers.push(("stddef.h".into(), STDDEF.into()));
        headers.push(("rf_layout.cuh".into(), layout::c_text()));
        headers.push(("rf_types.cuh".into(), types_text(types)));
        let mut main = String::from("#include \"kernel.cuh\"\n");
        if variant.seed {
            main.push_str("#include \"bench_seed.cuh\"\n");
        }
        // A handling that fails sends a verdict, an event and an escalation: one more than `MAX_SENDS`.
        let max_sends = types.iter().map(|ty| ty.max_sends).max().unwrap_or(1).max(2);
        Ok(Self { main, headers, options: options(geometry, arch, variant, max_sends) })
    }

    /// The unit in which nothing is but these types, each called by a kernel of its own, `handle_INDEX`: what shows whether their text compiles, to
    /// PTX of a virtual architecture and hardly optimised, in a fraction of the time that a device's kernel takes with them.
    ///
    /// # Errors
    /// A size that is out of its range.
    pub fn of_types(geometry: &Geometry, arch: Arch, types: &[DeviceType]) -> Result<Self, GeometryError> {
        let mut unit = Self::new(geometry, arch, Variant::default(), &[])?;
        let mut main = String::from("#include \"ctx.cuh\"\n#include \"ops.cuh\"\n");
        for (index, ty) in types.iter().enumerate() {
            ty.emit(&mut main, index);
            let namespace = DeviceType::namespace(index);
            let _ = writeln!(
                main,
                "extern \"C\" __global__ void handle_{index}({namespace}::State *state, const Envelope *message, u64 hlc, Ctx<\
                 {namespace}::MAX_SENDS> *out, u32 *fault) {{\n    if (hlc == 0) {namespace}::Type::init(*state);\n    \
                 Ctx<{namespace}::MAX_SENDS> ctx(*message, hlc);\n    *fault = {namespace}::Type::handle(*state, *message, ctx);\n    \
                 memcpy(out, &ctx, sizeof(ctx));\n}}"
            );
        }
        unit.main = main;
        unit.options[0] = format!("-arch=compute_{}{}", arch.major, arch.minor);
        unit.options.push("-Ofc=max".into());
        Ok(unit)
    }

    /// Changes with anything that the cubin depends on but the compiler and the driver, whose versions belong in the name too.
    #[must_use]
    pub fn cache_key(&self) -> u64 {
        let mut all = self.main.clone();
        for (name, text) in &self.headers {
            let _ = write!(all, "\0{name}\0{text}");
        }
        for option in &self.options {
            let _ = write!(all, "\0{option}");
        }
        fnv1a64(all.as_bytes())
    }
}

fn options(geometry: &Geometry, arch: Arch, variant: Variant, max_sends: u32) -> Vec<String> {
    let g = geometry;
    let mut options = vec![arch.option(), "-std=c++17".into(), "-default-device".into(), "-lineinfo".into()];
    // Types of Rust have integers of 128 bits; no operation may become part of another (kernels/device/ops.cuh says so too).
    options.extend(["-device-int128".into(), "-fmad=false".into()]);
    let numbers = [
        ("DEVICES", g.devices),
        ("DEVICES_MAX", DEVICES_MAX),
        ("WORKERS", g.workers),
        ("THREADS", g.threads),
        ("BATCH", g.batch),
        ("BUCKETS", g.buckets),
        ("RING_SLOTS", g.ring_slots),
        ("INGRESS_SLOTS", g.ingress_slots),
        ("EGRESS_SLOTS", g.egress_slots),
        ("SPILL_SLOTS", g.spill_slots),
        ("SPILL_PAGE", SPILL_PAGE),
        ("SPILL_PAGES", g.spill_pages()),
        ("SPILL_TABLE", g.spill_table()),
        ("TIMER_SLOTS", g.timer_slots),
        ("SHARDS_MAX", SHARDS_PER_WORKER_MAX),
        ("SETS_MAX", SETS_PER_DEVICE_MAX),
        ("MAX_SENDS", max_sends),
        ("SAVE_WORDS", g.save_words()),
        ("COUNTERS_STRIDE", COUNTERS_STRIDE),
        ("ORDER", u32::from(variant.order)),
        ("HLC", u32::from(variant.hlc)),
        ("COUNT", u32::from(variant.count)),
        ("PROFILE", u32::from(variant.profile)),
    ];
    options.extend(numbers.iter().map(|(name, value)| format!("-DRF_{name}={value}")));
    options
}

/// All types in their namespaces, and the switch that calls them.
fn types_text(types: &[DeviceType]) -> String {
    let mut text = String::from("#pragma once\n#include \"ops.cuh\"\n");
    for (index, ty) in types.iter().enumerate() {
        ty.emit(&mut text, index);
    }
    text.push_str(
        "RF_FN u32 dispatch(const Params &p, Shared &s, u32 me, u32 j, bool chain, u32 set_index, const SetEntry &set,\n    \
         Tally &tally) {\n    switch (set.type_index) {\n",
    );
    for index in 0..types.len() {
        let namespace = DeviceType::namespace(index);
        let _ = writeln!(
            text,
            "    case {index}: return run_actor<{namespace}::Type>(p, s, me, j, chain, set_index, set, tally);"
        );
    }
    text.push_str(
        "    default:\n        const u32 after = chain ? s.after[j] : NONE16;\n        bury(p, s, me, j, RINGFLEET_DEAD_NOT_RESIDENT, 0);\n        \
         return after;\n    }\n}\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device_type::shipped;

    fn unit(geometry: Geometry) -> Unit {
        Unit::new(&geometry, Arch { major: 9, minor: 0 }, Variant::default(), &shipped()).expect("a possible geometry")
    }

    #[test]
    fn every_file_of_the_folder_is_in_the_unit() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("device");
        let mut found: Vec<String> = std::fs::read_dir(folder)
            .expect("the folder is there")
            .filter_map(|entry| entry.expect("readable").file_name().into_string().ok())
            .filter(|name| name.ends_with(".cuh"))
            .collect();
        found.sort();
        let mut listed: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        listed.sort_unstable();
        assert_eq!(found, listed);
    }

    #[test]
    fn the_cache_key_follows_text_and_options() {
        let geometry = Geometry::for_multiprocessors(132);
        let key = unit(geometry).cache_key();
        assert_eq!(key, unit(geometry).cache_key());
        assert_ne!(key, unit(Geometry { batch: 1024, ..geometry }).cache_key());
        let mut changed = unit(geometry);
        changed.headers[0].1.push(' ');
        assert_ne!(key, changed.cache_key());
    }
}
