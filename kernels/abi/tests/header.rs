//! The C header is what the definitions say, compilers agree with it, and nothing that crosses is missing from the table.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ringfleet_abi::header;
use ringfleet_abi::layout::{Code, Constant, Field, LAYOUT, LAYOUT_HASH, Layout, List, Struct, hash};

fn crate_path(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below)
}

fn text_of(layout: &Layout<'_>) -> String {
    let mut text = String::new();
    header::write(&mut text, layout).unwrap();
    text
}

#[test]
fn the_committed_header_is_the_generated_one() {
    let path = crate_path("include/ringfleet_abi.h");
    let want = text_of(&LAYOUT);
    if std::env::var_os("RINGFLEET_UPDATE_HEADER").is_some() {
        std::fs::write(&path, &want).unwrap();
    }
    let have = std::fs::read_to_string(&path).unwrap_or_default();
    let line = have.lines().zip(want.lines()).take_while(|(have, want)| have == want).count();
    assert!(
        have == want,
        "{} differs from the definitions at line {}:\n  committed: {}\n  generated: {}\n\
         if the change is meant: RINGFLEET_UPDATE_HEADER=1 cargo test -p ringfleet-abi --test header",
        path.display(),
        line + 1,
        have.lines().nth(line).unwrap_or("(end)"),
        want.lines().nth(line).unwrap_or("(end)"),
    );
}

/// Whether `compiler` accepts `source`, with what it says; `None` if there is no such compiler.
fn compile(compiler: &str, flags: &[&str], source: &str) -> Option<Result<(), String>> {
    let child = Command::new(compiler)
        .args(flags)
        .args(["-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.ok()?;
    child.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    Some(if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) })
}

const C11: (&str, &[&str]) = ("cc", &["-std=c11", "-x", "c"]);
const CPP17: (&str, &[&str]) = ("c++", &["-std=c++17", "-x", "c++"]);

#[test]
fn c_and_cpp_compilers_lay_the_structs_out_as_rust_does() {
    let twice = format!(
        "{0}{0}\nuint64_t hash(void);\nuint64_t hash(void) {{ return RINGFLEET_LAYOUT_HASH; }}\n",
        text_of(&LAYOUT)
    );
    let c = compile(C11.0, C11.1, &twice).expect("a C compiler (cargo links with it)");
    assert_eq!(c, Ok(()));
    match compile(CPP17.0, CPP17.1, &twice) {
        Some(cpp) => assert_eq!(cpp, Ok(())),
        None => {
            assert!(std::env::var_os("RINGFLEET_MUST_RUN").is_none(), "RINGFLEET_MUST_RUN is set and there is no c++");
            eprintln!("not run: the header as C++17, there is no c++ on this machine");
        }
    }
}

#[test]
fn a_compiler_refuses_a_header_that_does_not_fit_the_layout() {
    for (right, wrong) in [
        ("offsetof(ringfleet_envelope, kind) == 28", "offsetof(ringfleet_envelope, kind) == 30"),
        ("sizeof(ringfleet_ring_header) == 256", "sizeof(ringfleet_ring_header) == 128"),
        ("RINGFLEET_ALIGN(64) uint64_t to_key", "RINGFLEET_ALIGN(32) uint64_t to_key"),
    ] {
        let header = text_of(&LAYOUT);
        assert!(header.contains(right), "the header says {right}");
        let refused = compile(C11.0, C11.1, &header.replace(right, wrong)).expect("a C compiler");
        assert!(refused.is_err_and(|text| text.contains("assertion failed")), "{wrong} is refused");
    }
}

/// A copy of the table whose parts can be changed.
#[derive(Clone)]
struct Copied {
    structs: Vec<(Struct<'static>, Vec<Field<'static>>)>,
    constants: Vec<Constant<'static>>,
    lists: Vec<(List<'static>, Vec<Code<'static>>)>,
}

impl Copied {
    fn new() -> Self {
        Self {
            structs: LAYOUT.structs.iter().map(|entry| (*entry, entry.fields.to_vec())).collect(),
            constants: LAYOUT.constants.to_vec(),
            lists: LAYOUT.lists.iter().map(|entry| (*entry, entry.codes.to_vec())).collect(),
        }
    }

    fn hash(&self) -> u64 {
        let structs: Vec<_> = self.structs.iter().map(|(entry, fields)| Struct { fields, ..*entry }).collect();
        let lists: Vec<_> = self.lists.iter().map(|(entry, codes)| List { codes, ..*entry }).collect();
        hash(&Layout { structs: &structs, constants: &self.constants, lists: &lists })
    }
}

#[test]
fn every_single_change_changes_the_layout_hash() {
    let mut seen = std::collections::BTreeMap::from([(LAYOUT_HASH, "the table itself".to_owned())]);
    assert_eq!(Copied::new().hash(), LAYOUT_HASH);
    let mut changed = |what: String, change: &dyn Fn(&mut Copied)| {
        let mut table = Copied::new();
        change(&mut table);
        if let Some(other) = seen.insert(table.hash(), what.clone()) {
            panic!("{what} has the hash of {other}");
        }
    };
    for (at, entry) in LAYOUT.structs.iter().enumerate() {
        changed(format!("size of {}", entry.name), &|table| table.structs[at].0.bytes += 8);
        changed(format!("alignment of {}", entry.name), &|table| table.structs[at].0.align *= 2);
        changed(format!("no {}", entry.name), &|table| _ = table.structs.remove(at));
        for (field, known) in entry.fields.iter().enumerate() {
            let name = format!("{}.{}", entry.name, known.name);
            changed(format!("offset of {name}"), &|table| table.structs[at].1[field].offset += 1);
            changed(format!("type of {name}"), &|table| table.structs[at].1[field].c_type = "int8_t");
            changed(format!("elements of {name}"), &|table| table.structs[at].1[field].count += 1);
            changed(format!("name of {name}"), &|table| table.structs[at].1[field].name = "other");
        }
    }
    for (at, entry) in LAYOUT.constants.iter().enumerate() {
        changed(format!("value of {}", entry.name), &|table| table.constants[at].value += 1);
        changed(format!("no {}", entry.name), &|table| _ = table.constants.remove(at));
    }
    for (at, entry) in LAYOUT.lists.iter().enumerate() {
        for (code, known) in entry.codes.iter().enumerate() {
            let name = format!("{}.{}", entry.name, known.name);
            changed(format!("code of {name}"), &|table| table.lists[at].1[code].code += 100);
            changed(format!("no {name}"), &|table| _ = table.lists[at].1.remove(code));
        }
        changed(format!("swapped {}", entry.name), &|table| table.lists[at].1.swap(0, 1));
    }
}

/// What stands after `before` in the lines of a source, up to the first character that is no part of a name.
fn names_after<'a>(source: &'a str, before: &str) -> Vec<&'a str> {
    let rests = source.lines().filter_map(|line| line.trim_start().strip_prefix(before));
    rests.map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap()).collect()
}

/// What crosses according to one source file and is not in the table.
fn missing_of(file: &str, source: &str) -> Vec<String> {
    let mut missing = Vec::new();
    let mut demand = |what: &str, name: &str, known: bool| {
        if !known {
            missing.push(format!("{what} {name} of {file}"));
        }
    };
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    for (at, _) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("#[repr(C")) {
        let name = lines[at..].iter().find_map(|line| line.strip_prefix("pub struct "));
        let name = name.map_or("?", |rest| rest.split(|c: char| !c.is_alphanumeric()).next().unwrap());
        demand("struct", name, LAYOUT.structs.iter().any(|entry| entry.name == name));
    }
    for (at, _) in lines.iter().enumerate().filter(|(_, line)| **line == "closed_list! {") {
        let name =
            lines[at + 1..].iter().find(|line| !line.starts_with("//")).map_or("?", |line| line.trim_end_matches(" {"));
        demand("list", name, LAYOUT.lists.iter().any(|entry| entry.name == name));
    }
    if file == "limits.rs" {
        for name in names_after(source, "pub const ") {
            demand("limit", name, LAYOUT.constants.iter().any(|entry| entry.name == name));
        }
    }
    missing
}

#[test]
fn every_shared_struct_limit_and_list_is_in_the_table() {
    let mut missing = Vec::new();
    for entry in std::fs::read_dir(crate_path("src")).unwrap() {
        let entry = entry.unwrap();
        let source = std::fs::read_to_string(entry.path()).unwrap();
        missing.extend(missing_of(&entry.file_name().to_string_lossy(), &source));
    }
    assert!(missing.is_empty(), "add to src/layout.rs: {missing:#?}");
}

#[test]
fn what_is_not_in_the_table_is_noticed() {
    let mut source = String::new();
    for line in [
        "#[repr(C, align(64))]",
        "#[derive(Clone)]",
        "pub struct Other {",
        "}",
        "closed_list! {",
        "/// A list.",
        "Colour {",
    ] {
        writeln!(source, "{line}").unwrap();
    }
    assert_eq!(missing_of("a.rs", &source), ["struct Other of a.rs", "list Colour of a.rs"]);
    assert_eq!(missing_of("limits.rs", "pub const OTHER_MAX: u32 = 1;\n"), ["limit OTHER_MAX of limits.rs"]);
}
