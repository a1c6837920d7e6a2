// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `panfrost`: the driver of Mali Midgard and Bifrost GPUs, on a simulated GPU.
//!
//! | module | kernel counterpart |
//! |---|---|
//! | [`device`] | `panfrost_device.c` |
//! | [`drv`] | `panfrost_drv.c`: the ioctls |
//! | [`gem`] | `panfrost_gem.c`: buffer objects and their place in each file's GPU address space |
//! | [`gem_shrinker`] | `panfrost_gem_shrinker.c`: objects that nobody needs are purged |
//! | [`mmu`] | `panfrost_mmu.c`: GPU address spaces, GPU page faults |
//! | [`submit`] | `panfrost_drv.c`: the ioctls about jobs |
//! | [`job`], [`reset`] | `panfrost_job.c`: jobs, and what happens when one takes too long |
//! | [`perfcnt`] | `panfrost_perfcnt.c`: performance counters |
//! | [`hw`] | the GPU itself |
//!
//! # Locking
//!
//! | lock | kind | protects |
//! |---|---|---|
//! | `&pfdev->sched_lock` | mutex | jobs are armed and pushed in one order |
//! | `&pfdev->shrinker_lock` | mutex | the objects that can be purged |
//! | `&obj->mappings.lock` | mutex | an object's addresses, one for each file |
//! | `&pfdev->as_lock` | spinlock | which address space has which slot of the GPU |
//! | `&mmu->mm_lock` | spinlock | the addresses of one address space |
//! | `&js->job_lock` | spinlock | what the GPU is doing; also the lock of its fences |
//! | `&perfcnt->lock` | mutex | the performance counters |
//! | `&obj->heap_lock` | mutex | a heap's pages, in a kernel without [`Bug::FaultLocksResv`](crate::bug::Bug); 6.12 has no such lock |
//!
//! Its queues: `(wq_completion)pan_js` for each slot, `(wq_completion)panfrost-reset` with
//! `(work_completion)(&pfdev->reset.work)`.
//!
//! * `reservation_ww_class_mutex` → `&pfdev->sched_lock` → `&entity->lock`, `fs_reclaim`: a job is submitted
//! * `reservation_ww_class_mutex` → `&pfdev->shrinker_lock` (B0, B, C): a program says that it needs an object's content
//!   no more
//! * `&pfdev->shrinker_lock` → `&obj->mappings.lock`: the same; the shrinker tries both
//! * `&obj->mappings.lock` → `&shmem->pages_lock` (A): the same
//! * `&obj->mappings.lock` → `&mgr->vm_lock`, `&mapping->i_mmap_rwsem`, `&pfdev->as_lock`: an object is purged
//! * `&shmem->pages_lock` → `&pfdev->as_lock`, `&mmu->mm_lock` (A): the same
//! * `&pfdev->as_lock` → `&mmu->mm_lock`: the GPU has faulted, and the object at the address is looked for
//! * `reservation_ww_class_mutex` → `&pfdev->as_lock` (B0, B, C): a heap grows
//! * `fs_reclaim` → `&pfdev->as_lock`, `&mmu->mm_lock`: memory is short. Of the three mutexes above reclaim takes none: it
//!   tries them
//! * `&prime_fpriv->lock` → `&mmu->mm_lock`, `&obj->mappings.lock`: an import gets its address
//! * `&perfcnt->lock` → `&pfdev->shrinker_lock`, `&obj->mappings.lock`: the object of the samples is made, and freed
//! * `&perfcnt->lock` → `reservation_ww_class_mutex` (P1, P2): and mapped for the kernel
//! * `&perfcnt->lock` → `reservation_ww_class_mutex` (P0 × B0, B, C): its pages are had
//! * `&perfcnt->lock` → `&shmem->vmap_lock` (P0 × A): and mapped
//! * `&perfcnt->lock` → `&x->wait`, `&mm->mmap_lock`: the GPU is waited for; the program gets its copy
//! * `&js->job_lock` → `&fence->lock`: the thread of an interrupt signals a job's fence
//! * `(wq_completion)pan_js` → `(work_completion)(&sched->work_run_job)`, `(work_completion)(&sched->work_free_job)`: the
//!   scheduler
//! * `(work_completion)(&sched->work_run_job)` → `&pfdev->as_lock`, `&js->job_lock`: a job gets its address space and starts
//! * `(work_completion)(&job->work)`, `(work_completion)(&sched->work_free_job)` → `&pfdev->shrinker_lock`: an object is
//!   freed
//! * `(wq_completion)panfrost-reset` → `(work_completion)(&(&sched->work_tdr)->work)` → `dma_fence_map`: the reset says
//!   that fences depend on it
//! * `dma_fence_map` → `&sched->job_list_lock`, `&rq->lock`, `&pfdev->as_lock`, `&js->job_lock`: what it takes

pub mod device;
pub mod drv;
pub mod gem;
pub mod gem_shrinker;
pub mod hw;
pub mod job;
pub mod mmu;
pub mod perfcnt;
pub mod reset;
pub mod submit;

pub use drv::PanfrostDriver;
