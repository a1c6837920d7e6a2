// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The kernel's own mappings: scattered pages next to each other in one range of addresses.
//!
//! What is modelled is when memory is asked for, because it is asked for under the drivers' locks: a descriptor for each
//! mapping, a page of the page table for each stretch of [`STRETCH`] pages that nobody has mapped before. A booted
//! kernel has room for single pages in stretches that are mapped already; larger mappings go to fresh ones.
//! `vm_map_ram` takes its addresses from a block of its own.
//!
//! Not modelled: the allocator's own locks, which are leaves that no driver sees.
//!
//! Kernel counterpart: `mm/vmalloc.c`.

use std::sync::Arc;

use super::KernelCore;
use super::errno::Result;
use super::live::Live;
use super::reclaim;
use super::shmem::{IosysMap, PAGE_SIZE, Pages, ShmemFile};

/// How many pages one page of the page table maps.
const STRETCH: usize = 512;
/// How many pages a block of `vm_map_ram` has.
const BLOCK: usize = 1024;

/// The addresses of one kernel.
#[derive(Debug, Default)]
pub(crate) struct VmallocSpace(parking_lot::Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Pages of free address space that have a page table, for `vmap`.
    room: usize,
    /// Free pages of the blocks of `vm_map_ram`, and how many of their pages have a page table.
    block_free: usize,
    block_room: usize,
}

/// Takes `count` of the pages that are free, after adding some in portions if they do not suffice.
fn take(free: &mut usize, count: usize, portion: usize) {
    if *free < count {
        *free += count.next_multiple_of(portion);
    }
    *free -= count;
}

/// A mapping for the kernel.
pub struct KernelMapping {
    /// The bytes.
    pub map: IosysMap,
    pages: Pages,
    live: Live,
}

impl KernelMapping {
    fn new(core: &KernelCore, pages: Pages, kind: &'static str) -> Self {
        KernelMapping { map: IosysMap(pages.clone()), pages, live: core.born(kind) }
    }

    /// `vmalloc_to_page` of each page.
    #[must_use]
    pub fn pages(&self) -> &Pages {
        &self.pages
    }
}

/// `__get_vm_area_node`: the descriptors.
fn get_vm_area_node() -> Result {
    reclaim::kmalloc()?;
    reclaim::kmalloc()
}

/// `vmalloc`, `vmalloc_user`: zeroed memory.
///
/// # Errors
/// -EINVAL for size 0, -ENOMEM (injected).
pub fn vmalloc(core: &KernelCore, size: usize) -> Result<KernelMapping> {
    get_vm_area_node()?;
    // The list of its pages, then the pages: one, or all in bulk.
    reclaim::kmalloc()?;
    reclaim::alloc_page()?;
    let pages = ShmemFile::anonymous_pages(size.div_ceil(PAGE_SIZE))?;
    Ok(KernelMapping::new(core, pages, "vmalloc"))
}

/// `vfree`.
#[expect(clippy::needless_pass_by_value, reason = "the memory is given up")]
pub fn vfree(memory: KernelMapping) {
    memory.live.freed();
}

/// `vmap`: maps these pages.
///
/// # Errors
/// -ENOMEM (injected).
pub fn vmap(core: &KernelCore, pages: &Pages) -> Result<KernelMapping> {
    get_vm_area_node()?;
    let count = pages.len() + 1;
    // Two tasks may both find the page table missing; in the kernel too the second page is then given back.
    let missing = core.vmalloc.0.lock().room < count;
    if missing {
        reclaim::alloc_page()?;
    }
    take(&mut core.vmalloc.0.lock().room, count, STRETCH);
    Ok(KernelMapping::new(core, Arc::from(&pages[..]), "vmap"))
}

/// `vunmap`.
#[expect(clippy::needless_pass_by_value, reason = "the mapping is given up")]
pub fn vunmap(core: &KernelCore, mapping: KernelMapping) {
    core.vmalloc.0.lock().room += mapping.pages.len() + 1;
    mapping.live.freed();
}

/// `vm_map_ram`: maps these pages, for a short time.
///
/// # Errors
/// -ENOMEM (injected).
pub fn vm_map_ram(core: &KernelCore, pages: &Pages) -> Result<KernelMapping> {
    let count = pages.len();
    let missing = core.vmalloc.0.lock().block_free < count;
    if missing {
        // A new block: itself, its addresses, its place in the tree of blocks.
        reclaim::kmalloc()?;
        reclaim::kmalloc()?;
        reclaim::fs_reclaim_acquire();
        reclaim::fs_reclaim_release();
    }
    let missing = core.vmalloc.0.lock().block_room < count;
    if missing {
        reclaim::alloc_page()?;
    }
    let mut space = core.vmalloc.0.lock();
    take(&mut space.block_free, count, BLOCK);
    take(&mut space.block_room, count, STRETCH);
    drop(space);
    Ok(KernelMapping::new(core, Arc::from(&pages[..]), "vm_map_ram"))
}

/// `vm_unmap_ram`.
#[expect(clippy::needless_pass_by_value, reason = "the mapping is given up")]
pub fn vm_unmap_ram(core: &KernelCore, mapping: KernelMapping) {
    let mut space = core.vmalloc.0.lock();
    space.block_free += mapping.pages.len();
    space.block_room += mapping.pages.len();
    drop(space);
    mapping.live.freed();
}

super::opaque_debug!(KernelMapping);
