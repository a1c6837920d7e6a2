// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The system heap: scattered pages, in pieces as large as there are.
//!
//! Kernel counterpart: `drivers/dma-buf/heaps/system_heap.c`.

use std::sync::Arc;

use lockdep::LockClass;

use super::{DmaHeap, HeapBuffer, map_dma_buf, mmap_assert, unmap_dma_buf};
use crate::dma_buf::attach::{DmaBufAttachment, DmaDirection, SgTable};
use crate::dma_buf::core::{DmaBuf, DmaBufData, DmaBufExportInfo, DmaBufOps, Tail, dma_buf_export};
use crate::kernel::KernelCore;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::FileMode;
use crate::kernel::locking::sleep_class;
use crate::kernel::mm::{VmArea, remap_pages};
use crate::kernel::reclaim;
use crate::kernel::shmem::{IosysMap, PAGE_SIZE, ShmemFile};
use crate::kernel::vmalloc::{KernelMapping, vfree, vmalloc, vmap};

/// The name of the heap, and of its buffers' exporter.
pub const NAME: &str = "system-heap";

static LOCK: LockClass = sleep_class("&buffer->lock");

/// Pieces that are tried, in pages, largest first.
const PIECES: [usize; 3] = [256, 16, 1];

/// `struct dma_heap` of the system heap.
#[derive(Debug)]
pub struct SystemHeap;

impl DmaHeap for SystemHeap {
    fn name(&self) -> &'static str {
        NAME
    }

    fn allocate(&self, core: &Arc<KernelCore>, len: usize) -> Result<DmaBuf> {
        system_heap_allocate(core, len)
    }
}

fn system_heap_allocate(core: &Arc<KernelCore>, len: usize) -> Result<DmaBuf> {
    reclaim::kmalloc()?;
    let count = len / PAGE_SIZE;
    let mut left = count;
    while left > 0 {
        alloc_largest_available(&mut left)?;
    }
    // The list of the pieces.
    reclaim::kmalloc()?;
    let pages = ShmemFile::anonymous_pages(count)?;
    let buffer = HeapBuffer::new(core, &LOCK, "system_heap_buffer", pages);
    let exported = dma_buf_export(
        core,
        DmaBufExportInfo {
            exp_name: NAME,
            ops: &SystemHeapBufOps,
            size: len,
            mode: FileMode::READ_WRITE,
            resv: None,
            private: buffer.clone(),
            mapping: None,
        },
    );
    if exported.is_err() {
        buffer.release();
    }
    exported
}

fn alloc_largest_available(left: &mut usize) -> Result {
    let piece = PIECES.into_iter().find(|piece| *piece <= *left).unwrap_or(1);
    reclaim::alloc_page()?;
    *left -= piece;
    Ok(())
}

/// `system_heap_buf_ops`.
struct SystemHeapBufOps;

impl DmaBufOps for SystemHeapBufOps {
    fn attach(&self, buf: &DmaBuf, attach: &Arc<DmaBufAttachment>) -> Result {
        system_heap_attach(buf, attach)
    }

    fn detach(&self, buf: &DmaBuf, attach: &Arc<DmaBufAttachment>) -> Tail {
        system_heap_detach(buf, attach);
        Tail::NONE
    }

    fn map_dma_buf(&self, attach: &Arc<DmaBufAttachment>, _dir: DmaDirection) -> Result<Arc<SgTable>> {
        map_dma_buf(attach)
    }

    fn unmap_dma_buf(&self, attach: &Arc<DmaBufAttachment>, _table: Arc<SgTable>, _dir: DmaDirection) {
        unmap_dma_buf(attach);
    }

    fn begin_cpu_access(&self, buf: &DmaBuf, _dir: DmaDirection) -> Result {
        system_heap_dma_buf_begin_cpu_access(buf)
    }

    fn end_cpu_access(&self, buf: &DmaBuf, _dir: DmaDirection) -> Result {
        system_heap_dma_buf_end_cpu_access(buf)
    }

    fn mmap(&self, buf: &DmaBuf, vma: &mut VmArea) -> Result {
        system_heap_mmap(buf, vma)
    }

    fn vmap(&self, buf: &DmaBuf) -> Result<IosysMap> {
        system_heap_vmap(buf)
    }

    fn vunmap(&self, buf: &DmaBuf, _map: &IosysMap) {
        system_heap_vunmap(buf);
    }

    fn release(&self, buf: &DmaBufData) {
        if let Ok(buffer) = HeapBuffer::of(buf) {
            buffer.release();
        }
    }
}

fn system_heap_attach(buf: &DmaBuf, attach: &DmaBufAttachment) -> Result {
    let buffer = HeapBuffer::of(buf)?;
    reclaim::kmalloc()?;
    // A copy of the buffer's own table.
    let table = SgTable::from_pages(&buffer.core, buffer.pages.clone())?;
    buffer.attach(attach, table);
    Ok(())
}

fn system_heap_detach(buf: &DmaBuf, attach: &DmaBufAttachment) {
    if let Ok(buffer) = HeapBuffer::of(buf) {
        buffer.detach(attach);
    }
}

fn system_heap_dma_buf_begin_cpu_access(buf: &DmaBuf) -> Result {
    HeapBuffer::of(buf)?.sync();
    Ok(())
}

fn system_heap_dma_buf_end_cpu_access(buf: &DmaBuf) -> Result {
    HeapBuffer::of(buf)?.sync();
    Ok(())
}

fn system_heap_mmap(buf: &DmaBuf, vma: &mut VmArea) -> Result {
    mmap_assert(buf);
    let buffer = HeapBuffer::of(buf)?;
    let first = usize::try_from(vma.pgoff).map_err(|_| Errno::EINVAL)?;
    remap_pages(vma, buffer.pages.get(first..).ok_or(Errno::EINVAL)?)
}

fn system_heap_vmap(buf: &DmaBuf) -> Result<IosysMap> {
    HeapBuffer::of(buf)?.vmap(system_heap_do_vmap)
}

fn system_heap_do_vmap(buffer: &HeapBuffer) -> Result<KernelMapping> {
    // The list of pages, for as long as they are being mapped.
    let list = vmalloc(&buffer.core, buffer.pages.len() * size_of::<usize>())?;
    let mapping = vmap(&buffer.core, &buffer.pages);
    vfree(list);
    mapping
}

fn system_heap_vunmap(buf: &DmaBuf) {
    if let Ok(buffer) = HeapBuffer::of(buf) {
        buffer.vunmap();
    }
}
