//! What `Env::tokio` promises.
#![cfg(feature = "tokio")]

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ringfleet_env::{Elapsed, Env, Instant, ManualClock, TaskEnd, UdpBinding};

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(20);

/// Runs a test body on one thread, with a deadline.
fn run<T>(body: impl AsyncFnOnce(Env) -> T) -> T {
    Env::run_tokio(1, async |env: Env| {
        let guard = env.clone();
        guard.timeout(LONG, body(env)).await.expect("the test hangs")
    })
    .expect("no runtime")
}

#[test]
fn sleeping_takes_its_time_and_a_past_deadline_none() {
    run(async |env| {
        let start = env.now();
        env.sleep(SHORT).await;
        assert!(env.now() - start >= SHORT);
        env.sleep_until(Instant::ZERO).await;
    });
}

#[test]
fn a_timeout_ends_what_does_not_end_and_lets_through_what_is_ready() {
    run(async |env| {
        assert_eq!(env.timeout(SHORT, pending::<()>()).await, Err(Elapsed));
        assert_eq!(env.timeout(LONG, async { 7 }).await, Ok(7));
        assert_eq!(env.timeout_at(Instant::ZERO, async { 7 }).await, Ok(7));
    });
}

#[test]
fn a_deadline_centuries_away_is_no_panic() {
    run(async |env| {
        let waited = env.timeout(SHORT, env.sleep_until(Instant::FAR_FUTURE)).await;
        assert_eq!(waited, Err(Elapsed));
    });
}

#[test]
fn a_timer_can_be_set_again_after_it_fired() {
    run(async |env| {
        let mut timer = env.timer(env.now());
        timer.as_mut().await;
        let again = env.now() + SHORT;
        timer.as_mut().reset(again);
        timer.as_mut().await;
        assert!(env.now() >= again);
    });
}

#[test]
fn an_interval_keeps_its_grid_and_skips_what_it_missed() {
    run(async |env| {
        let mut interval = env.interval(SHORT);
        let first = interval.tick().await;
        let second = interval.tick().await;
        assert_eq!(second - first, SHORT);
        env.sleep(SHORT * 5).await;
        let late = interval.tick().await;
        let next = interval.tick().await;
        assert!(next > late + SHORT * 3, "missed ticks are skipped");
        assert_eq!((next - first).as_nanos() % SHORT.as_nanos(), 0, "the grid holds");
    });
}

#[test]
fn a_task_completes_is_aborted_or_panics_and_says_which() {
    run(async |env| {
        assert_eq!(env.spawn("completes", async {}).await, TaskEnd::Completed);
        let task = env.spawn("waits", pending());
        assert!(!task.is_finished());
        task.abort();
        assert_eq!(task.await, TaskEnd::Aborted);
        let task = env.spawn("panics", async { panic!("on purpose") });
        assert_eq!(task.name(), "panics");
        assert_eq!(task.await, TaskEnd::Panicked);
    });
}

/// Sets a flag when dropped.
struct Flag(Arc<AtomicBool>);
impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_task_goes_on_without_its_handle_unless_the_handle_is_told_to_abort_it() {
    run(async |env| {
        let (dropped, detached) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let flag = Flag(dropped.clone());
        let owned = env
            .spawn("owned", async move {
                let _flag = flag;
                pending::<()>().await;
            })
            .abort_on_drop();
        let flag = Flag(detached.clone());
        env.spawn("detached", async move {
            let _flag = flag;
            pending::<()>().await;
        })
        .detach();
        drop(owned);
        while !dropped.load(Ordering::SeqCst) {
            env.sleep(Duration::from_millis(1)).await;
        }
        assert!(!detached.load(Ordering::SeqCst));
    });
}

#[test]
fn a_thread_of_its_own_is_not_held_up_by_a_blocked_one() {
    run(async |env| {
        let (done, ended) = std::sync::mpsc::channel();
        let inner = env.clone();
        let task = env
            .spawn_on_own_thread("lease", async move {
                inner.sleep(Duration::from_millis(1)).await;
                let name = std::thread::current().name().map(str::to_owned);
                inner.spawn("inside", async move { done.send(name).unwrap() }).await;
            })
            .unwrap();
        // Blocks the thread of this runtime: only another thread can send.
        let name = ended.recv_timeout(LONG).unwrap();
        assert_eq!(name.as_deref(), Some("lease"));
        assert_eq!(task.await, TaskEnd::Completed);
        let task = env.spawn_on_own_thread("waits", pending()).unwrap();
        task.abort();
        assert_eq!(task.await, TaskEnd::Aborted);
    });
}

#[test]
fn blocking_work_gives_its_result_back() {
    run(async |env| {
        let disk = env.disk();
        let there = env.run_blocking(move || disk.exists("/".as_ref())).await;
        assert!(there.unwrap());
    });
}

#[test]
fn a_panic_in_blocking_work_reaches_the_caller_instead_of_a_hang() {
    run(async |env| {
        let inner = env.clone();
        let task = env.spawn("asks", async move {
            inner.run_blocking(|| panic!("on purpose")).await;
        });
        assert_eq!(task.await, TaskEnd::Panicked);
    });
}

#[test]
fn threads_are_named_and_joined() {
    let env = Env::tokio();
    let thread = env.spawn_thread("worker 3", || assert_eq!(std::thread::current().name(), Some("worker 3"))).unwrap();
    assert_eq!(thread.join(), TaskEnd::Completed);
    let thread = env.spawn_thread("bad", || panic!("on purpose")).unwrap();
    assert_eq!(thread.join(), TaskEnd::Panicked);
}

#[test]
fn a_taken_port_is_an_error_of_its_kind() {
    run(async |env| {
        let Ok(UdpBinding::Os(first)) = env.bind_udp("127.0.0.1:0".parse().unwrap()) else { panic!("no socket") };
        let taken = env.bind_udp(first.local_addr().unwrap()).unwrap_err();
        assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
        let page = env.listen_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let taken = env.listen_tcp(page.local_addr().unwrap()).unwrap_err();
        assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
        assert_eq!(env.resolve("127.0.0.1:7400").await.unwrap(), vec!["127.0.0.1:7400".parse().unwrap()]);
    });
}

#[test]
fn random_numbers_stay_below_their_bound_and_reach_all_of_it() {
    let env = Env::tokio();
    let mut seen = [false; 5];
    for _ in 0..1000 {
        seen[env.random_below(5) as usize] = true;
    }
    assert_eq!(seen, [true; 5]);
    assert_ne!(env.random_u64(), env.random_u64());
}

#[test]
fn one_part_can_be_replaced() {
    let clock = Arc::new(ManualClock::new(5, 6));
    let env = Env::tokio().with_clock(clock.clone());
    clock.advance(Duration::from_millis(1));
    assert_eq!((env.monotonic_ns(), env.wall_ms()), (1_000_005, 7));
}
