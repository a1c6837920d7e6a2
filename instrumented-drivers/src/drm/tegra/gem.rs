// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Objects: pages, addresses for the device, mappings for the kernel and for programs.
//!
//! Kernel counterpart: `drivers/gpu/drm/tegra/gem.c`.

use core::any::Any;
use std::sync::Arc;

use super::dmabuf::tegra_gem_prime_export;
use super::host1x::{Host1xBo, host1x_bo_clear_cached_mappings};
use super::tegra;
use crate::dma_buf::access::{dma_buf_vmap_unlocked, dma_buf_vunmap_unlocked};
use crate::dma_buf::attach::{dma_buf_unmap_attachment_unlocked, sg_free_table};
use crate::dma_buf::{DmaBuf, DmaDirection, SgTable};
use crate::drm::device::DrmDevice;
use crate::drm::file::DrmFile;
use crate::drm::gem::{
    DrmGemObject, DrmGemObjectFuncs, GemPayload, drm_gem_create_mmap_offset, drm_gem_mmap,
    drm_gem_object_release, drm_gem_vm_close, drm_gem_vm_open, faulting_page,
};
use crate::drm::gem_shmem_helper::drm_gem_get_pages;
use crate::drm::prime::drm_prime_gem_destroy;
use crate::kernel::cell::{KCell, KPtr};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::live::Live;
use crate::kernel::mm::{Signal, VmArea, VmFault, VmOperations};
use crate::kernel::reclaim;
use crate::kernel::shmem::{IosysMap, Page, Pages, ShmemFile, page_align};
use crate::kernel::vmalloc::{KernelMapping, vmap, vunmap};

/// `struct tegra_bo`, the part beyond the GEM object.
pub(super) struct TegraBo {
    pub(super) base: Host1xBo,
    /// Of an own object.
    pages: KPtr<[Page]>,
    /// What the device sees: own pages, or the imported buffer's.
    sgt: KPtr<SgTable>,
    /// `mm`: its addresses.
    iova: KCell<Option<Live>>,
    /// Kernel mappings that are in use.
    vmaps: parking_lot::Mutex<Vec<KernelMapping>>,
}

impl GemPayload for TegraBo {}

pub(super) fn to_tegra_bo(obj: &DrmGemObject) -> &TegraBo {
    let payload: &dyn Any = &*obj.payload;
    match payload.downcast_ref() {
        Some(bo) => bo,
        None => unreachable!("a tegra object"),
    }
}

impl TegraBo {
    pub(super) fn pages(&self) -> Result<Pages> {
        self.pages.load().ok_or(Errno::EINVAL)
    }
}

/// `tegra_bo_alloc_object`.
pub(super) fn tegra_bo_alloc_object(dev: &Arc<DrmDevice>, size: usize) -> Result<Arc<DrmGemObject>> {
    let size = page_align(size);
    if size == 0 {
        return Err(Errno::EINVAL);
    }
    reclaim::kmalloc()?;
    let bo = TegraBo {
        base: Host1xBo::init(),
        pages: KPtr::null(),
        sgt: KPtr::null(),
        iova: KCell::new("the addresses of a tegra object", None),
        vmaps: parking_lot::Mutex::default(),
    };
    let filp = ShmemFile::setup(size)?;
    let obj = DrmGemObject::init(dev, size, Some(filp), &TegraBoFuncs, Box::new(bo));
    drm_gem_create_mmap_offset(&obj);
    Ok(obj)
}

/// `tegra_bo_create`.
pub(super) fn tegra_bo_create(dev: &Arc<DrmDevice>, size: usize) -> Result<Arc<DrmGemObject>> {
    let obj = tegra_bo_alloc_object(dev, size)?;
    tegra_bo_alloc(&obj).inspect_err(|_| drm_gem_object_release(&obj))?;
    Ok(obj)
}

fn tegra_bo_alloc(obj: &Arc<DrmGemObject>) -> Result {
    let bo = to_tegra_bo(obj);
    let pages = drm_gem_get_pages(obj)?;
    bo.sgt.swap(Some(SgTable::from_pages(&obj.dev.core, pages.clone())?));
    bo.pages.swap(Some(pages));
    tegra_bo_iommu_map(obj).inspect_err(|_| tegra_bo_free(obj))
}

/// `tegra_bo_free`.
fn tegra_bo_free(obj: &DrmGemObject) {
    let bo = to_tegra_bo(obj);
    bo.pages.take();
    if let Some(table) = bo.sgt.take() {
        sg_free_table(table);
    }
}

/// The table of an imported buffer.
pub(super) fn set_imported_table(obj: &DrmGemObject, table: &Arc<SgTable>) {
    to_tegra_bo(obj).sgt.swap(Some(table.clone()));
}

/// `tegra_bo_iommu_map`.
pub(super) fn tegra_bo_iommu_map(obj: &DrmGemObject) -> Result {
    let tegra = tegra(&obj.dev);
    reclaim::kmalloc()?;
    tegra.mm_lock.lock();
    // `iommu_map`: page tables.
    let mapped = reclaim::alloc_page();
    if mapped.is_ok() {
        tegra.mapped_pages.with(|mapped| *mapped += obj.size);
        to_tegra_bo(obj).iova.set(Some(obj.dev.core.born("tegra_iova")));
    }
    tegra.mm_lock.unlock();
    mapped
}

fn tegra_bo_iommu_unmap(obj: &DrmGemObject) {
    let tegra = tegra(&obj.dev);
    tegra.mm_lock.lock();
    tegra.mapped_pages.with(|mapped| *mapped -= obj.size);
    if let Some(iova) = to_tegra_bo(obj).iova.replace(None) {
        iova.freed();
    }
    tegra.mm_lock.unlock();
}

/// `tegra_bo_free_object`.
fn tegra_bo_free_object(obj: &Arc<DrmGemObject>) {
    host1x_bo_clear_cached_mappings(obj);
    tegra_bo_iommu_unmap(obj);
    let bo = to_tegra_bo(obj);
    match obj.import_attach() {
        Some(attach) => {
            if let Some(table) = bo.sgt.take() {
                dma_buf_unmap_attachment_unlocked(attach, table, DmaDirection::ToDevice);
            }
            drm_prime_gem_destroy(obj, None);
        }
        None => tegra_bo_free(obj),
    }
    drm_gem_object_release(obj);
}

/// `tegra_bo_mmap`: the kernel's view. Of an import it is the exporter's, whose reservation lock is taken.
pub(super) fn tegra_bo_mmap(obj: &DrmGemObject) -> Result<IosysMap> {
    if let Some(attach) = obj.import_attach() {
        return dma_buf_vmap_unlocked(&attach.dmabuf);
    }
    let bo = to_tegra_bo(obj);
    let mapping = vmap(&obj.dev.core, &bo.pages()?)?;
    let map = mapping.map.clone();
    bo.vmaps.lock().push(mapping);
    Ok(map)
}

/// `tegra_bo_munmap`.
pub(super) fn tegra_bo_munmap(obj: &DrmGemObject, map: &IosysMap) {
    if let Some(attach) = obj.import_attach() {
        return dma_buf_vunmap_unlocked(&attach.dmabuf, map);
    }
    let bo = to_tegra_bo(obj);
    let mut vmaps = bo.vmaps.lock();
    let at = vmaps.iter().position(|mapping| mapping.map.is_equal(map));
    let mapping = at.map(|at| vmaps.swap_remove(at));
    drop(vmaps);
    if let Some(mapping) = mapping {
        vunmap(&obj.dev.core, mapping);
    }
}

/// `tegra_bo_funcs`: without a `mmap`, so that the file's operation has the last word.
struct TegraBoFuncs;

impl DrmGemObjectFuncs for TegraBoFuncs {
    fn free(&self, obj: &Arc<DrmGemObject>) {
        tegra_bo_free_object(obj);
    }

    fn export(&self, obj: &Arc<DrmGemObject>, flags: u32) -> Result<DmaBuf> {
        tegra_gem_prime_export(obj, flags)
    }

    fn vm_ops(&self) -> Option<&'static dyn VmOperations> {
        Some(&TegraBoVmOps)
    }
}

/// `tegra_drm_mmap`.
pub(super) fn tegra_drm_mmap(file: &DrmFile, vma: &mut VmArea) -> Result {
    drm_gem_mmap(file, vma)?;
    let obj = vma.private::<DrmGemObject>().ok_or(Errno::EINVAL)?;
    obj.dev.core.log_mmap(obj.dev.driver.name(), "tegra_drm_mmap", obj.resv().is_held());
    __tegra_gem_mmap(&obj, vma)
}

/// `__tegra_gem_mmap`: its faults insert pages, so there have to be some. An import has none here.
pub(super) fn __tegra_gem_mmap(obj: &DrmGemObject, vma: &VmArea) -> Result {
    to_tegra_bo(obj).pages().map(drop).inspect_err(|_| drm_gem_vm_close(vma))
}

/// `tegra_bo_vm_ops`.
struct TegraBoVmOps;

impl VmOperations for TegraBoVmOps {
    fn open(&self, vma: &VmArea) {
        drm_gem_vm_open(vma);
    }

    fn close(&self, vma: &VmArea) {
        drm_gem_vm_close(vma);
    }

    fn fault(&self, vmf: &VmFault<'_>) -> core::result::Result<(), Signal> {
        tegra_bo_fault(vmf)
    }
}

fn tegra_bo_fault(vmf: &VmFault<'_>) -> core::result::Result<(), Signal> {
    let obj = vmf.vma.private::<DrmGemObject>().ok_or(Signal::Bus)?;
    let pages = to_tegra_bo(&obj).pages().map_err(|_| Signal::Bus)?;
    vmf.insert_page(pages.get(faulting_page(vmf, &obj)?).ok_or(Signal::Bus)?)
}
