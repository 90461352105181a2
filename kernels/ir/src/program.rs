//! The typed form of an actor type's handlers: a value that can be stored, sent, checked, run and translated.
//!
//! Everything is explicit: an operation works on locals and constants, one statement has one effect, and the order of statements is
//! the order of evaluation. Types and blocks are tables; a type refers to types before it and a block to blocks behind it, so
//! that reading a program never recurses deeper than the checked nesting of its blocks.

use serde::{Deserialize, Serialize};

use crate::ty::{Float, Int};

/// The format of [`Program`]; another one is not read.
pub const FORMAT: u16 = 2;

/// A position in [`Program::types`].
pub type TypeId = u32;
/// A position in [`Function::blocks`].
pub type BlockId = u32;
/// A position in [`Function::locals`].
pub type LocalId = u32;

/// An actor type's code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// [`FORMAT`]
    pub format: u16,
    /// The type's name, such as `flights.carrier`.
    pub name: String,
    /// The file with the text of the handlers, for messages.
    pub file: String,
    /// Types.
    pub types: Vec<Type>,
    /// Constants: type and bytes.
    pub consts: Vec<Const>,
    /// The type of the state.
    pub state: TypeId,
    /// The state of an actor that has just been activated.
    pub initial: Vec<u8>,
    /// The most messages that one handling sends.
    pub max_sends: u32,
    /// Messages that handlers take or make.
    pub messages: Vec<Message>,
    /// Functions, callees in any order; calls have no cycle.
    pub functions: Vec<Function>,
    /// Which function handles which message.
    pub handlers: Vec<Handler>,
}

/// A type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Type {
    /// `bool`
    Bool,
    /// An integer.
    Int(Int),
    /// A float.
    Float(Float),
    /// An array.
    Array {
        /// Type of its elements.
        element: TypeId,
        /// How many.
        len: u32,
    },
    /// A struct. Its fields follow each other without padding.
    Struct {
        /// Its name.
        name: String,
        /// Its fields.
        fields: Vec<Field>,
    },
    /// A tuple.
    Tuple(Vec<TypeId>),
    /// `Option`
    Option(TypeId),
    /// An enum without data. One of its variants is 0.
    Enum {
        /// Its name.
        name: String,
        /// The number that it is held as: `u8`, `u16` or `u32`.
        number: Int,
        /// Its variants, in the order of their numbers.
        variants: Vec<Variant>,
    },
}

/// A variant of an enum.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// Its number.
    pub value: u32,
}

/// A field of a struct.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: TypeId,
}

/// A constant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Const {
    /// Its type.
    pub ty: TypeId,
    /// Its bytes, little-endian, without padding.
    pub bytes: Vec<u8>,
}

/// A kind of message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its name.
    pub name: String,
    /// The number in envelopes.
    pub kind: u16,
    /// Its struct.
    pub ty: TypeId,
}

/// A handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handler {
    /// A position in [`Program::messages`].
    pub message: u32,
    /// Takes the state by reference and the message by reference, gives nothing.
    pub function: u32,
}

/// A function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The file with its text; empty if it is that of the handlers.
    pub file: String,
    /// Its line.
    pub line: u32,
    /// Parameters, then variables.
    pub locals: Vec<Local>,
    /// How many of the locals are parameters.
    pub params: u32,
    /// What it gives.
    pub gives: Option<TypeId>,
    /// Block 0 is the body. Every other block belongs to one statement of a block before it.
    pub blocks: Vec<Vec<Stmt>>,
}

/// A parameter or variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Local {
    /// Its type; of a reference the type that it refers to.
    pub ty: TypeId,
    /// Value or reference. Only parameters are references.
    pub kind: LocalKind,
    /// Its name in the text; empty for what the translation added.
    pub name: String,
}

/// What a local is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LocalKind {
    /// A value.
    Value,
    /// `&T`
    Ref,
    /// `&mut T`
    RefMut,
}

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stmt {
    /// The user's line.
    pub line: u32,
    /// What it does.
    pub kind: StmtKind,
}

/// What a statement does. Faults end the handling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StmtKind {
    /// `to = value`. First the value's faults, then those of the indices of `to`.
    Set {
        /// Where to.
        to: Place,
        /// What.
        value: Value,
    },
    /// Faults if an index of the place is out of bounds.
    Check(Place),
    /// Calls a function of the program.
    Call {
        /// Which.
        function: u32,
        /// With what.
        args: Vec<Arg>,
        /// Where to put what it gives.
        to: Option<LocalId>,
    },
    /// Runs one of two blocks.
    If {
        /// A `bool`.
        cond: Operand,
        /// If it is true.
        then: BlockId,
        /// If not.
        otherwise: Option<BlockId>,
    },
    /// Again and again: runs `head`, ends if `cond` is false, burns one unit of fuel, runs `body`.
    Loop {
        /// Computes the condition.
        head: BlockId,
        /// A `bool`; without one it goes on.
        cond: Option<Operand>,
        /// Names the loop for `Break` and `Continue`.
        body: BlockId,
    },
    /// Ends the enclosing loop with this body.
    Break(BlockId),
    /// Goes to the head of the enclosing loop with this body.
    Continue(BlockId),
    /// Runs a block that `Leave` may end.
    Block(BlockId),
    /// Ends the enclosing block.
    Leave(BlockId),
    /// Ends the function.
    Return(Option<Operand>),
    /// `ctx.fail(code)`: a `u16`.
    Fail(Operand),
    /// What the type checker of the source has ruled out; faults as an index out of bounds.
    Unreachable,
    /// Sends a message.
    Send {
        /// To whom.
        to: Target,
        /// A position in [`Program::messages`].
        message: u32,
        /// Its body.
        body: Operand,
    },
    /// `ctx.stop()`
    Stop,
}

/// Whom a message is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// `tell`: an actor of the set whose name has this tag.
    Actor {
        /// `u32`
        tag: Operand,
        /// `u64`
        key: Operand,
    },
    /// `reply`
    Sender,
    /// `after`: the actor itself, so many milliseconds later.
    Later {
        /// `u32`
        delay_ms: Operand,
    },
}

/// An argument of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arg {
    /// A value.
    Value(Operand),
    /// A reference. Its indices were checked by a `Check` before.
    Ref(Place),
}

/// A local, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The local.
    pub root: LocalId,
    /// The way to the part.
    pub steps: Vec<Step>,
}

/// A step into a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// A field of a struct or a part of a tuple.
    Field(u32),
    /// An element: a `usize`, checked.
    Index(Operand),
}

/// What an operation works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Operand {
    /// A local that is a value.
    Local(LocalId),
    /// A position in [`Program::consts`].
    Const(u32),
}

/// What is put into a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    /// As it is.
    Use(Operand),
    /// What is in a place.
    Load(Place),
    /// An operation.
    Op(Op, Vec<Operand>),
    /// A struct or tuple of these parts.
    Aggregate(Vec<Operand>),
    /// An array of these elements.
    Array(Vec<Operand>),
    /// An array of equal elements.
    Repeat(Operand),
    /// Whether an `Option` is `Some`.
    IsSome(Operand),
    /// What is in an `Option`; all zeroes if nothing is.
    Inner(Operand),
    /// Something of the handling.
    Ctx(CtxValue),
    /// `u64`: the actor's next random number below this `u64`, which is not 0.
    RandomBelow(Operand),
}

/// What a handling knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CtxValue {
    /// `u64`: the actor's key.
    Key,
    /// `u64`: the stamp of the handling.
    Now,
    /// `u16`: the set of the sender.
    SenderSet,
    /// `u64`: the key of the sender.
    SenderKey,
    /// `u64`: the actor's next random number.
    Random,
}

/// Arithmetic that has results outside its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Rust's own names")]
pub enum Arith {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    DivEuclid,
    RemEuclid,
    Shl,
    Shr,
    Neg,
    Abs,
    Pow,
}

impl Arith {
    /// All of them.
    pub const ALL: [Arith; 12] = [
        Arith::Add,
        Arith::Sub,
        Arith::Mul,
        Arith::Div,
        Arith::Rem,
        Arith::DivEuclid,
        Arith::RemEuclid,
        Arith::Shl,
        Arith::Shr,
        Arith::Neg,
        Arith::Abs,
        Arith::Pow,
    ];

    /// The part of the method's name behind `wrapping_`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Arith::Add => "add",
            Arith::Sub => "sub",
            Arith::Mul => "mul",
            Arith::Div => "div",
            Arith::Rem => "rem",
            Arith::DivEuclid => "div_euclid",
            Arith::RemEuclid => "rem_euclid",
            Arith::Shl => "shl",
            Arith::Shr => "shr",
            Arith::Neg => "neg",
            Arith::Abs => "abs",
            Arith::Pow => "pow",
        }
    }

    /// Whether it takes one operand.
    #[must_use]
    pub const fn unary(self) -> bool {
        matches!(self, Arith::Neg | Arith::Abs)
    }

    /// Whether its second operand is a `u32`.
    #[must_use]
    pub const fn counted(self) -> bool {
        matches!(self, Arith::Shl | Arith::Shr | Arith::Pow)
    }

    /// Whether it divides.
    #[must_use]
    pub const fn divides(self) -> bool {
        matches!(self, Arith::Div | Arith::Rem | Arith::DivEuclid | Arith::RemEuclid)
    }
}

/// What arithmetic does where its result does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// Faults.
    Checked,
    /// Keeps the lower bits.
    Wrapping,
    /// Gives the nearest value that fits.
    Saturating,
    /// Gives an `Option`.
    Optional,
}

/// An operation. Operands have the type of the result unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Rust's own names")]
pub enum Op {
    /// On integers; on floats `Checked` only, where it cannot fault.
    Arith(Arith, Mode),
    /// Faults if the bounds are in the wrong order.
    Clamp,
    /// Of integers and `bool`.
    And,
    Or,
    Xor,
    Not,
    /// Give `bool`, of two numbers or `bool`s; `Eq` and `Ne` of two enums, too.
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// `as`: between numbers, and from `bool` and enums to integers.
    Cast,
    Min,
    Max,
    /// Gives the integer without sign.
    AbsDiff,
    UnsignedAbs,
    /// By a `u32`.
    RotateLeft,
    RotateRight,
    Signum,
    /// Give `bool`.
    IsPositive,
    IsNegative,
    IsPowerOfTwo,
    /// Give `u32`.
    LeadingZeros,
    TrailingZeros,
    LeadingOnes,
    TrailingOnes,
    CountOnes,
    CountZeros,
    SwapBytes,
    ReverseBits,
    /// Of floats.
    Sqrt,
    Floor,
    Ceil,
    Round,
    Trunc,
    Copysign,
    /// Give `bool`.
    IsNan,
    IsFinite,
    IsInfinite,
    /// Every NaN becomes the positive quiet one without payload.
    Canon,
    /// Gives the integer of the float's width.
    ToBits,
    /// Of the integer of the float's width.
    FromBits,
}

impl Program {
    /// Bytes of a value of this type: parts follow each other without padding; an `Option` has one byte before its value.
    #[must_use]
    pub fn bytes(&self, ty: TypeId) -> usize {
        match &self.types[ty as usize] {
            Type::Bool => 1,
            Type::Int(int) => int.bits() as usize / 8,
            Type::Float(float) => float.bits() as usize / 8,
            Type::Array { element, len } => self.bytes(*element).saturating_mul(*len as usize),
            Type::Struct { fields, .. } => fields.iter().map(|field| self.bytes(field.ty)).sum(),
            Type::Tuple(parts) => parts.iter().map(|part| self.bytes(*part)).sum(),
            Type::Option(inner) => 1 + self.bytes(*inner),
            Type::Enum { number, .. } => number.bits() as usize / 8,
        }
    }

    /// Offset and type of a part of a struct or tuple.
    #[must_use]
    pub fn part(&self, ty: TypeId, at: u32) -> Option<(usize, TypeId)> {
        let parts = self.parts(ty)?;
        let part = *parts.get(at as usize)?;
        Some((parts[..at as usize].iter().map(|part| self.bytes(*part)).sum(), part))
    }

    /// The types of the parts of a struct or tuple.
    #[must_use]
    pub fn parts(&self, ty: TypeId) -> Option<Vec<TypeId>> {
        match self.types.get(ty as usize)? {
            Type::Struct { fields, .. } => Some(fields.iter().map(|field| field.ty).collect()),
            Type::Tuple(parts) => Some(parts.clone()),
            _ => None,
        }
    }

    /// The program as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // A program is made of numbers, texts and lists: there is nothing that cannot be written.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// The program in these bytes, verified: its bytes may come from anywhere.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, crate::Error> {
        if bytes.len() > crate::verify::BYTES_MAX {
            return Err(crate::Error::new(0, format!("a program has at most {} bytes", crate::verify::BYTES_MAX)));
        }
        let program: Self =
            postcard::from_bytes(bytes).map_err(|error| crate::Error::new(0, format!("not a program: {error}")))?;
        crate::verify::verify(&program)?;
        Ok(program)
    }
}
