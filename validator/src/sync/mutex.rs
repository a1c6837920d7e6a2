// SPDX-License-Identifier: MIT OR Apache-2.0
//! `Mutex`: parking_lot's, watched.

use core::fmt;
use core::ops::Deref;

use crate::hook::{self, Acquire, LockClass, LockMap};

/// The raw lock behind [`Mutex`].
pub struct RawMutex {
    map: LockMap,
    inner: parking_lot::Mutex<()>,
}

impl fmt::Debug for RawMutex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawMutex").finish_non_exhaustive()
    }
}

// SAFETY: exclusion is parking_lot's; the hooks change nothing about it.
unsafe impl lock_api::RawMutex for RawMutex {
    const INIT: Self = RawMutex { map: LockMap::here("Mutex"), inner: parking_lot::Mutex::new(()) };

    type GuardMarker = <parking_lot::RawMutex as lock_api::RawMutex>::GuardMarker;

    #[inline]
    #[track_caller]
    fn lock(&self) {
        hook::acquire(&self.map, Acquire::WRITE);
        // SAFETY: only used to lock; the unlock is in `unlock` below.
        unsafe { self.inner.raw() }.lock();
    }

    #[inline]
    #[track_caller]
    fn try_lock(&self) -> bool {
        // SAFETY: as in `lock`.
        let got = unsafe { self.inner.raw() }.try_lock();
        if got {
            hook::acquire(&self.map, Acquire::WRITE.trylock());
        }
        got
    }

    #[inline]
    unsafe fn unlock(&self) {
        hook::release_lenient(&self.map);
        // SAFETY: the caller holds the lock.
        let raw = unsafe { self.inner.raw() };
        // SAFETY: the caller holds the lock.
        unsafe { raw.unlock() };
    }
}

/// parking_lot's guard.
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, RawMutex, T>;

/// A mutual exclusion lock. Its class is the place of construction, or the one given.
#[repr(transparent)]
pub struct Mutex<T: ?Sized>(lock_api::Mutex<RawMutex, T>);

impl<T> Mutex<T> {
    /// A lock whose class is the place of this call.
    #[track_caller]
    pub const fn new(value: T) -> Self {
        let raw = RawMutex { map: LockMap::here("Mutex"), inner: parking_lot::Mutex::new(()) };
        Mutex(lock_api::Mutex::from_raw(raw, value))
    }

    /// A lock of this class.
    pub const fn with_class(class: &'static LockClass, value: T) -> Self {
        let raw = RawMutex { map: LockMap::new(class), inner: parking_lot::Mutex::new(()) };
        Mutex(lock_api::Mutex::from_raw(raw, value))
    }
}

impl<T: ?Sized> Deref for Mutex<T> {
    type Target = lock_api::Mutex<RawMutex, T>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
