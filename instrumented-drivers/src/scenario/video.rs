// SPDX-License-Identifier: GPL-2.0-only
//! Cameras: the recorded programs, and what a compliance test does to a queue.
#![forbid(unsafe_code)]

use super::world::{Outcome, World, expect_eq};
use super::{Expects, Scenario};
use crate::dma_buf::ioctl::DMA_BUF_SYNC_RW;
use crate::kernel::file::Fd;
use crate::kernel::mm::MapFlags;
use crate::kernel::poll::{PollEvents, PollTimeout};
use crate::media::videobuf2::core::BufferInfo;
use crate::media::videobuf2::{Memory, PlaneMemory};
use crate::media::vivid::test_pattern;
use crate::user::{Driver, QueueBuffer};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    id: "vivid_mmap",
    name: "oracle@vivid_mmap",
    about: "map and export the buffers of a camera, import them into vgem, then stream",
    expects: Expects::Clean,
    program: vivid_mmap,
}];

/// Bytes of a frame, and of the memory it is in.
const FRAME: usize = 160 * 90 * 2;
const MEMORY: u64 = 32768;

/// What the scenarios of cameras do.
impl World {
    fn camera(&self, driver: Driver, buffers: usize, memory: Memory) -> Outcome<Fd> {
        let camera = self.init.open(driver)?;
        expect_eq("REQBUFS", self.init.reqbufs(camera, buffers, memory)?, buffers)?;
        Ok(camera)
    }

    /// Maps a buffer of the queue through the camera's file.
    fn map_frame(&self, camera: Fd, index: usize) -> Outcome<u64> {
        let info = self.init.querybuf(camera, index)?;
        let PlaneMemory::Offset(offset) = info.planes[0].memory else {
            return Err(super::Failure::new("not a buffer that the queue has allocated"));
        };
        Ok(self.init.mmap(camera, MEMORY, offset, MapFlags::SHARED)?)
    }

    fn qbuf_mmap(&self, camera: Fd, index: usize) -> Outcome {
        Ok(self.init.qbuf(camera, &QueueBuffer::mmap(index))?)
    }

    /// Sleeps until a frame is there, takes it out.
    fn next_frame(&self, camera: Fd) -> Outcome<BufferInfo> {
        let ready = self.init.poll_with(camera, PollEvents::IN, PollTimeout::Forever)?;
        expect_eq("poll", ready, PollEvents::IN)?;
        Ok(self.init.dqbuf(camera)?)
    }

    /// Fails unless this frame of the camera is there, byte by byte of its first and last page.
    fn check_frame(&self, address: u64, sequence: u32) -> Outcome {
        for at in (0..4096).chain(FRAME - 4096..FRAME) {
            let byte = self.init.read_byte(address + at as u64)?;
            expect_eq("a byte of the frame", byte, test_pattern(sequence, 0, at))?;
        }
        Ok(())
    }
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
