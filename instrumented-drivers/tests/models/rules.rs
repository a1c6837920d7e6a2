// SPDX-License-Identifier: GPL-2.0-only
//! Rules that no modelled program breaks or even comes near, so that only a direct call shows them: assertions of
//! inner functions, a trylock that must not wait, the order primed at boot, an error path. They came with the mutants
//! (`.ci/mutants.list`), some of which nothing else catches.

use std::sync::Arc;

use crate::common::{LEN, clean, export, sound};
use instrumented_drivers::dma_buf::DmaBuf;
use instrumented_drivers::dma_buf::fence::{
    DmaFence, dma_fence_begin_signalling, dma_fence_context_alloc, dma_fence_end_signalling,
    dma_fence_signal, dma_fence_signal_locked, dma_fence_wait,
};
use instrumented_drivers::dma_buf::ioctl::{DmaBufIoctl, dma_buf_ioctl};
use instrumented_drivers::dma_buf::resv::{
    DmaResv, DmaResvUsage, dma_resv_add_fence, dma_resv_fences, dma_resv_lock, dma_resv_reserve_fences,
    dma_resv_trylock, dma_resv_unlock,
};
use instrumented_drivers::drm::gem::{drm_gem_evict, drm_gem_object_put};
use instrumented_drivers::drm::gem_shmem_helper::{drm_gem_shmem_create, to_drm_gem_shmem_obj};
use instrumented_drivers::drm::gem_shmem_memory::drm_gem_shmem_get_pages_sgt;
use instrumented_drivers::kernel::KernelCore;
use instrumented_drivers::kernel::errno::Errno;
use instrumented_drivers::kernel::fault::{Plan, inject};
use instrumented_drivers::kernel::locking::{SpinLock, spin_class};
use instrumented_drivers::kernel::mm::MapFlags;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::user::{Driver, Kernel};
use lockdep::{LockClass, RecordedOp, Validator};

static FENCE_LOCK: LockClass = spin_class("&fence->lock");

fn fence(core: &KernelCore) -> Arc<DmaFence> {
    DmaFence::new(core, Arc::new(SpinLock::new(&FENCE_LOCK)), dma_fence_context_alloc(), 1)
}

/// The kinds of finding that `f` makes in a world without priming.
fn found(f: impl FnOnce(&Kernel)) -> Vec<&'static str> {
    let validator = Validator::new();
    validator.scope(|| {
        let kernel = Kernel::new(LockingPolicy::P2, ShmemLocking::C);
        f(&kernel);
        kernel.assert_no_leaks();
    });
    validator.reports().iter().map(|report| report.kind().name()).collect()
}

#[test]
fn inner_functions_assert_the_lock_that_they_want() {
    if !lockdep::ENABLED {
        return;
    }
    type Use = fn(&DmaResv, &Arc<DmaFence>);
    let uses: [(Use, usize); 4] = [
        (|resv, _| dma_resv_reserve_fences(resv, 1).unwrap(), 1),
        (|resv, _| drop(dma_resv_fences(resv, DmaResvUsage::Read)), 1),
        (|_, fence| dma_fence_signal_locked(fence).unwrap(), 1),
        // A fence needs a place, and the lock keeps it; so this one takes two.
        (
            |resv, fence| {
                dma_resv_reserve_fences(resv, 1).unwrap();
                dma_resv_add_fence(resv, fence, DmaResvUsage::Read);
            },
            2,
        ),
    ];
    for (n, (unlocked, expected)) in uses.into_iter().enumerate() {
        let kinds = found(|kernel| {
            kernel.kthread(|core| {
                let (resv, fence) = (DmaResv::new(), fence(core));
                unlocked(&resv, &fence);
                let _already = dma_fence_signal(&fence);
            });
        });
        assert_eq!(kinds, vec!["assert-held"; expected], "use {n}");
    }
    let kinds = found(|kernel| {
        let dev = kernel.drm_device(Driver::Vgem).unwrap();
        kernel.kthread(|_| {
            let obj = drm_gem_shmem_create(dev, 1 << 16).unwrap();
            assert_eq!(drm_gem_evict(&obj), Err(Errno::EBUSY), "the driver cannot");
            drm_gem_object_put(obj);
        });
    });
    assert_eq!(kinds, ["assert-held"], "drm_gem_evict");
}

#[test]
fn a_trylock_of_a_reservation_lock_does_not_wait() {
    let kinds = found(|kernel| {
        kernel.kthread(|_| {
            let resv = DmaResv::new();
            assert!(dma_resv_trylock(&resv));
            assert!(!dma_resv_trylock(&resv), "it is held");
            dma_resv_unlock(&resv);
            assert!(!resv.is_locked());
        });
    });
    assert_eq!(kinds, [""; 0]);
}

#[test]
fn waiting_for_a_fence_under_a_lock_that_signalling_needs_is_found_though_nobody_waits() {
    if !lockdep::ENABLED {
        return;
    }
    let kinds = found(|kernel| {
        kernel.kthread(|core| {
            let (resv, fence) = (DmaResv::new(), fence(core));
            dma_fence_signal(&fence).unwrap();
            dma_resv_lock(&resv);
            dma_fence_wait(&fence, false).unwrap();
            dma_resv_unlock(&resv);
            let cookie = dma_fence_begin_signalling();
            dma_resv_lock(&resv);
            dma_resv_unlock(&resv);
            dma_fence_end_signalling(cookie);
        });
    });
    assert_eq!(kinds, ["circular"]);
}

/// The documented order, as the kernel's boot-time priming records it.
#[test]
fn priming_teaches_the_documented_order() {
    if !lockdep::ENABLED {
        return;
    }
    let validator = Validator::new();
    validator.scope(|| Kernel::new(LockingPolicy::P2, ShmemLocking::C).dma_resv_lockdep());
    let learned = validator.dependencies();
    let order = [
        "&mm->mmap_lock",
        "reservation_ww_class_acquire",
        "reservation_ww_class_mutex",
        "fs_reclaim",
        "&mapping->i_mmap_rwsem",
    ];
    for pair in order.windows(2) {
        let pair = (pair[0].to_owned(), pair[1].to_owned());
        assert!(learned.contains(&pair), "{pair:?} is not in {learned:#?}");
    }
    let fence = ("mmu_notifier_invalidate_range_start".to_owned(), "dma_fence_map".to_owned());
    assert!(learned.contains(&fence), "{learned:#?}");
}

#[test]
fn the_name_of_a_buffer_is_set_under_its_lock() {
    if !lockdep::ENABLED {
        return;
    }
    let validator = Validator::builder().record(true).build();
    validator.scope(|| {
        let kernel = Kernel::new(LockingPolicy::P2, ShmemLocking::C);
        let process = kernel.process("init");
        let (_, _, buffer) = export(&process, Driver::Vgem).unwrap();
        let buf = DmaBuf::of(&process.peek(buffer).unwrap()).unwrap();
        drop(validator.take_recorded());
        kernel.kthread(|_| dma_buf_ioctl(&buf, DmaBufIoctl::SetName("name".to_owned())).unwrap());
        let taken = |event: &lockdep::Recorded| {
            matches!(event.op, RecordedOp::Acquire { .. }) && &*event.class == "&dmabuf->name_lock"
        };
        assert_eq!(validator.take_recorded().iter().filter(|event| taken(event)).count(), 1);
        drop(buf);
        process.exit();
    });
}

/// A real kernel's record has no event for the downgrade, so the sequences cannot show it.
#[test]
fn munmap_closes_a_mapping_under_the_read_side() {
    if !lockdep::ENABLED {
        return;
    }
    let validator = Validator::builder().record(true).build();
    validator.scope(|| {
        let kernel = Kernel::new(LockingPolicy::P2, ShmemLocking::C);
        let process = kernel.process("init");
        let (_, _, buffer) = export(&process, Driver::Vgem).unwrap();
        let address = process.mmap(buffer, LEN, 0, MapFlags::SHARED).unwrap();
        drop(validator.take_recorded());
        process.munmap(address, LEN).unwrap();
        let events = validator.take_recorded();
        let downgraded = events
            .iter()
            .position(|event| matches!(event.op, RecordedOp::Downgrade) && &*event.class == "&mm->mmap_lock");
        let closed = events.iter().position(|event| &*event.class == "reservation_ww_class_mutex");
        assert!(downgraded.is_some() && downgraded < closed, "{downgraded:?} {closed:?}");
        process.exit();
    });
}

#[test]
fn a_scatter_table_that_cannot_be_made_leaves_no_pages_in_use() {
    for (policy, shmem) in sound() {
        clean(policy, shmem, |kernel, _| {
            let dev = kernel.drm_device(Driver::Vgem).unwrap();
            kernel.kthread(|_| {
                let obj = drm_gem_shmem_create(dev, 1 << 14).unwrap();
                let (made, seen) = inject(Plan::NONE, || drm_gem_shmem_get_pages_sgt(&obj).map(drop));
                assert_eq!(made, Ok(()));
                drm_gem_object_put(obj);
                for n in 1..=seen.allocations {
                    let obj = drm_gem_shmem_create(dev, 1 << 14).unwrap();
                    let (failed, _) = inject(Plan::allocation(n), || drm_gem_shmem_get_pages_sgt(&obj));
                    assert_eq!(failed.err(), Some(Errno::ENOMEM), "allocation {n}");
                    assert_eq!(to_drm_gem_shmem_obj(&obj).pages_use_count(), 0, "allocation {n}");
                    drm_gem_object_put(obj);
                }
            });
        });
    }
}
