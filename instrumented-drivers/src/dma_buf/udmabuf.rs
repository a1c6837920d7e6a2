// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `udmabuf`: a program makes a dma-buf of its own memory.
//!
//! # Locking
//!
//! No lock of its own; the buffer has a reservation lock of its own. While the pages are pinned, the inode lock of the
//! memfd is held by a reader, so that its seals stay as they were checked.
//!
//! | callback | holds | takes |
//! |---|---|---|
//! | `map_dma_buf` | reservation lock (P0: nothing) | nothing; the core keeps the mapping |
//! | `vmap`, `vunmap` | reservation lock, asserted (P0: the buffer's mutex) | nothing |
//! | `mmap` | P1: reservation lock, asserted | nothing, nor does the fault |
//! | `begin_cpu_access` | nothing | nothing |
//!
//! `begin_cpu_access` makes a table for the misc device at the first call, and nothing keeps two tasks from both making
//! one: the first table is then lost. This is what the kernel does.
//!
//! * `&sb->s_type->i_mutex_key` → `fs_reclaim`: pages of a memfd are pinned
//!
//! Kernel counterpart: `drivers/dma-buf/udmabuf.c`.

use std::sync::Arc;

use super::attach::{DmaBufAttachment, DmaDirection, SgTable, sg_free_table};
use super::core::{DmaBuf, DmaBufData, DmaBufExportInfo, DmaBufOps, dma_buf_export, dma_buf_fd};
use super::heaps::mmap_assert;
use super::resv::{dma_resv_assert_held, dma_resv_lock, dma_resv_unlock};
use crate::bug::Bug;
use crate::kernel::KernelCore;
use crate::kernel::cell::{KCell, KPtr};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::{Fd, File, FileMode, FileOps, FileTable, fput};
use crate::kernel::live::Live;
use crate::kernel::memfd::{MemfdFile, Seals};
use crate::kernel::mm::{Signal, VmArea, VmFault, VmOperations};
use crate::kernel::reclaim;
use crate::kernel::shmem::{IosysMap, PAGE_SIZE, Page, Pages};
use crate::kernel::vmalloc::{KernelMapping, vm_map_ram, vm_unmap_ram};
use crate::policy::LockingPolicy;

/// The name of the device and of the exporter.
pub const NAME: &str = "udmabuf";

/// `size_limit_mb`, in pages.
const PAGE_LIMIT: usize = 64 * 1024 * 1024 / PAGE_SIZE;

/// An open file of the device.
pub struct UdmabufFile {
    core: Arc<KernelCore>,
}

/// Opens the device.
#[must_use]
pub fn udmabuf_open(core: &Arc<KernelCore>) -> Arc<File> {
    File::new(core, FileMode::READ_WRITE, UdmabufFile { core: core.clone() })
}

impl FileOps for UdmabufFile {}

/// `struct udmabuf_create_item`: a part of a memfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdmabufItem {
    /// The memfd.
    pub memfd: Fd,
    /// Where the part begins, in bytes.
    pub offset: usize,
    /// How long it is, in bytes.
    pub size: usize,
}

/// `struct udmabuf`.
struct Udmabuf {
    core: Arc<KernelCore>,
    pages: Pages,
    /// The table of the misc device, made at the first access of the CPU.
    sg: KPtr<SgTable>,
    vmap: KCell<Option<KernelMapping>>,
    live: Live,
}

/// `UDMABUF_CREATE`, `UDMABUF_CREATE_LIST`: the parts, one after the other, as a dma-buf.
///
/// # Errors
/// -EINVAL unless everything is in whole pages, not empty, within the memfds and the limit, and sealed against
/// shrinking only; -EBADFD for something that is no memfd; -EMFILE, -ENOMEM (injected).
pub fn udmabuf_create(device: &UdmabufFile, files: &FileTable, items: &[UdmabufItem]) -> Result<Fd> {
    reclaim::kmalloc()?;
    let aligned = |bytes: usize| bytes.is_multiple_of(PAGE_SIZE);
    if !items.iter().all(|item| aligned(item.offset) && aligned(item.size)) {
        return Err(Errno::EINVAL);
    }
    let count = items.iter().map(|item| item.size / PAGE_SIZE).sum();
    if !(1..=PAGE_LIMIT).contains(&count) {
        return Err(Errno::EINVAL);
    }
    // The lists of folios and of offsets in them.
    reclaim::kmalloc()?;
    reclaim::kmalloc()?;
    let mut pages = Vec::with_capacity(count);
    for item in items {
        pages.extend(udmabuf_pin_folios(files, item)?);
    }
    dma_buf_fd(files, export_udmabuf(&device.core, pages.into())?)
}

fn udmabuf_pin_folios(files: &FileTable, item: &UdmabufItem) -> Result<Vec<Page>> {
    let file = files.fget(item.memfd).map_err(|_| Errno::EBADFD)?;
    let pinned = match file.private::<MemfdFile>() {
        Some(memfd) => {
            memfd.inode_lock_shared();
            let pinned = check_memfd_seals(memfd).and_then(|()| {
                reclaim::kmalloc()?;
                memfd.pin_folios(item.offset / PAGE_SIZE, item.size / PAGE_SIZE)
            });
            memfd.inode_unlock_shared();
            pinned
        }
        None => Err(Errno::EBADFD),
    };
    fput(file);
    pinned
}

fn check_memfd_seals(memfd: &MemfdFile) -> Result {
    let seals = memfd.seals();
    if seals.contains(Seals::SHRINK) && !seals.contains(Seals::WRITE) { Ok(()) } else { Err(Errno::EINVAL) }
}

fn export_udmabuf(core: &Arc<KernelCore>, pages: Pages) -> Result<DmaBuf> {
    let size = pages.len() * PAGE_SIZE;
    let ubuf = Arc::new(Udmabuf {
        core: core.clone(),
        pages,
        sg: KPtr::null(),
        vmap: KCell::new("a udmabuf's kernel mapping", None),
        live: core.born("udmabuf"),
    });
    let exported = dma_buf_export(
        core,
        DmaBufExportInfo {
            exp_name: NAME,
            ops: &UdmabufOps,
            size,
            mode: FileMode::READ_WRITE,
            resv: None,
            private: ubuf.clone(),
            mapping: None,
        },
    );
    if exported.is_err() {
        ubuf.live.freed();
    }
    exported
}

/// `udmabuf_ops`.
struct UdmabufOps;

fn udmabuf(buf: &DmaBufData) -> Result<Arc<Udmabuf>> {
    buf.private().ok_or(Errno::EINVAL)
}

impl DmaBufOps for UdmabufOps {
    fn map_dma_buf(&self, attach: &Arc<DmaBufAttachment>, _dir: DmaDirection) -> Result<Arc<SgTable>> {
        udmabuf(&attach.dmabuf).and_then(|ubuf| get_sg_table(&ubuf))
    }

    fn unmap_dma_buf(&self, _attach: &Arc<DmaBufAttachment>, table: Arc<SgTable>, _dir: DmaDirection) {
        sg_free_table(table);
    }

    fn begin_cpu_access(&self, buf: &DmaBuf, _dir: DmaDirection) -> Result {
        begin_cpu_udmabuf(buf)
    }

    fn end_cpu_access(&self, buf: &DmaBuf, _dir: DmaDirection) -> Result {
        end_cpu_udmabuf(buf)
    }

    fn mmap(&self, buf: &DmaBuf, vma: &mut VmArea) -> Result {
        mmap_udmabuf(buf, vma)
    }

    fn vmap(&self, buf: &DmaBuf) -> Result<IosysMap> {
        vmap_udmabuf(buf)
    }

    fn vunmap(&self, buf: &DmaBuf, _map: &IosysMap) {
        vunmap_udmabuf(buf);
    }

    fn release(&self, buf: &DmaBufData) {
        if let Ok(ubuf) = udmabuf(buf) {
            release_udmabuf(&ubuf);
        }
    }

    fn cache_sgt_mapping(&self) -> bool {
        true
    }
}

fn get_sg_table(ubuf: &Udmabuf) -> Result<Arc<SgTable>> {
    SgTable::from_pages(&ubuf.core, ubuf.pages.clone())
}

/// See the module's header: two tasks can both find no table ([`Bug::UdmabufTableUnlocked`]).
fn begin_cpu_udmabuf(buf: &DmaBuf) -> Result {
    let ubuf = udmabuf(buf)?;
    if ubuf.core.has(Bug::UdmabufTableUnlocked) {
        return make_table(buf, &ubuf);
    }
    dma_resv_lock(buf.resv());
    let made = make_table(buf, &ubuf);
    dma_resv_unlock(buf.resv());
    made
}

/// The middle of `begin_cpu_udmabuf`, which it shows.
#[track_caller]
fn make_table(buf: &DmaBuf, ubuf: &Udmabuf) -> Result {
    if !ubuf.core.has(Bug::GuardsUnannotated) {
        dma_resv_assert_held(buf.resv());
    }
    if ubuf.sg.is_null() {
        let table = get_sg_table(ubuf)?;
        ubuf.sg.swap(Some(table));
    }
    Ok(())
}

fn end_cpu_udmabuf(buf: &DmaBuf) -> Result {
    if udmabuf(buf)?.sg.is_null() { Err(Errno::EINVAL) } else { Ok(()) }
}

fn mmap_udmabuf(buf: &DmaBuf, vma: &mut VmArea) -> Result {
    mmap_assert(buf);
    if vma.is_cow() {
        return Err(Errno::EINVAL);
    }
    vma.private = Some(udmabuf(buf)?);
    vma.ops = Some(&UdmabufVmOps);
    vma.pfnmap = true;
    Ok(())
}

/// `udmabuf_vm_ops`.
struct UdmabufVmOps;

impl VmOperations for UdmabufVmOps {
    fn fault(&self, vmf: &VmFault<'_>) -> core::result::Result<(), Signal> {
        udmabuf_vm_fault(vmf)
    }
}

/// No lock: the pages are pinned for as long as the buffer lives.
fn udmabuf_vm_fault(vmf: &VmFault<'_>) -> core::result::Result<(), Signal> {
    let ubuf = vmf.vma.private::<Udmabuf>().ok_or(Signal::Bus)?;
    let index = usize::try_from(vmf.pgoff).map_err(|_| Signal::Bus)?;
    vmf.insert_page(ubuf.pages.get(index).ok_or(Signal::Bus)?)
}

/// P0 has no such assertion, for its core does not hold the lock.
#[track_caller]
fn vmap_assert(buf: &DmaBuf) {
    if buf.policy() != LockingPolicy::P0 {
        dma_resv_assert_held(buf.resv());
    }
}

fn vmap_udmabuf(buf: &DmaBuf) -> Result<IosysMap> {
    let ubuf = udmabuf(buf)?;
    vmap_assert(buf);
    // The list of pages, for as long as they are being mapped.
    reclaim::kmalloc()?;
    let mapping = vm_map_ram(&ubuf.core, &ubuf.pages).map_err(|_| Errno::EINVAL)?;
    let map = mapping.map.clone();
    ubuf.vmap.set(Some(mapping));
    Ok(map)
}

fn vunmap_udmabuf(buf: &DmaBuf) {
    vmap_assert(buf);
    if let Ok(ubuf) = udmabuf(buf)
        && let Some(mapping) = ubuf.vmap.replace(None)
    {
        vm_unmap_ram(&ubuf.core, mapping);
    }
}

fn release_udmabuf(ubuf: &Udmabuf) {
    if let Some(table) = ubuf.sg.take() {
        sg_free_table(table);
    }
    ubuf.live.freed();
}

crate::kernel::opaque_debug!(UdmabufFile);
