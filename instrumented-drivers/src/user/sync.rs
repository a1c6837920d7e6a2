// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The calls for timelines and their fences.

use super::Process;
use crate::dma_buf::sw_sync::{
    sw_sync_debugfs_open, sw_sync_ioctl_create_fence, sw_sync_ioctl_inc, sync_file_ioctl_merge,
};
use crate::kernel::errno::Result;
use crate::kernel::file::{Fd, fput};
use crate::kernel::task::syscall;

impl Process {
    /// Opens `sw_sync` in debugfs: a new timeline, at 0.
    ///
    /// # Errors
    /// -EMFILE, -ENOMEM (injected).
    pub fn sw_sync_open(&self) -> Result<Fd> {
        syscall(|| self.0.files.install(sw_sync_debugfs_open(&self.0.core)?))
    }

    /// `SW_SYNC_IOC_CREATE_FENCE`: a sync file that is ready when the timeline comes to this number.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -EMFILE, -ENOMEM (injected).
    pub fn sw_sync_create_fence(&self, timeline: Fd, number: u64) -> Result<Fd> {
        self.with_file(timeline, |file| {
            self.0.files.install(sw_sync_ioctl_create_fence(&self.0.core, file, number)?)
        })
    }

    /// `SW_SYNC_IOC_INC`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY.
    pub fn sw_sync_inc(&self, timeline: Fd, by: u64) -> Result {
        self.with_file(timeline, |file| sw_sync_ioctl_inc(file, by))
    }

    /// `SYNC_IOC_MERGE`.
    ///
    /// # Errors
    /// -EBADF, -EINVAL, -EMFILE, -ENOMEM (injected).
    pub fn sync_merge(&self, one: Fd, other: Fd) -> Result<Fd> {
        self.with_file(one, |one| {
            let other = self.0.files.fget(other)?;
            let merged = sync_file_ioctl_merge(&self.0.core, one, &other);
            fput(other);
            self.0.files.install(merged?)
        })
    }
}
