// SPDX-License-Identifier: GPL-2.0-only
//! vgem's buffers in Intel's graphics: what found the deadlock of the mission in the kernel's own tests.
#![forbid(unsafe_code)]

use super::world::{BYTES, Handle, Outcome, World, expect_eq};
use super::{Expects, Scenario};
use crate::dma_buf::ioctl::DMA_BUF_SYNC_READ;
use crate::drm::i915::I915ExecObject;
use crate::kernel::errno::Result;
use crate::kernel::file::Fd;
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
