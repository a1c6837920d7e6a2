// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The ioctls about jobs: submit one, wait for an object.
//!
//! Kernel counterpart: `lima_gem.c`, `lima_drv.c`.

use std::sync::Arc;

use super::LimaDrmPriv;
use super::ctx::{LimaCtx, LimaCtxId, with_ctx};
use super::hw::{LimaFrame, Pipe};
use super::sched::{LimaSchedTask, lima_sched_task_fini};
use super::vm::{lima_vm_bo_add, lima_vm_bo_del};
use crate::dma_buf::fence::DmaFence;
use crate::dma_buf::resv::{DmaResvUsage, dma_resv_add_fence, dma_resv_reserve_fences, dma_resv_usage_rw};
use crate::drm::file::{DrmFile, Handle};
use crate::drm::gem::{DrmGemObject, drm_gem_object_put};
use crate::drm::gem_handle::drm_gem_object_lookup;
use crate::drm::gem_reservations::{
    WaitTimeout, drm_gem_lock_reservations, drm_gem_unlock_reservations, wait_for_object,
};
use crate::drm::sched::entity::drm_sched_entity_push_job;
use crate::drm::sched::{
    DrmSchedJob, drm_sched_job_add_dependency, drm_sched_job_add_implicit_dependencies, drm_sched_job_arm,
};
use crate::drm::syncobj::{
    SyncobjHandle, drm_syncobj_find, drm_syncobj_find_fence, drm_syncobj_put, drm_syncobj_replace_fence,
};
use crate::kernel::errno::{Errno, Result};

/// `struct drm_lima_gem_submit_bo`.
#[derive(Clone, Copy, Debug)]
pub struct LimaSubmitBo {
    /// Which.
    pub handle: Handle,
    /// The job writes it, else it reads.
    pub write: bool,
}

/// `struct drm_lima_gem_submit`.
#[derive(Clone, Debug)]
pub struct LimaSubmit {
    /// Whose queue.
    pub ctx: LimaCtxId,
    /// Which processor.
    pub pipe: Pipe,
    /// What it does.
    pub frame: LimaFrame,
    /// All objects that it uses.
    pub bos: Vec<LimaSubmitBo>,
    /// What has to happen before.
    pub in_syncs: Vec<SyncobjHandle>,
    /// Gets the job's fence.
    pub out_sync: Option<SyncobjHandle>,
    /// `LIMA_SUBMIT_FLAG_EXPLICIT_FENCE`: the fences of the objects are not waited for.
    pub explicit: bool,
}

impl LimaSubmit {
    /// A job without sync objects.
    #[must_use]
    pub const fn new(ctx: LimaCtxId, pipe: Pipe, frame: LimaFrame, bos: Vec<LimaSubmitBo>) -> Self {
        LimaSubmit { ctx, pipe, frame, bos, in_syncs: Vec::new(), out_sync: None, explicit: false }
    }
}

/// `lima_ioctl_gem_submit`, `lima_gem_submit`.
///
/// # Errors
/// -ENODEV on another driver's file, -EINVAL without objects, -ENOENT for an unknown context, object, sync object, or an
/// object without an address, -EALREADY for an object that is named twice, -EINTR, -ENOMEM (injected).
pub fn lima_gem_submit(file: &DrmFile, args: &LimaSubmit) -> Result {
    let lima = LimaDrmPriv::of(file)?;
    if args.bos.is_empty() {
        return Err(Errno::EINVAL);
    }
    with_ctx(&lima.ctx_mgr, args.ctx, |ctx| {
        let out_sync = match args.out_sync {
            Some(handle) => Some(drm_syncobj_find(file, handle).ok_or(Errno::ENOENT)?),
            None => None,
        };
        let result = submit(file, lima, ctx, args);
        if let Some(out_sync) = out_sync {
            if let Ok(fence) = &result {
                drm_syncobj_replace_fence(&out_sync, fence.clone());
            }
            drm_syncobj_put(&out_sync);
        }
        result.map(drop)
    })
}

/// The middle of `lima_gem_submit`, which it shows: the job's fence.
#[track_caller]
fn submit(
    file: &DrmFile,
    lima: &LimaDrmPriv,
    ctx: &LimaCtx,
    args: &LimaSubmit,
) -> Result<Option<Arc<DmaFence>>> {
    let mut bos = Vec::new();
    let looked_up = args.bos.iter().try_for_each(|bo| {
        let obj = drm_gem_object_lookup(file, bo.handle).ok_or(Errno::ENOENT)?;
        // The job's own use of the address, so that it stays when the handle is closed.
        if let Err(error) = lima_vm_bo_add(&lima.vm, &obj, false) {
            drm_gem_object_put(obj);
            return Err(error);
        }
        bos.push(obj);
        Ok(())
    });
    let result = looked_up.and_then(|()| {
        let acquire = drm_gem_lock_reservations(&bos)?;
        let result = queue(file, lima, ctx, args, &bos);
        drm_gem_unlock_reservations(&bos, acquire);
        result
    });
    for obj in bos {
        if result.is_err() {
            lima_vm_bo_del(&lima.vm, &obj);
        }
        drm_gem_object_put(obj);
    }
    result
}

/// All reservation locks are held.
#[track_caller]
fn queue(
    file: &DrmFile,
    lima: &LimaDrmPriv,
    ctx: &LimaCtx,
    args: &LimaSubmit,
    bos: &[Arc<DrmGemObject>],
) -> Result<Option<Arc<DmaFence>>> {
    let task = LimaSchedTask::init(&lima.dev, args.pipe, &lima.vm, args.frame, bos)?;
    let job = DrmSchedJob::new(ctx.entity(args.pipe), task);
    let ready = lima_gem_add_deps(file, &args.in_syncs, &job).and_then(|()| {
        bos.iter()
            .zip(&args.bos)
            .try_for_each(|(obj, bo)| lima_gem_sync_bo(&job, obj, bo.write, args.explicit))
    });
    if let Err(error) = ready {
        lima_sched_task_fini(&job);
        return Err(error);
    }
    let fence = lima_sched_context_queue_task(&job);
    if let Some(fence) = &fence {
        for (obj, bo) in bos.iter().zip(&args.bos) {
            let usage = if bo.write { DmaResvUsage::Write } else { DmaResvUsage::Read };
            dma_resv_add_fence(obj.resv(), fence, usage);
        }
    }
    Ok(fence)
}

fn lima_gem_add_deps(file: &DrmFile, in_syncs: &[SyncobjHandle], job: &DrmSchedJob) -> Result {
    in_syncs
        .iter()
        .try_for_each(|handle| drm_sched_job_add_dependency(job, drm_syncobj_find_fence(file, *handle)?))
}

fn lima_gem_sync_bo(job: &DrmSchedJob, obj: &DrmGemObject, write: bool, explicit: bool) -> Result {
    dma_resv_reserve_fences(obj.resv(), 1)?;
    if explicit {
        return Ok(());
    }
    drm_sched_job_add_implicit_dependencies(job, obj.resv(), write)
}

/// From here on there is no way back.
fn lima_sched_context_queue_task(job: &Arc<DrmSchedJob>) -> Option<Arc<DmaFence>> {
    drm_sched_job_arm(job);
    let fence = job.s_fence().map(|fence| fence.finished.clone());
    drm_sched_entity_push_job(job);
    fence
}

/// `lima_gem_wait`: waits until the object can be read, or written.
///
/// # Errors
/// -ENODEV on another driver's file, -ENOENT if the handle is unknown, -EBUSY if it is in use and there is no time,
/// -ETIMEDOUT if the time is up, -EINTR (injected).
pub fn lima_gem_wait(file: &DrmFile, handle: Handle, write: bool, timeout: WaitTimeout) -> Result {
    LimaDrmPriv::of(file)?;
    let obj = drm_gem_object_lookup(file, handle).ok_or(Errno::ENOENT)?;
    let result = wait_for_object(&obj, dma_resv_usage_rw(write), timeout);
    drm_gem_object_put(obj);
    result
}
