// SPDX-License-Identifier: GPL-2.0-only
//! Who holds what when an exporter's `mmap` runs, under each policy and regime, and what the validator says.

use std::panic::{AssertUnwindSafe, catch_unwind};

use instrumented_drivers::drm::prime::DRM_RDWR;
use instrumented_drivers::kernel::errno::Result;
use instrumented_drivers::kernel::mm::MapFlags;
use instrumented_drivers::policy::LockingPolicy::{P0, P1, P2};
use instrumented_drivers::policy::ShmemLocking::{A, B, B0, C};
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::user::{Driver, Kernel, Process};
use lockdep::report::model::Acquired;
use lockdep::{Report, Validator};

const LEN: u64 = 256 * 1024;

/// A buffer of `driver`: the device's descriptor, the handle, the buffer's descriptor.
fn export(
    process: &Process,
    driver: Driver,
) -> Result<(
    instrumented_drivers::kernel::file::Fd,
    instrumented_drivers::drm::file::Handle,
    instrumented_drivers::kernel::file::Fd,
)> {
    let dev = process.open(driver)?;
    let handle = process.driver_create_buffer(dev, 256 * 1024)?;
    let buffer = process.prime_handle_to_fd(dev, handle, DRM_RDWR)?;
    Ok((dev, handle, buffer))
}

/// Runs one world under a validator of its own. True if it came to its end.
fn run(
    policy: LockingPolicy,
    shmem: ShmemLocking,
    f: impl FnOnce(&Kernel, &Process) -> Result,
) -> (bool, Vec<Report>, Kernel) {
    let validator = Validator::new();
    let kernel = Kernel::new(policy, shmem);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        validator.scope(|| {
            kernel.dma_resv_lockdep();
            let process = kernel.process("init");
            f(&kernel, &process).expect("no error is expected here");
            process.exit();
        });
    }))
    .is_ok();
    (ended, validator.reports(), kernel)
}

fn map_buffer(process: &Process, driver: Driver) -> Result {
    let (_, _, buffer) = export(process, driver)?;
    let address = process.mmap(buffer, LEN, 0, MapFlags::SHARED)?;
    process.write_byte(address, 1).expect("the page is there");
    process.munmap(address, LEN)
}

fn map_device(process: &Process, driver: Driver) -> Result {
    let dev = process.open(driver)?;
    let handle = process.driver_create_buffer(dev, 256 * 1024)?;
    let offset = process.driver_map_offset(dev, handle)?;
    let address = process.mmap(dev, LEN, offset, MapFlags::SHARED)?;
    process.write_byte(address, 1).expect("the page is there");
    process.munmap(address, LEN)
}

/// The importer's own device file, whose `mmap` is forwarded to the exporter.
fn map_foreign_import(process: &Process, exporter: Driver, importer: Driver) -> Result {
    let (_, _, buffer) = export(process, exporter)?;
    let dev = process.open(importer)?;
    let address = if importer == Driver::Importer {
        process.importer_set_buffer(dev, buffer)?;
        process.mmap(dev, LEN, 0, MapFlags::SHARED)?
    } else {
        let handle = process.prime_fd_to_handle(dev, buffer)?;
        let offset = process.driver_map_offset(dev, handle)?;
        process.mmap(dev, LEN, offset, MapFlags::SHARED)?
    };
    process.write_byte(address, 1).expect("the page is there");
    process.munmap(address, LEN)
}

fn all() -> impl Iterator<Item = (LockingPolicy, ShmemLocking)> {
    LockingPolicy::ALL.into_iter().flat_map(|p| ShmemLocking::ALL.into_iter().map(move |s| (p, s)))
}

fn is_deadlock(policy: LockingPolicy, shmem: ShmemLocking) -> bool {
    policy == P1 && shmem != A
}

fn kinds(reports: &[Report]) -> Vec<&str> {
    reports.iter().map(|report| report.kind().name()).collect()
}

#[test]
fn mapping_a_buffers_own_file_deadlocks_under_p1_on_the_reservation_lock_and_nowhere_else() {
    if !lockdep::ENABLED {
        return;
    }
    for (policy, shmem) in all() {
        for driver in Driver::EXPORTERS {
            let (ended, reports, kernel) = run(policy, shmem, |_, process| map_buffer(process, driver));
            let what = format!("{policy} {shmem} {}", driver.name());
            if is_deadlock(policy, shmem) {
                assert!(!ended, "{what}");
                assert_eq!(kinds(&reports), ["recursive"], "{what}");
            } else {
                assert!(ended, "{what}");
                assert_eq!(kinds(&reports), [""; 0], "{what}: {}", reports[0]);
                kernel.assert_no_leaks();
            }
            let log = kernel.mmap_log();
            assert_eq!(log.len(), 1, "{what}");
            assert_eq!((log[0].exporter, log[0].path), (driver.name(), "dma_buf_mmap_internal"));
            assert_eq!(log[0].resv_held, policy == P1, "{what}");
            let mut held = vec!["&mm->mmap_lock"];
            held.extend((policy == P1).then_some("reservation_ww_class_mutex"));
            assert_eq!(log[0].held, held, "{what}");
        }
    }
}

#[test]
fn the_report_of_the_deadlock_has_the_facts_of_the_kernels() {
    if !lockdep::ENABLED {
        return;
    }
    let (_, reports, _) = run(P1, B, |_, process| map_buffer(process, Driver::Vgem));
    let report = &reports[0];
    let function = |at: &Option<Acquired>| at.as_ref().and_then(|at| at.site.function);
    assert_eq!(function(&report.wanted), Some("drm_gem_shmem_mmap"));
    assert_eq!(function(&report.conflict), Some("dma_buf_mmap_internal"));
    let held: Vec<_> =
        report.held.iter().map(|at| (at.lock.class.as_str(), at.site.function.unwrap_or(""))).collect();
    let expected =
        [("&mm->mmap_lock", "vm_mmap_pgoff"), ("reservation_ww_class_mutex", "dma_buf_mmap_internal")];
    assert_eq!(held, expected);
    assert_eq!(&*report.task, "init");
}

#[test]
fn mapping_a_devices_own_file_is_clean_everywhere() {
    for (policy, shmem) in all() {
        for driver in Driver::EXPORTERS {
            let (ended, reports, kernel) = run(policy, shmem, |_, process| map_device(process, driver));
            assert!(ended && reports.is_empty(), "{policy} {shmem} {}: {reports:?}", driver.name());
            kernel.assert_no_leaks();
            let log = kernel.mmap_log();
            assert_eq!((log.len(), log[0].path, log[0].resv_held), (1, "drm_gem_mmap_obj", false));
        }
    }
}

#[test]
fn an_import_is_mapped_through_dma_buf_mmap_with_the_same_verdict() {
    if !lockdep::ENABLED {
        return;
    }
    let pairs = [
        (Driver::Vgem, Driver::Vkms),
        (Driver::Vkms, Driver::Vgem),
        (Driver::Vgem, Driver::Importer),
        (Driver::Panfrost, Driver::Vkms),
        (Driver::Vkms, Driver::Panfrost),
    ];
    for (policy, shmem) in all() {
        for (exporter, importer) in pairs {
            let (ended, reports, kernel) =
                run(policy, shmem, |_, process| map_foreign_import(process, exporter, importer));
            let what = format!("{policy} {shmem} {} {}", exporter.name(), importer.name());
            let mut expected = vec![];
            if shmem == B0 && importer != Driver::Importer {
                expected.push("assert-held");
            }
            if is_deadlock(policy, shmem) {
                expected.push("recursive");
            }
            let mut found = kinds(&reports);
            found.dedup();
            assert_eq!(found, expected, "{what}: {reports:#?}");
            assert_eq!(ended, !is_deadlock(policy, shmem), "{what}");
            if ended {
                kernel.assert_no_leaks();
            }
            let last = kernel.mmap_log().pop().expect("it was entered");
            assert_eq!((last.exporter, last.path), (exporter.name(), "dma_buf_mmap"), "{what}");
            assert_eq!(last.resv_held, policy == P1, "{what}");
        }
    }
}

#[test]
fn importing_under_b0_asserts_in_pin_and_under_the_others_is_clean() {
    for (policy, shmem) in all() {
        let (ended, reports, kernel) = run(policy, shmem, |_, process| {
            let (_, _, buffer) = export(process, Driver::Vgem)?;
            let dev = process.open(Driver::Vkms)?;
            let handle = process.prime_fd_to_handle(dev, buffer)?;
            process.gem_close(dev, handle)
        });
        assert!(ended);
        kernel.assert_no_leaks();
        let asserted = shmem == B0 && lockdep::ENABLED;
        assert_eq!(
            reports.iter().any(|report| report.kind().name() == "assert-held"),
            asserted,
            "{policy} {shmem}"
        );
        assert!(
            reports.iter().all(|report| report.kind().name() == "assert-held"),
            "{policy} {shmem}: {reports:?}"
        );
    }
}

#[test]
fn without_the_validator_too_the_log_knows_whether_the_reservation_lock_was_held() {
    let validator = Validator::builder().watch(false).build();
    for (policy, held) in [(P0, false), (P1, true), (P2, false)] {
        let kernel = Kernel::new(policy, A);
        validator.scope(|| {
            let process = kernel.process("init");
            map_buffer(&process, Driver::Vgem).unwrap();
            process.exit();
        });
        assert_eq!(kernel.mmap_log()[0].resv_held, held);
        kernel.assert_no_leaks();
    }
}

#[test]
fn p2_with_c_is_what_the_kernel_does_today_and_is_clean_with_priming() {
    let (ended, reports, kernel) = run(P2, C, |_, process| {
        let (dev, handle, buffer) = export(process, Driver::Vgem)?;
        assert_eq!(process.prime_fd_to_handle(dev, buffer)?, handle, "it comes back as itself");
        map_foreign_import(process, Driver::Vgem, Driver::Vkms)
    });
    assert!(ended && reports.is_empty(), "{reports:?}");
    kernel.assert_no_leaks();
}
