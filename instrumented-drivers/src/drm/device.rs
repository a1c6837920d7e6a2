// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `struct drm_device` and what a driver says about itself.
//!
//! # Locking
//!
//! `&dev->object_name_lock` (mutex): global names, how many handles an object has, its dma-buf. What is taken inside is in
//! [`super::prime`] and [`super::gem_handle`].

use core::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lockdep::LockClass;

use super::file::DrmFile;
use super::gem::{DrmGemObject, DrmGemObjectFuncs, GemPayload, drm_gem_create_mmap_offset, drm_gem_mmap};
use super::vma_manager::DrmVmaOffsetManager;
use crate::dma_buf::{DmaBuf, DmaBufAttachment, SgTable};
use crate::kernel::KernelCore;
use crate::kernel::cell::KCell;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::locking::{Mutex, sleep_class};
use crate::kernel::mm::{AddressSpace, VmArea};

static OBJECT_NAME_LOCK: LockClass = sleep_class("&dev->object_name_lock");

/// What a driver hangs on an open file.
pub type DriverFile = Box<dyn Any + Send + Sync>;

/// `struct drm_driver`.
pub trait DrmDriver: Any + Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// A device was found: what the driver keeps for it ([`DrmDevice::private`]).
    fn load(&self, _core: &Arc<KernelCore>) -> Arc<dyn Any + Send + Sync> {
        Arc::new(())
    }

    /// A file was opened.
    ///
    /// # Errors
    /// What the driver says.
    fn open(&self, _dev: &DrmDevice) -> Result<DriverFile> {
        Ok(Box::new(()))
    }

    /// A file was closed; its handles are gone.
    fn postclose(&self, _file: &DriverFile) {}

    /// The driver is unloaded; nobody uses the device any more.
    fn unload(&self, _dev: &DrmDevice) {}

    /// `gem_create_object`: what the driver's objects are besides shmem objects, and its functions for them. `None`:
    /// nothing, and the helper's.
    fn gem_create_object(&self) -> Option<(Box<dyn GemPayload>, &'static dyn DrmGemObjectFuncs)> {
        None
    }

    /// False for a driver that renders only: it has ioctls of its own for new buffers.
    fn has_dumb_buffers(&self) -> bool {
        true
    }

    /// A buffer object of this size.
    ///
    /// # Errors
    /// What the driver says.
    fn gem_create(&self, dev: &Arc<DrmDevice>, size: usize) -> Result<Arc<DrmGemObject>>;

    /// The device's file is mapped; the default finds the object by its offset.
    ///
    /// # Errors
    /// -EINVAL if there is no object, -EACCES if this file has no handle for it, or what the driver says.
    fn mmap(&self, file: &DrmFile, vma: &mut VmArea) -> Result {
        drm_gem_mmap(file, vma)
    }

    /// The object gets an offset in the device's file, unless it has one.
    ///
    /// # Errors
    /// -ENOMEM (injected), or what the driver says.
    fn create_mmap_offset(&self, obj: &Arc<DrmGemObject>) -> Result {
        drm_gem_create_mmap_offset(obj);
        Ok(())
    }

    /// An object around the pages of a foreign buffer.
    ///
    /// # Errors
    /// -EINVAL unless the driver can import.
    fn gem_prime_import_sg_table(
        &self,
        _dev: &Arc<DrmDevice>,
        _attach: &Arc<DmaBufAttachment>,
        _table: &Arc<SgTable>,
    ) -> Result<Arc<DrmGemObject>> {
        Err(Errno::EINVAL)
    }

    /// An object for a buffer; the default finds its own objects again and attaches to foreign ones.
    ///
    /// # Errors
    /// What the exporter or the driver says.
    fn gem_prime_import(&self, dev: &Arc<DrmDevice>, buf: &DmaBuf) -> Result<Arc<DrmGemObject>> {
        super::prime::drm_gem_prime_import(dev, buf)
    }
}

#[derive(Default)]
pub(super) struct Names {
    pub(super) last: u32,
    pub(super) objects: BTreeMap<u32, Arc<DrmGemObject>>,
}

/// `struct drm_device`.
pub struct DrmDevice {
    /// The kernel it is in.
    pub core: Arc<KernelCore>,
    /// The driver.
    pub driver: &'static dyn DrmDriver,
    private: Arc<dyn Any + Send + Sync>,
    pub(super) object_name_lock: Mutex,
    /// Global names (flink); under `object_name_lock`.
    pub(super) names: KCell<Names>,
    pub(super) vma_offset_manager: DrmVmaOffsetManager,
    /// The mappings of all its objects, through whatever file.
    pub(super) mapping: Arc<AddressSpace>,
    users: AtomicUsize,
    unloaded: AtomicBool,
}

impl DrmDevice {
    /// `drm_dev_register`.
    pub fn register(core: &Arc<KernelCore>, driver: &'static dyn DrmDriver) -> Arc<Self> {
        Arc::new(DrmDevice {
            core: core.clone(),
            driver,
            private: driver.load(core),
            object_name_lock: Mutex::new(&OBJECT_NAME_LOCK),
            names: KCell::new("the names of a device", Names::default()),
            vma_offset_manager: DrmVmaOffsetManager::default(),
            mapping: Arc::default(),
            users: AtomicUsize::new(0),
            unloaded: AtomicBool::new(false),
        })
    }

    /// What the driver keeps for the device, if it is of this type.
    #[must_use]
    pub fn private<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.private.clone().downcast().ok()
    }

    /// True if both are one device.
    #[must_use]
    pub fn is(&self, other: &DrmDevice) -> bool {
        core::ptr::eq(self, other)
    }

    /// `try_module_get`: an open file or an exported buffer needs the driver.
    ///
    /// # Errors
    /// -ENODEV if it was unloaded.
    pub(super) fn module_get(&self) -> Result {
        if self.unloaded.load(Ordering::Acquire) {
            return Err(Errno::ENODEV);
        }
        self.users.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    pub(super) fn module_put(&self) {
        self.users.fetch_sub(1, Ordering::AcqRel);
    }

    /// `delete_module`: later opens fail.
    ///
    /// # Errors
    /// -EBUSY while a file is open (a mapping keeps its file) or a buffer is exported.
    pub fn unload(&self) -> Result {
        if self.users.load(Ordering::Acquire) > 0 {
            return Err(Errno::EBUSY);
        }
        if !self.unloaded.swap(true, Ordering::AcqRel) {
            self.driver.unload(self);
        }
        Ok(())
    }
}

crate::kernel::opaque_debug!(DrmDevice);
