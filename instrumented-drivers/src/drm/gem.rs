// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! GEM: buffer objects, their handles and mappings.
//!
//! An object is freed by the last [`drm_gem_object_put`], there and then, under whatever the caller holds. All its
//! handles together hold one reference.
//!
//! Kernel counterpart: `drivers/gpu/drm/drm_gem.c`.

use core::any::Any;
use std::sync::{Arc, OnceLock};

use super::device::DrmDevice;
use super::file::{DrmFile, Handle};
use super::gem_handle::drm_gem_object_lookup;
use super::gem_shmem_helper::DrmGemShmemObject;
use super::vma_manager::{
    DrmVmaOffsetNode, drm_vma_node_is_allowed, drm_vma_offset_add, drm_vma_offset_remove, lookup_and_get,
};
use crate::dma_buf::resv::{
    DmaResv, DmaResvUsage, dma_resv_assert_held, dma_resv_fini, dma_resv_lock, dma_resv_test_signaled,
    dma_resv_unlock,
};
use crate::dma_buf::{DmaBuf, DmaBufAttachment, SgTable, Tail};
use crate::kernel::cell::{KCell, KPtr, Kref};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::File;
use crate::kernel::live::Live;
use crate::kernel::mm::{Signal, VmArea, VmFault, VmOperations};
use crate::kernel::shmem::{IosysMap, PAGE_SIZE, ShmemFile};
use crate::policy::{LockingPolicy, ShmemLocking};

/// `struct drm_gem_object_funcs`.
pub trait DrmGemObjectFuncs: Send + Sync {
    /// The last reference is gone.
    fn free(&self, obj: &Arc<DrmGemObject>);

    /// A file got a handle.
    ///
    /// # Errors
    /// What the driver says.
    fn open(&self, _obj: &Arc<DrmGemObject>, _file: &DrmFile) -> Result {
        Ok(())
    }

    /// A file lost its handle.
    fn close(&self, _obj: &Arc<DrmGemObject>, _file: &DrmFile) {}

    /// The memory must stay where it is.
    ///
    /// # Errors
    /// What the driver says.
    fn pin(&self, _obj: &Arc<DrmGemObject>) -> Result {
        Ok(())
    }

    /// It may go.
    fn unpin(&self, _obj: &Arc<DrmGemObject>) {}

    /// A device's view of the pages.
    ///
    /// # Errors
    /// What the driver says.
    fn get_sg_table(&self, _obj: &Arc<DrmGemObject>) -> Result<Arc<SgTable>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// The object as a dma-buf; the default is the common one, with the object's own reservation lock.
    ///
    /// # Errors
    /// -ENOMEM (injected), or what the driver says.
    fn export(&self, obj: &Arc<DrmGemObject>, flags: u32) -> Result<DmaBuf> {
        super::prime::drm_gem_prime_export(obj, flags)
    }

    /// The kernel's view.
    ///
    /// # Errors
    /// What the driver says.
    fn vmap(&self, _obj: &Arc<DrmGemObject>) -> Result<IosysMap> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Ends it.
    fn vunmap(&self, _obj: &Arc<DrmGemObject>, _map: &IosysMap) {}

    /// False: the object is mapped by the driver's file operations only.
    fn has_mmap(&self) -> bool {
        false
    }

    /// Maps it to user space.
    ///
    /// # Errors
    /// What the driver says.
    fn mmap(&self, _obj: &Arc<DrmGemObject>, _vma: &mut VmArea) -> Result {
        Err(Errno::EINVAL)
    }

    /// What a mapping can do.
    fn vm_ops(&self) -> Option<&'static dyn VmOperations> {
        None
    }

    /// Memory is short: gives up the pages. The reservation lock is held.
    ///
    /// # Errors
    /// -EBUSY unless the driver can.
    fn evict(&self, _obj: &Arc<DrmGemObject>) -> Result {
        Err(Errno::EBUSY)
    }
}

/// What a driver's object is besides a GEM object.
pub trait GemPayload: Any + Send + Sync {
    /// The shmem part, if it is built on the shmem helper.
    fn shmem(&self) -> Option<&DrmGemShmemObject> {
        None
    }
}

/// `struct drm_gem_object`.
pub struct DrmGemObject {
    pub(super) refcount: Kref,
    /// Under `object_name_lock`.
    pub(super) handle_count: KCell<usize>,
    /// The global name, 0 for none. Under `object_name_lock`.
    pub(super) name: KCell<u32>,
    /// The device.
    pub dev: Arc<DrmDevice>,
    /// In bytes.
    pub size: usize,
    pub(super) vma_node: DrmVmaOffsetNode,
    own_resv: Arc<DmaResv>,
    shared_resv: OnceLock<Arc<DmaResv>>,
    /// The backing store, unless the object is private (imported).
    pub(super) filp: Option<Arc<ShmemFile>>,
    /// The exported or imported buffer. Changed under `object_name_lock`, read without.
    pub(super) dma_buf: KPtr<File>,
    /// Set for foreign buffers only: an object that came back to its own device has none.
    import_attach: OnceLock<Arc<DmaBufAttachment>>,
    pub(super) funcs: &'static dyn DrmGemObjectFuncs,
    pub(super) payload: Box<dyn GemPayload>,
    live: Live,
}

impl DrmGemObject {
    /// `drm_gem_object_init`, or `drm_gem_private_object_init` if there is no backing store.
    pub fn init(
        dev: &Arc<DrmDevice>,
        size: usize,
        filp: Option<Arc<ShmemFile>>,
        funcs: &'static dyn DrmGemObjectFuncs,
        payload: Box<dyn GemPayload>,
    ) -> Arc<Self> {
        Arc::new(DrmGemObject {
            refcount: Kref::new(),
            handle_count: KCell::new("an object's handle count", 0),
            name: KCell::new("an object's name", 0),
            dev: dev.clone(),
            size,
            vma_node: DrmVmaOffsetNode::new((size / PAGE_SIZE) as u64),
            own_resv: Arc::default(),
            shared_resv: OnceLock::new(),
            filp,
            dma_buf: KPtr::null(),
            import_attach: OnceLock::new(),
            funcs,
            payload,
            live: dev.core.born("drm_gem_object"),
        })
    }

    /// The reservation lock: the exporter's, if the object is imported.
    #[must_use]
    pub fn resv(&self) -> &Arc<DmaResv> {
        self.shared_resv.get().unwrap_or(&self.own_resv)
    }

    /// The attachment of an imported object.
    #[must_use]
    pub fn import_attach(&self) -> Option<&Arc<DmaBufAttachment>> {
        self.import_attach.get()
    }

    /// The exported or imported buffer.
    #[must_use]
    pub fn dma_buf(&self) -> Option<DmaBuf> {
        self.dma_buf.load().as_ref().and_then(DmaBuf::of)
    }

    /// Links the buffer; the caller has taken a reference for it.
    pub(super) fn set_dma_buf(&self, buf: &DmaBuf) {
        self.dma_buf.swap(Some(buf.file().clone()));
    }

    /// Makes it an imported object: it shares the exporter's lock from now on.
    pub(super) fn set_imported(&self, attach: Arc<DmaBufAttachment>) {
        let shared = self.shared_resv.set(attach.dmabuf.resv().clone());
        debug_assert!(shared.is_ok(), "imported twice");
        self.set_import_attach(attach);
    }

    /// Makes it an imported object that keeps a lock of its own.
    pub(super) fn set_import_attach(&self, attach: Arc<DmaBufAttachment>) {
        let attached = self.import_attach.set(attach);
        debug_assert!(attached.is_ok(), "imported twice");
    }

    pub(super) fn handle_count(&self) -> usize {
        self.handle_count.get()
    }

    /// How many references there are.
    #[must_use]
    pub fn refcount(&self) -> usize {
        self.refcount.count()
    }

    pub(super) fn is_freed(&self) -> bool {
        self.live.is_freed()
    }
}

/// `drm_gem_object_get`.
#[track_caller]
pub fn drm_gem_object_get(obj: &Arc<DrmGemObject>) -> Arc<DrmGemObject> {
    obj.refcount.get();
    obj.clone()
}

/// `drm_gem_object_put`: frees the object if it was the last reference.
#[expect(clippy::needless_pass_by_value, reason = "the reference is given up")]
#[track_caller]
pub fn drm_gem_object_put(obj: Arc<DrmGemObject>) {
    if obj.refcount.put() {
        obj.funcs.free(&obj);
    }
}

/// `drm_gem_object_release`: the common part of an object's end.
pub(super) fn drm_gem_object_release(obj: &DrmGemObject) {
    drm_gem_free_mmap_offset(obj);
    dma_resv_fini(&obj.own_resv);
    obj.live.freed();
}

/// `drm_gem_create_mmap_offset`.
pub fn drm_gem_create_mmap_offset(obj: &Arc<DrmGemObject>) {
    drm_vma_offset_add(&obj.dev.vma_offset_manager, obj);
}

/// `drm_gem_free_mmap_offset`.
#[track_caller]
pub(super) fn drm_gem_free_mmap_offset(obj: &DrmGemObject) {
    drm_vma_offset_remove(&obj.dev.vma_offset_manager, &obj.vma_node);
}

/// `drm_gem_dumb_map_offset`: where to map a dumb buffer, in bytes.
///
/// # Errors
/// -ENOENT if the handle is unknown, -EINVAL for an imported object.
pub fn drm_gem_dumb_map_offset(file: &DrmFile, handle: Handle) -> Result<u64> {
    let obj = drm_gem_object_lookup(file, handle).ok_or(Errno::ENOENT)?;
    let result = if obj.import_attach().is_some() { Err(Errno::EINVAL) } else { map_offset(&obj) };
    drm_gem_object_put(obj);
    result
}

/// The ioctl of a driver that lets imported objects be mapped too (as panfrost's `MMAP_BO`).
///
/// # Errors
/// -ENOENT if the handle is unknown, or what the driver says.
pub fn driver_map_offset(file: &DrmFile, handle: Handle) -> Result<u64> {
    let obj = drm_gem_object_lookup(file, handle).ok_or(Errno::ENOENT)?;
    let offset = map_offset(&obj);
    drm_gem_object_put(obj);
    offset
}

fn map_offset(obj: &Arc<DrmGemObject>) -> Result<u64> {
    obj.dev.driver.create_mmap_offset(obj)?;
    Ok(obj.vma_node.start() * PAGE_SIZE as u64)
}

/// `drm_gem_mmap`: the device's file is mapped.
///
/// # Errors
/// -EINVAL if there is no object, -EACCES if this file has no handle for it, or what the driver says.
pub(super) fn drm_gem_mmap(file: &DrmFile, vma: &mut VmArea) -> Result {
    let mgr = &file.dev.vma_offset_manager;
    let obj = lookup_and_get(mgr, vma.pgoff, vma.pages()).ok_or(Errno::EINVAL)?;
    if !drm_vma_node_is_allowed(&obj.vma_node, file.id) {
        drm_gem_object_put(obj);
        return Err(Errno::EACCES);
    }
    let result = drm_gem_mmap_obj(&obj, vma);
    drm_gem_object_put(obj);
    result
}

/// `drm_gem_mmap_obj`.
pub(super) fn drm_gem_mmap_obj(obj: &Arc<DrmGemObject>, vma: &mut VmArea) -> Result {
    if vma.pages() > obj.vma_node.pages() {
        return Err(Errno::EINVAL);
    }
    let ours = drm_gem_object_get(obj);
    vma.private = Some(obj.clone());
    vma.ops = obj.funcs.vm_ops();
    let result = if obj.funcs.has_mmap() {
        obj.dev.core.log_mmap(obj.dev.driver.name(), "drm_gem_mmap_obj", obj.resv().is_held());
        obj.funcs.mmap(obj, vma)
    } else if vma.ops.is_some() {
        vma.pfnmap = true;
        Ok(())
    } else {
        Err(Errno::EINVAL)
    };
    if result.is_err() {
        drm_gem_object_put(ours);
    }
    result
}

/// Which of the object's pages a fault is about: a mapping of the device's file counts from the object's offset there, one
/// of another file from the object's beginning.
pub(super) fn faulting_page(vmf: &VmFault<'_>, obj: &DrmGemObject) -> core::result::Result<usize, Signal> {
    let pgoff = vmf.pgoff.checked_sub(obj.vma_node.start()).unwrap_or(vmf.pgoff);
    usize::try_from(pgoff).map_err(|_| Signal::Bus)
}

/// `drm_gem_vm_open`.
pub(super) fn drm_gem_vm_open(vma: &VmArea) {
    if let Some(obj) = vma.private::<DrmGemObject>() {
        obj.refcount.get();
    }
}

/// `drm_gem_vm_close`: may free the object, under `mmap_lock`.
pub(super) fn drm_gem_vm_close(vma: &VmArea) {
    if let Some(obj) = vma.private::<DrmGemObject>() {
        drm_gem_object_put(obj);
    }
}

/// `drm_gem_pin`. Since v6.10 (regime C) the lock is taken here, before it was the driver's business.
///
/// # Errors
/// What the driver says.
pub fn drm_gem_pin(obj: &Arc<DrmGemObject>) -> Result {
    if obj.dev.core.shmem != ShmemLocking::C {
        return obj.funcs.pin(obj);
    }
    dma_resv_lock(obj.resv());
    let result = obj.funcs.pin(obj);
    dma_resv_unlock(obj.resv());
    result
}

/// `drm_gem_unpin`. The unlock is its last call and is left to whoever called through a callback.
pub fn drm_gem_unpin(obj: &Arc<DrmGemObject>) -> Tail {
    if obj.dev.core.shmem != ShmemLocking::C {
        obj.funcs.unpin(obj);
        return Tail::NONE;
    }
    dma_resv_lock(obj.resv());
    obj.funcs.unpin(obj);
    Tail::unlock(obj.resv().clone())
}

/// `drm_gem_vmap`: the reservation lock must be held (P0: nothing).
///
/// # Errors
/// What the driver says.
pub fn drm_gem_vmap(obj: &Arc<DrmGemObject>) -> Result<IosysMap> {
    if obj.dev.core.policy != LockingPolicy::P0 {
        dma_resv_assert_held(obj.resv());
    }
    obj.funcs.vmap(obj)
}

/// `drm_gem_vunmap`.
pub fn drm_gem_vunmap(obj: &Arc<DrmGemObject>, map: &IosysMap) {
    if obj.dev.core.policy != LockingPolicy::P0 {
        dma_resv_assert_held(obj.resv());
    }
    obj.funcs.vunmap(obj, map);
}

/// `drm_gem_vmap_unlocked`: takes the lock itself (P0: takes nothing).
///
/// # Errors
/// What the driver says.
pub fn drm_gem_vmap_unlocked(obj: &Arc<DrmGemObject>) -> Result<IosysMap> {
    if obj.dev.core.policy == LockingPolicy::P0 {
        return drm_gem_vmap(obj);
    }
    dma_resv_lock(obj.resv());
    let result = drm_gem_vmap(obj);
    dma_resv_unlock(obj.resv());
    result
}

/// `drm_gem_vunmap_unlocked`.
pub fn drm_gem_vunmap_unlocked(obj: &Arc<DrmGemObject>, map: &IosysMap) {
    if obj.dev.core.policy == LockingPolicy::P0 {
        return drm_gem_vunmap(obj, map);
    }
    dma_resv_lock(obj.resv());
    drm_gem_vunmap(obj, map);
    dma_resv_unlock(obj.resv());
}

/// `drm_gem_evict`: the reservation lock must be held.
///
/// # Errors
/// -EBUSY if somebody still uses the object, or what the driver says.
pub fn drm_gem_evict(obj: &Arc<DrmGemObject>) -> Result {
    dma_resv_assert_held(obj.resv());
    if !dma_resv_test_signaled(obj.resv(), DmaResvUsage::Read) {
        return Err(Errno::EBUSY);
    }
    obj.funcs.evict(obj)
}

crate::kernel::opaque_debug!(DrmGemObject);
