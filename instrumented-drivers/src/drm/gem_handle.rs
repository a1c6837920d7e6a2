// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Handles and global names of GEM objects.
//!
//! # Locking
//!
//! Neither `&dev->object_name_lock` nor `&prime_fpriv->lock` is ever taken inside a reservation lock.
//!
//! * `&dev->object_name_lock` → `&file_private->table_lock`: an object gets a handle; its driver is told without the first
//! * `&prime_fpriv->lock` → `&node->vm_lock`: an import gets one; from here on its file may map the object
//! * `&prime_fpriv->lock` → `fs_reclaim`: and so may the driver, which is told under this lock
//!
//! Kernel counterpart: `drivers/gpu/drm/drm_gem.c`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::file::{DrmFile, Handle};
use super::gem::{DrmGemObject, drm_gem_object_get, drm_gem_object_put};
use super::prime::drm_prime_remove_buf_handle;
use super::vma_manager::{drm_vma_node_allow, drm_vma_node_revoke};
use crate::dma_buf::core::dma_buf_put;
use crate::kernel::errno::{Errno, Result};

/// `drm_gem_handle_create`: a handle for an object in this file.
///
/// # Errors
/// What the driver says, -ENOMEM (injected).
pub fn drm_gem_handle_create(file: &DrmFile, obj: &Arc<DrmGemObject>) -> Result<Handle> {
    file.dev.object_name_lock.lock();
    drm_gem_handle_create_tail(file, obj)
}

/// `drm_gem_handle_create_tail`: called with `object_name_lock` held, returns without.
pub(super) fn drm_gem_handle_create_tail(file: &DrmFile, obj: &Arc<DrmGemObject>) -> Result<Handle> {
    file.dev.object_name_lock.assert_held();
    let first = obj.handle_count.with(|count| {
        *count += 1;
        *count == 1
    });
    if first {
        obj.refcount.get();
    }
    // The handle is reserved now and can be used only once everything behind it is ready.
    file.table_lock.lock();
    let handle = file.objects.with(|objects| {
        let free = (1..).find(|id| !objects.contains_key(id)).unwrap_or(0);
        objects.insert(free, None);
        free
    });
    file.table_lock.unlock();
    file.dev.object_name_lock.unlock();
    let opened = drm_vma_node_allow(&obj.vma_node, file.id).and_then(|()| {
        obj.funcs.open(obj, file).inspect_err(|_| drm_vma_node_revoke(&obj.vma_node, file.id))
    });
    file.table_lock.lock();
    file.objects.with(|objects| match opened {
        Ok(()) => objects.insert(handle, Some(obj.clone())),
        Err(_) => objects.remove(&handle),
    });
    file.table_lock.unlock();
    if let Err(error) = opened {
        drm_gem_object_handle_put_unlocked(obj);
        return Err(error);
    }
    Ok(Handle(handle))
}

/// `drm_gem_object_handle_put_unlocked`: one handle less; the last one takes the name and the exported buffer along.
pub(super) fn drm_gem_object_handle_put_unlocked(obj: &Arc<DrmGemObject>) {
    obj.dev.object_name_lock.lock();
    let last = obj.handle_count.with(|count| {
        *count -= 1;
        *count == 0
    });
    if last {
        let name = obj.name.replace(0);
        obj.dev.names.with(|names| names.objects.remove(&name));
        if let Some(buf) = obj.dma_buf() {
            obj.dma_buf.take();
            dma_buf_put(buf);
        }
    }
    obj.dev.object_name_lock.unlock();
    if last {
        drm_gem_object_put(obj.clone());
    }
}

/// `drm_gem_handle_delete`: closes a handle.
///
/// # Errors
/// -EINVAL if there is none.
pub fn drm_gem_handle_delete(file: &DrmFile, handle: Handle) -> Result {
    file.table_lock.lock();
    let obj = file.objects.with(|objects| objects.get_mut(&handle.0).and_then(Option::take));
    file.table_lock.unlock();
    let obj = obj.ok_or(Errno::EINVAL)?;
    drm_gem_object_release_handle(file, handle, &obj);
    file.table_lock.lock();
    file.objects.with(|objects| objects.remove(&handle.0));
    file.table_lock.unlock();
    Ok(())
}

fn drm_gem_object_release_handle(file: &DrmFile, handle: Handle, obj: &Arc<DrmGemObject>) {
    obj.funcs.close(obj, file);
    drm_prime_remove_buf_handle(&file.prime, handle);
    drm_vma_node_revoke(&obj.vma_node, file.id);
    drm_gem_object_handle_put_unlocked(obj);
}

/// `drm_gem_release`: the file is closed, with all handles; nobody else uses it any more.
pub(super) fn drm_gem_release(file: &DrmFile) {
    for (handle, obj) in file.objects.replace(BTreeMap::new()) {
        if let Some(obj) = obj {
            drm_gem_object_release_handle(file, Handle(handle), &obj);
        }
    }
}

/// `drm_gem_object_lookup`: the object behind a handle, with a reference.
#[must_use]
pub fn drm_gem_object_lookup(file: &DrmFile, handle: Handle) -> Option<Arc<DrmGemObject>> {
    objects_lookup(file, &[handle]).ok()?.pop()
}

/// `drm_gem_objects_lookup`: all of them, or none.
///
/// # Errors
/// -ENOENT if a handle is unknown.
pub fn drm_gem_objects_lookup(file: &DrmFile, handles: &[Handle]) -> Result<Vec<Arc<DrmGemObject>>> {
    objects_lookup(file, handles)
}

fn objects_lookup(file: &DrmFile, handles: &[Handle]) -> Result<Vec<Arc<DrmGemObject>>> {
    file.table_lock.lock();
    let found: Option<Vec<_>> = file.objects.with(|objects| {
        let known = |handle: &Handle| objects.get(&handle.0).and_then(Option::as_ref);
        handles
            .iter()
            .all(|handle| known(handle).is_some())
            .then(|| handles.iter().filter_map(known).map(drm_gem_object_get).collect())
    });
    file.table_lock.unlock();
    found.ok_or(Errno::ENOENT)
}

/// `drm_gem_flink_ioctl`: a global name for an object.
///
/// # Errors
/// -ENOENT if the handle is unknown or closed meanwhile.
pub fn drm_gem_flink_ioctl(file: &DrmFile, handle: Handle) -> Result<u32> {
    let obj = drm_gem_object_lookup(file, handle).ok_or(Errno::ENOENT)?;
    let dev = &file.dev;
    dev.object_name_lock.lock();
    let result = if obj.handle_count() == 0 {
        Err(Errno::ENOENT)
    } else {
        let known = obj.name.get();
        let name = dev.names.with(|names| {
            if known != 0 {
                return known;
            }
            names.last += 1;
            names.objects.insert(names.last, obj.clone());
            names.last
        });
        obj.name.set(name);
        Ok(name)
    };
    dev.object_name_lock.unlock();
    drm_gem_object_put(obj);
    result
}

/// `drm_gem_open_ioctl`: a handle for a global name.
///
/// # Errors
/// -ENOENT if the name is unknown.
pub fn drm_gem_open_ioctl(file: &DrmFile, name: u32) -> Result<Handle> {
    let dev = &file.dev;
    dev.object_name_lock.lock();
    let obj = dev.names.with(|names| names.objects.get(&name).map(drm_gem_object_get));
    let Some(obj) = obj else {
        dev.object_name_lock.unlock();
        return Err(Errno::ENOENT);
    };
    let handle = drm_gem_handle_create_tail(file, &obj);
    drm_gem_object_put(obj);
    handle
}
