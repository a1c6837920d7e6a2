// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! A driver whose own `mmap` forwards to [`dma_buf_mmap`]: the program gives it a buffer, then maps the driver's file
//! and gets the buffer. It has no lock; the buffer is one pointer, exchanged atomically.

use std::sync::Arc;

use crate::dma_buf::DmaBuf;
use crate::dma_buf::core::{dma_buf_get, dma_buf_mmap, dma_buf_put};
use crate::kernel::KernelCore;
use crate::kernel::cell::KPtr;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::{Fd, File, FileMode, FileOps, FileTable};
use crate::kernel::mm::VmArea;

/// An open file of the driver.
#[derive(Debug)]
pub struct ImporterFile {
    buffer: KPtr<File>,
}

/// Opens the device.
#[must_use]
pub fn importer_open(core: &KernelCore) -> Arc<File> {
    File::new(core, FileMode::READ_WRITE, ImporterFile { buffer: KPtr::null() })
}

/// The ioctl that says which buffer to map.
///
/// # Errors
/// -ENOTTY on another driver's file, -EBADF, -EINVAL if the descriptor is no buffer.
pub fn importer_set_buffer(file: &File, files: &FileTable, fd: Fd) -> Result {
    let importer = file.private::<ImporterFile>().ok_or(Errno::ENOTTY)?;
    let buf = dma_buf_get(files, fd)?;
    importer.replace(Some(&buf));
    Ok(())
}

impl ImporterFile {
    fn replace(&self, buf: Option<&DmaBuf>) {
        let old = self.buffer.swap(buf.map(|buf| buf.file().clone()));
        if let Some(old) = old.as_ref().and_then(DmaBuf::of) {
            dma_buf_put(old);
        }
    }
}

impl FileOps for ImporterFile {
    fn mmap(&self, _file: &Arc<File>, vma: &mut VmArea) -> Result {
        importer_mmap(self, vma)
    }

    fn release(&self, _file: &Arc<File>) {
        self.replace(None);
    }

    fn abandon(&self) {
        self.buffer.take();
    }
}

fn importer_mmap(importer: &ImporterFile, vma: &mut VmArea) -> Result {
    let buf = importer.buffer.load().as_ref().and_then(DmaBuf::of).ok_or(Errno::ENODEV)?;
    let pgoff = vma.pgoff;
    dma_buf_mmap(&buf, vma, pgoff)
}
