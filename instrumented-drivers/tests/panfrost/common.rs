// SPDX-License-Identifier: GPL-2.0-only
//! What all tests of the GPU's driver use.

use core::cell::Cell;

use instrumented_drivers::drm::file::Handle;
use instrumented_drivers::drm::panfrost::gem::PANFROST_BO_NOEXEC;
use instrumented_drivers::drm::panfrost::hw::program::JobChain;
use instrumented_drivers::drm::panfrost::submit::PanfrostSubmit;
use instrumented_drivers::kernel::errno::Result;
use instrumented_drivers::kernel::file::Fd;
use instrumented_drivers::kernel::mm::MapFlags;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::user::{Driver, Kernel, Process};
use lockdep::{Report, Validator};

pub(crate) const PAGE: usize = 4096;

/// Every policy with every regime.
pub(crate) fn all() -> impl Iterator<Item = (LockingPolicy, ShmemLocking)> {
    LockingPolicy::ALL.into_iter().flat_map(|p| ShmemLocking::ALL.into_iter().map(move |s| (p, s)))
}

/// Runs `f` in a new world under a validator of its own: everything must be freed at the end. What was found.
pub(crate) fn run(
    policy: LockingPolicy,
    shmem: ShmemLocking,
    f: impl FnOnce(&Kernel, &Process) -> Result,
) -> Vec<Report> {
    let validator = Validator::new();
    validator.scope(|| {
        let kernel = Kernel::new(policy, shmem);
        kernel.dma_resv_lockdep();
        let process = kernel.process("init");
        f(&kernel, &process).unwrap_or_else(|error| panic!("{policy} {shmem}: {error}"));
        process.exit();
        kernel.assert_no_leaks();
        assert!(lockdep::raw::is_quiet(), "{policy} {shmem}: locks are held at the end");
    });
    validator.reports()
}

/// The same; nothing may be found.
pub(crate) fn clean(policy: LockingPolicy, shmem: ShmemLocking, f: impl FnOnce(&Kernel, &Process) -> Result) {
    let reports = run(policy, shmem, f);
    assert!(reports.is_empty(), "{policy} {shmem}: {}", reports[0]);
}

/// The kinds of finding, each once.
pub(crate) fn kinds(reports: &[Report]) -> Vec<&str> {
    let mut kinds: Vec<_> = reports.iter().map(|report| report.kind().name()).collect();
    kinds.dedup();
    kinds
}

/// An open file of the GPU and a new object in it: handle and GPU address.
pub(crate) fn open_with_bo(process: &Process, size: usize) -> Result<(Fd, Handle, u64)> {
    let gpu = process.open(Driver::Panfrost)?;
    let (handle, address) = process.panfrost_create_bo(gpu, size, PANFROST_BO_NOEXEC)?;
    Ok((gpu, handle, address))
}

/// Maps an object for the CPU.
pub(crate) fn map(process: &Process, gpu: Fd, handle: Handle, size: usize) -> Result<u64> {
    let offset = process.panfrost_mmap_bo(gpu, handle)?;
    process.mmap(gpu, size as u64, offset, MapFlags::SHARED)
}

/// Where a test keeps its job chains: an object that is mapped for the CPU.
pub(crate) struct Programs {
    pub(crate) handle: Handle,
    gpu_address: u64,
    cpu_address: u64,
    used: Cell<u64>,
}

impl Programs {
    /// A new object of four pages in this file.
    pub(crate) fn new(process: &Process, gpu: Fd) -> Result<Self> {
        let (handle, gpu_address) = process.panfrost_create_bo(gpu, 4 * PAGE, 0)?;
        let cpu_address = map(process, gpu, handle, 4 * PAGE)?;
        Ok(Programs { handle, gpu_address, cpu_address, used: Cell::new(0) })
    }

    /// Writes a chain into memory; its GPU address.
    pub(crate) fn load(&self, process: &Process, chain: impl FnOnce(JobChain) -> JobChain) -> u64 {
        let at = self.used.get();
        let chain = chain(JobChain::at(self.gpu_address + at));
        for (offset, byte) in (at..).zip(chain.bytes()) {
            process.write_byte(self.cpu_address + offset, *byte).expect("the object has room");
        }
        self.used.set(at + chain.bytes().len() as u64);
        self.gpu_address + at
    }

    /// Unmaps it, so that it no longer keeps the file.
    pub(crate) fn unmap(&self, process: &Process) -> Result {
        process.munmap(self.cpu_address, 4 * PAGE as u64)
    }

    /// The next chains overwrite the first.
    pub(crate) fn rewind(&self) {
        self.used.set(0);
    }
}

/// A job with this chain and these objects, besides the one with the chain.
pub(crate) fn job(programs: &Programs, jc: u64, bos: &[Handle]) -> PanfrostSubmit {
    let mut bo_handles = vec![programs.handle];
    bo_handles.extend(bos);
    PanfrostSubmit { jc, bo_handles, ..PanfrostSubmit::default() }
}
