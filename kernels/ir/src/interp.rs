//! Runs a verified program, one statement after the other: slow, and the measure of what a program means.
//!
//! All values lie in one list of bytes: the state, the message, then the locals of the functions that are running. A reference is
//! the offset of what it refers to.

use ringfleet_abi::limits::TIMER_DELAY_MS_MAX;
use ringfleet_abi::{Draws, Envelope, Flags, SetId};

use crate::Error;
use crate::fault;
use crate::program::{
    Arg, BlockId, CtxValue, Function, LocalKind, Op, Operand, Place, Program, Step, StmtKind, Target, Type, TypeId,
    Value,
};
use crate::scalar::{self, Outcome, Scalar};
use crate::verify::{scalar_of, valid, verify, with_enums};

/// Where a message goes. The envelope holds the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// An actor of the set whose name has this tag.
    Tag(u32),
    /// An actor of this set, or a client.
    Set(SetId),
    /// The actor itself, after so many milliseconds.
    Timer(u32),
}

/// What a handling did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// What it sent, in order.
    pub sends: Vec<(Sent, Envelope)>,
    /// Whether the actor stopped.
    pub stopped: bool,
    /// Fuel that it burnt.
    pub burnt: u32,
}

/// An interpreter of one program.
#[derive(Debug)]
pub struct Machine<'a> {
    program: &'a Program,
    /// Of each function: the offsets of its locals, and the bytes of all of them.
    frames: Vec<(Vec<usize>, usize)>,
    /// Of each type: whether there are enums in it.
    with_enums: Vec<bool>,
    fuel: u32,
}

/// How a block was left.
enum Flow {
    Next,
    Break(BlockId),
    Continue(BlockId),
    Leave(BlockId),
    Return(Option<Operand>),
}

struct Run<'a> {
    machine: &'a Machine<'a>,
    memory: Vec<u8>,
    incoming: &'a Envelope,
    hlc: u64,
    draws: &'a mut Draws,
    fuel: u32,
    effects: Effects,
}

/// Where the locals of a running function are.
struct Frame<'a> {
    function: &'a Function,
    at: Vec<usize>,
}

impl<'a> Machine<'a> {
    /// An interpreter of a program.
    ///
    /// # Errors
    /// What is wrong with the program.
    pub fn new(program: &'a Program, fuel: u32) -> Result<Self, Error> {
        verify(program)?;
        let frame = |function: &Function| {
            let mut end = 0;
            let at = function.locals.iter().map(|local| {
                let at = end;
                end += if local.kind == LocalKind::Value { program.bytes(local.ty) } else { 0 };
                at
            });
            (at.collect(), end)
        };
        let frames = program.functions.iter().map(frame).collect();
        Ok(Self { program, frames, with_enums: with_enums(program), fuel })
    }

    /// Handles one message. On a fault the state is half changed; on [`fault::BAD_MESSAGE`] it is as it was. `draws` are those of the
    /// actor, kept from one handling to the next.
    ///
    /// # Errors
    /// The code of a fault.
    pub fn handle(&self, state: &mut [u8], incoming: &Envelope, hlc: u64, draws: &mut Draws) -> Result<Effects, u32> {
        let handler = self
            .program
            .handlers
            .iter()
            .find(|handler| self.program.messages[handler.message as usize].kind == incoming.kind)
            .ok_or(fault::BAD_MESSAGE)?;
        let message = self.program.messages[handler.message as usize].ty;
        let bytes = self.program.bytes(message);
        if incoming.payload_len() != bytes || !self.is_value(message, &incoming.payload[..bytes]) {
            return Err(fault::BAD_MESSAGE);
        }
        let state_bytes = self.program.initial.len();
        if !self.is_value(self.program.state, &state[..state_bytes]) {
            return Err(fault::OUT_OF_BOUNDS);
        }
        let mut memory = state[..state_bytes].to_vec();
        memory.extend_from_slice(&incoming.payload[..bytes]);
        let effects = Effects::default();
        let mut run = Run { machine: self, memory, incoming, hlc, draws, fuel: self.fuel, effects };
        let outcome = run.call(handler.function, vec![0, state_bytes]);
        state[..state_bytes].copy_from_slice(&run.memory[..state_bytes]);
        run.effects.burnt = self.fuel - run.fuel;
        outcome.map(|_| run.effects)
    }

    /// Whether plain data of a type is a value: every enum in it is one of its variants.
    fn is_value(&self, ty: TypeId, bytes: &[u8]) -> bool {
        !self.with_enums[ty as usize] || valid(self.program, ty, bytes)
    }
}

impl Run<'_> {
    fn program(&self) -> &Program {
        self.machine.program
    }

    /// Runs a function whose arguments lie at `args`; gives the bytes of what it gives.
    fn call(&mut self, function: u32, args: Vec<usize>) -> Result<Vec<u8>, u32> {
        let machine = self.machine;
        let callee = &machine.program.functions[function as usize];
        let (offsets, bytes) = &machine.frames[function as usize];
        let base = self.memory.len();
        self.memory.resize(base + bytes, 0);
        let mut at: Vec<usize> = offsets.iter().map(|offset| base + offset).collect();
        for (param, arg) in args.into_iter().enumerate() {
            let local = &callee.locals[param];
            if local.kind == LocalKind::Value {
                let bytes = machine.program.bytes(local.ty);
                self.memory.copy_within(arg..arg + bytes, at[param]);
            } else {
                at[param] = arg;
            }
        }
        let frame = Frame { function: callee, at };
        let flow = self.block(&frame, 0)?;
        let given = match flow {
            Flow::Return(Some(value)) => self.read(&frame, value),
            _ => Vec::new(),
        };
        self.memory.truncate(base);
        Ok(given)
    }

    fn block(&mut self, frame: &Frame<'_>, id: BlockId) -> Result<Flow, u32> {
        for stmt in &frame.function.blocks[id as usize] {
            match self.stmt(frame, &stmt.kind)? {
                Flow::Next => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::Next)
    }

    fn stmt(&mut self, frame: &Frame<'_>, stmt: &StmtKind) -> Result<Flow, u32> {
        match stmt {
            StmtKind::Set { to, value } => {
                let ty = self.type_of(frame, to);
                let value = self.value(frame, value, ty)?;
                let (at, _) = self.place(frame, to)?;
                self.memory[at..at + value.len()].copy_from_slice(&value);
            }
            StmtKind::Check(place) => {
                self.place(frame, place)?;
            }
            StmtKind::Call { function, args, to } => {
                // Constants need a place too: they are put behind the locals for the time of the call.
                let base = self.memory.len();
                let mut places = Vec::new();
                for arg in args {
                    places.push(match arg {
                        Arg::Value(Operand::Local(local)) => frame.at[*local as usize],
                        Arg::Value(constant) => {
                            let bytes = self.read(frame, *constant);
                            self.memory.extend_from_slice(&bytes);
                            self.memory.len() - bytes.len()
                        }
                        Arg::Ref(place) => self.place(frame, place)?.0,
                    });
                }
                let given = self.call(*function, places)?;
                self.memory.truncate(base);
                if let Some(to) = to {
                    let at = frame.at[*to as usize];
                    self.memory[at..at + given.len()].copy_from_slice(&given);
                }
            }
            StmtKind::If { cond, then, otherwise } => {
                return match (self.read(frame, *cond)[0] != 0, otherwise) {
                    (true, _) => self.block(frame, *then),
                    (false, Some(otherwise)) => self.block(frame, *otherwise),
                    (false, None) => Ok(Flow::Next),
                };
            }
            StmtKind::Loop { head, cond, body } => return self.looping(frame, *head, *cond, *body),
            StmtKind::Break(block) => return Ok(Flow::Break(*block)),
            StmtKind::Continue(block) => return Ok(Flow::Continue(*block)),
            StmtKind::Block(block) => {
                return Ok(match self.block(frame, *block)? {
                    Flow::Leave(left) if left == *block => Flow::Next,
                    other => other,
                });
            }
            StmtKind::Leave(block) => return Ok(Flow::Leave(*block)),
            StmtKind::Return(value) => return Ok(Flow::Return(*value)),
            StmtKind::Fail(code) => {
                let code = self.read(frame, *code);
                return Err(fault::USER | u32::from(u16::from_le_bytes([code[0], code[1]])) << 16);
            }
            StmtKind::Unreachable => return Err(fault::OUT_OF_BOUNDS),
            StmtKind::Send { to, message, body } => self.send(frame, *to, *message, *body)?,
            StmtKind::Stop => self.effects.stopped = true,
        }
        Ok(Flow::Next)
    }

    fn looping(&mut self, frame: &Frame<'_>, head: BlockId, cond: Option<Operand>, body: BlockId) -> Result<Flow, u32> {
        loop {
            match self.block(frame, head)? {
                Flow::Next => {}
                other => return Ok(other),
            }
            if cond.is_some_and(|cond| self.read(frame, cond)[0] == 0) {
                return Ok(Flow::Next);
            }
            self.fuel = self.fuel.checked_sub(1).ok_or(fault::OUT_OF_FUEL)?;
            match self.block(frame, body)? {
                Flow::Next => {}
                Flow::Continue(to) if to == body => {}
                Flow::Break(to) if to == body => return Ok(Flow::Next),
                other => return Ok(other),
            }
        }
    }

    fn send(&mut self, frame: &Frame<'_>, to: Target, message: u32, body: Operand) -> Result<(), u32> {
        let number = |run: &Self, operand| {
            let mut word = [0; 8];
            let bytes = run.read(frame, operand);
            word[..bytes.len()].copy_from_slice(&bytes);
            u64::from_le_bytes(word)
        };
        let incoming = self.incoming;
        let me = incoming.to();
        let mut flags = Flags::NONE;
        let (sent, to_set, to_key) = match to {
            Target::Actor { tag, key } => (Sent::Tag(number(self, tag) as u32), SetId::NONE, number(self, key)),
            Target::Sender => {
                if incoming.flags().has(Flags::ASK) {
                    flags = Flags::REPLY;
                }
                let from = incoming.from();
                (Sent::Set(from.set), from.set, from.key)
            }
            Target::Later { delay_ms } => {
                let delay_ms = number(self, delay_ms) as u32;
                if delay_ms > TIMER_DELAY_MS_MAX {
                    return Err(fault::DELAY_TOO_LONG);
                }
                (Sent::Timer(delay_ms), me.set, me.key)
            }
        };
        if self.effects.sends.len() >= self.program().max_sends as usize {
            return Err(fault::TOO_MANY_SENDS);
        }
        if incoming.flags().has(Flags::TRACE) {
            flags = flags.with(Flags::TRACE);
        }
        let bytes = self.read(frame, body);
        let mut envelope = Envelope {
            to_key,
            from_key: me.key,
            hlc: self.hlc.saturating_add(self.effects.sends.len() as u64 + 1),
            to_set: to_set.0,
            from_set: me.set.0,
            kind: self.program().messages[message as usize].kind,
            bits: bytes.len() as u16,
            ..Envelope::default()
        };
        envelope.payload[..bytes.len()].copy_from_slice(&bytes);
        if flags != Flags::NONE {
            envelope.set_flags(flags);
        }
        self.effects.sends.push((sent, envelope));
        Ok(())
    }

    fn operand_type(&self, frame: &Frame<'_>, operand: Operand) -> TypeId {
        match operand {
            Operand::Local(local) => frame.function.locals[local as usize].ty,
            Operand::Const(at) => self.program().consts[at as usize].ty,
        }
    }

    fn read(&self, frame: &Frame<'_>, operand: Operand) -> Vec<u8> {
        match operand {
            Operand::Local(local) => {
                let at = frame.at[local as usize];
                let bytes = self.program().bytes(frame.function.locals[local as usize].ty);
                self.memory[at..at + bytes].to_vec()
            }
            Operand::Const(at) => self.program().consts[at as usize].bytes.clone(),
        }
    }

    fn bits(&self, frame: &Frame<'_>, operand: Operand) -> u128 {
        let mut word = [0; 16];
        let bytes = self.read(frame, operand);
        word[..bytes.len()].copy_from_slice(&bytes);
        u128::from_le_bytes(word)
    }

    /// The type of a place, indices unchecked.
    fn type_of(&self, frame: &Frame<'_>, place: &Place) -> TypeId {
        let mut ty = frame.function.locals[place.root as usize].ty;
        for step in &place.steps {
            ty = match (step, &self.program().types[ty as usize]) {
                (Step::Field(at), _) => self.program().part(ty, *at).map_or(ty, |(_, part)| part),
                (_, Type::Array { element, .. }) => *element,
                _ => ty,
            };
        }
        ty
    }

    /// Where a place is, and its type.
    fn place(&self, frame: &Frame<'_>, place: &Place) -> Result<(usize, TypeId), u32> {
        let mut at = frame.at[place.root as usize];
        let mut ty = frame.function.locals[place.root as usize].ty;
        for step in &place.steps {
            match (*step, &self.program().types[ty as usize]) {
                (Step::Field(field), _) => {
                    if let Some((offset, part)) = self.program().part(ty, field) {
                        at += offset;
                        ty = part;
                    }
                }
                (Step::Index(index), Type::Array { element, len }) => {
                    let index = self.bits(frame, index);
                    if index >= u128::from(*len) {
                        return Err(fault::OUT_OF_BOUNDS);
                    }
                    at += index as usize * self.program().bytes(*element);
                    ty = *element;
                }
                _ => {}
            }
        }
        Ok((at, ty))
    }

    fn value(&mut self, frame: &Frame<'_>, value: &Value, to: TypeId) -> Result<Vec<u8>, u32> {
        let number = |value: u128, bytes: usize| value.to_le_bytes()[..bytes].to_vec();
        Ok(match value {
            Value::Use(operand) => self.read(frame, *operand),
            Value::Load(place) => {
                let (at, ty) = self.place(frame, place)?;
                self.memory[at..at + self.program().bytes(ty)].to_vec()
            }
            Value::Op(op, operands) => self.op(frame, *op, operands, to)?,
            Value::Aggregate(operands) | Value::Array(operands) => {
                operands.iter().flat_map(|operand| self.read(frame, *operand)).collect()
            }
            Value::Repeat(operand) => {
                let Type::Array { len, .. } = self.program().types[to as usize] else { return Ok(Vec::new()) };
                self.read(frame, *operand).repeat(len as usize)
            }
            Value::IsSome(operand) => vec![self.read(frame, *operand)[0]],
            Value::Inner(operand) => self.read(frame, *operand)[1..].to_vec(),
            Value::Ctx(CtxValue::Key) => number(self.incoming.to_key.into(), 8),
            Value::Ctx(CtxValue::Now) => number(self.hlc.into(), 8),
            Value::Ctx(CtxValue::Random) => number(self.draws.random(self.incoming.to_key).into(), 8),
            Value::RandomBelow(bound) => {
                let bound = self.bits(frame, *bound) as u64;
                let below = self.draws.random_below(self.incoming.to_key, bound).ok_or(fault::DIVIDE_BY_ZERO)?;
                number(below.into(), 8)
            }
            Value::Ctx(CtxValue::SenderKey) => number(self.incoming.from_key.into(), 8),
            Value::Ctx(CtxValue::SenderSet) => number(self.incoming.from_set.into(), 2),
        })
    }

    fn op(&self, frame: &Frame<'_>, op: Op, operands: &[Operand], to: TypeId) -> Result<Vec<u8>, u32> {
        let scalar = |operand: Operand| scalar_of(self.program(), self.operand_type(frame, operand));
        let inner = match self.program().types[to as usize] {
            Type::Option(inner) => inner,
            _ => to,
        };
        // Verified: operands of operations are numbers.
        let ty = operands.first().and_then(|operand| scalar(*operand)).unwrap_or(Scalar::Bool);
        let by = operands.get(1).and_then(|operand| scalar(*operand)).unwrap_or(ty);
        let target = scalar_of(self.program(), inner).unwrap_or(Scalar::Bool);
        let x: Vec<u128> = operands.iter().map(|operand| self.bits(frame, *operand)).collect();
        let bytes = self.program().bytes(inner);
        Ok(match scalar::apply(op, ty, by, target, &x)? {
            Outcome::Bits(bits) => bits.to_le_bytes()[..bytes].to_vec(),
            Outcome::Maybe(maybe) => {
                let mut value = vec![u8::from(maybe.is_some())];
                value.extend_from_slice(&maybe.unwrap_or(0).to_le_bytes()[..bytes]);
                value
            }
        })
    }
}
