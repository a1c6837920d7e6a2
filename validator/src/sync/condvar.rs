// SPDX-License-Identifier: MIT OR Apache-2.0
//! `Condvar`: parking_lot's, for the watched [`Mutex`](super::Mutex).
//!
//! A wait releases the mutex and takes it again at its end. Taking it again is an acquisition like any other: a
//! lock B that is held across the wait is then held while the mutex is waited for, so if B is taken under the
//! mutex anywhere (as it was here, if B was locked after the mutex), both can wait for each other.
//!
//! The hooks for the release and for the acquisition both run *before* the real wait. Nobody can tell the
//! difference, because a waiting thread does nothing else; and so a deadlock is reported before it happens, and a
//! panic leaves the caller with the guard and the locked mutex that it had.
//!
//! What it cannot see: a wait for a notification that never comes, or that needs a lock which the waiter holds.

use core::fmt;
use core::mem::ManuallyDrop;
use std::time::{Duration, Instant};

use lock_api::MutexGuard as Guard;
pub use parking_lot::WaitTimeoutResult;

use super::{MutexGuard, RawMutex};
use crate::hook::{self, Acquire};

/// A condition variable: [`parking_lot::Condvar`], watched.
///
/// As there, it works with one mutex at a time and panics if two are used at once.
///
/// ```
/// use lockdep::sync::{Condvar, Mutex};
///
/// static READY: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());
///
/// let setter = lockdep::thread::spawn(|| {
///     *READY.0.lock() = true;
///     READY.1.notify_all();
/// });
/// let mut ready = READY.0.lock();
/// READY.1.wait_while(&mut ready, |ready| !*ready);
/// drop(ready);
/// setter.join().unwrap();
/// ```
#[derive(Default)]
pub struct Condvar(parking_lot::Condvar);

impl Condvar {
    /// A condition variable that nobody waits for.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        Condvar(parking_lot::Condvar::new())
    }

    /// Wakes one waiting thread; false if there is none.
    #[inline]
    pub fn notify_one(&self) -> bool {
        self.0.notify_one()
    }

    /// Wakes all waiting threads, and says how many.
    #[inline]
    pub fn notify_all(&self) -> usize {
        self.0.notify_all()
    }

    /// Releases the mutex, waits for a notification, takes the mutex again. May return without one.
    ///
    /// # Panics
    /// If threads wait here with another mutex; or if taking the mutex again is a finding and the validator is set
    /// to panic on it.
    #[inline]
    #[track_caller]
    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        around_wait(guard, |real| self.0.wait(real));
    }

    /// [`wait`](Self::wait), but not longer than until `timeout`.
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    #[inline]
    #[track_caller]
    pub fn wait_until<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        timeout: Instant,
    ) -> WaitTimeoutResult {
        around_wait(guard, |real| self.0.wait_until(real, timeout))
    }

    /// [`wait`](Self::wait), but not longer than this.
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    #[inline]
    #[track_caller]
    pub fn wait_for<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, timeout: Duration) -> WaitTimeoutResult {
        around_wait(guard, |real| self.0.wait_for(real, timeout))
    }

    /// Waits until the condition is false. It is asked with the mutex held.
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    #[inline]
    #[track_caller]
    pub fn wait_while<T, F>(&self, guard: &mut MutexGuard<'_, T>, mut condition: F)
    where
        T: ?Sized,
        F: FnMut(&mut T) -> bool,
    {
        while condition(&mut **guard) {
            self.wait(guard);
        }
    }

    /// [`wait_while`](Self::wait_while), but not longer than until `timeout`.
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    #[inline]
    #[track_caller]
    pub fn wait_while_until<T, F>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        mut condition: F,
        timeout: Instant,
    ) -> WaitTimeoutResult
    where
        T: ?Sized,
        F: FnMut(&mut T) -> bool,
    {
        let mut result = not_timed_out();
        while !result.timed_out() && condition(&mut **guard) {
            result = self.wait_until(guard, timeout);
        }
        result
    }

    /// [`wait_while`](Self::wait_while), but not longer than this.
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    #[inline]
    #[track_caller]
    pub fn wait_while_for<T, F>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        condition: F,
        timeout: Duration,
    ) -> WaitTimeoutResult
    where
        T: ?Sized,
        F: FnMut(&mut T) -> bool,
    {
        if let Some(deadline) = Instant::now().checked_add(timeout) {
            return self.wait_while_until(guard, condition, deadline);
        }
        // Longer than the clock can tell.
        self.wait_while(guard, condition);
        not_timed_out()
    }
}

/// The result of a wait that was not needed; only parking_lot can make one.
fn not_timed_out() -> WaitTimeoutResult {
    let mutex = parking_lot::Mutex::new(());
    parking_lot::Condvar::new().wait_while_for(&mut mutex.lock(), |()| false, Duration::ZERO)
}

/// The hooks of a wait, and then the wait with a guard of the mutex that is inside the watched one.
#[inline]
#[track_caller]
fn around_wait<T: ?Sized, R>(
    guard: &mut MutexGuard<'_, T>,
    wait: impl FnOnce(&mut parking_lot::MutexGuard<'_, ()>) -> R,
) -> R {
    // SAFETY: nothing is unlocked through it that is not locked again.
    let raw: &RawMutex = unsafe { Guard::mutex(guard).raw() };
    let again = Acquire::WRITE.subclass(hook::held_subclass(&raw.map));
    hook::release_quietly(&raw.map);
    hook::acquire(&raw.map, again);
    // SAFETY: `guard` says that the mutex is locked by this thread. The second guard made here is never dropped,
    // and nobody uses the first one while it exists.
    let mut real = ManuallyDrop::new(unsafe { raw.inner.make_guard_unchecked() });
    wait(&mut real)
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
