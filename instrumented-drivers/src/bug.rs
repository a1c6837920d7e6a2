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

/// One bug, or something that nobody tells the validator, so that it cannot see a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bug {
    /// P1: the core locks for an importer that forwards its `mmap`, not for the buffer's own file (v6.2-rc).
    OwnMmapUnlocked,
    /// Regime C: panfrost's `pin` callback takes the reservation lock, which the GEM core has taken (v6.10-rc).
    PinLocksAgain,
    /// fastrpc's `mmap` asserts the reservation lock, as all exporters did under P1, though nobody holds it any more.
    FastrpcMmapAssert,
    /// A kernel client's buffer is unmapped with the function that wants the reservation lock held.
    ClientVunmapsUnlocked,
    /// The shmem helper's tests call functions that want the reservation lock held, without it.
    ShmemTestsUnlocked,
    /// panfrost's shrinker locks an object's pages before its mappings; `madvise` does it the other way round (until
    /// v5.10).
    PurgeLocksPagesFirst,
    /// Regime A: the shmem helper waits for the lock of the pages when reclaim asks for them (2019).
    PurgeBlocks,
    /// Regime A: the shmem helper looks for a table, makes one and keeps it without the lock of the pages (until v6.2).
    SgtUnlocked,
    /// Regime A: a new VMA of a shmem object counts as a user of the pages unless a signal comes first (until v6.1).
    VmOpenInterruptible,
    /// i915's `map_dma_buf` takes the reservation lock, which the core holds (until v5.15).
    MapLocksAgain,
    /// The last reference to an imported buffer is dropped under the locks of others (until v6.10).
    LastPutLocks,
    /// A camera's exporter pins the program's memory in `map_dma_buf`, under `mmap_lock` (out of tree, 2023).
    MapTakesMmapLock,
    /// amdgpu waits for its device to be resumed under the reservation lock, which the resume takes (until v6.10).
    AttachResumesDevice,
    /// `drm_gem_lock_reservations` does not end its context when it fails (2022).
    CtxNotFinished,
    /// `drm_exec` drops the lock first that it took first, and its object with it (until v6.6).
    ExecFreesFirst,
    /// Eviction tries the locks of all objects without a context that they belong to (until v5.16).
    EvictsWithoutCtx,
    /// `mmap` of a video device takes `q->lock`, which a task holds while it pins user memory under `mmap_lock` (2011).
    Vb2MmapLocksQueue,
    /// i915's error capture stops all CPUs under a lock that signalling a fence may need.
    CaptureStopsMachine,
    /// i915's eviction takes reservation locks under `vm->mutex`.
    EvictLocksUnderVm,
    /// panthor binds memory without the lock of the address space (until v6.13).
    GpuvmUnlocked,
    /// The name of a dma-buf is protected by a mutex, and read where nobody may sleep (until v5.9).
    NameMutex,
    /// etnaviv waits for a free event under the lock that the recovery needs to free some (until v4.17).
    SubmitHoldsGpuLock,
    /// panfrost's handler of GPU page faults, which fences depend on, allocates memory that has to be reclaimed.
    FaultAllocates,
    /// panfrost's handler of GPU page faults takes a reservation lock, under which others wait for fences.
    FaultLocksResv,
    /// omapdrm gives an import back under the object's own lock, which it takes under a reservation lock elsewhere.
    OmapFreesUnderLock,
    /// udmabuf looks for a table, makes one and keeps it without any lock.
    UdmabufTableUnlocked,
    /// vgem looks for a conflicting fence before it takes the lock under which it adds one.
    VgemTestsUnlocked,
    /// A timeout that comes when the job is done already makes the scheduler forget the job (until v6.17): it is never
    /// freed.
    LateTimeoutLosesJob,
    /// Nobody tells the validator that fences depend on the handler of GPU page faults.
    FaultsUnannotated,
    /// Nobody tells the validator who waits for a completion, or for a device to be resumed.
    WaitsUnannotated,
    /// Nobody tells the validator which lock protects a scatter table, or the look for a conflicting fence.
    GuardsUnannotated,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 31] = [
        Self::OwnMmapUnlocked,
        Self::PinLocksAgain,
        Self::FastrpcMmapAssert,
        Self::ClientVunmapsUnlocked,
        Self::ShmemTestsUnlocked,
        Self::PurgeLocksPagesFirst,
        Self::PurgeBlocks,
        Self::SgtUnlocked,
        Self::VmOpenInterruptible,
        Self::MapLocksAgain,
        Self::LastPutLocks,
        Self::MapTakesMmapLock,
        Self::AttachResumesDevice,
        Self::CtxNotFinished,
        Self::ExecFreesFirst,
        Self::EvictsWithoutCtx,
        Self::Vb2MmapLocksQueue,
        Self::CaptureStopsMachine,
        Self::EvictLocksUnderVm,
        Self::GpuvmUnlocked,
        Self::NameMutex,
        Self::SubmitHoldsGpuLock,
        Self::FaultAllocates,
        Self::FaultLocksResv,
        Self::OmapFreesUnderLock,
        Self::UdmabufTableUnlocked,
        Self::VgemTestsUnlocked,
        Self::LateTimeoutLosesJob,
        Self::FaultsUnannotated,
        Self::WaitsUnannotated,
        Self::GuardsUnannotated,
    ];

    /// True if Linux 6.12 has it.
    #[must_use]
    pub const fn is_in_6_12(self) -> bool {
        matches!(
            self,
            Self::FastrpcMmapAssert
                | Self::ShmemTestsUnlocked
                | Self::FaultAllocates
                | Self::FaultLocksResv
                | Self::OmapFreesUnderLock
                | Self::UdmabufTableUnlocked
                | Self::VgemTestsUnlocked
                | Self::FaultsUnannotated
                | Self::WaitsUnannotated
                | Self::GuardsUnannotated
        )
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
