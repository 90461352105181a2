//! Deliberate bugs (`ringfleet_abi::mutants`) are in builds that ask for them by a feature, and in no other.

use crate::architecture::metadata;
use serde_json::{Value, json};

/// The crates that may have the feature: where the switch is, the simulator, and the crate of its command.
const CRATES: &[&str] = &["ringfleet-abi", "ringfleet-sim", "ringfleet-tests"];
/// The feature.
const FEATURE: &str = "mutants";

#[cfg(not(feature = "mutants"))]
const _: () = {
    use ringfleet_abi::mutants::{Mutant, is_on};
    assert!(!is_on(Mutant::SkipSync), "the build that is tested has mutants");
};

/// Every way into a build that did not ask, as a sentence.
fn ways_in(metadata: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let of_it = |value: &Value| value.as_str().is_some_and(|text| text.rsplit('/').next() == Some(FEATURE));
    for package in list(&metadata["packages"]) {
        let name = package["name"].as_str().unwrap_or_default().to_owned();
        for (feature, turns_on) in package["features"].as_object().into_iter().flatten() {
            if feature == FEATURE {
                if !CRATES.contains(&name.as_str()) {
                    found.push(format!("{name} has a feature `{FEATURE}`"));
                }
            } else if list(turns_on).iter().any(of_it) {
                found.push(format!("{name}: feature `{feature}` turns mutants on"));
            }
        }
        for dependency in list(&package["dependencies"]) {
            if list(&dependency["features"]).iter().any(of_it) {
                found.push(format!("{name} imports {} with mutants", dependency["name"].as_str().unwrap_or_default()));
            }
        }
    }
    found
}

#[test]
fn no_build_has_mutants_unless_it_asks_for_them() {
    let found = ways_in(&metadata());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_feature_is_where_the_rule_looks_for_it() {
    let metadata = metadata();
    for name in CRATES {
        let packages = metadata["packages"].as_array().expect("a list of packages");
        let package = packages.iter().find(|package| package["name"] == **name).expect("the crate exists");
        assert!(package["features"].get(FEATURE).is_some(), "{name} has no feature `{FEATURE}`");
    }
}

#[test]
fn contrast_every_way_in_is_flagged() {
    let of = |features: Value, dependencies: Value| {
        ways_in(
            &json!({ "packages": [{ "name": "ringfleet-tests", "features": features, "dependencies": dependencies }] }),
        )
    };
    assert_eq!(of(json!({ "mutants": ["ringfleet-sim/mutants"] }), json!([])), Vec::<String>::new());
    assert_eq!(of(json!({ "default": ["mutants"] }), json!([])).len(), 1);
    assert_eq!(of(json!({ "fast": ["ringfleet-abi/mutants"] }), json!([])).len(), 1);
    assert_eq!(of(json!({}), json!([{ "name": "ringfleet-abi", "features": ["mutants"] }])).len(), 1);
    let elsewhere = json!({ "packages": [{ "name": "ringfleet", "features": { "mutants": [] }, "dependencies": [] }] });
    assert_eq!(ways_in(&elsewhere).len(), 1);
}
