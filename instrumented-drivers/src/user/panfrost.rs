// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The ioctls of a GPU.

use std::sync::Arc;

use super::{Kernel, Process};
use crate::drm::file::Handle;
use crate::drm::gem_shmem_helper::drm_gem_shmem_dumb_create;
use crate::drm::panfrost::device::PanfrostDevice;
use crate::drm::panfrost::drv::{
    PanfrostMadv, PanfrostParam, panfrost_ioctl_create_bo, panfrost_ioctl_get_bo_offset,
    panfrost_ioctl_get_param, panfrost_ioctl_madvise, panfrost_ioctl_mmap_bo,
};
use crate::drm::panfrost::gem::PANFROST_BO_NOEXEC;
use crate::kernel::errno::Result;
use crate::kernel::file::Fd;

impl Kernel {
    /// The GPU's driver.
    #[must_use]
    pub fn panfrost(&self) -> Arc<PanfrostDevice> {
        PanfrostDevice::of(&self.panfrost)
    }

    /// Waits until no thread of the kernel and no simulated device has anything left to do, other than to wait for
    /// something that the caller has to bring about.
    ///
    /// # Panics
    /// With the panic of such a thread, if one panicked.
    pub fn settle(&self) {
        self.core.background.settle();
    }
}

impl Process {
    /// A buffer of this size, by the ioctl that the driver has for it: a dumb buffer, or `PANFROST_CREATE_BO`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -EINVAL for size 0, -ENOMEM.
    pub fn driver_create_buffer(&self, fd: Fd, size: u32) -> Result<Handle> {
        self.with_drm(fd, |file| {
            if file.dev.driver.has_dumb_buffers() {
                drm_gem_shmem_dumb_create(file, size, 1, 8)
            } else {
                panfrost_ioctl_create_bo(file, size as usize, PANFROST_BO_NOEXEC).map(|(handle, _)| handle)
            }
        })
    }

    /// `DRM_IOCTL_PANFROST_GET_PARAM`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -EINVAL.
    pub fn panfrost_get_param(&self, fd: Fd, param: PanfrostParam) -> Result<u64> {
        self.with_drm(fd, |file| panfrost_ioctl_get_param(file, param))
    }

    /// `DRM_IOCTL_PANFROST_CREATE_BO`: a handle, and the address for the GPU. `flags` is made of
    /// [`PANFROST_BO_NOEXEC`](crate::drm::panfrost::gem::PANFROST_BO_NOEXEC) and
    /// [`PANFROST_BO_HEAP`](crate::drm::panfrost::gem::PANFROST_BO_HEAP).
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV, -EINVAL, -ENOSPC, -ENOMEM.
    pub fn panfrost_create_bo(&self, fd: Fd, size: usize, flags: u32) -> Result<(Handle, u64)> {
        self.with_drm(fd, |file| panfrost_ioctl_create_bo(file, size, flags))
    }

    /// `DRM_IOCTL_PANFROST_MMAP_BO`: the offset for [`mmap`](Self::mmap).
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV, -ENOENT, -EINVAL for a heap.
    pub fn panfrost_mmap_bo(&self, fd: Fd, handle: Handle) -> Result<u64> {
        self.with_drm(fd, |file| panfrost_ioctl_mmap_bo(file, handle))
    }

    /// `DRM_IOCTL_PANFROST_GET_BO_OFFSET`: the address for the GPU.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV, -ENOENT, -EINVAL.
    pub fn panfrost_get_bo_offset(&self, fd: Fd, handle: Handle) -> Result<u64> {
        self.with_drm(fd, |file| panfrost_ioctl_get_bo_offset(file, handle))
    }

    /// `DRM_IOCTL_PANFROST_MADVISE`: true unless the content was thrown away before.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV, -ENOENT, -EINVAL if the object has other users, -EINTR (injected).
    pub fn panfrost_madvise(&self, fd: Fd, handle: Handle, madv: PanfrostMadv) -> Result<bool> {
        self.with_drm(fd, |file| panfrost_ioctl_madvise(file, handle, madv))
    }
}
