// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `struct rw_semaphore`.

use lockdep::raw::{self, Acquire, LockMap};
use lockdep::{HeldAs, LockClass};

use super::raw::RawRwLock;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::fault;

/// A sleeping reader-writer lock; readers queue behind a waiting writer.
pub struct RwSem {
    map: LockMap,
    raw: RawRwLock,
}

impl RwSem {
    /// A lock of this class.
    #[must_use]
    pub const fn new(class: &'static LockClass) -> Self {
        RwSem { map: LockMap::new(class), raw: RawRwLock::new() }
    }

    /// `down_read`.
    #[track_caller]
    pub fn down_read(&self) {
        raw::acquire(&self.map, Acquire::READ);
        self.raw.read();
    }

    /// `might_lock_read`: a read acquisition that is released at once, for the validator only.
    #[track_caller]
    pub fn might_lock_read(&self) {
        raw::might_lock(&self.map, Acquire::READ);
    }

    /// `down_read_trylock`.
    #[track_caller]
    pub fn down_read_trylock(&self) -> bool {
        let got = self.raw.try_read();
        if got {
            raw::acquire(&self.map, Acquire::READ.trylock());
        }
        got
    }

    /// `up_read`.
    #[track_caller]
    pub fn up_read(&self) {
        raw::release(&self.map);
        self.raw.unlock_read();
    }

    /// `down_write`.
    #[track_caller]
    pub fn down_write(&self) {
        raw::acquire(&self.map, Acquire::WRITE);
        self.raw.write();
    }

    /// `down_write_nested`.
    #[track_caller]
    pub fn down_write_nested(&self, subclass: u8) {
        raw::acquire(&self.map, Acquire::WRITE.subclass(subclass));
        self.raw.write();
    }

    /// `down_write_killable`.
    ///
    /// # Errors
    /// -EINTR if a signal was injected ([`fault`]).
    #[track_caller]
    pub fn down_write_killable(&self) -> Result {
        raw::acquire(&self.map, Acquire::WRITE);
        if fault::interrupted() {
            raw::release(&self.map);
            return Err(Errno::EINTR);
        }
        self.raw.write();
        Ok(())
    }

    /// `down_write_trylock`.
    #[track_caller]
    pub fn down_write_trylock(&self) -> bool {
        let got = self.raw.try_write();
        if got {
            raw::acquire(&self.map, Acquire::WRITE.trylock());
        }
        got
    }

    /// `up_write`.
    #[track_caller]
    pub fn up_write(&self) {
        raw::release(&self.map);
        self.raw.unlock_write();
    }

    /// `downgrade_write`: the writer goes on as a reader.
    #[track_caller]
    pub fn downgrade_write(&self) {
        raw::downgrade(&self.map);
        self.raw.downgrade();
    }

    /// `rwsem_assert_held_write`.
    #[track_caller]
    pub fn assert_held_write(&self) {
        raw::assert_held(&self.map, HeldAs::Write);
    }

    /// Whether this task is the writer; known with the validator off too.
    #[must_use]
    pub fn is_write_held(&self) -> bool {
        self.raw.write_held_by_me()
    }
}

crate::kernel::opaque_debug!(RwSem);
