// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The ioctls of a dma-buf file. What the kernel inlines into `dma_buf_ioctl` shows there.

use std::sync::Arc;

use super::access::{dma_buf_begin_cpu_access, dma_buf_end_cpu_access, dma_buf_set_name};
use super::attach::DmaDirection;
use super::core::DmaBuf;
use super::fence::{DmaFence, dma_fence_get_stub};
use super::resv::{
    DmaResvUsage, dma_resv_add_fence, dma_resv_get_singleton, dma_resv_lock, dma_resv_reserve_fences,
    dma_resv_unlock, dma_resv_usage_rw,
};
use super::sync_file::sync_file_create;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::File;
use crate::kernel::reclaim;

/// `DMA_BUF_SYNC_READ`.
pub const DMA_BUF_SYNC_READ: u64 = 1;
/// `DMA_BUF_SYNC_WRITE`.
pub const DMA_BUF_SYNC_WRITE: u64 = 2;
/// `DMA_BUF_SYNC_RW`.
pub const DMA_BUF_SYNC_RW: u64 = DMA_BUF_SYNC_READ | DMA_BUF_SYNC_WRITE;
/// `DMA_BUF_SYNC_START`.
pub const DMA_BUF_SYNC_START: u64 = 0;
/// `DMA_BUF_SYNC_END`.
pub const DMA_BUF_SYNC_END: u64 = 4;

/// One ioctl with its arguments.
#[derive(Debug)]
pub enum DmaBufIoctl {
    /// `DMA_BUF_IOCTL_SYNC`.
    Sync(u64),
    /// `DMA_BUF_SET_NAME`.
    SetName(String),
    /// `DMA_BUF_IOCTL_EXPORT_SYNC_FILE`.
    ExportSyncFile(u64),
    /// `DMA_BUF_IOCTL_IMPORT_SYNC_FILE`, with the fence of the sync file.
    ImportSyncFile(u64, Arc<DmaFence>),
}

/// `dma_buf_ioctl`. The new file, if there is one, is handed out with its reference.
///
/// # Errors
/// -EINVAL for bad flags, -EINTR, -ENOMEM (injected), or what the exporter says.
pub fn dma_buf_ioctl(buf: &DmaBuf, command: DmaBufIoctl) -> Result<Option<Arc<File>>> {
    match command {
        DmaBufIoctl::Sync(flags) => sync(buf, flags)?,
        DmaBufIoctl::SetName(name) => {
            reclaim::kmalloc()?;
            dma_buf_set_name(buf, name);
        }
        DmaBufIoctl::ExportSyncFile(flags) => return dma_buf_export_sync_file(buf, flags).map(Some),
        DmaBufIoctl::ImportSyncFile(flags, fence) => dma_buf_import_sync_file(buf, flags, &fence)?,
    }
    Ok(None)
}

fn sync(buf: &DmaBuf, flags: u64) -> Result {
    if flags & !(DMA_BUF_SYNC_RW | DMA_BUF_SYNC_END) != 0 {
        return Err(Errno::EINVAL);
    }
    let direction = match flags & DMA_BUF_SYNC_RW {
        DMA_BUF_SYNC_READ => DmaDirection::FromDevice,
        DMA_BUF_SYNC_WRITE => DmaDirection::ToDevice,
        DMA_BUF_SYNC_RW => DmaDirection::Bidirectional,
        _ => return Err(Errno::EINVAL),
    };
    if flags & DMA_BUF_SYNC_END != 0 {
        dma_buf_end_cpu_access(buf, direction)
    } else {
        dma_buf_begin_cpu_access(buf, direction)
    }
}

fn check(flags: u64) -> Result {
    let valid = flags & !DMA_BUF_SYNC_RW == 0 && flags & DMA_BUF_SYNC_RW != 0;
    if valid { Ok(()) } else { Err(Errno::EINVAL) }
}

/// No reservation lock: a snapshot of the fences is enough.
fn dma_buf_export_sync_file(buf: &DmaBuf, flags: u64) -> Result<Arc<File>> {
    check(flags)?;
    let usage = dma_resv_usage_rw(flags & DMA_BUF_SYNC_WRITE != 0);
    let fence = dma_resv_get_singleton(&buf.core, buf.resv(), usage)?;
    let fence = fence.unwrap_or_else(|| dma_fence_get_stub(&buf.core));
    sync_file_create(&buf.core, fence)
}

#[track_caller]
fn dma_buf_import_sync_file(buf: &DmaBuf, flags: u64, fence: &Arc<DmaFence>) -> Result {
    check(flags)?;
    let usage = if flags & DMA_BUF_SYNC_WRITE != 0 { DmaResvUsage::Write } else { DmaResvUsage::Read };
    let fences = fence.unwrap_all();
    if fences.is_empty() {
        return Ok(());
    }
    dma_resv_lock(buf.resv());
    let reserved = dma_resv_reserve_fences(buf.resv(), fences.len());
    if reserved.is_ok() {
        for fence in &fences {
            dma_resv_add_fence(buf.resv(), fence, usage);
        }
    }
    dma_resv_unlock(buf.resv());
    reserved
}
