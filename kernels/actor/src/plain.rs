//! Fixed-size plain data: what states and messages are made of.

use std::fmt;

use bytemuck::{Pod, Zeroable};

/// Fixed-size data without padding and without pointers: integers, floats, enums with `#[plain]`, arrays of plain data, and structs that
/// carry `#[message]` or `#[plain]`. All zeroes are a value. Every pattern of bits is one, but for enums: bytes from outside are checked for
/// their length and the numbers of their enums.
///
/// The macro reports padding where it knows all types; padding around nested structs is found when constants are evaluated:
///
/// ```compile_fail,E0080
/// use ringfleet_actor::prelude::*;
/// #[plain]
/// pub struct Wide { pub a: u64 }
/// #[message]
/// pub struct Padded { pub a: u32, pub wide: Wide }
/// # let _ = Padded { a: 1, wide: Wide { a: 1 } };
/// ```
///
/// So is a message that nested structs make too long:
///
/// ```compile_fail,E0080
/// use ringfleet_actor::prelude::*;
/// #[plain]
/// pub struct Half { pub a: [u64; 2] }
/// #[message]
/// pub struct Long { pub a: Half, pub b: Half, pub c: u64 }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not plain data",
    label = "not a fixed-size integer, float, array of plain data, or type with `#[plain]`",
    note = "put `#[plain]` on the struct or enum if it is yours"
)]
pub trait Plain: Copy + Zeroable {
    /// The type as data.
    const TYPE: FieldType;

    /// The type with numbers in place of enums: of the same layout, and every pattern of bits is a value.
    #[doc(hidden)]
    type Raw: Pod;

    /// The value with numbers in place of enums.
    #[doc(hidden)]
    #[must_use]
    fn raw(self) -> Self::Raw;

    /// Whether these bits are a value: every enum has the number of one of its variants.
    #[doc(hidden)]
    #[must_use]
    fn valid(bits: &Self::Raw) -> bool;

    /// The value as it is stored: a float that is a NaN becomes the positive quiet one without payload.
    #[doc(hidden)]
    #[must_use]
    #[inline(always)]
    fn canonical(self) -> Self {
        self
    }
}

/// The type of a field, as data: lets the ctl build a message from text, and hashes decide whether two builds agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// `u8`
    U8,
    /// `u16`
    U16,
    /// `u32`
    U32,
    /// `u64`
    U64,
    /// `u128`
    U128,
    /// `i8`
    I8,
    /// `i16`
    I16,
    /// `i32`
    I32,
    /// `i64`
    I64,
    /// `i128`
    I128,
    /// `f32`
    F32,
    /// `f64`
    F64,
    /// `[element; length]`
    Array(&'static FieldType, usize),
    /// A struct, with its name and fields in the order of their offsets.
    Struct(&'static str, &'static [FieldDescriptor]),
    /// An enum, with its name, the number that it is held as (`u8`, `u16` or `u32`), and its variants in the order of the text.
    Enum(&'static str, &'static FieldType, &'static [VariantDescriptor]),
}

/// A variant of an enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VariantDescriptor {
    /// Its name in the source text.
    pub name: &'static str,
    /// Its number.
    pub value: u32,
}

/// One field of a message, a state or a nested struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldDescriptor {
    /// Its name in the source text.
    pub name: &'static str,
    /// Its type.
    pub ty: FieldType,
    /// Where it starts within its struct, in bytes.
    pub offset: usize,
}

impl FieldType {
    /// Bytes of a value.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        match self {
            FieldType::U8 | FieldType::I8 => 1,
            FieldType::U16 | FieldType::I16 => 2,
            FieldType::U32 | FieldType::I32 | FieldType::F32 => 4,
            FieldType::U64 | FieldType::I64 | FieldType::F64 => 8,
            FieldType::U128 | FieldType::I128 => 16,
            FieldType::Array(element, len) => element.bytes() * *len,
            FieldType::Struct(_, fields) => match fields.last() {
                // Plain structs have no padding, so the last field ends the struct.
                Some(last) => last.offset + last.ty.bytes(),
                None => 0,
            },
            FieldType::Enum(_, number, _) => number.bytes(),
        }
    }

    const fn hash(&self, hash: u64) -> u64 {
        match self {
            FieldType::U8 => fnv(hash, b"u8;"),
            FieldType::U16 => fnv(hash, b"u16;"),
            FieldType::U32 => fnv(hash, b"u32;"),
            FieldType::U64 => fnv(hash, b"u64;"),
            FieldType::U128 => fnv(hash, b"u128;"),
            FieldType::I8 => fnv(hash, b"i8;"),
            FieldType::I16 => fnv(hash, b"i16;"),
            FieldType::I32 => fnv(hash, b"i32;"),
            FieldType::I64 => fnv(hash, b"i64;"),
            FieldType::I128 => fnv(hash, b"i128;"),
            FieldType::F32 => fnv(hash, b"f32;"),
            FieldType::F64 => fnv(hash, b"f64;"),
            FieldType::Array(element, len) => fnv(element.hash(fnv(hash, b"[")), &(*len as u64).to_le_bytes()),
            FieldType::Struct(name, fields) => hash_fields(fnv(fnv(hash, name.as_bytes()), b"{"), fields),
            FieldType::Enum(name, number, variants) => {
                hash_variants(number.hash(fnv(fnv(hash, name.as_bytes()), b"|")), variants)
            }
        }
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FieldType::Array(element, len) => write!(f, "[{element}; {len}]"),
            FieldType::Struct(name, _) | FieldType::Enum(name, ..) => f.write_str(name),
            scalar => f.write_str(match scalar {
                FieldType::U8 => "u8",
                FieldType::U16 => "u16",
                FieldType::U32 => "u32",
                FieldType::U64 => "u64",
                FieldType::U128 => "u128",
                FieldType::I8 => "i8",
                FieldType::I16 => "i16",
                FieldType::I32 => "i32",
                FieldType::I64 => "i64",
                FieldType::I128 => "i128",
                FieldType::F32 => "f32",
                _ => "f64",
            }),
        }
    }
}

/// The hash of a layout: names, types and offsets of its fields, in order.
#[must_use]
pub const fn layout_hash(fields: &[FieldDescriptor]) -> u64 {
    hash_fields(0xcbf2_9ce4_8422_2325, fields)
}

const fn hash_fields(mut hash: u64, fields: &[FieldDescriptor]) -> u64 {
    let mut at = 0;
    while at < fields.len() {
        let field = &fields[at];
        hash = fnv(fnv(hash, field.name.as_bytes()), b":");
        hash = field.ty.hash(hash);
        hash = fnv(hash, &(field.offset as u64).to_le_bytes());
        at += 1;
    }
    fnv(hash, b"}")
}

const fn hash_variants(mut hash: u64, variants: &[VariantDescriptor]) -> u64 {
    let mut at = 0;
    while at < variants.len() {
        hash = fnv(fnv(hash, variants[at].name.as_bytes()), b"=");
        hash = fnv(hash, &variants[at].value.to_le_bytes());
        at += 1;
    }
    fnv(hash, b"}")
}

/// FNV-1a continued from `hash`.
pub(crate) const fn fnv(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    hash
}

/// What numbers are: their own bits.
macro_rules! number {
    () => {
        type Raw = Self;
        #[inline(always)]
        fn raw(self) -> Self {
            self
        }
        #[inline(always)]
        fn valid(_: &Self) -> bool {
            true
        }
    };
}

macro_rules! scalars {
    ($($ty:ty => $variant:ident),*) => {
        $(impl Plain for $ty {
            const TYPE: FieldType = FieldType::$variant;
            number!();
        })*
    };
}

scalars!(u8 => U8, u16 => U16, u32 => U32, u64 => U64, u128 => U128,
         i8 => I8, i16 => I16, i32 => I32, i64 => I64, i128 => I128);

macro_rules! floats {
    ($($ty:ty => $variant:ident, $nan:literal);*) => {
        $(impl Plain for $ty {
            const TYPE: FieldType = FieldType::$variant;
            number!();
            #[inline(always)]
            fn canonical(self) -> Self {
                if self.is_nan() { <$ty>::from_bits($nan) } else { self }
            }
        })*
    };
}

floats!(f32 => F32, 0x7fc0_0000; f64 => F64, 0x7ff8_0000_0000_0000);

impl<T: Plain, const N: usize> Plain for [T; N] {
    const TYPE: FieldType = FieldType::Array(&T::TYPE, N);
    type Raw = [T::Raw; N];
    #[inline]
    fn raw(self) -> Self::Raw {
        self.map(T::raw)
    }
    #[inline(always)]
    fn valid(bits: &Self::Raw) -> bool {
        bits.iter().all(T::valid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VARIANTS: &[VariantDescriptor] = &[VariantDescriptor { name: "A", value: 0 }];

    #[test]
    fn a_layout_hash_sees_names_types_and_offsets() {
        let base = [FieldDescriptor { name: "a", ty: FieldType::U32, offset: 0 }];
        let hash = layout_hash(&base);
        for changed in [
            FieldDescriptor { name: "b", ..base[0] },
            FieldDescriptor { ty: FieldType::I32, ..base[0] },
            FieldDescriptor { offset: 4, ..base[0] },
            FieldDescriptor { ty: <[u32; 1]>::TYPE, ..base[0] },
            FieldDescriptor { ty: FieldType::Enum("E", &FieldType::U32, VARIANTS), ..base[0] },
        ] {
            assert_ne!(layout_hash(&[changed]), hash, "{changed:?}");
        }
        let hash = |variants| {
            layout_hash(&[FieldDescriptor { ty: FieldType::Enum("E", &FieldType::U8, variants), ..base[0] }])
        };
        const RENAMED: &[VariantDescriptor] = &[VariantDescriptor { name: "B", value: 0 }];
        const RENUMBERED: &[VariantDescriptor] = &[VariantDescriptor { name: "A", value: 1 }];
        assert_ne!(hash(VARIANTS), hash(RENAMED));
        assert_ne!(hash(VARIANTS), hash(RENUMBERED));
    }

    #[test]
    fn types_print_as_they_are_written() {
        assert_eq!(<[[u8; 4]; 2]>::TYPE.to_string(), "[[u8; 4]; 2]");
        assert_eq!(<[[u8; 4]; 2]>::TYPE.bytes(), 8);
    }
}
