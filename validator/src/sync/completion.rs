// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! `Completion`: something that is waited for until it happens, watched.
//!
//! A wait under a lock that is also held where the event happens can last for ever, with nobody at fault as far as locks
//! go: the waiter holds the lock, and who should wake it waits for the lock. The validator sees the wait as the
//! acquisition of the event, and the event as held by who lets it happen until he has the locks that he holds then.
//!
//! Kernel counterpart: `kernel/sched/completion.c`, which lockdep does not look at (`lockdep-facts` §6.2, case X14).
//!
//! What it cannot see: a lock that is taken *and released* on the way to the event; a wait that nobody ends.

use core::fmt;
use std::time::{Duration, Instant};

use crate::hook::{self, LockClass, LockMap};

/// Once [complete](Self::complete), one waiter goes on; once [complete for all](Self::complete_all), everybody does.
///
/// ```
/// use lockdep::sync::Completion;
///
/// static LOADED: Completion = Completion::new();
///
/// let loader = lockdep::thread::spawn(|| LOADED.complete());
/// LOADED.wait();
/// loader.join().unwrap();
/// ```
pub struct Completion {
    map: LockMap,
    /// How many waiters may go on; the largest number stands for all.
    done: parking_lot::Mutex<u32>,
    happened: parking_lot::Condvar,
}

impl Completion {
    /// One that has not happened yet. Its class is the place of the call.
    #[must_use]
    #[track_caller]
    pub const fn new() -> Self {
        Self::of(LockMap::here(&"Completion"))
    }

    /// One of a class that several share.
    #[must_use]
    pub const fn with_class(class: &'static LockClass) -> Self {
        Self::of(LockMap::new(class))
    }

    const fn of(map: LockMap) -> Self {
        Completion { map, done: parking_lot::Mutex::new(0), happened: parking_lot::Condvar::new() }
    }

    /// Waits until it happens, however long that takes.
    ///
    /// # Panics
    /// If the wait is a finding and the validator is set to panic on it.
    #[track_caller]
    pub fn wait(&self) {
        hook::wait(&self.map);
        let mut done = self.done.lock();
        self.happened.wait_while(&mut done, |done| *done == 0);
        Self::take(&mut done);
    }

    /// Waits until it happens, but not longer than this; false if it did not. Such a wait ends by itself, so no order
    /// is learned from it.
    pub fn wait_for(&self, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        let mut done = self.done.lock();
        while *done == 0 {
            let late = match deadline {
                Some(deadline) => self.happened.wait_until(&mut done, deadline).timed_out(),
                None => {
                    self.happened.wait(&mut done);
                    false
                }
            };
            if late && *done == 0 {
                return false;
            }
        }
        Self::take(&mut done);
        true
    }

    fn take(done: &mut u32) {
        if *done != u32::MAX {
            *done -= 1;
        }
    }

    /// True if a wait would return at once.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        *self.done.lock() > 0
    }

    /// It has happened: one waiter goes on, now or when it comes.
    ///
    /// # Panics
    /// If that it happens here is a finding and the validator is set to panic on it. The waiter goes on all the same.
    #[track_caller]
    pub fn complete(&self) {
        let mut done = self.done.lock();
        *done = done.saturating_add(1);
        drop(done);
        self.happened.notify_one();
        hook::complete(&self.map);
    }

    /// It has happened for everybody, now and later, until it is [started anew](Self::restart).
    ///
    /// # Panics
    /// As [`complete`](Self::complete).
    #[track_caller]
    pub fn complete_all(&self) {
        *self.done.lock() = u32::MAX;
        self.happened.notify_all();
        hook::complete(&self.map);
    }

    /// It has not happened yet (again).
    pub fn restart(&self) {
        *self.done.lock() = 0;
    }
}

impl Default for Completion {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completion").field("complete", &self.is_complete()).finish_non_exhaustive()
    }
}
