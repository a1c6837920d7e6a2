// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Synchronisation objects: a place for a fence that has a handle in an open file. A job's fence is put into one, and a
//! later job waits for what is in it.
//!
//! # Locking
//!
//! `&file_private->syncobj_table_lock` (spinlock): the handles of a file. `&syncobj->lock` (spinlock): the fence in an object.
//! Both are leaves.
//!
//! Kernel counterpart: `drivers/gpu/drm/drm_syncobj.c`. Not modelled: timelines, waiting for a fence that is not there
//! yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockdep::LockClass;

use super::file::DrmFile;
use crate::dma_buf::fence::{DmaFence, dma_fence_add_callback, dma_fence_get_stub};
use crate::kernel::cell::{KCell, KPtr, Kref};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::live::Live;
use crate::kernel::locking::{SpinLock, spin_class};
use crate::kernel::wait::Sleepers;
use crate::kernel::{fault, reclaim};

static SYNCOBJ_LOCK: LockClass = spin_class("&syncobj->lock");
static SYNCOBJ_TABLE_LOCK: LockClass = spin_class("&file_private->syncobj_table_lock");

/// The handle of a synchronisation object in an open file; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SyncobjHandle(pub u32);

/// `struct drm_syncobj`.
pub struct DrmSyncobj {
    refcount: Kref,
    lock: SpinLock,
    /// Changed under `lock`, read without.
    fence: KPtr<DmaFence>,
    live: Live,
}

/// The synchronisation objects of an open file.
pub(super) struct DrmSyncobjTable {
    lock: SpinLock,
    objects: KCell<BTreeMap<u32, Arc<DrmSyncobj>>>,
}

impl Default for DrmSyncobjTable {
    fn default() -> Self {
        DrmSyncobjTable {
            lock: SpinLock::new(&SYNCOBJ_TABLE_LOCK),
            objects: KCell::new("a file's synchronisation objects", BTreeMap::new()),
        }
    }
}

/// `drm_syncobj_create_ioctl`; `signaled`: with a fence that was always signalled, else with none.
///
/// # Errors
/// -ENOMEM (injected).
pub fn drm_syncobj_create_ioctl(file: &DrmFile, signaled: bool) -> Result<SyncobjHandle> {
    reclaim::kmalloc()?;
    let syncobj = Arc::new(DrmSyncobj {
        refcount: Kref::new(),
        lock: SpinLock::new(&SYNCOBJ_LOCK),
        fence: KPtr::null(),
        live: file.dev.core.born("drm_syncobj"),
    });
    if signaled {
        drm_syncobj_replace_fence(&syncobj, Some(dma_fence_get_stub(&file.dev.core)));
    }
    drm_syncobj_get_handle(file, syncobj)
}

fn drm_syncobj_get_handle(file: &DrmFile, syncobj: Arc<DrmSyncobj>) -> Result<SyncobjHandle> {
    if let Err(error) = reclaim::kmalloc() {
        drm_syncobj_put(&syncobj);
        return Err(error);
    }
    let table = &file.syncobjs;
    table.lock.lock();
    let handle = table.objects.with(|objects| {
        let free = (1..).find(|handle| !objects.contains_key(handle)).unwrap_or(0);
        objects.insert(free, syncobj);
        free
    });
    table.lock.unlock();
    Ok(SyncobjHandle(handle))
}

/// `drm_syncobj_destroy_ioctl`.
///
/// # Errors
/// -EINVAL if the handle is unknown.
pub fn drm_syncobj_destroy_ioctl(file: &DrmFile, handle: SyncobjHandle) -> Result {
    let table = &file.syncobjs;
    table.lock.lock();
    let syncobj = table.objects.with(|objects| objects.remove(&handle.0));
    table.lock.unlock();
    let syncobj = syncobj.ok_or(Errno::EINVAL)?;
    drm_syncobj_put(&syncobj);
    Ok(())
}

/// `drm_syncobj_find`: the object behind a handle, with a reference.
#[must_use]
pub fn drm_syncobj_find(file: &DrmFile, handle: SyncobjHandle) -> Option<Arc<DrmSyncobj>> {
    let table = &file.syncobjs;
    table.lock.lock();
    let syncobj = table.objects.with(|objects| objects.get(&handle.0).cloned());
    if let Some(syncobj) = &syncobj {
        syncobj.refcount.get();
    }
    table.lock.unlock();
    syncobj
}

/// `drm_syncobj_put`.
pub fn drm_syncobj_put(syncobj: &DrmSyncobj) {
    if syncobj.refcount.put() {
        drm_syncobj_free(syncobj);
    }
}

fn drm_syncobj_free(syncobj: &DrmSyncobj) {
    drm_syncobj_replace_fence(syncobj, None);
    syncobj.live.freed();
}

/// `drm_syncobj_replace_fence`.
pub fn drm_syncobj_replace_fence(syncobj: &DrmSyncobj, fence: Option<Arc<DmaFence>>) {
    syncobj.lock.lock();
    let old = syncobj.fence.swap(fence);
    syncobj.lock.unlock();
    drop(old);
}

/// `drm_syncobj_find_fence`: what is in it.
///
/// # Errors
/// -ENOENT if the handle is unknown, -EINVAL if there is no fence in it.
pub fn drm_syncobj_find_fence(file: &DrmFile, handle: SyncobjHandle) -> Result<Arc<DmaFence>> {
    let syncobj = drm_syncobj_find(file, handle).ok_or(Errno::ENOENT)?;
    let fence = syncobj.fence.load();
    drm_syncobj_put(&syncobj);
    fence.ok_or(Errno::EINVAL)
}

/// `drm_syncobj_wait_ioctl` for one object: returns the error of the fence, if it has one.
///
/// # Errors
/// -ENOENT if the handle is unknown, -EINVAL if there is no fence in it, -EINTR (injected).
pub fn drm_syncobj_wait_ioctl(file: &DrmFile, handle: SyncobjHandle) -> Result<Option<Errno>> {
    let fence = drm_syncobj_find_fence(file, handle)?;
    drm_syncobj_array_wait_timeout(&fence)?;
    Ok(fence.error())
}

/// Not by `dma_fence_wait`: it can wait for any of several. So for the validator this is no wait for a fence.
fn drm_syncobj_array_wait_timeout(fence: &DmaFence) -> Result {
    if fault::interrupted() {
        return Err(Errno::EINTR);
    }
    let sleepers = Arc::new(Sleepers::default());
    let waker = sleepers.clone();
    // If it is signalled already there is nothing to wait for.
    let _signalled = dma_fence_add_callback(fence, Box::new(move || waker.wake_all()));
    sleepers.wait_until(|| fence.is_signaled());
    Ok(())
}

/// `drm_syncobj_release`: the file is closed.
pub(super) fn drm_syncobj_release(file: &DrmFile) {
    for syncobj in file.syncobjs.objects.replace(BTreeMap::new()).into_values() {
        drm_syncobj_put(&syncobj);
    }
}

crate::kernel::opaque_debug!(DrmSyncobj);
