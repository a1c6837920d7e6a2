// SPDX-License-Identifier: GPL-2.0-only
//! Buffer objects: life, addresses, mappings, import and export.

use std::panic::{AssertUnwindSafe, catch_unwind};

use instrumented_drivers::bug::Bug;
use instrumented_drivers::drm::panfrost::drv::PanfrostParam;
use instrumented_drivers::drm::panfrost::gem::{PANFROST_BO_HEAP, PANFROST_BO_NOEXEC};
use instrumented_drivers::drm::prime::DRM_RDWR;
use instrumented_drivers::kernel::errno::Errno;
use instrumented_drivers::kernel::fault::{self, Plan};
use instrumented_drivers::kernel::mm::MapFlags;
use instrumented_drivers::policy::LockingPolicy::{P0, P1, P2};
use instrumented_drivers::policy::ShmemLocking::{A, B, B0, C};
use instrumented_drivers::user::{Driver, Kernel, Process};
use lockdep::Validator;

use crate::common::{PAGE, all, clean, kinds, map, open_with_bo, run};

#[test]
fn bad_flags_and_handles_have_their_error_and_a_heap_is_not_for_the_cpu() {
    clean(P2, C, |kernel, process| {
        let gpu = process.open(Driver::Panfrost)?;
        let create = |size, flags| process.panfrost_create_bo(gpu, size, flags);
        assert_eq!(create(PAGE, 4).unwrap_err(), Errno::EINVAL);
        assert_eq!(create(PAGE, PANFROST_BO_HEAP).unwrap_err(), Errno::EINVAL, "programs in a heap");
        assert_eq!(create(5 << 30, PANFROST_BO_NOEXEC).unwrap_err(), Errno::ENOSPC, "no such address");
        let (heap, _) = create(PAGE, PANFROST_BO_HEAP | PANFROST_BO_NOEXEC)?;
        assert_eq!(process.panfrost_mmap_bo(gpu, heap).unwrap_err(), Errno::EINVAL);
        let buffer = process.prime_handle_to_fd(gpu, heap, DRM_RDWR)?;
        let vgem = process.open(Driver::Vgem)?;
        assert_eq!(
            process.prime_fd_to_handle(vgem, buffer).unwrap_err(),
            Errno::EINVAL,
            "it cannot be pinned"
        );
        let unknown = instrumented_drivers::drm::file::Handle(77);
        assert_eq!(process.panfrost_mmap_bo(gpu, unknown).unwrap_err(), Errno::ENOENT);
        assert_eq!(process.panfrost_get_bo_offset(gpu, unknown).unwrap_err(), Errno::ENOENT);
        assert_eq!(process.panfrost_mmap_bo(vgem, heap).unwrap_err(), Errno::ENODEV, "another driver's file");
        assert_eq!(process.mode_create_dumb(gpu, 1, 1, 32).unwrap_err(), Errno::ENOSYS);
        assert_eq!(kernel.live().count("drm_gem_object"), 1, "the heap only");
        Ok(())
    });
}

/// Bug 3: between two kernel releases the GEM core took the lock and the callback still did.
#[test]
fn p2_a_pin_callback_that_locks_again_waits_for_itself_in_c_only() {
    if !lockdep::ENABLED {
        return;
    }
    for shmem in [A, B, C] {
        let validator = Validator::new();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            validator.scope(|| {
                let kernel = Kernel::new(P2, shmem);
                kernel.break_with(Bug::PinLocksAgain);
                let process = kernel.process("weston");
                let (gpu, handle, _) = open_with_bo(&process, PAGE).unwrap();
                let buffer = process.prime_handle_to_fd(gpu, handle, DRM_RDWR).unwrap();
                let kms = process.open(Driver::Vkms).unwrap();
                process.prime_fd_to_handle(kms, buffer).unwrap();
                process.exit();
                kernel.assert_no_leaks();
            });
        }));
        let expected = if shmem == C { vec!["recursive"] } else { vec![] };
        assert_eq!(kinds(&validator.reports()), expected, "{shmem}");
        assert_eq!(ended.is_err(), shmem == C);
    }
}

/// P8: `panfrost_get_param`.
#[test]
fn p8_parameters_are_read_without_a_lock() {
    let validator = Validator::builder().record(true).build();
    validator.scope(|| {
        let kernel = Kernel::new(P2, C);
        let process = kernel.process("init");
        let gpu = process.open(Driver::Panfrost).unwrap();
        drop(validator.take_recorded());
        assert_eq!(process.panfrost_get_param(gpu, PanfrostParam::AsPresent), Ok(0xff));
        assert!(process.panfrost_get_param(gpu, PanfrostParam::GpuProdId).unwrap() > 0);
        assert_eq!(process.panfrost_get_param(gpu, PanfrostParam::Unknown), Err(Errno::EINVAL));
        assert!(validator.take_recorded().is_empty());
        process.exit();
        kernel.assert_no_leaks();
    });
}

/// P15: a display's buffer is mapped for the kernel by the GPU's driver, or the other way round.
#[test]
fn p15_an_import_that_is_mapped_for_the_kernel_nests_two_locks_in_a_and_asserts_in_b_and_c() {
    use instrumented_drivers::drm::file::DrmFile;
    use instrumented_drivers::drm::gem::{
        drm_gem_object_put, drm_gem_vmap_unlocked, drm_gem_vunmap_unlocked,
    };
    use instrumented_drivers::drm::gem_handle::drm_gem_object_lookup;
    for (policy, shmem) in all() {
        for (exporter, importer) in [(Driver::Vkms, Driver::Panfrost), (Driver::Panfrost, Driver::Vkms)] {
            let reports = run(policy, shmem, |kernel, process| {
                let from = process.open(exporter)?;
                let handle = process.driver_create_buffer(from, 4096)?;
                let buffer = process.prime_handle_to_fd(from, handle, DRM_RDWR)?;
                let to = process.open(importer)?;
                let import = process.prime_fd_to_handle(to, buffer)?;
                let file = process.peek(to)?;
                let file: &DrmFile = file.private().ok_or(Errno::ENOTTY)?;
                kernel.kthread(|_| {
                    let obj = drm_gem_object_lookup(file, import).ok_or(Errno::ENOENT)?;
                    let map = drm_gem_vmap_unlocked(&obj)?;
                    map.write(5, 55);
                    drm_gem_vunmap_unlocked(&obj, &map);
                    drm_gem_object_put(obj);
                    Ok::<_, Errno>(())
                })?;
                let offset = process.driver_map_offset(from, handle)?;
                let cpu = process.mmap(from, PAGE as u64, offset, MapFlags::SHARED)?;
                assert_eq!(process.read_byte(cpu + 5), Ok(55));
                Ok(())
            });
            let what = format!("{policy} {shmem} {} {}: {reports:?}", exporter.name(), importer.name());
            let found = kinds(&reports);
            if !lockdep::ENABLED {
                assert!(found.is_empty());
                continue;
            }
            assert_eq!(found.contains(&"recursive"), shmem == A, "{what}");
            let unlocked = shmem == B0 || (policy == P0 && shmem != A);
            assert_eq!(found.contains(&"assert-held"), unlocked, "{what}");
        }
    }
}

/// Every allocation fails once, every interruptible wait is interrupted once: nothing is leaked, no lock stays held.
#[test]
fn every_failure_on_the_way_of_an_object_is_survived() {
    for (policy, shmem) in [(P0, A), (P1, A), (P2, A), (P1, B), (P2, B), (P2, C)] {
        let program = |process: &Process, plan| {
            fault::inject(plan, || -> Result<(), Errno> {
                let (gpu, handle, _) = open_with_bo(process, 2 * PAGE)?;
                let cpu = map(process, gpu, handle, 2 * PAGE)?;
                process.write_byte(cpu, 1).map_err(|_| Errno::EFAULT)?;
                let kms = process.open(Driver::Vkms)?;
                let dumb = process.mode_create_dumb(kms, 32, 32, 32)?;
                let buffer = process.prime_handle_to_fd(kms, dumb, DRM_RDWR)?;
                let import = process.prime_fd_to_handle(gpu, buffer)?;
                process.panfrost_get_bo_offset(gpu, import).map(drop)
            })
        };
        let mut plans = vec![];
        clean(policy, shmem, |_, process| {
            let (result, seen) = program(process, Plan::NONE);
            plans.extend((1..=seen.allocations).map(Plan::allocation));
            plans.extend((1..=seen.interruptible).map(Plan::interrupt));
            result
        });
        assert!(plans.len() > 20, "{}", plans.len());
        for plan in plans {
            clean(policy, shmem, |_, process| {
                let (result, _) = program(process, plan);
                // A page table that could not be allocated is no error, as in the kernel.
                assert!(matches!(result, Ok(()) | Err(Errno::ENOMEM | Errno::EINTR)), "{plan:?}: {result:?}");
                Ok(())
            });
        }
    }
}

#[test]
fn a_scatter_of_sizes_in_one_file_never_overlaps() {
    clean(P2, C, |_, process| {
        let gpu = process.open(Driver::Panfrost)?;
        let mut taken: Vec<(u64, u64)> = Vec::new();
        let mut seed = 7_u64;
        for round in 0..60 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let pages = (seed >> 60) + 1;
            let flags = if round % 3 == 0 { 0 } else { PANFROST_BO_NOEXEC };
            let size = usize::try_from(pages).unwrap() * PAGE;
            let (_, address) = process.panfrost_create_bo(gpu, size, flags)?;
            let end = address + size as u64;
            assert!(taken.iter().all(|(start, stop)| end <= *start || *stop <= address), "round {round}");
            if flags == 0 {
                assert!(address.is_multiple_of(size as u64), "a program crosses no boundary");
            }
            taken.push((address, end));
        }
        Ok(())
    });
}

/// The seed of the project, with the GPU's driver as exporter: `P1` and the reservation lock taken in `mmap`.
#[test]
fn mapping_an_exported_object_deadlocks_under_p1_on_the_reservation_lock_only() {
    if !lockdep::ENABLED {
        return;
    }
    for (policy, shmem) in all() {
        let validator = Validator::new();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            validator.scope(|| {
                let kernel = Kernel::new(policy, shmem);
                let process = kernel.process("init");
                let (gpu, handle, _) = open_with_bo(&process, PAGE).unwrap();
                let buffer = process.prime_handle_to_fd(gpu, handle, DRM_RDWR).unwrap();
                process.mmap(buffer, PAGE as u64, 0, MapFlags::SHARED).unwrap();
                process.exit();
                kernel.assert_no_leaks();
            });
        }));
        let deadlock = policy == P1 && shmem != A;
        let expected = if deadlock { vec!["recursive"] } else { vec![] };
        assert_eq!(kinds(&validator.reports()), expected, "{policy} {shmem}");
        assert_eq!(ended.is_err(), deadlock);
    }
}
