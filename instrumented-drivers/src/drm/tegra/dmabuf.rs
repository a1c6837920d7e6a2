// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The exporter, whose buffers have reservation locks of their own, and the importer.
//!
//! Kernel counterpart: `drivers/gpu/drm/tegra/gem.c`.

use std::sync::Arc;

use super::gem::{
    __tegra_gem_mmap, set_imported_table, tegra_bo_alloc_object, tegra_bo_iommu_map, tegra_bo_mmap,
    tegra_bo_munmap, to_tegra_bo,
};
use crate::dma_buf::attach::{
    dma_buf_attach, dma_buf_detach, dma_buf_map_attachment_unlocked, dma_buf_unmap_attachment_unlocked,
    sg_free_table,
};
use crate::dma_buf::core::{DmaBufData, get_dma_buf};
use crate::dma_buf::resv::dma_resv_assert_held;
use crate::dma_buf::{DmaBuf, DmaBufAttachment, DmaBufOps, DmaDirection, SgTable};
use crate::drm::device::DrmDevice;
use crate::drm::gem::{DrmGemObject, drm_gem_mmap_obj, drm_gem_object_get, drm_gem_object_release};
use crate::drm::prime::{drm_gem_dmabuf_export, drm_gem_dmabuf_release, object};
use crate::kernel::errno::Result;
use crate::kernel::mm::VmArea;
use crate::kernel::shmem::IosysMap;
use crate::policy::LockingPolicy;

/// `tegra_gem_prime_export`: no reservation lock is handed over.
pub(super) fn tegra_gem_prime_export(obj: &Arc<DrmGemObject>, flags: u32) -> Result<DmaBuf> {
    drm_gem_dmabuf_export(obj, flags, &TegraGemPrimeDmabufOps, None)
}

/// `tegra_gem_prime_dmabuf_ops`. The caches of the CPU are synchronised without a lock.
struct TegraGemPrimeDmabufOps;

impl DmaBufOps for TegraGemPrimeDmabufOps {
    fn map_dma_buf(&self, attach: &Arc<DmaBufAttachment>, _dir: DmaDirection) -> Result<Arc<SgTable>> {
        tegra_gem_prime_map_dma_buf(attach)
    }

    fn unmap_dma_buf(&self, _attach: &Arc<DmaBufAttachment>, table: Arc<SgTable>, _dir: DmaDirection) {
        sg_free_table(table);
    }

    fn mmap(&self, buf: &DmaBuf, vma: &mut VmArea) -> Result {
        tegra_gem_prime_mmap(buf, vma)
    }

    fn vmap(&self, buf: &DmaBuf) -> Result<IosysMap> {
        tegra_bo_mmap(&*object(buf)?)
    }

    fn vunmap(&self, buf: &DmaBuf, map: &IosysMap) {
        if let Ok(obj) = object(buf) {
            tegra_bo_munmap(&obj, map);
        }
    }

    fn release(&self, buf: &DmaBufData) {
        drm_gem_dmabuf_release(buf);
    }
}

fn tegra_gem_prime_map_dma_buf(attach: &DmaBufAttachment) -> Result<Arc<SgTable>> {
    let obj = object(&attach.dmabuf)?;
    SgTable::from_pages(&obj.dev.core, to_tegra_bo(&obj).pages()?)
}

fn tegra_gem_prime_mmap(buf: &DmaBuf, vma: &mut VmArea) -> Result {
    if buf.policy() == LockingPolicy::P1 {
        dma_resv_assert_held(buf.resv());
    }
    let obj = object(buf)?;
    drm_gem_mmap_obj(&obj, vma)?;
    __tegra_gem_mmap(&obj, vma)
}

/// `tegra_gem_prime_import`.
pub(super) fn tegra_gem_prime_import(dev: &Arc<DrmDevice>, buf: &DmaBuf) -> Result<Arc<DrmGemObject>> {
    if buf.has_ops::<TegraGemPrimeDmabufOps>()
        && let Ok(obj) = object(buf)
        && obj.dev.is(dev)
    {
        return Ok(drm_gem_object_get(&obj));
    }
    let obj = tegra_bo_alloc_object(dev, buf.size)?;
    if let Err(error) = tegra_bo_import(&obj, buf) {
        drm_gem_object_release(&obj);
        return Err(error);
    }
    Ok(obj)
}

fn tegra_bo_import(obj: &DrmGemObject, buf: &DmaBuf) -> Result {
    let attach = dma_buf_attach(buf, obj.dev.driver.name())?;
    let table = match dma_buf_map_attachment_unlocked(&attach, DmaDirection::ToDevice) {
        Ok(table) => table,
        Err(error) => {
            dma_buf_detach(buf, &attach);
            return Err(error);
        }
    };
    set_imported_table(obj, &table);
    if let Err(error) = tegra_bo_iommu_map(obj) {
        dma_buf_unmap_attachment_unlocked(&attach, table, DmaDirection::ToDevice);
        dma_buf_detach(buf, &attach);
        return Err(error);
    }
    obj.set_import_attach(attach);
    // Given back when the object is freed.
    let _ours = get_dma_buf(buf);
    Ok(())
}
