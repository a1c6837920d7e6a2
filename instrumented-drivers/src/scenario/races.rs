// SPDX-License-Identifier: GPL-2.0-only
//! IGT `prime_self_import` races: real threads, a bounded number of rounds. Which thread is first is up to the
//! machine; whatever happens, only the errors that are allowed come back, and nothing is left.
#![forbid(unsafe_code)]

use super::world::{Failure, Handle, Outcome, SIDE, World, expect_eq};
use super::{Expects, Scenario};
use crate::drm::prime::DRM_RDWR;
use crate::kernel::errno::Errno;
use crate::kernel::file::Fd;
use crate::user::{Driver, Process};

const THREADS: usize = 4;
const ROUNDS: usize = 50;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "S5",
        name: "prime_self_import@export-vs-gem_close-race",
        about: "threads create, export and close handle 1 of one file",
        expects: Expects::Clean,
        program: export_vs_close,
    },
    Scenario {
        id: "S6",
        name: "prime_self_import@reimport-vs-gem_close-race",
        about: "threads import one dma-buf into one file and close the handle",
        expects: Expects::Clean,
        program: reimport_vs_close,
    },
];

/// Runs this in several threads of the process and waits for all.
fn in_threads(
    world: &World,
    work: fn(&Process, Fd, Fd) -> Result<(), Errno>,
    drm: Fd,
    buffer: Fd,
) -> Outcome {
    let started: Result<Vec<_>, Errno> =
        (0..THREADS).map(|_| world.init.spawn(move |thread| work(thread, drm, buffer))).collect();
    // Wait for all before one failure is passed on: the world must not end under a thread.
    let results: Vec<_> = started?.into_iter().map(|thread| thread.wait()).collect();
    results.into_iter().collect::<Result<(), Errno>>().map_err(Failure::from)
}

/// Nothing, or one of the errors that a race may end with.
pub(super) fn allow<T>(result: Result<T, Errno>, allowed: &[Errno]) -> Result<Option<T>, Errno> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if allowed.contains(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn export_vs_close(world: &World) -> Outcome {
    let vgem = world.init.open(Driver::Vgem)?;
    in_threads(world, create_export_close, vgem, vgem)?;
    expect_eq("objects at the end", world.kernel.live().count("drm_gem_object"), 0)?;
    Ok(world.init.close(vgem)?)
}

fn create_export_close(thread: &Process, drm: Fd, _buffer: Fd) -> Result<(), Errno> {
    (0..ROUNDS).try_for_each(|_| race_for_first_handle(thread, drm))
}

/// One round of it.
pub(super) fn race_for_first_handle(thread: &Process, drm: Fd) -> Result<(), Errno> {
    let own = thread.mode_create_dumb(drm, SIDE, 1, 32)?;
    // Whoever has handle 1 now: another thread may close it at any moment.
    let buffer = allow(thread.prime_handle_to_fd(drm, Handle(1), DRM_RDWR), &[Errno::ENOENT])?;
    if let Some(buffer) = buffer {
        thread.close(buffer)?;
    }
    allow(thread.gem_close(drm, Handle(1)), &[Errno::EINVAL])?;
    if own != Handle(1) {
        allow(thread.gem_close(drm, own), &[Errno::EINVAL])?;
    }
    Ok(())
}

fn reimport_vs_close(world: &World) -> Outcome {
    let init = &world.init;
    let (first, handle, buffer) = world.vgem_buffer()?;
    let second = init.open(Driver::Vgem)?;
    in_threads(world, import_close, second, buffer)?;
    init.close(second)?;
    init.close(buffer)?;
    init.gem_close(first, handle)?;
    expect_eq("objects at the end", world.kernel.live().count("drm_gem_object"), 0)?;
    Ok(init.close(first)?)
}

fn import_close(thread: &Process, drm: Fd, buffer: Fd) -> Result<(), Errno> {
    for _ in 0..ROUNDS {
        let handle = thread.prime_fd_to_handle(drm, buffer)?;
        // Two threads may have been given the same handle; one of them closes it.
        allow(thread.gem_close(drm, handle), &[Errno::EINVAL])?;
    }
    Ok(())
}
