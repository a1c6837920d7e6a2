// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Entities: the queues that programs push their jobs into, one for each file and scheduler.
//!
//! The first job of a queue waits for its dependencies, the others behind it for theirs. A fence of the same entity
//! is no dependency (the queue is in order); of a job of the same scheduler only its hand-over is.
//!
//! Destroying an entity waits until its queue is empty; if that takes too long, the jobs that are left are killed:
//! their fences get an error, by a work item each.
//!
//! Kernel counterpart: `drivers/gpu/drm/scheduler/sched_entity.c`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use lockdep::LockClass;
use parking_lot::Mutex;

use super::fence::{drm_sched_fence_finished, drm_sched_fence_scheduled, to_drm_sched_fence};
use super::{DrmGpuScheduler, DrmSchedJob, drm_sched_wakeup};
use crate::dma_buf::fence::{
    DmaFence, FenceCallbackId, dma_fence_add_callback, dma_fence_context_alloc, dma_fence_remove_callback,
};
use crate::kernel::cell::KPtr;
use crate::kernel::errno::Errno;
use crate::kernel::locking::{SpinLock, spin_class};
use crate::kernel::wait::Completion;
use crate::kernel::workqueue::{Work, work_class};

static ENTITY_LOCK: LockClass = spin_class("&entity->lock");
static KILL_WORK: LockClass = work_class("(work_completion)(&job->work)");

/// `struct drm_sched_entity`.
pub struct DrmSchedEntity {
    pub(super) sched: Arc<DrmGpuScheduler>,
    pub(super) lock: SpinLock,
    /// A queue with one producer and one consumer, which needs no lock.
    queue: Mutex<VecDeque<Arc<DrmSchedJob>>>,
    pub(super) fence_contexts: [u64; 2],
    fence_seq: AtomicU64,
    /// What the first job waits for, and the callback that ends it.
    dependency: Mutex<Option<(Arc<DmaFence>, Option<FenceCallbackId>)>>,
    last_scheduled: KPtr<DmaFence>,
    stopped: AtomicBool,
    /// Not while the scheduler has one of its jobs in hand.
    pub(super) idle: Completion,
}

impl DrmSchedEntity {
    /// `drm_sched_entity_init`.
    #[must_use]
    pub fn init(sched: &Arc<DrmGpuScheduler>) -> Arc<Self> {
        let entity = Arc::new(DrmSchedEntity {
            sched: sched.clone(),
            lock: SpinLock::new(&ENTITY_LOCK),
            queue: Mutex::default(),
            fence_contexts: [dma_fence_context_alloc(), dma_fence_context_alloc()],
            fence_seq: AtomicU64::new(0),
            dependency: Mutex::default(),
            last_scheduled: KPtr::null(),
            stopped: AtomicBool::new(false),
            idle: Completion::new(&sched.core.background),
        });
        entity.idle.complete_all();
        entity
    }

    pub(super) fn next_seqno(&self) -> u64 {
        self.fence_seq.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// `drm_sched_entity_is_idle`.
    fn is_idle(&self) -> bool {
        self.queue.lock().is_empty() || self.stopped.load(Ordering::Acquire)
    }

    /// `drm_sched_entity_is_ready`.
    pub(super) fn is_ready(&self) -> bool {
        !self.queue.lock().is_empty() && self.dependency.lock().is_none()
    }

    fn is_own(&self, fence: &DmaFence) -> bool {
        self.fence_contexts.contains(&fence.context)
    }
}

/// `drm_sched_entity_push_job`: after the job was armed, there is no way back.
pub fn drm_sched_entity_push_job(job: &Arc<DrmSchedJob>) {
    let entity = &job.entity;
    let mut queue = entity.queue.lock();
    let first = queue.is_empty();
    queue.push_back(job.clone());
    drop(queue);
    if !first {
        return;
    }
    entity.lock.lock();
    if entity.stopped.load(Ordering::Acquire) {
        entity.lock.unlock();
        entity.sched.core.warn_on(true, "a job is pushed into an entity that was killed");
        return;
    }
    entity.sched.rq_add_entity(entity);
    entity.lock.unlock();
    drm_sched_wakeup(&entity.sched);
}

/// `drm_sched_entity_pop_job`: the first job, if it waits for nothing any more.
pub(super) fn drm_sched_entity_pop_job(entity: &Arc<DrmSchedEntity>) -> Option<Arc<DrmSchedJob>> {
    let job = entity.queue.lock().front().cloned()?;
    while let Some(fence) = job.next_dependency() {
        if drm_sched_entity_add_dependency_cb(entity, fence) {
            return None;
        }
    }
    entity.last_scheduled.swap(job.s_fence().map(|fence| fence.finished.clone()));
    let mut queue = entity.queue.lock();
    queue.pop_front();
    let more = !queue.is_empty();
    drop(queue);
    if more {
        entity.lock.lock();
        entity.sched.rq_update_fifo(entity);
        entity.lock.unlock();
    }
    Some(job)
}

/// True if the entity has to wait.
fn drm_sched_entity_add_dependency_cb(entity: &Arc<DrmSchedEntity>, fence: Arc<DmaFence>) -> bool {
    if entity.is_own(&fence) {
        return false;
    }
    let ours = to_drm_sched_fence(&fence).filter(|pair| pair.is_of(&entity.sched) && fence.error().is_none());
    // The hardware runs a scheduler's jobs in order: it is enough that the other one has been handed over.
    let fence = ours.map_or(fence, |pair| pair.scheduled.clone());
    *entity.dependency.lock() = Some((fence.clone(), None));
    let waiting: Weak<DrmSchedEntity> = Arc::downgrade(entity);
    let wakeup = move || {
        if let Some(entity) = waiting.upgrade() {
            drm_sched_entity_wakeup(&entity);
        }
    };
    match dma_fence_add_callback(&fence, Box::new(wakeup)) {
        Ok(id) => {
            if let Some((_, callback)) = &mut *entity.dependency.lock() {
                *callback = Some(id);
            }
            true
        }
        Err(_) => {
            entity.dependency.lock().take();
            false
        }
    }
}

/// The dependency is signalled.
fn drm_sched_entity_wakeup(entity: &DrmSchedEntity) {
    entity.dependency.lock().take();
    drm_sched_wakeup(&entity.sched);
}

/// `drm_sched_entity_flush`: waits until the scheduler has taken all jobs; not for ever.
fn drm_sched_entity_flush(entity: &DrmSchedEntity) {
    let sched = &entity.sched;
    sched.job_scheduled.wait_event_timeout(&sched.core.background, || entity.is_idle());
}

/// `drm_sched_entity_fini`: kills the jobs that are left.
fn drm_sched_entity_fini(entity: &DrmSchedEntity) {
    drm_sched_entity_kill(entity);
    // Not in the condition: the callback that is being removed wants the same lock.
    let dependency = entity.dependency.lock().take();
    if let Some((fence, Some(callback))) = dependency {
        dma_fence_remove_callback(&fence, callback);
    }
    entity.last_scheduled.take();
}

/// `drm_sched_entity_destroy`.
pub fn drm_sched_entity_destroy(entity: &DrmSchedEntity) {
    drm_sched_entity_flush(entity);
    drm_sched_entity_fini(entity);
}

fn drm_sched_entity_kill(entity: &DrmSchedEntity) {
    entity.lock.lock();
    entity.stopped.store(true, Ordering::Release);
    entity.sched.rq_remove_entity(entity);
    entity.lock.unlock();
    // The scheduler may have one of its jobs in hand.
    entity.idle.wait();
    let mut previous = entity.last_scheduled.load();
    loop {
        let job = entity.queue.lock().pop_front();
        let Some(job) = job else { return };
        let finished = job.s_fence().map(|fence| fence.finished.clone());
        kill_after(previous.as_deref(), &job);
        previous = finished;
    }
}

/// Kills a job once the one before it is done.
fn kill_after(previous: Option<&DmaFence>, job: &Arc<DrmSchedJob>) {
    let after = job.clone();
    let callback = Box::new(move || drm_sched_entity_kill_jobs_cb(&after));
    let waits = previous.is_some_and(|fence| dma_fence_add_callback(fence, callback).is_ok());
    if !waits {
        drm_sched_entity_kill_jobs_cb(job);
    }
}

/// Runs in the signalling of another fence of the same class, so it leaves the rest to a work item.
fn drm_sched_entity_kill_jobs_cb(job: &Arc<DrmSchedJob>) {
    let doomed = job.clone();
    let work = Work::once(&KILL_WORK, move || drm_sched_entity_kill_jobs_work(&doomed));
    job.entity.sched.core.system_wq.queue_work(&work);
}

fn drm_sched_entity_kill_jobs_work(job: &Arc<DrmSchedJob>) {
    // What it depends on must be over, or somebody else would overtake that.
    while let Some(fence) = job.take_dependency() {
        let fence = match to_drm_sched_fence(&fence) {
            Some(pair) if Arc::ptr_eq(&pair.scheduled, &fence) => pair.finished.clone(),
            _ => fence,
        };
        let again = job.clone();
        let callback = Box::new(move || drm_sched_entity_kill_jobs_cb(&again));
        if dma_fence_add_callback(&fence, callback).is_ok() {
            return;
        }
    }
    if let Some(fence) = job.s_fence() {
        drm_sched_fence_scheduled(fence, None);
        drm_sched_fence_finished(fence, Err(Errno::ESRCH));
    }
    job.entity.sched.ops.free_job(job);
}

crate::kernel::opaque_debug!(DrmSchedEntity);
