// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The ioctls that single DRM drivers have besides the common ones.

use std::sync::Arc;

use super::{Driver, Kernel, Process};
use crate::drm::file::Handle;
use crate::drm::i915::{self, Engine, I915, I915ExecObject, MmapType};
use crate::drm::omapdrm::omap_gem_new_handle;
use crate::drm::tegra::{self, TegraMapping};
use crate::kernel::errno::Result;
use crate::kernel::file::Fd;

impl Process {
    /// `DRM_IOCTL_OMAP_GEM_NEW`; `flags` is made of [`OMAP_BO_WC`](crate::drm::omapdrm::OMAP_BO_WC) and
    /// [`OMAP_BO_TILED`](crate::drm::omapdrm::OMAP_BO_TILED).
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV, -EINVAL, -ENOMEM (injected).
    pub fn omap_gem_new(&self, fd: Fd, size: usize, flags: u32) -> Result<Handle> {
        self.with_drm(fd, |file| omap_gem_new_handle(file, size, flags))
    }

    /// `DRM_IOCTL_TEGRA_CHANNEL_MAP`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV, -ENOENT, -ENOMEM (injected).
    pub fn tegra_channel_map(&self, fd: Fd, handle: Handle) -> Result<TegraMapping> {
        self.with_drm(fd, |file| tegra::tegra_channel_map(file, handle))
    }

    /// `DRM_IOCTL_TEGRA_CHANNEL_UNMAP`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV, -EINVAL.
    pub fn tegra_channel_unmap(&self, fd: Fd, mapping: TegraMapping) -> Result {
        self.with_drm(fd, |file| tegra::tegra_channel_unmap(file, mapping))
    }

    /// `DRM_IOCTL_TEGRA_CHANNEL_SUBMIT`: fills a mapping with the first byte of an object.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV, -ENOENT, -EINVAL, -ENOMEM (injected).
    pub fn tegra_submit(&self, fd: Fd, commands: Handle, target: TegraMapping) -> Result {
        self.with_drm(fd, |file| tegra::tegra_submit(file, commands, target))
    }

    /// `DRM_IOCTL_MODE_PAGE_FLIP` to an object, or to nothing.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV, -ENOENT, -ENOMEM (injected).
    pub fn tegra_flip(&self, fd: Fd, handle: Option<Handle>) -> Result {
        self.with_drm(fd, |file| match handle {
            Some(handle) => tegra::tegra_plane_prepare_fb(file, handle),
            None => tegra::tegra_plane_cleanup_fb(file),
        })
    }

    /// What the display shows for a byte of the frame.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV.
    pub fn tegra_scanout(&self, fd: Fd, offset: usize) -> Result<Option<u8>> {
        self.with_drm(fd, |file| tegra::tegra_scanout(file, offset))
    }

    /// `DRM_IOCTL_I915_GEM_MMAP_OFFSET`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV, -ENOENT, -EINVAL, -ENOMEM (injected).
    pub fn i915_gem_mmap_offset(&self, fd: Fd, handle: Handle, kind: MmapType) -> Result<u64> {
        self.with_drm(fd, |file| i915::i915_gem_mmap_offset(file, handle, kind))
    }

    /// `DRM_IOCTL_I915_GEM_EXECBUFFER2`: the GPU writes `value`, or what it reads, to what is written.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV, -ENOENT, -EINTR, -ENOMEM (injected).
    pub fn i915_execbuffer(&self, fd: Fd, objects: &[I915ExecObject], value: Option<u8>) -> Result {
        self.with_drm(fd, |file| i915::i915_gem_execbuffer(file, objects, value))
    }
}

impl Kernel {
    /// The processor of an i915 device; `None` for another driver.
    #[must_use]
    pub fn i915_engine(&self, driver: Driver) -> Option<Arc<Engine>> {
        let i915 = self.drm_device(driver)?.private::<I915>()?;
        Some(i915.engine().clone())
    }
}
