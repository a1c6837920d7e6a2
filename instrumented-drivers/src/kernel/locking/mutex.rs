// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `struct mutex`.

use lockdep::raw::{self, Acquire, LockMap};
use lockdep::{HeldAs, LockClass};

use super::raw::RawLock;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::fault;

/// A sleeping, exclusive lock.
pub struct Mutex {
    map: LockMap,
    raw: RawLock,
}

impl Mutex {
    /// A lock of this class.
    #[must_use]
    pub const fn new(class: &'static LockClass) -> Self {
        Mutex { map: LockMap::new(class), raw: RawLock::new() }
    }

    /// `mutex_lock`.
    #[track_caller]
    pub fn lock(&self) {
        raw::acquire(&self.map, Acquire::WRITE);
        self.raw.lock();
    }

    /// `mutex_lock_nested`.
    #[track_caller]
    pub fn lock_nested(&self, subclass: u8) {
        raw::acquire(&self.map, Acquire::WRITE.subclass(subclass));
        self.raw.lock();
    }

    /// `mutex_lock_interruptible`.
    ///
    /// # Errors
    /// -EINTR if a signal was injected ([`fault`]).
    #[track_caller]
    pub fn lock_interruptible(&self) -> Result {
        raw::acquire(&self.map, Acquire::WRITE);
        if fault::interrupted() {
            raw::release(&self.map);
            return Err(Errno::EINTR);
        }
        self.raw.lock();
        Ok(())
    }

    /// `mutex_lock_killable`.
    ///
    /// # Errors
    /// As [`lock_interruptible`](Self::lock_interruptible).
    #[track_caller]
    pub fn lock_killable(&self) -> Result {
        self.lock_interruptible()
    }

    /// `mutex_trylock`.
    #[track_caller]
    pub fn trylock(&self) -> bool {
        let got = self.raw.try_lock();
        if got {
            raw::acquire(&self.map, Acquire::WRITE.trylock());
        }
        got
    }

    /// `mutex_unlock`.
    #[track_caller]
    pub fn unlock(&self) {
        raw::release(&self.map);
        self.raw.unlock();
    }

    /// `lockdep_assert_held`.
    #[track_caller]
    pub fn assert_held(&self) {
        raw::assert_held(&self.map, HeldAs::Any);
    }

    /// Whether this task holds it; known with the validator off too.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.raw.held_by_me()
    }
}

crate::kernel::opaque_debug!(Mutex);
