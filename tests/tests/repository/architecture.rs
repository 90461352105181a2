//! The architecture is one sentence and one table: a folder imports only from folders to its left
//! (`kernels <- node <- coordinator <- ctl <- tests`), and each crate has things that it must not import.

use std::process::Command;

use crate::text::{FOLDERS, root};
use serde_json::{Value, json};

/// A crate of the workspace.
struct Package {
    name: String,
    folder: String,
    dependencies: Vec<Dependency>,
}

struct Dependency {
    name: String,
    /// Whether the built crate contains it; a development dependency does not get out of the crate's own tests.
    is_built_in: bool,
}

const QUIC: &[&str] = &["quinn", "quinn-proto", "quinn-udp"];
const CUDA: &[&str] = &["cudarc", "cust", "cuda-driver-sys", "cuda-runtime-sys", "rustacuda"];
const RUNTIME: &[&str] = &["tokio", "tokio-util", "tokio-stream", "async-std", "smol", "futures-executor"];
const CLOCK: &[&str] = &["chrono", "time", "quanta", "coarsetime", "ringfleet-env"];
const RANDOM: &[&str] = &["rand", "rand_core", "rand_chacha", "getrandom", "fastrand"];
const DISK: &[&str] = &["redb", "tempfile", "walkdir", "memmap2", "rustix", "libc"];
const RAFT: &[&str] = &["openraft", "openraft-rt", "raft"];

/// What a crate must not import, and why.
struct Rule {
    of: &'static str,
    forbidden: &'static [&'static [&'static str]],
    because: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        of: "ringfleet-ir",
        forbidden: &[RUNTIME, CUDA, CLOCK, DISK],
        because: "it is pure: programs in, results out",
    },
    Rule { of: "ringfleet-macros", forbidden: &[RUNTIME, CUDA], because: "users' actors are code for devices" },
    Rule { of: "ringfleet-actor", forbidden: &[RUNTIME, CUDA], because: "users' actors are code for devices" },
    Rule {
        of: "ringfleet-proto",
        forbidden: &[RUNTIME, QUIC, CUDA, CLOCK, RANDOM, DISK],
        because: "it is sans-I/O: time, seeds and ids come in as arguments",
    },
    Rule {
        of: "ringfleet-gpu",
        forbidden: &[RUNTIME, QUIC, &["ringfleet-proto", "ringfleet-link", "ringfleet-client"]],
        because: "a device knows neither the wire nor a runtime",
    },
    Rule {
        of: "ringfleet-link",
        forbidden: &[&["ringfleet-gpu", "ringfleet-proto"]],
        because: "a link carries bytes and does not know what they mean",
    },
    Rule { of: "ringfleet-client", forbidden: &[&["ringfleet-gpu"]], because: "a client has no device" },
    Rule {
        of: "ringfleet-coordinator-core",
        forbidden: &[RAFT, RUNTIME, QUIC, CLOCK, RANDOM, DISK],
        because: "it is pure: apply and plan read no clock and do no I/O",
    },
    Rule {
        of: "ringfleet-coordinator",
        forbidden: &[&["ringfleet-gpu", "ringfleet-node", "ringfleet-client"]],
        because: "of node/ it imports proto, link and env only",
    },
];

/// Dependencies that have one user (beside the tests).
const ONLY: &[(&[&str], &[&str])] = &[
    (QUIC, &["ringfleet-link"]),
    (CUDA, &["ringfleet-gpu"]),
    (RAFT, &["ringfleet-coordinator"]),
    (&["redb"], &["ringfleet-coordinator"]),
    (&["anyhow", "eyre"], &["ringfleet"]),
    (&["loom"], &["ringfleet-abi"]),
];

/// All that the contract of host and device may be built from.
const ABI_DEPENDENCIES: &[&str] = &["bytemuck"];

fn rank(folder: &str) -> Option<usize> {
    let top = folder.split('/').next().unwrap_or_default();
    FOLDERS.iter().position(|known| *known == top)
}

/// Every edge that must not be, as a sentence.
fn violations(packages: &[Package]) -> Vec<String> {
    let mut found = Vec::new();
    for package in packages {
        let Package { name, folder, dependencies } = package;
        let Some(own_rank) = rank(folder) else {
            found.push(format!("{name} lies in {folder}/, which is none of the folders {}", FOLDERS.join(", ")));
            continue;
        };
        if ["common", "types", "utils", "util", "shared"].iter().any(|vague| name.ends_with(&format!("-{vague}"))) {
            found.push(format!("{name}: a shared thing lives with its strictest user, not in a crate of this name"));
        }
        for dependency in dependencies {
            found.extend(edge(package, own_rank, dependency, packages));
        }
    }
    found
}

fn edge(package: &Package, own_rank: usize, to: &Dependency, packages: &[Package]) -> Vec<String> {
    let Package { name, folder, .. } = package;
    let mut found = Vec::new();
    if let Some(other) = packages.iter().find(|other| other.name == to.name) {
        if rank(&other.folder).is_some_and(|rank| rank > own_rank) {
            found.push(format!(
                "{name} ({folder}) imports {} ({}): a folder imports only from folders to its left, {}",
                other.name,
                other.folder,
                FOLDERS.join(" <- "),
            ));
        }
        if other.name == "ringfleet-tests" {
            found.push(format!("{name} imports ringfleet-tests, which nobody imports"));
        }
    }
    if !to.is_built_in {
        return found;
    }
    if name == "ringfleet-abi" && !ABI_DEPENDENCIES.contains(&to.name.as_str()) {
        found.push(format!("ringfleet-abi imports {}: the contract is built from {ABI_DEPENDENCIES:?} only", to.name));
    }
    for rule in RULES.iter().filter(|rule| rule.of == name) {
        if rule.forbidden.iter().any(|group| group.contains(&to.name.as_str())) {
            found.push(format!("{name} imports {}: {}", to.name, rule.because));
        }
    }
    for (names, users) in ONLY {
        let is_user = users.contains(&name.as_str()) || name == "ringfleet-tests";
        if names.contains(&to.name.as_str()) && !is_user {
            found.push(format!("{name} imports {}: only {} may", to.name, users.join(", ")));
        }
    }
    found
}

/// The packages of `cargo metadata`'s answer; `root` is the folder that paths are told from.
fn packages_of(metadata: &Value, root: &str) -> Vec<Package> {
    let text = |value: &Value| value.as_str().expect("a string of cargo's metadata").to_owned();
    let dependency =
        |value: &Value| Dependency { name: text(&value["name"]), is_built_in: value["kind"].as_str() != Some("dev") };
    let package = |value: &Value| {
        let manifest = text(&value["manifest_path"]).replace('\\', "/");
        let folder = manifest.strip_prefix(root).unwrap_or(&manifest).trim_start_matches('/');
        Package {
            name: text(&value["name"]),
            folder: folder.trim_end_matches("Cargo.toml").trim_end_matches('/').to_owned(),
            dependencies: value["dependencies"].as_array().expect("a list").iter().map(dependency).collect(),
        }
    };
    metadata["packages"].as_array().expect("a list of packages").iter().map(package).collect()
}

/// Cargo's own answer about this workspace.
pub fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let done = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo starts");
    assert!(done.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).expect("cargo writes JSON")
}

fn workspace() -> Vec<Package> {
    packages_of(&metadata(), &root().to_string_lossy().replace('\\', "/"))
}

#[test]
fn every_import_goes_to_the_left_and_no_crate_imports_what_it_must_not() {
    let found = violations(&workspace());
    assert!(found.is_empty(), "edges that the architecture forbids:\n  {}", found.join("\n  "));
}

#[test]
fn every_rule_is_about_a_crate_that_exists() {
    let packages = workspace();
    assert!(packages.len() >= 10, "cargo metadata gave {} packages", packages.len());
    let is_known = |name: &str| packages.iter().any(|package| package.name == name);
    let named = RULES.iter().map(|rule| rule.of).chain(ONLY.iter().flat_map(|(_, users)| users.iter().copied()));
    let unknown: Vec<_> = named.filter(|name| !is_known(name)).collect();
    assert!(unknown.is_empty(), "the rules name crates that do not exist: {unknown:?}");
}

/// A fabricated answer of cargo: crates with their folder and dependencies; a name with `dev ` before it is for development.
fn fabricated(crates: &[(&str, &str, &[&str])]) -> Vec<Package> {
    let package = |(name, folder, dependencies): &(&str, &str, &[&str])| {
        let dependencies: Vec<_> = dependencies
            .iter()
            .map(|name| match name.strip_prefix("dev ") {
                Some(name) => json!({ "name": name, "kind": "dev" }),
                None => json!({ "name": name, "kind": null }),
            })
            .collect();
        json!({ "name": name, "manifest_path": format!("/r/{folder}/Cargo.toml"), "dependencies": dependencies })
    };
    packages_of(&json!({ "packages": crates.iter().map(package).collect::<Vec<_>>() }), "/r")
}

#[test]
fn contrast_a_workspace_in_order_is_not_flagged() {
    let packages = fabricated(&[
        ("ringfleet-abi", "kernels/abi", &["bytemuck", "dev proptest", "dev loom"]),
        ("ringfleet-proto", "node/proto", &["ringfleet-abi", "serde", "dev tempfile"]),
        ("ringfleet-link", "node/link", &["quinn", "tokio"]),
        ("ringfleet-coordinator", "coordinator", &["ringfleet-link", "openraft", "redb"]),
        ("ringfleet", "ctl", &["ringfleet-coordinator", "anyhow"]),
        ("ringfleet-tests", "tests", &["ringfleet", "quinn", "openraft"]),
    ]);
    assert_eq!(violations(&packages), Vec::<String>::new());
}

#[test]
fn contrast_every_kind_of_forbidden_edge_is_flagged_by_name() {
    // (from, its folder, to, the folder of `to` if it is ours, words of the sentence)
    let cases: &[(&str, &str, &str, Option<&str>, &str)] = &[
        ("ringfleet-abi", "kernels/abi", "ringfleet-node", Some("node"), "(kernels/abi) imports ringfleet-node (node)"),
        ("ringfleet-node", "node", "ringfleet-coordinator", Some("coordinator"), "only from folders to its left"),
        ("ringfleet-link", "node/link", "dev ringfleet", Some("ctl"), "only from folders to its left"),
        ("ringfleet", "ctl", "ringfleet-tests", Some("tests"), "which nobody imports"),
        ("ringfleet-abi", "kernels/abi", "serde", None, "ringfleet-abi imports serde"),
        ("ringfleet-actor", "kernels/actor", "tokio", None, "ringfleet-actor imports tokio"),
        ("ringfleet-proto", "node/proto", "quinn", None, "sans-I/O"),
        ("ringfleet-proto", "node/proto", "ringfleet-env", Some("node/env"), "sans-I/O"),
        ("ringfleet-gpu", "node/gpu", "ringfleet-proto", Some("node/proto"), "neither the wire nor a runtime"),
        ("ringfleet-link", "node/link", "ringfleet-gpu", Some("node/gpu"), "carries bytes"),
        ("ringfleet-client", "node/client", "ringfleet-gpu", Some("node/gpu"), "has no device"),
        ("ringfleet-node", "node", "quinn", None, "ringfleet-node imports quinn: only ringfleet-link may"),
        ("ringfleet-node", "node", "cudarc", None, "ringfleet-node imports cudarc: only ringfleet-gpu may"),
        ("ringfleet-coordinator-core", "coordinator/core", "openraft", None, "it is pure"),
        ("ringfleet-coordinator-core", "coordinator/core", "rand", None, "it is pure"),
        ("ringfleet-coordinator", "coordinator", "ringfleet-client", Some("node/client"), "proto, link and env only"),
        ("ringfleet-proto", "node/proto", "anyhow", None, "only ringfleet may"),
        ("ringfleet-common", "node/common", "serde", None, "lives with its strictest user"),
        ("ringfleet-extra", "extra", "serde", None, "none of the folders"),
    ];
    for (from, folder, to, to_folder, words) in cases {
        let mut crates: Vec<(&str, &str, &[&str])> = vec![(from, folder, std::slice::from_ref(to))];
        crates.extend(to_folder.map(|folder| (to.trim_start_matches("dev "), folder, &[][..])));
        let found = violations(&fabricated(&crates));
        assert!(found.iter().any(|sentence| sentence.contains(words)), "{from} -> {to}: {found:?}");
    }
}
