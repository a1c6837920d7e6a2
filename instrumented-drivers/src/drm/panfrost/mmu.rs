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
use super::gem::PanfrostGemMapping;
use super::hw::{ADDRESS_SPACES, AsCommand, GpuPageTable, PAGE};
use crate::dma_buf::SgTable;
use crate::drm::gem_shmem_memory::drm_gem_shmem_get_pages_sgt;
use crate::kernel::cell::{KCell, Kref};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::live::Live;
use crate::kernel::locking::{SpinLock, spin_class};
use crate::kernel::reclaim;

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
    /// Switched off by a page fault that nobody could handle.
    faulty: [bool; ADDRESS_SPACES],
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
            if core::mem::take(&mut spaces.faulty[slot]) {
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
