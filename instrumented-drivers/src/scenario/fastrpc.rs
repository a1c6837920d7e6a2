// SPDX-License-Identifier: GPL-2.0-only
//! Buffers of a signal processor.
#![forbid(unsafe_code)]

use super::world::{BYTES, Outcome, World, expect_eq, expect_error};
use super::{Expects, Scenario};
use crate::kernel::errno::Errno;
use crate::kernel::fault::{Plan, inject};
use crate::misc::fastrpc::dsp::Method;
use crate::user::Driver;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    id: "R1",
    name: "fastrpc@buffers",
    about: "allocate, map, let another session's DSP write; it answers when caller, session and buffer are gone",
    expects: Expects::AssertsWhatP1Held,
    program: buffers,
}];

fn buffers(world: &World) -> Outcome {
    let init = &world.init;
    let buffer = world.allocate(Driver::Fastrpc)?;
    let address = world.map(buffer, 0)?;
    let session = init.open(Driver::Fastrpc)?;
    init.fastrpc_invoke(session, Method::Fill(7), &[buffer])?;
    expect_eq("what the DSP wrote", init.read_byte(address + BYTES - 4096)?, 7)?;
    // Mapped for good, then used by a call, then unmapped.
    init.fastrpc_mem_map(session, buffer)?;
    init.fastrpc_invoke(session, Method::Fill(8), &[buffer])?;
    init.fastrpc_mem_unmap(session, buffer)?;
    expect_error("unmapped already", init.fastrpc_mem_unmap(session, buffer), Errno::EINVAL)?;
    // A call that a signal interrupts, and an answer when nobody is left to take it.
    world.kernel.settle();
    let dsp = world.kernel.fastrpc().dsp();
    dsp.pause();
    let call = || init.fastrpc_invoke(session, Method::Fill(9), &[buffer]);
    expect_error("interrupted", inject(Plan::interrupt(1), call).0, Errno::EINTR)?;
    init.close(session)?;
    init.close(buffer)?;
    expect_eq("before the answer", init.read_byte(address)?, 8)?;
    expect_eq("calls that use it", world.kernel.live().count("fastrpc_invoke_ctx"), 1)?;
    dsp.go_on();
    world.kernel.settle();
    expect_eq("after it", init.read_byte(address)?, 9)?;
    expect_eq("calls", world.kernel.live().count("fastrpc_invoke_ctx"), 0)?;
    expect_eq("maps", world.kernel.live().count("fastrpc_map"), 0)?;
    Ok(init.munmap(address, BYTES)?)
}
