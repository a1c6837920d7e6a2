// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `struct rt_mutex`: a mutex whose holder inherits the priority of who waits for it.
//!
//! The threads here have no priorities, so it blocks as a [`Mutex`](super::Mutex) does; the validator sees the same in
//! the kernel, too.

use lockdep::LockClass;
use lockdep::raw::{self, Acquire, LockMap};

use super::raw::RawLock;

/// A sleeping, exclusive lock.
pub struct RtMutex {
    map: LockMap,
    raw: RawLock,
}

impl RtMutex {
    /// A lock of this class.
    #[must_use]
    pub const fn new(class: &'static LockClass) -> Self {
        RtMutex { map: LockMap::new(class), raw: RawLock::new() }
    }

    /// `rt_mutex_lock`.
    #[track_caller]
    pub fn lock(&self) {
        raw::acquire(&self.map, Acquire::WRITE);
        self.raw.lock();
    }

    /// `rt_mutex_unlock`.
    #[track_caller]
    pub fn unlock(&self) {
        raw::release(&self.map);
        self.raw.unlock();
    }
}

crate::kernel::opaque_debug!(RtMutex);
