// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `lima`: ARM's older GPUs. Two processors (geometry and pixels), each with a scheduler; objects of the shmem helper with
//! addresses in one address space for each open file; heaps that grow when the geometry processor runs out of memory.
//!
//! # Locking
//!
//! | lock | kind | protects |
//! |---|---|---|
//! | `&bo->lock` | mutex | an object's addresses, one for each file |
//! | `&vm->lock` | mutex | an address space: allocator and page table |
//! | `&mgr->lock` | mutex | the contexts of a file |
//! | `&pipe->fence_lock` | spinlock, irq-safe | the fences of a processor |
//! | `&dev->error_task_list_lock` | mutex | what is kept of jobs that failed |
//!
//! | function | holds | takes |
//! |---|---|---|
//! | `lima_gem_create_handle` | nothing | the lock of the pages (A: `pages_lock`, else the reservation lock) |
//! | `open`, `close` of a handle | perhaps `prime_fpriv->lock` | `bo->lock`, `vm->lock` inside, memory under both |
//! | `lima_heap_alloc` | nothing | the lock of the pages, memory under it; then `bo->lock` and `vm->lock` |
//! | `lima_gem_submit` | nothing | `mgr->lock`; `bo->lock`; then a context and all reservation locks, with the scheduler's inside |
//! | `lima_gem_wait` | nothing | nothing |
//! | `lima_sched_run_job` | the scheduler's work item | memory; `bo->lock`, to find the heap |
//! | interrupt | | `pipe->fence_lock` |
//! | recovery | a work item, while the job waits for it | as `lima_heap_alloc` |
//! | timeout | a work item | `error_task_list_lock`; inside: memory, `bo->lock`, the reservation lock (to map objects) |
//! | `lima_sched_free_job` | the scheduler's work item | `bo->lock`, `vm->lock`; the last reference frees the object |
//! | `lima_ctx_free` | nothing | `mgr->lock`; under it the end of the context, which waits for its jobs |
//!
//! Its queues are `(wq_completion)gp` and `(wq_completion)pp`; `(work_completion)(&pipe->recover_work)` lets a heap grow.
//!
//! * `&bo->lock` → `&vm->lock` → `fs_reclaim`: an object gets an address; allocator and page table need memory
//! * `&mgr->lock` → `&entity->lock`, `&x->wait`: a context ends, and its jobs are waited for
//! * `&pipe->fence_lock` → `&fence->lock`: an interrupt signals a job's fence
//! * `(wq_completion)gp`, `(wq_completion)pp` → `(work_completion)(&sched->work_run_job)`,
//!   `(work_completion)(&sched->work_free_job)`: the scheduler
//! * `(work_completion)(&sched->work_run_job)` → `&bo->lock`, `&pipe->fence_lock`: the heap's address; a fence that is
//!   signalled already
//! * `(work_completion)(&sched->work_free_job)` → `&bo->lock`: a job's addresses are given up
//! * `(wq_completion)events` → `(work_completion)(&pipe->recover_work)` → `&bo->lock`: a heap grows
//! * `(work_completion)(&pipe->recover_work)` → `reservation_ww_class_mutex` (B0, B, C): and gets its pages
//! * `(work_completion)(&pipe->recover_work)` → `&shmem->pages_lock` (A): the same
//! * `(wq_completion)events` → `(work_completion)(&(&sched->work_tdr)->work)` → `&pipe->fence_lock`: a job took too long
//! * `(work_completion)(&(&sched->work_tdr)->work)` → `&dev->error_task_list_lock` → `&bo->lock`: it is kept, with
//!   addresses
//! * `&dev->error_task_list_lock` → `reservation_ww_class_mutex` (P1, P2): and content, for which objects are mapped
//! * `&dev->error_task_list_lock` → `&shmem->vmap_lock` (P0 × A): the same
//!
//! A heap grows in a work item that its job waits for, so that a fence depends on it: it allocates, and takes the reservation
//! lock. The same is true of the memory that `run_job` asks for. Nothing in the kernel tells the validator.
//!
//! Kernel counterpart: `drivers/gpu/drm/lima/`. Not modelled: the second-level cache, power management, the list of tiles.

mod ctx;
mod gem;
mod hw;
mod sched;
mod submit;
mod vm;

pub use self::ctx::{LimaCtxId, lima_ctx_create, lima_ctx_free};
pub use self::gem::{LIMA_BO_FLAG_HEAP, heap_size, lima_gem_create_handle, lima_gem_get_info};
pub use self::hw::{LimaFrame, Pipe};
pub use self::sched::LimaErrorTask;
pub use self::submit::{LimaSubmit, LimaSubmitBo, lima_gem_submit, lima_gem_wait};

use core::any::Any;
use std::sync::{Arc, Weak};

use lockdep::LockClass;

use self::ctx::{LimaCtxMgr, lima_ctx_mgr_fini};
use self::gem::{LimaBo, LimaGemFuncs};
use self::sched::LimaSchedPipe;
use self::vm::{LimaVm, lima_vm_create, lima_vm_put};
use super::device::{DriverFile, DrmDevice, DrmDriver};
use super::file::DrmFile;
use super::gem::{DrmGemObject, DrmGemObjectFuncs, GemPayload};
use super::gem_shmem_helper::{drm_gem_shmem_create, drm_gem_shmem_prime_import_sg_table};
use crate::dma_buf::{DmaBufAttachment, SgTable};
use crate::kernel::KernelCore;
use crate::kernel::cell::KCell;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::fault::FailsNextTime;
use crate::kernel::locking::{Mutex, sleep_class};
use crate::kernel::reclaim;

static ERROR_TASK_LIST_LOCK: LockClass = sleep_class("&dev->error_task_list_lock");

/// `struct lima_device`.
pub struct LimaDevice {
    core: Arc<KernelCore>,
    pipes: [LimaSchedPipe; Pipe::ALL.len()],
    error_task_list_lock: Mutex,
    /// Under `error_task_list_lock`.
    error_task_list: KCell<Vec<LimaErrorTask>>,
    next_growth: FailsNextTime,
}

impl LimaDevice {
    fn init(core: &Arc<KernelCore>) -> Arc<Self> {
        Arc::new_cyclic(|myself: &Weak<LimaDevice>| LimaDevice {
            core: core.clone(),
            pipes: Pipe::ALL.map(|pipe| LimaSchedPipe::init(core, myself, pipe)),
            error_task_list_lock: Mutex::new(&ERROR_TASK_LIST_LOCK),
            error_task_list: KCell::new("the failed jobs of a GPU", Vec::new()),
            next_growth: FailsNextTime::default(),
        })
    }

    fn pipe(&self, pipe: Pipe) -> &LimaSchedPipe {
        &self.pipes[pipe as usize]
    }

    /// Time passes: the job that this processor has is late, if it has one. True if there is one.
    pub fn fire_timeout(&self, pipe: Pipe) -> bool {
        self.pipe(pipe).base.fire_timeout()
    }

    /// When a heap grows the next time, the n-th allocation fails, from 1.
    pub fn fail_next_growth(&self, allocation: u32) {
        self.next_growth.at(allocation);
    }

    /// `lima_read_error_tasks`: what is kept of jobs that failed.
    #[must_use]
    pub fn error_tasks(&self) -> Vec<LimaErrorTask> {
        self.error_task_list_lock.lock();
        let tasks = self.error_task_list.get();
        self.error_task_list_lock.unlock();
        tasks
    }
}

/// `struct lima_drm_priv`: what the driver has for an open file.
struct LimaDrmPriv {
    dev: Arc<LimaDevice>,
    vm: Arc<LimaVm>,
    ctx_mgr: LimaCtxMgr,
}

impl LimaDrmPriv {
    fn of(file: &DrmFile) -> Result<&Self> {
        file.driver().ok_or(Errno::ENODEV)
    }
}

/// `lima_drm_driver`.
#[derive(Debug)]
pub struct LimaDriver;

impl DrmDriver for LimaDriver {
    fn name(&self) -> &'static str {
        "lima"
    }

    fn load(&self, core: &Arc<KernelCore>) -> Arc<dyn Any + Send + Sync> {
        LimaDevice::init(core)
    }

    /// `lima_drm_driver_open`.
    fn open(&self, dev: &DrmDevice) -> Result<DriverFile> {
        let dev = dev.private::<LimaDevice>().ok_or(Errno::ENODEV)?;
        reclaim::kmalloc()?;
        let vm = lima_vm_create(&dev.core)?;
        Ok(Box::new(LimaDrmPriv { dev, vm, ctx_mgr: LimaCtxMgr::init() }))
    }

    /// `lima_drm_driver_postclose`.
    fn postclose(&self, file: &DriverFile) {
        if let Some(file) = file.downcast_ref::<LimaDrmPriv>() {
            lima_ctx_mgr_fini(&file.ctx_mgr);
            lima_vm_put(&file.vm);
        }
    }

    fn unload(&self, dev: &DrmDevice) {
        if let Some(dev) = dev.private::<LimaDevice>() {
            dev.pipes.iter().for_each(sched::lima_sched_pipe_fini);
        }
    }

    fn has_dumb_buffers(&self) -> bool {
        false
    }

    fn gem_create_object(&self) -> Option<(Box<dyn GemPayload>, &'static dyn DrmGemObjectFuncs)> {
        Some((Box::new(LimaBo::default()), &LimaGemFuncs))
    }

    fn gem_create(&self, dev: &Arc<DrmDevice>, size: usize) -> Result<Arc<DrmGemObject>> {
        drm_gem_shmem_create(dev, size)
    }

    fn gem_prime_import_sg_table(
        &self,
        dev: &Arc<DrmDevice>,
        attach: &Arc<DmaBufAttachment>,
        table: &Arc<SgTable>,
    ) -> Result<Arc<DrmGemObject>> {
        drm_gem_shmem_prime_import_sg_table(dev, attach, table)
    }
}

crate::kernel::opaque_debug!(LimaDevice);
