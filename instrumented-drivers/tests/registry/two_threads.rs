// SPDX-License-Identifier: GPL-2.0-only
//! The same operation in two threads at once: on one object, on one that two files have, and on two objects that share a
//! reservation lock, because both are imports of one buffer.

use instrumented_drivers::dma_buf::ioctl::DMA_BUF_SYNC_RW;
use instrumented_drivers::drm::file::Handle;
use instrumented_drivers::drm::prime::DRM_RDWR;
use instrumented_drivers::kernel::errno::{Errno, Result};
use instrumented_drivers::kernel::file::Fd;
use instrumented_drivers::kernel::mm::MapFlags;
use instrumented_drivers::kernel::poll::PollEvents;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::user::{Driver, Kernel, Process};
use lockdep::Validator;

const LEN: u64 = 256 * 1024;
const ROUNDS: usize = 30;

/// An object, as one thread has it.
#[derive(Clone, Copy)]
struct Target {
    drm: Fd,
    handle: Handle,
    buffer: Fd,
}

type Operation = fn(&Process, Target) -> Result;

/// Each gives back what it takes. `EBUSY` of a fence is an answer: somebody else's was first.
const OPERATIONS: [(&str, Operation); 9] = [
    ("export", |process, target| {
        let buffer = process.prime_handle_to_fd(target.drm, target.handle, DRM_RDWR)?;
        process.close(buffer)
    }),
    ("import", |process, target| {
        let drm = process.open(Driver::Vkms)?;
        let handle = process.prime_fd_to_handle(drm, target.buffer)?;
        process.gem_close(drm, handle)?;
        process.close(drm)
    }),
    ("map the dma-buf", |process, target| touch(process, target.buffer, 0)),
    ("map the DRM file", |process, target| {
        touch(process, target.drm, process.driver_map_offset(target.drm, target.handle)?)
    }),
    ("sync", |process, target| {
        process.sync_start(target.buffer, DMA_BUF_SYNC_RW)?;
        process.sync_end(target.buffer, DMA_BUF_SYNC_RW)
    }),
    ("poll", |process, target| process.poll(target.buffer, PollEvents::IN | PollEvents::OUT).map(drop)),
    ("name", |process, target| process.set_name(target.buffer, "a name")),
    ("sync file", |process, target| {
        let file = process.export_sync_file(target.buffer, DMA_BUF_SYNC_RW)?;
        process.import_sync_file(target.buffer, DMA_BUF_SYNC_RW, file)?;
        process.close(file)
    }),
    ("flink", |process, target| {
        let drm = process.dup(target.drm)?;
        let name = process.gem_flink(drm, target.handle)?;
        // An open of its own has a handle of its own.
        process.gem_open(drm, name)?;
        process.close(drm)
    }),
];

fn touch(process: &Process, fd: Fd, offset: u64) -> Result {
    let address = process.mmap(fd, LEN, offset, MapFlags::SHARED)?;
    for page in [0, 4096, LEN - 4096] {
        process.write_byte(address + page, 1).map_err(|_| Errno::EFAULT)?;
    }
    process.munmap(address, LEN)
}

/// What the two threads work on.
type Targets = fn(&Process) -> Result<[Target; 2]>;

fn exported(process: &Process) -> Result<Target> {
    let drm = process.open(Driver::Vgem)?;
    let handle = process.mode_create_dumb(drm, 256, 256, 32)?;
    Ok(Target { drm, handle, buffer: process.prime_handle_to_fd(drm, handle, DRM_RDWR)? })
}

fn imported(process: &Process, driver: Driver, buffer: Fd) -> Result<Target> {
    let drm = process.open(driver)?;
    Ok(Target { drm, handle: process.prime_fd_to_handle(drm, buffer)?, buffer })
}

const TARGETS: [(&str, Targets); 3] = [
    ("one object", |process| exported(process).map(|target| [target; 2])),
    ("one object of two files", |process| {
        let target = exported(process)?;
        Ok([target, imported(process, Driver::Vgem, target.buffer)?])
    }),
    ("two objects with one lock", |process| {
        let buffer = exported(process)?.buffer;
        Ok([imported(process, Driver::Vkms, buffer)?, imported(process, Driver::Vkms, buffer)?])
    }),
];

fn run(setup: (LockingPolicy, ShmemLocking), what: &str, targets: Targets, operation: Operation) {
    let validator = Validator::builder().print(false).build();
    validator.scope(|| {
        let kernel = Kernel::new(setup.0, setup.1);
        kernel.dma_resv_lockdep();
        let process = kernel.process("init");
        let both = targets(&process).unwrap_or_else(|error| panic!("{what}: {error}"));
        let threads = both.map(|target| {
            let work = move |thread: &Process| (0..ROUNDS).try_for_each(|_| operation(thread, target));
            process.spawn(work).expect("a thread")
        });
        for thread in threads {
            assert_eq!(thread.wait(), Ok(()), "{what}");
        }
        process.exit();
        kernel.assert_no_leaks();
        assert!(lockdep::raw::is_quiet(), "{what}: a lock is still held");
    });
    assert!(validator.reports().is_empty(), "{what}: {}", validator.reports()[0]);
}

#[test]
fn the_same_operation_twice_at_once_is_clean() {
    use LockingPolicy::{P0, P1, P2};
    use ShmemLocking::{A, B, C};
    for setup in [(P0, A), (P1, A), (P2, A), (P2, B), (P2, C)] {
        for (targets_name, targets) in TARGETS {
            for (name, operation) in OPERATIONS {
                run(setup, &format!("{name}, {targets_name}, {} {}", setup.0, setup.1), targets, operation);
            }
        }
    }
}

/// The fence of one is in the way of the other; both are told so, whichever is first.
#[test]
fn two_writers_fences_at_once_leave_nothing_behind() {
    let attach: Operation = |process, target| match process.vgem_fence_attach(target.drm, target.handle, true)
    {
        Ok(fence) => process.vgem_fence_signal(target.drm, fence),
        Err(Errno::EBUSY) => Ok(()),
        Err(error) => Err(error),
    };
    for (name, targets) in &TARGETS[..2] {
        run((LockingPolicy::P2, ShmemLocking::C), name, *targets, attach);
    }
}
