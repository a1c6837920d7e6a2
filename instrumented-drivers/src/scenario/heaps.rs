// SPDX-License-Identifier: GPL-2.0-only
//! Buffers without a device: dma-buf heaps and udmabuf. The recorded programs, and the kernel's own tests of them.
#![forbid(unsafe_code)]

use super::program::{import, poll, use_buffer};
use super::world::{BYTES, Failure, Outcome, PAGE, World, expect_eq, expect_error};
use super::{Expects, Scenario};
use crate::dma_buf::DmaBuf;
use crate::dma_buf::heaps::attached_syncs;
use crate::dma_buf::ioctl::DMA_BUF_SYNC_RW;
use crate::dma_buf::udmabuf::UdmabufItem;
use crate::kernel::errno::Errno;
use crate::kernel::file::Fd;
use crate::kernel::memfd::Seals;
use crate::kernel::mm::{MapFlags, Signal};
use crate::media::videobuf2::Memory;
use crate::policy::LockingPolicy;
use crate::user::{Driver, QueueBuffer};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "heap",
        name: "oracle@heap",
        about: "allocate from the system heap, map, poll, name",
        expects: Expects::Clean,
        program: |world| alone(world, Driver::SystemHeap),
    },
    Scenario {
        id: "udmabuf",
        name: "oracle@udmabuf",
        about: "make a buffer of a memfd, map, poll, name",
        expects: Expects::Clean,
        program: |world| alone(world, Driver::Udmabuf),
    },
    Scenario {
        id: "importer_heap",
        name: "oracle@importer_heap",
        about: "map a heap's buffer through a driver whose mmap forwards to dma_buf_mmap()",
        expects: Expects::Clean,
        program: |world| forwarded(world, Driver::SystemHeap),
    },
    Scenario {
        id: "importer_udmabuf",
        name: "oracle@importer_udmabuf",
        about: "map a udmabuf through a driver whose mmap forwards to dma_buf_mmap()",
        expects: Expects::Clean,
        program: |world| forwarded(world, Driver::Udmabuf),
    },
    Scenario {
        id: "heap_into_vgem",
        name: "oracle@heap_into_vgem",
        about: "import a heap's buffer into vgem, export it again, map both descriptors",
        expects: Expects::Clean,
        program: |world| import(world, Driver::Vgem, world.allocate(Driver::SystemHeap)?),
    },
    Scenario {
        id: "udmabuf_into_vgem",
        name: "oracle@udmabuf_into_vgem",
        about: "import a udmabuf into vgem, export it again, map both descriptors",
        expects: Expects::Clean,
        program: |world| import(world, Driver::Vgem, world.allocate(Driver::Udmabuf)?),
    },
    Scenario {
        id: "vivid_dmabuf_heap",
        name: "oracle@vivid_dmabuf_heap",
        about: "a camera takes pictures into buffers of the system heap",
        expects: Expects::Clean,
        program: |world| stream_into(world, Driver::SystemHeap),
    },
    Scenario {
        id: "vivid_dmabuf_udmabuf",
        name: "oracle@vivid_dmabuf_udmabuf",
        about: "a camera takes pictures into memory of the program",
        expects: Expects::Clean,
        program: |world| stream_into(world, Driver::Udmabuf),
    },
    Scenario {
        id: "H1",
        name: "dmabuf-heap@test_alloc_and_import",
        about: "allocate from each heap, import into vgem; access by the CPU makes the view of the device current",
        expects: Expects::Clean,
        program: alloc_and_import,
    },
    Scenario {
        id: "H2",
        name: "dmabuf-heap@test_alloc_zeroed",
        about: "new memory is zero though the old one was not; no buffer of size 0",
        expects: Expects::Clean,
        program: alloc_zeroed_and_errors,
    },
    Scenario {
        id: "U1",
        name: "udmabuf@1-6",
        about: "what is not aligned, not sealed, no memfd or past the end is refused; a buffer of two memfds",
        expects: Expects::Clean,
        program: udmabuf_tests,
    },
];

/// What the scenarios of such buffers do.
impl World {
    /// A buffer of [`BYTES`] from a heap, of a memfd or of a signal processor.
    pub(super) fn allocate(&self, from: Driver) -> Outcome<Fd> {
        let init = &self.init;
        let device = init.open(from)?;
        let size = usize::try_from(BYTES).unwrap_or_default();
        let buffer = match from {
            Driver::Udmabuf => {
                let memfd = self.sealed_memfd()?;
                let buffer = init.udmabuf_create(device, &[UdmabufItem { memfd, offset: 0, size }]);
                init.close(memfd)?;
                buffer?
            }
            Driver::Fastrpc => init.fastrpc_alloc_dma_buf(device, size)?,
            _ => init.dma_heap_alloc(device, size)?,
        };
        init.close(device)?;
        Ok(buffer)
    }

    fn sealed_memfd(&self) -> Outcome<Fd> {
        let memfd = self.init.memfd_create(usize::try_from(BYTES).unwrap_or_default())?;
        self.init.add_seals(memfd, Seals::SHRINK)?;
        Ok(memfd)
    }
}

fn alone(world: &World, from: Driver) -> Outcome {
    let buffer = world.allocate(from)?;
    use_buffer(world, buffer, 0, true)?;
    poll(world, buffer)?;
    Ok(world.init.close(buffer)?)
}

fn forwarded(world: &World, from: Driver) -> Outcome {
    let init = &world.init;
    let buffer = world.allocate(from)?;
    let importer = init.open(Driver::Importer)?;
    init.importer_set_buffer(importer, buffer)?;
    init.close(buffer)?;
    use_buffer(world, importer, 0, false)?;
    let last = world.kernel.mmap_log().pop().map(|entry| (entry.path, entry.resv_held));
    let p1 = world.setup.policy == LockingPolicy::P1;
    expect_eq("the way, and the lock", last, Some(("dma_buf_mmap", p1)))?;
    Ok(init.close(importer)?)
}

fn stream_into(world: &World, from: Driver) -> Outcome {
    let init = &world.init;
    let camera = world.camera(Driver::VividVmalloc, 3, Memory::DmaBuf)?;
    init.set_nonblock(camera, true)?;
    let mut buffers = Vec::new();
    for index in 0..3 {
        let buffer = world.allocate(from)?;
        init.qbuf(camera, &QueueBuffer::dmabuf(index, &[buffer]))?;
        buffers.push(buffer);
    }
    init.streamon(camera)?;
    // The first frame was there before the program looked.
    init.camera_wait(camera, 1)?;
    for sequence in 0..2 {
        let frame = world.next_frame(camera)?;
        expect_eq("the buffer", (frame.index, frame.sequence), (sequence as usize, sequence))?;
    }
    // The third is still queued.
    use_buffer(world, buffers[2], 0, true)?;
    init.streamoff(camera)?;
    init.close(camera)?;
    let taken = world.map(buffers[1], 0)?;
    world.check_frame(taken, 1)?;
    init.munmap(taken, BYTES)?;
    buffers.into_iter().try_for_each(|buffer| Ok(init.close(buffer)?))
}

fn alloc_and_import(world: &World) -> Outcome {
    let init = &world.init;
    for from in [Driver::SystemHeap, Driver::CmaHeap] {
        let buffer = world.allocate(from)?;
        let address = world.map(buffer, 0)?;
        let write = |value| -> Outcome {
            init.sync_start(buffer, DMA_BUF_SYNC_RW)?;
            world.fill(address, value)?;
            Ok(init.sync_end(buffer, DMA_BUF_SYNC_RW)?)
        };
        write(1)?;
        let vgem = init.open(Driver::Vgem)?;
        let handle = init.prime_fd_to_handle(vgem, buffer)?;
        let syncs = || {
            let buf = DmaBuf::of(&init.peek(buffer)?).ok_or_else(|| Failure::new("not a dma-buf"))?;
            Ok::<_, Failure>(attached_syncs(&buf))
        };
        expect_eq("attached just now", syncs()?, Some(vec![0]))?;
        write(2)?;
        expect_eq("one at each end", syncs()?, Some(vec![2]))?;
        let offset = init.driver_map_offset(vgem, handle)?;
        let through_vgem = world.map(vgem, offset)?;
        world.check(through_vgem, 2)?;
        world.fill(through_vgem, 3)?;
        init.munmap(through_vgem, BYTES)?;
        init.gem_close(vgem, handle)?;
        expect_eq("detached", syncs()?, Some(vec![]))?;
        init.close(vgem)?;
        init.close(buffer)?;
        world.check(address, 3)?;
        // The second half goes first, as in the recorded programs.
        init.munmap(address + BYTES / 2, BYTES / 2)?;
        init.munmap(address, BYTES / 2)?;
    }
    Ok(())
}

fn alloc_zeroed_and_errors(world: &World) -> Outcome {
    let init = &world.init;
    for from in [Driver::SystemHeap, Driver::CmaHeap] {
        for round in 0..3 {
            let buffer = world.allocate(from)?;
            let address = world.map(buffer, 0)?;
            world.check(address, 0)?;
            world.fill(address, 0x10 + round)?;
            init.munmap(address, BYTES)?;
            init.close(buffer)?;
        }
        let heap = init.open(from)?;
        expect_error("no size", init.dma_heap_alloc(heap, 0), Errno::EINVAL)?;
        let small = init.dma_heap_alloc(heap, 1)?;
        expect_eq("a page", init.lseek_end(small)?, PAGE as u64)?;
        expect_error("too long", init.mmap(small, 2 * PAGE as u64, 0, MapFlags::SHARED), Errno::EINVAL)?;
        expect_error("another kind", init.dma_heap_alloc(small, 1), Errno::ENOTTY)?;
        init.close(small)?;
        init.close(heap)?;
    }
    Ok(())
}

fn udmabuf_tests(world: &World) -> Outcome {
    let init = &world.init;
    let device = init.open(Driver::Udmabuf)?;
    let create = |memfd, offset, size| init.udmabuf_create(device, &[UdmabufItem { memfd, offset, size }]);
    let unsealed = init.memfd_create(4 * PAGE)?;
    expect_error("not sealed", create(unsealed, 0, PAGE), Errno::EINVAL)?;
    let first = world.sealed_memfd()?;
    expect_error("offset", create(first, PAGE / 2, PAGE), Errno::EINVAL)?;
    expect_error("size", create(first, 0, PAGE / 2), Errno::EINVAL)?;
    expect_error("nothing", create(first, 0, 0), Errno::EINVAL)?;
    expect_error("past the end", create(first, PAGE, usize::try_from(BYTES).unwrap_or(PAGE)), Errno::EINVAL)?;
    expect_error("no memfd", create(device, 0, PAGE), Errno::EBADFD)?;
    expect_error("not open", create(Fd(-1), 0, PAGE), Errno::EBADFD)?;
    // Two pages of one memfd behind a page of another: all are the memfds' own.
    let second = world.sealed_memfd()?;
    let items = [
        UdmabufItem { memfd: second, offset: 3 * PAGE, size: PAGE },
        UdmabufItem { memfd: first, offset: 0, size: 2 * PAGE },
    ];
    let buffer = init.udmabuf_create(device, &items)?;
    let (page, len) = (PAGE as u64, 3 * PAGE as u64);
    let address = init.mmap(buffer, len, 0, MapFlags::SHARED)?;
    expect_error("private", init.mmap(buffer, len, 0, MapFlags::PRIVATE), Errno::EINVAL)?;
    let memory = [world.map(second, 0)?, world.map(first, 0)?];
    for (at, own) in [(0, memory[0] + 3 * page), (page, memory[1]), (2 * page, memory[1] + page)] {
        init.write_byte(own, 5)?;
        expect_eq("through the buffer", init.read_byte(address + at)?, 5)?;
        init.write_byte(address + at + 1, 6)?;
        expect_eq("through the memfd", init.read_byte(own + 1)?, 6)?;
    }
    expect_eq("past the end", init.read_byte(address + len), Err(Signal::Segv))?;
    init.munmap(address, len)?;
    for address in memory {
        init.munmap(address, BYTES)?;
    }
    [buffer, first, second, unsealed, device].into_iter().try_for_each(|fd| Ok(init.close(fd)?))
}
