// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Sleeping until a condition holds: wait queues with `wait_event`, completions.
//!
//! The validator sees the queue's spinlock and nothing else: as in the kernel, what a sleeper waits for is not a
//! lock to it.
//!
//! Kernel counterpart: `kernel/sched/wait.c`, `kernel/sched/completion.c`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use lockdep::{LockClass, WaitType};
use parking_lot::{Condvar, Mutex};

use super::errno::{Errno, Result};
use super::fault;
use super::kthread::Background;
use super::locking::SpinLock;

/// Those who sleep. Whoever may have made a condition true wakes them all; each looks for itself.
#[derive(Default)]
pub struct Sleepers {
    wakeups: Mutex<u64>,
    changed: Condvar,
}

impl Sleepers {
    /// A condition may have come true.
    pub fn wake_all(&self) {
        *self.wakeups.lock() += 1;
        self.changed.notify_all();
    }

    /// Sleeps until `done`, which is asked at first and after each wake-up.
    pub fn wait_until(&self, mut done: impl FnMut() -> bool) {
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
pub struct WaitQueue {
    lock: SpinLock,
    sleepers: Arc<Sleepers>,
}

impl WaitQueue {
    /// A queue whose lock is of this class. Time limits are over when this background is quiet.
    pub fn new(class: &'static LockClass, background: &Background) -> Self {
        let sleepers = Arc::default();
        background.watch(&sleepers);
        WaitQueue { lock: SpinLock::new(class), sleepers }
    }

    /// `wake_up`.
    pub fn wake_up(&self) {
        let flags = self.lock.lock_irqsave();
        self.sleepers.wake_all();
        self.lock.unlock_irqrestore(flags);
    }

    /// `wait_event_timeout`: true if the condition came true, false if the time was up first.
    pub fn wait_event_timeout(&self, background: &Background, condition: impl Fn() -> bool) -> bool {
        if condition() {
            return true;
        }
        self.sleepers.wait_until(|| {
            // Each round queues the task.
            let flags = self.lock.lock_irqsave();
            self.lock.unlock_irqrestore(flags);
            // In this order: what happened just before the time was up counts.
            let elapsed = background.is_quiet();
            condition() || elapsed
        });
        condition()
    }
}

static WAIT: LockClass = LockClass::new("&x->wait").strict().waits(WaitType::Spin);

/// `struct completion`.
pub struct Completion {
    wait_lock: SpinLock,
    /// How many waiters may pass; under `wait_lock`, except for `reinit`.
    done: AtomicU32,
    sleepers: Arc<Sleepers>,
}

/// `complete_all` lets everybody pass for good.
const ALL: u32 = u32::MAX / 2;

impl Completion {
    /// `init_completion`. Time limits are over when this background is quiet.
    pub fn new(background: &Background) -> Self {
        let sleepers = Arc::default();
        background.watch(&sleepers);
        Completion { wait_lock: SpinLock::new(&WAIT), done: AtomicU32::new(0), sleepers }
    }

    /// `reinit_completion`. Takes no lock; nobody may wait.
    pub fn reinit(&self) {
        self.done.store(0, Ordering::Release);
    }

    /// `complete`.
    pub fn complete(&self) {
        self.complete_with(|done| done.saturating_add(1).min(ALL));
    }

    /// `complete_all`.
    pub fn complete_all(&self) {
        self.complete_with(|_| ALL);
    }

    #[track_caller]
    fn complete_with(&self, new: impl FnOnce(u32) -> u32) {
        let flags = self.wait_lock.lock_irqsave();
        self.done.store(new(self.done.load(Ordering::Acquire)), Ordering::Release);
        self.sleepers.wake_all();
        self.wait_lock.unlock_irqrestore(flags);
    }

    /// `wait_for_completion`.
    pub fn wait(&self) {
        self.wait_unless(|| false);
    }

    /// `wait_for_completion_interruptible`.
    ///
    /// # Errors
    /// -EINTR if a signal was injected ([`fault`]).
    pub fn wait_interruptible(&self) -> Result {
        if fault::interrupted() {
            return Err(Errno::EINTR);
        }
        self.wait();
        Ok(())
    }

    /// `wait_for_completion_timeout`: false if the time was up first.
    pub fn wait_timeout(&self, background: &Background) -> bool {
        self.wait_unless(|| background.is_quiet())
    }

    #[track_caller]
    fn wait_unless(&self, elapsed: impl Fn() -> bool) -> bool {
        let mut passed = false;
        self.sleepers.wait_until(|| {
            let elapsed = elapsed();
            self.wait_lock.lock_irq();
            let done = self.done.load(Ordering::Acquire);
            passed = done > 0;
            if passed && done < ALL {
                self.done.store(done - 1, Ordering::Release);
            }
            self.wait_lock.unlock_irq();
            passed || elapsed
        });
        passed
    }
}

super::opaque_debug!(Sleepers, WaitQueue, Completion);

#[cfg(test)]
mod tests {
    use super::{Completion, Sleepers};
    use crate::kernel::kthread::Background;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    #[test]
    fn each_complete_lets_one_waiter_pass_and_complete_all_everybody() {
        let background = Background::default();
        let completion = Arc::new(Completion::new(&background));
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
        assert!(!completion.wait_timeout(&background), "all three were used up");
        completion.complete_all();
        completion.wait();
        completion.wait();
        completion.reinit();
        assert!(!completion.wait_timeout(&background));
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
