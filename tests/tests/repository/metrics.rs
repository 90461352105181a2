//! `docs/metrics.md` names exactly the metrics that the processes serve.

use std::collections::{BTreeMap, BTreeSet};

use ringfleet_abi::{DeadReason, LostReason};

use crate::text::{FOLDERS, Source, file, files};

/// Folders whose processes serve metrics.
const SERVED_BY: &[&str] = &["node/", "coordinator/"];

fn is_metric_name(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.strip_prefix("ringfleet_").is_some_and(|rest| !rest.is_empty() && rest.chars().all(is_word))
}

/// Names of our crates as the compiler spells them; they look like metrics and are used as targets of logs.
fn crate_names() -> BTreeSet<String> {
    let manifests = files("/Cargo.toml");
    let names = manifests.iter().filter_map(|manifest| {
        let line = manifest.text.lines().find_map(|line| line.strip_prefix("name = \""))?;
        Some(line.trim_end_matches('"').replace('-', "_"))
    });
    names.collect()
}

/// The metrics that string literals of the sources name, each with one place.
fn served(sources: &[Source], not_metrics: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for source in sources {
        if source.is_test() || !SERVED_BY.iter().any(|folder| source.path.starts_with(folder)) {
            continue;
        }
        for literal in source.strings() {
            if is_metric_name(&literal.text) && !not_metrics.contains(&literal.text) {
                found.insert(literal.text, format!("{}:{}", source.path, literal.line));
            }
        }
    }
    found
}

/// What stands in the first column of a row, if it is a name.
fn first_cell(line: &str) -> Option<String> {
    let cell = line.trim().strip_prefix('|')?.split('|').next()?.trim();
    Some(cell.strip_prefix('`')?.strip_suffix('`')?.to_owned())
}

/// The metrics that have a row in the page's tables.
fn documented(page: &Source) -> BTreeSet<String> {
    page.text.lines().filter_map(first_cell).filter(|name| is_metric_name(name)).collect()
}

/// The names in the table below a heading.
fn names_below(page: &Source, heading: &str) -> Vec<String> {
    let below = page.text.lines().skip_while(|line| *line != heading).skip(1);
    below.take_while(|line| !line.starts_with('#')).filter_map(first_cell).collect()
}

fn differences(served: &BTreeMap<String, String>, documented: &BTreeSet<String>) -> Vec<String> {
    let missing = served.iter().filter(|(name, _)| !documented.contains(*name));
    let missing = missing.map(|(name, place)| format!("{name} ({place}) has no row in docs/metrics.md"));
    let stale = documented.iter().filter(|name| !served.contains_key(*name));
    let stale = stale.map(|name| format!("{name} stands in docs/metrics.md and is not in the code"));
    missing.chain(stale).collect()
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_exists() {
    let served = served(&files(".rs"), &crate_names());
    let found = differences(&served, &documented(&file("docs/metrics.md")));
    assert!(found.is_empty(), "\n  {}", found.join("\n  "));
}

#[test]
fn the_reasons_of_dead_letters_and_losses_are_the_closed_lists() {
    let page = file("docs/metrics.md");
    let dead: Vec<_> = DeadReason::ALL.iter().map(|reason| reason.name()).collect();
    let lost: Vec<_> = LostReason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(names_below(&page, "### Reasons of dead letters"), dead);
    assert_eq!(names_below(&page, "### Reasons of losses"), lost);
}

#[test]
fn contrast_a_metric_on_one_side_only_is_found() {
    let code =
        "fn f() { page(\"ringfleet_a_total\"); page(\"ringfleet_b\"); log(\"ringfleet_node\", \"ringfleet_a{x}\"); }";
    let sources = [
        Source::fabricated("node/src/a.rs", code),
        Source::fabricated("node/tests/a.rs", "fn f() { \"ringfleet_only_in_a_test\" }"),
        Source::fabricated("ctl/src/a.rs", "fn f() { \"ringfleet_only_in_ctl\" }"),
    ];
    let page = Source::fabricated(
        "docs/metrics.md",
        "| metric | type |\n|---|---|\n| `ringfleet_a_total` | counter |\n| `ringfleet_c` | |\n",
    );
    let found = differences(&served(&sources, &BTreeSet::from(["ringfleet_node".to_owned()])), &documented(&page));
    assert_eq!(
        found,
        [
            "ringfleet_b (node/src/a.rs:1) has no row in docs/metrics.md",
            "ringfleet_c stands in docs/metrics.md and is not in the code",
        ]
    );
}

#[test]
fn the_folders_that_serve_metrics_exist() {
    assert!(SERVED_BY.iter().all(|folder| FOLDERS.contains(&folder.trim_end_matches('/'))));
    assert!(crate_names().contains("ringfleet_abi"));
}
