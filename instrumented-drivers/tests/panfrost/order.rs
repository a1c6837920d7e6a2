// SPDX-License-Identifier: GPL-2.0-only
//! The order of the driver's locks, and that several objects are locked in whatever order works.

use instrumented_drivers::drm::panfrost::drv::PanfrostMadv::DontNeed;
use instrumented_drivers::drm::panfrost::gem::{PANFROST_BO_HEAP, PANFROST_BO_NOEXEC};
use instrumented_drivers::drm::panfrost::submit::{PanfrostSubmit, WaitTimeout};
use instrumented_drivers::kernel::errno::{Errno, Result};
use instrumented_drivers::kernel::fault::{self, Plan};
use instrumented_drivers::kernel::shrinker::kswapd;
use instrumented_drivers::policy::LockingPolicy::P2;
use instrumented_drivers::policy::ShmemLocking::{A, B, C};
use instrumented_drivers::user::{Driver, Kernel, Process, Programs};
use lockdep::Validator;

use crate::common::{PAGE, clean, map, open_with_bo};

/// P13: two imports of one foreign buffer share its lock, so they count as one object named twice.
#[test]
fn p13_two_imports_of_one_buffer_in_one_job_are_refused() {
    clean(P2, C, |_, process| {
        let vgem = process.open(Driver::Vgem)?;
        let dumb = process.mode_create_dumb(vgem, 32, 32, 32)?;
        let buffer = process.prime_handle_to_fd(vgem, dumb, 2)?;
        let (gpu, _, _) = open_with_bo(process, PAGE)?;
        let other = process.open(Driver::Panfrost)?;
        let import = process.prime_fd_to_handle(gpu, buffer)?;
        let theirs = process.prime_fd_to_handle(other, buffer)?;
        // The second import reaches the first file by its name.
        let name = process.gem_flink(other, theirs)?;
        let again = process.gem_open(gpu, name)?;
        assert_ne!(import, again, "two objects");
        let programs = Programs::new(process, gpu)?;
        let jc = programs.load(process, |chain| chain.null());
        assert_eq!(process.panfrost_submit(gpu, &programs.job(jc, &[import, again])), Err(Errno::EALREADY));
        process.panfrost_submit(gpu, &programs.job(jc, &[import]))?;
        process.panfrost_wait_bo(gpu, import, WaitTimeout::Forever)
    });
}

/// Everything the driver does, once.
fn grand_tour(kernel: &Kernel, process: &Process) -> Result {
    let pfdev = kernel.panfrost();
    let (gpu, target, address) = open_with_bo(process, PAGE)?;
    let programs = Programs::new(process, gpu)?;
    let (heap, base) = process.panfrost_create_bo(gpu, 1, PANFROST_BO_HEAP | PANFROST_BO_NOEXEC)?;
    let out = process.syncobj_create(gpu, false)?;
    let jc = programs.load(process, |chain| chain.gate(1).write(base, 1, 1).copy(address, base, 1));
    let submit = PanfrostSubmit { out_sync: Some(out), ..programs.job(jc, &[target, heap]) };
    process.panfrost_submit(gpu, &submit)?;
    process
        .panfrost_submit(gpu, &PanfrostSubmit { in_syncs: vec![out], requirements: 1, ..submit.clone() })?;
    kernel.settle();
    pfdev.hw.open_gate(1);
    process.syncobj_wait(gpu, out)?;
    process.panfrost_wait_bo(gpu, target, WaitTimeout::Forever)?;
    let buffer = process.prime_handle_to_fd(gpu, target, 2)?;
    let vkms = process.open(Driver::Vkms)?;
    let import = process.prime_fd_to_handle(vkms, buffer)?;
    process.gem_close(vkms, import)?;
    let cpu = map(process, gpu, target, PAGE)?;
    assert_eq!(process.read_byte(cpu), Ok(1));
    process.panfrost_perfcnt_enable(gpu, true)?;
    process.panfrost_perfcnt_dump(gpu, cpu)?;
    process.panfrost_perfcnt_enable(gpu, false)?;
    let (dispensable, _) = process.panfrost_create_bo(gpu, PAGE, PANFROST_BO_NOEXEC)?;
    process.panfrost_madvise(gpu, dispensable, DontNeed)?;
    assert_eq!(kswapd(kernel.core(), usize::MAX), 1);
    let endless = programs.load(process, |chain| chain.null().forever());
    process.panfrost_submit(gpu, &programs.job(endless, &[]))?;
    kernel.settle();
    assert!(pfdev.fire_timeout(1));
    kernel.settle();
    process.panfrost_submit(gpu, &programs.job(endless, &[target]))
}

const RESV: &str = "reservation_ww_class_mutex";

#[test]
fn the_locks_are_taken_in_the_documented_order() {
    if !lockdep::ENABLED {
        return;
    }
    for shmem in [A, B, C] {
        let validator = Validator::new();
        validator.scope(|| {
            let kernel = Kernel::new(P2, shmem);
            let process = kernel.process("init");
            grand_tour(&kernel, &process).unwrap();
            process.exit();
            kernel.assert_no_leaks();
        });
        assert!(validator.reports().is_empty(), "{shmem}: {}", validator.reports()[0]);
        let edges = validator.dependencies();
        let has = |from: &str, to: &str| edges.iter().any(|(a, b)| a == from && b == to);
        let pages = if shmem == A { "&shmem->pages_lock" } else { RESV };
        for (from, to) in [
            ("reservation_ww_class_acquire", RESV),
            (RESV, "&pfdev->sched_lock"),
            ("&pfdev->sched_lock", "&entity->lock"),
            ("&entity->lock", "&rq->lock"),
            ("&pfdev->sched_lock", "fs_reclaim"),
            ("&pfdev->shrinker_lock", "&obj->mappings.lock"),
            ("&pfdev->as_lock", "&mmu->mm_lock"),
            ("&js->job_lock", "&fence->lock"),
            ("&perfcnt->lock", "&mm->mmap_lock"),
            ("&perfcnt->lock", RESV),
            ("&perfcnt->lock", "&obj->mappings.lock"),
            ("&perfcnt->lock", "&mmu->mm_lock"),
            ("(work_completion)(&sched->work_run_job)", "&pfdev->as_lock"),
            ("(work_completion)(&sched->work_run_job)", "&sched->job_list_lock"),
            (pages, "fs_reclaim"),
            ("fs_reclaim", "&pfdev->as_lock"),
            ("dma_fence_map", "&js->job_lock"),
        ] {
            assert!(has(from, to), "{shmem}: {from} → {to} is missing in {edges:#?}");
        }
        if shmem == A {
            assert!(has("&obj->mappings.lock", "&shmem->pages_lock"));
        } else {
            assert!(has(RESV, "&pfdev->shrinker_lock") && has(RESV, "&pfdev->as_lock"));
        }
        // Reclaim and the sections that fences depend on wait for none of these.
        for waited_for in
            [RESV, "&pfdev->shrinker_lock", "&obj->mappings.lock", "&shmem->pages_lock", "&pfdev->sched_lock"]
        {
            assert!(!has("fs_reclaim", waited_for), "{shmem}: reclaim waits for {waited_for}");
            assert!(!has("dma_fence_map", waited_for), "{shmem}: fences wait for {waited_for}");
        }
    }
}

/// Every allocation of the submitting task fails once, every interruptible wait is interrupted once.
#[test]
fn every_failure_on_the_way_of_a_job_leaves_nothing_behind() {
    for shmem in [A, B, C] {
        let program = |process: &Process, plan| {
            let (gpu, target, address) = open_with_bo(process, PAGE).unwrap();
            let programs = Programs::new(process, gpu).unwrap();
            let jc = programs.load(process, |chain| chain.write(address, 1, 1));
            let first = process.syncobj_create(gpu, true).unwrap();
            fault::inject(plan, || -> Result {
                let out = process.syncobj_create(gpu, false)?;
                let submit = PanfrostSubmit {
                    out_sync: Some(out),
                    in_syncs: vec![first],
                    ..programs.job(jc, &[target])
                };
                process.panfrost_submit(gpu, &submit)?;
                process.panfrost_submit(gpu, &submit)?;
                process.panfrost_wait_bo(gpu, target, WaitTimeout::Forever)?;
                process.syncobj_wait(gpu, out).map(drop)
            })
        };
        let mut plans = vec![];
        clean(P2, shmem, |_, process| {
            let (result, seen) = program(process, Plan::NONE);
            plans.extend((1..=seen.allocations).map(Plan::allocation));
            plans.extend((1..=seen.interruptible).map(Plan::interrupt));
            result
        });
        assert!(plans.len() > 12, "{}", plans.len());
        for plan in plans {
            clean(P2, shmem, |_, process| {
                let (result, _) = program(process, plan);
                assert!(matches!(result, Ok(()) | Err(Errno::ENOMEM | Errno::EINTR)), "{plan:?}: {result:?}");
                Ok(())
            });
        }
    }
}

/// The same for a job whose objects are taken with made-up back-offs on the way: a signal may come at any lock, also
/// while the one that was waited for is held out of turn.
#[test]
fn a_signal_after_a_back_off_leaves_no_lock_behind() {
    clean(P2, C, |_, process| {
        let (gpu, first, _) = open_with_bo(process, PAGE)?;
        let mut objects = vec![first];
        for _ in 0..4 {
            objects.push(process.panfrost_create_bo(gpu, PAGE, PANFROST_BO_NOEXEC)?.0);
        }
        let programs = Programs::new(process, gpu)?;
        let jc = programs.load(process, |chain| chain.null());
        let job = programs.job(jc, &objects);
        let mut interrupted = 0;
        for at in 1..=60 {
            let submits = || (0..6).try_for_each(|_| process.panfrost_submit(gpu, &job));
            let (result, _) = fault::inject(Plan::interrupt(at), || fault::drill_back_offs(submits));
            assert!(matches!(result, Ok(()) | Err(Errno::EINTR)), "{at}: {result:?}");
            assert!(lockdep::raw::is_quiet(), "{at}");
            interrupted += usize::from(result.is_err());
        }
        assert!(interrupted > 30, "{interrupted}");
        process.panfrost_wait_bo(gpu, first, WaitTimeout::Forever)
    });
}
