// SPDX-License-Identifier: GPL-2.0-only
//! Bugs of panfrost.
#![forbid(unsafe_code)]

use lockdep::ReportKind::Circular;

use super::core::map;
use super::{Case, Ends, Expected, P2_A, P2_C, RESV, Switch};
use crate::bug::Bug;
use crate::drm::panfrost::drv::PanfrostMadv;
use crate::drm::panfrost::gem::{PANFROST_BO_HEAP, PANFROST_BO_NOEXEC};
use crate::drm::panfrost::mmu::SZ_2M;
use crate::drm::panfrost::submit::WaitTimeout;
use crate::kernel::shrinker::kswapd;
use crate::scenario::mission::{Exporter, MapPath};
use crate::scenario::world::{Outcome, World, expect_eq};
use crate::user::{Driver, Programs};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "3",
        name: "panfrost's pin locks what the core has locked",
        switch: Switch::Bug(Bug::PinLocksAgain, P2_C),
        expected: Expected::hang(RESV, "drm_gem_shmem_pin"),
        program: |world| map(world, Exporter::Panfrost, MapPath::ForeignImportFd),
    },
    Case {
        id: "9",
        name: "panfrost: shrinker against madvise",
        switch: Switch::Bug(Bug::PurgeLocksPagesFirst, P2_A),
        expected: Expected::reports(&[Circular], "&obj->mappings.lock", "purge_as_before_5_10"),
        program: advise_then_reclaim,
    },
    Case {
        id: "41",
        name: "panfrost's fault handler allocates memory",
        switch: Switch::Bug(Bug::FaultAllocates, P2_C),
        expected: Expected::silence("nobody says that fences depend on the handler", Ends::Done),
        program: grow_heap,
    },
    Case {
        id: "41-sig",
        name: "the same, told that fences depend on it",
        switch: Switch::BugWithout(Bug::FaultAllocates, P2_C, &[Bug::FaultsUnannotated, Bug::FaultLocksResv]),
        expected: Expected::reports(&[Circular], "fs_reclaim", "slab_alloc_node"),
        program: grow_heap,
    },
    Case {
        id: "42",
        name: "panfrost's fault handler locks a buffer",
        switch: Switch::Bug(Bug::FaultLocksResv, P2_C),
        expected: Expected::silence("who waits for a fence under the lock waits for no lock", Ends::Done),
        program: grow_heap,
    },
    Case {
        id: "42-sig",
        name: "the same, told that fences depend on it",
        switch: Switch::BugWithout(Bug::FaultLocksResv, P2_C, &[Bug::FaultsUnannotated, Bug::FaultAllocates]),
        expected: Expected::reports(&[Circular], RESV, "panfrost_mmu_map_fault_addr"),
        program: grow_heap,
    },
];

fn grow_heap(world: &World) -> Outcome {
    let init = &world.init;
    let gpu = init.open(Driver::Panfrost)?;
    let programs = Programs::new(init, gpu)?;
    let (heap, base) = init.panfrost_create_bo(gpu, SZ_2M, PANFROST_BO_HEAP | PANFROST_BO_NOEXEC)?;
    let chain = programs.load(init, |chain| chain.write(base, 1, 1));
    init.panfrost_submit(gpu, &programs.job(chain, &[heap]))?;
    init.panfrost_wait_bo(gpu, heap, WaitTimeout::Forever)?;
    Ok(programs.unmap(init)?)
}

fn advise_then_reclaim(world: &World) -> Outcome {
    let init = &world.init;
    let gpu = init.open(Driver::Panfrost)?;
    let handle = world.create(gpu)?;
    init.panfrost_madvise(gpu, handle, PanfrostMadv::DontNeed)?;
    expect_eq("pages that reclaim gets", kswapd(world.kernel.core(), usize::MAX), 64)
}
