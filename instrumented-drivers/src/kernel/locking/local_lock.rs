// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `local_lock_t`: one lock for each CPU, for data of that CPU.
//!
//! Every thread here has a CPU to itself, so nobody ever waits for it; there is a lock for the validator only. That is
//! what the kernel has as well: it stays on the CPU (or keeps interrupts away) and locks nothing. Since an interrupt
//! of another CPU takes another lock, the validator looks for no interrupt inversion through a lock of this kind.

use lockdep::LockClass;
use lockdep::raw::{self, Acquire, LockMap};

/// A lock of this CPU.
pub struct LocalLock {
    map: LockMap,
}

impl LocalLock {
    /// A lock of this class, which is made by [`local_class`](super::local_class).
    #[must_use]
    pub const fn new(class: &'static LockClass) -> Self {
        LocalLock { map: LockMap::new(class) }
    }

    /// `local_lock`.
    #[track_caller]
    pub fn lock(&self) {
        raw::acquire(&self.map, Acquire::WRITE);
    }

    /// `local_unlock`.
    #[track_caller]
    pub fn unlock(&self) {
        raw::release(&self.map);
    }
}

crate::kernel::opaque_debug!(LocalLock);
