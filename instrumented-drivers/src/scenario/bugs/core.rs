// SPDX-License-Identifier: GPL-2.0-only
//! Bugs of the dma-buf core, of `mmap`, and of exporters outside DRM.
#![forbid(unsafe_code)]

use lockdep::ReportKind::{AssertHeld, Circular, WaitContext};

use super::{Case, Ends, Expected, P1_A, P1_B, P2_B, P2_C, RESV, Switch, gem, overtaken};
use crate::bug::Bug;
use crate::dma_buf::DmaBuf;
use crate::dma_buf::access::dmabuffs_dname;
use crate::dma_buf::ioctl::DMA_BUF_SYNC_RW;
use crate::dma_buf::resv::{dma_resv_lock, dma_resv_unlock};
use crate::drm::vgem::VgemFence;
use crate::kernel::errno::Errno;
use crate::kernel::file::Fd;
use crate::kernel::locking::{rcu_read_lock, rcu_read_unlock};
use crate::kernel::mm::MapFlags;
use crate::media::videobuf2::Memory;
use crate::scenario::mission::{Cell, Exporter, MapPath};
use crate::scenario::world::{BYTES, Failure, Handle, Outcome, World, expect_eq};
use crate::user::{Child, Driver, Process, QueueBuffer};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "1",
        name: "own dma-buf is mapped, the core holds its lock",
        switch: Switch::Setups(P1_B, P2_B),
        expected: Expected::hang(RESV, "drm_gem_shmem_mmap"),
        program: |world| map(world, Exporter::Vgem, MapPath::SelfImportFd),
    },
    Case {
        id: "4",
        name: "fastrpc's mmap asserts what P2 does not hold",
        switch: Switch::Bug(Bug::FastrpcMmapAssert, P2_C),
        expected: Expected::reports(&[AssertHeld], RESV, "fastrpc_mmap"),
        program: |world| map(world, Exporter::Fastrpc, MapPath::DmaBufFd),
    },
    Case {
        id: "5",
        name: "one of two ways to mmap does not lock",
        switch: Switch::Bug(Bug::OwnMmapUnlocked, P1_A),
        expected: Expected::reports(&[AssertHeld], RESV, "drm_gem_dmabuf_mmap"),
        program: one_of_two_ways,
    },
    Case {
        id: "7",
        name: "import is mapped, the core holds its lock",
        switch: Switch::Setups(P1_B, P2_B),
        expected: Expected::hang(RESV, "drm_gem_shmem_mmap"),
        program: |world| map(world, Exporter::Panfrost, MapPath::ForeignImportFd),
    },
    Case {
        id: "24",
        name: "vb2: mmap against queueing of user memory",
        switch: Switch::Bug(Bug::Vb2MmapLocksQueue, P2_C),
        expected: Expected::reports(&[Circular], "&dev->mutex", "vb2_mmap"),
        program: mmap_after_userptr,
    },
    Case {
        id: "38",
        name: "dma-buf's name has a mutex, is read in atomic",
        switch: Switch::Bug(Bug::NameMutex, P2_C),
        expected: Expected::reports(&[WaitContext], "&dmabuf->lock", "dmabuffs_dname"),
        program: read_name,
    },
    Case {
        id: "45",
        name: "udmabuf: two tasks both make a table",
        switch: Switch::Bug(Bug::UdmabufTableUnlocked, P2_C),
        expected: Expected::silence(
            "no lock is taken at all, so none is taken in a wrong order",
            Ends::Failed("never freed: [(\"sg_table\", 1)]"),
        ),
        program: two_accesses,
    },
    Case {
        id: "45-guard",
        name: "the same, told which lock guards the table",
        switch: Switch::BugWithout(Bug::UdmabufTableUnlocked, P2_C, &[Bug::GuardsUnannotated]),
        expected: Expected::reports(&[AssertHeld], RESV, "begin_cpu_udmabuf"),
        program: one_access,
    },
    Case {
        id: "46",
        name: "vgem: two tasks both find no conflict",
        switch: Switch::Bug(Bug::VgemTestsUnlocked, P2_C),
        expected: Expected::silence(
            "the look for a conflict needs no lock; that it must be under the same hold as what follows, no rule says",
            Ends::Failed("fences that were attached: expected 1, got 2"),
        ),
        program: two_fences,
    },
    Case {
        id: "46-guard",
        name: "the same, told which lock guards the look",
        switch: Switch::BugWithout(Bug::VgemTestsUnlocked, P2_C, &[Bug::GuardsUnannotated]),
        expected: Expected::reports(&[AssertHeld], RESV, "vgem_fence_attach_ioctl"),
        program: |world| attach_fence(&world.init, world.vgem_buffer()?).map(drop).map_err(Failure::from),
    },
    Case {
        id: "48",
        name: "one buffer is twice in a job",
        switch: Switch::Nothing(P2_C),
        expected: Expected::silence(
            "-EALREADY is the answer, with nothing held; there is no broken code",
            Ends::Done,
        ),
        program: |world| gem::lock_twice(world),
    },
];

/// Maps a buffer on one of the paths to its exporter's `mmap`.
pub(super) fn map(world: &World, exporter: Exporter, path: MapPath) -> Outcome {
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

/// Shows the map of a process, as `/proc` does.
fn read_name(world: &World) -> Outcome {
    let (_, _, buffer) = world.vgem_buffer()?;
    world.init.set_name(buffer, "frame")?;
    let buf = DmaBuf::of(&world.init.peek(buffer)?).ok_or_else(|| Failure::new("not a dma-buf"))?;
    rcu_read_lock();
    let name = dmabuffs_dname(&buf);
    rcu_read_unlock();
    expect_eq("the name", name.as_deref(), Some("frame"))
}

fn one_access(world: &World) -> Outcome {
    let buffer = world.allocate(Driver::Udmabuf)?;
    Ok(world.init.sync_start(buffer, DMA_BUF_SYNC_RW)?)
}

fn two_accesses(world: &World) -> Outcome {
    let buffer = world.allocate(Driver::Udmabuf)?;
    let access = move |task: &Process| task.sync_start(buffer, DMA_BUF_SYNC_RW);
    overtaken(world, Bug::UdmabufTableUnlocked, || Ok(access(&world.init)?), access)
}

fn attach_fence(task: &Process, (vgem, handle, _): (Fd, Handle, Fd)) -> Result<VgemFence, Errno> {
    task.vgem_fence_attach(vgem, handle, true)
}

/// Two tasks find the buffer free while a third has its lock.
fn two_fences(world: &World) -> Outcome {
    let buffer = world.vgem_buffer()?;
    let object = world.object(buffer.0, buffer.1)?;
    let resv = object.0.resv();
    dma_resv_lock(resv);
    let attach = || world.init.spawn(move |task| attach_fence(task, buffer));
    let tasks = [attach()?, attach()?];
    while resv.waiters() < tasks.len() {
        std::thread::yield_now();
    }
    dma_resv_unlock(resv);
    let attached = tasks.map(Child::wait).iter().filter(|attached| attached.is_ok()).count();
    expect_eq("fences that were attached", attached, 1)
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
