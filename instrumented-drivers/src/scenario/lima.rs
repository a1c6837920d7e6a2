// SPDX-License-Identifier: GPL-2.0-only
//! Objects, heaps and jobs of the older GPU.
#![forbid(unsafe_code)]

use super::world::{BYTES, Failure, Handle, Outcome, World, expect_eq, expect_error};
use super::{Expects, Scenario};
use crate::drm::gem_reservations::WaitTimeout;
use crate::drm::lima::{LIMA_BO_FLAG_HEAP, LimaFrame, LimaSubmit, LimaSubmitBo, Pipe};
use crate::kernel::errno::Errno;
use crate::kernel::file::Fd;
use crate::kernel::mm::MapFlags;
use crate::user::Driver;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    id: "P14",
    name: "lima@heaps",
    about: "objects and heaps, a job that makes a heap grow, one that hangs and is dumped",
    // Its dump maps the objects for the kernel.
    expects: Expects::Vmaps,
    program,
}];

const PAGES: u64 = BYTES / 4096;

fn program(world: &World) -> Outcome {
    let init = &world.init;
    let lima = init.open(Driver::Lima)?;
    let size = usize::try_from(BYTES).unwrap_or_default();
    let handle = world.create(lima)?;
    let heap = init.lima_gem_create(lima, size, LIMA_BO_FLAG_HEAP)?;
    let [address, heap_address] = [init.lima_gem_info(lima, handle)?, init.lima_gem_info(lima, heap)?];
    expect_error("map a heap", map(world, lima, heap), Errno::EINVAL)?;
    let cpu = map(world, lima, handle)?;
    let ctx = init.lima_ctx_create(lima)?;
    let bos = [handle, heap].map(|handle| LimaSubmitBo { handle, write: true });
    let submit = |pipe, frame| init.lima_gem_submit(lima, &LimaSubmit::new(ctx, pipe, frame, bos.into()));
    submit(Pipe::Gp, LimaFrame::FillHeap { address: heap_address, pages: PAGES, value: 1 })?;
    submit(Pipe::Pp, LimaFrame::Fill { address, pages: PAGES, value: 2 })?;
    world.kernel.settle();
    init.lima_gem_wait(lima, handle, true, WaitTimeout::Forever)?;
    expect_eq("what the GPU wrote", init.read_byte(cpu + BYTES - 4096)?, 2)?;
    submit(Pipe::Pp, LimaFrame::Hang)?;
    world.kernel.settle();
    expect_error("in use", init.lima_gem_wait(lima, handle, false, WaitTimeout::Now), Errno::EBUSY)?;
    let device = world.kernel.lima().ok_or_else(|| Failure::new("no GPU"))?;
    device.fire_timeout(Pipe::Pp);
    world.kernel.settle();
    init.lima_gem_wait(lima, handle, false, WaitTimeout::Now)?;
    let tasks = device.error_tasks();
    let sizes = tasks.iter().flat_map(|task| &task.buffers).map(|(_, bytes)| bytes.len()).collect();
    expect_eq("what is kept of it", sizes, vec![size; 2])?;
    init.munmap(cpu, BYTES)?;
    init.lima_ctx_free(lima, ctx)?;
    init.gem_close(lima, heap)?;
    Ok(init.close(lima)?)
}

fn map(world: &World, lima: Fd, handle: Handle) -> Result<u64, Errno> {
    let offset = world.init.driver_map_offset(lima, handle)?;
    world.init.mmap(lima, BYTES, offset, MapFlags::SHARED)
}
