// SPDX-License-Identifier: GPL-2.0-only
//! P12: the performance counters.

use instrumented_drivers::drm::panfrost::perfcnt::PERFCNT_SIZE;
use instrumented_drivers::kernel::errno::{Errno, Result};
use instrumented_drivers::kernel::fault::{self, Plan};
use instrumented_drivers::kernel::mm::MapFlags;
use instrumented_drivers::policy::LockingPolicy::{P0, P1, P2};
use instrumented_drivers::policy::ShmemLocking::{A, B, C};
use instrumented_drivers::user::{Driver, Kernel, Process};
use lockdep::Validator;

use crate::common::{PAGE, all, clean, open_with_bo};

/// Memory of the program for a sample: two pages, of which the second is never touched before.
fn buffer(process: &Process) -> Result<u64> {
    let vgem = process.open(Driver::Vgem)?;
    let handle = process.mode_create_dumb(vgem, 64, 32, 32)?;
    let offset = process.mode_map_dumb(vgem, handle)?;
    process.mmap(vgem, 2 * PAGE as u64, offset, MapFlags::SHARED)
}

fn no_kernel_was_like_that(policy: instrumented_drivers::policy::LockingPolicy, on_resv: bool) -> bool {
    policy == P0 && on_resv
}

#[test]
fn p12_one_file_at_a_time_has_the_counters_and_gets_its_samples() {
    for (policy, shmem) in all() {
        if no_kernel_was_like_that(policy, shmem.on_reservation_lock()) {
            continue;
        }
        clean(policy, shmem, |kernel, process| {
            let (first, second) = (process.open(Driver::Panfrost)?, process.open(Driver::Panfrost)?);
            let to = buffer(process)?;
            assert_eq!(process.panfrost_perfcnt_dump(first, to), Err(Errno::EINVAL), "not enabled");
            assert_eq!(process.panfrost_perfcnt_enable(first, false), Err(Errno::EINVAL), "not enabled");
            process.panfrost_perfcnt_enable(first, true)?;
            process.panfrost_perfcnt_enable(first, true)?;
            assert_eq!(process.panfrost_perfcnt_enable(second, true), Err(Errno::EBUSY));
            assert_eq!(process.panfrost_perfcnt_enable(second, false), Err(Errno::EINVAL));
            assert_eq!(process.panfrost_perfcnt_dump(second, to), Err(Errno::EINVAL));
            for sample in 1..=3 {
                process.panfrost_perfcnt_dump(first, to + 8)?;
                assert_eq!(process.read_byte(to + 7), Ok(if sample == 1 { 0 } else { 100 }));
                assert_eq!(process.read_byte(to + 8), Ok(sample));
                assert_eq!(process.read_byte(to + 7 + PERFCNT_SIZE as u64), Ok(sample), "all of it");
                process.write_byte(to + 7, 100).unwrap();
            }
            assert_eq!(process.panfrost_perfcnt_dump(first, 0x1000), Err(Errno::EFAULT));
            process.panfrost_perfcnt_enable(first, false)?;
            process.panfrost_perfcnt_enable(second, true)?;
            process.close(second)?;
            assert_eq!(kernel.live().count("panfrost_gem_mapping"), 0, "closing gives them back");
            process.panfrost_perfcnt_enable(first, true)
        });
    }
}

#[test]
fn p12_a_gpu_that_does_not_answer_is_not_waited_for_for_ever() {
    clean(P2, C, |kernel, process| {
        let gpu = process.open(Driver::Panfrost)?;
        let to = buffer(process)?;
        kernel.panfrost().hw.freeze_counters(true);
        assert_eq!(process.panfrost_perfcnt_enable(gpu, true), Err(Errno::ETIMEDOUT));
        assert_eq!(kernel.live().count("panfrost_gem_mapping"), 0);
        kernel.panfrost().hw.freeze_counters(false);
        process.panfrost_perfcnt_enable(gpu, true)?;
        kernel.panfrost().hw.freeze_counters(true);
        assert_eq!(process.panfrost_perfcnt_dump(gpu, to), Err(Errno::ETIMEDOUT));
        kernel.panfrost().hw.freeze_counters(false);
        process.panfrost_perfcnt_dump(gpu, to)
    });
}

#[test]
fn p12_every_failure_on_the_way_leaves_the_counters_free() {
    for (policy, shmem) in [(P0, A), (P1, A), (P2, A), (P1, B), (P2, B), (P2, C)] {
        let program = |process: &Process, plan| {
            fault::inject(plan, || -> Result {
                let (gpu, _, _) = open_with_bo(process, PAGE)?;
                let to = buffer(process)?;
                process.panfrost_perfcnt_enable(gpu, true)?;
                process.panfrost_perfcnt_dump(gpu, to)?;
                process.panfrost_perfcnt_enable(gpu, false)
            })
        };
        let mut plans = vec![];
        clean(policy, shmem, |_, process| {
            let (result, seen) = program(process, Plan::NONE);
            plans.extend((1..=seen.allocations).map(Plan::allocation));
            plans.extend((1..=seen.interruptible).map(Plan::interrupt));
            result
        });
        for plan in plans {
            clean(policy, shmem, |_, process| {
                let (result, _) = program(process, plan);
                // A fault that cannot be handled for want of memory is a bad address to the copy.
                assert!(
                    matches!(result, Ok(()) | Err(Errno::ENOMEM | Errno::EINTR | Errno::EFAULT)),
                    "{plan:?}: {result:?}"
                );
                Ok(())
            });
        }
    }
}

/// What P12 is about: the lock is outside `mmap_lock` and the reservation lock.
#[test]
fn p12_the_counters_lock_is_outside_mmap_lock_and_the_reservation_lock() {
    if !lockdep::ENABLED {
        return;
    }
    let validator = Validator::new();
    validator.scope(|| {
        let kernel = Kernel::new(P2, C);
        let process = kernel.process("init");
        let gpu = process.open(Driver::Panfrost).unwrap();
        let to = buffer(&process).unwrap();
        process.panfrost_perfcnt_enable(gpu, true).unwrap();
        process.panfrost_perfcnt_dump(gpu, to).unwrap();
        process.exit();
        kernel.assert_no_leaks();
    });
    let edges = validator.dependencies();
    for inner in
        ["&mm->mmap_lock", "&obj->mappings.lock", "reservation_ww_class_mutex", "fs_reclaim", "&x->wait"]
    {
        assert!(edges.contains(&("&perfcnt->lock".to_owned(), inner.to_owned())), "{inner} in {edges:#?}");
    }
}
