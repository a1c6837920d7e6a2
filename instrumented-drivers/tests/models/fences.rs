// SPDX-License-Identifier: GPL-2.0-only
//! Fences on buffers: poll, sync files, bracketing of CPU access, vgem's fences and their timer.

use crate::common::{clean, create, export, sound, takers};
use instrumented_drivers::dma_buf::access::dma_buf_debug_show;
use instrumented_drivers::dma_buf::ioctl::{DMA_BUF_SYNC_READ, DMA_BUF_SYNC_RW, DMA_BUF_SYNC_WRITE};
use instrumented_drivers::drm::prime::DRM_RDWR;
use instrumented_drivers::drm::vgem::VGEM_FENCE_TIMEOUT;
use instrumented_drivers::kernel::errno::Errno;
use instrumented_drivers::kernel::fault::{Plan, inject};
use instrumented_drivers::kernel::poll::{PollEvents, PollTimeout};
use instrumented_drivers::user::{Driver, Kernel, Process};

fn everywhere(f: impl Fn(&Kernel, &Process)) {
    for (policy, shmem) in sound() {
        clean(policy, shmem, &f);
    }
}

const BOTH: fn() -> PollEvents = || PollEvents::IN | PollEvents::OUT;

#[test]
fn a_reader_keeps_writers_out_and_a_writer_everybody() {
    everywhere(|_, process| {
        let (dev, handle, buffer) = export(process, Driver::Vgem).unwrap();
        assert_eq!(process.poll(buffer, BOTH()), Ok(BOTH()));
        let read = process.vgem_fence_attach(dev, handle, false).unwrap();
        assert_eq!(process.poll(buffer, BOTH()), Ok(PollEvents::IN));
        assert_eq!(process.vgem_fence_attach(dev, handle, true).unwrap_err(), Errno::EBUSY);
        process.vgem_fence_signal(dev, read).unwrap();
        assert_eq!(process.poll(buffer, BOTH()), Ok(BOTH()));
        let write = process.vgem_fence_attach(dev, handle, true).unwrap();
        assert_eq!(process.poll(buffer, BOTH()), Ok(PollEvents::NONE));
        assert_eq!(process.vgem_fence_attach(dev, handle, false).unwrap_err(), Errno::EBUSY);
        process.vgem_fence_signal(dev, write).unwrap();
        assert_eq!(process.poll(buffer, BOTH()), Ok(BOTH()));
        assert_eq!(process.vgem_fence_signal(dev, write).unwrap_err(), Errno::ENOENT);
    });
}

#[test]
fn a_fence_from_before_the_export_counts() {
    everywhere(|_, process| {
        let (dev, handle) = create(process, Driver::Vgem).unwrap();
        let write = process.vgem_fence_attach(dev, handle, true).unwrap();
        let buffer = process.prime_handle_to_fd(dev, handle, DRM_RDWR).unwrap();
        assert_eq!(process.poll(buffer, BOTH()), Ok(PollEvents::NONE));
        process.vgem_fence_signal(dev, write).unwrap();
        assert_eq!(process.poll(buffer, BOTH()), Ok(BOTH()));
    });
}

#[test]
fn the_timer_signals_what_the_program_forgets() {
    everywhere(|kernel, process| {
        let (dev, handle, buffer) = export(process, Driver::Vgem).unwrap();
        let fence = process.vgem_fence_attach(dev, handle, true).unwrap();
        kernel.pass_time(VGEM_FENCE_TIMEOUT / 2);
        assert_eq!(process.poll(buffer, BOTH()), Ok(PollEvents::NONE), "arms both callbacks");
        kernel.pass_time(VGEM_FENCE_TIMEOUT / 2);
        assert_eq!(process.poll(buffer, BOTH()), Ok(BOTH()));
        assert_eq!(process.vgem_fence_signal(dev, fence).unwrap_err(), Errno::ETIMEDOUT);
        // A fence that is left behind is signalled when the file is closed.
        process.vgem_fence_attach(dev, handle, true).unwrap();
        process.close(dev).unwrap();
        assert_eq!(process.poll(buffer, BOTH()), Ok(BOTH()));
    });
}

#[test]
fn the_lists_of_fences_and_timelines_change_under_their_locks() {
    if !lockdep::ENABLED {
        return;
    }
    let of_a_file = takers("&vfile->fence_mutex", |process| {
        let (dev, handle) = create(process, Driver::Vgem)?;
        let fence = process.vgem_fence_attach(dev, handle, true)?;
        process.vgem_fence_signal(dev, fence)
    });
    assert_eq!(of_a_file, ["vgem_fence_attach_ioctl", "vgem_fence_signal_ioctl"]);
    let of_all = takers("sync_timeline_list_lock", |process| process.sw_sync_open().map(drop));
    assert_eq!(of_all, ["sync_timeline_debug_add"]);
}

#[test]
fn a_blocking_poll_wakes_up_when_the_fence_signals() {
    everywhere(|_, process| {
        let (dev, handle, buffer) = export(process, Driver::Vgem).unwrap();
        let fence = process.vgem_fence_attach(dev, handle, true).unwrap();
        let waiter =
            process.spawn(move |task| task.poll_with(buffer, PollEvents::IN, PollTimeout::Forever)).unwrap();
        process.vgem_fence_signal(dev, fence).unwrap();
        assert_eq!(waiter.wait(), Ok(PollEvents::IN));
        let fence = process.vgem_fence_attach(dev, handle, true).unwrap();
        let interrupted = process.poll_with(buffer, PollEvents::IN, PollTimeout::Signal);
        assert_eq!(interrupted, Err(Errno::EINTR));
        process.vgem_fence_signal(dev, fence).unwrap();
    });
}

#[test]
fn cpu_access_waits_for_the_device() {
    everywhere(|_, process| {
        let (dev, handle, buffer) = export(process, Driver::Vgem).unwrap();
        let fence = process.vgem_fence_attach(dev, handle, true).unwrap();
        let (interrupted, _) = inject(Plan::interrupt(1), || process.sync_start(buffer, DMA_BUF_SYNC_RW));
        assert_eq!(interrupted, Err(Errno::EINTR));
        let reader = process.spawn(move |task| {
            task.sync_start(buffer, DMA_BUF_SYNC_READ).unwrap();
            task.sync_end(buffer, DMA_BUF_SYNC_READ).unwrap();
        });
        process.vgem_fence_signal(dev, fence).unwrap();
        reader.unwrap().wait();
    });
}

#[test]
fn a_sync_file_is_a_snapshot_of_the_fences() {
    everywhere(|_, process| {
        let (dev, handle, buffer) = export(process, Driver::Vgem).unwrap();
        let idle = process.export_sync_file(buffer, DMA_BUF_SYNC_RW).unwrap();
        let first = process.vgem_fence_attach(dev, handle, false).unwrap();
        let second = process.vgem_fence_attach(dev, handle, false).unwrap();
        let for_reading = process.export_sync_file(buffer, DMA_BUF_SYNC_READ).unwrap();
        let for_writing = process.export_sync_file(buffer, DMA_BUF_SYNC_WRITE).unwrap();
        let ready = |fd| process.poll(fd, PollEvents::IN).unwrap() == PollEvents::IN;
        assert!(ready(idle) && ready(for_reading) && !ready(for_writing));
        process.vgem_fence_signal(dev, first).unwrap();
        assert!(!ready(for_writing), "both readers have to go");
        let third = process.vgem_fence_attach(dev, handle, false).unwrap();
        process.vgem_fence_signal(dev, second).unwrap();
        assert!(ready(for_writing), "the third came later");
        process.vgem_fence_signal(dev, third).unwrap();
        assert_eq!(process.export_sync_file(buffer, 0).unwrap_err(), Errno::EINVAL);
    });
}

#[test]
fn an_imported_fence_keeps_another_buffer_busy() {
    everywhere(|_, process| {
        let (dev, handle, buffer) = export(process, Driver::Vgem).unwrap();
        let (_, _, other) = export(process, Driver::Vkms).unwrap();
        let fences = [false, false].map(|write| process.vgem_fence_attach(dev, handle, write).unwrap());
        let sync_file = process.export_sync_file(buffer, DMA_BUF_SYNC_WRITE).unwrap();
        process.import_sync_file(other, DMA_BUF_SYNC_WRITE, sync_file).unwrap();
        assert_eq!(process.poll(other, BOTH()), Ok(PollEvents::NONE));
        process.vgem_fence_signal(dev, fences[0]).unwrap();
        assert_eq!(process.poll(other, BOTH()), Ok(PollEvents::NONE));
        process.vgem_fence_signal(dev, fences[1]).unwrap();
        assert_eq!(process.poll(other, BOTH()), Ok(BOTH()));
        assert_eq!(process.import_sync_file(other, DMA_BUF_SYNC_WRITE, buffer).unwrap_err(), Errno::EINVAL);
        assert_eq!(process.import_sync_file(other, 8, sync_file).unwrap_err(), Errno::EINVAL);
    });
}

#[test]
fn an_armed_poll_keeps_the_buffer_until_the_fence_signals() {
    everywhere(|kernel, process| {
        let (dev, handle, buffer) = export(process, Driver::Vgem).unwrap();
        let fence = process.vgem_fence_attach(dev, handle, true).unwrap();
        assert_eq!(process.poll(buffer, PollEvents::IN), Ok(PollEvents::NONE));
        process.close(buffer).unwrap();
        process.gem_close(dev, handle).unwrap();
        assert_eq!(kernel.live().count("dma_buf"), 1);
        process.vgem_fence_signal(dev, fence).unwrap();
        assert_eq!(kernel.live().count("dma_buf"), 0);
    });
}

#[test]
fn debugfs_shows_every_buffer_with_its_name() {
    everywhere(|kernel, process| {
        let (_, _, buffer) = export(process, Driver::Vgem).unwrap();
        process.set_name(buffer, "framebuffer").unwrap();
        let text = kernel.kthread(|core| dma_buf_debug_show(core)).unwrap();
        assert!(text.contains("vgem") && text.contains("framebuffer"), "{text}");
        for n in 1..=2 {
            let (result, _) = inject(Plan::interrupt(n), || kernel.kthread(|core| dma_buf_debug_show(core)));
            assert_eq!(result, Err(Errno::EINTR), "interruptible wait {n}");
        }
    });
}
