// SPDX-License-Identifier: GPL-2.0-only
//! Bugs of drivers with GEM objects of their own.
#![forbid(unsafe_code)]

use lockdep::ReportKind::{AssertHeld, Circular, Freed, UserReturn};

use super::core::map;
use super::{Case, Ends, Expected, P2_B, P2_C, RESV, Switch};
use crate::bug::Bug;
use crate::drm::client::{drm_client_buffer_create, drm_client_buffer_delete, drm_client_buffer_vmap};
use crate::drm::gem_reservations::drm_gem_lock_reservations;
use crate::kernel::errno::Errno;
use crate::kernel::task::syscall;
use crate::scenario::mission::{Exporter, MapPath};
use crate::scenario::world::{Outcome, PAGE, World, expect_error};
use crate::user::Driver;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "6",
        name: "client buffer is unmapped without the lock",
        switch: Switch::Bug(Bug::ClientVunmapsUnlocked, P2_B),
        expected: Expected::reports(&[AssertHeld], RESV, "drm_gem_vunmap"),
        program: client_buffer,
    },
    Case {
        id: "13",
        name: "i915's map locks what the core has locked",
        switch: Switch::Bug(Bug::MapLocksAgain, P2_C),
        expected: Expected::hang(RESV, "i915_gem_map_dma_buf"),
        program: |world| map(world, Exporter::I915, MapPath::ForeignImportFd),
    },
    Case {
        id: "18",
        name: "acquire context is not ended on error",
        switch: Switch::Bug(Bug::CtxNotFinished, P2_C),
        expected: Expected {
            ends: Ends::Failed("locks are held at the end"),
            ..Expected::reports(
                &[Freed, UserReturn],
                "reservation_ww_class_acquire",
                "drm_gem_lock_reservations",
            )
        },
        program: lock_twice,
    },
    Case {
        id: "43",
        name: "omapdrm frees an import under its own lock",
        switch: Switch::Bug(Bug::OmapFreesUnderLock, P2_C),
        expected: Expected::reports(&[Circular], RESV, "dma_buf_unmap_attachment_unlocked"),
        program: omap_both_ways,
    },
];

fn client_buffer(world: &World) -> Outcome {
    let vkms = world.device(Driver::Vkms)?;
    syscall(|| {
        let mut buffer = drm_client_buffer_create(&vkms, PAGE)?;
        drm_client_buffer_vmap(&mut buffer)?.write(0, 1);
        drm_client_buffer_delete(buffer);
        Ok(())
    })
}

/// The locks of an object and of its import are one.
pub(super) fn lock_twice(world: &World) -> Outcome {
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    let vkms = world.init.open(Driver::Vkms)?;
    let imported = world.init.prime_fd_to_handle(vkms, buffer)?;
    let objects = [world.object(vgem, handle)?, world.object(vkms, imported)?];
    let both = objects.each_ref().map(|object| object.0.clone());
    let locked = syscall(|| drm_gem_lock_reservations(&both).map(drop));
    expect_error("locked", locked, Errno::EALREADY)
}

/// Another device maps an omapdrm object; omapdrm frees an import of another device's.
fn omap_both_ways(world: &World) -> Outcome {
    let init = &world.init;
    let (omap, _, ours) = world.buffer_of(Driver::Omapdrm)?;
    let (vgem, _, theirs) = world.vgem_buffer()?;
    init.prime_fd_to_handle(vgem, ours)?;
    let imported = init.prime_fd_to_handle(omap, theirs)?;
    Ok(init.gem_close(omap, imported)?)
}
