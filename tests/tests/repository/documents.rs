//! Documentation names only files that exist.

use std::path::Path;

use crate::text::{FOLDERS, Source, documents, root};

/// What looks like a path of this repository: between backticks or as the target of a link.
fn paths_named(page: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let folder = Path::new(&page.path).parent().unwrap_or(Path::new(""));
    for piece in page.text.split("](").skip(1) {
        let target = piece.split([')', '#']).next().unwrap_or_default();
        if !target.is_empty() && !target.contains("://") {
            found.push(folder.join(target).to_string_lossy().into_owned());
        }
    }
    for piece in page.text.split('`').skip(1).step_by(2) {
        let begin = piece.split('/').next().unwrap_or_default();
        let is_ours = piece.contains('/') && (FOLDERS.contains(&begin) || ["docs", ".ci"].contains(&begin));
        if is_ours && piece.chars().all(|c| c.is_alphanumeric() || "/._-".contains(c)) {
            found.push(piece.to_owned());
        }
    }
    found
}

#[test]
fn every_file_that_a_document_names_exists() {
    let mut missing = Vec::new();
    for page in documents() {
        for path in paths_named(&page) {
            if !root().join(&path).exists() {
                missing.push(format!("{} names {path}, which does not exist", page.path));
            }
        }
    }
    assert!(missing.is_empty(), "\n  {}", missing.join("\n  "));
}

#[test]
fn contrast_links_and_paths_are_found_and_other_things_are_not() {
    let page = Source::fabricated(
        "docs/a.md",
        "[x](../ctl/x.rs#top) [y](https://a/b) [z](#here) `node/src/pump.rs` `a/b` `node/proto/*.rs` `cargo test`",
    );
    assert_eq!(paths_named(&page), ["docs/../ctl/x.rs", "node/src/pump.rs"]);
}
