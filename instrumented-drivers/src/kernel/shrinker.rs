// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Shrinkers: drivers that give memory back when it is short.
//!
//! They are called from reclaim, that is, from a thread of its own ([`kswapd`]) or from the middle of an allocation
//! of anybody ([`direct_reclaim_at`]), under whatever locks that one holds. So a shrinker must not wait for a lock that
//! anybody allocates under; for the validator it runs inside `fs_reclaim`.
//!
//! Kernel counterpart: `mm/vmscan.c`, `mm/shrinker.c`.

use core::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::core_state::KernelCore;
use super::reclaim::{fs_reclaim_acquire, fs_reclaim_release};

/// `struct shrinker`.
pub trait Shrinker: Send + Sync {
    /// `count_objects`: how many pages could be given back.
    fn count_objects(&self) -> usize;

    /// `scan_objects`: gives back about that many; says how many they were. `None`: not now (`SHRINK_STOP`).
    fn scan_objects(&self, nr_to_scan: usize) -> Option<usize>;
}

/// The shrinkers of a kernel.
#[derive(Default)]
pub(crate) struct Shrinkers(Mutex<Vec<Weak<dyn Shrinker>>>);

impl Shrinkers {
    /// `shrinker_register`. It is called for as long as it exists.
    pub(crate) fn register(&self, shrinker: Weak<dyn Shrinker>) {
        self.0.lock().push(shrinker);
    }

    fn all(&self) -> Vec<Arc<dyn Shrinker>> {
        self.0.lock().iter().filter_map(Weak::upgrade).collect()
    }
}

/// `shrink_slab`: asks all shrinkers for memory; how many pages it got.
fn shrink_slab(core: &KernelCore, wanted: usize) -> usize {
    let mut freed = 0;
    for shrinker in core.shrinkers.all() {
        freed += do_shrink_slab(&*shrinker, wanted);
    }
    freed
}

fn do_shrink_slab(shrinker: &dyn Shrinker, wanted: usize) -> usize {
    if shrinker.count_objects() == 0 {
        return 0;
    }
    shrinker.scan_objects(wanted).unwrap_or(0)
}

/// One round of the thread that reclaims memory in the background; how many pages it got.
pub fn kswapd(core: &KernelCore, wanted: usize) -> usize {
    balance_pgdat(core, wanted)
}

fn balance_pgdat(core: &KernelCore, wanted: usize) -> usize {
    fs_reclaim_acquire();
    let freed = shrink_slab(core, wanted);
    fs_reclaim_release();
    freed
}

type Hook = Rc<RefCell<dyn FnMut()>>;

thread_local! {
    static DIRECT: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// Runs `f` on this thread; each of its allocations for which `short` says so (it gets their number, from 1) finds
/// memory short and reclaims, under whatever is held there.
pub fn direct_reclaim_at<R>(
    core: &Arc<KernelCore>,
    mut short: impl FnMut(u32) -> bool + 'static,
    f: impl FnOnce() -> R,
) -> R {
    struct Restore(Option<Hook>);
    impl Drop for Restore {
        fn drop(&mut self) {
            DIRECT.set(self.0.take());
        }
    }
    let core = core.clone();
    let mut allocations = 0;
    let hook = move || {
        allocations += 1;
        if short(allocations) {
            shrink_slab(&core, usize::MAX);
        }
    };
    let _restore = Restore(DIRECT.replace(Some(Rc::new(RefCell::new(hook)))));
    f()
}

/// Called by each allocation of this thread, inside `fs_reclaim`.
pub(super) fn direct_reclaim() {
    // Taken out meanwhile: reclaim does not reclaim for its own allocations.
    if let Some(hook) = DIRECT.take() {
        (hook.borrow_mut())();
        DIRECT.set(Some(hook));
    }
}

super::opaque_debug!(Shrinkers);
