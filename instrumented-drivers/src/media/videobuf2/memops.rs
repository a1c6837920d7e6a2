// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! What an allocator offers, and what the three of them share: VMAs that count as users, pinned user memory, and the
//! exporter's mapping per attachment.
//!
//! Kernel counterpart: `videobuf2-memops.c`, `struct vb2_mem_ops`.

use core::any::Any;
use std::sync::Arc;

use crate::dma_buf::attach::{sg_alloc_table, sg_free_table};
use crate::dma_buf::resv::dma_resv_assert_held;
use crate::dma_buf::{DmaBuf, DmaBufAttachment, DmaDirection, SgTable};
use crate::kernel::KernelCore;
use crate::kernel::cell::KCell;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::live::Live;
use crate::kernel::mm::{Mm, Signal, VmArea, VmFault, VmOperations, pin_user_pages_fast};
use crate::kernel::reclaim;
use crate::kernel::shmem::{IosysMap, PAGE_SIZE, Page, Pages};
use crate::policy::LockingPolicy;

/// `mem_priv`: the memory of one plane.
pub type MemPriv = Arc<dyn Vb2Memory>;

/// The part of `struct vb2_mem_ops` that makes memory.
pub trait Vb2MemOps: Send + Sync {
    /// The allocator.
    fn name(&self) -> &'static str;

    /// `alloc`: new memory, for MMAP.
    ///
    /// # Errors
    /// -ENOMEM (injected).
    fn alloc(&self, core: &Arc<KernelCore>, size: usize) -> Result<MemPriv>;

    /// `get_userptr`: memory of the program, for USERPTR.
    ///
    /// # Errors
    /// -EFAULT if it is not there or does not suit the device, -ENOMEM (injected).
    fn get_userptr(&self, core: &Arc<KernelCore>, mm: &Arc<Mm>, address: u64, size: usize)
    -> Result<MemPriv>;

    /// `attach_dmabuf`: somebody else's buffer, for DMABUF. It is not mapped yet; the caller keeps the reference.
    ///
    /// # Errors
    /// -EFAULT if it is too small, -ENOMEM (injected), or what the exporter says.
    fn attach_dmabuf(&self, core: &Arc<KernelCore>, dbuf: &DmaBuf, size: usize) -> Result<MemPriv>;
}

/// The part that works on it.
pub trait Vb2Memory: Any + Send + Sync {
    /// `put`: one user of allocated memory less.
    fn put(&self);

    /// `put_userptr`.
    fn put_userptr(&self);

    /// `map_dmabuf`.
    ///
    /// # Errors
    /// -EFAULT if it does not suit the device, or what the exporter says.
    fn map_dmabuf(&self) -> Result;

    /// `unmap_dmabuf`.
    fn unmap_dmabuf(&self);

    /// `detach_dmabuf`.
    fn detach_dmabuf(&self);

    /// `prepare`: the device is about to use it.
    fn prepare(&self) {}

    /// `finish`: the device is done. May run in an interrupt.
    fn finish(&self) {}

    /// `vaddr`: the kernel's mapping, if there is one.
    fn vaddr(&self) -> Option<IosysMap>;

    /// `cookie`: the device's mapping, if a device writes to it and not the CPU.
    fn cookie(&self) -> Option<Arc<SgTable>> {
        None
    }

    /// `num_users`.
    fn num_users(&self) -> usize;

    /// `get_dmabuf`: exports it.
    ///
    /// # Errors
    /// -ENOMEM (injected).
    fn get_dmabuf(self: Arc<Self>) -> Result<DmaBuf>;

    /// `mmap`.
    ///
    /// # Errors
    /// -EINVAL if the VMA is longer.
    fn mmap(self: Arc<Self>, vma: &mut VmArea) -> Result;
}

/// `struct vb2_vmarea_handler`.
struct Vb2VmareaHandler(Arc<dyn Vb2VmaUser>);

/// Memory that a VMA keeps alive.
pub(super) trait Vb2VmaUser: Send + Sync {
    /// One user more.
    fn get(&self);
    /// One less.
    fn put(&self);
}

struct Vb2CommonVmOps;

impl VmOperations for Vb2CommonVmOps {
    fn open(&self, vma: &VmArea) {
        vb2_common_vm_open(vma);
    }

    fn close(&self, vma: &VmArea) {
        vb2_common_vm_close(vma);
    }

    fn fault(&self, _vmf: &VmFault<'_>) -> core::result::Result<(), Signal> {
        // All pages were mapped by `mmap`.
        Err(Signal::Bus)
    }
}

fn vb2_common_vm_open(vma: &VmArea) {
    if let Some(handler) = vma.private::<Vb2VmareaHandler>() {
        handler.0.get();
    }
}

fn vb2_common_vm_close(vma: &VmArea) {
    if let Some(handler) = vma.private::<Vb2VmareaHandler>() {
        handler.0.put();
    }
}

/// The end of each allocator's `mmap`: the VMA becomes a user of the memory.
pub(super) fn vb2_common_vma(vma: &mut VmArea, memory: Arc<dyn Vb2VmaUser>) {
    vma.private = Some(Arc::new(Vb2VmareaHandler(memory)));
    vma.ops = Some(&Vb2CommonVmOps);
    vb2_common_vm_open(vma);
}

/// `struct frame_vector`: pinned pages of the program.
pub(super) struct FrameVector {
    pub(super) pages: Pages,
    live: Live,
}

/// `vb2_create_framevec`: pins the pages of user memory. Takes `mmap_lock`.
///
/// # Errors
/// -EFAULT if something of it is not there, -ENOMEM (injected).
pub(super) fn vb2_create_framevec(
    core: &KernelCore,
    mm: &Arc<Mm>,
    address: u64,
    size: usize,
) -> Result<FrameVector> {
    // Our user memory is made of whole pages, and so is what a device writes to.
    if !address.is_multiple_of(PAGE_SIZE as u64) {
        return Err(Errno::EFAULT);
    }
    reclaim::kmalloc()?;
    let pages = pin_user_pages_fast(mm, address, size.div_ceil(PAGE_SIZE))?;
    Ok(FrameVector { pages: pages.into(), live: core.born("frame_vector") })
}

/// `vb2_destroy_framevec`: unpins them.
#[expect(clippy::needless_pass_by_value, reason = "the pages are given up")]
pub(super) fn vb2_destroy_framevec(vec: FrameVector) {
    vec.live.freed();
}

/// `vb2_get_contiguous_size`: how many bytes at the beginning are contiguous for the device.
pub(super) fn vb2_get_contiguous_size(pages: &[Page]) -> usize {
    let breaks = pages.windows(2).position(|pair| !pair[1].follows(&pair[0]));
    breaks.map_or(pages.len(), |last| last + 1) * PAGE_SIZE
}

/// `struct vb2_*_attachment`: the exporter's mapping for one attached device.
struct Attached {
    table: Arc<SgTable>,
    /// For which direction it is mapped; under the reservation lock (P0: the buffer's mutex).
    mapped: KCell<Option<DmaDirection>>,
}

fn attached(attach: &DmaBufAttachment) -> Result<Arc<Attached>> {
    let private = attach.private.load().ok_or(Errno::EINVAL)?;
    private.downcast().map_err(|_| Errno::EINVAL)
}

/// `vb2_*_dmabuf_ops_attach`: a table of its own for each device.
pub(super) fn dmabuf_ops_attach(core: &KernelCore, attach: &DmaBufAttachment, pages: &Pages) -> Result {
    reclaim::kmalloc()?;
    let table = sg_alloc_table(core, pages.clone())?;
    let mapped = KCell::new("an attachment's direction", None);
    attach.private.swap(Some(Arc::new(Attached { table, mapped })));
    Ok(())
}

/// `vb2_*_dmabuf_ops_detach`.
pub(super) fn dmabuf_ops_detach(attach: &DmaBufAttachment) {
    if let Ok(mine) = attached(attach) {
        attach.private.take();
        sg_free_table(mine.table.clone());
    }
}

/// `vb2_*_dmabuf_ops_map`: the mapping is kept until the direction changes. In P0 nobody holds a lock here and the
/// buffer's mutex is borrowed.
#[track_caller]
pub(super) fn dmabuf_ops_map(attach: &DmaBufAttachment, dir: DmaDirection) -> Result<Arc<SgTable>> {
    let mine = attached(attach)?;
    let buf = &attach.dmabuf;
    let p0 = buf.policy() == LockingPolicy::P0;
    if p0 {
        buf.lock().lock();
    }
    mine.mapped.set(Some(dir));
    if p0 {
        buf.lock().unlock();
    }
    Ok(mine.table.clone())
}

/// An exporter's `mmap` under P1 says what it relies on; under the others it must not hold the lock, and the core
/// checks that.
#[track_caller]
pub(super) fn dmabuf_ops_mmap_assert(buf: &DmaBuf) {
    if buf.policy() == LockingPolicy::P1 {
        dma_resv_assert_held(buf.resv());
    }
}
