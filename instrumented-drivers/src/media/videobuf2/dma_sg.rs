// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Buffers for devices that gather scattered pages by themselves. The CPU's view is made current when a program says
//! that it accesses the buffer ([`DmaBufOps::begin_cpu_access`]): no lock is held there.
//!
//! Kernel counterpart: `videobuf2-dma-sg.c`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::memops::{
    FrameVector, MemPriv, Vb2MemOps, Vb2Memory, Vb2VmaUser, dmabuf_ops_attach, dmabuf_ops_detach,
    dmabuf_ops_map, dmabuf_ops_mmap_assert, vb2_common_vma, vb2_create_framevec, vb2_destroy_framevec,
};
use crate::dma_buf::access::{dma_buf_vmap_unlocked, dma_buf_vunmap_unlocked};
use crate::dma_buf::attach::{
    dma_buf_attach, dma_buf_detach, dma_buf_map_attachment_unlocked, dma_buf_unmap_attachment_unlocked,
    sg_alloc_table, sg_free_table,
};
use crate::dma_buf::core::{DmaBufData, Tail, dma_buf_export};
use crate::dma_buf::resv::dma_resv_assert_not_held;
use crate::dma_buf::{DmaBuf, DmaBufAttachment, DmaBufExportInfo, DmaBufOps, DmaDirection, SgTable};
use crate::kernel::KernelCore;
use crate::kernel::cell::{KPtr, KRwCell, Kref};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::FileMode;
use crate::kernel::live::Live;
use crate::kernel::mm::{Mm, VmArea, remap_pages};
use crate::kernel::reclaim;
use crate::kernel::shmem::{IosysMap, PAGE_SIZE, Pages, ShmemFile, page_align};
use crate::kernel::vmalloc::{KernelMapping, vm_map_ram, vm_unmap_ram};

/// The name under which the buffers are exported.
pub const EXP_NAME: &str = "vb2-dma-sg";

const DEVICE: &str = "vivid";

/// `vb2_dma_sg_memops`.
#[derive(Debug)]
pub struct Vb2DmaSgMemops;

/// Whose memory it is.
enum Memory {
    /// Pages of its own.
    Pages,
    /// Pinned memory of the program.
    User(FrameVector),
    /// An imported buffer.
    Dmabuf(DmaBuf, Arc<DmaBufAttachment>),
}

/// The kernel's mapping, made on demand.
enum Vaddr {
    Own(KernelMapping),
    Exporters(IosysMap),
}

impl Vaddr {
    fn map(&self) -> &IosysMap {
        match self {
            Vaddr::Own(mapping) => &mapping.map,
            Vaddr::Exporters(map) => map,
        }
    }
}

/// `struct vb2_dma_sg_buf`.
struct Vb2DmaSgBuf {
    core: Arc<KernelCore>,
    /// Taken when the buffer goes away.
    memory: KRwCell<Option<Memory>>,
    /// What the device sees.
    dma_sgt: KPtr<SgTable>,
    /// The kernel protects it with nothing: two exports of one buffer have two reservation locks.
    vaddr: parking_lot::Mutex<Option<Vaddr>>,
    size: usize,
    refcount: Kref,
    /// How often the CPU's view was made current.
    cpu_syncs: AtomicUsize,
    live: Live,
}

impl Vb2DmaSgBuf {
    fn new(core: &Arc<KernelCore>, size: usize, memory: Memory, table: Option<Arc<SgTable>>) -> Arc<Self> {
        let dma_sgt = KPtr::null();
        dma_sgt.swap(table);
        Arc::new(Vb2DmaSgBuf {
            core: core.clone(),
            memory: KRwCell::new("the memory of a scattered buffer", Some(memory)),
            dma_sgt,
            vaddr: parking_lot::Mutex::default(),
            size,
            refcount: Kref::new(),
            cpu_syncs: AtomicUsize::new(0),
            live: core.born("vb2_dma_sg_buf"),
        })
    }

    fn pages(&self) -> Result<Pages> {
        self.dma_sgt.load().map(|table| table.page_list().clone()).ok_or(Errno::EINVAL)
    }

    fn free(&self) {
        if let Some(Vaddr::Own(mapping)) = self.vaddr.lock().take() {
            vm_unmap_ram(&self.core, mapping);
        }
        if let Some(table) = self.dma_sgt.take() {
            sg_free_table(table);
        }
        if let Some(Memory::User(vec)) = self.memory.write(Option::take) {
            vb2_destroy_framevec(vec);
        }
        self.live.freed();
    }
}

impl Vb2MemOps for Vb2DmaSgMemops {
    fn name(&self) -> &'static str {
        EXP_NAME
    }

    fn alloc(&self, core: &Arc<KernelCore>, size: usize) -> Result<MemPriv> {
        Ok(vb2_dma_sg_alloc(core, size)?)
    }

    fn get_userptr(
        &self,
        core: &Arc<KernelCore>,
        mm: &Arc<Mm>,
        address: u64,
        size: usize,
    ) -> Result<MemPriv> {
        Ok(vb2_dma_sg_get_userptr(core, mm, address, size)?)
    }

    fn attach_dmabuf(&self, core: &Arc<KernelCore>, dbuf: &DmaBuf, size: usize) -> Result<MemPriv> {
        Ok(vb2_dma_sg_attach_dmabuf(core, dbuf, size)?)
    }
}

impl Vb2Memory for Vb2DmaSgBuf {
    fn put(&self) {
        vb2_dma_sg_put(self);
    }

    fn put_userptr(&self) {
        self.free();
    }

    fn map_dmabuf(&self) -> Result {
        vb2_dma_sg_map_dmabuf(self)
    }

    fn unmap_dmabuf(&self) {
        vb2_dma_sg_unmap_dmabuf(self);
    }

    fn detach_dmabuf(&self) {
        vb2_dma_sg_detach_dmabuf(self);
    }

    fn finish(&self) {
        self.cpu_syncs.fetch_add(1, Ordering::Relaxed);
    }

    fn vaddr(&self) -> Option<IosysMap> {
        vb2_dma_sg_vaddr(self).ok()
    }

    fn cookie(&self) -> Option<Arc<SgTable>> {
        self.dma_sgt.load()
    }

    fn num_users(&self) -> usize {
        self.refcount.count()
    }

    fn get_dmabuf(self: Arc<Self>) -> Result<DmaBuf> {
        vb2_dma_sg_get_dmabuf(&self)
    }

    fn mmap(self: Arc<Self>, vma: &mut VmArea) -> Result {
        vb2_dma_sg_mmap(&self, vma)
    }
}

impl Vb2VmaUser for Vb2DmaSgBuf {
    fn get(&self) {
        self.refcount.get();
    }

    fn put(&self) {
        vb2_dma_sg_put(self);
    }
}

fn vb2_dma_sg_alloc(core: &Arc<KernelCore>, size: usize) -> Result<Arc<Vb2DmaSgBuf>> {
    reclaim::kmalloc()?;
    // The list of pages; then the pages, as large pieces as there are.
    reclaim::kmalloc()?;
    reclaim::alloc_page()?;
    let table = sg_alloc_table(core, ShmemFile::anonymous_pages(size.div_ceil(PAGE_SIZE))?)?;
    Ok(Vb2DmaSgBuf::new(core, size, Memory::Pages, Some(table)))
}

fn vb2_dma_sg_put(buf: &Vb2DmaSgBuf) {
    if buf.refcount.put() {
        buf.free();
    }
}

fn vb2_dma_sg_get_userptr(
    core: &Arc<KernelCore>,
    mm: &Arc<Mm>,
    address: u64,
    size: usize,
) -> Result<Arc<Vb2DmaSgBuf>> {
    reclaim::kmalloc()?;
    let vec = vb2_create_framevec(core, mm, address, size)?;
    match sg_alloc_table(core, vec.pages.clone()) {
        Ok(table) => Ok(Vb2DmaSgBuf::new(core, size, Memory::User(vec), Some(table))),
        Err(error) => {
            vb2_destroy_framevec(vec);
            Err(error)
        }
    }
}

/// The mapping is made on demand, and kept. Asked for an imported buffer it takes that buffer's reservation lock.
fn vb2_dma_sg_vaddr(buf: &Vb2DmaSgBuf) -> Result<IosysMap> {
    if let Some(vaddr) = &*buf.vaddr.lock() {
        return Ok(vaddr.map().clone());
    }
    let vaddr = match attachment(buf) {
        Ok(attach) => Vaddr::Exporters(dma_buf_vmap_unlocked(&attach.dmabuf)?),
        Err(_) => Vaddr::Own(vm_map_ram(&buf.core, &buf.pages()?)?),
    };
    let mut first = buf.vaddr.lock();
    match (&*first, vaddr) {
        // Somebody was faster; the kernel would lose one of the two mappings.
        (Some(first), Vaddr::Own(mapping)) => {
            let map = first.map().clone();
            vm_unmap_ram(&buf.core, mapping);
            Ok(map)
        }
        (_, vaddr) => Ok(first.insert(vaddr).map().clone()),
    }
}

fn vb2_dma_sg_attach_dmabuf(core: &Arc<KernelCore>, dbuf: &DmaBuf, size: usize) -> Result<Arc<Vb2DmaSgBuf>> {
    if dbuf.size < size {
        return Err(Errno::EFAULT);
    }
    reclaim::kmalloc()?;
    let attach = dma_buf_attach(dbuf, DEVICE)?;
    Ok(Vb2DmaSgBuf::new(core, size, Memory::Dmabuf(dbuf.clone(), attach), None))
}

fn attachment(buf: &Vb2DmaSgBuf) -> Result<Arc<DmaBufAttachment>> {
    buf.memory.read(|memory| match memory {
        Some(Memory::Dmabuf(_, attach)) => Ok(attach.clone()),
        _ => Err(Errno::EINVAL),
    })
}

fn vb2_dma_sg_map_dmabuf(buf: &Vb2DmaSgBuf) -> Result {
    let table = dma_buf_map_attachment_unlocked(&attachment(buf)?, DmaDirection::FromDevice)?;
    buf.dma_sgt.swap(Some(table));
    Ok(())
}

fn vb2_dma_sg_unmap_dmabuf(buf: &Vb2DmaSgBuf) {
    let Ok(attach) = attachment(buf) else { return };
    if let Some(Vaddr::Exporters(map)) = buf.vaddr.lock().take() {
        dma_buf_vunmap_unlocked(&attach.dmabuf, &map);
    }
    if let Some(table) = buf.dma_sgt.take() {
        dma_buf_unmap_attachment_unlocked(&attach, table, DmaDirection::FromDevice);
    }
}

fn vb2_dma_sg_detach_dmabuf(buf: &Vb2DmaSgBuf) {
    vb2_dma_sg_unmap_dmabuf(buf);
    if let Some(Memory::Dmabuf(dbuf, attach)) = buf.memory.write(Option::take) {
        dma_buf_detach(&dbuf, &attach);
    }
    buf.live.freed();
}

fn vb2_dma_sg_mmap(buf: &Arc<Vb2DmaSgBuf>, vma: &mut VmArea) -> Result {
    let pages = buf.pages()?;
    let first = usize::try_from(vma.pgoff).map_err(|_| Errno::EINVAL)?;
    remap_pages(vma, pages.get(first..).ok_or(Errno::EINVAL)?)?;
    vb2_common_vma(vma, buf.clone());
    Ok(())
}

/// `vb2_dma_sg_dmabuf_ops`.
struct Vb2DmaSgDmabufOps;

fn exported(buf: &DmaBufData) -> Result<Arc<Vb2DmaSgBuf>> {
    buf.private().ok_or(Errno::EINVAL)
}

impl DmaBufOps for Vb2DmaSgDmabufOps {
    fn attach(&self, dbuf: &DmaBuf, attach: &Arc<DmaBufAttachment>) -> Result {
        let buf = exported(dbuf)?;
        dmabuf_ops_attach(&buf.core, attach, &buf.pages()?)
    }

    fn detach(&self, _dbuf: &DmaBuf, attach: &Arc<DmaBufAttachment>) -> Tail {
        dmabuf_ops_detach(attach);
        Tail::NONE
    }

    fn map_dma_buf(&self, attach: &Arc<DmaBufAttachment>, dir: DmaDirection) -> Result<Arc<SgTable>> {
        vb2_dma_sg_dmabuf_ops_map(attach, dir)
    }

    fn unmap_dma_buf(&self, _attach: &Arc<DmaBufAttachment>, _table: Arc<SgTable>, _dir: DmaDirection) {
        // The mapping is kept until the device is detached.
    }

    fn begin_cpu_access(&self, dbuf: &DmaBuf, _dir: DmaDirection) -> Result {
        vb2_dma_sg_dmabuf_ops_begin_cpu_access(dbuf)
    }

    fn end_cpu_access(&self, dbuf: &DmaBuf, _dir: DmaDirection) -> Result {
        vb2_dma_sg_dmabuf_ops_end_cpu_access(dbuf)
    }

    fn mmap(&self, dbuf: &DmaBuf, vma: &mut VmArea) -> Result {
        vb2_dma_sg_dmabuf_ops_mmap(dbuf, vma)
    }

    fn vmap(&self, dbuf: &DmaBuf) -> Result<IosysMap> {
        exported(dbuf).and_then(|buf| vb2_dma_sg_vaddr(&buf))
    }

    fn release(&self, dbuf: &DmaBufData) {
        if let Ok(buf) = exported(dbuf) {
            vb2_dma_sg_put(&buf);
        }
    }
}

fn vb2_dma_sg_dmabuf_ops_map(attach: &DmaBufAttachment, dir: DmaDirection) -> Result<Arc<SgTable>> {
    dmabuf_ops_map(attach, dir)
}

/// `dma_sync_sgtable_for_cpu`, without any lock; the convention says that none is held.
fn vb2_dma_sg_dmabuf_ops_begin_cpu_access(dbuf: &DmaBuf) -> Result {
    dma_resv_assert_not_held(dbuf.resv());
    exported(dbuf)?.cpu_syncs.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// `dma_sync_sgtable_for_device`.
fn vb2_dma_sg_dmabuf_ops_end_cpu_access(dbuf: &DmaBuf) -> Result {
    dma_resv_assert_not_held(dbuf.resv());
    exported(dbuf)?.cpu_syncs.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// How often the caches were made current for the CPU or the device; `None` if the buffer is not one of these.
#[must_use]
pub fn cpu_syncs(dbuf: &DmaBuf) -> Option<usize> {
    exported(dbuf).ok().map(|buf| buf.cpu_syncs.load(Ordering::Relaxed))
}

fn vb2_dma_sg_dmabuf_ops_mmap(dbuf: &DmaBuf, vma: &mut VmArea) -> Result {
    dmabuf_ops_mmap_assert(dbuf);
    vb2_dma_sg_mmap(&exported(dbuf)?, vma)
}

fn vb2_dma_sg_get_dmabuf(buf: &Arc<Vb2DmaSgBuf>) -> Result<DmaBuf> {
    let info = DmaBufExportInfo {
        exp_name: EXP_NAME,
        ops: &Vb2DmaSgDmabufOps,
        size: page_align(buf.size),
        mode: FileMode::READ_WRITE,
        resv: None,
        private: buf.clone(),
        mapping: None,
    };
    let dbuf = dma_buf_export(&buf.core, info)?;
    // The dma-buf keeps the memory.
    buf.refcount.get();
    Ok(dbuf)
}
