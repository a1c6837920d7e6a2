// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The ioctls that single DRM drivers have besides the common ones.

use super::Process;
use crate::drm::file::Handle;
use crate::drm::omapdrm::omap_gem_new_handle;
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
}
