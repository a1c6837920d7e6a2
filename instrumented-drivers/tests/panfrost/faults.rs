// SPDX-License-Identifier: GPL-2.0-only
//! GPU page faults: heaps that grow, addresses where nothing is.

use instrumented_drivers::bug::Bug;
use instrumented_drivers::drm::file::Handle;
use instrumented_drivers::drm::panfrost::drv::PanfrostMadv::DontNeed;
use instrumented_drivers::drm::panfrost::gem::{PANFROST_BO_HEAP, PANFROST_BO_NOEXEC, to_panfrost_bo};
use instrumented_drivers::drm::panfrost::submit::{PanfrostSubmit, WaitTimeout};
use instrumented_drivers::kernel::errno::{Errno, Result};
use instrumented_drivers::kernel::file::Fd;
use instrumented_drivers::kernel::shrinker::kswapd;
use instrumented_drivers::policy::LockingPolicy::P2;
use instrumented_drivers::policy::ShmemLocking::{A, B, C};
use instrumented_drivers::user::{Driver, Kernel, Process, Programs};
use lockdep::Validator;

use crate::common::{PAGE, all, clean, kinds, map, open_with_bo};

const SZ_2M: u64 = 2 << 20;

/// A heap of this many blocks.
fn heap(process: &Process, gpu: Fd, blocks: usize) -> Result<(Handle, u64)> {
    process.panfrost_create_bo(gpu, blocks << 21, PANFROST_BO_HEAP | PANFROST_BO_NOEXEC)
}

/// How much of a heap has been faulted in, in blocks.
fn grown(kernel: &Kernel, process: &Process, gpu: Fd, handle: Handle) -> usize {
    use instrumented_drivers::drm::file::DrmFile;
    use instrumented_drivers::drm::gem::drm_gem_object_put;
    use instrumented_drivers::drm::gem_handle::drm_gem_object_lookup;
    let file = process.peek(gpu).unwrap();
    let file: &DrmFile = file.private().unwrap();
    // The handler counts after the GPU has gone on.
    kernel.settle();
    kernel.kthread(|_| {
        let obj = drm_gem_object_lookup(file, handle).unwrap();
        let size = to_panfrost_bo(&obj).heap_rss_size();
        drm_gem_object_put(obj);
        size >> 21
    })
}

/// P9.
#[test]
fn p9_a_heap_grows_by_two_mebibytes_where_the_gpu_touches_it_and_once_only() {
    for (policy, shmem) in all() {
        clean(policy, shmem, |kernel, process| {
            let (gpu, target, address) = open_with_bo(process, PAGE)?;
            let programs = Programs::new(process, gpu)?;
            let (heap, base) = heap(process, gpu, 4)?;
            assert!(base.is_multiple_of(SZ_2M));
            assert_eq!(grown(kernel, process, gpu, heap), 0);
            // The first block, the last byte of the third, the first again; then what is there.
            let jc = programs.load(process, |chain| {
                chain
                    .write(base + 5, 1, 1)
                    .write(base + 3 * SZ_2M - 1, 2, 1)
                    .write(base + 4096, 3, 1)
                    .copy(address, base + 5, 1)
                    .copy(address + 1, base + 3 * SZ_2M - 1, 1)
                    .copy(address + 2, base + 4096, 1)
                    .copy(address + 3, base + 4097, 1)
            });
            process.panfrost_submit(gpu, &programs.job(jc, &[target, heap]))?;
            process.panfrost_wait_bo(gpu, target, WaitTimeout::Forever)?;
            let cpu = map(process, gpu, target, PAGE)?;
            let bytes: Vec<_> = (0..4).map(|at| process.read_byte(cpu + at).unwrap()).collect();
            assert_eq!(bytes, [1, 2, 3, 0]);
            assert_eq!(grown(kernel, process, gpu, heap), 2, "two blocks of four");
            process.panfrost_submit(gpu, &programs.job(jc, &[target, heap]))?;
            process.panfrost_wait_bo(gpu, target, WaitTimeout::Forever)?;
            assert_eq!(grown(kernel, process, gpu, heap), 2, "nothing new is touched");
            assert_eq!(
                kernel.live().count("sg_table"),
                2 + 2,
                "a table for each block, and for each other object"
            );
            Ok(())
        });
    }
}

#[test]
fn p9_two_slots_that_fault_in_one_block_get_the_same_pages() {
    clean(P2, C, |kernel, process| {
        let gpu = process.open(Driver::Panfrost)?;
        let (one, two) = (Programs::new(process, gpu)?, Programs::new(process, gpu)?);
        let (heap, base) = heap(process, gpu, 8)?;
        for block in 0..8 {
            one.rewind();
            two.rewind();
            // Without the heap among their objects, so that they need not wait for each other.
            let at = base + block * SZ_2M;
            let first = one.load(process, |chain| chain.write(at + 10, 1, 1));
            let second = two.load(process, |chain| chain.write(at + 11, 2, 1));
            process.panfrost_submit(gpu, &one.job(first, &[]))?;
            process.panfrost_submit(gpu, &PanfrostSubmit { requirements: 1, ..two.job(second, &[]) })?;
            process.panfrost_wait_bo(gpu, one.handle, WaitTimeout::Forever)?;
            process.panfrost_wait_bo(gpu, two.handle, WaitTimeout::Forever)?;
        }
        assert_eq!(grown(kernel, process, gpu, heap), 8);
        let (target, address) = process.panfrost_create_bo(gpu, PAGE, 1)?;
        one.rewind();
        let jc = one.load(process, |mut chain| {
            for block in 0..8 {
                chain = chain.copy(address + 2 * block, base + block * SZ_2M + 10, 2);
            }
            chain
        });
        process.panfrost_submit(gpu, &one.job(jc, &[target, heap]))?;
        process.panfrost_wait_bo(gpu, target, WaitTimeout::Forever)?;
        let cpu = map(process, gpu, target, PAGE)?;
        let bytes: Vec<_> = (0..16).map(|at| process.read_byte(cpu + at).unwrap()).collect();
        assert_eq!(bytes, [1, 2].repeat(8));
        Ok(())
    });
}

/// P9: memory runs out in the middle of a block. The job fails; the next one, when there is memory again, does not.
#[test]
fn p9_memory_that_runs_out_in_a_fault_fails_the_job_and_the_next_job_can_go_on() {
    for shmem in [A, B, C] {
        for at in [1, 2, 3, 100, 513, 514, 515] {
            clean(P2, shmem, |kernel, process| {
                let (gpu, target, address) = open_with_bo(process, PAGE)?;
                let programs = Programs::new(process, gpu)?;
                let (heap, base) = heap(process, gpu, 1)?;
                let jc = programs.load(process, |chain| chain.write(base, 7, 1).copy(address, base, 1));
                let out = process.syncobj_create(gpu, false)?;
                let submit = PanfrostSubmit { out_sync: Some(out), ..programs.job(jc, &[target, heap]) };
                kernel.panfrost().fail_next_fault(at);
                process.panfrost_submit(gpu, &submit)?;
                assert_eq!(process.syncobj_wait(gpu, out)?, Some(Errno::EINVAL), "{shmem} {at}");
                process.panfrost_submit(gpu, &submit)?;
                assert_eq!(process.syncobj_wait(gpu, out)?, None, "{shmem} {at}");
                assert_eq!(grown(kernel, process, gpu, heap), 1);
                Ok(())
            });
        }
    }
}

#[test]
fn a_purged_object_is_not_there_for_the_gpu_and_a_busy_one_is_not_purged() {
    for (policy, shmem) in all() {
        clean(policy, shmem, |kernel, process| {
            let (gpu, target, address) = open_with_bo(process, PAGE)?;
            let programs = Programs::new(process, gpu)?;
            let out = process.syncobj_create(gpu, false)?;
            let jc = programs.load(process, |chain| chain.gate(1).write(address, 1, 1));
            let submit = PanfrostSubmit { out_sync: Some(out), ..programs.job(jc, &[target]) };
            process.panfrost_submit(gpu, &submit)?;
            assert!(process.panfrost_madvise(gpu, target, DontNeed)?);
            kernel.settle();
            assert_eq!(kswapd(kernel.core(), usize::MAX), 0, "P10: a job uses it");
            kernel.panfrost().hw.open_gate(1);
            assert_eq!(process.syncobj_wait(gpu, out)?, None);
            kernel.settle();
            assert_eq!(kswapd(kernel.core(), usize::MAX), 1);
            process.panfrost_submit(gpu, &submit)?;
            assert_eq!(process.syncobj_wait(gpu, out)?, Some(Errno::EINVAL), "its address is gone");
            Ok(())
        });
    }
}

/// Bug 42: who waits for a fence under an object's reservation lock waits for the handler of GPU page faults, which
/// wants the lock. Seen only if the handler is said to be something that fences depend on.
#[test]
fn p9_an_annotated_fault_handler_that_takes_the_reservation_lock_is_found_in_b_and_c() {
    for (shmem, annotated) in [A, B, C].into_iter().flat_map(|shmem| [(shmem, false), (shmem, true)]) {
        let validator = Validator::new();
        validator.scope(|| {
            let kernel = Kernel::new(P2, shmem);
            kernel.dma_resv_lockdep();
            if annotated {
                kernel.fix(Bug::FaultsUnannotated);
            }
            let process = kernel.process("init");
            let gpu = process.open(Driver::Panfrost).unwrap();
            let programs = Programs::new(&process, gpu).unwrap();
            let (heap, base) = heap(&process, gpu, 1).unwrap();
            let jc = programs.load(&process, |chain| chain.write(base, 1, 1));
            process.panfrost_submit(gpu, &programs.job(jc, &[heap])).unwrap();
            process.panfrost_wait_bo(gpu, heap, WaitTimeout::Forever).unwrap();
            process.exit();
            kernel.assert_no_leaks();
        });
        let found: Vec<_> = validator.reports().iter().map(ToString::to_string).collect();
        let about_resv = found.iter().any(|text| {
            text.contains("reservation_ww_class_mutex") && text.contains("panfrost_mmu_map_fault_addr")
        });
        let is_bug = annotated && lockdep::ENABLED;
        assert_eq!(about_resv, is_bug && shmem != A, "{shmem}: {found:#?}");
        // Bug 41: it allocates, too; in all regimes.
        assert_eq!(kinds(&validator.reports()), if is_bug { vec!["circular"] } else { vec![] });
    }
}
