// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The exporter and the importer.
//!
//! Kernel counterpart: `drivers/gpu/drm/omapdrm/omap_gem_dmabuf.c`.

use std::sync::Arc;

use super::gem::{
    OMAP_BO_MEM_DMABUF, OMAP_BO_TILED, OMAP_BO_WC, omap_gem_get_pages, omap_gem_get_sg, omap_gem_new,
    omap_gem_put_sg, set_imported_pages, to_omap_bo,
};
use crate::dma_buf::attach::{
    dma_buf_attach, dma_buf_detach, dma_buf_map_attachment_unlocked, dma_buf_unmap_attachment_unlocked,
};
use crate::dma_buf::core::{DmaBufData, dma_buf_put, get_dma_buf};
use crate::dma_buf::resv::dma_resv_assert_held;
use crate::dma_buf::{DmaBuf, DmaBufAttachment, DmaBufOps, DmaDirection, SgTable};
use crate::drm::device::DrmDevice;
use crate::drm::gem::{DrmGemObject, drm_gem_mmap_obj, drm_gem_object_get, drm_gem_object_put};
use crate::drm::prime::{drm_gem_dmabuf_export, drm_gem_dmabuf_release, object};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::mm::VmArea;
use crate::policy::LockingPolicy;

/// `omap_gem_prime_export`.
pub(super) fn omap_gem_prime_export(obj: &Arc<DrmGemObject>, flags: u32) -> Result<DmaBuf> {
    drm_gem_dmabuf_export(obj, flags, &OmapGemDmabufOps, Some(obj.resv().clone()))
}

/// `omap_gem_dmabuf_ops`.
struct OmapGemDmabufOps;

impl DmaBufOps for OmapGemDmabufOps {
    fn map_dma_buf(&self, attach: &Arc<DmaBufAttachment>, _dir: DmaDirection) -> Result<Arc<SgTable>> {
        omap_gem_get_sg(&*object(&attach.dmabuf)?)
    }

    fn unmap_dma_buf(&self, attach: &Arc<DmaBufAttachment>, table: Arc<SgTable>, _dir: DmaDirection) {
        if let Ok(obj) = object(&attach.dmabuf) {
            omap_gem_put_sg(&obj, &table);
        }
    }

    fn begin_cpu_access(&self, buf: &DmaBuf, _dir: DmaDirection) -> Result {
        omap_gem_dmabuf_begin_cpu_access(buf)
    }

    fn mmap(&self, buf: &DmaBuf, vma: &mut VmArea) -> Result {
        omap_gem_dmabuf_mmap(buf, vma)
    }

    fn has_vmap(&self) -> bool {
        false
    }

    fn release(&self, buf: &DmaBufData) {
        drm_gem_dmabuf_release(buf);
    }
}

/// The CPU has no linear view of a tiled object. The pages of any other are there from now on.
fn omap_gem_dmabuf_begin_cpu_access(buf: &DmaBuf) -> Result {
    let obj = object(buf)?;
    if to_omap_bo(&obj).flags & OMAP_BO_TILED != 0 {
        return Err(Errno::ENOMEM);
    }
    omap_gem_get_pages(&obj)
}

fn omap_gem_dmabuf_mmap(buf: &DmaBuf, vma: &mut VmArea) -> Result {
    if buf.policy() == LockingPolicy::P1 {
        dma_resv_assert_held(buf.resv());
    }
    drm_gem_mmap_obj(&object(buf)?, vma)
}

/// `omap_gem_prime_import`: the new object does not share the exporter's lock.
pub(super) fn omap_gem_prime_import(dev: &Arc<DrmDevice>, buf: &DmaBuf) -> Result<Arc<DrmGemObject>> {
    if buf.has_ops::<OmapGemDmabufOps>()
        && let Ok(obj) = object(buf)
        && obj.dev.is(dev)
    {
        return Ok(drm_gem_object_get(&obj));
    }
    let attach = dma_buf_attach(buf, dev.driver.name())?;
    let ours = get_dma_buf(buf);
    let result = import_attached(dev, &attach);
    if result.is_err() {
        dma_buf_detach(&ours, &attach);
        dma_buf_put(ours);
    }
    result
}

fn import_attached(dev: &Arc<DrmDevice>, attach: &Arc<DmaBufAttachment>) -> Result<Arc<DrmGemObject>> {
    let table = dma_buf_map_attachment_unlocked(attach, DmaDirection::ToDevice)?;
    match omap_gem_new_dmabuf(dev, attach.dmabuf.size, &table) {
        Ok(obj) => {
            obj.set_import_attach(attach.clone());
            Ok(obj)
        }
        Err(error) => {
            dma_buf_unmap_attachment_unlocked(attach, table, DmaDirection::ToDevice);
            Err(error)
        }
    }
}

/// `omap_gem_new_dmabuf`. An object that fails here has no attachment yet, so its end does not touch the buffer.
fn omap_gem_new_dmabuf(dev: &Arc<DrmDevice>, size: usize, table: &Arc<SgTable>) -> Result<Arc<DrmGemObject>> {
    let obj = omap_gem_new(dev, size, OMAP_BO_MEM_DMABUF | OMAP_BO_WC)?;
    if let Err(error) = set_imported_pages(&obj, table) {
        drm_gem_object_put(obj);
        return Err(error);
    }
    Ok(obj)
}
