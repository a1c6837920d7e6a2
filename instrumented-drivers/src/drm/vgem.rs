// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `vgem`: a driver without a device, for testing buffer sharing. Besides shmem objects it has fences that a program
//! attaches to a buffer and signals itself. A fence that nobody signals is signalled by its timer after ten seconds.
//!
//! `vgem_fence_attach_ioctl` looks for a conflict before it takes the lock and not again under it: two tasks can both find
//! none ([`Bug::VgemTestsUnlocked`]). This is what the kernel does.
//!
//! Kernel counterpart: `drivers/gpu/drm/vgem/`.
//!
//! # Locking
//!
//! `&vfile->fence_mutex` (mutex): the fences of a file. `&fence->lock` (spinlock, irq-safe): one for each fence. Under the
//! latter a timer or a program signals, and callbacks run ([`crate::dma_buf::poll`]).
//!
//! * `reservation_ww_class_mutex` → `&fence->lock`: whether an attached fence is signalled, and callbacks on it

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use lockdep::LockClass;

use super::device::{DriverFile, DrmDevice, DrmDriver};
use super::file::{DrmFile, Handle};
use super::gem::{DrmGemObject, drm_gem_object_put};
use super::gem_handle::drm_gem_object_lookup;
use super::gem_shmem_helper::{drm_gem_shmem_create, drm_gem_shmem_prime_import_sg_table};
use crate::bug::Bug;
use crate::dma_buf::fence::{DmaFence, dma_fence_context_alloc, dma_fence_signal};
use crate::dma_buf::resv::{
    DmaResv, DmaResvUsage, dma_resv_add_fence, dma_resv_assert_held, dma_resv_lock, dma_resv_reserve_fences,
    dma_resv_test_signaled, dma_resv_unlock, dma_resv_usage_rw,
};
use crate::dma_buf::{DmaBufAttachment, SgTable};
use crate::kernel::KernelCore;
use crate::kernel::cell::KCell;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::locking::{Mutex, SpinLock, sleep_class, spin_class};
use crate::kernel::reclaim;

static FENCE_MUTEX: LockClass = sleep_class("&vfile->fence_mutex");
static FENCE_LOCK: LockClass = spin_class("&fence->lock");

/// `vgem_driver`.
#[derive(Debug)]
pub struct VgemDriver;

/// `struct vgem_file`.
struct VgemFile {
    fence_mutex: Mutex,
    fences: KCell<BTreeMap<u32, Arc<DmaFence>>>,
}

impl DrmDriver for VgemDriver {
    fn name(&self) -> &'static str {
        "vgem"
    }

    fn open(&self, _dev: &DrmDevice) -> Result<DriverFile> {
        reclaim::kmalloc()?;
        let fences = KCell::new("a vgem file's fences", BTreeMap::new());
        Ok(Box::new(VgemFile { fence_mutex: Mutex::new(&FENCE_MUTEX), fences }))
    }

    fn postclose(&self, file: &DriverFile) {
        if let Some(vfile) = file.downcast_ref() {
            vgem_fence_close(vfile);
        }
    }

    fn gem_create(&self, dev: &Arc<DrmDevice>, size: usize) -> Result<Arc<DrmGemObject>> {
        drm_gem_shmem_create(dev, size)
    }

    fn gem_prime_import_sg_table(
        &self,
        dev: &Arc<DrmDevice>,
        attach: &Arc<DmaBufAttachment>,
        table: &Arc<SgTable>,
    ) -> Result<Arc<DrmGemObject>> {
        drm_gem_shmem_prime_import_sg_table(dev, attach, table)
    }
}

/// `VGEM_FENCE_TIMEOUT`.
pub const VGEM_FENCE_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of a fence in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VgemFence(pub u32);

/// `vgem_fence_attach_ioctl`: a new fence on a buffer, as if a device had begun to read or write it.
///
/// # Errors
/// -ENOENT if the handle is unknown, -EBUSY if somebody uses the buffer in a conflicting way, -ENOMEM (injected),
/// -ENODEV on another driver's file.
pub fn vgem_fence_attach_ioctl(file: &DrmFile, handle: Handle, write: bool) -> Result<VgemFence> {
    let vfile = file.driver::<VgemFile>().ok_or(Errno::ENODEV)?;
    let obj = drm_gem_object_lookup(file, handle).ok_or(Errno::ENOENT)?;
    let result = vgem_fence_create(&obj).and_then(|fence| {
        let attached = attach(vfile, &obj, &fence, write);
        if attached.is_err() {
            // Somebody may have seen it already.
            let signaled = dma_fence_signal(&fence);
            debug_assert!(signaled.is_ok(), "nobody else signals it");
        }
        attached
    });
    drm_gem_object_put(obj);
    result
}

fn vgem_fence_create(obj: &DrmGemObject) -> Result<Arc<DmaFence>> {
    reclaim::kmalloc()?;
    let lock = Arc::new(SpinLock::new(&FENCE_LOCK));
    let fence = DmaFence::new(&obj.dev.core, lock, dma_fence_context_alloc(), 1);
    let weak = Arc::downgrade(&fence);
    obj.dev.core.timers.after(VGEM_FENCE_TIMEOUT, move || weak.upgrade().iter().for_each(vgem_fence_timeout));
    Ok(fence)
}

/// The middle of `vgem_fence_attach_ioctl`, which it shows.
#[track_caller]
fn attach(vfile: &VgemFile, obj: &DrmGemObject, fence: &Arc<DmaFence>, write: bool) -> Result<VgemFence> {
    let resv = obj.resv();
    let core = &obj.dev.core;
    let too_early = core.has(Bug::VgemTestsUnlocked);
    if too_early {
        test_conflict(core, resv, write)?;
    }
    dma_resv_lock(resv);
    let tested = if too_early { Ok(()) } else { test_conflict(core, resv, write) };
    let reserved = tested.and_then(|()| dma_resv_reserve_fences(resv, 1));
    if reserved.is_ok() {
        let usage = if write { DmaResvUsage::Write } else { DmaResvUsage::Read };
        dma_resv_add_fence(resv, fence, usage);
    }
    dma_resv_unlock(resv);
    reserved?;
    vfile.fence_mutex.lock();
    let id = vfile.fences.with(|fences| {
        let free = (1..).find(|id| !fences.contains_key(id)).unwrap_or(0);
        fences.insert(free, fence.clone());
        free
    });
    vfile.fence_mutex.unlock();
    Ok(VgemFence(id))
}

/// Whether somebody uses the buffer in a conflicting way.
#[track_caller]
fn test_conflict(core: &KernelCore, resv: &DmaResv, write: bool) -> Result {
    if !core.has(Bug::GuardsUnannotated) {
        dma_resv_assert_held(resv);
    }
    if dma_resv_test_signaled(resv, dma_resv_usage_rw(write)) { Ok(()) } else { Err(Errno::EBUSY) }
}

/// `vgem_fence_signal_ioctl`.
///
/// # Errors
/// -ENOENT if there is no such fence, -ETIMEDOUT if its timer has signalled it, -ENODEV on another driver's file.
pub fn vgem_fence_signal_ioctl(file: &DrmFile, fence: VgemFence) -> Result {
    let vfile = file.driver::<VgemFile>().ok_or(Errno::ENODEV)?;
    vfile.fence_mutex.lock();
    let fence = vfile.fences.with(|fences| fences.remove(&fence.0));
    vfile.fence_mutex.unlock();
    let fence = fence.ok_or(Errno::ENOENT)?;
    if fence.is_signaled() {
        return Err(Errno::ETIMEDOUT);
    }
    dma_fence_signal(&fence).map_err(|_| Errno::ETIMEDOUT)
}

/// `vgem_fence_timeout`.
fn vgem_fence_timeout(fence: &Arc<DmaFence>) {
    // The program may have been first.
    let _signaled = dma_fence_signal(fence);
}

fn vgem_fence_close(vfile: &VgemFile) {
    for fence in vfile.fences.replace(BTreeMap::new()).into_values() {
        // The timer may have been first.
        let _signaled = dma_fence_signal(&fence);
    }
}
