// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `struct dma_fence`: something that will be finished later. Callbacks run with the fence's lock held, with
//! interrupts off.
//!
//! Waiting for a fence counts, for the validator, as taking the pseudo-lock `dma_fence_map` exclusively; code that a
//! fence's completion depends on holds it as a reader ([`dma_fence_begin_signalling`]). So a lock that is held
//! while waiting and needed for signalling is found.
//!
//! A fence array is signalled when its parts are; it has no state of its own (the kernel gives it a lock and
//! signals it from an interrupt, to keep the parts' locks out).
//!
//! Kernel counterpart: `drivers/dma-buf/dma-fence.c`, `dma-fence-array.c`, `dma-fence-unwrap.c`.
//!
//! # Locking
//!
//! A fence has the lock that its owner gives it. Fences of nobody have `dma_fence_stub_lock`; an array has `&array->lock`,
//! which is taken by nobody else. Under a fence's lock its callbacks run, with what they take: see [`super::poll`] and the
//! [scheduler](crate::drm::sched).

use core::any::Any;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;

use lockdep::LockClass;
use lockdep::raw::{self, Acquire, Held, LockMap};

use crate::kernel::KernelCore;
use crate::kernel::cell::KCell;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::irq;
use crate::kernel::live::Live;
use crate::kernel::locking::{SpinLock, spin_class};
use crate::kernel::{fault, reclaim};

static DMA_FENCE: LockClass = LockClass::new("dma_fence_map").strict();
static DMA_FENCE_MAP: LockMap = LockMap::new(&DMA_FENCE);

static STUB_LOCK: LockClass = spin_class("dma_fence_stub_lock");

/// Runs when a fence signals, under its lock.
pub type FenceCallback = Box<dyn FnOnce() + Send>;

enum Kind {
    Single { signaled: AtomicBool },
    Array(Vec<Arc<DmaFence>>),
}

/// `struct dma_fence`.
pub struct DmaFence {
    /// Several fences of one device may share a lock.
    lock: Arc<SpinLock>,
    /// Fences of one context signal in the order of their numbers.
    pub context: u64,
    /// The number in the context.
    pub seqno: u64,
    kind: Kind,
    /// 0, or why it was signalled without having been done.
    error: AtomicI32,
    /// Under the fence's lock.
    callbacks: KCell<Vec<(FenceCallbackId, FenceCallback)>>,
    /// What the fence is a part of, if its driver wants to find that again.
    container: OnceLock<Weak<dyn Any + Send + Sync>>,
    live: Option<Live>,
}

/// Names a callback of a fence, to remove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FenceCallbackId(u64);

static CONTEXTS: AtomicU64 = AtomicU64::new(1);

/// `dma_fence_context_alloc`.
#[must_use]
pub fn dma_fence_context_alloc() -> u64 {
    CONTEXTS.fetch_add(1, Ordering::Relaxed)
}

impl DmaFence {
    /// `dma_fence_init`.
    #[must_use]
    pub fn new(core: &KernelCore, lock: Arc<SpinLock>, context: u64, seqno: u64) -> Arc<Self> {
        let live = Some(core.born("dma_fence"));
        Arc::new(Self::build(lock, context, seqno, Kind::Single { signaled: AtomicBool::new(false) }, live))
    }

    /// `dma_fence_array_create`.
    ///
    /// # Errors
    /// -ENOMEM (injected).
    pub fn array(core: &KernelCore, parts: Vec<Arc<DmaFence>>) -> Result<Arc<Self>> {
        static ARRAY_LOCK: LockClass = spin_class("&array->lock");
        reclaim::kmalloc()?;
        let lock = Arc::new(SpinLock::new(&ARRAY_LOCK));
        let live = Some(core.born("dma_fence"));
        Ok(Arc::new(Self::build(lock, dma_fence_context_alloc(), 1, Kind::Array(parts), live)))
    }

    fn build(lock: Arc<SpinLock>, context: u64, seqno: u64, kind: Kind, live: Option<Live>) -> Self {
        let callbacks = KCell::new("a fence's callbacks", Vec::new());
        let (error, container) = (AtomicI32::new(0), OnceLock::new());
        DmaFence { lock, context, seqno, kind, error, callbacks, container, live }
    }

    /// Why it was signalled without having been done, if so.
    #[must_use]
    pub fn error(&self) -> Option<Errno> {
        let errno = self.error.load(Ordering::Acquire);
        (errno != 0).then(|| Errno::from_number(errno))
    }

    /// Says what the fence is a part of; once.
    pub(crate) fn set_container(&self, container: Weak<dyn Any + Send + Sync>) {
        let set = self.container.set(container);
        debug_assert!(set.is_ok(), "a fence is a part of one thing");
    }

    /// `container_of`: what the fence is a part of, if it is of this type.
    pub(crate) fn container<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.container.get()?.upgrade()?.downcast().ok()
    }

    /// `dma_fence_is_signaled`.
    #[must_use]
    pub fn is_signaled(&self) -> bool {
        match &self.kind {
            Kind::Single { signaled } => signaled.load(Ordering::Acquire),
            Kind::Array(parts) => parts.iter().all(|part| part.is_signaled()),
        }
    }

    /// `dma_fence_is_later_or_same`.
    #[must_use]
    pub fn is_later_or_same(&self, other: &DmaFence) -> bool {
        self.context == other.context && self.seqno >= other.seqno
    }

    /// `dma_fence_unwrap_for_each`: the fences inside, or the fence itself.
    #[must_use]
    pub fn unwrap_all(self: &Arc<Self>) -> Vec<Arc<DmaFence>> {
        match &self.kind {
            Kind::Single { .. } => vec![self.clone()],
            Kind::Array(parts) => parts.iter().flat_map(Self::unwrap_all).collect(),
        }
    }
}

impl Drop for DmaFence {
    fn drop(&mut self) {
        // The last reference: a fence has no other release.
        if let Some(live) = &self.live {
            live.freed();
        }
    }
}

/// `dma_fence_signal`.
///
/// # Errors
/// -EINVAL if it was signalled before.
pub fn dma_fence_signal(fence: &DmaFence) -> Result {
    let flags = fence.lock.lock_irqsave();
    let result = dma_fence_signal_locked(fence);
    fence.lock.unlock_irqrestore(flags);
    result
}

/// `dma_fence_signal_locked`: the caller holds the fence's lock.
///
/// # Errors
/// -EINVAL if it was signalled before.
#[track_caller]
pub fn dma_fence_signal_locked(fence: &DmaFence) -> Result {
    fence.lock.assert_held();
    let Kind::Single { signaled } = &fence.kind else { return Err(Errno::EINVAL) };
    if signaled.swap(true, Ordering::AcqRel) {
        return Err(Errno::EINVAL);
    }
    for (_, callback) in fence.callbacks.replace(Vec::new()) {
        callback();
    }
    Ok(())
}

/// `dma_fence_set_error`: before it is signalled.
pub fn dma_fence_set_error(fence: &DmaFence, error: Errno) {
    fence.error.store(error.number(), Ordering::Release);
}

/// `dma_fence_add_callback`.
///
/// # Errors
/// -ENOENT if the fence is signalled already; the callback is dropped without a run.
pub fn dma_fence_add_callback(fence: &DmaFence, callback: FenceCallback) -> Result<FenceCallbackId> {
    static IDS: AtomicU64 = AtomicU64::new(1);
    let id = FenceCallbackId(IDS.fetch_add(1, Ordering::Relaxed));
    if let Kind::Array(parts) = &fence.kind {
        return add_array_callback(parts, callback).map(|()| id);
    }
    if fence.is_signaled() {
        return Err(Errno::ENOENT);
    }
    let flags = fence.lock.lock_irqsave();
    let late = fence.is_signaled();
    if !late {
        fence.callbacks.with(|callbacks| callbacks.push((id, callback)));
    }
    fence.lock.unlock_irqrestore(flags);
    if late { Err(Errno::ENOENT) } else { Ok(id) }
}

/// `dma_fence_remove_callback`: true if it had not run. Not for a fence array.
pub fn dma_fence_remove_callback(fence: &DmaFence, id: FenceCallbackId) -> bool {
    let flags = fence.lock.lock_irqsave();
    let removed = fence.callbacks.with(|callbacks| {
        let at = callbacks.iter().position(|(other, _)| *other == id);
        at.map(|at| callbacks.remove(at))
    });
    fence.lock.unlock_irqrestore(flags);
    removed.is_some()
}

/// The callback runs when the last part signals.
fn add_array_callback(parts: &[Arc<DmaFence>], callback: FenceCallback) -> Result {
    // One more than there are parts, so that it cannot run before all are registered.
    let pending = Arc::new(AtomicUsize::new(parts.len() + 1));
    let callback = Arc::new(parking_lot::Mutex::new(Some(callback)));
    for part in parts {
        let (left, shared) = (pending.clone(), callback.clone());
        let count_down = Box::new(move || {
            if left.fetch_sub(1, Ordering::AcqRel) == 1
                && let Some(callback) = shared.lock().take()
            {
                callback();
            }
        });
        if dma_fence_add_callback(part, count_down).is_err() {
            pending.fetch_sub(1, Ordering::AcqRel);
        }
    }
    if pending.fetch_sub(1, Ordering::AcqRel) == 1 {
        return Err(Errno::ENOENT);
    }
    Ok(())
}

/// `dma_fence_wait`: sleeps until the fence is signalled.
///
/// # Errors
/// -EINTR if interruptible and a signal was injected.
pub fn dma_fence_wait(fence: &DmaFence, interruptible: bool) -> Result {
    __dma_fence_might_wait();
    if fence.is_signaled() {
        return Ok(());
    }
    if interruptible && fault::interrupted() {
        return Err(Errno::EINTR);
    }
    dma_fence_default_wait(fence);
    Ok(())
}

fn dma_fence_default_wait(fence: &DmaFence) {
    let task = thread::current();
    let woken = Arc::new(AtomicBool::new(false));
    let flag = woken.clone();
    let wake = Box::new(move || {
        flag.store(true, Ordering::Release);
        task.unpark();
    });
    if dma_fence_add_callback(fence, wake).is_ok() {
        while !woken.load(Ordering::Acquire) {
            thread::park();
        }
    }
}

/// `__dma_fence_might_wait`: what a wait means for the validator, also where nobody has to wait.
pub fn __dma_fence_might_wait() {
    let signalling = raw::held(&DMA_FENCE_MAP) == Held::Yes;
    if signalling {
        raw::release(&DMA_FENCE_MAP);
    }
    raw::acquire(&DMA_FENCE_MAP, Acquire::WRITE);
    raw::release(&DMA_FENCE_MAP);
    if signalling {
        raw::acquire(&DMA_FENCE_MAP, Acquire::READ);
    }
}

/// What [`dma_fence_begin_signalling`] hands to [`dma_fence_end_signalling`]: true for an inner section.
pub type SignallingCookie = bool;

/// `dma_fence_begin_signalling`: a fence that somebody may wait for depends on what follows.
#[track_caller]
#[must_use]
pub fn dma_fence_begin_signalling() -> SignallingCookie {
    if raw::held(&DMA_FENCE_MAP) == Held::Yes || irq::in_interrupt() {
        return true;
    }
    raw::acquire(&DMA_FENCE_MAP, Acquire::READ);
    false
}

/// `dma_fence_end_signalling`.
#[track_caller]
pub fn dma_fence_end_signalling(cookie: SignallingCookie) {
    if !cookie {
        raw::release(&DMA_FENCE_MAP);
    }
}

/// The fence that was always signalled: one for each kernel, made at first use.
pub(crate) struct FenceStub {
    lock: Arc<SpinLock>,
    fence: KCell<Option<Arc<DmaFence>>>,
}

impl FenceStub {
    pub(crate) fn new() -> Self {
        FenceStub { lock: Arc::new(SpinLock::new(&STUB_LOCK)), fence: KCell::new("the stub fence", None) }
    }
}

/// `dma_fence_get_stub`.
pub(crate) fn dma_fence_get_stub(core: &KernelCore) -> Arc<DmaFence> {
    let stub = &core.stub;
    stub.lock.lock();
    let fence = stub.fence.with(|fence| {
        fence
            .get_or_insert_with(|| {
                let kind = Kind::Single { signaled: AtomicBool::new(true) };
                Arc::new(DmaFence::build(stub.lock.clone(), 0, 0, kind, None))
            })
            .clone()
    });
    stub.lock.unlock();
    fence
}

crate::kernel::opaque_debug!(DmaFence, FenceStub);
