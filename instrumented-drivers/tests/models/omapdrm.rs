// SPDX-License-Identifier: GPL-2.0-only
//! A display that pins scattered pages, and the two orders of its object lock and the reservation lock.

use crate::common::{LEN, PAGE, clean, create, export, found, survives_everything, takers};
use instrumented_drivers::dma_buf::ioctl::DMA_BUF_SYNC_RW;
use instrumented_drivers::drm::omapdrm::{OMAP_BO_CACHED, OMAP_BO_TILED, OMAP_BO_WC};
use instrumented_drivers::drm::prime::DRM_RDWR;
use instrumented_drivers::kernel::errno::{Errno, Result};
use instrumented_drivers::kernel::file::Fd;
use instrumented_drivers::kernel::mm::MapFlags;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::user::{Driver, Kernel, Process};
use lockdep::ReportKind;

/// vgem imports from omapdrm, which pins and maps.
fn exports(process: &Process) -> Result<Fd> {
    let (_, _, buffer) = export(process, Driver::Omapdrm)?;
    let vgem = process.open(Driver::Vgem)?;
    let handle = process.prime_fd_to_handle(vgem, buffer)?;
    process.gem_close(vgem, handle)?;
    Ok(buffer)
}

/// omapdrm imports from vgem, and frees the import.
fn imports(process: &Process) -> Result {
    let (_, _, buffer) = export(process, Driver::Vgem)?;
    let omap = process.open(Driver::Omapdrm)?;
    let handle = process.prime_fd_to_handle(omap, buffer)?;
    let offset = process.driver_map_offset(omap, handle)?;
    let address = process.mmap(omap, LEN, offset, MapFlags::SHARED)?;
    process.write_byte(address + PAGE, 4).map_err(|_| Errno::EFAULT)?;
    let exported = process.mmap(buffer, LEN, 0, MapFlags::SHARED)?;
    assert_eq!(process.read_byte(exported + PAGE), Ok(4), "the same page");
    process.munmap(address, LEN)?;
    process.munmap(exported, LEN)?;
    process.gem_close(omap, handle)
}

#[test]
fn exporting_alone_and_importing_alone_are_clean() {
    for policy in LockingPolicy::ALL {
        clean(policy, ShmemLocking::A, |_, process| {
            exports(process).unwrap();
        });
        clean(policy, ShmemLocking::A, |_, process| imports(process).unwrap());
    }
}

/// Which no single run of either shows: `map` under the reservation lock, `free` with it inside.
#[test]
fn a_device_that_does_both_has_a_cycle_of_classes_that_no_one_ever_saw() {
    if !lockdep::ENABLED {
        return;
    }
    for policy in [LockingPolicy::P1, LockingPolicy::P2] {
        let reports = found(policy, ShmemLocking::A, |_, process| {
            exports(process).unwrap();
            imports(process).unwrap();
        });
        let [report] = &reports[..] else { panic!("one report, not {}", reports.len()) };
        assert_eq!(report.kind(), ReportKind::Circular, "{report}");
        assert!(!report.is_certain(), "the instances never collide");
        let classes: Vec<_> = report.edges.iter().map(|edge| edge.to.lock.class.as_str()).collect();
        assert!(classes.contains(&"&omap_obj->lock"), "{classes:?}");
        assert!(classes.contains(&"reservation_ww_class_mutex"), "{classes:?}");
    }
    // Without the lock around `map` there is only one of the two orders.
    clean(LockingPolicy::P0, ShmemLocking::A, |_, process| {
        exports(process).unwrap();
        imports(process).unwrap();
    });
}

#[test]
fn an_object_is_pinned_while_another_device_has_it_mapped() {
    clean(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
        let (omap, handle, buffer) = export(process, Driver::Omapdrm).unwrap();
        let blocks = || kernel.live().count("tiler_block");
        let address = process.mmap(buffer, LEN, 0, MapFlags::SHARED).unwrap();
        process.write_byte(address, 9).unwrap();
        assert_eq!(blocks(), 0, "a program pins nothing");
        let devices = [Driver::Vgem, Driver::Vkms].map(|driver| process.open(driver).unwrap());
        let handles = devices.map(|device| process.prime_fd_to_handle(device, buffer).unwrap());
        assert_eq!((blocks(), kernel.live().count("sg_table")), (1, 1), "one for both");
        process.gem_close(devices[0], handles[0]).unwrap();
        assert_eq!(blocks(), 1);
        process.gem_close(devices[1], handles[1]).unwrap();
        assert_eq!((blocks(), kernel.live().count("sg_table")), (0, 0));
        process.gem_close(omap, handle).unwrap();
        assert_eq!(process.read_byte(address), Ok(9), "the mapping keeps it");
    });
}

#[test]
fn an_object_is_listed_pinned_and_given_back_under_their_locks() {
    if !lockdep::ENABLED {
        return;
    }
    let life = |process: &Process| exports(process).map(drop);
    assert_eq!(takers("&priv->list_lock", life), ["omap_gem_new", "omap_gem_free_object"]);
    let own = ["omap_gem_pin", "omap_gem_get_sg", "omap_gem_unpin", "omap_gem_free_object"];
    assert_eq!(takers("&omap_obj->lock", life), own);
}

#[test]
fn a_cached_object_is_mapped_through_its_own_file_and_a_tiled_one_has_no_linear_view() {
    clean(LockingPolicy::P2, ShmemLocking::C, |_, process| {
        let omap = process.open(Driver::Omapdrm).unwrap();
        for flags in [OMAP_BO_CACHED, OMAP_BO_WC] {
            let handle = process.omap_gem_new(omap, 4 * PAGE as usize, flags).unwrap();
            let offset = process.driver_map_offset(omap, handle).unwrap();
            let address = process.mmap(omap, 4 * PAGE, offset, MapFlags::SHARED).unwrap();
            let again = process.mmap(omap, 4 * PAGE, offset, MapFlags::SHARED).unwrap();
            process.write_byte(address + 3 * PAGE, 5).unwrap();
            assert_eq!(process.read_byte(again + 3 * PAGE), Ok(5));
            process.munmap(address, 2 * PAGE).unwrap();
            assert_eq!(process.read_byte(address + 3 * PAGE), Ok(5), "the half that is left");
        }
        let tiled = process.omap_gem_new(omap, 4 * PAGE as usize, OMAP_BO_TILED).unwrap();
        let buffer = process.prime_handle_to_fd(omap, tiled, DRM_RDWR).unwrap();
        assert_eq!(process.sync_start(buffer, DMA_BUF_SYNC_RW), Err(Errno::ENOMEM));
        assert_eq!(process.omap_gem_new(omap, 0, OMAP_BO_WC), Err(Errno::EINVAL));
        assert_eq!(process.omap_gem_new(omap, 4096, 1), Err(Errno::EINVAL));
        let vgem = process.open(Driver::Vgem).unwrap();
        assert_eq!(process.omap_gem_new(vgem, 4096, OMAP_BO_WC), Err(Errno::ENODEV));
    });
}

#[test]
fn a_buffer_comes_back_as_the_same_object() {
    clean(LockingPolicy::P2, ShmemLocking::C, |_, process| {
        let (omap, handle, buffer) = export(process, Driver::Omapdrm).unwrap();
        assert_eq!(process.prime_fd_to_handle(omap, buffer), Ok(handle));
        let second = process.open(Driver::Omapdrm).unwrap();
        let other = process.prime_fd_to_handle(second, buffer).unwrap();
        let offset = process.driver_map_offset(second, other).unwrap();
        assert_eq!(process.driver_map_offset(omap, handle), Ok(offset), "one object");
    });
}

fn exporter_life(_: &Kernel, process: &Process) -> Result {
    let (omap, handle) = create(process, Driver::Omapdrm)?;
    let buffer = process.prime_handle_to_fd(omap, handle, DRM_RDWR)?;
    process.sync_start(buffer, DMA_BUF_SYNC_RW)?;
    let address = process.mmap(buffer, LEN, 0, MapFlags::SHARED)?;
    process.sync_end(buffer, DMA_BUF_SYNC_RW)?;
    let vkms = process.open(Driver::Vkms)?;
    process.prime_fd_to_handle(vkms, buffer)?;
    process.munmap(address, LEN)
}

/// From an exporter of whose mappings the core keeps none, so that each has to be given back.
fn imports_from_tegra(_: &Kernel, process: &Process) -> Result {
    let (_, _, buffer) = export(process, Driver::Tegra)?;
    let omap = process.open(Driver::Omapdrm)?;
    process.prime_fd_to_handle(omap, buffer).map(drop)
}

#[test]
fn every_failure_is_survived() {
    type Life = fn(&Kernel, &Process) -> Result;
    let lives: [(Life, u32); 3] =
        [(exporter_life, 2), (|_, process| imports(process), 2), (imports_from_tegra, 0)];
    for policy in LockingPolicy::ALL {
        for (life, interruptible) in lives {
            let seen = survives_everything((policy, ShmemLocking::A), false, life);
            assert!(seen.interruptible >= interruptible && seen.allocations >= 70, "{seen:?}");
        }
    }
}
