// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! What happens when a job takes too long: the scheduler is stopped, the driver resets the hardware, the jobs are
//! handed to it anew, the scheduler starts again. The jobs of whoever caused it are cancelled.
//!
//! Stopping may wait for fences and frees jobs, so it must not be inside a section that fences depend on.
//!
//! Kernel counterpart: `drivers/gpu/drm/scheduler/sched_main.c`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{
    __drm_sched_run_free_queue, DrmGpuSchedStat, DrmGpuScheduler, DrmSchedJob, drm_sched_job_done,
    drm_sched_run_job_queue, wait_for_hardware,
};
use crate::dma_buf::fence::{dma_fence_remove_callback, dma_fence_set_error, dma_fence_wait};
use crate::kernel::errno::Errno;

/// The work item of the timeout.
pub(super) fn drm_sched_job_timedout(sched: &Arc<DrmGpuScheduler>) {
    sched.job_list_lock.lock();
    // Taken from the list, so that nobody frees it meanwhile.
    let job = sched.pending.with(|pending| (!pending.is_empty()).then(|| pending.remove(0)));
    sched.job_list_lock.unlock();
    if let Some(job) = job {
        let status = sched.ops.timedout_job(&job);
        if sched.free_guilty.swap(false, Ordering::AcqRel) {
            sched.ops.free_job(&job);
        }
        if status == DrmGpuSchedStat::NoHang {
            drm_sched_job_reinsert_on_false_timeout(sched, &job);
        }
    }
    sched.job_list_lock.lock();
    sched.start_timeout();
    sched.job_list_lock.unlock();
}

/// The job was taken from the list, and the driver has not put it back.
fn drm_sched_job_reinsert_on_false_timeout(sched: &DrmGpuScheduler, job: &Arc<DrmSchedJob>) {
    sched.job_list_lock.lock();
    sched.pending.with(|pending| pending.insert(0, job.clone()));
    // If it is done, nobody else will say so any more.
    __drm_sched_run_free_queue(sched);
    sched.job_list_lock.unlock();
}

/// `drm_sched_wqueue_stop`: no job is run or freed from now on.
fn drm_sched_wqueue_stop(sched: &DrmGpuScheduler) {
    sched.pause_submit.store(true, Ordering::Release);
    sched.submit_wq.cancel_work_sync(&sched.work_run_job);
    sched.submit_wq.cancel_work_sync(&sched.work_free_job);
}

/// `drm_sched_wqueue_start`.
fn drm_sched_wqueue_start(sched: &DrmGpuScheduler) {
    sched.pause_submit.store(false, Ordering::Release);
    sched.submit_wq.queue_work(&sched.work_run_job);
    sched.submit_wq.queue_work(&sched.work_free_job);
}

/// `drm_sched_stop`: and jobs that are done are freed, others forget the hardware's fence. `bad` caused it.
pub fn drm_sched_stop(sched: &DrmGpuScheduler, bad: Option<&Arc<DrmSchedJob>>) {
    drm_sched_wqueue_stop(sched);
    let is_bad = |job: &Arc<DrmSchedJob>| bad.is_some_and(|bad| Arc::ptr_eq(bad, job));
    if let Some(bad) = bad.filter(|bad| core::ptr::eq(Arc::as_ptr(&bad.entity.sched), sched)) {
        // It was taken from the list; it is the oldest.
        sched.pending.with(|pending| pending.insert(0, bad.clone()));
    }
    for job in sched.pending.get().into_iter().rev() {
        if forget_hardware(&job) {
            sched.credits.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        sched.job_list_lock.lock();
        sched.pending.with(|pending| pending.retain(|other| !Arc::ptr_eq(other, &job)));
        sched.job_list_lock.unlock();
        if let Some(fence) = job.s_fence() {
            // The callback may still be at work with the job.
            let waited = dma_fence_wait(&fence.finished, false);
            debug_assert!(waited.is_ok(), "it cannot be interrupted");
        }
        if is_bad(&job) {
            sched.free_guilty.store(true, Ordering::Release);
        } else {
            sched.ops.free_job(&job);
        }
    }
    sched.work_tdr.cancel(&sched.timeout_wq);
}

/// Takes back the callback on the hardware's fence; false if it has run.
#[track_caller]
fn forget_hardware(job: &DrmSchedJob) -> bool {
    let Some((s_fence, callback)) = job.s_fence().zip(job.callback.replace(None)) else { return false };
    let removed = s_fence.parent.load().is_some_and(|parent| dma_fence_remove_callback(&parent, callback));
    if removed {
        s_fence.parent.take();
    }
    removed
}

/// `drm_sched_increase_karma`: this job's entity has caused a reset.
pub fn drm_sched_increase_karma(bad: &DrmSchedJob) {
    let sched = &bad.entity.sched;
    bad.karma.fetch_add(1, Ordering::Relaxed);
    // Looks for the entity, to tell it; no driver of ours wants to be told.
    sched.rq_lock.lock();
    sched.rq_lock.unlock();
}

/// `drm_sched_resubmit_jobs`: what was in the hardware is handed to it anew; what the guilty entity had there gets an
/// error instead.
pub fn drm_sched_resubmit_jobs(sched: &DrmGpuScheduler) {
    let mut guilty = None;
    for job in sched.pending.get() {
        let Some(fence) = job.s_fence() else { continue };
        if guilty.is_none() && job.karma.load(Ordering::Relaxed) > 0 {
            guilty = Some(fence.scheduled.context);
        }
        if guilty == Some(fence.scheduled.context) {
            dma_fence_set_error(&fence.finished, Errno::ECANCELED);
        }
        fence.parent.take();
        match sched.ops.run_job(&job) {
            Ok(parent) => {
                fence.parent.swap(parent);
            }
            Err(error) => dma_fence_set_error(&fence.finished, error),
        }
    }
}

/// `drm_sched_start`: jobs without a fence of the hardware are done, with an error.
pub fn drm_sched_start(sched: &DrmGpuScheduler) {
    for job in sched.pending.get() {
        sched.credits.fetch_add(1, Ordering::AcqRel);
        match job.s_fence().and_then(|fence| fence.parent.load()) {
            Some(parent) => wait_for_hardware(&job, &parent),
            None => drm_sched_job_done(&job, Err(Errno::ECANCELED)),
        }
    }
    sched.job_list_lock.lock();
    sched.start_timeout();
    sched.job_list_lock.unlock();
    drm_sched_wqueue_start(sched);
    drm_sched_run_job_queue(sched);
}

/// `drm_sched_fini`: the scheduler goes away; it has no jobs.
pub fn drm_sched_fini(sched: &DrmGpuScheduler) {
    drm_sched_wqueue_stop(sched);
    sched.job_scheduled.wake_up();
    sched.work_tdr.cancel_sync(&sched.timeout_wq);
    sched.submit_wq.flush();
}
