//! From the tree and its types to the typed program: one effect per statement, in the order in which native code has them.

use std::collections::{BTreeMap, HashMap};

use crate::externals::Externals;
use crate::infer::{self, Callees, Signature, Typed};
use crate::program::{
    Const, FORMAT, Field, Function, Handler, Local, LocalId, LocalKind, Message, Op, Operand, Place, Program, Type,
    TypeId, Value, Variant,
};
use crate::raw::{self, Expr, ExprKind, Lit, Receiver};
use crate::ty::{Float, Int, Ty};
use crate::{Error, Source, Text};

mod control;
mod exprs;
mod methods;
mod patterns;

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// A text that has been read, and where its functions are in the program.
struct Unit<'a> {
    file: &'a str,
    tree: raw::Program,
    externals: Externals,
    calls: Vec<u32>,
    /// For every function of the tree its position in the program, and whether it is this unit's to write.
    places: Vec<(u32, bool)>,
}

/// The program of a type.
///
/// # Errors
/// What a program cannot say.
pub fn lower(source: Source<'_>) -> Result<Program> {
    let Source { name, handlers, functions, state, initial, max_sends } = source;
    let file = handlers.file.to_owned();
    let units = units(handlers, functions)?;
    let signatures = units.iter().map(signatures).collect::<Result<Vec<_>>>()?;
    let externals = &units[0].externals;
    let mut types = Types { externals, types: Vec::new(), ids: HashMap::new() };
    let state_ty = types.id(&state)?;
    let mut consts = Consts::default();
    let mut messages = Vec::new();
    for message in &externals.messages {
        messages.push(Message { name: message.name.clone(), kind: message.kind, ty: types.id(&message.ty)? });
    }
    let (mut functions, mut handlers) = (Vec::new(), Vec::new());
    for (at, unit) in units.iter().enumerate() {
        let is_free = at > 0;
        let free = unit.calls.iter().map(|called| signatures.get(1 + *called as usize).and_then(|unit| unit.first()));
        let Some(free) = free.map(Option::<&Signature>::cloned).collect() else {
            return Err(Error::new(0, "a text calls a free function that is not in the list"));
        };
        let callees = Callees { own: signatures[at].clone(), free };
        let in_its_file = |error: Error| match is_free {
            true => Error::new(error.line, format!("in {}: {}", unit.file, error.text)),
            false => error,
        };
        let own = unit.tree.functions.iter().zip(&unit.places).zip(&callees.own);
        for ((function, (place, _)), own) in own.filter(|((_, (_, writes)), _)| *writes) {
            let typed = infer::infer(&unit.externals, &state, &callees, function, own).map_err(in_its_file)?;
            match function.handles {
                Some(_) if is_free => return Err(Error::new(function.line, "a free function handles no message")),
                Some(message) => handlers.push(Handler { message, function: *place }),
                None => {}
            }
            let lowering = Lowering {
                types: &mut types,
                consts: &mut consts,
                externals: &unit.externals,
                callees: &callees,
                typed,
                locals: Vec::new(),
                bound: vec![Bound::None; function.locals.len()],
                blocks: vec![Vec::new()],
                current: 0,
                dead: false,
                loops: BTreeMap::new(),
                line: function.line,
            };
            let function = lowering.function(function, own, &state).map_err(in_its_file)?;
            functions.push(Function { file: if is_free { unit.file.to_owned() } else { String::new() }, ..function });
        }
    }
    Ok(Program {
        format: FORMAT,
        name: name.to_owned(),
        file,
        types: types.types,
        consts: consts.consts,
        state: state_ty,
        initial,
        max_sends,
        messages,
        functions,
        handlers,
    })
}

/// Reads the texts, and numbers their functions in the order in which they are written. What several need of `math` is there once.
fn units<'a>(handlers: Text<'a>, functions: Vec<Text<'a>>) -> Result<Vec<Unit<'a>>> {
    let mut units = Vec::new();
    let mut library: HashMap<String, u32> = HashMap::new();
    let mut next = 0;
    for text in std::iter::once(handlers).chain(functions) {
        let tree: raw::Program =
            postcard::from_bytes(text.tree).map_err(|error| Error::new(0, format!("not a tree: {error}")))?;
        let mut places = Vec::new();
        for function in &tree.functions {
            let known = library.get(&function.name).copied();
            places.push((known.unwrap_or(next), known.is_none()));
            if known.is_none() {
                if function.name.starts_with(raw::MATH) {
                    library.insert(function.name.clone(), next);
                }
                next += 1;
            }
        }
        units.push(Unit { file: text.file, tree, externals: text.externals, calls: text.calls, places });
    }
    // The last list has the structs and enums of all.
    let all = units.last().map(|unit| unit.externals.beside()).unwrap_or_default();
    for unit in &mut units {
        if !all.structs.starts_with(&unit.externals.structs) || !all.enums.starts_with(&unit.externals.enums) {
            return Err(Error::new(0, "lists of names that were not begun beside each other"));
        }
        (unit.externals.structs, unit.externals.enums) = (all.structs.clone(), all.enums.clone());
    }
    Ok(units)
}

fn signatures(unit: &Unit<'_>) -> Result<Vec<Signature>> {
    let places = unit.tree.functions.iter().zip(&unit.places);
    places.map(|(function, (place, _))| signature(&unit.externals, function, *place)).collect()
}

fn signature(externals: &Externals, function: &raw::Function, place: u32) -> Result<Signature> {
    let written = |ty: &raw::Type| infer::written(externals, ty, &mut || None);
    Ok(Signature {
        params: function.params.iter().map(|param| written(&param.ty)).collect::<Result<_>>()?,
        gives: function.gives.as_ref().map_or(Ok(Ty::Unit), written)?,
        receiver: function.receiver,
        function: place,
    })
}

/// The table of types.
struct Types<'a> {
    externals: &'a Externals,
    types: Vec<Type>,
    ids: HashMap<Type, TypeId>,
}

impl Types<'_> {
    fn id(&mut self, ty: &Ty) -> Result<TypeId> {
        let ty = match ty {
            Ty::Bool => Type::Bool,
            Ty::Int(int) => Type::Int(*int),
            Ty::Float(float) => Type::Float(*float),
            Ty::Array(element, len) => Type::Array { element: self.id(element)?, len: *len },
            Ty::Tuple(parts) => Type::Tuple(parts.iter().map(|part| self.id(part)).collect::<Result<_>>()?),
            Ty::Option(inner) => Type::Option(self.id(inner)?),
            Ty::Struct(at) => {
                let (name, fields): (&str, Vec<(&str, Ty)>) = if *at >= infer::BUILT_IN {
                    (infer::built_in_name(*at), infer::built_in(*at))
                } else {
                    let def = &self.externals.structs[*at as usize];
                    (&def.name, def.fields.iter().map(|(name, ty)| (name.as_str(), ty.clone())).collect())
                };
                let fields = fields
                    .into_iter()
                    .map(|(name, ty)| Ok(Field { name: name.to_owned(), ty: self.id(&ty)? }))
                    .collect::<Result<_>>()?;
                Type::Struct { name: name.to_owned(), fields }
            }
            Ty::Enum(at) => {
                let def = &self.externals.enums[*at as usize];
                let variant = |(name, value): &(String, u32)| Variant { name: name.clone(), value: *value };
                let mut variants: Vec<Variant> = def.variants.iter().map(variant).collect();
                variants.sort_by_key(|variant| variant.value);
                Type::Enum { name: def.name.clone(), number: def.number, variants }
            }
            Ty::Unit | Ty::Never | Ty::Ref(_) | Ty::Var(_) => {
                return Err(Error::new(0, format!("`{ty}` is not a type of values")));
            }
        };
        if let Some(id) = self.ids.get(&ty) {
            return Ok(*id);
        }
        let id = self.types.len() as TypeId;
        self.types.push(ty.clone());
        self.ids.insert(ty, id);
        Ok(id)
    }
}

/// The table of constants.
#[derive(Default)]
struct Consts {
    consts: Vec<Const>,
    ids: HashMap<Const, u32>,
}

impl Consts {
    fn id(&mut self, ty: TypeId, bytes: Vec<u8>) -> u32 {
        let constant = Const { ty, bytes };
        if let Some(id) = self.ids.get(&constant) {
            return *id;
        }
        let id = self.consts.len() as u32;
        self.consts.push(constant.clone());
        self.ids.insert(constant, id);
        id
    }
}

/// What stands for a local of the tree.
#[derive(Clone, Debug)]
enum Bound {
    /// It has not been bound yet.
    None,
    /// It has no value: `()`.
    Unit,
    /// A local.
    Local(LocalId),
    /// A reference in a `let`: the place that it refers to.
    Alias(Place),
}

/// A loop that is being read.
struct Looping {
    body: u32,
    /// Where `break` puts its value.
    to: Option<LocalId>,
    left: bool,
}

struct Lowering<'a, 'e> {
    types: &'a mut Types<'e>,
    consts: &'a mut Consts,
    externals: &'a Externals,
    callees: &'a Callees,
    typed: Typed,
    locals: Vec<Local>,
    bound: Vec<Bound>,
    blocks: Vec<Vec<crate::program::Stmt>>,
    current: u32,
    /// What follows in this block cannot be reached.
    dead: bool,
    loops: BTreeMap<u32, Looping>,
    line: u32,
}

impl Lowering<'_, '_> {
    fn function(mut self, function: &raw::Function, own: &Signature, state: &Ty) -> Result<Function> {
        if own.receiver != Receiver::None {
            let kind = match own.receiver {
                Receiver::Shared => LocalKind::Ref,
                Receiver::Mut => LocalKind::RefMut,
                _ => LocalKind::Value,
            };
            let ty = self.types.id(state)?;
            self.locals.push(Local { ty, kind, name: "self".to_owned() });
        }
        for (at, param) in function.params.iter().enumerate() {
            let kind = match &param.ty {
                raw::Type::Ref(true, _) => LocalKind::RefMut,
                raw::Type::Ref(false, _) => LocalKind::Ref,
                _ => LocalKind::Value,
            };
            let ty = self.types.id(own.params[at].target())?;
            self.locals.push(Local { ty, kind, name: function.locals[at].clone() });
            self.bound[at] = Bound::Local(self.locals.len() as u32 - 1);
        }
        // A parameter is no more than a copy of its argument: it may be changed.
        let params = self.locals.len() as u32;
        for (at, name) in function.locals.iter().enumerate().skip(function.params.len()) {
            if self.typed.locals[at] == Ty::Unit {
                self.bound[at] = Bound::Unit;
            } else if !matches!(self.typed.locals[at], Ty::Ref(_)) {
                let ty = self.typed.locals[at].clone();
                let local = self.local(&ty, name)?;
                self.bound[at] = Bound::Local(local);
            }
        }
        let gives = if own.gives == Ty::Unit { None } else { Some(self.types.id(&own.gives)?) };
        let to = match gives {
            None => None,
            Some(_) => Some(self.local(&own.gives, "")?),
        };
        self.block(&function.body, to)?;
        if let Some(to) = to {
            self.emit(crate::program::StmtKind::Return(Some(Operand::Local(to))));
        }
        Ok(Function {
            name: function.name.clone(),
            file: String::new(),
            line: function.line,
            locals: self.locals,
            params,
            gives,
            blocks: self.blocks,
        })
    }

    fn wrong<T>(&self, text: impl Into<String>) -> Result<T> {
        Err(Error::new(self.line, text))
    }

    fn local(&mut self, ty: &Ty, name: &str) -> Result<LocalId> {
        let ty = self.types.id(ty).map_err(|error| Error::new(self.line, error.text))?;
        self.locals.push(Local { ty, kind: LocalKind::Value, name: name.to_owned() });
        Ok(self.locals.len() as u32 - 1)
    }

    fn ty(&self, expr: &Expr) -> Ty {
        self.typed.exprs[expr.id as usize].clone()
    }

    fn emit(&mut self, kind: crate::program::StmtKind) {
        if !self.dead {
            let ends = crate::verify::ends(&kind);
            self.blocks[self.current as usize].push(crate::program::Stmt { line: self.line, kind });
            self.dead = ends;
        }
    }

    fn set(&mut self, to: LocalId, value: Value) {
        self.emit(crate::program::StmtKind::Set { to: Place { root: to, steps: Vec::new() }, value });
    }

    /// A new local with this value.
    fn temp(&mut self, ty: &Ty, value: Value) -> Result<Operand> {
        let to = self.local(ty, "")?;
        self.set(to, value);
        Ok(Operand::Local(to))
    }

    fn op(&mut self, ty: &Ty, op: Op, operands: Vec<Operand>) -> Result<Operand> {
        self.temp(ty, Value::Op(op, operands))
    }

    /// A block of its own; says whether its end cannot be reached.
    fn inside(&mut self, run: impl FnOnce(&mut Self) -> Result<()>) -> Result<(u32, bool)> {
        let id = self.blocks.len() as u32;
        self.blocks.push(Vec::new());
        let (outer, dead) = (std::mem::replace(&mut self.current, id), std::mem::replace(&mut self.dead, false));
        run(self)?;
        self.current = outer;
        Ok((id, std::mem::replace(&mut self.dead, dead)))
    }

    fn constant(&mut self, ty: &Ty, bytes: Vec<u8>) -> Result<Operand> {
        let ty = self.types.id(ty)?;
        Ok(Operand::Const(self.consts.id(ty, bytes)))
    }

    fn int(&mut self, int: Int, value: u128) -> Result<Operand> {
        self.constant(&Ty::Int(int), value.to_le_bytes()[..int.bits() as usize / 8].to_vec())
    }

    fn boolean(&mut self, value: bool) -> Result<Operand> {
        self.constant(&Ty::Bool, vec![u8::from(value)])
    }

    fn external(&mut self, at: u32) -> Result<Operand> {
        let Some((ty, bytes)) = self.externals.consts.get(at as usize).cloned() else {
            return self.wrong("a constant of the tree is not in the list beside it");
        };
        self.constant(&ty, bytes)
    }

    fn lit(&mut self, lit: &Lit, ty: &Ty) -> Result<Operand> {
        match (lit, ty) {
            (Lit::Bool(value), _) => self.boolean(*value),
            (Lit::Int { negative, value, .. }, Ty::Int(int)) => {
                self.int(*int, if *negative { value.wrapping_neg() } else { *value })
            }
            (Lit::Float { negative, digits, .. }, Ty::Float(float)) => {
                let bytes = match float {
                    Float::F32 => digits.parse().map(|x: f32| if *negative { -x } else { x }.to_le_bytes().to_vec()),
                    Float::F64 => digits.parse().map(|x: f64| if *negative { -x } else { x }.to_le_bytes().to_vec()),
                };
                match bytes {
                    Ok(bytes) => self.constant(ty, bytes),
                    Err(_) => self.wrong(format!("`{digits}` is not a number")),
                }
            }
            _ => self.wrong(format!("a literal of type `{ty}`")),
        }
    }

    /// What a float looks like once it is stored.
    fn stored(&mut self, value: Operand, ty: &Ty) -> Result<Operand> {
        if matches!(ty, Ty::Float(_)) { self.op(ty, Op::Canon, vec![value]) } else { Ok(value) }
    }

    /// Whether evaluating it changes nothing.
    fn is_simple(expr: &Expr) -> bool {
        match &expr.kind {
            ExprKind::Lit(_) | ExprKind::Local(_) | ExprKind::Const(_) | ExprKind::Own => true,
            ExprKind::Field { base, .. } => Self::is_simple(base),
            ExprKind::Index { base, index } => Self::is_simple(base) && Self::is_simple(index),
            ExprKind::Deref(value) | ExprKind::Not(value) | ExprKind::Ref { value, .. } => Self::is_simple(value),
            ExprKind::Cast { value, .. } | ExprKind::From { value, .. } | ExprKind::FromBits { value, .. } => {
                Self::is_simple(value)
            }
            ExprKind::Checked { operands, .. } => operands.iter().all(Self::is_simple),
            ExprKind::Binary { left, right, .. } => Self::is_simple(left) && Self::is_simple(right),
            ExprKind::Method { receiver, args, .. } => Self::is_simple(receiver) && args.iter().all(Self::is_simple),
            ExprKind::Tuple(parts) | ExprKind::Array(parts) => parts.iter().all(Self::is_simple),
            _ => false,
        }
    }
}
