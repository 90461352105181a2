//! The demonstration of the `graph` application on a graph of twelve vertices: a cluster of real processes prints these tables and nothing else.

use std::path::Path;
use std::process::{Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_ringfleet");

/// What is printed before the conservation sum, which counts questions as well and so depends on time.
const TABLES: &str = include_str!("golden/small-graph.txt");

#[test]
fn a_small_graph_is_computed_by_a_cluster_and_every_check_holds() {
    let home = tempfile::tempdir().expect("a folder");
    let output = Command::new(BINARY)
        .args("demo --app graph --input small-graph.tsv --nodes 2 --coordinators 1".split(' '))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"))
        .env_clear()
        .env("HOME", home.path())
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    let (tables, sum) = stdout.split_once("CONSERVATION (C7), all nodes\n").expect("the sum is last");
    assert_eq!(tables, TABLES, "{stdout}");
    assert!(sum.contains(" + in flight 0 + dead-lettered 0 + lost 0"), "{sum}");
    for check in ["every round was closed", "bit for bit", "in floating point", "the conservation sum is exact (C7)"] {
        assert!(stderr.lines().any(|line| line.starts_with("  ok ") && line.contains(check)), "{check}: {stderr}");
    }
}
