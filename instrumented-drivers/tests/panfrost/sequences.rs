// SPDX-License-Identifier: GPL-2.0-only
//! What each call locks, to the last lock: a lock that nobody waits for in any test is seen here all the same.

use instrumented_drivers::drm::file::Handle;
use instrumented_drivers::drm::panfrost::drv::PanfrostMadv::DontNeed;
use instrumented_drivers::drm::panfrost::gem::{PANFROST_BO_HEAP, PANFROST_BO_NOEXEC};
use instrumented_drivers::drm::panfrost::submit::PanfrostSubmit;
use instrumented_drivers::kernel::errno::Result;
use instrumented_drivers::kernel::file::Fd;
use instrumented_drivers::kernel::shrinker::kswapd;
use instrumented_drivers::policy::LockingPolicy::P2;
use instrumented_drivers::policy::ShmemLocking::C;
use instrumented_drivers::user::{Kernel, Process, Programs};
use lockdep::{Recorded, RecordedOp, Validator};

use crate::common::{PAGE, open_with_bo};

/// What a task locks: `lock{…}` is a lock, and what is locked while it is held. Without reclaim, which is everywhere.
fn locked_by(task: &str, recorded: &[Recorded]) -> String {
    let ours = recorded.iter().filter(|event| &*event.task_name == task && &*event.class != "fs_reclaim");
    ours.map(|event| match event.op {
        RecordedOp::Release => "}".to_owned(),
        RecordedOp::AssertHeld => String::new(),
        _ => format!("{}{{", event.class),
    })
    .collect()
}

/// Runs `f` in a kernel of its own with an open file of the GPU and what it needs for a job; the events of `f`.
fn record(f: impl FnOnce(&Kernel, &Process, Fd)) -> Vec<Recorded> {
    let validator = Validator::builder().record(true).build();
    let recorded = validator.scope(|| {
        let kernel = Kernel::new(P2, C);
        let process = kernel.process("init");
        let (gpu, _, _) = open_with_bo(&process, PAGE).unwrap();
        drop(validator.take_recorded());
        f(&kernel, &process, gpu);
        kernel.settle();
        let recorded = validator.take_recorded();
        process.exit();
        kernel.assert_no_leaks();
        recorded
    });
    assert!(validator.reports().is_empty(), "{}", validator.reports()[0]);
    recorded
}

fn submit_and_wait(kernel: &Kernel, process: &Process, gpu: Fd) {
    let programs = Programs::new(process, gpu).unwrap();
    let jc = programs.load(process, |chain| chain.gate(1));
    let out = process.syncobj_create(gpu, false).unwrap();
    let job = PanfrostSubmit { out_sync: Some(out), ..programs.job(jc, &[BO]) };
    process.panfrost_submit(gpu, &job).unwrap();
    // The scheduler's callback is on the fence before the job ends.
    kernel.settle();
    kernel.panfrost().hw.open_gate(1);
}

/// The object that [`record`] makes.
const BO: Handle = Handle(1);

#[test]
fn an_object_is_made_looked_up_and_given_up_with_these_locks() {
    if !lockdep::ENABLED {
        return;
    }
    for (what, call, expected) in [
        (
            "create",
            (|process, gpu| process.panfrost_create_bo(gpu, PAGE, PANFROST_BO_NOEXEC).map(drop))
                as fn(&Process, Fd) -> Result,
            "&mgr->vm_lock{}&dev->object_name_lock{&file_private->table_lock{}}&node->vm_lock{}&mmu->mm_lock{}\
             reservation_ww_class_mutex{}&obj->mappings.lock{}&file_private->table_lock{}&obj->mappings.lock{}",
        ),
        (
            "look up",
            |process, gpu| process.panfrost_get_bo_offset(gpu, BO).map(drop),
            "&file_private->table_lock{}&obj->mappings.lock{}",
        ),
        (
            "advise",
            |process, gpu| process.panfrost_madvise(gpu, BO, DontNeed).map(drop),
            "&file_private->table_lock{}\
             reservation_ww_class_mutex{&pfdev->shrinker_lock{&obj->mappings.lock{}}}",
        ),
        (
            "close the handle",
            |process, gpu| process.gem_close(gpu, BO),
            "&file_private->table_lock{}&obj->mappings.lock{}&mmu->mm_lock{}&prime_fpriv->lock{}&node->vm_lock{}\
             &dev->object_name_lock{}&pfdev->shrinker_lock{}reservation_ww_class_mutex{}&mgr->vm_lock{}\
             &file_private->table_lock{}",
        ),
        (
            "close the file",
            |process, gpu| process.close(gpu),
            "&obj->mappings.lock{}&mmu->mm_lock{}&prime_fpriv->lock{}&node->vm_lock{}&dev->object_name_lock{}\
             &pfdev->shrinker_lock{}reservation_ww_class_mutex{}&mgr->vm_lock{}&perfcnt->lock{}\
             &entity->lock{&rq->lock{}}&x->wait{}&entity->lock{&rq->lock{}}&x->wait{}\
             &entity->lock{&rq->lock{}}&x->wait{}&js->job_lock{}&pfdev->as_lock{}",
        ),
    ] {
        let recorded = record(|_, process, gpu| call(process, gpu).unwrap());
        assert_eq!(locked_by("init", &recorded), expected, "{what}");
    }
}

#[test]
fn reclaim_goes_through_these_locks() {
    if !lockdep::ENABLED {
        return;
    }
    let recorded = record(|kernel, process, gpu| {
        process.panfrost_madvise(gpu, BO, DontNeed).unwrap();
        kernel.kthread(|core| {
            lockdep::raw::set_task_name("kswapd0");
            assert_eq!(kswapd(core, usize::MAX), 1);
            lockdep::raw::set_task_name("init");
        });
    });
    assert_eq!(
        locked_by("kswapd0", &recorded),
        "&pfdev->shrinker_lock{}&pfdev->shrinker_lock{&obj->mappings.lock{reservation_ww_class_mutex{\
         &mmu->mm_lock{}&mapping->i_mmap_rwsem{}&mgr->vm_lock{}}}}"
    );
}

#[test]
fn a_job_goes_through_these_locks() {
    if !lockdep::ENABLED {
        return;
    }
    let recorded = record(submit_and_wait);
    let submitted = locked_by("init", &recorded);
    let ioctl = "&file_private->syncobj_table_lock{}&file_private->table_lock{}\
                 &obj->mappings.lock{}&obj->mappings.lock{}\
                 reservation_ww_class_acquire{reservation_ww_class_mutex{reservation_ww_class_mutex{\
                 &pfdev->sched_lock{&entity->lock{&rq->lock{}}}}}}&syncobj->lock{}";
    assert!(submitted.ends_with(ioctl), "{submitted}");
    assert_eq!(locked_by("irq/panfrost-job", &recorded), "&js->job_lock{&fence->lock{}}");
    let worker = locked_by("kworker/pan_js", &recorded);
    let handed_over = "(wq_completion)pan_js{(work_completion)(&sched->work_run_job){&rq->lock{}\
                       &sched->job_list_lock{}&pfdev->as_lock{}&js->job_lock{}&x->wait{}&fence->lock{}\
                       &js->job_lock{}&sched->job_scheduled{}}}";
    assert!(worker.starts_with(handed_over), "{worker}");
    let freed = "(work_completion)(&sched->work_free_job){&sched->job_list_lock{}&sched->job_list_lock{}}";
    assert!(worker.contains(freed), "{worker}");
}

#[test]
fn a_page_fault_of_the_gpu_goes_through_these_locks() {
    if !lockdep::ENABLED {
        return;
    }
    let recorded = record(|_, process, gpu| {
        let programs = Programs::new(process, gpu).unwrap();
        let (_, base) = process.panfrost_create_bo(gpu, PAGE, PANFROST_BO_HEAP | PANFROST_BO_NOEXEC).unwrap();
        let jc = programs.load(process, |chain| chain.write(base, 1, 1));
        process.panfrost_submit(gpu, &programs.job(jc, &[])).unwrap();
    });
    assert_eq!(
        locked_by("irq/panfrost-mmu", &recorded),
        "&pfdev->as_lock{&mmu->mm_lock{}}reservation_ww_class_mutex{&pfdev->as_lock{}}&pfdev->as_lock{}"
    );
}
