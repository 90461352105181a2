//! From a program to CUDA C++ text that defines what the kernel wants of an actor type (`kernels/device/ctx.cuh`): `MAX_SENDS`, `State`,
//! `init` and `handle`. The text includes nothing; its operations are in `kernels/device/ops.cuh`.
//!
//! Functions return the code of a fault and put what they give into their last parameter; all are inlined, so that a small state
//! stays in registers. Locals are declared first and without values, which lets `goto` leave any block: the verifier has shown that
//! none is read before it is set. `#line` makes compilers report the user's file and line.

use std::fmt::Write as _;

use crate::program::{
    Arg, BlockId, CtxValue, Function, LocalKind, Mode, Op, Operand, Place, Program, Step, StmtKind, Target, Type,
    TypeId, Value, Variant,
};
use crate::show::op_name;
use crate::ty::{Float, Int};
use crate::verify::with_enums;
use crate::{Error, FUEL_PER_MESSAGE};

/// Device code of a type: what the kernel's build takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceCode {
    /// The type's name.
    pub name: String,
    /// Bytes of the state on the device: whole words of 16 bytes.
    pub state_bytes: u32,
    /// The most messages that one handling sends.
    pub max_sends: u32,
    /// Whether handlers draw random numbers.
    pub draws: bool,
    /// The text.
    pub text: String,
}

/// Translates a program that has been verified.
///
/// # Errors
/// What the text cannot say.
pub fn device_code(program: &Program) -> Result<DeviceCode, Error> {
    let mut emit = Emit { program, file: "", out: String::new(), depth: 0, user: 0, implied: 0, fresh: true };
    emit.all()?;
    let state_bytes = (program.initial.len() as u32).next_multiple_of(16).max(16);
    let (name, max_sends, draws) = (program.name.clone(), program.max_sends, draws(program));
    Ok(DeviceCode { name, state_bytes, max_sends, draws, text: emit.out })
}

fn draws(program: &Program) -> bool {
    let is_draw = |kind: &StmtKind| {
        matches!(kind, StmtKind::Set { value: Value::Ctx(CtxValue::Random) | Value::RandomBelow(_), .. })
    };
    program.functions.iter().flat_map(|function| function.blocks.iter().flatten()).any(|stmt| is_draw(&stmt.kind))
}

struct Emit<'a> {
    program: &'a Program,
    /// The file of the function that is being written.
    file: &'a str,
    out: String,
    depth: usize,
    /// The user's line of what was written last.
    user: u32,
    /// The line that the compiler takes the next line for; 0: it does not matter.
    implied: u32,
    fresh: bool,
}

/// Ways out of blocks that the text of a function has used.
#[derive(Default)]
struct Jumps {
    used: Vec<String>,
    /// The innermost loop.
    looping: Option<BlockId>,
}

/// A name that C++ accepts, whatever a name is in Rust.
fn clean(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { 'x' }).collect()
}

impl Emit<'_> {
    fn line(&mut self, text: &str) {
        if !self.fresh {
            self.out.push('\n');
        }
        self.out.push_str(text);
        self.out.push('\n');
        self.fresh = true;
        (self.user, self.implied) = (0, 0);
    }

    /// A piece of a function's body: pieces of one line of the user's stand on one line.
    fn piece(&mut self, user: u32, text: &str) {
        if self.fresh || user != self.user {
            if !self.fresh {
                self.out.push('\n');
                self.implied += 1;
            }
            if user != 0 && self.implied != user {
                let file = self.file.replace(['\\', '"', '\n', '\r'], "/");
                let _ = writeln!(self.out, "#line {user} \"{file}\"");
                self.implied = user;
            }
            self.out.push_str(&"    ".repeat(self.depth));
        } else {
            self.out.push(' ');
        }
        self.out.push_str(text);
        self.user = user;
        self.fresh = false;
    }

    /// Ends a function: what follows is not the user's.
    fn close(&mut self) {
        if !self.fresh {
            self.out.push('\n');
        }
        let name = clean(&self.program.name);
        let _ = writeln!(self.out, "}}\n#line 1 \"generated from {name}\"");
        self.fresh = true;
        (self.user, self.implied) = (0, 0);
    }

    fn all(&mut self) -> Result<(), Error> {
        let program = self.program;
        self.line(&format!("static constexpr u32 MAX_SENDS = {};", program.max_sends));
        for at in 0..program.types.len() as TypeId {
            self.type_def(at)?;
        }
        for message in &program.messages {
            let bytes = program.bytes(message.ty);
            // One without bytes is never read; in C++ it has one.
            if bytes > 0 {
                let (ty, name) = (self.ty(message.ty), clean(&message.name));
                self.line(&format!("static_assert(sizeof({ty}) == {bytes}, \"the layout of {name}\");"));
            }
        }
        let bytes = program.initial.len();
        let state_bytes = bytes.next_multiple_of(16).max(16);
        let own = self.ty(program.state);
        self.line("struct alignas(16) State {");
        if bytes > 0 {
            self.line(&format!("    {own} own;"));
        }
        if state_bytes > bytes {
            self.line(&format!("    rf_u8 padding[{}];", state_bytes - bytes));
        }
        self.line("};");
        self.line(&format!("static_assert(sizeof(State) == {state_bytes}, \"the layout of the state\");"));
        self.checks_of_enums();
        self.line("RF_FN void init(State &state) {");
        if bytes > 0 {
            self.init("state.own", program.state, &program.initial, 1);
        }
        if state_bytes > bytes {
            let padding = state_bytes - bytes;
            self.line(&format!("    for (u32 at = 0; at < {padding}; at++) state.padding[at] = 0;"));
        }
        self.line("}");
        for at in self.order() {
            self.function(at)?;
        }
        self.handle();
        Ok(())
    }

    /// Functions that say whether messages and states are values, where some bits are none.
    fn checks_of_enums(&mut self) {
        let program = self.program;
        let with = with_enums(program);
        let mut wanted = vec![false; program.types.len()];
        wanted[program.state as usize] = true;
        for handler in &program.handlers {
            wanted[program.messages[handler.message as usize].ty as usize] = true;
        }
        for (at, ty) in program.types.iter().enumerate().rev().filter(|(at, _)| with[*at]) {
            if wanted[at] {
                match ty {
                    Type::Array { element, .. } => wanted[*element as usize] = true,
                    Type::Struct { fields, .. } => fields.iter().for_each(|field| wanted[field.ty as usize] = true),
                    _ => {}
                }
            }
        }
        for (at, ty) in program.types.iter().enumerate().filter(|(at, _)| with[*at] && wanted[*at]) {
            let test = match ty {
                Type::Enum { variants, .. } => ranges(variants),
                Type::Array { element, len } => {
                    let (name, check) = (self.ty(at as TypeId), check_name(*element));
                    self.line(&format!("RF_FN bool {}(const {name} &value) {{", check_name(at as TypeId)));
                    self.line("    bool good = true;");
                    self.line(&format!("    for (u32 at = 0; at < {len}; at++) good &= {check}(value.at[at]);"));
                    self.line("    return good;\n}");
                    continue;
                }
                Type::Struct { fields, .. } => {
                    let checked = fields.iter().enumerate().filter(|(_, field)| with[field.ty as usize]);
                    let checks: Vec<String> = checked
                        .map(|(at, field)| format!("{}(value.{})", check_name(field.ty), field_name(at, &field.name)))
                        .collect();
                    checks.join(" && ")
                }
                // Plain data has none of these.
                _ => continue,
            };
            let name = self.ty(at as TypeId);
            self.line(&format!("RF_FN bool {}(const {name} &value) {{ return {test}; }}", check_name(at as TypeId)));
        }
    }

    /// Functions, each behind all that it calls.
    fn order(&self) -> Vec<u32> {
        fn visit(program: &Program, at: u32, order: &mut Vec<u32>) {
            if order.contains(&at) {
                return;
            }
            for stmt in program.functions[at as usize].blocks.iter().flatten() {
                if let StmtKind::Call { function, .. } = stmt.kind {
                    visit(program, function, order);
                }
            }
            order.push(at);
        }
        let mut order = Vec::new();
        for handler in &self.program.handlers {
            visit(self.program, handler.function, &mut order);
        }
        order
    }

    fn ty(&self, ty: TypeId) -> String {
        match &self.program.types[ty as usize] {
            Type::Bool => "bool".to_owned(),
            Type::Int(int) | Type::Enum { number: int, .. } => int_name(*int).to_owned(),
            Type::Float(Float::F32) => "float".to_owned(),
            Type::Float(Float::F64) => "double".to_owned(),
            Type::Array { element, len } => format!("rf_array<{}, {len}>", self.ty(*element)),
            Type::Struct { name, .. } => format!("T{ty}_{}", clean(name)),
            Type::Tuple(_) | Type::Option(_) => format!("T{ty}"),
        }
    }

    fn type_def(&mut self, at: TypeId) -> Result<(), Error> {
        let name = self.ty(at);
        let fields: Vec<(String, TypeId)> = match &self.program.types[at as usize] {
            Type::Struct { fields, .. } => {
                fields.iter().enumerate().map(|(at, field)| (field_name(at, &field.name), field.ty)).collect()
            }
            Type::Tuple(parts) => parts.iter().enumerate().map(|(at, part)| (format!("p{at}"), *part)).collect(),
            Type::Option(inner) => {
                let inner = self.ty(*inner);
                self.line(&format!("struct {name} {{ bool some; {inner} value; }};"));
                return Ok(());
            }
            Type::Array { len: 0, .. } => return Err(Error::new(0, "an array without elements has no device code")),
            _ => return Ok(()),
        };
        let fields: String = fields.iter().map(|(field, ty)| format!(" {} {field};", self.ty(*ty))).collect();
        self.line(&format!("struct {name} {{{fields} }};"));
        Ok(())
    }

    /// Sets a place to a value that is known now, element by element.
    fn init(&mut self, place: &str, ty: TypeId, bytes: &[u8], depth: usize) {
        let program = self.program;
        let pad = "    ".repeat(depth);
        match &program.types[ty as usize] {
            Type::Array { element, len } => {
                let size = program.bytes(*element);
                let first = &bytes[..size.min(bytes.len())];
                if *len > 4 && bytes.chunks(size.max(1)).all(|element| element == first) {
                    self.line(&format!("{pad}for (u32 i{depth} = 0; i{depth} < {len}; i{depth}++) {{"));
                    self.init(&format!("{place}.at[i{depth}]"), *element, first, depth + 1);
                    self.line(&format!("{pad}}}"));
                    return;
                }
                for (at, bytes) in bytes.chunks(size.max(1)).enumerate() {
                    self.init(&format!("{place}.at[{at}]"), *element, bytes, depth);
                }
            }
            Type::Struct { fields, .. } => {
                for (at, field) in fields.iter().enumerate() {
                    let Some((offset, part)) = program.part(ty, at as u32) else { continue };
                    let bytes = &bytes[offset..offset + program.bytes(part)];
                    self.init(&format!("{place}.{}", field_name(at, &field.name)), part, bytes, depth);
                }
            }
            Type::Tuple(parts) => {
                for at in 0..parts.len() {
                    let Some((offset, part)) = program.part(ty, at as u32) else { continue };
                    self.init(&format!("{place}.p{at}"), part, &bytes[offset..offset + program.bytes(part)], depth);
                }
            }
            Type::Option(inner) => {
                self.line(&format!("{pad}{place}.some = {};", bytes[0] != 0));
                self.init(&format!("{place}.value"), *inner, &bytes[1..], depth);
            }
            _ => {
                let value = self.scalar(ty, bytes);
                self.line(&format!("{pad}{place} = {value};"));
            }
        }
    }

    fn scalar(&self, ty: TypeId, bytes: &[u8]) -> String {
        let mut word = [0; 16];
        word[..bytes.len()].copy_from_slice(bytes);
        let bits = u128::from_le_bytes(word);
        match self.program.types[ty as usize] {
            Type::Bool => (bits != 0).to_string(),
            Type::Float(Float::F32) => format!("rf_f32({bits:#x}u)"),
            Type::Float(Float::F64) => format!("rf_f64({bits:#x}ull)"),
            Type::Enum { number, .. } => format!("({}){bits}u", int_name(number)),
            Type::Int(int) if int.bits() == 128 => {
                let (upper, lower) = (bits >> 64, bits & u128::from(u64::MAX));
                format!("({})((rf_u128){upper:#x}ull << 64 | {lower:#x}ull)", int_name(int))
            }
            Type::Int(int) => {
                let value = (bits << (128 - int.bits())) as i128 >> (128 - int.bits());
                if bits < 1 << 31 || (int.signed() && value > -(1 << 31)) {
                    let value = if int.signed() { value } else { bits as i128 };
                    return format!("({}){value}", int_name(int));
                }
                format!("({}){bits:#x}ull", int_name(int))
            }
            _ => String::new(),
        }
    }

    fn function(&mut self, at: u32) -> Result<(), Error> {
        let program = self.program;
        let function = &program.functions[at as usize];
        self.file = if function.file.is_empty() { &program.file } else { &function.file };
        // Constants that are no numbers are locals that are set first.
        let mut params: Vec<String> = (0..function.params)
            .map(|at| {
                let local = &function.locals[at as usize];
                let reference = match local.kind {
                    LocalKind::Value => " ",
                    LocalKind::Ref => " &",
                    LocalKind::RefMut => " &",
                };
                let constant = if local.kind == LocalKind::Ref { "const " } else { "" };
                format!("{constant}{}{reference}{}", self.ty(local.ty), local_name(function, at))
            })
            .collect();
        params.push("Ctx<MAX_SENDS> &rf_ctx".to_owned());
        params.push("u32 &rf_fuel".to_owned());
        if let Some(gives) = function.gives {
            params.push(format!("{} &rf_out", self.ty(gives)));
        }
        self.line(&format!("RF_FN u32 {}({}) {{", function_name(program, at), params.join(", ")));
        for (number, local) in function.locals.iter().enumerate().skip(function.params as usize) {
            self.line(&format!("    {} {};", self.ty(local.ty), local_name(function, number as u32)));
        }
        let mut consts = Vec::new();
        visit_consts(function, &mut |at| {
            let ty = program.consts[at as usize].ty;
            if !is_number(&program.types[ty as usize]) && !consts.contains(&at) {
                consts.push(at);
            }
        });
        for at in consts {
            let constant = &program.consts[at as usize];
            self.line(&format!("    {} rf_const_{at};", self.ty(constant.ty)));
            self.init(&format!("rf_const_{at}"), constant.ty, &constant.bytes, 1);
        }
        self.depth = 1;
        self.block(function, 0, &mut Jumps::default())?;
        self.depth = 1;
        self.piece(self.user, "return FAULT_NONE;");
        self.close();
        Ok(())
    }

    fn block(&mut self, function: &Function, id: BlockId, jumps: &mut Jumps) -> Result<(), Error> {
        for stmt in &function.blocks[id as usize] {
            self.stmt(function, stmt.line, &stmt.kind, jumps)?;
        }
        Ok(())
    }

    fn stmt(&mut self, function: &Function, line: u32, stmt: &StmtKind, jumps: &mut Jumps) -> Result<(), Error> {
        let operand = |emit: &Self, operand| emit.operand(function, operand);
        match stmt {
            StmtKind::Set { to, value } => self.set(function, line, to, value),
            StmtKind::Check(place) => {
                let checks = self.checks(function, place);
                self.piece(line, &checks);
            }
            StmtKind::Call { function: callee, args, to } => {
                let mut all: Vec<String> = args
                    .iter()
                    .map(|arg| match arg {
                        Arg::Value(value) => self.operand(function, *value),
                        Arg::Ref(place) => self.place(function, place),
                    })
                    .collect();
                let checks: String = args
                    .iter()
                    .map(|arg| match arg {
                        Arg::Ref(place) => self.checks(function, place),
                        Arg::Value(_) => String::new(),
                    })
                    .collect();
                all.extend(["rf_ctx".to_owned(), "rf_fuel".to_owned()]);
                all.extend(to.map(|to| local_name(function, to)));
                let callee = function_name(self.program, *callee);
                let call = format!("if (const u32 rf = {callee}({})) return rf;", all.join(", "));
                self.piece(line, &format!("{checks}{call}"));
            }
            StmtKind::If { cond, then, otherwise } => {
                let cond = operand(self, *cond);
                self.piece(line, &format!("if ({cond}) {{"));
                self.nested(function, *then, jumps)?;
                if let Some(otherwise) = otherwise {
                    self.piece(self.user, "} else {");
                    self.nested(function, *otherwise, jumps)?;
                }
                self.piece(self.user, "}");
            }
            StmtKind::Loop { head, cond, body } => {
                self.piece(line, "for (;;) {");
                let outer = jumps.looping.replace(*body);
                self.nested(function, *head, jumps)?;
                self.depth += 1;
                if let Some(cond) = cond {
                    let cond = operand(self, *cond);
                    self.piece(line, &format!("if (!{cond}) break;"));
                }
                self.piece(line, "if (rf_fuel == 0) return FAULT_OUT_OF_FUEL; rf_fuel--;");
                self.depth -= 1;
                self.piece(line, "{");
                self.nested(function, *body, jumps)?;
                self.piece(self.user, "}");
                jumps.looping = outer;
                self.label(&format!("rf_next_{body}"), jumps);
                self.piece(self.user, "}");
                self.label(&format!("rf_end_{body}"), jumps);
            }
            StmtKind::Break(body) if jumps.looping == Some(*body) => self.piece(line, "break;"),
            StmtKind::Continue(body) if jumps.looping == Some(*body) => self.piece(line, "continue;"),
            StmtKind::Break(body) | StmtKind::Leave(body) => self.jump(line, format!("rf_end_{body}"), jumps),
            StmtKind::Continue(body) => self.jump(line, format!("rf_next_{body}"), jumps),
            StmtKind::Block(block) => {
                self.piece(line, "{");
                self.nested(function, *block, jumps)?;
                self.piece(self.user, "}");
                self.label(&format!("rf_end_{block}"), jumps);
            }
            StmtKind::Return(value) => {
                let give = value.map(|value| format!("rf_out = {}; ", operand(self, value))).unwrap_or_default();
                self.piece(line, &format!("{give}return FAULT_NONE;"));
            }
            StmtKind::Fail(code) => {
                let code = operand(self, *code);
                self.piece(line, &format!("return FAULT_USER | (u32){code} << 16;"));
            }
            StmtKind::Unreachable => self.piece(line, "return FAULT_OUT_OF_BOUNDS;"),
            StmtKind::Send { to, message, body } => {
                let kind = self.program.messages[*message as usize].kind;
                let body = operand(self, *body);
                let call = match to {
                    Target::Actor { tag, key } => format!("tell({}, {}, ", operand(self, *tag), operand(self, *key)),
                    Target::Sender => "reply(".to_owned(),
                    Target::Later { delay_ms } => format!("after({}, ", operand(self, *delay_ms)),
                };
                self.piece(line, &format!("rf_ctx.{call}(u16){kind:#06x}, {body});"));
                self.piece(line, "if (rf_ctx.fault != FAULT_NONE) return rf_ctx.fault;");
            }
            StmtKind::Stop => self.piece(line, "rf_ctx.stop();"),
        }
        Ok(())
    }

    fn nested(&mut self, function: &Function, block: BlockId, jumps: &mut Jumps) -> Result<(), Error> {
        self.depth += 1;
        self.block(function, block, jumps)?;
        self.depth -= 1;
        Ok(())
    }

    fn jump(&mut self, line: u32, label: String, jumps: &mut Jumps) {
        self.piece(line, &format!("goto {label};"));
        jumps.used.push(label);
    }

    fn label(&mut self, label: &str, jumps: &Jumps) {
        if jumps.used.iter().any(|used| used == label) {
            self.piece(self.user, &format!("{label}:;"));
        }
    }

    fn set(&mut self, function: &Function, line: u32, to: &Place, value: &Value) {
        let ty = self.type_of(function, to);
        let checks = self.checks(function, to);
        let place = self.place(function, to);
        if checks.is_empty() || matches!(value, Value::Use(_)) {
            let set = self.value(function, &place, ty, value);
            self.piece(line, &format!("{checks}{set}"));
        } else {
            // First the faults of the value.
            let set = self.value(function, "rf_value", ty, value);
            self.piece(line, &format!("{{ {} rf_value; {set} {checks}{place} = rf_value; }}", self.ty(ty)));
        }
    }

    fn type_of(&self, function: &Function, place: &Place) -> TypeId {
        let mut ty = function.locals[place.root as usize].ty;
        for step in &place.steps {
            ty = match (step, &self.program.types[ty as usize]) {
                (Step::Field(at), _) => self.program.part(ty, *at).map_or(ty, |(_, part)| part),
                (_, Type::Array { element, .. }) => *element,
                _ => ty,
            };
        }
        ty
    }

    /// The checks of the indices of a place, outer arrays first.
    fn checks(&self, function: &Function, place: &Place) -> String {
        let mut ty = function.locals[place.root as usize].ty;
        let mut text = String::new();
        for step in &place.steps {
            ty = match (step, &self.program.types[ty as usize]) {
                (Step::Index(at), Type::Array { element, len }) => {
                    if !self.is_below(*at, *len) {
                        let at = self.operand(function, *at);
                        let _ = write!(text, "if ({at} >= {len}u) return FAULT_OUT_OF_BOUNDS; ");
                    }
                    *element
                }
                (Step::Field(at), _) => self.program.part(ty, *at).map_or(ty, |(_, part)| part),
                _ => ty,
            };
        }
        text
    }

    fn is_below(&self, operand: Operand, len: u32) -> bool {
        let Operand::Const(at) = operand else { return false };
        let bytes = &self.program.consts[at as usize].bytes;
        <[u8; 8]>::try_from(bytes.as_slice()).is_ok_and(|bytes| u64::from_le_bytes(bytes) < len.into())
    }

    fn place(&self, function: &Function, place: &Place) -> String {
        let mut ty = function.locals[place.root as usize].ty;
        let mut text = local_name(function, place.root);
        for step in &place.steps {
            match (step, &self.program.types[ty as usize]) {
                (Step::Field(at), Type::Struct { fields, .. }) => {
                    let field = &fields[*at as usize];
                    let _ = write!(text, ".{}", field_name(*at as usize, &field.name));
                    ty = field.ty;
                }
                (Step::Field(at), Type::Tuple(parts)) => {
                    let _ = write!(text, ".p{at}");
                    ty = parts[*at as usize];
                }
                (Step::Index(at), Type::Array { element, .. }) => {
                    let _ = write!(text, ".at[{}]", self.operand(function, *at));
                    ty = *element;
                }
                _ => {}
            }
        }
        text
    }

    fn operand(&self, function: &Function, operand: Operand) -> String {
        match operand {
            Operand::Local(local) => local_name(function, local),
            Operand::Const(at) => {
                let constant = &self.program.consts[at as usize];
                if is_number(&self.program.types[constant.ty as usize]) {
                    return self.scalar(constant.ty, &constant.bytes);
                }
                format!("rf_const_{at}")
            }
        }
    }

    /// Statements that set `to`, of type `ty`, to a value.
    fn value(&self, function: &Function, to: &str, ty: TypeId, value: &Value) -> String {
        let operand = |operand: &Operand| self.operand(function, *operand);
        match value {
            Value::Use(value) => format!("{to} = {};", operand(value)),
            Value::Load(place) => {
                format!("{}{to} = {};", self.checks(function, place), self.place(function, place))
            }
            Value::Op(op, operands) => self.op(to, ty, *op, &operands.iter().map(operand).collect::<Vec<_>>()),
            Value::Aggregate(operands) => {
                let names: Vec<String> = match &self.program.types[ty as usize] {
                    Type::Struct { fields, .. } => {
                        fields.iter().enumerate().map(|(at, field)| field_name(at, &field.name)).collect()
                    }
                    _ => (0..operands.len()).map(|at| format!("p{at}")).collect(),
                };
                let sets = names.iter().zip(operands).map(|(name, value)| format!("{to}.{name} = {};", operand(value)));
                sets.collect::<Vec<_>>().join(" ")
            }
            Value::Array(operands) => {
                let sets =
                    operands.iter().enumerate().map(|(at, value)| format!("{to}.at[{at}] = {};", operand(value)));
                sets.collect::<Vec<_>>().join(" ")
            }
            Value::Repeat(value) => {
                let Type::Array { len, .. } = self.program.types[ty as usize] else { return String::new() };
                format!("for (u32 rf_at = 0; rf_at < {len}; rf_at++) {to}.at[rf_at] = {};", operand(value))
            }
            Value::IsSome(value) => format!("{to} = {}.some;", operand(value)),
            Value::Inner(value) => format!("{to} = {}.value;", operand(value)),
            Value::Ctx(CtxValue::Key) => format!("{to} = rf_ctx.key();"),
            Value::Ctx(CtxValue::Now) => format!("{to} = rf_ctx.now();"),
            Value::Ctx(CtxValue::Random) => format!("{to} = rf_ctx.random();"),
            Value::RandomBelow(bound) => {
                format!("if (const u32 rf = rf_ctx.random_below({}, {to})) return rf;", operand(bound))
            }
            Value::Ctx(CtxValue::SenderSet) => format!("{to} = rf_ctx.message.from_set;"),
            Value::Ctx(CtxValue::SenderKey) => format!("{to} = rf_ctx.message.from_key;"),
        }
    }

    fn op(&self, to: &str, ty: TypeId, op: Op, x: &[String]) -> String {
        let infix = |sign: &str| format!("{to} = {} {sign} {};", x[0], x[1]);
        match op {
            Op::Eq => infix("=="),
            Op::Ne => infix("!="),
            Op::Lt => infix("<"),
            Op::Le => infix("<="),
            Op::Gt => infix(">"),
            Op::Ge => infix(">="),
            Op::Arith(_, Mode::Checked) | Op::Clamp => {
                format!("if (const u32 rf = rf_{}({}, {to})) return rf;", op_name(op), x.join(", "))
            }
            Op::Arith(arith, Mode::Optional) => {
                let call = format!("rf_{}({}, {to}.value)", arith.name(), x.join(", "));
                format!("{to}.some = {call} == FAULT_NONE; if (!{to}.some) {to}.value = 0;")
            }
            Op::Cast | Op::AbsDiff | Op::UnsignedAbs | Op::ToBits | Op::FromBits => {
                format!("{to} = rf_{}<{}>({});", op_name(op), self.ty(ty), x.join(", "))
            }
            _ => format!("{to} = rf_{}({});", op_name(op), x.join(", ")),
        }
    }

    fn handle(&mut self) {
        let program = self.program;
        self.line("RF_FN u32 handle(State &state, const Envelope &message, Ctx<MAX_SENDS> &ctx) {");
        self.line(&format!("    u32 fuel = {FUEL_PER_MESSAGE};"));
        let own = if program.initial.is_empty() { "nothing" } else { "state.own" };
        if program.initial.is_empty() {
            self.line(&format!("    {} nothing;", self.ty(program.state)));
        }
        let with = with_enums(program);
        self.line("    switch (message.kind) {");
        for handler in &program.handlers {
            let message = &program.messages[handler.message as usize];
            let bytes = program.bytes(message.ty);
            self.line(&format!("    case {:#06x}: {{ // {}", message.kind, clean(&message.name)));
            self.line(&format!("        if (len_of(message) != {bytes}) return FAULT_BAD_MESSAGE;"));
            let ty = self.ty(message.ty);
            let name = function_name(program, handler.function);
            let body = if bytes == 0 { "{}".to_owned() } else { format!(" = body_of<{ty}>(message)") };
            self.line(&format!("        const {ty} body{body};"));
            if with[message.ty as usize] {
                let check = check_name(message.ty);
                self.line(&format!("        if (!{check}(body)) return FAULT_BAD_MESSAGE;"));
            }
            if with[program.state as usize] {
                let check = check_name(program.state);
                self.line(&format!("        if (!{check}({own})) return FAULT_OUT_OF_BOUNDS;"));
            }
            self.line(&format!("        return {name}({own}, body, ctx, fuel);\n    }}"));
        }
        self.line("    default: return FAULT_BAD_MESSAGE;\n    }\n}");
    }
}

/// Whether values are written where they are used.
fn is_number(ty: &Type) -> bool {
    matches!(ty, Type::Bool | Type::Int(_) | Type::Float(_) | Type::Enum { .. })
}

/// The function that says whether plain data of a type is a value.
fn check_name(ty: TypeId) -> String {
    format!("rf_valid_{ty}")
}

/// Whether `value` is the number of one of these variants, which are in the order of their numbers.
fn ranges(variants: &[Variant]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for variant in variants {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(variant.value) => *last = variant.value,
            _ => ranges.push((variant.value, variant.value)),
        }
    }
    let range = |(first, last): &(u32, u32)| match (first, last) {
        (0, last) => format!("value <= {last}u"),
        (first, last) if first == last => format!("value == {first}u"),
        (first, last) => format!("(value >= {first}u && value <= {last}u)"),
    };
    ranges.iter().map(range).collect::<Vec<_>>().join(" || ")
}

fn int_name(int: Int) -> &'static str {
    match int {
        Int::U8 => "rf_u8",
        Int::U16 => "rf_u16",
        Int::U32 => "rf_u32",
        Int::U64 | Int::Usize => "rf_u64",
        Int::U128 => "rf_u128",
        Int::I8 => "rf_i8",
        Int::I16 => "rf_i16",
        Int::I32 => "rf_i32",
        Int::I64 | Int::Isize => "rf_i64",
        Int::I128 => "rf_i128",
    }
}

/// Field names are made different from everything that C++ or the kernel defines.
fn field_name(at: usize, name: &str) -> String {
    format!("{}_{at}", if name.starts_with(|c: char| c.is_ascii_digit()) { "p".to_owned() } else { clean(name) })
}

/// Behind a prefix that no other name of the text has, whatever the local is called.
fn local_name(function: &Function, at: u32) -> String {
    let name = &function.locals[at as usize].name;
    if name.is_empty() || name == "_" { format!("v{at}") } else { format!("v{at}_{}", clean(name)) }
}

fn function_name(program: &Program, at: u32) -> String {
    format!("f{at}_{}", clean(&program.functions[at as usize].name))
}

/// Calls `run` for every constant that a function uses.
fn visit_consts(function: &Function, run: &mut dyn FnMut(u32)) {
    let mut operand = |operand: &Operand| {
        if let Operand::Const(at) = operand {
            run(*at);
        }
    };
    for stmt in function.blocks.iter().flatten() {
        match &stmt.kind {
            StmtKind::Set { value: Value::Use(value) | Value::Repeat(value), .. } => operand(value),
            StmtKind::Set { value: Value::IsSome(value) | Value::Inner(value) | Value::RandomBelow(value), .. } => {
                operand(value);
            }
            StmtKind::Set { value: Value::Op(_, values), .. } => values.iter().for_each(&mut operand),
            StmtKind::Set { value: Value::Aggregate(values) | Value::Array(values), .. } => {
                values.iter().for_each(&mut operand);
            }
            StmtKind::Call { args, .. } => args.iter().for_each(|arg| {
                if let Arg::Value(value) = arg {
                    operand(value);
                }
            }),
            StmtKind::Return(Some(value)) => operand(value),
            StmtKind::Send { body, .. } => operand(body),
            _ => {}
        }
    }
}
