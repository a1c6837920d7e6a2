// SPDX-License-Identifier: GPL-2.0-only
//! Every interruptible wait and every allocation fails once: no lock stays held, nothing is leaked, nothing is
//! found.

use crate::common::{LEN, clean, sound};
use instrumented_drivers::drm::prime::DRM_RDWR;
use instrumented_drivers::kernel::errno::{Errno, Result};
use instrumented_drivers::kernel::fault::{Plan, Seen, inject};
use instrumented_drivers::kernel::mm::MapFlags;
use instrumented_drivers::kernel::poll::PollEvents;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::user::{Driver, Process};

/// A buffer's whole life, up to the first error.
fn life(process: &Process) -> Result {
    let dev = process.open(Driver::Vgem)?;
    let handle = process.mode_create_dumb(dev, 256, 256, 32)?;
    let buffer = process.prime_handle_to_fd(dev, handle, DRM_RDWR)?;
    process.set_name(buffer, "a name")?;
    let second = process.open(Driver::Vgem)?;
    process.prime_fd_to_handle(second, buffer)?;
    let vkms = process.open(Driver::Vkms)?;
    let imported = process.prime_fd_to_handle(vkms, buffer)?;
    let again = process.prime_handle_to_fd(vkms, imported, DRM_RDWR)?;
    let offset = process.driver_map_offset(vkms, imported)?;
    let address = process.mmap(vkms, LEN, offset, MapFlags::SHARED)?;
    let direct = process.mmap(again, LEN, 0, MapFlags::SHARED)?;
    process.write_byte(direct, 1).map_err(|_| Errno::EFAULT)?;
    process.munmap(direct, LEN / 2)?;
    process.fork(|_| ())?.wait();
    let fence = process.vgem_fence_attach(dev, handle, false)?;
    let sync_file = process.export_sync_file(buffer, 3)?;
    process.poll(buffer, PollEvents::OUT)?;
    process.import_sync_file(again, 1, sync_file)?;
    process.vgem_fence_signal(dev, fence)?;
    process.sync_start(buffer, 3)?;
    process.sync_end(buffer, 3)?;
    process.munmap(address, LEN)?;
    process.gem_close(vkms, imported)?;
    process.close(buffer)
}

fn run(policy: LockingPolicy, shmem: ShmemLocking, plan: Plan) -> (Result, Seen) {
    let mut outcome = None;
    clean(policy, shmem, |_, process| outcome = Some(inject(plan, || life(process))));
    outcome.unwrap()
}

#[test]
fn every_signal_is_survived() {
    for (policy, shmem) in sound() {
        let (result, seen) = run(policy, shmem, Plan::NONE);
        assert_eq!(result, Ok(()));
        assert!(seen.interruptible > 4, "{seen:?}");
        for n in 1..=seen.interruptible {
            let (result, _) = run(policy, shmem, Plan::interrupt(n));
            assert_eq!(result, Err(Errno::EINTR), "{policy} {shmem}, interruptible wait {n}");
        }
    }
}

#[test]
fn every_failed_allocation_is_survived() {
    for (policy, shmem) in sound() {
        let (result, seen) = run(policy, shmem, Plan::NONE);
        assert_eq!(result, Ok(()));
        // One of the 64 pages stands for all.
        for n in (1..=seen.allocations).filter(|n| *n < 40 || *n > 80) {
            let (result, _) = run(policy, shmem, Plan::allocation(n));
            assert_eq!(result, Err(Errno::ENOMEM), "{policy} {shmem}, allocation {n}");
        }
    }
}

#[test]
fn an_interrupted_first_use_starts_from_zero_again() {
    clean(LockingPolicy::P2, ShmemLocking::C, |_, process| {
        let dev = process.open(Driver::Vgem).unwrap();
        let handle = process.mode_create_dumb(dev, 256, 256, 32).unwrap();
        let offset = process.mode_map_dumb(dev, handle).unwrap();
        let map = || process.mmap(dev, LEN, offset, MapFlags::SHARED);
        let (failed, _) = inject(Plan::allocation(20), map);
        assert_eq!(failed, Err(Errno::ENOMEM));
        let address = map().unwrap();
        assert_eq!(process.read_byte(address), Ok(0));
    });
}
