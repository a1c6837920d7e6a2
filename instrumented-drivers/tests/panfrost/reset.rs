// SPDX-License-Identifier: GPL-2.0-only
//! Jobs that take too long, and the reset that follows.

use instrumented_drivers::bug::Bug;
use instrumented_drivers::drm::panfrost::reset::panfrost_device_schedule_reset;
use instrumented_drivers::drm::panfrost::submit::{PanfrostSubmit, WaitTimeout};
use instrumented_drivers::kernel::errno::Errno;
use instrumented_drivers::policy::LockingPolicy::P2;
use instrumented_drivers::policy::ShmemLocking::C;
use instrumented_drivers::user::{Driver, Kernel, Programs};
use lockdep::Validator;

use crate::common::{PAGE, all, clean, map, open_with_bo};

/// The slot of jobs that are not fragment jobs.
const SLOT: usize = 1;

#[test]
fn p6_the_jobs_of_others_survive_a_reset_and_go_on_where_they_were() {
    for (policy, shmem) in all() {
        clean(policy, shmem, |kernel, process| {
            let pfdev = kernel.panfrost();
            let (bad, _, _) = open_with_bo(process, PAGE)?;
            let bad_programs = Programs::new(process, bad)?;
            let (good, target, address) = open_with_bo(process, PAGE)?;
            let good_programs = Programs::new(process, good)?;
            let endless = bad_programs.load(process, |chain| chain.null().forever());
            // In the other slot: it has counted once when the reset comes and must not count again.
            let counts = good_programs.load(process, |chain| chain.add(address, 1).gate(3).add(address, 10));
            let out = process.syncobj_create(good, false)?;
            let submit = PanfrostSubmit {
                requirements: 1,
                out_sync: Some(out),
                ..good_programs.job(counts, &[target])
            };
            process.panfrost_submit(good, &submit)?;
            process.panfrost_submit(bad, &bad_programs.job(endless, &[]))?;
            // And this one is behind the bad one, not yet begun.
            let behind = good_programs.load(process, |chain| chain.add(address + 8, 5));
            process.panfrost_submit(good, &good_programs.job(behind, &[]))?;
            kernel.settle();
            assert!(pfdev.fire_timeout(SLOT));
            kernel.settle();
            process.panfrost_wait_bo(bad, bad_programs.handle, WaitTimeout::Now)?;
            assert_eq!(process.panfrost_wait_bo(good, target, WaitTimeout::Now), Err(Errno::EBUSY));
            pfdev.hw.open_gate(3);
            assert_eq!(process.syncobj_wait(good, out)?, None);
            process.panfrost_wait_bo(good, good_programs.handle, WaitTimeout::Forever)?;
            let cpu = map(process, good, target, PAGE)?;
            assert_eq!((process.read_byte(cpu), process.read_byte(cpu + 8)), (Ok(11), Ok(5)));
            Ok(())
        });
    }
}

#[test]
fn a_timeout_that_comes_just_after_the_end_is_no_reset() {
    clean(P2, C, |kernel, process| {
        let (gpu, target, _) = open_with_bo(process, PAGE)?;
        let programs = Programs::new(process, gpu)?;
        let jc = programs.load(process, |chain| chain.gate(1));
        for round in 0..20 {
            process.panfrost_submit(gpu, &programs.job(jc, &[target]))?;
            if round == 0 {
                kernel.settle();
                kernel.panfrost().hw.open_gate(1);
            }
            kernel.panfrost().fire_timeout(SLOT);
            process.panfrost_wait_bo(gpu, target, WaitTimeout::Forever)?;
        }
        Ok(())
    });
}

/// Until v6.17 the scheduler lost such a job; found by the test above.
#[test]
fn a_late_timeout_of_the_old_scheduler_loses_the_job() {
    let validator = Validator::new();
    validator.scope(|| {
        let kernel = Kernel::new(P2, C);
        kernel.break_with(Bug::LateTimeoutLosesJob);
        let process = kernel.process("init");
        let (gpu, _, _) = open_with_bo(&process, PAGE).unwrap();
        let programs = Programs::new(&process, gpu).unwrap();
        let jc = programs.load(&process, |chain| chain.gate(1));
        process.panfrost_submit(gpu, &programs.job(jc, &[])).unwrap();
        kernel.settle();
        // The interrupt's thread is slow: it has seen that the job is done and cannot say so yet.
        let pfdev = kernel.panfrost();
        pfdev.hold_job_lock(|| {
            pfdev.hw.open_gate(1);
            while !pfdev.job_interrupt_pending() {
                std::thread::yield_now();
            }
            assert!(pfdev.fire_timeout(SLOT));
            while pfdev.jobs_pending(SLOT) > 0 {
                std::thread::yield_now();
            }
        });
        process.panfrost_wait_bo(gpu, programs.handle, WaitTimeout::Forever).unwrap();
        process.exit();
        kernel.settle();
        assert_eq!(kernel.live().count("panfrost_job"), 1, "nobody will ever free it");
    });
    assert!(validator.reports().is_empty(), "no lock is involved");
}

#[test]
fn a_reset_that_the_driver_asks_for_costs_nobody_a_job() {
    clean(P2, C, |kernel, process| {
        let (gpu, target, address) = open_with_bo(process, PAGE)?;
        let programs = Programs::new(process, gpu)?;
        let jc = programs.load(process, |chain| chain.add(address, 1).gate(1).add(address, 1));
        let out = process.syncobj_create(gpu, false)?;
        process
            .panfrost_submit(gpu, &PanfrostSubmit { out_sync: Some(out), ..programs.job(jc, &[target]) })?;
        kernel.settle();
        panfrost_device_schedule_reset(&kernel.panfrost());
        kernel.settle();
        assert_eq!(kernel.panfrost().hw.resets(), 2);
        kernel.panfrost().hw.open_gate(1);
        assert_eq!(process.syncobj_wait(gpu, out)?, None);
        let cpu = map(process, gpu, target, PAGE)?;
        assert_eq!(process.read_byte(cpu), Ok(2));
        Ok(())
    });
}

#[test]
fn closing_a_file_while_its_job_is_being_reset_puts_everything_back() {
    clean(P2, C, |kernel, process| {
        for _ in 0..10 {
            let gpu = process.open(Driver::Panfrost)?;
            let programs = Programs::new(process, gpu)?;
            let jc = programs.load(process, |chain| chain.null().forever());
            for _ in 0..3 {
                process.panfrost_submit(gpu, &programs.job(jc, &[]))?;
            }
            kernel.settle();
            assert!(kernel.panfrost().fire_timeout(SLOT));
            programs.unmap(process)?;
            process.close(gpu)?;
            kernel.settle();
            assert_eq!(kernel.live().count("panfrost_job"), 0);
        }
        Ok(())
    });
}

/// The reset is a section that fences depend on, with two holes; nothing else is annotated.
#[test]
fn a_reset_has_its_signalling_sections_and_takes_the_job_lock_inside() {
    if !lockdep::ENABLED {
        return;
    }
    let validator = Validator::new();
    validator.scope(|| {
        let kernel = Kernel::new(P2, C);
        kernel.dma_resv_lockdep();
        let process = kernel.process("init");
        let (gpu, _, _) = open_with_bo(&process, PAGE).unwrap();
        let programs = Programs::new(&process, gpu).unwrap();
        let good = programs.load(&process, |chain| chain.gate(1));
        process.panfrost_submit(gpu, &programs.job(good, &[])).unwrap();
        // So that the scheduler's callback is on the fence when the job ends.
        kernel.settle();
        kernel.panfrost().hw.open_gate(1);
        process.panfrost_wait_bo(gpu, programs.handle, WaitTimeout::Forever).unwrap();
        let endless = programs.load(&process, |chain| chain.null().forever());
        process.panfrost_submit(gpu, &programs.job(endless, &[])).unwrap();
        kernel.settle();
        assert!(kernel.panfrost().fire_timeout(SLOT));
        kernel.settle();
        process.exit();
        kernel.assert_no_leaks();
    });
    assert!(validator.reports().is_empty(), "{}", validator.reports()[0]);
    let edges = validator.dependencies();
    let has = |from: &str, to: &str| edges.iter().any(|(a, b)| a == from && b == to);
    assert!(has("dma_fence_map", "&js->job_lock"), "{edges:#?}");
    assert!(has("dma_fence_map", "&pfdev->as_lock"));
    assert!(has("&js->job_lock", "&fence->lock"));
    assert!(!edges.iter().any(|(from, to)| from == "dma_fence_map" && to == "fs_reclaim"));
    assert!(has("(wq_completion)panfrost-reset", "(work_completion)(&(&sched->work_tdr)->work)"));
}

#[test]
fn the_driver_is_unloaded_when_nobody_uses_it_and_not_before() {
    for (policy, shmem) in all() {
        clean(policy, shmem, |kernel, process| {
            let (gpu, target, address) = open_with_bo(process, PAGE)?;
            let programs = Programs::new(process, gpu)?;
            let jc = programs.load(process, |chain| chain.write(address, 1, 1));
            process.panfrost_submit(gpu, &programs.job(jc, &[target]))?;
            assert_eq!(kernel.unload(Driver::Panfrost), Err(Errno::EBUSY));
            programs.unmap(process)?;
            process.close(gpu)?;
            // A job that is done and not yet freed when the scheduler goes is lost, as in 6.12.
            kernel.settle();
            kernel.unload(Driver::Panfrost)?;
            assert_eq!(process.open(Driver::Panfrost), Err(Errno::ENODEV));
            Ok(())
        });
    }
}
