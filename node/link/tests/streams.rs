//! Frames and calls over a connection.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{future::pending, time::Duration};

use bytes::Bytes;
use common::{LONG, Pair, day, run};
use ringfleet_link::{
    Alpn, CallError, CloseReason, Endpoint, Expect, FRAME_BYTES_MAX, FrameError, LanesError, LinkConfig, Role, RoleSet,
    code,
};

/// The frame of a number: its size and content follow from it.
fn frame(number: u32, buffer: &mut Vec<u8>) -> &[u8] {
    let bytes = match number % 7 {
        0 => 0,
        1 => 3,
        2 => 64,
        3 => 5_000,
        _ => 1_000,
    };
    buffer.clear();
    buffer.extend((0..bytes).map(|at| (number.wrapping_mul(31).wrapping_add(at)) as u8));
    buffer
}

async fn send_numbers(mut send: ringfleet_link::FrameSender, count: u32) {
    let mut buffer = Vec::new();
    for number in 0..count {
        let frame = frame(number, &mut buffer);
        if number % 3 == 0 {
            send.queue_bytes(Bytes::copy_from_slice(frame)).unwrap();
        } else {
            let (a, b) = frame.split_at(frame.len() / 2);
            send.queue_parts(&[a, b]).unwrap();
        }
        if send.queued_bytes() > 300_000 {
            send.flush().await.unwrap();
        }
    }
    send.finish().await.unwrap();
    send.acknowledged().await.unwrap();
}

async fn expect_numbers(recv: &mut ringfleet_link::FrameReceiver, count: u32) {
    let mut buffer = Vec::new();
    for number in 0..count {
        let received = recv.recv().await.unwrap().expect("ended early");
        assert!(received == frame(number, &mut buffer), "frame {number} is not the one sent");
    }
    assert_eq!(recv.recv().await, Ok(None));
}

#[test]
fn many_frames_of_all_sizes_arrive_in_order_both_ways_at_once() {
    run(async |env| {
        const COUNT: u32 = 20_000;
        let mut pair = Pair::new(&env);
        let (_endpoint, near, far) = pair.connect().await;
        let (send, mut recv) = near.open_stream().await.unwrap();
        let there = env.spawn("there", send_numbers(send, COUNT));
        let (back, mut arrived) = far.accept_stream().await.unwrap();
        let back = env.spawn("back", send_numbers(back, COUNT));
        let receiver = env.spawn("receiver", async move { expect_numbers(&mut arrived, COUNT).await });
        expect_numbers(&mut recv, COUNT).await;
        for task in [there, back, receiver] {
            assert_eq!(task.await, ringfleet_env::TaskEnd::Completed);
        }
        assert!(near.stats().sent_bytes > u64::from(COUNT) * 1000 / 2);
    });
}

#[test]
fn waits_that_are_dropped_half_way_lose_and_repeat_nothing() {
    run(async |env| {
        const COUNT: u32 = 3_000;
        let mut pair = Pair::new(&env);
        let (_endpoint, near, far) = pair.connect().await;
        let (mut send, _) = near.open_stream().await.unwrap();
        let inner = env.clone();
        let sender = env.spawn("sender", async move {
            let mut buffer = Vec::new();
            for number in 0..COUNT {
                send.queue(frame(number, &mut buffer)).unwrap();
                if number % 50 == 0 {
                    // A deadline in the past: one poll, then the wait is dropped.
                    while inner.timeout(Duration::ZERO, send.flush()).await.is_err() {
                        inner.sleep(Duration::from_micros(100)).await;
                    }
                }
            }
            send.finish().await.unwrap();
            send.acknowledged().await.unwrap();
        });
        let (_, mut recv) = far.accept_stream().await.unwrap();
        let mut buffer = Vec::new();
        for number in 0..COUNT {
            let received = loop {
                match env.timeout(Duration::ZERO, recv.recv()).await {
                    Ok(received) => break received.unwrap().unwrap(),
                    Err(_) => env.sleep(Duration::from_micros(100)).await,
                }
            };
            assert!(received == frame(number, &mut buffer), "frame {number}");
        }
        assert_eq!(recv.recv().await, Ok(None));
        assert_eq!(sender.await, ringfleet_env::TaskEnd::Completed);
    });
}

#[test]
fn the_largest_frame_passes_and_a_larger_one_is_refused_by_both_ends() {
    run(async |env| {
        let mut pair = Pair::new(&env);
        let (_endpoint, near, far) = pair.connect().await;
        let (mut send, _recv) = near.open_stream().await.unwrap();
        let large = vec![7; FRAME_BYTES_MAX + 1];
        let bytes = large.len();
        assert_eq!(send.send(&large).await, Err(FrameError::TooLarge { bytes }));
        assert_eq!(send.queue_bytes(large.clone().into()), Err(FrameError::TooLarge { bytes }));
        // Nothing of the refused ones was sent.
        let receive = async {
            let (_, mut recv) = far.accept_stream().await.unwrap();
            let frame = recv.recv().await.unwrap().unwrap();
            (recv, frame)
        };
        let (sent, (mut recv, frame)) = tokio::join!(send.send(&large[1..]), receive);
        assert_eq!(sent, Ok(()));
        assert_eq!(frame.len(), FRAME_BYTES_MAX);
        assert_eq!(recv.buffered(), Ok(None));
    });
}

#[test]
fn a_header_that_announces_too_much_is_refused_before_its_bytes_come() {
    run(async |env| {
        let mut pair = Pair::new(&env);
        let identity = pair.identity(Role::Client, "app");
        let addr = pair.server.local_addr().unwrap();
        let (_endpoint, near) = common::hostile(&identity, Alpn::Data, addr).await;
        let far = pair.listener.accept().await.unwrap();
        for bytes in [FRAME_BYTES_MAX + 1, u32::MAX as usize] {
            let (mut send, _recv) = near.open_bi().await.unwrap();
            send.write_all(&(bytes as u32).to_le_bytes()).await.unwrap();
            let (_send, mut recv) = far.accept_stream().await.unwrap();
            assert_eq!(recv.recv().await, Err(FrameError::TooLarge { bytes }));
            assert_eq!(send.stopped().await.unwrap().unwrap(), quinn::VarInt::from_u32(u32::MAX));
        }
    });
}

#[test]
fn a_stream_that_ends_inside_a_frame_is_an_error() {
    run(async |env| {
        let mut pair = Pair::new(&env);
        let (_endpoint, near, far) = pair.connect().await;
        let (mut send, _recv) = near.open_stream().await.unwrap();
        // The peer reads nothing, so its window takes only a part of this.
        for _ in 0..20 {
            send.queue(&vec![1; FRAME_BYTES_MAX]).unwrap();
        }
        assert!(env.timeout(Duration::from_millis(300), send.flush()).await.is_err(), "the window is full");
        drop(send);
        let (_, mut recv) = far.accept_stream().await.unwrap();
        let end = loop {
            match recv.recv().await {
                Ok(Some(_)) => {}
                other => break other,
            }
        };
        assert_eq!(end, Err(FrameError::Truncated));
    });
}

#[test]
fn closing_gives_code_and_reason_to_every_wait_at_the_other_side() {
    run(async |env| {
        let mut pair = Pair::new(&env);
        let (_endpoint, near, far) = pair.connect().await;
        let (mut send, mut recv) = near.open_stream().await.unwrap();
        send.send(b"hello").await.unwrap();
        let (_far_send, mut far_recv) = far.accept_stream().await.unwrap();
        assert_eq!(far_recv.recv().await.unwrap().as_deref(), Some(&b"hello"[..]));
        assert_eq!(near.close_reason(), None);

        far.close(code::USER_MIN + 1, "moved\nelsewhere");
        let reason = CloseReason::Peer { code: 17, reason: "moved elsewhere".to_owned() };
        assert_eq!(near.closed().await, reason);
        assert_eq!(recv.recv().await, Err(FrameError::Lost(reason.clone())));
        assert_eq!(send.send(b"more").await, Err(FrameError::Lost(reason.clone())));
        assert_eq!(near.open_stream().await.unwrap_err(), reason);
        assert_eq!(near.call(&b"x"[..], LONG).await, Err(CallError::Unsent(reason)));
        assert_eq!(far.close_reason(), Some(CloseReason::Local));
    });
}

#[test]
fn a_stream_given_up_by_its_reader_tells_the_writer() {
    run(async |env| {
        let mut pair = Pair::new(&env);
        let (_endpoint, near, far) = pair.connect().await;
        let (mut send, _recv) = near.open_stream().await.unwrap();
        send.send(b"hello").await.unwrap();
        let (_send, mut recv) = far.accept_stream().await.unwrap();
        recv.stop(20);
        let error = loop {
            match send.send(b"hello").await {
                Ok(()) => env.sleep(Duration::from_millis(1)).await,
                Err(e) => break e,
            }
        };
        assert_eq!(error, FrameError::Stopped { code: 20 });
        // The connection lives on.
        near.open_stream().await.unwrap();
    });
}

#[test]
fn a_silent_peer_is_noticed_by_the_idle_timeout() {
    run(async |env| {
        let pair = Pair::new(&env);
        let config = LinkConfig {
            idle_timeout: Duration::from_millis(1500),
            keep_alive: Duration::from_millis(150),
            ..LinkConfig::LOOPBACK
        };
        let identity = pair.identity(Role::Node, "peer");
        // The peer has a thread of its own, which is then lost without a word.
        let (addr, inner) = (pair.server.local_addr().unwrap(), env.clone());
        let config_there = config.clone();
        let peer = env
            .spawn_on_own_thread("peer", async move {
                let endpoint = Endpoint::bind(&inner, "127.0.0.1:0".parse().unwrap(), identity, config_there).unwrap();
                let _near = endpoint.connect(addr, Alpn::Data, Expect::role(Role::Node), LONG).await.unwrap();
                pending::<()>().await;
            })
            .unwrap();
        let mut pair = pair;
        let far = pair.listener.accept().await.unwrap();
        // Keep-alives hold it beyond the idle timeout.
        assert!(env.timeout(config.idle_timeout * 2, far.closed()).await.is_err());
        peer.abort();
        assert_eq!(peer.await, ringfleet_env::TaskEnd::Aborted);
        let reason = far.closed().await;
        assert!(matches!(reason, CloseReason::TimedOut | CloseReason::Peer { .. }), "{reason:?}");
    });
}

#[test]
fn calls_are_answered_each_on_its_own() {
    run(async |env| {
        let mut pair = Pair::new(&env);
        let (_endpoint, near, far) = pair.connect().await;
        let inner = env.clone();
        let server = env.spawn("server", async move {
            let reason = far
                .serve_calls(move |request: Bytes| {
                    let env = inner.clone();
                    async move {
                        // Later calls overtake earlier ones.
                        let number = request[0];
                        env.sleep(Duration::from_millis(u64::from(50 - number))).await;
                        Bytes::from(vec![number; usize::from(number) * 1000])
                    }
                })
                .await;
            assert!(matches!(reason, CloseReason::Peer { code: 0, .. }), "{reason:?}");
        });
        let calls: Vec<_> = (0..50_u8)
            .map(|number| {
                let near = near.clone();
                env.spawn("call", async move {
                    let reply = near.call(vec![number], LONG).await.unwrap();
                    assert_eq!(reply, vec![number; usize::from(number) * 1000]);
                })
            })
            .collect();
        for call in calls {
            assert_eq!(call.await, ringfleet_env::TaskEnd::Completed);
        }
        near.close(code::NORMAL, "done");
        assert_eq!(server.await, ringfleet_env::TaskEnd::Completed);
    });
}

#[test]
fn a_call_to_a_silent_peer_ends_at_its_deadline() {
    run(async |env| {
        let mut pair = Pair::new(&env);
        let (_endpoint, near, far) = pair.connect().await;
        let server = env.spawn("server", async move {
            far.serve_calls(|_| pending::<Bytes>()).await;
        });
        let limit = Duration::from_millis(100);
        let start = env.now();
        let end = near.call(&b"anybody?"[..], limit).await;
        assert_eq!(end, Err(CallError::Deadline { limit, sent: true }));
        assert!(!end.unwrap_err().is_unsent());
        let took = env.now() - start;
        assert!(took >= limit && took < LONG, "{took:?}");
        assert_eq!(
            near.call(vec![0; FRAME_BYTES_MAX + 1], LONG).await,
            Err(CallError::RequestTooLarge { bytes: FRAME_BYTES_MAX + 1 })
        );
        server.abort();
    });
}

#[test]
fn a_call_beyond_the_limit_of_streams_waits_and_is_known_to_be_unsent() {
    run(async |env| {
        let authority = common::ca(&env);
        let config = LinkConfig { streams_max: 2, ..LinkConfig::LOOPBACK };
        let any = "127.0.0.1:0".parse().unwrap();
        let server =
            Endpoint::bind(&env, any, authority.issue(Role::Node, "server", day(&env)).unwrap(), config).unwrap();
        let mut listener = server.listen(&[(Alpn::Control, RoleSet::ALL)]).unwrap();
        let client = common::endpoint(&env, authority.issue(Role::Node, "client", day(&env)).unwrap());
        let addr = server.local_addr().unwrap();
        let near = client.connect(addr, Alpn::Control, Expect::role(Role::Node), LONG).await.unwrap();
        let _far = listener.accept().await.unwrap();
        let (mut first, _r1) = near.open_stream().await.unwrap();
        let (mut second, _r2) = near.open_stream().await.unwrap();
        first.send(b"1").await.unwrap();
        second.send(b"2").await.unwrap();
        let limit = Duration::from_millis(100);
        let end = near.call(&b"3"[..], limit).await.unwrap_err();
        assert_eq!(end, CallError::Deadline { limit, sent: false });
        assert!(end.is_unsent());
    });
}

#[test]
fn a_listener_that_panicked_in_a_handler_gives_no_reply_instead_of_silence() {
    run(async |env| {
        let mut pair = Pair::new(&env);
        let (_endpoint, near, far) = pair.connect().await;
        env.spawn("server", async move {
            far.serve_calls(|request: Bytes| async move {
                assert!(request.is_empty(), "on purpose");
                request
            })
            .await;
        })
        .detach();
        assert_eq!(near.call(&b"x"[..], LONG).await, Err(CallError::NoReply));
        assert_eq!(near.call(Bytes::new(), LONG).await, Ok(Bytes::new()));
    });
}

#[test]
fn a_stream_that_always_has_data_starves_no_other() {
    run(async |env| {
        let mut pair = Pair::new(&env);
        let (_endpoint, near, far) = pair.connect().await;
        let (mut send, _recv) = near.open_stream().await.unwrap();
        let busy = env.spawn("busy", async move {
            let frame = vec![1; 16 * 1024];
            while send.send(&frame).await.is_ok() {}
        });
        let (_send, mut recv) = far.accept_stream().await.unwrap();
        let reader = env.spawn("reader", async move { while let Ok(Some(_)) = recv.recv().await {} });
        let server = env.spawn("server", async move {
            far.serve_calls(|request| async move { request }).await;
        });
        for _ in 0..20 {
            assert_eq!(near.call(&b"x"[..], LONG).await, Ok(Bytes::from_static(b"x")));
        }
        assert!(near.stats().sent_bytes > 20 * 16 * 1024, "the link was busy meanwhile");
        for task in [busy, reader, server] {
            task.abort();
        }
    });
}

#[test]
fn a_full_data_lane_leaves_the_answers_lane_open() {
    /// Several fill the windows.
    const DATA_FRAME_BYTES: usize = 1 << 20;
    run(async |env| {
        let mut pair = Pair::new(&env);
        let (_endpoint, near, far) = pair.connect().await;
        let opened = env.spawn("far", {
            let near = near.clone();
            let inner = env.clone();
            async move {
                let mut lanes = near.open_lanes(LONG).await.unwrap();
                // Nobody reads the data lane: its window fills, and writing waits.
                let frame = vec![1; DATA_FRAME_BYTES];
                let full = loop {
                    let sent = inner.timeout(Duration::from_millis(300), lanes.data_out.send(&frame)).await;
                    if sent.is_err() {
                        break lanes.data_out.queued_bytes();
                    }
                };
                assert!(full > 0);
                for number in 0..100_u32 {
                    lanes.answers_out.send(&number.to_le_bytes()).await.unwrap();
                    let back = lanes.answers_in.recv().await.unwrap().unwrap();
                    assert_eq!(back[..], number.to_le_bytes());
                }
                lanes.answers_out.finish().await.unwrap();
                lanes.answers_out.acknowledged().await.unwrap();
            }
        });
        let mut lanes = far.accept_lanes(LONG).await.unwrap();
        while let Some(frame) = lanes.answers_in.recv().await.unwrap() {
            lanes.answers_out.send(&frame).await.unwrap();
        }
        // What was sent into the full lane is there when it is read.
        assert_eq!(lanes.data_in.recv().await.unwrap().unwrap().len(), DATA_FRAME_BYTES);
        assert_eq!(opened.await, ringfleet_env::TaskEnd::Completed);
        assert!(near.close_reason().is_none());
    });
}

#[test]
fn streams_that_are_no_lanes_are_refused() {
    run(async |env| {
        let mut pair = Pair::new(&env);
        let (_endpoint, near, far) = pair.connect().await;
        let (mut send, _recv) = near.open_stream().await.unwrap();
        send.send(b"hello").await.unwrap();
        assert_eq!(far.accept_lanes(LONG).await.unwrap_err(), LanesError::NotLanes);
        let limit = Duration::from_millis(50);
        assert_eq!(far.accept_lanes(limit).await.unwrap_err(), LanesError::Deadline { limit });
    });
}
