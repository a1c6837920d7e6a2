// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `struct panfrost_device`: what the driver keeps for a GPU.
//!
//! Kernel counterpart: `drivers/gpu/drm/panfrost/panfrost_device.c`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lockdep::LockClass;

use super::hw::Hw;
use super::mmu::AddressSpaces;
use crate::drm::device::DrmDevice;
use crate::drm::gem::DrmGemObject;
use crate::kernel::KernelCore;
use crate::kernel::cell::KCell;
use crate::kernel::locking::{Mutex, SpinLock, sleep_class, spin_class};
use crate::kernel::shrinker::Shrinker;

static SHRINKER_LOCK: LockClass = sleep_class("&pfdev->shrinker_lock");
static AS_LOCK: LockClass = spin_class("&pfdev->as_lock");

/// Bugs that the driver once had, or that are in it unseen: each can be switched on, to see what the validator says.
#[derive(Debug, Default)]
pub struct Bugs {
    pin_locks_again: AtomicBool,
    purge_locks_pages_first: AtomicBool,
}

impl Bugs {
    /// Regime C: the `pin` callback takes the reservation lock, which the GEM core has taken.
    pub fn set_pin_locks_again(&self) {
        self.pin_locks_again.store(true, Ordering::Relaxed);
    }

    pub(super) fn pin_locks_again(&self) -> bool {
        self.pin_locks_again.load(Ordering::Relaxed)
    }

    /// The shrinker locks an object's pages before its mappings; `madvise` does it the other way round (until v5.10).
    pub fn set_purge_locks_pages_first(&self) {
        self.purge_locks_pages_first.store(true, Ordering::Relaxed);
    }

    pub(super) fn purge_locks_pages_first(&self) -> bool {
        self.purge_locks_pages_first.load(Ordering::Relaxed)
    }
}

/// `struct panfrost_device`.
pub struct PanfrostDevice {
    /// The kernel it is in.
    pub core: Arc<KernelCore>,
    /// The GPU.
    pub hw: Hw,
    /// None, unless a test wants some.
    pub bugs: Bugs,
    pub(super) shrinker_lock: Mutex,
    /// The objects whose content nobody needs; under `shrinker_lock`.
    pub(super) shrinker_list: KCell<Vec<Arc<DrmGemObject>>>,
    pub(super) as_lock: SpinLock,
    /// Under `as_lock`.
    pub(super) spaces: KCell<AddressSpaces>,
}

impl PanfrostDevice {
    /// `panfrost_device_init`.
    pub(super) fn init(core: &Arc<KernelCore>) -> Arc<Self> {
        let pfdev = Arc::new(PanfrostDevice {
            core: core.clone(),
            hw: Hw::default(),
            bugs: Bugs::default(),
            shrinker_lock: Mutex::new(&SHRINKER_LOCK),
            shrinker_list: KCell::new("the list of objects to purge", Vec::new()),
            as_lock: SpinLock::new(&AS_LOCK),
            spaces: KCell::new("the address spaces of a GPU", AddressSpaces::default()),
        });
        let shrinker: Arc<dyn Shrinker> = pfdev.clone();
        core.shrinkers.register(Arc::downgrade(&shrinker));
        pfdev
    }

    /// Of a panfrost device.
    ///
    /// # Panics
    /// If it is another driver's.
    #[must_use]
    pub fn of(dev: &DrmDevice) -> Arc<Self> {
        match dev.private() {
            Some(pfdev) => pfdev,
            None => panic!("internal error: not a panfrost device"),
        }
    }
}

crate::kernel::opaque_debug!(PanfrostDevice);
