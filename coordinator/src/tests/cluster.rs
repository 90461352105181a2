//! Three coordinators: what survives, what is refused, and how soon.

use super::memory::{CLUSTER, Cluster, LEASE_MS, PATIENCE, join, renew, renew_with_clock};
use crate::store::{Owner, Store};
use ringfleet_env::Env;
use ringfleet_proto::control::node::Released;
use ringfleet_proto::control::{
    ActorSet, AdminAnswer, AdminRequest, AdminVerb, ClockSample, Failure, NodeAnswer, NodeRequest, NodeState,
    RefusalCode, Role, SetChange, ShardState,
};
use std::future::Future;
use std::time::Duration;

pub fn with_cluster<F: Future<Output = ()>>(count: usize, test: impl FnOnce(Env, Cluster) -> F) {
    Env::run_tokio(2, |env| async move {
        let cluster = Cluster::start(&env, count).await;
        test(env, cluster).await;
    })
    .unwrap();
}

pub fn code<T: std::fmt::Debug>(result: Result<T, Failure>) -> RefusalCode {
    match result {
        Err(Failure::Refused(refusal)) => refusal.code,
        other => panic!("not refused: {other:?}"),
    }
}

fn elapsed_ms(env: &Env, since_ns: u64) -> u64 {
    (env.monotonic_ns() - since_ns) / 1_000_000
}

#[test]
fn a_killed_leader_is_replaced_within_two_seconds_and_nothing_is_lost() {
    with_cluster(3, |env, mut cluster| async move {
        cluster.join("n1", 1).await.unwrap();
        cluster.create(1, "a").await.unwrap();
        let before = cluster.directory().await;
        assert_eq!(before.shards.iter().filter(|shard| shard.state == ShardState::Resident).count(), 8);
        let leader = cluster.leader().await;
        let began_ns = env.monotonic_ns();
        cluster.kill(&leader).await;
        let next = cluster.leader().await;
        let took_ms = elapsed_ms(&env, began_ns);
        println!("a new leader {took_ms} ms after the kill");
        assert_ne!(next, leader);
        assert!(took_ms < 2000, "C10: {took_ms} ms");
        assert_eq!(cluster.directory().await, before);
        cluster.create(2, "b").await.unwrap();
        cluster.boot(&leader).await;
        assert_eq!(cluster.directory().await.sets.len(), 2);
    });
}

#[test]
fn a_restart_of_all_keeps_everything_with_and_without_a_snapshot() {
    with_cluster(3, |_, mut cluster| async move {
        cluster.join("n1", 1).await.unwrap();
        cluster.create(1, "a").await.unwrap();
        for node in cluster.nodes.values() {
            node.group().snapshot_now().await;
        }
        cluster.create(2, "b").await.unwrap();
        let before = cluster.directory().await;
        let term_before = cluster.nodes["c1"].group().status().term;
        for _ in 0..2 {
            for name in ["c1", "c2", "c3"] {
                cluster.kill(name).await;
            }
            for name in ["c1", "c2", "c3"] {
                cluster.boot(name).await;
            }
            assert_eq!(cluster.directory().await, before);
        }
        assert!(cluster.nodes["c1"].group().status().term > term_before, "leaders are elected, never restored");
        // What the log remembers besides: the outcome of an operation.
        let AdminAnswer::Set { change, .. } = cluster.create(1, "a").await.unwrap() else { panic!() };
        assert_eq!(change, SetChange::Created);
    });
}

#[test]
fn a_follower_that_missed_more_than_the_log_keeps_gets_a_snapshot() {
    with_cluster(3, |env, mut cluster| async move {
        let leader = cluster.leader().await;
        let follower = cluster.nodes.keys().find(|name| **name != leader).unwrap().clone();
        cluster.kill(&follower).await;
        cluster.join("n1", 1).await.unwrap();
        let service = cluster.nodes[&leader].service.clone();
        let group = service.group.clone();
        for batch in 0..6 {
            let opened: Vec<_> = (0..100)
                .map(|at| {
                    let (cluster, leader) = (&cluster, &leader);
                    let operation = 1000 + batch * 100 + at;
                    async move {
                        let request = AdminRequest { operation, deadline_ms: 10_000, verb: AdminVerb::OpenSession };
                        cluster.ask(leader, (Role::Client, "c"), request).await.unwrap();
                    }
                })
                .collect();
            futures_util::future::join_all(opened).await;
        }
        let give_up = env.now() + PATIENCE;
        while group.status().purged_index < 50 {
            assert!(env.now() < give_up, "the log was not purged: {:?}", group.status());
            group.snapshot_now().await;
            env.sleep(Duration::from_millis(50)).await;
        }
        let target = group.status().applied_index;
        cluster.boot(&follower).await;
        while cluster.nodes[&follower].group().status().applied_index < target {
            assert!(env.now() < give_up, "the follower did not catch up");
            env.sleep(Duration::from_millis(20)).await;
        }
        let ours = group.published().state().to_snapshot().unwrap();
        let theirs = cluster.nodes[&follower].group().published().state().to_snapshot().unwrap();
        assert_eq!(ours, theirs);
        assert!(cluster.nodes[&follower].group().status().snapshot_index >= 50);
    });
}

#[test]
fn a_leader_that_is_cut_off_grants_no_lease_and_answers_no_read() {
    with_cluster(3, |env, cluster| async move {
        let joined = cluster.join("n1", 1).await.unwrap();
        let old = cluster.leader().await;
        assert!(matches!(cluster.node_ask(&old, "n1", &renew(joined.incarnation)).await, Ok(NodeAnswer::Granted(_))));
        cluster.net.cut.lock().unwrap().insert(old.clone());
        let began_ns = env.monotonic_ns();
        let refused = cluster.node_ask(&old, "n1", &renew(joined.incarnation)).await;
        assert!(matches!(refused, Err(Failure::Unavailable { .. } | Failure::NotLeader { .. })), "C2: {refused:?}");
        assert!(elapsed_ms(&env, began_ns) < 1500, "by the deadline of 500 ms");
        let next = cluster.leader().await;
        assert_ne!(next, old);
        let granted = cluster.node_operate("n1", renew(joined.incarnation)).await;
        assert!(matches!(granted, Ok(NodeAnswer::Granted(_))), "{granted:?}");
        // It still believes to lead, or has heard nothing: either way it tells nobody anything.
        let request = AdminRequest { operation: 0, deadline_ms: 300, verb: AdminVerb::Status };
        let read = cluster.ask(&old, (Role::Viewer, "v"), request).await;
        assert!(matches!(read, Err(Failure::Unavailable { .. } | Failure::NotLeader { .. })), "C1: {read:?}");
        cluster.net.cut.lock().unwrap().clear();
        let give_up = env.now() + PATIENCE;
        while cluster.nodes[&old].group().leadership().leads {
            assert!(env.now() < give_up, "the old leader did not step down");
            env.sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn without_a_quorum_reads_and_writes_say_so_by_their_deadline() {
    with_cluster(3, |env, mut cluster| async move {
        let leader = cluster.leader().await;
        let others: Vec<String> = cluster.nodes.keys().filter(|name| **name != leader).cloned().collect();
        for name in others {
            cluster.kill(&name).await;
        }
        for verb in [AdminVerb::Status, AdminVerb::Delete { set: "a".into() }, AdminVerb::OpenSession] {
            let began_ns = env.monotonic_ns();
            let request = AdminRequest { operation: 7, deadline_ms: 700, verb };
            let failure = cluster.ask(&leader, (Role::Operator, "op"), request).await.unwrap_err();
            assert!(matches!(&failure, Failure::Unavailable { message } if message.contains("no quorum")), "{failure}");
            assert!(elapsed_ms(&env, began_ns) < 2000, "C4: by the deadline of 700 ms");
        }
    });
}

#[test]
fn a_retried_operation_has_its_first_outcome_under_any_leader() {
    with_cluster(3, |_, mut cluster| async move {
        cluster.join("n1", 1).await.unwrap();
        let first = cluster.create(42, "a").await.unwrap();
        let session = cluster.operate(43, AdminVerb::OpenSession).await.unwrap();
        let leader = cluster.leader().await;
        cluster.kill(&leader).await;
        assert_eq!(cluster.create(42, "a").await.unwrap(), first);
        assert_eq!(cluster.operate(43, AdminVerb::OpenSession).await.unwrap(), session);
        assert_ne!(cluster.operate(44, AdminVerb::OpenSession).await.unwrap(), session);
        assert_eq!(code(cluster.create(42, "b").await), RefusalCode::OperationReused);
    });
}

#[test]
fn a_node_that_stops_renewing_is_lost_after_its_lease_and_fenced_for_good() {
    with_cluster(3, |env, cluster| async move {
        let kept = cluster.join("n1", 1).await.unwrap();
        let lost = cluster.join("n2", 1).await.unwrap();
        assert_eq!(kept.lease_ms, LEASE_MS);
        cluster.create(1, "a").await.unwrap();
        assert_eq!(code(cluster.join("n2", 2).await), RefusalCode::NameInUse);
        let last_renewal_ns = env.monotonic_ns();
        assert!(cluster.node_operate("n2", renew(lost.incarnation)).await.is_ok());
        let give_up = env.now() + PATIENCE;
        loop {
            assert!(env.now() < give_up, "n2 was never declared lost");
            assert!(cluster.node_operate("n1", renew(kept.incarnation)).await.is_ok(), "n1 keeps its lease");
            let view = cluster.directory().await;
            if view.members.len() == 1 {
                assert!(view.shards.iter().all(|shard| shard.incarnation == kept.incarnation));
                assert_eq!(view.shards.iter().filter(|shard| shard.epoch == 2).count(), 4);
                break;
            }
            env.sleep(Duration::from_millis(50)).await;
        }
        assert!(elapsed_ms(&env, last_renewal_ns) >= u64::from(LEASE_MS), "C2: never before the lease has ended");
        assert_eq!(code(cluster.node_operate("n2", renew(lost.incarnation)).await), RefusalCode::Fenced);
        let watch = NodeRequest::WatchView { incarnation: lost.incarnation, have_index: 0, wait_ms: 0 };
        assert_eq!(code(cluster.node_operate("n2", watch).await), RefusalCode::Fenced);
        let back = cluster.join("n2", 2).await.unwrap();
        assert_eq!(back.node, lost.node);
        assert!(back.incarnation > lost.incarnation);
    });
}

#[test]
fn a_new_leader_counts_every_lease_from_its_election() {
    with_cluster(3, |env, mut cluster| async move {
        let joined = cluster.join("n1", 1).await.unwrap();
        assert!(cluster.node_operate("n1", renew(joined.incarnation)).await.is_ok());
        let leader = cluster.leader().await;
        cluster.kill(&leader).await;
        cluster.leader().await;
        let elected_ns = env.monotonic_ns();
        let give_up = env.now() + PATIENCE;
        while cluster.directory().await.members.len() == 1 {
            assert!(env.now() < give_up, "never declared lost");
            env.sleep(Duration::from_millis(30)).await;
        }
        let took_ms = elapsed_ms(&env, elected_ns);
        assert!(took_ms + 300 >= u64::from(LEASE_MS), "C2: lost {took_ms} ms after the election");
        let AdminAnswer::Nodes(nodes) = cluster.operate(0, AdminVerb::Nodes).await.unwrap() else { panic!() };
        assert_eq!(nodes[0].state, NodeState::Lost);
    });
}

#[test]
fn a_set_is_scaled_and_deleted_through_its_node() {
    with_cluster(3, |env, cluster| async move {
        let joined = cluster.join("n1", 1).await.unwrap();
        cluster.create(1, "a").await.unwrap();
        let renewing = || cluster.node_operate("n1", renew(joined.incarnation));
        let scale = |operation, discard_state| {
            let verb = AdminVerb::Scale { set: "a".into(), workers: 1, discard_state };
            cluster.operate(operation, verb)
        };
        assert_eq!(code(scale(2, false).await), RefusalCode::StateWouldBeLost);
        scale(3, true).await.unwrap();
        cluster.operate(4, AdminVerb::Delete { set: "a".into() }).await.unwrap();
        let mut have_index = 0;
        let give_up = env.now() + PATIENCE;
        loop {
            assert!(env.now() < give_up, "the set was not deleted");
            renewing().await.unwrap();
            let incarnation = joined.incarnation;
            let watch = NodeRequest::WatchView { incarnation, have_index, wait_ms: 200 };
            let NodeAnswer::View(view) = cluster.node_operate("n1", watch).await.unwrap() else { continue };
            have_index = view.index;
            if view.sets.is_empty() {
                break;
            }
            let shards = view.shards.iter().map(|s| Released { set: s.set, index: s.index, epoch: s.epoch }).collect();
            let report = NodeRequest::ReportReleased { incarnation, shards, deadline_ms: 1000 };
            cluster.node_operate("n1", report).await.unwrap();
        }
        let watch = NodeRequest::WatchView { incarnation: joined.incarnation, have_index, wait_ms: 50 };
        let unchanged = cluster.node_operate("n1", watch).await.unwrap();
        assert_eq!(unchanged, NodeAnswer::Unchanged { index: have_index });
        let leave = NodeRequest::Leave { incarnation: joined.incarnation, deadline_ms: 1000 };
        assert!(matches!(cluster.node_operate("n1", leave).await, Ok(NodeAnswer::Done { .. })));
        assert!(cluster.directory().await.members.is_empty());
    });
}

#[test]
fn a_waiting_watch_is_answered_when_something_changes() {
    with_cluster(1, |env, cluster| async move {
        let joined = cluster.join("n1", 1).await.unwrap();
        let incarnation = joined.incarnation;
        let watch = NodeRequest::WatchView { incarnation, have_index: joined.index, wait_ms: 10_000 };
        let began_ns = env.monotonic_ns();
        let (view, created) = tokio::join!(cluster.node_operate("n1", watch), async {
            env.sleep(Duration::from_millis(100)).await;
            cluster.create(1, "a").await
        });
        created.unwrap();
        let Ok(NodeAnswer::View(view)) = view else { panic!("{view:?}") };
        assert_eq!(view.sets.len(), 1);
        assert!(elapsed_ms(&env, began_ns) < 5000);
    });
}

#[test]
fn roles_names_and_bytes_that_do_not_fit_are_refused() {
    with_cluster(1, |_, cluster| async move {
        cluster.leader().await;
        let caller = crate::service::Caller { role: Role::Node, name: "n1".into() };
        let service = &cluster.nodes["c1"].service;
        assert!(service.handle(&caller, &crate::raft::ping()).await.is_empty(), "C11");
        assert_eq!(service.metrics.raft_denied.get(), 1);
        let document = ActorSet::new("a", "t");
        let request = |verb| AdminRequest { operation: 1, deadline_ms: 1000, verb };
        let apply = || request(AdminVerb::Apply { document: document.clone() });
        for role in [Role::Viewer, Role::Client, Role::Node, Role::Coordinator] {
            assert_eq!(code(cluster.ask("c1", (role, "x"), apply()).await), RefusalCode::NotAllowed);
        }
        assert_eq!(code(cluster.ask("c1", (Role::Operator, "op"), apply()).await), RefusalCode::UnknownType);
        let status = request(AdminVerb::Status);
        assert!(cluster.ask("c1", (Role::Viewer, "v"), status.clone()).await.is_ok());
        assert_eq!(code(cluster.ask("c1", (Role::Client, "c"), status).await), RefusalCode::NotAllowed);

        assert_eq!(code(cluster.node_ask("c1", "n1", &join("n2", 1, None)).await), RefusalCode::BadName);
        let mut other_cluster = join("n1", 1, None);
        if let NodeRequest::Join { cluster, .. } = &mut other_cluster {
            *cluster = "other".into();
        }
        assert_eq!(code(cluster.node_ask("c1", "n1", &other_cluster).await), RefusalCode::WrongCluster);
        let joined = cluster.join("n1", 1).await.unwrap();
        assert_eq!(code(cluster.node_ask("c1", "n9", &renew(joined.incarnation)).await), RefusalCode::Fenced, "C11");

        let service = &cluster.nodes["c1"].service;
        let caller = |role, name: &str| crate::service::Caller { role, name: name.into() };
        let raft = b"RFR1\x01\0\0\0garbage";
        assert!(service.handle(&caller(Role::Node, "c1"), raft).await.is_empty(), "C11: only coordinators");
        assert!(service.handle(&caller(Role::Coordinator, "c9"), raft).await.is_empty(), "C11: only of this group");
        assert!(!service.handle(&caller(Role::Coordinator, "c1"), raft).await.is_empty());
        for garbage in [&b""[..], b"x", b"RFC1", b"RFC1\x01\0\x01\0\x04\0\0\0\0\0\0\0abcd"] {
            let reply = service.handle(&caller(Role::Operator, "op"), garbage).await;
            assert!(reply.starts_with(b"RFC1"), "a clear answer to garbage");
        }
    });
}

#[test]
fn sessions_are_looked_up_by_nodes() {
    with_cluster(1, |_, cluster| async move {
        let joined = cluster.join("n1", 1).await.unwrap();
        let request = AdminRequest { operation: 5, deadline_ms: 1000, verb: AdminVerb::OpenSession };
        let Ok(AdminAnswer::Session { session }) = cluster.ask("c1", (Role::Client, "app"), request).await else {
            panic!()
        };
        let lookup =
            |session| NodeRequest::LookupSession { incarnation: joined.incarnation, session, deadline_ms: 1000 };
        let Ok(NodeAnswer::Session(found)) = cluster.node_ask("c1", "n1", &lookup(session)).await else { panic!() };
        assert_eq!((found.role, found.name.as_str()), (Role::Client, "app"));
        assert_eq!(code(cluster.node_ask("c1", "n1", &lookup(99)).await), RefusalCode::UnknownSession);
    });
}

#[test]
fn data_of_another_cluster_or_coordinator_is_refused_by_name() {
    with_cluster(1, |env, mut cluster| async move {
        cluster.leader().await;
        cluster.kill("c1").await;
        for (other, name) in [("other", "c1"), (CLUSTER, "c2")] {
            let owner = Owner { cluster: other.into(), name: name.into() };
            let error = Store::open(&env.disk(), &cluster.folder("c1"), &owner, 1).unwrap_err().to_string();
            assert!(error.contains("holds the data of coordinator `c1` of cluster `test`"), "{error}");
        }
    });
}

#[test]
fn a_leader_that_stops_as_planned_hands_over_before_it_is_missed() {
    with_cluster(3, |env, mut cluster| async move {
        cluster.join("n1", 1).await.unwrap();
        let leader = cluster.leader().await;
        let began_ns = env.monotonic_ns();
        cluster.nodes[&leader].group().hand_over().await;
        // While it still runs: nobody can have missed it.
        let give_up = env.now() + PATIENCE;
        let led = |node: &super::memory::Node| node.group().leadership().leads;
        while !cluster.nodes.iter().any(|(name, node)| *name != leader && led(node)) {
            assert!(env.now() < give_up, "nobody else leads");
            env.sleep(Duration::from_millis(5)).await;
        }
        println!("a new leader {} ms after a planned stop began", elapsed_ms(&env, began_ns));
        cluster.kill(&leader).await;
        assert_ne!(cluster.leader().await, leader);
    });
}

#[test]
fn a_leader_hands_over_to_a_coordinator_that_answers() {
    with_cluster(3, |env, mut cluster| async move {
        // The last by name would be taken among equals, if it were not gone.
        let give_up = env.now() + PATIENCE;
        let leader = loop {
            let leader = cluster.leader().await;
            if leader != "c3" {
                break leader;
            }
            assert!(env.now() < give_up, "c3 does not hand over");
            cluster.nodes[&leader].group().hand_over().await;
        };
        cluster.kill("c3").await;
        let group = cluster.nodes[&leader].group();
        group.hand_over().await;
        assert!(!group.leadership().leads, "it handed over to who is not there");
    });
}

#[test]
fn a_node_whose_clock_is_off_is_quarantined_lost_and_kept_out_until_it_is_right() {
    with_cluster(3, |env, cluster| async move {
        let joined = cluster.join("n1", 1).await.unwrap();
        let (incarnation, give_up) = (joined.incarnation, env.now() + PATIENCE);
        let info = async || match cluster.operate(0, AdminVerb::Nodes).await {
            Ok(AdminAnswer::Nodes(mut nodes)) => nodes.remove(0),
            other => panic!("{other:?}"),
        };
        let number = std::cell::Cell::new(0);
        let renew_at = async |offset_ms| {
            number.set(number.get() + 1);
            let reading = cluster.node_operate("n1", NodeRequest::ReadClock).await;
            let Ok(NodeAnswer::Clock(reading)) = reading else { panic!("{reading:?}") };
            let sample = ClockSample { coordinator: reading.coordinator, number: number.get(), offset_ms, error_ms: 2 };
            cluster.node_operate("n1", renew_with_clock(incarnation, Some(sample))).await
        };
        for _ in 0..2 {
            assert!(matches!(renew_at(312).await, Ok(NodeAnswer::Granted(_))), "one noisy measurement convicts nobody");
        }
        assert!(matches!(renew_at(3).await, Ok(NodeAnswer::Granted(_))));
        assert_eq!((info().await.quarantined, info().await.clock_offset_ms), (false, 3));
        // From here on its clock is off. Right again before its lease has ended: it goes on as the same incarnation.
        while !matches!(renew_at(312).await, Ok(NodeAnswer::Quarantined { offset_ms: 312, .. })) {
            assert!(env.now() < give_up, "not quarantined");
            env.sleep(Duration::from_millis(20)).await;
        }
        let shown = info().await;
        assert_eq!((shown.quarantined, shown.clock_offset_ms, shown.state), (true, 312, NodeState::Alive));
        while !matches!(renew_at(0).await, Ok(NodeAnswer::Granted(_))) {
            assert!(env.now() < give_up, "not let go");
            env.sleep(Duration::from_millis(20)).await;
        }
        assert!(!info().await.quarantined);
        // And now for good, whoever leads: the log has it.
        while !matches!(renew_at(-312).await, Ok(NodeAnswer::Quarantined { .. })) {
            assert!(env.now() < give_up, "not quarantined again");
            env.sleep(Duration::from_millis(20)).await;
        }
        let leader = cluster.leader().await;
        cluster.nodes[&leader].group().hand_over().await;
        loop {
            match renew_at(-312).await {
                Ok(NodeAnswer::Quarantined { .. }) => {}
                Err(Failure::Refused(refusal)) if refusal.code == RefusalCode::Fenced => break,
                other => panic!("C6: {other:?}"),
            }
            assert!(env.now() < give_up, "never lost");
            env.sleep(Duration::from_millis(50)).await;
        }
        let Err(Failure::Refused(refusal)) = cluster.join_with_clock("n1", 2, -312).await else { panic!("C6") };
        assert_eq!(refusal.code, RefusalCode::ClockOff);
        assert!(refusal.message.contains("the clock of node `n1` is 312 ms (give or take 1) behind"), "{refusal}");
        assert!(cluster.join_with_clock("n1", 2, 40).await.unwrap().incarnation > incarnation);
    });
}

#[test]
fn a_leader_whose_own_clock_is_off_quarantines_nobody() {
    with_cluster(3, |env, mut cluster| async move {
        // Whoever leads now is started again with a clock that is 5 s behind, and leads again.
        let wrong = cluster.leader().await;
        cluster.kill(&wrong).await;
        cluster.skewed.insert(wrong.clone(), -5_000);
        cluster.boot(&wrong).await;
        let give_up = env.now() + PATIENCE;
        loop {
            let leader = cluster.leader().await;
            if leader == wrong {
                break;
            }
            assert!(env.now() < give_up, "it does not come to lead");
            cluster.nodes[&leader].group().hand_over().await;
        }
        // A node with a right clock is 5 s ahead of this leader's.
        let joined = cluster.join_with_clock("n1", 1, 5_000).await.unwrap();
        let service = cluster.nodes[&wrong].service.clone();
        let id = service.group.id();
        for number in 1..10 {
            let sample = ClockSample { coordinator: id, number, offset_ms: 5_000, error_ms: 1 };
            let answer = cluster.node_ask(&wrong, "n1", &renew_with_clock(joined.incarnation, Some(sample))).await;
            assert!(matches!(answer, Ok(NodeAnswer::Granted(_))), "{answer:?}");
        }
        let own = service.leases.own_clock_offset_ms(env.monotonic_ns()).expect("three clocks are heard");
        assert!((own + 5_000).abs() < 100, "C6: it knows that it is {own} ms off");
        let refused = cluster.join_with_clock("n2", 1, 0).await;
        assert_eq!(code(refused), RefusalCode::ClockOff, "who agrees with the wrong leader is wrong");
    });
}

#[test]
fn a_lost_device_moves_its_shards_and_keeps_its_node() {
    with_cluster(1, |_, cluster| async move {
        let kept = cluster.join("n1", 1).await.unwrap();
        let other = cluster.join("n2", 1).await.unwrap();
        cluster.create(1, "a").await.unwrap();
        let report = |incarnation, generation, up| NodeRequest::ReportDevice {
            incarnation,
            device: 0,
            generation,
            up,
            deadline_ms: 1000,
        };
        let Ok(NodeAnswer::Done { index }) = cluster.node_operate("n1", report(kept.incarnation, 1, false)).await
        else {
            panic!()
        };
        let view = cluster.directory().await;
        assert!(view.index >= index && view.members.len() == 2);
        assert!(view.shards.iter().all(|shard| shard.incarnation == other.incarnation), "C10: placed elsewhere");
        assert_eq!(view.shards.iter().filter(|shard| shard.epoch == 2).count(), 4, "C2");
        let AdminAnswer::Nodes(nodes) = cluster.operate(0, AdminVerb::Nodes).await.unwrap() else { panic!() };
        assert_eq!((nodes[0].state, nodes[0].devices_lost.as_slice()), (NodeState::Alive, &[0][..]));
        let granted = cluster.node_operate("n1", renew(kept.incarnation)).await;
        assert!(matches!(granted, Ok(NodeAnswer::Granted(_))), "the node keeps its lease");
        assert_eq!(
            code(cluster.node_ask("c1", "n2", &report(kept.incarnation, 2, true)).await),
            RefusalCode::Fenced,
            "C11"
        );
        cluster.node_operate("n1", report(kept.incarnation, 2, true)).await.unwrap();
        cluster.create(2, "b").await.unwrap();
        let view = cluster.directory().await;
        assert!(view.shards.iter().any(|shard| shard.incarnation == kept.incarnation), "it takes shards again");
    });
}

#[test]
fn a_coordinator_whose_steward_or_core_ended_stops() {
    with_cluster(3, |env, mut cluster| async move {
        let leader = cluster.leader().await;
        cluster.nodes.get_mut(&leader).unwrap().end_steward().await;
        assert_eq!(cluster.nodes[&leader].stopped(&env).await, "its steward ended");
        let other = cluster.nodes.keys().find(|name| **name != leader).unwrap().clone();
        cluster.nodes[&other].group().break_core().await;
        assert_eq!(cluster.nodes[&other].stopped(&env).await, "the raft group stopped: its core ended");
        assert!(!cluster.nodes[&other].group().leadership().leads);
    });
}

#[test]
fn a_leader_that_is_still_taking_over_admits_nobody() {
    with_cluster(1, |_, mut cluster| async move {
        let leader = cluster.leader().await;
        let node = cluster.nodes.get_mut(&leader).unwrap();
        node.end_steward().await;
        node.service.leases.forget();
        let sample = ClockSample { coordinator: node.group().id(), number: 0, offset_ms: 60_000, error_ms: 1 };
        let refused = cluster.node_ask(&leader, "n1", &join("n1", 1, Some(sample))).await;
        assert!(
            matches!(&refused, Err(Failure::Unavailable { message }) if message.contains("taking over")),
            "C6: {refused:?}"
        );
    });
}
