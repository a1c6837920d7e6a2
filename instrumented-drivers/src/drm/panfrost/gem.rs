// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Buffer objects: shmem objects with an address in the GPU address space of each file that has a handle.
//!
//! Such a [`PanfrostGemMapping`] counts its users: the handle, each job that uses the object, a page fault that is
//! being handled. It holds a reference to the object and to the address space. So an object is freed only when its
//! list of mappings is empty.
//!
//! A *heap* is an object without pages at first; the GPU faults them in, 2 MiB at a time. It cannot be pinned, and so
//! not be used by another device, nor be mapped by the CPU.
//!
//! Kernel counterpart: `drivers/gpu/drm/panfrost/panfrost_gem.c`.

use core::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lockdep::LockClass;

use super::device::PanfrostDevice;
use super::drv::PanfrostFilePriv;
use super::hw::PAGE;
use super::mmu::{
    PanfrostMmu, SZ_2M, insert_node, panfrost_mmu_ctx_get, panfrost_mmu_ctx_put, panfrost_mmu_map,
    panfrost_mmu_unmap, remove_node,
};
use crate::bug::Bug;
use crate::dma_buf::attach::sg_free_table;
use crate::dma_buf::{DmaBufAttachment, SgTable};
use crate::drm::device::DrmDevice;
use crate::drm::file::DrmFile;
use crate::drm::gem::{DrmGemObject, DrmGemObjectFuncs, GemPayload, drm_gem_object_get, drm_gem_object_put};
use crate::drm::gem_shmem_helper::{
    DrmGemShmemFuncs, DrmGemShmemObject, drm_gem_shmem_create, drm_gem_shmem_free, drm_gem_shmem_pin,
    drm_gem_shmem_pin_locked, drm_gem_shmem_prime_import_sg_table, to_drm_gem_shmem_obj,
};
use crate::kernel::cell::{KCell, Kref};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::live::Live;
use crate::kernel::locking::{Mutex, sleep_class};
use crate::kernel::mm::{VmArea, VmOperations};
use crate::kernel::reclaim;
use crate::kernel::shmem::IosysMap;
use crate::policy::ShmemLocking;

static MAPPINGS_LOCK: LockClass = sleep_class("&obj->mappings.lock");
static HEAP_LOCK: LockClass = sleep_class("&obj->heap_lock");

/// `PANFROST_BO_NOEXEC`: the object holds no programs.
pub const PANFROST_BO_NOEXEC: u32 = 1;
/// `PANFROST_BO_HEAP`: the object grows when the GPU faults.
pub const PANFROST_BO_HEAP: u32 = 2;

/// `struct panfrost_gem_object`, the part beyond the GEM object.
pub struct PanfrostGemObject {
    base: DrmGemShmemObject,
    pub(super) mappings_lock: Mutex,
    /// The mappings of the files that have a handle; under `mappings_lock`.
    pub(super) mappings: KCell<Vec<Arc<PanfrostGemMapping>>>,
    /// How many jobs use it.
    pub(super) gpu_usecount: AtomicUsize,
    noexec: AtomicBool,
    is_heap: AtomicBool,
    /// Of a heap: the tables of what has been faulted in, one for each 2 MiB. Under the lock of the pages.
    pub(super) sgts: KCell<Vec<Option<Arc<SgTable>>>>,
    pub(super) heap_rss_size: AtomicUsize,
    /// Of a heap, if its faults do not take the reservation lock ([`Bug::FaultLocksResv`]): around its pages.
    pub(super) heap_lock: Mutex,
}

impl Default for PanfrostGemObject {
    fn default() -> Self {
        PanfrostGemObject {
            base: DrmGemShmemObject::default(),
            mappings_lock: Mutex::new(&MAPPINGS_LOCK),
            mappings: KCell::new("an object's GPU mappings", Vec::new()),
            gpu_usecount: AtomicUsize::new(0),
            noexec: AtomicBool::new(false),
            is_heap: AtomicBool::new(false),
            sgts: KCell::new("a heap's tables", Vec::new()),
            heap_rss_size: AtomicUsize::new(0),
            heap_lock: Mutex::new(&HEAP_LOCK),
        }
    }
}

impl GemPayload for PanfrostGemObject {
    fn shmem(&self) -> Option<&DrmGemShmemObject> {
        Some(&self.base)
    }
}

impl PanfrostGemObject {
    /// Whether the GPU's faults make it grow.
    #[must_use]
    pub fn is_heap(&self) -> bool {
        self.is_heap.load(Ordering::Relaxed)
    }

    /// How many jobs use it.
    #[must_use]
    pub fn gpu_usecount(&self) -> usize {
        self.gpu_usecount.load(Ordering::Relaxed)
    }

    /// `heap_rss_size`: how much of a heap has been faulted in, in bytes.
    #[must_use]
    pub fn heap_rss_size(&self) -> usize {
        self.heap_rss_size.load(Ordering::Relaxed)
    }
}

/// `to_panfrost_bo`.
///
/// # Panics
/// If the object is another driver's.
#[must_use]
pub fn to_panfrost_bo(obj: &DrmGemObject) -> &PanfrostGemObject {
    let payload: &dyn Any = &*obj.payload;
    match payload.downcast_ref() {
        Some(bo) => bo,
        None => panic!("internal error: not a panfrost object"),
    }
}

/// `struct panfrost_gem_mapping`: an object in the GPU address space of one file.
pub struct PanfrostGemMapping {
    refcount: Kref,
    pub(super) obj: Arc<DrmGemObject>,
    pub(super) mmu: Arc<PanfrostMmu>,
    /// First GPU page, once there is one. Changed by whoever makes or tears down the mapping.
    node: KCell<Option<u64>>,
    /// It is in the page table.
    active: AtomicBool,
    live: Live,
}

impl PanfrostGemMapping {
    /// Where the object begins, as a GPU page number; 0 before it has an address.
    pub(super) fn first_page(&self) -> u64 {
        self.node.get().unwrap_or(0)
    }

    /// Where the object begins for the GPU.
    #[must_use]
    pub fn gpu_address(&self) -> u64 {
        self.first_page() * PAGE
    }

    pub(super) fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    pub(super) fn set_active(&self, active: bool) {
        self.active.store(active, Ordering::Relaxed);
    }

    /// One more user, unless it is being torn down.
    pub(super) fn get_unless_zero(&self) -> bool {
        self.refcount.get_unless_zero()
    }
}

fn panfrost_gem_free_object(obj: &Arc<DrmGemObject>) {
    let bo = to_panfrost_bo(obj);
    let pfdev = PanfrostDevice::of(&obj.dev);
    // First of all: what the shrinker finds in its list must not go away while it looks.
    pfdev.shrinker_lock.lock();
    pfdev.shrinker_list.with(|list| list.retain(|other| !Arc::ptr_eq(other, obj)));
    pfdev.shrinker_lock.unlock();
    let mapped = bo.mappings.with(|mappings| !mappings.is_empty());
    pfdev.core.warn_on(mapped, "an object is freed while a file has it mapped for the GPU");
    for table in bo.sgts.replace(Vec::new()).into_iter().flatten() {
        sg_free_table(table);
    }
    drm_gem_shmem_free(obj);
}

/// `panfrost_gem_mapping_get`: the object's mapping in this file, with a reference.
pub fn panfrost_gem_mapping_get(
    bo: &PanfrostGemObject,
    file: &PanfrostFilePriv,
) -> Option<Arc<PanfrostGemMapping>> {
    bo.mappings_lock.lock();
    let mapping = bo.mappings.with(|mappings| {
        let ours = mappings.iter().find(|mapping| Arc::ptr_eq(&mapping.mmu, &file.mmu));
        ours.inspect(|mapping| mapping.refcount.get()).cloned()
    });
    bo.mappings_lock.unlock();
    mapping
}

fn panfrost_gem_teardown_mapping(pfdev: &PanfrostDevice, mapping: &PanfrostGemMapping) {
    if mapping.is_active() {
        panfrost_mmu_unmap(pfdev, mapping);
    }
    remove_node(&mapping.mmu, mapping.node.replace(None));
}

fn panfrost_gem_mapping_release(mapping: &PanfrostGemMapping) {
    let pfdev = PanfrostDevice::of(&mapping.obj.dev);
    panfrost_gem_teardown_mapping(&pfdev, mapping);
    drm_gem_object_put(mapping.obj.clone());
    panfrost_mmu_ctx_put(&mapping.mmu);
    mapping.live.freed();
}

/// `panfrost_gem_mapping_put`: the last one removes the object from the GPU address space, and may free it.
#[expect(clippy::needless_pass_by_value, reason = "the reference is given up")]
pub fn panfrost_gem_mapping_put(mapping: Arc<PanfrostGemMapping>) {
    if mapping.refcount.put() {
        panfrost_gem_mapping_release(&mapping);
    }
}

/// `panfrost_gem_teardown_mappings_locked`: the shrinker takes the object away from the GPU; `mappings_lock` is held.
pub(super) fn panfrost_gem_teardown_mappings_locked(pfdev: &PanfrostDevice, bo: &PanfrostGemObject) {
    for mapping in bo.mappings.get() {
        panfrost_gem_teardown_mapping(pfdev, &mapping);
    }
}

/// `panfrost_gem_open`: a file got a handle; the object gets an address in its address space.
///
/// # Errors
/// -ENOSPC, -EINTR, -ENOMEM (injected).
pub(super) fn panfrost_gem_open(obj: &Arc<DrmGemObject>, file: &PanfrostFilePriv) -> Result {
    let bo = to_panfrost_bo(obj);
    let pfdev = &file.pfdev;
    reclaim::kmalloc()?;
    let mapping = Arc::new(PanfrostGemMapping {
        refcount: Kref::new(),
        obj: drm_gem_object_get(obj),
        mmu: panfrost_mmu_ctx_get(&file.mmu),
        node: KCell::new("a GPU mapping's address", None),
        active: AtomicBool::new(false),
        live: pfdev.core.born("panfrost_gem_mapping"),
    });
    let result = place(pfdev, bo, &mapping);
    if result.is_err() {
        panfrost_gem_mapping_put(mapping);
    }
    result
}

/// The middle of `panfrost_gem_open`, which it shows.
#[track_caller]
fn place(pfdev: &PanfrostDevice, bo: &PanfrostGemObject, mapping: &Arc<PanfrostGemMapping>) -> Result {
    let pages = mapping.obj.size as u64 / PAGE;
    let block = (SZ_2M as u64) / PAGE;
    let align = match (bo.noexec.load(Ordering::Relaxed), pages >= block) {
        // A program must not cross a boundary of 16 MiB; no program is larger than that.
        (false, _) => pages,
        (true, true) => block,
        (true, false) => 0,
    };
    let start = insert_node(mapping, pages, align)?;
    mapping.node.set(Some(start));
    if !bo.is_heap() {
        panfrost_mmu_map(pfdev, mapping)?;
    }
    bo.mappings_lock.lock();
    let needed = to_drm_gem_shmem_obj(&mapping.obj).madv() == 0;
    pfdev.core.warn_on(!needed, "a file gets a handle for an object that may be purged");
    bo.mappings.with(|mappings| mappings.push(mapping.clone()));
    bo.mappings_lock.unlock();
    Ok(())
}

/// `panfrost_gem_close`: a file lost its handle. Jobs may keep the mapping.
pub(super) fn panfrost_gem_close(obj: &Arc<DrmGemObject>, file: &PanfrostFilePriv) {
    let bo = to_panfrost_bo(obj);
    bo.mappings_lock.lock();
    let mapping = bo.mappings.with(|mappings| {
        let ours = mappings.iter().position(|mapping| Arc::ptr_eq(&mapping.mmu, &file.mmu));
        ours.map(|at| mappings.remove(at))
    });
    bo.mappings_lock.unlock();
    if let Some(mapping) = mapping {
        panfrost_gem_mapping_put(mapping);
    }
}

/// `panfrost_gem_pin`. In C the GEM core holds the lock; in the regimes before the callback takes it.
fn panfrost_gem_pin(obj: &Arc<DrmGemObject>) -> Result {
    if to_panfrost_bo(obj).is_heap() {
        return Err(Errno::EINVAL);
    }
    if obj.dev.core.shmem == ShmemLocking::C && !obj.dev.core.has(Bug::PinLocksAgain) {
        drm_gem_shmem_pin_locked(obj)
    } else {
        drm_gem_shmem_pin(obj)
    }
}

/// `panfrost_gem_funcs`.
pub(super) struct PanfrostGemFuncs;

impl DrmGemObjectFuncs for PanfrostGemFuncs {
    fn free(&self, obj: &Arc<DrmGemObject>) {
        panfrost_gem_free_object(obj);
    }

    fn open(&self, obj: &Arc<DrmGemObject>, file: &DrmFile) -> Result {
        panfrost_gem_open(obj, PanfrostFilePriv::of(file)?)
    }

    fn close(&self, obj: &Arc<DrmGemObject>, file: &DrmFile) {
        if let Ok(file) = PanfrostFilePriv::of(file) {
            panfrost_gem_close(obj, file);
        }
    }

    fn pin(&self, obj: &Arc<DrmGemObject>) -> Result {
        panfrost_gem_pin(obj)
    }

    fn unpin(&self, obj: &Arc<DrmGemObject>) {
        DrmGemShmemFuncs.unpin(obj);
    }

    fn get_sg_table(&self, obj: &Arc<DrmGemObject>) -> Result<Arc<SgTable>> {
        DrmGemShmemFuncs.get_sg_table(obj)
    }

    fn vmap(&self, obj: &Arc<DrmGemObject>) -> Result<IosysMap> {
        DrmGemShmemFuncs.vmap(obj)
    }

    fn vunmap(&self, obj: &Arc<DrmGemObject>, map: &IosysMap) {
        DrmGemShmemFuncs.vunmap(obj, map);
    }

    fn has_mmap(&self) -> bool {
        true
    }

    fn mmap(&self, obj: &Arc<DrmGemObject>, vma: &mut VmArea) -> Result {
        DrmGemShmemFuncs.mmap(obj, vma)
    }

    fn vm_ops(&self) -> Option<&'static dyn VmOperations> {
        DrmGemShmemFuncs.vm_ops()
    }
}

/// `panfrost_gem_create`.
///
/// # Errors
/// -EINVAL for size 0, -ENOMEM.
pub(super) fn panfrost_gem_create(
    dev: &Arc<DrmDevice>,
    size: usize,
    flags: u32,
) -> Result<Arc<DrmGemObject>> {
    let heap = flags & PANFROST_BO_HEAP != 0;
    // Whole blocks keep the handling of faults simple.
    let size = if heap { size.checked_next_multiple_of(SZ_2M).ok_or(Errno::EINVAL)? } else { size };
    let obj = drm_gem_shmem_create(dev, size)?;
    let bo = to_panfrost_bo(&obj);
    bo.noexec.store(flags & PANFROST_BO_NOEXEC != 0, Ordering::Relaxed);
    bo.is_heap.store(heap, Ordering::Relaxed);
    Ok(obj)
}

/// `panfrost_gem_prime_import_sg_table`.
///
/// # Errors
/// -ENOMEM (injected).
pub(super) fn panfrost_gem_prime_import_sg_table(
    dev: &Arc<DrmDevice>,
    attach: &Arc<DmaBufAttachment>,
    table: &Arc<SgTable>,
) -> Result<Arc<DrmGemObject>> {
    let obj = drm_gem_shmem_prime_import_sg_table(dev, attach, table)?;
    to_panfrost_bo(&obj).noexec.store(true, Ordering::Relaxed);
    Ok(obj)
}

crate::kernel::opaque_debug!(PanfrostGemObject, PanfrostGemMapping, PanfrostGemFuncs);
