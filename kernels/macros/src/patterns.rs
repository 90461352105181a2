//! The patterns of `let`, `match`, `if let` and `for`.

use proc_macro2::Ident;
use syn::{Error, Expr, Lit, Pat, Result};

/// Checks a pattern and collects the names that it binds.
pub fn check(pat: &Pat, names: &mut Vec<Ident>) -> Result<()> {
    let refuse = |instead: &str| Err(Error::new_spanned(pat, instead));
    match pat {
        Pat::Wild(_) => Ok(()),
        Pat::Ident(ident) => {
            if ident.by_ref.is_some() {
                return refuse("references are not stored: leave `ref` out, the value is copied");
            }
            if ident.subpat.is_some() {
                return refuse("`name @ pattern` is not in the subset: match on the pattern and use the value itself");
            }
            let name = ident.ident.to_string();
            if name.starts_with(|c: char| c.is_uppercase()) && name.contains(char::is_lowercase) && name != "None" {
                return refuse(
                    "a variant is written with its enum, such as `Mode::Open`; names begin with a small letter",
                );
            }
            names.push(ident.ident.clone());
            Ok(())
        }
        Pat::Lit(lit) => check_literal(&lit.lit),
        Pat::Range(range) => {
            for end in [&range.start, &range.end].into_iter().flatten() {
                match &**end {
                    Expr::Lit(lit) => check_literal(&lit.lit)?,
                    Expr::Path(_) => {}
                    Expr::Unary(unary) if matches!(&*unary.expr, Expr::Lit(_)) => {}
                    other => {
                        return Err(Error::new_spanned(other, "the ends of a range pattern are literals or constants"));
                    }
                }
            }
            Ok(())
        }
        Pat::Or(or) => or.cases.iter().try_for_each(|case| check(case, names)),
        Pat::Paren(paren) => check(&paren.pat, names),
        Pat::Tuple(tuple) => tuple.elems.iter().try_for_each(|elem| check(elem, names)),
        Pat::TupleStruct(some) if some.path.is_ident("Some") => {
            some.elems.iter().try_for_each(|elem| check(elem, names))
        }
        // A constant or a variant; rustc resolves it.
        Pat::Path(path) if path.qself.is_none() => Ok(()),
        Pat::Rest(_) => refuse("`..` is not in the subset: write `_` for each"),
        Pat::Struct(_) | Pat::TupleStruct(_) => {
            refuse("structs are not taken apart by patterns: use their fields by name")
        }
        Pat::Reference(_) => refuse("references are not stored: leave `&` out, values are copied"),
        Pat::Slice(_) => refuse("arrays are not taken apart by patterns: use indices"),
        _ => refuse("patterns are names, `_`, literals, ranges, constants, tuples, `Some(..)` and `None`"),
    }
}

fn check_literal(lit: &Lit) -> Result<()> {
    match lit {
        Lit::Int(_) | Lit::Bool(_) | Lit::Byte(_) | Lit::Float(_) => Ok(()),
        other => Err(Error::new_spanned(other, "there is no text in a handler: use numbers")),
    }
}
