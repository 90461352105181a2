//! Words between host and device.

use ringfleet_abi::control::ControlWord;
use ringfleet_abi::status::StatusWord;
use ringfleet_abi::{
    Control, Epoch, KeySpace, RestartMode, RouteTarget, SetId, ShardId, ShardIndex, Status, WorkerIndex,
};

use crate::{bounded, feed, fuzz};

fn word<W: bytemuck::Pod>(bytes: &[u8]) -> Option<W> {
    bytes.get(..size_of::<W>()).map(bytemuck::pod_read_unaligned)
}

#[test]
fn control_words() {
    let (shard, epoch, worker) = (ShardId::new(SetId(1), ShardIndex(2)), Epoch(3), WorkerIndex(1));
    let (dense, hashed) = (KeySpace::Dense { count: 1 << 40 }, KeySpace::Hashed);
    let add = |keys, restart| Control::AddSet {
        set: SetId(1),
        tag: 0xdead_beef,
        type_index: Some(2),
        keys,
        shards: 3,
        actors_per_shard: 4,
        restart,
    };
    let mut controls = vec![
        add(dense, RestartMode::Stop),
        add(hashed, RestartMode::Restart),
        add(dense, RestartMode::Limited { restarts: 3, window_ms: 60_000, parent: 7 }),
        add(hashed, RestartMode::Escalate { parent: 7 }),
        Control::RemoveSet { set: SetId(1) },
        Control::Pause,
        Control::Resume,
        Control::Route { shard, target: RouteTarget::None },
    ];
    controls.extend([
        Control::Assign { shard, epoch, worker },
        Control::Release { shard, epoch },
        Control::Route { shard, target: RouteTarget::Worker(worker) },
        Control::Route { shard, target: RouteTarget::Egress },
        Control::RouteCommit { version: 4 },
        Control::Lease { deadline_ns: 5 },
        Control::Stop,
    ]);
    let seeds: Vec<Vec<u8>> = controls.iter().map(|control| bytemuck::bytes_of(&control.encode()).to_vec()).collect();
    fuzz!(|plan| {
        let bytes = feed(&seeds, plan);
        let Some(word) = word::<ControlWord>(&bytes) else { return };
        let Ok(control) = bounded(&bytes, 0, || Control::decode(&word)) else { return };
        assert_eq!(Control::decode(&control.encode()).expect("what was written can be read"), control);
    });
}

#[test]
fn status_words() {
    let (shard, epoch, worker) = (ShardId::new(SetId(1), ShardIndex(2)), Epoch(3), WorkerIndex(1));
    let statuses = [
        Status::Assigned { shard, epoch, worker },
        Status::Released { shard, epoch },
        Status::RouteFlushed { version: 4 },
        Status::Stopped,
    ];
    let seeds: Vec<Vec<u8>> = statuses.iter().map(|status| bytemuck::bytes_of(&status.encode()).to_vec()).collect();
    fuzz!(|plan| {
        let bytes = feed(&seeds, plan);
        let Some(word) = word::<StatusWord>(&bytes) else { return };
        let Ok(status) = bounded(&bytes, 0, || Status::decode(&word)) else { return };
        assert_eq!(Status::decode(&status.encode()).expect("what was written can be read"), status);
    });
}
