// SPDX-License-Identifier: GPL-2.0-only
//! Many threads at once, on real locks: nothing hangs, nothing is found, nothing leaks, with the validator and
//! without. And what happens to a world that was left in the middle.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::common::{LEN, PAGE, clean, export, sound};
use instrumented_drivers::drm::file::Handle;
use instrumented_drivers::drm::prime::DRM_RDWR;
use instrumented_drivers::kernel::errno::Errno;
use instrumented_drivers::kernel::mm::MapFlags;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::user::{Driver, Kernel};
use lockdep::Validator;

const ROUNDS: usize = 50;

#[test]
fn export_against_close_leaks_nothing() {
    for (policy, shmem) in sound() {
        clean(policy, shmem, |_, process| {
            let dev = process.open(Driver::Vgem).unwrap();
            let tasks = [(); 3].map(|()| {
                process.spawn(move |task| {
                    for _ in 0..ROUNDS {
                        let created = task.mode_create_dumb(dev, 8, 8, 32).unwrap();
                        // Somebody else may close it first, or reuse its number.
                        if let Ok(buffer) = task.prime_handle_to_fd(dev, Handle(1), DRM_RDWR) {
                            task.close(buffer).unwrap();
                        }
                        let closed = task.gem_close(dev, created);
                        assert!(matches!(closed, Ok(()) | Err(Errno::EINVAL)));
                        let _theirs = task.gem_close(dev, Handle(1));
                    }
                })
            });
            tasks.into_iter().for_each(|task| task.unwrap().wait());
        });
    }
}

#[test]
fn import_against_close_leaks_nothing() {
    for (policy, shmem) in sound() {
        clean(policy, shmem, |_, process| {
            let (vgem, _, buffer) = export(process, Driver::Vgem).unwrap();
            let vkms = process.open(Driver::Vkms).unwrap();
            let tasks = [vgem, vkms, vkms].map(|dev| {
                process.spawn(move |task| {
                    for _ in 0..ROUNDS {
                        let handle = task.prime_fd_to_handle(dev, buffer).unwrap();
                        let _ours_or_theirs = task.gem_close(dev, handle);
                    }
                })
            });
            tasks.into_iter().for_each(|task| task.unwrap().wait());
        });
    }
}

/// Under P0 an exporter maps without the lock: it may look at nothing but what the attachment has pinned.
#[test]
fn mapping_for_two_devices_at_once_is_clean() {
    for (policy, shmem) in sound() {
        clean(policy, shmem, |_, process| {
            let (_, _, buffer) = export(process, Driver::I915).unwrap();
            let tasks = [Driver::Vgem, Driver::Vkms].map(|driver| {
                process.spawn(move |task| {
                    let dev = task.open(driver).unwrap();
                    for _ in 0..20 * ROUNDS {
                        let handle = task.prime_fd_to_handle(dev, buffer).unwrap();
                        task.gem_close(dev, handle).unwrap();
                    }
                })
            });
            tasks.into_iter().for_each(|task| task.unwrap().wait());
        });
    }
}

#[test]
fn mapping_faulting_and_forking_at_once_is_clean() {
    for (policy, shmem) in sound() {
        clean(policy, shmem, |_, process| {
            let (dev, handle, buffer) = export(process, Driver::Vgem).unwrap();
            let offset = process.mode_map_dumb(dev, handle).unwrap();
            let shared = process.mmap(buffer, LEN, 0, MapFlags::SHARED).unwrap();
            let tasks = [(dev, offset), (buffer, 0), (buffer, 0)].map(|(fd, offset)| {
                process.spawn(move |task| {
                    for round in 0..10 {
                        let address = task.mmap(fd, LEN, offset, MapFlags::SHARED).unwrap();
                        for page in 0..8 {
                            task.write_byte(address + page * PAGE, 1).unwrap();
                            assert_eq!(task.read_byte(shared + page * PAGE), Ok(1));
                        }
                        if round % 5 == 0 {
                            task.fork(move |child| child.read_byte(address).unwrap()).unwrap().wait();
                        }
                        task.munmap(address, LEN / 2).unwrap();
                        task.munmap(address, LEN).unwrap();
                    }
                })
            });
            tasks.into_iter().for_each(|task| task.unwrap().wait());
        });
    }
}

#[test]
fn cpu_access_waits_while_another_task_works_on_the_fences() {
    clean(LockingPolicy::P2, ShmemLocking::C, |_, process| {
        let (dev, handle, buffer) = export(process, Driver::Vgem).unwrap();
        let device = process.spawn(move |task| {
            for _ in 0..ROUNDS {
                if let Ok(fence) = task.vgem_fence_attach(dev, handle, true) {
                    task.vgem_fence_signal(dev, fence).unwrap();
                }
            }
        });
        for _ in 0..ROUNDS {
            process.sync_start(buffer, 3).unwrap();
            process.sync_end(buffer, 3).unwrap();
        }
        device.unwrap().wait();
    });
}

#[test]
fn a_world_that_panicked_is_dropped_quietly_and_completely() {
    if !lockdep::ENABLED {
        return;
    }
    let validator = Validator::new();
    let mut core = None;
    let ended = catch_unwind(AssertUnwindSafe(|| {
        validator.scope(|| {
            let kernel = Kernel::new(LockingPolicy::P1, ShmemLocking::C);
            core = Some(Arc::downgrade(kernel.core()));
            let process = kernel.process("init");
            let (_, _, buffer) = export(&process, Driver::Vgem).unwrap();
            let vkms = process.open(Driver::Vkms).unwrap();
            process.prime_fd_to_handle(vkms, buffer).unwrap();
            process.mmap(buffer, LEN, 0, MapFlags::SHARED)
        })
    }));
    assert!(ended.is_err());
    assert_eq!(validator.reports().len(), 1, "{:?}", validator.reports());
    assert!(core.unwrap().upgrade().is_none(), "all memory is given back, with the locks still locked");
    // And this thread can go on.
    clean(LockingPolicy::P2, ShmemLocking::C, |_, process| {
        export(process, Driver::Vgem).unwrap();
    });
}
