//! What the macro sees of handlers: a tree whose names are resolved and whose types are not known.
//!
//! The macros write it as bytes into the binary: one tree for each `#[handlers]` block and for each `#[device_fn]`. What only rustc knows (named types, values of constants, kinds of messages) stands
//! in a list beside it, [`Externals`](crate::externals::Externals), and the tree refers to it by position.

use serde::{Deserialize, Serialize};

use crate::ty::{Float, Int};

/// All functions of one `#[handlers]` block; or a free function, and behind it what it needs of `math`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Handlers and helpers, in the order of the text.
    pub functions: Vec<Function>,
}

/// What the names of functions of `math` begin with, and no others.
pub const MATH: &str = "math::";

/// A handler or a helper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Its line in the user's file.
    pub line: u32,
    /// The message that it handles: a position among the externals' messages. `None` for helpers.
    pub handles: Option<u32>,
    /// How it takes `self`.
    pub receiver: Receiver,
    /// The other parameters; a `Ctx` is not listed.
    pub params: Vec<Param>,
    /// What it gives; `None` is `()`.
    pub gives: Option<Type>,
    /// What it does.
    pub body: Block,
    /// Names of its locals by number, parameters first.
    pub locals: Vec<String>,
    /// Expressions in it: their numbers are below this.
    pub exprs: u32,
}

/// How a function takes `self`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Receiver {
    /// Not at all.
    None,
    /// `&self`
    Shared,
    /// `&mut self`
    Mut,
    /// `self`, a copy.
    Value,
}

/// A parameter; the n-th is local number n.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Param {
    /// Its type.
    pub ty: Type,
}

/// A type as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Type {
    /// `_`
    Infer,
    /// `bool`
    Bool,
    /// An integer.
    Int(Int),
    /// A float.
    Float(Float),
    /// A struct: a position among the externals' types.
    Named(u32),
    /// `[element; length]`
    Array(Box<Type>, Len),
    /// `(a, b)`
    Tuple(Vec<Type>),
    /// `&T` or `&mut T`
    Ref(bool, Box<Type>),
}

/// The length of an array as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Len {
    /// A literal.
    Literal(u32),
    /// A constant: a position among the externals' constants.
    Const(u32),
}

/// A block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// Its statements.
    pub stmts: Vec<Stmt>,
}

/// A statement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Stmt {
    /// `let pat: ty = init else { otherwise };`
    Let {
        /// What is bound.
        pat: Pat,
        /// The type if it is written.
        ty: Option<Type>,
        /// The value.
        init: Option<Expr>,
        /// The block of a `let .. else`.
        otherwise: Option<Block>,
        /// Line.
        line: u32,
    },
    /// An expression; the flag says whether a semicolon drops its value.
    Expr(Expr, bool),
}

/// A pattern.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Pat {
    /// `_`
    Wild,
    /// A name: the local that it binds.
    Bind(u32),
    /// A literal.
    Lit(Lit),
    /// A constant.
    Const(u32),
    /// A range with its ends.
    Range {
        /// `start..`
        start: Option<End>,
        /// `..end`
        end: Option<End>,
        /// `..=end`
        inclusive: bool,
    },
    /// `a | b`
    Or(Vec<Pat>),
    /// `(a, b)`
    Tuple(Vec<Pat>),
    /// `Some(a)`
    Some(Box<Pat>),
    /// `None`
    None,
}

/// An end of a range pattern.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum End {
    /// A literal.
    Lit(Lit),
    /// A constant.
    Const(u32),
}

/// A literal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Lit {
    /// `true`, `false`
    Bool(bool),
    /// An integer.
    Int {
        /// With a minus before it.
        negative: bool,
        /// Its value without sign.
        value: u128,
        /// Its suffix.
        suffix: Option<Int>,
    },
    /// A float.
    Float {
        /// With a minus before it.
        negative: bool,
        /// Its digits.
        digits: String,
        /// Its suffix.
        suffix: Option<Float>,
    },
}

/// An expression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expr {
    /// Its number within the function.
    pub id: u32,
    /// Its line in the user's file.
    pub line: u32,
    /// What it is.
    pub kind: ExprKind,
}

/// Operations that may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CheckedOp {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`
    Div,
    /// `a % b`
    Rem,
    /// `a << b`
    Shl,
    /// `a >> b`
    Shr,
    /// `a.div_euclid(b)`
    DivEuclid,
    /// `a.rem_euclid(b)`
    RemEuclid,
    /// `-a`
    Neg,
    /// `a.abs()`
    Abs,
    /// `a.pow(b)`
    Pow,
    /// `a.clamp(b, c)`
    Clamp,
}

/// Operations that cannot fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BinaryOp {
    /// `a & b`
    And,
    /// `a | b`
    Or,
    /// `a ^ b`
    Xor,
    /// `a && b`
    Both,
    /// `a || b`
    Either,
    /// `a == b`
    Eq,
    /// `a != b`
    Ne,
    /// `a < b`
    Lt,
    /// `a <= b`
    Le,
    /// `a > b`
    Gt,
    /// `a >= b`
    Ge,
}

/// How a value is changed in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AssignOp {
    /// May fail.
    Checked(CheckedOp),
    /// `&= |= ^=`
    Bits(BinaryOp),
}

/// A call of the `Ctx`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CtxCall {
    /// `ctx.tell(to, &message)`
    Tell,
    /// `ctx.reply(&message)`
    Reply,
    /// `ctx.after(delay, &message)`
    After,
    /// `ctx.sender()`
    Sender,
    /// `ctx.key()`
    Key,
    /// `ctx.now()`
    Now,
    /// `ctx.stop()`
    Stop,
    /// `ctx.fail(code)`
    Fail,
    /// `ctx.random()`
    Random,
    /// `ctx.random_below(bound)`
    RandomBelow,
}

/// What an expression is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names of Rust's own grammar")]
pub enum ExprKind {
    Lit(Lit),
    Local(u32),
    Const(u32),
    /// `self` before a dot.
    Own,
    Field {
        base: Box<Expr>,
        name: String,
    },
    Index {
        base: Box<Expr>,
        index: Box<Expr>,
    },
    Deref(Box<Expr>),
    Not(Box<Expr>),
    Checked {
        op: CheckedOp,
        operands: Vec<Expr>,
    },
    Binary {
        op: BinaryOp,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    Assign {
        place: Box<Expr>,
        value: Box<Expr>,
    },
    AssignOp {
        op: AssignOp,
        place: Box<Expr>,
        value: Box<Expr>,
    },
    Cast {
        value: Box<Expr>,
        ty: Type,
    },
    Method {
        receiver: Box<Expr>,
        name: String,
        args: Vec<Expr>,
    },
    /// `u64::from(x)`
    From {
        ty: Type,
        value: Box<Expr>,
    },
    /// `f32::from_bits(x)`
    FromBits {
        ty: Float,
        value: Box<Expr>,
    },
    /// `self.helper(..)` or `Self::helper(..)`
    Helper {
        function: u32,
        args: Vec<Expr>,
    },
    /// `area(..)`: a free function with `#[device_fn]`, by its position among the calls of the text.
    Free {
        function: u32,
        args: Vec<Expr>,
    },
    /// `Type::at(key)`: the tag of its set is a constant.
    Actor {
        tag: u32,
        key: Box<Expr>,
    },
    /// `ctx.name(..)`; for sends the message's position among the externals' messages.
    Ctx {
        call: CtxCall,
        args: Vec<Expr>,
        message: Option<u32>,
    },
    Struct {
        ty: Type,
        fields: Vec<(String, Expr)>,
    },
    Tuple(Vec<Expr>),
    Array(Vec<Expr>),
    Repeat {
        element: Box<Expr>,
        len: Len,
    },
    Ref {
        mutable: bool,
        value: Box<Expr>,
    },
    Block(Block),
    If {
        cond: Box<Expr>,
        then: Block,
        otherwise: Option<Box<Expr>>,
    },
    /// `let pat = value` as the condition of an `if` or a `while`.
    LetCond {
        pat: Pat,
        value: Box<Expr>,
    },
    Match {
        value: Box<Expr>,
        arms: Vec<Arm>,
    },
    While {
        id: u32,
        cond: Box<Expr>,
        body: Block,
    },
    Loop {
        id: u32,
        body: Block,
    },
    For {
        id: u32,
        pat: Pat,
        over: Over,
        body: Block,
    },
    Break {
        id: u32,
        value: Option<Box<Expr>>,
    },
    Continue {
        id: u32,
    },
    Return(Option<Box<Expr>>),
}

/// An arm of a `match`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// What it matches.
    pub pat: Pat,
    /// And under which condition.
    pub guard: Option<Expr>,
    /// Its value.
    pub body: Expr,
}

/// What a `for` walks over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Over {
    /// `from..to`, `from..=to`
    Range {
        /// The first.
        from: Box<Expr>,
        /// The end.
        to: Box<Expr>,
        /// Whether the end belongs to it.
        inclusive: bool,
    },
    /// The elements of an array.
    Array(Box<Expr>),
}
