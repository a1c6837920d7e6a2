// SPDX-License-Identifier: GPL-2.0-only
//! Buffers whose reservation lock is not their object's, and mappings that a display keeps.

use std::sync::Arc;

use crate::common::{LEN, PAGE, clean, create, export, survives_everything, takers};
use instrumented_drivers::dma_buf::DmaBuf;
use instrumented_drivers::dma_buf::access::{dma_buf_vmap_unlocked, dma_buf_vunmap_unlocked};
use instrumented_drivers::dma_buf::ioctl::DMA_BUF_SYNC_RW;
use instrumented_drivers::kernel::errno::{Errno, Result};
use instrumented_drivers::kernel::mm::MapFlags;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::user::{Driver, Kernel, Process};
use lockdep::Validator;

/// How many have this reservation lock tells who shares it.
#[test]
fn the_buffer_has_a_reservation_lock_of_its_own_and_so_has_an_import() {
    clean(LockingPolicy::P2, ShmemLocking::C, |_, process| {
        let holders = |fd| {
            let buf = DmaBuf::of(&process.peek(fd).unwrap()).unwrap();
            Arc::strong_count(buf.resv())
        };
        let (_, _, tegra) = export(process, Driver::Tegra).unwrap();
        let (_, _, foreign) = export(process, Driver::Vgem).unwrap();
        assert_eq!((holders(tegra), holders(foreign)), (1, 2), "vgem's is its object's, too");
        for (driver, more) in [(Driver::Tegra, 0), (Driver::Omapdrm, 0), (Driver::Vkms, 1)] {
            let before = holders(foreign);
            let device = process.open(driver).unwrap();
            process.prime_fd_to_handle(device, foreign).unwrap();
            assert_eq!(holders(foreign) - before, more, "{}", driver.name());
        }
    });
}

#[test]
fn the_display_finds_its_mapping_again_and_the_objects_end_takes_it_away() {
    clean(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
        let (tegra, first, buffer) = export(process, Driver::Tegra).unwrap();
        let second = process.mode_create_dumb(tegra, 256, 256, 32).unwrap();
        let address = process.mmap(buffer, LEN, 0, MapFlags::SHARED).unwrap();
        process.write_byte(address + PAGE, 6).unwrap();
        process.munmap(address, LEN).unwrap();
        process.close(buffer).unwrap();
        let mappings = || kernel.live().count("host1x_bo_mapping");
        for _ in 0..3 {
            process.tegra_flip(tegra, Some(first)).unwrap();
            assert_eq!(process.tegra_scanout(tegra, PAGE as usize), Ok(Some(6)));
            process.tegra_flip(tegra, Some(second)).unwrap();
            assert_eq!(process.tegra_scanout(tegra, PAGE as usize), Ok(Some(0)));
        }
        assert_eq!(mappings(), 2, "one for each, shown or not");
        process.gem_close(tegra, first).unwrap();
        assert_eq!(mappings(), 1);
        process.gem_close(tegra, second).unwrap();
        assert_eq!(mappings(), 1, "shown: the display has the object");
        process.tegra_flip(tegra, None).unwrap();
        assert_eq!((mappings(), process.tegra_scanout(tegra, 0)), (0, Ok(None)));
    });
}

#[test]
fn a_job_reads_its_commands_and_writes_through_its_mapping() {
    clean(LockingPolicy::P2, ShmemLocking::C, |_, process| {
        let (tegra, commands, buffer) = export(process, Driver::Tegra).unwrap();
        let target = process.mode_create_dumb(tegra, 256, 256, 32).unwrap();
        let address = process.mmap(buffer, LEN, 0, MapFlags::SHARED).unwrap();
        process.write_byte(address, 77).unwrap();
        let mapping = process.tegra_channel_map(tegra, target).unwrap();
        process.tegra_submit(tegra, commands, mapping).unwrap();
        let offset = process.driver_map_offset(tegra, target).unwrap();
        let result = process.mmap(tegra, LEN, offset, MapFlags::SHARED).unwrap();
        assert_eq!(process.read_byte(result + LEN - PAGE), Ok(77));
        process.tegra_channel_unmap(tegra, mapping).unwrap();
        assert_eq!(process.tegra_channel_unmap(tegra, mapping), Err(Errno::EINVAL));
        assert_eq!(process.tegra_submit(tegra, commands, mapping), Err(Errno::EINVAL));
        let vgem = process.open(Driver::Vgem).unwrap();
        assert_eq!(process.tegra_channel_map(vgem, target), Err(Errno::ENODEV));
    });
}

/// tegra imports from vgem: shows the import, uses it in a job, maps nothing of it to the program.
fn imports(_: &Kernel, process: &Process) -> Result {
    let (_, _, buffer) = export(process, Driver::Vgem)?;
    let address = process.mmap(buffer, LEN, 0, MapFlags::SHARED)?;
    process.write_byte(address, 3).map_err(|_| Errno::EFAULT)?;
    let tegra = process.open(Driver::Tegra)?;
    let import = process.prime_fd_to_handle(tegra, buffer)?;
    process.tegra_flip(tegra, Some(import))?;
    assert_eq!(process.tegra_scanout(tegra, 0)?, Some(3));
    let mapping = process.tegra_channel_map(tegra, import)?;
    process.tegra_submit(tegra, import, mapping)?;
    assert_eq!(process.read_byte(address + PAGE), Ok(3));
    process.tegra_channel_unmap(tegra, mapping)?;
    process.tegra_flip(tegra, None)?;
    process.gem_close(tegra, import)?;
    process.munmap(address, LEN)
}

#[test]
fn an_import_is_attached_anew_for_each_device_that_uses_it() {
    for policy in LockingPolicy::ALL {
        clean(policy, ShmemLocking::A, |kernel, process| imports(kernel, process).unwrap());
    }
    clean(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
        let (_, _, buffer) = export(process, Driver::Vgem).unwrap();
        let tegra = process.open(Driver::Tegra).unwrap();
        let import = process.prime_fd_to_handle(tegra, buffer).unwrap();
        let attachments = || kernel.live().count("dma_buf_attachment");
        assert_eq!(attachments(), 1);
        process.tegra_flip(tegra, Some(import)).unwrap();
        process.tegra_flip(tegra, Some(import)).unwrap();
        assert_eq!(attachments(), 2, "the display's");
        process.tegra_channel_map(tegra, import).unwrap();
        assert_eq!(attachments(), 3);
        process.gem_close(tegra, import).unwrap();
        process.close(tegra).unwrap();
        assert_eq!(attachments(), 0);
        let tegra = process.open(Driver::Tegra).unwrap();
        let import = process.prime_fd_to_handle(tegra, buffer).unwrap();
        let offset = process.driver_map_offset(tegra, import).unwrap();
        assert_eq!(
            process.mmap(tegra, LEN, offset, MapFlags::SHARED),
            Err(Errno::EINVAL),
            "it has no pages here"
        );
    });
}

#[test]
fn the_locks_of_a_cache_and_of_a_file_are_outside_the_reservation_lock() {
    if !lockdep::ENABLED {
        return;
    }
    let validator = Validator::new();
    validator.scope(|| {
        let kernel = Kernel::new(LockingPolicy::P2, ShmemLocking::C);
        let process = kernel.process("init");
        imports(&kernel, &process).unwrap();
        process.exit();
    });
    let resv = "reservation_ww_class_mutex";
    let known = validator.dependencies();
    let is_known = |from: &str, to: &str| known.iter().any(|(a, b)| a == from && b == to);
    assert!(is_known("&cache->lock", resv) && is_known("&fpriv->lock", resv));
    for leaf in ["&tegra->mm_lock", "&bo->lock"] {
        assert!(!known.iter().any(|(a, b)| a == leaf && b != "fs_reclaim"), "{leaf}");
    }
}

#[test]
fn a_mapping_is_kept_and_given_up_under_the_locks_of_its_lists() {
    if !lockdep::ENABLED {
        return;
    }
    let show = |process: &Process| {
        let (tegra, handle) = create(process, Driver::Tegra)?;
        process.tegra_flip(tegra, Some(handle))?;
        process.tegra_flip(tegra, None)?;
        process.gem_close(tegra, handle)
    };
    // Its user gives it up first, then the object's end does.
    assert_eq!(takers("&cache->lock", show), ["host1x_bo_pin", "host1x_bo_unpin", "host1x_bo_unpin"]);
    assert_eq!(takers("&bo->lock", show), ["host1x_bo_pin", "__host1x_bo_unpin"]);
}

#[test]
fn the_kernels_view_is_the_programs() {
    clean(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
        let (_, _, buffer) = export(process, Driver::Tegra).unwrap();
        let address = process.mmap(buffer, LEN, 0, MapFlags::SHARED).unwrap();
        process.write_byte(address + 5, 8).unwrap();
        let buf = DmaBuf::of(&process.peek(buffer).unwrap()).unwrap();
        kernel.kthread(|_| {
            let map = dma_buf_vmap_unlocked(&buf).unwrap();
            assert_eq!(map.read(5), 8);
            dma_buf_vunmap_unlocked(&buf, &map);
        });
    });
}

fn exporter_life(_: &Kernel, process: &Process) -> Result {
    let (tegra, handle) = create(process, Driver::Tegra)?;
    let buffer = process.prime_handle_to_fd(tegra, handle, 2)?;
    process.sync_start(buffer, DMA_BUF_SYNC_RW)?;
    let address = process.mmap(buffer, LEN, 0, MapFlags::SHARED)?;
    process.sync_end(buffer, DMA_BUF_SYNC_RW)?;
    let vkms = process.open(Driver::Vkms)?;
    process.prime_fd_to_handle(vkms, buffer)?;
    process.tegra_flip(tegra, Some(handle))?;
    let mapping = process.tegra_channel_map(tegra, handle)?;
    process.tegra_submit(tegra, handle, mapping)?;
    process.munmap(address, LEN)
}

#[test]
fn every_failure_is_survived() {
    for policy in LockingPolicy::ALL {
        for life in [exporter_life, imports] {
            let seen = survives_everything((policy, ShmemLocking::A), false, life);
            assert!(seen.interruptible >= 2 && seen.allocations >= 70, "{seen:?}");
        }
    }
}
