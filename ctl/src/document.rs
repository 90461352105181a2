//! Documents: YAML text to actor sets. Every error names the file, the line and the field.

use std::io::Read;
use std::path::Path;

use ringfleet_proto::control::ActorSet;

use crate::error::{CtlError, CtlResult};

/// Bytes of one file of documents. A longer one is not read.
pub const FILE_BYTES_MAX: u64 = 4 << 20;

/// A document and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// `file:line`.
    pub place: String,
    /// The document.
    pub set: ActorSet,
}

/// The actor sets in a file; `-` is stdin.
pub fn read(file: &str) -> CtlResult<Vec<Located>> {
    let (name, text) = read_text(file)?;
    parse(&name, &text)
}

/// Name and contents of a file; `-` is stdin.
pub fn read_text(file: &str) -> CtlResult<(String, String)> {
    let mut text = String::new();
    let (name, read) = if file == "-" {
        ("stdin".to_owned(), std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
    } else {
        let open = std::fs::File::open(Path::new(file));
        (file.to_owned(), open.and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)))
    };
    let bytes = read.map_err(|error| CtlError::usage(format!("reading {name}"), error))?;
    if bytes as u64 > FILE_BYTES_MAX {
        return Err(CtlError::usage(format!("reading {name}"), format!("longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok((name, text))
}

/// The actor sets in `text`, which stands in the file `name`.
pub fn parse(name: &str, text: &str) -> CtlResult<Vec<Located>> {
    let mut sets = Vec::new();
    // Documents are cut at their separators first: the YAML library counts lines per stream, and a
    // broken document must not hide where the next begins.
    for (first_line, part) in documents(text) {
        let is_empty = part.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
        if is_empty {
            continue;
        }
        let set = parse_one(&part).map_err(|error| {
            let line = error.location().map_or(first_line, |at| first_line + at.line() - 1);
            CtlError::usage(format!("{name}:{line}"), without_location(&error))
        })?;
        sets.push(Located { place: format!("{name}:{first_line}"), set });
    }
    if sets.is_empty() {
        return Err(CtlError::usage(format!("reading {name}"), "no document in it"));
    }
    Ok(sets)
}

fn parse_one(text: &str) -> Result<ActorSet, serde_yaml_ng::Error> {
    // `keys: {dense: {count: 8}}` instead of YAML's own `!dense` tags.
    serde_yaml_ng::with::singleton_map_recursive::deserialize(serde_yaml_ng::Deserializer::from_str(text))
}

/// The parts between `---` lines, each with the number of its first line.
fn documents(text: &str) -> Vec<(usize, String)> {
    let mut parts = vec![(1, String::new())];
    for (at, line) in text.lines().enumerate() {
        if line.trim_end() == "---" {
            parts.push((at + 2, String::new()));
        } else if let Some((_, part)) = parts.last_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    parts
}

/// The message without the place, which counts from the document's first line and not the file's.
fn without_location(error: &serde_yaml_ng::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfleet_proto::control::Keys;

    const GOOD: &str = "apiVersion: ringfleet.io/v1alpha1\nkind: ActorSet\nmetadata:\n  name: a\nspec:\n  type: t\n";

    fn error_of(text: &str) -> String {
        let error = parse("sets.yaml", text).expect_err("a bad document");
        assert_eq!(error.exit, crate::error::Exit::Usage);
        error.to_string()
    }

    #[test]
    fn defaults_are_filled_in_and_keys_may_be_a_map() {
        let text = format!("{GOOD}---\n# only a comment\n---\n{GOOD}  keys: {{dense: {{count: 12}}}}\n  workers: 4\n");
        let sets = parse("f", &text).expect("good documents");
        assert_eq!(sets.len(), 2);
        assert_eq!((sets[0].set.spec.shards, sets[0].set.spec.keys), (256, Keys::Hashed));
        assert_eq!((sets[1].set.spec.workers, sets[1].set.spec.keys), (Some(4), Keys::Dense { count: 12 }));
        assert_eq!(sets[1].place, "f:10");
    }

    #[test]
    fn a_wrong_field_is_named_with_file_and_line() {
        let error = error_of(&format!("{GOOD}  shardz: 8\n"));
        assert!(error.starts_with("sets.yaml:7: spec: unknown field `shardz`"), "{error}");
        let error = error_of(&format!("{GOOD}---\n{GOOD}  shards: many\n"));
        assert!(error.starts_with("sets.yaml:14: spec.shards: invalid type: string \"many\""), "{error}");
        let error = error_of(&format!("{GOOD}  keys: {{dense: {{number: 8}}}}\n"));
        assert!(error.starts_with("sets.yaml:7: spec.keys"), "{error}");
        let error = error_of(&format!("{GOOD}  durability: forever\n"));
        assert!(error.contains("sets.yaml:7: spec.durability: unknown variant `forever`"), "{error}");
    }

    #[test]
    fn a_missing_field_and_broken_yaml_are_named() {
        let error = error_of("apiVersion: x\nkind: ActorSet\nmetadata: {name: a}\nspec: {}\n");
        assert!(error.starts_with("sets.yaml:4: spec: missing field `type`"), "{error}");
        let error = error_of("# a comment\napiVersion: [\n");
        assert!(error.starts_with("sets.yaml:2: apiVersion: invalid type"), "{error}");
        let error = error_of("kind: ActorSet\n  spec: {\n");
        assert!(error.starts_with("sets.yaml:2: "), "{error}");
        assert_eq!(error_of("# nothing\n"), "reading sets.yaml: no document in it");
    }
}
