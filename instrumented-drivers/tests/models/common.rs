// SPDX-License-Identifier: GPL-2.0-only
//! What the tests of the models share.

use instrumented_drivers::drm::file::Handle;
use instrumented_drivers::drm::prime::DRM_RDWR;
use instrumented_drivers::kernel::errno::Result;
use instrumented_drivers::kernel::file::Fd;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::user::{Driver, Kernel, Process};
use lockdep::Validator;

/// 64 pages: the size of [`export`]'s buffer.
pub(crate) const LEN: u64 = 256 * 1024;
/// One page.
pub(crate) const PAGE: u64 = 4096;

/// A dumb buffer of 64 pages on a new file of the driver.
pub(crate) fn create(process: &Process, driver: Driver) -> Result<(Fd, Handle)> {
    let dev = process.open(driver)?;
    let handle = process.mode_create_dumb(dev, 256, 256, 32)?;
    Ok((dev, handle))
}

/// The same, exported: the device's descriptor, the handle, the buffer's descriptor.
pub(crate) fn export(process: &Process, driver: Driver) -> Result<(Fd, Handle, Fd)> {
    let (dev, handle) = create(process, driver)?;
    let buffer = process.prime_handle_to_fd(dev, handle, DRM_RDWR)?;
    Ok((dev, handle, buffer))
}

/// Every combination in which nothing may be found and nothing hangs.
pub(crate) fn sound() -> impl Iterator<Item = (LockingPolicy, ShmemLocking)> {
    use LockingPolicy::{P0, P1, P2};
    use ShmemLocking::{A, B, C};
    [(P0, A), (P1, A), (P2, A), (P2, B), (P2, C)].into_iter()
}

/// Runs `f` in a world of its own, primed, and asserts that nothing is found and everything is freed.
pub(crate) fn clean(policy: LockingPolicy, shmem: ShmemLocking, f: impl FnOnce(&Kernel, &Process)) {
    let validator = Validator::new();
    validator.scope(|| {
        let kernel = Kernel::new(policy, shmem);
        kernel.dma_resv_lockdep();
        let process = kernel.process("init");
        f(&kernel, &process);
        process.exit();
        kernel.assert_no_leaks();
        assert!(lockdep::raw::is_quiet(), "a lock is still held");
    });
    let reports: Vec<String> = validator.reports().iter().map(ToString::to_string).collect();
    assert_eq!(reports, Vec::<String>::new(), "{policy} {shmem}");
}
