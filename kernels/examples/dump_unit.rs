//! Writes the translation unit of the shipped types into a folder, for nvcc or another tool: `dump_unit DIR MULTIPROCESSORS [TYPE]`.
use std::path::PathBuf;

use ringfleet_kernels::device_type::by_name;
use ringfleet_kernels::{Arch, Geometry, Unit, Variant, shipped};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().unwrap_or_else(|| "device_unit".into()));
    let count = args.next().map_or(Ok(132), |count| count.parse())?;
    let mut types = shipped();
    if let Some(name) = args.next() {
        types = by_name(&name).into_iter().collect();
    }
    let variant = Variant { seed: true, ..Variant::default() };
    let unit = Unit::new(&Geometry::for_multiprocessors(count), Arch { major: 9, minor: 0 }, variant, &types)?;
    std::fs::create_dir_all(&folder)?;
    for (name, text) in unit.headers.iter().filter(|(name, _)| name != "stdint.h" && name != "stddef.h") {
        std::fs::write(folder.join(name), text)?;
    }
    std::fs::write(folder.join(ringfleet_kernels::source::MAIN_NAME), &unit.main)?;
    println!("{}", unit.options.join(" "));
    Ok(())
}
