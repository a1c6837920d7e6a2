// SPDX-License-Identifier: GPL-2.0-only
//! What all tests of the GPU's driver use.

use instrumented_drivers::drm::file::Handle;
use instrumented_drivers::drm::panfrost::gem::PANFROST_BO_NOEXEC;
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
