use super::helpers::*;
use crate::{ClusterState, Command, CommandBody, Outcome};
use ringfleet_abi::{Incarnation, SessionId};
use ringfleet_proto::control::{Fence, RefusalCode, Role, ShardState};

#[test]
fn a_second_node_of_a_name_is_refused_while_the_first_is_alive_and_gets_a_new_incarnation_after() {
    let mut cluster = Cluster::new();
    let first = cluster.plain(join_body("n1", 1, &[2], both_types()));
    let Outcome::Joined { node, incarnation } = first else { panic!("{first}") };
    assert_eq!(cluster.plain(join_body("n1", 1, &[2], both_types())), first, "a repeated join is the same join");
    let (code, message) = refusal(cluster.plain(join_body("n1", 2, &[2], both_types())));
    assert_eq!(code, RefusalCode::NameInUse);
    assert!(message.contains("n1.test:7000"), "{message}");
    cluster.lose(incarnation);
    let second = cluster.plain(join_body("n1", 2, &[2], both_types()));
    let Outcome::Joined { node: same, incarnation: newer } = second else { panic!("{second}") };
    assert_eq!(same, node);
    assert!(newer > incarnation);
}

#[test]
fn a_view_tells_live_from_fenced_from_unknown() {
    let mut cluster = Cluster::new();
    let lost = cluster.join("n1", &[2]);
    let live = cluster.join("n2", &[2]);
    cluster.lose(lost);
    let view = cluster.state.node_view();
    assert_eq!(view.fence(Incarnation(lost)), Fence::Fenced);
    assert_eq!(view.fence(Incarnation(live)), Fence::Live);
    assert_eq!(view.fence(Incarnation(view.index + 1)), Fence::Unknown);
    assert!(cluster.state.live(Incarnation(lost)).is_none());
}

#[test]
fn shards_of_a_lost_node_go_elsewhere_empty_at_the_next_epoch() {
    let mut cluster = Cluster::new();
    let nodes = ["n1", "n2", "n3"].map(|name| cluster.join(name, &[2]));
    let set = cluster.create(document("a", TYPES[0], 96));
    assert_balanced(&cluster.counts(set), 6, 96);
    let owned_before: Vec<_> = cluster.state.shards_of(set).map(|(_, r)| *r).collect();
    cluster.lose(nodes[1]);
    assert_balanced(&cluster.counts(set), 4, 96);
    for (before, (_, after)) in owned_before.iter().zip(cluster.state.shards_of(set)) {
        let moved = before.owner.unwrap().incarnation == nodes[1];
        assert_eq!(after.epoch, before.epoch + u64::from(moved));
        assert_eq!(after.owner != before.owner, moved, "what was not lost does not move");
    }
}

#[test]
fn shards_wait_for_capacity_and_are_placed_when_it_comes() {
    let mut cluster = Cluster::new();
    let only = cluster.join("n1", &[2]);
    let set = cluster.create(document("a", TYPES[0], 8));
    cluster.lose(only);
    assert_eq!(cluster.in_state(set, ShardState::Pending), 8);
    assert_eq!(cluster.epoch(set, 0), 1, "no owner, no new epoch");
    cluster.join_with("n2", &[2], vec![report(TYPES[1], 7, 8)]);
    assert_eq!(cluster.in_state(set, ShardState::Pending), 8, "a node without the type is no capacity");
    cluster.join_with("n3", &[2], vec![report(TYPES[0], 7, 9)]);
    assert_eq!(cluster.in_state(set, ShardState::Pending), 8, "nor is one with another layout");
    cluster.join("n4", &[1, 1]);
    assert_balanced(&cluster.counts(set), 2, 8);
    assert_eq!(cluster.epoch(set, 0), 2);
}

#[test]
fn a_node_that_leaves_is_replaced_at_once() {
    let mut cluster = Cluster::new();
    let leaving = cluster.join("n1", &[2]);
    cluster.join("n2", &[2]);
    let set = cluster.create(document("a", TYPES[0], 8));
    assert_eq!(cluster.plain(CommandBody::Leave { incarnation: leaving }), Outcome::Done);
    assert_balanced(&cluster.counts(set), 2, 8);
    assert_eq!(cluster.plain(CommandBody::Leave { incarnation: leaving }), Outcome::Done, "twice is once");
}

#[test]
fn bad_reports_are_refused_with_the_rule() {
    let mut cluster = Cluster::new();
    let code = |outcome| refusal(outcome).0;
    assert_eq!(code(cluster.plain(join_body("-n", 1, &[2], vec![]))), RefusalCode::BadName);
    assert_eq!(code(cluster.plain(join_body("n", 1, &[], vec![]))), RefusalCode::BadRequest);
    assert_eq!(code(cluster.plain(join_body("n", 1, &[0], vec![]))), RefusalCode::BadRequest);
    let twice = vec![report("t", 1, 1), report("t", 1, 1)];
    assert_eq!(code(cluster.plain(join_body("n", 1, &[2], twice))), RefusalCode::BadRequest);
    let mut big = report("t", 1, 1);
    big.state_bytes = 5000;
    assert_eq!(code(cluster.plain(join_body("n", 1, &[2], vec![big]))), RefusalCode::LimitExceeded);
}

#[test]
fn sessions_are_numbered_once_and_know_whose_they_are() {
    let mut cluster = Cluster::new();
    let open = |name: &str| CommandBody::OpenSession { role: Role::Client, name: name.into() };
    assert_eq!(cluster.run(Command::operation(1, open("a"))), Outcome::Session { session: 1 });
    assert_eq!(cluster.run(Command::operation(2, open("b"))), Outcome::Session { session: 2 });
    assert_eq!(cluster.run(Command::operation(1, open("a"))), Outcome::Session { session: 1 }, "a retry");
    assert_eq!(cluster.state.session(SessionId(2)).unwrap().name, "b");
    assert_eq!(cluster.state.session(SessionId(3)), None);
}

#[test]
fn an_operation_id_gives_its_first_outcome_and_never_serves_another_request() {
    let mut cluster = Cluster::new();
    cluster.join("n1", &[2]);
    let apply = |shards| CommandBody::ApplySet { document: document("a", TYPES[0], shards) };
    let first = cluster.run(Command::operation(9, apply(8)));
    assert_eq!(cluster.run(Command::operation(9, apply(8))), first);
    assert_eq!(refusal(cluster.run(Command::operation(9, apply(16)))).0, RefusalCode::OperationReused);
    let refused = cluster.run(Command::operation(10, CommandBody::DeleteSet { set: "b".into() }));
    cluster.create(document("b", TYPES[0], 8));
    assert_eq!(cluster.run(Command::operation(10, CommandBody::DeleteSet { set: "b".into() })), refused);
}

#[test]
fn outcomes_are_remembered_up_to_the_limit() {
    let mut state = ClusterState::default();
    let body = || CommandBody::OpenSession { role: Role::Client, name: "a".into() };
    let count = crate::limits::OPERATIONS_KEPT as u64 + 10;
    for at in 1..=count {
        state.apply(at, &Command::operation(u128::from(at), body()));
    }
    assert_eq!(state.operations.len(), crate::limits::OPERATIONS_KEPT);
    assert_eq!(
        state.apply(count + 1, &Command::operation(u128::from(count), body())),
        Outcome::Session { session: count as u32 }
    );
}

#[test]
fn other_clusters_data_is_refused_and_the_same_name_is_fine() {
    let mut cluster = Cluster::new();
    let init = |name: &str| CommandBody::InitCluster { cluster: name.into(), lease_ms: 9000 };
    assert_eq!(cluster.plain(init("test")), Outcome::Done);
    assert_eq!(cluster.state.lease_ms(), 3000, "the first record counts");
    assert_eq!(refusal(cluster.plain(init("other"))).0, RefusalCode::WrongCluster);
}

#[test]
fn gone_members_are_forgotten_beyond_the_limit_and_their_ids_are_not_given_again() {
    let mut cluster = Cluster::new();
    for at in 0..crate::limits::GONE_KEPT + 3 {
        let incarnation = cluster.join_with(&format!("n{at}"), &[1], vec![]);
        cluster.lose(incarnation);
    }
    assert_eq!(cluster.state.members().count(), crate::limits::GONE_KEPT);
    let back = cluster.plain(join_body("n0", 5, &[1], vec![]));
    let Outcome::Joined { node, .. } = back else { panic!("{back}") };
    assert_eq!(node as usize, crate::limits::GONE_KEPT + 4);
}

#[test]
fn views_carry_the_coordinators_and_change_with_them() {
    let mut cluster = Cluster::new();
    let of = |names: &[&str]| {
        let view = |(at, name): (usize, &&str)| {
            let addr = format!("{name}.test:1");
            (at as u64 + 10, ringfleet_proto::control::CoordinatorView { name: (*name).to_owned(), addr })
        };
        names.iter().enumerate().map(view).collect::<std::collections::BTreeMap<_, _>>()
    };
    cluster.index += 1;
    cluster.state.set_coordinators(cluster.index, of(&["c2", "c1"]));
    let view = cluster.state.node_view();
    assert_eq!(view.coordinators.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["c1", "c2"]);
    assert_eq!(view.index, cluster.index);
    cluster.index += 1;
    cluster.state.set_coordinators(cluster.index, of(&["c2", "c1"]));
    assert_eq!(cluster.state.node_view(), view, "the same list is no news");
    cluster.join("n1", &[1]);
    let copy = crate::ClusterState::from_snapshot(&cluster.state.to_snapshot().unwrap()).unwrap();
    assert_eq!(copy.node_view().coordinators, view.coordinators);
}
