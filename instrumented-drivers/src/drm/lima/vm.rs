// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Address spaces of the GPU, one for each open file and each job: where an object is, and which page is where.
//!
//! Kernel counterpart: `lima_vm.c`.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockdep::LockClass;

use super::gem::{LimaBo, lima_bo};
use crate::drm::gem::DrmGemObject;
use crate::kernel::KernelCore;
use crate::kernel::cell::{KCell, Kref};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::live::Live;
use crate::kernel::locking::{Mutex, sleep_class};
use crate::kernel::reclaim;
use crate::kernel::shmem::{PAGE_SIZE, Page};

static VM_LOCK: LockClass = sleep_class("&vm->lock");

/// Pages that one page of the second level maps.
const BLOCK: u64 = 1024 * 8;
/// The first address, in pages.
const FIRST: u64 = 0x10_0000 / PAGE_SIZE as u64;

/// Under `vm->lock`: the next free address, in pages, and the blocks that have a page table.
struct Allocator {
    next: u64,
    blocks: Vec<u64>,
}

/// `struct lima_vm`.
pub(super) struct LimaVm {
    lock: Mutex,
    refcount: Kref,
    mm: KCell<Allocator>,
    /// What the hardware walks, whenever it wants.
    page_table: parking_lot::Mutex<BTreeMap<u64, Page>>,
    live: Live,
}

/// `struct lima_bo_va`: where an object is in an address space, in pages.
pub(super) struct LimaBoVa {
    vm: Arc<LimaVm>,
    ref_count: usize,
    start: u64,
}

/// `lima_vm_create`.
pub(super) fn lima_vm_create(core: &KernelCore) -> Result<Arc<LimaVm>> {
    reclaim::kmalloc()?;
    // The page directory.
    reclaim::alloc_page()?;
    Ok(Arc::new(LimaVm {
        lock: Mutex::new(&VM_LOCK),
        refcount: Kref::new(),
        mm: KCell::new(
            "the addresses of a GPU's address space",
            Allocator { next: FIRST, blocks: Vec::new() },
        ),
        page_table: parking_lot::Mutex::default(),
        live: core.born("lima_vm"),
    }))
}

/// `lima_vm_get`.
pub(super) fn lima_vm_get(vm: &Arc<LimaVm>) -> Arc<LimaVm> {
    vm.refcount.get();
    vm.clone()
}

/// `lima_vm_put`.
pub(super) fn lima_vm_put(vm: &LimaVm) {
    if vm.refcount.put() {
        vm.live.freed();
    }
}

impl LimaVm {
    /// The hardware looks an address up.
    pub(super) fn walk(&self, page: u64) -> Option<Page> {
        self.page_table.lock().get(&page).cloned()
    }
}

fn with_va<R>(bo: &LimaBo, vm: &Arc<LimaVm>, f: impl FnOnce(&mut LimaBoVa) -> R) -> Option<R> {
    bo.va.with(|list| list.iter_mut().find(|va| Arc::ptr_eq(&va.vm, vm)).map(f))
}

/// Puts pages into the page table from this address on; `vm->lock` is held.
fn map_pages(vm: &LimaVm, start: u64, pages: &[Page]) -> Result {
    for (at, page) in (start..).zip(pages) {
        let block = at / BLOCK;
        if !vm.mm.with(|mm| mm.blocks.contains(&block)) {
            // `lima_vm_map_page`: a page of the second level.
            reclaim::alloc_page()?;
            vm.mm.with(|mm| mm.blocks.push(block));
        }
        vm.page_table.lock().insert(at, page.clone());
    }
    Ok(())
}

fn unmap_pages(vm: &LimaVm, start: u64, count: u64) {
    vm.page_table.lock().retain(|page, _| !(start..start + count).contains(page));
}

fn pages_of(obj: &DrmGemObject) -> u64 {
    (obj.size / PAGE_SIZE) as u64
}

/// `lima_vm_bo_add`: one more user of the object in this address space; it gets an address if `create`.
///
/// # Errors
/// -ENOENT if it has none and must not get one, -ENOMEM (injected).
pub(super) fn lima_vm_bo_add(vm: &Arc<LimaVm>, obj: &DrmGemObject, create: bool) -> Result {
    let bo = lima_bo(obj);
    bo.lock.lock();
    let result = match with_va(bo, vm, |va| va.ref_count += 1) {
        Some(()) => Ok(()),
        None if !create => Err(Errno::ENOENT),
        None => bo_add(vm, obj, bo),
    };
    bo.lock.unlock();
    result
}

/// The middle of `lima_vm_bo_add`, which it shows.
#[track_caller]
fn bo_add(vm: &Arc<LimaVm>, obj: &DrmGemObject, bo: &LimaBo) -> Result {
    reclaim::kmalloc()?;
    let table = bo.table().ok_or(Errno::EINVAL)?;
    vm.lock.lock();
    let start = vm.mm.with(|mm| {
        let start = mm.next;
        // One page stays free behind each object, so that an overrun faults.
        mm.next += pages_of(obj) + 1;
        start
    });
    let result = map_pages(vm, start, table.page_list());
    if result.is_err() {
        unmap_pages(vm, start, pages_of(obj));
    }
    vm.lock.unlock();
    result?;
    bo.va.with(|list| list.push(LimaBoVa { vm: vm.clone(), ref_count: 1, start }));
    Ok(())
}

/// `lima_vm_bo_del`: one user less; the last one gives the address up.
pub(super) fn lima_vm_bo_del(vm: &Arc<LimaVm>, obj: &DrmGemObject) {
    let bo = lima_bo(obj);
    bo.lock.lock();
    let last = with_va(bo, vm, |va| {
        va.ref_count -= 1;
        (va.ref_count == 0).then_some(va.start)
    });
    if let Some(start) = last.flatten() {
        vm.lock.lock();
        unmap_pages(vm, start, pages_of(obj));
        vm.lock.unlock();
        bo.va.with(|list| list.retain(|va| !Arc::ptr_eq(&va.vm, vm)));
    }
    bo.lock.unlock();
}

/// `lima_vm_get_va`: where the object is, in bytes.
pub(super) fn lima_vm_get_va(vm: &Arc<LimaVm>, obj: &DrmGemObject) -> Option<u64> {
    let bo = lima_bo(obj);
    bo.lock.lock();
    let start = with_va(bo, vm, |va| va.start * PAGE_SIZE as u64);
    bo.lock.unlock();
    start
}

/// `lima_vm_map_bo`: maps what a heap has got since, from this page on.
///
/// # Errors
/// -ENOENT if the object has no address, -ENOMEM (injected).
pub(super) fn lima_vm_map_bo(vm: &Arc<LimaVm>, obj: &DrmGemObject, from: usize, pages: &[Page]) -> Result {
    let bo = lima_bo(obj);
    bo.lock.lock();
    let start = with_va(bo, vm, |va| va.start);
    let result = match start {
        Some(start) => {
            vm.lock.lock();
            let result = map_pages(vm, start + from as u64, &pages[from..]);
            if result.is_err() {
                unmap_pages(vm, start + from as u64, (pages.len() - from) as u64);
            }
            vm.lock.unlock();
            result
        }
        None => Err(Errno::ENOENT),
    };
    bo.lock.unlock();
    result
}
