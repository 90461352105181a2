//! The C header of the contract, written from [`crate::layout::LAYOUT`]. The committed text is
//! `kernels/abi/include/ringfleet_abi.h`; `tests/header.rs` compares and, when asked, updates it.
//!
//! The text is C11 and C++17 (CUDA compiles it as C++). It states every size, alignment and offset as a static assertion, so a
//! device compiler that lays a struct out differently does not get past it.

use core::fmt::{self, Write};

use crate::layout::{Layout, List, Struct, hash};

const BEGIN: &str = "\
/* The contract of host and device. Generated from kernels/abi/src; do not edit.
 * Update: RINGFLEET_UPDATE_HEADER=1 cargo test -p ringfleet-abi --test header
 */
#ifndef RINGFLEET_ABI_H
#define RINGFLEET_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define RINGFLEET_ALIGN(bytes) alignas(bytes)
#define RINGFLEET_ALIGN_OF(type) alignof(type)
#define RINGFLEET_ASSERT(condition, text) static_assert(condition, text)
#else
#define RINGFLEET_ALIGN(bytes) _Alignas(bytes)
#define RINGFLEET_ALIGN_OF(type) _Alignof(type)
#define RINGFLEET_ASSERT(condition, text) _Static_assert(condition, text)
#endif
";

const END: &str = "\n#endif\n";

/// Writes the header of `layout`.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut impl Write, layout: &Layout<'_>) -> fmt::Result {
    out.write_str(BEGIN)?;
    writeln!(out, "\n/* Changes with any size, offset, constant or code below. */")?;
    writeln!(out, "#define RINGFLEET_LAYOUT_HASH {:#018x}ull\n", hash(layout))?;
    for constant in layout.constants {
        let suffix = if constant.value > u64::from(u32::MAX) { "ull" } else { "u" };
        writeln!(out, "#define RINGFLEET_{} {}{suffix}", constant.name, constant.value)?;
    }
    for list in layout.lists {
        write_list(out, list)?;
    }
    for structure in layout.structs {
        write_struct(out, structure)?;
    }
    out.write_str(END)
}

fn write_list(out: &mut impl Write, list: &List<'_>) -> fmt::Result {
    writeln!(out, "\n/* {} */", list.name)?;
    for entry in list.codes {
        write!(out, "#define RINGFLEET_{}_", list.c_prefix)?;
        entry.name.chars().try_for_each(|letter| out.write_char(letter.to_ascii_uppercase()))?;
        writeln!(out, " {}u", entry.code)?;
    }
    writeln!(out, "#define RINGFLEET_{}_COUNT {}u", list.c_prefix, list.codes.len())
}

fn write_struct(out: &mut impl Write, structure: &Struct<'_>) -> fmt::Result {
    let Struct { name, c_name, bytes, align, fields } = structure;
    writeln!(out, "\n/* {name} */\ntypedef struct {c_name} {{")?;
    for (at, field) in fields.iter().enumerate() {
        out.write_str("    ")?;
        // Alignment of the first field is alignment of the struct, in C as in C++.
        if at == 0 {
            write!(out, "RINGFLEET_ALIGN({align}) ")?;
        }
        write!(out, "{} {}", field.c_type, field.name)?;
        if field.count > 0 {
            write!(out, "[{}]", field.count)?;
        }
        out.write_str(";\n")?;
    }
    writeln!(out, "}} {c_name};")?;
    writeln!(out, "RINGFLEET_ASSERT(sizeof({c_name}) == {bytes}, \"size of {c_name}\");")?;
    writeln!(out, "RINGFLEET_ASSERT(RINGFLEET_ALIGN_OF({c_name}) == {align}, \"alignment of {c_name}\");")?;
    for field in *fields {
        let (offset, field) = (field.offset, field.name);
        writeln!(out, "RINGFLEET_ASSERT(offsetof({c_name}, {field}) == {offset}, \"offset of {c_name}.{field}\");")?;
    }
    Ok(())
}
