// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Memory is short: objects that nobody has pinned give their pages back. Their content stays in their files.
//!
//! Called from reclaim, that is, perhaps by somebody who allocates under one of these locks: so it only tries them.
//!
//! Kernel counterpart: `i915_gem_shrinker.c`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::pages::{__i915_gem_object_put_pages, i915_vma_try_unbind};
use super::{I915, bo, shrinkable};
use crate::dma_buf::resv::{dma_resv_trylock, dma_resv_unlock};
use crate::drm::gem::{DrmGemObject, drm_gem_object_put};
use crate::kernel::shmem::PAGE_SIZE;
use crate::kernel::shrinker::Shrinker;

impl Shrinker for I915 {
    fn count_objects(&self) -> usize {
        shrinkable(self)
    }

    fn scan_objects(&self, nr_to_scan: usize) -> Option<usize> {
        Some(i915_gem_shrink(self, nr_to_scan))
    }
}

/// A reference to the first object of this list that can be had; under `obj_lock`.
fn first(
    scanned: &mut Vec<Weak<DrmGemObject>>,
    list: &mut Vec<Weak<DrmGemObject>>,
) -> Option<Arc<DrmGemObject>> {
    while !list.is_empty() {
        let next = list.remove(0);
        scanned.push(next.clone());
        if let Some(obj) = next.upgrade()
            && bo(&obj).pages_pin_count.load(Ordering::Acquire) == 0
            && obj.refcount.get_unless_zero()
        {
            return Some(obj);
        }
    }
    None
}

fn i915_gem_shrink(i915: &I915, target: usize) -> usize {
    let mut freed = 0;
    let mut scanned = Vec::new();
    let mut flags = i915.obj_lock.lock_irqsave();
    while freed < target {
        let Some(obj) = i915.shrink_list.with(|list| first(&mut scanned, list)) else { break };
        i915.obj_lock.unlock_irqrestore(flags);
        if dma_resv_trylock(obj.resv()) {
            if drop_pages(i915, &obj) {
                freed += obj.size / PAGE_SIZE;
                scanned.retain(|other| !core::ptr::eq(other.as_ptr(), Arc::as_ptr(&obj)));
            }
            dma_resv_unlock(obj.resv());
        }
        drm_gem_object_put(obj);
        flags = i915.obj_lock.lock_irqsave();
    }
    // What is still there has been looked at; it is the last to be looked at again.
    i915.shrink_list.with(|list| list.append(&mut scanned));
    i915.obj_lock.unlock_irqrestore(flags);
    freed
}

fn drop_pages(i915: &I915, obj: &Arc<DrmGemObject>) -> bool {
    i915_vma_try_unbind(i915, obj) && __i915_gem_object_put_pages(i915, obj).is_ok()
}
