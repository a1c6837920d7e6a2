// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The outside: a [`Kernel`] to boot and a [`Process`] that makes system calls.
//!
//! ```
//! use instrumented_drivers::kernel::mm::MapFlags;
//! use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
//! use instrumented_drivers::user::{Driver, Kernel};
//!
//! let kernel = Kernel::new(LockingPolicy::P2, ShmemLocking::C);
//! let process = kernel.process("demo");
//! let vgem = process.open(Driver::Vgem)?;
//! let handle = process.mode_create_dumb(vgem, 256, 256, 32)?;
//! let buffer = process.prime_handle_to_fd(vgem, handle, 0o2)?;
//! let address = process.mmap(buffer, 256 * 1024, 0, MapFlags::SHARED)?;
//! process.write_byte(address, 42)?;
//! assert_eq!(process.read_byte(address)?, 42);
//! process.exit();
//! kernel.assert_no_leaks();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A call that panics (a finding instead of a certain hang) leaves its locks locked. The world can still be dropped:
//! nothing takes a lock on the way out, nothing is reported.

mod devices;
mod drm_drivers;
mod fastrpc;
mod heaps;
mod panfrost;
mod process;
mod sync;
mod video;

pub use panfrost::Programs;
pub use process::{Child, Process};
pub use video::{QueueBuffer, VideoDevices};

use core::time::Duration;
use std::sync::Arc;

use self::devices::Devices;
use crate::bug::Bug;
use crate::dma_buf::heaps::{cma_heap, system_heap};
use crate::dma_buf::resv::dma_resv_lockdep;
use crate::dma_buf::udmabuf;
use crate::drm::device::DrmDevice;
use crate::kernel::errno::Result;
use crate::kernel::live::LiveObjects;
use crate::kernel::task;
use crate::kernel::{KernelCore, MmapEntry};
use crate::media::videobuf2;
use crate::policy::{LockingPolicy, ShmemLocking};

/// The drivers of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Driver {
    /// Buffers for tests, with fences.
    Vgem,
    /// A second driver on the shmem helper.
    Vkms,
    /// A GPU's driver.
    Panfrost,
    /// An older GPU's driver.
    Lima,
    /// A display's driver, with pages that it makes look contiguous.
    Omapdrm,
    /// A display's driver whose buffers do not share its objects' locks.
    Tegra,
    /// Intel's graphics, in the processor.
    I915,
    /// Intel's graphics on a card with memory of its own.
    I915Lmem,
    /// Its `mmap` forwards to `dma_buf_mmap`.
    Importer,
    /// A camera whose buffers are from `vmalloc`.
    VividVmalloc,
    /// A camera that writes to contiguous memory by itself.
    VividDmaContig,
    /// A camera that writes to scattered memory by itself.
    VividDmaSg,
    /// A heap of scattered pages.
    SystemHeap,
    /// A heap of contiguous pages.
    CmaHeap,
    /// Makes buffers of the program's own memory.
    Udmabuf,
    /// A signal processor's driver.
    Fastrpc,
}

impl Driver {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Vgem,
        Self::Vkms,
        Self::Panfrost,
        Self::Lima,
        Self::Omapdrm,
        Self::Tegra,
        Self::I915,
        Self::I915Lmem,
        Self::Importer,
        Self::VividVmalloc,
        Self::VividDmaContig,
        Self::VividDmaSg,
        Self::SystemHeap,
        Self::CmaHeap,
        Self::Udmabuf,
        Self::Fastrpc,
    ];

    /// The drivers that export objects of the shmem helper.
    pub const EXPORTERS: [Self; 4] = [Self::Vgem, Self::Vkms, Self::Panfrost, Self::Lima];

    /// The cameras, one for each allocator of their buffers.
    pub const CAMERAS: [Self; 3] = [Self::VividDmaContig, Self::VividDmaSg, Self::VividVmalloc];

    /// Its name; a camera has the name under which it exports buffers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Driver::Vgem => "vgem",
            Driver::Vkms => "vkms",
            Driver::Panfrost => "panfrost",
            Driver::Lima => "lima",
            Driver::Omapdrm => "omapdrm",
            Driver::Tegra => "tegra",
            Driver::I915 => "i915",
            Driver::I915Lmem => "i915-lmem",
            Driver::Importer => "importer",
            Driver::VividVmalloc => videobuf2::vmalloc::EXP_NAME,
            Driver::VividDmaContig => videobuf2::dma_contig::EXP_NAME,
            Driver::VividDmaSg => videobuf2::dma_sg::EXP_NAME,
            Driver::SystemHeap => system_heap::NAME,
            Driver::CmaHeap => cma_heap::NAME,
            Driver::Udmabuf => udmabuf::NAME,
            Driver::Fastrpc => crate::misc::fastrpc::NAME,
        }
    }
}

/// A booted kernel: its policies and its devices.
pub struct Kernel {
    core: Arc<KernelCore>,
    devices: Arc<Devices>,
}

impl Kernel {
    /// Boots a kernel with these policies. The lock order is not primed ([`dma_resv_lockdep`](Self::dma_resv_lockdep)).
    #[must_use]
    pub fn new(policy: LockingPolicy, shmem: ShmemLocking) -> Self {
        // So that reports name the models' functions.
        crate::functions::register();
        let core = KernelCore::new(policy, shmem);
        let devices = Devices::probe(&core);
        Kernel { core, devices }
    }

    /// The boot step that records the documented lock order, so that the first violation is found.
    pub fn dma_resv_lockdep(&self) {
        dma_resv_lockdep(&self.core);
    }

    /// A new process of this name, with no open files and nothing mapped. This thread is its first task and carries
    /// its name in reports.
    #[must_use]
    pub fn process(&self, name: &str) -> Process {
        lockdep::raw::set_task_name(name);
        Process::new(self, name)
    }

    /// The cameras.
    #[must_use]
    pub fn video(&self) -> &VideoDevices {
        &self.devices.video
    }

    /// The device of a DRM driver. `None` for the others.
    #[must_use]
    pub fn drm_device(&self, driver: Driver) -> Option<&Arc<DrmDevice>> {
        self.devices.drm(driver)
    }

    /// From now on this kernel has a bug.
    pub fn break_with(&self, bug: Bug) {
        self.core.bugs.insert(bug);
    }

    /// From now on this kernel is without a bug.
    pub fn fix(&self, bug: Bug) {
        self.core.bugs.remove(bug);
    }

    /// Unloads a DRM driver.
    ///
    /// # Errors
    /// -EBUSY while it is in use.
    pub fn unload(&self, driver: Driver) -> Result {
        self.drm_device(driver).map_or(Ok(()), |dev| dev.unload())
    }

    /// Time passes: timers that are due fire.
    pub fn pass_time(&self, time: Duration) {
        self.core.timers.pass(time);
    }

    /// Runs `f` as a kernel thread (a KUnit test, for example); releases that it put off run at its end.
    #[track_caller]
    pub fn kthread<R>(&self, f: impl FnOnce(&Arc<KernelCore>) -> R) -> R {
        task::syscall(|| f(&self.core))
    }

    /// What the drivers share.
    #[must_use]
    pub fn core(&self) -> &Arc<KernelCore> {
        &self.core
    }

    /// The objects that are alive.
    #[must_use]
    pub fn live(&self) -> &LiveObjects {
        self.core.live()
    }

    /// Each entry into an `mmap` so far, with what was held.
    #[must_use]
    pub fn mmap_log(&self) -> Vec<MmapEntry> {
        self.core.mmap_log()
    }

    /// The kernel's warnings so far.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.core.warnings()
    }

    /// Asserts that every object was freed and nothing was warned about, once all work in the background is done.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn assert_no_leaks(&self) {
        self.settle();
        assert_eq!(self.live().all(), [], "objects that were never freed");
        assert_eq!(self.warnings(), Vec::<String>::new(), "kernel warnings");
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.devices.abandon();
        self.core.abandon();
    }
}

crate::kernel::opaque_debug!(Kernel);
