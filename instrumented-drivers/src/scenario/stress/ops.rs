// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The operations, each a small program of its own: what the scenarios do, on buffers that all threads share and on own
//! ones. Whatever one opens and maps is put away behind it, in any order, also if it was cut short.
//!
//! None waits for what only another thread's next operation could bring about, so every run ends: a fence is signalled
//! before the one that made it does anything else that could wait, and who sleeps until a camera has filled a buffer has
//! given it one.

use core::cell::RefCell;
use std::sync::Arc;

use super::gpu;
use super::{LARGEST, Random};
use crate::dma_buf::ioctl::DMA_BUF_SYNC_RW;
use crate::dma_buf::udmabuf::UdmabufItem;
use crate::drm::file::Handle;
use crate::drm::gem_reservations::WaitTimeout;
use crate::drm::i915::I915ExecObject;
use crate::drm::lima::{LIMA_BO_FLAG_HEAP, LimaFrame, LimaSubmit, LimaSubmitBo, Pipe};
use crate::drm::prime::DRM_RDWR;
use crate::kernel::KernelCore;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::Fd;
use crate::kernel::memfd::Seals;
use crate::kernel::mm::MapFlags;
use crate::kernel::poll::{PollEvents, PollTimeout};
use crate::kernel::shrinker::kswapd;
use crate::media::videobuf2::{Memory, PlaneMemory};
use crate::misc::fastrpc::dsp::Method;
use crate::scenario::races::{allow, race_for_first_handle};
use crate::scenario::video::{MEMORY, check_frame};
use crate::scenario::world::{Failure, Outcome, PAGE, World, expect_eq};
use crate::user::{Driver, Process, QueueBuffer};

/// What is done, by name.
pub(super) type Operation = (&'static str, fn(&Lane, &mut Random) -> Outcome);

pub(super) const OPERATIONS: &[Operation] = &[
    ("import", import),
    ("export", export),
    ("flink", flink),
    ("allocate", allocate),
    ("fence", fence),
    ("fork", fork),
    ("race", race),
    ("reclaim", reclaim),
    ("panfrost", |lane, random| lane.gpu.round(random)),
    ("i915", i915),
    ("lima", lima),
    ("tegra", tegra),
    ("fastrpc", fastrpc),
    ("camera", camera),
];

const PAGES: usize = 4;
const LENGTH: u64 = (PAGES * PAGE) as u64;
const SIZE: u32 = (PAGES * PAGE) as u32;

/// Those whose buffers are GEM objects.
const GEM: [Driver; 8] = [
    Driver::Vgem,
    Driver::Vkms,
    Driver::Panfrost,
    Driver::Lima,
    Driver::Omapdrm,
    Driver::Tegra,
    Driver::I915,
    Driver::I915Lmem,
];
/// Those that give a program buffers without hardware.
const PLAIN: [Driver; 3] = [Driver::SystemHeap, Driver::CmaHeap, Driver::Udmabuf];
/// Those that map what they have imported. Not i915: its shrinker gives an import's pages back to whoever exported
/// them, in the middle of anybody's allocation, and omapdrm allocates under the lock that it takes then.
const IMPORTERS: [Driver; 2] = [Driver::Vgem, Driver::Vkms];

/// What all threads use.
pub(super) struct Shared {
    buffers: Vec<Fd>,
    /// An open file whose handles anybody may close.
    race: Fd,
    pub(super) gpu: Arc<gpu::Shared>,
}

impl Shared {
    /// A buffer of each exporter, and the GPU.
    pub(super) fn new(world: &World) -> Outcome<Self> {
        let init = &world.init;
        let mut buffers = Vec::new();
        for driver in GEM {
            let drm = init.open(driver)?;
            let handle = init.driver_create_buffer(drm, SIZE)?;
            buffers.push(init.prime_handle_to_fd(drm, handle, DRM_RDWR)?);
            // The buffer has the object.
            init.close(drm)?;
        }
        for driver in PLAIN {
            buffers.push(allocated(init, driver, &mut Vec::new())?);
        }
        Ok(Shared { buffers, race: init.open(Driver::Vgem)?, gpu: Arc::new(gpu::Shared::new(init)?) })
    }

    /// The jobs are done and have lost nothing; the buffers go.
    pub(super) fn finish(&self, process: &Process) -> Outcome {
        self.gpu.finish(process)?;
        process.close(self.race)?;
        self.buffers.iter().try_for_each(|buffer| Ok(process.close(*buffer)?))
    }
}

/// What an operation has opened or mapped.
enum Thing {
    File(Fd),
    Mapping(u64, u64),
}

/// A thread.
pub(super) struct Lane {
    process: Process,
    core: Arc<KernelCore>,
    /// Where its bytes are in each shared page: as many from there as it has pages.
    number: usize,
    shared: Arc<Shared>,
    pub(super) gpu: gpu::Worker,
    /// What it wrote last to its byte in each page of each shared buffer.
    written: RefCell<Vec<[u8; PAGES]>>,
    things: RefCell<Vec<Thing>>,
}

const _: () = assert!(LARGEST <= PAGE, "each thread has a byte in each page");

impl Lane {
    pub(super) fn new(
        process: &Process,
        core: Arc<KernelCore>,
        number: usize,
        shared: &Arc<Shared>,
    ) -> Result<Self> {
        Ok(Lane {
            process: process.clone(),
            core,
            number,
            shared: shared.clone(),
            gpu: gpu::Worker::new(process, &shared.gpu, number as u64)?,
            written: RefCell::new(vec![[0; PAGES]; shared.buffers.len()]),
            things: RefCell::default(),
        })
    }

    /// Closes and unmaps what the last operation left, in any order.
    pub(super) fn put_away(&self, random: &mut Random) -> Result {
        let mut things = self.things.take();
        while !things.is_empty() {
            match things.swap_remove(random.below(things.len())) {
                Thing::File(fd) => self.process.close(fd)?,
                Thing::Mapping(address, length) => self.process.munmap(address, length)?,
            }
        }
        Ok(())
    }

    fn keep(&self, fd: Fd) -> Fd {
        self.things.borrow_mut().push(Thing::File(fd));
        fd
    }

    fn open(&self, driver: Driver) -> Result<Fd> {
        Ok(self.keep(self.process.open(driver)?))
    }

    fn map_part(&self, fd: Fd, length: u64, offset: u64) -> Result<u64> {
        let address = self.process.mmap(fd, length, offset, MapFlags::SHARED)?;
        self.things.borrow_mut().push(Thing::Mapping(address, length));
        Ok(address)
    }

    fn map(&self, fd: Fd) -> Result<u64> {
        self.map_part(fd, LENGTH, 0)
    }

    /// Maps an object through its driver's file.
    fn map_object(&self, drm: Fd, handle: Handle) -> Result<u64> {
        self.map_part(drm, LENGTH, self.process.driver_map_offset(drm, handle)?)
    }

    /// An open file of this driver, a new buffer in it, and its dma-buf.
    fn buffer_of(&self, driver: Driver) -> Result<(Fd, Handle, Fd)> {
        let drm = self.open(driver)?;
        let handle = self.process.driver_create_buffer(drm, SIZE)?;
        Ok((drm, handle, self.export(drm, handle)?))
    }

    fn export(&self, drm: Fd, handle: Handle) -> Result<Fd> {
        Ok(self.keep(self.process.prime_handle_to_fd(drm, handle, DRM_RDWR)?))
    }

    /// Writes a byte in each page through one mapping, inside SYNC; it is there in the other.
    fn write_and_read(&self, buffer: Fd, to: u64, from: u64, value: u8) -> Outcome {
        self.process.sync_start(buffer, DMA_BUF_SYNC_RW)?;
        for page in (0..LENGTH).step_by(PAGE) {
            self.process.write_byte(to + page, value)?;
        }
        self.process.sync_end(buffer, DMA_BUF_SYNC_RW)?;
        self.reads(from, value)
    }

    /// Each page begins with this.
    fn reads(&self, from: u64, value: u8) -> Outcome {
        let mut pages = (0..LENGTH).step_by(PAGE);
        pages.try_for_each(|page| expect_eq("a byte", self.process.read_byte(from + page)?, value))
    }

    /// A shared buffer: its number, and itself.
    fn shared_buffer(&self, random: &mut Random) -> (usize, Fd) {
        let which = random.below(self.shared.buffers.len());
        (which, self.shared.buffers[which])
    }
}

fn byte(random: &mut Random) -> u8 {
    u8::try_from(random.below(256)).unwrap_or_default()
}

/// A buffer without hardware; what was opened on the way goes to the list.
fn allocated(process: &Process, from: Driver, things: &mut Vec<Thing>) -> Result<Fd> {
    let mut keep = |fd| {
        things.push(Thing::File(fd));
        fd
    };
    let device = keep(process.open(from)?);
    let size = SIZE as usize;
    if from != Driver::Udmabuf {
        return process.dma_heap_alloc(device, size);
    }
    let memfd = keep(process.memfd_create(size)?);
    process.add_seals(memfd, Seals::SHRINK)?;
    process.udmabuf_create(device, &[UdmabufItem { memfd, offset: 0, size }])
}

/// A shared buffer in another driver: what this thread wrote there last is still there, on either way to it.
fn import(lane: &Lane, random: &mut Random) -> Outcome {
    let process = &lane.process;
    let (which, buffer) = lane.shared_buffer(random);
    let drm = lane.open(random.pick(&IMPORTERS))?;
    let handle = process.prime_fd_to_handle(drm, buffer)?;
    let again = lane.export(drm, handle)?;
    let (through_driver, through_buffer) = (lane.map_object(drm, handle)?, lane.map(again)?);
    let page = random.below(PAGES);
    let at = (page * PAGE + lane.number) as u64;
    let before = lane.written.borrow()[which][page];
    expect_eq("what this thread wrote last", process.read_byte(through_driver + at)?, before)?;
    process.sync_start(again, DMA_BUF_SYNC_RW)?;
    let value = byte(random);
    process.write_byte(through_buffer + at, value)?;
    lane.written.borrow_mut()[which][page] = value;
    process.sync_end(again, DMA_BUF_SYNC_RW)?;
    expect_eq("what it writes now", process.read_byte(through_driver + at)?, value)?;
    if random.below(2) == 0 {
        process.gem_close(drm, handle)?;
    }
    Ok(())
}

/// A new object, exported, imported into its own file, mapped on both ways.
fn export(lane: &Lane, random: &mut Random) -> Outcome {
    let process = &lane.process;
    let (drm, handle, buffer) = lane.buffer_of(random.pick(&GEM))?;
    expect_eq("the handle that comes back", process.prime_fd_to_handle(drm, buffer)?, handle)?;
    let (through_driver, through_buffer) = (lane.map_object(drm, handle)?, lane.map(buffer)?);
    lane.write_and_read(buffer, through_driver, through_buffer, byte(random))?;
    if random.below(2) == 0 {
        process.gem_close(drm, handle)?;
    }
    lane.write_and_read(buffer, through_buffer, through_driver, byte(random))
}

/// One object by its global name in two files.
fn flink(lane: &Lane, random: &mut Random) -> Outcome {
    let process = &lane.process;
    let (first, handle, buffer) = lane.buffer_of(Driver::Vgem)?;
    let second = lane.open(Driver::Vgem)?;
    let same = process.gem_open(second, process.gem_flink(first, handle)?)?;
    let (one, other) = (lane.map_object(first, handle)?, lane.map_object(second, same)?);
    lane.write_and_read(buffer, one, other, byte(random))?;
    Ok(if random.below(2) == 0 { process.gem_close(first, handle) } else { process.gem_close(second, same) }?)
}

/// A buffer without hardware: new memory is zero; then in the way of the recorded programs.
fn allocate(lane: &Lane, random: &mut Random) -> Outcome {
    let process = &lane.process;
    let buffer = allocated(process, random.pick(&PLAIN), &mut lane.things.borrow_mut())?;
    let (one, other) = (lane.map(lane.keep(buffer))?, lane.map(buffer)?);
    lane.reads(one, 0)?;
    lane.write_and_read(buffer, one, other, byte(random))?;
    let both = PollEvents::IN | PollEvents::OUT;
    expect_eq("poll", process.poll(buffer, both)?, both)?;
    let sync_file = lane.keep(process.export_sync_file(buffer, DMA_BUF_SYNC_RW)?);
    process.import_sync_file(buffer, DMA_BUF_SYNC_RW, sync_file)?;
    Ok(process.set_name(buffer, "stress")?)
}

/// A fence on a shared buffer, which keeps the others waiting until it is signalled.
fn fence(lane: &Lane, random: &mut Random) -> Outcome {
    let process = &lane.process;
    let (_, buffer) = lane.shared_buffer(random);
    let vgem = lane.open(Driver::Vgem)?;
    let handle = process.prime_fd_to_handle(vgem, buffer)?;
    // Another thread's fence may be there.
    let attached = process.vgem_fence_attach(vgem, handle, random.below(2) == 0);
    if let Some(fence) = allow(attached, &[Errno::EBUSY])? {
        // Nothing in between that wants the reservation lock: i915 waits for fences with it held, and that wait ends when
        // the fence's ten seconds are over. Here no time passes.
        process.vgem_fence_signal(vgem, fence)?;
    }
    process.poll(buffer, PollEvents::IN | PollEvents::OUT)?;
    Ok(())
}

/// A child has what its parent has mapped.
fn fork(lane: &Lane, random: &mut Random) -> Outcome {
    let (which, buffer) = lane.shared_buffer(random);
    let address = lane.map(buffer)?;
    let page = random.below(PAGES);
    let at = address + (page * PAGE + lane.number) as u64;
    let value = byte(random);
    let child = lane.process.fork(move |child| (child.read_byte(at), child.write_byte(at, value)))?;
    let before = lane.written.borrow()[which][page];
    let (read, written) = child.wait();
    written?;
    lane.written.borrow_mut()[which][page] = value;
    expect_eq("what the parent wrote last", read?, before)?;
    expect_eq("what the child wrote", lane.process.read_byte(at)?, value)
}

fn race(lane: &Lane, _random: &mut Random) -> Outcome {
    Ok(race_for_first_handle(&lane.process, lane.shared.race)?)
}

fn reclaim(lane: &Lane, random: &mut Random) -> Outcome {
    kswapd(&lane.core, random.pick(&[1, 16, usize::MAX]));
    Ok(())
}

/// The GPU writes to an object, or to another driver's buffer; SYNC waits for it.
fn i915(lane: &Lane, random: &mut Random) -> Outcome {
    let process = &lane.process;
    let (_, _, buffer) = lane.buffer_of(random.pick(&[Driver::I915, Driver::Vgem, Driver::Vkms]))?;
    let i915 = lane.open(Driver::I915)?;
    let handle = process.prime_fd_to_handle(i915, buffer)?;
    let address = lane.map(buffer)?;
    let value = byte(random);
    process.i915_execbuffer(i915, &[I915ExecObject { handle, write: true }], Some(value))?;
    process.sync_start(buffer, DMA_BUF_SYNC_RW)?;
    lane.reads(address, value)?;
    Ok(process.sync_end(buffer, DMA_BUF_SYNC_RW)?)
}

/// A job that makes a heap grow, then one that fills an object.
fn lima(lane: &Lane, random: &mut Random) -> Outcome {
    let process = &lane.process;
    let (lima, handle, buffer) = lane.buffer_of(Driver::Lima)?;
    let heap = process.lima_gem_create(lima, SIZE as usize, LIMA_BO_FLAG_HEAP)?;
    let [address, heap_address] = [process.lima_gem_info(lima, handle)?, process.lima_gem_info(lima, heap)?];
    let ctx = process.lima_ctx_create(lima)?;
    let (pages, value) = (PAGES as u64, byte(random));
    let bos = [handle, heap].map(|handle| LimaSubmitBo { handle, write: true });
    let submit = |pipe, frame| process.lima_gem_submit(lima, &LimaSubmit::new(ctx, pipe, frame, bos.into()));
    submit(Pipe::Gp, LimaFrame::FillHeap { address: heap_address, pages, value: 1 })?;
    submit(Pipe::Pp, LimaFrame::Fill { address, pages, value })?;
    process.lima_gem_wait(lima, handle, true, WaitTimeout::Forever)?;
    lane.reads(lane.map(buffer)?, value)?;
    Ok(process.lima_ctx_free(lima, ctx)?)
}

/// A job that reads one object and fills another.
fn tegra(lane: &Lane, random: &mut Random) -> Outcome {
    let process = &lane.process;
    let (tegra, commands, buffer) = lane.buffer_of(Driver::Tegra)?;
    let target = process.driver_create_buffer(tegra, SIZE)?;
    let value = byte(random);
    process.write_byte(lane.map(buffer)?, value)?;
    let mapping = process.tegra_channel_map(tegra, target)?;
    process.tegra_submit(tegra, commands, mapping)?;
    lane.reads(lane.map_object(tegra, target)?, value)?;
    Ok(process.tegra_channel_unmap(tegra, mapping)?)
}

/// A signal processor writes to a heap's buffer.
fn fastrpc(lane: &Lane, random: &mut Random) -> Outcome {
    let process = &lane.process;
    let buffer = allocated(process, Driver::SystemHeap, &mut lane.things.borrow_mut())?;
    let address = lane.map(lane.keep(buffer))?;
    let session = lane.open(Driver::Fastrpc)?;
    let value = byte(random);
    if random.below(2) == 0 {
        process.fastrpc_mem_map(session, buffer)?;
    }
    process.fastrpc_invoke(session, Method::Fill(value), &[buffer])?;
    lane.reads(address, value)
}

/// Some frames, each byte for byte, unless the camera is somebody else's now.
fn camera(lane: &Lane, random: &mut Random) -> Outcome {
    const BUFFERS: usize = 3;
    let process = &lane.process;
    let camera = lane.open(random.pick(&Driver::CAMERAS))?;
    let frames = 1 + random.below(4);
    if allow(process.reqbufs(camera, BUFFERS, Memory::Mmap), &[Errno::EBUSY])?.is_none() {
        return Ok(());
    }
    let mut mapped = Vec::new();
    for index in 0..BUFFERS {
        let info = process.querybuf(camera, index)?;
        let PlaneMemory::Offset(offset) = info.planes[0].memory else {
            return Err(Failure::new("not a buffer that the queue has allocated"));
        };
        mapped.push(lane.map_part(camera, MEMORY, offset)?);
        process.qbuf(camera, &QueueBuffer::mmap(index))?;
    }
    process.streamon(camera)?;
    for _ in 0..frames {
        process.poll_with(camera, PollEvents::IN, PollTimeout::Forever)?;
        let frame = process.dqbuf(camera)?;
        check_frame(process, mapped[frame.index], frame.sequence)?;
        process.qbuf(camera, &QueueBuffer::mmap(frame.index))?;
    }
    Ok(process.streamoff(camera)?)
}
