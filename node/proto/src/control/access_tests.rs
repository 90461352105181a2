//! Every cell of the table, written a second time and by role, so that a slip in one place shows.

use super::*;
use Verb::*;

const COORDINATOR: &[Verb] = &[Raft];
const NODE: &[Verb] = &[Join, Renew, ReadClock, WatchView, ReportReleased, ReportDevice, LookupSession, Leave, Deliver];
const CLIENT: &[Verb] = &[Types, Directory, OpenSession, Tell, Ask];
const VIEWER: &[Verb] = &[Nodes, Coordinators, Sets, Shards, Types, Describe, Directory, Status, Actors];
const OPERATOR: &[Verb] = &[
    Apply,
    Scale,
    Delete,
    AddCoordinator,
    RemoveCoordinator,
    Nodes,
    Coordinators,
    Sets,
    Shards,
    Types,
    Describe,
    Directory,
    OpenSession,
    Status,
    Tell,
    Ask,
    Actors,
];

#[test]
fn every_cell_is_as_written_here() {
    let mut cells = 0;
    for (role, may) in Role::ALL.into_iter().zip([COORDINATOR, NODE, CLIENT, VIEWER, OPERATOR]) {
        for &verb in Verb::ALL {
            assert_eq!(allowed(role, verb), may.contains(&verb), "{role} x {verb}");
            cells += 1;
        }
    }
    assert_eq!(cells, 5 * Verb::ALL.len());
}

#[test]
fn a_role_is_found_by_the_word_in_its_certificate() {
    for role in Role::ALL {
        assert_eq!(Role::from_name(role.name()), Some(role));
    }
    assert_eq!(Role::from_name("Operator"), None);
    assert_eq!(Role::from_name(""), None);
}

#[test]
fn only_operators_change_sets_and_coordinators() {
    for verb in [Apply, Scale, Delete, AddCoordinator, RemoveCoordinator] {
        assert_eq!(Role::ALL.into_iter().filter(|&role| allowed(role, verb)).collect::<Vec<_>>(), [Role::Operator]);
    }
}
