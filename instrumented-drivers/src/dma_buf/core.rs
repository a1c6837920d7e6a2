// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The dma-buf core: a buffer as a file, shared between the driver that exports it and those that import it.
//!
//! Here the locking policies differ. "Held" is the buffer's reservation lock, when the exporter's callback runs:
//!
//! | callback | P0 | P1 | P2 |
//! |---|---|---|---|
//! | `attach`, `detach`, `begin_cpu_access`, `end_cpu_access`, `release` | no | no | no |
//! | `pin`, `unpin` | held | held | held |
//! | `map_dma_buf`, `unmap_dma_buf` | dynamic users only | held | held |
//! | `mmap` | no | **held** | **no** |
//! | `vmap`, `vunmap` | no (`dmabuf->lock` is) | held | held |
//!
//! In P2 the core asserts at each entry into an exporter's `mmap` that this task does not hold the lock
//! (`enter_exporter_mmap`); in P1 the exporters assert that it does.
//!
//! # Locking
//!
//! | lock | kind | protects |
//! |---|---|---|
//! | the buffer's reservation lock ([`super::resv`]) | ww mutex | attachments; since P1 mappings, too |
//! | `&dmabuf->lock` | mutex | P0: the kernel mapping; some exporters take it for the others |
//! | `&dmabuf->name_lock` | spinlock | the name |
//! | `&dmabuf->poll` | wait queue, irq-safe | who waits in [`super::poll`] |
//! | `debugfs_list_mutex` (P0: `db_list.lock`) | mutex | the list of all buffers |
//!
//! * `&dev->mutex`, `&dev->object_name_lock` → `debugfs_list_mutex` (P1, P2): drivers export under a lock of their own
//! * `&dev->mutex`, `&dev->object_name_lock` → `db_list.lock` (P0): the same
//! * `debugfs_list_mutex` → `reservation_ww_class_mutex` (P1, P2): debugfs shows all buffers
//! * `db_list.lock` → `reservation_ww_class_mutex` (P0): the same
//! * `reservation_ww_class_mutex` → `&dmabuf->name_lock`: and their names
//! * `&dmabuf->lock` → `reservation_ww_class_mutex` (P0): a kernel mapping, where the exporter's callback locks
//!
//! A release is deferred, so it happens under no lock.
//!
//! The file is the only reference count: a [`DmaBuf`] is a counted reference to it. Its release is deferred, as
//! any file's, and runs from the directory entry.
//!
//! Kernel counterpart: `drivers/dma-buf/dma-buf.c`.

use core::any::Any;
use core::ops::Deref;
use std::sync::Arc;

use lockdep::LockClass;

use super::access::VmapState;
use super::attach::{DmaBufAttachment, DmaDirection, SgTable};
use super::resv::{DmaResv, dma_resv_assert_not_held, dma_resv_fini, dma_resv_lock, dma_resv_unlock};
use crate::bug::Bug;
use crate::kernel::KernelCore;
use crate::kernel::cell::{KCell, KPtr};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::{Fd, File, FileMode, FileOps, FileTable, fput, get_file};
use crate::kernel::live::Live;
use crate::kernel::locking::{Mutex, SpinLock, sleep_class, spin_class};
use crate::kernel::mm::{AddressSpace, VmArea, vma_set_file};
use crate::kernel::poll::{PollEvents, PollTable, WaitQueueHead};
use crate::kernel::reclaim;
use crate::kernel::shmem::{IosysMap, PAGE_SIZE};
use crate::policy::LockingPolicy;

static LOCK: LockClass = sleep_class("&dmabuf->lock");
static NAME_LOCK: LockClass = spin_class("&dmabuf->name_lock");
static POLL: LockClass = spin_class("&dmabuf->poll");

/// An unlock that the C compiler moved out of a callback into its caller's frame (the callback ends in a chain of
/// jumps). The caller does it, so that it is seen where a real kernel shows it.
#[must_use]
#[derive(Default)]
pub struct Tail(Option<Arc<DmaResv>>);

impl Tail {
    /// Nothing is left to do.
    pub const NONE: Tail = Tail(None);

    /// This lock is still to be dropped.
    pub const fn unlock(resv: Arc<DmaResv>) -> Self {
        Tail(Some(resv))
    }

    /// Does it.
    #[track_caller]
    pub fn finish(self) {
        if let Some(resv) = self.0 {
            dma_resv_unlock(&resv);
        }
    }
}

/// `struct dma_buf_ops`: what an exporter offers. The table above says what is held when one of these runs.
pub trait DmaBufOps: Any + Send + Sync {
    /// A device is attached.
    ///
    /// # Errors
    /// If the device cannot use the buffer.
    fn attach(&self, _buf: &DmaBuf, _attach: &Arc<DmaBufAttachment>) -> Result {
        Ok(())
    }

    /// A device is detached.
    fn detach(&self, _buf: &DmaBuf, _attach: &Arc<DmaBufAttachment>) -> Tail {
        Tail::NONE
    }

    /// True for a dynamic exporter: one that moves buffers and has [`pin`](Self::pin).
    fn has_pin(&self) -> bool {
        false
    }

    /// The buffer must not move.
    ///
    /// # Errors
    /// What the exporter says.
    fn pin(&self, _attach: &Arc<DmaBufAttachment>) -> Result {
        Ok(())
    }

    /// It may move again.
    fn unpin(&self, _attach: &Arc<DmaBufAttachment>) {}

    /// The device's view of the pages.
    ///
    /// # Errors
    /// What the exporter says.
    fn map_dma_buf(&self, attach: &Arc<DmaBufAttachment>, dir: DmaDirection) -> Result<Arc<SgTable>>;

    /// The device is done with it.
    fn unmap_dma_buf(&self, attach: &Arc<DmaBufAttachment>, table: Arc<SgTable>, dir: DmaDirection);

    /// The CPU is about to access the buffer.
    ///
    /// # Errors
    /// What the exporter says.
    fn begin_cpu_access(&self, _buf: &DmaBuf, _dir: DmaDirection) -> Result {
        Ok(())
    }

    /// The CPU is done with it.
    ///
    /// # Errors
    /// What the exporter says.
    fn end_cpu_access(&self, _buf: &DmaBuf, _dir: DmaDirection) -> Result {
        Ok(())
    }

    /// False if the buffer cannot be mapped by user space.
    fn has_mmap(&self) -> bool {
        true
    }

    /// Maps it to user space, under the write side of `mmap_lock`.
    ///
    /// # Errors
    /// What the exporter says.
    fn mmap(&self, _buf: &DmaBuf, _vma: &mut VmArea) -> Result {
        Err(Errno::EINVAL)
    }

    /// False if the buffer cannot be mapped by the kernel.
    fn has_vmap(&self) -> bool {
        true
    }

    /// Maps it to the kernel.
    ///
    /// # Errors
    /// What the exporter says.
    fn vmap(&self, _buf: &DmaBuf) -> Result<IosysMap> {
        Err(Errno::EINVAL)
    }

    /// And unmaps it.
    fn vunmap(&self, _buf: &DmaBuf, _map: &IosysMap) {}

    /// The last reference is gone.
    fn release(&self, buf: &DmaBufData);

    /// `cache_sgt_mapping`: one mapping per attachment, kept until it is detached.
    fn cache_sgt_mapping(&self) -> bool {
        false
    }
}

/// `struct dma_buf_export_info`.
pub struct DmaBufExportInfo {
    /// The exporting driver.
    pub exp_name: &'static str,
    /// What it offers.
    pub ops: &'static dyn DmaBufOps,
    /// In bytes.
    pub size: usize,
    /// What the file is opened for.
    pub mode: FileMode,
    /// The exporter's reservation lock; the buffer has its own if there is none.
    pub resv: Option<Arc<DmaResv>>,
    /// The exporter's object.
    pub private: Arc<dyn Any + Send + Sync>,
    /// The mappings of the exporter's device, if the buffer's file shares them.
    pub mapping: Option<Arc<AddressSpace>>,
}

/// `struct dma_buf`, as the private data of its file.
pub struct DmaBufData {
    pub(super) core: Arc<KernelCore>,
    pub(super) ops: &'static dyn DmaBufOps,
    private: KPtr<dyn Any + Send + Sync>,
    /// The exporting driver.
    pub exp_name: &'static str,
    /// In bytes.
    pub size: usize,
    pub(super) resv: Arc<DmaResv>,
    /// The lock is the buffer's own, not the exporter's.
    owns_resv: bool,
    /// P0 only: around `vmap` and `vunmap`.
    pub(super) lock: Mutex,
    pub(super) name_lock: SpinLock,
    pub(super) name: KCell<Option<String>>,
    pub(super) attachments: KCell<Vec<Arc<DmaBufAttachment>>>,
    pub(super) vmap: KCell<VmapState>,
    pub(super) poll: Arc<WaitQueueHead>,
    /// Which directions have a callback armed; under the lock of `poll`.
    pub(super) poll_active: KCell<PollEvents>,
    live: Live,
}

impl DmaBufData {
    /// The reservation lock.
    #[must_use]
    pub fn resv(&self) -> &Arc<DmaResv> {
        &self.resv
    }

    /// The exporter's object, if it is of this type.
    #[must_use]
    pub fn private<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.private.load()?.downcast().ok()
    }

    /// The exporter's operations, if they are of this type.
    #[must_use]
    pub fn has_ops<T: DmaBufOps>(&self) -> bool {
        (self.ops as &dyn Any).is::<T>()
    }

    /// How many devices are attached.
    #[must_use]
    pub fn attachments(&self) -> usize {
        self.attachments.with(|list| list.len())
    }

    pub(crate) fn policy(&self) -> LockingPolicy {
        self.core.policy
    }

    /// P0 only: the buffer's mutex, which some exporters borrow in `map` and `unmap`.
    pub(crate) fn lock(&self) -> &Mutex {
        &self.lock
    }

    /// The exporter's callbacks, of which this one is entered now.
    pub(super) fn enter(&self, callback: &'static str) -> &'static dyn DmaBufOps {
        self.core.log_callback(self.exp_name, callback, self.resv.is_held());
        self.ops
    }

    pub(super) fn is_dynamic(&self) -> bool {
        self.ops.has_pin()
    }

    pub(super) fn p0(&self) -> bool {
        self.core.policy == LockingPolicy::P0
    }
}

/// A reference to a dma-buf. As in C it is counted by hand: [`get_dma_buf`], [`dma_buf_put`].
#[derive(Clone)]
pub struct DmaBuf(Arc<File>);

impl DmaBuf {
    /// The buffer behind a file, if it is one.
    #[must_use]
    pub fn of(file: &Arc<File>) -> Option<Self> {
        file.private::<DmaBufData>().map(|_| DmaBuf(file.clone()))
    }

    /// Its file.
    #[must_use]
    pub fn file(&self) -> &Arc<File> {
        &self.0
    }

    /// True if both are one buffer.
    #[must_use]
    pub fn is(&self, other: &DmaBuf) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Deref for DmaBuf {
    type Target = DmaBufData;

    fn deref(&self) -> &DmaBufData {
        match self.0.private() {
            Some(data) => data,
            None => unreachable!("a DmaBuf is made from a dma-buf file only"),
        }
    }
}

impl FileOps for DmaBufData {
    fn mmap(&self, file: &Arc<File>, vma: &mut VmArea) -> Result {
        dma_buf_mmap_internal(&DmaBuf(file.clone()), vma)
    }

    fn poll(&self, file: &Arc<File>, table: &mut PollTable) -> PollEvents {
        super::poll::dma_buf_poll(&DmaBuf(file.clone()), table)
    }

    fn llseek_end(&self) -> Result<u64> {
        Ok(self.size as u64)
    }

    fn release(&self, file: &Arc<File>) {
        dma_buf_file_release(&DmaBuf(file.clone()));
    }

    fn d_release(&self) {
        dma_buf_release(self);
    }

    fn abandon(&self) {
        self.private.take();
        self.attachments.try_with(Vec::clear);
    }
}

/// `dma_buf_export`. The result is the only reference.
///
/// # Errors
/// -ENOMEM (injected).
pub fn dma_buf_export(core: &Arc<KernelCore>, info: DmaBufExportInfo) -> Result<DmaBuf> {
    core.warn_on(
        info.ops.has_pin() && info.ops.cache_sgt_mapping(),
        "a dynamic exporter cannot cache mappings",
    );
    // Inode, directory entry and file, then the buffer.
    for _ in 0..4 {
        reclaim::kmalloc()?;
    }
    let data = DmaBufData {
        core: core.clone(),
        ops: info.ops,
        private: KPtr::new(info.private),
        exp_name: info.exp_name,
        size: info.size,
        owns_resv: info.resv.is_none(),
        resv: info.resv.unwrap_or_default(),
        lock: Mutex::new(&LOCK),
        name_lock: SpinLock::new(&NAME_LOCK),
        name: KCell::new("a dma-buf's name", None),
        attachments: KCell::new("a dma-buf's attachments", Vec::new()),
        vmap: KCell::new("a dma-buf's kernel mapping", VmapState::default()),
        poll: Arc::new(WaitQueueHead::new(&POLL)),
        poll_active: KCell::new("a dma-buf's poll callbacks", PollEvents::NONE),
        live: core.born("dma_buf"),
    };
    let file = File::new(core, info.mode, data);
    if let Some(mapping) = info.mapping {
        file.set_mapping(mapping);
    }
    core.debugfs_list_mutex.lock();
    core.db_list.with(|list| list.push(Arc::downgrade(&file)));
    core.debugfs_list_mutex.unlock();
    Ok(DmaBuf(file))
}

/// `dma_buf_fd`: installs the buffer in a process; takes over the reference.
///
/// # Errors
/// -EMFILE.
pub fn dma_buf_fd(files: &FileTable, buf: DmaBuf) -> Result<Fd> {
    files.install(buf.0)
}

/// `dma_buf_get`: the buffer behind a file descriptor, with a reference.
///
/// # Errors
/// -EBADF, or -EINVAL if it is another kind of file.
pub fn dma_buf_get(files: &FileTable, fd: Fd) -> Result<DmaBuf> {
    let file = files.fget(fd)?;
    match DmaBuf::of(&file) {
        Some(buf) => Ok(buf),
        None => {
            fput(file);
            Err(Errno::EINVAL)
        }
    }
}

/// `get_dma_buf`.
#[track_caller]
pub fn get_dma_buf(buf: &DmaBuf) -> DmaBuf {
    DmaBuf(get_file(&buf.0))
}

/// `dma_buf_put`: the release, if it was the last, is deferred.
pub fn dma_buf_put(buf: DmaBuf) {
    fput(buf.0);
}

fn dma_buf_file_release(buf: &DmaBuf) {
    let core = &buf.core;
    core.debugfs_list_mutex.lock();
    core.db_list.with(|list| list.retain(|other| !core::ptr::eq(other.as_ptr(), Arc::as_ptr(&buf.0))));
    core.debugfs_list_mutex.unlock();
}

fn dma_buf_release(buf: &DmaBufData) {
    assert!(buf.vmap.with(|vmap| vmap.count) == 0, "kernel BUG: dma-buf released while mapped by the kernel");
    assert!(buf.poll_active.get().is_empty(), "kernel BUG: dma-buf released with a poll callback armed");
    buf.enter("release").release(buf);
    buf.core.warn_on(buf.attachments() > 0, "dma-buf released with attachments");
    buf.private.take();
    if buf.owns_resv {
        dma_resv_fini(&buf.resv);
    }
    buf.live.freed();
}

/// The point of the whole series: an exporter's `mmap` is about to run. In P2 the core must not hold the reservation
/// lock here, so that the exporter can take it; who held what is written down for the command `mmap`.
#[track_caller]
fn enter_exporter_mmap(buf: &DmaBuf, path: &'static str) {
    if buf.core.policy == LockingPolicy::P2 {
        dma_resv_assert_not_held(&buf.resv);
    }
    buf.core.log_mmap(buf.exp_name, path, buf.resv.is_held());
}

fn fits(buf: &DmaBuf, pgoff: u64, pages: u64) -> Result {
    let end = pgoff.checked_add(pages).ok_or(Errno::EOVERFLOW)?;
    if end > (buf.size / PAGE_SIZE) as u64 { Err(Errno::EINVAL) } else { Ok(()) }
}

/// `dma_buf_mmap_internal`: the buffer's own file is mapped.
fn dma_buf_mmap_internal(buf: &DmaBuf, vma: &mut VmArea) -> Result {
    if !buf.ops.has_mmap() {
        return Err(Errno::EINVAL);
    }
    fits(buf, vma.pgoff, vma.pages()).map_err(|_| Errno::EINVAL)?;
    if buf.core.policy != LockingPolicy::P1 || buf.core.has(Bug::OwnMmapUnlocked) {
        enter_exporter_mmap(buf, "dma_buf_mmap_internal");
        return buf.enter("mmap").mmap(buf, vma);
    }
    dma_resv_lock(&buf.resv);
    enter_exporter_mmap(buf, "dma_buf_mmap_internal");
    let result = buf.enter("mmap").mmap(buf, vma);
    dma_resv_unlock(&buf.resv);
    result
}

/// `dma_buf_mmap`: an importer forwards the mapping of its own file. The caller must not hold the reservation lock.
///
/// # Errors
/// -EINVAL if the buffer cannot be mapped or the range is outside, -EOVERFLOW, or what the exporter says.
pub fn dma_buf_mmap(buf: &DmaBuf, vma: &mut VmArea, pgoff: u64) -> Result {
    if !buf.ops.has_mmap() {
        return Err(Errno::EINVAL);
    }
    fits(buf, pgoff, vma.pages())?;
    vma_set_file(vma, &buf.0);
    vma.pgoff = pgoff;
    if buf.core.policy != LockingPolicy::P1 {
        enter_exporter_mmap(buf, "dma_buf_mmap");
        return buf.enter("mmap").mmap(buf, vma);
    }
    dma_resv_lock(&buf.resv);
    enter_exporter_mmap(buf, "dma_buf_mmap");
    let result = buf.enter("mmap").mmap(buf, vma);
    dma_resv_unlock(&buf.resv);
    result
}

crate::kernel::opaque_debug!(Tail, DmaBufExportInfo, DmaBufData, DmaBuf);
