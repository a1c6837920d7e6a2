// SPDX-License-Identifier: MIT OR Apache-2.0
//! `Mutex`: parking_lot's, watched.
//!
//! Two layers. [`Mutex`]'s own methods run the hook with the caller's place, which may panic, before they touch
//! the real lock. [`RawMutex`] is what lock_api's guards call: releases, and the re-locking under a guard that
//! lives on; nothing there unwinds, or the guard would release a lock that it does not hold.

use core::fmt;
use core::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lock_api::RawMutex as _;

use super::tried;
use super::watched::{Watched, sealed::Sealed};
use crate::hook::{self, Acquire, DynamicClass, LockClass, LockMap, OwnedMap};

/// The raw lock behind [`Mutex`].
pub struct RawMutex {
    pub(super) map: OwnedMap,
    /// A whole mutex, not only its raw lock: parking_lot's condition variable wants a guard of one.
    pub(super) inner: parking_lot::Mutex<()>,
}

impl RawMutex {
    const fn new(map: LockMap) -> Self {
        RawMutex { map: OwnedMap::new(map), inner: parking_lot::Mutex::new(()) }
    }

    #[inline]
    fn inner(&self) -> &parking_lot::RawMutex {
        // SAFETY: the caller unlocks only what it has locked; see each use.
        unsafe { self.inner.raw() }
    }

    #[inline(always)]
    #[track_caller]
    fn lock_as(&self, how: Acquire<'_>) {
        let raw = self.inner();
        hook::acquire_with(&self.map, how, || raw.try_lock(), || raw.lock());
    }

    /// The hook after a try that was successful.
    #[inline]
    #[track_caller]
    fn after_try(&self, got: bool) -> bool {
        if got {
            // SAFETY: the try got the lock, and if the hook unwinds nobody else will unlock it.
            let undo = || unsafe { self.inner().unlock() };
            tried(&self.map, Acquire::WRITE, undo);
        }
        got
    }
}

impl fmt::Debug for RawMutex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawMutex").finish_non_exhaustive()
    }
}

/// The class of locks that lock_api makes by itself, without a place.
static UNPLACED: LockClass = LockClass::new("lock_api::Mutex").unchecked();

// SAFETY: exclusion is parking_lot's; the hooks change nothing about it.
unsafe impl lock_api::RawMutex for RawMutex {
    const INIT: Self = RawMutex::new(LockMap::new(&UNPLACED));

    type GuardMarker = <parking_lot::RawMutex as lock_api::RawMutex>::GuardMarker;

    #[inline]
    #[track_caller]
    fn lock(&self) {
        hook::acquire_again(&self.map, Acquire::WRITE);
        self.inner().lock();
    }

    #[inline]
    #[track_caller]
    fn try_lock(&self) -> bool {
        self.after_try(self.inner().try_lock())
    }

    #[inline]
    #[track_caller]
    unsafe fn unlock(&self) {
        hook::release_quietly(&self.map);
        // SAFETY: the caller holds the lock.
        unsafe { self.inner().unlock() };
    }

    #[inline]
    fn is_locked(&self) -> bool {
        self.inner().is_locked()
    }
}

// SAFETY: as for `RawMutex`.
unsafe impl lock_api::RawMutexFair for RawMutex {
    #[inline]
    #[track_caller]
    unsafe fn unlock_fair(&self) {
        hook::release_quietly(&self.map);
        // SAFETY: the caller holds the lock.
        unsafe { self.inner().unlock_fair() };
    }

    #[inline]
    #[track_caller]
    unsafe fn bump(&self) {
        hook::release_quietly(&self.map);
        hook::acquire_again(&self.map, Acquire::WRITE);
        // SAFETY: the caller holds the lock.
        unsafe { self.inner().bump() };
    }
}

// SAFETY: as for `RawMutex`.
unsafe impl lock_api::RawMutexTimed for RawMutex {
    type Duration = Duration;
    type Instant = Instant;

    #[inline]
    #[track_caller]
    fn try_lock_for(&self, timeout: Duration) -> bool {
        self.after_try(self.inner().try_lock_for(timeout))
    }

    #[inline]
    #[track_caller]
    fn try_lock_until(&self, timeout: Instant) -> bool {
        self.after_try(self.inner().try_lock_until(timeout))
    }
}

/// The lock as lock_api knows it.
type Inner<T> = lock_api::Mutex<RawMutex, T>;

/// Keeps the mutex locked until it is dropped. lock_api's guard: see [`lock_api::MutexGuard`].
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, RawMutex, T>;

/// A guard of a part of what the mutex protects, made by `MutexGuard::map`.
pub type MappedMutexGuard<'a, T> = lock_api::MappedMutexGuard<'a, RawMutex, T>;

/// A guard that keeps the mutex alive, too.
pub type ArcMutexGuard<T> = lock_api::ArcMutexGuard<RawMutex, T>;

/// A mutual exclusion lock: [`parking_lot::Mutex`], watched.
///
/// Its class is the place of construction: all mutexes made by one line obey one order. Where that is not what
/// is meant (a constructor that is called from everywhere), name a class with [`with_class`](Self::with_class).
///
/// ```
/// use lockdep::sync::{Mutex, MutexGuard};
///
/// static HITS: Mutex<u32> = Mutex::new(0);
///
/// *HITS.lock() += 1;
/// assert_eq!(*HITS.lock(), 1);
/// assert!(HITS.try_lock().is_some());
///
/// let pair = Mutex::new((1, 2));
/// let second = MutexGuard::map(pair.lock(), |pair| &mut pair.1);
/// assert_eq!(*second, 2);
/// ```
#[repr(transparent)]
pub struct Mutex<T: ?Sized>(Inner<T>);

impl<T> Mutex<T> {
    /// A lock whose class is the place of this call.
    #[inline]
    #[must_use]
    #[track_caller]
    pub const fn new(value: T) -> Self {
        Mutex(Inner::from_raw(RawMutex::new(LockMap::here(&"Mutex")), value))
    }

    /// A lock of this class.
    #[inline]
    #[must_use]
    pub const fn with_class(class: &'static LockClass, value: T) -> Self {
        Mutex(Inner::from_raw(RawMutex::new(LockMap::new(class)), value))
    }

    /// A lock of a class that comes and goes.
    #[inline]
    #[must_use]
    pub fn with_dynamic_class(class: &DynamicClass, value: T) -> Self {
        Mutex(Inner::from_raw(RawMutex::new(LockMap::dynamic(class)), value))
    }

    /// What the lock protected.
    #[inline]
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the lock; waits for it if need be.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.lock_as(Acquire::WRITE)
    }

    /// [`lock`](Self::lock) at a level of deliberate nesting within the class, 1 to 7: "I hold one lock of this
    /// class, and take another one further down".
    #[inline]
    #[track_caller]
    pub fn lock_nested(&self, subclass: u8) -> MutexGuard<'_, T> {
        self.lock_as(Acquire::WRITE.subclass(subclass))
    }

    #[inline(always)]
    #[track_caller]
    fn lock_as(&self, how: Acquire<'_>) -> MutexGuard<'_, T> {
        self.raw_lock().lock_as(how);
        // SAFETY: the line above took the lock.
        unsafe { self.0.make_guard_unchecked() }
    }

    #[inline]
    fn raw_lock(&self) -> &RawMutex {
        // SAFETY: used here to lock for a guard, and by the condition variable, which says why it may.
        unsafe { self.0.raw() }
    }

    /// Takes the lock if it is free.
    #[inline]
    #[track_caller]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock()
    }

    /// Takes the lock, or gives up after this time.
    #[inline]
    #[track_caller]
    pub fn try_lock_for(&self, timeout: Duration) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock_for(timeout)
    }

    /// Takes the lock, or gives up at this time.
    #[inline]
    #[track_caller]
    pub fn try_lock_until(&self, timeout: Instant) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock_until(timeout)
    }

    /// [`lock`](Self::lock) with a guard that keeps the mutex alive.
    #[inline]
    #[track_caller]
    pub fn lock_arc(self: &Arc<Self>) -> ArcMutexGuard<T> {
        // Only lock_api can make this guard, and only by locking. Its call does not unwind and does not count
        // twice; so the hook comes first.
        hook::acquire(&self.raw_lock().map, Acquire::WRITE);
        as_inner(self).lock_arc()
    }

    /// [`try_lock`](Self::try_lock) with a guard that keeps the mutex alive.
    #[inline]
    #[track_caller]
    pub fn try_lock_arc(self: &Arc<Self>) -> Option<ArcMutexGuard<T>> {
        as_inner(self).try_lock_arc()
    }

    /// [`try_lock_for`](Self::try_lock_for) with a guard that keeps the mutex alive.
    #[inline]
    #[track_caller]
    pub fn try_lock_arc_for(self: &Arc<Self>, timeout: Duration) -> Option<ArcMutexGuard<T>> {
        as_inner(self).try_lock_arc_for(timeout)
    }

    /// [`try_lock_until`](Self::try_lock_until) with a guard that keeps the mutex alive.
    #[inline]
    #[track_caller]
    pub fn try_lock_arc_until(self: &Arc<Self>, timeout: Instant) -> Option<ArcMutexGuard<T>> {
        as_inner(self).try_lock_arc_until(timeout)
    }

    /// What the lock protects; no locking is needed for somebody who has the mutex to himself.
    #[inline]
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }

    /// True if somebody holds the lock at this moment.
    #[inline]
    pub fn is_locked(&self) -> bool {
        self.0.is_locked()
    }

    /// A pointer to what the lock protects.
    #[inline]
    pub fn data_ptr(&self) -> *mut T {
        self.0.data_ptr()
    }

    /// Releases the lock without a guard, after `mem::forget` of one.
    ///
    /// # Safety
    /// The lock is held and no guard of it will be used any more.
    #[inline]
    #[track_caller]
    pub unsafe fn force_unlock(&self) {
        // SAFETY: as the caller promises.
        unsafe { self.0.force_unlock() };
    }

    /// [`force_unlock`](Self::force_unlock) with a fair hand-over.
    ///
    /// # Safety
    /// The lock is held and no guard of it will be used any more.
    #[inline]
    #[track_caller]
    pub unsafe fn force_unlock_fair(&self) {
        // SAFETY: as the caller promises.
        unsafe { self.0.force_unlock_fair() };
    }

    /// A guard for a lock that is held already.
    ///
    /// # Safety
    /// The calling thread holds the lock and has forgotten the guard.
    #[inline]
    pub unsafe fn make_guard_unchecked(&self) -> MutexGuard<'_, T> {
        // SAFETY: as the caller promises.
        unsafe { self.0.make_guard_unchecked() }
    }

    /// The raw lock.
    ///
    /// # Safety
    /// Unlocking it while a guard exists is undefined behaviour.
    #[inline]
    pub unsafe fn raw(&self) -> &RawMutex {
        self.raw_lock()
    }
}

/// The same `Arc` with lock_api's name for what is in it.
#[inline]
fn as_inner<T: ?Sized>(mutex: &Arc<Mutex<T>>) -> ManuallyDrop<Arc<Inner<T>>> {
    let inner = Arc::as_ptr(mutex) as *const Inner<T>;
    // SAFETY: `Mutex` is a transparent wrapper of `Inner`, so size, alignment and metadata are the same, as
    // `Arc::from_raw` asks. The count that this `Arc` would own is the borrowed one's: it is never dropped, and
    // the borrow outlives every use.
    ManuallyDrop::new(unsafe { Arc::from_raw(inner) })
}

impl<T: ?Sized> Sealed for Mutex<T> {}

impl<T: ?Sized> Watched for Mutex<T> {
    #[inline]
    fn __lockdep_map(&self) -> &LockMap {
        &self.raw_lock().map
    }
}

impl<T: Default> Default for Mutex<T> {
    #[inline]
    #[track_caller]
    fn default() -> Self {
        Mutex::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    #[inline]
    #[track_caller]
    fn from(value: T) -> Self {
        Mutex::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
