// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The rest of the shmem helper: advice, purging, scatter tables. What is locked is said in
//! [`super::gem_shmem_helper`].
//!
//! Kernel counterpart: `drivers/gpu/drm/drm_gem_shmem_helper.c`.

use std::sync::Arc;

use super::gem::{DrmGemObject, drm_gem_free_mmap_offset};
use super::gem_shmem_helper::{
    DrmGemShmemObject, drm_gem_shmem_get_pages, get_pages_locked, own_mutexes, put_pages_locked,
    to_drm_gem_shmem_obj,
};
use crate::bug::Bug;
use crate::dma_buf::SgTable;
use crate::dma_buf::attach::sg_free_table;
use crate::dma_buf::resv::{dma_resv_assert_held, dma_resv_lock_interruptible, dma_resv_unlock};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::mm::unmap_mapping_range;

/// `drm_gem_shmem_madvise`: says whether the content is needed; true unless it was purged before. B0, B, C: the caller
/// holds the reservation lock.
pub fn drm_gem_shmem_madvise(obj: &Arc<DrmGemObject>, madv: i32) -> bool {
    let shmem = to_drm_gem_shmem_obj(obj);
    let advise = || {
        shmem.state.with(|state| {
            if state.madv >= 0 {
                state.madv = madv;
            }
            state.madv >= 0
        })
    };
    if own_mutexes(obj) {
        shmem.pages_lock.lock();
        let kept = advise();
        shmem.pages_lock.unlock();
        return kept;
    }
    dma_resv_assert_held(obj.resv());
    advise()
}

/// `drm_gem_shmem_is_purgeable`.
#[must_use]
pub fn drm_gem_shmem_is_purgeable(obj: &DrmGemObject) -> bool {
    let shmem = to_drm_gem_shmem_obj(obj);
    shmem.madv() > 0
        && shmem.vmap_use_count() == 0
        && !shmem.sgt.is_null()
        && obj.dma_buf().is_none()
        && obj.import_attach().is_none()
}

/// `drm_gem_shmem_purge`: gives the pages back. False if the lock could not be had (A). B0, B, C: the caller holds the
/// reservation lock.
pub fn drm_gem_shmem_purge(obj: &Arc<DrmGemObject>) -> bool {
    let shmem = to_drm_gem_shmem_obj(obj);
    if !own_mutexes(obj) {
        dma_resv_assert_held(obj.resv());
        drm_gem_shmem_purge_locked(obj);
        return true;
    }
    if obj.dev.core.has(Bug::PurgeBlocks) {
        shmem.pages_lock.lock();
    } else if !shmem.pages_lock.trylock() {
        return false;
    }
    drm_gem_shmem_purge_locked(obj);
    shmem.pages_lock.unlock();
    true
}

/// `drm_gem_shmem_purge_locked` (A): the caller holds the lock of the pages.
pub(super) fn drm_gem_shmem_purge_locked(obj: &Arc<DrmGemObject>) {
    let shmem = to_drm_gem_shmem_obj(obj);
    obj.dev.core.warn_on(!drm_gem_shmem_is_purgeable(obj), "a shmem object is purged that must not be");
    if let Some(table) = shmem.sgt.take() {
        sg_free_table(table);
    }
    put_pages_locked(obj, shmem);
    shmem.state.with(|state| state.madv = -1);
    let start = obj.vma_node.start();
    unmap_mapping_range(&obj.dev.mapping, start..start + obj.vma_node.pages());
    drm_gem_free_mmap_offset(obj);
    if let Some(filp) = &obj.filp {
        obj.dev.core.warn_on(filp.truncate().is_err(), "the host does not give memory back");
    }
}

/// `drm_gem_shmem_get_sg_table`: a new table of the pages, which must be pinned.
///
/// # Errors
/// -ENOMEM (injected, or without pages).
pub fn drm_gem_shmem_get_sg_table(obj: &Arc<DrmGemObject>) -> Result<Arc<SgTable>> {
    obj.dev.core.warn_on(obj.import_attach().is_some(), "a scatter table of an imported object");
    let pages = to_drm_gem_shmem_obj(obj).pages.load().ok_or(Errno::ENOMEM)?;
    SgTable::from_pages(&obj.dev.core, pages)
}

/// `drm_gem_shmem_get_pages_sgt`: pins the pages and maps them for the device; the object keeps the table.
///
/// # Errors
/// -EINTR, -ENOMEM (injected).
pub fn drm_gem_shmem_get_pages_sgt(obj: &Arc<DrmGemObject>) -> Result<Arc<SgTable>> {
    let shmem = to_drm_gem_shmem_obj(obj);
    if own_mutexes(obj) && obj.dev.core.has(Bug::SgtUnlocked) {
        return get_pages_sgt_unlocked(obj, shmem);
    }
    if own_mutexes(obj) {
        shmem.pages_lock.lock_interruptible()?;
        let table = get_pages_sgt_locked(obj, shmem);
        shmem.pages_lock.unlock();
        return table;
    }
    dma_resv_lock_interruptible(obj.resv(), None)?;
    let table = get_pages_sgt_locked(obj, shmem);
    dma_resv_unlock(obj.resv());
    table
}

fn get_pages_sgt_locked(obj: &Arc<DrmGemObject>, shmem: &DrmGemShmemObject) -> Result<Arc<SgTable>> {
    if let Some(table) = shmem.sgt.load() {
        return Ok(table);
    }
    get_pages_locked(obj, shmem)?;
    match drm_gem_shmem_get_sg_table(obj) {
        Ok(table) => {
            shmem.sgt.swap(Some(table.clone()));
            Ok(table)
        }
        Err(error) => {
            put_pages_locked(obj, shmem);
            Err(error)
        }
    }
}

/// The same with the lock around the first half only: two callers can both find no table.
fn get_pages_sgt_unlocked(obj: &Arc<DrmGemObject>, shmem: &DrmGemShmemObject) -> Result<Arc<SgTable>> {
    if let Some(table) = shmem.sgt.load() {
        return Ok(table);
    }
    drm_gem_shmem_get_pages(obj)?;
    let table = drm_gem_shmem_get_sg_table(obj)?;
    if !obj.dev.core.has(Bug::GuardsUnannotated) {
        shmem.pages_lock.assert_held();
    }
    shmem.sgt.swap(Some(table.clone()));
    Ok(table)
}
