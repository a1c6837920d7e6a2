// SPDX-License-Identifier: GPL-2.0-only
//! IGT `prime_self_import`: buffers that come back to their own device, through one file, two, or a duplicate; and a
//! second device that looks into a buffer it has imported.
#![forbid(unsafe_code)]

use super::world::{BYTES, Outcome, World, expect_eq, expect_error};
use super::{Expects, Scenario};
use crate::kernel::errno::Errno;
use crate::user::Driver;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "S1",
        name: "prime_self_import@basic-with_one_bo",
        about: "one buffer in two files of one device: the same handles come back, whoever is closed first",
        expects: Expects::Clean,
        program: one_bo,
    },
    Scenario {
        id: "S2",
        name: "prime_self_import@basic-with_one_bo_two_files",
        about: "a buffer with a global name, opened and exported in a second file",
        expects: Expects::Clean,
        program: one_bo_two_files,
    },
    Scenario {
        id: "S3",
        name: "prime_self_import@basic-with_two_bos",
        about: "two buffers, one imported; closing one leaves the other alone",
        expects: Expects::Clean,
        program: two_bos,
    },
    Scenario {
        id: "S4",
        name: "prime_self_import@basic-with_fd_dup",
        about: "import from a duplicate of the descriptor after the handle is closed",
        expects: Expects::Clean,
        program: fd_dup,
    },
    Scenario {
        id: "S7",
        name: "prime_self_import@basic-llseek-size",
        about: "the end of a dma-buf is its size; other files have none",
        expects: Expects::Clean,
        program: llseek_size,
    },
    Scenario {
        id: "P15",
        name: "import@second-driver-vmap",
        about: "a display, a GPU: each maps, for the kernel, a buffer that it has imported from another driver",
        expects: Expects::VmapsImport,
        program: second_driver_vmap,
    },
];

fn one_bo(world: &World) -> Outcome {
    let init = &world.init;
    let (first, second) = (init.open(Driver::Vgem)?, init.open(Driver::Vgem)?);
    let handle = world.create(first)?;
    let buffer = world.export(first, handle)?;
    let imported = init.prime_fd_to_handle(second, buffer)?;
    expect_eq("imported twice", init.prime_fd_to_handle(second, buffer)?, imported)?;
    expect_eq("imported at home", init.prime_fd_to_handle(first, buffer)?, handle)?;
    init.close(buffer)?;
    expect_eq("objects while both files have a handle", world.kernel.live().count("drm_gem_object"), 1)?;
    init.gem_close(first, handle)?;
    let buffer = world.export(second, imported)?;
    let back = init.prime_fd_to_handle(first, buffer)?;
    expect_eq("imported at home again", init.prime_fd_to_handle(first, buffer)?, back)?;
    expect_eq("imported again", init.prime_fd_to_handle(second, buffer)?, imported)?;
    init.close(first)?;
    expect_eq("objects without the first file", world.kernel.live().count("drm_gem_object"), 1)?;
    init.close(buffer)?;
    init.gem_close(second, imported)?;
    expect_eq("objects at the end", world.kernel.live().count("drm_gem_object"), 0)?;
    Ok(init.close(second)?)
}

fn one_bo_two_files(world: &World) -> Outcome {
    let init = &world.init;
    let (first, second) = (init.open(Driver::Vgem)?, init.open(Driver::Vgem)?);
    let handle = world.create(first)?;
    let name = init.gem_flink(first, handle)?;
    expect_eq("named twice", init.gem_flink(first, handle)?, name)?;
    let opened = init.gem_open(second, name)?;
    let buffer = world.export(second, opened)?;
    expect_eq("imported where it was exported", init.prime_fd_to_handle(second, buffer)?, opened)?;
    init.gem_close(second, opened)?;
    init.gem_close(first, handle)?;
    expect_error("a name that went with the last handle", init.gem_open(first, name), Errno::ENOENT)?;
    init.close(buffer)?;
    init.close(first)?;
    Ok(init.close(second)?)
}

fn two_bos(world: &World) -> Outcome {
    let init = &world.init;
    let (first, second) = (init.open(Driver::Vgem)?, init.open(Driver::Vgem)?);
    let (one, two) = (world.create(first)?, world.create(first)?);
    let (buffer_one, buffer_two) = (world.export(first, one)?, world.export(first, two)?);
    let imported = init.prime_fd_to_handle(second, buffer_one)?;
    init.close(buffer_one)?;
    init.gem_close(first, one)?;
    init.gem_close(first, two)?;
    let address = world.map(second, init.mode_map_dumb(second, imported)?)?;
    world.fill(address, 1)?;
    init.gem_close(second, imported)?;
    world.check(address, 1)?;
    init.munmap(address, BYTES)?;
    init.close(buffer_two)?;
    expect_eq("objects at the end", world.kernel.live().count("drm_gem_object"), 0)?;
    init.close(first)?;
    Ok(init.close(second)?)
}

fn fd_dup(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    let copy = init.dup(buffer)?;
    init.close(buffer)?;
    init.gem_close(vgem, handle)?;
    let again = init.prime_fd_to_handle(vgem, copy)?;
    init.close(copy)?;
    let address = world.map(vgem, init.mode_map_dumb(vgem, again)?)?;
    init.gem_close(vgem, again)?;
    world.fill(address, 1)?;
    init.munmap(address, BYTES)?;
    Ok(init.close(vgem)?)
}

fn llseek_size(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    expect_eq("the size", init.lseek_end(buffer)?, BYTES)?;
    expect_error("the end of a DRM file", init.lseek_end(vgem), Errno::ESPIPE)?;
    init.close(buffer)?;
    expect_error("a closed descriptor", init.lseek_end(buffer), Errno::EBADF)?;
    init.gem_close(vgem, handle)?;
    Ok(init.close(vgem)?)
}

/// The helper of the importer calls the helper of the exporter. In regime A each takes its own `vmap_lock`, and the two
/// are one class: the validator must say so, although these two never wait for each other.
pub(super) fn second_driver_vmap(world: &World) -> Outcome {
    for (from, to) in
        [(Driver::Vgem, Driver::Vkms), (Driver::Vkms, Driver::Panfrost), (Driver::Panfrost, Driver::Vkms)]
    {
        vmap_import(world, from, to)?;
    }
    Ok(())
}

fn vmap_import(world: &World, from: Driver, to: Driver) -> Outcome {
    let init = &world.init;
    let (exporter, handle, buffer) = world.buffer_of(from)?;
    let importer = init.open(to)?;
    let imported = init.prime_fd_to_handle(importer, buffer)?;
    let (ours, theirs) = (world.object(importer, imported)?, world.object(exporter, handle)?);
    let last = usize::try_from(BYTES - 1).unwrap_or(0);
    let map = ours.vmap_unlocked()?;
    map.write(0, 17);
    map.write(last, 18);
    drop(map);
    let map = theirs.vmap_unlocked()?;
    let read = (map.read(0), map.read(last));
    drop(map);
    expect_eq("what the exporter reads of it", read, (17, 18))?;
    drop(ours);
    drop(theirs);
    init.close(buffer)?;
    init.gem_close(importer, imported)?;
    init.close(importer)?;
    init.gem_close(exporter, handle)?;
    Ok(init.close(exporter)?)
}
