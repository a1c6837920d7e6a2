// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The ioctls about jobs: submit one, wait for an object.
//!
//! Kernel counterpart: `drivers/gpu/drm/panfrost/panfrost_drv.c`.

use std::sync::Arc;

use super::drv::PanfrostFilePriv;
use super::gem::{panfrost_gem_mapping_get, to_panfrost_bo};
use super::job::{
    PANFROST_JD_REQ_FS, PanfrostJob, panfrost_job_get_slot, panfrost_job_push, panfrost_job_put,
    to_panfrost_job,
};
use crate::dma_buf::resv::DmaResvUsage;
use crate::drm::file::{DrmFile, Handle};
use crate::drm::gem::drm_gem_object_put;
use crate::drm::gem_handle::{drm_gem_object_lookup, drm_gem_objects_lookup};
use crate::drm::gem_reservations::wait_for_object;
use crate::drm::sched::{DrmSchedJob, drm_sched_job_add_dependency, drm_sched_job_cleanup};
use crate::drm::syncobj::{
    SyncobjHandle, drm_syncobj_find, drm_syncobj_find_fence, drm_syncobj_put, drm_syncobj_replace_fence,
};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::reclaim;

pub use crate::drm::gem_reservations::WaitTimeout;

/// `struct drm_panfrost_submit`.
#[derive(Clone, Debug, Default)]
pub struct PanfrostSubmit {
    /// The GPU address of the job chain.
    pub jc: u64,
    /// What has to happen before.
    pub in_syncs: Vec<SyncobjHandle>,
    /// Gets the job's fence.
    pub out_sync: Option<SyncobjHandle>,
    /// All objects that the job uses.
    pub bo_handles: Vec<Handle>,
    /// 0 or [`PANFROST_JD_REQ_FS`].
    pub requirements: u32,
}

/// `panfrost_ioctl_submit`.
///
/// # Errors
/// -EINVAL without a chain, for unknown requirements, for an in-sync without a fence, for an object that was closed
/// meanwhile; -ENODEV for an unknown out-sync, -ENOENT for an unknown in-sync or object, -EALREADY for an object that is
/// named twice, -EINTR, -ENOMEM (injected).
pub fn panfrost_ioctl_submit(file: &DrmFile, args: &PanfrostSubmit) -> Result {
    let panfrost = PanfrostFilePriv::of(file)?;
    if args.jc == 0 || args.requirements & !PANFROST_JD_REQ_FS != 0 {
        return Err(Errno::EINVAL);
    }
    let sync_out = match args.out_sync {
        Some(handle) => Some(drm_syncobj_find(file, handle).ok_or(Errno::ENODEV)?),
        None => None,
    };
    let result = PanfrostJob::alloc(panfrost, args.jc, args.requirements).and_then(|job| {
        let slot = panfrost_job_get_slot(args.requirements);
        // The scheduler's job swallows the driver's, so the allocation that can fail comes first.
        if let Err(error) = reclaim::kmalloc() {
            job.free();
            return Err(error);
        }
        let sched_job = DrmSchedJob::new(&panfrost.entities[slot], job);
        let result = fill_and_push(file, panfrost, args, &sched_job);
        let job = to_panfrost_job(&sched_job);
        match (&result, &sync_out) {
            (Ok(()), Some(sync_out)) => drm_syncobj_replace_fence(sync_out, job.render_done_fence()),
            (Ok(()), None) => {}
            (Err(_), _) => drm_sched_job_cleanup(&sched_job),
        }
        panfrost_job_put(job);
        result
    });
    if let Some(sync_out) = sync_out {
        drm_syncobj_put(&sync_out);
    }
    result
}

/// The middle of `panfrost_ioctl_submit`.
#[track_caller]
fn fill_and_push(
    file: &DrmFile,
    panfrost: &PanfrostFilePriv,
    args: &PanfrostSubmit,
    job: &Arc<DrmSchedJob>,
) -> Result {
    panfrost_copy_in_sync(file, &args.in_syncs, job)?;
    panfrost_lookup_bos(file, panfrost, &args.bo_handles, to_panfrost_job(job))?;
    panfrost_job_push(job)
}

fn panfrost_copy_in_sync(file: &DrmFile, in_syncs: &[SyncobjHandle], job: &DrmSchedJob) -> Result {
    if in_syncs.is_empty() {
        return Ok(());
    }
    reclaim::kmalloc()?;
    for handle in in_syncs {
        drm_sched_job_add_dependency(job, drm_syncobj_find_fence(file, *handle)?)?;
    }
    Ok(())
}

fn panfrost_lookup_bos(
    file: &DrmFile,
    panfrost: &PanfrostFilePriv,
    handles: &[Handle],
    job: &PanfrostJob,
) -> Result {
    if handles.is_empty() {
        return Ok(());
    }
    reclaim::kmalloc()?;
    job.set_bos(drm_gem_objects_lookup(file, handles)?);
    reclaim::kmalloc()?;
    for obj in job.bos() {
        let mapping = panfrost_gem_mapping_get(to_panfrost_bo(&obj), panfrost).ok_or(Errno::EINVAL)?;
        job.add_mapping(mapping);
    }
    Ok(())
}

/// `panfrost_ioctl_wait_bo`: waits until nobody uses the object; takes no lock for that.
///
/// # Errors
/// -ENOENT if the handle is unknown, -EBUSY if it is in use and there is no time, -ETIMEDOUT if the time is up, -EINTR
/// (injected).
pub fn panfrost_ioctl_wait_bo(file: &DrmFile, handle: Handle, timeout: WaitTimeout) -> Result {
    let obj = drm_gem_object_lookup(file, handle).ok_or(Errno::ENOENT)?;
    let result = wait_for_object(&obj, DmaResvUsage::Read, timeout);
    drm_gem_object_put(obj);
    result
}
