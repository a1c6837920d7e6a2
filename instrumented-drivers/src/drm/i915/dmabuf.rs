// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The exporter and the importer.
//!
//! Kernel counterpart: `i915_gem_dmabuf.c`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::object::{
    I915GemWwCtx, Region, for_i915_gem_ww, i915_gem_object_can_migrate, i915_gem_object_init,
    i915_gem_object_lock,
};
use super::pages::{
    i915_gem_object_migrate, i915_gem_object_pin_map, i915_gem_object_pin_pages, i915_gem_object_unpin_pages,
    i915_gem_object_wait_migration,
};
use super::{DISCRETE, I915, bo};
use crate::bug::Bug;
use crate::dma_buf::attach::{dma_buf_attach, dma_buf_detach, sg_free_table};
use crate::dma_buf::core::{DmaBufData, Tail, dma_buf_put, get_dma_buf};
use crate::dma_buf::resv::{
    dma_resv_assert_held, dma_resv_lock, dma_resv_unlock, dma_resv_usage_rw, dma_resv_wait,
};
use crate::dma_buf::{DmaBuf, DmaBufAttachment, DmaBufOps, DmaDirection, SgTable};
use crate::drm::device::{DrmDevice, DrmDriver};
use crate::drm::gem::{DrmGemObject, drm_gem_object_get};
use crate::drm::prime::{drm_gem_dmabuf_export, drm_gem_dmabuf_release, drm_gem_prime_mmap, object};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::mm::{VmArea, vma_set_file};
use crate::kernel::reclaim;
use crate::kernel::shmem::IosysMap;
use crate::policy::LockingPolicy;

/// `i915_gem_prime_export`.
///
/// # Errors
/// -ENOMEM (injected).
pub fn i915_gem_prime_export(obj: &Arc<DrmGemObject>, flags: u32) -> Result<DmaBuf> {
    drm_gem_dmabuf_export(obj, flags, &I915DmabufOps, Some(obj.resv().clone()))
}

/// `i915_dmabuf_ops`.
struct I915DmabufOps;

impl DmaBufOps for I915DmabufOps {
    fn attach(&self, buf: &DmaBuf, _attach: &Arc<DmaBufAttachment>) -> Result {
        i915_gem_dmabuf_attach(buf)
    }

    fn detach(&self, buf: &DmaBuf, _attach: &Arc<DmaBufAttachment>) -> Tail {
        if let Ok(obj) = object(buf) {
            i915_gem_object_unpin_pages(&obj);
        }
        Tail::NONE
    }

    fn map_dma_buf(&self, attach: &Arc<DmaBufAttachment>, _dir: DmaDirection) -> Result<Arc<SgTable>> {
        i915_gem_map_dma_buf(attach)
    }

    fn unmap_dma_buf(&self, _attach: &Arc<DmaBufAttachment>, table: Arc<SgTable>, _dir: DmaDirection) {
        sg_free_table(table);
    }

    fn begin_cpu_access(&self, buf: &DmaBuf, dir: DmaDirection) -> Result {
        i915_gem_begin_cpu_access(buf, dir)
    }

    fn end_cpu_access(&self, buf: &DmaBuf, _dir: DmaDirection) -> Result {
        i915_gem_end_cpu_access(buf)
    }

    fn mmap(&self, buf: &DmaBuf, vma: &mut VmArea) -> Result {
        i915_gem_dmabuf_mmap(buf, vma)
    }

    fn vmap(&self, buf: &DmaBuf) -> Result<IosysMap> {
        i915_gem_dmabuf_vmap(buf)
    }

    fn vunmap(&self, buf: &DmaBuf, _map: &IosysMap) {
        if let Ok(obj) = object(buf) {
            i915_gem_object_unpin_pages(&obj);
        }
    }

    fn release(&self, buf: &DmaBufData) {
        drm_gem_dmabuf_release(buf);
    }
}

/// A foreign device reads system memory only, and the object must stay there.
fn i915_gem_dmabuf_attach(buf: &DmaBuf) -> Result {
    let obj = object(buf)?;
    if !i915_gem_object_can_migrate(&obj) {
        return Err(Errno::EOPNOTSUPP);
    }
    for_i915_gem_ww(true, |ww| {
        i915_gem_object_lock(&obj, ww)?;
        i915_gem_object_migrate(&obj, ww)?;
        i915_gem_object_wait_migration(&obj)?;
        i915_gem_object_pin_pages(&obj).map(drop)
    })
}

/// A table of its own for each device, of the pages that `attach` has pinned.
fn i915_gem_map_dma_buf(attach: &DmaBufAttachment) -> Result<Arc<SgTable>> {
    let obj = object(&attach.dmabuf)?;
    if obj.dev.core.has(Bug::MapLocksAgain) {
        // `i915_gem_object_pin_pages_unlocked`.
        dma_resv_lock(obj.resv());
        let pinned = i915_gem_object_pin_pages(&obj).map(|_| i915_gem_object_unpin_pages(&obj));
        dma_resv_unlock(obj.resv());
        pinned?;
    }
    let pages = bo(&obj).pages.load().ok_or(Errno::ENODEV)?;
    SgTable::from_pages(&obj.dev.core, pages.page_list().clone())
}

fn i915_gem_dmabuf_vmap(buf: &DmaBuf) -> Result<IosysMap> {
    let obj = object(buf)?;
    if buf.policy() != LockingPolicy::P0 {
        return i915_gem_object_pin_map(&obj);
    }
    // `i915_gem_object_pin_map_unlocked`.
    dma_resv_lock(obj.resv());
    let map = i915_gem_object_pin_map(&obj);
    dma_resv_unlock(obj.resv());
    map
}

fn i915_gem_begin_cpu_access(buf: &DmaBuf, dir: DmaDirection) -> Result {
    let obj = object(buf)?;
    for_i915_gem_ww(true, |ww| access(&obj, ww, dir.writes()))
}

fn i915_gem_end_cpu_access(buf: &DmaBuf) -> Result {
    let obj = object(buf)?;
    for_i915_gem_ww(true, |ww| access(&obj, ww, false))
}

/// `i915_gem_object_set_to_cpu_domain` and its like: waits for the GPU, under the lock.
#[track_caller]
fn access(obj: &Arc<DrmGemObject>, ww: &I915GemWwCtx, write: bool) -> Result {
    i915_gem_object_lock(obj, ww)?;
    i915_gem_object_pin_pages(obj)?;
    let waited = dma_resv_wait(obj.resv(), dma_resv_usage_rw(write), true);
    i915_gem_object_unpin_pages(obj);
    waited
}

fn i915_gem_dmabuf_mmap(buf: &DmaBuf, vma: &mut VmArea) -> Result {
    if buf.policy() == LockingPolicy::P1 {
        dma_resv_assert_held(buf.resv());
    }
    let obj = object(buf)?;
    if obj.dev.driver.name() == DISCRETE.name() {
        return drm_gem_prime_mmap(&obj, vma);
    }
    let filp = bo(&obj).filp.as_ref().ok_or(Errno::ENODEV)?;
    filp.ops().mmap(filp, vma)?;
    vma_set_file(vma, filp);
    Ok(())
}

/// `i915_gem_prime_import`: attaches, and leaves it at that.
pub(super) fn i915_gem_prime_import(dev: &Arc<DrmDevice>, buf: &DmaBuf) -> Result<Arc<DrmGemObject>> {
    if buf.has_ops::<I915DmabufOps>()
        && let Ok(obj) = object(buf)
        && obj.dev.is(dev)
        && !I915::of(dev).different_devices.load(Ordering::Relaxed)
    {
        return Ok(drm_gem_object_get(&obj));
    }
    let attach = dma_buf_attach(buf, dev.driver.name())?;
    let ours = get_dma_buf(buf);
    if let Err(error) = reclaim::kmalloc() {
        dma_buf_detach(&ours, &attach);
        dma_buf_put(ours);
        return Err(error);
    }
    let obj = i915_gem_object_init(dev, buf.size, &[Region::Smem], None);
    obj.set_imported(attach);
    Ok(obj)
}
