use super::helpers::*;
use crate::Outcome;
use ringfleet_abi::RestartMode;
use ringfleet_abi::hash::fnv1a32;
use ringfleet_proto::control::document::{FailurePolicy, OnFailure};
use ringfleet_proto::control::{ActorSet, Durability, Keys, RefusalCode, Restart, SetChange, SetState, ShardState};

fn change(outcome: Outcome) -> SetChange {
    match outcome {
        Outcome::Set { change, .. } => change,
        other => panic!("{other}"),
    }
}

#[test]
fn a_document_is_read_from_yaml_with_its_defaults_and_unknown_fields_are_errors() {
    let yaml = "apiVersion: ringfleet.io/v1alpha1\nkind: ActorSet\nmetadata: {name: flights.carrier}\nspec: {type: flights.carrier}";
    let read: ActorSet = serde_yaml_ng::from_str(yaml).unwrap();
    assert_eq!(read, ActorSet::new("flights.carrier", "flights.carrier"));
    let dense =
        yaml.replace("{type: flights.carrier}", "{type: t, keys: !dense {count: 5}, restart: restart, workers: 3}");
    let read: ActorSet = serde_yaml_ng::from_str(&dense).unwrap();
    assert_eq!(
        (read.spec.keys, read.spec.restart, read.spec.workers),
        (Keys::Dense { count: 5 }, Restart::Restart, Some(3))
    );
    let wrong = yaml.replace("{type: flights.carrier}", "{type: t, shard: 5}");
    let error = serde_yaml_ng::from_str::<ActorSet>(&wrong).unwrap_err().to_string();
    assert!(error.contains("unknown field `shard`") && error.contains("line 4"), "{error}");
    let json = serde_json::to_string(&read).unwrap();
    assert_eq!(serde_json::from_str::<ActorSet>(&json).unwrap(), read);
}

#[test]
fn what_is_not_built_or_not_known_is_refused_with_its_code() {
    let mut cluster = Cluster::new();
    cluster.join("n1", &[2]);
    let mut refused = |edit: &dyn Fn(&mut ActorSet)| {
        let mut wrong = document("a", TYPES[0], 8);
        edit(&mut wrong);
        refusal(cluster.apply(wrong))
    };
    assert_eq!(refused(&|d| d.spec.durability = Durability::Journal).0, RefusalCode::UnsupportedDurability);
    assert_eq!(refused(&|d| d.spec.durability = Durability::Snapshot).0, RefusalCode::UnsupportedDurability);
    assert_eq!(refused(&|d| d.spec.tenant = "acme".into()).0, RefusalCode::UnsupportedTenant);
    assert_eq!(refused(&|d| d.api_version = "v1".into()).0, RefusalCode::UnknownApiVersion);
    assert_eq!(refused(&|d| d.kind = "Pod".into()).0, RefusalCode::UnknownKind);
    assert_eq!(refused(&|d| d.metadata.name = "a b".into()).0, RefusalCode::BadName);
    assert_eq!(refused(&|d| d.spec.shards = 0).0, RefusalCode::LimitExceeded);
    assert_eq!(refused(&|d| d.spec.shards = 5000).0, RefusalCode::LimitExceeded);
    assert_eq!(refused(&|d| d.spec.workers = Some(0)).0, RefusalCode::BadRequest);
    assert_eq!(refused(&|d| d.spec.keys = Keys::Dense { count: 0 }).0, RefusalCode::BadRequest);
    assert_eq!(refused(&|d| d.spec.placement.nodes = vec!["n9".into()]).0, RefusalCode::UnknownNode);
    let (code, message) = refused(&|d| d.spec.actor_type = "flights.carier".into());
    assert_eq!(code, RefusalCode::UnknownType);
    assert!(message.contains("flights.airport, flights.carrier"), "{message}");
}

#[test]
fn nodes_that_disagree_on_a_type_are_named_when_a_set_of_it_is_created() {
    let mut cluster = Cluster::new();
    cluster.join_with("n1", &[2], vec![report("t", 1, 1)]);
    cluster.join_with("n2", &[2], vec![report("t", 2, 1)]);
    assert_eq!(refusal(cluster.apply(document("a", "t", 8))).0, RefusalCode::TypeConflict);
}

#[test]
fn another_layout_over_a_resident_one_is_refused_showing_both() {
    let mut cluster = Cluster::new();
    let old = cluster.join_with("n1", &[2], vec![report("t", 1, 1)]);
    let set = cluster.create(document("a", "t", 8));
    cluster.join_with("n2", &[2], vec![report("t", 2, 2)]);
    let (code, message) = refusal(cluster.apply(document("a", "t", 8)));
    assert_eq!(code, RefusalCode::LayoutChanged);
    assert!(message.contains("layout 1") && message.contains("layout 2"), "{message}");
    cluster.lose(old);
    assert_eq!(cluster.in_state(set, ShardState::Pending), 8);
    assert_eq!(change(cluster.apply(document("a", "t", 8))), SetChange::Changed, "nothing is resident any more");
    assert_eq!(cluster.in_state(set, ShardState::Resident), 8);
}

#[test]
fn new_code_with_the_same_layout_takes_over_when_the_old_is_gone() {
    let mut cluster = Cluster::new();
    let old = cluster.join_with("n1", &[2], vec![report("t", 1, 1)]);
    let set = cluster.create(document("a", "t", 8));
    cluster.join_with("n2", &[2], vec![report("t", 2, 1)]);
    assert_eq!(change(cluster.apply(document("a", "t", 8))), SetChange::Unchanged);
    cluster.lose(old);
    assert_eq!(cluster.in_state(set, ShardState::Pending), 8);
    assert_eq!(change(cluster.apply(document("a", "t", 8))), SetChange::Changed);
    assert_eq!(cluster.in_state(set, ShardState::Resident), 8);
}

#[test]
fn applying_again_changes_what_may_change_and_refuses_the_rest() {
    let mut cluster = Cluster::new();
    cluster.join("n1", &[2]);
    cluster.create(document("a", TYPES[0], 8));
    assert_eq!(change(cluster.apply(document("a", TYPES[0], 8))), SetChange::Unchanged);
    let mut restarting = document("a", TYPES[0], 8);
    restarting.spec.restart = Restart::Restart;
    assert_eq!(change(cluster.apply(restarting)), SetChange::Changed);
    assert_eq!(cluster.state.node_view().sets[0].failures.mode(), RestartMode::Restart, "nodes are told");
    assert_eq!(refusal(cluster.apply(document("a", TYPES[0], 9))).0, RefusalCode::FieldFixed);
    assert_eq!(refusal(cluster.apply(document("a", TYPES[1], 8))).0, RefusalCode::FieldFixed);
    let mut dense = document("a", TYPES[0], 8);
    dense.spec.keys = Keys::Dense { count: 100 };
    assert_eq!(refusal(cluster.apply(dense)).0, RefusalCode::FieldFixed);
}

fn on_failure(policy: FailurePolicy, max_restarts: Option<u32>, window_ms: Option<u32>, parent: &str) -> OnFailure {
    let parent = (!parent.is_empty()).then(|| parent.to_owned());
    OnFailure { policy, max_restarts, window_ms, parent }
}

fn below(name: &str, parent: &str) -> ActorSet {
    let mut child = document(name, TYPES[0], 4);
    child.spec.on_failure = Some(on_failure(FailurePolicy::Escalate, None, None, parent));
    child
}

#[test]
fn policies_of_failure_are_read_and_what_cannot_be_done_is_refused() {
    use FailurePolicy::{Escalate, Restart as Again, Stop};
    let mut cluster = Cluster::new();
    cluster.join("n1", &[2]);
    cluster.create(document("top", TYPES[0], 4));
    let mut apply = |name: &str, policy: OnFailure| {
        let mut wanted = document(name, TYPES[0], 4);
        wanted.spec.on_failure = Some(policy);
        cluster.apply(wanted)
    };
    let mut refused = |policy: OnFailure, code: RefusalCode, text: &str| {
        let (found, message) = refusal(apply("a", policy));
        assert_eq!(found, code, "{message}");
        assert!(message.contains(text), "{message}");
    };
    let bad = RefusalCode::BadRequest;
    refused(on_failure(Again, Some(0), Some(5), ""), bad, "max_restarts is 0");
    refused(on_failure(Again, Some(65_536), Some(5), ""), RefusalCode::LimitExceeded, "must be 1 to 65535");
    refused(on_failure(Again, Some(3), None, ""), bad, "max_restarts needs window_ms");
    refused(on_failure(Again, None, Some(3), ""), bad, "window_ms needs max_restarts");
    refused(on_failure(Again, Some(3), Some(0), ""), bad, "window_ms is 0");
    refused(on_failure(Again, None, None, "top"), bad, "parent is of no use");
    refused(on_failure(Stop, None, None, "top"), bad, "write `escalate`");
    refused(on_failure(Stop, Some(3), None, ""), bad, "belong to the policy `restart`");
    refused(on_failure(Escalate, None, Some(3), "top"), bad, "belong to the policy `restart`");
    refused(on_failure(Escalate, None, None, ""), bad, "needs parent");
    refused(on_failure(Escalate, None, None, "a b"), RefusalCode::BadName, "spec.on_failure.parent");
    for (at, policy) in [
        on_failure(Again, None, None, ""),
        on_failure(Again, Some(3), Some(60_000), ""),
        on_failure(Again, Some(65_535), Some(u32::MAX), "top"),
        on_failure(Stop, None, None, ""),
        on_failure(Escalate, None, None, "top"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(change(apply(&format!("set-{at}"), policy)), SetChange::Created);
    }
    let mut both = document("a", TYPES[0], 4);
    (both.spec.restart, both.spec.on_failure) = (Restart::Restart, Some(on_failure(Stop, None, None, "")));
    assert!(refusal(cluster.apply(both)).1.contains("beside spec.restart"));

    let yaml = "{type: t, on_failure: {policy: restart, max_restarts: 3, window_ms: 60000, parent: top}}";
    let spec: ringfleet_proto::control::SetSpec = serde_yaml_ng::from_str(yaml).unwrap();
    assert_eq!(spec.on_failure, Some(on_failure(Again, Some(3), Some(60_000), "top")));
}

#[test]
fn parents_are_there_before_their_children_and_no_chain_leads_back() {
    let mut cluster = Cluster::new();
    cluster.join("n1", &[2]);
    let (code, message) = refusal(cluster.apply(below("a", "b")));
    assert_eq!(code, RefusalCode::UnknownSet);
    assert!(message.contains("spec.on_failure.parent: there is no set `b`"), "{message}");
    assert!(refusal(cluster.apply(below("a", "a"))).1.contains("the set `a` itself"));
    cluster.create(document("c", TYPES[0], 4));
    cluster.create(below("b", "c"));
    cluster.create(below("a", "b"));
    // A set keeps its parent, and may be applied again when that has gone.
    let (code, message) = refusal(cluster.apply(below("a", "c")));
    assert_eq!(code, RefusalCode::FieldFixed);
    assert!(message.contains("spec.on_failure of set `a`"), "{message}");
    assert_eq!(change(cluster.delete("c")), SetChange::Deleting);
    assert_eq!(refusal(cluster.apply(below("d", "c"))).0, RefusalCode::UnknownSet, "it is being deleted");
    cluster.release_all();
    assert_eq!(change(cluster.apply(below("b", "c"))), SetChange::Unchanged);
    cluster.create(below("e", "b"));
    // It comes back: not below its own children.
    for parent in ["a", "b", "e"] {
        let (code, message) = refusal(cluster.apply(below("c", parent)));
        assert_eq!(code, RefusalCode::BadRequest);
        assert!(message.ends_with("b -> c") && message.contains("leads back to the set: c -> "), "{message}");
    }
    cluster.create(document("c", TYPES[0], 4));
    let view = cluster.state.node_view();
    let policy = |name: &str| {
        let set = view.sets.iter().find(|set| set.name == name).expect("it was made");
        set.failures.mode()
    };
    assert_eq!(policy("a"), RestartMode::Escalate { parent: fnv1a32(b"b") });
    assert_eq!(policy("c"), RestartMode::Stop);
}

#[test]
fn colliding_tags_are_refused() {
    let mut cluster = Cluster::new();
    cluster.join("n1", &[2]);
    // FNV-1a folded to 32 bits: about one pair among 2^16 names collides, found once by search.
    let mut seen = std::collections::HashMap::new();
    let (one, other) = (0u32..)
        .find_map(|at| {
            let name = format!("set-{at}");
            seen.insert(fnv1a32(name.as_bytes()), name.clone()).map(|other| (name, other))
        })
        .unwrap();
    cluster.create(document(&one, TYPES[0], 1));
    let (code, message) = refusal(cluster.apply(document(&other, TYPES[0], 1)));
    assert_eq!(code, RefusalCode::TagCollision);
    assert!(message.contains(&one), "{message}");
}

#[test]
fn a_small_set_spreads_over_nodes_and_a_second_one_takes_other_workers() {
    let mut cluster = Cluster::new();
    for name in ["n1", "n2", "n3"] {
        cluster.join(name, &[2]);
    }
    let mut small = document("a", TYPES[0], 10);
    small.spec.workers = Some(3);
    let a = cluster.create(small.clone());
    assert_balanced(&cluster.counts(a), 3, 10);
    let nodes: std::collections::BTreeSet<_> = cluster.counts(a).keys().map(|worker| worker.0).collect();
    assert_eq!(nodes.len(), 3);
    small.metadata.name = "b".into();
    let b = cluster.create(small);
    assert_balanced(&cluster.counts(b), 3, 10);
    assert!(cluster.counts(a).keys().all(|worker| !cluster.counts(b).contains_key(worker)));
}

#[test]
fn a_device_weighs_as_much_as_it_has_workers() {
    let mut cluster = Cluster::new();
    cluster.join("n1", &[6]);
    cluster.join("n2", &[1, 1]);
    let set = cluster.create(document("a", TYPES[0], 256));
    let counts = cluster.counts(set);
    assert_balanced(&counts, 8, 256);
    assert_eq!(counts.iter().filter(|(worker, _)| worker.0 == 1).map(|(_, n)| n).sum::<u32>(), 192);
}

#[test]
fn scaling_moves_as_few_shards_as_it_can_and_only_when_that_is_agreed() {
    let mut cluster = Cluster::new();
    for name in ["n1", "n2", "n3"] {
        cluster.join(name, &[2]);
    }
    let mut wide = document("a", TYPES[0], 60);
    wide.spec.workers = Some(3);
    let set = cluster.create(wide);
    let (code, message) = refusal(cluster.scale("a", 6, false));
    assert_eq!(code, RefusalCode::StateWouldBeLost);
    assert!(message.starts_with("30 of 60"), "{message}");

    assert_eq!(change(cluster.scale("a", 6, true)), SetChange::Changed);
    assert_eq!(cluster.in_state(set, ShardState::Releasing), 30);
    assert_eq!(cluster.in_state(set, ShardState::Resident), 30);
    cluster.release_all();
    assert_balanced(&cluster.counts(set), 6, 60);
    let moved = cluster.state.shards_of(set).filter(|(_, record)| record.epoch == 2).count();
    assert_eq!(moved, 30);

    assert_eq!(change(cluster.scale("a", 2, true)), SetChange::Changed);
    cluster.release_all();
    assert_balanced(&cluster.counts(set), 2, 60);
    assert_eq!(change(cluster.scale("a", 2, false)), SetChange::Unchanged);
}

#[test]
fn raising_the_bound_by_apply_is_refused_where_it_would_move_state() {
    let mut cluster = Cluster::new();
    cluster.join("n1", &[4]);
    let mut bounded = document("a", TYPES[0], 8);
    bounded.spec.workers = Some(2);
    let set = cluster.create(bounded.clone());
    bounded.spec.workers = Some(4);
    assert_eq!(refusal(cluster.apply(bounded)).0, RefusalCode::StateWouldBeLost);
    assert_eq!(cluster.counts(set).len(), 2);
    assert_eq!(change(cluster.apply(document("a", TYPES[0], 8))), SetChange::Unchanged, "absent: as it is");
}

#[test]
fn a_node_lost_while_it_releases_does_not_hold_up_the_move() {
    let mut cluster = Cluster::new();
    let first = cluster.join("n1", &[2]);
    cluster.join("n2", &[2]);
    let mut document = document("a", TYPES[0], 8);
    document.spec.workers = Some(4);
    let set = cluster.create(document);
    cluster.scale("a", 2, true);
    cluster.lose(first);
    cluster.release_all();
    assert_eq!(cluster.in_state(set, ShardState::Resident), 8);
    assert!(cluster.counts(set).len() <= 2);
}

#[test]
fn a_set_is_gone_when_its_last_shard_is_released_and_its_id_is_not_given_again() {
    let mut cluster = Cluster::new();
    let one = cluster.join("n1", &[2]);
    cluster.join("n2", &[2]);
    let set = cluster.create(document("a", TYPES[0], 8));
    assert_eq!(change(cluster.delete("a")), SetChange::Deleting);
    assert_eq!(change(cluster.delete("a")), SetChange::Deleting, "twice is once");
    assert_eq!(cluster.state.set_named("a").unwrap().state, SetState::Deleting);
    assert_eq!(refusal(cluster.apply(document("a", TYPES[0], 8))).0, RefusalCode::SetDeleting);
    assert_eq!(refusal(cluster.scale("a", 1, true)).0, RefusalCode::SetDeleting);
    cluster.lose(one);
    assert_eq!(cluster.in_state(set, ShardState::Releasing), 4);
    cluster.release_all();
    assert!(cluster.state.set_named("a").is_none());
    assert_eq!(cluster.state.shards().count(), 0);
    let again = cluster.create(document("a", TYPES[0], 8));
    assert!(again > set);
    let (code, message) = refusal(cluster.delete("b"));
    assert_eq!((code, message.contains("known sets: a")), (RefusalCode::UnknownSet, true));
}

#[test]
fn a_late_or_foreign_release_changes_nothing() {
    use crate::CommandBody;
    use ringfleet_proto::control::node::Released;
    let mut cluster = Cluster::new();
    let owner = cluster.join("n1", &[2]);
    let set = cluster.create(document("a", TYPES[0], 2));
    let before = cluster.state.node_view();
    let released = |epoch| vec![Released { set: set.0, index: 0, epoch }];
    for (incarnation, epoch) in [(owner, 1), (owner + 1, 1), (owner, 2)] {
        cluster.plain(CommandBody::ShardsReleased { incarnation, shards: released(epoch) });
    }
    assert_eq!(cluster.state.node_view(), before, "nobody asked for a release");
    cluster.delete("a");
    cluster.plain(CommandBody::ShardsReleased { incarnation: owner, shards: released(7) });
    assert_eq!(cluster.in_state(set, ShardState::Releasing), 2, "another epoch");
}

#[test]
fn placement_keeps_a_set_on_the_named_nodes() {
    let mut cluster = Cluster::new();
    let one = cluster.join("n1", &[2]);
    cluster.join("n2", &[2]);
    let mut pinned = document("a", TYPES[0], 8);
    pinned.spec.placement.nodes = vec!["n1".into()];
    let set = cluster.create(pinned);
    assert!(cluster.counts(set).keys().all(|worker| worker.0 == 1));
    cluster.lose(one);
    assert_eq!(cluster.in_state(set, ShardState::Pending), 8);
}

#[test]
fn a_placement_that_no_live_worker_fits_is_refused_while_there_is_state_to_lose() {
    let mut cluster = Cluster::new();
    cluster.join("n1", &[2]);
    let gone = cluster.join("n2", &[2]);
    let mut elsewhere = document("a", TYPES[0], 8);
    elsewhere.spec.placement.nodes = vec!["n2".into()];
    let mut here = elsewhere.clone();
    here.spec.placement.nodes = vec!["n1".into()];
    let set = cluster.create(here);
    cluster.lose(gone);
    let (code, message) = refusal(cluster.apply(elsewhere.clone()));
    assert_eq!(code, RefusalCode::StateWouldBeLost);
    assert!(message.contains("8 of 8 resident shards"), "{message}");
    assert_eq!(cluster.in_state(set, ShardState::Resident), 8);
    // Where nothing is resident the placement may wait for its node.
    let mut waits = elsewhere;
    waits.metadata.name = "b".into();
    let waiting = cluster.create(waits);
    assert_eq!(cluster.in_state(waiting, ShardState::Pending), 8);
    assert_eq!(change(cluster.scale("b", 1, false)), SetChange::Changed);
}

/// The largest state that is admitted: long names and addresses, as many devices as a node may have, and shards up to the bound.
#[test]
fn a_view_of_the_largest_state_fits_into_one_message_and_more_is_refused() {
    use crate::{Command, CommandBody};
    use ringfleet_proto::control::limits::{DEVICES_MAX, NAME_BYTES_MAX, SETS_AT_ONCE_MAX, SHARDS_TOTAL_MAX};
    use ringfleet_proto::control::{AdminAnswer, AdminReply, CoordinatorView, NodeAnswer, NodeReply, encode};
    let mut cluster = Cluster::new();
    let long = |text: String| format!("{text:x<NAME_BYTES_MAX$}");
    let actor_type = long("t".into());
    // One record after another, without the checks after each: there are many.
    let mut step = |state: &mut crate::ClusterState, body: CommandBody| {
        cluster.index += 1;
        state.apply(cluster.index, &Command::plain(body))
    };
    let mut state = cluster.state.clone();
    let joining = |at: usize, devices: usize, types| {
        let mut body = join_body(&long(format!("n{at}-")), at as u128, &vec![1; devices], types);
        if let CommandBody::Join { data_addr, http_addr, .. } = &mut body {
            (*data_addr, *http_addr) = (format!("{:h<249}:65535", ""), format!("{:h<249}:65535", ""));
        }
        body
    };
    step(&mut state, joining(0, 1, vec![report(&actor_type, 7, 8)]));
    for devices in [DEVICES_MAX, 1] {
        let begin = state.members().count();
        let refused = (begin..).find_map(|at| match step(&mut state, joining(at, devices, both_types())) {
            Outcome::Refused(refusal) => Some(refusal),
            _ => None,
        });
        assert_eq!(refused.expect("it ends").code, RefusalCode::LimitExceeded, "C9: bytes of members");
    }
    // A node that has been here before is counted like any other.
    let back = state.members().nth(1).unwrap().incarnation;
    step(&mut state, CommandBody::MemberLost { incarnation: back });
    assert!(matches!(step(&mut state, joining(9000, DEVICES_MAX, both_types())), Outcome::Joined { .. }));
    let (code, message) = refusal(step(&mut state, joining(1, DEVICES_MAX, both_types())));
    assert_eq!(code, RefusalCode::LimitExceeded);
    assert!(message.contains("do not fit"), "{message}");

    for at in 0..=SETS_AT_ONCE_MAX {
        let mut document =
            document(&long(format!("s{at}-")), &actor_type, (SHARDS_TOTAL_MAX / SETS_AT_ONCE_MAX) as u16);
        document.spec.keys = Keys::Dense { count: u64::MAX };
        let outcome = step(&mut state, CommandBody::ApplySet { document });
        if at < SETS_AT_ONCE_MAX {
            assert!(matches!(outcome, Outcome::Set { .. }), "{outcome}");
        } else {
            let (code, message) = refusal(outcome);
            assert_eq!(code, RefusalCode::LimitExceeded);
            assert!(message.contains(&format!("has its {SETS_AT_ONCE_MAX} sets")), "{message}");
        }
    }
    assert_eq!(state.shards().count(), SHARDS_TOTAL_MAX);
    let mut view = state.node_view();
    let coordinator = |at| CoordinatorView { name: long(format!("c{at}-")), addr: format!("{:h<249}:65535", "") };
    view.coordinators = (0..14).map(coordinator).collect();
    assert!(
        encode(&NodeReply::from(Ok(NodeAnswer::View(view.clone())))).is_ok(),
        "C9, C10: a view fits into one message"
    );
    assert!(encode(&AdminReply::from(Ok(AdminAnswer::Directory(view)))).is_ok());
}
