//! Coordinators that come, go, and lose their data.

use super::cluster::{code, with_cluster};
use super::memory::{PATIENCE, renew};
use crate::raft::{Letter, RaftReply, RaftRequest, decode, encode};
use ringfleet_proto::control::{AdminAnswer, AdminVerb, CoordinatorInfo, Failure, NodeAnswer, RefusalCode};
use std::time::Duration;

fn add(name: &str) -> AdminVerb {
    AdminVerb::AddCoordinator { name: name.into(), addr: format!("{name}.test:7000") }
}

fn remove(name: &str) -> AdminVerb {
    AdminVerb::RemoveCoordinator { name: name.into() }
}

fn voters(coordinators: &[CoordinatorInfo]) -> Vec<&str> {
    coordinators.iter().filter(|info| info.voter).map(|info| info.name.as_str()).collect()
}

fn refused(result: Result<AdminAnswer, Failure>) -> String {
    match result {
        Err(Failure::Refused(refusal)) if refusal.code == RefusalCode::BadMembership => refusal.message,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn all_coordinators_are_replaced_one_by_one() {
    with_cluster(3, |env, mut cluster| async move {
        let joined = cluster.join("n1", 1).await.unwrap();
        cluster.create(1, "a").await.unwrap();
        let before = cluster.directory().await;
        assert_eq!(before.coordinators.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["c1", "c2", "c3"]);
        for (at, (old, new)) in [("c1", "c4"), ("c2", "c5"), ("c3", "c6")].into_iter().enumerate() {
            cluster.boot_new(new).await;
            let operation = 100 * at as u128;
            let added = cluster.operate(operation + 10, add(new)).await.unwrap();
            let AdminAnswer::CoordinatorsChanged { coordinators, .. } = added else { panic!("{added:?}") };
            assert_eq!(voters(&coordinators).len(), 4, "{coordinators:?}");
            let again = cluster.operate(operation + 11, add(new)).await.unwrap();
            assert!(matches!(again, AdminAnswer::CoordinatorsChanged { changed: false, .. }), "{again:?}");
            let removed = cluster.operate(operation + 12, remove(old)).await.unwrap();
            let AdminAnswer::CoordinatorsChanged { coordinators, .. } = removed else { panic!("{removed:?}") };
            assert_eq!(coordinators.len(), 3, "{coordinators:?}");
            assert!(!voters(&coordinators).contains(&old) && voters(&coordinators).contains(&new));
            let renewing = async {
                loop {
                    let granted = cluster.node_operate("n1", renew(joined.incarnation)).await;
                    assert!(matches!(granted, Ok(NodeAnswer::Granted(_))), "the node is known throughout: {granted:?}");
                    env.sleep(Duration::from_millis(100)).await;
                }
            };
            let why = tokio::select! {
                why = cluster.nodes[old].stopped(&env) => why,
                () = renewing => unreachable!("it renews for ever"),
            };
            let removed = format!("coordinator `{old}` has been removed");
            assert!(why.contains(&removed) && why.lines().count() == 1, "{why}");
            cluster.kill(old).await;
        }
        let after = cluster.directory().await;
        assert_eq!(after.coordinators.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["c4", "c5", "c6"]);
        assert_eq!(after.coordinators[0].addr, "c4.test:7000");
        assert_eq!((after.sets, after.shards), (before.sets, before.shards), "C1: nothing else has changed");
        // They are a group like any other: one may go.
        let leader = cluster.leader().await;
        cluster.kill(&leader).await;
        cluster.create(2, "b").await.unwrap();
    });
}

#[test]
fn a_coordinator_that_lost_its_data_takes_part_in_nothing_until_it_is_added_anew() {
    with_cluster(3, |env, mut cluster| async move {
        cluster.join("n1", 1).await.unwrap();
        let leader = cluster.leader().await;
        let name = cluster.nodes.keys().find(|name| **name != leader).unwrap().clone();
        let old_id = cluster.nodes[&name].group().id();
        cluster.kill(&name).await;
        cluster.wipe(&name);
        cluster.boot(&name).await;
        let new_id = cluster.nodes[&name].group().id();
        assert_ne!(new_id, old_id, "lost data, lost number");
        // Whatever the group asks of the one that it knew is not answered by the one that is there.
        for to in [old_id, 1] {
            let letter = encode(&Letter { to, request: RaftRequest::Ping }).unwrap();
            let reply = cluster.nodes[&name].group().handle(&leader, &letter).await;
            let Ok(RaftReply::NotMe { id }) = decode(&reply) else { panic!("C1: it votes twice") };
            assert_eq!(id, new_id);
        }
        let why = cluster.nodes[&name].stopped(&env).await;
        assert!(why.contains(&format!("ringfleet coordinators remove {name}")) && why.lines().count() == 1, "{why}");
        let message = refused(cluster.operate(1, add(&name)).await);
        assert!(message.contains("remove it first"), "{message}");
        let removed = cluster.operate(2, remove(&name)).await.unwrap();
        assert!(matches!(removed, AdminAnswer::CoordinatorsChanged { changed: true, .. }), "{removed:?}");
        cluster.kill(&name).await;
        cluster.boot(&name).await;
        cluster.operate(3, add(&name)).await.unwrap();
        let AdminAnswer::Coordinators(coordinators) = cluster.operate(0, AdminVerb::Coordinators).await.unwrap() else {
            panic!()
        };
        assert_eq!(voters(&coordinators), ["c1", "c2", "c3"]);
        assert_eq!(coordinators.iter().find(|info| info.name == name).unwrap().id, new_id);
        // It counts again: with it and without another the group decides.
        let other = cluster.nodes.keys().find(|other| **other != name).unwrap().clone();
        cluster.kill(&other).await;
        cluster.create(4, "a").await.unwrap();
    });
}

#[test]
fn changes_that_would_lose_the_quorum_or_make_no_sense_are_refused() {
    with_cluster(3, |_, mut cluster| async move {
        let leader = cluster.leader().await;
        for (operation, name) in [(10, "c1"), (11, "c2"), (12, "c3")] {
            let again = cluster.operate(operation, add(name)).await.unwrap();
            assert!(matches!(again, AdminAnswer::CoordinatorsChanged { changed: false, .. }), "{name}: {again:?}");
        }
        let elsewhere = AdminVerb::AddCoordinator { name: leader, addr: "elsewhere.test:1".into() };
        assert!(refused(cluster.operate(13, elsewhere).await).contains("leads the cluster at"));
        assert!(refused(cluster.operate(1, add("c4")).await).contains("does not answer at c4.test:7000"));
        let unknown = cluster.operate(2, remove("c9")).await.unwrap();
        assert!(matches!(unknown, AdminAnswer::CoordinatorsChanged { changed: false, .. }));
        let bad = AdminVerb::AddCoordinator { name: "c4".into(), addr: "nowhere".into() };
        assert_eq!(code(cluster.operate(3, bad).await), RefusalCode::BadName);
        cluster.kill("c3").await;
        let message = refused(cluster.operate(4, remove("c2")).await);
        assert!(message.contains("would leave 2 coordinators of which 1 answer, and 2 are needed"), "{message}");
        cluster.operate(5, remove("c3")).await.unwrap();
        // A used folder is of its first group.
        cluster.boot("c3").await;
        assert!(refused(cluster.operate(6, add("c3")).await).contains("has been used"));
        // An even group works, and the last one stays.
        let removed = cluster.operate(7, remove("c2")).await.unwrap();
        let AdminAnswer::CoordinatorsChanged { coordinators, .. } = removed else { panic!("{removed:?}") };
        assert_eq!(voters(&coordinators), ["c1"]);
        assert!(refused(cluster.operate(8, remove("c1")).await).contains("last coordinator"));
    });
}

#[test]
fn a_group_is_founded_only_when_all_of_its_first_members_are_there() {
    with_cluster(0, |env, mut cluster| async move {
        cluster.boot_all_but(3, "c2").await;
        let give_up = env.now() + PATIENCE;
        let waits =
            |cluster: &super::memory::Cluster, name: &str| cluster.nodes[name].group().waiting().unwrap_or_default();
        while !waits(&cluster, "c1").contains("waiting for c2") {
            assert!(env.now() < give_up, "it says: {:?}", waits(&cluster, "c1"));
            env.sleep(Duration::from_millis(10)).await;
        }
        assert!(cluster.nodes.values().all(|node| !node.group().introduction().initialized));
        cluster.boot("c2").await;
        cluster.leader().await;
        assert_eq!(cluster.directory().await.coordinators.len(), 3);
    });
}
