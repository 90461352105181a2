//! The fields of messages and states: which types they may have, and where they lie.
//!
//! `repr(C)` without padding: every field starts where the one before it ends. Where all types are known to the macro it computes
//! the layout and reports at the field; where a field is another struct, generated asserts do the same.

use syn::{Error, Expr, Ident, Lit, Result, Type};

use crate::text;

/// Size and alignment.
#[derive(Clone, Copy)]
struct Layout {
    bytes: usize,
    align: usize,
}

/// What the fields belong to, for error messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Message,
    Plain,
    State,
}

impl Owner {
    pub fn noun(self) -> &'static str {
        match self {
            Owner::Message => "a message",
            Owner::Plain => "plain data",
            Owner::State => "the state of an actor",
        }
    }
}

/// The named fields of a struct, checked as far as the macro can see.
pub struct Fields {
    pub fields: Vec<(Ident, Type)>,
    /// Whether the macro knows the whole layout; if not, the generated asserts are the only check.
    pub known: bool,
}

/// Checks the types and, if they are all known, the layout.
pub fn check(owner: Owner, item: &syn::ItemStruct, bytes_max: usize) -> Result<Fields> {
    let named = match &item.fields {
        syn::Fields::Named(named) => named.named.iter().collect::<Vec<_>>(),
        syn::Fields::Unit => Vec::new(),
        syn::Fields::Unnamed(unnamed) => {
            return Err(Error::new_spanned(
                unnamed,
                format!(
                    "the fields of {} have names: write `struct {} {{ name: type, .. }}`",
                    owner.noun(),
                    item.ident
                ),
            ));
        }
    };
    let mut fields = Vec::new();
    let mut layouts = Vec::new();
    let mut errors: Option<Error> = None;
    for field in named {
        let Some(ident) = field.ident.clone() else { continue };
        if let Some(attr) = field.attrs.iter().find(|attr| attr.path().is_ident("cfg")) {
            push(&mut errors, Error::new_spanned(attr, "fields are always there: builds that differ could not talk"));
        }
        match layout_of(owner, &ident, &field.ty) {
            Ok(layout) => layouts.push(layout),
            Err(error) => push(&mut errors, error),
        }
        fields.push((ident, field.ty.clone()));
    }
    if let Some(errors) = errors {
        return Err(errors);
    }
    let known = layouts.iter().all(Option::is_some);
    if known {
        let layouts: Vec<Layout> = layouts.into_iter().flatten().collect();
        check_layout(owner, item, &fields, &layouts, bytes_max)?;
    }
    Ok(Fields { fields, known })
}

/// Adds an error to those found before.
pub fn push(errors: &mut Option<Error>, error: Error) {
    match errors {
        Some(errors) => errors.combine(error),
        None => *errors = Some(error),
    }
}

fn check_layout(
    owner: Owner,
    item: &syn::ItemStruct,
    fields: &[(Ident, Type)],
    layouts: &[Layout],
    bytes_max: usize,
) -> Result<()> {
    let mut end = 0_usize;
    let mut align = 1_usize;
    for ((ident, _), layout) in fields.iter().zip(layouts) {
        let gap = end.next_multiple_of(layout.align) - end;
        if gap != 0 {
            return Err(Error::new(
                ident.span(),
                format!(
                    "{gap} bytes of padding before field `{ident}`: its type is aligned to {} bytes and the fields before it \
                     end at byte {end}; order the fields from the most aligned to the least, or put `_pad: [u8; {gap}]` \
                     before it",
                    layout.align
                ),
            ));
        }
        end += layout.bytes;
        align = align.max(layout.align);
        if end > bytes_max {
            return Err(Error::new(ident.span(), too_long(owner, ident, end, bytes_max)));
        }
    }
    let gap = end.next_multiple_of(align) - end;
    if gap != 0 {
        let last = fields.last().map_or(&item.ident, |(ident, _)| ident);
        return Err(Error::new(
            last.span(),
            format!(
                "{gap} bytes of padding after field `{last}`: `{}` is aligned to {align} bytes and its fields end at byte \
                 {end}; add `_pad: [u8; {gap}]` after it",
                item.ident
            ),
        ));
    }
    Ok(())
}

fn too_long(owner: Owner, ident: &Ident, end: usize, bytes_max: usize) -> String {
    let advice = match owner {
        Owner::Message | Owner::Plain => "use smaller types or split it into several messages",
        Owner::State => "use smaller types or spread the state over several actors",
    };
    format!("field `{ident}` ends at byte {end}, but {} has at most {bytes_max} bytes: {advice}", owner.noun())
}

/// The layout of a field's type: `Ok(None)` if it is a struct that the macro cannot see into.
fn layout_of(owner: Owner, field: &Ident, ty: &Type) -> Result<Option<Layout>> {
    let refuse = |instead: &str| {
        Err(Error::new_spanned(
            ty,
            format!("field `{field}` has type `{}`, which {} cannot hold: {instead}", text::show(ty), owner.noun()),
        ))
    };
    match ty {
        Type::Paren(inner) => layout_of(owner, field, &inner.elem),
        Type::Group(inner) => layout_of(owner, field, &inner.elem),
        Type::Array(array) => {
            let element = layout_of(owner, field, &array.elem)?;
            let len = match &array.len {
                Expr::Lit(lit) => match &lit.lit {
                    Lit::Int(int) => int.base10_parse::<usize>().ok(),
                    _ => None,
                },
                _ => None,
            };
            let known = element.zip(len);
            Ok(known.map(|(element, len)| Layout { bytes: element.bytes.saturating_mul(len), align: element.align }))
        }
        Type::Path(path) if path.qself.is_none() => {
            let Some(last) = path.path.segments.last() else { return Ok(None) };
            let name = last.ident.to_string();
            if let Some(bytes) = scalar_bytes(&name) {
                return Ok(Some(Layout { bytes, align: bytes }));
            }
            match instead_of(&name) {
                Some(instead) => refuse(instead),
                None if !last.arguments.is_empty() => {
                    refuse("types with parameters are not plain data; write a struct with `#[plain]`")
                }
                None => Ok(None),
            }
        }
        Type::Reference(_) | Type::Ptr(_) => {
            refuse("an address means nothing on another device; hold the value itself")
        }
        Type::Tuple(_) => refuse("the layout of a tuple is not fixed; write a struct with `#[plain]`"),
        Type::Slice(_) => refuse("it has no fixed size; use an array such as `[u8; 16]`"),
        _ => refuse("use a fixed-size integer, `f32`, `f64`, an array of those, or a struct with `#[plain]`"),
    }
}

/// Bytes (and alignment) of a number by its name.
pub fn scalar_bytes(name: &str) -> Option<usize> {
    Some(match name {
        "u8" | "i8" => 1,
        "u16" | "i16" => 2,
        "u32" | "i32" | "f32" => 4,
        "u64" | "i64" | "f64" => 8,
        "u128" | "i128" => 16,
        _ => return None,
    })
}

/// What to write instead of a well-known type that is not plain.
fn instead_of(name: &str) -> Option<&'static str> {
    Some(match name {
        "bool" => "not every byte is a `bool`; use `u8` with 0 and 1, or a bit of a flags field",
        "char" => "not every number is a `char`; use `u32`",
        "usize" => "its size differs between machines; use `u64`",
        "isize" => "its size differs between machines; use `i64`",
        "String" | "str" => "text has no fixed size; use an array such as `[u8; 16]`",
        "Vec" | "VecDeque" | "HashMap" | "BTreeMap" | "HashSet" | "BTreeSet" => {
            "it has no fixed size; use an array and a count"
        }
        "Box" | "Rc" | "Arc" | "Cow" => "an address means nothing on another device; hold the value itself",
        "Option" => "use a value that means none, or a flag beside it",
        "Cell" | "RefCell" | "Mutex" | "RwLock" => "an actor handles one message at a time; hold the value itself",
        "Duration" | "Instant" | "SystemTime" => "use `u64` milliseconds",
        _ => return None,
    })
}
