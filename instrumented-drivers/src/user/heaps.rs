// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The ioctls of the devices that give a program buffers without hardware: dma-buf heaps and udmabuf.

use super::Process;
use crate::dma_buf::heaps::{HeapFile, dma_heap_ioctl_allocate};
use crate::dma_buf::udmabuf::{UdmabufFile, UdmabufItem, udmabuf_create};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::Fd;

impl Process {
    /// `DMA_HEAP_IOCTL_ALLOC` on an open heap.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -EINVAL for size 0, -EMFILE, -ENOMEM (injected).
    pub fn dma_heap_alloc(&self, heap: Fd, len: usize) -> Result<Fd> {
        self.with_file(heap, |file| {
            dma_heap_ioctl_allocate(file.private::<HeapFile>().ok_or(Errno::ENOTTY)?, &self.0.files, len)
        })
    }

    /// `UDMABUF_CREATE_LIST` on the open device: parts of memfds as a dma-buf.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -EINVAL, -EBADFD, -EMFILE, -ENOMEM (injected).
    pub fn udmabuf_create(&self, device: Fd, items: &[UdmabufItem]) -> Result<Fd> {
        self.with_file(device, |file| {
            udmabuf_create(file.private::<UdmabufFile>().ok_or(Errno::ENOTTY)?, &self.0.files, items)
        })
    }
}
