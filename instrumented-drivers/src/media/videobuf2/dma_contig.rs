// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Buffers for devices without an IOMMU: contiguous memory, written by the device. An imported buffer is attached to,
//! and refused if the device would not see it in one piece.
//!
//! Kernel counterpart: `videobuf2-dma-contig.c`.

use std::sync::Arc;

use super::memops::{
    FrameVector, MemPriv, Vb2MemOps, Vb2Memory, Vb2VmaUser, dmabuf_ops_attach, dmabuf_ops_detach,
    dmabuf_ops_map, dmabuf_ops_mmap_assert, vb2_common_vma, vb2_create_framevec, vb2_destroy_framevec,
    vb2_get_contiguous_size,
};
use crate::dma_buf::access::{dma_buf_vmap_unlocked, dma_buf_vunmap_unlocked};
use crate::dma_buf::attach::{
    dma_buf_attach, dma_buf_detach, dma_buf_map_attachment_unlocked, dma_buf_unmap_attachment_unlocked,
    sg_alloc_table, sg_free_table,
};
use crate::dma_buf::core::{DmaBufData, Tail, dma_buf_export};
use crate::dma_buf::{DmaBuf, DmaBufAttachment, DmaBufExportInfo, DmaBufOps, DmaDirection, SgTable};
use crate::kernel::KernelCore;
use crate::kernel::cell::{KPtr, KRwCell, Kref};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::FileMode;
use crate::kernel::live::Live;
use crate::kernel::mm::{Mm, VmArea, remap_pages};
use crate::kernel::reclaim;
use crate::kernel::shmem::{IosysMap, PAGE_SIZE, Pages, ShmemFile, page_align};

/// The name under which the buffers are exported.
pub const EXP_NAME: &str = "vb2-dma-contig";

const DEVICE: &str = "vivid";

/// `vb2_dma_contig_memops`.
#[derive(Debug)]
pub struct Vb2DmaContigMemops;

/// Whose memory it is.
enum Memory {
    /// `dma_alloc_attrs`; the kernel has it mapped.
    Coherent(IosysMap),
    /// Pinned memory of the program.
    User(FrameVector),
    /// An imported buffer.
    Dmabuf(DmaBuf, Arc<DmaBufAttachment>),
}

/// `struct vb2_dc_buf`.
struct Vb2DcBuf {
    core: Arc<KernelCore>,
    /// Taken when the buffer goes away.
    memory: KRwCell<Option<Memory>>,
    /// `dma_addr`: what the device sees.
    dma_sgt: KPtr<SgTable>,
    /// The kernel's mapping of an imported buffer.
    vmap: parking_lot::Mutex<Option<IosysMap>>,
    size: usize,
    refcount: Kref,
    live: Live,
}

impl Vb2DcBuf {
    fn new(core: &Arc<KernelCore>, size: usize, memory: Memory, table: Option<Arc<SgTable>>) -> Arc<Self> {
        let dma_sgt = KPtr::null();
        dma_sgt.swap(table);
        Arc::new(Vb2DcBuf {
            core: core.clone(),
            memory: KRwCell::new("the memory of a contiguous buffer", Some(memory)),
            dma_sgt,
            vmap: parking_lot::Mutex::default(),
            size,
            refcount: Kref::new(),
            live: core.born("vb2_dc_buf"),
        })
    }

    fn pages(&self) -> Result<Pages> {
        self.dma_sgt.load().map(|table| table.page_list().clone()).ok_or(Errno::EINVAL)
    }

    fn free_table(&self) {
        if let Some(table) = self.dma_sgt.take() {
            sg_free_table(table);
        }
    }
}

impl Vb2MemOps for Vb2DmaContigMemops {
    fn name(&self) -> &'static str {
        EXP_NAME
    }

    fn alloc(&self, core: &Arc<KernelCore>, size: usize) -> Result<MemPriv> {
        Ok(vb2_dc_alloc(core, size)?)
    }

    fn get_userptr(
        &self,
        core: &Arc<KernelCore>,
        mm: &Arc<Mm>,
        address: u64,
        size: usize,
    ) -> Result<MemPriv> {
        Ok(vb2_dc_get_userptr(core, mm, address, size)?)
    }

    fn attach_dmabuf(&self, core: &Arc<KernelCore>, dbuf: &DmaBuf, size: usize) -> Result<MemPriv> {
        Ok(vb2_dc_attach_dmabuf(core, dbuf, size)?)
    }
}

impl Vb2Memory for Vb2DcBuf {
    fn put(&self) {
        vb2_dc_put(self);
    }

    fn put_userptr(&self) {
        vb2_dc_put_userptr(self);
    }

    fn map_dmabuf(&self) -> Result {
        vb2_dc_map_dmabuf(self)
    }

    fn unmap_dmabuf(&self) {
        vb2_dc_unmap_dmabuf(self);
    }

    fn detach_dmabuf(&self) {
        vb2_dc_detach_dmabuf(self);
    }

    fn vaddr(&self) -> Option<IosysMap> {
        vb2_dc_vaddr(self)
    }

    fn cookie(&self) -> Option<Arc<SgTable>> {
        self.dma_sgt.load()
    }

    fn num_users(&self) -> usize {
        self.refcount.count()
    }

    fn get_dmabuf(self: Arc<Self>) -> Result<DmaBuf> {
        vb2_dc_get_dmabuf(&self)
    }

    fn mmap(self: Arc<Self>, vma: &mut VmArea) -> Result {
        vb2_dc_mmap(&self, vma)
    }
}

impl Vb2VmaUser for Vb2DcBuf {
    fn get(&self) {
        self.refcount.get();
    }

    fn put(&self) {
        vb2_dc_put(self);
    }
}

fn vb2_dc_alloc(core: &Arc<KernelCore>, size: usize) -> Result<Arc<Vb2DcBuf>> {
    reclaim::kmalloc()?;
    // One allocation of all pages, next to each other.
    reclaim::alloc_page()?;
    let pages = ShmemFile::anonymous_pages(size.div_ceil(PAGE_SIZE))?;
    let table = sg_alloc_table(core, pages.clone())?;
    Ok(Vb2DcBuf::new(core, size, Memory::Coherent(IosysMap(pages)), Some(table)))
}

fn vb2_dc_put(buf: &Vb2DcBuf) {
    if buf.refcount.put() {
        buf.free_table();
        buf.memory.write(Option::take);
        buf.live.freed();
    }
}

fn vb2_dc_vaddr(buf: &Vb2DcBuf) -> Option<IosysMap> {
    enum Found {
        Mapped(Option<IosysMap>),
        ToMap(DmaBuf),
    }
    let found = buf.memory.read(|memory| match memory {
        Some(Memory::Coherent(map)) => Found::Mapped(Some(map.clone())),
        Some(Memory::Dmabuf(dbuf, _)) => Found::ToMap(dbuf.clone()),
        _ => Found::Mapped(None),
    });
    match found {
        Found::Mapped(map) => map,
        // Under the reservation lock of the imported buffer, so whoever asks must hold no other one.
        Found::ToMap(dbuf) => {
            let mapped = buf.vmap.lock().clone();
            mapped.or_else(|| {
                let map = dma_buf_vmap_unlocked(&dbuf).ok();
                buf.vmap.lock().clone_from(&map);
                map
            })
        }
    }
}

fn vb2_dc_get_userptr(
    core: &Arc<KernelCore>,
    mm: &Arc<Mm>,
    address: u64,
    size: usize,
) -> Result<Arc<Vb2DcBuf>> {
    reclaim::kmalloc()?;
    let vec = vb2_create_framevec(core, mm, address, size)?;
    let table = sg_alloc_table(core, vec.pages.clone()).and_then(|table| {
        if vb2_get_contiguous_size(table.page_list()) < size {
            sg_free_table(table);
            return Err(Errno::EFAULT);
        }
        Ok(table)
    });
    match table {
        Ok(table) => Ok(Vb2DcBuf::new(core, size, Memory::User(vec), Some(table))),
        Err(error) => {
            vb2_destroy_framevec(vec);
            Err(error)
        }
    }
}

fn vb2_dc_put_userptr(buf: &Vb2DcBuf) {
    buf.free_table();
    if let Some(Memory::User(vec)) = buf.memory.write(Option::take) {
        vb2_destroy_framevec(vec);
    }
    buf.live.freed();
}

fn vb2_dc_attach_dmabuf(core: &Arc<KernelCore>, dbuf: &DmaBuf, size: usize) -> Result<Arc<Vb2DcBuf>> {
    if dbuf.size < size {
        return Err(Errno::EFAULT);
    }
    reclaim::kmalloc()?;
    let attach = dma_buf_attach(dbuf, DEVICE)?;
    Ok(Vb2DcBuf::new(core, size, Memory::Dmabuf(dbuf.clone(), attach), None))
}

fn attachment(buf: &Vb2DcBuf) -> Result<Arc<DmaBufAttachment>> {
    buf.memory.read(|memory| match memory {
        Some(Memory::Dmabuf(_, attach)) => Ok(attach.clone()),
        _ => Err(Errno::EINVAL),
    })
}

fn vb2_dc_map_dmabuf(buf: &Vb2DcBuf) -> Result {
    let attach = attachment(buf)?;
    let table = dma_buf_map_attachment_unlocked(&attach, DmaDirection::FromDevice)?;
    if vb2_get_contiguous_size(table.page_list()) < buf.size {
        dma_buf_unmap_attachment_unlocked(&attach, table, DmaDirection::FromDevice);
        return Err(Errno::EFAULT);
    }
    buf.dma_sgt.swap(Some(table));
    Ok(())
}

fn vb2_dc_unmap_dmabuf(buf: &Vb2DcBuf) {
    let Ok(attach) = attachment(buf) else { return };
    if let Some(map) = buf.vmap.lock().take() {
        dma_buf_vunmap_unlocked(&attach.dmabuf, &map);
    }
    if let Some(table) = buf.dma_sgt.take() {
        dma_buf_unmap_attachment_unlocked(&attach, table, DmaDirection::FromDevice);
    }
}

fn vb2_dc_detach_dmabuf(buf: &Vb2DcBuf) {
    vb2_dc_unmap_dmabuf(buf);
    if let Some(Memory::Dmabuf(dbuf, attach)) = buf.memory.write(Option::take) {
        dma_buf_detach(&dbuf, &attach);
    }
    buf.live.freed();
}

fn vb2_dc_mmap(buf: &Arc<Vb2DcBuf>, vma: &mut VmArea) -> Result {
    let pages = buf.pages()?;
    let first = usize::try_from(vma.pgoff).map_err(|_| Errno::EINVAL)?;
    remap_pages(vma, pages.get(first..).ok_or(Errno::EINVAL)?)?;
    vb2_common_vma(vma, buf.clone());
    Ok(())
}

/// `vb2_dc_dmabuf_ops`.
struct Vb2DcDmabufOps;

fn exported(buf: &DmaBufData) -> Result<Arc<Vb2DcBuf>> {
    buf.private().ok_or(Errno::EINVAL)
}

impl DmaBufOps for Vb2DcDmabufOps {
    fn attach(&self, dbuf: &DmaBuf, attach: &Arc<DmaBufAttachment>) -> Result {
        let buf = exported(dbuf)?;
        dmabuf_ops_attach(&buf.core, attach, &buf.pages()?)
    }

    fn detach(&self, _dbuf: &DmaBuf, attach: &Arc<DmaBufAttachment>) -> Tail {
        dmabuf_ops_detach(attach);
        Tail::NONE
    }

    fn map_dma_buf(&self, attach: &Arc<DmaBufAttachment>, dir: DmaDirection) -> Result<Arc<SgTable>> {
        vb2_dc_dmabuf_ops_map(attach, dir)
    }

    fn unmap_dma_buf(&self, _attach: &Arc<DmaBufAttachment>, _table: Arc<SgTable>, _dir: DmaDirection) {
        // The mapping is kept until the device is detached.
    }

    fn mmap(&self, dbuf: &DmaBuf, vma: &mut VmArea) -> Result {
        vb2_dc_dmabuf_ops_mmap(dbuf, vma)
    }

    fn vmap(&self, dbuf: &DmaBuf) -> Result<IosysMap> {
        exported(dbuf).ok().and_then(|buf| vb2_dc_vaddr(&buf)).ok_or(Errno::EINVAL)
    }

    fn release(&self, dbuf: &DmaBufData) {
        if let Ok(buf) = exported(dbuf) {
            vb2_dc_put(&buf);
        }
    }
}

fn vb2_dc_dmabuf_ops_map(attach: &DmaBufAttachment, dir: DmaDirection) -> Result<Arc<SgTable>> {
    dmabuf_ops_map(attach, dir)
}

fn vb2_dc_dmabuf_ops_mmap(dbuf: &DmaBuf, vma: &mut VmArea) -> Result {
    dmabuf_ops_mmap_assert(dbuf);
    vb2_dc_mmap(&exported(dbuf)?, vma)
}

fn vb2_dc_get_dmabuf(buf: &Arc<Vb2DcBuf>) -> Result<DmaBuf> {
    let info = DmaBufExportInfo {
        exp_name: EXP_NAME,
        ops: &Vb2DcDmabufOps,
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
