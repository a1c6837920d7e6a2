// SPDX-License-Identifier: GPL-2.0-only
//! Bugs of the GEM shmem helper.
#![forbid(unsafe_code)]

use lockdep::ReportKind::{AssertHeld, Recursive};

use super::{Case, Expected, P2_A, P2_B, P2_B0, P2_C, RESV, Switch};
use crate::scenario::import::second_driver_vmap;
use crate::scenario::world::{Outcome, World};
use crate::user::Driver;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "2",
        name: "the helper's pin asserts a lock that nobody takes",
        switch: Switch::Setups(P2_B0, P2_B),
        expected: Expected::report(AssertHeld, RESV, "drm_gem_shmem_pin_locked"),
        program: foreign_import,
    },
    Case {
        id: "44",
        name: "an import's vmap_lock around the exporter's",
        switch: Switch::Setups(P2_A, P2_C),
        expected: Expected::report(Recursive, "&shmem->vmap_lock", "drm_gem_shmem_vmap"),
        program: second_driver_vmap,
    },
];

fn foreign_import(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    let vkms = init.open(Driver::Vkms)?;
    let imported = init.prime_fd_to_handle(vkms, buffer)?;
    init.gem_close(vkms, imported)?;
    Ok(init.gem_close(vgem, handle)?)
}
