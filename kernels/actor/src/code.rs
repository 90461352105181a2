//! The handlers as data: what the macro has read of their text, and the program that `ringfleet-ir` makes of it.

use ringfleet_abi::{ActorId, Hlc, SetId};
use ringfleet_ir::externals::ExternalMessage;
use ringfleet_ir::infer::{actor_id, actor_ref, hlc, set_id};
use ringfleet_ir::ty::{Float, Int, Ty};
use ringfleet_ir::{Error, Externals, Program, Source, Text};

use crate::actor::{Actor, ActorRef};
use crate::descriptor::TypeDescriptor;
use crate::function::FunctionCode;
use crate::message::Message;
use crate::plain::{FieldType, Plain};

/// What the macro has read of the handlers of a type.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// The user's file.
    pub file: &'static str,
    /// The tree, as bytes.
    pub tree: &'static [u8],
    /// The layout of the state.
    pub state: FieldType,
    /// Fills the list of types, constants and messages that the tree refers to.
    pub externals: fn(&mut Externals),
    /// The free functions that they call.
    pub calls: &'static [&'static FunctionCode],
}

impl Code {
    /// That of a type whose native functions were written without macros: it has no program.
    pub const NONE: Code =
        Code { file: "", tree: &[], state: FieldType::Struct("", &[]), externals: |_| (), calls: &[] };
}

impl TypeDescriptor {
    /// The program of this type, verified.
    ///
    /// # Errors
    /// What the native handlers can do and a program cannot; a gap of Ringfleet, since the macro refuses what is not in the subset.
    pub fn program(&self) -> Result<Program, Error> {
        let mut externals = Externals::default();
        (self.code.externals)(&mut externals);
        let state = ty_of(&mut externals, &self.code.state);
        let mut slot = crate::testing::StateSlot::new(self);
        let mut known = Vec::new();
        let calls = positions(&mut known, self.code.calls);
        let handlers = Text { file: self.code.file, tree: self.code.tree, externals, calls };
        let mut functions: Vec<Text<'_>> = Vec::new();
        while let Some(code) = known.get(functions.len()).copied() {
            let mut externals = functions.last().map_or(&handlers, |last| last).externals.beside();
            (code.externals)(&mut externals);
            let calls = positions(&mut known, code.calls);
            functions.push(Text { file: code.file, tree: code.tree, externals, calls });
        }
        ringfleet_ir::build(Source {
            name: self.name,
            handlers,
            functions,
            state,
            initial: slot.bytes_mut().to_vec(),
            max_sends: self.max_sends,
        })
    }
}

/// Where these functions are in the list, at whose end new ones are put. A function is one static, whoever calls it.
fn positions(known: &mut Vec<&'static FunctionCode>, calls: &[&'static FunctionCode]) -> Vec<u32> {
    let mut position = |code: &&'static FunctionCode| {
        let at = known.iter().position(|other| std::ptr::eq(*other, *code)).unwrap_or_else(|| {
            known.push(*code);
            known.len() - 1
        });
        at as u32
    };
    calls.iter().map(&mut position).collect()
}

fn ty_of(externals: &mut Externals, ty: &FieldType) -> Ty {
    match ty {
        FieldType::U8 => Ty::Int(Int::U8),
        FieldType::U16 => Ty::Int(Int::U16),
        FieldType::U32 => Ty::Int(Int::U32),
        FieldType::U64 => Ty::Int(Int::U64),
        FieldType::U128 => Ty::Int(Int::U128),
        FieldType::I8 => Ty::Int(Int::I8),
        FieldType::I16 => Ty::Int(Int::I16),
        FieldType::I32 => Ty::Int(Int::I32),
        FieldType::I64 => Ty::Int(Int::I64),
        FieldType::I128 => Ty::Int(Int::I128),
        FieldType::F32 => Ty::Float(Float::F32),
        FieldType::F64 => Ty::Float(Float::F64),
        FieldType::Array(element, len) => Ty::Array(Box::new(ty_of(externals, element)), *len as u32),
        FieldType::Struct(name, fields) => {
            let fields = fields.iter().map(|field| (field.name.to_owned(), ty_of(externals, &field.ty))).collect();
            externals.structure(name, fields)
        }
        FieldType::Enum(name, number, variants) => {
            let number = match number {
                FieldType::U8 => Int::U8,
                FieldType::U16 => Int::U16,
                _ => Int::U32,
            };
            externals.enumeration(
                name,
                number,
                variants.iter().map(|variant| (variant.name.to_owned(), variant.value)).collect(),
            )
        }
    }
}

/// A type that the text of a handler may name, or that a constant in it may have.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be used in a handler",
    label = "not a number, `bool`, array, tuple, plain struct or plain enum"
)]
pub trait Known {
    /// The type.
    #[doc(hidden)]
    fn ty(externals: &mut Externals) -> Ty;
    /// The bytes of a value, without padding.
    #[doc(hidden)]
    fn bytes(&self) -> Vec<u8>;
}

impl<T: Plain> Known for T {
    fn ty(externals: &mut Externals) -> Ty {
        ty_of(externals, &T::TYPE)
    }
    fn bytes(&self) -> Vec<u8> {
        bytemuck::bytes_of(&self.raw()).to_vec()
    }
}

macro_rules! known {
    ($($ty:ty: $value:expr, |$self:ident| $bytes:expr;)*) => { $(
        impl Known for $ty {
            fn ty(_: &mut Externals) -> Ty { $value }
            fn bytes(&self) -> Vec<u8> { let $self = self; $bytes }
        }
    )* };
}

known! {
    bool: Ty::Bool, |x| vec![u8::from(*x)];
    usize: Ty::Int(Int::Usize), |x| (*x as u64).to_le_bytes().to_vec();
    isize: Ty::Int(Int::Isize), |x| (*x as i64).to_le_bytes().to_vec();
    Hlc: hlc(), |x| x.0.to_le_bytes().to_vec();
    SetId: set_id(), |x| x.0.to_le_bytes().to_vec();
    ActorId: actor_id(), |x| [&x.set.0.to_le_bytes()[..], &x.key.to_le_bytes()[..]].concat();
}

impl<A: Actor> Known for ActorRef<A> {
    fn ty(_: &mut Externals) -> Ty {
        actor_ref()
    }
    fn bytes(&self) -> Vec<u8> {
        [&self.set_tag().to_le_bytes()[..], &self.key().to_le_bytes()[..]].concat()
    }
}

macro_rules! tuples {
    ($(($($name:ident: $at:tt),*))*) => { $(
        impl<$($name: Known),*> Known for ($($name,)*) {
            fn ty(externals: &mut Externals) -> Ty { Ty::Tuple(vec![$($name::ty(externals)),*]) }
            fn bytes(&self) -> Vec<u8> { [$(self.$at.bytes()),*].concat() }
        }
    )* };
}

tuples! {
    (A: 0)
    (A: 0, B: 1)
    (A: 0, B: 1, C: 2)
    (A: 0, B: 1, C: 2, D: 3)
}

/// For generated code: the next named type.
#[doc(hidden)]
pub fn push_type<T: Known>(externals: &mut Externals) {
    let ty = T::ty(externals);
    externals.types.push(ty);
}

/// For generated code: the next constant.
#[doc(hidden)]
pub fn push_const<T: Known>(externals: &mut Externals, value: &T) {
    let ty = T::ty(externals);
    externals.consts.push((ty, value.bytes()));
}

/// For generated code: the next message.
#[doc(hidden)]
pub fn push_message<M: Message>(externals: &mut Externals) {
    let ty = ty_of(externals, &M::TYPE);
    externals.messages.push(ExternalMessage { name: M::NAME.to_owned(), kind: M::KIND, ty });
}

#[cfg(test)]
mod tests {
    use crate::fault::Fault;
    use ringfleet_ir::fault;

    #[test]
    fn faults_have_the_same_codes() {
        for (code, named) in [
            (fault::BAD_MESSAGE, Fault::BadMessage),
            (fault::OVERFLOW, Fault::Overflow),
            (fault::DIVIDE_BY_ZERO, Fault::DivideByZero),
            (fault::OUT_OF_BOUNDS, Fault::OutOfBounds),
            (fault::TOO_MANY_SENDS, Fault::TooManySends),
            (fault::OUT_OF_FUEL, Fault::OutOfFuel),
            (fault::DELAY_TOO_LONG, Fault::DelayTooLong),
            (fault::USER, Fault::User(0)),
        ] {
            assert_eq!(code, named.code());
        }
    }
}
