//! Links over the lanes of depth T1 behave as links over QUIC do: order, windows, refusals, and the ends of connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringfleet_env::Env;
use ringfleet_link::{Alpn, CloseReason, ConnectError, Connection, Endpoint, Expect, FrameError, LinkConfig, Role};
use ringfleet_sim::Depth;
use ringfleet_sim::exec::HostId;
use ringfleet_sim::net::Weather;
use ringfleet_sim::rng::{Purpose, Rng};
use ringfleet_sim::world::{End, World, addr_of, node};

const LIMIT: Duration = Duration::from_secs(5);
const FAR_NS: u64 = u64::MAX / 2;

fn bound(world: &World, host: HostId, env: &Env) -> Endpoint {
    Endpoint::bind(env, addr_of(host), world.authority.of(host), LinkConfig::DEFAULTS).expect("the address is free")
}

/// Runs a listener of `roles` at node 1 and a dialler at node 2, until the dialler is done.
fn linked<L, D>(
    roles: Role,
    listener: impl FnOnce(Connection, Env) -> L + Send + 'static,
    dialler: impl FnOnce(Arc<World>, Endpoint, Env) -> D + Send + 'static,
) where
    L: Future<Output = ()> + Send + 'static,
    D: Future<Output = ()> + Send + 'static,
{
    let world = World::new(7, Depth::T1);
    let there = world.clone();
    world.start(node(1), move |env| async move {
        let endpoint = bound(&there, node(1), &env);
        let mut arrivals = endpoint.listen(&[(Alpn::Data, roles.into())]).expect("it listens");
        if let Some(connection) = arrivals.accept().await {
            listener(connection, env).await;
        }
        std::future::pending().await
    });
    let done = Arc::new(AtomicBool::new(false));
    let (here, finished) = (world.clone(), done.clone());
    world.start(node(2), move |env| async move {
        let endpoint = bound(&here, node(2), &env);
        dialler(here, endpoint, env).await;
        finished.store(true, Ordering::Relaxed);
    });
    let ended = world.core.run(120_000_000_000, || done.load(Ordering::Relaxed));
    assert_eq!(world.core.panics(), Vec::<String>::new());
    world.clear();
    assert!(ended, "somebody waits for ever");
}

async fn dial(endpoint: &Endpoint) -> Result<Connection, ConnectError> {
    endpoint.connect(addr_of(node(1)), Alpn::Data, Expect::role(Role::Node), LIMIT).await
}

#[test]
fn frames_arrive_whole_and_in_order_in_any_weather_and_a_slow_reader_holds_up_the_writer() {
    const FRAMES: u32 = 300;
    let listener = |connection: Connection, env: Env| async move {
        let (mut send, mut recv) = connection.accept_stream().await.unwrap();
        env.sleep(Duration::from_secs(3)).await;
        for number in 0..FRAMES {
            let frame = recv.recv().await.unwrap().unwrap();
            assert_eq!((frame.len(), &frame[..4]), (20_000, &number.to_le_bytes()[..]));
        }
        assert_eq!(recv.recv().await.unwrap(), None);
        send.send(b"all").await.unwrap();
        connection.closed().await;
    };
    linked(Role::Node, listener, |world, endpoint, env| async move {
        let weather = Weather {
            delay_min_ns: 100_000,
            delay_max_ns: 9_000_000,
            loss_ppm: 300_000,
            repeat_ppm: 100_000,
            overtaken_ppm: 200_000,
            overtaken_ns: 50_000_000,
        };
        world.net.set_weather(weather);
        let connection = dial(&endpoint).await.unwrap();
        let (mut send, mut recv) = connection.open_stream().await.unwrap();
        let began = env.now();
        let mut frame = vec![0; 20_000];
        for number in 0..FRAMES {
            frame[..4].copy_from_slice(&number.to_le_bytes());
            send.send(&frame).await.unwrap();
        }
        // 6 MB do not fit a window of 2 MiB before somebody reads.
        assert!(env.now().saturating_since(began) > Duration::from_secs(2));
        send.finish().await.unwrap();
        assert_eq!(recv.recv().await.unwrap().as_deref(), Some(&b"all"[..]));
    });
}

#[test]
fn a_listener_admits_only_the_roles_it_takes_and_a_dialler_only_whom_it_expects() {
    linked(
        Role::Coordinator,
        |_, _| async { panic!("a node was admitted") },
        |_, endpoint, _| async move {
            let refused = dial(&endpoint).await.unwrap_err();
            assert!(matches!(refused, ConnectError::NotAllowed { .. }), "{refused}");
        },
    );
    linked(
        Role::Node,
        |connection, _| async move { drop(connection.closed().await) },
        |_, endpoint, _| async move {
            let expect = Expect::named(Role::Node, "n3");
            let wrong = endpoint.connect(addr_of(node(1)), Alpn::Data, expect, LIMIT).await.unwrap_err();
            assert!(matches!(wrong, ConnectError::PeerCertificate { .. }), "{wrong}");
            let nobody =
                endpoint.connect(addr_of(node(3)), Alpn::Data, Expect::role(Role::Node), LIMIT).await.unwrap_err();
            assert!(matches!(nobody, ConnectError::NoAnswer { .. }), "{nobody}");
        },
    );
}

#[test]
fn a_closed_connection_says_so_with_code_and_reason() {
    let listener = |connection: Connection, _| async move {
        let _lane = connection.accept_stream().await.unwrap();
        connection.close(40, "enough");
        assert_eq!(connection.closed().await, CloseReason::Local);
    };
    linked(Role::Node, listener, |_, endpoint, _| async move {
        let connection = dial(&endpoint).await.unwrap();
        let (mut send, _recv) = connection.open_stream().await.unwrap();
        send.send(b"hello").await.unwrap();
        let closed = connection.closed().await;
        assert_eq!(closed, CloseReason::Peer { code: 40, reason: "enough".to_owned() });
        let lost = connection.open_stream().await.err();
        assert_eq!(lost, Some(closed));
    });
}

#[test]
fn a_way_that_is_cut_holds_up_frames_and_then_ends_the_connection_on_both_sides() {
    let listener = |connection: Connection, env: Env| async move {
        let began = env.now();
        assert_eq!(connection.closed().await, CloseReason::TimedOut);
        assert!(env.now().saturating_since(began) >= Duration::from_secs(10));
    };
    linked(Role::Node, listener, |world, endpoint, env| async move {
        let connection = dial(&endpoint).await.unwrap();
        let (mut send, mut recv) = connection.open_stream().await.unwrap();
        world.net.cut(node(2), node(1), FAR_NS);
        send.send(b"never").await.unwrap();
        let began = env.now();
        assert_eq!(recv.recv().await, Err(FrameError::Lost(CloseReason::TimedOut)));
        assert!(env.now().saturating_since(began) >= Duration::from_secs(10));
    });
}

#[test]
fn a_killed_process_says_nothing_and_its_successor_knows_no_connection() {
    let listener = |connection: Connection, _| async move { drop(connection.closed().await) };
    linked(Role::Node, listener, |world, endpoint, env| async move {
        let connection = dial(&endpoint).await.unwrap();
        let killer = world.clone();
        world.core.at(world.core.now_ns(), move || {
            killer.end(node(1), End::Killed, &mut Rng::new(1, Purpose::Faults));
        });
        let began = env.now();
        assert_eq!(connection.closed().await, CloseReason::TimedOut);
        assert!(env.now().saturating_since(began) >= Duration::from_secs(8));
    });
}
