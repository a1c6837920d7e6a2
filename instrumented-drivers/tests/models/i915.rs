// SPDX-License-Identifier: GPL-2.0-only
//! Intel's graphics: buffers that leave the card, imports that are mapped late, access that waits, a shrinker that tries.

use std::sync::{Arc, Barrier};

use crate::common::{
    LEN, PAGE, clean, create, export, found_with_warnings, survives_everything, taken, takers,
};
use instrumented_drivers::dma_buf::DmaBuf;
use instrumented_drivers::dma_buf::access::{dma_buf_vmap_unlocked, dma_buf_vunmap_unlocked};
use instrumented_drivers::dma_buf::heaps::attached_syncs;
use instrumented_drivers::dma_buf::ioctl::{DMA_BUF_SYNC_READ, DMA_BUF_SYNC_RW, DMA_BUF_SYNC_WRITE};
use instrumented_drivers::dma_buf::resv::{RESERVATION_WW_CLASS, dma_resv_lock_ctx, dma_resv_unlock};
use instrumented_drivers::drm::file::Handle;
use instrumented_drivers::drm::gem::DrmGemObject;
use instrumented_drivers::drm::i915::{I915Bytes, I915ExecObject, MmapType, region_of};
use instrumented_drivers::kernel::errno::{Errno, Result};
use instrumented_drivers::kernel::fault::{Plan, drill_back_offs, inject};
use instrumented_drivers::kernel::file::Fd;
use instrumented_drivers::kernel::locking::WwAcquireCtx;
use instrumented_drivers::kernel::mm::MapFlags;
use instrumented_drivers::kernel::poll::PollEvents;
use instrumented_drivers::kernel::shrinker::{direct_reclaim_at, kswapd};
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::user::{Driver, Kernel, Process};
use lockdep::{RecordedOp, Validator};

const DEVICES: [Driver; 2] = [Driver::I915, Driver::I915Lmem];

fn writes(handle: Handle) -> I915ExecObject {
    I915ExecObject { handle, write: true }
}

fn dma_buf(process: &Process, buffer: Fd) -> DmaBuf {
    DmaBuf::of(&process.peek(buffer).unwrap()).unwrap()
}

/// Memory is short: how many pages were given back.
fn shrink(kernel: &Kernel) -> usize {
    kernel.kthread(|core| kswapd(core, usize::MAX))
}

fn region(process: &Process, buffer: Fd) -> String {
    let buf = dma_buf(process, buffer);
    let obj = buf.private::<DrmGemObject>().unwrap();
    format!("{:?}", region_of(&obj).unwrap())
}

#[test]
fn a_buffer_leaves_the_card_when_a_foreign_device_attaches_and_its_mappings_follow() {
    for policy in LockingPolicy::ALL {
        clean(policy, ShmemLocking::A, |_, process| {
            let (i915, handle, buffer) = export(process, Driver::I915Lmem).unwrap();
            let address = process.mmap(buffer, LEN, 0, MapFlags::SHARED).unwrap();
            for page in (0..LEN).step_by(PAGE as usize) {
                process.write_byte(address + page, 5).unwrap();
            }
            assert_eq!(region(process, buffer), "Lmem");
            let vgem = process.open(Driver::Vgem).unwrap();
            let import = process.prime_fd_to_handle(vgem, buffer).unwrap();
            assert_eq!((region(process, buffer), process.mapped_pages()), ("Smem".to_owned(), 0));
            process.write_byte(address, 6).unwrap();
            assert_eq!(process.read_byte(address + PAGE), Ok(5), "copied");
            process.i915_execbuffer(i915, &[writes(handle)], Some(9)).unwrap();
            process.sync_start(buffer, DMA_BUF_SYNC_READ).unwrap();
            assert_eq!(process.read_byte(address), Ok(9), "the same pages for all");
            process.sync_end(buffer, DMA_BUF_SYNC_READ).unwrap();
            process.gem_close(vgem, import).unwrap();
        });
    }
}

/// Vgem's buffers stay where they are, so the copy is made once; a buffer that the kernel has mapped cannot move.
#[test]
fn a_buffer_that_is_pinned_on_the_card_cannot_leave_it() {
    for policy in LockingPolicy::ALL {
        clean(policy, ShmemLocking::A, |kernel, process| {
            let (_, _, buffer) = export(process, Driver::I915Lmem).unwrap();
            let buf = dma_buf(process, buffer);
            let map = kernel.kthread(|_| dma_buf_vmap_unlocked(&buf)).unwrap();
            let vgem = process.open(Driver::Vgem).unwrap();
            assert_eq!(process.prime_fd_to_handle(vgem, buffer), Err(Errno::EBUSY));
            kernel.kthread(|_| dma_buf_vunmap_unlocked(&buf, &map));
            process.prime_fd_to_handle(vgem, buffer).unwrap();
        });
    }
}

/// The fence is another device's; the GPU's own work has the pages pinned, so that they cannot move.
#[test]
fn a_buffer_leaves_the_card_when_everybody_who_uses_it_is_done() {
    clean(LockingPolicy::P2, ShmemLocking::C, |_, process| {
        let (_, _, buffer) = export(process, Driver::I915Lmem).unwrap();
        let (vgem, handle, other) = export(process, Driver::Vgem).unwrap();
        let fence = process.vgem_fence_attach(vgem, handle, true).unwrap();
        let sync_file = process.export_sync_file(other, DMA_BUF_SYNC_RW).unwrap();
        process.import_sync_file(buffer, DMA_BUF_SYNC_WRITE, sync_file).unwrap();
        let import = || process.prime_fd_to_handle(vgem, buffer);
        // The first wait is for the lock.
        assert_eq!(inject(Plan::interrupt(2), import).0, Err(Errno::EINTR));
        assert_eq!(region(process, buffer), "Lmem");
        process.vgem_fence_signal(vgem, fence).unwrap();
        import().unwrap();
        assert_eq!(region(process, buffer), "Smem");
    });
}

#[test]
fn access_by_the_cpu_waits_for_the_gpu() {
    for driver in DEVICES {
        clean(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
            let (i915, handle, buffer) = export(process, driver).unwrap();
            let address = process.mmap(buffer, LEN, 0, MapFlags::SHARED).unwrap();
            let engine = kernel.i915_engine(driver).unwrap();
            engine.pause();
            process.i915_execbuffer(i915, &[writes(handle)], Some(3)).unwrap();
            assert_eq!(process.poll(buffer, PollEvents::IN), Ok(PollEvents::NONE));
            assert_eq!(process.read_byte(address), Ok(0), "not yet");
            let reader = process.spawn(move |task| {
                task.sync_start(buffer, DMA_BUF_SYNC_RW).unwrap();
                let value = task.read_byte(address + LEN - PAGE);
                task.sync_end(buffer, DMA_BUF_SYNC_RW).unwrap();
                value
            });
            engine.go_on();
            assert_eq!(reader.unwrap().wait(), Ok(3), "{}", driver.name());
        });
    }
}

/// The core waits too when an access begins, but not when it ends.
#[test]
fn the_end_of_an_access_waits_under_the_lock_and_a_signal_leaves_nothing_pinned() {
    clean(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
        let (i915, handle, buffer) = export(process, Driver::I915).unwrap();
        let engine = kernel.i915_engine(Driver::I915).unwrap();
        process.sync_start(buffer, DMA_BUF_SYNC_RW).unwrap();
        engine.pause();
        process.i915_execbuffer(i915, &[writes(handle)], Some(3)).unwrap();
        let end = || process.sync_end(buffer, DMA_BUF_SYNC_RW);
        // The first wait is for the lock.
        assert_eq!(inject(Plan::interrupt(2), end).0, Err(Errno::EINTR));
        engine.go_on();
        kernel.settle();
        assert_eq!(end(), Ok(()));
        assert_eq!(shrink(kernel), 64);
    });
}

/// So that nobody who needs the lock has to wait for the device as well.
#[test]
fn a_call_that_has_to_wait_for_a_device_does_so_before_it_takes_the_lock() {
    if !lockdep::ENABLED {
        return;
    }
    let takers = takers("reservation_ww_class_mutex", |process| {
        let (vgem, exported, buffer) = export(process, Driver::Vgem)?;
        let i915 = process.open(Driver::I915)?;
        let import = process.prime_fd_to_handle(i915, buffer)?;
        let fence = process.vgem_fence_attach(vgem, exported, true)?;
        let set_domain = || process.i915_set_domain(i915, import, true);
        assert_eq!(inject(Plan::interrupt(1), set_domain).0, Err(Errno::EINTR));
        process.vgem_fence_signal(vgem, fence)?;
        set_domain()
    });
    assert_eq!(takers.iter().filter(|function| **function == "prepare").count(), 1, "{takers:?}");
}

#[test]
fn the_gpu_waits_for_the_fences_of_what_it_uses() {
    clean(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
        let (vgem, exported, buffer) = export(process, Driver::Vgem).unwrap();
        let i915 = process.open(Driver::I915).unwrap();
        let import = process.prime_fd_to_handle(i915, buffer).unwrap();
        let own = process.mode_create_dumb(i915, 256, 256, 32).unwrap();
        let offset = process.i915_gem_mmap_offset(i915, own, MmapType::Wb).unwrap();
        let result = process.mmap(i915, LEN, offset, MapFlags::SHARED).unwrap();
        let source = process.mmap(buffer, LEN, 0, MapFlags::SHARED).unwrap();
        let fence = process.vgem_fence_attach(vgem, exported, true).unwrap();
        let reads = I915ExecObject { handle: import, write: false };
        process.i915_execbuffer(i915, &[reads, writes(own)], None).unwrap();
        kernel.settle();
        process.write_byte(source, 21).unwrap();
        assert_eq!(process.read_byte(result), Ok(0), "it waits for the writer");
        process.vgem_fence_signal(vgem, fence).unwrap();
        kernel.settle();
        assert_eq!(process.read_byte(result + PAGE), Ok(21));
    });
}

#[test]
fn an_import_is_mapped_when_it_is_needed_and_given_back_when_memory_is_short() {
    for policy in LockingPolicy::ALL {
        clean(policy, ShmemLocking::A, |kernel, process| {
            let (_, _, buffer) = export(process, Driver::Vgem).unwrap();
            let i915 = process.open(Driver::I915).unwrap();
            let tables = || kernel.live().count("sg_table");
            let import = process.prime_fd_to_handle(i915, buffer).unwrap();
            assert_eq!(tables(), 0, "attached only");
            process.i915_execbuffer(i915, &[writes(import)], Some(4)).unwrap();
            kernel.settle();
            assert_eq!(tables(), 1);
            assert_eq!(shrink(kernel), 64, "its pages are the exporter's; the table is kept there");
            let offset = process.i915_gem_mmap_offset(i915, import, MmapType::Gtt).unwrap();
            let address = process.mmap(i915, LEN, offset, MapFlags::SHARED).unwrap();
            assert_eq!(process.read_byte(address + PAGE), Ok(4), "and had again");
            assert_eq!(process.i915_gem_mmap_offset(i915, import, MmapType::Wb), Err(Errno::ENODEV));
        });
    }
}

#[test]
fn what_is_shrunk_keeps_its_content_and_what_is_pinned_or_locked_is_left_alone() {
    clean(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
        let (i915, handle, buffer) = export(process, Driver::I915).unwrap();
        let other = process.mode_create_dumb(i915, 256, 256, 32).unwrap();
        process.i915_execbuffer(i915, &[writes(handle), writes(other)], Some(7)).unwrap();
        kernel.settle();
        let vgem = process.open(Driver::Vgem).unwrap();
        let import = process.prime_fd_to_handle(vgem, buffer).unwrap();
        assert_eq!(shrink(kernel), 64, "the one that nobody else has");
        assert_eq!(shrink(kernel), 0);
        let offset = process.i915_gem_mmap_offset(i915, other, MmapType::Wb).unwrap();
        let address = process.mmap(i915, LEN, offset, MapFlags::SHARED).unwrap();
        assert_eq!(process.read_byte(address), Ok(7));
        assert_eq!((shrink(kernel), process.mapped_pages()), (64, 0), "the mapping faults again");
        assert_eq!(process.read_byte(address + PAGE), Ok(7));
        process.gem_close(vgem, import).unwrap();
        assert_eq!(shrink(kernel), 128, "both");
    });
}

/// A heap makes its devices' views current when the CPU looks; whoever gave the mapping back has none.
#[test]
fn an_import_that_was_shrunk_is_no_view_any_more() {
    for heap in [Driver::SystemHeap, Driver::CmaHeap] {
        clean(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
            let heap = process.open(heap).unwrap();
            let buffer = process.dma_heap_alloc(heap, LEN as usize).unwrap();
            let i915 = process.open(Driver::I915).unwrap();
            let import = process.prime_fd_to_handle(i915, buffer).unwrap();
            process.i915_execbuffer(i915, &[writes(import)], Some(1)).unwrap();
            kernel.settle();
            let syncs = || {
                process.sync_start(buffer, DMA_BUF_SYNC_RW).unwrap();
                attached_syncs(&dma_buf(process, buffer)).unwrap()
            };
            assert_eq!(syncs(), [1]);
            assert_eq!(shrink(kernel), 64);
            assert_eq!(syncs(), [1], "attached only");
        });
    }
}

#[test]
fn reclaim_only_tries_the_mutex_of_the_addresses() {
    if !lockdep::ENABLED {
        return;
    }
    let taken = taken("&vm->mutex", |kernel, process| {
        let (i915, handle) = create(process, Driver::I915)?;
        process.i915_execbuffer(i915, &[writes(handle)], Some(1))?;
        kernel.settle();
        assert_eq!(shrink(kernel), 64);
        Ok(())
    });
    let of_reclaim = taken.iter().filter(|event| event.site.function == Some("i915_vma_try_unbind"));
    let tries: Vec<_> = of_reclaim.map(|event| event.op).collect();
    assert!(matches!(tries[..], [RecordedOp::Acquire { how }] if how.trylock), "{tries:?}");
}

/// An object of the driver's own and an import, with each wait and each allocation of `call` failing in turn: whatever it
/// is told, all pages can be given back afterwards.
fn leaves_nothing_pinned(call: impl Fn(&Kernel, &Process, Fd, [Handle; 2]) -> Result) {
    let once = |plan| {
        let mut outcome = None;
        let (reports, _) = found_with_warnings(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
            let (i915, own) = create(process, Driver::I915).unwrap();
            let (_, _, foreign) = export(process, Driver::Tegra).unwrap();
            let import = process.prime_fd_to_handle(i915, foreign).unwrap();
            let tables = kernel.live().count("sg_table");
            outcome = Some(inject(plan, || call(kernel, process, i915, [own, import])));
            kernel.settle();
            shrink(kernel);
            assert_eq!(kernel.live().count("sg_table"), tables, "{plan:?}");
        });
        assert!(reports.is_empty(), "{plan:?}: {}", reports[0]);
        outcome.expect("it ran")
    };
    let (result, seen) = once(Plan::NONE);
    assert_eq!(result, Ok(()));
    (1..=seen.interruptible).for_each(|n| assert_eq!(once(Plan::interrupt(n)).0, Err(Errno::EINTR)));
    (1..=seen.allocations).for_each(|n| assert_eq!(once(Plan::allocation(n)).0, Err(Errno::ENOMEM)));
}

#[test]
fn work_that_fails_leaves_nothing_pinned() {
    leaves_nothing_pinned(|_, process, i915, objects| {
        process.i915_execbuffer(i915, &objects.map(writes), Some(1))
    });
}

#[test]
fn a_look_that_fails_leaves_nothing_pinned() {
    leaves_nothing_pinned(|_, process, i915, objects| {
        let heap = process.open(Driver::SystemHeap)?;
        let memory = process.dma_heap_alloc(heap, PAGE as usize)?;
        let address = process.mmap(memory, PAGE, 0, MapFlags::SHARED)?;
        objects.into_iter().try_for_each(|handle| {
            process.i915_set_domain(i915, handle, true)?;
            process.i915_pread(i915, I915Bytes { handle, offset: 0, address, len: 8 })
        })
    });
}

#[test]
fn what_cannot_be_mapped_for_the_kernel_is_not_pinned() {
    leaves_nothing_pinned(|kernel, process, i915, [own, _]| {
        let buffer = process.prime_handle_to_fd(i915, own, 2)?;
        let buf = dma_buf(process, buffer);
        kernel.kthread(|_| dma_buf_vmap_unlocked(&buf).map(|map| dma_buf_vunmap_unlocked(&buf, &map)))
    });
}

/// The older context has the second object throughout, so the younger one, which has the first, has to give that back
/// and wait.
#[test]
fn a_signal_after_a_back_off_leaves_nothing_behind() {
    clean(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
        let (i915, handle, buffer) = export(process, Driver::I915).unwrap();
        let first = process.mode_create_dumb(i915, 256, 256, 32).unwrap();
        let buf = dma_buf(process, buffer);
        let locked = Arc::new(Barrier::new(2));
        let theirs = locked.clone();
        let task = process.spawn(move |task| {
            theirs.wait();
            let work = || task.i915_execbuffer(i915, &[writes(first), writes(handle)], Some(1));
            // The first two waits are for the two locks, the third is for the second one again.
            inject(Plan::interrupt(3), work).0
        });
        let interrupted = kernel.kthread(|_| {
            let ctx = WwAcquireCtx::init(&RESERVATION_WW_CLASS);
            dma_resv_lock_ctx(buf.resv(), &ctx).unwrap();
            locked.wait();
            let interrupted = task.unwrap().wait();
            dma_resv_unlock(buf.resv());
            ctx.fini();
            interrupted
        });
        assert_eq!(interrupted, Err(Errno::EINTR));
        process.i915_execbuffer(i915, &[writes(first), writes(handle)], Some(2)).unwrap();
    });
}

#[test]
fn a_mapping_has_one_kind_and_belongs_to_files_with_a_handle() {
    clean(LockingPolicy::P2, ShmemLocking::C, |_, process| {
        let (i915, handle) = create(process, Driver::I915).unwrap();
        let offset = process.i915_gem_mmap_offset(i915, handle, MmapType::Gtt).unwrap();
        assert_eq!(process.i915_gem_mmap_offset(i915, handle, MmapType::Wb), Err(Errno::EINVAL));
        let map = |fd, offset| process.mmap(fd, LEN, offset, MapFlags::SHARED);
        let address = map(i915, offset).unwrap();
        process.write_byte(address + PAGE, 1).unwrap();
        let other = process.open(Driver::I915).unwrap();
        assert_eq!(map(other, offset), Err(Errno::EACCES));
        assert_eq!(map(i915, offset + LEN), Err(Errno::EINVAL));
        process.gem_close(i915, handle).unwrap();
        assert_eq!(process.read_byte(address + PAGE), Ok(1), "the mapping keeps the object");
        let vgem = process.open(Driver::Vgem).unwrap();
        assert_eq!(process.i915_gem_mmap_offset(vgem, handle, MmapType::Wb), Err(Errno::ENODEV));
        assert_eq!(process.i915_execbuffer(vgem, &[], None), Err(Errno::ENODEV));
        assert_eq!(process.i915_execbuffer(i915, &[writes(handle)], None), Err(Errno::ENOENT));
    });
}

#[test]
fn two_tasks_that_use_the_same_objects_in_both_orders_back_off() {
    clean(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
        let (i915, first) = create(process, Driver::I915).unwrap();
        let second = process.mode_create_dumb(i915, 256, 256, 32).unwrap();
        let submit = move |task: &Process, one, two| {
            for value in 0..30 {
                // Twice the same one is no mistake.
                task.i915_execbuffer(i915, &[writes(one), writes(two), writes(one)], Some(value)).unwrap();
            }
        };
        let threads = [
            process.spawn(move |task| submit(task, first, second)).unwrap(),
            process.spawn(move |task| drill_back_offs(|| submit(task, second, first))).unwrap(),
        ];
        threads.into_iter().for_each(|thread| thread.wait());
        kernel.settle();
    });
}

/// Everything that the driver does, with an exporter of another kind and an importer.
fn life(driver: Driver) -> impl Fn(&Kernel, &Process) -> Result {
    move |kernel, process| {
        let (i915, handle) = create(process, driver)?;
        let buffer = process.prime_handle_to_fd(i915, handle, 2)?;
        let address = process.mmap(buffer, LEN, 0, MapFlags::SHARED)?;
        process.write_byte(address, 1).map_err(|_| Errno::ENOMEM)?;
        let vkms = process.open(Driver::Vkms)?;
        process.prime_fd_to_handle(vkms, buffer)?;
        let (_, _, foreign) = export(process, Driver::Vgem)?;
        let import = process.prime_fd_to_handle(i915, foreign)?;
        let offset = process.i915_gem_mmap_offset(i915, import, MmapType::Gtt)?;
        let gtt = process.mmap(i915, LEN, offset, MapFlags::SHARED)?;
        process.write_byte(gtt + PAGE, 2).map_err(|_| Errno::ENOMEM)?;
        process.i915_execbuffer(i915, &[writes(import), writes(handle)], Some(3))?;
        process.sync_start(buffer, DMA_BUF_SYNC_RW)?;
        assert_eq!(process.read_byte(gtt).map_err(|_| Errno::ENOMEM)?, 3);
        process.sync_end(buffer, DMA_BUF_SYNC_RW)?;
        kernel.settle();
        process.munmap(address, LEN)
    }
}

#[test]
fn every_failure_is_survived() {
    for policy in LockingPolicy::ALL {
        for driver in DEVICES {
            let seen = survives_everything((policy, ShmemLocking::A), true, life(driver));
            assert!(seen.interruptible >= 12 && seen.allocations >= 100, "{seen:?}");
        }
    }
}

#[test]
fn reclaim_may_come_at_every_allocation() {
    for (policy, driver) in LockingPolicy::ALL.into_iter().zip([Driver::I915, Driver::I915Lmem, Driver::I915])
    {
        clean(policy, ShmemLocking::A, |kernel, process| {
            direct_reclaim_at(kernel.core(), |_| true, || life(driver)(kernel, process)).unwrap();
        });
    }
}

#[test]
fn nothing_is_allocated_under_the_mutex_that_reclaim_may_take() {
    if !lockdep::ENABLED {
        return;
    }
    let validator = Validator::new();
    validator.scope(|| {
        let kernel = Kernel::new(LockingPolicy::P2, ShmemLocking::C);
        let process = kernel.process("init");
        life(Driver::I915)(&kernel, &process).unwrap();
        process.exit();
        kernel.settle();
    });
    let known = validator.dependencies();
    let is_known = |from: &str, to: &str| known.iter().any(|(a, b)| a == from && b == to);
    let (resv, ctx) = ("reservation_ww_class_mutex", "reservation_ww_class_acquire");
    assert!(is_known("&mm->mmap_lock", ctx) && is_known(ctx, resv) && is_known(resv, "&vm->mutex"));
    assert!(is_known("fs_reclaim", "&vm->mutex"), "the taint");
    assert!(!is_known("&vm->mutex", "fs_reclaim"));
}
