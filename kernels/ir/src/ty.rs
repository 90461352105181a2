//! Types while they are being found out, and the scalars.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Fixed-size integers. `usize` and `isize` have 64 bits on every device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Rust's own names")]
pub enum Int {
    U8,
    U16,
    U32,
    U64,
    U128,
    Usize,
    I8,
    I16,
    I32,
    I64,
    I128,
    Isize,
}

impl Int {
    /// All of them.
    pub const ALL: [Int; 12] = [
        Int::U8,
        Int::U16,
        Int::U32,
        Int::U64,
        Int::U128,
        Int::Usize,
        Int::I8,
        Int::I16,
        Int::I32,
        Int::I64,
        Int::I128,
        Int::Isize,
    ];

    /// Bits of a value.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Int::U8 | Int::I8 => 8,
            Int::U16 | Int::I16 => 16,
            Int::U32 | Int::I32 => 32,
            Int::U64 | Int::I64 | Int::Usize | Int::Isize => 64,
            Int::U128 | Int::I128 => 128,
        }
    }

    /// Whether it has a sign.
    #[must_use]
    pub const fn signed(self) -> bool {
        matches!(self, Int::I8 | Int::I16 | Int::I32 | Int::I64 | Int::I128 | Int::Isize)
    }

    /// The integer of the same width without a sign.
    #[must_use]
    pub const fn unsigned(self) -> Int {
        match self {
            Int::I8 => Int::U8,
            Int::I16 => Int::U16,
            Int::I32 => Int::U32,
            Int::I64 => Int::U64,
            Int::I128 => Int::U128,
            Int::Isize => Int::Usize,
            other => other,
        }
    }

    /// Its name in Rust.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Int::U8 => "u8",
            Int::U16 => "u16",
            Int::U32 => "u32",
            Int::U64 => "u64",
            Int::U128 => "u128",
            Int::Usize => "usize",
            Int::I8 => "i8",
            Int::I16 => "i16",
            Int::I32 => "i32",
            Int::I64 => "i64",
            Int::I128 => "i128",
            Int::Isize => "isize",
        }
    }

    /// The integer of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Int> {
        Int::ALL.into_iter().find(|int| int.name() == name)
    }
}

/// Floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Rust's own names")]
pub enum Float {
    F32,
    F64,
}

impl Float {
    /// Bits of a value.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Float::F32 => 32,
            Float::F64 => 64,
        }
    }

    /// Its name in Rust.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Float::F32 => "f32",
            Float::F64 => "f64",
        }
    }

    /// The float of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Float> {
        [Float::F32, Float::F64].into_iter().find(|float| float.name() == name)
    }
}

/// A type while it is being found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ty {
    /// Of what does not end: fits everywhere.
    Never,
    /// `()`
    Unit,
    /// `bool`
    Bool,
    /// An integer.
    Int(Int),
    /// A float.
    Float(Float),
    /// `[element; length]`
    Array(Box<Ty>, u32),
    /// A struct: a position in the externals' list of structs.
    Struct(u32),
    /// An enum without data: a position in the externals' list of enums.
    Enum(u32),
    /// `(a, b)`
    Tuple(Vec<Ty>),
    /// `Option<T>`, of `checked_` methods.
    Option(Box<Ty>),
    /// `&T`, `&mut T`
    Ref(Box<Ty>),
    /// Not known yet: a position in a list of variables.
    Var(u32),
}

impl Ty {
    /// Without references.
    #[must_use]
    pub fn target(&self) -> &Ty {
        match self {
            Ty::Ref(inner) => inner.target(),
            other => other,
        }
    }
}

impl fmt::Display for Ty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ty::Never => f.write_str("!"),
            Ty::Unit => f.write_str("()"),
            Ty::Bool => f.write_str("bool"),
            Ty::Int(int) => f.write_str(int.name()),
            Ty::Float(float) => f.write_str(float.name()),
            Ty::Array(element, len) => write!(f, "[{element}; {len}]"),
            Ty::Struct(at) => write!(f, "struct {at}"),
            Ty::Enum(at) => write!(f, "enum {at}"),
            Ty::Tuple(parts) => {
                f.write_str("(")?;
                for part in parts {
                    write!(f, "{part}, ")?;
                }
                f.write_str(")")
            }
            Ty::Option(inner) => write!(f, "Option<{inner}>"),
            Ty::Ref(inner) => write!(f, "&{inner}"),
            Ty::Var(_) => f.write_str("_"),
        }
    }
}
