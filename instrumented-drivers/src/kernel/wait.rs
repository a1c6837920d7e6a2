// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Sleeping until a condition holds: wait queues with `wait_event`, completions.
//!
//! The validator sees the queue's spinlock and nothing else: as in the kernel, what a sleeper waits for is not a
//! lock to it.
//!
//! Kernel counterpart: `kernel/sched/wait.c`, `kernel/sched/completion.c`.

use lockdep::{LockClass, WaitType};
use parking_lot::{Condvar, Mutex};

use super::cell::KCell;
use super::locking::SpinLock;

/// Those who sleep. Whoever may have made a condition true wakes them all; each looks for itself.
#[derive(Default)]
pub(crate) struct Sleepers {
    wakeups: Mutex<u64>,
    changed: Condvar,
}

impl Sleepers {
    pub(crate) fn wake_all(&self) {
        *self.wakeups.lock() += 1;
        self.changed.notify_all();
    }

    /// Sleeps until `done`, which is asked at first and after each wake-up.
    pub(crate) fn wait_until(&self, mut done: impl FnMut() -> bool) {
        loop {
            let seen = *self.wakeups.lock();
            if done() {
                return;
            }
            let mut wakeups = self.wakeups.lock();
            while *wakeups == seen {
                self.changed.wait(&mut wakeups);
            }
        }
    }
}

/// `wait_queue_head_t`, for `wait_event`.
pub(crate) struct WaitQueue {
    lock: SpinLock,
    sleepers: Sleepers,
}

impl WaitQueue {
    /// A queue whose lock is of this class.
    pub(crate) fn new(class: &'static LockClass) -> Self {
        WaitQueue { lock: SpinLock::new(class), sleepers: Sleepers::default() }
    }

    /// `wake_up`.
    pub(crate) fn wake_up(&self) {
        let flags = self.lock.lock_irqsave();
        self.sleepers.wake_all();
        self.lock.unlock_irqrestore(flags);
    }

    /// `wait_event`.
    pub(crate) fn wait_event(&self, mut condition: impl FnMut() -> bool) {
        if condition() {
            return;
        }
        self.sleepers.wait_until(|| {
            // Each round queues the task.
            let flags = self.lock.lock_irqsave();
            self.lock.unlock_irqrestore(flags);
            condition()
        });
    }
}

static WAIT: LockClass = LockClass::new("&x->wait").strict().waits(WaitType::Spin);

/// `struct completion`.
pub(crate) struct Completion {
    wait_lock: SpinLock,
    /// How many waiters may pass; under `wait_lock`.
    done: KCell<u32>,
    sleepers: Sleepers,
}

/// `complete_all` lets everybody pass for good.
const ALL: u32 = u32::MAX / 2;

impl Completion {
    /// `init_completion`.
    pub(crate) fn new() -> Self {
        Completion {
            wait_lock: SpinLock::new(&WAIT),
            done: KCell::new("a completion", 0),
            sleepers: Sleepers::default(),
        }
    }

    /// `reinit_completion`. Takes no lock; nobody may wait.
    pub(crate) fn reinit(&self) {
        self.done.set(0);
    }

    /// `complete`.
    pub(crate) fn complete(&self) {
        self.complete_with(|done| done.saturating_add(1).min(ALL));
    }

    /// `complete_all`.
    pub(crate) fn complete_all(&self) {
        self.complete_with(|_| ALL);
    }

    #[track_caller]
    fn complete_with(&self, new: impl FnOnce(u32) -> u32) {
        let flags = self.wait_lock.lock_irqsave();
        self.done.with(|done| *done = new(*done));
        self.sleepers.wake_all();
        self.wait_lock.unlock_irqrestore(flags);
    }

    /// `wait_for_completion`.
    pub(crate) fn wait(&self) {
        self.wait_unless(|| false);
    }

    /// `wait_for_completion_timeout`, where `elapsed` says whether the time is up; false if it is. Whoever makes time
    /// pass must [`wake`](Self::time_passes) the waiter.
    pub(crate) fn wait_unless(&self, mut elapsed: impl FnMut() -> bool) -> bool {
        let mut passed = false;
        self.sleepers.wait_until(|| {
            self.wait_lock.lock_irq();
            passed = self.done.with(|done| {
                let open = *done > 0;
                *done -= u32::from(open && *done < ALL);
                open
            });
            self.wait_lock.unlock_irq();
            passed || elapsed()
        });
        passed
    }

    /// Lets those who wait look whether their time is up.
    pub(crate) fn time_passes(&self) {
        self.sleepers.wake_all();
    }
}

super::opaque_debug!(Sleepers, WaitQueue, Completion);

#[cfg(test)]
mod tests {
    use super::{Completion, Sleepers};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    #[test]
    fn each_complete_lets_one_waiter_pass_and_complete_all_everybody() {
        let completion = Arc::new(Completion::new());
        let passed = Arc::new(AtomicUsize::new(0));
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let (completion, passed) = (completion.clone(), passed.clone());
                lockdep::thread::spawn(move || {
                    completion.wait();
                    passed.fetch_add(1, Ordering::Relaxed);
                })
            })
            .collect();
        for _ in 0..3 {
            completion.complete();
        }
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_eq!(passed.load(Ordering::Relaxed), 3);
        assert!(!completion.wait_unless(|| true), "all three were used up");
        completion.complete_all();
        completion.wait();
        completion.wait();
        completion.reinit();
        assert!(!completion.wait_unless(|| true));
    }

    #[test]
    fn a_wake_up_between_the_look_and_the_sleep_is_not_lost() {
        let sleepers = Arc::new(Sleepers::default());
        let ready = Arc::new(AtomicBool::new(false));
        let (waker, flag) = (sleepers.clone(), ready.clone());
        let mut first = true;
        sleepers.wait_until(|| {
            if core::mem::take(&mut first) {
                flag.store(true, Ordering::Release);
                waker.wake_all();
                return false;
            }
            ready.load(Ordering::Acquire)
        });
    }
}
