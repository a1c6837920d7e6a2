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
//! Lock order (regimes B and C; A has `pages_lock` for the reservation lock, inside the others):
//!
//! ```text
//! acquire context → reservation lock → sched_lock → entity lock → run queue lock
//! reservation lock → shrinker_lock → mappings.lock
//! reservation lock → as_lock → mm_lock
//! perfcnt lock → { mmap_lock, reservation lock, mappings.lock }
//! reclaim: trylocks only, of shrinker_lock, mappings.lock, the reservation lock
//! ```

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
