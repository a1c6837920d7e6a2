// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `i915`: Intel's graphics. An integrated device has system memory only; a discrete one has memory of its own (LMEM),
//! which an object leaves when another device attaches to its buffer.
//!
//! # Locking
//!
//! | lock | kind | protects |
//! |---|---|---|
//! | the object's reservation lock, mostly under a context | ww mutex | pages, region, kernel mapping |
//! | `&vm->mutex` | mutex | what is bound in the GPU's address space |
//! | `&obj->mmo.lock` | spinlock | how a program maps the object |
//! | `&i915->mm.obj_lock` | spinlock, irq-safe | the objects that can give pages back |
//!
//! A buffer has the object's reservation lock; an import shares the exporter's, and maps it only when it needs the pages.
//!
//! | callback, function | holds | takes |
//! |---|---|---|
//! | `attach` | nothing | context, reservation lock: migrates, waits for that, pins |
//! | `detach` | nothing | nothing (a counter) |
//! | `map_dma_buf` | reservation lock (P0: nothing) | nothing but memory |
//! | `vmap` | reservation lock (P0: the buffer's mutex, so it takes the reservation lock) | memory, `obj_lock` |
//! | `begin_cpu_access`, `end_cpu_access` | nothing | context, reservation lock; waits for fences under it |
//! | `mmap`, system memory | P1: reservation lock, asserted | nothing: the object's file is mapped |
//! | `mmap`, LMEM | the same | `mgr->vm_lock`, `node->vm_lock` inside: the device's file is mapped, by a file made up |
//! | `pread`, `pwrite`, `set_domain` | nothing; waits for fences | reservation lock, for an import with a context and `vm->mutex` |
//! | page fault | `mmap_lock` | reservation lock; for the GPU's view with a context, and `vm->mutex` |
//! | pages of an import | reservation lock, which is the exporter's | nothing: the locked variant |
//! | `free` | nothing | in a work item: `vm->mutex`; an import takes the reservation lock to unmap, and again to detach |
//! | shrinker | `fs_reclaim` | `obj_lock`; **tries** the reservation lock and `vm->mutex` |
//!
//! Memory is never asked for under `&vm->mutex`: the first open records that reclaim may take it. A request's fence has
//! `&rq->lock` (spinlock, irq-safe), a name that it shares with the scheduler's run queue.
//! `(work_completion)(&i915->mm.free_work)` on `(wq_completion)i915` frees objects.
//!
//! * `reservation_ww_class_mutex` → `&vm->mutex`, `&i915->mm.obj_lock`: an object is bound; its pages can be given back
//! * `reservation_ww_class_mutex` → `&rq->lock`: whether an object is in use
//! * `fs_reclaim` → `&vm->mutex`, `&i915->mm.obj_lock`: the shrinker; it tries the reservation lock, and the first of these
//! * `(wq_completion)i915` → `(work_completion)(&i915->mm.free_work)`: the end of an object
//! * `(work_completion)(&i915->mm.free_work)` → `reservation_ww_class_mutex`, `&vm->mutex`: its pages go, its binding
//! * `(work_completion)(&i915->mm.free_work)` → `&buffer->lock`: and the mapping of an import, if a heap exported it
//! * `&mgr->vm_lock` → `&node->vm_lock`: whether a file may map an object on the card
//!
//! Kernel counterpart: `drivers/gpu/drm/i915/gem/`. Not modelled: user memory as objects, several address spaces, the
//! reset lock, the anonymous file that mappings belong to. An object has one kind of mapping, the one asked for first.
//! The kernel's shrinker leaves imports alone unless asked; here it takes them too.

mod dmabuf;
mod domain;
mod execbuffer;
mod mman;
mod object;
mod pages;
mod shrinker;

pub use self::dmabuf::i915_gem_prime_export;
pub use self::domain::{I915Bytes, i915_gem_pread, i915_gem_pwrite, i915_gem_set_domain};
pub use self::execbuffer::{Engine, I915ExecObject, i915_gem_execbuffer};
pub use self::mman::{MmapType, i915_gem_mmap_offset};
pub use self::object::{Region, i915_gem_object_create_user, region_of};
pub use self::pages::{i915_gem_object_pin_pages, i915_gem_object_unpin_pages};

use core::any::Any;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Once, Weak};

use lockdep::LockClass;

use self::object::{I915Bo, i915_gem_free_work};
use super::device::{DriverFile, DrmDevice, DrmDriver};
use super::file::DrmFile;
use super::gem::DrmGemObject;
use crate::dma_buf::DmaBuf;
use crate::kernel::KernelCore;
use crate::kernel::cell::KCell;
use crate::kernel::errno::Result;
use crate::kernel::locking::{Mutex, SpinLock, sleep_class, spin_class};
use crate::kernel::mm::VmArea;
use crate::kernel::reclaim;
use crate::kernel::shrinker::Shrinker;
use crate::kernel::workqueue::{Work, Workqueue, work_class};

static VM_MUTEX: LockClass = sleep_class("&vm->mutex");
static OBJ_LOCK: LockClass = spin_class("&i915->mm.obj_lock");
static FREE_WORK: LockClass = work_class("(work_completion)(&i915->mm.free_work)");
static WQ: LockClass = work_class("(wq_completion)i915");

/// `struct drm_i915_private`.
pub struct I915 {
    vm_mutex: Mutex,
    obj_lock: SpinLock,
    /// Under `obj_lock`, oldest first.
    shrink_list: KCell<Vec<Weak<DrmGemObject>>>,
    /// `shrink_memory`, in pages.
    shrinkable: AtomicUsize,
    free_list: parking_lot::Mutex<Vec<Arc<DrmGemObject>>>,
    free_work: Arc<Work>,
    wq: Workqueue,
    engine: Arc<Engine>,
    opened: Once,
    different_devices: AtomicBool,
}

impl I915 {
    /// The device's own part.
    pub(crate) fn of(dev: &DrmDevice) -> Arc<Self> {
        match dev.private() {
            Some(i915) => i915,
            None => unreachable!("an i915 device"),
        }
    }

    /// The processor.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// `force_different_devices`, for the driver's own tests: from now on its buffers are foreign to it.
    pub fn force_different_devices(&self) {
        self.different_devices.store(true, Ordering::Relaxed);
    }

    /// `i915_gem_shrinker_taints_mutex`: whoever holds it must not need reclaim, which may take it.
    fn taint(&self) {
        reclaim::fs_reclaim_acquire();
        self.vm_mutex.lock();
        self.vm_mutex.unlock();
        reclaim::fs_reclaim_release();
    }
}

/// `i915_drm_driver`.
#[derive(Debug)]
pub struct I915Driver {
    name: &'static str,
    /// Where new objects are.
    region: Region,
}

/// An integrated device.
pub static INTEGRATED: I915Driver = I915Driver { name: "i915", region: Region::Smem };
/// A discrete device.
pub static DISCRETE: I915Driver = I915Driver { name: "i915-lmem", region: Region::Lmem };

impl DrmDriver for I915Driver {
    fn name(&self) -> &'static str {
        self.name
    }

    fn load(&self, core: &Arc<KernelCore>) -> Arc<dyn Any + Send + Sync> {
        let i915 = Arc::new_cyclic(|myself: &Weak<I915>| {
            let weak = myself.clone();
            let free = move || weak.upgrade().iter().for_each(|i915| i915_gem_free_work(i915));
            I915 {
                vm_mutex: Mutex::new(&VM_MUTEX),
                obj_lock: SpinLock::new(&OBJ_LOCK),
                shrink_list: KCell::new("the shrink list of an i915 device", Vec::new()),
                shrinkable: AtomicUsize::new(0),
                free_list: parking_lot::Mutex::default(),
                free_work: Work::new(&FREE_WORK, free),
                wq: Workqueue::alloc_ordered(&core.background, "i915", &WQ),
                engine: Engine::new(core),
                opened: Once::new(),
                different_devices: AtomicBool::new(false),
            }
        });
        let shrinker: Arc<dyn Shrinker> = i915.clone();
        core.shrinkers.register(Arc::downgrade(&shrinker));
        i915
    }

    fn open(&self, dev: &DrmDevice) -> Result<DriverFile> {
        let i915 = I915::of(dev);
        i915.opened.call_once(|| i915.taint());
        reclaim::kmalloc()?;
        Ok(Box::new(()))
    }

    /// `i915_gem_dumb_create`.
    fn gem_create(&self, dev: &Arc<DrmDevice>, size: usize) -> Result<Arc<DrmGemObject>> {
        let placements = match self.region {
            Region::Smem => &[Region::Smem][..],
            Region::Lmem => &[Region::Lmem, Region::Smem],
        };
        object::i915_gem_object_create_user(dev, size, placements)
    }

    fn gem_prime_import(&self, dev: &Arc<DrmDevice>, buf: &DmaBuf) -> Result<Arc<DrmGemObject>> {
        dmabuf::i915_gem_prime_import(dev, buf)
    }

    fn mmap(&self, file: &DrmFile, vma: &mut VmArea) -> Result {
        mman::i915_gem_mmap(file, vma)
    }

    fn create_mmap_offset(&self, obj: &Arc<DrmGemObject>) -> Result {
        mman::mmap_offset_attach(obj, MmapType::usual(obj))
    }
}

fn bo(obj: &DrmGemObject) -> &I915Bo {
    let payload: &dyn Any = &*obj.payload;
    match payload.downcast_ref() {
        Some(bo) => bo,
        None => unreachable!("an i915 object"),
    }
}

/// How much can be given back.
fn shrinkable(i915: &I915) -> usize {
    i915.shrinkable.load(Ordering::Relaxed)
}

crate::kernel::opaque_debug!(I915);
