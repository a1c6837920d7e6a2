// SPDX-License-Identifier: GPL-2.0-only
//! Two displays without objects of the shmem helper, as exporters and importers; and what debugfs tells about buffers.
//!
//! That omapdrm imports is no scenario: a kernel in which it does both has a cycle of classes
//! ([`drm::omapdrm`](crate::drm::omapdrm)), and scenarios can be run together.
#![forbid(unsafe_code)]

use super::world::{BYTES, Outcome, PAGE, World, expect_eq};
use super::{Expects, Scenario};
use crate::dma_buf::access::dma_buf_debug_show;
use crate::dma_buf::ioctl::DMA_BUF_SYNC_RW;
use crate::user::Driver;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "omapdrm_into_vgem",
        name: "ours@omapdrm-into-vgem",
        about: "a display's object is written by the program, then pinned and mapped for another driver",
        expects: Expects::Clean,
        program: omapdrm_into_vgem,
    },
    Scenario {
        id: "tegra_into_vkms",
        name: "ours@tegra-into-vkms",
        about: "an object is shown, used by a job, and imported by another display",
        expects: Expects::Clean,
        program: tegra_into_vkms,
    },
    Scenario {
        id: "vgem_into_tegra",
        name: "ours@vgem-into-tegra",
        about: "an import is shown and used by a job: two more attachments, one kept until the end",
        expects: Expects::Pins,
        program: vgem_into_tegra,
    },
    Scenario {
        id: "debugfs",
        name: "ours@debugfs",
        about: "the list of all buffers, with a name and a fence",
        expects: Expects::Clean,
        program: debugfs,
    },
];

fn omapdrm_into_vgem(world: &World) -> Outcome {
    let init = &world.init;
    let (omap, handle, buffer) = world.buffer_of(Driver::Omapdrm)?;
    let address = world.map(omap, init.driver_map_offset(omap, handle)?)?;
    world.fill(address, 7)?;
    init.sync_start(buffer, DMA_BUF_SYNC_RW)?;
    let exported = world.map(buffer, 0)?;
    world.check(exported, 7)?;
    init.sync_end(buffer, DMA_BUF_SYNC_RW)?;
    let vgem = init.open(Driver::Vgem)?;
    let import = init.prime_fd_to_handle(vgem, buffer)?;
    expect_eq("pinned", world.kernel.live().count("tiler_block"), 1)?;
    init.gem_close(vgem, import)?;
    expect_eq("pinned at the end", world.kernel.live().count("tiler_block"), 0)?;
    init.munmap(address, BYTES)?;
    init.munmap(exported, BYTES)?;
    Ok(init.gem_close(omap, handle)?)
}

fn tegra_into_vkms(world: &World) -> Outcome {
    let init = &world.init;
    let (tegra, handle, buffer) = world.buffer_of(Driver::Tegra)?;
    let address = world.map(buffer, 0)?;
    init.write_byte(address, 8)?;
    init.tegra_flip(tegra, Some(handle))?;
    expect_eq("shown", init.tegra_scanout(tegra, 0)?, Some(8))?;
    let target = init.tegra_channel_map(tegra, handle)?;
    init.tegra_submit(tegra, handle, target)?;
    expect_eq("what the job wrote", init.read_byte(address + PAGE as u64)?, 8)?;
    let vkms = init.open(Driver::Vkms)?;
    init.prime_fd_to_handle(vkms, buffer)?;
    init.munmap(address, BYTES)?;
    init.tegra_flip(tegra, None)?;
    Ok(init.tegra_channel_unmap(tegra, target)?)
}

fn vgem_into_tegra(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    let address = world.map(vgem, init.mode_map_dumb(vgem, handle)?)?;
    init.write_byte(address, 9)?;
    let tegra = init.open(Driver::Tegra)?;
    let import = init.prime_fd_to_handle(tegra, buffer)?;
    init.tegra_flip(tegra, Some(import))?;
    expect_eq("shown", init.tegra_scanout(tegra, 0)?, Some(9))?;
    let target = init.tegra_channel_map(tegra, import)?;
    init.tegra_submit(tegra, world.create(tegra)?, target)?;
    expect_eq("what the job wrote", init.read_byte(address)?, 0)?;
    let attachments = || world.kernel.live().count("dma_buf_attachment");
    expect_eq("attachments: the object's, the display's, the job's", attachments(), 3)?;
    init.tegra_channel_unmap(tegra, target)?;
    init.tegra_flip(tegra, None)?;
    expect_eq("attachments of an object that is kept", attachments(), 2)?;
    init.gem_close(tegra, import)?;
    expect_eq("attachments at the end", attachments(), 0)?;
    Ok(init.munmap(address, BYTES)?)
}

fn debugfs(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    init.set_name(buffer, "frame")?;
    let fence = init.vgem_fence_attach(vgem, handle, true)?;
    let text = world.kernel.kthread(|core| dma_buf_debug_show(core))?;
    expect_eq("its name is told", text.contains("frame"), true)?;
    Ok(init.vgem_fence_signal(vgem, fence)?)
}
