//! How an idle worker sleeps, and the driver of a device, and why no wake-up is lost (C9).
//!
//! The sleeper (here a worker) announces that it will sleep, then looks at its inputs once more, and sleeps only if they are still
//! empty. Whoever gives it something publishes first and then looks whether it sleeps:
//!
//! ```text
//!   worker                                producer
//!   W1  asleep = 1                        P1  publish (tail, lease, stop)
//!   W2  fence(SeqCst)                     P2  fence(SeqCst)
//!   W3  look at all inputs                P3  look at asleep; if 1, swap it to 0 and unpark
//!   W4  if they are empty: park
//! ```
//!
//! The two fences are totally ordered. If W2 comes first, P3 sees the 1 of W1 (or a later 0, which the worker itself
//! wrote when it woke, and then it looks at its inputs anyway) and unparks. If P2 comes first, W3 sees what P1
//! published, and the worker does not sleep. A wake-up between W3 and W4 is kept, by the thread's token or by the executor of a task,
//! so the park returns at once. Hence "published, not seen and asleep" cannot last.
//!
//! A park has a limit all the same: timers and the end of the lease are no inputs, and the parking clock stands
//! still in a suspended machine while the device's clock does not.

use std::{
    sync::atomic::{AtomicU32, Ordering, fence},
    sync::{Mutex, PoisonError},
    task::Waker,
};

/// The sleeping place of one worker, or of the driver.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Parker {
    asleep: AtomicU32,
    /// Locked by whoever lies down with another waker than last time, and by the one who has taken the `asleep` back.
    waker: Mutex<Option<Waker>>,
}

impl Parker {
    /// Names who will sleep here. Before that, nobody does and waking is a no-op.
    pub(crate) fn settle(&self, waker: &Waker) {
        let mut place = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *place {
            Some(known) => known.clone_from(waker),
            None => *place = Some(waker.clone()),
        }
    }

    /// W1 and W2. The caller looks at its inputs next and then sleeps, or calls [`Parker::stay_up`].
    pub(crate) fn lie_down(&self) {
        // Relaxed: ordered by the fence that follows.
        self.asleep.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// W3 found something, or W4 is over: woken, or by its limit, or for no reason.
    pub(crate) fn stay_up(&self) {
        self.asleep.store(0, Ordering::Relaxed);
    }

    /// Whether somebody sleeps here, or is about to, who has not been woken.
    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed) == 1
    }

    /// P3, after [`publish_fence`].
    #[inline]
    pub(crate) fn wake(&self) {
        if self.asleep.load(Ordering::Relaxed) == 1 {
            self.rouse();
        }
    }

    #[cold]
    fn rouse(&self) {
        if self.asleep.swap(0, Ordering::Relaxed) == 1
            && let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner)
        {
            waker.wake_by_ref();
        }
    }
}

/// P2: between publishing and looking who sleeps. One fence serves all that was published before it.
#[inline]
pub(crate) fn publish_fence() {
    fence(Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::thread;
    use std::time::Duration;

    use ringfleet_env::thread_waker;

    use super::*;

    #[test]
    fn two_threads_hand_a_number_back_and_forth_without_a_lost_wake_up() {
        const TURNS: u64 = 20_000;
        let places = Arc::new([Parker::default(), Parker::default()]);
        let turn = Arc::new(AtomicU64::new(0));
        let play = |me: u64, places: Arc<[Parker; 2]>, turn: Arc<AtomicU64>| {
            thread::spawn(move || {
                let mine = &places[me as usize];
                mine.settle(&thread_waker());
                let mut long_parks = 0;
                loop {
                    let seen = turn.load(Ordering::Acquire);
                    if seen >= TURNS {
                        break;
                    }
                    if seen % 2 == me {
                        turn.store(seen + 1, Ordering::Release);
                        publish_fence();
                        places[1 - me as usize].wake();
                        continue;
                    }
                    mine.lie_down();
                    if turn.load(Ordering::Acquire) != seen {
                        mine.stay_up();
                        continue;
                    }
                    // Far longer than the test: a lost wake-up hangs here and is counted.
                    thread::park_timeout(Duration::from_secs(5));
                    mine.stay_up();
                    if turn.load(Ordering::Acquire) == seen {
                        long_parks += 1;
                    }
                }
                long_parks
            })
        };
        let first = play(0, places.clone(), turn.clone());
        let second = play(1, places.clone(), turn.clone());
        // A park may return for no reason, which is no lost wake-up; thousands would be.
        assert!(first.join().expect("player") < 100);
        assert!(second.join().expect("player") < 100);
        assert_eq!(turn.load(Ordering::Acquire), TURNS);
    }
}
