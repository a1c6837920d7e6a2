// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Memory allocation as the validator sees it: an allocation that may sleep may also reclaim memory, so it counts as
//! taking and dropping the pseudo-lock `fs_reclaim`. Also the other pseudo-lock of memory management,
//! `mmu_notifier_invalidate_range_start`.
//!
//! Kernel counterpart: `fs_reclaim_acquire()` in `mm/page_alloc.c`.

use lockdep::LockClass;
use lockdep::raw::{self, Acquire, LockMap};

use super::errno::{Errno, Result};
use super::fault;
use super::gfp::may_reclaim;
use super::shrinker::direct_reclaim;

static FS_RECLAIM: LockClass = LockClass::new("fs_reclaim").strict();
static FS_RECLAIM_MAP: LockMap = LockMap::new(&FS_RECLAIM);

static MMU_NOTIFIER: LockClass = LockClass::new("mmu_notifier_invalidate_range_start").strict();
static MMU_NOTIFIER_MAP: LockMap = LockMap::new(&MMU_NOTIFIER);

/// `fs_reclaim_acquire`: this task enters memory reclaim.
#[track_caller]
pub fn fs_reclaim_acquire() {
    raw::acquire(&FS_RECLAIM_MAP, Acquire::WRITE);
}

/// `fs_reclaim_release`.
#[track_caller]
pub fn fs_reclaim_release() {
    raw::release(&FS_RECLAIM_MAP);
}

/// The begin of an mmu notifier's invalidation.
#[track_caller]
pub fn mmu_notifier_invalidate_range_start() {
    raw::acquire(&MMU_NOTIFIER_MAP, Acquire::WRITE);
}

/// Its end.
#[track_caller]
pub fn mmu_notifier_invalidate_range_end() {
    raw::release(&MMU_NOTIFIER_MAP);
}

/// The slab allocator, as `kmalloc` and its many siblings call it.
fn slab_alloc_node() {
    if may_reclaim() {
        fs_reclaim_acquire();
        direct_reclaim();
        fs_reclaim_release();
    }
}

/// The answer to whoever asked.
#[track_caller]
fn granted() -> Result {
    if fault::allocation_fails() { Err(Errno::ENOMEM) } else { Ok(()) }
}

/// `kmalloc(GFP_KERNEL)`: the memory itself is Rust's; this is the moment when it is asked for.
///
/// # Errors
/// -ENOMEM if a failure was injected ([`fault`]).
#[track_caller]
pub fn kmalloc() -> Result {
    slab_alloc_node();
    granted()
}

/// One page, as the page cache asks for it. The place of the event is the page allocator.
///
/// # Errors
/// -ENOMEM if a failure was injected ([`fault`]).
#[track_caller]
pub fn alloc_page() -> Result {
    __alloc_pages_noprof();
    granted()
}

fn __alloc_pages_noprof() {
    if may_reclaim() {
        fs_reclaim_acquire();
        direct_reclaim();
        fs_reclaim_release();
    }
}
