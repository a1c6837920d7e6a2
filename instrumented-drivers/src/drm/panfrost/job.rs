// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Jobs: from the ioctl to the GPU and back.
//!
//! A job holds its objects, and their mappings in the address space of its file. It is armed and pushed under
//! `sched_lock`, so that jobs get their numbers in the order in which they are queued, with the reservation locks of
//! all its objects held; its fence is put on each. The GPU has room for two jobs in each slot; what is in it is known
//! under `job_lock`, which is also the lock of the GPU's fences: they are signalled under it by the interrupt's thread.
//!
//! Kernel counterpart: `drivers/gpu/drm/panfrost/panfrost_job.c`. What happens when a job takes too long is in
//! [`super::reset`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lockdep::LockClass;

use super::device::PanfrostDevice;
use super::drv::PanfrostFilePriv;
use super::gem::{PanfrostGemMapping, panfrost_gem_mapping_put, to_panfrost_bo};
use super::hw::{Chain, Exception, JOB_SLOTS, JS_ALL, Stop, js_done, js_err, js_mask};
use super::mmu::{PanfrostMmu, panfrost_mmu_as_get, panfrost_mmu_as_put};
use super::reset::panfrost_job_timedout;
use crate::dma_buf::fence::{
    DmaFence, dma_fence_context_alloc, dma_fence_set_error, dma_fence_signal_locked,
};
use crate::dma_buf::resv::{DmaResvUsage, dma_resv_add_fence, dma_resv_reserve_fences};
use crate::drm::gem::{DrmGemObject, drm_gem_object_put};
use crate::drm::gem_reservations::{drm_gem_lock_reservations, drm_gem_unlock_reservations};
use crate::drm::sched::entity::{DrmSchedEntity, drm_sched_entity_destroy, drm_sched_entity_push_job};
use crate::drm::sched::{
    DrmGpuSchedStat, DrmGpuScheduler, DrmSchedBackendOps, DrmSchedJob,
    drm_sched_job_add_implicit_dependencies, drm_sched_job_arm, drm_sched_job_cleanup,
};
use crate::kernel::KernelCore;
use crate::kernel::cell::{KCell, KPtr, Kref};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::irq_thread::IrqReturn;
use crate::kernel::live::Live;
use crate::kernel::locking::{SpinLock, spin_class};
use crate::kernel::reclaim;
use crate::kernel::workqueue::{Workqueue, work_class};

static JOB_LOCK: LockClass = spin_class("&js->job_lock");
/// Each scheduler's own queue has a class of its own.
static SUBMIT_WQ: [LockClass; JOB_SLOTS] = [const { work_class("(wq_completion)pan_js") }; JOB_SLOTS];

/// `PANFROST_JD_REQ_FS`: a fragment job, for the first slot.
pub const PANFROST_JD_REQ_FS: u32 = 1;

/// How many jobs a slot of the GPU has room for: the current one and the next one.
const ENTRIES: usize = 2;

/// The queue of a slot.
struct QueueState {
    sched: Arc<DrmGpuScheduler>,
    fence_context: u64,
    emit_seqno: AtomicU64,
}

/// The jobs in the GPU: of each slot the current one and the next one.
type Jobs = [[Option<Arc<DrmSchedJob>>; ENTRIES]; JOB_SLOTS];

/// `struct panfrost_job_slot`, and `jobs` of the device.
pub(super) struct JobSlots {
    queues: [QueueState; JOB_SLOTS],
    pub(super) job_lock: Arc<SpinLock>,
    /// Under `job_lock`.
    pub(super) jobs: KCell<Jobs>,
}

impl JobSlots {
    /// `panfrost_job_init`.
    pub(super) fn init(core: &Arc<KernelCore>, reset_wq: &Arc<Workqueue>) -> Self {
        let queue = |slot: usize| QueueState {
            sched: DrmGpuScheduler::init(
                core,
                &PanfrostSchedOps,
                ENTRIES,
                reset_wq,
                "pan_js",
                &SUBMIT_WQ[slot],
            ),
            fence_context: dma_fence_context_alloc(),
            emit_seqno: AtomicU64::new(0),
        };
        JobSlots {
            queues: core::array::from_fn(queue),
            job_lock: Arc::new(SpinLock::new(&JOB_LOCK)),
            jobs: KCell::new("the jobs in the GPU", Jobs::default()),
        }
    }

    pub(super) fn sched(&self, slot: usize) -> &Arc<DrmGpuScheduler> {
        &self.queues[slot].sched
    }
}

/// `struct panfrost_job`: what a scheduler's job is to this driver.
pub(super) struct PanfrostJob {
    refcount: Kref,
    pub(super) pfdev: Arc<PanfrostDevice>,
    mmu: Arc<PanfrostMmu>,
    /// Where its chain begins (or goes on, after a stop); 0: there is nothing left to run.
    jc: AtomicU64,
    requirements: u32,
    bos: KCell<Vec<Arc<DrmGemObject>>>,
    mappings: KCell<Vec<Arc<PanfrostGemMapping>>>,
    /// The GPU's fence.
    pub(super) done_fence: KPtr<DmaFence>,
    /// The scheduler's fence, for the objects.
    render_done_fence: KPtr<DmaFence>,
    /// Tells the two jobs of a slot apart.
    chain_flag: AtomicBool,
    live: Live,
}

/// `to_panfrost_job`.
pub(super) fn to_panfrost_job(job: &DrmSchedJob) -> &PanfrostJob {
    match job.driver() {
        Some(job) => job,
        None => panic!("internal error: not a panfrost job"),
    }
}

impl PanfrostJob {
    /// A new job with one reference.
    pub(super) fn alloc(file: &PanfrostFilePriv, jc: u64, requirements: u32) -> Result<Box<Self>> {
        reclaim::kmalloc()?;
        Ok(Box::new(PanfrostJob {
            refcount: Kref::new(),
            pfdev: file.pfdev.clone(),
            mmu: file.mmu.clone(),
            jc: AtomicU64::new(jc),
            requirements,
            bos: KCell::new("a job's objects", Vec::new()),
            mappings: KCell::new("a job's mappings", Vec::new()),
            done_fence: KPtr::null(),
            render_done_fence: KPtr::null(),
            chain_flag: AtomicBool::new(false),
            live: file.pfdev.core.born("panfrost_job"),
        }))
    }

    /// It is given up before it became a scheduler's job.
    pub(super) fn free(&self) {
        self.live.freed();
    }

    pub(super) fn set_bos(&self, bos: Vec<Arc<DrmGemObject>>) {
        self.bos.set(bos);
    }

    /// One more of its objects is in use by the GPU.
    pub(super) fn add_mapping(&self, mapping: Arc<PanfrostGemMapping>) {
        to_panfrost_bo(&mapping.obj).gpu_usecount.fetch_add(1, Ordering::AcqRel);
        self.mappings.with(|mappings| mappings.push(mapping));
    }

    pub(super) fn bos(&self) -> Vec<Arc<DrmGemObject>> {
        self.bos.get()
    }

    pub(super) fn render_done_fence(&self) -> Option<Arc<DmaFence>> {
        self.render_done_fence.load()
    }
}

/// `panfrost_job_get_slot`.
pub(super) const fn panfrost_job_get_slot(requirements: u32) -> usize {
    if requirements & PANFROST_JD_REQ_FS != 0 { 0 } else { 1 }
}

fn slot_of(job: &PanfrostJob) -> usize {
    panfrost_job_get_slot(job.requirements)
}

fn panfrost_fence_create(pfdev: &PanfrostDevice, slot: usize) -> Result<Arc<DmaFence>> {
    // GFP_KERNEL, in a path that fences depend on: a known weakness of the driver, which nothing annotates.
    reclaim::kmalloc()?;
    let queue = &pfdev.js.queues[slot];
    let seqno = queue.emit_seqno.fetch_add(1, Ordering::Relaxed) + 1;
    Ok(DmaFence::new(&pfdev.core, pfdev.js.job_lock.clone(), queue.fence_context, seqno))
}

fn panfrost_dequeue_job(pfdev: &PanfrostDevice, slot: usize) -> Option<Arc<DrmSchedJob>> {
    let job = pfdev.js.jobs.with(|jobs| {
        let [current, next] = &mut jobs[slot];
        core::mem::replace(current, next.take())
    });
    pfdev.core.warn_on(job.is_none(), "the GPU has done a job that it did not have");
    job
}

fn panfrost_enqueue_job(pfdev: &PanfrostDevice, slot: usize, job: &Arc<DrmSchedJob>) {
    let full = pfdev.js.jobs.with(|jobs| match &mut jobs[slot] {
        [current @ None, _] => {
            *current = Some(job.clone());
            false
        }
        [_, next] => next.replace(job.clone()).is_some(),
    });
    pfdev.core.warn_on(full, "the GPU has no room for a job");
}

fn panfrost_job_hw_submit(sched_job: &Arc<DrmSchedJob>, slot: usize) {
    let job = to_panfrost_job(sched_job);
    let pfdev = &job.pfdev;
    if pfdev.core.warn_on(pfdev.hw.has_next(slot), "a slot of the GPU has a next job already") {
        return;
    }
    let space = panfrost_mmu_as_get(pfdev, &job.mmu);
    let chain =
        Chain { head: job.jc.load(Ordering::Relaxed), space, flag: job.chain_flag.load(Ordering::Relaxed) };
    pfdev.js.job_lock.lock();
    panfrost_enqueue_job(pfdev, slot, sched_job);
    // Not while a reset is under way; it will be handed over again.
    if pfdev.reset.pending.load(Ordering::Acquire) {
        pfdev.hw.set_next(slot, chain);
    } else {
        pfdev.hw.start_next(slot, Some(chain));
    }
    pfdev.js.job_lock.unlock();
}

fn panfrost_acquire_object_fences(bos: &[Arc<DrmGemObject>], job: &DrmSchedJob) -> Result {
    for bo in bos {
        dma_resv_reserve_fences(bo.resv(), 1)?;
        // Every job counts as writing all its objects.
        drm_sched_job_add_implicit_dependencies(job, bo.resv(), true)?;
    }
    Ok(())
}

fn panfrost_attach_object_fences(bos: &[Arc<DrmGemObject>], fence: &Arc<DmaFence>) {
    for bo in bos {
        dma_resv_add_fence(bo.resv(), fence, DmaResvUsage::Write);
    }
}

/// `panfrost_job_push`.
///
/// # Errors
/// -EALREADY if two of its objects share a lock, -EINTR, -ENOMEM (injected).
pub(super) fn panfrost_job_push(sched_job: &Arc<DrmSchedJob>) -> Result {
    let job = to_panfrost_job(sched_job);
    let bos = job.bos();
    let ctx = drm_gem_lock_reservations(&bos)?;
    job.pfdev.sched_lock.lock();
    drm_sched_job_arm(sched_job);
    job.render_done_fence.swap(sched_job.s_fence().map(|fence| fence.finished.clone()));
    let acquired = panfrost_acquire_object_fences(&bos, sched_job);
    if acquired.is_ok() {
        // The scheduler's reference.
        job.refcount.get();
        drm_sched_entity_push_job(sched_job);
    }
    job.pfdev.sched_lock.unlock();
    if let (Ok(()), Some(fence)) = (acquired, job.render_done_fence()) {
        panfrost_attach_object_fences(&bos, &fence);
    }
    drm_gem_unlock_reservations(&bos, ctx);
    acquired
}

fn panfrost_job_cleanup(job: &PanfrostJob) {
    job.done_fence.take();
    job.render_done_fence.take();
    for mapping in job.mappings.replace(Vec::new()) {
        to_panfrost_bo(&mapping.obj).gpu_usecount.fetch_sub(1, Ordering::AcqRel);
        panfrost_gem_mapping_put(mapping);
    }
    for bo in job.bos.replace(Vec::new()) {
        drm_gem_object_put(bo);
    }
    job.live.freed();
}

/// `panfrost_job_put`.
pub(super) fn panfrost_job_put(job: &PanfrostJob) {
    if job.refcount.put() {
        panfrost_job_cleanup(job);
    }
}

/// `panfrost_sched_ops`.
struct PanfrostSchedOps;

impl DrmSchedBackendOps for PanfrostSchedOps {
    fn run_job(&self, job: &Arc<DrmSchedJob>) -> Result<Option<Arc<DmaFence>>> {
        panfrost_job_run(job)
    }

    fn timedout_job(&self, job: &Arc<DrmSchedJob>) -> DrmGpuSchedStat {
        panfrost_job_timedout(job)
    }

    fn free_job(&self, job: &Arc<DrmSchedJob>) {
        panfrost_job_free(job);
    }
}

fn panfrost_job_free(job: &Arc<DrmSchedJob>) {
    drm_sched_job_cleanup(job);
    panfrost_job_put(to_panfrost_job(job));
}

fn panfrost_job_run(sched_job: &Arc<DrmSchedJob>) -> Result<Option<Arc<DmaFence>>> {
    let job = to_panfrost_job(sched_job);
    let cancelled = sched_job.s_fence().is_some_and(|fence| fence.finished.error().is_some());
    // No chain: it was done while the GPU was being reset.
    if cancelled || job.jc.load(Ordering::Relaxed) == 0 {
        return Ok(None);
    }
    let slot = slot_of(job);
    let fence = panfrost_fence_create(&job.pfdev, slot)?;
    job.done_fence.swap(Some(fence.clone()));
    job.chain_flag.store(fence.seqno & 1 != 0, Ordering::Relaxed);
    panfrost_job_hw_submit(sched_job, slot);
    Ok(Some(fence))
}

/// `panfrost_job_enable_interrupts`.
pub(super) fn panfrost_job_enable_interrupts(pfdev: &PanfrostDevice) {
    pfdev.hw.clear_job(JS_ALL);
    pfdev.hw.set_job_mask(JS_ALL);
}

fn signal_done(job: &PanfrostJob) {
    if let Some(fence) = job.done_fence.load() {
        let signalled = dma_fence_signal_locked(&fence);
        job.pfdev.core.warn_on(signalled.is_err(), "a job is done twice");
    }
}

fn set_error(job: &PanfrostJob, error: Errno) {
    if let Some(fence) = job.done_fence.load() {
        dma_fence_set_error(&fence, error);
    }
}

fn panfrost_job_handle_err(pfdev: &PanfrostDevice, job: &PanfrostJob, slot: usize) {
    let (status, tail) = pfdev.hw.js_status(slot);
    match status {
        // It can go on where it was stopped; its fence stays as it is.
        Exception::Stopped => job.jc.store(tail, Ordering::Relaxed),
        Exception::Terminated => {
            set_error(job, Errno::ECANCELED);
            job.jc.store(0, Ordering::Relaxed);
        }
        Exception::Done => {}
        Exception::DataInvalid | Exception::TranslationFault => {
            set_error(job, Errno::EINVAL);
            job.jc.store(0, Ordering::Relaxed);
        }
    }
    panfrost_mmu_as_put(pfdev, &job.mmu);
    if status != Exception::Stopped {
        signal_done(job);
    }
}

fn panfrost_job_handle_done(pfdev: &PanfrostDevice, job: &PanfrostJob) {
    // So that it is not handed over again, if the GPU is being reset.
    job.jc.store(0, Ordering::Relaxed);
    panfrost_mmu_as_put(pfdev, &job.mmu);
    signal_done(job);
}

/// What an interrupt says about one slot.
#[derive(Default)]
struct Events {
    any: bool,
    done: Vec<Arc<DrmSchedJob>>,
    failed: Option<Arc<DrmSchedJob>>,
}

/// `job_lock` is held.
fn panfrost_job_handle_irq(pfdev: &PanfrostDevice, status: u32) {
    let mut events: [Events; JOB_SLOTS] = Default::default();
    let js_state = collect_events(pfdev, status, &mut events);
    for (slot, event) in events.iter_mut().enumerate().filter(|(_, event)| event.any) {
        let left = pfdev.js.jobs.with(|jobs| jobs[slot][0].is_some());
        if let Some(failed) = &event.failed {
            panfrost_job_handle_err(pfdev, to_panfrost_job(failed), slot);
        } else if left && js_state & js_mask(slot) == 0 {
            // The second one was done before anybody had looked at the first.
            event.done.extend(panfrost_dequeue_job(pfdev, slot));
        }
        for job in &event.done {
            panfrost_job_handle_done(pfdev, to_panfrost_job(job));
        }
    }
    for (slot, _) in events.iter().enumerate().filter(|(_, event)| event.failed.is_some()) {
        requeue_second(pfdev, slot);
    }
}

/// Takes the jobs that are over out of the slots, until nothing new comes; the state of the slots at the end.
fn collect_events(pfdev: &PanfrostDevice, status: u32, events: &mut [Events; JOB_SLOTS]) -> u32 {
    let (mut status, mut js_state) = (status, 0);
    while status != 0 {
        let mut mask = 0;
        for (slot, event) in events.iter_mut().enumerate() {
            if status & js_mask(slot) != 0 {
                mask |= js_mask(slot);
                event.any = true;
            }
            if status & js_done(slot) != 0 {
                event.done.extend(panfrost_dequeue_job(pfdev, slot));
            }
            if status & js_err(slot) != 0 {
                // The next one must wait until this one has been looked after.
                pfdev.hw.cancel_next(slot);
                event.failed = panfrost_dequeue_job(pfdev, slot);
            }
        }
        js_state = js_state & !mask | pfdev.hw.clear_job(status) & mask;
        status = pfdev.hw.job_rawstat();
    }
    js_state
}

/// The job behind one that failed.
fn requeue_second(pfdev: &PanfrostDevice, slot: usize) {
    let Some(second) = pfdev.js.jobs.with(|jobs| jobs[slot][0].clone()) else { return };
    let job = to_panfrost_job(&second);
    if job.jc.load(Ordering::Relaxed) == 0 {
        // Its file was closed meanwhile.
        drop(panfrost_dequeue_job(pfdev, slot));
        set_error(job, Errno::ECANCELED);
        panfrost_job_handle_done(pfdev, job);
    } else if !pfdev.reset.pending.load(Ordering::Acquire) {
        pfdev.hw.start_next(slot, None);
    }
}

/// `panfrost_job_handle_irqs`.
pub(super) fn panfrost_job_handle_irqs(pfdev: &PanfrostDevice) {
    loop {
        let status = pfdev.hw.job_rawstat();
        if status == 0 {
            return;
        }
        pfdev.js.job_lock.lock();
        panfrost_job_handle_irq(pfdev, status);
        pfdev.js.job_lock.unlock();
    }
}

/// `panfrost_job_irq_handler`.
pub(super) fn panfrost_job_irq_handler(pfdev: &PanfrostDevice) -> IrqReturn {
    if pfdev.hw.job_stat() == 0 {
        return IrqReturn::None;
    }
    pfdev.hw.set_job_mask(0);
    IrqReturn::WakeThread
}

/// `panfrost_job_irq_handler_thread`.
pub(super) fn panfrost_job_irq_handler_thread(pfdev: &PanfrostDevice) {
    panfrost_job_handle_irqs(pfdev);
    pfdev.hw.set_job_mask(JS_ALL);
}

/// `panfrost_job_open`: an entity for each slot.
pub(super) fn panfrost_job_open(pfdev: &PanfrostDevice) -> [Arc<DrmSchedEntity>; JOB_SLOTS] {
    core::array::from_fn(|slot| DrmSchedEntity::init(pfdev.js.sched(slot)))
}

/// `panfrost_job_close`: the file is closed; what it has in the GPU is stopped.
pub(super) fn panfrost_job_close(file: &PanfrostFilePriv) {
    for entity in &file.entities {
        drm_sched_entity_destroy(entity);
    }
    let pfdev = &file.pfdev;
    pfdev.js.job_lock.lock();
    let jobs = pfdev.js.jobs.get();
    for (slot, jobs) in jobs.iter().enumerate() {
        for (entry, sched_job) in jobs.iter().enumerate().rev() {
            let ours = |job: &&Arc<DrmSchedJob>| Arc::ptr_eq(&job.entity, &file.entities[slot]);
            let Some(sched_job) = sched_job.as_ref().filter(ours) else { continue };
            let job = to_panfrost_job(sched_job);
            if entry == 1 {
                pfdev.hw.cancel_next(slot);
                // So that it is not started again if the one before it fails.
                job.jc.store(0, Ordering::Relaxed);
            }
            pfdev.hw.stop(slot, Stop::Hard(job.chain_flag.load(Ordering::Relaxed)));
        }
    }
    pfdev.js.job_lock.unlock();
}

impl PanfrostDevice {
    /// Time passes: the job in this slot takes too long, if there is one. True if there is. The reset that follows runs
    /// in the background.
    pub fn fire_timeout(&self, slot: usize) -> bool {
        self.js.sched(slot).fire_timeout()
    }

    /// Holds `&js->job_lock`, as a slow interrupt would, while `f` runs.
    pub fn hold_job_lock(&self, f: impl FnOnce()) {
        self.js.job_lock.lock();
        f();
        self.js.job_lock.unlock();
    }

    /// Whether the thread of the job interrupt has something to do, or is at it.
    #[must_use]
    pub fn job_interrupt_pending(&self) -> bool {
        self.hw.lines().is_some_and(|lines| lines.job.is_busy())
    }

    /// How many jobs the scheduler of this slot has handed over and not freed. (0 also while a timeout is handled: the
    /// late job is taken from the list.)
    #[must_use]
    pub fn jobs_pending(&self, slot: usize) -> usize {
        self.js.sched(slot).jobs_pending()
    }

    /// `panfrost_job_is_idle`: the GPU has no job.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        (0..JOB_SLOTS).all(|slot| self.js.sched(slot).jobs_in_hardware() == 0)
    }
}

crate::kernel::opaque_debug!(JobSlots, PanfrostJob);
