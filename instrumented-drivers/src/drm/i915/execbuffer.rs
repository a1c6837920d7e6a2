// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Work for the GPU: it waits for the fences of its buffers, writes to some of them, and signals a fence of its own.
//!
//! A request keeps its objects, with their pages, until it is done. A test can make the GPU pause.
//!
//! Kernel counterpart: `i915_gem_execbuffer.c`, `i915_request.c`.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use lockdep::LockClass;
use parking_lot::Mutex;

use super::I915;
use super::object::{I915GemWwCtx, for_i915_gem_ww, i915_gem_object_lock};
use super::pages::{i915_gem_object_pin_pages, i915_gem_object_unpin_pages, i915_vma_pin_ww};
use crate::dma_buf::SgTable;
use crate::dma_buf::fence::{DmaFence, dma_fence_add_callback, dma_fence_context_alloc, dma_fence_signal};
use crate::dma_buf::resv::{DmaResvUsage, dma_resv_add_fence, dma_resv_reserve_fences, dma_resv_usage_rw};
use crate::drm::file::{DrmFile, Handle};
use crate::drm::gem::{DrmGemObject, drm_gem_object_get, drm_gem_object_put};
use crate::drm::gem_handle::drm_gem_objects_lookup;
use crate::kernel::KernelCore;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::irq;
use crate::kernel::kthread::Kthread;
use crate::kernel::locking::{SpinLock, spin_class};
use crate::kernel::reclaim;
use crate::kernel::shmem::PAGE_SIZE;

static RQ_LOCK: LockClass = spin_class("&rq->lock");

/// `struct drm_i915_gem_exec_object2`: an object that the work uses.
#[derive(Clone, Copy, Debug)]
pub struct I915ExecObject {
    /// Which.
    pub handle: Handle,
    /// It is written, else read.
    pub write: bool,
}

struct Target {
    obj: Arc<DrmGemObject>,
    pages: Arc<SgTable>,
    write: bool,
}

/// `struct i915_request`.
struct Request {
    fence: Arc<DmaFence>,
    waits_for: Vec<Arc<DmaFence>>,
    targets: Vec<Target>,
    /// What is written; `None`: the first byte of the first object that is read.
    value: Option<u8>,
}

#[derive(Default)]
struct Queue {
    requests: VecDeque<Request>,
    paused: bool,
    seqno: u64,
}

/// The GPU: one request after the other.
pub struct Engine {
    core: Arc<KernelCore>,
    context: u64,
    queue: Mutex<Queue>,
    thread: Arc<Kthread>,
}

impl Engine {
    pub(super) fn new(core: &Arc<KernelCore>) -> Arc<Self> {
        Arc::new_cyclic(|myself: &Weak<Engine>| {
            let myself = myself.clone();
            let run = move || myself.upgrade().iter().for_each(run);
            Engine {
                core: core.clone(),
                context: dma_fence_context_alloc(),
                queue: Mutex::default(),
                thread: core.background.kthread("i915 rcs0", run),
            }
        })
    }

    /// It does not begin with further requests.
    pub fn pause(&self) {
        self.queue.lock().paused = true;
    }

    /// It does.
    pub fn go_on(&self) {
        self.queue.lock().paused = false;
        self.thread.poke();
    }

    fn submit(&self, request: Request) {
        self.queue.lock().requests.push_back(request);
        self.thread.poke();
    }

    /// The next request that can run. One that waits for a fence is looked at again when that signals.
    fn next(self: &Arc<Self>) -> Option<Request> {
        loop {
            let mut queue = self.queue.lock();
            if queue.paused {
                return None;
            }
            let front = queue.requests.front()?;
            let pending = front.waits_for.iter().find(|fence| !fence.is_signaled()).cloned();
            let Some(fence) = pending else { return queue.requests.pop_front() };
            drop(queue);
            let thread = self.thread.clone();
            if dma_fence_add_callback(&fence, Box::new(move || thread.poke())).is_ok() {
                return None;
            }
        }
    }
}

fn run(engine: &Arc<Engine>) {
    while let Some(request) = engine.next() {
        let read = request.targets.iter().find(|target| !target.write).map(|target| target.pages.read(0));
        if let Some(value) = request.value.or(read) {
            for target in request.targets.iter().filter(|target| target.write) {
                (0..target.pages.pages()).for_each(|page| target.pages.write(page * PAGE_SIZE, value));
            }
        }
        // The GPU raises its interrupt.
        let signaled = irq::hardirq_threaded(|| dma_fence_signal(&request.fence));
        debug_assert!(signaled.is_ok(), "nobody else signals it");
        i915_request_retire(request);
    }
}

fn i915_request_retire(request: Request) {
    for target in request.targets {
        i915_gem_object_unpin_pages(&target.obj);
        drm_gem_object_put(target.obj);
    }
}

/// `i915_gem_do_execbuffer`: the GPU writes `value` (or what it reads from the first object that is read) to the first byte
/// of each page of those that are written.
///
/// # Errors
/// -ENODEV on another driver's file, -ENOENT, -EINTR, -ENOMEM (injected), or what the exporter of an import says.
pub fn i915_gem_execbuffer(file: &DrmFile, objects: &[I915ExecObject], value: Option<u8>) -> Result {
    let i915 = file.dev.private::<I915>().ok_or(Errno::ENODEV)?;
    reclaim::kmalloc()?;
    let handles: Vec<_> = objects.iter().map(|object| object.handle).collect();
    let found = drm_gem_objects_lookup(file, &handles)?;
    let used: Vec<_> = found.iter().zip(objects).map(|(obj, object)| (obj, object.write)).collect();
    let result = for_i915_gem_ww(true, |ww| {
        let targets = eb_validate_vmas(&i915, &used, ww)?;
        eb_submit(&i915.engine, targets, value, ww)
    });
    found.into_iter().for_each(drm_gem_object_put);
    result
}

/// Locks all objects, finds their pages and gives them addresses.
fn eb_validate_vmas(
    i915: &I915,
    used: &[(&Arc<DrmGemObject>, bool)],
    ww: &I915GemWwCtx,
) -> Result<Vec<Target>> {
    for (obj, _) in used {
        i915_gem_object_lock(obj, ww)?;
    }
    ww.done();
    let mut targets = Vec::new();
    for (obj, write) in used {
        let validated = i915_gem_object_pin_pages(obj).and_then(|pages| {
            targets.push(Target { obj: drm_gem_object_get(obj), pages, write: *write });
            i915_vma_pin_ww(i915, obj, ww)?;
            dma_resv_reserve_fences(obj.resv(), 1)
        });
        if let Err(error) = validated {
            eb_release(targets);
            return Err(error);
        }
    }
    Ok(targets)
}

fn eb_release(targets: Vec<Target>) {
    for target in targets {
        i915_gem_object_unpin_pages(&target.obj);
        drm_gem_object_put(target.obj);
    }
}

/// `eb_move_to_gpu`, `i915_request_add`: from here on nothing fails.
fn eb_submit(engine: &Engine, targets: Vec<Target>, value: Option<u8>, _ww: &I915GemWwCtx) -> Result {
    // `i915_request_create`.
    if let Err(error) = reclaim::kmalloc() {
        eb_release(targets);
        return Err(error);
    }
    let seqno = {
        let mut queue = engine.queue.lock();
        queue.seqno += 1;
        queue.seqno
    };
    let lock = Arc::new(SpinLock::new(&RQ_LOCK));
    let fence = DmaFence::new(&engine.core, lock, engine.context, seqno);
    let mut waits_for = Vec::new();
    for target in &targets {
        let resv = target.obj.resv();
        waits_for.extend(resv.unsignaled(dma_resv_usage_rw(target.write)));
        let usage = if target.write { DmaResvUsage::Write } else { DmaResvUsage::Read };
        dma_resv_add_fence(resv, &fence, usage);
    }
    // An earlier request of this GPU is done before.
    waits_for.retain(|other| other.context != engine.context);
    engine.submit(Request { fence, waits_for, targets, value });
    Ok(())
}

crate::kernel::opaque_debug!(Engine);
