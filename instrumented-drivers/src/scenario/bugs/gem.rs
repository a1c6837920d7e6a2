// SPDX-License-Identifier: GPL-2.0-only
//! Bugs of drivers with GEM objects of their own.
#![forbid(unsafe_code)]

use lockdep::ReportKind::Circular;

use super::{Case, Expected, P2_C, RESV, Switch};
use crate::bug::Bug;
use crate::scenario::world::{Outcome, World};
use crate::user::Driver;

pub(super) const CASES: &[Case] = &[Case {
    id: "43",
    name: "omapdrm frees an import under its object's lock",
    switch: Switch::Bug(Bug::OmapFreesUnderLock, P2_C),
    expected: Expected::report(Circular, RESV, "dma_buf_unmap_attachment_unlocked"),
    program: omap_both_ways,
}];

/// Another device maps an omapdrm object; omapdrm frees an import of another device's.
fn omap_both_ways(world: &World) -> Outcome {
    let init = &world.init;
    let (omap, _, ours) = world.buffer_of(Driver::Omapdrm)?;
    let (vgem, _, theirs) = world.vgem_buffer()?;
    init.prime_fd_to_handle(vgem, ours)?;
    let imported = init.prime_fd_to_handle(omap, theirs)?;
    Ok(init.gem_close(omap, imported)?)
}
