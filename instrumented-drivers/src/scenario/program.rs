// SPDX-License-Identifier: GPL-2.0-only
//! The programs whose lock sequences were recorded on a real kernel (`tests/data/sequences`), step by step as they ran
//! there, with its helpers: `use`, `poll`, `dumbmap`, `import`.
#![forbid(unsafe_code)]

use super::world::{BYTES, Handle, Outcome, PAGE, World, expect_eq, expect_error};
use super::{Expects, Scenario};
use crate::dma_buf::ioctl::DMA_BUF_SYNC_RW;
use crate::dma_buf::ioctl::DMA_BUF_SYNC_WRITE;
use crate::kernel::errno::Errno;
use crate::kernel::file::Fd;
use crate::kernel::poll::PollEvents;
use crate::user::Driver;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "vgem_handle",
        name: "oracle@vgem_handle",
        about: "create, map through the DRM file, close the handle",
        expects: Expects::Clean,
        program: vgem_handle,
    },
    Scenario {
        id: "vgem_export",
        name: "oracle@vgem_export",
        about: "create, export, map the dma-buf, poll it and name it",
        expects: Expects::MapsDmaBuf,
        program: vgem_export,
    },
    Scenario {
        id: "vgem_self_import",
        name: "oracle@vgem_self_import",
        about: "create, export, import into the same file, map the dma-buf and the DRM file",
        expects: Expects::MapsDmaBuf,
        program: vgem_self_import,
    },
    Scenario {
        id: "vgem_into_vkms",
        name: "oracle@vgem_into_vkms",
        about: "create in vgem, import into vkms, export again, map both dma-buf descriptors",
        expects: Expects::PinsThenMaps,
        program: vgem_into_vkms,
    },
    Scenario {
        id: "importer_vgem",
        name: "oracle@importer_vgem",
        about: "create in vgem, map through a driver whose mmap forwards to dma_buf_mmap()",
        expects: Expects::MapsDmaBuf,
        program: importer_vgem,
    },
];

/// Maps a buffer, writes a byte in each page, lets a child write one, unmaps it in halves.
pub(super) fn use_buffer(world: &World, fd: Fd, offset: u64, sync: bool) -> Outcome {
    let init = &world.init;
    let address = world.map(fd, offset)?;
    if sync {
        init.sync_start(fd, DMA_BUF_SYNC_RW)?;
    }
    for page in (0..BYTES).step_by(PAGE) {
        init.write_byte(address + page, 1)?;
    }
    if sync {
        init.sync_end(fd, DMA_BUF_SYNC_RW)?;
    }
    init.fork(move |child| child.write_byte(address, 2))?.wait()?;
    expect_eq("the byte that the child wrote", init.read_byte(address)?, 2)?;
    init.munmap(address + BYTES / 2, BYTES / 2)?;
    init.munmap(address, BYTES / 2)?;
    Ok(())
}

/// Polls a buffer, takes a sync file out and puts it back in, gives the buffer a name.
pub(super) fn poll(world: &World, buffer: Fd) -> Outcome {
    let init = &world.init;
    let both = PollEvents::IN | PollEvents::OUT;
    expect_eq("poll", init.poll(buffer, both)?, both)?;
    let sync_file = init.export_sync_file(buffer, DMA_BUF_SYNC_RW)?;
    init.import_sync_file(buffer, DMA_BUF_SYNC_WRITE, sync_file)?;
    init.close(sync_file)?;
    Ok(init.set_name(buffer, "oracle")?)
}

/// Maps a buffer through the DRM file.
fn dumbmap(world: &World, drm: Fd, handle: Handle) -> Outcome {
    let offset = world.init.mode_map_dumb(drm, handle)?;
    use_buffer(world, drm, offset, false)
}

/// Imports a buffer into a driver, exports it again, uses both descriptors.
pub(super) fn import(world: &World, driver: Driver, buffer: Fd) -> Outcome {
    let init = &world.init;
    let drm = init.open(driver)?;
    let handle = init.prime_fd_to_handle(drm, buffer)?;
    // An imported buffer is not a dumb buffer.
    expect_error("MAP_DUMB of an import", init.mode_map_dumb(drm, handle), Errno::EINVAL)?;
    let again = world.export(drm, handle)?;
    use_buffer(world, again, 0, true)?;
    use_buffer(world, buffer, 0, true)?;
    poll(world, again)?;
    init.close(again)?;
    init.gem_close(drm, handle)?;
    init.close(buffer)?;
    Ok(init.close(drm)?)
}

fn vgem_handle(world: &World) -> Outcome {
    let init = &world.init;
    let vgem = init.open(Driver::Vgem)?;
    let handle = world.create(vgem)?;
    dumbmap(world, vgem, handle)?;
    init.gem_close(vgem, handle)?;
    Ok(init.close(vgem)?)
}

fn vgem_export(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    use_buffer(world, buffer, 0, true)?;
    poll(world, buffer)?;
    init.close(buffer)?;
    init.gem_close(vgem, handle)?;
    Ok(init.close(vgem)?)
}

fn vgem_self_import(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    expect_eq("the handle that comes back", init.prime_fd_to_handle(vgem, buffer)?, handle)?;
    use_buffer(world, buffer, 0, true)?;
    dumbmap(world, vgem, handle)?;
    init.gem_close(vgem, handle)?;
    init.close(buffer)?;
    Ok(init.close(vgem)?)
}

fn vgem_into_vkms(world: &World) -> Outcome {
    let (_vgem, _handle, buffer) = world.vgem_buffer()?;
    // The vgem file stays open to the end of the process.
    import(world, Driver::Vkms, buffer)
}

fn importer_vgem(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    let importer = init.open(Driver::Importer)?;
    init.importer_set_buffer(importer, buffer)?;
    use_buffer(world, importer, 0, false)?;
    init.close(importer)?;
    init.close(buffer)?;
    init.gem_close(vgem, handle)?;
    Ok(init.close(vgem)?)
}
