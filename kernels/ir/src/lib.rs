//! Handlers as data: what `#[handlers]` has read becomes a typed program that can be stored, checked, run and translated.
//!
//! ```text
//!   text --macro--> tree (raw) --infer, lower--> program --cuda--> CUDA C++ text
//!                        ^                          |   \--interp--> the same results, slowly
//!        layouts, constants (externals)             +--verify
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`raw`] | the tree that the macro writes: names are resolved, types are not known |
//! | [`externals`] | what only rustc knows of those names |
//! | [`ty`], [`infer`] | types while they are being found out, and how |
//! | [`program`], [`lower`] | the typed program, and the step to it |
//! | [`verify`] | types, bounds, stack and calls of a program of unknown origin (C9, C11) |
//! | [`interp`], [`scalar`] | an interpreter: the measure of what a program means |
//! | [`cuda`] | the translation; its operations are in `kernels/device/ops.cuh` |
//! | [`show`] | a program as text |
//!
//! A program means the same wherever it runs. `+ - * / % << >>`, indices, sends and fuel fault as [`fault`] says; evaluation is from
//! left to right, the value of an assignment before its place; floats are IEEE 754 without contraction and without flushing, and a
//! float that is stored into a struct, an array or a tuple is canonical if it is a NaN.
//!
//! Deliberately absent: recursion, pointers, allocation, and any operation whose result depends on the machine.

pub mod cuda;
pub mod externals;
pub mod fault;
pub mod infer;
pub mod interp;
pub mod lower;
pub mod program;
pub mod raw;
pub mod scalar;
pub mod show;
pub mod ty;
pub mod verify;

pub use externals::Externals;
pub use program::Program;

/// Loop iterations that the handling of one message may take, all loops and helpers together; one more fails the actor (C9). A state of
/// 4 KiB can be walked byte by byte sixteen times.
pub const FUEL_PER_MESSAGE: u32 = 1 << 16;

/// What is wrong with a tree or a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {text}")]
pub struct Error {
    /// The line of the user's text, 0 if it is about none.
    pub line: u32,
    /// What is wrong.
    pub text: String,
}

impl Error {
    pub(crate) fn new(line: u32, text: impl Into<String>) -> Self {
        Self { line, text: text.into() }
    }
}

/// What one macro has read.
#[derive(Clone, Debug)]
pub struct Text<'a> {
    /// The user's file.
    pub file: &'a str,
    /// The tree, as bytes.
    pub tree: &'a [u8],
    /// What it refers to. That of every text but the first was begun by [`Externals::beside`] on the one before it.
    pub externals: Externals,
    /// The free functions that it calls: positions in [`Source::functions`].
    pub calls: Vec<u32>,
}

/// What a binary carries of an actor type.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    /// The type's name.
    pub name: &'a str,
    /// Its handlers and their helpers.
    pub handlers: Text<'a>,
    /// The free functions that they call, directly or not, each once.
    pub functions: Vec<Text<'a>>,
    /// The state.
    pub state: ty::Ty,
    /// The state of an actor that has just been activated.
    pub initial: Vec<u8>,
    /// The most messages that one handling sends.
    pub max_sends: u32,
}

/// The verified program of a type.
///
/// # Errors
/// What native code can do and a program cannot, with the line.
pub fn build(source: Source<'_>) -> Result<Program, Error> {
    let program = lower::lower(source)?;
    verify::verify(&program)?;
    Ok(program)
}

/// A tree as bytes.
#[must_use]
pub fn tree_bytes(tree: &raw::Program) -> Vec<u8> {
    // A tree is made of numbers, texts and lists: there is nothing that cannot be written.
    postcard::to_stdvec(tree).unwrap_or_default()
}
