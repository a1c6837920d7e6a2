// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Address spaces: `mmap_lock`, the VMAs, `mmap`, `munmap`, fork and exit.
//!
//! The order of things is the kernel's: a driver's `mmap` runs under the write side of `mmap_lock`; unmapping a part
//! of a VMA splits it first (the new half is opened, then the part that goes away is closed); fork opens each VMA
//! under the parent's and then the child's `mmap_lock` (subclass 1).
//!
//! # Locking
//!
//! `&mm->mmap_lock` (rwsem): the VMAs. `&mapping->i_mmap_rwsem` (rwsem): who maps a file.
//!
//! * `&mm->mmap_lock` → `&mm->mmap_lock/1`: fork
//!
//! Kernel counterpart: `mm/mmap.c`, `mm/vma.c`, `kernel/fork.c`. Not modelled: the page table lock and `i_mmap_rwsem`
//! around linking a VMA into its file (plain locks here, which the validator does not see), per-VMA locks, and
//! allocations for the VMA itself.

mod fault;
mod gup;
mod remap;

pub use gup::pin_user_pages_fast;
pub use remap::remap_pages;

pub use fault::{Signal, VmFault, exc_page_fault, read_user, write_user};

use core::any::Any;
use core::ops::Range;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};

use lockdep::LockClass;

use super::cell::{KCell, KRwCell};
use super::core_state::KernelCore;
use super::errno::{Errno, Result};
use super::file::{File, fput, get_file};
use super::live::{Live, LiveObjects};
use super::locking::{RwSem, sleep_class};
use super::shmem::{PAGE_SIZE, Page, ShmemFile, Window};

static MMAP_LOCK: LockClass = sleep_class("&mm->mmap_lock");
static I_MMAP_RWSEM: LockClass = sleep_class("&mapping->i_mmap_rwsem");

const PAGE: u64 = PAGE_SIZE as u64;
const FIRST_ADDRESS: u64 = 0x7000_0000_0000;

/// How a file is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapFlags {
    /// `MAP_SHARED`, else `MAP_PRIVATE`.
    pub shared: bool,
    /// `PROT_WRITE` besides `PROT_READ`.
    pub write: bool,
}

impl MapFlags {
    /// Shared, for reading and writing.
    pub const SHARED: Self = MapFlags { shared: true, write: true };
    /// Shared, for reading.
    pub const SHARED_READ: Self = MapFlags { shared: true, write: false };
    /// Private, for reading and writing: a copy-on-write mapping.
    pub const PRIVATE: Self = MapFlags { shared: false, write: true };
}

/// `struct vm_operations_struct`.
pub trait VmOperations: Send + Sync {
    /// One more VMA of this mapping (fork, split).
    fn open(&self, _vma: &VmArea) {}
    /// One less.
    fn close(&self, _vma: &VmArea) {}
    /// A page is missing: inserts it.
    ///
    /// # Errors
    /// The signal that the task gets instead.
    fn fault(&self, vmf: &VmFault<'_>) -> core::result::Result<(), Signal>;
}

/// What a driver hangs on a VMA.
pub type VmPrivate = Arc<dyn Any + Send + Sync>;

/// `struct vm_area_struct`. A driver's `mmap` may change it; once it is in the address space it stays as it is
/// (a split makes new ones).
pub struct VmArea {
    mm: Weak<Mm>,
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Where it begins in the file, in pages.
    pub pgoff: u64,
    /// How it is mapped.
    pub flags: MapFlags,
    /// `VM_PFNMAP`: the driver inserts page numbers; fork copies the page table.
    pub pfnmap: bool,
    /// The mapped file.
    pub file: Arc<File>,
    /// `vm_private_data`.
    pub private: Option<VmPrivate>,
    /// `vm_ops`.
    pub ops: Option<&'static dyn VmOperations>,
    /// The real mapping behind it, made at the first fault, and the memory it maps.
    window: OnceLock<(Arc<ShmemFile>, Arc<Window>)>,
    live: Arc<Live>,
}

impl VmArea {
    /// How many pages it covers.
    #[must_use]
    pub fn pages(&self) -> u64 {
        (self.end - self.start) / PAGE
    }

    /// `is_cow_mapping`: private and possibly written.
    #[must_use]
    pub fn is_cow(&self) -> bool {
        !self.flags.shared
    }

    /// The driver's data, if it is of this type.
    #[must_use]
    pub fn private<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.private.clone()?.downcast().ok()
    }

    /// A part of it (or a copy for another address space); references are the caller's business.
    fn part(&self, mm: &Weak<Mm>, range: &Range<u64>, live: Arc<Live>) -> Self {
        VmArea {
            mm: mm.clone(),
            start: range.start,
            end: range.end,
            pgoff: self.pgoff + (range.start - self.start) / PAGE,
            flags: self.flags,
            pfnmap: self.pfnmap,
            file: self.file.clone(),
            private: self.private.clone(),
            ops: self.ops,
            window: self.window.clone(),
            live,
        }
    }

    fn link(self: &Arc<Self>) {
        let mut i_mmap = self.file.mapping().i_mmap.lock();
        i_mmap.retain(|vma| vma.strong_count() > 0);
        i_mmap.push(Arc::downgrade(self));
    }

    fn open(&self) {
        if let Some(ops) = self.ops {
            ops.open(self);
        }
    }

    fn close(&self) {
        if let Some(ops) = self.ops {
            ops.close(self);
        }
    }
}

/// `vma_set_file`: maps another file than the one given to `mmap`.
pub(crate) fn vma_set_file(vma: &mut VmArea, file: &Arc<File>) {
    let old = core::mem::replace(&mut vma.file, get_file(file));
    fput(old);
}

/// `struct address_space`: the VMAs that map a file (or all files of a device).
pub struct AddressSpace {
    i_mmap_rwsem: RwSem,
    i_mmap: parking_lot::Mutex<Vec<Weak<VmArea>>>,
}

impl Default for AddressSpace {
    fn default() -> Self {
        AddressSpace { i_mmap_rwsem: RwSem::new(&I_MMAP_RWSEM), i_mmap: parking_lot::Mutex::default() }
    }
}

/// `unmap_mapping_range`: takes these pages of the file out of every page table; the next access faults.
pub fn unmap_mapping_range(mapping: &AddressSpace, pages: Range<u64>) {
    mapping.i_mmap_rwsem.down_read();
    let vmas: Vec<_> = mapping.i_mmap.lock().iter().filter_map(Weak::upgrade).collect();
    for vma in vmas {
        let Some(mm) = vma.mm.upgrade() else { continue };
        let first = pages.start.max(vma.pgoff);
        let last = pages.end.min(vma.pgoff + vma.pages());
        if first < last {
            let base = vma.start / PAGE - vma.pgoff;
            mm.zap(base + first..base + last);
        }
    }
    mapping.i_mmap_rwsem.up_read();
}

/// Takes and drops the write side of `i_mmap_rwsem` of this mapping (boot-time priming).
pub(crate) fn i_mmap_lock_write_and_unlock(mapping: &AddressSpace) {
    mapping.i_mmap_rwsem.down_write();
    mapping.i_mmap_rwsem.up_write();
}

/// A page table entry.
#[derive(Clone)]
struct Pte {
    page: Page,
    window: Arc<Window>,
    writable: bool,
}

/// `struct mm_struct`.
pub struct Mm {
    mmap_lock: RwSem,
    vmas: KRwCell<BTreeMap<u64, Arc<VmArea>>>,
    next_address: KCell<u64>,
    /// Page number → page. What the hardware walks; its lock is not modelled.
    page_table: parking_lot::Mutex<BTreeMap<u64, Pte>>,
    counts: Arc<LiveObjects>,
    live: Live,
}

impl Mm {
    /// `mm_alloc`.
    pub(crate) fn new(core: &KernelCore) -> Arc<Self> {
        let mm = Self::alloc(&core.live);
        core.keep_address_space(&mm);
        mm
    }

    fn alloc(counts: &Arc<LiveObjects>) -> Arc<Self> {
        Arc::new(Mm {
            mmap_lock: RwSem::new(&MMAP_LOCK),
            vmas: KRwCell::new("the VMAs of an address space", BTreeMap::new()),
            next_address: KCell::new("the next free address", FIRST_ADDRESS),
            page_table: parking_lot::Mutex::default(),
            counts: counts.clone(),
            live: counts.born("mm"),
        })
    }

    /// The lock around everything here.
    #[must_use]
    pub fn mmap_lock(&self) -> &RwSem {
        &self.mmap_lock
    }

    fn zap(&self, pages: Range<u64>) {
        self.page_table.lock().retain(|page, _| !pages.contains(page));
    }

    /// The VMA at this address; under `mmap_lock`.
    fn find_vma(&self, address: u64) -> Option<Arc<VmArea>> {
        self.vmas.read(|vmas| {
            let (_, vma) = vmas.range(..=address).next_back()?;
            (address < vma.end).then(|| vma.clone())
        })
    }

    /// How many pages are in the page table.
    #[must_use]
    pub fn mapped_pages(&self) -> usize {
        self.page_table.lock().len()
    }

    /// See [`KernelCore::abandon`].
    pub(crate) fn abandon(&self) {
        self.vmas.try_write(BTreeMap::clear);
        self.page_table.lock().clear();
    }
}

/// `vm_mmap_pgoff`: maps `len` bytes of a file.
///
/// # Errors
/// -EINTR (injected), -EINVAL, -EACCES, -ENODEV, -EOVERFLOW, or what the driver says.
pub fn vm_mmap_pgoff(mm: &Arc<Mm>, file: &Arc<File>, len: u64, pgoff: u64, flags: MapFlags) -> Result<u64> {
    mm.mmap_lock.down_write_killable()?;
    let result = do_mmap(mm, file, len, pgoff, flags);
    mm.mmap_lock.up_write();
    result
}

fn do_mmap(mm: &Arc<Mm>, file: &Arc<File>, len: u64, pgoff: u64, flags: MapFlags) -> Result<u64> {
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    let len = len.checked_next_multiple_of(PAGE).ok_or(Errno::ENOMEM)?;
    pgoff.checked_add(len / PAGE).ok_or(Errno::EOVERFLOW)?;
    if !file.mode.read || (flags.shared && flags.write && !file.mode.write) {
        return Err(Errno::EACCES);
    }
    mmap_region(mm, file, len, pgoff, flags)
}

fn mmap_region(mm: &Arc<Mm>, file: &Arc<File>, len: u64, pgoff: u64, flags: MapFlags) -> Result<u64> {
    // One page stays free behind each mapping, so that an overrun faults.
    let start = mm.next_address.with(|next| core::mem::replace(next, *next + len + PAGE));
    let mut vma = VmArea {
        mm: Arc::downgrade(mm),
        start,
        end: start + len,
        pgoff,
        flags,
        pfnmap: false,
        file: get_file(file),
        private: None,
        ops: None,
        window: OnceLock::new(),
        live: Arc::new(mm.counts.born("vma")),
    };
    let result = file.ops().mmap(file, &mut vma);
    if let Err(error) = result {
        vma.live.freed();
        fput(vma.file);
        return Err(error);
    }
    let vma = Arc::new(vma);
    vma.link();
    mm.vmas.write(|vmas| vmas.insert(start, vma));
    Ok(start)
}

/// `munmap`: unmaps everything between two addresses.
///
/// # Errors
/// -EINVAL unless aligned and not empty, -EINTR (injected).
pub fn vm_munmap(mm: &Arc<Mm>, start: u64, len: u64) -> Result {
    if !start.is_multiple_of(PAGE) || len == 0 {
        return Err(Errno::EINVAL);
    }
    let len = len.checked_next_multiple_of(PAGE).ok_or(Errno::EINVAL)?;
    let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
    __vm_munmap(mm, &(start..end))
}

fn __vm_munmap(mm: &Arc<Mm>, range: &Range<u64>) -> Result {
    mm.mmap_lock.down_write_killable()?;
    let detached = vms_gather_munmap_vmas(mm, range);
    vms_complete_munmap_vmas(mm, range, detached);
    Ok(())
}

/// Splits the VMAs at the ends of the range and takes those inside out of the address space.
fn vms_gather_munmap_vmas(mm: &Arc<Mm>, range: &Range<u64>) -> Vec<Arc<VmArea>> {
    for at in [range.start, range.end] {
        if let Some(vma) = mm.find_vma(at)
            && vma.start < at
        {
            split_vma(mm, &vma, at, at == range.start);
        }
    }
    mm.vmas.write(|vmas| {
        let inside: Vec<_> = vmas.range(range.clone()).map(|(start, _)| *start).collect();
        inside.into_iter().filter_map(|start| vmas.remove(&start)).collect()
    })
}

/// `__split_vma`: one VMA becomes two. `new_below`: the lower half is the new one, which is opened.
fn split_vma(mm: &Arc<Mm>, vma: &Arc<VmArea>, at: u64, new_below: bool) {
    let (lower, upper) = (vma.start..at, at..vma.end);
    let new_live = Arc::new(mm.counts.born("vma"));
    let (lower_live, upper_live) =
        if new_below { (new_live, vma.live.clone()) } else { (vma.live.clone(), new_live) };
    let lower = Arc::new(vma.part(&vma.mm, &lower, lower_live));
    let upper = Arc::new(vma.part(&vma.mm, &upper, upper_live));
    let new = if new_below { &lower } else { &upper };
    let _ours = get_file(&new.file);
    new.open();
    for half in [&lower, &upper] {
        half.link();
        mm.vmas.write(|vmas| vmas.insert(half.start, half.clone()));
    }
}

/// Closes what was taken out; drops the lock.
fn vms_complete_munmap_vmas(mm: &Arc<Mm>, range: &Range<u64>, detached: Vec<Arc<VmArea>>) {
    mm.mmap_lock.downgrade_write();
    mm.zap(range.start / PAGE..range.end / PAGE);
    detached.into_iter().for_each(remove_vma);
    mm.mmap_lock.up_read();
}

fn remove_vma(vma: Arc<VmArea>) {
    vma.close();
    vma.live.freed();
    fput(vma.file.clone());
}

/// `dup_mmap`, as part of `copy_process`: a copy of the address space for a child.
pub(crate) fn copy_process(old: &Arc<Mm>, core: &KernelCore) -> Result<Arc<Mm>> {
    let mm = Mm::new(core);
    if let Err(error) = old.mmap_lock.down_write_killable() {
        mmput(&mm);
        return Err(error);
    }
    mm.mmap_lock.down_write_nested(1);
    mm.next_address.set(old.next_address.get());
    for vma in old.vmas.read(|vmas| vmas.values().cloned().collect::<Vec<_>>()) {
        let live = Arc::new(mm.counts.born("vma"));
        let copy = Arc::new(vma.part(&Arc::downgrade(&mm), &(vma.start..vma.end), live));
        let _ours = get_file(&copy.file);
        copy.link();
        copy.open();
        if copy.pfnmap {
            copy_page_range(&mm, old, &copy);
        }
        mm.vmas.write(|vmas| vmas.insert(copy.start, copy));
    }
    mm.mmap_lock.up_write();
    old.mmap_lock.up_write();
    Ok(mm)
}

fn copy_page_range(new: &Mm, old: &Mm, vma: &VmArea) {
    let range = vma.start / PAGE..vma.end / PAGE;
    let entries: Vec<_> = old.page_table.lock().range(range).map(|(at, pte)| (*at, pte.clone())).collect();
    new.page_table.lock().extend(entries);
}

/// `mmput` of the last user: everything is unmapped.
pub(crate) fn mmput(mm: &Arc<Mm>) {
    exit_mmap(mm);
    mm.live.freed();
}

fn exit_mmap(mm: &Arc<Mm>) {
    if mm.vmas.read(BTreeMap::is_empty) {
        return;
    }
    mm.mmap_lock.down_write();
    mm.page_table.lock().clear();
    let vmas = mm.vmas.write(core::mem::take);
    vmas.into_values().for_each(remove_vma);
    mm.mmap_lock.up_write();
}

super::opaque_debug!(VmArea, Mm, AddressSpace);
