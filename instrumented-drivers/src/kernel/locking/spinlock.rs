// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `spinlock_t`.

use lockdep::raw::{self, Acquire, LockMap};
use lockdep::{HeldAs, LockClass};

use super::raw::RawLock;
use crate::kernel::irq::{self, IrqFlags};

/// A short, exclusive lock; sleeping locks must not be taken inside.
pub struct SpinLock {
    map: LockMap,
    raw: RawLock,
}

impl SpinLock {
    /// A lock of this class.
    #[must_use]
    pub const fn new(class: &'static LockClass) -> Self {
        SpinLock { map: LockMap::new(class), raw: RawLock::new() }
    }

    /// `spin_lock`.
    #[track_caller]
    pub fn lock(&self) {
        raw::acquire(&self.map, Acquire::WRITE);
        self.raw.lock();
    }

    /// `spin_lock_nested`.
    #[track_caller]
    pub fn lock_nested(&self, subclass: u8) {
        raw::acquire(&self.map, Acquire::WRITE.subclass(subclass));
        self.raw.lock();
    }

    /// `spin_lock_nest_lock`: `nest` is held and serialises who takes several locks of this class.
    #[track_caller]
    pub fn lock_nest_lock(&self, nest: &LockMap) {
        raw::acquire(&self.map, Acquire::WRITE.nest(nest));
        self.raw.lock();
    }

    /// What the validator knows it by, to be a nest lock.
    pub(crate) fn map(&self) -> &LockMap {
        &self.map
    }

    /// `spin_trylock`.
    #[track_caller]
    pub fn trylock(&self) -> bool {
        let got = self.raw.try_lock();
        if got {
            raw::acquire(&self.map, Acquire::WRITE.trylock());
        }
        got
    }

    /// `spin_unlock`.
    #[track_caller]
    pub fn unlock(&self) {
        raw::release(&self.map);
        self.raw.unlock();
    }

    /// `spin_lock_irq`.
    #[track_caller]
    pub fn lock_irq(&self) {
        irq::local_irq_disable();
        self.lock();
    }

    /// `spin_unlock_irq`.
    #[track_caller]
    pub fn unlock_irq(&self) {
        self.unlock();
        irq::local_irq_enable();
    }

    /// `spin_lock_irqsave`.
    #[track_caller]
    pub fn lock_irqsave(&self) -> IrqFlags {
        let flags = irq::local_irq_save();
        self.lock();
        flags
    }

    /// `spin_unlock_irqrestore`.
    #[track_caller]
    pub fn unlock_irqrestore(&self, flags: IrqFlags) {
        self.unlock();
        irq::local_irq_restore(flags);
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

crate::kernel::opaque_debug!(SpinLock);
