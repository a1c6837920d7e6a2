// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! dma-buf heaps: a program allocates a buffer that belongs to no device.
//!
//! # Locking
//!
//! | lock | kind | protects |
//! |---|---|---|
//! | `heap_list_lock` | mutex | the list of heaps |
//! | `&buffer->lock` (one class for each heap, of the same name) | mutex | attachments and kernel mapping of a buffer |
//!
//! A buffer has a reservation lock of its own.
//!
//! | callback | holds | takes |
//! |---|---|---|
//! | `attach`, `detach` | nothing | `buffer->lock` |
//! | `begin_cpu_access`, `end_cpu_access` | nothing | `buffer->lock`, while it makes the attached devices' views current |
//! | `map_dma_buf`, `unmap_dma_buf` | reservation lock (P0: nothing) | nothing: whether an attachment is mapped is written without `buffer->lock` |
//! | `vmap`, `vunmap` | reservation lock (P0: the buffer's mutex) | `buffer->lock`, and memory under it |
//! | `mmap` | P1: reservation lock | nothing |
//! | `release` | nothing | nothing |
//!
//! * `reservation_ww_class_mutex` → `&buffer->lock` (P1, P2): a buffer is mapped for the kernel
//! * `&dmabuf->lock` → `&buffer->lock` (P0): the same
//! * `&buffer->lock` → `fs_reclaim`: such a mapping needs memory
//!
//! Kernel counterpart: `drivers/dma-buf/dma-heap.c`, and what both heaps do alike.

pub mod cma_heap;
pub mod system_heap;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lockdep::LockClass;

use super::attach::{DmaBufAttachment, SgTable, sg_free_table};
use super::core::{DmaBuf, DmaBufData, dma_buf_fd};
use super::resv::dma_resv_assert_held;
use crate::kernel::KernelCore;
use crate::kernel::cell::{KCell, KRwCell};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::{Fd, File, FileMode, FileOps, FileTable};
use crate::kernel::live::Live;
use crate::kernel::locking::{Mutex, sleep_class};
use crate::kernel::shmem::{IosysMap, Pages, page_align};
use crate::kernel::vmalloc::{KernelMapping, vunmap};
use crate::policy::LockingPolicy;

static HEAP_LIST_LOCK: LockClass = sleep_class("heap_list_lock");

/// `struct dma_heap_ops`.
pub trait DmaHeap: Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// A buffer of this size, a multiple of the page size.
    ///
    /// # Errors
    /// -ENOMEM (injected).
    fn allocate(&self, core: &Arc<KernelCore>, len: usize) -> Result<DmaBuf>;
}

/// The heaps of a kernel.
pub struct DmaHeaps {
    heap_list_lock: Mutex,
    /// Changes under the lock; a device that is opened finds its heap without.
    list: KRwCell<Vec<&'static dyn DmaHeap>>,
}

impl Default for DmaHeaps {
    fn default() -> Self {
        let heaps = DmaHeaps {
            heap_list_lock: Mutex::new(&HEAP_LIST_LOCK),
            list: KRwCell::new("the list of heaps", Vec::new()),
        };
        heaps.dma_heap_add(&system_heap::SystemHeap);
        heaps.dma_heap_add(&cma_heap::CmaHeap);
        heaps
    }
}

impl DmaHeaps {
    fn dma_heap_add(&self, heap: &'static dyn DmaHeap) {
        self.heap_list_lock.lock();
        self.list.write(|list| list.push(heap));
        self.heap_list_lock.unlock();
    }

    /// Opens a heap's device.
    #[must_use]
    pub fn dma_heap_open(&self, core: &Arc<KernelCore>, name: &str) -> Option<Arc<File>> {
        let heap = self.list.read(|list| list.iter().copied().find(|heap| heap.name() == name));
        Some(File::new(core, FileMode::READ_WRITE, HeapFile { core: core.clone(), heap: heap? }))
    }
}

/// An open file of a heap.
pub struct HeapFile {
    core: Arc<KernelCore>,
    heap: &'static dyn DmaHeap,
}

impl FileOps for HeapFile {}

/// `DMA_HEAP_IOCTL_ALLOC`.
///
/// # Errors
/// -EINVAL for size 0, -EMFILE, -ENOMEM (injected).
pub fn dma_heap_ioctl_allocate(heap: &HeapFile, files: &FileTable, len: usize) -> Result<Fd> {
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    dma_buf_fd(files, heap.heap.allocate(&heap.core, page_align(len))?)
}

/// `struct dma_heap_attachment`.
struct HeapAttachment {
    table: Arc<SgTable>,
    /// Written under the reservation lock, read under `buffer->lock`.
    mapped: AtomicBool,
    /// How often the device's view was made current.
    syncs: AtomicUsize,
}

#[derive(Default)]
struct VmapState {
    count: usize,
    mapping: Option<KernelMapping>,
}

/// `struct system_heap_buffer`, `struct cma_heap_buffer`.
struct HeapBuffer {
    core: Arc<KernelCore>,
    lock: Mutex,
    attachments: KCell<Vec<Arc<HeapAttachment>>>,
    vmap: KCell<VmapState>,
    pages: Pages,
    live: Live,
}

impl HeapBuffer {
    fn new(core: &Arc<KernelCore>, class: &'static LockClass, kind: &'static str, pages: Pages) -> Arc<Self> {
        Arc::new(HeapBuffer {
            core: core.clone(),
            lock: Mutex::new(class),
            attachments: KCell::new("a heap buffer's attachments", Vec::new()),
            vmap: KCell::new("a heap buffer's kernel mapping", VmapState::default()),
            pages,
            live: core.born(kind),
        })
    }

    fn of(buf: &DmaBufData) -> Result<Arc<Self>> {
        buf.private().ok_or(Errno::EINVAL)
    }

    #[track_caller]
    fn attach(&self, attach: &DmaBufAttachment, table: Arc<SgTable>) {
        let mine =
            Arc::new(HeapAttachment { table, mapped: AtomicBool::new(false), syncs: AtomicUsize::new(0) });
        attach.private.swap(Some(mine.clone()));
        self.lock.lock();
        self.attachments.with(|list| list.push(mine));
        self.lock.unlock();
    }

    #[track_caller]
    fn detach(&self, attach: &DmaBufAttachment) {
        let Ok(mine) = attached(attach) else { return };
        self.lock.lock();
        self.attachments.with(|list| list.retain(|other| !Arc::ptr_eq(other, &mine)));
        self.lock.unlock();
        attach.private.take();
        sg_free_table(mine.table.clone());
    }

    /// Makes every attached device's view current, for the CPU or for the device.
    #[track_caller]
    fn sync(&self) {
        self.lock.lock();
        self.attachments.with(|list| {
            for mine in list.iter().filter(|mine| mine.mapped.load(Ordering::Acquire)) {
                mine.syncs.fetch_add(1, Ordering::Relaxed);
            }
        });
        self.lock.unlock();
    }

    #[track_caller]
    fn vmap(&self, do_vmap: impl FnOnce(&Self) -> Result<KernelMapping>) -> Result<IosysMap> {
        self.lock.lock();
        let mapped = self.vmap.with(|vmap| vmap.mapping.as_ref().map(|mapping| mapping.map.clone()));
        let map = match mapped {
            Some(map) => Ok(map),
            None => do_vmap(self).map(|mapping| {
                let map = mapping.map.clone();
                self.vmap.with(|vmap| vmap.mapping = Some(mapping));
                map
            }),
        };
        if map.is_ok() {
            self.vmap.with(|vmap| vmap.count += 1);
        }
        self.lock.unlock();
        map
    }

    #[track_caller]
    fn vunmap(&self) {
        self.lock.lock();
        let last = self.vmap.with(|vmap| {
            vmap.count -= 1;
            if vmap.count == 0 { vmap.mapping.take() } else { None }
        });
        if let Some(mapping) = last {
            vunmap(&self.core, mapping);
        }
        self.lock.unlock();
    }

    fn release(&self) {
        let mapped = self.vmap.with(|vmap| vmap.count > 0);
        self.core.warn_on(mapped, "a heap buffer is freed while mapped by the kernel");
        self.live.freed();
    }
}

fn attached(attach: &DmaBufAttachment) -> Result<Arc<HeapAttachment>> {
    let private = attach.private.load().ok_or(Errno::EINVAL)?;
    private.downcast().map_err(|_| Errno::EINVAL)
}

fn map_dma_buf(attach: &DmaBufAttachment) -> Result<Arc<SgTable>> {
    let mine = attached(attach)?;
    mine.mapped.store(true, Ordering::Release);
    Ok(mine.table.clone())
}

fn unmap_dma_buf(attach: &DmaBufAttachment) {
    if let Ok(mine) = attached(attach) {
        mine.mapped.store(false, Ordering::Release);
    }
}

/// An exporter's `mmap` under P1 says what it relies on.
#[track_caller]
pub(super) fn mmap_assert(buf: &DmaBuf) {
    if buf.policy() == LockingPolicy::P1 {
        dma_resv_assert_held(buf.resv());
    }
}

/// How often the view of each attached device was made current, in the order of attaching; `None` if the buffer is
/// not from a heap.
#[must_use]
pub fn attached_syncs(buf: &DmaBuf) -> Option<Vec<usize>> {
    let buffer = HeapBuffer::of(buf).ok()?;
    Some(buffer.attachments.with(|list| list.iter().map(|mine| mine.syncs.load(Ordering::Relaxed)).collect()))
}

crate::kernel::opaque_debug!(DmaHeaps, HeapFile);
