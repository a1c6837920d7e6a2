// SPDX-License-Identifier: GPL-2.0-only
//! Jobs: submit, dependencies, errors, closing the file under them.

use instrumented_drivers::drm::panfrost::job::PANFROST_JD_REQ_FS;
use instrumented_drivers::drm::panfrost::submit::{PanfrostSubmit, WaitTimeout};
use instrumented_drivers::kernel::errno::Errno;
use instrumented_drivers::policy::LockingPolicy::P2;
use instrumented_drivers::policy::ShmemLocking::C;
use instrumented_drivers::user::{Driver, Programs};

use crate::common::{PAGE, all, clean, map, open_with_bo};

#[test]
fn a_job_that_is_at_work_keeps_its_objects_busy() {
    clean(P2, C, |kernel, process| {
        let (gpu, target, address) = open_with_bo(process, PAGE)?;
        let programs = Programs::new(process, gpu)?;
        let jc = programs.load(process, |chain| chain.gate(1).write(address, 5, 1));
        process.panfrost_submit(gpu, &programs.job(jc, &[target]))?;
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
        process.panfrost_submit(gpu, &first.job(gated, &[shared]))?;
        let copy = second.load(process, |chain| chain.copy(address + 1, address, 1));
        let copies = PanfrostSubmit { requirements: PANFROST_JD_REQ_FS, ..second.job(copy, &[shared]) };
        process.panfrost_submit(gpu, &copies)?;
        let (file, _, _) = open_with_bo(process, PAGE)?;
        let free = third.load(process, |chain| chain.write(other_address, 3, 1));
        let free = PanfrostSubmit { requirements: PANFROST_JD_REQ_FS, ..third.job(free, &[other]) };
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
            process.panfrost_submit(gpu, &programs.job(jc, &[target, import]))?;
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
