// SPDX-License-Identifier: GPL-2.0-only
//! The older GPU: heaps that grow, jobs that hang, what is kept of them, and the order of its locks.

use core::cell::Cell;

use crate::common::{LEN, PAGE, clean, export, sound, survives_everything, takers};
use instrumented_drivers::drm::file::Handle;
use instrumented_drivers::drm::gem_reservations::WaitTimeout;
use instrumented_drivers::drm::lima::{
    LIMA_BO_FLAG_HEAP, LimaCtxId, LimaFrame, LimaSubmit, LimaSubmitBo, Pipe,
};
use instrumented_drivers::drm::prime::DRM_RDWR;
use instrumented_drivers::kernel::errno::{Errno, Result};
use instrumented_drivers::kernel::file::Fd;
use instrumented_drivers::kernel::mm::MapFlags;
use instrumented_drivers::kernel::shrinker::direct_reclaim_at;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::user::{Driver, Kernel, Process};
use lockdep::Validator;

/// A file with a context, and what is used with it.
struct Gpu<'a> {
    process: &'a Process,
    fd: Fd,
    ctx: LimaCtxId,
}

impl<'a> Gpu<'a> {
    fn open(process: &'a Process) -> Result<Self> {
        let fd = process.open(Driver::Lima)?;
        Ok(Gpu { process, fd, ctx: process.lima_ctx_create(fd)? })
    }

    fn create(&self, size: u64, flags: u32) -> Result<(Handle, u64)> {
        let handle = self.process.lima_gem_create(self.fd, size as usize, flags)?;
        Ok((handle, self.process.lima_gem_info(self.fd, handle)?))
    }

    fn job(&self, pipe: Pipe, frame: LimaFrame, bos: &[Handle]) -> LimaSubmit {
        let bos = bos.iter().map(|handle| LimaSubmitBo { handle: *handle, write: true }).collect();
        LimaSubmit::new(self.ctx, pipe, frame, bos)
    }

    fn submit(&self, pipe: Pipe, frame: LimaFrame, bos: &[Handle]) -> Result {
        self.process.lima_gem_submit(self.fd, &self.job(pipe, frame, bos))
    }

    fn wait(&self, handle: Handle) -> Result {
        self.process.lima_gem_wait(self.fd, handle, true, WaitTimeout::Forever)
    }

    fn map(&self, handle: Handle) -> Result<u64> {
        let offset = self.process.driver_map_offset(self.fd, handle)?;
        self.process.mmap(self.fd, LEN, offset, MapFlags::SHARED)
    }
}

fn fill(address: u64, pages: u64, value: u8) -> LimaFrame {
    LimaFrame::Fill { address, pages, value }
}

fn fill_heap(address: u64, pages: u64) -> LimaFrame {
    LimaFrame::FillHeap { address, pages, value: 5 }
}

#[test]
fn a_job_writes_what_the_program_reads_on_either_processor() {
    for (policy, shmem) in sound() {
        clean(policy, shmem, |_, process| {
            let gpu = Gpu::open(process).unwrap();
            let (handle, address) = gpu.create(LEN, 0).unwrap();
            let cpu = gpu.map(handle).unwrap();
            for (pipe, value) in [(Pipe::Gp, 1), (Pipe::Pp, 2)] {
                gpu.submit(pipe, fill(address, 64, value), &[handle]).unwrap();
                gpu.wait(handle).unwrap();
                assert_eq!(process.read_byte(cpu + LEN - PAGE), Ok(value));
            }
        });
    }
}

#[test]
fn a_heap_doubles_as_often_as_the_job_needs_and_keeps_what_it_has() {
    for (policy, shmem) in sound() {
        clean(policy, shmem, |kernel, process| {
            let gpu = Gpu::open(process).unwrap();
            let (heap, address) = gpu.create(64 * PAGE, LIMA_BO_FLAG_HEAP).unwrap();
            let tables = kernel.live().count("sg_table");
            gpu.submit(Pipe::Gp, fill_heap(address, 40), &[heap]).unwrap();
            gpu.wait(heap).unwrap();
            kernel.settle();
            assert_eq!(kernel.live().count("sg_table"), tables, "the old table goes");
            assert_eq!(kernel.lima().unwrap().error_tasks(), [], "8, 16, 32, 64 pages were enough");
            gpu.submit(Pipe::Pp, fill(address, 64, 6), &[heap]).unwrap();
            gpu.wait(heap).unwrap();
            kernel.settle();
            assert_eq!(kernel.lima().unwrap().error_tasks(), []);
        });
    }
}

/// The last page that it grows by belongs into another page of the GPU's page table, which needs memory too.
#[test]
fn memory_that_runs_out_while_a_heap_grows_fails_the_job_and_the_next_one_can_go_on() {
    for (policy, shmem) in sound() {
        let last = Cell::new(false);
        let mut allocation = 0;
        while !last.get() {
            allocation += 1;
            clean(policy, shmem, |kernel, process| {
                let gpu = Gpu::open(process).unwrap();
                // Takes the addresses up to there, and little memory.
                let (_, before) = gpu.create(7920 * PAGE, LIMA_BO_FLAG_HEAP).unwrap();
                let (heap, address) = gpu.create(16 * PAGE, LIMA_BO_FLAG_HEAP).unwrap();
                let boundary = (1024 * 8) * PAGE;
                assert!(before < boundary && (address + 8 * PAGE..address + 16 * PAGE).contains(&boundary));
                let done = process.syncobj_create(gpu.fd, false).unwrap();
                let result = |frame| {
                    let job = LimaSubmit { out_sync: Some(done), ..gpu.job(Pipe::Gp, frame, &[heap]) };
                    process.lima_gem_submit(gpu.fd, &job).unwrap();
                    kernel.settle();
                    let over = process.lima_gem_wait(gpu.fd, heap, true, WaitTimeout::Now);
                    assert_eq!(over, Ok(()), "allocation {allocation}");
                    process.syncobj_wait(gpu.fd, done).unwrap()
                };
                let tables = kernel.live().count("sg_table");
                kernel.lima().unwrap().fail_next_growth(allocation);
                let failed = result(fill_heap(address, 9));
                last.set(failed.is_none());
                if failed.is_some() {
                    assert_eq!(failed, Some(Errno::ECANCELED), "allocation {allocation}");
                    assert_eq!(result(fill(address, 8, 1)), None, "what it had before");
                    assert_eq!(result(fill(address, 9, 1)), Some(Errno::ECANCELED), "nothing else is mapped");
                }
                assert_eq!(result(fill_heap(address, 16)), None, "allocation {allocation}");
                assert_eq!(kernel.live().count("sg_table"), tables, "allocation {allocation}");
                process.syncobj_destroy(gpu.fd, done).unwrap();
            });
        }
        assert!(allocation >= 10, "eight pages, their table, the page table: not {allocation}");
    }
}

#[test]
fn a_heap_is_for_the_gpu_alone() {
    for (policy, shmem) in sound() {
        clean(policy, shmem, |_, process| {
            let gpu = Gpu::open(process).unwrap();
            let (heap, _) = gpu.create(LEN, LIMA_BO_FLAG_HEAP).unwrap();
            assert_eq!(gpu.map(heap), Err(Errno::EINVAL));
            let buffer = process.prime_handle_to_fd(gpu.fd, heap, DRM_RDWR).unwrap();
            assert_eq!(process.mmap(buffer, LEN, 0, MapFlags::SHARED), Err(Errno::EINVAL));
            let vgem = process.open(Driver::Vgem).unwrap();
            assert_eq!(process.prime_fd_to_handle(vgem, buffer), Err(Errno::EINVAL), "not to be pinned");
            assert_eq!(process.lima_gem_create(vgem, 4096, 0), Err(Errno::ENODEV));
            assert_eq!(process.lima_gem_create(gpu.fd, 4096, 2), Err(Errno::EINVAL));
            assert_eq!(process.lima_gem_create(gpu.fd, 0, 0), Err(Errno::EINVAL));
        });
    }
}

/// The recovery fails with -ENOSPC, so the scheduler is told that the job cannot go on.
#[test]
fn a_job_that_wants_more_than_the_heap_can_be_is_cancelled_and_what_it_had_is_kept() {
    clean(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
        let gpu = Gpu::open(process).unwrap();
        let (heap, address) = gpu.create(16 * PAGE, LIMA_BO_FLAG_HEAP).unwrap();
        let (other, _) = gpu.create(PAGE, 0).unwrap();
        let done = process.syncobj_create(gpu.fd, false).unwrap();
        let frame = fill_heap(address, 17);
        let job = LimaSubmit { out_sync: Some(done), ..gpu.job(Pipe::Gp, frame, &[heap, other]) };
        process.lima_gem_submit(gpu.fd, &job).unwrap();
        assert_eq!(process.syncobj_wait(gpu.fd, done), Ok(Some(Errno::ECANCELED)));
        kernel.settle();
        let tasks = kernel.lima().unwrap().error_tasks();
        let [task] = &tasks[..] else { panic!("one job failed, not {}", tasks.len()) };
        assert_eq!((task.pipe, task.frame), (Pipe::Gp, frame));
        let [(at, bytes), (_, rest)] = &task.buffers[..] else { panic!("two buffers") };
        assert_eq!((*at, bytes.len(), bytes[15 * 4096], rest.len()), (address, 16 * 4096, 5, 4096));
        process.syncobj_destroy(gpu.fd, done).unwrap();
    });
}

/// omapdrm's buffers cannot be mapped for the kernel.
#[test]
fn of_a_job_that_cannot_be_copied_nothing_is_kept_and_of_many_the_first_four() {
    clean(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
        let (_, _, buffer) = export(process, Driver::Omapdrm).unwrap();
        let gpu = Gpu::open(process).unwrap();
        let import = process.prime_fd_to_handle(gpu.fd, buffer).unwrap();
        let (own, _) = gpu.create(PAGE, 0).unwrap();
        let lima = kernel.lima().unwrap();
        let kept_after = |handle| {
            gpu.submit(Pipe::Pp, LimaFrame::Hang, &[handle]).unwrap();
            kernel.settle();
            assert!(lima.fire_timeout(Pipe::Pp));
            kernel.settle();
            lima.error_tasks().len()
        };
        assert_eq!(kept_after(import), 0);
        assert_eq!([own; 6].map(kept_after), [1, 2, 3, 4, 4, 4]);
    });
}

#[test]
fn a_job_that_hangs_times_out_and_the_next_one_runs() {
    for (policy, shmem) in sound() {
        clean(policy, shmem, |kernel, process| {
            let gpu = Gpu::open(process).unwrap();
            let (handle, address) = gpu.create(LEN, 0).unwrap();
            let cpu = gpu.map(handle).unwrap();
            process.write_byte(cpu + PAGE, 33).unwrap();
            gpu.submit(Pipe::Pp, LimaFrame::Hang, &[handle]).unwrap();
            kernel.settle();
            let wait = |timeout| process.lima_gem_wait(gpu.fd, handle, false, timeout);
            assert_eq!(
                (wait(WaitTimeout::Now), wait(WaitTimeout::Soon)),
                (Err(Errno::EBUSY), Err(Errno::ETIMEDOUT))
            );
            let lima = kernel.lima().unwrap();
            assert!(!lima.fire_timeout(Pipe::Gp), "the other processor has nothing to do");
            assert!(lima.fire_timeout(Pipe::Pp));
            kernel.settle();
            assert_eq!(wait(WaitTimeout::Now), Ok(()));
            assert_eq!(lima.error_tasks()[0].buffers[0].1[4096], 33, "the bytes at that time");
            let (next, _) = gpu.create(PAGE, 0).unwrap();
            gpu.submit(Pipe::Pp, fill(address, 64, 9), &[handle, next]).unwrap();
            gpu.wait(handle).unwrap();
            assert_eq!(process.read_byte(cpu), Ok(9));
            // Where there is no page, the hardware says so by itself. (The job before it must be out of the way, or the
            // scheduler takes the timeout back when it frees that.)
            kernel.settle();
            gpu.submit(Pipe::Pp, fill(0, 1, 1), &[handle]).unwrap();
            gpu.wait(handle).unwrap();
            kernel.settle();
            assert_eq!(lima.error_tasks().len(), 2);
        });
    }
}

#[test]
fn a_job_waits_for_the_fences_of_its_objects_unless_it_says_otherwise() {
    for explicit in [false, true] {
        clean(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
            let vgem = process.open(Driver::Vgem).unwrap();
            let exported = process.mode_create_dumb(vgem, 256, 256, 32).unwrap();
            let buffer = process.prime_handle_to_fd(vgem, exported, DRM_RDWR).unwrap();
            let gpu = Gpu::open(process).unwrap();
            let import = process.prime_fd_to_handle(gpu.fd, buffer).unwrap();
            let address = process.lima_gem_info(gpu.fd, import).unwrap();
            let cpu = process.mmap(buffer, LEN, 0, MapFlags::SHARED).unwrap();
            let fence = process.vgem_fence_attach(vgem, exported, true).unwrap();
            let job = LimaSubmit { explicit, ..gpu.job(Pipe::Pp, fill(address, 64, 8), &[import]) };
            process.lima_gem_submit(gpu.fd, &job).unwrap();
            kernel.settle();
            assert_eq!(process.read_byte(cpu), Ok(if explicit { 8 } else { 0 }));
            process.vgem_fence_signal(vgem, fence).unwrap();
            kernel.settle();
            assert_eq!(process.read_byte(cpu), Ok(8));
        });
    }
}

#[test]
fn an_address_lives_as_long_as_a_handle_or_a_job() {
    clean(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
        let gpu = Gpu::open(process).unwrap();
        let (handle, address) = gpu.create(LEN, 0).unwrap();
        let (other, _) = gpu.create(PAGE, 0).unwrap();
        gpu.submit(Pipe::Pp, LimaFrame::Hang, &[other]).unwrap();
        gpu.submit(Pipe::Pp, fill(address, 64, 1), &[handle]).unwrap();
        process.gem_close(gpu.fd, handle).unwrap();
        kernel.settle();
        let objects = || kernel.live().count("drm_gem_object");
        assert_eq!(objects(), 2, "the job has it");
        let lima = kernel.lima().unwrap();
        lima.fire_timeout(Pipe::Pp);
        kernel.settle();
        assert_eq!(lima.error_tasks().len(), 1, "the second found its pages");
        assert_eq!(objects(), 1);
    });
}

#[test]
fn a_context_that_ends_kills_what_was_not_run() {
    clean(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
        let gpu = Gpu::open(process).unwrap();
        let (handle, address) = gpu.create(LEN, 0).unwrap();
        let done = process.syncobj_create(gpu.fd, false).unwrap();
        gpu.submit(Pipe::Pp, LimaFrame::Hang, &[handle]).unwrap();
        let job = LimaSubmit { out_sync: Some(done), ..gpu.job(Pipe::Pp, fill(address, 1, 1), &[handle]) };
        process.lima_gem_submit(gpu.fd, &job).unwrap();
        kernel.settle();
        process.lima_ctx_free(gpu.fd, gpu.ctx).unwrap();
        assert_eq!(process.lima_ctx_free(gpu.fd, gpu.ctx), Err(Errno::EINVAL));
        assert_eq!(gpu.submit(Pipe::Pp, LimaFrame::Hang, &[handle]), Err(Errno::ENOENT));
        kernel.lima().unwrap().fire_timeout(Pipe::Pp);
        assert_eq!(process.syncobj_wait(gpu.fd, done), Ok(Some(Errno::ESRCH)));
        process.syncobj_destroy(gpu.fd, done).unwrap();
    });
}

#[test]
fn two_tasks_that_use_the_same_objects_in_both_orders_back_off_and_twice_the_same_is_a_mistake() {
    clean(LockingPolicy::P2, ShmemLocking::C, |_, process| {
        let gpu = Gpu::open(process).unwrap();
        let ((a, at), (b, _)) = (gpu.create(LEN, 0).unwrap(), gpu.create(LEN, 0).unwrap());
        assert_eq!(gpu.submit(Pipe::Pp, fill(at, 1, 1), &[a, b, a]), Err(Errno::EALREADY));
        assert_eq!(gpu.submit(Pipe::Pp, fill(at, 1, 1), &[]), Err(Errno::EINVAL));
        assert_eq!(gpu.submit(Pipe::Pp, fill(at, 1, 1), &[a, Handle(99)]), Err(Errno::ENOENT));
        let (fd, ctx) = (gpu.fd, gpu.ctx);
        let submit = move |task: &Process, bos: [Handle; 2]| {
            let gpu = Gpu { process: task, fd, ctx };
            (0..30).for_each(|value| gpu.submit(Pipe::Pp, fill(at, 64, value), &bos).unwrap());
        };
        let threads = [
            process.spawn(move |task| submit(task, [a, b])).unwrap(),
            process.spawn(move |task| submit(task, [b, a])).unwrap(),
        ];
        threads.into_iter().for_each(|thread| thread.wait());
    });
}

/// Objects and heaps, a job that makes one grow, one that hangs, an export and an import.
fn life(kernel: &Kernel, process: &Process) -> Result {
    let gpu = Gpu::open(process)?;
    let (handle, address) = gpu.create(LEN / 8, 0)?;
    let (heap, heap_address) = gpu.create(16 * PAGE, LIMA_BO_FLAG_HEAP)?;
    gpu.submit(Pipe::Gp, fill_heap(heap_address, 12), &[heap, handle])?;
    // So that the wait is none, in every run.
    kernel.settle();
    gpu.wait(heap)?;
    gpu.submit(Pipe::Pp, LimaFrame::Hang, &[heap, handle])?;
    kernel.settle();
    kernel.lima().ok_or(Errno::ENODEV)?.fire_timeout(Pipe::Pp);
    kernel.settle();
    gpu.wait(handle)?;
    let buffer = process.prime_handle_to_fd(gpu.fd, handle, DRM_RDWR)?;
    let vgem = process.open(Driver::Vgem)?;
    process.prime_fd_to_handle(vgem, buffer)?;
    let foreign = process.mode_create_dumb(vgem, 64, 64, 32)?;
    let foreign = process.prime_handle_to_fd(vgem, foreign, DRM_RDWR)?;
    let import = process.prime_fd_to_handle(gpu.fd, foreign)?;
    gpu.submit(Pipe::Pp, fill(address, 8, 1), &[handle, import])?;
    kernel.settle();
    gpu.wait(import)?;
    process.lima_ctx_free(gpu.fd, gpu.ctx)
}

#[test]
fn every_failure_is_survived() {
    for setup in sound() {
        let seen = survives_everything(setup, false, life);
        assert!(seen.interruptible >= 6 && seen.allocations >= 60, "{seen:?}");
    }
}

#[test]
fn reclaim_may_come_at_every_allocation() {
    for (policy, shmem) in sound() {
        clean(policy, shmem, |kernel, process| {
            direct_reclaim_at(kernel.core(), |_| true, || life(kernel, process)).unwrap();
        });
    }
}

#[test]
fn a_heap_has_its_pages_and_its_address_under_their_locks() {
    if !lockdep::ENABLED {
        return;
    }
    let heap = |process: &Process| {
        let gpu = process.open(Driver::Lima)?;
        let heap = process.lima_gem_create(gpu, LEN as usize, LIMA_BO_FLAG_HEAP)?;
        process.gem_close(gpu, heap)
    };
    assert_eq!(takers("&vm->lock", heap), ["lima_vm_bo_add", "lima_vm_bo_del"]);
    assert_eq!(takers("reservation_ww_class_mutex", heap), ["lima_heap_alloc", "drm_gem_shmem_free"]);
}

#[test]
fn the_order_of_its_locks_is_the_documented_one() {
    if !lockdep::ENABLED {
        return;
    }
    let validator = Validator::new();
    validator.scope(|| {
        let kernel = Kernel::new(LockingPolicy::P2, ShmemLocking::C);
        let process = kernel.process("init");
        life(&kernel, &process).unwrap();
        process.exit();
        kernel.settle();
    });
    let known = validator.dependencies();
    let is_known = |from: &str, to: &str| known.iter().any(|(a, b)| a == from && b == to);
    let (resv, errors) = ("reservation_ww_class_mutex", "&dev->error_task_list_lock");
    for (from, to) in [
        ("&mgr->lock", "&entity->lock"),
        (errors, "&bo->lock"),
        (errors, resv),
        (errors, "fs_reclaim"),
        ("&bo->lock", "&vm->lock"),
        ("&vm->lock", "fs_reclaim"),
        ("&prime_fpriv->lock", "&bo->lock"),
    ] {
        assert!(is_known(from, to), "{from} -> {to}");
    }
    // The objects' own locks and the reservation lock never meet.
    assert!(!is_known(resv, "&bo->lock") && !is_known("&bo->lock", resv));
}
