// SPDX-License-Identifier: GPL-2.0-only
//! Jobs: submit, dependencies, errors, closing the file under them.

use instrumented_drivers::drm::file::Handle;
use instrumented_drivers::drm::panfrost::job::PANFROST_JD_REQ_FS;
use instrumented_drivers::drm::panfrost::submit::{PanfrostSubmit, WaitTimeout};
use instrumented_drivers::drm::syncobj::SyncobjHandle;
use instrumented_drivers::kernel::errno::Errno;
use instrumented_drivers::policy::LockingPolicy::P2;
use instrumented_drivers::policy::ShmemLocking::C;
use instrumented_drivers::user::Driver;

use crate::common::{PAGE, Programs, all, clean, job, map, open_with_bo};

/// P3: `panfrost_submit@pan-submit`.
#[test]
fn p3_a_job_is_done_and_says_so_through_its_out_sync_and_its_objects() {
    for (policy, shmem) in all() {
        clean(policy, shmem, |_, process| {
            let (gpu, target, address) = open_with_bo(process, PAGE)?;
            let programs = Programs::new(process, gpu)?;
            let jc = programs.load(process, |chain| chain.null().write(address + 7, 42, 3));
            let out = process.syncobj_create(gpu, false)?;
            assert_eq!(process.syncobj_wait(gpu, out), Err(Errno::EINVAL), "nothing in it yet");
            let submit = PanfrostSubmit { out_sync: Some(out), ..job(&programs, jc, &[target]) };
            process.panfrost_submit(gpu, &submit)?;
            assert_eq!(process.syncobj_wait(gpu, out)?, None, "no error");
            process.panfrost_wait_bo(gpu, target, WaitTimeout::Now)?;
            let cpu = map(process, gpu, target, PAGE)?;
            let bytes: Vec<_> = (6..11).map(|at| process.read_byte(cpu + at).unwrap()).collect();
            assert_eq!(bytes, [0, 42, 42, 42, 0]);
            process.syncobj_destroy(gpu, out)
        });
    }
}

/// P4: `panfrost_submit@pan-submit-error-*`.
#[test]
fn p4_a_bad_job_has_its_error_and_leaves_nothing_behind() {
    for (policy, shmem) in all() {
        clean(policy, shmem, |kernel, process| {
            let (gpu, target, _) = open_with_bo(process, PAGE)?;
            let programs = Programs::new(process, gpu)?;
            let jc = programs.load(process, |chain| chain.null());
            let out = process.syncobj_create(gpu, true)?;
            let empty = process.syncobj_create(gpu, false)?;
            let good = PanfrostSubmit { out_sync: Some(out), ..job(&programs, jc, &[target]) };
            let bad = [
                (PanfrostSubmit { jc: 0, ..good.clone() }, Errno::EINVAL),
                (PanfrostSubmit { requirements: 2, ..good.clone() }, Errno::EINVAL),
                (PanfrostSubmit { in_syncs: vec![SyncobjHandle(77)], ..good.clone() }, Errno::ENOENT),
                (PanfrostSubmit { in_syncs: vec![out, empty], ..good.clone() }, Errno::EINVAL),
                (PanfrostSubmit { bo_handles: vec![target, Handle(77)], ..good.clone() }, Errno::ENOENT),
                (PanfrostSubmit { bo_handles: vec![target, target], ..good.clone() }, Errno::EALREADY),
                (PanfrostSubmit { out_sync: Some(SyncobjHandle(77)), ..good.clone() }, Errno::ENODEV),
            ];
            for (submit, error) in bad {
                assert_eq!(process.panfrost_submit(gpu, &submit), Err(error), "{submit:?}");
                assert!(lockdep::raw::is_quiet(), "{submit:?}");
                assert_eq!(kernel.live().count("panfrost_job"), 0, "{submit:?}");
            }
            process.panfrost_submit(gpu, &good)?;
            assert_eq!(process.syncobj_wait(gpu, out)?, None);
            assert_eq!(process.panfrost_wait_bo(gpu, Handle(77), WaitTimeout::Forever), Err(Errno::ENOENT));
            Ok(())
        });
    }
}

#[test]
fn a_job_that_is_at_work_keeps_its_objects_busy() {
    clean(P2, C, |kernel, process| {
        let (gpu, target, address) = open_with_bo(process, PAGE)?;
        let programs = Programs::new(process, gpu)?;
        let jc = programs.load(process, |chain| chain.gate(1).write(address, 5, 1));
        process.panfrost_submit(gpu, &job(&programs, jc, &[target]))?;
        kernel.settle();
        assert_eq!(process.panfrost_wait_bo(gpu, target, WaitTimeout::Now), Err(Errno::EBUSY));
        assert_eq!(process.panfrost_wait_bo(gpu, target, WaitTimeout::Soon), Err(Errno::ETIMEDOUT));
        assert!(!kernel.panfrost().is_idle());
        process.gem_close(gpu, target)?;
        assert_eq!(
            kernel.live().count("panfrost_gem_mapping"),
            2,
            "the job keeps the mapping, and so the object"
        );
        kernel.panfrost().hw.open_gate(1);
        process.panfrost_wait_bo(gpu, programs.handle, WaitTimeout::Forever)?;
        kernel.settle();
        assert_eq!(kernel.live().count("panfrost_gem_mapping"), 1, "the last user was the job");
        assert!(kernel.panfrost().is_idle());
        Ok(())
    });
}

#[test]
fn jobs_that_share_an_object_run_one_after_the_other_and_others_do_not_wait() {
    clean(P2, C, |kernel, process| {
        let (gpu, shared, address) = open_with_bo(process, PAGE)?;
        let (other, other_address) = process.panfrost_create_bo(gpu, PAGE, 1)?;
        let (first, second, third) =
            (Programs::new(process, gpu)?, Programs::new(process, gpu)?, Programs::new(process, gpu)?);
        // On the other slot, so that only the object makes the second one wait.
        let gated = first.load(process, |chain| chain.gate(1).write(address, 1, 1));
        process.panfrost_submit(gpu, &job(&first, gated, &[shared]))?;
        let copy = second.load(process, |chain| chain.copy(address + 1, address, 1));
        let copies = PanfrostSubmit { requirements: PANFROST_JD_REQ_FS, ..job(&second, copy, &[shared]) };
        process.panfrost_submit(gpu, &copies)?;
        let (file, _, _) = open_with_bo(process, PAGE)?;
        let free = third.load(process, |chain| chain.write(other_address, 3, 1));
        let free = PanfrostSubmit { requirements: PANFROST_JD_REQ_FS, ..job(&third, free, &[other]) };
        kernel.settle();
        assert_eq!(process.panfrost_wait_bo(gpu, second.handle, WaitTimeout::Now), Err(Errno::EBUSY));
        kernel.panfrost().hw.open_gate(1);
        process.panfrost_submit(gpu, &free)?;
        process.panfrost_wait_bo(gpu, other, WaitTimeout::Forever)?;
        process.panfrost_wait_bo(gpu, shared, WaitTimeout::Forever)?;
        let cpu = map(process, gpu, shared, PAGE)?;
        assert_eq!(process.read_byte(cpu + 1), Ok(1), "the copy came after the write");
        process.close(file)
    });
}

#[test]
fn a_foreign_fence_on_an_imported_buffer_is_waited_for() {
    for (policy, shmem) in all() {
        if shmem == instrumented_drivers::policy::ShmemLocking::B0 {
            continue;
        }
        clean(policy, shmem, |kernel, process| {
            let vgem = process.open(Driver::Vgem)?;
            let handle = process.mode_create_dumb(vgem, 32, 32, 32)?;
            let buffer = process.prime_handle_to_fd(vgem, handle, 2)?;
            let (gpu, target, address) = open_with_bo(process, PAGE)?;
            let import = process.prime_fd_to_handle(gpu, buffer)?;
            let from = process.panfrost_get_bo_offset(gpu, import)?;
            let programs = Programs::new(process, gpu)?;
            let jc = programs.load(process, |chain| chain.copy(address, from, 4));
            let fence = process.vgem_fence_attach(vgem, handle, true)?;
            process.panfrost_submit(gpu, &job(&programs, jc, &[target, import]))?;
            kernel.settle();
            assert_eq!(process.panfrost_wait_bo(gpu, target, WaitTimeout::Now), Err(Errno::EBUSY));
            let offset = process.mode_map_dumb(vgem, handle)?;
            let flags = instrumented_drivers::kernel::mm::MapFlags::SHARED;
            let cpu = process.mmap(vgem, PAGE as u64, offset, flags)?;
            process.write_byte(cpu + 2, 77).unwrap();
            process.vgem_fence_signal(vgem, fence)?;
            process.panfrost_wait_bo(gpu, target, WaitTimeout::Forever)?;
            let ours = map(process, gpu, target, PAGE)?;
            assert_eq!(process.read_byte(ours + 2), Ok(77), "what was written before the fence");
            Ok(())
        });
    }
}

/// P5: `panfrost_submit@pan-submit-and-close`.
#[test]
fn p5_closing_the_file_stops_its_jobs_and_everything_is_put_back() {
    for (policy, shmem) in all() {
        clean(policy, shmem, |kernel, process| {
            let (gpu, target, address) = open_with_bo(process, PAGE)?;
            let programs = Programs::new(process, gpu)?;
            let long = programs.load(process, |chain| chain.gate(9).write(address, 1, 1));
            // Two fit into the GPU, two wait in the queue, and one waits in the other queue for the last of these.
            for _ in 0..4 {
                process.panfrost_submit(gpu, &job(&programs, long, &[target]))?;
            }
            let fragment =
                PanfrostSubmit { requirements: PANFROST_JD_REQ_FS, ..job(&programs, long, &[target]) };
            process.panfrost_submit(gpu, &fragment)?;
            let (second, _, _) = open_with_bo(process, PAGE)?;
            programs.unmap(process)?;
            process.close(gpu)?;
            kernel.settle();
            assert_eq!(kernel.live().count("panfrost_job"), 0);
            assert!(kernel.panfrost().is_idle());
            // The GPU serves others.
            let others = Programs::new(process, second)?;
            let jc = others.load(process, |chain| chain.null());
            process.panfrost_submit(second, &job(&others, jc, &[]))?;
            process.panfrost_wait_bo(second, others.handle, WaitTimeout::Forever)
        });
    }
}
