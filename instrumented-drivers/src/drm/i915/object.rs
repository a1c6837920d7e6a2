// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Objects: their life, and their lock under a context.
//!
//! Kernel counterpart: `i915_gem_object.c`, `i915_gem_ww.c`.

use core::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lockdep::LockClass;

use super::dmabuf::i915_gem_prime_export;
use super::mman::MmapType;
use super::pages::{__i915_gem_object_put_pages_unpinned, i915_vma_unbind};
use super::{I915, bo};
use crate::dma_buf::resv::{
    RESERVATION_WW_CLASS, dma_resv_assert_held, dma_resv_lock, dma_resv_lock_ctx,
    dma_resv_lock_interruptible, dma_resv_lock_slow, dma_resv_lock_slow_interruptible, dma_resv_unlock,
};
use crate::dma_buf::{DmaBuf, SgTable};
use crate::drm::device::DrmDevice;
use crate::drm::gem::{
    DrmGemObject, DrmGemObjectFuncs, GemPayload, drm_gem_create_mmap_offset, drm_gem_object_get,
    drm_gem_object_put, drm_gem_object_release,
};
use crate::drm::prime::drm_prime_gem_destroy;
use crate::kernel::cell::{KCell, KPtr};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::{File, fput};
use crate::kernel::locking::{SpinLock, WwAcquireCtx, spin_class};
use crate::kernel::memfd::backing_file;
use crate::kernel::reclaim;
use crate::kernel::shmem::{Pages, ShmemFile, page_align};
use crate::kernel::vmalloc::KernelMapping;
use crate::policy::LockingPolicy;

static MMO_LOCK: LockClass = spin_class("&obj->mmo.lock");

/// Where an object's memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// System memory.
    Smem,
    /// The device's own.
    Lmem,
}

/// `obj->mm`; under the object's reservation lock.
pub(super) struct ObjectMm {
    pub(super) region: Region,
    /// What the object is made of, unless that is a file or an imported buffer.
    pub(super) store: Option<Pages>,
    /// `mm.mapping`.
    pub(super) mapping: Option<KernelMapping>,
    /// Has addresses for the GPU; changes under `vm->mutex` too.
    pub(super) bound: bool,
}

/// `struct drm_i915_gem_object`, the part beyond the GEM object.
pub(super) struct I915Bo {
    pub(super) mm: KCell<ObjectMm>,
    /// `mm.pages`: changed under the same lock; read without by who has pinned them.
    pub(super) pages: KPtr<SgTable>,
    pub(super) pages_pin_count: AtomicUsize,
    pub(super) mmo_lock: SpinLock,
    /// Under `mmo_lock`.
    pub(super) mmo: KCell<Option<MmapType>>,
    /// Where it may be, the best place first.
    placements: &'static [Region],
    /// The file of the memory, of an object in system memory of an integrated device.
    pub(super) filp: Option<Arc<File>>,
}

impl GemPayload for I915Bo {}

/// Where an object of this driver is; `None` for another driver's.
#[must_use]
pub fn region_of(obj: &DrmGemObject) -> Option<Region> {
    let payload: &dyn core::any::Any = &*obj.payload;
    payload.downcast_ref().map(|bo: &I915Bo| bo.mm.with(|mm| mm.region))
}

pub(super) fn i915_gem_object_init(
    dev: &Arc<DrmDevice>,
    size: usize,
    placements: &'static [Region],
    filp: Option<Arc<ShmemFile>>,
) -> Arc<DrmGemObject> {
    let region = placements.first().copied().unwrap_or(Region::Smem);
    let mm = ObjectMm { region, store: None, mapping: None, bound: false };
    let bo = I915Bo {
        mm: KCell::new("the memory of an i915 object", mm),
        pages: KPtr::null(),
        pages_pin_count: AtomicUsize::new(0),
        mmo_lock: SpinLock::new(&MMO_LOCK),
        mmo: KCell::new("the mappings of an i915 object", None),
        placements,
        filp: filp.as_ref().map(|memory| backing_file(&dev.core, memory)),
    };
    DrmGemObject::init(dev, size, filp, &I915GemObjectFuncs, Box::new(bo))
}

/// `__i915_gem_object_create_user`: an object that may be in these places, the best one first.
///
/// # Errors
/// -EINVAL for size 0, -ENOMEM (injected).
pub fn i915_gem_object_create_user(
    dev: &Arc<DrmDevice>,
    size: usize,
    placements: &'static [Region],
) -> Result<Arc<DrmGemObject>> {
    let size = page_align(size);
    if size == 0 {
        return Err(Errno::EINVAL);
    }
    reclaim::kmalloc()?;
    let on_card = placements.first() == Some(&Region::Lmem);
    let filp = if on_card { None } else { Some(ShmemFile::setup(size)?) };
    let obj = i915_gem_object_init(dev, size, placements, filp);
    if on_card {
        // TTM, which manages that memory, gives each object an offset at once.
        drm_gem_create_mmap_offset(&obj);
    }
    Ok(obj)
}

/// `i915_gem_object_can_migrate` to system memory.
pub(super) fn i915_gem_object_can_migrate(obj: &DrmGemObject) -> bool {
    bo(obj).placements.contains(&Region::Smem)
}

/// `i915_gem_object_funcs`.
struct I915GemObjectFuncs;

impl DrmGemObjectFuncs for I915GemObjectFuncs {
    fn free(&self, obj: &Arc<DrmGemObject>) {
        i915_gem_free_object(obj);
    }

    fn export(&self, obj: &Arc<DrmGemObject>, flags: u32) -> Result<DmaBuf> {
        i915_gem_prime_export(obj, flags)
    }
}

/// `i915_gem_free_object`: whoever drops the last reference may hold anything, so a work item does it.
fn i915_gem_free_object(obj: &Arc<DrmGemObject>) {
    let i915 = I915::of(&obj.dev);
    i915.free_list.lock().push(obj.clone());
    i915.wq.queue_work(&i915.free_work);
}

/// `__i915_gem_free_work`.
pub(super) fn i915_gem_free_work(i915: &I915) {
    let objects = core::mem::take(&mut *i915.free_list.lock());
    for obj in objects {
        __i915_gem_free_objects(i915, &obj);
    }
}

fn __i915_gem_free_objects(i915: &I915, obj: &Arc<DrmGemObject>) {
    __i915_gem_object_pages_fini(i915, obj);
    drm_prime_gem_destroy(obj, None);
    drm_gem_object_release(obj);
    bo(obj).filp.iter().cloned().for_each(fput);
}

/// To unmap an imported buffer its lock must be held; nobody else has this object, but others have that lock.
fn __i915_gem_object_pages_fini(i915: &I915, obj: &Arc<DrmGemObject>) {
    i915_vma_unbind(i915, obj);
    bo(obj).pages_pin_count.store(0, Ordering::Relaxed);
    let locked = obj.import_attach().is_some() && obj.dev.core.policy != LockingPolicy::P0;
    if locked {
        dma_resv_lock(obj.resv());
    }
    __i915_gem_object_put_pages_unpinned(i915, obj);
    if locked {
        dma_resv_unlock(obj.resv());
    }
}

/// `assert_object_held`.
#[track_caller]
pub(super) fn assert_object_held(obj: &DrmGemObject) {
    dma_resv_assert_held(obj.resv());
}

/// `struct i915_gem_ww_ctx`: a context and what it holds.
pub(super) struct I915GemWwCtx {
    ctx: WwAcquireCtx,
    intr: bool,
    objects: RefCell<Vec<Arc<DrmGemObject>>>,
    contended: RefCell<Option<Arc<DrmGemObject>>>,
}

/// `i915_gem_object_lock`. An object that the context holds already is no error.
///
/// # Errors
/// -EDEADLK: back off; -EINTR (injected).
#[track_caller]
pub(super) fn i915_gem_object_lock(obj: &Arc<DrmGemObject>, ww: &I915GemWwCtx) -> Result {
    let result = if ww.intr {
        dma_resv_lock_interruptible(obj.resv(), Some(&ww.ctx))
    } else {
        dma_resv_lock_ctx(obj.resv(), &ww.ctx)
    };
    match result {
        Ok(()) => ww.objects.borrow_mut().push(drm_gem_object_get(obj)),
        Err(Errno::EALREADY) => {}
        Err(error) => {
            if error == Errno::EDEADLK {
                ww.contended.replace(Some(drm_gem_object_get(obj)));
            }
            return Err(error);
        }
    }
    Ok(())
}

impl I915GemWwCtx {
    /// `i915_gem_ww_ctx_init`.
    fn init(intr: bool) -> Self {
        let ctx = WwAcquireCtx::init(&RESERVATION_WW_CLASS);
        I915GemWwCtx { ctx, intr, objects: RefCell::default(), contended: RefCell::default() }
    }

    /// `ww_acquire_done`.
    pub(super) fn done(&self) {
        self.ctx.done();
    }

    /// `i915_gem_ww_ctx_backoff`: gives all back and waits for the one that was in the way.
    fn backoff(&self) -> Result {
        self.unlock_all();
        let Some(obj) = self.contended.take() else { return Ok(()) };
        let result = if self.intr {
            dma_resv_lock_slow_interruptible(obj.resv(), &self.ctx)
        } else {
            dma_resv_lock_slow(obj.resv(), &self.ctx);
            Ok(())
        };
        match result {
            Ok(()) => self.objects.borrow_mut().push(obj),
            Err(_) => drm_gem_object_put(obj),
        }
        result
    }

    fn unlock_all(&self) {
        for obj in self.objects.take() {
            dma_resv_unlock(obj.resv());
            drm_gem_object_put(obj);
        }
    }

    /// `i915_gem_ww_ctx_fini`.
    fn fini(&self) {
        self.unlock_all();
        self.ctx.fini();
    }
}

/// `for_i915_gem_ww`: runs `body` until no other context is in its way.
pub(super) fn for_i915_gem_ww<T>(intr: bool, body: impl Fn(&I915GemWwCtx) -> Result<T>) -> Result<T> {
    let ww = I915GemWwCtx::init(intr);
    let result = loop {
        match body(&ww) {
            Err(Errno::EDEADLK) => {
                if let Err(error) = ww.backoff() {
                    break Err(error);
                }
            }
            result => break result,
        }
    };
    ww.fini();
    result
}
