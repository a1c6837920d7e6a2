// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The exporter: memory that the DSP and the program see in one piece.

use std::sync::Arc;

use lockdep::LockClass;

use super::{FastrpcFile, NAME};
use crate::bug::Bug;
use crate::dma_buf::attach::{DmaBufAttachment, DmaDirection, SgTable, sg_alloc_table, sg_free_table};
use crate::dma_buf::core::{DmaBufData, DmaBufExportInfo, Tail, dma_buf_export, dma_buf_fd};
use crate::dma_buf::resv::dma_resv_assert_held;
use crate::dma_buf::{DmaBuf, DmaBufOps};
use crate::kernel::KernelCore;
use crate::kernel::cell::KCell;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::{Fd, FileMode, FileTable};
use crate::kernel::live::Live;
use crate::kernel::locking::{Mutex, sleep_class};
use crate::kernel::mm::{VmArea, remap_pages};
use crate::kernel::reclaim;
use crate::kernel::shmem::{IosysMap, PAGE_SIZE, Pages, ShmemFile, page_align};
use crate::policy::LockingPolicy;

static LOCK: LockClass = sleep_class("&buf->lock");

/// `struct fastrpc_buf`.
struct FastrpcBuf {
    core: Arc<KernelCore>,
    lock: Mutex,
    /// Under `lock`: the tables of the attached devices.
    attachments: KCell<Vec<Arc<SgTable>>>,
    pages: Pages,
    /// `virt`.
    map: IosysMap,
    live: Live,
}

/// `fastrpc_dmabuf_alloc`.
///
/// # Errors
/// -EINVAL for size 0, -EMFILE, -ENOMEM (injected).
pub fn fastrpc_dmabuf_alloc(file: &FastrpcFile, files: &FileTable, size: usize) -> Result<Fd> {
    let buf = fastrpc_buf_alloc(&file.fl.cctx.core, page_align(size))?;
    let exported = dma_buf_export(
        &buf.core,
        DmaBufExportInfo {
            exp_name: NAME,
            ops: &FastrpcDmaBufOps,
            size: buf.pages.len() * PAGE_SIZE,
            mode: FileMode::READ_WRITE,
            resv: None,
            private: buf.clone(),
            mapping: None,
        },
    );
    dma_buf_fd(files, exported.inspect_err(|_| fastrpc_buf_free(&buf))?)
}

fn fastrpc_buf_alloc(core: &Arc<KernelCore>, size: usize) -> Result<Arc<FastrpcBuf>> {
    reclaim::kmalloc()?;
    // `dma_alloc_coherent`: one piece.
    reclaim::alloc_page()?;
    let pages = ShmemFile::anonymous_pages(size / PAGE_SIZE)?;
    Ok(Arc::new(FastrpcBuf {
        core: core.clone(),
        lock: Mutex::new(&LOCK),
        attachments: KCell::new("a fastrpc buffer's attachments", Vec::new()),
        map: IosysMap(pages.clone()),
        pages,
        live: core.born("fastrpc_buf"),
    }))
}

fn fastrpc_buf_free(buf: &FastrpcBuf) {
    buf.live.freed();
}

/// `fastrpc_dma_buf_ops`.
struct FastrpcDmaBufOps;

fn buffer(buf: &DmaBufData) -> Result<Arc<FastrpcBuf>> {
    buf.private().ok_or(Errno::EINVAL)
}

fn attached(attach: &DmaBufAttachment) -> Result<Arc<SgTable>> {
    let private = attach.private.load().ok_or(Errno::EINVAL)?;
    private.downcast().map_err(|_| Errno::EINVAL)
}

impl DmaBufOps for FastrpcDmaBufOps {
    fn attach(&self, buf: &DmaBuf, attach: &Arc<DmaBufAttachment>) -> Result {
        fastrpc_dma_buf_attach(buf, attach)
    }

    fn detach(&self, buf: &DmaBuf, attach: &Arc<DmaBufAttachment>) -> Tail {
        fastrpc_dma_buf_detatch(buf, attach);
        Tail::NONE
    }

    fn map_dma_buf(&self, attach: &Arc<DmaBufAttachment>, _dir: DmaDirection) -> Result<Arc<SgTable>> {
        attached(attach)
    }

    fn unmap_dma_buf(&self, _attach: &Arc<DmaBufAttachment>, _table: Arc<SgTable>, _dir: DmaDirection) {}

    fn mmap(&self, buf: &DmaBuf, vma: &mut VmArea) -> Result {
        fastrpc_mmap(buf, vma)
    }

    fn vmap(&self, buf: &DmaBuf) -> Result<IosysMap> {
        buffer(buf).map(|buffer| buffer.map.clone())
    }

    fn release(&self, buf: &DmaBufData) {
        if let Ok(buffer) = buffer(buf) {
            fastrpc_buf_free(&buffer);
        }
    }
}

fn fastrpc_dma_buf_attach(buf: &DmaBuf, attach: &DmaBufAttachment) -> Result {
    let buffer = buffer(buf)?;
    reclaim::kmalloc()?;
    let table = sg_alloc_table(&buffer.core, buffer.pages.clone())?;
    attach.private.swap(Some(table.clone()));
    buffer.lock.lock();
    buffer.attachments.with(|list| list.push(table));
    buffer.lock.unlock();
    Ok(())
}

/// Its name in the kernel.
fn fastrpc_dma_buf_detatch(buf: &DmaBuf, attach: &DmaBufAttachment) {
    let (Ok(buffer), Ok(table)) = (buffer(buf), attached(attach)) else { return };
    buffer.lock.lock();
    buffer.attachments.with(|list| list.retain(|other| !Arc::ptr_eq(other, &table)));
    buffer.lock.unlock();
    attach.private.take();
    sg_free_table(table);
}

fn fastrpc_mmap(buf: &DmaBuf, vma: &mut VmArea) -> Result {
    let buffer = buffer(buf)?;
    let forgotten = buf.policy() == LockingPolicy::P2 && buffer.core.has(Bug::FastrpcMmapAssert);
    if buf.policy() == LockingPolicy::P1 || forgotten {
        dma_resv_assert_held(buf.resv());
    }
    let first = usize::try_from(vma.pgoff).map_err(|_| Errno::EINVAL)?;
    remap_pages(vma, buffer.pages.get(first..).ok_or(Errno::EINVAL)?)
}
