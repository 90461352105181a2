//! Style that neither rustfmt nor clippy checks.

use crate::text::{Source, Token, file, files};

/// Where time may pass: everybody else waits for a condition, through the environment.
const SLEEPERS: &[&str] = &["node/env/"];
/// Where `unsafe` may be allowed: the rings, the devices, and the code that the macros emit.
const UNSAFE_ALLOWED: &[&str] = &["kernels/abi/", "kernels/macros/", "node/gpu/"];
/// Crates whose logic is a function of its arguments.
const PURE: &[&str] = &["node/proto/src/", "coordinator/core/src/"];
const LINES_MAX: usize = 1_000;
/// Fewer lines of Rust in a crate are a stub.
const LINES_MIN: usize = 20;

/// The lines at which the texts of `pattern` follow each other.
fn occurrences(tokens: &[Token], pattern: &[&str]) -> Vec<usize> {
    let matches = |window: &&[Token]| window.iter().zip(pattern).all(|(token, text)| token.text == *text);
    tokens.windows(pattern.len()).filter(matches).map(|window| window[0].line).collect()
}

/// The lines at which `name` of the module `module` is named, by path or in a `use` list.
fn uses_of(tokens: &[Token], module: &str, name: &str) -> Vec<usize> {
    let mut lines = occurrences(tokens, &[module, ":", ":", name]);
    for (at, window) in tokens.windows(4).enumerate() {
        let texts: Vec<_> = window.iter().map(|token| token.text.as_str()).collect();
        if texts == [module, ":", ":", "{"] {
            let list = tokens[at + 4..].iter().take_while(|token| token.text != "}");
            lines.extend(list.filter(|token| token.text == name).map(|token| token.line));
        }
    }
    lines
}

/// What is wrong with a Rust file, as sentences.
fn faults(source: &Source) -> Vec<String> {
    let tokens = source.tokens();
    let is_in = |folders: &[&str]| folders.iter().any(|folder| source.path.starts_with(folder));
    let mut found = Vec::new();
    let mut report = |lines: Vec<usize>, what: &str| {
        found.extend(lines.into_iter().map(|line| format!("{}:{line}: {what}", source.path)));
    };
    for name in ["todo", "unimplemented", "dbg"] {
        report(occurrences(&tokens, &[name, "!", "("]), &format!("{name}! in the repository"));
    }
    for pattern in [&["#", "[", "ignore", "]"][..], &["#", "[", "ignore", "="][..]] {
        report(occurrences(&tokens, pattern), "an ignored test; what cannot run prints why");
    }
    if !is_in(SLEEPERS) {
        for (module, name) in [("thread", "sleep"), ("time", "sleep"), ("time", "sleep_until"), ("time", "interval")] {
            report(uses_of(&tokens, module, name), &format!("{module}::{name}; wait for a condition, through Env"));
        }
    }
    if !is_in(UNSAFE_ALLOWED) && !source.is_test() {
        report(occurrences(&tokens, &["allow", "(", "unsafe_code"]), "unsafe outside the rings and the devices");
    }
    if is_in(PURE) && !source.is_test() {
        for (module, name) in [("std", "fs"), ("std", "thread"), ("time", "Instant"), ("time", "SystemTime")] {
            report(uses_of(&tokens, module, name), &format!("{module}::{name} in a pure crate"));
        }
        for name in ["TcpStream", "TcpListener", "UdpSocket"] {
            report(uses_of(&tokens, "net", name), &format!("net::{name} in a pure crate"));
        }
    }
    let lines = source.text.lines().count();
    if lines > LINES_MAX {
        report(vec![lines], &format!("a file of {lines} lines; split it at {LINES_MAX}"));
    }
    found
}

#[test]
fn no_source_contains_what_style_forbids() {
    let found: Vec<_> = files(".rs").iter().flat_map(faults).collect();
    assert!(found.is_empty(), "\n  {}", found.join("\n  "));
}

#[test]
fn contrast_each_fault_is_found_and_what_only_looks_like_one_is_not() {
    let long = "//\n".repeat(LINES_MAX + 1);
    let cases = [
        ("ctl/src/a.rs", "fn f() {\n    todo!()\n}", "ctl/src/a.rs:2: todo!"),
        ("ctl/src/a.rs", "fn f() { unimplemented!(\"x\") }", ":1: unimplemented!"),
        ("tests/tests/a.rs", "#[test]\n#[ignore]\nfn f() {}", ":2: an ignored test"),
        ("tests/tests/a.rs", "#[test] #[ignore = \"slow\"] fn f() {}", "an ignored test"),
        ("node/src/a.rs", "fn f() { std::thread::sleep(x); }", "thread::sleep"),
        ("node/src/a.rs", "use tokio::time::{interval, sleep};", "time::sleep"),
        ("tests/src/a.rs", "use tokio::time::sleep;", "time::sleep"),
        ("node/link/src/a.rs", "#![allow(unsafe_code)]", "unsafe outside"),
        ("node/proto/src/a.rs", "use std::time::{Duration, Instant};", "time::Instant in a pure crate"),
        ("coordinator/core/src/a.rs", "fn f() { std::fs::read(p); }", "std::fs in a pure crate"),
        ("node/src/a.rs", &long, "a file of 1001 lines"),
    ];
    for (path, text, words) in cases {
        let found = faults(&Source::fabricated(path, text));
        assert!(found.iter().any(|sentence| sentence.contains(words)), "{words}: {found:?}");
    }
    let innocent = [
        ("node/env/src/a.rs", "use tokio::time::{interval, sleep};"),
        ("node/gpu/src/a.rs", "#![allow(unsafe_code)]"),
        ("node/proto/src/a.rs", "use std::time::Duration; // todo!() and thread::sleep in a comment"),
        ("node/src/a.rs", "/// `thread::sleep`\nfn f() { let text = \"todo!() #[ignore]\"; env.sleep(x) }"),
    ];
    for (path, text) in innocent {
        assert_eq!(faults(&Source::fabricated(path, text)), Vec::<String>::new());
    }
}

/// The crates (by folder) whose sources are no more than a stub.
fn stubs(manifests: &[Source], sources: &[Source]) -> Vec<String> {
    let lines_of = |folder: &str| {
        // What a crate below this folder contains belongs to that crate.
        let is_own = |source: &&Source| {
            let depth = |path: &str| manifests.iter().filter(|m| path.starts_with(folder_of(m))).count();
            source.path.starts_with(folder) && depth(&source.path) == depth(folder)
        };
        sources.iter().filter(is_own).map(|source| source.text.lines().count()).sum::<usize>()
    };
    manifests.iter().map(folder_of).filter(|folder| lines_of(folder) < LINES_MIN).map(str::to_owned).collect()
}

fn folder_of(manifest: &Source) -> &str {
    manifest.path.trim_end_matches("Cargo.toml")
}

#[test]
fn no_crate_is_empty() {
    assert_eq!(stubs(&files("/Cargo.toml"), &files(".rs")), Vec::<String>::new(), "crates without code");
    let manifests = [Source::fabricated("node/Cargo.toml", ""), Source::fabricated("node/gpu/Cargo.toml", "")];
    let code = "//\n".repeat(LINES_MIN);
    let inner = [Source::fabricated("node/gpu/src/lib.rs", &code), Source::fabricated("node/src/lib.rs", "//! Later.")];
    assert_eq!(
        stubs(&manifests, &inner),
        ["node/"],
        "contrast: the code of an inner crate is not that of the outer one"
    );
}

/// Whether the crate belongs to the workspace, or is one of its own so that its dependencies stay out of every build.
fn stands_alone(manifest: &Source) -> bool {
    manifest.path.as_str() != "Cargo.toml" && manifest.text.lines().any(|line| line.trim() == "[workspace]")
}

fn takes_the_lints_of_the_workspace(manifest: &Source) -> bool {
    let mut lines = manifest.text.lines().map(str::trim).skip_while(|line| *line != "[lints]").skip(1);
    lines.find(|line| !line.is_empty()).is_some_and(|line| line.replace(' ', "") == "workspace=true")
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let manifests = files("/Cargo.toml");
    let ours = manifests.iter().filter(|manifest| !stands_alone(manifest));
    let without: Vec<_> = ours.filter(|manifest| !takes_the_lints_of_the_workspace(manifest)).collect();
    assert!(without.is_empty(), "[lints] workspace = true is missing in {without:?}");
    assert!(manifests.len() >= 10);
    let other =
        Source::fabricated("a/Cargo.toml", "[package]\nname = \"a\"\n[lints]\n[dependencies]\nworkspace = true\n");
    assert!(!takes_the_lints_of_the_workspace(&other), "contrast");
}

#[test]
fn the_contract_of_host_and_device_is_no_std() {
    let root = file("kernels/abi/src/lib.rs");
    let lines: Vec<_> = root.text.lines().collect();
    assert!(lines.contains(&"#![no_std]"), "unconditionally, so that a test build cannot hide a use of std");
    let at = lines.iter().position(|line| line.contains("extern crate"));
    assert!(at.is_none_or(|at| lines[at - 1] == "#[cfg(test)]"), "std is for unit tests only");
    assert!(!root.text.contains("extern crate alloc"), "the contract does not allocate");
}
