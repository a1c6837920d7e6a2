// SPDX-License-Identifier: GPL-2.0-only
//! The self-tests of i915's buffers, which run inside a kernel: the driver's functions are called directly.
//!
//! A buffer of the system heap stands for the foreign one that the kernel's test makes up: it has a reservation lock of
//! its own, too.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::world::{BYTES, Failure, Outcome, PAGE, World, expect_eq, expect_error};
use super::{Expects, Scenario};
use crate::dma_buf::access::{dma_buf_vmap_unlocked, dma_buf_vunmap_unlocked};
use crate::dma_buf::attach::{
    dma_buf_attach, dma_buf_detach, dma_buf_map_attachment_unlocked, dma_buf_unmap_attachment_unlocked,
};
use crate::dma_buf::core::dma_buf_put;
use crate::dma_buf::resv::{DmaResvUsage, dma_resv_lock, dma_resv_unlock, dma_resv_wait};
use crate::dma_buf::{DmaBuf, DmaDirection};
use crate::drm::device::DrmDevice;
use crate::drm::gem::{DrmGemObject, drm_gem_object_put};
use crate::drm::i915::{
    I915, Region, i915_gem_object_create_user, i915_gem_object_pin_pages, i915_gem_object_unpin_pages,
    i915_gem_prime_export,
};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::shmem::IosysMap;
use crate::user::Driver;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "K8",
        name: "i915_gem_dmabuf_mock_selftests",
        about: "export, import at home, import a foreign buffer, which it keeps, map an export for the kernel",
        expects: Expects::Clean,
        program: mock_selftests,
    },
    Scenario {
        id: "K9",
        name: "i915_gem_dmabuf_live_selftests",
        about: "i915 imports its own buffers as if they were foreign: one lock, two objects, and a third device",
        expects: Expects::Clean,
        program: live_selftests,
    },
];

fn size() -> usize {
    usize::try_from(BYTES).unwrap_or(PAGE)
}

fn mock_selftests(world: &World) -> Outcome {
    let dev = world.device(Driver::I915)?;
    world.kernel.kthread(|_| {
        igt_dmabuf_export(&dev)?;
        igt_dmabuf_import_self(&dev)?;
        igt_dmabuf_export_vmap(&dev)
    })?;
    igt_dmabuf_import(world, &dev)?;
    // Objects are freed in the background, and with them what they keep.
    world.kernel.settle();
    igt_dmabuf_import_ownership(world, &dev)
}

fn live_selftests(world: &World) -> Outcome {
    for (driver, placements) in [
        (Driver::I915, &[Region::Smem][..]),
        (Driver::I915Lmem, &[Region::Smem]),
        (Driver::I915Lmem, &[Region::Lmem, Region::Smem]),
    ] {
        let dev = world.device(driver)?;
        I915::of(&dev).force_different_devices();
        world.kernel.kthread(|_| igt_dmabuf_import_same_driver(&dev, placements))?;
    }
    let dev = world.device(Driver::I915Lmem)?;
    world.kernel.kthread(|_| igt_dmabuf_import_same_driver_lmem(&dev))
}

/// Runs `test` on a new object and its buffer, and gives up both.
fn with_export(
    dev: &Arc<DrmDevice>,
    placements: &'static [Region],
    test: impl FnOnce(&Arc<DrmGemObject>, &DmaBuf) -> Outcome,
) -> Outcome {
    let obj = i915_gem_object_create_user(dev, size(), placements)?;
    let result = i915_gem_prime_export(&obj, 0).map_err(Failure::from).and_then(|buf| {
        let result = test(&obj, &buf);
        dma_buf_put(buf);
        result
    });
    drm_gem_object_put(obj);
    result
}

/// Runs `test` on an import, and gives it up.
fn with_import(
    dev: &Arc<DrmDevice>,
    buf: &DmaBuf,
    test: impl FnOnce(&Arc<DrmGemObject>) -> Outcome,
) -> Outcome {
    let import = dev.driver.gem_prime_import(dev, buf)?;
    let result = test(&import);
    drm_gem_object_put(import);
    result
}

/// `i915_gem_object_pin_pages_unlocked`, and the opposite.
fn touch_pages(obj: &Arc<DrmGemObject>) -> Result {
    dma_resv_lock(obj.resv());
    let pages = i915_gem_object_pin_pages(obj);
    if pages.is_ok() {
        i915_gem_object_unpin_pages(obj);
    }
    dma_resv_unlock(obj.resv());
    pages.map(drop)
}

/// Maps a buffer for the kernel, runs `test` on that, and unmaps it.
fn with_vmap(buf: &DmaBuf, test: impl FnOnce(&IosysMap) -> Outcome) -> Outcome {
    let map = dma_buf_vmap_unlocked(buf)?;
    let result = test(&map);
    dma_buf_vunmap_unlocked(buf, &map);
    result
}

fn igt_dmabuf_export(dev: &Arc<DrmDevice>) -> Outcome {
    with_export(dev, &[Region::Smem], |_, _| Ok(()))
}

fn igt_dmabuf_import_self(dev: &Arc<DrmDevice>) -> Outcome {
    with_export(dev, &[Region::Smem], |obj, buf| {
        with_import(dev, buf, |import| {
            expect_eq("it is the same object", Arc::ptr_eq(import, obj), true)?;
            Ok(touch_pages(import)?)
        })
    })
}

/// The buffer is mapped after the object is given up: the buffer keeps it.
fn igt_dmabuf_export_vmap(dev: &Arc<DrmDevice>) -> Outcome {
    let obj = i915_gem_object_create_user(dev, size(), &[Region::Smem])?;
    let exported = i915_gem_prime_export(&obj, 0);
    drm_gem_object_put(obj);
    let buf = exported?;
    let result = with_vmap(&buf, |map| {
        let dirty = (0..size()).step_by(PAGE).find(|at| map.read(*at) != 0);
        expect_eq("the first page of a new object that is not zero", dirty, None)?;
        (0..size()).step_by(PAGE).for_each(|at| map.write(at, 0xc5));
        Ok(())
    });
    dma_buf_put(buf);
    result
}

/// A foreign buffer, and its descriptor.
fn with_foreign(world: &World, test: impl FnOnce(DmaBuf) -> Outcome) -> Outcome {
    let init = &world.init;
    let heap = init.open(Driver::SystemHeap)?;
    let buffer = init.dma_heap_alloc(heap, size())?;
    init.close(heap)?;
    let file = world.init.peek(buffer)?;
    let buf = DmaBuf::of(&file).ok_or_else(|| Failure::new("not a dma-buf"))?;
    // The importer's reference must be enough.
    let kept = crate::dma_buf::core::get_dma_buf(&buf);
    init.close(buffer)?;
    test(kept)
}

fn igt_dmabuf_import(world: &World, dev: &Arc<DrmDevice>) -> Outcome {
    with_foreign(world, |buf| {
        world.kernel.kthread(|_| {
            let result = with_import(dev, &buf, |import| {
                expect_eq("size", import.size, size())?;
                expect_eq("it shares the lock", Arc::ptr_eq(import.resv(), buf.resv()), true)?;
                with_vmap(&buf, |map| {
                    for (byte, offset) in [(0x5a, 0), (0xa5, size() - 1)] {
                        map.write(offset, byte);
                        dma_resv_lock(import.resv());
                        let pages = i915_gem_object_pin_pages(import);
                        let read = pages.map(|pages| {
                            let read = pages.read(offset);
                            i915_gem_object_unpin_pages(import);
                            read
                        });
                        dma_resv_unlock(import.resv());
                        expect_eq("what the GPU's pages have", read?, byte)?;
                    }
                    Ok(())
                })
            });
            dma_buf_put(buf);
            result
        })
    })
}

/// The importer has the only reference to the buffer.
fn igt_dmabuf_import_ownership(world: &World, dev: &Arc<DrmDevice>) -> Outcome {
    with_foreign(world, |buf| {
        let alive = || world.kernel.live().count("dma_buf");
        let import = world.kernel.kthread(|_| -> Outcome<_> {
            let prepared = with_vmap(&buf, |map| {
                map.write(0, 0xc5);
                Ok(())
            });
            let import = prepared.and_then(|()| Ok(dev.driver.gem_prime_import(dev, &buf)?));
            dma_buf_put(buf);
            import
        })?;
        expect_eq("buffers while the import lives", alive(), 1)?;
        let result = world.kernel.kthread(|_| {
            let result = touch_pages(&import);
            drm_gem_object_put(import);
            result
        });
        world.kernel.settle();
        result?;
        expect_eq("buffers without it", alive(), 0)
    })
}

fn igt_dmabuf_import_same_driver(dev: &Arc<DrmDevice>, placements: &'static [Region]) -> Outcome {
    with_export(dev, placements, |obj, buf| {
        with_import(dev, buf, |import| {
            expect_eq("it is another object", Arc::ptr_eq(import, obj), false)?;
            expect_eq("with the same lock", Arc::ptr_eq(import.resv(), obj.resv()), true)?;
            touch_pages(import)?;
            third_device(buf)
        })
    })
}

/// The fake importer at the end of the kernel's test.
fn third_device(buf: &DmaBuf) -> Outcome {
    let attach = dma_buf_attach(buf, "fake")?;
    let mapped = dma_buf_map_attachment_unlocked(&attach, DmaDirection::Bidirectional).and_then(|table| {
        let waited = dma_resv_wait(buf.resv(), DmaResvUsage::Write, true);
        dma_buf_unmap_attachment_unlocked(&attach, table, DmaDirection::Bidirectional);
        waited
    });
    dma_buf_detach(buf, &attach);
    Ok(mapped?)
}

/// An object that cannot leave the card is not for other devices.
fn igt_dmabuf_import_same_driver_lmem(dev: &Arc<DrmDevice>) -> Outcome {
    with_export(dev, &[Region::Lmem], |_, buf| {
        let import = dev.driver.gem_prime_import(dev, buf).map(drm_gem_object_put);
        expect_error("the import", import, Errno::EOPNOTSUPP)
    })
}
