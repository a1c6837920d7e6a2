// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Memory is short: objects whose content nobody needs give their pages back.
//!
//! Called from reclaim, so it only tries to lock: who allocates under one of these locks would otherwise wait for
//! himself. The object's locks are tried in the order in which `madvise` takes them; what is in use by a job is
//! left alone.
//!
//! Kernel counterpart: `drivers/gpu/drm/panfrost/panfrost_gem_shrinker.c`.

use std::sync::Arc;

use super::device::PanfrostDevice;
use super::gem::{PanfrostGemObject, panfrost_gem_teardown_mappings_locked, to_panfrost_bo};
use crate::bug::Bug;
use crate::dma_buf::resv::{dma_resv_lock, dma_resv_trylock, dma_resv_unlock};
use crate::drm::gem::DrmGemObject;
use crate::drm::gem_shmem_helper::{own_mutexes, to_drm_gem_shmem_obj};
use crate::drm::gem_shmem_memory::{
    drm_gem_shmem_is_purgeable, drm_gem_shmem_purge, drm_gem_shmem_purge_locked,
};
use crate::kernel::shmem::PAGE_SIZE;
use crate::kernel::shrinker::Shrinker;

fn pages(obj: &DrmGemObject) -> usize {
    obj.size / PAGE_SIZE
}

impl Shrinker for PanfrostDevice {
    fn count_objects(&self) -> usize {
        panfrost_gem_shrinker_count(self)
    }

    fn scan_objects(&self, nr_to_scan: usize) -> Option<usize> {
        panfrost_gem_shrinker_scan(self, nr_to_scan)
    }
}

fn panfrost_gem_shrinker_count(pfdev: &PanfrostDevice) -> usize {
    if !pfdev.shrinker_lock.trylock() {
        return 0;
    }
    let listed = pfdev.shrinker_list.get();
    let stale = listed.iter().any(|obj| obj.is_freed());
    pfdev.core.warn_on(stale, "the shrinker looks at an object that was freed");
    let count = listed.iter().filter(|obj| drm_gem_shmem_is_purgeable(obj)).map(|obj| pages(obj)).sum();
    pfdev.shrinker_lock.unlock();
    count
}

fn panfrost_gem_shrinker_scan(pfdev: &PanfrostDevice, nr_to_scan: usize) -> Option<usize> {
    if !pfdev.shrinker_lock.trylock() {
        return None;
    }
    let mut freed = 0;
    for obj in pfdev.shrinker_list.get() {
        if freed >= nr_to_scan {
            break;
        }
        if drm_gem_shmem_is_purgeable(&obj) && panfrost_gem_purge(pfdev, &obj) {
            freed += pages(&obj);
            pfdev.shrinker_list.with(|list| list.retain(|other| !Arc::ptr_eq(other, &obj)));
        }
    }
    pfdev.shrinker_lock.unlock();
    Some(freed)
}

/// True if it gave its pages back.
fn panfrost_gem_purge(pfdev: &PanfrostDevice, obj: &Arc<DrmGemObject>) -> bool {
    let bo = to_panfrost_bo(obj);
    if bo.gpu_usecount() > 0 {
        return false;
    }
    if pfdev.core.has(Bug::PurgeLocksPagesFirst) {
        return purge_as_before_5_10(pfdev, obj, bo);
    }
    if !bo.mappings_lock.trylock() {
        return false;
    }
    let purged = with_pages_trylocked(obj, || {
        panfrost_gem_teardown_mappings_locked(pfdev, bo);
        purge(obj);
    });
    bo.mappings_lock.unlock();
    purged
}

/// Runs `purge` under the lock of the pages, if that can be had.
#[track_caller]
fn with_pages_trylocked(obj: &Arc<DrmGemObject>, purge: impl FnOnce()) -> bool {
    if own_mutexes(obj) {
        let pages_lock = &to_drm_gem_shmem_obj(obj).pages_lock;
        let got = pages_lock.trylock();
        if got {
            purge();
            pages_lock.unlock();
        }
        return got;
    }
    let got = dma_resv_trylock(obj.resv());
    if got {
        purge();
        dma_resv_unlock(obj.resv());
    }
    got
}

/// The helper's function for those who hold the lock; it had another name in A.
fn purge(obj: &Arc<DrmGemObject>) {
    if own_mutexes(obj) {
        drm_gem_shmem_purge_locked(obj);
    } else {
        drm_gem_shmem_purge(obj);
    }
}

/// What the driver did before v5.10: the helper tries to lock the pages, and under that lock the mappings' lock is
/// *waited* for. `madvise` takes the two the other way round.
fn purge_as_before_5_10(pfdev: &PanfrostDevice, obj: &Arc<DrmGemObject>, bo: &PanfrostGemObject) -> bool {
    with_pages_trylocked(obj, || {
        bo.mappings_lock.lock();
        panfrost_gem_teardown_mappings_locked(pfdev, bo);
        bo.mappings_lock.unlock();
        purge(obj);
    })
}

/// One of the locks that the shrinker wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// `&pfdev->shrinker_lock`.
    ShrinkerLock,
    /// `&obj->mappings.lock`.
    MappingsLock,
    /// The lock of the object's pages: its reservation lock, or in A `&shmem->pages_lock`.
    PagesLock,
}

impl PanfrostDevice {
    /// Holds one of the locks that the shrinker wants, as a slow task would, while `f` runs.
    pub fn hold(&self, wanted: Wanted, obj: &DrmGemObject, f: impl FnOnce()) {
        let mutex = match wanted {
            Wanted::ShrinkerLock => &self.shrinker_lock,
            Wanted::MappingsLock => &to_panfrost_bo(obj).mappings_lock,
            Wanted::PagesLock if own_mutexes(obj) => &to_drm_gem_shmem_obj(obj).pages_lock,
            Wanted::PagesLock => {
                dma_resv_lock(obj.resv());
                f();
                return dma_resv_unlock(obj.resv());
            }
        };
        mutex.lock();
        f();
        mutex.unlock();
    }
}
