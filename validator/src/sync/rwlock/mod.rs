// SPDX-License-Identifier: MIT OR Apache-2.0
//! `RwLock`: parking_lot's, watched.
//!
//! parking_lot's readers queue behind a waiting writer, so `read` is a (non-recursive) read: two nested ones of
//! one thread are a finding. `read_recursive` overtakes and is a recursive read.
//!
//! An *upgradable* read is a mode of its own. It is waited for and held like a read, except that two of them
//! exclude each other. Its upgrade waits for the readers of the lock and for nobody else, since writers and other
//! upgradable reads are excluded already: the order `lock taken under the upgradable read → this lock` is learned
//! as one that only a *reader* on the other side contradicts. So "read upgradably, lock M, upgrade" alone is no
//! cycle, and is one together with "read, lock M". Upgrading while the same thread also reads the lock is a
//! certain deadlock.
//!
//! There is no upgrade of a plain read; who tries by `write()` under `read()` gets a certain `recursive` finding.

use core::fmt;
use std::time::{Duration, Instant};

use super::watched::{Watched, sealed::Sealed};
use crate::hook::{Acquire, DynamicClass, LockClass, LockMap};

mod owned;
mod raw;

pub use owned::{ArcRwLockReadGuard, ArcRwLockUpgradableReadGuard, ArcRwLockWriteGuard};
pub use raw::RawRwLock;

/// The lock as lock_api knows it.
type Inner<T> = lock_api::RwLock<RawRwLock, T>;

/// Shared access until it is dropped. lock_api's guard: see [`lock_api::RwLockReadGuard`].
pub type RwLockReadGuard<'a, T> = lock_api::RwLockReadGuard<'a, RawRwLock, T>;

/// Exclusive access until it is dropped. lock_api's guard: see [`lock_api::RwLockWriteGuard`].
pub type RwLockWriteGuard<'a, T> = lock_api::RwLockWriteGuard<'a, RawRwLock, T>;

/// Shared access that can become exclusive. lock_api's guard: see [`lock_api::RwLockUpgradableReadGuard`].
pub type RwLockUpgradableReadGuard<'a, T> = lock_api::RwLockUpgradableReadGuard<'a, RawRwLock, T>;

/// Shared access to a part of what the lock protects, made by `RwLockReadGuard::map`.
pub type MappedRwLockReadGuard<'a, T> = lock_api::MappedRwLockReadGuard<'a, RawRwLock, T>;

/// Exclusive access to a part of what the lock protects, made by `RwLockWriteGuard::map`.
pub type MappedRwLockWriteGuard<'a, T> = lock_api::MappedRwLockWriteGuard<'a, RawRwLock, T>;

/// A reader-writer lock: [`parking_lot::RwLock`], watched.
///
/// Its class is the place of construction, or the one given; see [`Mutex`](super::Mutex).
///
/// ```
/// use lockdep::sync::{RwLock, RwLockUpgradableReadGuard};
///
/// static TABLE: RwLock<Vec<u32>> = RwLock::new(Vec::new());
///
/// let table = TABLE.upgradable_read();
/// if table.is_empty() {
///     RwLockUpgradableReadGuard::upgrade(table).push(1);
/// }
/// assert_eq!(TABLE.read().len(), 1);
/// ```
#[repr(transparent)]
pub struct RwLock<T: ?Sized>(Inner<T>);

impl<T> RwLock<T> {
    /// A lock whose class is the place of this call.
    #[inline]
    #[must_use]
    #[track_caller]
    pub const fn new(value: T) -> Self {
        RwLock(Inner::from_raw(RawRwLock::new(LockMap::here(&"RwLock")), value))
    }

    /// A lock of this class.
    #[inline]
    #[must_use]
    pub const fn with_class(class: &'static LockClass, value: T) -> Self {
        RwLock(Inner::from_raw(RawRwLock::new(LockMap::new(class)), value))
    }

    /// A lock of a class that comes and goes.
    #[inline]
    #[must_use]
    pub fn with_dynamic_class(class: &DynamicClass, value: T) -> Self {
        RwLock(Inner::from_raw(RawRwLock::new(LockMap::dynamic(class)), value))
    }

    /// What the lock protected.
    #[inline]
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    #[inline]
    fn raw_lock(&self) -> &RawRwLock {
        // SAFETY: used here only to lock for a guard.
        unsafe { self.0.raw() }
    }

    /// Takes the lock for reading; waits for writers, waiting ones too.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.raw_lock().read_as(Acquire::READ);
        // SAFETY: the line above took the lock in this mode.
        unsafe { self.0.make_read_guard_unchecked() }
    }

    /// [`read`](Self::read) at a level of deliberate nesting within the class, 1 to 7.
    #[inline]
    #[track_caller]
    pub fn read_nested(&self, subclass: u8) -> RwLockReadGuard<'_, T> {
        self.raw_lock().read_as(Acquire::READ.subclass(subclass));
        // SAFETY: the line above took the lock in this mode.
        unsafe { self.0.make_read_guard_unchecked() }
    }

    /// Takes the lock for reading; overtakes waiting writers, so a thread that reads already may do so again.
    #[inline]
    #[track_caller]
    pub fn read_recursive(&self) -> RwLockReadGuard<'_, T> {
        self.raw_lock().read_as(Acquire::RECURSIVE_READ);
        // SAFETY: the line above took the lock in this mode.
        unsafe { self.0.make_read_guard_unchecked() }
    }

    /// Takes the lock for reading, with the right to become the writer: waits for writers and for others who have
    /// that right.
    #[inline]
    #[track_caller]
    pub fn upgradable_read(&self) -> RwLockUpgradableReadGuard<'_, T> {
        self.raw_lock().upgradable_as(Acquire::UPGRADABLE);
        // SAFETY: the line above took the lock in this mode.
        unsafe { self.0.make_upgradable_guard_unchecked() }
    }

    /// Takes the lock for writing; waits for everybody.
    #[inline]
    #[track_caller]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.raw_lock().write_as(Acquire::WRITE);
        // SAFETY: the line above took the lock in this mode.
        unsafe { self.0.make_write_guard_unchecked() }
    }

    /// [`write`](Self::write) at a level of deliberate nesting within the class, 1 to 7.
    #[inline]
    #[track_caller]
    pub fn write_nested(&self, subclass: u8) -> RwLockWriteGuard<'_, T> {
        self.raw_lock().write_as(Acquire::WRITE.subclass(subclass));
        // SAFETY: the line above took the lock in this mode.
        unsafe { self.0.make_write_guard_unchecked() }
    }

    /// [`read`](Self::read) if that needs no waiting.
    #[inline]
    #[track_caller]
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.0.try_read()
    }

    /// [`read`](Self::read), or gives up after this time.
    #[inline]
    #[track_caller]
    pub fn try_read_for(&self, timeout: Duration) -> Option<RwLockReadGuard<'_, T>> {
        self.0.try_read_for(timeout)
    }

    /// [`read`](Self::read), or gives up at this time.
    #[inline]
    #[track_caller]
    pub fn try_read_until(&self, timeout: Instant) -> Option<RwLockReadGuard<'_, T>> {
        self.0.try_read_until(timeout)
    }

    /// [`read_recursive`](Self::read_recursive) if that needs no waiting.
    #[inline]
    #[track_caller]
    pub fn try_read_recursive(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.0.try_read_recursive()
    }

    /// [`read_recursive`](Self::read_recursive), or gives up after this time.
    #[inline]
    #[track_caller]
    pub fn try_read_recursive_for(&self, timeout: Duration) -> Option<RwLockReadGuard<'_, T>> {
        self.0.try_read_recursive_for(timeout)
    }

    /// [`read_recursive`](Self::read_recursive), or gives up at this time.
    #[inline]
    #[track_caller]
    pub fn try_read_recursive_until(&self, timeout: Instant) -> Option<RwLockReadGuard<'_, T>> {
        self.0.try_read_recursive_until(timeout)
    }

    /// [`upgradable_read`](Self::upgradable_read) if that needs no waiting.
    #[inline]
    #[track_caller]
    pub fn try_upgradable_read(&self) -> Option<RwLockUpgradableReadGuard<'_, T>> {
        self.0.try_upgradable_read()
    }

    /// [`upgradable_read`](Self::upgradable_read), or gives up after this time.
    #[inline]
    #[track_caller]
    pub fn try_upgradable_read_for(&self, timeout: Duration) -> Option<RwLockUpgradableReadGuard<'_, T>> {
        self.0.try_upgradable_read_for(timeout)
    }

    /// [`upgradable_read`](Self::upgradable_read), or gives up at this time.
    #[inline]
    #[track_caller]
    pub fn try_upgradable_read_until(&self, timeout: Instant) -> Option<RwLockUpgradableReadGuard<'_, T>> {
        self.0.try_upgradable_read_until(timeout)
    }

    /// [`write`](Self::write) if that needs no waiting.
    #[inline]
    #[track_caller]
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        self.0.try_write()
    }

    /// [`write`](Self::write), or gives up after this time.
    #[inline]
    #[track_caller]
    pub fn try_write_for(&self, timeout: Duration) -> Option<RwLockWriteGuard<'_, T>> {
        self.0.try_write_for(timeout)
    }

    /// [`write`](Self::write), or gives up at this time.
    #[inline]
    #[track_caller]
    pub fn try_write_until(&self, timeout: Instant) -> Option<RwLockWriteGuard<'_, T>> {
        self.0.try_write_until(timeout)
    }

    /// What the lock protects; no locking is needed for somebody who has the lock to himself.
    #[inline]
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }

    /// True if somebody holds the lock at this moment, in whatever mode.
    #[inline]
    pub fn is_locked(&self) -> bool {
        self.0.is_locked()
    }

    /// True if somebody holds the lock for writing at this moment.
    #[inline]
    pub fn is_locked_exclusive(&self) -> bool {
        self.0.is_locked_exclusive()
    }

    /// A pointer to what the lock protects.
    #[inline]
    pub fn data_ptr(&self) -> *mut T {
        self.0.data_ptr()
    }

    /// Releases a read lock without a guard, after `mem::forget` of one.
    ///
    /// # Safety
    /// The lock is held for reading, and the guard will not be used any more.
    #[inline]
    #[track_caller]
    pub unsafe fn force_unlock_read(&self) {
        // SAFETY: as the caller promises.
        unsafe { self.0.force_unlock_read() };
    }

    /// Releases a write lock without a guard, after `mem::forget` of one.
    ///
    /// # Safety
    /// The lock is held for writing, and the guard will not be used any more.
    #[inline]
    #[track_caller]
    pub unsafe fn force_unlock_write(&self) {
        // SAFETY: as the caller promises.
        unsafe { self.0.force_unlock_write() };
    }

    /// [`force_unlock_read`](Self::force_unlock_read) with a fair hand-over.
    ///
    /// # Safety
    /// The lock is held for reading, and the guard will not be used any more.
    #[inline]
    #[track_caller]
    pub unsafe fn force_unlock_read_fair(&self) {
        // SAFETY: as the caller promises.
        unsafe { self.0.force_unlock_read_fair() };
    }

    /// [`force_unlock_write`](Self::force_unlock_write) with a fair hand-over.
    ///
    /// # Safety
    /// The lock is held for writing, and the guard will not be used any more.
    #[inline]
    #[track_caller]
    pub unsafe fn force_unlock_write_fair(&self) {
        // SAFETY: as the caller promises.
        unsafe { self.0.force_unlock_write_fair() };
    }

    /// A guard for a lock that is held for reading already.
    ///
    /// # Safety
    /// The calling thread holds the lock for reading and has forgotten the guard.
    #[inline]
    pub unsafe fn make_read_guard_unchecked(&self) -> RwLockReadGuard<'_, T> {
        // SAFETY: as the caller promises.
        unsafe { self.0.make_read_guard_unchecked() }
    }

    /// A guard for a lock that is held upgradably already.
    ///
    /// # Safety
    /// The calling thread holds the lock upgradably and has forgotten the guard.
    #[inline]
    pub unsafe fn make_upgradable_guard_unchecked(&self) -> RwLockUpgradableReadGuard<'_, T> {
        // SAFETY: as the caller promises.
        unsafe { self.0.make_upgradable_guard_unchecked() }
    }

    /// A guard for a lock that is held for writing already.
    ///
    /// # Safety
    /// The calling thread holds the lock for writing and has forgotten the guard.
    #[inline]
    pub unsafe fn make_write_guard_unchecked(&self) -> RwLockWriteGuard<'_, T> {
        // SAFETY: as the caller promises.
        unsafe { self.0.make_write_guard_unchecked() }
    }

    /// The raw lock.
    ///
    /// # Safety
    /// Unlocking it while a guard exists is undefined behaviour.
    #[inline]
    pub unsafe fn raw(&self) -> &RawRwLock {
        self.raw_lock()
    }
}

impl<T: ?Sized> Sealed for RwLock<T> {}

impl<T: ?Sized> Watched for RwLock<T> {
    #[inline]
    fn __lockdep_map(&self) -> &LockMap {
        &self.raw_lock().map
    }
}

impl<T: Default> Default for RwLock<T> {
    #[inline]
    #[track_caller]
    fn default() -> Self {
        RwLock::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    #[inline]
    #[track_caller]
    fn from(value: T) -> Self {
        RwLock::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
