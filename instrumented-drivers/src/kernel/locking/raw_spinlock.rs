// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `raw_spinlock_t`: a spinlock that spins even where spinlocks sleep (a real-time kernel). What is taken inside must
//! spin for certain, too; that is the whole difference to [`SpinLock`](super::SpinLock).

use lockdep::LockClass;
use lockdep::raw::{self, Acquire, LockMap};

use super::raw::RawLock;

/// The innermost lock there is.
pub struct RawSpinLock {
    map: LockMap,
    raw: RawLock,
}

impl RawSpinLock {
    /// A lock of this class.
    #[must_use]
    pub const fn new(class: &'static LockClass) -> Self {
        RawSpinLock { map: LockMap::new(class), raw: RawLock::new() }
    }

    /// `raw_spin_lock`.
    #[track_caller]
    pub fn lock(&self) {
        raw::acquire(&self.map, Acquire::WRITE);
        self.raw.lock();
    }

    /// `raw_spin_unlock`.
    #[track_caller]
    pub fn unlock(&self) {
        raw::release(&self.map);
        self.raw.unlock();
    }
}

crate::kernel::opaque_debug!(RawSpinLock);
