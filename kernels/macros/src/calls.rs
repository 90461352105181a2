//! The call graph of a handlers block. It has no cycles: the stack of a GPU thread is bounded before it runs.

use std::collections::BTreeMap;

use syn::{Error, Result};

use crate::ir::Function;

/// Refuses recursion.
pub fn check(functions: &[Function]) -> Result<()> {
    let by_name: BTreeMap<String, &Function> = functions.iter().map(|f| (f.name.to_string(), f)).collect();
    let mut done = Vec::new();
    for name in by_name.keys() {
        visit(name, &by_name, &mut Vec::new(), &mut done)?;
    }
    Ok(())
}

fn visit(
    name: &str,
    by_name: &BTreeMap<String, &Function>,
    path: &mut Vec<String>,
    done: &mut Vec<String>,
) -> Result<()> {
    if done.iter().any(|seen| seen == name) {
        return Ok(());
    }
    let Some(function) = by_name.get(name) else { return Ok(()) };
    path.push(name.to_owned());
    for call in &function.calls {
        let callee = call.to_string();
        if let Some(start) = path.iter().position(|caller| *caller == callee) {
            let cycle = path[start..].join("` calls `");
            return Err(Error::new(
                call.span(),
                format!(
                    "recursion: `{cycle}` calls `{callee}`; the stack of a GPU thread is bounded: write a loop, or let the actor \
                     tell itself to go on"
                ),
            ));
        }
        visit(&callee, by_name, path, done)?;
    }
    path.pop();
    done.push(name.to_owned());
    Ok(())
}
