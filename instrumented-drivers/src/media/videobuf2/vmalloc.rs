// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Buffers that the CPU fills: memory from `vmalloc`. An imported buffer is mapped for the kernel (`vmap`) and not
//! attached to.
//!
//! Kernel counterpart: `videobuf2-vmalloc.c`.

use std::sync::Arc;

use super::memops::{
    FrameVector, MemPriv, Vb2MemOps, Vb2Memory, Vb2VmaUser, dmabuf_ops_attach, dmabuf_ops_detach,
    dmabuf_ops_map, dmabuf_ops_mmap_assert, vb2_common_vma, vb2_create_framevec, vb2_destroy_framevec,
};
use crate::dma_buf::access::{dma_buf_vmap_unlocked, dma_buf_vunmap_unlocked};
use crate::dma_buf::core::{DmaBufData, Tail, dma_buf_export};
use crate::dma_buf::{DmaBuf, DmaBufAttachment, DmaBufExportInfo, DmaBufOps, DmaDirection, SgTable};
use crate::kernel::KernelCore;
use crate::kernel::cell::{KRwCell, Kref};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::FileMode;
use crate::kernel::live::Live;
use crate::kernel::mm::{Mm, VmArea, remap_pages};
use crate::kernel::reclaim;
use crate::kernel::shmem::{IosysMap, Pages, page_align};
use crate::kernel::vmalloc::{KernelMapping, vfree, vm_map_ram, vm_unmap_ram, vmalloc};

/// The name under which the buffers are exported.
pub const EXP_NAME: &str = "vb2-vmalloc";

/// `vb2_vmalloc_memops`.
#[derive(Debug)]
pub struct Vb2VmallocMemops;

/// Where the bytes are.
enum Memory {
    /// Not mapped.
    None,
    /// Allocated.
    Vmalloc(KernelMapping),
    /// Pinned memory of the program, mapped.
    User(FrameVector, KernelMapping),
    /// An imported buffer, mapped by its exporter.
    Dmabuf(IosysMap),
}

/// `struct vb2_vmalloc_buf`.
struct Vb2VmallocBuf {
    core: Arc<KernelCore>,
    /// Changes only while the queue is the only user; read by every user without a lock.
    memory: KRwCell<Memory>,
    size: usize,
    refcount: Kref,
    dbuf: Option<DmaBuf>,
    live: Live,
}

impl Vb2VmallocBuf {
    fn new(core: &Arc<KernelCore>, size: usize, memory: Memory, dbuf: Option<DmaBuf>) -> Arc<Self> {
        Arc::new(Vb2VmallocBuf {
            core: core.clone(),
            memory: KRwCell::new("the memory of a vmalloc buffer", memory),
            size,
            refcount: Kref::new(),
            dbuf,
            live: core.born("vb2_vmalloc_buf"),
        })
    }

    fn vaddr(&self) -> Option<IosysMap> {
        self.memory.read(|memory| match memory {
            Memory::None => None,
            Memory::Vmalloc(mapping) | Memory::User(_, mapping) => Some(mapping.map.clone()),
            Memory::Dmabuf(map) => Some(map.clone()),
        })
    }

    /// The pages, if they were allocated here.
    fn pages(&self) -> Result<Pages> {
        self.memory.read(|memory| match memory {
            Memory::Vmalloc(mapping) => Ok(mapping.pages().clone()),
            _ => Err(Errno::EINVAL),
        })
    }

    /// Takes the mapping away.
    fn take(&self) -> Memory {
        self.memory.write(|memory| core::mem::replace(memory, Memory::None))
    }
}

impl Vb2MemOps for Vb2VmallocMemops {
    fn name(&self) -> &'static str {
        EXP_NAME
    }

    fn alloc(&self, core: &Arc<KernelCore>, size: usize) -> Result<MemPriv> {
        Ok(vb2_vmalloc_alloc(core, size)?)
    }

    fn get_userptr(
        &self,
        core: &Arc<KernelCore>,
        mm: &Arc<Mm>,
        address: u64,
        size: usize,
    ) -> Result<MemPriv> {
        Ok(vb2_vmalloc_get_userptr(core, mm, address, size)?)
    }

    fn attach_dmabuf(&self, core: &Arc<KernelCore>, dbuf: &DmaBuf, size: usize) -> Result<MemPriv> {
        Ok(vb2_vmalloc_attach_dmabuf(core, dbuf, size)?)
    }
}

impl Vb2Memory for Vb2VmallocBuf {
    fn put(&self) {
        vb2_vmalloc_put(self);
    }

    fn put_userptr(&self) {
        vb2_vmalloc_put_userptr(self);
    }

    fn map_dmabuf(&self) -> Result {
        vb2_vmalloc_map_dmabuf(self)
    }

    fn unmap_dmabuf(&self) {
        vb2_vmalloc_unmap_dmabuf(self);
    }

    fn detach_dmabuf(&self) {
        vb2_vmalloc_detach_dmabuf(self);
    }

    fn vaddr(&self) -> Option<IosysMap> {
        self.vaddr()
    }

    fn num_users(&self) -> usize {
        self.refcount.count()
    }

    fn get_dmabuf(self: Arc<Self>) -> Result<DmaBuf> {
        vb2_vmalloc_get_dmabuf(&self)
    }

    fn mmap(self: Arc<Self>, vma: &mut VmArea) -> Result {
        vb2_vmalloc_mmap(&self, vma)
    }
}

impl Vb2VmaUser for Vb2VmallocBuf {
    fn get(&self) {
        self.refcount.get();
    }

    fn put(&self) {
        vb2_vmalloc_put(self);
    }
}

fn vb2_vmalloc_alloc(core: &Arc<KernelCore>, size: usize) -> Result<Arc<Vb2VmallocBuf>> {
    reclaim::kmalloc()?;
    let memory = vmalloc(core, page_align(size))?;
    Ok(Vb2VmallocBuf::new(core, size, Memory::Vmalloc(memory), None))
}

fn vb2_vmalloc_put(buf: &Vb2VmallocBuf) {
    if !buf.refcount.put() {
        return;
    }
    if let Memory::Vmalloc(memory) = buf.take() {
        vfree(memory);
    }
    buf.live.freed();
}

fn vb2_vmalloc_get_userptr(
    core: &Arc<KernelCore>,
    mm: &Arc<Mm>,
    address: u64,
    size: usize,
) -> Result<Arc<Vb2VmallocBuf>> {
    reclaim::kmalloc()?;
    let vec = vb2_create_framevec(core, mm, address, size)?;
    match vm_map_ram(core, &vec.pages) {
        Ok(mapping) => Ok(Vb2VmallocBuf::new(core, size, Memory::User(vec, mapping), None)),
        Err(error) => {
            vb2_destroy_framevec(vec);
            Err(error)
        }
    }
}

fn vb2_vmalloc_put_userptr(buf: &Vb2VmallocBuf) {
    if let Memory::User(vec, mapping) = buf.take() {
        vm_unmap_ram(&buf.core, mapping);
        vb2_destroy_framevec(vec);
    }
    buf.live.freed();
}

/// No attachment: the CPU fills the buffer.
fn vb2_vmalloc_attach_dmabuf(
    core: &Arc<KernelCore>,
    dbuf: &DmaBuf,
    size: usize,
) -> Result<Arc<Vb2VmallocBuf>> {
    if dbuf.size < size {
        return Err(Errno::EFAULT);
    }
    reclaim::kmalloc()?;
    Ok(Vb2VmallocBuf::new(core, size, Memory::None, Some(dbuf.clone())))
}

fn vb2_vmalloc_map_dmabuf(buf: &Vb2VmallocBuf) -> Result {
    let dbuf = buf.dbuf.as_ref().ok_or(Errno::EINVAL)?;
    let map = dma_buf_vmap_unlocked(dbuf).map_err(|_| Errno::EFAULT)?;
    buf.memory.write(|memory| *memory = Memory::Dmabuf(map));
    Ok(())
}

fn vb2_vmalloc_unmap_dmabuf(buf: &Vb2VmallocBuf) {
    if let (Memory::Dmabuf(map), Some(dbuf)) = (buf.take(), &buf.dbuf) {
        dma_buf_vunmap_unlocked(dbuf, &map);
    }
}

fn vb2_vmalloc_detach_dmabuf(buf: &Vb2VmallocBuf) {
    if let (Memory::Dmabuf(map), Some(dbuf)) = (buf.take(), &buf.dbuf) {
        dma_buf_vunmap_unlocked(dbuf, &map);
    }
    buf.live.freed();
}

/// The offset in the file does not count: `remap_vmalloc_range` is asked for the beginning of the buffer, whatever
/// part of an exported buffer the program asked for.
fn vb2_vmalloc_mmap(buf: &Arc<Vb2VmallocBuf>, vma: &mut VmArea) -> Result {
    remap_pages(vma, &buf.pages()?)?;
    vb2_common_vma(vma, buf.clone());
    Ok(())
}

/// `vb2_vmalloc_dmabuf_ops`.
struct Vb2VmallocDmabufOps;

fn exported(buf: &DmaBufData) -> Result<Arc<Vb2VmallocBuf>> {
    buf.private().ok_or(Errno::EINVAL)
}

impl DmaBufOps for Vb2VmallocDmabufOps {
    fn attach(&self, dbuf: &DmaBuf, attach: &Arc<DmaBufAttachment>) -> Result {
        vb2_vmalloc_dmabuf_ops_attach(dbuf, attach)
    }

    fn detach(&self, _dbuf: &DmaBuf, attach: &Arc<DmaBufAttachment>) -> Tail {
        dmabuf_ops_detach(attach);
        Tail::NONE
    }

    fn map_dma_buf(&self, attach: &Arc<DmaBufAttachment>, dir: DmaDirection) -> Result<Arc<SgTable>> {
        vb2_vmalloc_dmabuf_ops_map(attach, dir)
    }

    fn unmap_dma_buf(&self, _attach: &Arc<DmaBufAttachment>, _table: Arc<SgTable>, _dir: DmaDirection) {
        // The mapping is kept until the device is detached.
    }

    fn mmap(&self, dbuf: &DmaBuf, vma: &mut VmArea) -> Result {
        vb2_vmalloc_dmabuf_ops_mmap(dbuf, vma)
    }

    fn vmap(&self, dbuf: &DmaBuf) -> Result<IosysMap> {
        exported(dbuf)?.vaddr().ok_or(Errno::EINVAL)
    }

    fn release(&self, dbuf: &DmaBufData) {
        if let Ok(buf) = exported(dbuf) {
            vb2_vmalloc_put(&buf);
        }
    }
}

fn vb2_vmalloc_dmabuf_ops_attach(dbuf: &DmaBuf, attach: &DmaBufAttachment) -> Result {
    let buf = exported(dbuf)?;
    dmabuf_ops_attach(&buf.core, attach, &buf.pages()?)
}

fn vb2_vmalloc_dmabuf_ops_map(attach: &DmaBufAttachment, dir: DmaDirection) -> Result<Arc<SgTable>> {
    dmabuf_ops_map(attach, dir)
}

fn vb2_vmalloc_dmabuf_ops_mmap(dbuf: &DmaBuf, vma: &mut VmArea) -> Result {
    dmabuf_ops_mmap_assert(dbuf);
    vb2_vmalloc_mmap(&exported(dbuf)?, vma)
}

fn vb2_vmalloc_get_dmabuf(buf: &Arc<Vb2VmallocBuf>) -> Result<DmaBuf> {
    let dbuf = dma_buf_export(
        &buf.core,
        DmaBufExportInfo {
            exp_name: EXP_NAME,
            ops: &Vb2VmallocDmabufOps,
            size: page_align(buf.size),
            mode: FileMode::READ_WRITE,
            resv: None,
            private: buf.clone(),
            mapping: None,
        },
    )?;
    // The dma-buf keeps the memory.
    buf.refcount.get();
    Ok(dbuf)
}
