// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! What an allocation may do to get its memory, and scopes that forbid some of it to everything that is called.
//!
//! An allocation that may sleep may reclaim memory; only one that may also enter the file system takes part in the
//! order of locks as `fs_reclaim`. Every one of them may have to tell mmu notifiers.
//!
//! Kernel counterpart: `gfp_types.h`, `sched/mm.h`, and `fs_reclaim_acquire()` with its argument.
//! [`super::reclaim`] has the form without one.

use core::cell::Cell;

use super::reclaim;

/// `gfp_t`: what an allocation may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gfp {
    direct_reclaim: bool,
    fs: bool,
}

impl Gfp {
    /// `GFP_KERNEL`: whatever it takes.
    pub const KERNEL: Gfp = Gfp { direct_reclaim: true, fs: true };
    /// `GFP_NOFS`: reclaim, but not from the file system.
    pub const NOFS: Gfp = Gfp { direct_reclaim: true, fs: false };
    /// `GFP_NOWAIT`: only what is free.
    pub const NOWAIT: Gfp = Gfp { direct_reclaim: false, fs: false };

    /// `current_gfp_context`: the same within the scopes of this task.
    fn in_scope(self) -> Gfp {
        Gfp { direct_reclaim: self.direct_reclaim && may_reclaim(), fs: self.fs && !NOFS.get() }
    }
}

thread_local! {
    static NOFS: Cell<bool> = const { Cell::new(false) };
    static NORECLAIM: Cell<bool> = const { Cell::new(false) };
}

/// What `memalloc_nofs_save` hands to `memalloc_nofs_restore`.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct NoFsFlags {
    was: bool,
}

/// `memalloc_nofs_save`: no allocation of this task enters the file system from now on.
pub fn memalloc_nofs_save() -> NoFsFlags {
    NoFsFlags { was: NOFS.replace(true) }
}

/// `memalloc_nofs_restore`.
pub fn memalloc_nofs_restore(flags: NoFsFlags) {
    NOFS.set(flags.was);
}

/// What `memalloc_noreclaim_save` hands to `memalloc_noreclaim_restore`.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct NoReclaimFlags {
    was: bool,
}

/// `memalloc_noreclaim_save`: no allocation of this task reclaims memory from now on.
pub fn memalloc_noreclaim_save() -> NoReclaimFlags {
    NoReclaimFlags { was: NORECLAIM.replace(true) }
}

/// `memalloc_noreclaim_restore`.
pub fn memalloc_noreclaim_restore(flags: NoReclaimFlags) {
    NORECLAIM.set(flags.was);
}

/// Whether an allocation of this task may reclaim memory.
pub(super) fn may_reclaim() -> bool {
    !NORECLAIM.get()
}

/// `fs_reclaim_acquire(gfp)`.
#[track_caller]
pub fn fs_reclaim_acquire(gfp: Gfp) {
    let gfp = gfp.in_scope();
    if !gfp.direct_reclaim {
        return;
    }
    if gfp.fs {
        reclaim::fs_reclaim_acquire();
    }
    reclaim::mmu_notifier_invalidate_range_start();
    reclaim::mmu_notifier_invalidate_range_end();
}

/// `fs_reclaim_release(gfp)`.
#[track_caller]
pub fn fs_reclaim_release(gfp: Gfp) {
    let gfp = gfp.in_scope();
    if gfp.direct_reclaim && gfp.fs {
        reclaim::fs_reclaim_release();
    }
}

/// `might_alloc(gfp)`: says what an allocation would do, without one.
#[track_caller]
pub fn might_alloc(gfp: Gfp) {
    fs_reclaim_acquire(gfp);
    fs_reclaim_release(gfp);
}

/// Forgets the scopes of a task that panicked.
pub(crate) fn reset() {
    NOFS.set(false);
    NORECLAIM.set(false);
}
