// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The bugs that a kernel can have: each a value that switches a model back to the broken code.
//!
//! A [`Kernel`](crate::user::Kernel) begins with those that Linux 6.12 has. [`Kernel::break_with`] brings one back,
//! [`Kernel::fix`] takes one out, and a model asks [`KernelCore::has`] where its right and its wrong code part.
//!
//! [`Kernel::break_with`]: crate::user::Kernel::break_with
//! [`Kernel::fix`]: crate::user::Kernel::fix
//! [`KernelCore::has`]: crate::kernel::KernelCore::has

use std::sync::atomic::{AtomicU64, Ordering};

/// One bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bug {
    /// Regime C: panfrost's `pin` callback takes the reservation lock, which the GEM core has taken (v6.10-rc).
    PinLocksAgain,
    /// fastrpc's `mmap` asserts the reservation lock, as all exporters did under P1, though nobody holds it any more.
    FastrpcMmapAssert,
    /// P1: the core locks for an importer that forwards its `mmap`, not for the buffer's own file (v6.2-rc).
    OwnMmapUnlocked,
    /// panfrost's shrinker locks an object's pages before its mappings; `madvise` does it the other way round (until
    /// v5.10).
    PurgeLocksPagesFirst,
    /// `mmap` of a video device takes `q->lock`, which a task holds while it pins user memory under `mmap_lock` (2011).
    Vb2MmapLocksQueue,
    /// Nobody tells the validator that fences depend on panfrost's handler of GPU page faults, so it sees neither that
    /// the handler allocates memory nor that it takes an object's reservation lock.
    FaultsUnannotated,
    /// omapdrm gives an import back under the object's own lock, which it takes under a reservation lock elsewhere.
    OmapFreesUnderLock,
    /// A timeout that comes when the job is done already makes the scheduler forget the job (until v6.17): it is never
    /// freed.
    LateTimeoutLosesJob,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::PinLocksAgain,
        Self::FastrpcMmapAssert,
        Self::OwnMmapUnlocked,
        Self::PurgeLocksPagesFirst,
        Self::Vb2MmapLocksQueue,
        Self::FaultsUnannotated,
        Self::OmapFreesUnderLock,
        Self::LateTimeoutLosesJob,
    ];

    /// True if Linux 6.12 has it.
    #[must_use]
    pub const fn is_in_6_12(self) -> bool {
        matches!(self, Self::FastrpcMmapAssert | Self::FaultsUnannotated | Self::OmapFreesUnderLock)
    }

    const fn bit(self) -> u64 {
        1 << self as u64
    }
}

/// Which bugs a kernel has.
pub(crate) struct Bugs(AtomicU64);

impl Bugs {
    pub(crate) fn of_linux_6_12() -> Self {
        let known = Bug::ALL.into_iter().filter(|bug| bug.is_in_6_12());
        Bugs(AtomicU64::new(known.map(Bug::bit).sum()))
    }

    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.0.load(Ordering::Relaxed) & bug.bit() != 0
    }

    pub(crate) fn insert(&self, bug: Bug) {
        self.0.fetch_or(bug.bit(), Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, bug: Bug) {
        self.0.fetch_and(!bug.bit(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{Bug, Bugs};

    #[test]
    fn a_kernel_begins_with_the_bugs_of_6_12_and_each_can_be_put_in_and_taken_out() {
        let bugs = Bugs::of_linux_6_12();
        for bug in Bug::ALL {
            assert_eq!(bugs.has(bug), bug.is_in_6_12(), "{bug:?}");
        }
        for bug in Bug::ALL {
            bugs.insert(bug);
            assert!(bugs.has(bug));
            bugs.remove(bug);
            assert!(Bug::ALL.into_iter().all(|other| bugs.has(other) == (other > bug && other.is_in_6_12())));
        }
    }
}
