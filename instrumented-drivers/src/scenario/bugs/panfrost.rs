// SPDX-License-Identifier: GPL-2.0-only
//! Bugs of panfrost.
#![forbid(unsafe_code)]

use lockdep::ReportKind::Circular;

use super::{Case, Expected, P2_A, P2_C, RESV, Switch};
use crate::bug::Bug;
use crate::drm::panfrost::drv::PanfrostMadv;
use crate::kernel::shrinker::kswapd;
use crate::scenario::mission::{Cell, Exporter, MapPath};
use crate::scenario::world::{Outcome, World, expect_eq};
use crate::user::Driver;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "3",
        name: "the pin callback locks again what the GEM core has locked",
        switch: Switch::Bug(Bug::PinLocksAgain, P2_C),
        expected: Expected::hang(RESV, "drm_gem_shmem_pin"),
        program: |world| {
            let path = MapPath::ForeignImportFd;
            Cell { setup: world.setup, exporter: Exporter::Panfrost, path, fixed: false }.program(world)
        },
    },
    Case {
        id: "9",
        name: "the shrinker and madvise take two locks in opposite orders",
        switch: Switch::Bug(Bug::PurgeLocksPagesFirst, P2_A),
        expected: Expected::report(Circular, "&obj->mappings.lock", "purge_as_before_5_10"),
        program: advise_then_reclaim,
    },
];

fn advise_then_reclaim(world: &World) -> Outcome {
    let init = &world.init;
    let gpu = init.open(Driver::Panfrost)?;
    let handle = world.create(gpu)?;
    init.panfrost_madvise(gpu, handle, PanfrostMadv::DontNeed)?;
    expect_eq("pages that reclaim gets", kswapd(world.kernel.core(), usize::MAX), 64)
}
