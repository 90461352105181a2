//! A program as text for people.

use std::fmt::{self, Write as _};

use crate::program::{
    Arg, CtxValue, Function, LocalKind, Mode, Op, Operand, Place, Program, Step, StmtKind, Target, Type, TypeId, Value,
};

/// A program as text.
#[must_use]
pub fn show(program: &Program) -> String {
    let mut text = String::new();
    let _ = write!(text, "{}", Show(program));
    text
}

struct Show<'a>(&'a Program);

impl fmt::Display for Show<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = self.0;
        writeln!(f, "actor {} from {}", program.name, program.file)?;
        writeln!(
            f,
            "state {}: {} bytes, at most {} sends",
            self.ty(program.state),
            program.initial.len(),
            program.max_sends
        )?;
        for ty in &program.types {
            if let Type::Struct { name, fields } = ty {
                let fields: Vec<String> =
                    fields.iter().map(|field| format!("{}: {}", field.name, self.ty(field.ty))).collect();
                writeln!(f, "struct {name} {{ {} }}", fields.join(", "))?;
            }
            if let Type::Enum { name, number, variants } = ty {
                let variants: Vec<String> =
                    variants.iter().map(|variant| format!("{} = {}", variant.name, variant.value)).collect();
                writeln!(f, "enum {name}: {} {{ {} }}", number.name(), variants.join(", "))?;
            }
        }
        for handler in &program.handlers {
            let message = &program.messages[handler.message as usize];
            let function = &program.functions[handler.function as usize];
            writeln!(f, "on {} ({:#06x}) {}", message.name, message.kind, function.name)?;
        }
        program.functions.iter().try_for_each(|function| self.function(f, function))
    }
}

impl Show<'_> {
    fn ty(&self, ty: TypeId) -> String {
        match &self.0.types[ty as usize] {
            Type::Bool => "bool".to_owned(),
            Type::Int(int) => int.name().to_owned(),
            Type::Float(float) => float.name().to_owned(),
            Type::Array { element, len } => format!("[{}; {len}]", self.ty(*element)),
            Type::Struct { name, .. } | Type::Enum { name, .. } => name.clone(),
            Type::Tuple(parts) => {
                format!("({})", parts.iter().map(|part| self.ty(*part)).collect::<Vec<_>>().join(", "))
            }
            Type::Option(inner) => format!("Option<{}>", self.ty(*inner)),
        }
    }

    fn function(&self, f: &mut fmt::Formatter<'_>, function: &Function) -> fmt::Result {
        let local = |at: usize| {
            let local = &function.locals[at];
            let kind = match local.kind {
                LocalKind::Value => "",
                LocalKind::Ref => "&",
                LocalKind::RefMut => "&mut ",
            };
            format!("{}: {kind}{}", name(function, at as u32), self.ty(local.ty))
        };
        let params: Vec<String> = (0..function.params as usize).map(local).collect();
        let gives = function.gives.map(|ty| format!(" -> {}", self.ty(ty))).unwrap_or_default();
        let file = if function.file.is_empty() { String::new() } else { format!("{}, ", function.file) };
        writeln!(f, "fn {}({}){gives} // {file}line {}", function.name, params.join(", "), function.line)?;
        for at in function.params as usize..function.locals.len() {
            writeln!(f, "    let {}", local(at))?;
        }
        self.block(f, function, 0, 1)
    }

    fn block(&self, f: &mut fmt::Formatter<'_>, function: &Function, id: u32, depth: usize) -> fmt::Result {
        for stmt in &function.blocks[id as usize] {
            let pad = "    ".repeat(depth);
            match &stmt.kind {
                StmtKind::Set { to, value } => {
                    writeln!(f, "{pad}{} = {}", self.place(function, to), self.value(function, value))?;
                }
                StmtKind::Check(place) => writeln!(f, "{pad}check {}", self.place(function, place))?,
                StmtKind::Call { function: callee, args, to } => {
                    let args: Vec<String> = args
                        .iter()
                        .map(|arg| match arg {
                            Arg::Value(operand) => self.operand(function, *operand),
                            Arg::Ref(place) => format!("&{}", self.place(function, place)),
                        })
                        .collect();
                    let to = to.map(|to| format!("{} = ", name(function, to))).unwrap_or_default();
                    let callee = &self.0.functions[*callee as usize].name;
                    writeln!(f, "{pad}{to}{callee}({})", args.join(", "))?;
                }
                StmtKind::If { cond, then, otherwise } => {
                    writeln!(f, "{pad}if {}", self.operand(function, *cond))?;
                    self.block(f, function, *then, depth + 1)?;
                    if let Some(otherwise) = otherwise {
                        writeln!(f, "{pad}else")?;
                        self.block(f, function, *otherwise, depth + 1)?;
                    }
                }
                StmtKind::Loop { head, cond, body } => {
                    writeln!(f, "{pad}loop {body}")?;
                    self.block(f, function, *head, depth + 1)?;
                    if let Some(cond) = cond {
                        writeln!(f, "{pad}  while {}", self.operand(function, *cond))?;
                    }
                    self.block(f, function, *body, depth + 1)?;
                }
                StmtKind::Block(block) => {
                    writeln!(f, "{pad}block {block}")?;
                    self.block(f, function, *block, depth + 1)?;
                }
                StmtKind::Break(block) => writeln!(f, "{pad}break {block}")?,
                StmtKind::Continue(block) => writeln!(f, "{pad}continue {block}")?,
                StmtKind::Leave(block) => writeln!(f, "{pad}leave {block}")?,
                StmtKind::Return(None) => writeln!(f, "{pad}return")?,
                StmtKind::Return(Some(value)) => writeln!(f, "{pad}return {}", self.operand(function, *value))?,
                StmtKind::Fail(code) => writeln!(f, "{pad}fail {}", self.operand(function, *code))?,
                StmtKind::Unreachable => writeln!(f, "{pad}unreachable")?,
                StmtKind::Send { to, message, body } => {
                    let message = &self.0.messages[*message as usize].name;
                    let operand = |operand| self.operand(function, operand);
                    let to = match to {
                        Target::Actor { tag, key } => format!("tell {} {}", operand(*tag), operand(*key)),
                        Target::Sender => "reply".to_owned(),
                        Target::Later { delay_ms } => format!("after {}", operand(*delay_ms)),
                    };
                    writeln!(f, "{pad}{to} {message} {}", operand(*body))?;
                }
                StmtKind::Stop => writeln!(f, "{pad}stop")?,
            }
        }
        Ok(())
    }

    fn operand(&self, function: &Function, operand: Operand) -> String {
        match operand {
            Operand::Local(local) => name(function, local),
            Operand::Const(at) => self.constant(at),
        }
    }

    fn constant(&self, at: u32) -> String {
        let constant = &self.0.consts[at as usize];
        let mut word = [0; 16];
        let Some(lower) = word.get_mut(..constant.bytes.len()) else { return format!("const{at}") };
        lower.copy_from_slice(&constant.bytes);
        let bits = u128::from_le_bytes(word);
        match &self.0.types[constant.ty as usize] {
            Type::Bool => (bits != 0).to_string(),
            Type::Int(int) if int.signed() => {
                let shift = 128 - int.bits();
                format!("{}_{}", (bits << shift) as i128 >> shift, int.name())
            }
            Type::Int(int) => format!("{bits}_{}", int.name()),
            Type::Float(float) if float.bits() == 32 => format!("{:?}_f32", f32::from_bits(bits as u32)),
            Type::Float(_) => format!("{:?}_f64", f64::from_bits(bits as u64)),
            Type::Enum { name, variants, .. } => {
                let variant = variants.iter().find(|variant| u128::from(variant.value) == bits);
                format!("{name}::{}", variant.map_or("?", |variant| &variant.name))
            }
            _ => format!("const{at}"),
        }
    }

    fn place(&self, function: &Function, place: &Place) -> String {
        let mut text = name(function, place.root);
        let mut ty = function.locals[place.root as usize].ty;
        for step in &place.steps {
            match (step, &self.0.types[ty as usize]) {
                (Step::Field(at), Type::Struct { fields, .. }) => {
                    let field = &fields[*at as usize];
                    text += &format!(".{}", field.name);
                    ty = field.ty;
                }
                (Step::Field(at), Type::Tuple(parts)) => {
                    text += &format!(".{at}");
                    ty = parts[*at as usize];
                }
                (Step::Index(at), Type::Array { element, .. }) => {
                    text += &format!("[{}]", self.operand(function, *at));
                    ty = *element;
                }
                _ => {}
            }
        }
        text
    }

    fn value(&self, function: &Function, value: &Value) -> String {
        let operand = |operand: &Operand| self.operand(function, *operand);
        let all = |operands: &[Operand]| operands.iter().map(operand).collect::<Vec<_>>().join(", ");
        match value {
            Value::Use(value) => operand(value),
            Value::Load(place) => self.place(function, place),
            Value::Op(op, operands) => format!("{}({})", op_name(*op), all(operands)),
            Value::Aggregate(operands) => format!("{{{}}}", all(operands)),
            Value::Array(operands) => format!("[{}]", all(operands)),
            Value::Repeat(value) => format!("[{}; ..]", operand(value)),
            Value::IsSome(value) => format!("is_some({})", operand(value)),
            Value::Inner(value) => format!("inner({})", operand(value)),
            Value::Ctx(CtxValue::Key) => "ctx.key".to_owned(),
            Value::Ctx(CtxValue::Now) => "ctx.now".to_owned(),
            Value::Ctx(CtxValue::Random) => "ctx.random".to_owned(),
            Value::RandomBelow(bound) => format!("ctx.random_below({})", operand(bound)),
            Value::Ctx(CtxValue::SenderSet) => "ctx.sender.set".to_owned(),
            Value::Ctx(CtxValue::SenderKey) => "ctx.sender.key".to_owned(),
        }
    }
}

fn name(function: &Function, local: u32) -> String {
    let name = &function.locals[local as usize].name;
    if name == "self" { name.clone() } else { format!("{name}%{local}") }
}

/// The word for an operation, in lower case, words joined by underscores.
pub(crate) fn op_name(op: Op) -> String {
    match op {
        Op::Arith(arith, Mode::Checked) => arith.name().to_owned(),
        Op::Arith(arith, Mode::Wrapping) => format!("wrapping_{}", arith.name()),
        Op::Arith(arith, Mode::Saturating) => format!("saturating_{}", arith.name()),
        Op::Arith(arith, Mode::Optional) => format!("checked_{}", arith.name()),
        other => {
            let mut text = String::new();
            for c in format!("{other:?}").chars() {
                if c.is_ascii_uppercase() && !text.is_empty() {
                    text.push('_');
                }
                text.push(c.to_ascii_lowercase());
            }
            text
        }
    }
}
