// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Jobs on their way through the hardware: run, recovered, timed out, freed.
//!
//! Kernel counterpart: `lima_sched.c`, `lima_gp.c`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use lockdep::LockClass;

use super::LimaDevice;
use super::gem::{current_heap, lima_bo, lima_heap_alloc};
use super::hw::{Event, LimaFrame, LimaIp, Pipe};
use super::vm::{LimaVm, lima_vm_bo_del, lima_vm_get, lima_vm_get_va, lima_vm_put};
use crate::dma_buf::fence::{DmaFence, dma_fence_context_alloc, dma_fence_signal};
use crate::drm::gem::{
    DrmGemObject, drm_gem_object_get, drm_gem_object_put, drm_gem_vmap_unlocked, drm_gem_vunmap_unlocked,
};
use crate::drm::sched::{
    DrmGpuSchedStat, DrmGpuScheduler, DrmSchedBackendOps, DrmSchedJob, drm_sched_fini,
    drm_sched_increase_karma, drm_sched_job_cleanup, drm_sched_resubmit_jobs, drm_sched_start,
    drm_sched_stop,
};
use crate::kernel::KernelCore;
use crate::kernel::cell::{KCell, KPtr};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::live::Live;
use crate::kernel::locking::{SpinLock, spin_class};
use crate::kernel::reclaim;
use crate::kernel::shmem::PAGE_SIZE;
use crate::kernel::vmalloc::{vmap, vunmap};
use crate::kernel::workqueue::{Work, work_class};

static FENCE_LOCK: LockClass = spin_class("&pipe->fence_lock");
static RECOVER_WORK: LockClass = work_class("(work_completion)(&pipe->recover_work)");
static SUBMIT_WQ: [LockClass; Pipe::ALL.len()] =
    [work_class("(wq_completion)gp"), work_class("(wq_completion)pp")];

/// `lima_max_error_tasks`.
const MAX_ERROR_TASKS: usize = 4;

/// `struct lima_sched_pipe`: a processor and its scheduler.
pub(super) struct LimaSchedPipe {
    pub(super) base: Arc<DrmGpuScheduler>,
    pub(super) ip: LimaIp,
    fence_lock: Arc<SpinLock>,
    fence_context: u64,
    fence_seqno: AtomicU64,
    /// The job in the hardware. Changed by whoever runs jobs; read by interrupt and recovery, while there is one.
    current_task: parking_lot::Mutex<Option<Arc<DrmSchedJob>>>,
    recover_work: Arc<Work>,
}

impl LimaSchedPipe {
    /// `lima_sched_pipe_init`.
    pub(super) fn init(core: &Arc<KernelCore>, dev: &Weak<LimaDevice>, pipe: Pipe) -> Self {
        let weak = dev.clone();
        let recover = move || weak.upgrade().iter().for_each(|dev| lima_sched_recover_work(dev.pipe(pipe)));
        let name = if pipe == Pipe::Gp { "gp" } else { "pp" };
        let class = &SUBMIT_WQ[pipe as usize];
        LimaSchedPipe {
            base: DrmGpuScheduler::init(core, &LimaSchedOps, 1, &core.system_wq, name, class),
            ip: LimaIp::new(&core.background, dev.clone(), pipe),
            fence_lock: Arc::new(SpinLock::new(&FENCE_LOCK)),
            fence_context: dma_fence_context_alloc(),
            fence_seqno: AtomicU64::new(0),
            current_task: parking_lot::Mutex::default(),
            recover_work: Work::new(&RECOVER_WORK, recover),
        }
    }

    fn current(&self) -> Option<Arc<DrmSchedJob>> {
        self.current_task.lock().clone()
    }
}

/// `lima_sched_pipe_fini`.
pub(super) fn lima_sched_pipe_fini(pipe: &LimaSchedPipe) {
    drm_sched_fini(&pipe.base);
}

/// `struct lima_sched_task`: what a scheduler's job is to this driver.
pub(super) struct LimaSchedTask {
    dev: Arc<LimaDevice>,
    pipe: Pipe,
    vm: Arc<LimaVm>,
    frame: LimaFrame,
    bos: KCell<Vec<Arc<DrmGemObject>>>,
    /// The heap that it uses, once it runs.
    heap: KPtr<DrmGemObject>,
    fence: KPtr<DmaFence>,
    live: Live,
}

pub(super) fn to_lima_task(job: &DrmSchedJob) -> &LimaSchedTask {
    match job.driver() {
        Some(task) => task,
        None => unreachable!("a lima job"),
    }
}

impl LimaSchedTask {
    /// `lima_sched_task_init`, with references to its objects.
    pub(super) fn init(
        dev: &Arc<LimaDevice>,
        pipe: Pipe,
        vm: &Arc<LimaVm>,
        frame: LimaFrame,
        bos: &[Arc<DrmGemObject>],
    ) -> Result<Box<Self>> {
        reclaim::kmalloc()?;
        // The list of objects, then the scheduler's part.
        reclaim::kmalloc()?;
        reclaim::kmalloc()?;
        Ok(Box::new(LimaSchedTask {
            dev: dev.clone(),
            pipe,
            vm: lima_vm_get(vm),
            frame,
            bos: KCell::new("a job's objects", bos.iter().map(drm_gem_object_get).collect()),
            heap: KPtr::null(),
            fence: KPtr::null(),
            live: dev.core.born("lima_sched_task"),
        }))
    }

    fn pipe(&self) -> &LimaSchedPipe {
        self.dev.pipe(self.pipe)
    }
}

/// `lima_sched_task_fini`.
pub(super) fn lima_sched_task_fini(job: &DrmSchedJob) {
    let task = to_lima_task(job);
    drm_sched_job_cleanup(job);
    task.heap.take();
    task.fence.take();
    for obj in task.bos.replace(Vec::new()) {
        drm_gem_object_put(obj);
    }
    lima_vm_put(&task.vm);
    task.live.freed();
}

/// `lima_sched_ops`.
struct LimaSchedOps;

impl DrmSchedBackendOps for LimaSchedOps {
    fn run_job(&self, job: &Arc<DrmSchedJob>) -> Result<Option<Arc<DmaFence>>> {
        lima_sched_run_job(job)
    }

    fn timedout_job(&self, job: &Arc<DrmSchedJob>) -> DrmGpuSchedStat {
        lima_sched_timedout_job(job)
    }

    fn free_job(&self, job: &Arc<DrmSchedJob>) {
        lima_sched_free_job(job);
    }
}

fn lima_fence_create(pipe: &LimaSchedPipe, core: &KernelCore) -> Result<Arc<DmaFence>> {
    // GFP_KERNEL, in a path that fences depend on.
    reclaim::kmalloc()?;
    let seqno = pipe.fence_seqno.fetch_add(1, Ordering::Relaxed) + 1;
    Ok(DmaFence::new(core, pipe.fence_lock.clone(), pipe.fence_context, seqno))
}

fn lima_sched_run_job(job: &Arc<DrmSchedJob>) -> Result<Option<Arc<DmaFence>>> {
    let task = to_lima_task(job);
    if job.s_fence().is_some_and(|fence| fence.finished.error().is_some()) {
        return Ok(None);
    }
    let pipe = task.pipe();
    let fence = lima_fence_create(pipe, &task.dev.core)?;
    task.fence.swap(Some(fence.clone()));
    *pipe.current_task.lock() = Some(job.clone());
    lima_gp_task_run(pipe, task);
    Ok(Some(fence))
}

/// `lima_gp_task_run`: finds the heap by its address, then starts.
fn lima_gp_task_run(pipe: &LimaSchedPipe, task: &LimaSchedTask) {
    if let LimaFrame::FillHeap { address, .. } = task.frame {
        let is_it = |obj: &Arc<DrmGemObject>| {
            lima_bo(obj).heap_size() > 0 && lima_vm_get_va(&task.vm, obj) == Some(address)
        };
        task.heap.swap(task.bos.get().into_iter().find(is_it));
    }
    pipe.ip.start(task.frame, &task.vm);
}

/// `lima_gp_irq_handler`, `lima_pp_irq_handler`.
pub(super) fn lima_irq_handler(pipe: &LimaSchedPipe, event: Event) {
    let Some(job) = pipe.current() else { return };
    let task = to_lima_task(&job);
    match event {
        Event::Done => lima_sched_pipe_task_done(task),
        Event::OutOfMemory if !task.heap.is_null() => {
            task.dev.core.system_wq.queue_work(&pipe.recover_work);
        }
        // If the scheduler frees the job before it just now, it takes this back: the job's time has to come then.
        Event::OutOfMemory | Event::Fault => pipe.base.fault(),
    }
}

fn lima_sched_pipe_task_done(task: &LimaSchedTask) {
    if let Some(fence) = task.fence.load() {
        let signaled = dma_fence_signal(&fence);
        task.dev.core.warn_on(signaled.is_err(), "a job is done twice");
    }
}

fn lima_sched_recover_work(pipe: &LimaSchedPipe) {
    let Some(job) = pipe.current() else { return };
    let task = to_lima_task(&job);
    if task.dev.next_growth.run(|| lima_gp_task_recover(pipe, task)).is_err() {
        pipe.base.fault();
    }
}

/// The heap grows, and the processor goes on.
fn lima_gp_task_recover(pipe: &LimaSchedPipe, task: &LimaSchedTask) -> Result {
    let heap = task.heap.load().ok_or(Errno::EINVAL)?;
    lima_heap_alloc(&heap, Some(&task.vm))?;
    pipe.ip.resume();
    Ok(())
}

fn lima_sched_timedout_job(job: &Arc<DrmSchedJob>) -> DrmGpuSchedStat {
    let task = to_lima_task(job);
    let pipe = task.pipe();
    if task.fence.load().is_some_and(|fence| fence.is_signaled()) {
        return DrmGpuSchedStat::NoHang;
    }
    drm_sched_stop(&pipe.base, Some(job));
    drm_sched_increase_karma(job);
    lima_sched_build_error_task_list(task);
    pipe.ip.hard_reset();
    *pipe.current_task.lock() = None;
    drm_sched_resubmit_jobs(&pipe.base);
    drm_sched_start(&pipe.base);
    DrmGpuSchedStat::Reset
}

fn lima_sched_free_job(job: &Arc<DrmSchedJob>) {
    let task = to_lima_task(job);
    let mut current = task.pipe().current_task.lock();
    if current.as_ref().is_some_and(|other| Arc::ptr_eq(other, job)) {
        *current = None;
    }
    drop(current);
    for obj in task.bos.get() {
        lima_vm_bo_del(&task.vm, &obj);
    }
    lima_sched_task_fini(job);
}

/// `struct lima_sched_error_task`: what is kept of a job that failed: for each object its address and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimaErrorTask {
    /// Which processor.
    pub pipe: Pipe,
    /// What it was to do.
    pub frame: LimaFrame,
    /// Address and content of each object.
    pub buffers: Vec<(u64, Vec<u8>)>,
}

/// Keeps what may be of use to somebody who looks for the reason; if there is no memory, nothing.
fn lima_sched_build_error_task_list(task: &LimaSchedTask) {
    let dev = &task.dev;
    dev.error_task_list_lock.lock();
    if dev.error_task_list.with(|list| list.len()) < MAX_ERROR_TASKS
        && let Ok(buffers) = dump(task)
    {
        let (pipe, frame) = (task.pipe, task.frame);
        dev.error_task_list.with(|list| list.push(LimaErrorTask { pipe, frame, buffers }));
    }
    dev.error_task_list_lock.unlock();
}

/// The middle of `lima_sched_build_error_task_list`, which it shows.
#[track_caller]
fn dump(task: &LimaSchedTask) -> Result<Vec<(u64, Vec<u8>)>> {
    reclaim::kmalloc()?;
    let mut buffers = Vec::new();
    for obj in task.bos.get() {
        let address = lima_vm_get_va(&task.vm, &obj).unwrap_or(0);
        buffers.push((address, content(&obj)?));
    }
    Ok(buffers)
}

fn content(obj: &Arc<DrmGemObject>) -> Result<Vec<u8>> {
    if lima_bo(obj).heap_size() > 0 {
        let pages = current_heap(obj);
        let mapping = vmap(&obj.dev.core, &pages)?;
        let bytes = (0..pages.len() * PAGE_SIZE).map(|at| mapping.map.read(at)).collect();
        vunmap(&obj.dev.core, mapping);
        return Ok(bytes);
    }
    let map = drm_gem_vmap_unlocked(obj)?;
    let bytes = (0..obj.size).map(|at| map.read(at)).collect();
    drm_gem_vunmap_unlocked(obj, &map);
    Ok(bytes)
}
