// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Where kernel data lives. The kernel's locks carry no data, they stand next to it; so the data needs a home that
//! is safe Rust and finds out when the lock that should protect it was not held.
//!
//! [`KCell`] is for data under an exclusive lock, [`KRwCell`] for data under a reader-writer lock. Both are never
//! contended in right code; contention is a data race in the model and panics. [`KReadOnce`] is for a value that is
//! changed under a lock and also read without, [`KPtr`] for a pointer of that kind (RCU, `READ_ONCE`).

use core::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::interleave::{Step, before};

#[cold]
#[track_caller]
fn race(what: &str) -> ! {
    panic!("internal error: unprotected concurrent access to {what}: its lock is not held");
}

/// Data that an exclusive lock next to it protects.
pub struct KCell<T> {
    what: &'static str,
    value: Mutex<T>,
}

impl<T> KCell<T> {
    /// `what` names the data in the panic message.
    pub const fn new(what: &'static str, value: T) -> Self {
        KCell { what, value: Mutex::new(value) }
    }

    /// Looks at the data or changes it. `f` must not come back to this cell.
    ///
    /// # Panics
    /// If another thread is inside: the protecting lock is not held.
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        match self.value.try_lock() {
            Some(mut value) => f(&mut value),
            None => race(self.what),
        }
    }

    /// As [`with`](Self::with); nothing happens if another thread is inside.
    pub fn try_with(&self, f: impl FnOnce(&mut T)) {
        if let Some(mut value) = self.value.try_lock() {
            f(&mut value);
        }
    }

    /// A copy of the data.
    #[track_caller]
    pub fn get(&self) -> T
    where
        T: Clone,
    {
        self.with(|value| value.clone())
    }

    /// Replaces the data and returns what was there.
    #[track_caller]
    pub fn replace(&self, new: T) -> T {
        self.with(|value| core::mem::replace(value, new))
    }

    /// Replaces the data.
    #[track_caller]
    pub fn set(&self, new: T) {
        drop(self.replace(new));
    }
}

/// A value that an exclusive lock next to it protects, and that the kernel also looks at without it, because one that is out
/// of date does no harm there (`READ_ONCE`).
pub struct KReadOnce<T> {
    owned: KCell<T>,
    seen: Mutex<T>,
}

impl<T: Copy> KReadOnce<T> {
    /// `what` names the value in the panic message.
    pub const fn new(what: &'static str, value: T) -> Self {
        KReadOnce { owned: KCell::new(what, value), seen: Mutex::new(value) }
    }

    /// As [`KCell::with`].
    ///
    /// # Panics
    /// If another thread is inside: the protecting lock is not held.
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        self.owned.with(|value| {
            let result = f(value);
            *self.seen.lock() = *value;
            result
        })
    }

    /// A copy of the value.
    ///
    /// # Panics
    /// If another thread is inside: the protecting lock is not held.
    #[track_caller]
    pub fn get(&self) -> T {
        self.owned.get()
    }

    /// The value as it was when somebody had changed it last; the lock need not be held.
    pub fn read_once(&self) -> T {
        *self.seen.lock()
    }
}

/// Data that a reader-writer lock next to it protects.
pub struct KRwCell<T> {
    what: &'static str,
    value: RwLock<T>,
}

impl<T> KRwCell<T> {
    /// `what` names the data in the panic message.
    pub const fn new(what: &'static str, value: T) -> Self {
        KRwCell { what, value: RwLock::new(value) }
    }

    /// Looks at the data.
    ///
    /// # Panics
    /// If a writer is inside: the protecting lock is not held.
    #[track_caller]
    pub fn read<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        match self.value.try_read() {
            Some(value) => f(&value),
            None => race(self.what),
        }
    }

    /// Changes the data.
    ///
    /// # Panics
    /// If anybody is inside: the protecting lock is not held.
    #[track_caller]
    pub fn write<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        match self.value.try_write() {
            Some(mut value) => f(&mut value),
            None => race(self.what),
        }
    }
}

impl<T> KRwCell<T> {
    /// As [`write`](Self::write); nothing happens if anybody is inside.
    pub fn try_write(&self, f: impl FnOnce(&mut T)) {
        if let Some(mut value) = self.value.try_write() {
            f(&mut value);
        }
    }
}

/// A pointer that may be read without a lock and is changed by whoever owns it.
pub struct KPtr<T: ?Sized>(Mutex<Option<Arc<T>>>);

impl<T: ?Sized> KPtr<T> {
    /// A null pointer.
    #[must_use]
    pub const fn null() -> Self {
        KPtr(Mutex::new(None))
    }

    /// A pointer to this.
    #[must_use]
    pub const fn new(target: Arc<T>) -> Self {
        KPtr(Mutex::new(Some(target)))
    }

    /// What it points to.
    pub fn load(&self) -> Option<Arc<T>> {
        before(self, Step::Access);
        self.0.lock().clone()
    }

    /// True if it points to nothing.
    pub fn is_null(&self) -> bool {
        before(self, Step::Access);
        self.0.lock().is_none()
    }

    /// Points it elsewhere; returns where it pointed.
    pub fn swap(&self, target: Option<Arc<T>>) -> Option<Arc<T>> {
        before(self, Step::Access);
        core::mem::replace(&mut *self.0.lock(), target)
    }

    /// Makes it null; returns where it pointed.
    pub fn take(&self) -> Option<Arc<T>> {
        self.swap(None)
    }
}

impl<T> fmt::Debug for KCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KCell").field(&self.what).finish()
    }
}

impl<T> fmt::Debug for KReadOnce<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KReadOnce").field(&self.owned.what).finish()
    }
}

impl<T> fmt::Debug for KRwCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KRwCell").field(&self.what).finish()
    }
}

impl<T: ?Sized> fmt::Debug for KPtr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_null() { "KPtr(null)" } else { "KPtr" })
    }
}

/// A reference count with the kernel's rules.
#[derive(Debug)]
pub struct Kref(core::sync::atomic::AtomicUsize);

impl Default for Kref {
    fn default() -> Self {
        Self::new()
    }
}

impl Kref {
    /// One reference.
    #[must_use]
    pub const fn new() -> Self {
        Kref(core::sync::atomic::AtomicUsize::new(1))
    }

    /// One more.
    ///
    /// # Panics
    /// If there was none left: a use after free in the model.
    #[track_caller]
    pub fn get(&self) {
        // Who has one may take another at any time, so it makes no difference when.
        assert!(self.increment(), "kernel BUG: reference taken on a freed object");
    }

    /// One more, unless there is none left.
    pub fn get_unless_zero(&self) -> bool {
        before(self, Step::Access);
        self.increment()
    }

    fn increment(&self) -> bool {
        use core::sync::atomic::Ordering::{Acquire, Relaxed};
        let update = |count| if count == 0 { None } else { Some(count + 1) };
        self.0.fetch_update(Acquire, Relaxed, update).is_ok()
    }

    /// One less; true if that was the last.
    ///
    /// # Panics
    /// If there was none left.
    #[track_caller]
    pub fn put(&self) -> bool {
        use core::sync::atomic::Ordering::{AcqRel, Acquire};
        before(self, Step::Access);
        let update = |count: usize| count.checked_sub(1);
        match self.0.fetch_update(AcqRel, Acquire, update) {
            Ok(before) => before == 1,
            Err(_) => panic!("kernel BUG: reference dropped on a freed object"),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(core::sync::atomic::Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::{KCell, Kref};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn two_users_of_a_cell_at_once_are_found() {
        let cell = KCell::new("a counter", 1);
        let nested = catch_unwind(AssertUnwindSafe(|| cell.with(|_| cell.get())));
        assert!(nested.unwrap_err().downcast::<String>().unwrap().contains("a counter"));
        assert_eq!(cell.get(), 1, "usable again");
    }

    #[test]
    fn the_last_put_says_so_and_a_further_one_is_a_bug() {
        let kref = Kref::new();
        kref.get();
        assert!(!kref.put());
        assert!(kref.put());
        assert!(!kref.get_unless_zero());
        assert!(catch_unwind(AssertUnwindSafe(|| kref.put())).is_err());
    }
}
