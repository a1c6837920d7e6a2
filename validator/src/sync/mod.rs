// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lock types with parking_lot's interface that are watched by the validator.
//!
//! Each type is parking_lot's lock with a [`crate::raw::LockMap`] beside it, which is zero-sized with the
//! feature off. The guards are lock_api's, so mapping, owned guards, fair unlocking and the rest are the same code
//! as in parking_lot.
//!
//! ```
//! use lockdep::LockClass;
//! use lockdep::sync::{Mutex, RwLock};
//!
//! static TREE: LockClass = LockClass::new("tree");
//! static ROOT: Mutex<u32> = Mutex::new(0); // class: this line
//!
//! let left = RwLock::with_class(&TREE, 1); // class: "tree"
//! *ROOT.lock() += *left.read();
//! assert_eq!(*ROOT.lock(), 1);
//! ```
//!
//! # What is reported where
//!
//! An acquisition is judged, and panics if it is a finding and the validator is set to panic, *before* it can
//! block; a trylock after it has succeeded, and then the lock is given back. Releases and the re-locking inside
//! `MutexGuard::unlocked` and its siblings never unwind, because a guard lives on across them: a finding there is
//! reported and the thread goes on. The place that `unlocked` is seen to lock again at is lock_api's line; the
//! stack in the report has the caller's.
//!
//! | method | counts as |
//! |---|---|
//! | `lock`, `write` | exclusive, blocking |
//! | `read` | shared, blocking, behind waiting writers |
//! | `read_recursive` | shared, blocking, past waiting writers |
//! | `upgradable_read` | shared with readers, exclusive among its own kind, blocking |
//! | `upgrade` | waits for the readers only |
//! | `try_…` | held, but no order is learned from waiting for it: it does not wait |
//! | `try_…_for`, `try_…_until` | as `try_…`: a wait that ends by itself is no deadlock |
//!
//! | `Once::call_once`, `OnceLock::get_or_init`, `LazyLock::force` | exclusive, blocking, also if all is done already |
//! | `Completion::wait` | waits for whoever lets it happen, and for the locks that one needs for it |
//!
//! The line on timeouts is a decision. An order that only timed waits contradict costs a delay and a retry, never a
//! hang, and a report on it would be noise in most programs; ThreadSanitizer sees it the same way.
//!
//! # What it cannot see
//!
//! A guard that was sent to another thread (parking_lot's feature `send_guard`) counts as held by the thread that
//! locked. A lock that is held when the thread enters a [`scope`](crate::Validator::scope) is not part of the orders
//! seen inside. Locks that other code makes with `lock_api::Mutex::<RawMutex, _>::new` have no place of construction;
//! they take part in held and exit checks but in no ordering rule.

use crate::hook::{self, Acquire, LockMap};

mod completion;
mod condvar;
mod mutex;
mod once;
mod reentrant;
mod rwlock;
mod watched;

pub use completion::Completion;
pub use condvar::{Condvar, WaitTimeoutResult};
pub use mutex::{ArcMutexGuard, MappedMutexGuard, Mutex, MutexGuard, RawMutex};
pub use once::{LazyLock, Once, OnceLock};
pub use reentrant::{
    ArcReentrantMutexGuard, MappedReentrantMutexGuard, RawReentrantMutex, RawThreadId, ReentrantMutex,
    ReentrantMutexGuard,
};
pub use rwlock::{
    ArcRwLockReadGuard, ArcRwLockUpgradableReadGuard, ArcRwLockWriteGuard, MappedRwLockReadGuard,
    MappedRwLockWriteGuard, RawRwLock, RwLock, RwLockReadGuard, RwLockUpgradableReadGuard, RwLockWriteGuard,
};
pub use watched::{Watched, might_lock};

/// With the feature off a watched lock is as large as the bare one.
const _: () = {
    const fn same<Ours, Bare>() -> bool {
        crate::ENABLED || (size_of::<Ours>() == size_of::<Bare>() && align_of::<Ours>() == align_of::<Bare>())
    }
    assert!(same::<Mutex<u8>, parking_lot::Mutex<u8>>());
    assert!(same::<RwLock<u8>, parking_lot::RwLock<u8>>());
    assert!(same::<ReentrantMutex<u8>, parking_lot::ReentrantMutex<u8>>());
    assert!(same::<Condvar, parking_lot::Condvar>());
    assert!(same::<Once, std::sync::Once>());
    assert!(same::<OnceLock<u8>, std::sync::OnceLock<u8>>());
    assert!(same::<LazyLock<u8>, std::sync::LazyLock<u8>>());
};

/// The hook after a try that got the lock; if it unwinds, `undo` gives the lock back before the panic goes on.
#[inline(always)]
#[track_caller]
fn tried(map: &LockMap, how: Acquire<'_>, undo: impl FnMut()) {
    struct Undo<F: FnMut()>(F);
    impl<F: FnMut()> Drop for Undo<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    let undo = Undo(undo);
    hook::acquire(map, how.trylock());
    core::mem::forget(undo);
}
