// SPDX-License-Identifier: GPL-2.0-only
//! Cameras, heaps and udmabuf while something fails: every interruptible wait is hit by a signal once, every allocation
//! fails once. Whatever the program is told then, no lock stays held, nothing is leaked, nothing is found.

mod vb2_common;

use instrumented_drivers::dma_buf::ioctl::DMA_BUF_SYNC_RW;
use instrumented_drivers::dma_buf::udmabuf::UdmabufItem;
use instrumented_drivers::kernel::errno::{Errno, Result};
use instrumented_drivers::kernel::fault::{Plan, Seen, inject};
use instrumented_drivers::kernel::file::Fd;
use instrumented_drivers::kernel::memfd::Seals;
use instrumented_drivers::kernel::mm::MapFlags;
use instrumented_drivers::kernel::poll::{PollEvents, PollTimeout};
use instrumented_drivers::media::videobuf2::{Memory, PlaneMemory};
use instrumented_drivers::media::vivid::{Format, Pixels};
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::user::{Driver, Process, QueueBuffer};

use vb2_common::{CAMERAS, FRAME, run, run_although};

/// Waits for a frame and takes it out, by way of poll.
fn take(process: &Process, camera: Fd) -> Result {
    match process.poll_with(camera, PollEvents::IN, PollTimeout::Forever)? {
        PollEvents::IN => process.dqbuf(camera).map(drop),
        _ => Err(Errno::EIO),
    }
}

/// The life of a queue with buffers of its own, up to the first error.
fn own_buffers(process: &Process, driver: Driver) -> Result {
    let camera = process.open(driver)?;
    process.s_fmt(camera, Format { pixels: Pixels::Nv16m, ..Format::DEFAULT })?;
    process.reqbufs(camera, 3, Memory::Mmap)?;
    process.create_bufs(camera, 1, Memory::Mmap, &[FRAME, FRAME])?;
    let PlaneMemory::Offset(offset) = process.querybuf(camera, 1)?.planes[1].memory else {
        return Err(Errno::EINVAL);
    };
    let address = process.mmap(camera, 4096, offset, MapFlags::SHARED)?;
    let buffer = process.expbuf(camera, 0, 1)?;
    process.sync_start(buffer, DMA_BUF_SYNC_RW)?;
    let exported = process.mmap(buffer, 4096, 0, MapFlags::SHARED)?;
    let vgem = process.open(Driver::Vgem)?;
    let handle = process.prime_fd_to_handle(vgem, buffer)?;
    process.gem_close(vgem, handle)?;
    process.sync_end(buffer, DMA_BUF_SYNC_RW)?;
    process.fork(|_| ())?.wait();
    process.prepare_buf(camera, &QueueBuffer::mmap(0))?;
    process.qbuf(camera, &QueueBuffer::mmap(0))?;
    process.streamon(camera)?;
    process.dqbuf(camera)?;
    process.qbuf(camera, &QueueBuffer::mmap(2))?;
    take(process, camera)?;
    process.streamoff(camera)?;
    process.munmap(address, 4096)?;
    process.munmap(exported, 4096)?;
    process.reqbufs(camera, 0, Memory::Mmap).map(drop)
}

fn user_memory(process: &Process, driver: Driver) -> Result {
    let camera = process.open(driver)?;
    process.reqbufs(camera, 2, Memory::UserPtr)?;
    let memory = process.memfd_create(2 * FRAME)?;
    let address = process.mmap(memory, 2 * FRAME as u64, 0, MapFlags::SHARED)?;
    process.qbuf(camera, &QueueBuffer::userptr(0, &[(address, FRAME)]))?;
    process.streamon(camera)?;
    process.dqbuf(camera)?;
    process.qbuf(camera, &QueueBuffer::userptr(0, &[(address + 4096, FRAME)]))?;
    take(process, camera)
}

/// A camera that takes pictures into a buffer of this exporter, then into another one.
fn dma_buf(process: &Process, driver: Driver, from: Driver) -> Result {
    let device = process.open(from)?;
    let memfd = process.memfd_create(FRAME)?;
    process.add_seals(memfd, Seals::SHRINK)?;
    let buffer = || match from {
        Driver::Udmabuf => process.udmabuf_create(device, &[UdmabufItem { memfd, offset: 0, size: FRAME }]),
        _ => process.dma_heap_alloc(device, FRAME),
    };
    let (first, second) = (buffer()?, buffer()?);
    process.sync_start(first, DMA_BUF_SYNC_RW)?;
    let address = process.mmap(second, FRAME as u64, 0, MapFlags::SHARED)?;
    process.read_byte(address).map_err(|_| Errno::EFAULT)?;
    process.sync_end(first, DMA_BUF_SYNC_RW)?;
    let vgem = process.open(Driver::Vgem)?;
    process.prime_fd_to_handle(vgem, second)?;
    let camera = process.open(driver)?;
    process.reqbufs(camera, 2, Memory::DmaBuf)?;
    process.qbuf(camera, &QueueBuffer::dmabuf(0, &[first]))?;
    process.streamon(camera)?;
    process.dqbuf(camera)?;
    process.qbuf(camera, &QueueBuffer::dmabuf(0, &[second]))?;
    take(process, camera)
}

/// Runs a life with nothing failing, then once for each place that can fail.
#[track_caller]
fn survives_everything(what: &str, life: impl Fn(&Process) -> Result) {
    for policy in LockingPolicy::ALL {
        let once = |plan: Plan| -> (Result, Seen) {
            let mut outcome = None;
            // A buffer that cannot be mapped for the kernel is worth a warning to the core.
            let warnings = ["dma_buf_vmap failed"];
            let reports = run_although(policy, ShmemLocking::C, &warnings, |_, process| {
                outcome = Some(inject(plan, || life(process)));
                Ok(())
            });
            assert!(reports.is_empty(), "{what} {policy} {plan:?}: {}", reports[0]);
            outcome.expect("it ran")
        };
        let (result, seen) = once(Plan::NONE);
        assert_eq!(result, Ok(()), "{what} {policy}");
        assert!(seen.interruptible >= 5 && seen.allocations >= 15, "{what}: {seen:?}");
        for n in 1..=seen.interruptible {
            let (result, hit) = once(Plan::interrupt(n));
            // A poll that cannot get the lock says that there is an error. When the camera is quick there is a frame
            // already, and so one wait less than there was in the run that counted them.
            let all_was_well = hit.interruptible < n && result == Ok(());
            let told = all_was_well || matches!(result, Err(Errno::EINTR | Errno::EIO));
            assert!(told, "{what} {policy}, interruptible wait {n}: {result:?}");
        }
        for n in 1..=seen.allocations {
            let (result, hit) = once(Plan::allocation(n));
            assert!(hit.allocations >= n || result == Ok(()), "{what} {policy}, allocation {n}: {result:?}");
            // The allocators say -EFAULT for a buffer that cannot be mapped, udmabuf says -EINVAL; and a queue that gets
            // fewer buffers than it asked for is content with two.
            let told = matches!(result, Err(Errno::ENOMEM | Errno::EFAULT | Errno::EINVAL) | Ok(()));
            assert!(told, "{what} {policy}, allocation {n}: {result:?}");
        }
    }
}

#[test]
fn a_queue_with_buffers_of_its_own_survives_every_failure() {
    for driver in CAMERAS {
        survives_everything(driver.name(), |process| own_buffers(process, driver));
    }
}

#[test]
fn a_queue_with_user_memory_survives_every_failure() {
    for driver in CAMERAS {
        survives_everything(driver.name(), |process| user_memory(process, driver));
    }
}

#[test]
fn a_queue_with_somebody_elses_buffers_survives_every_failure() {
    for driver in CAMERAS {
        for from in [Driver::SystemHeap, Driver::CmaHeap, Driver::Udmabuf] {
            let what = format!("{} into {}", driver.name(), from.name());
            survives_everything(&what, |process| dma_buf(process, driver, from));
        }
    }
}

#[test]
fn a_queue_that_gets_fewer_buffers_than_it_asked_for_has_those_and_no_more() {
    for driver in CAMERAS {
        let mut made = Vec::new();
        for n in 1..20 {
            let reports = run(LockingPolicy::P2, ShmemLocking::C, |_, process| {
                let camera = process.open(driver)?;
                let (count, seen) = inject(Plan::allocation(n), || process.reqbufs(camera, 3, Memory::Mmap));
                if seen.allocations >= n {
                    made.push(count);
                }
                let there = count.unwrap_or(0);
                assert!(there == 0 || process.querybuf(camera, there - 1).is_ok());
                assert_eq!(process.querybuf(camera, there).err(), Some(Errno::EINVAL));
                assert_eq!(process.reqbufs(camera, 3, Memory::Mmap)?, 3, "and then there is enough");
                Ok(())
            });
            assert!(reports.is_empty());
        }
        assert!(made.contains(&Ok(2)), "the third buffer fails: {made:?}");
        assert!(made.contains(&Err(Errno::ENOMEM)), "the second fails: {made:?}");
        assert!(!made.contains(&Ok(1)), "one buffer is not enough to stream: {made:?}");
    }
}
