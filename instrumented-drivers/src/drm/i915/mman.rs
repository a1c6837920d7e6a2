// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Programs map objects: as the CPU sees them or through the GPU's addresses.
//!
//! A fault that a signal interrupts inserts nothing; the access is tried again.
//!
//! Kernel counterpart: `i915_gem_mman.c`.

use std::sync::Arc;

use super::object::{for_i915_gem_ww, i915_gem_object_lock};
use super::pages::{i915_gem_object_pin_pages, i915_gem_object_unpin_pages, i915_vma_pin_ww};
use super::{I915, bo};
use crate::dma_buf::SgTable;
use crate::dma_buf::resv::{dma_resv_lock_interruptible, dma_resv_unlock};
use crate::drm::file::{DrmFile, Handle};
use crate::drm::gem::{
    DrmGemObject, drm_gem_create_mmap_offset, drm_gem_object_put, drm_gem_vm_close, drm_gem_vm_open,
    faulting_page,
};
use crate::drm::gem_handle::drm_gem_object_lookup;
use crate::drm::vma_manager::lookup_allowed_and_get;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::mm::{Signal, VmArea, VmFault, VmOperations, unmap_mapping_range};
use crate::kernel::reclaim;
use crate::kernel::shmem::PAGE_SIZE;

/// `enum i915_mmap_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MmapType {
    /// As the CPU sees the pages.
    Wb,
    /// Through the GPU's addresses.
    Gtt,
}

impl MmapType {
    /// What a program asks for if it does not care. An import has no pages for the CPU.
    pub(super) fn usual(obj: &DrmGemObject) -> Self {
        if obj.import_attach().is_some() { MmapType::Gtt } else { MmapType::Wb }
    }
}

/// `mmap_offset_attach`.
///
/// # Errors
/// -ENODEV for the pages of an import, -EINVAL if it has another kind of mapping already, -ENOMEM (injected).
pub(super) fn mmap_offset_attach(obj: &Arc<DrmGemObject>, kind: MmapType) -> Result {
    if kind == MmapType::Wb && obj.import_attach().is_some() {
        return Err(Errno::ENODEV);
    }
    let bo = bo(obj);
    // `lookup_mmo`.
    bo.mmo_lock.lock();
    let known = bo.mmo.get();
    bo.mmo_lock.unlock();
    match known {
        Some(known) => return if known == kind { Ok(()) } else { Err(Errno::EINVAL) },
        None => reclaim::kmalloc()?,
    }
    drm_gem_create_mmap_offset(obj);
    // `insert_mmo`.
    bo.mmo_lock.lock();
    bo.mmo.set(Some(kind));
    bo.mmo_lock.unlock();
    Ok(())
}

/// `i915_gem_mmap_offset_ioctl`: where to map the object.
///
/// # Errors
/// -ENODEV on another driver's file or for the pages of an import, -ENOENT, -EINVAL, -ENOMEM (injected).
pub fn i915_gem_mmap_offset(file: &DrmFile, handle: Handle, kind: MmapType) -> Result<u64> {
    file.dev.private::<I915>().ok_or(Errno::ENODEV)?;
    let obj = drm_gem_object_lookup(file, handle).ok_or(Errno::ENOENT)?;
    let offset = mmap_offset_attach(&obj, kind).map(|()| obj.vma_node.start() * PAGE_SIZE as u64);
    drm_gem_object_put(obj);
    offset
}

/// `i915_gem_mmap`.
pub(super) fn i915_gem_mmap(file: &DrmFile, vma: &mut VmArea) -> Result {
    let obj = lookup_allowed_and_get(&file.dev.vma_offset_manager, vma.pgoff, vma.pages(), file.id)?;
    obj.dev.core.log_mmap(obj.dev.driver.name(), "i915_gem_mmap", obj.resv().is_held());
    let kind = bo(&obj).mmo.get();
    vma.pfnmap = true;
    vma.ops = Some(if kind == Some(MmapType::Gtt) { &VmOpsGtt } else { &VmOpsCpu });
    vma.private = Some(obj);
    Ok(())
}

/// `i915_gem_object_release_mmap_offset`: the next access faults.
pub(super) fn i915_gem_object_release_mmap(obj: &DrmGemObject) {
    let start = obj.vma_node.start();
    if start > 0 {
        unmap_mapping_range(&obj.dev.mapping, start..start + obj.vma_node.pages());
    }
}

type Outcome = core::result::Result<(), Signal>;

fn insert(vmf: &VmFault<'_>, obj: &DrmGemObject, pages: &SgTable) -> Outcome {
    vmf.insert_page(pages.page_list().get(faulting_page(vmf, obj)?).ok_or(Signal::Bus)?)
}

/// `vm_ops_cpu`.
struct VmOpsCpu;

impl VmOperations for VmOpsCpu {
    fn open(&self, vma: &VmArea) {
        drm_gem_vm_open(vma);
    }

    fn close(&self, vma: &VmArea) {
        drm_gem_vm_close(vma);
    }

    fn fault(&self, vmf: &VmFault<'_>) -> Outcome {
        vm_fault_cpu(vmf)
    }
}

fn vm_fault_cpu(vmf: &VmFault<'_>) -> Outcome {
    let obj = vmf.vma.private::<DrmGemObject>().ok_or(Signal::Bus)?;
    if dma_resv_lock_interruptible(obj.resv(), None).is_err() {
        return Ok(());
    }
    let result = match i915_gem_object_pin_pages(&obj) {
        Ok(pages) => {
            let result = insert(vmf, &obj, &pages);
            i915_gem_object_unpin_pages(&obj);
            result
        }
        Err(_) => Err(Signal::Bus),
    };
    dma_resv_unlock(obj.resv());
    result
}

/// `vm_ops_gtt`.
struct VmOpsGtt;

impl VmOperations for VmOpsGtt {
    fn open(&self, vma: &VmArea) {
        drm_gem_vm_open(vma);
    }

    fn close(&self, vma: &VmArea) {
        drm_gem_vm_close(vma);
    }

    fn fault(&self, vmf: &VmFault<'_>) -> Outcome {
        vm_fault_gtt(vmf)
    }
}

fn vm_fault_gtt(vmf: &VmFault<'_>) -> Outcome {
    let obj = vmf.vma.private::<DrmGemObject>().ok_or(Signal::Bus)?;
    let i915 = I915::of(&obj.dev);
    let result = for_i915_gem_ww(true, |ww| {
        i915_gem_object_lock(&obj, ww)?;
        let pages = i915_gem_object_pin_pages(&obj)?;
        let bound = i915_vma_pin_ww(&i915, &obj, ww);
        let inserted = bound.map(|()| insert(vmf, &obj, &pages));
        i915_gem_object_unpin_pages(&obj);
        inserted
    });
    match result {
        Ok(inserted) => inserted,
        Err(Errno::EINTR) => Ok(()),
        Err(_) => Err(Signal::Bus),
    }
}
