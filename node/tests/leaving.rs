//! The end of an agent that is asked to stop.

mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{Cluster, Coordinator, LONG, run};
use ringfleet_actor::TypeRegistry;
use ringfleet_gpu::CpuDeviceConfig;
use ringfleet_link::Role;
use ringfleet_node::{DeviceConfig, NodeConfig, Started};
use ringfleet_proto::control::{ClockReading, Joined, NodeAnswer, NodeRequest, NodeView, RenewGranted};
use tokio::sync::oneshot;

#[test]
fn a_leaving_node_is_not_ready_at_once_and_live_and_gives_its_shards_up_when_their_stamps_are_past() {
    // What the documentation of a planned release says: 250 ms ahead, and clocks that differ by 250 ms.
    const HANDOVER: Duration = Duration::from_millis(501);
    run(2, async |env| {
        let cluster = Cluster::new(&env);
        let clock = env.clone();
        let coordinator = Coordinator::start(&cluster, "c1", move |request| {
            let clock = ClockReading { coordinator: 5, wall_ms: clock.wall_ms(), held_us: 0 };
            async move {
                let view =
                    || NodeView { index: 1, coordinators: vec![], members: vec![], sets: vec![], shards: vec![] };
                Some(Ok(match request {
                    NodeRequest::ReadClock => NodeAnswer::Clock(clock),
                    NodeRequest::Join { .. } => {
                        NodeAnswer::Joined(Joined { node: 1, incarnation: 7, lease_ms: 3_000, index: 1 })
                    }
                    NodeRequest::Renew { .. } => NodeAnswer::Granted(RenewGranted { lease_ms: 3_000, index: 1, clock }),
                    NodeRequest::WatchView { have_index: 0, .. } => NodeAnswer::View(view()),
                    NodeRequest::Leave { .. } => NodeAnswer::Done { index: 2 },
                    _ => return None,
                }))
            }
        });
        let folder = tempfile::tempdir().expect("a folder");
        cluster.identity(Role::Node, "n1").save(&*env.disk(), folder.path()).expect("saved");
        let any = "127.0.0.1:0".parse().expect("an address");
        let config = NodeConfig {
            cluster: "blue".to_owned(),
            name: "n1".to_owned(),
            listen: any,
            advertise: None,
            http: any,
            coordinators: vec![coordinator.addr.clone()],
            ca: folder.path().join("ca.crt"),
            cert: folder.path().join("tls.crt"),
            key: folder.path().join("tls.key"),
            devices: vec![DeviceConfig::Cpu(CpuDeviceConfig::DEFAULT)],
            state: None,
            actors_per_shard: NodeConfig::ACTORS_PER_SHARD,
            outbound_max: NodeConfig::OUTBOUND_MAX,
            clients_max: NodeConfig::CLIENTS_MAX,
            join_deadline: NodeConfig::JOIN_DEADLINE,
        };
        let shown: Arc<Mutex<Option<Started>>> = Arc::default();
        let show = shown.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let agent = ringfleet_node::run(
            env.clone(),
            config,
            TypeRegistry::new([]).expect("no types"),
            move |started| *show.lock().expect("lock") = Some(started),
            async {
                let _ = stopped.await;
            },
        );
        let watch = async {
            let look = || env.sleep(Duration::from_millis(2));
            let shared = loop {
                if let Some(started) = &*shown.lock().expect("lock") {
                    break started.shared.clone();
                }
                look().await;
            };
            while shared.not_ready().is_some() {
                look().await;
            }
            let asked_at = env.now();
            stop.send(()).expect("it runs");
            let mut said = false;
            let left_at = loop {
                assert_eq!(shared.not_live(), None, "it is at work");
                said |= shared.not_ready().is_some_and(|why| why.contains("leaving"));
                let seen = coordinator.seen();
                if let Some((at, _)) = seen.iter().find(|(_, request)| matches!(request, NodeRequest::Leave { .. })) {
                    break *at;
                }
                look().await;
            };
            assert!(said, "/readyz says so before the coordinator knows");
            assert!(left_at - asked_at >= HANDOVER, "C6: after {:?}", left_at - asked_at);
        };
        let (ended, ()) = env.timeout(LONG, async { tokio::join!(agent, watch) }).await.expect("in time");
        ended.expect("it has left");
    });
}
