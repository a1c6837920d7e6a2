// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The ioctls of a signal processor.

use std::sync::Arc;

use super::{Kernel, Process};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::Fd;
use crate::misc::fastrpc::buf::fastrpc_dmabuf_alloc;
use crate::misc::fastrpc::dsp::Method;
use crate::misc::fastrpc::{
    FastrpcChannelCtx, FastrpcFile, fastrpc_invoke, fastrpc_req_mem_map, fastrpc_req_mem_unmap,
};

impl Kernel {
    /// The way to the signal processor.
    #[must_use]
    pub fn fastrpc(&self) -> &Arc<FastrpcChannelCtx> {
        &self.devices.fastrpc
    }
}

impl Process {
    /// `FASTRPC_IOCTL_ALLOC_DMA_BUFF`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -EINVAL for size 0, -EMFILE, -ENOMEM (injected).
    pub fn fastrpc_alloc_dma_buf(&self, fd: Fd, size: usize) -> Result<Fd> {
        self.with_fastrpc(fd, |file| fastrpc_dmabuf_alloc(file, &self.0.files, size))
    }

    /// `FASTRPC_IOCTL_INVOKE` with these buffers as arguments.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -EINVAL, -EIO if the DSP cannot, -EINTR, -ENOMEM (injected).
    pub fn fastrpc_invoke(&self, fd: Fd, method: Method, buffers: &[Fd]) -> Result {
        self.with_fastrpc(fd, |file| fastrpc_invoke(file, &self.0.files, method, buffers))
    }

    /// `FASTRPC_IOCTL_MEM_MAP`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -EINVAL, -EINTR, -ENOMEM (injected).
    pub fn fastrpc_mem_map(&self, fd: Fd, buffer: Fd) -> Result {
        self.with_fastrpc(fd, |file| fastrpc_req_mem_map(file, &self.0.files, buffer))
    }

    /// `FASTRPC_IOCTL_MEM_UNMAP`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -EINVAL if it is not mapped, -EINTR, -ENOMEM (injected).
    pub fn fastrpc_mem_unmap(&self, fd: Fd, buffer: Fd) -> Result {
        self.with_fastrpc(fd, |file| fastrpc_req_mem_unmap(file, buffer))
    }

    fn with_fastrpc<R>(&self, fd: Fd, f: impl FnOnce(&FastrpcFile) -> Result<R>) -> Result<R> {
        self.with_file(fd, |file| f(file.private().ok_or(Errno::ENOTTY)?))
    }
}
