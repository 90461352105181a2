use super::helpers::*;
use crate::{CommandBody, Outcome};
use ringfleet_proto::control::node::Released;
use ringfleet_proto::control::{RefusalCode, ShardState};

fn change(cluster: &mut Cluster, incarnation: u64, device: u16, generation: u32, up: bool) -> Outcome {
    cluster.plain(CommandBody::DeviceChanged { incarnation, device, generation, up })
}

#[test]
fn shards_of_a_lost_device_move_at_the_next_epoch_and_the_others_stay() {
    let mut cluster = Cluster::new();
    let (n1, _) = (cluster.join("n1", &[2, 2]), cluster.join("n2", &[2]));
    let set = cluster.create(document("a", TYPES[0], 12));
    let before: Vec<_> = cluster.state.shards_of(set).map(|(shard, record)| (shard, *record)).collect();
    assert_eq!(change(&mut cluster, n1, 1, 1, false), Outcome::Done);
    for (shard, old) in before {
        let (new, old_owner) = (*cluster.state.shard(shard).unwrap(), old.owner.unwrap());
        let was_there = old_owner.incarnation == n1 && old_owner.device == 1;
        assert_eq!(new.epoch, old.epoch + u64::from(was_there), "C2: {shard}");
        assert_eq!(new == old, !was_there, "the node's other device and the other node keep theirs: {shard}");
        let owner = new.owner.unwrap();
        assert!(owner.incarnation != n1 || owner.device != 1, "{shard}");
    }
    let view = cluster.state.node_view();
    assert_eq!(view.members.len(), 2, "its node lives on");
    let device = view.members[0].devices[1];
    assert_eq!((device.up, device.generation, device.since_index), (false, 1, view.index));
    let later = cluster.create(document("b", TYPES[0], 8));
    assert!(cluster.counts(later).keys().all(|&(node, device, _)| (node, device) != (1, 1)), "nothing is placed on it");
    assert_eq!(change(&mut cluster, n1, 1, 2, true), Outcome::Done);
    let back = cluster.create(document("c", TYPES[0], 12));
    assert_balanced(&cluster.counts(back), 6, 12);
}

#[test]
fn where_there_is_no_other_device_shards_wait_until_it_is_back() {
    let mut cluster = Cluster::new();
    let n1 = cluster.join("n1", &[2]);
    let set = cluster.create(document("a", TYPES[0], 4));
    change(&mut cluster, n1, 0, 1, false);
    assert_eq!(cluster.in_state(set, ShardState::Pending), 4);
    change(&mut cluster, n1, 0, 2, true);
    assert_balanced(&cluster.counts(set), 2, 4);
    assert_eq!(cluster.epoch(set, 0), 2);
    let since = cluster.state.node_view().members[0].devices[0].since_index;
    assert!(cluster.state.shards_of(set).all(|(_, record)| record.since_index >= since));
}

#[test]
fn reports_that_are_repeated_late_or_out_of_order_do_no_harm() {
    let mut cluster = Cluster::new();
    let n1 = cluster.join("n1", &[1, 1]);
    let set = cluster.create(document("a", TYPES[0], 4));
    assert_eq!(change(&mut cluster, n1, 0, 1, true), Outcome::Done, "it is up");
    assert_eq!(cluster.epoch(set, 0), 1);
    change(&mut cluster, n1, 0, 1, false);
    let view = cluster.state.node_view();
    change(&mut cluster, n1, 0, 1, false);
    assert_eq!(cluster.state.node_view(), view, "twice is once");
    let (code, message) = refusal(change(&mut cluster, n1, 0, 1, true));
    assert_eq!(code, RefusalCode::BadRequest);
    assert!(message.contains("a device that is back has a new generation"), "{message}");
    change(&mut cluster, n1, 0, 3, true);
    let view = cluster.state.node_view();
    for (generation, up) in [(2, false), (2, true), (1, false), (3, true)] {
        assert_eq!(change(&mut cluster, n1, 0, generation, up), Outcome::Done);
        assert_eq!(cluster.state.node_view(), view, "generation {generation} is over");
    }
    // Its loss was not heard: back in a new generation says it too.
    let set = cluster.create(document("b", TYPES[0], 4));
    let epochs = |cluster: &Cluster| (0..4).map(|index| cluster.epoch(set, index)).sum::<u64>();
    assert_eq!(epochs(&cluster), 4);
    change(&mut cluster, n1, 0, 4, true);
    assert_eq!(epochs(&cluster), 6, "what lived in generation 3 is gone");
    assert_eq!(refusal(change(&mut cluster, n1, 2, 1, false)).0, RefusalCode::BadRequest);
    cluster.lose(n1);
    assert_eq!(change(&mut cluster, n1, 0, 5, false), Outcome::Done, "of an incarnation that is gone: nothing");
}

#[test]
fn a_release_that_was_asked_of_a_lost_device_is_over() {
    let mut cluster = Cluster::new();
    let n1 = cluster.join("n1", &[1, 1]);
    let set = cluster.create(document("a", TYPES[0], 4));
    cluster.scale("a", 1, true);
    let releasing = cluster.in_state(set, ShardState::Releasing);
    assert_eq!(releasing, 2);
    let (shard, record) = cluster.state.shards_of(set).find(|(_, r)| r.state == ShardState::Releasing).unwrap();
    let released = Released { set: shard.set.0, index: shard.index.0, epoch: record.epoch };
    let device = record.owner.unwrap().device;
    change(&mut cluster, n1, device, 1, false);
    assert_eq!(cluster.in_state(set, ShardState::Resident), 4, "nobody waits for its word");
    let view = cluster.state.node_view();
    cluster.plain(CommandBody::ShardsReleased { incarnation: n1, shards: vec![released] });
    assert_eq!(cluster.state.node_view(), view, "which comes late and means nothing");
    cluster.delete("a");
    change(&mut cluster, n1, 1 - device, 1, false);
    assert!(cluster.state.set_named("a").is_none(), "a set that is being deleted goes with its device");
}
