//! The types that parameters, locals and casts of handlers may name.

use syn::{Error, Result, Type};

use crate::fields::scalar_bytes;
use crate::text;

/// Where a type stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A parameter: may be a reference.
    Param,
    /// A local, a constant or what a function gives.
    Value,
}

/// Whether the type is the `Ctx` by name.
pub fn is_ctx(ty: &Type) -> bool {
    let Type::Reference(reference) = ty else { return false };
    reference.mutability.is_some()
        && matches!(&*reference.elem, Type::Path(path)
            if path.path.segments.last().is_some_and(|last| last.ident == "Ctx"))
}

/// Whether a number or `bool`.
pub fn is_scalar(ty: &Type) -> bool {
    match ty {
        Type::Path(path) => path.path.get_ident().is_some_and(|ident| {
            let name = ident.to_string();
            scalar_bytes(&name).is_some() || matches!(name.as_str(), "bool" | "usize" | "isize")
        }),
        Type::Paren(inner) => is_scalar(&inner.elem),
        Type::Group(inner) => is_scalar(&inner.elem),
        _ => false,
    }
}

/// Refuses what GPU code cannot carry.
pub fn check(ty: &Type, place: Place) -> Result<()> {
    let refuse = |instead: &str| {
        Err(Error::new_spanned(ty, format!("`{}` cannot be used in a handler: {instead}", text::show(ty))))
    };
    match ty {
        _ if is_scalar(ty) => Ok(()),
        Type::Paren(inner) => check(&inner.elem, place),
        Type::Group(inner) => check(&inner.elem, place),
        Type::Infer(_) => Ok(()),
        Type::Array(array) => check(&array.elem, Place::Value),
        Type::Tuple(tuple) => tuple.elems.iter().try_for_each(|elem| check(elem, Place::Value)),
        Type::Reference(reference) if place == Place::Param && reference.lifetime.is_none() => {
            check(&reference.elem, Place::Value)
        }
        Type::Reference(_) => refuse("references are parameters of helpers only; copy the value"),
        Type::Path(path) => check_path(ty, path, &refuse),
        Type::Slice(_) => refuse("it has no fixed size; use an array"),
        Type::ImplTrait(_) | Type::TraitObject(_) => refuse("there are no trait objects; write the type"),
        Type::BareFn(_) => refuse("there are no function pointers; call a helper by its name"),
        _ => refuse("use numbers, `bool`, arrays, tuples and plain structs"),
    }
}

fn check_path(ty: &Type, path: &syn::TypePath, refuse: &dyn Fn(&str) -> Result<()>) -> Result<()> {
    let Some(last) = path.path.segments.last() else { return Ok(()) };
    let name = last.ident.to_string();
    if path.qself.is_some() {
        return refuse("write the type itself");
    }
    match name.as_str() {
        "ActorRef" => Ok(()),
        "String" | "str" | "char" => refuse("there is no text; use numbers or an array such as `[u8; 16]`"),
        "Vec" | "VecDeque" | "HashMap" | "BTreeMap" | "Box" | "Rc" | "Arc" => {
            refuse("there is no allocation; use an array in the state and a count")
        }
        "Option" | "Result" => refuse(
            "an `Option` lives only in the `match`, `if let` or `let .. else` that takes it apart; use a value that means none",
        ),
        _ if !last.arguments.is_empty() => refuse("types with parameters are not plain data"),
        _ if is_ctx(ty) => Ok(()),
        _ => Ok(()),
    }
}
