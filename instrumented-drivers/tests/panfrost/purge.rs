// SPDX-License-Identifier: GPL-2.0-only
//! Objects that nobody needs, and memory that is short.

use instrumented_drivers::bug::Bug;
use instrumented_drivers::drm::file::{DrmFile, Handle};
use instrumented_drivers::drm::gem::{drm_gem_object_put, drm_gem_vmap_unlocked, drm_gem_vunmap_unlocked};
use instrumented_drivers::drm::gem_handle::drm_gem_object_lookup;
use instrumented_drivers::drm::panfrost::drv::PanfrostMadv::{DontNeed, WillNeed};
use instrumented_drivers::drm::panfrost::gem::PANFROST_BO_NOEXEC;
use instrumented_drivers::drm::panfrost::gem_shrinker::Wanted;
use instrumented_drivers::drm::prime::DRM_RDWR;
use instrumented_drivers::kernel::errno::Errno;
use instrumented_drivers::kernel::mm::Signal;
use instrumented_drivers::kernel::shrinker::{direct_reclaim_at, kswapd};
use instrumented_drivers::policy::LockingPolicy::{P0, P2};
use instrumented_drivers::policy::ShmemLocking::{A, B, C};
use instrumented_drivers::user::{Kernel, Process};
use lockdep::Validator;

use crate::common::{PAGE, all, clean, kinds, map, open_with_bo};

#[test]
fn only_the_only_user_of_an_object_can_say_that_nobody_needs_it() {
    for (policy, shmem) in all() {
        clean(policy, shmem, |kernel, process| {
            let (gpu, handle, _) = open_with_bo(process, PAGE)?;
            assert!(process.panfrost_madvise(gpu, handle, DontNeed)?);
            assert!(process.panfrost_madvise(gpu, handle, DontNeed)?, "again");
            assert!(process.panfrost_madvise(gpu, handle, WillNeed)?, "it was not thrown away");
            let name = process.gem_flink(gpu, handle)?;
            let (second, _, _) = open_with_bo(process, PAGE)?;
            let shared = process.gem_open(second, name)?;
            assert_eq!(process.panfrost_madvise(gpu, handle, DontNeed), Err(Errno::EINVAL));
            process.gem_close(second, shared)?;
            assert!(process.panfrost_madvise(gpu, handle, DontNeed)?);
            assert_eq!(process.panfrost_madvise(gpu, Handle(9), DontNeed), Err(Errno::ENOENT));
            assert_eq!(kswapd(kernel.core(), usize::MAX), 1);
            assert!(!process.panfrost_madvise(gpu, handle, WillNeed)?, "it was thrown away, for good");
            assert!(!process.panfrost_madvise(gpu, handle, DontNeed)?);
            assert_eq!(kswapd(kernel.core(), usize::MAX), 0);
            Ok(())
        });
    }
}

/// P10, without the busy one, which needs a job.
#[test]
fn p10_only_an_object_that_nobody_needs_shares_or_maps_is_purged_and_a_fault_after_that_is_a_sigbus() {
    for (policy, shmem) in all() {
        if policy == P0 && shmem != A {
            // No kernel was like that: the core maps without the lock that the helper expects.
            continue;
        }
        clean(policy, shmem, |kernel, process| {
            let (gpu, idle, _) = open_with_bo(process, 2 * PAGE)?;
            let (exported, _) = process.panfrost_create_bo(gpu, PAGE, PANFROST_BO_NOEXEC)?;
            let (vmapped, _) = process.panfrost_create_bo(gpu, PAGE, PANFROST_BO_NOEXEC)?;
            let (needed, _) = process.panfrost_create_bo(gpu, PAGE, PANFROST_BO_NOEXEC)?;
            let cpu = map(process, gpu, idle, 2 * PAGE)?;
            process.write_byte(cpu, 1).unwrap();
            let buffer = process.prime_handle_to_fd(gpu, exported, DRM_RDWR)?;
            let file = process.peek(gpu)?;
            let file: &DrmFile = file.private().ok_or(Errno::ENOTTY)?;
            let obj = kernel.kthread(|_| drm_gem_object_lookup(file, vmapped)).ok_or(Errno::ENOENT)?;
            let map = kernel.kthread(|_| drm_gem_vmap_unlocked(&obj))?;
            for handle in [idle, exported, vmapped] {
                assert!(process.panfrost_madvise(gpu, handle, DontNeed)?);
            }
            assert_eq!(kswapd(kernel.core(), 1), 2, "the idle one, whole");
            assert_eq!(kswapd(kernel.core(), usize::MAX), 0, "no other");
            assert_eq!(process.read_byte(cpu), Err(Signal::Bus));
            assert_eq!(process.read_byte(cpu + PAGE as u64), Err(Signal::Bus), "a page never touched");
            kernel.kthread(|_| {
                drm_gem_vunmap_unlocked(&obj, &map);
                drm_gem_object_put(obj);
            });
            assert_eq!(kswapd(kernel.core(), usize::MAX), 1, "the one that was mapped for the kernel");
            process.close(buffer)?;
            assert_eq!(kswapd(kernel.core(), usize::MAX), 0, "exported once is exported");
            assert!(process.panfrost_madvise(gpu, needed, WillNeed)?);
            Ok(())
        });
    }
}

/// P10: somebody holds each of the locks in turn; the shrinker goes on without.
#[test]
fn p10_a_lock_that_somebody_holds_is_not_waited_for() {
    for shmem in [A, B, C] {
        clean(P2, shmem, |kernel, process| {
            let (gpu, handle, _) = open_with_bo(process, PAGE)?;
            assert!(process.panfrost_madvise(gpu, handle, DontNeed)?);
            let pfdev = kernel.panfrost();
            let file = process.peek(gpu)?;
            let file: &DrmFile = file.private().ok_or(Errno::ENOTTY)?;
            for lock in [Wanted::ShrinkerLock, Wanted::MappingsLock, Wanted::PagesLock] {
                let obj = kernel.kthread(|_| drm_gem_object_lookup(file, handle)).ok_or(Errno::ENOENT)?;
                let core = kernel.core().clone();
                pfdev.hold(lock, &obj, || {
                    let freed = lockdep::thread::spawn(move || kswapd(&core, usize::MAX)).join().unwrap();
                    assert_eq!(freed, 0, "{lock:?} is held");
                });
                kernel.kthread(|_| drm_gem_object_put(obj));
            }
            assert_eq!(kswapd(kernel.core(), usize::MAX), 1, "nobody holds anything");
            Ok(())
        });
    }
}

/// P11 in one order of steps each.
#[test]
fn p11_advice_and_reclaim_alternate_and_a_purge_is_seen_by_the_next_advice() {
    for (policy, shmem) in all() {
        clean(policy, shmem, |kernel, process| {
            let (gpu, handle, _) = open_with_bo(process, PAGE)?;
            let scan = || kswapd(kernel.core(), usize::MAX);
            assert_eq!(scan(), 0, "it is needed");
            assert!(process.panfrost_madvise(gpu, handle, DontNeed)?);
            assert!(process.panfrost_madvise(gpu, handle, WillNeed)?);
            assert_eq!(scan(), 0, "it is needed again");
            assert!(process.panfrost_madvise(gpu, handle, DontNeed)?);
            assert_eq!(scan(), 1);
            assert_eq!(scan(), 0, "once only");
            assert!(!process.panfrost_madvise(gpu, handle, WillNeed)?);
            let (closed, _) = process.panfrost_create_bo(gpu, PAGE, PANFROST_BO_NOEXEC)?;
            assert!(process.panfrost_madvise(gpu, closed, DontNeed)?);
            process.gem_close(gpu, closed)?;
            assert_eq!(scan(), 0, "it is gone");
            Ok(())
        });
    }
}

fn advise_then_reclaim(kernel: &Kernel, process: &Process) {
    let (gpu, handle, _) = open_with_bo(process, PAGE).unwrap();
    assert!(process.panfrost_madvise(gpu, handle, DontNeed).unwrap());
    assert_eq!(kswapd(kernel.core(), usize::MAX), 1);
}

/// Bug 9: the shrinker locked an object's pages before its mappings, `madvise` the other way round.
#[test]
fn p11_the_old_order_of_the_shrinkers_locks_is_found_where_the_pages_have_a_mutex() {
    if !lockdep::ENABLED {
        return;
    }
    let validator = Validator::new();
    validator.scope(|| {
        let kernel = Kernel::new(P2, A);
        kernel.break_with(Bug::PurgeLocksPagesFirst);
        let process = kernel.process("init");
        advise_then_reclaim(&kernel, &process);
        process.exit();
        kernel.assert_no_leaks();
    });
    assert_eq!(kinds(&validator.reports()), ["circular"]);
}

/// Memory is short at each allocation of a program in turn, and in all of them.
#[test]
fn reclaim_from_any_allocation_is_clean_and_spares_what_is_needed() {
    fn program(process: &Process) -> Result<(), Errno> {
        let (gpu, dispensable, _) = open_with_bo(process, PAGE)?;
        assert!(process.panfrost_madvise(gpu, dispensable, DontNeed)?);
        let (needed, _) = process.panfrost_create_bo(gpu, PAGE, PANFROST_BO_NOEXEC)?;
        let cpu = map(process, gpu, needed, PAGE)?;
        process.write_byte(cpu, 9).unwrap();
        let buffer = process.prime_handle_to_fd(gpu, needed, DRM_RDWR)?;
        let vgem = process.open(instrumented_drivers::user::Driver::Vgem)?;
        let import = process.prime_fd_to_handle(vgem, buffer)?;
        process.gem_close(vgem, import)?;
        assert_eq!(process.read_byte(cpu), Ok(9));
        Ok(())
    }
    for (policy, shmem) in all() {
        if shmem == instrumented_drivers::policy::ShmemLocking::B0 {
            continue;
        }
        let mut allocations = 0;
        clean(policy, shmem, |_, process| {
            let (result, seen) = instrumented_drivers::kernel::fault::inject(
                instrumented_drivers::kernel::fault::Plan::NONE,
                || program(process),
            );
            allocations = seen.allocations;
            result
        });
        for at in (1..=allocations).chain([0]) {
            clean(policy, shmem, |kernel, process| {
                direct_reclaim_at(kernel.core(), move |n| at == 0 || n == at, || program(process))
            });
        }
    }
}
