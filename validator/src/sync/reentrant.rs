// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ReentrantMutex`: parking_lot's, watched.
//!
//! Only the outermost acquisition of a thread is one for the validator: taking the lock again cannot block, so it
//! is no finding and adds no order. The lock counts as held until its outermost guard is gone.
//!
//! lock_api decides whether an acquisition is the first one, in a place where the caller is not known any more. So
//! [`ReentrantMutex`]'s own methods ask first and run the hook; the raw lock's runs only for the re-locking inside
//! `ReentrantMutexGuard::unlocked`.

use core::fmt;
use core::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lock_api::RawMutex as _;
pub use parking_lot::RawThreadId;

use super::watched::{Watched, sealed::Sealed};
use crate::hook::{self, Acquire, DynamicClass, LockClass, LockMap, OwnedMap};

/// The raw lock behind [`ReentrantMutex`].
pub struct RawReentrantMutex {
    map: OwnedMap,
    inner: parking_lot::RawMutex,
}

impl RawReentrantMutex {
    const fn new(map: LockMap) -> Self {
        RawReentrantMutex { map: OwnedMap::new(map), inner: parking_lot::RawMutex::INIT }
    }
}

impl fmt::Debug for RawReentrantMutex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawReentrantMutex").finish_non_exhaustive()
    }
}

/// The class of locks that lock_api makes by itself, without a place.
static UNPLACED: LockClass = LockClass::new("lock_api::ReentrantMutex").unchecked();

// SAFETY: exclusion is parking_lot's; the hooks change nothing about it.
unsafe impl lock_api::RawMutex for RawReentrantMutex {
    const INIT: Self = RawReentrantMutex::new(LockMap::new(&UNPLACED));

    type GuardMarker = <parking_lot::RawMutex as lock_api::RawMutex>::GuardMarker;

    #[inline]
    fn lock(&self) {
        hook::acquire_again(&self.map, Acquire::WRITE);
        self.inner.lock();
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.inner.try_lock()
    }

    #[inline]
    unsafe fn unlock(&self) {
        hook::release_quietly(&self.map);
        // SAFETY: the caller holds the lock.
        unsafe { self.inner.unlock() };
    }

    #[inline]
    fn is_locked(&self) -> bool {
        self.inner.is_locked()
    }
}

// SAFETY: as for `RawMutex`.
unsafe impl lock_api::RawMutexFair for RawReentrantMutex {
    #[inline]
    unsafe fn unlock_fair(&self) {
        hook::release_quietly(&self.map);
        // SAFETY: the caller holds the lock.
        unsafe { self.inner.unlock_fair() };
    }

    #[inline]
    unsafe fn bump(&self) {
        hook::release_quietly(&self.map);
        hook::acquire_again(&self.map, Acquire::WRITE);
        // SAFETY: the caller holds the lock.
        unsafe { self.inner.bump() };
    }
}

// SAFETY: as for `RawMutex`.
unsafe impl lock_api::RawMutexTimed for RawReentrantMutex {
    type Duration = Duration;
    type Instant = Instant;

    #[inline]
    fn try_lock_for(&self, timeout: Duration) -> bool {
        self.inner.try_lock_for(timeout)
    }

    #[inline]
    fn try_lock_until(&self, timeout: Instant) -> bool {
        self.inner.try_lock_until(timeout)
    }
}

/// The lock as lock_api knows it.
type Inner<T> = lock_api::ReentrantMutex<RawReentrantMutex, RawThreadId, T>;

/// Keeps the mutex locked until it is dropped. lock_api's guard: see [`lock_api::ReentrantMutexGuard`].
pub type ReentrantMutexGuard<'a, T> = lock_api::ReentrantMutexGuard<'a, RawReentrantMutex, RawThreadId, T>;

/// A guard of a part of what the mutex protects, made by `ReentrantMutexGuard::map`.
pub type MappedReentrantMutexGuard<'a, T> =
    lock_api::MappedReentrantMutexGuard<'a, RawReentrantMutex, RawThreadId, T>;

/// A guard that keeps the mutex alive, too.
pub type ArcReentrantMutexGuard<T> = lock_api::ArcReentrantMutexGuard<RawReentrantMutex, RawThreadId, T>;

/// A mutex that its owner may lock again: [`parking_lot::ReentrantMutex`], watched.
///
/// Its class is the place of construction, or the one given; see [`Mutex`](super::Mutex).
///
/// ```
/// use lockdep::sync::ReentrantMutex;
/// use std::cell::Cell;
///
/// let depth = ReentrantMutex::new(Cell::new(0));
/// let outer = depth.lock();
/// let inner = depth.lock();
/// inner.set(2);
/// assert_eq!(outer.get(), 2);
/// ```
#[repr(transparent)]
pub struct ReentrantMutex<T: ?Sized>(Inner<T>);

impl<T> ReentrantMutex<T> {
    /// A lock whose class is the place of this call.
    #[inline]
    #[must_use]
    #[track_caller]
    pub const fn new(value: T) -> Self {
        Self::from_map(LockMap::here(&"ReentrantMutex"), value)
    }

    /// A lock of this class.
    #[inline]
    #[must_use]
    pub const fn with_class(class: &'static LockClass, value: T) -> Self {
        Self::from_map(LockMap::new(class), value)
    }

    #[inline]
    const fn from_map(map: LockMap, value: T) -> Self {
        let thread_id = <RawThreadId as lock_api::GetThreadId>::INIT;
        ReentrantMutex(Inner::from_raw(RawReentrantMutex::new(map), thread_id, value))
    }

    /// A lock of a class that comes and goes.
    #[inline]
    #[must_use]
    pub fn with_dynamic_class(class: &DynamicClass, value: T) -> Self {
        Self::from_map(LockMap::dynamic(class), value)
    }

    /// What the lock protected.
    #[inline]
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> ReentrantMutex<T> {
    #[inline]
    fn map(&self) -> &LockMap {
        // SAFETY: only the map is looked at.
        &unsafe { self.0.raw() }.map
    }

    /// The hook before an acquisition that may wait.
    #[inline(always)]
    #[track_caller]
    fn before(&self, how: Acquire<'_>) {
        if crate::ENABLED && !self.0.is_owned_by_current_thread() {
            hook::acquire(self.map(), how);
        }
    }

    /// Runs a try, and if it was successful and the outermost one, the hook. If that unwinds, the guard unlocks.
    #[inline(always)]
    #[track_caller]
    fn after<G>(&self, attempt: impl FnOnce() -> Option<G>) -> Option<G> {
        let outermost = crate::ENABLED && !self.0.is_owned_by_current_thread();
        let guard = attempt()?;
        if outermost {
            hook::acquire(self.map(), Acquire::WRITE.trylock());
        }
        Some(guard)
    }

    /// Takes the lock; waits for it if another thread has it.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> ReentrantMutexGuard<'_, T> {
        self.before(Acquire::WRITE);
        self.0.lock()
    }

    /// [`lock`](Self::lock) at a level of deliberate nesting within the class, 1 to 7.
    #[inline]
    #[track_caller]
    pub fn lock_nested(&self, subclass: u8) -> ReentrantMutexGuard<'_, T> {
        self.before(Acquire::WRITE.subclass(subclass));
        self.0.lock()
    }

    /// Takes the lock if no other thread has it.
    #[inline]
    #[track_caller]
    pub fn try_lock(&self) -> Option<ReentrantMutexGuard<'_, T>> {
        self.after(|| self.0.try_lock())
    }

    /// Takes the lock, or gives up after this time.
    #[inline]
    #[track_caller]
    pub fn try_lock_for(&self, timeout: Duration) -> Option<ReentrantMutexGuard<'_, T>> {
        self.after(|| self.0.try_lock_for(timeout))
    }

    /// Takes the lock, or gives up at this time.
    #[inline]
    #[track_caller]
    pub fn try_lock_until(&self, timeout: Instant) -> Option<ReentrantMutexGuard<'_, T>> {
        self.after(|| self.0.try_lock_until(timeout))
    }

    /// [`lock`](Self::lock) with a guard that keeps the mutex alive.
    #[inline]
    #[track_caller]
    pub fn lock_arc(self: &Arc<Self>) -> ArcReentrantMutexGuard<T> {
        self.before(Acquire::WRITE);
        as_inner(self).lock_arc()
    }

    /// [`try_lock`](Self::try_lock) with a guard that keeps the mutex alive.
    #[inline]
    #[track_caller]
    pub fn try_lock_arc(self: &Arc<Self>) -> Option<ArcReentrantMutexGuard<T>> {
        self.after(|| as_inner(self).try_lock_arc())
    }

    /// [`try_lock_for`](Self::try_lock_for) with a guard that keeps the mutex alive.
    #[inline]
    #[track_caller]
    pub fn try_lock_arc_for(self: &Arc<Self>, timeout: Duration) -> Option<ArcReentrantMutexGuard<T>> {
        self.after(|| as_inner(self).try_lock_arc_for(timeout))
    }

    /// [`try_lock_until`](Self::try_lock_until) with a guard that keeps the mutex alive.
    #[inline]
    #[track_caller]
    pub fn try_lock_arc_until(self: &Arc<Self>, timeout: Instant) -> Option<ArcReentrantMutexGuard<T>> {
        self.after(|| as_inner(self).try_lock_arc_until(timeout))
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

    /// True if this thread holds the lock.
    #[inline]
    pub fn is_owned_by_current_thread(&self) -> bool {
        self.0.is_owned_by_current_thread()
    }

    /// A pointer to what the lock protects.
    #[inline]
    pub fn data_ptr(&self) -> *mut T {
        self.0.data_ptr()
    }

    /// Releases the lock once without a guard, after `mem::forget` of one.
    ///
    /// # Safety
    /// This thread holds the lock and the guard will not be used any more.
    #[inline]
    #[track_caller]
    pub unsafe fn force_unlock(&self) {
        // SAFETY: as the caller promises.
        unsafe { self.0.force_unlock() };
    }

    /// [`force_unlock`](Self::force_unlock) with a fair hand-over.
    ///
    /// # Safety
    /// This thread holds the lock and the guard will not be used any more.
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
    pub unsafe fn make_guard_unchecked(&self) -> ReentrantMutexGuard<'_, T> {
        // SAFETY: as the caller promises.
        unsafe { self.0.make_guard_unchecked() }
    }
}

/// The same `Arc` with lock_api's name for what is in it.
#[inline]
fn as_inner<T: ?Sized>(mutex: &Arc<ReentrantMutex<T>>) -> ManuallyDrop<Arc<Inner<T>>> {
    let inner = Arc::as_ptr(mutex) as *const Inner<T>;
    // SAFETY: `ReentrantMutex` is a transparent wrapper of `Inner`, so size, alignment and metadata are the same,
    // as `Arc::from_raw` asks. The count that this `Arc` would own is the borrowed one's: it is never dropped, and
    // the borrow outlives every use.
    ManuallyDrop::new(unsafe { Arc::from_raw(inner) })
}

impl<T: ?Sized> Sealed for ReentrantMutex<T> {}

impl<T: ?Sized> Watched for ReentrantMutex<T> {
    const REENTRANT: bool = true;

    #[inline]
    fn __lockdep_map(&self) -> &LockMap {
        self.map()
    }
}

impl<T: Default> Default for ReentrantMutex<T> {
    #[inline]
    #[track_caller]
    fn default() -> Self {
        ReentrantMutex::new(T::default())
    }
}

impl<T> From<T> for ReentrantMutex<T> {
    #[inline]
    #[track_caller]
    fn from(value: T) -> Self {
        ReentrantMutex::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for ReentrantMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_lock() {
            Some(guard) => f.debug_struct("ReentrantMutex").field("data", &&*guard).finish(),
            None => f.debug_struct("ReentrantMutex").field("data", &format_args!("<locked>")).finish(),
        }
    }
}
