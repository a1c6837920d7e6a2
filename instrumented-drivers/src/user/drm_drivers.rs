// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The ioctls that single DRM drivers have besides the common ones.

use std::sync::Arc;

use super::{Driver, Kernel, Process};
use crate::drm::file::Handle;
use crate::drm::gem_reservations::WaitTimeout;
use crate::drm::i915::{self, Engine, I915, I915Bytes, I915ExecObject, MmapType};
use crate::drm::lima::{self, LimaCtxId, LimaDevice, LimaSubmit};
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

    /// `DRM_IOCTL_I915_GEM_SET_DOMAIN`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV, -ENOENT, -EINTR, -ENOMEM (injected).
    pub fn i915_set_domain(&self, fd: Fd, handle: Handle, write: bool) -> Result {
        self.with_drm(fd, |file| i915::i915_gem_set_domain(file, handle, write))
    }

    /// `DRM_IOCTL_I915_GEM_PREAD`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, or as [`i915_gem_pread`](i915::i915_gem_pread).
    pub fn i915_pread(&self, fd: Fd, bytes: I915Bytes) -> Result {
        self.with_drm(fd, |file| i915::i915_gem_pread(file, self.mm(), bytes))
    }

    /// `DRM_IOCTL_I915_GEM_PWRITE`.
    ///
    /// # Errors
    /// As [`i915_pread`](Self::i915_pread).
    pub fn i915_pwrite(&self, fd: Fd, bytes: I915Bytes) -> Result {
        self.with_drm(fd, |file| i915::i915_gem_pwrite(file, self.mm(), bytes))
    }
}

/// Lima.
impl Process {
    /// `DRM_IOCTL_LIMA_GEM_CREATE`; `flags` is 0 or [`LIMA_BO_FLAG_HEAP`](crate::drm::lima::LIMA_BO_FLAG_HEAP).
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV, -EINVAL, -EINTR, -ENOMEM (injected).
    pub fn lima_gem_create(&self, fd: Fd, size: usize, flags: u32) -> Result<Handle> {
        self.with_drm(fd, |file| lima::lima_gem_create_handle(file, size, flags))
    }

    /// `DRM_IOCTL_LIMA_GEM_INFO`: the address for the GPU.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV, -ENOENT.
    pub fn lima_gem_info(&self, fd: Fd, handle: Handle) -> Result<u64> {
        self.with_drm(fd, |file| lima::lima_gem_get_info(file, handle))
    }

    /// `DRM_IOCTL_LIMA_CTX_CREATE`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV, -ENOMEM (injected).
    pub fn lima_ctx_create(&self, fd: Fd) -> Result<LimaCtxId> {
        self.with_drm(fd, lima::lima_ctx_create)
    }

    /// `DRM_IOCTL_LIMA_CTX_FREE`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV, -EINVAL.
    pub fn lima_ctx_free(&self, fd: Fd, ctx: LimaCtxId) -> Result {
        self.with_drm(fd, |file| lima::lima_ctx_free(file, ctx))
    }

    /// `DRM_IOCTL_LIMA_GEM_SUBMIT`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, or as [`lima_gem_submit`](lima::lima_gem_submit).
    pub fn lima_gem_submit(&self, fd: Fd, args: &LimaSubmit) -> Result {
        self.with_drm(fd, |file| lima::lima_gem_submit(file, args))
    }

    /// `DRM_IOCTL_LIMA_GEM_WAIT`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV, -ENOENT, -EBUSY, -ETIMEDOUT, -EINTR (injected).
    pub fn lima_gem_wait(&self, fd: Fd, handle: Handle, write: bool, timeout: WaitTimeout) -> Result {
        self.with_drm(fd, |file| lima::lima_gem_wait(file, handle, write, timeout))
    }
}

impl Kernel {
    /// The older GPU's driver; `None` before it was probed.
    #[must_use]
    pub fn lima(&self) -> Option<Arc<LimaDevice>> {
        self.drm_device(Driver::Lima)?.private()
    }

    /// The processor of an i915 device; `None` for another driver.
    #[must_use]
    pub fn i915_engine(&self, driver: Driver) -> Option<Arc<Engine>> {
        let i915 = self.drm_device(driver)?.private::<I915>()?;
        Some(i915.engine().clone())
    }
}
