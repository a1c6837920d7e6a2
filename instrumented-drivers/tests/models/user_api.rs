// SPDX-License-Identifier: GPL-2.0-only
//! What a program sees: data, errors, lifetimes. Every test runs under each sound combination of policy and regime.

use crate::common::{LEN, PAGE, clean, create, export, sound};
use instrumented_drivers::dma_buf::ioctl::{DMA_BUF_SYNC_END, DMA_BUF_SYNC_RW};
use instrumented_drivers::drm::file::Handle;
use instrumented_drivers::drm::prime::{DRM_CLOEXEC, DRM_RDWR};
use instrumented_drivers::kernel::errno::Errno;
use instrumented_drivers::kernel::file::Fd;
use instrumented_drivers::kernel::mm::{MapFlags, Signal};
use instrumented_drivers::user::{Driver, Kernel, Process};

fn everywhere(f: impl Fn(&Kernel, &Process)) {
    for (policy, shmem) in sound() {
        clean(policy, shmem, &f);
    }
}

const SHARED: MapFlags = MapFlags::SHARED;

#[test]
fn a_byte_written_through_one_mapping_is_read_through_every_other() {
    everywhere(|_, process| {
        let (dev, handle, buffer) = export(process, Driver::Vgem).unwrap();
        let offset = process.mode_map_dumb(dev, handle).unwrap();
        let through_device = process.mmap(dev, LEN, offset, SHARED).unwrap();
        let through_buffer = process.mmap(buffer, LEN, 0, SHARED).unwrap();
        let importer = process.open(Driver::Importer).unwrap();
        process.importer_set_buffer(importer, buffer).unwrap();
        let forwarded = process.mmap(importer, LEN, 0, SHARED).unwrap();
        let vkms = process.open(Driver::Vkms).unwrap();
        let imported = process.prime_fd_to_handle(vkms, buffer).unwrap();
        let offset = process.driver_map_offset(vkms, imported).unwrap();
        let through_import = process.mmap(vkms, LEN, offset, SHARED).unwrap();
        let views = [through_device, through_buffer, forwarded, through_import];
        for (n, &view) in (0u8..).zip(&views) {
            process.write_byte(view + 5 * PAGE + 7, 40 + n).unwrap();
            for &other in &views {
                assert_eq!(process.read_byte(other + 5 * PAGE + 7).unwrap(), 40 + n);
            }
        }
    });
}

#[test]
fn a_mapping_outlives_every_descriptor_and_handle() {
    everywhere(|kernel, process| {
        let (dev, handle, buffer) = export(process, Driver::Vgem).unwrap();
        let address = process.mmap(buffer, LEN, 0, SHARED).unwrap();
        process.write_byte(address, 1).unwrap();
        process.close(buffer).unwrap();
        process.gem_close(dev, handle).unwrap();
        process.close(dev).unwrap();
        assert_eq!(kernel.live().count("drm_gem_object"), 1);
        process.write_byte(address + PAGE, 2).unwrap();
        assert_eq!(process.read_byte(address).unwrap(), 1);
        assert_eq!(kernel.unload(Driver::Vgem).unwrap_err(), Errno::EBUSY);
        process.munmap(address, LEN).unwrap();
        assert_eq!(kernel.live().count("drm_gem_object"), 0, "the last mapping freed it");
        kernel.unload(Driver::Vgem).unwrap();
        assert_eq!(process.open(Driver::Vgem).unwrap_err(), Errno::ENODEV);
    });
}

#[test]
fn a_buffer_that_comes_back_has_the_handle_it_had() {
    everywhere(|_, process| {
        let (dev, handle, buffer) = export(process, Driver::Vgem).unwrap();
        assert_eq!(process.prime_fd_to_handle(dev, buffer).unwrap(), handle);
        let second = process.open(Driver::Vgem).unwrap();
        let theirs = process.prime_fd_to_handle(second, buffer).unwrap();
        assert_eq!(process.prime_fd_to_handle(second, buffer).unwrap(), theirs);
        process.close(buffer).unwrap();
        process.gem_close(dev, handle).unwrap();
        // The object lives in the other file; exported from there it is the same buffer again.
        let again = process.prime_handle_to_fd(second, theirs, DRM_RDWR).unwrap();
        assert_eq!(process.prime_fd_to_handle(second, again).unwrap(), theirs);
        let back = process.prime_fd_to_handle(dev, again).unwrap();
        let name = process.gem_flink(dev, back).unwrap();
        assert_eq!(process.gem_flink(second, theirs).unwrap(), name, "one object, one name");
        let opened = process.gem_open(second, name).unwrap();
        assert_ne!(opened, theirs, "a second handle");
        process.gem_close(second, opened).unwrap();
        assert_eq!(process.gem_open(dev, name + 1).unwrap_err(), Errno::ENOENT);
    });
}

#[test]
fn a_foreign_import_shares_the_buffer_and_keeps_it_alive() {
    everywhere(|kernel, process| {
        let (dev, handle, buffer) = export(process, Driver::Vgem).unwrap();
        let vkms = process.open(Driver::Vkms).unwrap();
        let imported = process.prime_fd_to_handle(vkms, buffer).unwrap();
        process.close(buffer).unwrap();
        process.gem_close(dev, handle).unwrap();
        process.close(dev).unwrap();
        assert_eq!(process.mode_map_dumb(vkms, imported).unwrap_err(), Errno::EINVAL, "not for imports");
        let again = process.prime_handle_to_fd(vkms, imported, DRM_RDWR | DRM_CLOEXEC).unwrap();
        let address = process.mmap(again, LEN, 0, SHARED).unwrap();
        process.write_byte(address, 9).unwrap();
        assert_eq!(process.lseek_end(again).unwrap(), LEN);
        assert_eq!(kernel.live().count("dma_buf_attachment"), 1);
        assert_eq!(kernel.live().count("dma_buf"), 1, "no buffer of a buffer");
    });
}

#[test]
fn errors_are_the_kernels_and_leave_nothing_behind() {
    everywhere(|_, process| {
        let (dev, handle, buffer) = export(process, Driver::Vgem).unwrap();
        let flags = [DRM_RDWR << 8, 1];
        for bad in flags {
            assert_eq!(process.prime_handle_to_fd(dev, handle, bad).unwrap_err(), Errno::EINVAL);
        }
        assert_eq!(process.prime_handle_to_fd(dev, Handle(77), DRM_RDWR).unwrap_err(), Errno::ENOENT);
        assert_eq!(process.prime_fd_to_handle(dev, dev).unwrap_err(), Errno::EINVAL, "no buffer");
        assert_eq!(process.prime_fd_to_handle(dev, Fd(99)).unwrap_err(), Errno::EBADF);
        assert_eq!(process.gem_close(dev, Handle(77)).unwrap_err(), Errno::EINVAL);
        assert_eq!(process.gem_close(buffer, handle).unwrap_err(), Errno::ENOTTY);
        assert_eq!(process.mmap(buffer, 2 * LEN, 0, SHARED).unwrap_err(), Errno::EINVAL);
        assert_eq!(process.mmap(buffer, LEN, PAGE, SHARED).unwrap_err(), Errno::EINVAL);
        assert_eq!(process.mmap(buffer, PAGE, u64::MAX / PAGE * PAGE, SHARED).unwrap_err(), Errno::EINVAL);
        assert_eq!(process.mmap(buffer, 0, 0, SHARED).unwrap_err(), Errno::EINVAL);
        assert_eq!(process.mmap(buffer, PAGE, 1, SHARED).unwrap_err(), Errno::EINVAL);
        assert_eq!(
            process.mmap(buffer, LEN, 0, MapFlags::PRIVATE).unwrap_err(),
            Errno::EINVAL,
            "copy on write"
        );
        assert_eq!(process.mmap(dev, LEN, 0, SHARED).unwrap_err(), Errno::EINVAL, "no object there");
        let stranger = process.open(Driver::Vgem).unwrap();
        let offset = process.mode_map_dumb(dev, handle).unwrap();
        assert_eq!(process.mmap(stranger, LEN, offset, SHARED).unwrap_err(), Errno::EACCES);
        let importer = process.open(Driver::Importer).unwrap();
        assert_eq!(process.mmap(importer, LEN, 0, SHARED).unwrap_err(), Errno::ENODEV, "no buffer set");
        process.importer_set_buffer(importer, buffer).unwrap();
        assert_eq!(process.mmap(importer, 2 * LEN, 0, SHARED).unwrap_err(), Errno::EINVAL);
        assert_eq!(process.sync(buffer, 0).unwrap_err(), Errno::EINVAL);
        assert_eq!(process.sync(buffer, DMA_BUF_SYNC_RW | 8).unwrap_err(), Errno::EINVAL);
        assert_eq!(process.sync(dev, DMA_BUF_SYNC_RW | DMA_BUF_SYNC_END).unwrap_err(), Errno::ENOTTY);
        process.close(buffer).unwrap();
        assert_eq!(process.mmap(buffer, LEN, 0, SHARED).unwrap_err(), Errno::EBADF);
        process.gem_close(dev, handle).unwrap();
        assert_eq!(process.prime_handle_to_fd(dev, handle, DRM_RDWR).unwrap_err(), Errno::ENOENT);
        assert_eq!(process.mode_create_dumb(dev, 0, 4, 32).unwrap_err(), Errno::EINVAL);
    });
}

#[test]
fn a_read_only_export_cannot_be_mapped_for_writing() {
    everywhere(|_, process| {
        let (dev, handle) = create(process, Driver::Vgem).unwrap();
        let buffer = process.prime_handle_to_fd(dev, handle, 0).unwrap();
        assert_eq!(process.mmap(buffer, LEN, 0, SHARED).unwrap_err(), Errno::EACCES);
        let address = process.mmap(buffer, LEN, 0, MapFlags::SHARED_READ).unwrap();
        assert_eq!(process.read_byte(address), Ok(0));
        assert_eq!(process.write_byte(address, 1), Err(Signal::Segv));
    });
}

#[test]
fn parts_of_a_mapping_go_one_by_one() {
    everywhere(|kernel, process| {
        let (_, _, buffer) = export(process, Driver::Vgem).unwrap();
        let address = process.mmap(buffer, LEN, 0, SHARED).unwrap();
        let at = |page: u64| address + page * PAGE;
        for page in [0, 10, 20, 63] {
            process.write_byte(at(page), u8::try_from(page).unwrap() + 1).unwrap();
        }
        // A hole in the middle: two pieces stay.
        process.munmap(at(10), 5 * PAGE).unwrap();
        assert_eq!(kernel.live().count("vma"), 2);
        assert_eq!(process.read_byte(at(10)), Err(Signal::Segv));
        assert_eq!(process.read_byte(at(14)), Err(Signal::Segv));
        assert_eq!(process.mapped_pages(), 3);
        // Faulted in again where nothing was: the second piece still knows its place in the file.
        assert_eq!(process.read_byte(at(15)), Ok(0));
        let whole = process.mmap(buffer, LEN, 0, SHARED).unwrap();
        process.write_byte(whole + 16 * PAGE, 99).unwrap();
        assert_eq!(process.read_byte(at(16)), Ok(99));
        assert_eq!(process.read_byte(at(20)), Ok(21));
        // Over the hole and both ends.
        process.munmap(at(5), 20 * PAGE).unwrap();
        assert_eq!(process.read_byte(at(63)), Ok(64));
        assert_eq!(process.read_byte(at(0)), Ok(1));
        assert_eq!(process.munmap(address + 1, PAGE).unwrap_err(), Errno::EINVAL);
        assert_eq!(process.munmap(address, 0).unwrap_err(), Errno::EINVAL);
        process.munmap(address, LEN).unwrap();
        process.munmap(address, LEN).unwrap();
        assert_eq!(kernel.live().count("vma"), 1);
        assert_eq!(process.read_byte(whole + LEN), Err(Signal::Segv), "past the end");
    });
}

#[test]
fn a_child_shares_the_mapping_and_has_descriptors_of_its_own() {
    everywhere(|kernel, process| {
        let (_, _, buffer) = export(process, Driver::Vgem).unwrap();
        let address = process.mmap(buffer, LEN, 0, SHARED).unwrap();
        process.write_byte(address, 1).unwrap();
        let child = process.fork(move |child| {
            // No fault for what the parent had touched.
            assert_eq!(child.mapped_pages(), 1);
            assert_eq!(child.read_byte(address), Ok(1));
            child.write_byte(address + PAGE, 2).unwrap();
            child.close(buffer).unwrap();
            child.munmap(address, PAGE).unwrap();
        });
        child.unwrap().wait();
        assert_eq!(process.read_byte(address + PAGE), Ok(2));
        assert_eq!(process.lseek_end(buffer), Ok(LEN), "still open here");
        assert_eq!((kernel.live().count("mm"), kernel.live().count("vma")), (1, 1));
    });
}

#[test]
fn duplicates_and_descriptors_in_other_processes_are_the_same_buffer() {
    everywhere(|kernel, process| {
        let (dev, handle, buffer) = export(process, Driver::Vgem).unwrap();
        let copy = process.dup(buffer).unwrap();
        process.close(buffer).unwrap();
        assert_eq!(process.prime_fd_to_handle(dev, copy).unwrap(), handle);
        let other = kernel.process("other");
        let theirs = process.send_fd(copy, &other).unwrap();
        let address = other.mmap(theirs, LEN, 0, SHARED).unwrap();
        other.write_byte(address, 3).unwrap();
        let ours = process.mmap(copy, LEN, 0, SHARED).unwrap();
        assert_eq!(process.read_byte(ours), Ok(3));
        other.exit();
    });
}

#[test]
fn what_is_not_a_seekable_or_a_buffer_says_so() {
    everywhere(|_, process| {
        let (dev, _, buffer) = export(process, Driver::Vgem).unwrap();
        assert_eq!(process.lseek_end(dev).unwrap_err(), Errno::ESPIPE);
        assert_eq!(process.lseek_end(buffer), Ok(LEN));
        assert_eq!(process.importer_set_buffer(dev, buffer).unwrap_err(), Errno::ENOTTY);
        assert_eq!(process.close(Fd(1000)).unwrap_err(), Errno::EBADF);
    });
}
