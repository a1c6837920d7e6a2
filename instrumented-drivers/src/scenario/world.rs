// SPDX-License-Identifier: GPL-2.0-only
//! The world a scenario runs in: a booted kernel and a process, and what a scenario can complain about.
#![forbid(unsafe_code)]

use core::fmt;
use core::ops::Deref;
use core::panic::Location;
use std::sync::Arc;

use super::{End, Setup};
use crate::drm::device::DrmDevice;
use crate::drm::file::DrmFile;
use crate::drm::gem::{DrmGemObject, drm_gem_object_put, drm_gem_vmap_unlocked, drm_gem_vunmap_unlocked};
use crate::drm::gem_handle::drm_gem_object_lookup;
use crate::drm::gem_shmem_helper::to_drm_gem_shmem_obj;
use crate::kernel::errno::Errno;
use crate::kernel::file::Fd;
use crate::kernel::mm::{MapFlags, Signal};
use crate::kernel::shmem::IosysMap;
use crate::kernel::task::syscall;
use crate::user::{Driver, Kernel, Process};

pub(super) use crate::drm::file::Handle;

/// The dumb buffer of the recorded programs: 256 × 256 pixels of 32 bits, 64 pages.
pub(super) const SIDE: u32 = 256;
pub(super) const BYTES: u64 = 256 * 1024;
/// Bytes in a page, as the step of a range over addresses.
pub(super) const PAGE: usize = crate::kernel::shmem::PAGE_SIZE;

/// Something was not as it should be.
#[derive(Clone, Debug)]
pub struct Failure {
    what: String,
    place: &'static Location<'static>,
    /// A call that did not succeed, and not a wrong result.
    refused: bool,
}

impl Failure {
    #[track_caller]
    pub(super) fn new(what: impl Into<String>) -> Self {
        Failure { what: what.into(), place: Location::caller(), refused: false }
    }

    #[track_caller]
    fn refused(what: String) -> Self {
        Failure { refused: true, ..Failure::new(what) }
    }

    /// True for a call that did not succeed, false for a wrong result.
    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.what, self.place.file(), self.place.line())
    }
}

impl core::error::Error for Failure {}

impl From<Errno> for Failure {
    #[track_caller]
    fn from(error: Errno) -> Self {
        Failure::refused(format!("a system call failed: {error}"))
    }
}

impl From<Signal> for Failure {
    #[track_caller]
    fn from(signal: Signal) -> Self {
        Failure::refused(format!("an access was answered with {signal}"))
    }
}

/// What a scenario and its parts return.
pub(super) type Outcome<T = ()> = core::result::Result<T, Failure>;

/// Fails the scenario unless both are equal.
#[track_caller]
pub(super) fn expect_eq<T: PartialEq + fmt::Debug>(what: &str, got: T, expected: T) -> Outcome {
    if got == expected {
        Ok(())
    } else {
        Err(Failure::new(format!("{what}: expected {expected:?}, got {got:?}")))
    }
}

/// Fails the scenario unless the call fails with this error.
#[track_caller]
pub(super) fn expect_error<T: fmt::Debug>(what: &str, got: Result<T, Errno>, expected: Errno) -> Outcome {
    match got {
        Err(error) if error == expected => Ok(()),
        got => Err(Failure::new(format!("{what}: expected {}, got {got:?}", expected.name()))),
    }
}

/// A kernel that has booted under a setup, and the process that runs a scenario.
pub struct World {
    /// The choices.
    pub setup: Setup,
    /// The kernel.
    pub kernel: Kernel,
    /// The process, named as the one in the recorded sequences.
    pub(super) init: Process,
}

impl World {
    /// Boots: with the lock order of the boot-time priming recorded, so that the first violation is found.
    pub(super) fn new(setup: Setup) -> Self {
        let kernel = Kernel::new(setup.policy, setup.shmem);
        kernel.dma_resv_lockdep();
        let init = kernel.process("init");
        World { setup, kernel, init }
    }

    /// Ends the process and waits until all work in the background is done; nothing may be left.
    pub(super) fn end(self) -> End {
        self.init.exit();
        let World { kernel, .. } = self;
        kernel.settle();
        if !lockdep::raw::is_quiet() {
            return End::Failed(Failure::new("locks are held at the end"));
        }
        let alive = kernel.live().all();
        if !alive.is_empty() {
            return End::Failed(Failure::new(format!("never freed: {alive:?}")));
        }
        match kernel.warnings().first() {
            Some(warning) => End::Failed(Failure::new(format!("kernel warning: {warning}"))),
            None => End::Done,
        }
    }
}

crate::kernel::opaque_debug!(World);

/// What the programs of several scenarios do.
impl World {
    /// A new buffer of [`BYTES`] in this file.
    #[track_caller]
    pub(super) fn create(&self, drm: Fd) -> Outcome<Handle> {
        Ok(self.init.driver_create_buffer(drm, SIDE * SIDE * 4)?)
    }

    /// The buffer as a dma-buf, for reading and writing.
    #[track_caller]
    pub(super) fn export(&self, drm: Fd, handle: Handle) -> Outcome<Fd> {
        Ok(self.init.prime_handle_to_fd(drm, handle, crate::drm::prime::DRM_RDWR)?)
    }

    /// An open vgem file, a new buffer in it, and its dma-buf.
    pub(super) fn vgem_buffer(&self) -> Outcome<(Fd, Handle, Fd)> {
        self.buffer_of(Driver::Vgem)
    }

    /// The same for any exporter.
    pub(super) fn buffer_of(&self, driver: Driver) -> Outcome<(Fd, Handle, Fd)> {
        let drm = self.init.open(driver)?;
        let handle = self.create(drm)?;
        let buffer = self.export(drm, handle)?;
        Ok((drm, handle, buffer))
    }

    /// Maps a whole buffer, shared.
    #[track_caller]
    pub(super) fn map(&self, fd: Fd, offset: u64) -> Outcome<u64> {
        Ok(self.init.mmap(fd, BYTES, offset, MapFlags::SHARED)?)
    }

    /// Writes this into the first and the last byte of each page.
    pub(super) fn fill(&self, address: u64, value: u8) -> Outcome {
        for page in pages(address) {
            self.init.write_byte(page, value)?;
            self.init.write_byte(page + (PAGE as u64 - 1), value)?;
        }
        Ok(())
    }

    /// Fails unless it reads what [`fill`](Self::fill) wrote.
    #[track_caller]
    pub(super) fn check(&self, address: u64, value: u8) -> Outcome {
        for page in pages(address) {
            expect_eq("the first byte of a page", self.init.read_byte(page)?, value)?;
            expect_eq("the last byte of a page", self.init.read_byte(page + (PAGE as u64 - 1))?, value)?;
        }
        Ok(())
    }

    /// The object behind a handle, for what no system call does.
    #[track_caller]
    pub(super) fn object(&self, drm: Fd, handle: Handle) -> Outcome<Object> {
        let file = self.init.peek(drm)?;
        let file: &DrmFile = file.private().ok_or_else(|| Failure::new("not a DRM file"))?;
        match syscall(|| drm_gem_object_lookup(file, handle)) {
            Some(obj) => Ok(Object(obj)),
            None => Err(Failure::new("no such handle")),
        }
    }

    /// The device of a driver.
    #[track_caller]
    pub(super) fn device(&self, driver: Driver) -> Outcome<Arc<DrmDevice>> {
        self.kernel.drm_device(driver).cloned().ok_or_else(|| Failure::new("not a DRM driver"))
    }
}

fn pages(address: u64) -> impl Iterator<Item = u64> {
    (address..address + BYTES).step_by(PAGE)
}

/// A reference to an object, and what a driver does to it in the kernel. A program that gives up gives it back, too.
pub(super) struct Object(pub(super) Arc<DrmGemObject>);

impl Drop for Object {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            syscall(|| drm_gem_object_put(self.0.clone()));
        }
    }
}

/// An object's memory as the kernel sees it, until this is dropped.
pub(super) struct KernelView<'a> {
    object: &'a Object,
    map: IosysMap,
}

impl Deref for KernelView<'_> {
    type Target = IosysMap;

    fn deref(&self) -> &IosysMap {
        &self.map
    }
}

impl Drop for KernelView<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            syscall(|| drm_gem_vunmap_unlocked(&self.object.0, &self.map));
        }
    }
}

impl Object {
    pub(super) fn pages_use_count(&self) -> usize {
        to_drm_gem_shmem_obj(&self.0).pages_use_count()
    }

    #[track_caller]
    pub(super) fn vmap_unlocked(&self) -> Outcome<KernelView<'_>> {
        let map = syscall(|| drm_gem_vmap_unlocked(&self.0))?;
        Ok(KernelView { object: self, map })
    }
}
