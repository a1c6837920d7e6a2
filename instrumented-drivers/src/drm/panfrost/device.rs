// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `struct panfrost_device`: what the driver keeps for a GPU.
//!
//! Kernel counterpart: `drivers/gpu/drm/panfrost/panfrost_device.c`.

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Weak};

use lockdep::LockClass;

use super::hw::{Hw, Lines};
use super::job::{JobSlots, panfrost_job_irq_handler, panfrost_job_irq_handler_thread};
use super::mmu::{AddressSpaces, panfrost_mmu_irq_handler, panfrost_mmu_irq_handler_thread};
use super::perfcnt::{Perfcnt, panfrost_gpu_irq_handler};
use super::reset::{Reset, panfrost_device_reset};
use crate::drm::device::DrmDevice;
use crate::drm::gem::DrmGemObject;
use crate::kernel::KernelCore;
use crate::kernel::cell::KCell;
use crate::kernel::fault::FailsNextTime;
use crate::kernel::irq_thread::{IrqAction, IrqReturn};
use crate::kernel::locking::{Mutex, SpinLock, sleep_class, spin_class};
use crate::kernel::shrinker::Shrinker;

static SCHED_LOCK: LockClass = sleep_class("&pfdev->sched_lock");
static SHRINKER_LOCK: LockClass = sleep_class("&pfdev->shrinker_lock");
static AS_LOCK: LockClass = spin_class("&pfdev->as_lock");

/// `struct panfrost_device`.
pub struct PanfrostDevice {
    /// The kernel it is in.
    pub core: Arc<KernelCore>,
    /// The GPU.
    pub hw: Arc<Hw>,
    pub(super) sched_lock: Mutex,
    pub(super) shrinker_lock: Mutex,
    /// The objects whose content nobody needs; under `shrinker_lock`.
    pub(super) shrinker_list: KCell<Vec<Arc<DrmGemObject>>>,
    pub(super) as_lock: SpinLock,
    /// Under `as_lock`.
    pub(super) spaces: KCell<AddressSpaces>,
    /// The slots that were switched off by a page fault that nobody could handle. Changed under `as_lock`.
    pub(super) as_faulty_mask: AtomicU32,
    pub(super) js: JobSlots,
    pub(super) reset: Reset,
    pub(super) perfcnt: Perfcnt,
    pub(super) next_fault: FailsNextTime,
}

/// `devm_request_threaded_irq`, three times.
fn lines(pfdev: &Arc<PanfrostDevice>) -> Lines {
    fn with<R>(pfdev: &Weak<PanfrostDevice>, f: fn(&PanfrostDevice) -> R) -> Option<R> {
        pfdev.upgrade().map(|pfdev| f(&pfdev))
    }
    let [a, b, c, d, e] = core::array::from_fn(|_| Arc::downgrade(pfdev));
    let background = &pfdev.core.background;
    Lines {
        job: IrqAction::request_threaded(
            background,
            "panfrost-job",
            move || with(&a, panfrost_job_irq_handler).unwrap_or(IrqReturn::None),
            move || with(&b, panfrost_job_irq_handler_thread).unwrap_or_default(),
        ),
        mmu: IrqAction::request_threaded(
            background,
            "panfrost-mmu",
            move || with(&c, panfrost_mmu_irq_handler).unwrap_or(IrqReturn::None),
            move || with(&d, panfrost_mmu_irq_handler_thread).unwrap_or_default(),
        ),
        gpu: IrqAction::request(move || with(&e, panfrost_gpu_irq_handler).unwrap_or(IrqReturn::None)),
    }
}

impl PanfrostDevice {
    /// `panfrost_device_init`.
    pub(super) fn init(core: &Arc<KernelCore>) -> Arc<Self> {
        let reset_wq = Reset::wq(core);
        let pfdev = Arc::new_cyclic(|pfdev| PanfrostDevice {
            core: core.clone(),
            hw: Hw::new(&core.background),
            sched_lock: Mutex::new(&SCHED_LOCK),
            shrinker_lock: Mutex::new(&SHRINKER_LOCK),
            shrinker_list: KCell::new("the list of objects to purge", Vec::new()),
            as_lock: SpinLock::new(&AS_LOCK),
            spaces: KCell::new("the address spaces of a GPU", AddressSpaces::default()),
            as_faulty_mask: AtomicU32::new(0),
            js: JobSlots::init(core, &reset_wq),
            reset: Reset::new(reset_wq, Weak::clone(pfdev)),
            perfcnt: Perfcnt::init(&core.background),
            next_fault: FailsNextTime::default(),
        });
        pfdev.hw.connect(lines(&pfdev));
        panfrost_device_reset(&pfdev);
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

impl PanfrostDevice {
    /// In the handling of the next GPU page fault the n-th allocation fails, from 1.
    pub fn fail_next_fault(&self, allocation: u32) {
        self.next_fault.at(allocation);
    }
}

impl Drop for PanfrostDevice {
    fn drop(&mut self) {
        // Ends what still runs in the GPU, so that its threads can end.
        self.hw.soft_reset();
    }
}

crate::kernel::opaque_debug!(PanfrostDevice);
