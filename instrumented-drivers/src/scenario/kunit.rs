// SPDX-License-Identifier: GPL-2.0-only
//! KUnit `drm_gem_shmem`: the helper's functions called directly, as a kernel thread.
//!
//! Some of these tests call functions that expect the reservation lock, and do not hold it. That is how they are in
//! Linux 6.12, and the validator must say so (`K3`, `K5`, `K6`). With the lock taken around the calls, as later
//! kernels do it, they are clean (`K3-fixed`, `K5-fixed`, `K6-fixed`).
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::world::{BYTES, Failure, Outcome, PAGE, World, expect_eq};
use super::{Expects, Scenario};
use crate::bug::Bug;
use crate::dma_buf::attach::{dma_buf_attach, dma_buf_detach, sg_free_table};
use crate::dma_buf::resv::{dma_resv_lock, dma_resv_unlock};
use crate::dma_buf::{DmaBuf, DmaBufAttachment, SgTable};
use crate::drm::exec::DrmExec;
use crate::drm::gem::{DrmGemObject, drm_gem_object_put};
use crate::drm::gem_shmem_helper::{
    drm_gem_shmem_create, drm_gem_shmem_pin, drm_gem_shmem_prime_import_sg_table, drm_gem_shmem_unpin,
    drm_gem_shmem_vmap, drm_gem_shmem_vunmap, to_drm_gem_shmem_obj,
};
use crate::drm::gem_shmem_memory::{
    drm_gem_shmem_get_pages_sgt, drm_gem_shmem_get_sg_table, drm_gem_shmem_is_purgeable,
    drm_gem_shmem_madvise, drm_gem_shmem_purge,
};
use crate::kernel::errno::Errno;
use crate::kernel::fault::drill_back_offs;
use crate::kernel::shmem::{Pages, ShmemFile};
use crate::user::Driver;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "K1",
        name: "drm_gem_shmem_test_obj_create",
        about: "an object is made and freed",
        expects: Expects::Clean,
        program: |world| with_object(world, obj_create),
    },
    Scenario {
        id: "K1-private",
        name: "drm_gem_shmem_test_obj_create_private",
        about: "an object is made around a foreign scatter table, and frees it",
        expects: Expects::Pins,
        program: obj_create_private,
    },
    Scenario {
        id: "K2",
        name: "drm_gem_shmem_test_pin_pages",
        about: "pin and unpin; the helper takes the lock itself",
        expects: Expects::Pins,
        program: |world| with_object(world, pin_pages),
    },
    Scenario {
        id: "K3",
        name: "drm_gem_shmem_test_vmap",
        about: "map for the kernel, write, read, unmap; without the lock, as in 6.12",
        expects: Expects::CallsUnlocked,
        program: |world| with_object(world, vmap),
    },
    Scenario {
        id: "K3-fixed",
        name: "drm_gem_shmem_test_vmap, fixed",
        about: "the same under the reservation lock",
        expects: Expects::Clean,
        program: |world| with_object(world, |obj| locked(obj, vmap)),
    },
    Scenario {
        id: "K4",
        name: "drm_gem_shmem_test_get_sg_table",
        about: "pin, then a scatter table; pages and table in one call",
        expects: Expects::Pins,
        program: |world| with_object(world, get_sg_table),
    },
    Scenario {
        id: "K5",
        name: "drm_gem_shmem_test_madvise",
        about: "needed, not needed, gone for good; without the lock, as in 6.12",
        expects: Expects::CallsUnlocked,
        program: |world| with_object(world, madvise),
    },
    Scenario {
        id: "K5-fixed",
        name: "drm_gem_shmem_test_madvise, fixed",
        about: "the same under the reservation lock",
        expects: Expects::Clean,
        program: |world| with_object(world, |obj| locked(obj, madvise)),
    },
    Scenario {
        id: "K6",
        name: "drm_gem_shmem_test_purge",
        about: "an object that is not needed gives its pages back; without the lock, as in 6.12",
        expects: Expects::CallsUnlocked,
        program: |world| with_object(world, |obj| purge(obj, |_, call| call())),
    },
    Scenario {
        id: "K6-fixed",
        name: "drm_gem_shmem_test_purge, fixed",
        about: "the same, each call under the reservation lock",
        expects: Expects::Clean,
        program: |world| with_object(world, |obj| purge(obj, under_lock)),
    },
    Scenario {
        id: "K7",
        name: "drm_exec_test",
        about: "the locks of objects in a loop: none, one, one twice, several, two loops; each is told to back off, too",
        expects: Expects::Clean,
        program: exec,
    },
];

fn size() -> usize {
    usize::try_from(BYTES).unwrap_or(PAGE)
}

/// Runs a test on a new object of the second driver, as a kernel thread.
pub(super) fn with_object(world: &World, test: impl FnOnce(&Arc<DrmGemObject>) -> Outcome) -> Outcome {
    let dev = world.device(Driver::Vkms)?;
    world.kernel.kthread(|_| {
        let obj = drm_gem_shmem_create(&dev, size())?;
        let result = test(&obj);
        drm_gem_object_put(obj);
        result
    })
}

/// The tests' call for a kernel mapping, as they make it in 6.12 or as later kernels do.
pub(super) fn vmap_by_kernel(world: &World) -> Outcome {
    if world.kernel.core().has(Bug::ShmemTestsUnlocked) {
        with_object(world, vmap)
    } else {
        with_object(world, |obj| locked(obj, vmap))
    }
}

fn under_lock(obj: &Arc<DrmGemObject>, call: &mut dyn FnMut() -> Outcome) -> Outcome {
    dma_resv_lock(obj.resv());
    let result = call();
    dma_resv_unlock(obj.resv());
    result
}

fn locked(obj: &Arc<DrmGemObject>, test: fn(&Arc<DrmGemObject>) -> Outcome) -> Outcome {
    under_lock(obj, &mut || test(obj))
}

fn obj_create(obj: &Arc<DrmGemObject>) -> Outcome {
    expect_eq("size", obj.size, size())?;
    expect_eq("users of the pages", to_drm_gem_shmem_obj(obj).pages_use_count(), 0)
}

/// Runs `test` with a device attached to the buffer.
fn with_attachment(buf: &DmaBuf, test: impl FnOnce(&Arc<DmaBufAttachment>) -> Outcome) -> Outcome {
    let attach = dma_buf_attach(buf, "kunit")?;
    let result = test(&attach);
    dma_buf_detach(buf, &attach);
    result
}

fn obj_create_private(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    let buf = DmaBuf::of(&init.peek(buffer)?).ok_or_else(|| Failure::new("not a dma-buf"))?;
    let dev = world.device(Driver::Vkms)?;
    world.kernel.kthread(|core| -> Outcome {
        let memory = ShmemFile::setup(size())?;
        let pages: Pages =
            (0..memory.pages()).map(|page| memory.read_mapping_page(page)).collect::<Result<_, _>>()?;
        let table = SgTable::from_pages(core, pages)?;
        let result = with_attachment(&buf, |attach| {
            let obj = drm_gem_shmem_prime_import_sg_table(&dev, attach, &table)?;
            let known = to_drm_gem_shmem_obj(&obj).sgt().is_some_and(|known| Arc::ptr_eq(&known, &table));
            drm_gem_object_put(obj);
            expect_eq("the object has the table", known, true)?;
            expect_eq("tables that are left", core.live().count("sg_table"), 0)
        });
        if core.live().count("sg_table") > 0 {
            // There was no object to free it.
            sg_free_table(table);
        }
        result
    })?;
    init.close(buffer)?;
    init.gem_close(vgem, handle)?;
    Ok(init.close(vgem)?)
}

fn pin_pages(obj: &Arc<DrmGemObject>) -> Outcome {
    drm_gem_shmem_pin(obj)?;
    expect_eq("users of the pages while pinned", to_drm_gem_shmem_obj(obj).pages_use_count(), 1)?;
    drm_gem_shmem_unpin(obj);
    expect_eq("users of the pages afterwards", to_drm_gem_shmem_obj(obj).pages_use_count(), 0)
}

fn vmap(obj: &Arc<DrmGemObject>) -> Outcome {
    let map = drm_gem_shmem_vmap(obj)?;
    for offset in (0..size()).step_by(PAGE) {
        map.write(offset, 0xa5);
    }
    let wrong = (0..size()).step_by(PAGE).find(|offset| map.read(*offset) != 0xa5);
    drm_gem_shmem_vunmap(obj, &map);
    expect_eq("the first page that was not written", wrong, None)?;
    expect_eq("kernel mappings afterwards", to_drm_gem_shmem_obj(obj).vmap_use_count(), 0)
}

fn get_sg_table(obj: &Arc<DrmGemObject>) -> Outcome {
    drm_gem_shmem_pin(obj)?;
    let table = drm_gem_shmem_get_sg_table(obj)?;
    let pages = table.pages();
    sg_free_table(table);
    drm_gem_shmem_unpin(obj);
    expect_eq("pages in the table", pages, size() / PAGE)?;
    let table = drm_gem_shmem_get_pages_sgt(obj)?;
    let shmem = to_drm_gem_shmem_obj(obj);
    expect_eq(
        "the object keeps the table",
        shmem.sgt().is_some_and(|kept| Arc::ptr_eq(&kept, &table)),
        true,
    )?;
    expect_eq("users of the pages", shmem.pages_use_count(), 1)
}

fn madvise(obj: &Arc<DrmGemObject>) -> Outcome {
    let shmem = to_drm_gem_shmem_obj(obj);
    expect_eq("at first", shmem.madv(), 0)?;
    expect_eq("not needed", (drm_gem_shmem_madvise(obj, 1), shmem.madv()), (true, 1))?;
    expect_eq("gone", (drm_gem_shmem_madvise(obj, -1), shmem.madv()), (false, -1))?;
    expect_eq("gone for good", (drm_gem_shmem_madvise(obj, 0), shmem.madv()), (false, -1))
}

fn exec(world: &World) -> Outcome {
    let dev = world.device(Driver::Vkms)?;
    world.kernel.kthread(|_| {
        let mut objects = Vec::new();
        let created = (0..3).try_for_each(|_| {
            objects.push(drm_gem_shmem_create(&dev, PAGE)?);
            Ok(())
        });
        let result = created
            .and_then(|()| exec_tests(&objects))
            .and_then(|()| drill_back_offs(|| exec_tests(&objects)))
            .and_then(|()| drill_back_offs(|| exec_sixteen_times(&objects)));
        objects.into_iter().for_each(drm_gem_object_put);
        result
    })
}

/// Runs one loop, to its end or to an error, and gives everything back.
fn exec_loop(ignore_duplicates: bool, body: impl FnMut(&mut DrmExec) -> Result<(), Errno>) -> Outcome {
    let mut exec = DrmExec::init(ignore_duplicates);
    let result = exec.until_all_locked(body);
    exec.fini();
    Ok(result?)
}

/// A drill begins one step later from each context to the next, with sixteen steps in all: some of these back off.
fn exec_sixteen_times(objects: &[Arc<DrmGemObject>]) -> Outcome {
    (0..16).try_for_each(|_| exec_loop(false, |exec| exec.prepare_array(objects, 1)))
}

fn exec_tests(objects: &[Arc<DrmGemObject>]) -> Outcome {
    let obj = &objects[0];
    exec_loop(false, |_| Ok(()))?;
    exec_loop(false, |exec| exec.lock_obj(obj))?;
    let lock_unlock = |exec: &mut DrmExec| {
        exec.lock_obj(obj)?;
        exec.unlock_obj(obj);
        exec.lock_obj(obj)
    };
    exec_loop(false, lock_unlock)?;
    let twice = |exec: &mut DrmExec| exec.lock_obj(obj).and_then(|()| exec.lock_obj(obj));
    exec_loop(true, twice)?;
    match exec_loop(false, twice) {
        Err(failure) if failure.to_string().contains("EALREADY") => {}
        other => return Err(other.err().unwrap_or_else(|| Failure::new("an object was locked twice"))),
    }
    exec_loop(false, |exec| exec.prepare_obj(obj, 1))?;
    exec_loop(false, |exec| exec.prepare_array(objects, 1))?;
    let held = objects.iter().any(|obj| obj.resv().is_locked());
    expect_eq("a lock is still held", held, false)
}

/// How a call is made that expects the lock: under it, or not.
type Around = fn(&Arc<DrmGemObject>, &mut dyn FnMut() -> Outcome) -> Outcome;

fn purge(obj: &Arc<DrmGemObject>, around: Around) -> Outcome {
    let shmem = to_drm_gem_shmem_obj(obj);
    expect_eq("purgeable at first", drm_gem_shmem_is_purgeable(obj), false)?;
    drop(drm_gem_shmem_get_pages_sgt(obj)?);
    around(obj, &mut || {
        expect_eq("not needed", drm_gem_shmem_madvise(obj, 1), true)?;
        expect_eq("purgeable then", drm_gem_shmem_is_purgeable(obj), true)?;
        expect_eq("purge", drm_gem_shmem_purge(obj), true)
    })?;
    expect_eq("purgeable afterwards", drm_gem_shmem_is_purgeable(obj), false)?;
    expect_eq(
        "state afterwards",
        (shmem.madv(), shmem.sgt().is_none(), shmem.pages_use_count()),
        (-1, true, 0),
    )
}
