// SPDX-License-Identifier: GPL-2.0-only
//! Intel's graphics: buffers that leave the card, imports that are mapped late, access that waits, a shrinker that tries.

use crate::common::{LEN, PAGE, clean, create, export, survives_everything};
use instrumented_drivers::dma_buf::DmaBuf;
use instrumented_drivers::dma_buf::access::{dma_buf_vmap_unlocked, dma_buf_vunmap_unlocked};
use instrumented_drivers::dma_buf::ioctl::{DMA_BUF_SYNC_READ, DMA_BUF_SYNC_RW};
use instrumented_drivers::drm::gem::DrmGemObject;
use instrumented_drivers::drm::i915::{I915ExecObject, MmapType, region_of};
use instrumented_drivers::kernel::errno::{Errno, Result};
use instrumented_drivers::kernel::fault::drill_back_offs;
use instrumented_drivers::kernel::file::Fd;
use instrumented_drivers::kernel::mm::MapFlags;
use instrumented_drivers::kernel::poll::PollEvents;
use instrumented_drivers::kernel::shrinker::{direct_reclaim_at, kswapd};
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::user::{Driver, Kernel, Process};
use lockdep::Validator;

const DEVICES: [Driver; 2] = [Driver::I915, Driver::I915Lmem];

fn writes(handle: instrumented_drivers::drm::file::Handle) -> I915ExecObject {
    I915ExecObject { handle, write: true }
}

fn region(process: &Process, buffer: Fd) -> String {
    let buf = DmaBuf::of(&process.peek(buffer).unwrap()).unwrap();
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
    clean(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
        let (_, _, buffer) = export(process, Driver::I915Lmem).unwrap();
        let buf = DmaBuf::of(&process.peek(buffer).unwrap()).unwrap();
        let map = kernel.kthread(|_| dma_buf_vmap_unlocked(&buf)).unwrap();
        let vgem = process.open(Driver::Vgem).unwrap();
        assert_eq!(process.prime_fd_to_handle(vgem, buffer), Err(Errno::EBUSY));
        kernel.kthread(|_| dma_buf_vunmap_unlocked(&buf, &map));
        process.prime_fd_to_handle(vgem, buffer).unwrap();
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
            let freed = kernel.kthread(|core| kswapd(core, usize::MAX));
            assert_eq!(freed, 64, "its pages are the exporter's; the table is kept there");
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
        process.prime_fd_to_handle(vgem, buffer).unwrap();
        let shrink = || kernel.kthread(|core| kswapd(core, usize::MAX));
        assert_eq!(shrink(), 64, "the one that nobody else has");
        assert_eq!(shrink(), 0);
        let offset = process.i915_gem_mmap_offset(i915, other, MmapType::Wb).unwrap();
        let address = process.mmap(i915, LEN, offset, MapFlags::SHARED).unwrap();
        assert_eq!(process.read_byte(address), Ok(7));
        assert_eq!((shrink(), process.mapped_pages()), (64, 0), "the mapping faults again");
        assert_eq!(process.read_byte(address + PAGE), Ok(7));
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
