// SPDX-License-Identifier: GPL-2.0-only
//! Cameras: the recorded programs, and what a compliance test does to a queue.
#![forbid(unsafe_code)]

use super::world::{BYTES, Failure, Outcome, World, expect_eq, expect_error};
use super::{Expects, Scenario};
use crate::dma_buf::DmaBuf;
use crate::dma_buf::ioctl::DMA_BUF_SYNC_RW;
use crate::kernel::errno::Errno;
use crate::kernel::file::Fd;
use crate::kernel::mm::MapFlags;
use crate::kernel::poll::{PollEvents, PollTimeout};
use crate::media::videobuf2::core::BufferInfo;
use crate::media::videobuf2::dma_sg::cpu_syncs;
use crate::media::videobuf2::{Memory, PlaneMemory};
use crate::media::vivid::test_pattern;
use crate::policy::LockingPolicy;
use crate::user::{Driver, Process, QueueBuffer};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "vivid_mmap",
        name: "oracle@vivid_mmap",
        about: "map and export the buffers of a camera, import them into vgem, then stream",
        expects: Expects::Clean,
        program: vivid_mmap,
    },
    Scenario {
        id: "W1",
        name: "v4l2-compliance@buffers",
        about: "the life of a queue with each kind of memory and each allocator, and what is refused on the way",
        expects: Expects::Clean,
        program: compliance,
    },
    Scenario {
        id: "W2",
        name: "v4l2-compliance@dmabuf",
        about: "one queue exports, another streams into it; another buffer in the same place detaches the first",
        expects: Expects::Clean,
        program: queue_to_queue,
    },
    Scenario {
        id: "W3",
        name: "vb2@expbuf-mmap",
        about: "map an exported buffer: the reservation lock is held in P1 and asserted, and not in the others",
        expects: Expects::Clean,
        program: expbuf_mmap,
    },
    Scenario {
        id: "W4",
        name: "vb2@mmap-vs-userptr",
        about: "one thread maps buffers while another queues its own memory",
        expects: Expects::Clean,
        program: mmap_vs_userptr,
    },
    Scenario {
        id: "W5",
        name: "vb2@dqbuf-vs-streamoff",
        about: "a thread sleeps in DQBUF without the queue's lock; another feeds the queue, or ends the stream",
        expects: Expects::Clean,
        program: dqbuf_vs_streamoff,
    },
    Scenario {
        id: "W6",
        name: "vb2@orphans",
        about: "a queue gives up its buffers while they are mapped and exported: they live until the last user is gone",
        expects: Expects::Clean,
        program: orphans,
    },
    Scenario {
        id: "W7",
        name: "vb2@cpu-access",
        about: "SYNC on an exported buffer of scattered pages: the exporter is called with nothing held",
        expects: Expects::Clean,
        program: cpu_access,
    },
    Scenario {
        id: "W8",
        name: "vb2@vgem",
        about: "a camera's buffer is imported into vgem and mapped there; a camera takes pictures into vgem buffers",
        expects: Expects::Pins,
        program: camera_and_vgem,
    },
    Scenario {
        id: "W8v",
        name: "vb2@vgem-vmap",
        about: "a camera without DMA takes pictures into vgem buffers, mapped for the kernel",
        expects: Expects::Vmaps,
        program: camera_vmaps_vgem,
    },
];

/// Bytes of a frame, and of the memory it is in.
const FRAME: usize = 160 * 90 * 2;
pub(super) const MEMORY: u64 = 32768;

/// What the scenarios of cameras do.
impl World {
    pub(super) fn camera(&self, driver: Driver, buffers: usize, memory: Memory) -> Outcome<Fd> {
        let camera = self.init.open(driver)?;
        expect_eq("REQBUFS", self.init.reqbufs(camera, buffers, memory)?, buffers)?;
        Ok(camera)
    }

    /// A camera with another allocator, with buffers to map and export.
    fn camera_besides(&self, driver: Driver, buffers: usize) -> Outcome<Fd> {
        let other = if driver == Driver::VividVmalloc { Driver::VividDmaSg } else { Driver::VividVmalloc };
        self.camera(other, buffers, Memory::Mmap)
    }

    /// Where a buffer of the queue is in the camera's file.
    pub(super) fn frame_offset(&self, camera: Fd, index: usize) -> Outcome<u64> {
        match self.init.querybuf(camera, index)?.planes[0].memory {
            PlaneMemory::Offset(offset) => Ok(offset),
            _ => Err(Failure::new("not a buffer that the queue has allocated")),
        }
    }

    fn map_frame(&self, camera: Fd, index: usize) -> Outcome<u64> {
        let offset = self.frame_offset(camera, index)?;
        Ok(self.init.mmap(camera, MEMORY, offset, MapFlags::SHARED)?)
    }

    fn qbuf_mmap(&self, camera: Fd, index: usize) -> Outcome {
        Ok(self.init.qbuf(camera, &QueueBuffer::mmap(index))?)
    }

    /// Sleeps until a frame is there, takes it out.
    pub(super) fn next_frame(&self, camera: Fd) -> Outcome<BufferInfo> {
        let ready = self.init.poll_with(camera, PollEvents::IN, PollTimeout::Forever)?;
        expect_eq("poll", ready, PollEvents::IN)?;
        Ok(self.init.dqbuf(camera)?)
    }

    /// [`check_frame`], in the scenario's process.
    pub(super) fn check_frame(&self, address: u64, sequence: u32) -> Outcome {
        check_frame(&self.init, address, sequence)
    }
}

/// Fails unless this frame of the camera is there; many bytes of each page, and the last one.
pub(super) fn check_frame(process: &Process, address: u64, sequence: u32) -> Outcome {
    for at in (0..FRAME).step_by(61).chain([FRAME - 1]) {
        let byte = process.read_byte(address + at as u64)?;
        expect_eq("a byte of the frame", byte, test_pattern(sequence, 0, at))?;
    }
    Ok(())
}

fn vivid_mmap(world: &World) -> Outcome {
    let init = &world.init;
    let camera = world.camera(Driver::VividVmalloc, 3, Memory::Mmap)?;
    init.set_nonblock(camera, true)?;
    for index in 0..3 {
        let address = world.map_frame(camera, index)?;
        init.write_byte(address, 1)?;
        let buffer = init.expbuf(camera, index, 0)?;
        let exported = init.mmap(buffer, MEMORY, 0, MapFlags::SHARED)?;
        init.sync_start(buffer, DMA_BUF_SYNC_RW)?;
        init.write_byte(exported, 2)?;
        init.sync_end(buffer, DMA_BUF_SYNC_RW)?;
        expect_eq("the byte through the other mapping", init.read_byte(address)?, 2)?;
        init.munmap(exported, MEMORY)?;
        let vgem = init.open(Driver::Vgem)?;
        let handle = init.prime_fd_to_handle(vgem, buffer)?;
        init.gem_close(vgem, handle)?;
        init.close(vgem)?;
        init.close(buffer)?;
        world.qbuf_mmap(camera, index)?;
        init.munmap(address, MEMORY)?;
    }
    init.streamon(camera)?;
    // The first frame was there before the program looked.
    init.camera_wait(camera, 1)?;
    for sequence in 0..4 {
        let frame = world.next_frame(camera)?;
        expect_eq("the frame", frame.sequence, sequence)?;
        world.qbuf_mmap(camera, frame.index)?;
    }
    init.streamoff(camera)?;
    Ok(init.close(camera)?)
}

/// Memory of the program's own for `count` frames: where it is.
fn own_memory(world: &World, count: u64) -> Outcome<u64> {
    let memory = world.init.memfd_create((count * MEMORY) as usize)?;
    let address = world.init.mmap(memory, count * MEMORY, 0, MapFlags::SHARED)?;
    world.init.close(memory)?;
    Ok(address)
}

fn compliance(world: &World) -> Outcome {
    for driver in Driver::CAMERAS {
        with_own_buffers(world, driver)?;
        with_user_memory(world, driver)?;
        with_dma_bufs(world, driver)?;
    }
    Ok(())
}

/// REQBUFS, QUERYBUF, mmap, QBUF, STREAMON, DQBUF, STREAMOFF, munmap, REQBUFS(0).
fn with_own_buffers(world: &World, driver: Driver) -> Outcome {
    let init = &world.init;
    let camera = world.camera(driver, 3, Memory::Mmap)?;
    let mapped = (0..3).map(|index| world.map_frame(camera, index)).collect::<Outcome<Vec<u64>>>()?;
    (0..3).try_for_each(|index| world.qbuf_mmap(camera, index))?;
    expect_error("queued twice", init.qbuf(camera, &QueueBuffer::mmap(1)), Errno::EINVAL)?;
    init.streamon(camera)?;
    expect_error("REQBUFS", init.reqbufs(camera, 1, Memory::Mmap), Errno::EBUSY)?;
    for sequence in 0..5 {
        let frame = world.next_frame(camera)?;
        world.check_frame(mapped[frame.index], sequence)?;
        world.qbuf_mmap(camera, frame.index)?;
    }
    init.streamoff(camera)?;
    mapped.into_iter().try_for_each(|address| init.munmap(address, MEMORY))?;
    expect_eq("REQBUFS(0)", init.reqbufs(camera, 0, Memory::Mmap)?, 0)?;
    expect_error("QUERYBUF", init.querybuf(camera, 0), Errno::EINVAL)?;
    Ok(init.close(camera)?)
}

fn with_user_memory(world: &World, driver: Driver) -> Outcome {
    let init = &world.init;
    let camera = world.camera(driver, 2, Memory::UserPtr)?;
    let address = own_memory(world, 2)?;
    let buffer = |index: usize, at: u64, len: usize| QueueBuffer::userptr(index, &[(at, len)]);
    let qbuf = |index, at, len| init.qbuf(camera, &buffer(index, at, len));
    expect_error("too short", qbuf(0, address, FRAME - 1), Errno::EINVAL)?;
    expect_error("not mapped", qbuf(0, 4096, FRAME), Errno::EFAULT)?;
    expect_error("half mapped", qbuf(0, address + MEMORY + MEMORY / 2, FRAME), Errno::EFAULT)?;
    qbuf(0, address, MEMORY as usize)?;
    qbuf(1, address + MEMORY, MEMORY as usize)?;
    init.streamon(camera)?;
    for sequence in 0..4u64 {
        let frame = world.next_frame(camera)?;
        let at = address + sequence % 2 * MEMORY;
        expect_eq("the address", frame.planes[0].memory, PlaneMemory::UserPtr(at))?;
        world.check_frame(at, frame.sequence)?;
        qbuf(frame.index, at, MEMORY as usize)?;
    }
    init.streamoff(camera)?;
    // The other half in the same buffer: the first is unpinned. Then the memory goes away under the queue.
    qbuf(0, address + MEMORY, FRAME)?;
    init.munmap(address, 2 * MEMORY)?;
    init.streamon(camera)?;
    world.next_frame(camera)?;
    init.streamoff(camera)?;
    expect_eq("REQBUFS(0)", init.reqbufs(camera, 0, Memory::UserPtr)?, 0)?;
    Ok(init.close(camera)?)
}

fn with_dma_bufs(world: &World, driver: Driver) -> Outcome {
    let init = &world.init;
    let exporter = world.camera_besides(driver, 2)?;
    let buffers = [init.expbuf(exporter, 0, 0)?, init.expbuf(exporter, 1, 0)?];
    let camera = world.camera(driver, 2, Memory::DmaBuf)?;
    let qbuf = |index: usize, fd| init.qbuf(camera, &QueueBuffer::dmabuf(index, &[fd]));
    expect_error("not a buffer", qbuf(0, camera), Errno::EINVAL)?;
    expect_error("not open", qbuf(0, Fd(99)), Errno::EINVAL)?;
    expect_error("mmap", init.mmap(camera, MEMORY, 0, MapFlags::SHARED), Errno::EINVAL)?;
    expect_error("EXPBUF", init.expbuf(camera, 0, 0), Errno::EINVAL)?;
    let mapped = [world.map_frame(exporter, 0)?, world.map_frame(exporter, 1)?];
    qbuf(0, buffers[0])?;
    qbuf(1, buffers[1])?;
    init.streamon(camera)?;
    for sequence in 0..4 {
        let frame = world.next_frame(camera)?;
        expect_eq("the buffer", frame.planes[0].memory, PlaneMemory::Fd(buffers[frame.index]))?;
        world.check_frame(mapped[frame.index], sequence)?;
        qbuf(frame.index, buffers[frame.index])?;
    }
    init.streamoff(camera)?;
    for fd in [buffers[0], buffers[1], camera, exporter] {
        init.close(fd)?;
    }
    mapped.into_iter().try_for_each(|address| Ok(init.munmap(address, MEMORY)?))
}

/// The dma-buf behind a descriptor.
fn peek(world: &World, fd: Fd) -> Outcome<DmaBuf> {
    DmaBuf::of(&world.init.peek(fd)?).ok_or_else(|| Failure::new("not a dma-buf"))
}

fn queue_to_queue(world: &World) -> Outcome {
    let init = &world.init;
    for (from, to) in [
        (Driver::VividVmalloc, Driver::VividDmaSg),
        (Driver::VividDmaSg, Driver::VividDmaContig),
        (Driver::VividDmaContig, Driver::VividVmalloc),
    ] {
        let exporter = world.camera(from, 2, Memory::Mmap)?;
        let camera = world.camera(to, 2, Memory::DmaBuf)?;
        let buffers = [init.expbuf(exporter, 0, 0)?, init.expbuf(exporter, 1, 0)?];
        let attached = || -> Outcome<[usize; 2]> {
            Ok([peek(world, buffers[0])?.attachments(), peek(world, buffers[1])?.attachments()])
        };
        // The CPU needs no attachment.
        let one = usize::from(to != Driver::VividVmalloc);
        let mapped = [world.map_frame(exporter, 0)?, world.map_frame(exporter, 1)?];
        init.qbuf(camera, &QueueBuffer::dmabuf(0, &[buffers[0]]))?;
        expect_eq("attachments", attached()?, [one, 0])?;
        init.streamon(camera)?;
        expect_eq("the frame", world.next_frame(camera)?.sequence, 0)?;
        world.check_frame(mapped[0], 0)?;
        // The same again is attached already; another one takes its place.
        init.qbuf(camera, &QueueBuffer::dmabuf(0, &[buffers[0]]))?;
        expect_eq("attachments", attached()?, [one, 0])?;
        world.next_frame(camera)?;
        init.qbuf(camera, &QueueBuffer::dmabuf(0, &[buffers[1]]))?;
        expect_eq("attachments", attached()?, [0, one])?;
        let frame = world.next_frame(camera)?;
        world.check_frame(mapped[1], frame.sequence)?;
        // The descriptors go first, then the queue that uses the buffers.
        init.close(buffers[0])?;
        init.close(buffers[1])?;
        init.streamoff(camera)?;
        expect_eq("REQBUFS(0)", init.reqbufs(camera, 0, Memory::DmaBuf)?, 0)?;
        init.close(camera)?;
        init.close(exporter)?;
        mapped.into_iter().try_for_each(|address| init.munmap(address, MEMORY))?;
    }
    Ok(())
}

fn expbuf_mmap(world: &World) -> Outcome {
    let init = &world.init;
    for driver in Driver::CAMERAS {
        let camera = world.camera(driver, 2, Memory::Mmap)?;
        let buffer = init.expbuf(camera, 0, 0)?;
        let address = init.mmap(buffer, MEMORY, 0, MapFlags::SHARED)?;
        let entry = world.kernel.mmap_log().pop().ok_or_else(|| Failure::new("nothing was mapped"))?;
        expect_eq("the way", (entry.exporter, entry.path), (driver.name(), "dma_buf_mmap_internal"))?;
        expect_eq("held in mmap", entry.resv_held, world.setup.policy == LockingPolicy::P1)?;
        world.qbuf_mmap(camera, 0)?;
        init.streamon(camera)?;
        world.next_frame(camera)?;
        world.check_frame(address, 0)?;
        init.close(buffer)?;
        init.close(camera)?;
        world.check_frame(address, 0)?;
        init.munmap(address, MEMORY)?;
    }
    Ok(())
}

fn mmap_vs_userptr(world: &World) -> Outcome {
    const ROUNDS: usize = 20;
    for driver in Driver::CAMERAS {
        let user = world.camera(driver, 2, Memory::UserPtr)?;
        let mapped = world.camera_besides(driver, 2)?;
        let address = own_memory(world, 1)?;
        let mapper = world.init.spawn(move |process| -> Result<(), Errno> {
            for _ in 0..ROUNDS {
                let address = process.mmap(mapped, MEMORY, 0, MapFlags::SHARED)?;
                process.munmap(address, MEMORY)?;
                // This queue has no such buffers, and says so after it has taken its lock.
                let refused = process.mmap(user, MEMORY, 0, MapFlags::SHARED);
                assert_eq!(refused, Err(Errno::EINVAL));
            }
            Ok(())
        })?;
        for round in 0..ROUNDS {
            // Another length each time, so that the memory is pinned anew.
            let length = FRAME + round % 2;
            world.init.prepare_buf(user, &QueueBuffer::userptr(0, &[(address, length)]))?;
            // Ending a stream that has not begun gives the prepared buffer back.
            world.init.streamoff(user)?;
        }
        mapper.wait()?;
        world.init.munmap(address, MEMORY)?;
        world.init.close(user)?;
        world.init.close(mapped)?;
    }
    Ok(())
}

fn dqbuf_vs_streamoff(world: &World) -> Outcome {
    let init = &world.init;
    let camera = world.camera(Driver::VividVmalloc, 2, Memory::Mmap)?;
    init.streamon(camera)?;
    let sleeper = init.spawn(move |process| process.dqbuf(camera))?;
    init.camera_wait_sleeper(camera)?;
    expect_error("a second sleeper", init.dqbuf(camera), Errno::EBUSY)?;
    // A stream that ends wakes the sleeper, too.
    world.qbuf_mmap(camera, 1).inspect_err(|_| {
        let _woken = init.streamoff(camera);
    })?;
    let frame = sleeper.wait()?;
    expect_eq("the frame that woke it", (frame.index, frame.sequence), (1, 0))?;
    let sleeper = init.spawn(move |process| process.dqbuf(camera))?;
    init.camera_wait_sleeper(camera)?;
    init.streamoff(camera)?;
    expect_error("the end of the stream", sleeper.wait(), Errno::EINVAL)?;
    // And the queue is as good as new.
    world.qbuf_mmap(camera, 0)?;
    init.streamon(camera)?;
    expect_eq("the frame", world.next_frame(camera)?.sequence, 0)?;
    Ok(init.close(camera)?)
}

fn orphans(world: &World) -> Outcome {
    let init = &world.init;
    let live = |kind: &str| world.kernel.live().count(kind);
    for (driver, kind) in [
        (Driver::VividDmaContig, "vb2_dc_buf"),
        (Driver::VividDmaSg, "vb2_dma_sg_buf"),
        (Driver::VividVmalloc, "vb2_vmalloc_buf"),
    ] {
        let camera = world.camera(driver, 3, Memory::Mmap)?;
        let mapped = world.map_frame(camera, 0)?;
        let buffer = init.expbuf(camera, 1, 0)?;
        world.qbuf_mmap(camera, 0)?;
        init.streamon(camera)?;
        world.next_frame(camera)?;
        init.streamoff(camera)?;
        expect_eq("buffers", live(kind), 3)?;
        expect_eq("REQBUFS(0)", init.reqbufs(camera, 0, Memory::Mmap)?, 0)?;
        expect_eq("orphans", live(kind), 2)?;
        world.check_frame(mapped, 0)?;
        // New buffers are others.
        expect_eq("REQBUFS", init.reqbufs(camera, 2, Memory::Mmap)?, 2)?;
        let again = world.map_frame(camera, 0)?;
        expect_eq("a byte of the new buffer", init.read_byte(again)?, 0)?;
        init.munmap(again, MEMORY)?;
        init.munmap(mapped, MEMORY / 2)?;
        expect_eq("still half mapped", live(kind), 4)?;
        init.munmap(mapped + MEMORY / 2, MEMORY / 2)?;
        expect_eq("unmapped", live(kind), 3)?;
        let exported = init.mmap(buffer, MEMORY, 0, MapFlags::SHARED)?;
        init.close(buffer)?;
        expect_eq("mapped through the dma-buf", live(kind), 3)?;
        init.munmap(exported, MEMORY)?;
        expect_eq("closed", live(kind), 2)?;
        init.close(camera)?;
        expect_eq("all gone", live(kind), 0)?;
    }
    Ok(())
}

fn cpu_access(world: &World) -> Outcome {
    let init = &world.init;
    let camera = world.camera(Driver::VividDmaSg, 2, Memory::Mmap)?;
    let buffer = init.expbuf(camera, 0, 0)?;
    let address = init.mmap(buffer, MEMORY, 0, MapFlags::SHARED)?;
    let syncs = || Ok::<_, Failure>(cpu_syncs(&peek(world, buffer)?));
    expect_eq("calls", syncs()?, Some(0))?;
    for round in 1..=3 {
        init.sync_start(buffer, DMA_BUF_SYNC_RW)?;
        expect_eq("calls", syncs()?, Some(2 * round - 1))?;
        init.write_byte(address, 7)?;
        init.sync_end(buffer, DMA_BUF_SYNC_RW)?;
        expect_eq("calls", syncs()?, Some(2 * round))?;
    }
    init.munmap(address, MEMORY)?;
    init.close(buffer)?;
    Ok(init.close(camera)?)
}

fn camera_and_vgem(world: &World) -> Outcome {
    let init = &world.init;
    for driver in Driver::CAMERAS {
        let camera = world.camera(driver, 2, Memory::Mmap)?;
        let buffer = init.expbuf(camera, 0, 0)?;
        let vgem = init.open(Driver::Vgem)?;
        let handle = init.prime_fd_to_handle(vgem, buffer)?;
        init.close(buffer)?;
        let offset = init.driver_map_offset(vgem, handle)?;
        let address = init.mmap(vgem, MEMORY, offset, MapFlags::SHARED)?;
        world.qbuf_mmap(camera, 0)?;
        init.streamon(camera)?;
        world.next_frame(camera)?;
        init.close(camera)?;
        world.check_frame(address, 0)?;
        init.gem_close(vgem, handle)?;
        init.close(vgem)?;
        world.check_frame(address, 0)?;
        init.munmap(address, MEMORY)?;
    }
    take_pictures_into_vgem(world, Driver::VividDmaSg)?;
    take_pictures_into_vgem(world, Driver::VividDmaContig)
}

fn camera_vmaps_vgem(world: &World) -> Outcome {
    take_pictures_into_vgem(world, Driver::VividVmalloc)
}

fn take_pictures_into_vgem(world: &World, driver: Driver) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    let mapped = world.map(vgem, init.mode_map_dumb(vgem, handle)?)?;
    let camera = world.camera(driver, 2, Memory::DmaBuf)?;
    init.qbuf(camera, &QueueBuffer::dmabuf(1, &[buffer]))?;
    init.streamon(camera)?;
    let frame = world.next_frame(camera)?;
    expect_eq("the length", frame.planes[0].length as u64, BYTES)?;
    world.check_frame(mapped, 0)?;
    init.close(buffer)?;
    init.gem_close(vgem, handle)?;
    init.close(vgem)?;
    init.streamoff(camera)?;
    init.munmap(mapped, BYTES)?;
    Ok(init.close(camera)?)
}
