// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guards that keep the lock alive: the `_arc` methods of [`RwLock`].

use core::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Inner, RawRwLock, RwLock};
use crate::hook::Acquire;

/// [`RwLockReadGuard`](super::RwLockReadGuard) that keeps the lock alive, too.
pub type ArcRwLockReadGuard<T> = lock_api::ArcRwLockReadGuard<RawRwLock, T>;

/// [`RwLockWriteGuard`](super::RwLockWriteGuard) that keeps the lock alive, too.
pub type ArcRwLockWriteGuard<T> = lock_api::ArcRwLockWriteGuard<RawRwLock, T>;

/// [`RwLockUpgradableReadGuard`](super::RwLockUpgradableReadGuard) that keeps the lock alive, too.
pub type ArcRwLockUpgradableReadGuard<T> = lock_api::ArcRwLockUpgradableReadGuard<RawRwLock, T>;

/// The same `Arc` with lock_api's name for what is in it.
#[inline]
fn as_inner<T: ?Sized>(lock: &Arc<RwLock<T>>) -> ManuallyDrop<Arc<Inner<T>>> {
    let inner = Arc::as_ptr(lock) as *const Inner<T>;
    // SAFETY: `RwLock` is a transparent wrapper of `Inner`, so size, alignment and metadata are the same, as
    // `Arc::from_raw` asks. The count that this `Arc` would own is the borrowed one's: it is never dropped, and
    // the borrow outlives every use.
    ManuallyDrop::new(unsafe { Arc::from_raw(inner) })
}

impl<T: ?Sized> RwLock<T> {
    /// [`read`](Self::read) with a guard that keeps the lock alive.
    #[inline]
    #[track_caller]
    pub fn read_arc(self: &Arc<Self>) -> ArcRwLockReadGuard<T> {
        self.raw_lock().read_as(Acquire::READ);
        // SAFETY: the line above took the lock in this mode.
        unsafe { as_inner(self).make_arc_read_guard_unchecked() }
    }

    /// [`read_recursive`](Self::read_recursive) with a guard that keeps the lock alive.
    #[inline]
    #[track_caller]
    pub fn read_arc_recursive(self: &Arc<Self>) -> ArcRwLockReadGuard<T> {
        self.raw_lock().read_as(Acquire::RECURSIVE_READ);
        // SAFETY: the line above took the lock in this mode.
        unsafe { as_inner(self).make_arc_read_guard_unchecked() }
    }

    /// [`upgradable_read`](Self::upgradable_read) with a guard that keeps the lock alive.
    #[inline]
    #[track_caller]
    pub fn upgradable_read_arc(self: &Arc<Self>) -> ArcRwLockUpgradableReadGuard<T> {
        self.raw_lock().upgradable_as(Acquire::UPGRADABLE);
        // SAFETY: the line above took the lock in this mode.
        unsafe { as_inner(self).make_upgradable_arc_guard_unchecked() }
    }

    /// [`write`](Self::write) with a guard that keeps the lock alive.
    #[inline]
    #[track_caller]
    pub fn write_arc(self: &Arc<Self>) -> ArcRwLockWriteGuard<T> {
        self.raw_lock().write_as(Acquire::WRITE);
        // SAFETY: the line above took the lock in this mode.
        unsafe { as_inner(self).make_arc_write_guard_unchecked() }
    }

    /// [`try_read`](Self::try_read) with a guard that keeps the lock alive.
    #[inline]
    #[track_caller]
    pub fn try_read_arc(self: &Arc<Self>) -> Option<ArcRwLockReadGuard<T>> {
        as_inner(self).try_read_arc()
    }

    /// [`try_read_for`](Self::try_read_for) with a guard that keeps the lock alive.
    #[inline]
    #[track_caller]
    pub fn try_read_arc_for(self: &Arc<Self>, timeout: Duration) -> Option<ArcRwLockReadGuard<T>> {
        as_inner(self).try_read_arc_for(timeout)
    }

    /// [`try_read_until`](Self::try_read_until) with a guard that keeps the lock alive.
    #[inline]
    #[track_caller]
    pub fn try_read_arc_until(self: &Arc<Self>, timeout: Instant) -> Option<ArcRwLockReadGuard<T>> {
        as_inner(self).try_read_arc_until(timeout)
    }

    /// [`try_read_recursive`](Self::try_read_recursive) with a guard that keeps the lock alive.
    #[inline]
    #[track_caller]
    pub fn try_read_recursive_arc(self: &Arc<Self>) -> Option<ArcRwLockReadGuard<T>> {
        as_inner(self).try_read_recursive_arc()
    }

    /// [`try_read_recursive_for`](Self::try_read_recursive_for) with a guard that keeps the lock alive.
    #[inline]
    #[track_caller]
    pub fn try_read_arc_recursive_for(self: &Arc<Self>, timeout: Duration) -> Option<ArcRwLockReadGuard<T>> {
        as_inner(self).try_read_arc_recursive_for(timeout)
    }

    /// [`try_read_recursive_until`](Self::try_read_recursive_until) with a guard that keeps the lock alive.
    #[inline]
    #[track_caller]
    pub fn try_read_arc_recursive_until(self: &Arc<Self>, timeout: Instant) -> Option<ArcRwLockReadGuard<T>> {
        as_inner(self).try_read_arc_recursive_until(timeout)
    }

    /// [`try_upgradable_read`](Self::try_upgradable_read) with a guard that keeps the lock alive.
    #[inline]
    #[track_caller]
    pub fn try_upgradable_read_arc(self: &Arc<Self>) -> Option<ArcRwLockUpgradableReadGuard<T>> {
        as_inner(self).try_upgradable_read_arc()
    }

    /// [`try_upgradable_read_for`](Self::try_upgradable_read_for) with a guard that keeps the lock alive.
    #[inline]
    #[track_caller]
    pub fn try_upgradable_read_arc_for(
        self: &Arc<Self>,
        timeout: Duration,
    ) -> Option<ArcRwLockUpgradableReadGuard<T>> {
        as_inner(self).try_upgradable_read_arc_for(timeout)
    }

    /// [`try_upgradable_read_until`](Self::try_upgradable_read_until) with a guard that keeps the lock alive.
    #[inline]
    #[track_caller]
    pub fn try_upgradable_read_arc_until(
        self: &Arc<Self>,
        timeout: Instant,
    ) -> Option<ArcRwLockUpgradableReadGuard<T>> {
        as_inner(self).try_upgradable_read_arc_until(timeout)
    }

    /// [`try_write`](Self::try_write) with a guard that keeps the lock alive.
    #[inline]
    #[track_caller]
    pub fn try_write_arc(self: &Arc<Self>) -> Option<ArcRwLockWriteGuard<T>> {
        as_inner(self).try_write_arc()
    }

    /// [`try_write_for`](Self::try_write_for) with a guard that keeps the lock alive.
    #[inline]
    #[track_caller]
    pub fn try_write_arc_for(self: &Arc<Self>, timeout: Duration) -> Option<ArcRwLockWriteGuard<T>> {
        as_inner(self).try_write_arc_for(timeout)
    }

    /// [`try_write_until`](Self::try_write_until) with a guard that keeps the lock alive.
    #[inline]
    #[track_caller]
    pub fn try_write_arc_until(self: &Arc<Self>, timeout: Instant) -> Option<ArcRwLockWriteGuard<T>> {
        as_inner(self).try_write_arc_until(timeout)
    }
}
