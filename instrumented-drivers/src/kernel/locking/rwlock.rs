// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `rwlock_t`, the queued one: a reader in task context queues behind a waiting writer (so it is no recursive
//! reader), a reader in interrupt context overtakes it.

use lockdep::LockClass;
use lockdep::raw::{self, Acquire, LockMap};

use super::raw::RawRwLock;
use crate::kernel::irq;

/// A short reader-writer lock.
pub struct RwLock {
    map: LockMap,
    raw: RawRwLock,
}

impl RwLock {
    /// A lock of this class.
    #[must_use]
    pub const fn new(class: &'static LockClass) -> Self {
        RwLock { map: LockMap::new(class), raw: RawRwLock::new() }
    }

    /// `read_lock`.
    #[track_caller]
    pub fn read_lock(&self) {
        if irq::in_interrupt() {
            raw::acquire(&self.map, Acquire::RECURSIVE_READ);
            self.raw.read_recursive();
        } else {
            raw::acquire(&self.map, Acquire::READ);
            self.raw.read();
        }
    }

    /// `read_lock` of an rwlock that is not queued: its readers overtake waiting writers everywhere (the kernel's
    /// self-test switches that on for its older half).
    #[track_caller]
    pub fn read_lock_recursive(&self) {
        raw::acquire(&self.map, Acquire::RECURSIVE_READ);
        self.raw.read_recursive();
    }

    /// `read_unlock`.
    #[track_caller]
    pub fn read_unlock(&self) {
        raw::release(&self.map);
        self.raw.unlock_read();
    }

    /// `write_lock`.
    #[track_caller]
    pub fn write_lock(&self) {
        raw::acquire(&self.map, Acquire::WRITE);
        self.raw.write();
    }

    /// `write_unlock`.
    #[track_caller]
    pub fn write_unlock(&self) {
        raw::release(&self.map);
        self.raw.unlock_write();
    }
}

crate::kernel::opaque_debug!(RwLock);
