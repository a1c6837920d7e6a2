// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! When a job takes too long, or the GPU is seen to hang: everything is stopped, the GPU is reset, and what it had is
//! handed to it again, except the jobs of the culprit.
//!
//! Between stopping and starting the schedulers nothing can be done by the GPU, so what happens there is a section that
//! fences depend on. Two parts of it cannot be in the section: stopping the schedulers waits for fences and frees
//! jobs, and handing the jobs over again allocates memory. Both step outside for that, which is wrong and known.
//!
//! Kernel counterpart: `drivers/gpu/drm/panfrost/panfrost_job.c`, `panfrost_device.c`, `panfrost_gpu.c`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lockdep::LockClass;

use super::device::PanfrostDevice;
use super::hw::{JOB_SLOTS, JS_ALL, Stop};
use super::job::{panfrost_job_enable_interrupts, panfrost_job_handle_irqs, to_panfrost_job};
use super::mmu::panfrost_mmu_reset;
use crate::bug::Bug;
use crate::dma_buf::fence::{dma_fence_begin_signalling, dma_fence_end_signalling};
use crate::drm::sched::{
    DrmGpuSchedStat, DrmSchedJob, drm_sched_fini, drm_sched_increase_karma, drm_sched_resubmit_jobs,
    drm_sched_start, drm_sched_stop,
};
use crate::kernel::workqueue::{Work, Workqueue, work_class};

static RESET_WORK: LockClass = work_class("(work_completion)(&pfdev->reset.work)");
static RESET_WQ: LockClass = work_class("(wq_completion)panfrost-reset");

/// `reset` of the device.
pub(super) struct Reset {
    pub(super) wq: Arc<Workqueue>,
    work: Arc<Work>,
    pub(super) pending: AtomicBool,
}

impl Reset {
    pub(super) fn wq(core: &crate::kernel::KernelCore) -> Arc<Workqueue> {
        Arc::new(Workqueue::alloc_ordered(&core.background, "panfrost-reset", &RESET_WQ))
    }

    pub(super) fn new(wq: Arc<Workqueue>, pfdev: std::sync::Weak<PanfrostDevice>) -> Self {
        let work = Work::new(&RESET_WORK, move || {
            if let Some(pfdev) = pfdev.upgrade() {
                panfrost_reset_work(&pfdev);
            }
        });
        Reset { wq, work, pending: AtomicBool::new(false) }
    }
}

/// `panfrost_device_schedule_reset`: something does not answer. May be called in any context.
pub fn panfrost_device_schedule_reset(pfdev: &PanfrostDevice) {
    pfdev.reset.pending.store(true, Ordering::Release);
    pfdev.reset.wq.queue_work(&pfdev.reset.work);
}

fn panfrost_reset_work(pfdev: &PanfrostDevice) {
    panfrost_reset(pfdev, None);
}

/// `panfrost_job_timedout`: the scheduler says that a job takes too long. Until v6.17 a driver could not say that it had
/// done nothing; the scheduler had then lost the job.
pub(super) fn panfrost_job_timedout(sched_job: &Arc<DrmSchedJob>) -> DrmGpuSchedStat {
    let job = to_panfrost_job(sched_job);
    let pfdev = &job.pfdev;
    let done = || job.done_fence.load().is_some_and(|fence| fence.is_signaled());
    let nothing_done = if pfdev.core.has(Bug::LateTimeoutLosesJob) {
        DrmGpuSchedStat::Reset
    } else {
        DrmGpuSchedStat::NoHang
    };
    if done() {
        return nothing_done;
    }
    // Perhaps it is done and nobody had the time to say so.
    if let Some(lines) = pfdev.hw.lines() {
        lines.job.synchronize();
    }
    if done() {
        return nothing_done;
    }
    pfdev.reset.pending.store(true, Ordering::Release);
    panfrost_reset(pfdev, Some(sched_job));
    DrmGpuSchedStat::Reset
}

fn panfrost_reset(pfdev: &PanfrostDevice, bad: Option<&Arc<DrmSchedJob>>) {
    if !pfdev.reset.pending.load(Ordering::Acquire) {
        return;
    }
    for slot in 0..JOB_SLOTS {
        drm_sched_stop(pfdev.js.sched(slot), bad);
    }
    let cookie = dma_fence_begin_signalling();
    if let Some(bad) = bad {
        drm_sched_increase_karma(bad);
    }
    stop_gpu(pfdev);
    panfrost_device_reset(pfdev);
    // The reset has unmasked it; not yet.
    pfdev.hw.set_job_mask(0);
    pfdev.reset.pending.store(false, Ordering::Release);
    dma_fence_end_signalling(cookie);
    for slot in 0..JOB_SLOTS {
        drm_sched_resubmit_jobs(pfdev.js.sched(slot));
    }
    let cookie = dma_fence_begin_signalling();
    for slot in 0..JOB_SLOTS {
        drm_sched_start(pfdev.js.sched(slot));
    }
    pfdev.hw.set_job_mask(JS_ALL);
    dma_fence_end_signalling(cookie);
}

/// Stops all slots, handles what they still have to say, and forgets what does not stop.
#[track_caller]
fn stop_gpu(pfdev: &PanfrostDevice) {
    pfdev.hw.set_job_mask(0);
    if let Some(lines) = pfdev.hw.lines() {
        lines.job.synchronize();
    }
    for slot in 0..JOB_SLOTS {
        pfdev.hw.cancel_next(slot);
        pfdev.hw.stop(slot, Stop::Soft);
    }
    let _hangs = !pfdev.hw.wait_inactive();
    panfrost_job_handle_irqs(pfdev);
    pfdev.js.job_lock.lock();
    pfdev.js.jobs.set(Default::default());
    pfdev.js.job_lock.unlock();
}

/// `panfrost_device_reset`.
pub(super) fn panfrost_device_reset(pfdev: &PanfrostDevice) {
    pfdev.hw.soft_reset();
    panfrost_gpu_power_on(pfdev);
    panfrost_mmu_reset(pfdev);
    panfrost_job_enable_interrupts(pfdev);
}

/// `panfrost_device_fini`: the driver is unloaded; no file is open.
pub(super) fn panfrost_device_fini(pfdev: &PanfrostDevice) {
    pfdev.hw.set_mmu_mask(0);
    panfrost_job_fini(pfdev);
}

fn panfrost_job_fini(pfdev: &PanfrostDevice) {
    pfdev.hw.set_job_mask(0);
    for slot in 0..JOB_SLOTS {
        drm_sched_fini(pfdev.js.sched(slot));
    }
    pfdev.reset.wq.cancel_work_sync(&pfdev.reset.work);
    pfdev.reset.wq.flush();
}

fn panfrost_gpu_power_on(pfdev: &PanfrostDevice) {
    pfdev.hw.set_gpu_mask(u32::MAX);
}

crate::kernel::opaque_debug!(Reset);
