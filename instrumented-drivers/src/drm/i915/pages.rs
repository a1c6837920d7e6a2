// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! An object's pages: had, pinned, mapped for the kernel, bound for the GPU, moved.
//!
//! Kernel counterpart: `i915_gem_pages.c`, `i915_gem_shmem.c`, `i915_gem_dmabuf.c`, `i915_vma.c`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::mman::i915_gem_object_release_mmap;
use super::object::{I915GemWwCtx, Region, assert_object_held};
use super::{I915, bo};
use crate::dma_buf::attach::{dma_buf_map_attachment, dma_buf_unmap_attachment, sg_free_table};
use crate::dma_buf::resv::{DmaResvUsage, dma_resv_wait};
use crate::dma_buf::{DmaDirection, SgTable};
use crate::drm::gem::DrmGemObject;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::reclaim;
use crate::kernel::shmem::{IosysMap, PAGE_SIZE, Pages, ShmemFile};
use crate::kernel::vmalloc::{vmap, vunmap};

/// `i915_gem_object_pin_pages`: there are pages, and they stay. The object's lock is held.
///
/// # Errors
/// -ENOMEM (injected), or what the exporter of an import says.
pub fn i915_gem_object_pin_pages(obj: &Arc<DrmGemObject>) -> Result<Arc<SgTable>> {
    assert_object_held(obj);
    let bo = bo(obj);
    let pages = match bo.pages.load() {
        Some(pages) => pages,
        None => ____i915_gem_object_get_pages(obj)?,
    };
    bo.pages_pin_count.fetch_add(1, Ordering::AcqRel);
    Ok(pages)
}

/// `i915_gem_object_unpin_pages`: takes no lock.
pub fn i915_gem_object_unpin_pages(obj: &DrmGemObject) {
    bo(obj).pages_pin_count.fetch_sub(1, Ordering::AcqRel);
}

fn ____i915_gem_object_get_pages(obj: &Arc<DrmGemObject>) -> Result<Arc<SgTable>> {
    let pages = if obj.import_attach().is_some() {
        i915_gem_object_get_pages_dmabuf(obj)?
    } else if let Some(filp) = &obj.filp {
        shmem_get_pages(obj, filp)?
    } else {
        SgTable::from_pages(&obj.dev.core, store(obj)?)?
    };
    __i915_gem_object_set_pages(obj, &pages);
    Ok(pages)
}

fn shmem_get_pages(obj: &DrmGemObject, filp: &Arc<ShmemFile>) -> Result<Arc<SgTable>> {
    let pages = (0..filp.pages()).map(|index| filp.read_mapping_page(index)).collect::<Result<Pages>>()?;
    SgTable::from_pages(&obj.dev.core, pages)
}

fn i915_gem_object_get_pages_dmabuf(obj: &DrmGemObject) -> Result<Arc<SgTable>> {
    assert_object_held(obj);
    let attach = obj.import_attach().ok_or(Errno::EINVAL)?;
    dma_buf_map_attachment(attach, DmaDirection::Bidirectional)
}

/// The memory of an object that is no file: it is found when it is first needed.
fn store(obj: &DrmGemObject) -> Result<Pages> {
    let bo = bo(obj);
    if let Some(store) = bo.mm.with(|mm| mm.store.clone()) {
        return Ok(store);
    }
    let store = allocate(obj)?;
    bo.mm.with(|mm| mm.store = Some(store.clone()));
    Ok(store)
}

fn allocate(obj: &DrmGemObject) -> Result<Pages> {
    reclaim::kmalloc()?;
    reclaim::alloc_page()?;
    ShmemFile::anonymous_pages(obj.size / PAGE_SIZE)
}

fn is_shrinkable(obj: &DrmGemObject) -> bool {
    obj.filp.is_some() || obj.import_attach().is_some()
}

fn __i915_gem_object_set_pages(obj: &Arc<DrmGemObject>, pages: &Arc<SgTable>) {
    let i915 = I915::of(&obj.dev);
    bo(obj).pages.swap(Some(pages.clone()));
    if is_shrinkable(obj) {
        let flags = i915.obj_lock.lock_irqsave();
        i915.shrink_list.with(|list| list.push(Arc::downgrade(obj)));
        i915.shrinkable.fetch_add(pages.pages(), Ordering::Relaxed);
        i915.obj_lock.unlock_irqrestore(flags);
    }
}

/// `i915_gem_object_make_unshrinkable`.
fn make_unshrinkable(i915: &I915, obj: &DrmGemObject) {
    let flags = i915.obj_lock.lock_irqsave();
    let listed = i915.shrink_list.with(|list| {
        let before = list.len();
        list.retain(|other| !core::ptr::eq(other.as_ptr(), obj));
        before > list.len()
    });
    if listed {
        i915.shrinkable.fetch_sub(obj.size / PAGE_SIZE, Ordering::Relaxed);
    }
    i915.obj_lock.unlock_irqrestore(flags);
}

/// `__i915_gem_object_put_pages`.
///
/// # Errors
/// -EBUSY while somebody has them pinned.
pub(super) fn __i915_gem_object_put_pages(i915: &I915, obj: &Arc<DrmGemObject>) -> Result {
    assert_object_held(obj);
    if bo(obj).pages_pin_count.load(Ordering::Acquire) > 0 {
        return Err(Errno::EBUSY);
    }
    __i915_gem_object_put_pages_unpinned(i915, obj);
    Ok(())
}

/// The rest of it. What was in system memory stays in its file.
pub(super) fn __i915_gem_object_put_pages_unpinned(i915: &I915, obj: &Arc<DrmGemObject>) {
    if let Some(mapping) = bo(obj).mm.with(|mm| mm.mapping.take()) {
        vunmap(&obj.dev.core, mapping);
    }
    let Some(pages) = bo(obj).pages.take() else { return };
    make_unshrinkable(i915, obj);
    i915_gem_object_release_mmap(obj);
    match obj.import_attach() {
        Some(attach) => dma_buf_unmap_attachment(attach, pages, DmaDirection::Bidirectional),
        None => sg_free_table(pages),
    }
}

/// `i915_gem_object_pin_map`: pages that stay, and the kernel's view of them, which is kept.
pub(super) fn i915_gem_object_pin_map(obj: &Arc<DrmGemObject>) -> Result<IosysMap> {
    let pages = i915_gem_object_pin_pages(obj)?;
    let bo = bo(obj);
    if let Some(map) = bo.mm.with(|mm| mm.mapping.as_ref().map(|mapping| mapping.map.clone())) {
        return Ok(map);
    }
    match vmap(&obj.dev.core, pages.page_list()) {
        Ok(mapping) => {
            let map = mapping.map.clone();
            bo.mm.with(|mm| mm.mapping = Some(mapping));
            Ok(map)
        }
        Err(error) => {
            i915_gem_object_unpin_pages(obj);
            Err(error)
        }
    }
}

/// `i915_gem_object_migrate`: to system memory. Who has the pages mapped faults and finds the new ones.
///
/// # Errors
/// -EBUSY while they are pinned, -ENOMEM (injected).
pub(super) fn i915_gem_object_migrate(obj: &Arc<DrmGemObject>, _ww: &I915GemWwCtx) -> Result {
    assert_object_held(obj);
    let bo = bo(obj);
    if bo.mm.with(|mm| mm.region == Region::Smem) {
        return Ok(());
    }
    if bo.pages_pin_count.load(Ordering::Acquire) > 0 {
        return Err(Errno::EBUSY);
    }
    let new = allocate(obj)?;
    // What the GPU is at has to be in the copy.
    dma_resv_wait(obj.resv(), DmaResvUsage::Bookkeep, true)?;
    let i915 = I915::of(&obj.dev);
    i915_vma_unbind(&i915, obj);
    __i915_gem_object_put_pages_unpinned(&i915, obj);
    i915_gem_object_release_mmap(obj);
    bo.mm.with(|mm| {
        if let Some(old) = mm.store.replace(new.clone()) {
            for (from, to) in old.iter().zip(new.iter()) {
                (0..PAGE_SIZE).for_each(|at| to.write(at, from.read(at)));
            }
        }
        mm.region = Region::Smem;
    });
    Ok(())
}

/// `i915_gem_object_wait_migration`.
pub(super) fn i915_gem_object_wait_migration(obj: &DrmGemObject) -> Result {
    dma_resv_wait(obj.resv(), DmaResvUsage::Kernel, true)
}

/// `i915_vma_pin_ww`: addresses for the GPU. Memory is asked for before the mutex.
pub(super) fn i915_vma_pin_ww(i915: &I915, obj: &DrmGemObject, _ww: &I915GemWwCtx) -> Result {
    assert_object_held(obj);
    if bo(obj).mm.with(|mm| mm.bound) {
        return Ok(());
    }
    reclaim::kmalloc()?;
    i915.vm_mutex.lock_interruptible()?;
    bo(obj).mm.with(|mm| mm.bound = true);
    i915.vm_mutex.unlock();
    Ok(())
}

/// `i915_vma_unbind`.
pub(super) fn i915_vma_unbind(i915: &I915, obj: &DrmGemObject) {
    if bo(obj).mm.with(|mm| mm.bound) {
        i915.vm_mutex.lock();
        bo(obj).mm.with(|mm| mm.bound = false);
        i915.vm_mutex.unlock();
    }
}

/// The same from reclaim, which only tries.
pub(super) fn i915_vma_try_unbind(i915: &I915, obj: &DrmGemObject) -> bool {
    if !bo(obj).mm.with(|mm| mm.bound) {
        return true;
    }
    if !i915.vm_mutex.trylock() {
        return false;
    }
    bo(obj).mm.with(|mm| mm.bound = false);
    i915.vm_mutex.unlock();
    true
}
