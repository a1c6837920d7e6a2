// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The contiguous heap: pages from a reserved area. A program's mapping is filled page by page, at the faults, without
//! a lock.
//!
//! Kernel counterpart: `drivers/dma-buf/heaps/cma_heap.c`.

use std::sync::Arc;

use lockdep::LockClass;

use super::{DmaHeap, HeapBuffer, map_dma_buf, mmap_assert, unmap_dma_buf};
use crate::dma_buf::attach::{DmaBufAttachment, DmaDirection, SgTable, sg_alloc_table};
use crate::dma_buf::core::{DmaBuf, DmaBufData, DmaBufExportInfo, DmaBufOps, Tail, dma_buf_export};
use crate::kernel::KernelCore;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::FileMode;
use crate::kernel::locking::sleep_class;
use crate::kernel::mm::{Signal, VmArea, VmFault, VmOperations};
use crate::kernel::reclaim;
use crate::kernel::shmem::{IosysMap, PAGE_SIZE, ShmemFile};
use crate::kernel::vmalloc::{KernelMapping, vmap};

/// The name of the heap, and of its buffers' exporter.
pub const NAME: &str = "cma-heap";

static LOCK: LockClass = sleep_class("&buffer->lock");

/// `struct dma_heap` of the contiguous heap.
#[derive(Debug)]
pub struct CmaHeap;

impl DmaHeap for CmaHeap {
    fn name(&self) -> &'static str {
        NAME
    }

    fn allocate(&self, core: &Arc<KernelCore>, len: usize) -> Result<DmaBuf> {
        cma_heap_allocate(core, len)
    }
}

fn cma_heap_allocate(core: &Arc<KernelCore>, len: usize) -> Result<DmaBuf> {
    reclaim::kmalloc()?;
    let count = len / PAGE_SIZE;
    // `cma_alloc` moves away what stands in the reserved area.
    reclaim::alloc_page()?;
    // The list of the pages.
    reclaim::kmalloc()?;
    let pages = ShmemFile::anonymous_pages(count)?;
    let buffer = HeapBuffer::new(core, &LOCK, "cma_heap_buffer", pages);
    let exported = dma_buf_export(
        core,
        DmaBufExportInfo {
            exp_name: NAME,
            ops: &CmaHeapBufOps,
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

/// `cma_heap_buf_ops`.
struct CmaHeapBufOps;

impl DmaBufOps for CmaHeapBufOps {
    fn attach(&self, buf: &DmaBuf, attach: &Arc<DmaBufAttachment>) -> Result {
        cma_heap_attach(buf, attach)
    }

    fn detach(&self, buf: &DmaBuf, attach: &Arc<DmaBufAttachment>) -> Tail {
        cma_heap_detach(buf, attach);
        Tail::NONE
    }

    fn map_dma_buf(&self, attach: &Arc<DmaBufAttachment>, _dir: DmaDirection) -> Result<Arc<SgTable>> {
        map_dma_buf(attach)
    }

    fn unmap_dma_buf(&self, attach: &Arc<DmaBufAttachment>, _table: Arc<SgTable>, _dir: DmaDirection) {
        unmap_dma_buf(attach);
    }

    fn begin_cpu_access(&self, buf: &DmaBuf, _dir: DmaDirection) -> Result {
        cma_heap_dma_buf_begin_cpu_access(buf)
    }

    fn end_cpu_access(&self, buf: &DmaBuf, _dir: DmaDirection) -> Result {
        cma_heap_dma_buf_end_cpu_access(buf)
    }

    fn mmap(&self, buf: &DmaBuf, vma: &mut VmArea) -> Result {
        cma_heap_mmap(buf, vma)
    }

    fn vmap(&self, buf: &DmaBuf) -> Result<IosysMap> {
        cma_heap_vmap(buf)
    }

    fn vunmap(&self, buf: &DmaBuf, _map: &IosysMap) {
        cma_heap_vunmap(buf);
    }

    fn release(&self, buf: &DmaBufData) {
        if let Ok(buffer) = HeapBuffer::of(buf) {
            buffer.release();
        }
    }
}

fn cma_heap_attach(buf: &DmaBuf, attach: &DmaBufAttachment) -> Result {
    let buffer = HeapBuffer::of(buf)?;
    reclaim::kmalloc()?;
    let table = sg_alloc_table(&buffer.core, buffer.pages.clone())?;
    buffer.attach(attach, table);
    Ok(())
}

fn cma_heap_detach(buf: &DmaBuf, attach: &DmaBufAttachment) {
    if let Ok(buffer) = HeapBuffer::of(buf) {
        buffer.detach(attach);
    }
}

fn cma_heap_dma_buf_begin_cpu_access(buf: &DmaBuf) -> Result {
    HeapBuffer::of(buf)?.sync();
    Ok(())
}

fn cma_heap_dma_buf_end_cpu_access(buf: &DmaBuf) -> Result {
    HeapBuffer::of(buf)?.sync();
    Ok(())
}

fn cma_heap_mmap(buf: &DmaBuf, vma: &mut VmArea) -> Result {
    mmap_assert(buf);
    if vma.is_cow() {
        return Err(Errno::EINVAL);
    }
    vma.private = Some(HeapBuffer::of(buf)?);
    vma.ops = Some(&DmaHeapVmOps);
    vma.pfnmap = true;
    Ok(())
}

/// `dma_heap_vm_ops`.
struct DmaHeapVmOps;

impl VmOperations for DmaHeapVmOps {
    fn fault(&self, vmf: &VmFault<'_>) -> core::result::Result<(), Signal> {
        cma_heap_vm_fault(vmf)
    }
}

/// No lock: the pages are there for as long as the buffer, which the mapped file keeps.
fn cma_heap_vm_fault(vmf: &VmFault<'_>) -> core::result::Result<(), Signal> {
    let buffer = vmf.vma.private::<HeapBuffer>().ok_or(Signal::Bus)?;
    let index = usize::try_from(vmf.pgoff).map_err(|_| Signal::Bus)?;
    vmf.insert_page(buffer.pages.get(index).ok_or(Signal::Bus)?)
}

fn cma_heap_vmap(buf: &DmaBuf) -> Result<IosysMap> {
    HeapBuffer::of(buf)?.vmap(cma_heap_do_vmap)
}

fn cma_heap_do_vmap(buffer: &HeapBuffer) -> Result<KernelMapping> {
    vmap(&buffer.core, &buffer.pages)
}

fn cma_heap_vunmap(buf: &DmaBuf) {
    if let Ok(buffer) = HeapBuffer::of(buf) {
        buffer.vunmap();
    }
}
