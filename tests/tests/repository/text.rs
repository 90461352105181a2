//! The repository as text: what the tests of architecture and style read.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The folders of the workspace, in their order: each imports only from those before it.
pub const FOLDERS: [&str; 5] = ["kernels", "node", "coordinator", "ctl", "tests"];

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in a folder of the root").to_owned()
}

/// A file, by its path from the root.
#[derive(Clone, Debug)]
pub struct Source {
    pub path: String,
    pub text: String,
}

/// One token; what stands between brackets follows the opening one in the same list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

impl Source {
    /// For damaged histories: a file that does not exist.
    pub fn fabricated(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// The tokens of a Rust file. Comments are none, a doc comment and a string are one each.
    pub fn tokens(&self) -> Vec<Token> {
        let stream: TokenStream = self.text.parse().unwrap_or_else(|error| panic!("{}: {error}", self.path));
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        tokens
    }

    /// The string literals of a Rust file with their lines.
    pub fn strings(&self) -> Vec<Token> {
        let unquote = |token: Token| {
            let text = token.text.strip_prefix('"')?.strip_suffix('"')?.to_owned();
            Some(Token { text, ..token })
        };
        self.tokens().into_iter().filter_map(unquote).collect()
    }

    /// Whether the file belongs to tests, examples or benches of its crate.
    pub fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "benches") || self.path.ends_with("_tests.rs")
    }
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    for tree in stream {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                tokens.push(Token { text: open.to_owned(), line });
                flatten(group.stream(), tokens);
                tokens.push(Token { text: close.to_owned(), line: group.span_close().start().line });
            }
            other => tokens.push(Token { text: other.to_string(), line }),
        }
    }
}

/// Calls `visit` for everything below the workspace's folders, folders included; hidden things and build outputs are left out.
fn walk(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("reading {}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry of a readable folder").path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        visit(&path);
        if path.is_dir() {
            walk(&path, visit);
        }
    }
}

fn below_root(path: &Path) -> String {
    let below = path.strip_prefix(root()).expect("below the root");
    below.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/")
}

/// All files of the workspace's folders whose name ends so.
pub fn files(ending: &str) -> Vec<Source> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        walk(&root().join(folder), &mut |path| {
            if path.is_file() && path.to_string_lossy().ends_with(ending) {
                let text =
                    fs::read_to_string(path).unwrap_or_else(|error| panic!("reading {}: {error}", path.display()));
                found.push(Source { path: below_root(path), text });
            }
        });
    }
    found
}

/// A file of the root.
pub fn file(path: &str) -> Source {
    let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("reading {path}: {error}"));
    Source { path: path.to_owned(), text }
}

/// The pages for people: those of the root and of `docs/`.
pub fn documents() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in [root(), root().join("docs")] {
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("reading {}: {error}", folder.display()));
        let paths = entries.map(|entry| below_root(&entry.expect("an entry of a readable folder").path()));
        found.extend(paths.filter(|path| path.ends_with(".md")).map(|path| file(&path)));
    }
    found
}
