// SPDX-License-Identifier: GPL-2.0-only
//! vgem's buffers in Intel's graphics: what found the deadlock of the mission in the kernel's own tests.
#![forbid(unsafe_code)]

use core::time::Duration;
use std::sync::mpsc;

use super::world::{BYTES, Failure, Handle, Outcome, PAGE, SIDE, World, expect_eq, expect_error};
use super::{Expects, Scenario};
use crate::dma_buf::ioctl::{DMA_BUF_SYNC_READ, DMA_BUF_SYNC_RW};
use crate::drm::i915::{I915Bytes, I915ExecObject, MmapType};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::Fd;
use crate::kernel::mm::{MapFlags, Signal};
use crate::kernel::poll::PollEvents;
use crate::kernel::shrinker::kswapd;
use crate::user::{Driver, Process};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "V7",
        name: "prime_vgem@sync",
        about: "map a vgem buffer, let the GPU write it, wait for that by SYNC",
        expects: Expects::MapsThenPins,
        program: sync,
    },
    Scenario {
        id: "V8",
        name: "prime_vgem@fence-wait",
        about: "map a vgem buffer with a fence; a child's work for the GPU waits for the fence",
        expects: Expects::MapsThenPins,
        program: fence_wait,
    },
    Scenario {
        id: "V9",
        name: "prime_vgem@busy",
        about: "the GPU writes a vgem buffer while poll says that it is busy, then map through the DRM file",
        expects: Expects::Pins,
        program: busy,
    },
    Scenario {
        id: "V10",
        name: "prime_vgem@basic-fence-read",
        about: "a child looks at an imported vgem buffer: by read, by a mapping, by the GPU; it waits for the writer's fence",
        expects: Expects::Pins,
        program: basic_fence,
    },
    Scenario {
        id: "V11",
        name: "prime_vgem@fence-write-hang",
        about: "the GPU waits for a fence that nobody signals, until its timer does",
        expects: Expects::Pins,
        program: fence_hang,
    },
    Scenario {
        id: "V13",
        name: "prime_vgem@coherency",
        about: "one side writes, the other reads: vgem's mapping and i915's calls, i915's mapping, the GPU",
        expects: Expects::Pins,
        program: coherency,
    },
    Scenario {
        id: "V12",
        name: "prime_vgem@shrink",
        about: "memory is short while the GPU has the pages of a vgem buffer",
        expects: Expects::Pins,
        program: shrink,
    },
];

/// Imports the buffer and lets the GPU write this to it.
fn gpu_writes(process: &Process, buffer: Fd, value: u8) -> Result<(Fd, Handle)> {
    let i915 = process.open(Driver::I915)?;
    let handle = process.prime_fd_to_handle(i915, buffer)?;
    process.i915_execbuffer(i915, &[I915ExecObject { handle, write: true }], Some(value))?;
    Ok((i915, handle))
}

fn sync(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    let address = world.map(buffer, 0)?;
    init.gem_close(vgem, handle)?;
    let (i915, import) = gpu_writes(init, buffer, 0x5a)?;
    init.gem_close(i915, import)?;
    init.close(i915)?;
    init.sync_start(buffer, DMA_BUF_SYNC_READ)?;
    expect_eq("what the GPU wrote", init.read_byte(address)?, 0x5a)?;
    init.sync_end(buffer, DMA_BUF_SYNC_READ)?;
    init.close(buffer)?;
    init.munmap(address, BYTES)?;
    Ok(init.close(vgem)?)
}

fn fence_wait(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    let fence = init.vgem_fence_attach(vgem, handle, true)?;
    expect_eq("busy", init.poll(buffer, PollEvents::IN | PollEvents::OUT)?, PollEvents::NONE)?;
    init.gem_close(vgem, handle)?;
    let address = world.map(buffer, 0)?;
    init.fork(move |child| gpu_writes(child, buffer, 0x5b).map(drop))?.wait()?;
    expect_eq("before the fence", init.read_byte(address)?, 0)?;
    init.vgem_fence_signal(vgem, fence)?;
    init.sync_start(buffer, DMA_BUF_SYNC_READ)?;
    expect_eq("after it", init.read_byte(address)?, 0x5b)?;
    init.sync_end(buffer, DMA_BUF_SYNC_READ)?;
    init.close(buffer)?;
    init.munmap(address, BYTES)?;
    Ok(init.close(vgem)?)
}

fn busy(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    let engine = world.kernel.i915_engine(Driver::I915);
    engine.iter().for_each(|engine| engine.pause());
    let (i915, import) = gpu_writes(init, buffer, 0x5c)?;
    expect_eq("busy", init.poll(buffer, PollEvents::IN)?, PollEvents::NONE)?;
    engine.iter().for_each(|engine| engine.go_on());
    world.kernel.settle();
    expect_eq("idle", init.poll(buffer, PollEvents::IN)?, PollEvents::IN)?;
    init.gem_close(i915, import)?;
    init.close(buffer)?;
    let address = world.map(vgem, init.mode_map_dumb(vgem, handle)?)?;
    expect_eq("what the GPU wrote", init.read_byte(address)?, 0x5c)?;
    Ok(init.munmap(address, BYTES)?)
}

fn shrink(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    let (i915, import) = gpu_writes(init, buffer, 0x5d)?;
    world.kernel.settle();
    expect_eq("given back", world.kernel.kthread(|core| kswapd(core, usize::MAX)), 64)?;
    init.i915_execbuffer(i915, &[I915ExecObject { handle: import, write: true }], Some(0x5e))?;
    world.kernel.settle();
    let address = world.map(vgem, init.mode_map_dumb(vgem, handle)?)?;
    expect_eq("had again, and written", init.read_byte(address)?, 0x5e)?;
    Ok(init.munmap(address, BYTES)?)
}

/// One way for a program of i915 to see or to change the first byte of the buffer's pages.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// The driver's calls.
    Calls,
    /// A mapping through the GPU's addresses.
    Mapping,
    /// The GPU copies from and to an object that the program looks at.
    Copies,
}

const WAYS: [Way; 3] = [Way::Calls, Way::Mapping, Way::Copies];

/// A page of the process's own, as the other end of the driver's calls.
fn with_byte<R>(process: &Process, call: impl FnOnce(u64) -> Result<R>) -> Result<R> {
    let memory = process.memfd_create(PAGE)?;
    let address = process.mmap(memory, PAGE as u64, 0, MapFlags::SHARED)?;
    process.close(memory)?;
    let result = call(address);
    process.munmap(address, PAGE as u64)?;
    result
}

/// A signal of the model's memory is a bad address to the program.
fn bad_address<T>(accessed: core::result::Result<T, Signal>) -> Result<T> {
    accessed.map_err(|_| Errno::EFAULT)
}

fn pread(process: &Process, i915: Fd, handle: Handle, offset: usize) -> Result<u8> {
    with_byte(process, |address| {
        process.i915_pread(i915, I915Bytes { handle, offset, address, len: 1 })?;
        bad_address(process.read_byte(address))
    })
}

fn pwrite(process: &Process, i915: Fd, handle: Handle, offset: usize, value: u8) -> Result {
    with_byte(process, |address| {
        bad_address(process.write_byte(address, value))?;
        process.i915_pwrite(i915, I915Bytes { handle, offset, address, len: 1 })
    })
}

/// Runs `f` with a mapping of the object through the GPU's addresses that is ready for access.
fn through_gtt<R>(
    process: &Process,
    i915: Fd,
    handle: Handle,
    write: bool,
    access: impl FnOnce(u64) -> core::result::Result<R, Signal>,
) -> Result<R> {
    let offset = process.i915_gem_mmap_offset(i915, handle, MmapType::Gtt)?;
    let address = process.mmap(i915, BYTES, offset, MapFlags::SHARED)?;
    let result = process.i915_set_domain(i915, handle, write).and_then(|()| bad_address(access(address)));
    process.munmap(address, BYTES)?;
    result
}

/// The GPU copies from one object to the other.
fn gpu_copies(process: &Process, i915: Fd, from: Handle, to: Handle) -> Result {
    let objects = [I915ExecObject { handle: from, write: false }, I915ExecObject { handle: to, write: true }];
    process.i915_execbuffer(i915, &objects, None)
}

/// The byte at this place in the import. (The GPU copies the first byte to all pages.)
fn look(process: &Process, i915: Fd, import: Handle, way: Way, offset: usize) -> Result<u8> {
    match way {
        Way::Calls => pread(process, i915, import, offset),
        Way::Mapping => {
            through_gtt(process, i915, import, false, |address| process.read_byte(address + offset as u64))
        }
        Way::Copies => {
            let scratch = process.mode_create_dumb(i915, SIDE, SIDE, 32)?;
            let read =
                gpu_copies(process, i915, import, scratch).and_then(|()| pread(process, i915, scratch, 0));
            process.gem_close(i915, scratch)?;
            read
        }
    }
}

/// Changes the byte at this place in the import.
fn change(process: &Process, i915: Fd, import: Handle, way: Way, offset: usize, value: u8) -> Result {
    match way {
        Way::Calls => pwrite(process, i915, import, offset, value),
        Way::Mapping => through_gtt(process, i915, import, true, |address| {
            process.write_byte(address + offset as u64, value)
        }),
        Way::Copies => {
            let scratch = process.mode_create_dumb(i915, SIDE, SIDE, 32)?;
            let copied = pwrite(process, i915, scratch, 0, value)
                .and_then(|()| gpu_copies(process, i915, scratch, import));
            process.gem_close(i915, scratch)?;
            copied
        }
    }
}

/// A vgem buffer, imported into i915; the dma-buf is closed.
struct Shared {
    vgem: Fd,
    handle: Handle,
    i915: Fd,
    import: Handle,
}

fn shared(world: &World) -> Outcome<Shared> {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    let i915 = init.open(Driver::I915)?;
    let import = init.prime_fd_to_handle(i915, buffer)?;
    init.close(buffer)?;
    Ok(Shared { vgem, handle, i915, import })
}

fn basic_fence(world: &World) -> Outcome {
    WAYS.into_iter().try_for_each(|way| one_basic_fence(world, way))
}

fn one_basic_fence(world: &World, way: Way) -> Outcome {
    let init = &world.init;
    let Shared { vgem, handle, i915, import } = shared(world)?;
    let (ready, is_ready) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    let child = init.fork(move |child| -> Result<(u8, u8)> {
        let before = look(child, i915, import, way, 0)?;
        // If the other end is gone, so is the scenario.
        ready
            .send(())
            .and_then(|()| may_go.recv().map_err(|_| mpsc::SendError(())))
            .map_err(|_| Errno::EIO)?;
        Ok((before, look(child, i915, import, way, 0)?))
    })?;
    let first_look = is_ready.recv().map_err(|_| Failure::new("the child could not look"));
    let written = init.vgem_fence_attach(vgem, handle, true).map_err(Failure::from).and_then(|fence| {
        // If it is gone, it says why when it is waited for.
        let _told = go.send(());
        let written = fill_through_drm(world, vgem, handle, 9);
        init.vgem_fence_signal(vgem, fence)?;
        written
    });
    // A child that was not told to go on goes.
    drop(go);
    let seen = child.wait();
    first_look.and(written)?;
    expect_eq("before and after the fence", seen?, (0, 9))?;
    init.gem_close(i915, import)?;
    init.close(i915)?;
    init.gem_close(vgem, handle)?;
    Ok(init.close(vgem)?)
}

fn fill_through_drm(world: &World, drm: Fd, handle: Handle, value: u8) -> Outcome {
    let init = &world.init;
    let address = world.map(drm, init.mode_map_dumb(drm, handle)?)?;
    let filled = world.fill(address, value);
    init.munmap(address, BYTES)?;
    filled
}

fn fence_hang(world: &World) -> Outcome {
    let init = &world.init;
    for write in [false, true] {
        let Shared { vgem, handle, i915, import } = shared(world)?;
        let address = world.map(vgem, init.mode_map_dumb(vgem, handle)?)?;
        let fence = init.vgem_fence_attach(vgem, handle, write)?;
        init.i915_execbuffer(i915, &[I915ExecObject { handle: import, write: true }], Some(0x5f))?;
        for seconds in [0, 9, 1] {
            expect_eq("while the fence is pending", init.read_byte(address)?, 0)?;
            world.kernel.pass_time(Duration::from_secs(seconds));
            world.kernel.settle();
        }
        expect_eq("after ten seconds", init.read_byte(address)?, 0x5f)?;
        expect_error("the program's signal", init.vgem_fence_signal(vgem, fence), Errno::ETIMEDOUT)?;
        init.munmap(address, BYTES)?;
        init.close(i915)?;
        init.close(vgem)?;
    }
    Ok(())
}

fn coherency(world: &World) -> Outcome {
    let init = &world.init;
    let Shared { vgem, handle, i915, import } = shared(world)?;
    let address = world.map(vgem, init.mode_map_dumb(vgem, handle)?)?;
    let buffer = world.export(vgem, handle)?;
    let last = PAGE * 63;
    for (way, value) in WAYS.into_iter().zip([10, 20, 30]) {
        init.sync_start(buffer, DMA_BUF_SYNC_RW)?;
        init.write_byte(address, value)?;
        init.sync_end(buffer, DMA_BUF_SYNC_RW)?;
        expect_eq("what the CPU wrote", look(init, i915, import, way, 0)?, value)?;
        change(init, i915, import, way, last, value + 1)?;
        init.sync_start(buffer, DMA_BUF_SYNC_READ)?;
        expect_eq("what i915 wrote", init.read_byte(address + last as u64)?, value + 1)?;
        init.sync_end(buffer, DMA_BUF_SYNC_READ)?;
    }
    init.close(buffer)?;
    init.munmap(address, BYTES)?;
    init.gem_close(i915, import)?;
    init.close(i915)?;
    init.gem_close(vgem, handle)?;
    Ok(init.close(vgem)?)
}
