// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Objects: pages, pinning, faults.
//!
//! Kernel counterpart: `drivers/gpu/drm/omapdrm/omap_gem.c`.

use core::any::Any;
use std::sync::Arc;

use lockdep::LockClass;

use super::dmabuf::omap_gem_prime_export;
use super::private;
use crate::bug::Bug;
use crate::dma_buf::DmaBuf;
use crate::dma_buf::attach::{SgTable, sg_free_table};
use crate::drm::device::DrmDevice;
use crate::drm::file::{DrmFile, Handle};
use crate::drm::gem::{
    DrmGemObject, DrmGemObjectFuncs, GemPayload, drm_gem_create_mmap_offset, drm_gem_object_put,
    drm_gem_object_release, drm_gem_vm_close, drm_gem_vm_open, faulting_page,
};
use crate::drm::gem_handle::drm_gem_handle_create;
use crate::drm::gem_shmem_helper::drm_gem_get_pages;
use crate::drm::prime::drm_prime_gem_destroy;
use crate::kernel::cell::{KCell, KPtr};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::{File, fput};
use crate::kernel::live::Live;
use crate::kernel::locking::{Mutex, sleep_class};
use crate::kernel::memfd::backing_file;
use crate::kernel::mm::{Signal, VmArea, VmFault, VmOperations, vma_set_file};
use crate::kernel::reclaim;
use crate::kernel::shmem::{Pages, ShmemFile, page_align};

static LOCK: LockClass = sleep_class("&omap_obj->lock");

/// `OMAP_BO_CACHED`.
pub const OMAP_BO_CACHED: u32 = 0;
/// `OMAP_BO_WC`: write-combined.
pub const OMAP_BO_WC: u32 = 0x2;
/// `OMAP_BO_TILED_8`: only the DMM knows where a pixel is.
pub const OMAP_BO_TILED: u32 = 0x100;
/// `OMAP_BO_MEM_DMABUF`: the memory is an imported buffer's.
pub(super) const OMAP_BO_MEM_DMABUF: u32 = 0x1000_0000;

/// Under `omap_obj->lock`.
#[derive(Default)]
struct State {
    pages: Option<Pages>,
    /// `dma_addr_cnt`.
    pins: usize,
    /// The DMM's entry for the object, while it is pinned.
    block: Option<Live>,
}

/// `struct omap_gem_object`, the part beyond the GEM object.
pub(super) struct OmapGemObject {
    lock: Mutex,
    pub(super) flags: u32,
    /// The file of the memory, unless it is an imported buffer's.
    filp: Option<Arc<File>>,
    state: KCell<State>,
    /// What other devices see; of an import, what this device sees. It changes under the lock; who gives it back looks at
    /// it without, for as long as he has the object pinned it stays.
    sgt: KPtr<SgTable>,
}

impl GemPayload for OmapGemObject {}

pub(super) fn to_omap_bo(obj: &DrmGemObject) -> &OmapGemObject {
    let payload: &dyn Any = &*obj.payload;
    match payload.downcast_ref() {
        Some(bo) => bo,
        None => unreachable!("an omapdrm object"),
    }
}

/// `omap_gem_new`.
pub(super) fn omap_gem_new(dev: &Arc<DrmDevice>, size: usize, flags: u32) -> Result<Arc<DrmGemObject>> {
    let size = page_align(size);
    if size == 0 {
        return Err(Errno::EINVAL);
    }
    reclaim::kmalloc()?;
    let filp = if flags & OMAP_BO_MEM_DMABUF == 0 { Some(ShmemFile::setup(size)?) } else { None };
    let bo = OmapGemObject {
        lock: Mutex::new(&LOCK),
        flags,
        filp: filp.as_ref().map(|memory| backing_file(&dev.core, memory)),
        state: KCell::new("an omapdrm object's pages", State::default()),
        sgt: KPtr::null(),
    };
    let obj = DrmGemObject::init(dev, size, filp, &OmapGemFuncs, Box::new(bo));
    drm_gem_create_mmap_offset(&obj);
    let private = private(dev);
    private.list_lock.lock();
    private.obj_list.with(|list| list.push(Arc::downgrade(&obj)));
    private.list_lock.unlock();
    Ok(obj)
}

/// `omap_gem_new_handle`.
///
/// # Errors
/// -ENODEV on another driver's file, -EINVAL for size 0 or unknown flags, -ENOMEM (injected).
pub fn omap_gem_new_handle(file: &DrmFile, size: usize, flags: u32) -> Result<Handle> {
    if file.dev.driver.name() != "omapdrm" {
        return Err(Errno::ENODEV);
    }
    if flags & !(OMAP_BO_WC | OMAP_BO_TILED) != 0 {
        return Err(Errno::EINVAL);
    }
    let obj = omap_gem_new(&file.dev, size, flags)?;
    let handle = drm_gem_handle_create(file, &obj);
    drm_gem_object_put(obj);
    handle
}

/// The pages of an imported object, as its table lists them: an array for faults.
pub(super) fn set_imported_pages(obj: &DrmGemObject, table: &Arc<SgTable>) -> Result {
    let bo = to_omap_bo(obj);
    bo.lock.lock();
    bo.sgt.swap(Some(table.clone()));
    let array = reclaim::kmalloc();
    if array.is_ok() {
        bo.state.with(|state| state.pages = Some(table.page_list().clone()));
    }
    bo.lock.unlock();
    array
}

/// `__omap_gem_attach_pages`: the lock is held.
fn __omap_gem_attach_pages(obj: &DrmGemObject, bo: &OmapGemObject) -> Result {
    bo.lock.assert_held();
    if bo.state.with(|state| state.pages.is_some()) {
        return Ok(());
    }
    let pages = drm_gem_get_pages(obj)?;
    // The addresses of the pages for the device.
    reclaim::kmalloc()?;
    bo.state.with(|state| state.pages = Some(pages));
    Ok(())
}

/// `omap_gem_get_pages`, with `remap`.
pub(super) fn omap_gem_get_pages(obj: &DrmGemObject) -> Result {
    let bo = to_omap_bo(obj);
    bo.lock.lock();
    let result = __omap_gem_attach_pages(obj, bo);
    bo.lock.unlock();
    result
}

/// `omap_gem_pin`: the DMM shows the object in one piece.
fn omap_gem_pin(obj: &DrmGemObject) -> Result {
    let bo = to_omap_bo(obj);
    bo.lock.lock();
    let result = omap_gem_pin_locked(obj, bo);
    bo.lock.unlock();
    result
}

fn omap_gem_pin_locked(obj: &DrmGemObject, bo: &OmapGemObject) -> Result {
    if bo.state.with(|state| state.pins == 0) {
        __omap_gem_attach_pages(obj, bo)?;
        // `tiler_reserve_1d`.
        reclaim::kmalloc()?;
        bo.state.with(|state| state.block = Some(obj.dev.core.born("tiler_block")));
    }
    bo.state.with(|state| state.pins += 1);
    Ok(())
}

/// `omap_gem_unpin`: the last one takes the table along.
fn omap_gem_unpin(obj: &DrmGemObject) {
    let bo = to_omap_bo(obj);
    bo.lock.lock();
    let last = bo.state.with(|state| {
        state.pins -= 1;
        (state.pins == 0).then(|| state.block.take())
    });
    if let Some(block) = last {
        if let Some(table) = bo.sgt.take() {
            sg_free_table(table);
        }
        if let Some(block) = block {
            block.freed();
        }
    }
    bo.lock.unlock();
}

/// `omap_gem_get_sg`: pins the object; one table for all devices.
pub(super) fn omap_gem_get_sg(obj: &DrmGemObject) -> Result<Arc<SgTable>> {
    omap_gem_pin(obj)?;
    let bo = to_omap_bo(obj);
    bo.lock.lock();
    let table = match (bo.sgt.load(), bo.state.with(|state| state.pages.clone())) {
        (Some(table), _) => Ok(table),
        (None, Some(pages)) => SgTable::from_pages(&obj.dev.core, pages),
        (None, None) => Err(Errno::ENOMEM),
    };
    if let Ok(table) = &table {
        bo.sgt.swap(Some(table.clone()));
    }
    bo.lock.unlock();
    if table.is_err() {
        omap_gem_unpin(obj);
    }
    table
}

/// `omap_gem_put_sg`.
pub(super) fn omap_gem_put_sg(obj: &DrmGemObject, table: &Arc<SgTable>) {
    let bo = to_omap_bo(obj);
    let ours = bo.sgt.load().is_some_and(|sgt| Arc::ptr_eq(&sgt, table));
    if !obj.dev.core.warn_on(!ours, "an omapdrm object gets another table back") {
        omap_gem_unpin(obj);
    }
}

/// `omap_gem_free_object`.
fn omap_gem_free_object(obj: &Arc<DrmGemObject>) {
    let private = private(&obj.dev);
    let bo = to_omap_bo(obj);
    private.list_lock.lock();
    private.obj_list.with(|list| list.retain(|other| !core::ptr::eq(other.as_ptr(), Arc::as_ptr(obj))));
    private.list_lock.unlock();
    // Nobody else has it any more, but the functions below want the lock.
    bo.lock.lock();
    let State { pins, .. } = bo.state.replace(State::default());
    let sgt = bo.sgt.take();
    obj.dev.core.warn_on(pins > 0, "an omapdrm object is freed while pinned");
    if obj.dev.core.has(Bug::OmapFreesUnderLock) {
        drm_prime_gem_destroy(obj, sgt);
        bo.lock.unlock();
    } else {
        bo.lock.unlock();
        drm_prime_gem_destroy(obj, sgt);
    }
    drm_gem_object_release(obj);
    bo.filp.iter().cloned().for_each(fput);
}

/// `omap_gem_object_funcs`.
struct OmapGemFuncs;

impl DrmGemObjectFuncs for OmapGemFuncs {
    fn free(&self, obj: &Arc<DrmGemObject>) {
        omap_gem_free_object(obj);
    }

    fn export(&self, obj: &Arc<DrmGemObject>, flags: u32) -> Result<DmaBuf> {
        omap_gem_prime_export(obj, flags)
    }

    fn has_mmap(&self) -> bool {
        true
    }

    fn mmap(&self, obj: &Arc<DrmGemObject>, vma: &mut VmArea) -> Result {
        omap_gem_object_mmap(obj, vma)
    }

    fn vm_ops(&self) -> Option<&'static dyn VmOperations> {
        Some(&OmapGemVmOps)
    }
}

/// A cached object is mapped through its own file, so that its mappings are those of that file.
fn omap_gem_object_mmap(obj: &Arc<DrmGemObject>, vma: &mut VmArea) -> Result {
    vma.pfnmap = true;
    let bo = to_omap_bo(obj);
    if bo.flags & OMAP_BO_WC == 0 {
        // The offset in the device's file says nothing there.
        vma.pgoff = vma.pgoff.saturating_sub(obj.vma_node.start());
        vma_set_file(vma, bo.filp.as_ref().ok_or(Errno::EINVAL)?);
    }
    Ok(())
}

/// `omap_gem_vm_ops`.
struct OmapGemVmOps;

impl VmOperations for OmapGemVmOps {
    fn open(&self, vma: &VmArea) {
        drm_gem_vm_open(vma);
    }

    fn close(&self, vma: &VmArea) {
        drm_gem_vm_close(vma);
    }

    fn fault(&self, vmf: &VmFault<'_>) -> core::result::Result<(), Signal> {
        omap_gem_fault(vmf)
    }
}

fn omap_gem_fault(vmf: &VmFault<'_>) -> core::result::Result<(), Signal> {
    let obj = vmf.vma.private::<DrmGemObject>().ok_or(Signal::Bus)?;
    let bo = to_omap_bo(&obj);
    bo.lock.lock();
    let attached = __omap_gem_attach_pages(&obj, bo);
    let result = match (attached, bo.state.with(|state| state.pages.clone())) {
        (Ok(()), Some(pages)) => {
            faulting_page(vmf, &obj).and_then(|index| vmf.insert_page(pages.get(index).ok_or(Signal::Bus)?))
        }
        _ => Err(Signal::Bus),
    };
    bo.lock.unlock();
    result
}
