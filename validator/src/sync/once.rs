// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! `Once`, `OnceLock`, `LazyLock`: std's, watched.
//!
//! Who initialises holds off everybody else who needs the value, so an initialiser is a lock that is held while it runs,
//! and it is in one graph with all others: a lock that it takes comes after it, and a lock that is held where the value
//! is asked for comes before it. Taken together that can be a deadlock that no run shows, because a value is
//! initialised only once. So each request counts as one that might have had to wait, also after the value is there.
//! Where it is known to be, [`OnceLock::get`] and [`Once::is_completed`] ask without waiting, and teach no order.
//!
//! An initialiser that asks for its own value would wait for itself: it panics before it does.
//!
//! What it cannot see: std's own types, if a program goes on using these.

use core::fmt;
use core::ops::Deref;

use crate::hook::{self, Acquire, LockMap};

/// Runs an initialiser, which holds everybody off.
#[track_caller]
fn hold_off<R>(map: &LockMap, f: impl FnOnce() -> R) -> R {
    struct Release<'a>(&'a LockMap);
    impl Drop for Release<'_> {
        fn drop(&mut self) {
            hook::release_quietly(self.0);
        }
    }
    hook::acquire(map, Acquire::WRITE);
    let _release = Release(map);
    f()
}

/// Something that is done once: [`std::sync::Once`], watched.
///
/// ```
/// use lockdep::sync::Once;
///
/// static SET_UP: Once = Once::new();
///
/// SET_UP.call_once(|| println!("once"));
/// SET_UP.call_once(|| unreachable!());
/// assert!(SET_UP.is_completed());
/// ```
pub struct Once {
    map: LockMap,
    inner: std::sync::Once,
}

impl Once {
    /// Nothing was done yet. The class is the place of the call.
    #[must_use]
    #[track_caller]
    pub const fn new() -> Self {
        Once { map: LockMap::here(&"Once"), inner: std::sync::Once::new() }
    }

    /// Does it, unless it was done; waits if somebody is doing it.
    ///
    /// # Panics
    /// If `f` panics, or did in an earlier call; or if the wait is a finding and the validator is set to panic on it.
    #[track_caller]
    pub fn call_once(&self, f: impl FnOnce()) {
        if self.inner.is_completed() {
            hook::might_lock(&self.map, Acquire::WRITE);
        } else {
            hold_off(&self.map, || self.inner.call_once(f));
        }
    }

    /// True if it was done. Does not wait.
    #[must_use]
    pub fn is_completed(&self) -> bool {
        self.inner.is_completed()
    }
}

impl Default for Once {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// A value that is set once: [`std::sync::OnceLock`], watched.
///
/// ```
/// use lockdep::sync::OnceLock;
///
/// static NAME: OnceLock<String> = OnceLock::new();
///
/// assert!(NAME.get().is_none());
/// assert_eq!(NAME.get_or_init(|| "first".to_owned()), "first");
/// assert_eq!(NAME.set("second".to_owned()), Err("second".to_owned()));
/// ```
pub struct OnceLock<T> {
    map: LockMap,
    inner: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    /// Without a value. The class is the place of the call.
    #[must_use]
    #[track_caller]
    pub const fn new() -> Self {
        OnceLock { map: LockMap::here(&"OnceLock"), inner: std::sync::OnceLock::new() }
    }

    /// The value, if it is there. Does not wait.
    pub fn get(&self) -> Option<&T> {
        self.inner.get()
    }

    /// The value, if it is there.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.inner.get_mut()
    }

    /// Sets the value; waits if somebody is initialising it.
    ///
    /// # Errors
    /// With the value given, if there was one already.
    ///
    /// # Panics
    /// If the wait is a finding and the validator is set to panic on it.
    #[track_caller]
    pub fn set(&self, value: T) -> Result<(), T> {
        hold_off(&self.map, || self.inner.set(value))
    }

    /// The value, made by `f` if it is not there; waits if somebody is making it.
    ///
    /// # Panics
    /// If `f` panics; or if the wait is a finding and the validator is set to panic on it.
    #[track_caller]
    pub fn get_or_init(&self, f: impl FnOnce() -> T) -> &T {
        match self.inner.get() {
            Some(value) => {
                hook::might_lock(&self.map, Acquire::WRITE);
                value
            }
            None => hold_off(&self.map, || self.inner.get_or_init(f)),
        }
    }

    /// The value, if it was there.
    pub fn into_inner(self) -> Option<T> {
        self.inner.into_inner()
    }
}

impl<T> Default for OnceLock<T> {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// A value that is made when it is first asked for: [`std::sync::LazyLock`], watched.
///
/// ```
/// use lockdep::sync::LazyLock;
///
/// static SQUARES: LazyLock<Vec<u32>> = LazyLock::new(|| (0..10).map(|n| n * n).collect());
///
/// assert_eq!(SQUARES[3], 9);
/// ```
pub struct LazyLock<T, F = fn() -> T> {
    map: LockMap,
    inner: std::sync::LazyLock<T, F>,
}

impl<T, F: FnOnce() -> T> LazyLock<T, F> {
    /// A value that `f` will make. The class is the place of the call.
    #[must_use]
    #[track_caller]
    pub const fn new(f: F) -> Self {
        LazyLock { map: LockMap::here(&"LazyLock"), inner: std::sync::LazyLock::new(f) }
    }

    /// The value; makes it, or waits if somebody is making it.
    ///
    /// # Panics
    /// If it cannot be made because its initialiser panics or did; or if the wait is a finding and the validator is set
    /// to panic on it.
    #[track_caller]
    pub fn force(this: &Self) -> &T {
        hold_off(&this.map, || std::sync::LazyLock::force(&this.inner))
    }
}

impl<T, F: FnOnce() -> T> Deref for LazyLock<T, F> {
    type Target = T;

    #[track_caller]
    fn deref(&self) -> &T {
        Self::force(self)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
