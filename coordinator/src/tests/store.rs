//! The file: what comes back, and what is refused.

use crate::store::{Loaded, Owner, Store, StoreError, Write, seal};
use ringfleet_env::Env;
use std::path::Path;

fn owner() -> Owner {
    Owner { cluster: "test".into(), name: "c1".into() }
}

fn open(folder: &Path) -> Result<(Store, Loaded), StoreError> {
    Store::open(&Env::tokio().disk(), folder, &owner(), 7)
}

fn filled(folder: &Path) {
    let (store, loaded) = open(folder).unwrap();
    assert_eq!(loaded, Loaded::default());
    let records = (1..=200u64).map(|at| (at, seal(&[at as u8; 300]))).collect();
    store.commit(&[Write::Vote(seal(b"vote")), Write::Append(records)]).unwrap();
}

#[test]
fn what_was_committed_comes_back_in_order() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    {
        let (store, loaded) = open(folder.path()).unwrap();
        assert_eq!(loaded.vote.as_deref(), Some(&b"vote"[..]));
        assert_eq!(loaded.log.len(), 200);
        assert_eq!(loaded.log[6], (7, vec![7; 300]));
        let snapshot = |index, meta: &[u8]| Write::Snapshot { index, meta: seal(meta), data: seal(b"data") };
        store.commit(&[Write::TruncateFrom(150), Write::Purge { through: 100, mark: seal(b"mark") }]).unwrap();
        store.commit(&[snapshot(120, b"young"), snapshot(110, b"old")]).unwrap();
    }
    let (_, loaded) = open(folder.path()).unwrap();
    let indexes: Vec<u64> = loaded.log.iter().map(|(index, _)| *index).collect();
    assert_eq!(indexes, (101..150).collect::<Vec<_>>());
    assert_eq!(loaded.purged.as_deref(), Some(&b"mark"[..]));
    assert_eq!(loaded.snapshot, Some((b"young".to_vec(), b"data".to_vec())), "an older one never replaces a younger");
}

#[test]
fn a_second_process_in_the_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path()).unwrap();
    let error = open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("used by another running coordinator"));
}

#[test]
fn a_folder_that_cannot_be_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let error = open(&file.join("data")).unwrap_err();
    assert!(matches!(error, StoreError::Folder { .. }), "{error}");
    assert_eq!(error.to_string().lines().count(), 1);
}

/// Damages the log file of a filled folder and opens it.
fn damaged(damage: impl FnOnce(&mut Vec<u8>)) -> Result<(Store, Loaded), StoreError> {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    let path = folder.path().join("raft.redb");
    let mut bytes = std::fs::read(&path).unwrap();
    damage(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    open(folder.path())
}

#[test]
fn a_foreign_torn_or_emptied_file_is_refused_and_says_which() {
    let refused = |result: Result<(Store, Loaded), StoreError>| {
        let error = result.unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("raft.redb") && text.lines().count() == 1, "{text}");
    };
    refused(damaged(|bytes| bytes.fill(0x5a)));
    refused(damaged(|bytes| bytes.truncate(bytes.len() / 2)));
    refused(damaged(|bytes| bytes.truncate(100)));
    refused(damaged(Vec::clear));
    // A record in the middle: redb does not look, our digest does.
    refused(damaged(|bytes| {
        let at = bytes.windows(300).position(|window| window == [77; 300]).expect("record 77 is in the file");
        bytes[at + 150] ^= 1;
    }));
}

#[test]
fn an_owner_file_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("owner"), b"something else").unwrap();
    assert!(matches!(open(folder.path()), Err(StoreError::Damaged { .. })));
}

#[test]
fn a_folder_keeps_the_number_that_it_was_made_with() {
    let folder = tempfile::tempdir().unwrap();
    let open = |new_id| Store::open(&Env::tokio().disk(), folder.path(), &owner(), new_id).unwrap().0;
    let first = open(0xabc);
    assert_eq!(first.id(), 0xabc);
    drop(first);
    assert_eq!(open(5).id(), 0xabc);
    std::fs::write(folder.path().join("owner"), "ringfleet coordinator data 2\ncluster test\ncoordinator c1\nid x\n")
        .unwrap();
    let error = Store::open(&Env::tokio().disk(), folder.path(), &owner(), 5).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}
