// SPDX-License-Identifier: GPL-2.0-only
//! Bugs of the GEM shmem helper.
#![forbid(unsafe_code)]

use std::sync::Arc;

use lockdep::ReportKind::{AssertHeld, Circular, Recursive};

use super::{Case, Ends, Expected, P2_A, P2_B, P2_B0, P2_C, RESV, Switch, overtaken};
use crate::bug::Bug;
use crate::drm::gem::DrmGemObject;
use crate::drm::gem_shmem_helper::{drm_gem_shmem_pin, drm_gem_shmem_unpin};
use crate::drm::gem_shmem_memory::{drm_gem_shmem_get_pages_sgt, drm_gem_shmem_madvise, drm_gem_shmem_purge};
use crate::kernel::fault::{Plan, inject};
use crate::kernel::reclaim::{fs_reclaim_acquire, fs_reclaim_release};
use crate::scenario::import::second_driver_vmap;
use crate::scenario::kunit::{vmap_by_kernel, with_object};
use crate::scenario::world::{BYTES, Failure, Outcome, World, expect_eq};
use crate::user::{Driver, Process};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "2",
        name: "pin asserts a lock that nobody takes",
        switch: Switch::Setups(P2_B0, P2_B),
        expected: Expected::reports(&[AssertHeld], RESV, "drm_gem_shmem_pin_locked"),
        program: foreign_import,
    },
    Case {
        id: "8",
        name: "shmem tests call without the lock",
        switch: Switch::Bug(Bug::ShmemTestsUnlocked, P2_C),
        expected: Expected::reports(&[AssertHeld], RESV, "drm_gem_shmem_vmap"),
        program: vmap_by_kernel,
    },
    Case {
        id: "10",
        name: "shmem: purge blocks in reclaim",
        switch: Switch::Bug(Bug::PurgeBlocks, P2_A),
        expected: Expected::reports(&[Circular], "&shmem->pages_lock", "drm_gem_shmem_purge"),
        program: |world| with_object(world, purge_by_reclaim),
    },
    Case {
        id: "11",
        name: "shmem: two callers both make a table",
        switch: Switch::Bug(Bug::SgtUnlocked, P2_A),
        expected: Expected::silence(
            "a lock is missing, none is taken in a wrong order",
            Ends::Failed("never freed: [(\"sg_table\", 1)]"),
        ),
        program: two_tables,
    },
    Case {
        id: "11-guard",
        name: "the same, told which lock guards the table",
        switch: Switch::BugWithout(Bug::SgtUnlocked, P2_A, &[Bug::GuardsUnannotated]),
        expected: Expected::reports(&[AssertHeld], "&shmem->pages_lock", "get_pages_sgt_unlocked"),
        program: |world| with_object(world, make_table),
    },
    Case {
        id: "12",
        name: "shmem: a signal loses a user of the pages",
        switch: Switch::Bug(Bug::VmOpenInterruptible, P2_A),
        expected: Expected::silence(
            "the lock that is not taken is one that nobody holds; a count is wrong",
            Ends::Failed("kernel warning: a shmem object's pages are put once too often"),
        ),
        program: fork_with_signal,
    },
    Case {
        id: "44",
        name: "shmem: vmap_lock inside vmap_lock",
        switch: Switch::Setups(P2_A, P2_C),
        expected: Expected::reports(&[Recursive], "&shmem->vmap_lock", "drm_gem_shmem_vmap"),
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

fn purge_by_reclaim(obj: &Arc<DrmGemObject>) -> Outcome {
    drop(drm_gem_shmem_get_pages_sgt(obj)?);
    expect_eq("not needed", drm_gem_shmem_madvise(obj, 1), true)?;
    fs_reclaim_acquire();
    let purged = drm_gem_shmem_purge(obj);
    fs_reclaim_release();
    expect_eq("purged", purged, true)
}

fn make_table(obj: &Arc<DrmGemObject>) -> Outcome {
    drm_gem_shmem_get_pages_sgt(obj).map(drop).map_err(Failure::from)
}

fn two_tables(world: &World) -> Outcome {
    with_object(world, |obj| {
        drm_gem_shmem_pin(obj)?;
        let other = obj.clone();
        let second = move |_: &Process| drm_gem_shmem_get_pages_sgt(&other).map(drop);
        let result = overtaken(world, Bug::SgtUnlocked, || make_table(obj), second);
        drm_gem_shmem_unpin(obj);
        result
    })
}

/// The second wait of a fork that a signal can interrupt, if there is one, is that of `vm_open`.
fn fork_with_signal(world: &World) -> Outcome {
    let vgem = world.init.open(Driver::Vgem)?;
    let handle = world.create(vgem)?;
    let address = world.map(vgem, world.init.mode_map_dumb(vgem, handle)?)?;
    let (child, _) = inject(Plan::interrupt(2), || world.init.fork(|_| ()));
    child?.wait();
    Ok(world.init.munmap(address, BYTES)?)
}
