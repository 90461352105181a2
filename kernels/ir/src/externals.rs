//! What only rustc knows of the names in a tree: layouts, values of constants, kinds of messages.

use crate::ty::{Int, Ty};

/// A named struct. Values of constants hold its fields one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StructDef {
    /// Its name.
    pub name: String,
    /// Names and types of its fields, in the order of their offsets.
    pub fields: Vec<(String, Ty)>,
}

/// A named enum without data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnumDef {
    /// Its name.
    pub name: String,
    /// The number that it is held as.
    pub number: Int,
    /// Names and numbers of its variants.
    pub variants: Vec<(String, u32)>,
}

/// A message that is handled or sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalMessage {
    /// Its name.
    pub name: String,
    /// The number in envelopes.
    pub kind: u16,
    /// Its struct.
    pub ty: Ty,
}

/// The list that one tree refers to by position. Generated code fills it in the order in which the macro numbered the names.
#[derive(Clone, Debug, Default)]
pub struct Externals {
    /// Structs, each once.
    pub structs: Vec<StructDef>,
    /// Enums, each once.
    pub enums: Vec<EnumDef>,
    /// Named types.
    pub types: Vec<Ty>,
    /// Constants: type and bytes, little-endian, without padding.
    pub consts: Vec<(Ty, Vec<u8>)>,
    /// Messages.
    pub messages: Vec<ExternalMessage>,
}

impl Externals {
    /// The list for another text of the same program: it has the same structs and enums, so that types of both can be compared.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self { structs: self.structs.clone(), enums: self.enums.clone(), ..Self::default() }
    }

    /// The type of the struct with this name and these fields.
    pub fn structure(&mut self, name: &str, fields: Vec<(String, Ty)>) -> Ty {
        let def = StructDef { name: name.to_owned(), fields };
        let at = self.structs.iter().position(|known| *known == def).unwrap_or_else(|| {
            self.structs.push(def);
            self.structs.len() - 1
        });
        Ty::Struct(at as u32)
    }

    /// The type of the enum with this name, number and variants.
    pub fn enumeration(&mut self, name: &str, number: Int, variants: Vec<(String, u32)>) -> Ty {
        let def = EnumDef { name: name.to_owned(), number, variants };
        let at = self.enums.iter().position(|known| *known == def).unwrap_or_else(|| {
            self.enums.push(def);
            self.enums.len() - 1
        });
        Ty::Enum(at as u32)
    }
}
