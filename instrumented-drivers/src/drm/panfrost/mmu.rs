// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! GPU address spaces.
//!
//! Each open file has one ([`PanfrostMmu`]), with an allocator of addresses (`mm_lock`) and a page table. The GPU
//! can use eight at one time; the device gives its slots to those that run jobs and takes them from the one that
//! was idle longest (`as_lock`).
//!
//! Kernel counterpart: `drivers/gpu/drm/panfrost/panfrost_mmu.c`. Not modelled: power management, the layout of the
//! page table (its allocations are one for each 2 MiB), stale translations.

use core::ops::Range;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Weak};

use lockdep::LockClass;

use super::device::PanfrostDevice;
use super::gem::{PanfrostGemMapping, panfrost_gem_mapping_put, to_panfrost_bo};
use super::hw::{ADDRESS_SPACES, AsCommand, GpuPageTable, PAGE};
use crate::bug::Bug;
use crate::dma_buf::SgTable;
use crate::dma_buf::fence::{dma_fence_begin_signalling, dma_fence_end_signalling};
use crate::dma_buf::resv::{dma_resv_lock, dma_resv_unlock};
use crate::drm::gem::DrmGemObject;
use crate::drm::gem_shmem_helper::{own_mutexes, to_drm_gem_shmem_obj};
use crate::drm::gem_shmem_memory::drm_gem_shmem_get_pages_sgt;
use crate::kernel::cell::{KCell, Kref};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::gfp::{memalloc_noreclaim_restore, memalloc_noreclaim_save};
use crate::kernel::irq_thread::IrqReturn;
use crate::kernel::live::Live;
use crate::kernel::locking::{SpinLock, spin_class};
use crate::kernel::reclaim;
use crate::kernel::shmem::Pages;

/// Which address spaces exist, as bits of the MMU's interrupt.
const ALL: u32 = (1 << ADDRESS_SPACES) - 1;

static MM_LOCK: LockClass = spin_class("&mmu->mm_lock");

/// 2 MiB: the block size of the page table, and of a heap's growth.
pub const SZ_2M: usize = 2 << 20;
/// Pages in 2 MiB.
pub(super) const NUM_FAULT_PAGES: usize = SZ_2M / PAGE as usize;

/// The addresses that are given out, in pages: from 32 MiB to 4 GiB.
const VA_PAGES: Range<u64> = (32 << 20) / PAGE..(4 << 30) / PAGE;

struct VaNode {
    pages: u64,
    mapping: Weak<PanfrostGemMapping>,
}

/// `struct drm_mm`: which addresses are taken. First page → what is there.
#[derive(Default)]
pub(super) struct VaSpace(BTreeMap<u64, VaNode>);

impl VaSpace {
    /// The first gap that is large enough.
    fn gap(&self, pages: u64, align: u64) -> Result<u64> {
        let fits_after = |end: u64| end.next_multiple_of(align.max(1));
        let mut start = fits_after(VA_PAGES.start);
        for (first, node) in &self.0 {
            if start + pages <= *first {
                break;
            }
            start = start.max(fits_after(first + node.pages));
        }
        if start + pages > VA_PAGES.end {
            return Err(Errno::ENOSPC);
        }
        Ok(start)
    }

    /// `drm_mm_insert_node_generic`.
    fn insert(&mut self, pages: u64, align: u64, mapping: &Arc<PanfrostGemMapping>) -> Result<u64> {
        let start = self.gap(pages, align)?;
        self.0.insert(start, VaNode { pages, mapping: Arc::downgrade(mapping) });
        Ok(start)
    }

    fn find(&self, page: u64) -> Option<Arc<PanfrostGemMapping>> {
        let (first, node) = self.0.range(..=page).next_back()?;
        (page < first + node.pages).then(|| node.mapping.upgrade())?
    }
}

/// `struct panfrost_mmu`: the GPU address space of a file.
pub struct PanfrostMmu {
    refcount: Kref,
    pfdev: Weak<PanfrostDevice>,
    pub(super) mm_lock: SpinLock,
    /// Under `mm_lock`.
    mm: KCell<VaSpace>,
    /// The slot of the GPU that it has, negative for none. Changed under `as_lock`.
    slot: AtomicI32,
    /// How many jobs run in it.
    users: AtomicI32,
    pub(super) table: Arc<GpuPageTable>,
    live: Live,
}

impl PanfrostMmu {
    fn slot(&self) -> Option<usize> {
        usize::try_from(self.slot.load(Ordering::Relaxed)).ok()
    }
}

/// Which file's address space is in which slot of the GPU; under `as_lock`.
#[derive(Default)]
pub(super) struct AddressSpaces {
    /// Most recently used first; each has a slot.
    lru: Vec<Arc<PanfrostMmu>>,
    taken: [bool; ADDRESS_SPACES],
}

/// `panfrost_mmu_ctx_create`.
///
/// # Errors
/// -ENOMEM (injected).
pub(super) fn panfrost_mmu_ctx_create(pfdev: &Arc<PanfrostDevice>) -> Result<Arc<PanfrostMmu>> {
    reclaim::kmalloc()?;
    Ok(Arc::new(PanfrostMmu {
        refcount: Kref::new(),
        pfdev: Arc::downgrade(pfdev),
        mm_lock: SpinLock::new(&MM_LOCK),
        mm: KCell::new("the addresses of a GPU address space", VaSpace::default()),
        slot: AtomicI32::new(-1),
        users: AtomicI32::new(0),
        table: Arc::default(),
        live: pfdev.core.born("panfrost_mmu"),
    }))
}

/// `panfrost_mmu_ctx_get`.
pub(super) fn panfrost_mmu_ctx_get(mmu: &Arc<PanfrostMmu>) -> Arc<PanfrostMmu> {
    mmu.refcount.get();
    mmu.clone()
}

/// `panfrost_mmu_ctx_put`.
pub(super) fn panfrost_mmu_ctx_put(mmu: &Arc<PanfrostMmu>) {
    if mmu.refcount.put() {
        panfrost_mmu_release_ctx(mmu);
    }
}

fn panfrost_mmu_release_ctx(mmu: &Arc<PanfrostMmu>) {
    if let Some(pfdev) = mmu.pfdev.upgrade() {
        pfdev.as_lock.lock();
        if let Some(slot) = mmu.slot() {
            panfrost_mmu_disable(&pfdev, slot);
            pfdev.spaces.with(|spaces| {
                spaces.taken[slot] = false;
                spaces.lru.retain(|other| !Arc::ptr_eq(other, mmu));
            });
        }
        pfdev.as_lock.unlock();
        let leaked = mmu.mm.with(|mm| !mm.0.is_empty());
        pfdev.core.warn_on(leaked, "a GPU address space is freed with addresses in use");
    }
    mmu.live.freed();
}

/// `panfrost_mmu_as_get`: the address space is about to be used; returns its slot.
pub(super) fn panfrost_mmu_as_get(pfdev: &PanfrostDevice, mmu: &Arc<PanfrostMmu>) -> usize {
    pfdev.as_lock.lock();
    let slot = pfdev.spaces.with(|spaces| match mmu.slot() {
        Some(slot) => {
            mmu.users.fetch_add(1, Ordering::Relaxed);
            spaces.lru.retain(|other| !Arc::ptr_eq(other, mmu));
            spaces.lru.insert(0, mmu.clone());
            let bit = 1 << slot;
            if pfdev.as_faulty_mask.load(Ordering::Acquire) & bit != 0 {
                // A fault that came while it was being switched off is nobody's business any more; in this order, or
                // the interrupt's thread would take it for a fault of whoever uses the slot now.
                pfdev.hw.clear_mmu(bit);
                pfdev.as_faulty_mask.fetch_and(!bit, Ordering::AcqRel);
                // 6.12 writes the mask as it was, so this address space stays silent for a while longer.
                pfdev.hw.set_mmu_mask(pfdev.mmu_int_mask());
                panfrost_mmu_enable(pfdev, mmu, slot);
            }
            slot
        }
        None => {
            let slot = spaces.free_slot(pfdev);
            mmu.slot.store(i32::try_from(slot).unwrap_or(-1), Ordering::Relaxed);
            mmu.users.store(1, Ordering::Relaxed);
            spaces.taken[slot] = true;
            spaces.lru.insert(0, mmu.clone());
            panfrost_mmu_enable(pfdev, mmu, slot);
            slot
        }
    });
    pfdev.as_lock.unlock();
    slot
}

impl AddressSpaces {
    /// A slot that nobody has, or that of the address space that was idle longest.
    fn free_slot(&mut self, pfdev: &PanfrostDevice) -> usize {
        if let Some(free) = self.taken.iter().position(|taken| !taken) {
            return free;
        }
        let idle = self.lru.iter().rposition(|mmu| mmu.users.load(Ordering::Relaxed) == 0);
        pfdev.core.warn_on(idle.is_none(), "more address spaces are in use than the GPU has");
        let victim = self.lru.remove(idle.unwrap_or(self.lru.len() - 1));
        let slot = victim.slot().unwrap_or(0);
        victim.slot.store(-1, Ordering::Relaxed);
        slot
    }
}

/// `panfrost_mmu_as_put`. Takes no lock.
pub(super) fn panfrost_mmu_as_put(pfdev: &PanfrostDevice, mmu: &PanfrostMmu) {
    let before = mmu.users.fetch_sub(1, Ordering::Relaxed);
    pfdev.core.warn_on(before <= 0, "a GPU address space is put once too often");
}

fn panfrost_mmu_enable(pfdev: &PanfrostDevice, mmu: &PanfrostMmu, slot: usize) {
    pfdev.hw.as_command(slot, AsCommand::Flush);
    pfdev.hw.as_command(slot, AsCommand::Update(Some(mmu.table.clone())));
}

fn panfrost_mmu_disable(pfdev: &PanfrostDevice, slot: usize) {
    pfdev.hw.as_command(slot, AsCommand::Flush);
    pfdev.hw.as_command(slot, AsCommand::Update(None));
}

fn mmu_hw_do_operation(pfdev: &PanfrostDevice, mmu: &PanfrostMmu) {
    pfdev.as_lock.lock();
    if let Some(slot) = mmu.slot() {
        pfdev.hw.as_command(slot, AsCommand::Flush);
    }
    pfdev.as_lock.unlock();
}

fn panfrost_mmu_flush_range(pfdev: &PanfrostDevice, mmu: &PanfrostMmu) {
    if mmu.slot().is_some() {
        mmu_hw_do_operation(pfdev, mmu);
    }
}

/// `panfrost_mmu_reset`: the GPU has forgotten all address spaces.
pub(super) fn panfrost_mmu_reset(pfdev: &PanfrostDevice) {
    pfdev.as_lock.lock();
    for mmu in pfdev.spaces.replace(AddressSpaces::default()).lru {
        mmu.slot.store(-1, Ordering::Relaxed);
        mmu.users.store(0, Ordering::Relaxed);
    }
    pfdev.as_faulty_mask.store(0, Ordering::Release);
    pfdev.as_lock.unlock();
    pfdev.hw.clear_mmu(u32::MAX);
    pfdev.hw.set_mmu_mask(pfdev.mmu_int_mask());
}

impl PanfrostDevice {
    /// The address spaces whose faults are looked at.
    fn mmu_int_mask(&self) -> u32 {
        ALL & !self.as_faulty_mask.load(Ordering::Acquire)
    }
}

/// `mmu_map_sg`: enters a table's pages from this GPU page on. A part of the page table that cannot be allocated stays
/// empty, without an error, as in the kernel; the GPU will fault there.
pub(super) fn mmu_map_sg(pfdev: &PanfrostDevice, mmu: &PanfrostMmu, first: u64, table: &Arc<SgTable>) {
    for chunk in (0..table.pages()).step_by(NUM_FAULT_PAGES) {
        if reclaim::kmalloc().is_ok() {
            let end = table.pages().min(chunk + NUM_FAULT_PAGES);
            mmu.table.map(first + chunk as u64, table, chunk..end);
        }
    }
    panfrost_mmu_flush_range(pfdev, mmu);
}

/// `panfrost_mmu_map`: puts a whole object into the page table.
///
/// # Errors
/// -EINTR, -ENOMEM (injected).
pub(super) fn panfrost_mmu_map(pfdev: &PanfrostDevice, mapping: &PanfrostGemMapping) -> Result {
    if pfdev.core.warn_on(mapping.is_active(), "an object is entered into a GPU page table twice") {
        return Ok(());
    }
    let table = drm_gem_shmem_get_pages_sgt(&mapping.obj)?;
    mmu_map_sg(pfdev, &mapping.mmu, mapping.first_page(), &table);
    mapping.set_active(true);
    Ok(())
}

/// `panfrost_mmu_unmap`.
pub(super) fn panfrost_mmu_unmap(pfdev: &PanfrostDevice, mapping: &PanfrostGemMapping) {
    if pfdev.core.warn_on(!mapping.is_active(), "an object is removed from a GPU page table twice") {
        return;
    }
    let first = mapping.first_page();
    mapping.mmu.table.unmap(first..first + (mapping.obj.size as u64) / PAGE);
    panfrost_mmu_flush_range(pfdev, &mapping.mmu);
    mapping.set_active(false);
}

/// The address allocator's part of `panfrost_gem_open`.
#[track_caller]
pub(super) fn insert_node(mapping: &Arc<PanfrostGemMapping>, pages: u64, align: u64) -> Result<u64> {
    let mmu = &mapping.mmu;
    mmu.mm_lock.lock();
    let start = mmu.mm.with(|mm| mm.insert(pages, align, mapping));
    mmu.mm_lock.unlock();
    start
}

/// The address allocator's part of `panfrost_gem_teardown_mapping`.
#[track_caller]
pub(super) fn remove_node(mmu: &PanfrostMmu, start: Option<u64>) {
    mmu.mm_lock.lock();
    if let Some(start) = start {
        mmu.mm.with(|mm| mm.0.remove(&start));
    }
    mmu.mm_lock.unlock();
}

/// The mapping at an address of the address space in this slot, with a reference.
fn addr_to_mapping(pfdev: &PanfrostDevice, slot: usize, address: u64) -> Option<Arc<PanfrostGemMapping>> {
    pfdev.as_lock.lock();
    let mmu = pfdev.spaces.with(|spaces| spaces.lru.iter().find(|mmu| mmu.slot() == Some(slot)).cloned());
    let mapping = mmu.and_then(|mmu| {
        mmu.mm_lock.lock();
        let mapping = mmu.mm.with(|mm| mm.find(address / PAGE));
        // The kernel takes the reference without a look at the count. A mapping that is being torn down (of an
        // object that the job did not name) is found until its address is free again.
        let mapping = mapping.filter(|mapping| mapping.get_unless_zero());
        mmu.mm_lock.unlock();
        mapping
    });
    pfdev.as_lock.unlock();
    mapping
}

/// `panfrost_mmu_map_fault_addr`: the GPU has found no page at this address; a heap grows by 2 MiB.
///
/// # Errors
/// -ENOENT if there is no object, -EINVAL if it is no heap, -ENOMEM (injected).
fn panfrost_mmu_map_fault_addr(pfdev: &PanfrostDevice, slot: usize, address: u64) -> Result {
    let mapping = addr_to_mapping(pfdev, slot, address).ok_or(Errno::ENOENT)?;
    let result = grow_at(pfdev, &mapping, address);
    panfrost_gem_mapping_put(mapping);
    result
}

/// The middle of `panfrost_mmu_map_fault_addr`, which it shows.
#[track_caller]
fn grow_at(pfdev: &PanfrostDevice, mapping: &PanfrostGemMapping, address: u64) -> Result {
    if !to_panfrost_bo(&mapping.obj).is_heap() {
        return Err(Errno::EINVAL);
    }
    let block = address & !(SZ_2M as u64 - 1);
    let first = usize::try_from(block / PAGE - mapping.first_page()).map_err(|_| Errno::EINVAL)?;
    let obj = &mapping.obj;
    let heap_lock = if own_mutexes(obj) {
        Some(&to_drm_gem_shmem_obj(obj).pages_lock)
    } else if pfdev.core.has(Bug::FaultLocksResv) {
        None
    } else {
        Some(&to_panfrost_bo(obj).heap_lock)
    };
    if let Some(lock) = heap_lock {
        lock.lock();
        let pages = read_block(obj, first);
        lock.unlock();
        let Some(pages) = pages? else { return Ok(()) };
        return map_block(pfdev, mapping, first, pages);
    }
    dma_resv_lock(obj.resv());
    let result = read_block(obj, first).and_then(|pages| match pages {
        Some(pages) => map_block(pfdev, mapping, first, pages),
        None => Ok(()),
    });
    dma_resv_unlock(obj.resv());
    result
}

/// Reads the pages of a block; `None` if it is mapped already. The lock of the pages is held.
///
/// A block counts as mapped when it has a table. (6.12 looks at its first page, and so takes one for mapped whose
/// reading failed half-way.)
fn read_block(obj: &Arc<DrmGemObject>, first: usize) -> Result<Option<Pages>> {
    let bo = to_panfrost_bo(obj);
    let filp = obj.filp.as_ref().ok_or(Errno::EINVAL)?;
    if bo.sgts.with(|sgts| sgts.is_empty()) {
        // The array of tables, and that of pages; it counts as a user of the pages until the end.
        reclaim::kmalloc()?;
        reclaim::kmalloc()?;
        bo.sgts.set(vec![None; obj.size / SZ_2M]);
        let shmem = to_drm_gem_shmem_obj(obj);
        // The helper must see that there are pages; which, is not its business.
        shmem.pages.swap(Some(Arc::from([])));
        shmem.state.with(|state| state.use_count = 1);
    }
    if bo.sgts.with(|sgts| sgts[first / NUM_FAULT_PAGES].is_some()) {
        return Ok(None);
    }
    (first..first + NUM_FAULT_PAGES)
        .map(|page| filp.read_mapping_page(page))
        .collect::<Result<Pages>>()
        .map(Some)
}

fn map_block(pfdev: &PanfrostDevice, mapping: &PanfrostGemMapping, first: usize, pages: Pages) -> Result {
    let bo = to_panfrost_bo(&mapping.obj);
    let table = SgTable::from_pages(&pfdev.core, pages)?;
    bo.sgts.with(|sgts| sgts[first / NUM_FAULT_PAGES] = Some(table.clone()));
    mmu_map_sg(pfdev, &mapping.mmu, mapping.first_page() + first as u64, &table);
    mapping.set_active(true);
    bo.heap_rss_size.fetch_add(SZ_2M, Ordering::Relaxed);
    Ok(())
}

/// `panfrost_mmu_irq_handler`.
pub(super) fn panfrost_mmu_irq_handler(pfdev: &PanfrostDevice) -> IrqReturn {
    if pfdev.hw.mmu_stat() == 0 {
        return IrqReturn::None;
    }
    pfdev.hw.set_mmu_mask(0);
    IrqReturn::WakeThread
}

/// `panfrost_mmu_irq_handler_thread`: the GPU waits for this, and so do all who wait for the GPU. The kernel does not say
/// so to the validator ([`Bug::FaultsUnannotated`]).
pub(super) fn panfrost_mmu_irq_handler_thread(pfdev: &PanfrostDevice) {
    // Only what is free already, for reclaim waits for fences.
    let noreclaim = (!pfdev.core.has(Bug::FaultAllocates)).then(memalloc_noreclaim_save);
    let cookie = (!pfdev.core.has(Bug::FaultsUnannotated)).then(dma_fence_begin_signalling);
    let mut status = pfdev.hw.mmu_rawstat();
    while status != 0 {
        let slot = status.trailing_zeros() as usize;
        let address = pfdev.hw.fault_address(slot);
        pfdev.hw.clear_mmu(1 << slot);
        if pfdev.next_fault.run(|| panfrost_mmu_map_fault_addr(pfdev, slot, address)).is_err() {
            pfdev.as_lock.lock();
            // Until somebody uses the slot anew.
            pfdev.as_faulty_mask.fetch_or(1 << slot, Ordering::AcqRel);
            panfrost_mmu_disable(pfdev, slot);
            pfdev.as_lock.unlock();
        }
        status &= !(1 << slot);
        if status == 0 {
            status = pfdev.hw.mmu_rawstat() & pfdev.mmu_int_mask();
        }
    }
    pfdev.as_lock.lock();
    pfdev.hw.set_mmu_mask(pfdev.mmu_int_mask());
    pfdev.as_lock.unlock();
    if let Some(cookie) = cookie {
        dma_fence_end_signalling(cookie);
    }
    if let Some(flags) = noreclaim {
        memalloc_noreclaim_restore(flags);
    }
}

crate::kernel::opaque_debug!(PanfrostMmu);

#[cfg(test)]
mod tests {
    use super::{Errno, VA_PAGES, VaSpace};
    use std::sync::Weak;

    fn insert(space: &mut VaSpace, pages: u64, align: u64) -> Result<u64, Errno> {
        // The allocator does not look at the mapping.
        let start = space.gap(pages, align)?;
        space.0.insert(start, super::VaNode { pages, mapping: Weak::new() });
        Ok(start)
    }

    #[test]
    fn addresses_do_not_overlap_are_aligned_and_are_reused() {
        let mut space = VaSpace::default();
        let first = insert(&mut space, 3, 0).unwrap();
        let aligned = insert(&mut space, 512, 512).unwrap();
        let gap = insert(&mut space, 1, 0).unwrap();
        assert_eq!(first, VA_PAGES.start);
        assert!(aligned.is_multiple_of(512) && aligned >= first + 3);
        assert_eq!(gap, first + 3, "the hole before the aligned one is used");
        space.0.remove(&first);
        assert_eq!(insert(&mut space, 3, 0).unwrap(), first);
    }

    #[test]
    fn a_full_address_space_says_so() {
        let mut space = VaSpace::default();
        assert_eq!(insert(&mut space, VA_PAGES.end, 0), Err(Errno::ENOSPC));
    }
}
