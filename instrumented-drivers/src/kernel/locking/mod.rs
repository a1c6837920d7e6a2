// SPDX-License-Identifier: GPL-2.0-only
//! The kernel's locks: they really block, and the validator watches them.
//!
//! They are used as in C: `lock()` and `unlock()` are separate calls (no guard), because the kernel takes a lock in
//! one function and drops it in another, and because the function that releases is part of what is compared with
//! a real kernel. Both are `#[track_caller]`: in C they are inline or return straight to the caller.
//!
//! Each lock tells the validator before it may block, and after a trylock succeeded; it tells of a release before
//! the real one. After a panic a lock stays locked, and who waits for it panics, too; dropping it is
//! fine.
//!
//! A spinlock here blocks instead of spinning. What the validator sees is the same.

mod local_lock;
mod mutex;
mod orphan;
mod raw;
mod raw_spinlock;
mod rcu;
mod rtmutex;
mod rwlock;
mod rwsem;
mod spinlock;
mod ww_mutex;
mod ww_surgery;

pub use local_lock::LocalLock;
pub use mutex::Mutex;
pub(crate) use orphan::watched;
pub use raw_spinlock::RawSpinLock;
pub use rcu::{
    rcu_read_lock, rcu_read_lock_bh, rcu_read_lock_sched, rcu_read_unlock, rcu_read_unlock_bh,
    rcu_read_unlock_sched,
};
pub use rtmutex::RtMutex;
pub use rwlock::RwLock;
pub use rwsem::RwSem;
pub use spinlock::SpinLock;
pub use ww_mutex::{WwAcquireCtx, WwAlgorithm, WwClass, WwMutex};

use lockdep::{LockClass, LockKind, WaitType};

/// The class of a spinlock or rwlock.
#[must_use]
pub const fn spin_class(name: &'static str) -> LockClass {
    LockClass::new(name).strict().waits(WaitType::Config)
}

/// The class of a raw spinlock.
#[must_use]
pub const fn raw_spin_class(name: &'static str) -> LockClass {
    LockClass::new(name).strict().waits(WaitType::Spin)
}

/// The class of a local lock.
#[must_use]
pub const fn local_class(name: &'static str) -> LockClass {
    spin_class(name).kind(LockKind::PerCpu)
}

/// The class of a mutex, rwsem or ww mutex.
#[must_use]
pub const fn sleep_class(name: &'static str) -> LockClass {
    LockClass::new(name).strict().waits(WaitType::Sleep)
}

#[cfg(test)]
mod tests;
