// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The GPU scheduler: hands jobs to the hardware when they are ready and there is room, frees them when they are
//! done, and does something about those that never are.
//!
//! A job is *initialised*, gets its dependencies, is *armed* (its fences exist from now on, so it must come to an
//! end) and *pushed* into its entity. Two work items on a queue of the scheduler's own run and free jobs; a third one,
//! on the driver's queue for resets, starts when a job takes too long. The hardware's fence, when it signals, calls
//! back under its lock and signals the job's *finished* fence there.
//!
//! # Locking
//!
//! | lock | kind | protects |
//! |---|---|---|
//! | `&entity->lock` | spinlock | which run queue an entity is in |
//! | `&rq->lock` | spinlock | the entities of a run queue |
//! | `&sched->job_list_lock` | spinlock | the jobs that the hardware has |
//! | `&sched->job_scheduled` | wait queue | who waits until an entity is idle |
//! | `&fence->lock` | spinlock, irq-safe | a job's two fences; taken in a callback, under the hardware's fence lock |
//!
//! Work items are locks, too: whoever waits for one needs what it takes. `(work_completion)(&sched->work_run_job)` and
//! `(work_completion)(&sched->work_free_job)` are the scheduler's, `(work_completion)(&(&sched->work_tdr)->work)` looks after
//! a job that takes too long, and `(work_completion)(&job->work)` ends one that was killed.
//!
//! * `reservation_ww_class_mutex` → `&entity->lock` → `&rq->lock`: the first job of an idle entity
//! * `(work_completion)(&sched->work_run_job)` → `&entity->lock`, `&sched->job_scheduled`, `&x->wait`: a job is chosen and
//!   taken out of its queue
//! * `(work_completion)(&sched->work_run_job)` → `&sched->job_list_lock`, `fs_reclaim`: it is handed to the hardware
//! * `(work_completion)(&sched->work_free_job)` → `&sched->job_list_lock`: a job is done
//! * `(work_completion)(&(&sched->work_tdr)->work)` → `&sched->job_list_lock`, `&rq->lock`: all jobs are taken back
//! * `(wq_completion)events` → `(work_completion)(&job->work)`: a file is closed whose jobs do not end
//! * `(work_completion)(&job->work)` → `&fence->lock`: such a job's fences are signalled
//! * `(work_completion)(&sched->work_free_job)` → `reservation_ww_class_mutex`: the last reference to an import goes with
//!   a job
//! * `(work_completion)(&job->work)` → `reservation_ww_class_mutex` (B0, B, C): and to an object
//! * `(work_completion)(&job->work)`, `(work_completion)(&sched->work_free_job)` → `&shmem->pages_lock` (A): the same
//!
//! Kernel counterpart: `drivers/gpu/drm/scheduler/sched_main.c` of 6.12. Not modelled: several run queues, load
//! balancing, statistics.

pub mod entity;
pub mod fence;
mod recovery;

use core::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use lockdep::LockClass;

use crate::dma_buf::fence::{DmaFence, FenceCallbackId, dma_fence_add_callback};
use crate::dma_buf::resv::{DmaResv, dma_resv_fences, dma_resv_usage_rw};
use crate::kernel::KernelCore;
use crate::kernel::cell::KCell;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::locking::{SpinLock, spin_class};
use crate::kernel::reclaim;
use crate::kernel::wait::WaitQueue;
use crate::kernel::workqueue::{DelayedWork, Work, Workqueue, work_class};
use entity::{DrmSchedEntity, drm_sched_entity_pop_job};
use fence::{DrmSchedFence, drm_sched_fence_finished, drm_sched_fence_scheduled};

pub use recovery::{
    drm_sched_fini, drm_sched_increase_karma, drm_sched_resubmit_jobs, drm_sched_start, drm_sched_stop,
};

static RQ_LOCK: LockClass = spin_class("&rq->lock");
static JOB_LIST_LOCK: LockClass = spin_class("&sched->job_list_lock");
static JOB_SCHEDULED: LockClass = spin_class("&sched->job_scheduled");
static RUN_JOB: LockClass = work_class("(work_completion)(&sched->work_run_job)");
static FREE_JOB: LockClass = work_class("(work_completion)(&sched->work_free_job)");
static TDR: LockClass = work_class("(work_completion)(&(&sched->work_tdr)->work)");

/// `enum drm_gpu_sched_stat`: what a driver has done about a job that takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrmGpuSchedStat {
    /// It has stopped and started the scheduler again.
    Reset,
    /// Nothing: the job is done after all, or will be (since v6.17).
    NoHang,
}

/// `struct drm_sched_backend_ops`.
pub trait DrmSchedBackendOps: Sync {
    /// Hands a job to the hardware: its fence, or `None` if there is nothing to do.
    ///
    /// # Errors
    /// If it cannot be run.
    fn run_job(&self, job: &Arc<DrmSchedJob>) -> Result<Option<Arc<DmaFence>>>;

    /// A job takes too long.
    fn timedout_job(&self, job: &Arc<DrmSchedJob>) -> DrmGpuSchedStat;

    /// A job is done, or will never be.
    fn free_job(&self, job: &Arc<DrmSchedJob>);
}

/// `struct drm_sched_job`.
pub struct DrmSchedJob {
    pub(crate) entity: Arc<DrmSchedEntity>,
    /// Once it is armed.
    fence: OnceLock<Arc<DrmSchedFence>>,
    dependencies: KCell<Vec<Arc<DmaFence>>>,
    /// How many of them have been looked at.
    last_dependency: AtomicUsize,
    karma: AtomicU32,
    callback: KCell<Option<FenceCallbackId>>,
    driver: Box<dyn Any + Send + Sync>,
}

impl DrmSchedJob {
    /// `drm_sched_job_init`, for a job that is more to its driver. The allocation of its fences is the caller's business:
    /// it must come before.
    #[must_use]
    pub fn new(entity: &Arc<DrmSchedEntity>, driver: Box<dyn Any + Send + Sync>) -> Arc<Self> {
        Arc::new(DrmSchedJob {
            entity: entity.clone(),
            fence: OnceLock::new(),
            dependencies: KCell::new("a job's dependencies", Vec::new()),
            last_dependency: AtomicUsize::new(0),
            karma: AtomicU32::new(0),
            callback: KCell::new("a job's callback", None),
            driver,
        })
    }

    /// What it is to its driver, if it is of this type.
    #[must_use]
    pub fn driver<T: 'static>(&self) -> Option<&T> {
        self.driver.downcast_ref()
    }

    /// Its fences, once it is armed.
    #[must_use]
    pub fn s_fence(&self) -> Option<&Arc<DrmSchedFence>> {
        self.fence.get()
    }

    /// `drm_sched_job_dependency`: the next one to look at. They are kept, for the case that the job is killed.
    fn next_dependency(&self) -> Option<Arc<DmaFence>> {
        let at = self.last_dependency.load(Ordering::Relaxed);
        let fence = self.dependencies.with(|fences| fences.get(at).cloned())?;
        self.last_dependency.store(at + 1, Ordering::Relaxed);
        Some(fence)
    }

    fn take_dependency(&self) -> Option<Arc<DmaFence>> {
        self.dependencies.with(Vec::pop)
    }

    fn is_finished(&self) -> bool {
        self.s_fence().is_some_and(|fence| fence.finished.is_signaled())
    }
}

/// `drm_sched_job_arm`: the fences of the job exist from now on, in the order in which jobs are armed.
pub fn drm_sched_job_arm(job: &Arc<DrmSchedJob>) {
    let fence = DrmSchedFence::init(&job.entity.sched, &job.entity);
    let armed = job.fence.set(fence);
    job.entity.sched.core.warn_on(armed.is_err(), "a job is armed twice");
}

/// `drm_sched_job_add_dependency`: of several fences of one context the latest is enough.
///
/// # Errors
/// -ENOMEM (injected).
pub fn drm_sched_job_add_dependency(job: &DrmSchedJob, fence: Arc<DmaFence>) -> Result {
    let known = job.dependencies.with(|fences| {
        let same = fences.iter_mut().find(|known| known.context == fence.context);
        same.map(|known| {
            if fence.is_later_or_same(known) {
                *known = fence.clone();
            }
        })
    });
    if known.is_none() {
        reclaim::kmalloc()?;
        job.dependencies.with(|fences| fences.push(fence));
    }
    Ok(())
}

/// `drm_sched_job_add_implicit_dependencies`: everything that is in the way of using a buffer; its reservation lock is
/// held.
///
/// # Errors
/// -ENOMEM (injected).
pub fn drm_sched_job_add_implicit_dependencies(job: &DrmSchedJob, resv: &DmaResv, write: bool) -> Result {
    for fence in dma_resv_fences(resv, dma_resv_usage_rw(write)) {
        drm_sched_job_add_dependency(job, fence)?;
    }
    Ok(())
}

/// `drm_sched_job_cleanup`: of a job that is freed, or that was not pushed.
pub fn drm_sched_job_cleanup(job: &DrmSchedJob) {
    job.dependencies.set(Vec::new());
}

#[derive(Default)]
struct Fifo {
    entities: Vec<Arc<DrmSchedEntity>>,
    /// Those with jobs, by the time since when they wait.
    waiting: Vec<(u64, Arc<DrmSchedEntity>)>,
    clock: u64,
}

fn same(entity: &DrmSchedEntity) -> impl Fn(&Arc<DrmSchedEntity>) -> bool {
    move |other| core::ptr::eq(Arc::as_ptr(other), entity)
}

/// `struct drm_gpu_scheduler`.
pub struct DrmGpuScheduler {
    pub(crate) core: Arc<KernelCore>,
    pub(crate) ops: &'static dyn DrmSchedBackendOps,
    credit_limit: usize,
    credits: AtomicUsize,
    rq_lock: SpinLock,
    rq: KCell<Fifo>,
    job_list_lock: SpinLock,
    /// What the hardware has, oldest first. Under `job_list_lock`, and by whoever has stopped the scheduler.
    pending: KCell<Vec<Arc<DrmSchedJob>>>,
    submit_wq: Workqueue,
    work_run_job: Arc<Work>,
    work_free_job: Arc<Work>,
    timeout_wq: Arc<Workqueue>,
    work_tdr: DelayedWork,
    pause_submit: AtomicBool,
    free_guilty: AtomicBool,
    job_scheduled: WaitQueue,
}

impl DrmGpuScheduler {
    /// `drm_sched_init`: `credit_limit` jobs can be in the hardware at one time.
    pub(crate) fn init(
        core: &Arc<KernelCore>,
        ops: &'static dyn DrmSchedBackendOps,
        credit_limit: usize,
        timeout_wq: &Arc<Workqueue>,
        name: &str,
        wq_class: &'static LockClass,
    ) -> Arc<Self> {
        fn deferred(sched: &Weak<DrmGpuScheduler>, f: fn(&Arc<DrmGpuScheduler>)) -> impl Fn() + use<> {
            let sched = sched.clone();
            move || {
                if let Some(sched) = sched.upgrade() {
                    f(&sched);
                }
            }
        }
        Arc::new_cyclic(|sched| DrmGpuScheduler {
            core: core.clone(),
            ops,
            credit_limit,
            credits: AtomicUsize::new(0),
            rq_lock: SpinLock::new(&RQ_LOCK),
            rq: KCell::new("a run queue", Fifo::default()),
            job_list_lock: SpinLock::new(&JOB_LIST_LOCK),
            pending: KCell::new("a scheduler's jobs", Vec::new()),
            submit_wq: Workqueue::alloc_ordered(&core.background, name, wq_class),
            work_run_job: Work::new(&RUN_JOB, deferred(sched, drm_sched_run_job_work)),
            work_free_job: Work::new(&FREE_JOB, deferred(sched, drm_sched_free_job_work)),
            timeout_wq: timeout_wq.clone(),
            work_tdr: DelayedWork::new(&TDR, deferred(sched, recovery::drm_sched_job_timedout)),
            pause_submit: AtomicBool::new(false),
            free_guilty: AtomicBool::new(false),
            job_scheduled: WaitQueue::new(&JOB_SCHEDULED, &core.background),
        })
    }

    /// Time passes: the job that the hardware has is late, if it has one. True if there is one.
    pub(crate) fn fire_timeout(&self) -> bool {
        self.work_tdr.fire(&self.timeout_wq)
    }

    /// `drm_sched_fault`: the hardware says by itself that the job it has cannot go on.
    pub(crate) fn fault(&self) {
        self.work_tdr.expire(&self.timeout_wq);
    }

    /// How many jobs are in the hardware.
    #[must_use]
    pub fn jobs_in_hardware(&self) -> usize {
        self.credits.load(Ordering::Acquire)
    }

    /// How many jobs have been handed over and not freed.
    #[must_use]
    pub fn jobs_pending(&self) -> usize {
        self.job_list_lock.lock();
        let jobs = self.pending.with(|pending| pending.len());
        self.job_list_lock.unlock();
        jobs
    }

    /// `drm_sched_rq_add_entity` and `drm_sched_rq_update_fifo`; the entity's lock is held.
    #[track_caller]
    fn rq_add_entity(&self, entity: &Arc<DrmSchedEntity>) {
        self.rq_lock.lock();
        self.rq.with(|rq| {
            if !rq.entities.iter().any(same(entity)) {
                rq.entities.push(entity.clone());
            }
            rq.wait(entity);
        });
        self.rq_lock.unlock();
    }

    /// `drm_sched_rq_update_fifo`: its next job waits from now on; the entity's lock is held.
    #[track_caller]
    fn rq_update_fifo(&self, entity: &Arc<DrmSchedEntity>) {
        self.rq_lock.lock();
        self.rq.with(|rq| {
            if rq.entities.iter().any(same(entity)) {
                rq.wait(entity);
            }
        });
        self.rq_lock.unlock();
    }

    /// `drm_sched_rq_remove_entity`; the entity's lock is held.
    #[track_caller]
    fn rq_remove_entity(&self, entity: &DrmSchedEntity) {
        self.rq_lock.lock();
        self.rq.with(|rq| {
            rq.entities.retain(|other| !same(entity)(other));
            rq.waiting.retain(|(_, other)| !same(entity)(other));
        });
        self.rq_lock.unlock();
    }

    fn start_timeout(&self) {
        if self.pending.with(|pending| !pending.is_empty()) {
            self.work_tdr.queue(&self.timeout_wq);
        }
    }
}

impl Fifo {
    fn wait(&mut self, entity: &Arc<DrmSchedEntity>) {
        self.clock += 1;
        self.waiting.retain(|(_, other)| !same(entity)(other));
        self.waiting.push((self.clock, entity.clone()));
    }
}

/// `drm_sched_wakeup`.
pub(crate) fn drm_sched_wakeup(sched: &DrmGpuScheduler) {
    drm_sched_run_job_queue(sched);
}

fn drm_sched_run_job_queue(sched: &DrmGpuScheduler) {
    if !sched.pause_submit.load(Ordering::Acquire) {
        sched.submit_wq.queue_work(&sched.work_run_job);
    }
}

fn __drm_sched_run_free_queue(sched: &DrmGpuScheduler) {
    if !sched.pause_submit.load(Ordering::Acquire) {
        sched.submit_wq.queue_work(&sched.work_free_job);
    }
}

fn drm_sched_run_free_queue(sched: &DrmGpuScheduler) {
    sched.job_list_lock.lock();
    if sched.pending.with(|pending| pending.first().is_some_and(|job| job.is_finished())) {
        __drm_sched_run_free_queue(sched);
    }
    sched.job_list_lock.unlock();
}

/// `drm_sched_rq_select_entity_fifo`: who has waited longest and can go on, if the hardware has room.
fn drm_sched_select_entity(sched: &DrmGpuScheduler) -> Option<Arc<DrmSchedEntity>> {
    sched.rq_lock.lock();
    let room = sched.credits.load(Ordering::Acquire) < sched.credit_limit;
    let entity = sched.rq.with(|rq| {
        let ready = rq.waiting.iter().map(|(_, entity)| entity).find(|entity| entity.is_ready());
        ready.filter(|_| room).cloned()
    });
    if let Some(entity) = &entity {
        entity.idle.reinit();
    }
    sched.rq_lock.unlock();
    entity
}

fn drm_sched_run_job_work(sched: &Arc<DrmGpuScheduler>) {
    if sched.pause_submit.load(Ordering::Acquire) {
        return;
    }
    let Some(entity) = drm_sched_select_entity(sched) else { return };
    let Some(job) = drm_sched_entity_pop_job(&entity) else {
        entity.idle.complete_all();
        drm_sched_run_job_queue(sched);
        return;
    };
    sched.credits.fetch_add(1, Ordering::AcqRel);
    drm_sched_job_begin(sched, &job);
    let fence = sched.ops.run_job(&job);
    entity.idle.complete_all();
    if let Some(s_fence) = job.s_fence() {
        drm_sched_fence_scheduled(s_fence, fence.as_ref().ok().and_then(Option::as_ref));
    }
    match fence {
        Ok(Some(fence)) => wait_for_hardware(&job, &fence),
        Ok(None) => drm_sched_job_done(&job, Ok(())),
        Err(error) => drm_sched_job_done(&job, Err(error)),
    }
    sched.job_scheduled.wake_up();
    drm_sched_run_job_queue(sched);
}

/// Adds the callback that ends the job.
#[track_caller]
fn wait_for_hardware(job: &Arc<DrmSchedJob>, fence: &Arc<DmaFence>) {
    let (done, hardware) = (job.clone(), Arc::downgrade(fence));
    let callback = Box::new(move || {
        let error = hardware.upgrade().and_then(|fence| fence.error());
        drm_sched_job_done_cb(&done, error);
    });
    match dma_fence_add_callback(fence, callback) {
        Ok(id) => job.callback.set(Some(id)),
        Err(_) => drm_sched_job_done(job, fence.error().map_or(Ok(()), Err)),
    }
}

fn drm_sched_job_begin(sched: &DrmGpuScheduler, job: &Arc<DrmSchedJob>) {
    sched.job_list_lock.lock();
    sched.pending.with(|pending| pending.push(job.clone()));
    sched.start_timeout();
    sched.job_list_lock.unlock();
}

/// Runs in the signalling of the hardware's fence, under its lock.
fn drm_sched_job_done_cb(job: &Arc<DrmSchedJob>, error: Option<Errno>) {
    drm_sched_job_done(job, error.map_or(Ok(()), Err));
}

fn drm_sched_job_done(job: &Arc<DrmSchedJob>, result: Result) {
    let sched = &job.entity.sched;
    sched.credits.fetch_sub(1, Ordering::AcqRel);
    if let Some(fence) = job.s_fence() {
        drm_sched_fence_finished(fence, result);
    }
    __drm_sched_run_free_queue(sched);
}

/// The first job, if it is done. The timeout is the next one's then.
fn drm_sched_get_finished_job(sched: &DrmGpuScheduler) -> Option<Arc<DrmSchedJob>> {
    sched.job_list_lock.lock();
    let job = sched.pending.with(|pending| {
        let done = pending.first().is_some_and(|job| job.is_finished());
        done.then(|| pending.remove(0))
    });
    if job.is_some() {
        sched.work_tdr.cancel(&sched.timeout_wq);
        sched.start_timeout();
    }
    sched.job_list_lock.unlock();
    job
}

fn drm_sched_free_job_work(sched: &Arc<DrmGpuScheduler>) {
    if sched.pause_submit.load(Ordering::Acquire) {
        return;
    }
    if let Some(job) = drm_sched_get_finished_job(sched) {
        sched.ops.free_job(&job);
        drm_sched_run_free_queue(sched);
        drm_sched_run_job_queue(sched);
    }
}

crate::kernel::opaque_debug!(DrmSchedJob, DrmGpuScheduler);
