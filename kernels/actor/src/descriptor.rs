//! What a process knows about an actor type, and the types that a binary carries.

use std::collections::BTreeMap;
use std::fmt;

use ringfleet_abi::Envelope;

use crate::code::Code;
use crate::ctx::Ctx;
use crate::fault::Fault;
use crate::plain::{FieldDescriptor, fnv};

/// How much of a GPU works on one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// One thread; millions of actors.
    Lane,
    /// A warp. Not yet.
    Warp,
    /// A thread block. Not yet.
    Block,
}

impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Width::Lane => "lane",
            Width::Warp => "warp",
            Width::Block => "block",
        })
    }
}

/// A kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindDescriptor {
    /// The struct's name.
    pub name: &'static str,
    /// The number in the envelope.
    pub kind: u16,
    /// Bytes of payload.
    pub bytes: usize,
    /// Its fields, in the order of their offsets.
    pub fields: &'static [FieldDescriptor],
}

/// Runs the handler of one message. The slice holds the state, aligned to 16 bytes and at least `state_bytes` long. On
/// `Err` nothing may be sent; on [`Fault::BadMessage`] the state is untouched, on any other fault it may be half changed.
pub type HandleFn = fn(state: &mut [u8], incoming: &Envelope, ctx: &mut Ctx<'_>) -> Result<(), Fault>;

/// An actor type.
#[derive(Clone, Copy, Debug)]
pub struct TypeDescriptor {
    /// Its name, such as `flights.carrier`.
    pub name: &'static str,
    /// How much of a GPU works on one message.
    pub width: Width,
    /// Bytes of an actor's state, at most 4096.
    pub state_bytes: usize,
    /// The most messages that one handling may send.
    pub max_sends: u32,
    /// Hash of the text of the struct and the handlers and of the layouts of the messages: equal hashes run the same code.
    pub code_hash: u64,
    /// Hash of names, types and offsets of the state's fields: equal hashes can read each other's state.
    pub layout_hash: u64,
    /// The fields of the state, in the order of their offsets.
    pub state: &'static [FieldDescriptor],
    /// The messages it handles.
    pub kinds: &'static [KindDescriptor],
    /// The messages its handlers make: what `reply`, `tell` and `after` are called with.
    pub sends: &'static [KindDescriptor],
    /// Writes the state of an actor that has just been activated. The slice is as for [`HandleFn`].
    pub init: fn(state: &mut [u8]),
    /// Runs a handler.
    pub handle: HandleFn,
    /// The text of the handlers, read: what other devices than CPUs run is made from it.
    pub code: Code,
}

impl TypeDescriptor {
    /// The message of this name that the type handles.
    #[must_use]
    pub fn kind_by_name(&self, name: &str) -> Option<&'static KindDescriptor> {
        self.kinds.iter().find(|kind| kind.name == name)
    }

    /// The message with this number that the type handles or makes.
    #[must_use]
    pub fn kind(&self, kind: u16) -> Option<&'static KindDescriptor> {
        self.kinds.iter().chain(self.sends).find(|known| known.kind == kind)
    }
}

/// For generated code: the hash of a type's texts and of the messages it handles.
#[doc(hidden)]
#[must_use]
pub const fn code_hash(
    struct_text: u64,
    handlers_text: u64,
    kinds: &[KindDescriptor],
    sends: &[KindDescriptor],
) -> u64 {
    let mut hash = fnv(struct_text, &handlers_text.to_le_bytes());
    hash = hash_kinds(hash, kinds);
    hash_kinds(hash, sends)
}

const fn hash_kinds(mut hash: u64, kinds: &[KindDescriptor]) -> u64 {
    let mut at = 0;
    while at < kinds.len() {
        hash = fnv(hash, &kinds[at].kind.to_le_bytes());
        hash = fnv(hash, &crate::plain::layout_hash(kinds[at].fields).to_le_bytes());
        at += 1;
    }
    hash
}

/// Why a list of types is not a registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TypeRegistryError {
    /// Two types with one name.
    #[error("two actor types are named `{name}`; names are unique within a binary")]
    DuplicateName {
        /// The name.
        name: &'static str,
    },
}

/// The actor types that a binary carries.
#[derive(Clone, Debug, Default)]
pub struct TypeRegistry {
    types: BTreeMap<&'static str, &'static TypeDescriptor>,
}

impl TypeRegistry {
    /// A registry of what `types![..]` lists.
    ///
    /// # Errors
    /// [`TypeRegistryError::DuplicateName`].
    pub fn new(types: impl IntoIterator<Item = &'static TypeDescriptor>) -> Result<Self, TypeRegistryError> {
        let mut registry = Self::default();
        for ty in types {
            if registry.types.insert(ty.name, ty).is_some() {
                return Err(TypeRegistryError::DuplicateName { name: ty.name });
            }
        }
        Ok(registry)
    }

    /// The type of this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&'static TypeDescriptor> {
        self.types.get(name).copied()
    }

    /// All types, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'static TypeDescriptor> {
        self.types.values().copied()
    }

    /// How many types there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.types.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.types.is_empty()
    }
}
