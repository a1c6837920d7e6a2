// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! PRIME: GEM objects as dma-bufs and back.
//!
//! Each open file remembers which handle belongs to which buffer, so that a buffer that comes back gets the same
//! handle. A buffer that comes back to its own device is the same object, with no attachment; a foreign one is
//! attached and mapped, and the new object shares the exporter's reservation lock.
//!
//! The exported buffer holds its object and the object (while it has handles) its buffer; closing the last handle
//! breaks the circle.
//!
//! # Locking
//!
//! `&prime_fpriv->lock` (mutex): which handle of the file belongs to which buffer.
//!
//! * `&prime_fpriv->lock` → `&dev->object_name_lock`: export and import
//! * `&dev->object_name_lock` → `reservation_ww_class_mutex`: an import attaches and maps
//! * `&dev->object_name_lock` → `&dmabuf->lock` (P0): and some exporters map under the buffer's mutex
//! * `&prime_fpriv->lock` → `reservation_ww_class_mutex` (B0, B, C): drivers with page tables take the pages of an object
//!   that gets a handle
//! * `&prime_fpriv->lock` → `&shmem->pages_lock` (A): the same
//!
//! Kernel counterpart: `drivers/gpu/drm/drm_prime.c`.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockdep::LockClass;

use super::device::DrmDevice;
use super::file::{DrmFile, Handle};
use super::gem::{
    DrmGemObject, drm_gem_object_get, drm_gem_object_put, drm_gem_pin, drm_gem_unpin, drm_gem_vmap,
    drm_gem_vunmap,
};
use super::gem_handle::{drm_gem_handle_create_tail, drm_gem_handle_delete, drm_gem_object_lookup};
use super::vma_manager::{drm_vma_node_allow, drm_vma_node_revoke};
use crate::dma_buf::attach::{
    dma_buf_attach, dma_buf_detach, dma_buf_map_attachment_unlocked, dma_buf_unmap_attachment_unlocked,
    sg_free_table,
};
use crate::dma_buf::core::{DmaBufData, dma_buf_export, dma_buf_fd, dma_buf_get, dma_buf_put, get_dma_buf};
use crate::dma_buf::resv::{DmaResv, dma_resv_assert_held};
use crate::dma_buf::{DmaBuf, DmaBufAttachment, DmaBufExportInfo, DmaBufOps, DmaDirection, SgTable, Tail};
use crate::kernel::cell::KCell;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::{Fd, FileMode, FileTable};
use crate::kernel::locking::{Mutex, sleep_class};
use crate::kernel::mm::VmArea;
use crate::kernel::shmem::IosysMap;
use crate::kernel::{own, reclaim};
use crate::policy::LockingPolicy;

static PRIME_LOCK: LockClass = sleep_class("&prime_fpriv->lock");

/// `DRM_CLOEXEC`.
pub const DRM_CLOEXEC: u32 = 0o200_0000;
/// `DRM_RDWR`.
pub const DRM_RDWR: u32 = 0o2;

/// `struct drm_prime_file_private`: which buffer has which handle in a file.
pub(super) struct DrmPrimeFilePrivate {
    lock: Mutex,
    buffers: KCell<BTreeMap<Handle, DmaBuf>>,
}

impl Default for DrmPrimeFilePrivate {
    fn default() -> Self {
        DrmPrimeFilePrivate {
            lock: Mutex::new(&PRIME_LOCK),
            buffers: KCell::new("the buffers of a file", BTreeMap::new()),
        }
    }
}

impl DrmPrimeFilePrivate {
    pub(super) fn is_empty(&self) -> bool {
        self.buffers.with(|buffers| buffers.is_empty())
    }

    fn lookup_buf_handle(&self, buf: &DmaBuf) -> Option<Handle> {
        self.buffers
            .with(|buffers| buffers.iter().find(|(_, known)| known.is(buf)).map(|(handle, _)| *handle))
    }

    fn lookup_buf_by_handle(&self, handle: Handle) -> Option<DmaBuf> {
        self.buffers.with(|buffers| buffers.get(&handle).cloned())
    }
}

fn drm_prime_add_buf_handle(prime: &DrmPrimeFilePrivate, buf: &DmaBuf, handle: Handle) -> Result {
    reclaim::kmalloc()?;
    let ours = get_dma_buf(buf);
    prime.buffers.with(|buffers| buffers.insert(handle, ours));
    Ok(())
}

/// `drm_prime_remove_buf_handle`. Ends in a jump to the unlock.
#[track_caller]
pub(super) fn drm_prime_remove_buf_handle(prime: &DrmPrimeFilePrivate, handle: Handle) {
    own(|| prime.lock.lock());
    if let Some(buf) = prime.buffers.with(|buffers| buffers.remove(&handle)) {
        dma_buf_put(buf);
    }
    prime.lock.unlock();
}

/// `drm_gem_prime_handle_to_fd`: a file descriptor for an object.
///
/// # Errors
/// -EINVAL for bad flags, -ENOENT if the handle is unknown or closed meanwhile, -ENOMEM (injected).
pub fn drm_gem_prime_handle_to_fd(
    file: &DrmFile,
    files: &FileTable,
    handle: Handle,
    flags: u32,
) -> Result<Fd> {
    if flags & !(DRM_CLOEXEC | DRM_RDWR) != 0 {
        return Err(Errno::EINVAL);
    }
    let buf = drm_gem_prime_handle_to_dmabuf(file, handle, flags)?;
    dma_buf_fd(files, buf)
}

/// `drm_gem_prime_handle_to_dmabuf`.
///
/// # Errors
/// As [`drm_gem_prime_handle_to_fd`].
pub fn drm_gem_prime_handle_to_dmabuf(file: &DrmFile, handle: Handle, flags: u32) -> Result<DmaBuf> {
    let prime = &file.prime;
    prime.lock.lock();
    let Some(obj) = drm_gem_object_lookup(file, handle) else {
        prime.lock.unlock();
        return Err(Errno::ENOENT);
    };
    let result = match prime.lookup_buf_by_handle(handle) {
        Some(buf) => Ok(get_dma_buf(&buf)),
        None => {
            file.dev.object_name_lock.lock();
            let result = buffer_of(&obj, flags).and_then(|buf| {
                drm_prime_add_buf_handle(prime, &buf, handle)
                    .map(|()| buf.clone())
                    .inspect_err(|_| dma_buf_put(buf))
            });
            file.dev.object_name_lock.unlock();
            result
        }
    };
    drm_gem_object_put(obj);
    prime.lock.unlock();
    result
}

/// The buffer of an object, with a reference; made now if there is none.
fn buffer_of(obj: &Arc<DrmGemObject>, flags: u32) -> Result<DmaBuf> {
    if let Some(attach) = obj.import_attach() {
        return Ok(get_dma_buf(&attach.dmabuf));
    }
    if let Some(buf) = obj.dma_buf() {
        return Ok(get_dma_buf(&buf));
    }
    export_and_register_object(obj, flags)
}

fn export_and_register_object(obj: &Arc<DrmGemObject>, flags: u32) -> Result<DmaBuf> {
    if obj.handle_count() == 0 {
        // The last handle is being closed: there must be no new buffer that nobody would unlink.
        return Err(Errno::ENOENT);
    }
    let buf = obj.funcs.export(obj, flags)?;
    obj.set_dma_buf(&get_dma_buf(&buf));
    Ok(buf)
}

/// `drm_gem_prime_export`: a buffer that shares the object's reservation lock.
///
/// # Errors
/// -ENOMEM (injected), -ENODEV if the driver was unloaded.
pub fn drm_gem_prime_export(obj: &Arc<DrmGemObject>, flags: u32) -> Result<DmaBuf> {
    drm_gem_dmabuf_export(obj, flags, &DrmGemPrimeDmabufOps, Some(obj.resv().clone()))
}

/// `drm_gem_dmabuf_export`: a buffer that holds the object and shares its device's mappings. Whether it has the object's
/// reservation lock or one of its own is the driver's choice.
pub(super) fn drm_gem_dmabuf_export(
    obj: &Arc<DrmGemObject>,
    flags: u32,
    ops: &'static dyn DmaBufOps,
    resv: Option<Arc<DmaResv>>,
) -> Result<DmaBuf> {
    obj.dev.module_get()?;
    let mode = if flags & DRM_RDWR != 0 { FileMode::READ_WRITE } else { FileMode::READ };
    let info = DmaBufExportInfo {
        exp_name: obj.dev.driver.name(),
        ops,
        size: obj.size,
        mode,
        resv,
        private: drm_gem_object_get(obj),
        mapping: Some(obj.dev.mapping.clone()),
    };
    dma_buf_export(&obj.dev.core, info).inspect_err(|_| {
        drm_gem_object_put(obj.clone());
        obj.dev.module_put();
    })
}

/// `drm_gem_prime_fd_to_handle`: a handle for a buffer.
///
/// # Errors
/// -EBADF, -EINVAL if the descriptor is no buffer, or what exporter and driver say.
pub fn drm_gem_prime_fd_to_handle(file: &DrmFile, files: &FileTable, fd: Fd) -> Result<Handle> {
    let buf = dma_buf_get(files, fd)?;
    let prime = &file.prime;
    prime.lock.lock();
    if let Some(handle) = prime.lookup_buf_handle(&buf) {
        prime.lock.unlock();
        dma_buf_put(buf);
        return Ok(handle);
    }
    file.dev.object_name_lock.lock();
    let obj = match file.dev.driver.gem_prime_import(&file.dev, &buf) {
        Ok(obj) => obj,
        Err(error) => {
            file.dev.object_name_lock.unlock();
            prime.lock.unlock();
            dma_buf_put(buf);
            return Err(error);
        }
    };
    match obj.dma_buf() {
        Some(known) => {
            file.dev.core.warn_on(!known.is(&buf), "an imported object belongs to another buffer");
        }
        None => obj.set_dma_buf(&get_dma_buf(&buf)),
    }
    // Drops `object_name_lock` whatever happens.
    let handle = drm_gem_handle_create_tail(file, &obj);
    drm_gem_object_put(obj);
    let added = handle.and_then(|handle| drm_prime_add_buf_handle(prime, &buf, handle));
    prime.lock.unlock();
    if let (Ok(handle), Err(_)) = (handle, added) {
        // Without the entry the buffer would come back under another handle.
        let deleted = drm_gem_handle_delete(file, handle);
        debug_assert!(deleted.is_ok(), "the handle was just made");
    }
    dma_buf_put(buf);
    added.and(handle)
}

/// `drm_gem_prime_import`: the object of a buffer, with `object_name_lock` held.
///
/// # Errors
/// -ENOMEM (injected), or what the exporter says.
pub fn drm_gem_prime_import(dev: &Arc<DrmDevice>, buf: &DmaBuf) -> Result<Arc<DrmGemObject>> {
    if buf.has_ops::<DrmGemPrimeDmabufOps>()
        && let Some(obj) = buf.private::<DrmGemObject>()
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
    let table = dma_buf_map_attachment_unlocked(attach, DmaDirection::Bidirectional)?;
    match dev.driver.gem_prime_import_sg_table(dev, attach, &table) {
        Ok(obj) => {
            obj.set_imported(attach.clone());
            Ok(obj)
        }
        Err(error) => {
            dma_buf_unmap_attachment_unlocked(attach, table, DmaDirection::Bidirectional);
            Err(error)
        }
    }
}

/// `drm_prime_gem_destroy`: the end of an imported object.
pub(super) fn drm_prime_gem_destroy(obj: &DrmGemObject, table: Option<Arc<SgTable>>) {
    let Some(attach) = obj.import_attach() else { return };
    if let Some(table) = table {
        dma_buf_unmap_attachment_unlocked(attach, table, DmaDirection::Bidirectional);
    }
    let buf = attach.dmabuf.clone();
    dma_buf_detach(&buf, attach);
    dma_buf_put(buf);
}

/// `drm_gem_prime_mmap`: maps an object through its buffer.
///
/// # Errors
/// What the driver says.
pub(super) fn drm_gem_prime_mmap(obj: &Arc<DrmGemObject>, vma: &mut VmArea) -> Result {
    vma.pgoff += obj.vma_node.start();
    if !obj.funcs.has_mmap() {
        return mmap_through_driver(obj, vma);
    }
    vma.ops = obj.funcs.vm_ops();
    let ours = drm_gem_object_get(obj);
    match obj.funcs.mmap(obj, vma) {
        Ok(()) => {
            vma.private = Some(ours);
            Ok(())
        }
        Err(error) => {
            drm_gem_object_put(ours);
            Err(error)
        }
    }
}

/// For an object without `mmap` of its own: the driver's file operation, with a file made up for the purpose.
fn mmap_through_driver(obj: &Arc<DrmGemObject>, vma: &mut VmArea) -> Result {
    reclaim::kmalloc()?;
    let fake = DrmFile::alloc(&obj.dev, Box::new(()));
    let result = drm_vma_node_allow(&obj.vma_node, fake.id).and_then(|()| {
        let result = obj.dev.driver.mmap(&fake, vma);
        drm_vma_node_revoke(&obj.vma_node, fake.id);
        result
    });
    fake.free();
    result
}

/// `drm_gem_prime_dmabuf_ops`: what a GEM object offers as a dma-buf.
pub struct DrmGemPrimeDmabufOps;

/// The object that was exported.
pub(super) fn object(buf: &DmaBufData) -> Result<Arc<DrmGemObject>> {
    buf.private::<DrmGemObject>().ok_or(Errno::ENODEV)
}

impl DmaBufOps for DrmGemPrimeDmabufOps {
    fn attach(&self, buf: &DmaBuf, _attach: &Arc<DmaBufAttachment>) -> Result {
        drm_gem_pin(&object(buf)?)
    }

    fn detach(&self, buf: &DmaBuf, _attach: &Arc<DmaBufAttachment>) -> Tail {
        object(buf).map_or(Tail::NONE, |obj| drm_gem_unpin(&obj))
    }

    fn map_dma_buf(&self, attach: &Arc<DmaBufAttachment>, _dir: DmaDirection) -> Result<Arc<SgTable>> {
        let obj = object(&attach.dmabuf)?;
        obj.funcs.get_sg_table(&obj)
    }

    fn unmap_dma_buf(&self, _attach: &Arc<DmaBufAttachment>, table: Arc<SgTable>, _dir: DmaDirection) {
        sg_free_table(table);
    }

    fn mmap(&self, buf: &DmaBuf, vma: &mut VmArea) -> Result {
        drm_gem_dmabuf_mmap(buf, vma)
    }

    fn vmap(&self, buf: &DmaBuf) -> Result<IosysMap> {
        drm_gem_vmap(&object(buf)?)
    }

    fn vunmap(&self, buf: &DmaBuf, map: &IosysMap) {
        if let Ok(obj) = object(buf) {
            drm_gem_vunmap(&obj, map);
        }
    }

    fn release(&self, buf: &DmaBufData) {
        drm_gem_dmabuf_release(buf);
    }

    fn cache_sgt_mapping(&self) -> bool {
        true
    }
}

fn drm_gem_dmabuf_mmap(buf: &DmaBuf, vma: &mut VmArea) -> Result {
    let obj = object(buf)?;
    if obj.dev.core.policy == LockingPolicy::P1 {
        dma_resv_assert_held(buf.resv());
    }
    drm_gem_prime_mmap(&obj, vma)
}

/// `drm_gem_dmabuf_release`.
pub(super) fn drm_gem_dmabuf_release(buf: &DmaBufData) {
    if let Ok(obj) = object(buf) {
        let dev = obj.dev.clone();
        drm_gem_object_put(obj);
        dev.module_put();
    }
}

crate::kernel::opaque_debug!(DrmGemPrimeDmabufOps);
