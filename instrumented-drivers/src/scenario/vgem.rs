// SPDX-License-Identifier: GPL-2.0-only
//! IGT `vgem_basic`: a buffer's life, and fences on it.
#![forbid(unsafe_code)]

use super::world::{BYTES, Outcome, PAGE, World, expect_eq, expect_error};
use super::{Expects, Scenario};
use crate::drm::vgem::VGEM_FENCE_TIMEOUT;
use crate::kernel::errno::Errno;
use crate::kernel::file::Fd;
use crate::kernel::poll::{PollEvents, PollTimeout};
use crate::user::Driver;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "V1",
        name: "vgem_basic@dmabuf-mmap",
        about: "map a dma-buf, close it, write all pages, unmap; map the DRM file, close the handle, read",
        expects: Expects::MapsDmaBuf,
        program: dmabuf_mmap,
    },
    Scenario {
        id: "V2",
        name: "vgem_basic@dmabuf-export",
        about: "export, close the handle, import into another driver, close the dma-buf, close the import",
        expects: Expects::Pins,
        program: dmabuf_export,
    },
    Scenario {
        id: "V3",
        name: "vgem_basic@dmabuf-fence",
        about: "poll an exported buffer while a read fence, then a write fence is on it",
        expects: Expects::Clean,
        program: dmabuf_fence,
    },
    Scenario {
        id: "V4",
        name: "vgem_basic@dmabuf-fence-before",
        about: "the same with fences that are attached before the export",
        expects: Expects::Clean,
        program: dmabuf_fence_before,
    },
    Scenario {
        id: "V5",
        name: "vgem_basic@busy-fence",
        about: "a write fence on a buffer that somebody reads is refused; a timer that was first is told",
        expects: Expects::Clean,
        program: busy_fence,
    },
    Scenario {
        id: "V6",
        name: "vgem_basic@unload",
        about: "create, map and close plain objects; the driver cannot be unloaded while one is mapped",
        expects: Expects::Clean,
        program: unload,
    },
];

fn dmabuf_mmap(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    let address = world.map(buffer, 0)?;
    init.close(buffer)?;
    world.fill(address, 1)?;
    init.munmap(address, BYTES)?;
    let offset = init.mode_map_dumb(vgem, handle)?;
    let address = world.map(vgem, offset)?;
    init.gem_close(vgem, handle)?;
    world.check(address, 1)?;
    init.munmap(address, BYTES)?;
    Ok(init.close(vgem)?)
}

fn dmabuf_export(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    init.gem_close(vgem, handle)?;
    init.close(vgem)?;
    let vkms = init.open(Driver::Vkms)?;
    let imported = init.prime_fd_to_handle(vkms, buffer)?;
    init.close(buffer)?;
    expect_eq("buffers alive through the import", world.kernel.live().count("dma_buf"), 1)?;
    init.gem_close(vkms, imported)?;
    expect_eq("buffers alive afterwards", world.kernel.live().count("dma_buf"), 0)?;
    Ok(init.close(vkms)?)
}

/// Who may use the buffer now: `IN` a reader, `OUT` a writer.
fn expect_ready(world: &World, buffer: Fd, when: &str, ready: PollEvents) -> Outcome {
    let both = PollEvents::IN | PollEvents::OUT;
    expect_eq(when, world.init.poll(buffer, both)?, ready)
}

fn dmabuf_fence(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    let both = PollEvents::IN | PollEvents::OUT;
    expect_ready(world, buffer, "without a fence", both)?;
    let fence = init.vgem_fence_attach(vgem, handle, false)?;
    expect_ready(world, buffer, "while somebody reads", PollEvents::IN)?;
    let waiter = init.spawn(move |thread| thread.poll_with(buffer, PollEvents::OUT, PollTimeout::Forever))?;
    init.vgem_fence_signal(vgem, fence)?;
    expect_eq("what the waiter was woken with", waiter.wait()?, PollEvents::OUT)?;
    expect_ready(world, buffer, "after the reader", both)?;
    let fence = init.vgem_fence_attach(vgem, handle, true)?;
    expect_ready(world, buffer, "while somebody writes", PollEvents::NONE)?;
    init.vgem_fence_signal(vgem, fence)?;
    expect_ready(world, buffer, "after the writer", both)?;
    init.close(buffer)?;
    init.gem_close(vgem, handle)?;
    Ok(init.close(vgem)?)
}

fn dmabuf_fence_before(world: &World) -> Outcome {
    let init = &world.init;
    let both = PollEvents::IN | PollEvents::OUT;
    let vgem = init.open(Driver::Vgem)?;
    for (write, ready) in [(false, PollEvents::IN), (true, PollEvents::NONE)] {
        let handle = world.create(vgem)?;
        let fence = init.vgem_fence_attach(vgem, handle, write)?;
        let buffer = world.export(vgem, handle)?;
        expect_ready(world, buffer, "with a fence from before the export", ready)?;
        init.vgem_fence_signal(vgem, fence)?;
        expect_ready(world, buffer, "after it was signalled", both)?;
        init.close(buffer)?;
        init.gem_close(vgem, handle)?;
    }
    Ok(init.close(vgem)?)
}

fn busy_fence(world: &World) -> Outcome {
    let init = &world.init;
    let vgem = init.open(Driver::Vgem)?;
    let handle = world.create(vgem)?;
    let reader = init.vgem_fence_attach(vgem, handle, false)?;
    let second = init.vgem_fence_attach(vgem, handle, false)?;
    expect_error("a writer while somebody reads", init.vgem_fence_attach(vgem, handle, true), Errno::EBUSY)?;
    init.vgem_fence_signal(vgem, second)?;
    expect_error("a writer while one still reads", init.vgem_fence_attach(vgem, handle, true), Errno::EBUSY)?;
    world.kernel.pass_time(VGEM_FENCE_TIMEOUT);
    expect_error("a signal after the timer's", init.vgem_fence_signal(vgem, reader), Errno::ETIMEDOUT)?;
    let writer = init.vgem_fence_attach(vgem, handle, true)?;
    expect_error(
        "a reader while somebody writes",
        init.vgem_fence_attach(vgem, handle, false),
        Errno::EBUSY,
    )?;
    init.vgem_fence_signal(vgem, writer)?;
    expect_error("a fence that is gone", init.vgem_fence_signal(vgem, writer), Errno::ENOENT)?;
    init.gem_close(vgem, handle)?;
    Ok(init.close(vgem)?)
}

fn unload(world: &World) -> Outcome {
    let init = &world.init;
    let vgem = init.open(Driver::Vgem)?;
    expect_error("an empty buffer", init.mode_create_dumb(vgem, 0, 0, 32), Errno::EINVAL)?;
    let handle = world.create(vgem)?;
    let offset = init.mode_map_dumb(vgem, handle)?;
    let address = world.map(vgem, offset)?;
    world.fill(address, 7)?;
    init.gem_close(vgem, handle)?;
    init.close(vgem)?;
    expect_error("unload while an object is mapped", world.kernel.unload(Driver::Vgem), Errno::EBUSY)?;
    init.write_byte(address + PAGE as u64, 8)?;
    init.munmap(address, BYTES)?;
    world.kernel.unload(Driver::Vgem)?;
    expect_error("open after the unload", init.open(Driver::Vgem), Errno::ENODEV)
}
