// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `omapdrm`: the display of OMAP processors. Its memory manager (DMM) makes scattered pages look contiguous to the
//! display while an object is pinned.
//!
//! # Locking
//!
//! | lock | kind | protects |
//! |---|---|---|
//! | `&priv->list_lock` | mutex | the objects of a device |
//! | `&omap_obj->lock` | mutex | an object's pages, how often it is pinned, its table for other devices |
//!
//! An exported buffer has the object's reservation lock; an imported object has one of its own, not the exporter's.
//!
//! | callback, function | holds | takes |
//! |---|---|---|
//! | `map_dma_buf` | reservation lock (P0: nothing) | `omap_obj->lock` twice (pin, table), memory under it |
//! | `unmap_dma_buf` | reservation lock (P0: nothing) | `omap_obj->lock` |
//! | `begin_cpu_access` | nothing | `omap_obj->lock`, memory under it |
//! | `mmap` | P1: reservation lock, asserted | nothing |
//! | page fault | `mmap_lock` | `omap_obj->lock`, memory under it |
//! | `free` | nothing | `list_lock`; then `omap_obj->lock`, and under it for an import the **exporter's** reservation lock |
//!
//! * `reservation_ww_class_mutex` → `&omap_obj->lock` (P1, P2): another device maps
//! * `&dev->object_name_lock` → `&omap_obj->lock` (P0): the same
//! * `&mm->mmap_lock` → `&omap_obj->lock` → `fs_reclaim`: a page fault
//!
//! The last line of the table is the other way round, and no scenario does it. The two reservation locks are never the
//! same one, but they are of one class: a kernel in which this device maps an exported object and frees an imported one
//! has a cycle of classes. Nobody has reported it, for no such machine is tested with the validator on.
//!
//! Kernel counterpart: `drivers/gpu/drm/omapdrm/omap_gem.c`, `omap_gem_dmabuf.c`. Not modelled: the DMM's own locks,
//! which are leaves, and the rotation of tiled buffers.

mod dmabuf;
mod gem;

pub use self::gem::{OMAP_BO_CACHED, OMAP_BO_TILED, OMAP_BO_WC, omap_gem_new_handle};

use core::any::Any;
use std::sync::{Arc, Weak};

use lockdep::LockClass;

use super::device::{DrmDevice, DrmDriver};
use super::gem::DrmGemObject;
use crate::dma_buf::DmaBuf;
use crate::kernel::KernelCore;
use crate::kernel::cell::KCell;
use crate::kernel::errno::Result;
use crate::kernel::locking::{Mutex, sleep_class};

static LIST_LOCK: LockClass = sleep_class("&priv->list_lock");

/// `struct omap_drm_private`.
struct OmapDrmPrivate {
    list_lock: Mutex,
    /// Under `list_lock`.
    obj_list: KCell<Vec<Weak<DrmGemObject>>>,
}

fn private(dev: &DrmDevice) -> Arc<OmapDrmPrivate> {
    match dev.private() {
        Some(private) => private,
        None => unreachable!("an omapdrm device"),
    }
}

/// `omap_drm_driver`.
#[derive(Debug)]
pub struct OmapDriver;

impl DrmDriver for OmapDriver {
    fn name(&self) -> &'static str {
        "omapdrm"
    }

    fn load(&self, _core: &Arc<KernelCore>) -> Arc<dyn Any + Send + Sync> {
        Arc::new(OmapDrmPrivate {
            list_lock: Mutex::new(&LIST_LOCK),
            obj_list: KCell::new("the objects of an omapdrm device", Vec::new()),
        })
    }

    /// `omap_gem_dumb_create`.
    fn gem_create(&self, dev: &Arc<DrmDevice>, size: usize) -> Result<Arc<DrmGemObject>> {
        gem::omap_gem_new(dev, size, OMAP_BO_WC)
    }

    fn gem_prime_import(&self, dev: &Arc<DrmDevice>, buf: &DmaBuf) -> Result<Arc<DrmGemObject>> {
        dmabuf::omap_gem_prime_import(dev, buf)
    }
}
