// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `tegra`: display and graphics of Tegra processors, behind the common bus `host1x`.
//!
//! # Locking
//!
//! | lock | kind | protects |
//! |---|---|---|
//! | `&tegra->mm_lock` | mutex | the device's addresses |
//! | `&cache->lock` | mutex | a display's mappings, which it keeps for the next frame |
//! | `&bo->lock` | spinlock | the mappings of an object |
//! | `&fpriv->lock` | mutex | the mappings that a file has made for its jobs |
//!
//! An exported buffer has a reservation lock **of its own**, not the object's; an import does not share the exporter's.
//! So nothing here takes an object's own reservation lock.
//!
//! | callback, function | holds | takes |
//! |---|---|---|
//! | `map_dma_buf` | the buffer's lock (P0: nothing) | nothing but memory |
//! | `vmap` | the buffer's lock (P0: the buffer's mutex) | nothing but memory |
//! | `mmap` | P1: the buffer's lock, asserted | nothing, nor does the fault |
//! | import | nothing | exporter's reservation lock twice, then `mm_lock` |
//! | `free` | nothing | for each cached mapping: `cache->lock`; then `mm_lock`; for an import the exporter's reservation lock twice |
//! | `host1x_bo_pin` | nothing | with a cache: `cache->lock`, and under it for an import the exporter's reservation lock |
//! | map for jobs | nothing | `fpriv->lock`, and under it the same |
//!
//! * `&cache->lock`, `&fpriv->lock` → `reservation_ww_class_mutex`: an import is attached for the display, for a job
//! * `&cache->lock`, `&fpriv->lock` → `&bo->lock`, `fs_reclaim`: what is kept about an object
//! * `&fpriv->lock` → `&file_private->table_lock`: a job's objects are found by their handles
//! * `&dev->object_name_lock` → `&tegra->mm_lock` → `fs_reclaim`: an import gets an address
//!
//! `&bo->lock` is a leaf.
//!
//! Kernel counterpart: `drivers/gpu/drm/tegra/gem.c`, `drm.c`, `plane.c`, `uapi.c`, `drivers/gpu/host1x/bus.c`. Modelled
//! with an IOMMU domain of the driver's own, so memory is scattered pages. Not modelled: sync points; a job is done when
//! the ioctl returns.

mod dmabuf;
mod gem;
mod host1x;

pub use self::host1x::{
    TegraMapping, tegra_channel_map, tegra_channel_unmap, tegra_plane_cleanup_fb, tegra_plane_prepare_fb,
    tegra_scanout, tegra_submit,
};

use core::any::Any;
use std::sync::Arc;

use lockdep::LockClass;

use self::host1x::{Host1xBoCache, TegraDrmFile};
use super::device::{DriverFile, DrmDevice, DrmDriver};
use super::file::DrmFile;
use super::gem::DrmGemObject;
use crate::dma_buf::DmaBuf;
use crate::kernel::KernelCore;
use crate::kernel::cell::KCell;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::locking::{Mutex, sleep_class};
use crate::kernel::mm::VmArea;
use crate::kernel::reclaim;

static MM_LOCK: LockClass = sleep_class("&tegra->mm_lock");

/// `struct tegra_drm`.
struct TegraDrm {
    mm_lock: Mutex,
    /// Free and used addresses; under `mm_lock`: how many pages are mapped.
    mapped_pages: KCell<usize>,
    /// What the display keeps mapped.
    cache: Arc<Host1xBoCache>,
}

fn tegra(dev: &DrmDevice) -> Arc<TegraDrm> {
    match dev.private() {
        Some(tegra) => tegra,
        None => unreachable!("a tegra device"),
    }
}

/// `tegra_drm_driver`.
#[derive(Debug)]
pub struct TegraDriver;

impl DrmDriver for TegraDriver {
    fn name(&self) -> &'static str {
        "tegra"
    }

    fn load(&self, _core: &Arc<KernelCore>) -> Arc<dyn Any + Send + Sync> {
        Arc::new(TegraDrm {
            mm_lock: Mutex::new(&MM_LOCK),
            mapped_pages: KCell::new("the addresses of a tegra device", 0),
            cache: Host1xBoCache::init(),
        })
    }

    fn open(&self, _dev: &DrmDevice) -> Result<DriverFile> {
        reclaim::kmalloc()?;
        Ok(Box::new(TegraDrmFile::default()))
    }

    fn postclose(&self, file: &DriverFile) {
        if let Some(fpriv) = file.downcast_ref() {
            host1x::tegra_drm_postclose(fpriv);
        }
    }

    /// `tegra_bo_dumb_create`.
    fn gem_create(&self, dev: &Arc<DrmDevice>, size: usize) -> Result<Arc<DrmGemObject>> {
        gem::tegra_bo_create(dev, size)
    }

    fn gem_prime_import(&self, dev: &Arc<DrmDevice>, buf: &DmaBuf) -> Result<Arc<DrmGemObject>> {
        dmabuf::tegra_gem_prime_import(dev, buf)
    }

    fn mmap(&self, file: &DrmFile, vma: &mut VmArea) -> Result {
        gem::tegra_drm_mmap(file, vma)
    }
}

/// The driver's part of a file.
fn fpriv(file: &DrmFile) -> Result<&TegraDrmFile> {
    file.driver().ok_or(Errno::ENODEV)
}
