// SPDX-License-Identifier: GPL-2.0-only
//! What the tests of the models share.

use instrumented_drivers::drm::file::Handle;
use instrumented_drivers::drm::prime::DRM_RDWR;
use instrumented_drivers::functions;
use instrumented_drivers::kernel::errno::{Errno, Result};
use instrumented_drivers::kernel::fault::{Plan, Seen, inject};
use instrumented_drivers::kernel::file::Fd;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::user::{Driver, Kernel, Process};
use lockdep::{Recorded, RecordedOp, Report, Validator};

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

/// Runs `f` in a world of its own, primed: everything must be freed at its end. What was found.
pub(crate) fn found(
    policy: LockingPolicy,
    shmem: ShmemLocking,
    f: impl FnOnce(&Kernel, &Process),
) -> Vec<Report> {
    let (reports, warnings) = found_with_warnings(policy, shmem, f);
    assert_eq!(warnings, Vec::<String>::new(), "kernel warnings");
    reports
}

/// The same, with the kernel's warnings.
pub(crate) fn found_with_warnings(
    policy: LockingPolicy,
    shmem: ShmemLocking,
    f: impl FnOnce(&Kernel, &Process),
) -> (Vec<Report>, Vec<String>) {
    let validator = Validator::new();
    let warnings = validator.scope(|| {
        let kernel = Kernel::new(policy, shmem);
        kernel.dma_resv_lockdep();
        let process = kernel.process("init");
        f(&kernel, &process);
        process.exit();
        kernel.settle();
        assert_eq!(kernel.live().all(), [], "objects that were never freed");
        assert!(lockdep::raw::is_quiet(), "a lock is still held");
        kernel.warnings()
    });
    (validator.reports(), warnings)
}

/// The same, and nothing is found.
pub(crate) fn clean(policy: LockingPolicy, shmem: ShmemLocking, f: impl FnOnce(&Kernel, &Process)) {
    let reports: Vec<String> = found(policy, shmem, f).iter().map(ToString::to_string).collect();
    assert_eq!(reports, Vec::<String>::new(), "{policy} {shmem}");
}

/// The kinds of finding, each once.
pub(crate) fn kinds(reports: &[Report]) -> Vec<&str> {
    let mut kinds: Vec<_> = reports.iter().map(|report| report.kind().name()).collect();
    kinds.dedup();
    kinds
}

/// How locks of this class are taken while `f` runs, and in what it leaves to be done.
pub(crate) fn taken(class: &str, f: impl FnOnce(&Kernel, &Process) -> Result) -> Vec<Recorded> {
    functions::register();
    let validator = Validator::builder().record(true).build();
    validator.scope(|| {
        let kernel = Kernel::new(LockingPolicy::P2, ShmemLocking::C);
        let process = kernel.process("init");
        assert_eq!(f(&kernel, &process), Ok(()));
        process.exit();
        kernel.settle();
    });
    let recorded = validator.take_recorded().into_iter();
    let taken = recorded.filter(|event| matches!(event.op, RecordedOp::Acquire { .. }));
    taken.filter(|event| &*event.class == class).collect()
}

/// The functions that do.
pub(crate) fn takers(class: &str, f: impl FnOnce(&Process) -> Result) -> Vec<&'static str> {
    let taken = taken(class, |_, process| f(process)).into_iter();
    taken.filter_map(|event| event.site.function).collect()
}

/// Runs a life with nothing failing, then once for each interruptible wait and each allocation, with that one failing.
/// The program is told so (or goes on, if it `may_go_on`); nothing is leaked or found whatever it is told.
pub(crate) fn survives_everything(
    (policy, shmem): (LockingPolicy, ShmemLocking),
    may_go_on: bool,
    life: impl Fn(&Kernel, &Process) -> Result,
) -> Seen {
    let once = |plan| {
        let mut outcome = None;
        let (reports, warnings) = found_with_warnings(policy, shmem, |kernel, process| {
            outcome = Some(inject(plan, || life(kernel, process)));
        });
        assert!(reports.is_empty(), "{policy} {shmem} {plan:?}: {}", reports[0]);
        // A buffer that cannot be mapped for the kernel is worth a warning to the core.
        assert!(warnings.iter().all(|warning| warning == "dma_buf_vmap failed"), "{plan:?}: {warnings:?}");
        outcome.expect("it ran")
    };
    let (result, seen) = once(Plan::NONE);
    assert_eq!(result, Ok(()), "{policy} {shmem}");
    let interrupts = (1..=seen.interruptible).map(|n| (Plan::interrupt(n), Errno::EINTR));
    // A buffer has 64 pages; one stands for all.
    let pages = if seen.allocations > 140 { 40..100 } else { 0..0 };
    let allocations = (1..=seen.allocations).filter(|n| !pages.contains(n));
    for (plan, error) in interrupts.chain(allocations.map(|n| (Plan::allocation(n), Errno::ENOMEM))) {
        let (result, _) = once(plan);
        let told = result == Err(error) || (may_go_on && result.is_ok());
        assert!(told, "{policy} {shmem} {plan:?}: {result:?}");
    }
    seen
}
