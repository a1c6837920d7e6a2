// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `struct dma_resv`: the reservation lock of a buffer and the fences on it.
//!
//! All reservation locks are one ww class, of the wait-die kind. Without a context the lock is a plain mutex, so a
//! second one of this class in the same task is a finding, whichever buffer it belongs to.
//!
//! Changing the fences needs the lock; looking at them does not (RCU in the kernel, a plain mutex here that the
//! validator does not see).
//!
//! [`dma_resv_lockdep`] is the kernel's boot-time priming: it takes the locks once in the documented order, so that
//! the first violation by any driver is found.
//!
//! # Locking
//!
//! `reservation_ww_class_mutex` is the lock, `reservation_ww_class_acquire` the context of those who take several. What the
//! boot teaches, so that everything else has to fit:
//!
//! * `&mm->mmap_lock` → `reservation_ww_class_acquire` → `reservation_ww_class_mutex` → `fs_reclaim`: a page fault may take
//!   reservation locks, and memory is asked for under them
//! * `fs_reclaim` → `&mapping->i_mmap_rwsem`, `mmu_notifier_invalidate_range_start`: reclaim takes pages out of mappings
//! * `mmu_notifier_invalidate_range_start` → `dma_fence_map`: and may wait for a device to do without them

use std::sync::Arc;

use lockdep::LockClass;

use super::fence::{self, DmaFence};
use crate::kernel::KernelCore;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::interleave::{Step, before};
use crate::kernel::locking::{WwAcquireCtx, WwAlgorithm, WwClass, WwMutex, sleep_class};
use crate::kernel::mm::{AddressSpace, Mm, i_mmap_lock_write_and_unlock};
use crate::kernel::reclaim;

static MUTEX: LockClass = sleep_class("reservation_ww_class_mutex");
static ACQUIRE: LockClass = sleep_class("reservation_ww_class_acquire");

/// The class of all reservation locks.
pub static RESERVATION_WW_CLASS: WwClass = WwClass::new(&MUTEX, &ACQUIRE, WwAlgorithm::WaitDie);

/// What a fence on a buffer is for. A larger usage includes the smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DmaResvUsage {
    /// Memory management; everybody waits for it.
    Kernel,
    /// Somebody writes.
    Write,
    /// Somebody reads.
    Read,
    /// Nobody waits for it implicitly.
    Bookkeep,
}

/// `dma_resv_usage_rw`: what has to be waited for before reading or writing.
#[must_use]
pub const fn dma_resv_usage_rw(write: bool) -> DmaResvUsage {
    if write { DmaResvUsage::Read } else { DmaResvUsage::Write }
}

#[derive(Default)]
struct FenceList {
    fences: Vec<(Arc<DmaFence>, DmaResvUsage)>,
    reserved: usize,
}

/// `struct dma_resv`.
pub struct DmaResv {
    lock: WwMutex,
    list: parking_lot::Mutex<FenceList>,
}

impl Default for DmaResv {
    fn default() -> Self {
        Self::new()
    }
}

impl DmaResv {
    /// `dma_resv_init`.
    #[must_use]
    pub fn new() -> Self {
        DmaResv { lock: WwMutex::new(&RESERVATION_WW_CLASS), list: parking_lot::Mutex::default() }
    }

    /// Whether this task holds it; known with the validator off too.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.lock.is_held()
    }

    /// `dma_resv_is_locked`, by whomever.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.lock.is_locked()
    }

    /// How many tasks wait for it.
    #[must_use]
    pub fn waiters(&self) -> usize {
        self.lock.waiters()
    }

    /// The fences of this usage that are not signalled yet (no lock needed).
    #[must_use]
    pub fn unsignaled(&self, usage: DmaResvUsage) -> Vec<Arc<DmaFence>> {
        before(self, Step::Access);
        let list = self.list.lock();
        let wanted = list.fences.iter().filter(|(fence, other)| *other <= usage && !fence.is_signaled());
        wanted.map(|(fence, _)| fence.clone()).collect()
    }
}

/// `dma_resv_lock` without a context.
#[track_caller]
pub fn dma_resv_lock(resv: &DmaResv) {
    let result = resv.lock.lock(None);
    debug_assert!(result.is_ok(), "only a context is told to give up");
}

/// `dma_resv_lock` under a context.
///
/// # Errors
/// -EALREADY, -EDEADLK: see [`WwMutex::lock`].
#[track_caller]
pub fn dma_resv_lock_ctx(resv: &DmaResv, ctx: &WwAcquireCtx) -> Result {
    resv.lock.lock(Some(ctx))
}

/// `dma_resv_lock_interruptible`.
///
/// # Errors
/// -EINTR (injected); with a context also -EALREADY, -EDEADLK.
#[track_caller]
pub fn dma_resv_lock_interruptible(resv: &DmaResv, ctx: Option<&WwAcquireCtx>) -> Result {
    resv.lock.lock_interruptible(ctx)
}

/// `dma_resv_lock_slow`.
#[track_caller]
pub fn dma_resv_lock_slow(resv: &DmaResv, ctx: &WwAcquireCtx) {
    resv.lock.lock_slow(ctx);
}

/// `dma_resv_lock_slow_interruptible`.
///
/// # Errors
/// -EINTR (injected).
#[track_caller]
pub fn dma_resv_lock_slow_interruptible(resv: &DmaResv, ctx: &WwAcquireCtx) -> Result {
    resv.lock.lock_slow_interruptible(ctx)
}

/// `dma_resv_trylock`.
#[track_caller]
pub fn dma_resv_trylock(resv: &DmaResv) -> bool {
    resv.lock.trylock(None)
}

/// `dma_resv_unlock`. Slots that were reserved and not used are given back, so that the next fence without a
/// reservation is found (the kernel does this with `CONFIG_DEBUG_MUTEXES`).
#[track_caller]
pub fn dma_resv_unlock(resv: &DmaResv) {
    let mut list = resv.list.lock();
    list.reserved = list.fences.len();
    drop(list);
    resv.lock.unlock();
}

/// `dma_resv_assert_held`.
#[track_caller]
pub fn dma_resv_assert_held(resv: &DmaResv) {
    resv.lock.assert_held();
}

/// The opposite: this task does not hold it.
#[track_caller]
pub fn dma_resv_assert_not_held(resv: &DmaResv) {
    resv.lock.assert_not_held();
}

/// `might_lock(&resv->lock.base)`.
#[track_caller]
pub fn dma_resv_might_lock(resv: &DmaResv) {
    resv.lock.might_lock();
}

/// `dma_resv_reserve_fences`: makes room for `count` more fences.
///
/// # Errors
/// -ENOMEM (injected).
#[track_caller]
pub fn dma_resv_reserve_fences(resv: &DmaResv, count: usize) -> Result {
    dma_resv_assert_held(resv);
    let needed = resv.list.lock().fences.len() + count;
    if needed > resv.list.lock().reserved {
        reclaim::kmalloc()?;
        let mut list = resv.list.lock();
        list.fences.retain(|(fence, _)| !fence.is_signaled());
        list.reserved = needed.max(4);
    }
    Ok(())
}

/// `dma_resv_add_fence`: a slot must have been reserved.
///
/// # Panics
/// If there is no reserved slot (`BUG_ON` in the kernel).
#[track_caller]
pub fn dma_resv_add_fence(resv: &DmaResv, fence: &Arc<DmaFence>, usage: DmaResvUsage) {
    dma_resv_assert_held(resv);
    before(resv, Step::Access);
    let mut list = resv.list.lock();
    let replaced = list.fences.iter().position(|(old, old_usage)| {
        (*old_usage >= usage && fence.is_later_or_same(old)) || old.is_signaled()
    });
    match replaced {
        Some(at) => list.fences[at] = (fence.clone(), usage),
        None => {
            assert!(
                list.fences.len() < list.reserved,
                "kernel BUG: dma_resv_add_fence without a reserved slot"
            );
            list.fences.push((fence.clone(), usage));
        }
    }
}

/// `dma_resv_for_each_fence`: all fences of this usage, the lock held.
#[track_caller]
pub fn dma_resv_fences(resv: &DmaResv, usage: DmaResvUsage) -> Vec<Arc<DmaFence>> {
    dma_resv_assert_held(resv);
    let list = resv.list.lock();
    list.fences.iter().filter(|(_, other)| *other <= usage).map(|(fence, _)| fence.clone()).collect()
}

/// `dma_resv_test_signaled`: whether nothing of this usage is pending. No lock.
#[must_use]
pub fn dma_resv_test_signaled(resv: &DmaResv, usage: DmaResvUsage) -> bool {
    resv.unsignaled(usage).is_empty()
}

/// `dma_resv_wait_timeout` without a limit: waits for everything of this usage. No lock.
///
/// # Errors
/// -EINTR if interruptible and a signal was injected.
pub fn dma_resv_wait(resv: &DmaResv, usage: DmaResvUsage, interruptible: bool) -> Result {
    for fence in resv.unsignaled(usage) {
        fence::dma_fence_wait(&fence, interruptible)?;
    }
    Ok(())
}

/// `dma_resv_get_singleton`: everything pending of this usage as one fence. No lock.
///
/// # Errors
/// -ENOMEM (injected).
pub fn dma_resv_get_singleton(
    core: &KernelCore,
    resv: &DmaResv,
    usage: DmaResvUsage,
) -> Result<Option<Arc<DmaFence>>> {
    let mut fences = resv.unsignaled(usage);
    match fences.len() {
        0 | 1 => Ok(fences.pop()),
        _ => DmaFence::array(core, fences).map(Some),
    }
}

/// `dma_resv_describe`: how many fences there are, for debugfs; the lock held.
#[track_caller]
pub(crate) fn dma_resv_describe(resv: &DmaResv) -> String {
    let fences = dma_resv_fences(resv, DmaResvUsage::Bookkeep);
    format!("{} fences", fences.len())
}

/// `dma_resv_fini`: the buffer is gone.
pub(crate) fn dma_resv_fini(resv: &DmaResv) {
    *resv.list.lock() = FenceList::default();
    lockdep::raw::freed(resv);
}

/// `dma_resv_lockdep`: records the documented order with locks of its own.
///
/// `mmap_lock` (reader) → acquire context → reservation lock → reclaim → { `i_mmap_rwsem`, mmu notifier → waiting
/// for a fence }.
pub fn dma_resv_lockdep(core: &KernelCore) {
    let mm = Mm::new(core);
    let mapping = AddressSpace::default();
    let resv = DmaResv::new();
    mm.mmap_lock().down_read();
    let ctx = WwAcquireCtx::init(&RESERVATION_WW_CLASS);
    if dma_resv_lock_ctx(&resv, &ctx) == Err(Errno::EDEADLK) {
        dma_resv_lock_slow(&resv, &ctx);
    }
    reclaim::fs_reclaim_acquire();
    i_mmap_lock_write_and_unlock(&mapping);
    reclaim::mmu_notifier_invalidate_range_start();
    fence::__dma_fence_might_wait();
    reclaim::mmu_notifier_invalidate_range_end();
    reclaim::fs_reclaim_release();
    dma_resv_unlock(&resv);
    ctx.fini();
    mm.mmap_lock().up_read();
    crate::kernel::mm::mmput(&mm);
}

crate::kernel::opaque_debug!(DmaResv);
