//! The checked form of handlers: a tree of what GPU code can carry, and nothing else.
//!
//! `lower` makes it, backends read it. Arithmetic that may fail, indices and loops are nodes of their own, so that no backend
//! can forget a check. Types appear where the text names them; leaves (literals, patterns, names) are kept as syntax.

use proc_macro2::{Ident, Span};
use syn::{Lifetime, Lit, Member, Pat, Path, Type};

/// All functions of one `#[handlers]` block.
pub struct Program {
    pub consts: Vec<syn::ImplItemConst>,
    pub functions: Vec<Function>,
}

/// A handler or a helper.
pub struct Function {
    pub name: Ident,
    pub attrs: Vec<syn::Attribute>,
    pub role: Role,
    pub receiver: Receiver,
    /// The `self` of the signature: names in the body are looked up from where it was written.
    pub self_token: Option<syn::Token![self]>,
    pub params: Vec<Param>,
    /// What it gives; `None` is `()`.
    pub gives: Option<Type>,
    pub body: Block,
    /// Helpers that it calls, with the places of the calls.
    pub calls: Vec<Ident>,
    /// Messages that it makes.
    pub sends: Vec<Path>,
}

pub enum Role {
    /// Handles this message.
    Handler(Box<Type>),
    Helper,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Receiver {
    None,
    Shared,
    Mut,
    Value,
}

pub struct Param {
    pub pat: Pat,
    pub ty: Type,
}

pub struct Block {
    pub stmts: Vec<Stmt>,
}

pub enum Stmt {
    Let(Box<Let>),
    /// An expression; `semi` says whether its value is dropped.
    Expr {
        expr: Box<Expr>,
        semi: bool,
    },
}

pub struct Let {
    pub pat: Pat,
    pub ty: Option<Type>,
    pub init: Option<Expr>,
    /// The block of a `let .. else`.
    pub otherwise: Option<Block>,
}

pub struct Expr {
    pub kind: ExprKind,
    pub span: Span,
}

pub enum ExprKind {
    /// A literal, negative ones included.
    Lit {
        negative: bool,
        lit: Lit,
    },
    /// A local, a parameter or a constant.
    Path(Path),
    Field {
        base: Box<Expr>,
        member: Member,
    },
    Index {
        base: Box<Expr>,
        index: Box<Expr>,
    },
    /// `*reference`, for parameters that are references.
    Deref(Box<Expr>),
    Not(Box<Expr>),
    Neg(Box<Expr>),
    /// An operation that may fail: `a + b`, `a.rem_euclid(b)`, `a.clamp(b, c)`.
    Checked {
        op: CheckedOp,
        operands: Vec<Expr>,
    },
    /// `== != < <= > >= && || & | ^`: operations that cannot fail.
    Binary {
        op: syn::BinOp,
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
    /// A method of a number that cannot fail.
    Method {
        receiver: Box<Expr>,
        name: Ident,
        args: Vec<Expr>,
    },
    /// `u64::from(x)`, `f32::from_bits(x)`
    Convert {
        function: Path,
        args: Vec<Expr>,
    },
    /// `self.helper(..)` or, without `self`, `Self::helper(..)`
    Helper {
        on: Option<Path>,
        name: Ident,
        args: Vec<Expr>,
    },
    /// `area(..)`: a free function with `#[device_fn]`
    Free {
        path: Path,
        args: Vec<Expr>,
    },
    /// `math::exp(x)`
    Math {
        name: Ident,
        args: Vec<Expr>,
    },
    /// `Type::at(key)` and `Type::in_set(name, key)`
    Actor {
        function: Path,
        args: Vec<Expr>,
    },
    /// `ctx.name(..)`
    Ctx {
        ctx: Ident,
        call: CtxCall,
        name: Ident,
        args: Vec<Expr>,
        /// The message of a send.
        message: Option<Path>,
    },
    Struct {
        path: Path,
        fields: Vec<(Member, Expr)>,
    },
    Tuple(Vec<Expr>),
    Array(Vec<Expr>),
    Repeat {
        element: Box<Expr>,
        len: Box<Expr>,
    },
    /// `&x` or `&mut x`, as an argument.
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
    /// `let pat = value` as a condition.
    LetCond {
        pat: Pat,
        value: Box<Expr>,
    },
    Match {
        value: Box<Expr>,
        arms: Vec<Arm>,
    },
    While {
        label: Option<Lifetime>,
        cond: Box<Expr>,
        body: Block,
    },
    Loop {
        label: Option<Lifetime>,
        body: Block,
    },
    For {
        label: Option<Lifetime>,
        pat: Pat,
        over: Over,
        body: Block,
    },
    Break {
        label: Option<Lifetime>,
        value: Option<Box<Expr>>,
    },
    Continue {
        label: Option<Lifetime>,
    },
    Return(Option<Box<Expr>>),
}

pub struct Arm {
    pub pat: Pat,
    pub guard: Option<Expr>,
    pub body: Expr,
}

/// What a `for` walks over.
pub enum Over {
    Range { from: Box<Expr>, to: Box<Expr>, inclusive: bool },
    Array(Box<Expr>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckedOp {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Shl,
    Shr,
    DivEuclid,
    RemEuclid,
    Abs,
    Pow,
    Clamp,
}

#[derive(Clone, Copy)]
pub enum AssignOp {
    Checked(CheckedOp),
    /// `&= |= ^=`
    Bits(syn::BinOp),
}

/// What a call of the `Ctx` does, as far as backends differ.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum CtxCall {
    /// May fail the handling: `tell`, `reply`, `after`.
    Send,
    /// `sender`, `key`, `now`, `stop`, `random`
    Plain,
    /// May fail the handling, and is no send: `random_below`.
    Bounded,
    /// `fail`: ends the handling.
    Fail,
}
