// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The driver and its ioctls.
//!
//! Kernel counterpart: `drivers/gpu/drm/panfrost/panfrost_drv.c`.

use core::any::Any;
use std::sync::Arc;

use super::device::PanfrostDevice;
use super::gem::{
    PANFROST_BO_HEAP, PANFROST_BO_NOEXEC, PanfrostGemFuncs, PanfrostGemObject, panfrost_gem_create,
    panfrost_gem_mapping_get, panfrost_gem_mapping_put, panfrost_gem_prime_import_sg_table, to_panfrost_bo,
};
use super::hw::{ADDRESS_SPACES, JOB_SLOTS, PAGE};
use super::job::{panfrost_job_close, panfrost_job_open};
use super::mmu::{PanfrostMmu, panfrost_mmu_ctx_create, panfrost_mmu_ctx_put};
use super::perfcnt::panfrost_perfcnt_close;
use super::reset::panfrost_device_fini;
use crate::dma_buf::resv::{dma_resv_lock_interruptible, dma_resv_unlock};
use crate::dma_buf::{DmaBufAttachment, SgTable};
use crate::drm::device::{DriverFile, DrmDevice, DrmDriver};
use crate::drm::file::{DrmFile, Handle};
use crate::drm::gem::{
    DrmGemObject, DrmGemObjectFuncs, GemPayload, drm_gem_create_mmap_offset, drm_gem_object_put,
};
use crate::drm::gem_handle::{drm_gem_handle_create, drm_gem_object_lookup};
use crate::drm::gem_shmem_memory::drm_gem_shmem_madvise;
use crate::drm::sched::entity::DrmSchedEntity;
use crate::kernel::KernelCore;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::reclaim;

/// `panfrost_drm_driver`.
#[derive(Debug)]
pub struct PanfrostDriver;

/// `struct panfrost_file_priv`.
pub struct PanfrostFilePriv {
    pub(super) pfdev: Arc<PanfrostDevice>,
    pub(super) mmu: Arc<PanfrostMmu>,
    pub(super) entities: [Arc<DrmSchedEntity>; JOB_SLOTS],
}

impl PanfrostFilePriv {
    /// Of an open file.
    ///
    /// # Errors
    /// -ENODEV if it is another driver's.
    pub(super) fn of(file: &DrmFile) -> Result<&Self> {
        file.driver().ok_or(Errno::ENODEV)
    }
}

impl DrmDriver for PanfrostDriver {
    fn name(&self) -> &'static str {
        "panfrost"
    }

    fn load(&self, core: &Arc<KernelCore>) -> Arc<dyn Any + Send + Sync> {
        PanfrostDevice::init(core)
    }

    fn open(&self, dev: &DrmDevice) -> Result<DriverFile> {
        panfrost_open(dev)
    }

    fn postclose(&self, file: &DriverFile) {
        if let Some(file) = file.downcast_ref() {
            panfrost_postclose(file);
        }
    }

    fn unload(&self, dev: &DrmDevice) {
        panfrost_device_fini(&PanfrostDevice::of(dev));
    }

    fn has_dumb_buffers(&self) -> bool {
        false
    }

    fn gem_create_object(&self) -> Option<(Box<dyn GemPayload>, &'static dyn DrmGemObjectFuncs)> {
        Some((Box::new(PanfrostGemObject::default()), &PanfrostGemFuncs))
    }

    fn gem_create(&self, dev: &Arc<DrmDevice>, size: usize) -> Result<Arc<DrmGemObject>> {
        panfrost_gem_create(dev, size, PANFROST_BO_NOEXEC)
    }

    fn gem_prime_import_sg_table(
        &self,
        dev: &Arc<DrmDevice>,
        attach: &Arc<DmaBufAttachment>,
        table: &Arc<SgTable>,
    ) -> Result<Arc<DrmGemObject>> {
        panfrost_gem_prime_import_sg_table(dev, attach, table)
    }
}

fn panfrost_open(dev: &DrmDevice) -> Result<DriverFile> {
    let pfdev = PanfrostDevice::of(dev);
    reclaim::kmalloc()?;
    let mmu = panfrost_mmu_ctx_create(&pfdev)?;
    let entities = panfrost_job_open(&pfdev);
    Ok(Box::new(PanfrostFilePriv { pfdev, mmu, entities }))
}

fn panfrost_postclose(file: &PanfrostFilePriv) {
    panfrost_perfcnt_close(file);
    panfrost_job_close(file);
    panfrost_mmu_ctx_put(&file.mmu);
}

/// A parameter of the GPU that a program can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanfrostParam {
    /// `DRM_PANFROST_PARAM_GPU_PROD_ID`.
    GpuProdId,
    /// `DRM_PANFROST_PARAM_SHADER_PRESENT`.
    ShaderPresent,
    /// `DRM_PANFROST_PARAM_AS_PRESENT`.
    AsPresent,
    /// `DRM_PANFROST_PARAM_JS_PRESENT`.
    JsPresent,
    /// A number that is none of them.
    Unknown,
}

/// `panfrost_ioctl_get_param`. Takes no lock.
///
/// # Errors
/// -EINVAL if there is no such parameter.
pub fn panfrost_ioctl_get_param(_file: &DrmFile, param: PanfrostParam) -> Result<u64> {
    match param {
        PanfrostParam::GpuProdId => Ok(0x860),
        PanfrostParam::ShaderPresent => Ok(0xf),
        PanfrostParam::AsPresent => Ok((1 << ADDRESS_SPACES) - 1),
        PanfrostParam::JsPresent => Ok(7),
        PanfrostParam::Unknown => Err(Errno::EINVAL),
    }
}

/// `panfrost_ioctl_create_bo`: a new object, its handle and its GPU address.
///
/// # Errors
/// -EINVAL for size 0 and for bad flags (a heap must be `NOEXEC`), -ENOSPC, -ENOMEM.
pub fn panfrost_ioctl_create_bo(file: &DrmFile, size: usize, flags: u32) -> Result<(Handle, u64)> {
    let heap_with_programs = flags & PANFROST_BO_HEAP != 0 && flags & PANFROST_BO_NOEXEC == 0;
    if size == 0 || flags & !(PANFROST_BO_NOEXEC | PANFROST_BO_HEAP) != 0 || heap_with_programs {
        return Err(Errno::EINVAL);
    }
    let panfrost = PanfrostFilePriv::of(file)?;
    let obj = panfrost_gem_create(&file.dev, size, flags)?;
    let created = drm_gem_handle_create(file, &obj)
        .and_then(|handle| Ok((handle, gpu_address(to_panfrost_bo(&obj), panfrost)?)));
    drm_gem_object_put(obj);
    created
}

/// -EINVAL: somebody guessed the handle and closed it meanwhile.
fn gpu_address(bo: &PanfrostGemObject, file: &PanfrostFilePriv) -> Result<u64> {
    let mapping = panfrost_gem_mapping_get(bo, file).ok_or(Errno::EINVAL)?;
    let address = mapping.gpu_address();
    panfrost_gem_mapping_put(mapping);
    Ok(address)
}

/// `panfrost_ioctl_mmap_bo`: where to map an object.
///
/// # Errors
/// -ENOENT if the handle is unknown, -EINVAL for a heap, whose pages are not pinned.
pub fn panfrost_ioctl_mmap_bo(file: &DrmFile, handle: Handle) -> Result<u64> {
    PanfrostFilePriv::of(file)?;
    let obj = drm_gem_object_lookup(file, handle).ok_or(Errno::ENOENT)?;
    let result = if to_panfrost_bo(&obj).is_heap() {
        Err(Errno::EINVAL)
    } else {
        drm_gem_create_mmap_offset(&obj);
        Ok(obj.vma_node.start() * PAGE)
    };
    drm_gem_object_put(obj);
    result
}

/// `panfrost_ioctl_get_bo_offset`: the object's address for the GPU.
///
/// # Errors
/// -ENOENT if the handle is unknown, -EINVAL if it was closed meanwhile.
pub fn panfrost_ioctl_get_bo_offset(file: &DrmFile, handle: Handle) -> Result<u64> {
    let panfrost = PanfrostFilePriv::of(file)?;
    let obj = drm_gem_object_lookup(file, handle).ok_or(Errno::ENOENT)?;
    let mapping = panfrost_gem_mapping_get(to_panfrost_bo(&obj), panfrost);
    drm_gem_object_put(obj);
    let mapping = mapping.ok_or(Errno::EINVAL)?;
    let address = mapping.gpu_address();
    panfrost_gem_mapping_put(mapping);
    Ok(address)
}

/// What a program says about an object's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanfrostMadv {
    /// `PANFROST_MADV_WILLNEED`.
    WillNeed,
    /// `PANFROST_MADV_DONTNEED`: it may be thrown away when memory is short.
    DontNeed,
}

/// `panfrost_ioctl_madvise`: true unless the content was thrown away before.
///
/// # Errors
/// -ENOENT if the handle is unknown, -EINVAL for `DontNeed` if the object has other users, -EINTR (injected).
pub fn panfrost_ioctl_madvise(file: &DrmFile, handle: Handle, madv: PanfrostMadv) -> Result<bool> {
    let panfrost = PanfrostFilePriv::of(file)?;
    let obj = drm_gem_object_lookup(file, handle).ok_or(Errno::ENOENT)?;
    let result = madvise(panfrost, &obj, madv);
    drm_gem_object_put(obj);
    result
}

/// The middle of `panfrost_ioctl_madvise`, which it shows.
#[track_caller]
fn madvise(file: &PanfrostFilePriv, obj: &Arc<DrmGemObject>, madv: PanfrostMadv) -> Result<bool> {
    let (pfdev, bo) = (&file.pfdev, to_panfrost_bo(obj));
    let resv_locked = pfdev.core.shmem.on_reservation_lock();
    if resv_locked {
        dma_resv_lock_interruptible(obj.resv(), None)?;
    }
    pfdev.shrinker_lock.lock();
    bo.mappings_lock.lock();
    let result = may_be_advised(file, bo, madv).map(|()| {
        let kept = drm_gem_shmem_madvise(obj, i32::from(madv == PanfrostMadv::DontNeed));
        if kept {
            pfdev.shrinker_list.with(|list| {
                list.retain(|other| !Arc::ptr_eq(other, obj));
                list.extend((madv == PanfrostMadv::DontNeed).then(|| obj.clone()));
            });
        }
        kept
    });
    bo.mappings_lock.unlock();
    pfdev.shrinker_lock.unlock();
    if resv_locked {
        dma_resv_unlock(obj.resv());
    }
    result
}

/// Only the only user of an object can say that nobody needs it.
fn may_be_advised(file: &PanfrostFilePriv, bo: &PanfrostGemObject, madv: PanfrostMadv) -> Result {
    if madv == PanfrostMadv::WillNeed {
        return Ok(());
    }
    bo.mappings.with(|mappings| match mappings.as_slice() {
        [only] => {
            let foreign = !Arc::ptr_eq(&only.mmu, &file.mmu);
            if file.pfdev.core.warn_on(foreign, "an object's only GPU mapping is in a foreign file") {
                return Err(Errno::EINVAL);
            }
            Ok(())
        }
        _ => Err(Errno::EINVAL),
    })
}

crate::kernel::opaque_debug!(PanfrostFilePriv);
