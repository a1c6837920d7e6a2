// SPDX-License-Identifier: GPL-2.0-only
//! The graphics drivers' common parts and the drivers on them.
//!
//! Kernel counterpart: `drivers/gpu/drm/`.

pub mod client;
pub mod device;
pub mod exec;
pub mod file;
pub mod gem;
pub mod gem_handle;
pub mod gem_reservations;
pub mod gem_shmem_helper;
pub mod gem_shmem_memory;
pub mod i915;
pub mod lima;
pub mod omapdrm;
pub mod panfrost;
pub mod prime;
pub mod sched;
pub mod syncobj;
pub mod tegra;
pub mod vgem;
pub mod vkms;
pub mod vma_manager;
