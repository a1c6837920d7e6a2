// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Objects and heaps.
//!
//! A heap has a few pages at first and twice as many each time that it grows. It cannot be pinned, and so not be used by
//! another device, nor be mapped by kernel or program.
//!
//! Kernel counterpart: `lima_gem.c`.

use core::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lockdep::LockClass;

use super::LimaDrmPriv;
use super::vm::{LimaBoVa, LimaVm, lima_vm_bo_add, lima_vm_bo_del, lima_vm_get_va, lima_vm_map_bo};
use crate::dma_buf::SgTable;
use crate::dma_buf::attach::{sg_alloc_table, sg_free_table};
use crate::dma_buf::resv::{dma_resv_lock, dma_resv_unlock};
use crate::drm::file::{DrmFile, Handle};
use crate::drm::gem::{DrmGemObject, DrmGemObjectFuncs, GemPayload, drm_gem_object_put};
use crate::drm::gem_handle::{drm_gem_handle_create, drm_gem_object_lookup};
use crate::drm::gem_shmem_helper::{
    DrmGemShmemFuncs, DrmGemShmemObject, drm_gem_shmem_create, drm_gem_shmem_free, drm_gem_shmem_pin,
    drm_gem_shmem_pin_locked, own_mutexes, to_drm_gem_shmem_obj,
};
use crate::drm::gem_shmem_memory::drm_gem_shmem_get_pages_sgt;
use crate::kernel::cell::KCell;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::locking::{Mutex, sleep_class};
use crate::kernel::mm::{VmArea, VmOperations};
use crate::kernel::reclaim;
use crate::kernel::shmem::{IosysMap, PAGE_SIZE, Page, Pages};
use crate::policy::ShmemLocking;

static BO_LOCK: LockClass = sleep_class("&bo->lock");

/// `LIMA_BO_FLAG_HEAP`: the object grows.
pub const LIMA_BO_FLAG_HEAP: u32 = 1;

/// `lima_heap_init_nr_pages`.
const HEAP_INIT_NR_PAGES: usize = 8;

/// `struct lima_bo`, the part beyond the GEM object.
pub(super) struct LimaBo {
    base: DrmGemShmemObject,
    pub(super) lock: Mutex,
    /// Under `lock`.
    pub(super) va: KCell<Vec<LimaBoVa>>,
    /// In bytes; 0: it is no heap.
    heap_size: AtomicUsize,
}

impl Default for LimaBo {
    fn default() -> Self {
        LimaBo {
            base: DrmGemShmemObject::default(),
            lock: Mutex::new(&BO_LOCK),
            va: KCell::new("the addresses of an object", Vec::new()),
            heap_size: AtomicUsize::new(0),
        }
    }
}

impl GemPayload for LimaBo {
    fn shmem(&self) -> Option<&DrmGemShmemObject> {
        Some(&self.base)
    }
}

impl LimaBo {
    /// What the GPU sees of it.
    pub(super) fn table(&self) -> Option<Arc<SgTable>> {
        self.base.sgt.load()
    }

    pub(super) fn heap_size(&self) -> usize {
        self.heap_size.load(Ordering::Acquire)
    }
}

pub(super) fn lima_bo(obj: &DrmGemObject) -> &LimaBo {
    let payload: &dyn Any = &*obj.payload;
    match payload.downcast_ref() {
        Some(bo) => bo,
        None => unreachable!("a lima object"),
    }
}

/// How large a heap is by now, in bytes; 0 if it is none. `None` for another driver's object.
#[must_use]
pub fn heap_size(obj: &DrmGemObject) -> Option<usize> {
    let payload: &dyn Any = &*obj.payload;
    payload.downcast_ref().map(LimaBo::heap_size)
}

/// `lima_gem_create_handle`.
///
/// # Errors
/// -ENODEV on another driver's file, -EINVAL for size 0 and unknown flags, -EINTR, -ENOMEM (injected).
pub fn lima_gem_create_handle(file: &DrmFile, size: usize, flags: u32) -> Result<Handle> {
    LimaDrmPriv::of(file)?;
    if flags & !LIMA_BO_FLAG_HEAP != 0 {
        return Err(Errno::EINVAL);
    }
    let obj = drm_gem_shmem_create(&file.dev, size)?;
    let backed = if flags & LIMA_BO_FLAG_HEAP != 0 {
        lima_heap_alloc(&obj, None)
    } else {
        drm_gem_shmem_get_pages_sgt(&obj).map(drop)
    };
    let handle = backed.and_then(|()| drm_gem_handle_create(file, &obj));
    drm_gem_object_put(obj);
    handle
}

/// `lima_gem_get_info`: the address for the GPU.
///
/// # Errors
/// -ENODEV on another driver's file, -ENOENT if the handle is unknown, or has no address here any more.
pub fn lima_gem_get_info(file: &DrmFile, handle: Handle) -> Result<u64> {
    let lima = LimaDrmPriv::of(file)?;
    let obj = drm_gem_object_lookup(file, handle).ok_or(Errno::ENOENT)?;
    let va = lima_vm_get_va(&lima.vm, &obj).ok_or(Errno::ENOENT);
    drm_gem_object_put(obj);
    va
}

/// `lima_heap_alloc`: a heap begins, or grows; if it has an address in `vm`, what is new is mapped there.
///
/// # Errors
/// -ENOSPC if it is as large as it can be, -ENOMEM (injected).
pub(super) fn lima_heap_alloc(obj: &Arc<DrmGemObject>, vm: Option<&Arc<LimaVm>>) -> Result {
    let bo = lima_bo(obj);
    let old = bo.heap_size();
    if old >= obj.size {
        return Err(Errno::ENOSPC);
    }
    let new = if old == 0 { HEAP_INIT_NR_PAGES * PAGE_SIZE } else { 2 * old }.min(obj.size);
    let own = own_mutexes(obj);
    if own {
        bo.base.pages_lock.lock();
    } else {
        dma_resv_lock(obj.resv());
    }
    let pages = heap_pages(obj, bo, new / PAGE_SIZE);
    if own {
        bo.base.pages_lock.unlock();
    } else {
        dma_resv_unlock(obj.resv());
    }
    let pages = pages?;
    let table = if bo.table().is_none() { SgTable::from_pages } else { sg_alloc_table };
    let table = table(&obj.dev.core, pages.clone())?;
    if let Some(vm) = vm
        && let Err(error) = lima_vm_map_bo(vm, obj, old / PAGE_SIZE, &pages)
    {
        sg_free_table(table);
        return Err(error);
    }
    if let Some(old) = bo.base.sgt.swap(Some(table)) {
        sg_free_table(old);
    }
    bo.heap_size.store(new, Ordering::Release);
    Ok(())
}

/// The first `count` pages of a heap; the lock of the pages is held.
fn heap_pages(obj: &DrmGemObject, bo: &LimaBo, count: usize) -> Result<Pages> {
    let filp = obj.filp.as_ref().ok_or(Errno::EINVAL)?;
    if bo.base.pages.is_null() {
        // The array of all pages that there can be.
        reclaim::kmalloc()?;
        bo.base.pages.swap(Some(Arc::from([])));
        bo.base.state.with(|state| state.use_count = 1);
    }
    let pages = (0..count).map(|index| filp.read_mapping_page(index)).collect::<Result<Vec<Page>>>()?;
    let pages = Pages::from(pages);
    bo.base.pages.swap(Some(pages.clone()));
    Ok(pages)
}

fn lima_gem_free_object(obj: &Arc<DrmGemObject>) {
    let mapped = lima_bo(obj).va.with(|list| !list.is_empty());
    obj.dev.core.warn_on(mapped, "a lima object is freed while it has an address");
    drm_gem_shmem_free(obj);
}

/// Heaps are for the GPU alone.
fn no_heap(obj: &DrmGemObject) -> Result {
    if lima_bo(obj).heap_size() > 0 { Err(Errno::EINVAL) } else { Ok(()) }
}

/// `lima_gem_pin`. In C the GEM core holds the lock; in the regimes before the helper takes it.
fn lima_gem_pin(obj: &Arc<DrmGemObject>) -> Result {
    no_heap(obj)?;
    if obj.dev.core.shmem == ShmemLocking::C { drm_gem_shmem_pin_locked(obj) } else { drm_gem_shmem_pin(obj) }
}

/// `lima_gem_funcs`.
pub(super) struct LimaGemFuncs;

impl DrmGemObjectFuncs for LimaGemFuncs {
    fn free(&self, obj: &Arc<DrmGemObject>) {
        lima_gem_free_object(obj);
    }

    /// `lima_gem_object_open`.
    fn open(&self, obj: &Arc<DrmGemObject>, file: &DrmFile) -> Result {
        lima_vm_bo_add(&LimaDrmPriv::of(file)?.vm, obj, true)
    }

    /// `lima_gem_object_close`.
    fn close(&self, obj: &Arc<DrmGemObject>, file: &DrmFile) {
        if let Ok(file) = LimaDrmPriv::of(file) {
            lima_vm_bo_del(&file.vm, obj);
        }
    }

    fn pin(&self, obj: &Arc<DrmGemObject>) -> Result {
        lima_gem_pin(obj)
    }

    fn unpin(&self, obj: &Arc<DrmGemObject>) {
        DrmGemShmemFuncs.unpin(obj);
    }

    fn get_sg_table(&self, obj: &Arc<DrmGemObject>) -> Result<Arc<SgTable>> {
        DrmGemShmemFuncs.get_sg_table(obj)
    }

    /// `lima_gem_vmap`.
    fn vmap(&self, obj: &Arc<DrmGemObject>) -> Result<IosysMap> {
        no_heap(obj)?;
        DrmGemShmemFuncs.vmap(obj)
    }

    fn vunmap(&self, obj: &Arc<DrmGemObject>, map: &IosysMap) {
        DrmGemShmemFuncs.vunmap(obj, map);
    }

    fn has_mmap(&self) -> bool {
        true
    }

    /// `lima_gem_mmap`.
    fn mmap(&self, obj: &Arc<DrmGemObject>, vma: &mut VmArea) -> Result {
        no_heap(obj)?;
        DrmGemShmemFuncs.mmap(obj, vma)
    }

    fn vm_ops(&self) -> Option<&'static dyn VmOperations> {
        DrmGemShmemFuncs.vm_ops()
    }
}

/// The pages of a heap as it is now.
pub(super) fn current_heap(obj: &DrmGemObject) -> Pages {
    to_drm_gem_shmem_obj(obj).pages.load().unwrap_or_else(|| Arc::from([]))
}
