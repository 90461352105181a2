//! Golden scripts: what the built binary prints, where, and how it ends, for everything that needs no cluster.
//!
//! A script is a file of cases: `$ arguments`, then `exit N`, then lines of stdout as they are and lines of stderr behind `! `.
//! `RINGFLEET_GOLDEN=write cargo test -p ringfleet --test golden` writes what is printed now.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_ringfleet");

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Runs the binary in the folder of the scripts, with a home of its own.
fn run(arguments: &str, home: &Path) -> String {
    let output = Command::new(BINARY)
        .args(arguments.split_whitespace())
        .current_dir(folder())
        .env_clear()
        .env("HOME", home)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&home.display().to_string(), "HOME");
    let mut shown =
        format!("exit {}\n", output.status.code().map_or_else(|| "signal".to_owned(), |code| code.to_string()));
    shown += &text(&output.stdout);
    for line in text(&output.stderr).lines() {
        shown += &format!("! {line}\n");
    }
    shown
}

/// The script with every answer as it is now.
fn replay(script: &str) -> String {
    let home = tempfile::tempdir().expect("a folder");
    let mut shown = String::new();
    for line in script.lines() {
        if line.starts_with("# ") || line.is_empty() && shown.is_empty() {
            shown += &format!("{line}\n");
        } else if let Some(arguments) = line.strip_prefix("$ ") {
            if !shown.is_empty() && !shown.ends_with("\n\n") {
                shown.push('\n');
            }
            shown += &format!("$ {arguments}\n{}", run(arguments, home.path()));
        }
    }
    shown
}

fn check(name: &str) {
    let path = folder().join(name);
    let script = std::fs::read_to_string(&path).expect("the script is in the repository");
    let shown = replay(&script);
    if std::env::var_os("RINGFLEET_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&path, &shown).expect("the script can be written");
        return;
    }
    let differs = script.lines().zip(shown.lines()).position(|(was, is)| was != is);
    let at = differs.unwrap_or(script.lines().count().min(shown.lines().count()));
    assert!(
        script == shown,
        "{name}, line {}: expected {:?}, printed {:?}\n{shown}",
        at + 1,
        script.lines().nth(at),
        shown.lines().nth(at)
    );
}

#[test]
fn usage_errors_are_one_line_and_exit_code_2() {
    check("usage.txt");
}

#[test]
fn bad_documents_are_named_with_file_line_and_field() {
    check("documents.txt");
}

#[test]
fn contexts_are_listed_chosen_and_missed() {
    check("contexts.txt");
}

#[test]
fn what_needs_no_cluster_is_printed() {
    check("offline.txt");
}

#[test]
fn processes_that_cannot_start_say_why() {
    check("processes.txt");
}

#[test]
fn every_verb_has_help_and_every_shell_completions() {
    let home = tempfile::tempdir().expect("a folder");
    for verb in
        "demo dev node doctor bench device coordinator coordinators apply get describe tell ask scale delete status actor config completions version"
            .split(' ')
    {
        let shown = run(&format!("{verb} --help"), home.path());
        assert!(shown.starts_with("exit 0\n") && shown.contains("Usage: ringfleet"), "{verb}: {shown}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let shown = run(&format!("completions {shell}"), home.path());
        assert!(shown.starts_with("exit 0\n") && shown.contains("coordinator"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = Command::new(BINARY)
        .args(["completions", "zsh"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
