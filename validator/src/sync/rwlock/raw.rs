// SPDX-License-Identifier: MIT OR Apache-2.0
//! `RawRwLock`: what lock_api's guards call.
//!
//! As in [`mutex`](super::super::mutex): releases, conversions and the re-locking under a guard that lives on do
//! not unwind. An upgrade may: it waits, so it is judged before, and after a panic its guard is the upgradable one
//! it was.

use core::fmt;
use std::time::{Duration, Instant};

use lock_api::{RawRwLock as _, RawRwLockRecursive as _, RawRwLockUpgrade as _};

use super::super::tried;
use crate::event::Mode;
use crate::hook::{self, Acquire, LockClass, LockMap, OwnedMap};

/// The raw lock behind [`RwLock`](super::RwLock).
pub struct RawRwLock {
    pub(super) map: OwnedMap,
    inner: parking_lot::RawRwLock,
}

impl RawRwLock {
    pub(super) const fn new(map: LockMap) -> Self {
        RawRwLock { map: OwnedMap::new(map), inner: <parking_lot::RawRwLock as lock_api::RawRwLock>::INIT }
    }

    #[inline(always)]
    #[track_caller]
    pub(super) fn read_as(&self, how: Acquire<'_>) {
        let raw = &self.inner;
        if how.mode == Mode::RecursiveRead {
            let attempt = || raw.try_lock_shared_recursive();
            hook::acquire_with(&self.map, how, attempt, || raw.lock_shared_recursive());
        } else {
            hook::acquire_with(&self.map, how, || raw.try_lock_shared(), || raw.lock_shared());
        }
    }

    #[inline(always)]
    #[track_caller]
    pub(super) fn upgradable_as(&self, how: Acquire<'_>) {
        let raw = &self.inner;
        hook::acquire_with(&self.map, how, || raw.try_lock_upgradable(), || raw.lock_upgradable());
    }

    #[inline(always)]
    #[track_caller]
    pub(super) fn write_as(&self, how: Acquire<'_>) {
        let raw = &self.inner;
        hook::acquire_with(&self.map, how, || raw.try_lock_exclusive(), || raw.lock_exclusive());
    }

    #[inline]
    #[track_caller]
    fn after_try_read(&self, how: Acquire<'_>, got: bool) -> bool {
        if got {
            // SAFETY: the try got the lock, and if the hook unwinds nobody else will unlock it.
            tried(&self.map, how, || unsafe { self.inner.unlock_shared() });
        }
        got
    }

    #[inline]
    #[track_caller]
    fn after_try_upgradable(&self, got: bool) -> bool {
        if got {
            // SAFETY: the try got the lock, and if the hook unwinds nobody else will unlock it.
            let undo = || unsafe { self.inner.unlock_upgradable() };
            tried(&self.map, Acquire::UPGRADABLE, undo);
        }
        got
    }

    #[inline]
    #[track_caller]
    fn after_try_write(&self, got: bool) -> bool {
        if got {
            // SAFETY: the try got the lock, and if the hook unwinds nobody else will unlock it.
            let undo = || unsafe { self.inner.unlock_exclusive() };
            tried(&self.map, Acquire::WRITE, undo);
        }
        got
    }

    /// The hook after a try to upgrade that was successful: nothing was waited for.
    #[inline]
    #[track_caller]
    fn after_try_upgrade(&self, got: bool) -> bool {
        if got {
            hook::convert(&self.map, Mode::Upgradable, Mode::Write);
        }
        got
    }
}

impl fmt::Debug for RawRwLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawRwLock").finish_non_exhaustive()
    }
}

/// The class of locks that lock_api makes by itself, without a place.
static UNPLACED: LockClass = LockClass::new("lock_api::RwLock").unchecked();

// SAFETY: exclusion is parking_lot's; the hooks change nothing about it.
unsafe impl lock_api::RawRwLock for RawRwLock {
    const INIT: Self = RawRwLock::new(LockMap::new(&UNPLACED));

    type GuardMarker = <parking_lot::RawRwLock as lock_api::RawRwLock>::GuardMarker;

    #[inline]
    #[track_caller]
    fn lock_shared(&self) {
        hook::acquire_again(&self.map, Acquire::READ);
        self.inner.lock_shared();
    }

    #[inline]
    #[track_caller]
    fn try_lock_shared(&self) -> bool {
        self.after_try_read(Acquire::READ, self.inner.try_lock_shared())
    }

    #[inline]
    #[track_caller]
    unsafe fn unlock_shared(&self) {
        hook::release_quietly(&self.map);
        // SAFETY: the caller holds the lock.
        unsafe { self.inner.unlock_shared() };
    }

    #[inline]
    #[track_caller]
    fn lock_exclusive(&self) {
        hook::acquire_again(&self.map, Acquire::WRITE);
        self.inner.lock_exclusive();
    }

    #[inline]
    #[track_caller]
    fn try_lock_exclusive(&self) -> bool {
        self.after_try_write(self.inner.try_lock_exclusive())
    }

    #[inline]
    #[track_caller]
    unsafe fn unlock_exclusive(&self) {
        hook::release_quietly(&self.map);
        // SAFETY: the caller holds the lock.
        unsafe { self.inner.unlock_exclusive() };
    }

    #[inline]
    fn is_locked(&self) -> bool {
        self.inner.is_locked()
    }

    #[inline]
    fn is_locked_exclusive(&self) -> bool {
        self.inner.is_locked_exclusive()
    }
}

// SAFETY: as for `RawRwLock`.
unsafe impl lock_api::RawRwLockFair for RawRwLock {
    #[inline]
    #[track_caller]
    unsafe fn unlock_shared_fair(&self) {
        hook::release_quietly(&self.map);
        // SAFETY: the caller holds the lock.
        unsafe { self.inner.unlock_shared_fair() };
    }

    #[inline]
    #[track_caller]
    unsafe fn unlock_exclusive_fair(&self) {
        hook::release_quietly(&self.map);
        // SAFETY: the caller holds the lock.
        unsafe { self.inner.unlock_exclusive_fair() };
    }

    #[inline]
    #[track_caller]
    unsafe fn bump_shared(&self) {
        hook::release_quietly(&self.map);
        hook::acquire_again(&self.map, Acquire::READ);
        // SAFETY: the caller holds the lock.
        unsafe { self.inner.bump_shared() };
    }

    #[inline]
    #[track_caller]
    unsafe fn bump_exclusive(&self) {
        hook::release_quietly(&self.map);
        hook::acquire_again(&self.map, Acquire::WRITE);
        // SAFETY: the caller holds the lock.
        unsafe { self.inner.bump_exclusive() };
    }
}

// SAFETY: as for `RawRwLock`.
unsafe impl lock_api::RawRwLockDowngrade for RawRwLock {
    #[inline]
    #[track_caller]
    unsafe fn downgrade(&self) {
        hook::convert(&self.map, Mode::Write, Mode::Read);
        // SAFETY: the caller holds the lock for writing.
        unsafe { self.inner.downgrade() };
    }
}

// SAFETY: as for `RawRwLock`.
unsafe impl lock_api::RawRwLockTimed for RawRwLock {
    type Duration = Duration;
    type Instant = Instant;

    #[inline]
    #[track_caller]
    fn try_lock_shared_for(&self, timeout: Duration) -> bool {
        self.after_try_read(Acquire::READ, self.inner.try_lock_shared_for(timeout))
    }

    #[inline]
    #[track_caller]
    fn try_lock_shared_until(&self, timeout: Instant) -> bool {
        self.after_try_read(Acquire::READ, self.inner.try_lock_shared_until(timeout))
    }

    #[inline]
    #[track_caller]
    fn try_lock_exclusive_for(&self, timeout: Duration) -> bool {
        self.after_try_write(self.inner.try_lock_exclusive_for(timeout))
    }

    #[inline]
    #[track_caller]
    fn try_lock_exclusive_until(&self, timeout: Instant) -> bool {
        self.after_try_write(self.inner.try_lock_exclusive_until(timeout))
    }
}

// SAFETY: as for `RawRwLock`.
unsafe impl lock_api::RawRwLockRecursive for RawRwLock {
    #[inline]
    #[track_caller]
    fn lock_shared_recursive(&self) {
        self.read_as(Acquire::RECURSIVE_READ);
    }

    #[inline]
    #[track_caller]
    fn try_lock_shared_recursive(&self) -> bool {
        self.after_try_read(Acquire::RECURSIVE_READ, self.inner.try_lock_shared_recursive())
    }
}

// SAFETY: as for `RawRwLock`.
unsafe impl lock_api::RawRwLockRecursiveTimed for RawRwLock {
    #[inline]
    #[track_caller]
    fn try_lock_shared_recursive_for(&self, timeout: Duration) -> bool {
        self.after_try_read(Acquire::RECURSIVE_READ, self.inner.try_lock_shared_recursive_for(timeout))
    }

    #[inline]
    #[track_caller]
    fn try_lock_shared_recursive_until(&self, timeout: Instant) -> bool {
        self.after_try_read(Acquire::RECURSIVE_READ, self.inner.try_lock_shared_recursive_until(timeout))
    }
}

// SAFETY: as for `RawRwLock`.
unsafe impl lock_api::RawRwLockUpgrade for RawRwLock {
    #[inline]
    #[track_caller]
    fn lock_upgradable(&self) {
        hook::acquire_again(&self.map, Acquire::UPGRADABLE);
        self.inner.lock_upgradable();
    }

    #[inline]
    #[track_caller]
    fn try_lock_upgradable(&self) -> bool {
        self.after_try_upgradable(self.inner.try_lock_upgradable())
    }

    #[inline]
    #[track_caller]
    unsafe fn unlock_upgradable(&self) {
        hook::release_upgradable(&self.map);
        // SAFETY: the caller holds the lock upgradably.
        unsafe { self.inner.unlock_upgradable() };
    }

    #[inline]
    #[track_caller]
    unsafe fn upgrade(&self) {
        hook::upgrade(&self.map);
        // SAFETY: the caller holds the lock upgradably.
        unsafe { self.inner.upgrade() };
    }

    #[inline]
    #[track_caller]
    unsafe fn try_upgrade(&self) -> bool {
        // SAFETY: the caller holds the lock upgradably.
        let got = unsafe { self.inner.try_upgrade() };
        self.after_try_upgrade(got)
    }
}

// SAFETY: as for `RawRwLock`.
unsafe impl lock_api::RawRwLockUpgradeFair for RawRwLock {
    #[inline]
    #[track_caller]
    unsafe fn unlock_upgradable_fair(&self) {
        hook::release_upgradable(&self.map);
        // SAFETY: the caller holds the lock upgradably.
        unsafe { self.inner.unlock_upgradable_fair() };
    }

    #[inline]
    #[track_caller]
    unsafe fn bump_upgradable(&self) {
        hook::release_upgradable(&self.map);
        hook::acquire_again(&self.map, Acquire::UPGRADABLE);
        // SAFETY: the caller holds the lock upgradably.
        unsafe { self.inner.bump_upgradable() };
    }
}

// SAFETY: as for `RawRwLock`.
unsafe impl lock_api::RawRwLockUpgradeDowngrade for RawRwLock {
    #[inline]
    #[track_caller]
    unsafe fn downgrade_upgradable(&self) {
        hook::convert(&self.map, Mode::Upgradable, Mode::Read);
        // SAFETY: the caller holds the lock upgradably.
        unsafe { self.inner.downgrade_upgradable() };
    }

    #[inline]
    #[track_caller]
    unsafe fn downgrade_to_upgradable(&self) {
        hook::convert(&self.map, Mode::Write, Mode::Upgradable);
        // SAFETY: the caller holds the lock for writing.
        unsafe { self.inner.downgrade_to_upgradable() };
    }
}

// SAFETY: as for `RawRwLock`.
unsafe impl lock_api::RawRwLockUpgradeTimed for RawRwLock {
    #[inline]
    #[track_caller]
    fn try_lock_upgradable_for(&self, timeout: Duration) -> bool {
        self.after_try_upgradable(self.inner.try_lock_upgradable_for(timeout))
    }

    #[inline]
    #[track_caller]
    fn try_lock_upgradable_until(&self, timeout: Instant) -> bool {
        self.after_try_upgradable(self.inner.try_lock_upgradable_until(timeout))
    }

    #[inline]
    #[track_caller]
    unsafe fn try_upgrade_for(&self, timeout: Duration) -> bool {
        // SAFETY: the caller holds the lock upgradably.
        let got = unsafe { self.inner.try_upgrade_for(timeout) };
        self.after_try_upgrade(got)
    }

    #[inline]
    #[track_caller]
    unsafe fn try_upgrade_until(&self, timeout: Instant) -> bool {
        // SAFETY: the caller holds the lock upgradably.
        let got = unsafe { self.inner.try_upgrade_until(timeout) };
        self.after_try_upgrade(got)
    }
}
