// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `struct drm_file`: one open file of a device, with its handles.
//!
//! Kernel counterpart: `drivers/gpu/drm/drm_file.c`.
//!
//! # Locking
//!
//! `&file_private->table_lock` (spinlock): the handles of a file. It is a leaf.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lockdep::LockClass;

use super::device::{DriverFile, DrmDevice};
use super::gem::DrmGemObject;
use super::gem_handle::drm_gem_release;
use super::prime::DrmPrimeFilePrivate;
use super::syncobj::{DrmSyncobjTable, drm_syncobj_release};
use crate::kernel::cell::KCell;
use crate::kernel::errno::Result;
use crate::kernel::file::{File, FileMode, FileOps};
use crate::kernel::live::Live;
use crate::kernel::locking::{SpinLock, spin_class};
use crate::kernel::mm::VmArea;

static TABLE_LOCK: LockClass = spin_class("&file_private->table_lock");

/// A handle: the name of an object in one open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(pub u32);

/// `struct drm_file`.
pub struct DrmFile {
    /// The device.
    pub dev: Arc<DrmDevice>,
    /// Tells open files apart.
    pub(super) id: u64,
    pub(super) prime: DrmPrimeFilePrivate,
    pub(super) table_lock: SpinLock,
    /// Under `table_lock`. `None`: reserved, or about to go.
    pub(super) objects: KCell<BTreeMap<u32, Option<Arc<DrmGemObject>>>>,
    pub(super) syncobjs: DrmSyncobjTable,
    driver: DriverFile,
    live: Live,
}

static IDS: AtomicU64 = AtomicU64::new(1);

impl DrmFile {
    pub(super) fn alloc(dev: &Arc<DrmDevice>, driver: DriverFile) -> Self {
        DrmFile {
            dev: dev.clone(),
            id: IDS.fetch_add(1, Ordering::Relaxed),
            prime: DrmPrimeFilePrivate::default(),
            table_lock: SpinLock::new(&TABLE_LOCK),
            objects: KCell::new("a file's handles", BTreeMap::new()),
            syncobjs: DrmSyncobjTable::default(),
            driver,
            live: dev.core.born("drm_file"),
        }
    }

    /// The end of a `drm_file` that never was behind a file.
    pub(super) fn free(&self) {
        self.live.freed();
    }

    /// What the driver hung on it, if it is of this type.
    #[must_use]
    pub fn driver<T: 'static>(&self) -> Option<&T> {
        self.driver.downcast_ref()
    }
}

/// `drm_open`.
///
/// # Errors
/// -ENODEV if the driver was unloaded, or what it says.
pub fn drm_open(dev: &Arc<DrmDevice>) -> Result<Arc<File>> {
    dev.module_get()?;
    let driver = dev.driver.open(dev).inspect_err(|_| dev.module_put())?;
    let file = File::new(&dev.core, FileMode::READ_WRITE, DrmFile::alloc(dev, driver));
    file.set_mapping(dev.mapping.clone());
    Ok(file)
}

impl FileOps for DrmFile {
    fn mmap(&self, _file: &Arc<File>, vma: &mut VmArea) -> Result {
        self.dev.driver.mmap(self, vma)
    }

    fn release(&self, _file: &Arc<File>) {
        drm_release(self);
    }

    fn abandon(&self) {
        self.objects.try_with(BTreeMap::clear);
    }
}

fn drm_release(file: &DrmFile) {
    drm_syncobj_release(file);
    drm_gem_release(file);
    file.dev.driver.postclose(&file.driver);
    file.dev.core.warn_on(!file.prime.is_empty(), "a closed file still knows dma-bufs");
    file.live.freed();
    file.dev.module_put();
}

crate::kernel::opaque_debug!(DrmFile);
