//! The demonstrations of `graph` on a graph of twelve vertices and of `txmon` on a ledger of thirty transactions: a cluster of real processes prints
//! these tables and nothing else.

use std::path::Path;
use std::process::{Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_ringfleet");

/// What is printed before the conservation sum, which counts questions as well and so depends on time.
const GRAPH: &str = include_str!("golden/small-graph.txt");
const LEDGER: &str = include_str!("golden/small-ledger.txt");

/// Runs a demonstration, which must print the tables and say `ok` to the checks.
fn demonstrate(arguments: &str, expected: &str, checks: &[&str]) {
    let home = tempfile::tempdir().expect("a folder");
    let output = Command::new(BINARY)
        .args(arguments.split(' '))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"))
        .env_clear()
        .env("HOME", home.path())
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    let (tables, sum) = stdout.split_once("CONSERVATION (C7), all nodes\n").expect("the sum is last");
    assert_eq!(tables, expected, "{stdout}");
    assert!(sum.contains(" + in flight 0 + dead-lettered 0 + lost 0"), "{sum}");
    for check in checks.iter().chain(&["the conservation sum is exact (C7)"]) {
        assert!(stderr.lines().any(|line| line.starts_with("  ok ") && line.contains(check)), "{check}: {stderr}");
    }
}

#[test]
fn a_small_graph_is_computed_by_a_cluster_and_every_check_holds() {
    let checks = ["every round was closed", "bit for bit", "in floating point"];
    demonstrate("demo --app graph --input small-graph.tsv --nodes 2 --coordinators 1", GRAPH, &checks);
}

#[test]
fn a_small_ledger_is_watched_by_a_cluster_and_every_check_holds() {
    let checks = ["every trace has ended", "are those of the serial computation"];
    demonstrate("demo --app txmon --input small-ledger.csv --nodes 2 --coordinators 1", LEDGER, &checks);
}
