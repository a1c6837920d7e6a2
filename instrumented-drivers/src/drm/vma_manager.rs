// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Fake offsets: where in a device's file a buffer object is mapped, and which open files may do that.
//!
//! # Locking
//!
//! `&mgr->vm_lock` (rwlock): the offsets of a device. `&node->vm_lock` (rwlock): who may map an object. Both are leaves, but
//! for i915, which takes the second inside the first.
//!
//! * `&mm->mmap_lock` → `&mgr->vm_lock`, `&node->vm_lock`: a program maps a device's file
//! * `reservation_ww_class_mutex` → `&mgr->vm_lock`: an object is purged, and nobody can map it any more
//! * `fs_reclaim` → `&mgr->vm_lock`: the same, because memory is short
//!
//! Kernel counterpart: `drivers/gpu/drm/drm_vma_manager.c`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use lockdep::LockClass;

use super::gem::DrmGemObject;
use crate::kernel::cell::KRwCell;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::locking::{RwLock, spin_class};
use crate::kernel::{own, reclaim};

static MGR_VM_LOCK: LockClass = spin_class("&mgr->vm_lock");
static NODE_VM_LOCK: LockClass = spin_class("&node->vm_lock");

/// `DRM_FILE_PAGE_OFFSET_START`: below it is no object.
const FILE_PAGE_OFFSET_START: u64 = 0x10_0000;

struct Offsets {
    next: u64,
    objects: BTreeMap<u64, Weak<DrmGemObject>>,
}

/// `struct drm_vma_offset_manager`: the offsets of one device.
pub struct DrmVmaOffsetManager {
    vm_lock: RwLock,
    offsets: KRwCell<Offsets>,
}

impl Default for DrmVmaOffsetManager {
    fn default() -> Self {
        let offsets = Offsets { next: FILE_PAGE_OFFSET_START, objects: BTreeMap::new() };
        DrmVmaOffsetManager {
            vm_lock: RwLock::new(&MGR_VM_LOCK),
            offsets: KRwCell::new("the offsets of a device", offsets),
        }
    }
}

/// `struct drm_vma_offset_node`: the offset of one object.
pub struct DrmVmaOffsetNode {
    vm_lock: RwLock,
    /// In pages; 0: it has none.
    start: AtomicU64,
    pages: u64,
    /// Open file → how often it was allowed.
    allowed: KRwCell<BTreeMap<u64, usize>>,
}

impl DrmVmaOffsetNode {
    pub(crate) fn new(pages: u64) -> Self {
        DrmVmaOffsetNode {
            vm_lock: RwLock::new(&NODE_VM_LOCK),
            start: AtomicU64::new(0),
            pages,
            allowed: KRwCell::new("the files of an offset", BTreeMap::new()),
        }
    }

    /// `drm_vma_node_start`, in pages.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start.load(Ordering::Relaxed)
    }

    /// `drm_vma_node_size`, in pages.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages
    }
}

/// `drm_vma_offset_add`: gives the object an offset, unless it has one.
pub(super) fn drm_vma_offset_add(mgr: &DrmVmaOffsetManager, obj: &Arc<DrmGemObject>) {
    let node = &obj.vma_node;
    mgr.vm_lock.write_lock();
    if node.start() == 0 {
        mgr.offsets.write(|offsets| {
            node.start.store(offsets.next, Ordering::Relaxed);
            offsets.objects.insert(offsets.next, Arc::downgrade(obj));
            offsets.next += node.pages;
        });
    }
    mgr.vm_lock.write_unlock();
}

/// `drm_vma_offset_remove`. Ends in a jump to the unlock.
#[track_caller]
pub(super) fn drm_vma_offset_remove(mgr: &DrmVmaOffsetManager, node: &DrmVmaOffsetNode) {
    own(|| mgr.vm_lock.write_lock());
    let start = node.start.swap(0, Ordering::Relaxed);
    mgr.offsets.write(|offsets| offsets.objects.remove(&start));
    mgr.vm_lock.write_unlock();
}

/// `drm_vma_offset_exact_lookup_locked` and a reference, between lock and unlock; both are inline in `drm_gem_mmap`.
#[track_caller]
pub(super) fn lookup_and_get(mgr: &DrmVmaOffsetManager, start: u64, pages: u64) -> Option<Arc<DrmGemObject>> {
    mgr.vm_lock.read_lock();
    let object = mgr.offsets.read(|offsets| offsets.objects.get(&start).and_then(Weak::upgrade));
    let object = object.filter(|object| pages <= object.vma_node.pages && object.refcount.get_unless_zero());
    mgr.vm_lock.read_unlock();
    object
}

/// The same for an object that this open file may map; who may is looked up under the lock too.
///
/// # Errors
/// -EINVAL if there is no object, -EACCES if this file has no handle for it.
#[track_caller]
pub(super) fn lookup_allowed_and_get(
    mgr: &DrmVmaOffsetManager,
    start: u64,
    pages: u64,
    file: u64,
) -> Result<Arc<DrmGemObject>> {
    mgr.vm_lock.read_lock();
    let object = mgr.offsets.read(|offsets| offsets.objects.get(&start).and_then(Weak::upgrade));
    let result = match object.filter(|object| pages <= object.vma_node.pages) {
        None => Err(Errno::EINVAL),
        Some(object) if !drm_vma_node_is_allowed(&object.vma_node, file) => Err(Errno::EACCES),
        Some(object) if object.refcount.get_unless_zero() => Ok(object),
        Some(_) => Err(Errno::EACCES),
    };
    mgr.vm_lock.read_unlock();
    result
}

/// `drm_vma_node_allow`: this open file may map the object.
///
/// # Errors
/// -ENOMEM (injected).
pub(super) fn drm_vma_node_allow(node: &DrmVmaOffsetNode, file: u64) -> Result {
    vma_node_allow(node, file)
}

fn vma_node_allow(node: &DrmVmaOffsetNode, file: u64) -> Result {
    reclaim::kmalloc()?;
    node.vm_lock.write_lock();
    node.allowed.write(|allowed| *allowed.entry(file).or_insert(0) += 1);
    node.vm_lock.write_unlock();
    Ok(())
}

/// `drm_vma_node_revoke`. Ends in a jump to the unlock.
#[track_caller]
pub(super) fn drm_vma_node_revoke(node: &DrmVmaOffsetNode, file: u64) {
    own(|| node.vm_lock.write_lock());
    node.allowed.write(|allowed| {
        if let Some(count) = allowed.get_mut(&file) {
            *count -= 1;
            if *count == 0 {
                allowed.remove(&file);
            }
        }
    });
    node.vm_lock.write_unlock();
}

/// `drm_vma_node_is_allowed`.
pub(super) fn drm_vma_node_is_allowed(node: &DrmVmaOffsetNode, file: u64) -> bool {
    node.vm_lock.read_lock();
    let allowed = node.allowed.read(|allowed| allowed.contains_key(&file));
    node.vm_lock.read_unlock();
    allowed
}

crate::kernel::opaque_debug!(DrmVmaOffsetManager, DrmVmaOffsetNode);
