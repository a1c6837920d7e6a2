// SPDX-License-Identifier: GPL-2.0-only
//! Bugs of the dma-buf core, of `mmap`, and of exporters outside DRM.
#![forbid(unsafe_code)]

use lockdep::ReportKind::{AssertHeld, Circular};

use super::{Case, Expected, P1_A, P1_B, P2_B, P2_C, RESV, Switch};
use crate::bug::Bug;
use crate::kernel::mm::MapFlags;
use crate::media::videobuf2::Memory;
use crate::scenario::mission::{Cell, Exporter, MapPath};
use crate::scenario::world::{BYTES, Outcome, World, expect_eq};
use crate::user::{Driver, QueueBuffer};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "1",
        name: "mmap of the dma-buf of one's own buffer, the core holds the lock",
        switch: Switch::Setups(P1_B, P2_B),
        expected: Expected::hang(RESV, "drm_gem_shmem_mmap"),
        program: |world| map(world, Exporter::Vgem, MapPath::SelfImportFd),
    },
    Case {
        id: "4",
        name: "fastrpc asserts in mmap what P2 no longer holds",
        switch: Switch::Bug(Bug::FastrpcMmapAssert, P2_C),
        expected: Expected::report(AssertHeld, RESV, "fastrpc_mmap"),
        program: |world| map(world, Exporter::Fastrpc, MapPath::DmaBufFd),
    },
    Case {
        id: "5",
        name: "one of the core's two ways to mmap does not lock",
        switch: Switch::Bug(Bug::OwnMmapUnlocked, P1_A),
        expected: Expected::report(AssertHeld, RESV, "drm_gem_dmabuf_mmap"),
        program: one_of_two_ways,
    },
    Case {
        id: "7",
        name: "mmap of an import, the core holds the exporter's lock",
        switch: Switch::Setups(P1_B, P2_B),
        expected: Expected::hang(RESV, "drm_gem_shmem_mmap"),
        program: |world| map(world, Exporter::Panfrost, MapPath::ForeignImportFd),
    },
    Case {
        id: "24",
        name: "mmap of a video queue takes the lock that USERPTR queueing holds",
        switch: Switch::Bug(Bug::Vb2MmapLocksQueue, P2_C),
        expected: Expected::report(Circular, "&dev->mutex", "vb2_mmap"),
        program: mmap_after_userptr,
    },
];

/// Maps a buffer on one of the paths to its exporter's `mmap`.
fn map(world: &World, exporter: Exporter, path: MapPath) -> Outcome {
    Cell { setup: world.setup, exporter, path, fixed: false }.program(world)
}

/// An importer forwards to `dma_buf_mmap`, the buffer's own file goes to `dma_buf_mmap_internal`.
fn one_of_two_ways(world: &World) -> Outcome {
    map(world, Exporter::Vgem, MapPath::ForeignImportFd)?;
    let entries = world.kernel.mmap_log();
    let held = |path| entries.iter().filter(|entry| entry.path == path).all(|entry| entry.resv_held);
    expect_eq("held in dma_buf_mmap", held("dma_buf_mmap"), true)?;
    let own_file = !world.kernel.core().has(Bug::OwnMmapUnlocked);
    expect_eq("held in dma_buf_mmap_internal", held("dma_buf_mmap_internal"), own_file)
}

fn mmap_after_userptr(world: &World) -> Outcome {
    let init = &world.init;
    let size = usize::try_from(BYTES).unwrap_or_default();
    let camera = init.open(Driver::VividVmalloc)?;
    init.create_bufs(camera, 1, Memory::UserPtr, &[size])?;
    let memory = init.memfd_create(size)?;
    let address = init.mmap(memory, BYTES, 0, MapFlags::SHARED)?;
    init.qbuf(camera, &QueueBuffer::userptr(0, &[(address, size)]))?;
    init.reqbufs(camera, 0, Memory::UserPtr)?;
    init.create_bufs(camera, 1, Memory::Mmap, &[size])?;
    let mapped = world.map(camera, world.frame_offset(camera, 0)?)?;
    Ok(init.munmap(mapped, BYTES)?)
}
