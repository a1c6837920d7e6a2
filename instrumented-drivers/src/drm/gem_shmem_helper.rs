// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! GEM objects in shared memory, for drivers whose devices need no memory of their own.
//!
//! What protects the pages, per regime ([`ShmemLocking`]):
//!
//! | operation | A | B0, B, C |
//! |---|---|---|
//! | `get_pages`, `put_pages` | take `pages_lock` | caller holds the reservation lock (asserted in B, C) |
//! | `pin`, `unpin` callbacks | = get/put | B0 assert, B take, C assert (the GEM core takes it) |
//! | `vmap`, `vunmap` | take `vmap_lock`, then `pages_lock` | caller holds it |
//! | `mmap`, fault, VMA open and close | take `pages_lock` | take the reservation lock |
//! | `madvise` | takes `pages_lock` | caller holds it |
//! | `purge` | tries `pages_lock` | caller holds it |
//! | `get_pages_sgt` | takes `pages_lock` | takes the reservation lock |
//! | free (own pages) | takes `pages_lock` if there are pages | takes the reservation lock |
//!
//! # Locking
//!
//! In A: `&shmem->pages_lock` (mutex) for the pages, `&shmem->vmap_lock` (mutex) for the kernel mapping. Else the object's
//! reservation lock for both.
//!
//! * `&mm->mmap_lock` → `reservation_ww_class_mutex` (P1): the core maps (A), or the helper (the others)
//! * `&mm->mmap_lock` → `reservation_ww_class_mutex` (P0, P2): a program maps; in A only what other drivers made
//! * `&mm->mmap_lock` → `&shmem->pages_lock` (A): the same
//! * `&mm->mmap_lock/1` → `reservation_ww_class_mutex` (B0, B, C): fork, where the child's address space is locked, too
//! * `&mm->mmap_lock/1` → `&shmem->pages_lock` (A): the same
//! * `reservation_ww_class_mutex` → `&shmem->vmap_lock` → `&shmem->pages_lock` → `fs_reclaim` (A): an object is mapped for
//!   the kernel by somebody who holds the first lock
//! * `reservation_ww_class_mutex` → `&shmem->pages_lock` (A): an importer maps it, or P1's core for a program
//! * `&dmabuf->lock` → `&shmem->vmap_lock` (P0 × A): the kernel maps an exported buffer
//! * `&shmem->vmap_lock` → `&dmabuf->lock` (P0 × A): and an imported one. Together with the line before a cycle
//! * `&shmem->pages_lock` → `&mapping->i_mmap_rwsem`, `&mgr->vm_lock` (A): a purge
//!
//! An imported object forwards `mmap` and `vmap` to the buffer it came from.
//!
//! State: `madv` is 0 (needed), positive (the driver does not need the content) or negative (purged, for good). The
//! use count has one entry for each pin, each VMA, a kernel mapping, and the scatter table; the pages are there
//! while it is above zero.
//!
//! Kernel counterpart: `drivers/gpu/drm/drm_gem_shmem_helper.c`.

use std::sync::Arc;

use lockdep::LockClass;

use super::device::DrmDevice;
use super::file::{DrmFile, Handle};
use super::gem::{
    DrmGemObject, DrmGemObjectFuncs, GemPayload, drm_gem_create_mmap_offset, drm_gem_object_put,
    drm_gem_object_release, drm_gem_vm_close, drm_gem_vm_open,
};
use super::gem_handle::drm_gem_handle_create;
use super::gem_shmem_memory::drm_gem_shmem_get_sg_table;
use super::prime::drm_prime_gem_destroy;
use crate::bug::Bug;
use crate::dma_buf::access::{dma_buf_vmap, dma_buf_vunmap};
use crate::dma_buf::attach::sg_free_table;
use crate::dma_buf::core::dma_buf_mmap;
use crate::dma_buf::resv::{
    dma_resv_assert_held, dma_resv_lock, dma_resv_lock_interruptible, dma_resv_unlock,
};
use crate::dma_buf::{DmaBufAttachment, SgTable};
use crate::kernel::cell::{KCell, KPtr, KReadOnce};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::locking::{Mutex, sleep_class};
use crate::kernel::mm::{Signal, VmArea, VmFault, VmOperations};
use crate::kernel::reclaim;
use crate::kernel::shmem::{IosysMap, Page, Pages, ShmemFile, page_align};
use crate::policy::ShmemLocking;

static PAGES_LOCK: LockClass = sleep_class("&shmem->pages_lock");
static VMAP_LOCK: LockClass = sleep_class("&shmem->vmap_lock");

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PagesState {
    pub(super) use_count: usize,
    pub(super) madv: i32,
}

/// `struct drm_gem_shmem_object`, the part beyond the GEM object.
pub struct DrmGemShmemObject {
    pub(super) pages_lock: Mutex,
    vmap_lock: Mutex,
    /// Under `pages_lock` or the reservation lock; a shrinker that counts, and who gets a handle, look without.
    pub(super) state: KReadOnce<PagesState>,
    /// Changed under the same; read without by whoever has a use count of his own.
    pub(super) pages: KPtr<[Page]>,
    pub(super) sgt: KPtr<SgTable>,
    /// Under `vmap_lock` or the reservation lock; a shrinker that counts looks without.
    vmap_use_count: KReadOnce<usize>,
    /// Under `vmap_lock` or the reservation lock.
    vaddr: KCell<Option<IosysMap>>,
}

impl Default for DrmGemShmemObject {
    fn default() -> Self {
        DrmGemShmemObject {
            pages_lock: Mutex::new(&PAGES_LOCK),
            vmap_lock: Mutex::new(&VMAP_LOCK),
            state: KReadOnce::new("a shmem object's page count", PagesState::default()),
            pages: KPtr::null(),
            sgt: KPtr::null(),
            vmap_use_count: KReadOnce::new("how often a shmem object is mapped by the kernel", 0),
            vaddr: KCell::new("a shmem object's kernel mapping", None),
        }
    }
}

impl GemPayload for DrmGemShmemObject {
    fn shmem(&self) -> Option<&DrmGemShmemObject> {
        Some(self)
    }
}

impl DrmGemShmemObject {
    /// `pages_use_count`.
    #[must_use]
    pub fn pages_use_count(&self) -> usize {
        self.state.get().use_count
    }

    /// `vmap_use_count`, of which the lock need not be held.
    #[must_use]
    pub fn vmap_use_count(&self) -> usize {
        self.vmap_use_count.read_once()
    }

    /// `madv`, of which the lock need not be held.
    #[must_use]
    pub fn madv(&self) -> i32 {
        self.state.read_once().madv
    }

    /// The scatter table, if there is one.
    #[must_use]
    pub fn sgt(&self) -> Option<Arc<SgTable>> {
        self.sgt.load()
    }
}

/// `to_drm_gem_shmem_obj`.
///
/// # Panics
/// If the object is not built on this helper.
#[must_use]
pub fn to_drm_gem_shmem_obj(obj: &DrmGemObject) -> &DrmGemShmemObject {
    match obj.payload.shmem() {
        Some(shmem) => shmem,
        None => panic!("internal error: not a shmem object"),
    }
}

fn regime(obj: &DrmGemObject) -> ShmemLocking {
    obj.dev.core.shmem
}

pub(super) fn own_mutexes(obj: &DrmGemObject) -> bool {
    !regime(obj).on_reservation_lock()
}

/// `drm_gem_shmem_create`: an object with memory of its own.
///
/// # Errors
/// -EINVAL for size 0, -ENOMEM.
pub fn drm_gem_shmem_create(dev: &Arc<DrmDevice>, size: usize) -> Result<Arc<DrmGemObject>> {
    __drm_gem_shmem_create(dev, size, false)
}

fn __drm_gem_shmem_create(dev: &Arc<DrmDevice>, size: usize, private: bool) -> Result<Arc<DrmGemObject>> {
    let size = page_align(size);
    if size == 0 {
        return Err(Errno::EINVAL);
    }
    reclaim::kmalloc()?;
    let filp = if private { None } else { Some(ShmemFile::setup(size)?) };
    let (payload, funcs) = dev
        .driver
        .gem_create_object()
        .unwrap_or_else(|| (Box::new(DrmGemShmemObject::default()), &DrmGemShmemFuncs));
    let obj = DrmGemObject::init(dev, size, filp, funcs, payload);
    drm_gem_create_mmap_offset(&obj);
    Ok(obj)
}

/// `drm_gem_shmem_free`.
pub fn drm_gem_shmem_free(obj: &Arc<DrmGemObject>) {
    let shmem = to_drm_gem_shmem_obj(obj);
    let core = &obj.dev.core;
    if obj.import_attach().is_some() {
        drm_prime_gem_destroy(obj, shmem.sgt.take());
    } else if own_mutexes(obj) {
        core.warn_on(shmem.vmap_use_count() > 0, "a shmem object is freed while mapped by the kernel");
        free_pages_and_table(obj, shmem);
    } else {
        dma_resv_lock(obj.resv());
        core.warn_on(shmem.vmap_use_count() > 0, "a shmem object is freed while mapped by the kernel");
        free_pages_and_table(obj, shmem);
        core.warn_on(shmem.pages_use_count() > 0, "a shmem object is freed while its pages are used");
        dma_resv_unlock(obj.resv());
    }
    drm_gem_object_release(obj);
}

fn free_pages_and_table(obj: &Arc<DrmGemObject>, shmem: &DrmGemShmemObject) {
    if let Some(table) = shmem.sgt.take() {
        sg_free_table(table);
    }
    if !shmem.pages.is_null() {
        drm_gem_shmem_put_pages(obj);
    }
}

pub(super) fn get_pages_locked(obj: &DrmGemObject, shmem: &DrmGemShmemObject) -> Result {
    let first = shmem.state.with(|state| {
        state.use_count += 1;
        state.use_count == 1
    });
    if !first {
        return Ok(());
    }
    match drm_gem_get_pages(obj) {
        Ok(pages) => {
            shmem.pages.swap(Some(pages));
            Ok(())
        }
        Err(error) => {
            shmem.state.with(|state| state.use_count = 0);
            Err(error)
        }
    }
}

/// `drm_gem_get_pages`: the array, then each page.
pub(super) fn drm_gem_get_pages(obj: &DrmGemObject) -> Result<Pages> {
    let filp = obj.filp.as_ref().ok_or(Errno::EINVAL)?;
    reclaim::kmalloc()?;
    (0..filp.pages()).map(|index| filp.read_mapping_page(index)).collect()
}

pub(super) fn put_pages_locked(obj: &DrmGemObject, shmem: &DrmGemShmemObject) {
    if obj.dev.core.warn_on(shmem.pages_use_count() == 0, "a shmem object's pages are put once too often") {
        return;
    }
    let last = shmem.state.with(|state| {
        state.use_count -= 1;
        state.use_count == 0
    });
    if last {
        shmem.pages.take();
    }
}

/// `drm_gem_shmem_get_pages`.
///
/// # Errors
/// -EINTR, -ENOMEM (injected).
pub fn drm_gem_shmem_get_pages(obj: &Arc<DrmGemObject>) -> Result {
    let shmem = to_drm_gem_shmem_obj(obj);
    match regime(obj) {
        ShmemLocking::A => {
            shmem.pages_lock.lock_interruptible()?;
            let result = get_pages_locked(obj, shmem);
            shmem.pages_lock.unlock();
            return result;
        }
        // The first attempt asserted in the callbacks only.
        ShmemLocking::B0 => {}
        ShmemLocking::B | ShmemLocking::C => dma_resv_assert_held(obj.resv()),
    }
    get_pages_locked(obj, shmem)
}

/// `drm_gem_shmem_put_pages`.
pub fn drm_gem_shmem_put_pages(obj: &Arc<DrmGemObject>) {
    let shmem = to_drm_gem_shmem_obj(obj);
    if own_mutexes(obj) {
        shmem.pages_lock.lock();
        put_pages_locked(obj, shmem);
        shmem.pages_lock.unlock();
        return;
    }
    dma_resv_assert_held(obj.resv());
    put_pages_locked(obj, shmem);
}

/// `drm_gem_shmem_pin_locked`: the caller holds the reservation lock.
///
/// # Errors
/// -ENOMEM (injected).
pub fn drm_gem_shmem_pin_locked(obj: &Arc<DrmGemObject>) -> Result {
    dma_resv_assert_held(obj.resv());
    drm_gem_shmem_get_pages(obj)
}

/// `drm_gem_shmem_unpin_locked`: the caller holds the reservation lock.
pub fn drm_gem_shmem_unpin_locked(obj: &Arc<DrmGemObject>) {
    dma_resv_assert_held(obj.resv());
    drm_gem_shmem_put_pages(obj);
}

/// `drm_gem_shmem_pin`: takes the lock itself (B0: asserts it).
///
/// # Errors
/// -EINTR, -ENOMEM (injected).
pub fn drm_gem_shmem_pin(obj: &Arc<DrmGemObject>) -> Result {
    obj.dev.core.warn_on(obj.import_attach().is_some(), "an imported object is pinned");
    match regime(obj) {
        ShmemLocking::A => drm_gem_shmem_get_pages(obj),
        ShmemLocking::B0 => drm_gem_shmem_pin_locked(obj),
        ShmemLocking::B | ShmemLocking::C => {
            dma_resv_lock_interruptible(obj.resv(), None)?;
            let result = drm_gem_shmem_pin_locked(obj);
            dma_resv_unlock(obj.resv());
            result
        }
    }
}

/// `drm_gem_shmem_unpin`.
pub fn drm_gem_shmem_unpin(obj: &Arc<DrmGemObject>) {
    obj.dev.core.warn_on(obj.import_attach().is_some(), "an imported object is unpinned");
    match regime(obj) {
        ShmemLocking::A => drm_gem_shmem_put_pages(obj),
        ShmemLocking::B0 => drm_gem_shmem_unpin_locked(obj),
        ShmemLocking::B | ShmemLocking::C => {
            dma_resv_lock(obj.resv());
            drm_gem_shmem_unpin_locked(obj);
            dma_resv_unlock(obj.resv());
        }
    }
}

/// `drm_gem_shmem_vmap`. B0, B, C: the caller holds the reservation lock.
///
/// # Errors
/// -EINTR, -ENOMEM (injected), or what the exporter of an imported object says.
pub fn drm_gem_shmem_vmap(obj: &Arc<DrmGemObject>) -> Result<IosysMap> {
    let shmem = to_drm_gem_shmem_obj(obj);
    if own_mutexes(obj) {
        shmem.vmap_lock.lock_interruptible()?;
        let result = vmap_counted(obj, shmem);
        shmem.vmap_lock.unlock();
        return result;
    }
    if let Some(attach) = obj.import_attach() {
        return dma_buf_vmap(&attach.dmabuf);
    }
    dma_resv_assert_held(obj.resv());
    vmap_counted(obj, shmem)
}

fn vmap_counted(obj: &Arc<DrmGemObject>, shmem: &DrmGemShmemObject) -> Result<IosysMap> {
    if let Some(map) = shmem.vaddr.get() {
        shmem.vmap_use_count.with(|count| *count += 1);
        return Ok(map);
    }
    let map = match obj.import_attach() {
        Some(attach) => dma_buf_vmap(&attach.dmabuf)?,
        None => {
            drm_gem_shmem_get_pages(obj)?;
            let pages = shmem.pages.load().ok_or(Errno::ENOMEM)?;
            IosysMap(pages)
        }
    };
    shmem.vaddr.set(Some(map.clone()));
    shmem.vmap_use_count.with(|count| *count = 1);
    Ok(map)
}

/// `drm_gem_shmem_vunmap`.
pub fn drm_gem_shmem_vunmap(obj: &Arc<DrmGemObject>, map: &IosysMap) {
    let shmem = to_drm_gem_shmem_obj(obj);
    if own_mutexes(obj) {
        shmem.vmap_lock.lock();
        vunmap_counted(obj, shmem, map);
        shmem.vmap_lock.unlock();
        return;
    }
    if let Some(attach) = obj.import_attach() {
        return dma_buf_vunmap(&attach.dmabuf, map);
    }
    dma_resv_assert_held(obj.resv());
    vunmap_counted(obj, shmem, map);
}

fn vunmap_counted(obj: &Arc<DrmGemObject>, shmem: &DrmGemShmemObject, map: &IosysMap) {
    if obj.dev.core.warn_on(shmem.vmap_use_count.get() == 0, "a shmem object is unmapped once too often") {
        return;
    }
    let last = shmem.vmap_use_count.with(|count| {
        *count -= 1;
        *count == 0
    });
    if !last {
        return;
    }
    shmem.vaddr.set(None);
    match obj.import_attach() {
        Some(attach) => dma_buf_vunmap(&attach.dmabuf, map),
        None => drm_gem_shmem_put_pages(obj),
    }
}

/// `drm_gem_shmem_mmap`.
///
/// # Errors
/// -EINVAL for a copy-on-write mapping, -EINTR, -ENOMEM (injected), or what the exporter of an imported object says.
pub fn drm_gem_shmem_mmap(obj: &Arc<DrmGemObject>, vma: &mut VmArea) -> Result {
    if obj.import_attach().is_some() {
        // The exporter sets both; until then they must not point to us.
        vma.private = None;
        vma.ops = None;
        let buf = obj.dma_buf().ok_or(Errno::EINVAL)?;
        dma_buf_mmap(&buf, vma, 0)?;
        // The VMA belongs to the exporter's file now; the caller's reference to our object goes.
        drm_gem_object_put(obj.clone());
        return Ok(());
    }
    if vma.is_cow() {
        return Err(Errno::EINVAL);
    }
    if own_mutexes(obj) {
        drm_gem_shmem_get_pages(obj)?;
    } else {
        dma_resv_lock(obj.resv());
        let result = drm_gem_shmem_get_pages(obj);
        dma_resv_unlock(obj.resv());
        result?;
    }
    vma.pfnmap = true;
    Ok(())
}

/// `drm_gem_shmem_vm_ops`.
pub struct DrmGemShmemVmOps;

impl VmOperations for DrmGemShmemVmOps {
    fn open(&self, vma: &VmArea) {
        drm_gem_shmem_vm_open(vma);
    }

    fn close(&self, vma: &VmArea) {
        drm_gem_shmem_vm_close(vma);
    }

    fn fault(&self, vmf: &VmFault<'_>) -> core::result::Result<(), Signal> {
        drm_gem_shmem_fault(vmf)
    }
}

fn drm_gem_shmem_fault(vmf: &VmFault<'_>) -> core::result::Result<(), Signal> {
    let obj = vmf.vma.private::<DrmGemObject>().ok_or(Signal::Bus)?;
    let shmem = to_drm_gem_shmem_obj(&obj);
    if own_mutexes(&obj) {
        shmem.pages_lock.lock();
        let result = insert_page(&obj, shmem, vmf);
        shmem.pages_lock.unlock();
        return result;
    }
    dma_resv_lock(obj.resv());
    let result = insert_page(&obj, shmem, vmf);
    dma_resv_unlock(obj.resv());
    result
}

fn insert_page(
    obj: &DrmGemObject,
    shmem: &DrmGemShmemObject,
    vmf: &VmFault<'_>,
) -> core::result::Result<(), Signal> {
    let index = vmf.pgoff.checked_sub(obj.vma_node.start()).and_then(|index| usize::try_from(index).ok());
    let pages = shmem.pages.load();
    obj.dev.core.warn_on(pages.is_none(), "a fault in a shmem object without pages");
    match (index, pages) {
        (Some(index), Some(pages)) if index < pages.len() && shmem.state.get().madv >= 0 => {
            vmf.insert_page(&pages[index])
        }
        _ => Err(Signal::Bus),
    }
}

/// One more VMA: the pages are there already, so this never allocates.
fn drm_gem_shmem_vm_open(vma: &VmArea) {
    let Some(obj) = vma.private::<DrmGemObject>() else { return };
    let shmem = to_drm_gem_shmem_obj(&obj);
    if own_mutexes(&obj) && obj.dev.core.has(Bug::VmOpenInterruptible) {
        // A signal, and this VMA is no user of the pages; nobody can be told.
        let _ignored = drm_gem_shmem_get_pages(&obj);
        return drm_gem_vm_open(vma);
    }
    let count = || {
        let none = shmem.pages_use_count() == 0;
        if !obj.dev.core.warn_on(none, "a VMA of a shmem object without pages is opened") {
            shmem.state.with(|state| state.use_count += 1);
        }
    };
    if own_mutexes(&obj) {
        shmem.pages_lock.lock();
        count();
        shmem.pages_lock.unlock();
    } else {
        dma_resv_lock(obj.resv());
        count();
        dma_resv_unlock(obj.resv());
    }
    drm_gem_vm_open(vma);
}

fn drm_gem_shmem_vm_close(vma: &VmArea) {
    let Some(obj) = vma.private::<DrmGemObject>() else { return };
    if own_mutexes(&obj) {
        drm_gem_shmem_put_pages(&obj);
    } else {
        dma_resv_lock(obj.resv());
        drm_gem_shmem_put_pages(&obj);
        dma_resv_unlock(obj.resv());
    }
    drm_gem_vm_close(vma);
}

/// `drm_gem_shmem_dumb_create`: an object and a handle for it.
///
/// # Errors
/// -ENOSYS if the driver has no dumb buffers, -EINVAL for size 0, -ENOMEM, or what the driver says.
pub fn drm_gem_shmem_dumb_create(file: &DrmFile, width: u32, height: u32, bpp: u32) -> Result<Handle> {
    if !file.dev.driver.has_dumb_buffers() {
        return Err(Errno::ENOSYS);
    }
    let pitch = u64::from(width) * u64::from(bpp.div_ceil(8));
    let size = usize::try_from(pitch * u64::from(height)).map_err(|_| Errno::EINVAL)?;
    drm_gem_shmem_create_with_handle(file, size)
}

/// `drm_gem_shmem_create_with_handle`.
///
/// # Errors
/// As [`drm_gem_shmem_dumb_create`].
pub fn drm_gem_shmem_create_with_handle(file: &DrmFile, size: usize) -> Result<Handle> {
    let obj = file.dev.driver.gem_create(&file.dev, size)?;
    let handle = drm_gem_handle_create(file, &obj);
    drm_gem_object_put(obj);
    handle
}

/// `drm_gem_shmem_prime_import_sg_table`: an object without memory of its own, around a foreign buffer's table.
///
/// # Errors
/// -ENOMEM (injected).
pub fn drm_gem_shmem_prime_import_sg_table(
    dev: &Arc<DrmDevice>,
    attach: &Arc<DmaBufAttachment>,
    table: &Arc<SgTable>,
) -> Result<Arc<DrmGemObject>> {
    let obj = __drm_gem_shmem_create(dev, attach.dmabuf.size, true)?;
    to_drm_gem_shmem_obj(&obj).sgt.swap(Some(table.clone()));
    Ok(obj)
}

/// `drm_gem_shmem_funcs`: the helper's functions as a driver's callbacks.
pub struct DrmGemShmemFuncs;

impl DrmGemObjectFuncs for DrmGemShmemFuncs {
    fn free(&self, obj: &Arc<DrmGemObject>) {
        drm_gem_shmem_free(obj);
    }

    fn pin(&self, obj: &Arc<DrmGemObject>) -> Result {
        if regime(obj) == ShmemLocking::C { drm_gem_shmem_pin_locked(obj) } else { drm_gem_shmem_pin(obj) }
    }

    fn unpin(&self, obj: &Arc<DrmGemObject>) {
        if regime(obj) == ShmemLocking::C {
            drm_gem_shmem_unpin_locked(obj);
        } else {
            drm_gem_shmem_unpin(obj);
        }
    }

    fn get_sg_table(&self, obj: &Arc<DrmGemObject>) -> Result<Arc<SgTable>> {
        drm_gem_shmem_get_sg_table(obj)
    }

    fn vmap(&self, obj: &Arc<DrmGemObject>) -> Result<IosysMap> {
        drm_gem_shmem_vmap(obj)
    }

    fn vunmap(&self, obj: &Arc<DrmGemObject>, map: &IosysMap) {
        drm_gem_shmem_vunmap(obj, map);
    }

    fn has_mmap(&self) -> bool {
        true
    }

    fn mmap(&self, obj: &Arc<DrmGemObject>, vma: &mut VmArea) -> Result {
        drm_gem_shmem_mmap(obj, vma)
    }

    fn vm_ops(&self) -> Option<&'static dyn VmOperations> {
        Some(&DrmGemShmemVmOps)
    }
}

crate::kernel::opaque_debug!(DrmGemShmemObject, DrmGemShmemVmOps, DrmGemShmemFuncs);
