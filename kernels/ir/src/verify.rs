//! Checks a program of unknown origin: every index into its tables, every type, that locals are set before they are read, that blocks
//! are nested as their statements say, that calls have no cycle, and how much memory it takes (C9, C11).
//!
//! A program that passes runs to its end within its fuel, touches nothing but its own locals, the state and the message, and
//! cannot make the interpreter or the translation fail.

use std::collections::BTreeSet;

use ringfleet_abi::limits::{MAX_SENDS_LIMIT, PAYLOAD_BYTES_MAX, STATE_BYTES_MAX};

use crate::Error;
use crate::program::{
    Arg, Arith, BlockId, CtxValue, FORMAT, Function, LocalKind, Mode, Op, Operand, Place, Program, Step, Stmt,
    StmtKind, Target, Type, TypeId, Value, Variant,
};
use crate::scalar::Scalar;
use crate::ty::{Float, Int};

type Result<T> = std::result::Result<T, Error>;

/// The longest program, as bytes.
pub const BYTES_MAX: usize = 1 << 20;
/// Nested blocks of a function.
pub const DEPTH_MAX: usize = 128;
/// Bytes of the locals of a function and of all that it calls.
pub const STACK_BYTES_MAX: usize = 64 << 10;
/// Statements that a handler runs through, calls counted in full: what the translation may grow to.
pub const EXPANDED_MAX: usize = 1 << 17;
/// Types nested in each other.
const TYPE_DEPTH_MAX: usize = 32;
/// Types in a type, counted wherever they stand: whoever walks through a type takes so many steps.
const TYPE_NODES_MAX: usize = 1 << 13;

/// Variants of an enum.
pub const VARIANTS_MAX: usize = 256;

/// Whether nothing behind this statement in its block is reached.
pub(crate) fn ends(kind: &StmtKind) -> bool {
    matches!(
        kind,
        StmtKind::Break(_)
            | StmtKind::Continue(_)
            | StmtKind::Leave(_)
            | StmtKind::Return(_)
            | StmtKind::Fail(_)
            | StmtKind::Unreachable
    )
}

/// Checks a program.
///
/// # Errors
/// The first thing that is wrong, with the user's line.
pub fn verify(program: &Program) -> Result<()> {
    let wrong = |text: &str| Err(Error::new(0, text));
    if program.format != FORMAT {
        return wrong("a program of another format");
    }
    check_types(program)?;
    let bytes = |ty: TypeId| program.types.get(ty as usize).map(|_| program.bytes(ty));
    for constant in &program.consts {
        if bytes(constant.ty) != Some(constant.bytes.len()) {
            return wrong("a constant of another length than its type");
        }
        if !valid(program, constant.ty, &constant.bytes) {
            return wrong("a constant that is no value of its type");
        }
    }
    let is_plain = |ty: TypeId| match program.types.get(ty as usize) {
        Some(Type::Struct { fields, .. }) => {
            plain(program, ty) && (fields.is_empty() || c_align(program, ty).is_some())
        }
        _ => false,
    };
    if !is_plain(program.state) || program.initial.len() != program.bytes(program.state) {
        return wrong("the state is not plain data of the length of its initial value");
    }
    if !valid(program, program.state, &program.initial) {
        return wrong("an initial state that is no value of its type");
    }
    if program.initial.len() > STATE_BYTES_MAX {
        return wrong("the state is too long");
    }
    if program.max_sends as usize > MAX_SENDS_LIMIT {
        return wrong("a handling would send too many messages");
    }
    for message in &program.messages {
        if !is_plain(message.ty) || program.bytes(message.ty) > PAYLOAD_BYTES_MAX || message.kind == 0 {
            return wrong("a message that is not plain data of at most 32 bytes, or without kind");
        }
    }
    let mut kinds = BTreeSet::new();
    for handler in &program.handlers {
        let (Some(message), Some(function)) =
            (program.messages.get(handler.message as usize), program.functions.get(handler.function as usize))
        else {
            return wrong("a handler of nothing");
        };
        if !kinds.insert(message.kind) {
            return wrong("two handlers of one kind of message");
        }
        let shape: Vec<(TypeId, LocalKind)> =
            function.locals.iter().take(function.params as usize).map(|local| (local.ty, local.kind)).collect();
        if shape != [(program.state, LocalKind::RefMut), (message.ty, LocalKind::Ref)] || function.gives.is_some() {
            return Err(Error::new(function.line, "a handler takes `&mut self` and a message, and gives nothing"));
        }
    }
    for function in &program.functions {
        Check::function(program, function)?;
    }
    check_calls(program)
}

fn check_types(program: &Program) -> Result<()> {
    let mut depths = Vec::new();
    let mut sizes: Vec<usize> = Vec::new();
    let mut nodes: Vec<usize> = Vec::new();
    for (at, ty) in program.types.iter().enumerate() {
        let parts: Vec<TypeId> = match ty {
            Type::Bool | Type::Int(_) | Type::Float(_) => Vec::new(),
            Type::Enum { number, variants, .. } if is_enum(*number, variants) => Vec::new(),
            Type::Enum { .. } => {
                return Err(Error::new(0, "an enum without 0, with variants out of order, or of another number"));
            }
            Type::Array { element, .. } => vec![*element],
            Type::Option(inner) => vec![*inner],
            Type::Tuple(parts) => parts.clone(),
            Type::Struct { fields, .. } => fields.iter().map(|field| field.ty).collect(),
        };
        if parts.iter().any(|part| *part as usize >= at) {
            return Err(Error::new(0, "a type that refers to one behind it"));
        }
        let depth = 1 + parts.iter().map(|part| depths[*part as usize]).max().unwrap_or(0);
        let each: usize = parts.iter().map(|part| sizes[*part as usize]).sum();
        let size = match ty {
            Type::Array { len, .. } => each.saturating_mul(*len as usize),
            Type::Bool | Type::Int(_) | Type::Float(_) | Type::Enum { .. } => program.bytes(at as TypeId),
            Type::Option(_) => each + 1,
            _ => each,
        };
        let count = parts.iter().fold(1_usize, |sum, part| sum.saturating_add(nodes[*part as usize]));
        if depth > TYPE_DEPTH_MAX || size > STACK_BYTES_MAX || count > TYPE_NODES_MAX {
            return Err(Error::new(0, "a type that is too large or nested too deeply"));
        }
        depths.push(depth);
        sizes.push(size);
        nodes.push(count);
    }
    Ok(())
}

/// Whether an enum is held as a small number without sign, its variants are in the order of their numbers and fit, and the first is 0.
fn is_enum(number: Int, variants: &[Variant]) -> bool {
    matches!(number, Int::U8 | Int::U16 | Int::U32)
        && variants.len() <= VARIANTS_MAX
        && variants.first().is_some_and(|first| first.value == 0)
        && variants.is_sorted_by(|a, b| a.value < b.value)
        && variants.last().is_some_and(|last| u64::from(last.value) >> number.bits() == 0)
}

/// For every type whether there are enums in it: whether some bits are no value.
pub(crate) fn with_enums(program: &Program) -> Vec<bool> {
    let mut with: Vec<bool> = Vec::new();
    for ty in &program.types {
        with.push(match ty {
            Type::Enum { .. } => true,
            Type::Bool | Type::Int(_) | Type::Float(_) => false,
            Type::Array { element: inner, .. } | Type::Option(inner) => with[*inner as usize],
            Type::Tuple(parts) => parts.iter().any(|part| with[*part as usize]),
            Type::Struct { fields, .. } => fields.iter().any(|field| with[field.ty as usize]),
        });
    }
    with
}

/// Whether every pattern of bits is a value, but for enums.
fn plain(program: &Program, ty: TypeId) -> bool {
    match &program.types[ty as usize] {
        Type::Int(int) => !matches!(int, Int::Usize | Int::Isize),
        Type::Float(_) | Type::Enum { .. } => true,
        Type::Array { element, .. } => plain(program, *element),
        Type::Struct { fields, .. } => fields.iter().all(|field| plain(program, field.ty)),
        _ => false,
    }
}

/// The alignment of plain data whose bytes C lays out as they stand here: every part has bytes (in C++ an empty struct has one) and
/// begins where the one before it ends, aligned, and nothing is padded. `None`: C would lay it out in another way.
fn c_align(program: &Program, ty: TypeId) -> Option<usize> {
    match &program.types[ty as usize] {
        Type::Array { element, len } => (*len > 0).then(|| c_align(program, *element)).flatten(),
        Type::Struct { fields, .. } => {
            let (mut end, mut align) = (0_usize, None);
            for field in fields {
                let own = c_align(program, field.ty)?;
                if !end.is_multiple_of(own) {
                    return None;
                }
                end += program.bytes(field.ty);
                align = align.max(Some(own));
            }
            align.filter(|align| end.is_multiple_of(*align))
        }
        _ => Some(program.bytes(ty)),
    }
}

/// Whether the bytes are a value: of the right length, a `bool` is 0 or 1, and an enum one of its variants.
pub(crate) fn valid(program: &Program, ty: TypeId, bytes: &[u8]) -> bool {
    match &program.types[ty as usize] {
        Type::Bool => bytes[0] < 2,
        Type::Int(_) | Type::Float(_) => true,
        Type::Enum { variants, .. } => {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            variants.binary_search_by_key(&u32::from_le_bytes(word), |variant| variant.value).is_ok()
        }
        Type::Array { element, .. } => {
            let size = program.bytes(*element);
            size == 0 || bytes.chunks(size).all(|bytes| valid(program, *element, bytes))
        }
        Type::Option(inner) => bytes[0] < 2 && valid(program, *inner, &bytes[1..]),
        Type::Tuple(_) | Type::Struct { .. } => {
            let parts = program.parts(ty).unwrap_or_default();
            let mut rest = bytes;
            parts.iter().all(|part| {
                let (own, behind) = rest.split_at(program.bytes(*part));
                rest = behind;
                valid(program, *part, own)
            })
        }
    }
}

/// Calls have no cycle; what a function needs with all that it calls is bounded.
fn check_calls(program: &Program) -> Result<()> {
    #[derive(Clone, Copy)]
    enum Seen {
        No,
        Open,
        Done { stack: usize, stmts: usize },
    }
    fn visit(program: &Program, at: u32, seen: &mut [Seen], depth: usize) -> Result<(usize, usize)> {
        let function = &program.functions[at as usize];
        match seen[at as usize] {
            Seen::Done { stack, stmts } => return Ok((stack, stmts)),
            Seen::Open => return Err(Error::new(function.line, format!("`{}` calls itself", function.name))),
            Seen::No if depth > DEPTH_MAX => return Err(Error::new(function.line, "calls are nested too deeply")),
            Seen::No => seen[at as usize] = Seen::Open,
        }
        let own: usize = function.locals.iter().map(|local| program.bytes(local.ty)).sum();
        let (mut deepest, mut stmts) = (0, 0_usize);
        for stmt in function.blocks.iter().flatten() {
            stmts += 1;
            if let StmtKind::Call { function, .. } = stmt.kind {
                let (stack, inner) = visit(program, function, seen, depth + 1)?;
                deepest = deepest.max(stack);
                stmts = stmts.saturating_add(inner);
            }
        }
        let stack = own + deepest;
        if stack > STACK_BYTES_MAX || stmts > EXPANDED_MAX {
            return Err(Error::new(
                function.line,
                format!("`{}` needs {stack} bytes for locals and {stmts} statements: too much", function.name),
            ));
        }
        seen[at as usize] = Seen::Done { stack, stmts };
        Ok((stack, stmts))
    }
    let mut seen = vec![Seen::No; program.functions.len()];
    for at in 0..program.functions.len() {
        visit(program, at as u32, &mut seen, 0)?;
    }
    Ok(())
}

/// Locals that have a value for sure. `None`: this point is not reached.
type Set = Option<Vec<bool>>;

fn meet(a: Set, b: Set) -> Set {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.into_iter().zip(b).map(|(a, b)| a & b).collect()),
        (a, b) => a.or(b),
    }
}

/// What `Leave`, `Break` and `Continue` may name here.
struct Open {
    block: BlockId,
    is_loop: bool,
    /// What is set wherever it is left.
    left: Set,
}

struct Check<'a> {
    program: &'a Program,
    function: &'a Function,
    open: Vec<Open>,
    used: Vec<bool>,
    line: u32,
}

impl<'a> Check<'a> {
    fn function(program: &'a Program, function: &'a Function) -> Result<()> {
        let mut check = Check {
            program,
            function,
            open: Vec::new(),
            used: vec![false; function.blocks.len()],
            line: function.line,
        };
        let types = program.types.len();
        let params = function.params as usize;
        if params > function.locals.len() || function.blocks.is_empty() {
            return check.wrong("a function without body or parameters");
        }
        for (at, local) in function.locals.iter().enumerate() {
            if local.ty as usize >= types || (at >= params && local.kind != LocalKind::Value) {
                return check.wrong("a local of no type, or a reference that is no parameter");
            }
        }
        if function.gives.is_some_and(|ty| ty as usize >= types) {
            return check.wrong("a function that gives no type");
        }
        let set: Vec<bool> = (0..function.locals.len()).map(|at| at < params).collect();
        check.used[0] = true;
        let end = check.block(0, Some(set), 0)?;
        if end.is_some() && function.gives.is_some() {
            return check.wrong("a function that ends without its value");
        }
        if check.used.contains(&false) {
            return check.wrong("a block that belongs to nothing");
        }
        Ok(())
    }

    fn wrong<T>(&self, text: impl Into<String>) -> Result<T> {
        Err(Error::new(self.line, text))
    }

    /// Takes a block that belongs to a statement of `parent`.
    fn child(&mut self, parent: BlockId, block: BlockId) -> Result<()> {
        match self.used.get_mut(block as usize) {
            Some(used) if !*used && block > parent => {
                *used = true;
                Ok(())
            }
            _ => self.wrong("blocks are not nested"),
        }
    }

    fn block(&mut self, id: BlockId, mut set: Set, depth: usize) -> Result<Set> {
        if depth > DEPTH_MAX {
            return self.wrong("blocks are nested too deeply");
        }
        let function = self.function;
        let stmts = &function.blocks[id as usize];
        for (at, stmt) in stmts.iter().enumerate() {
            self.line = stmt.line;
            set = self.stmt(id, stmt, set, depth)?;
            if ends(&stmt.kind) && at + 1 != stmts.len() {
                return self.wrong("a statement behind the end of its block");
            }
        }
        Ok(set)
    }

    fn stmt(&mut self, id: BlockId, stmt: &Stmt, mut set: Set, depth: usize) -> Result<Set> {
        match &stmt.kind {
            StmtKind::Set { to, value } => {
                self.value(value, self.target(to, &set)?, &set)?;
                if let (Some(set), true) = (&mut set, to.steps.is_empty()) {
                    set[to.root as usize] = true;
                }
            }
            StmtKind::Check(place) => self.place(place, &set).map(|_| ())?,
            StmtKind::Call { function, args, to } => self.call(*function, args, *to, &mut set)?,
            StmtKind::If { cond, then, otherwise } => {
                self.scalar_is(*cond, Scalar::Bool, &set)?;
                self.child(id, *then)?;
                let after = self.block(*then, set.clone(), depth + 1)?;
                let other = match otherwise {
                    None => set,
                    Some(otherwise) => {
                        self.child(id, *otherwise)?;
                        self.block(*otherwise, set, depth + 1)?
                    }
                };
                set = meet(after, other);
            }
            StmtKind::Loop { head, cond, body } => {
                self.child(id, *head)?;
                self.child(id, *body)?;
                let before = self.block(*head, set, depth + 1)?;
                if let Some(cond) = cond {
                    self.scalar_is(*cond, Scalar::Bool, &before)?;
                }
                self.open.push(Open { block: *body, is_loop: true, left: None });
                self.block(*body, before.clone(), depth + 1)?;
                let left = self.open.pop().and_then(|open| open.left);
                set = if cond.is_some() { meet(before, left) } else { left };
            }
            StmtKind::Block(block) => {
                self.child(id, *block)?;
                self.open.push(Open { block: *block, is_loop: false, left: None });
                let end = self.block(*block, set, depth + 1)?;
                set = meet(end, self.open.pop().and_then(|open| open.left));
            }
            StmtKind::Break(block) | StmtKind::Leave(block) => {
                let is_loop = matches!(stmt.kind, StmtKind::Break(_));
                let Some(open) = self.open.iter_mut().find(|open| open.block == *block && open.is_loop == is_loop)
                else {
                    return self.wrong("a way out of a block that is not around it");
                };
                open.left = meet(open.left.take(), set);
                set = None;
            }
            StmtKind::Continue(block) => {
                if !self.open.iter().any(|open| open.block == *block && open.is_loop) {
                    return self.wrong("`continue` of a loop that is not around it");
                }
                set = None;
            }
            StmtKind::Return(value) => {
                match (value, self.function.gives) {
                    (None, None) => {}
                    (Some(value), Some(ty)) if self.operand(*value, &set)? == ty => {}
                    _ => return self.wrong("a function gives something else than it says"),
                }
                set = None;
            }
            StmtKind::Fail(code) => {
                self.scalar_is(*code, Scalar::Int(Int::U16), &set)?;
                set = None;
            }
            StmtKind::Unreachable => set = None,
            StmtKind::Send { to, message, body } => {
                match to {
                    Target::Actor { tag, key } => {
                        self.scalar_is(*tag, Scalar::Int(Int::U32), &set)?;
                        self.scalar_is(*key, Scalar::Int(Int::U64), &set)?;
                    }
                    Target::Sender => {}
                    Target::Later { delay_ms } => self.scalar_is(*delay_ms, Scalar::Int(Int::U32), &set)?,
                }
                let body = self.operand(*body, &set)?;
                if self.program.messages.get(*message as usize).map(|message| message.ty) != Some(body) {
                    return self.wrong("a message of another type");
                }
            }
            StmtKind::Stop => {}
        }
        Ok(set)
    }

    fn call(&mut self, function: u32, args: &[Arg], to: Option<u32>, set: &mut Set) -> Result<()> {
        let Some(callee) = self.program.functions.get(function as usize) else {
            return self.wrong("a call of no function");
        };
        if self.program.handlers.iter().any(|handler| handler.function == function) {
            return self.wrong("a call of a handler");
        }
        if callee.params as usize != args.len() || callee.locals.len() < args.len() {
            return self.wrong("a call with other arguments");
        }
        for (arg, param) in args.iter().zip(&callee.locals) {
            let fits = match (arg, param.kind) {
                (Arg::Value(value), LocalKind::Value) => self.operand(*value, set)? == param.ty,
                (Arg::Ref(place), LocalKind::Ref) => self.place(place, set)? == param.ty,
                (Arg::Ref(place), LocalKind::RefMut) => {
                    self.is_writable(place)?;
                    self.place(place, set)? == param.ty
                }
                _ => false,
            };
            if !fits {
                return self.wrong("an argument of another type");
            }
        }
        match (to, callee.gives) {
            (None, None) => Ok(()),
            (Some(to), Some(ty)) => {
                let place = Place { root: to, steps: Vec::new() };
                if self.target(&place, set)? != ty || self.function.locals[to as usize].kind != LocalKind::Value {
                    return self.wrong("a call whose value does not fit");
                }
                if let Some(set) = set {
                    set[to as usize] = true;
                }
                Ok(())
            }
            _ => self.wrong("a call whose value goes nowhere, or comes from nowhere"),
        }
    }

    fn is_writable(&self, place: &Place) -> Result<()> {
        match self.function.locals.get(place.root as usize) {
            Some(local) if local.kind != LocalKind::Ref => Ok(()),
            _ => self.wrong("a shared reference is written through"),
        }
    }

    /// The type of a place that is written.
    fn target(&self, place: &Place, set: &Set) -> Result<TypeId> {
        self.is_writable(place)?;
        if place.steps.is_empty() {
            return Ok(self.function.locals[place.root as usize].ty);
        }
        self.place(place, set)
    }

    /// The type of a place that has a value.
    fn place(&self, place: &Place, set: &Set) -> Result<TypeId> {
        let mut ty = self.operand_local(place.root, set)?;
        for step in &place.steps {
            ty = match (step, &self.program.types[ty as usize]) {
                (Step::Field(at), _) => match self.program.parts(ty).and_then(|parts| parts.get(*at as usize).copied())
                {
                    Some(part) => part,
                    None => return self.wrong("a field that is not there"),
                },
                (Step::Index(at), Type::Array { element, .. }) => {
                    self.scalar_is(*at, Scalar::Int(Int::Usize), set)?;
                    *element
                }
                _ => return self.wrong("an element of something else than an array"),
            };
        }
        Ok(ty)
    }

    fn operand_local(&self, local: u32, set: &Set) -> Result<TypeId> {
        let Some(found) = self.function.locals.get(local as usize) else {
            return self.wrong("a local that is not there");
        };
        if set.as_ref().is_some_and(|set| !set[local as usize]) {
            return self.wrong(format!("local {local} `{}` is read before it is set", found.name));
        }
        Ok(found.ty)
    }

    fn operand(&self, operand: Operand, set: &Set) -> Result<TypeId> {
        match operand {
            Operand::Local(local) => {
                let ty = self.operand_local(local, set)?;
                if self.function.locals[local as usize].kind != LocalKind::Value {
                    return self.wrong("a reference is used as a value");
                }
                Ok(ty)
            }
            Operand::Const(at) => match self.program.consts.get(at as usize) {
                Some(constant) => Ok(constant.ty),
                None => self.wrong("a constant that is not there"),
            },
        }
    }

    /// The type of a number; none of an enum, which is compared and cast only.
    fn scalar(&self, ty: TypeId) -> Option<Scalar> {
        if self.is_enum(ty) { None } else { scalar_of(self.program, ty) }
    }

    fn is_enum(&self, ty: TypeId) -> bool {
        matches!(self.program.types[ty as usize], Type::Enum { .. })
    }

    fn scalar_is(&self, operand: Operand, wanted: Scalar, set: &Set) -> Result<()> {
        let ty = self.operand(operand, set)?;
        if self.scalar(ty) == Some(wanted) {
            return Ok(());
        }
        self.wrong("an operand of another type")
    }

    fn value(&self, value: &Value, to: TypeId, set: &Set) -> Result<()> {
        let all = |operands: &[Operand]| {
            operands.iter().map(|operand| self.operand(*operand, set)).collect::<Result<Vec<_>>>()
        };
        let fits = match value {
            Value::Use(operand) => self.operand(*operand, set)? == to,
            Value::Load(place) => self.place(place, set)? == to,
            Value::Op(op, operands) => self.op(*op, &all(operands)?, to),
            Value::Aggregate(operands) => self.program.parts(to) == Some(all(operands)?),
            Value::Array(operands) => {
                let operands = all(operands)?;
                matches!(&self.program.types[to as usize], Type::Array { element, len }
                    if *len as usize == operands.len() && operands.iter().all(|ty| ty == element))
            }
            Value::Repeat(operand) => {
                let ty = self.operand(*operand, set)?;
                matches!(&self.program.types[to as usize], Type::Array { element, .. } if *element == ty)
            }
            Value::IsSome(operand) => {
                let ty = self.operand(*operand, set)?;
                matches!(self.program.types[ty as usize], Type::Option(_)) && self.scalar(to) == Some(Scalar::Bool)
            }
            Value::Inner(operand) => {
                let ty = self.operand(*operand, set)?;
                matches!(self.program.types[ty as usize], Type::Option(inner) if inner == to)
            }
            Value::Ctx(CtxValue::Key | CtxValue::Now | CtxValue::SenderKey | CtxValue::Random) => {
                self.scalar(to) == Some(Scalar::Int(Int::U64))
            }
            Value::RandomBelow(bound) => {
                self.scalar_is(*bound, Scalar::Int(Int::U64), set)?;
                self.scalar(to) == Some(Scalar::Int(Int::U64))
            }
            Value::Ctx(CtxValue::SenderSet) => self.scalar(to) == Some(Scalar::Int(Int::U16)),
        };
        if fits { Ok(()) } else { self.wrong(format!("a value of another type: {value:?}")) }
    }

    fn op(&self, op: Op, operands: &[TypeId], to: TypeId) -> bool {
        let maybe = match self.program.types[to as usize] {
            Type::Option(inner) => Some(inner),
            _ => None,
        };
        match (op, operands) {
            (Op::Eq | Op::Ne, [a, b]) if self.is_enum(*a) => return a == b && self.scalar(to) == Some(Scalar::Bool),
            (Op::Cast, [a]) if self.is_enum(*a) => return matches!(self.scalar(to), Some(Scalar::Int(_))),
            _ => {}
        }
        let scalars: Option<Vec<Scalar>> = operands.iter().map(|ty| self.scalar(*ty)).collect();
        let (Some(x), Some(to)) = (scalars, self.scalar(maybe.unwrap_or(to))) else { return false };
        let optional = matches!(op, Op::Arith(_, Mode::Optional));
        maybe.is_some() == optional && signature_fits(op, &x, to)
    }
}

/// The type of a number, or of that of an enum.
pub(crate) fn scalar_of(program: &Program, ty: TypeId) -> Option<Scalar> {
    match program.types.get(ty as usize)? {
        Type::Bool => Some(Scalar::Bool),
        Type::Int(int) => Some(Scalar::Int(*int)),
        Type::Float(float) => Some(Scalar::Float(*float)),
        Type::Enum { number, .. } => Some(Scalar::Int(*number)),
        _ => None,
    }
}

/// Whether an operation takes these operands and gives this.
fn signature_fits(op: Op, x: &[Scalar], to: Scalar) -> bool {
    let int = |s: Scalar| matches!(s, Scalar::Int(_));
    let signed = |s: Scalar| matches!(s, Scalar::Int(int) if int.signed());
    let float = |s: Scalar| matches!(s, Scalar::Float(_));
    let number = Scalar::Int(Int::U32);
    let bits_of = |s: Scalar| match s {
        Scalar::Float(Float::F32) => Some(Scalar::Int(Int::U32)),
        Scalar::Float(Float::F64) => Some(Scalar::Int(Int::U64)),
        _ => None,
    };
    match (op, x) {
        (Op::Arith(arith, mode), [a]) => {
            arith.unary()
                && *a == to
                && (signed(*a)
                    || (int(*a) && arith == Arith::Neg && mode != Mode::Checked && mode != Mode::Saturating)
                    || (float(*a) && mode == Mode::Checked))
        }
        (Op::Arith(Arith::Shl | Arith::Shr, mode), [a, by]) => {
            *a == to && int(*a) && mode != Mode::Saturating && (*by == number || (int(*by) && mode == Mode::Checked))
        }
        (Op::Arith(Arith::Pow, _), [a, by]) => *a == to && int(*a) && *by == number,
        (Op::Arith(arith, mode), [a, b]) => {
            let allowed = !arith.divides() || matches!(mode, Mode::Checked | Mode::Optional);
            !arith.unary() && a == b && *a == to && allowed && (int(*a) || (float(*a) && mode == Mode::Checked))
        }
        (Op::Clamp, [a, b, c]) => a == b && b == c && *a == to && (int(*a) || float(*a)),
        (Op::And | Op::Or | Op::Xor, [a, b]) => a == b && *a == to && !float(*a),
        (Op::Not, [a]) => *a == to && !float(*a),
        (Op::Eq | Op::Ne | Op::Lt | Op::Le | Op::Gt | Op::Ge, [a, b]) => a == b && to == Scalar::Bool,
        (Op::Cast, [a]) => (to != Scalar::Bool && (*a != Scalar::Bool || int(to))) || *a == to,
        (Op::Min | Op::Max, [a, b]) => a == b && *a == to && *a != Scalar::Bool,
        (Op::AbsDiff, [a, b]) => a == b && matches!((*a, to), (Scalar::Int(a), Scalar::Int(to)) if a.unsigned() == to),
        (Op::UnsignedAbs, [a]) => {
            signed(*a) && matches!((*a, to), (Scalar::Int(a), Scalar::Int(to)) if a.unsigned() == to)
        }
        (Op::RotateLeft | Op::RotateRight, [a, by]) => *a == to && int(*a) && *by == number,
        (Op::Signum, [a]) => *a == to && (signed(*a) || float(*a)),
        (Op::IsPositive | Op::IsNegative, [a]) => signed(*a) && to == Scalar::Bool,
        (Op::IsPowerOfTwo, [a]) => int(*a) && !signed(*a) && to == Scalar::Bool,
        (
            Op::LeadingZeros | Op::TrailingZeros | Op::LeadingOnes | Op::TrailingOnes | Op::CountOnes | Op::CountZeros,
            [a],
        ) => int(*a) && to == number,
        (Op::SwapBytes | Op::ReverseBits, [a]) => int(*a) && *a == to,
        (Op::Sqrt | Op::Floor | Op::Ceil | Op::Round | Op::Trunc | Op::Canon, [a]) => float(*a) && *a == to,
        (Op::Copysign, [a, b]) => float(*a) && a == b && *a == to,
        (Op::IsNan | Op::IsFinite | Op::IsInfinite, [a]) => float(*a) && to == Scalar::Bool,
        (Op::ToBits, [a]) => bits_of(*a) == Some(to),
        (Op::FromBits, [a]) => bits_of(to) == Some(*a),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::device_code;
    use crate::program::{Const, Field, Handler, Local, Message};

    const U8: TypeId = 0;
    const U32: TypeId = 1;
    const U64: TypeId = 2;

    fn structure(fields: &[TypeId]) -> Type {
        let fields = fields.iter().enumerate().map(|(at, ty)| Field { name: format!("f{at}"), ty: *ty }).collect();
        Type::Struct { name: "S".into(), fields }
    }

    /// A program with an empty state and a message of the last of these types, behind `u8`, `u32`, `u64` and the empty struct.
    fn program(types: &[Type]) -> Program {
        let mut all = vec![Type::Int(Int::U8), Type::Int(Int::U32), Type::Int(Int::U64), structure(&[])];
        all.extend_from_slice(types);
        let (state, message) = (3, all.len() as TypeId - 1);
        let local = |ty, kind, name: &str| Local { ty, kind, name: name.into() };
        let locals = vec![local(state, LocalKind::RefMut, "self"), local(message, LocalKind::Ref, "m")];
        let blocks = vec![Vec::new()];
        Program {
            format: FORMAT,
            name: "test".into(),
            file: "test.rs".into(),
            types: all,
            consts: Vec::new(),
            state,
            initial: Vec::new(),
            max_sends: 1,
            messages: vec![Message { name: "M".into(), kind: 1, ty: message }],
            functions: vec![Function {
                name: "on_m".into(),
                file: String::new(),
                line: 1,
                locals,
                params: 2,
                gives: None,
                blocks,
            }],
            handlers: vec![Handler { message: 0, function: 0 }],
        }
    }

    #[test]
    fn messages_that_c_would_lay_out_in_another_way_are_refused() {
        const NEXT: TypeId = 4;
        let array = |element, len| Type::Array { element, len };
        let good: &[&[Type]] = &[
            &[],
            &[structure(&[U64, U32, U32])],
            &[structure(&[U8, U8])],
            &[array(U32, 2), structure(&[U32, NEXT])],
            &[structure(&[U32, U32]), structure(&[U64, NEXT])],
        ];
        for types in good {
            assert_eq!(verify(&program(types)), Ok(()), "{types:?}");
        }
        let bad: &[&[Type]] = &[
            &[structure(&[U32, U64])],
            &[structure(&[U64, U32])],
            &[structure(&[U8, U32])],
            &[structure(&[U64, 3])],
            &[structure(&[3])],
            &[array(U8, 0), structure(&[U64, NEXT])],
            &[array(3, 2), structure(&[U64, NEXT])],
            &[structure(&[U8, U8, U8, U8]), array(NEXT, 2), structure(&[U8, U8, 5, U32])],
        ];
        for types in bad {
            let error = verify(&program(types)).expect_err("refused").text;
            assert!(error.contains("a message that is not plain data"), "{types:?}: {error}");
        }
    }

    fn enumeration(number: Int, values: &[u32]) -> Type {
        let variants = values.iter().map(|value| Variant { name: format!("V{value}"), value: *value }).collect();
        Type::Enum { name: "E".into(), number, variants }
    }

    #[test]
    fn enums_without_zero_or_whose_variants_do_not_fit_are_refused() {
        for values in [&[0][..], &[0, 1, 255]] {
            assert_eq!(verify(&program(&[enumeration(Int::U8, values), structure(&[4])])), Ok(()), "{values:?}");
        }
        let many: Vec<u32> = (0..257).collect();
        for (number, values) in [
            (Int::U8, &[][..]),
            (Int::U8, &[1, 2]),
            (Int::U8, &[0, 2, 1]),
            (Int::U8, &[0, 1, 1]),
            (Int::U8, &[0, 256]),
            (Int::U16, &[0, 65_536]),
            (Int::U16, &many),
            (Int::U64, &[0]),
            (Int::I8, &[0]),
        ] {
            let error = verify(&program(&[enumeration(number, values), structure(&[4])])).expect_err("refused").text;
            assert_eq!(error, "an enum without 0, with variants out of order, or of another number", "{values:?}");
        }
    }

    #[test]
    fn enums_are_compared_and_cast_and_nothing_else() {
        let run = |op: Op, gives: TypeId, bytes: u8| {
            let mut program = program(&[enumeration(Int::U8, &[0, 2]), Type::Bool, structure(&[4])]);
            program.consts.push(Const { ty: 4, bytes: vec![bytes] });
            let function = &mut program.functions[0];
            function.locals.push(Local { ty: gives, kind: LocalKind::Value, name: String::new() });
            let to = Place { root: 2, steps: Vec::new() };
            let operands = vec![Operand::Const(0); if op == Op::Cast || op == Op::Not { 1 } else { 2 }];
            function.blocks[0].push(Stmt { line: 1, kind: StmtKind::Set { to, value: Value::Op(op, operands) } });
            verify(&program)
        };
        for (op, gives) in [(Op::Eq, 5), (Op::Ne, 5), (Op::Cast, U8), (Op::Cast, U64)] {
            assert_eq!(run(op, gives, 2), Ok(()), "{op:?}");
        }
        let refused = [
            (Op::Lt, 5),
            (Op::Eq, 4),
            (Op::Cast, 4),
            (Op::Cast, 5),
            (Op::Not, 4),
            (Op::Or, 4),
            (Op::Max, 4),
            (Op::Max, U8),
        ];
        for (op, gives) in refused {
            assert!(run(op, gives, 2).is_err(), "{op:?}");
        }
        assert_eq!(run(Op::Eq, 5, 1).expect_err("refused").text, "a constant that is no value of its type");
    }

    #[test]
    fn the_device_code_asserts_the_size_of_every_message() {
        let text = device_code(&program(&[structure(&[U64, U32, U32])])).expect("device code").text;
        assert!(text.contains("static_assert(sizeof(T4_S) == 16, \"the layout of M\");"), "{text}");
    }

    #[test]
    fn types_without_bytes_that_double_with_every_one_are_refused() {
        let mut types = vec![Type::Tuple(Vec::new())];
        for depth in 0..30 {
            types.push(Type::Tuple(vec![4 + depth; 8]));
        }
        types.push(structure(&[U64]));
        let error = verify(&program(&types)).expect_err("refused").text;
        assert_eq!(error, "a type that is too large or nested too deeply");
    }

    #[test]
    fn no_local_takes_a_name_of_the_generated_text() {
        let mut program = program(&[]);
        for name in ["rf_ctx", "rf_out", "rf", "t", "9lives", "f0_on_m", "T3", "rf_const", "", "_"] {
            program.functions[0].locals.push(Local { ty: U32, kind: LocalKind::Value, name: name.into() });
        }
        assert_eq!(verify(&program), Ok(()));
        let text = device_code(&program).expect("device code").text;
        for (at, name) in [(2, "_rf_ctx"), (5, "_t"), (6, "_9lives"), (10, ""), (11, "")] {
            assert!(text.contains(&format!("    rf_u32 v{at}{name};\n")), "{at}: {text}");
        }
    }
}
