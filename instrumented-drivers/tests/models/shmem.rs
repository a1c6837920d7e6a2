// SPDX-License-Identifier: GPL-2.0-only
//! The shmem helper from inside, as its KUnit tests use it: counts, advice, purging, scatter tables; and that each
//! function wants the lock that its regime says.

use std::sync::Arc;

use crate::common::{LEN, PAGE, clean, create, export, sound};
use instrumented_drivers::dma_buf::access::{dma_buf_vmap_unlocked, dma_buf_vunmap_unlocked};
use instrumented_drivers::dma_buf::attach::{
    dma_buf_attach, dma_buf_detach, dma_buf_map_attachment_unlocked, dma_buf_unmap_attachment_unlocked,
};
use instrumented_drivers::dma_buf::resv::{dma_resv_lock, dma_resv_unlock};
use instrumented_drivers::dma_buf::{DmaBuf, DmaDirection};
use instrumented_drivers::drm::file::DrmFile;
use instrumented_drivers::drm::gem::{
    DrmGemObject, drm_gem_object_put, drm_gem_pin, drm_gem_unpin, drm_gem_vmap_unlocked,
    drm_gem_vunmap_unlocked,
};
use instrumented_drivers::drm::gem_handle::{drm_gem_object_lookup, drm_gem_objects_lookup};
use instrumented_drivers::drm::gem_reservations::{drm_gem_lock_reservations, drm_gem_unlock_reservations};
use instrumented_drivers::drm::gem_shmem_helper::{
    drm_gem_shmem_create, drm_gem_shmem_pin, drm_gem_shmem_unpin, drm_gem_shmem_vmap, drm_gem_shmem_vunmap,
    to_drm_gem_shmem_obj,
};
use instrumented_drivers::drm::gem_shmem_memory::{
    drm_gem_shmem_get_pages_sgt, drm_gem_shmem_get_sg_table, drm_gem_shmem_is_purgeable,
    drm_gem_shmem_madvise, drm_gem_shmem_purge,
};
use instrumented_drivers::kernel::errno::Errno;
use instrumented_drivers::kernel::mm::{MapFlags, Signal};
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::user::{Driver, Kernel};
use lockdep::Validator;

/// A KUnit-like test with an object of its own, in each sound combination.
fn with_object(f: impl Fn(&Arc<DrmGemObject>)) {
    for (policy, shmem) in sound() {
        clean(policy, shmem, |kernel, _| {
            let dev = kernel.drm_device(Driver::Vgem).unwrap();
            kernel.kthread(|_| {
                let obj = drm_gem_shmem_create(dev, 1 << 20).unwrap();
                f(&obj);
                drm_gem_object_put(obj);
            });
        });
    }
}

/// Takes the reservation lock if the regime wants it.
fn locked<R>(obj: &Arc<DrmGemObject>, f: impl FnOnce() -> R) -> R {
    let wants = obj.dev.core.shmem.on_reservation_lock();
    if wants {
        dma_resv_lock(obj.resv());
    }
    let result = f();
    if wants {
        dma_resv_unlock(obj.resv());
    }
    result
}

#[test]
fn pinning_counts_and_the_pages_go_with_the_last_pin() {
    with_object(|obj| {
        let shmem = to_drm_gem_shmem_obj(obj);
        assert_eq!(drm_gem_shmem_get_sg_table(obj).err(), Some(Errno::ENOMEM), "no pages yet");
        drm_gem_shmem_pin(obj).unwrap();
        drm_gem_pin(obj).unwrap();
        assert_eq!(shmem.pages_use_count(), 2);
        drm_gem_shmem_unpin(obj);
        drm_gem_unpin(obj).finish();
        assert_eq!(shmem.pages_use_count(), 0);
    });
}

#[test]
fn a_kernel_mapping_is_counted_and_shows_the_same_bytes() {
    with_object(|obj| {
        let shmem = to_drm_gem_shmem_obj(obj);
        let map = locked(obj, || drm_gem_shmem_vmap(obj)).unwrap();
        let again = drm_gem_vmap_unlocked(obj).unwrap();
        assert!(map.is_equal(&again));
        assert_eq!((shmem.vmap_use_count(), shmem.pages_use_count()), (2, 1));
        map.write(12345, 7);
        let table = drm_gem_shmem_get_pages_sgt(obj).unwrap();
        assert_eq!(table.read(12345), 7, "the device sees it");
        locked(obj, || drm_gem_shmem_vunmap(obj, &map));
        drm_gem_vunmap_unlocked(obj, &again);
        assert_eq!((shmem.vmap_use_count(), shmem.pages_use_count()), (0, 1), "the table keeps the pages");
    });
}

#[test]
fn the_scatter_table_is_made_once() {
    with_object(|obj| {
        let table = drm_gem_shmem_get_pages_sgt(obj).unwrap();
        assert_eq!(table.pages(), 256);
        assert!(Arc::ptr_eq(&table, &drm_gem_shmem_get_pages_sgt(obj).unwrap()));
        assert_eq!(to_drm_gem_shmem_obj(obj).pages_use_count(), 1);
    });
}

#[test]
fn purged_is_for_good() {
    with_object(|obj| {
        assert!(locked(obj, || drm_gem_shmem_madvise(obj, 1)));
        assert_eq!(to_drm_gem_shmem_obj(obj).madv(), 1);
        assert!(!locked(obj, || drm_gem_shmem_madvise(obj, -1)));
        assert!(!locked(obj, || drm_gem_shmem_madvise(obj, 0)));
        assert_eq!(to_drm_gem_shmem_obj(obj).madv(), -1);
    });
}

#[test]
fn only_what_is_not_needed_not_mapped_and_not_shared_can_be_purged() {
    with_object(|obj| {
        assert!(!drm_gem_shmem_is_purgeable(obj));
        let table = drm_gem_shmem_get_pages_sgt(obj).unwrap();
        table.write(0, 1);
        assert!(!drm_gem_shmem_is_purgeable(obj), "still needed");
        locked(obj, || drm_gem_shmem_madvise(obj, 1));
        assert!(drm_gem_shmem_is_purgeable(obj));
        let map = drm_gem_vmap_unlocked(obj).unwrap();
        assert!(!drm_gem_shmem_is_purgeable(obj), "mapped by the kernel");
        drm_gem_vunmap_unlocked(obj, &map);
        assert!(locked(obj, || drm_gem_shmem_purge(obj)));
        assert!(!drm_gem_shmem_is_purgeable(obj));
        let shmem = to_drm_gem_shmem_obj(obj);
        assert!(shmem.madv() < 0 && shmem.sgt().is_none());
        assert_eq!(shmem.pages_use_count(), 0);
    });
}

#[test]
fn a_mapping_of_a_purged_object_gets_sigbus() {
    for (policy, shmem) in sound() {
        clean(policy, shmem, |kernel, process| {
            let (dev, handle) = create(process, Driver::Vgem).unwrap();
            let offset = process.mode_map_dumb(dev, handle).unwrap();
            let address = process.mmap(dev, LEN, offset, MapFlags::SHARED).unwrap();
            process.write_byte(address, 1).unwrap();
            let file = process.peek(dev).unwrap();
            kernel.kthread(|_| {
                let obj = drm_gem_object_lookup(file.private::<DrmFile>().unwrap(), handle).unwrap();
                drop(drm_gem_shmem_get_pages_sgt(&obj).unwrap());
                locked(&obj, || drm_gem_shmem_madvise(&obj, 1));
                locked(&obj, || drm_gem_shmem_purge(&obj));
                assert_eq!(to_drm_gem_shmem_obj(&obj).pages_use_count(), 1, "the mapping's");
                drm_gem_object_put(obj);
            });
            assert_eq!(process.mapped_pages(), 0, "taken out of the page table");
            assert_eq!(process.read_byte(address), Err(Signal::Bus));
            assert_eq!(process.read_byte(address + PAGE), Err(Signal::Bus));
        });
    }
}

#[test]
fn an_importer_maps_and_vmaps_the_exporters_pages() {
    for (policy, shmem) in sound() {
        clean(policy, shmem, |kernel, process| {
            let (_, _, buffer) = export(process, Driver::Vgem).unwrap();
            let address = process.mmap(buffer, LEN, 0, MapFlags::SHARED).unwrap();
            process.write_byte(address + 3, 11).unwrap();
            let buf = DmaBuf::of(&process.peek(buffer).unwrap()).unwrap();
            kernel.kthread(|_| {
                let attach = dma_buf_attach(&buf, "importer").unwrap();
                let table = dma_buf_map_attachment_unlocked(&attach, DmaDirection::ToDevice).unwrap();
                assert_eq!(table.read(3), 11);
                let other_way = dma_buf_map_attachment_unlocked(&attach, DmaDirection::FromDevice);
                assert_eq!(other_way.err(), Some(Errno::EBUSY), "cached for one direction");
                let map = dma_buf_vmap_unlocked(&buf).unwrap();
                table.write(PAGE as usize, 12);
                assert_eq!(map.read(PAGE as usize), 12);
                dma_buf_vunmap_unlocked(&buf, &map);
                dma_buf_unmap_attachment_unlocked(&attach, table, DmaDirection::ToDevice);
                dma_buf_detach(&buf, &attach);
            });
            assert_eq!(process.read_byte(address + PAGE), Ok(12));
        });
    }
}

/// P15, K3: `vmap` of an imported object goes through to the exporter.
#[test]
fn a_kernel_mapping_of_an_import_is_the_exporters_and_under_a_a_recursion_of_its_class() {
    for (policy, shmem) in sound() {
        let validator = Validator::new();
        validator.scope(|| {
            let kernel = Kernel::new(policy, shmem);
            let process = kernel.process("init");
            let (_, _, buffer) = export(&process, Driver::Vgem).unwrap();
            let address = process.mmap(buffer, LEN, 0, MapFlags::SHARED).unwrap();
            process.write_byte(address, 5).unwrap();
            let vkms = process.open(Driver::Vkms).unwrap();
            let handle = process.prime_fd_to_handle(vkms, buffer).unwrap();
            let file = process.peek(vkms).unwrap();
            kernel.kthread(|_| {
                let obj = drm_gem_object_lookup(file.private::<DrmFile>().unwrap(), handle).unwrap();
                let map = drm_gem_vmap_unlocked(&obj).unwrap();
                assert_eq!(map.read(0), 5);
                drm_gem_vunmap_unlocked(&obj, &map);
                drm_gem_object_put(obj);
            });
            process.exit();
            kernel.assert_no_leaks();
        });
        let reports = validator.reports();
        if lockdep::ENABLED && shmem == ShmemLocking::A {
            assert!(!reports.is_empty(), "{policy}");
            for report in reports {
                assert_eq!(report.kind().name(), "recursive", "{report}");
                assert_eq!(report.wanted.as_ref().unwrap().lock.class, "&shmem->vmap_lock");
            }
        } else {
            assert!(reports.is_empty(), "{policy} {shmem}: {reports:?}");
        }
    }
}

type Use = fn(&Arc<DrmGemObject>);

/// K3, K5, K6 as they were written upstream: without the lock.
#[test]
fn unlocked_use_is_asserted_wherever_the_reservation_lock_protects() {
    for shmem in ShmemLocking::ALL {
        let uses: [(&str, Use); 3] = [
            ("drm_gem_shmem_vmap", |obj| {
                let map = drm_gem_shmem_vmap(obj).unwrap();
                drm_gem_vunmap_unlocked(obj, &map);
            }),
            ("drm_gem_shmem_madvise", |obj| {
                drm_gem_shmem_madvise(obj, 1);
            }),
            ("drm_gem_shmem_purge", |obj| {
                drop(drm_gem_shmem_get_pages_sgt(obj).unwrap());
                locked(obj, || drm_gem_shmem_madvise(obj, 1));
                drm_gem_shmem_purge(obj);
            }),
        ];
        for (function, unlocked) in uses {
            let validator = Validator::new();
            validator.scope(|| {
                let kernel = Kernel::new(LockingPolicy::P2, shmem);
                let dev = kernel.drm_device(Driver::Vgem).unwrap();
                kernel.kthread(|_| {
                    let obj = drm_gem_shmem_create(dev, 1 << 16).unwrap();
                    unlocked(&obj);
                    drm_gem_object_put(obj);
                });
                kernel.assert_no_leaks();
            });
            let reports = validator.reports();
            let first = reports.first().and_then(|report| report.wanted.as_ref()?.site.function);
            let expected = (lockdep::ENABLED && shmem.on_reservation_lock()).then_some(function);
            assert_eq!(first, expected, "{shmem}");
            assert!(reports.iter().all(|report| report.kind().name() == "assert-held"), "{reports:?}");
        }
    }
}

#[test]
fn the_locks_of_several_objects_are_taken_in_any_order_and_a_shared_one_is_refused() {
    clean(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
        let (dev, first, buffer) = export(process, Driver::Vgem).unwrap();
        let second = process.mode_create_dumb(dev, 64, 64, 32).unwrap();
        let file = process.peek(dev).unwrap();
        let vkms = process.open(Driver::Vkms).unwrap();
        let handle = process.prime_fd_to_handle(vkms, buffer).unwrap();
        let imported = process.peek(vkms).unwrap();
        kernel.kthread(|_| {
            let file = file.private::<DrmFile>().unwrap();
            let objects = drm_gem_objects_lookup(file, &[second, first]).unwrap();
            let ctx = drm_gem_lock_reservations(&objects).unwrap();
            assert!(ctx.is_done() && objects.iter().all(|obj| obj.resv().is_held()));
            drm_gem_unlock_reservations(&objects, ctx);
            let import = drm_gem_object_lookup(imported.private::<DrmFile>().unwrap(), handle).unwrap();
            let shared = [objects[1].clone(), import.clone()];
            assert!(!Arc::ptr_eq(&shared[0], &shared[1]));
            assert_eq!(drm_gem_lock_reservations(&shared).err(), Some(Errno::EALREADY));
            assert!(!objects[1].resv().is_locked(), "nothing stays locked");
            objects.into_iter().chain([import]).for_each(drm_gem_object_put);
        });
    });
}
