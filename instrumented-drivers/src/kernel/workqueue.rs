// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Workqueues: functions that a worker thread runs later, one after the other.
//!
//! The validator sees a work item that runs as held, and so its queue; whoever waits for a work item takes and drops
//! it. So a lock that a work item takes must not be held while waiting for that item. Waiting for an item that is
//! neither queued nor running is no event, as in the kernel.
//!
//! Every queue here is an ordered one: it has one worker. A delayed item waits until its time has come; time comes
//! when a test says so ([`DelayedWork::fire`]).
//!
//! Kernel counterpart: `kernel/workqueue.c`.

use std::collections::VecDeque;
use std::sync::Arc;

use lockdep::LockClass;
use lockdep::raw::{self, Acquire, LockMap};
use parking_lot::{Condvar, Mutex};

use super::irq;
use super::kthread::{Background, Kthread};

/// The class of a work item or a queue: waited for like a lock, excludes nobody.
#[must_use]
pub const fn work_class(name: &'static str) -> LockClass {
    LockClass::new(name).strict().pseudo()
}

/// `struct work_struct`.
pub struct Work {
    map: LockMap,
    func: Box<dyn Fn() + Send + Sync>,
}

impl Work {
    /// `INIT_WORK`.
    pub fn new(class: &'static LockClass, func: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Work { map: LockMap::new(class), func: Box::new(func) })
    }

    /// An item for one run.
    pub fn once(class: &'static LockClass, func: impl FnOnce() + Send + 'static) -> Arc<Self> {
        let func = Mutex::new(Some(func));
        Self::new(class, move || {
            let func = func.lock().take();
            if let Some(func) = func {
                func();
            }
        })
    }

    /// `touch_work_lockdep_map`.
    #[track_caller]
    fn touch(&self) {
        touch(&self.map);
    }
}

#[track_caller]
fn touch(map: &LockMap) {
    raw::acquire(map, Acquire::WRITE);
    raw::release(map);
}

#[derive(Default)]
struct Queue {
    /// Counts the items that were queued.
    last: u64,
    pending: VecDeque<(u64, Arc<Work>)>,
    current: Option<(u64, Arc<Work>)>,
}

impl Queue {
    fn position(&self, work: &Arc<Work>) -> Option<usize> {
        self.pending.iter().position(|(_, other)| Arc::ptr_eq(other, work))
    }

    fn is_current(&self, work: &Arc<Work>) -> bool {
        self.current.as_ref().is_some_and(|(_, other)| Arc::ptr_eq(other, work))
    }

    /// The latest run of the item that is queued or at work.
    fn ticket(&self, work: &Arc<Work>) -> Option<u64> {
        let runs = self.pending.iter().chain(&self.current);
        runs.filter(|(_, other)| Arc::ptr_eq(other, work)).map(|(ticket, _)| *ticket).max()
    }

    fn has(&self, ticket: u64) -> bool {
        self.pending.iter().chain(&self.current).any(|(other, _)| *other == ticket)
    }
}

struct Shared {
    map: LockMap,
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// `struct workqueue_struct`.
pub struct Workqueue {
    shared: Arc<Shared>,
    worker: Arc<Kthread>,
}

impl Workqueue {
    /// `alloc_ordered_workqueue`.
    pub fn alloc_ordered(background: &Background, name: &str, class: &'static LockClass) -> Self {
        let shared =
            Arc::new(Shared { map: LockMap::new(class), queue: Mutex::default(), changed: Condvar::new() });
        let served = shared.clone();
        let worker = background.kthread(&format!("kworker/{name}"), move || worker_thread(&served));
        Workqueue { shared, worker }
    }

    /// `queue_work`; false if it is queued already.
    pub fn queue_work(&self, work: &Arc<Work>) -> bool {
        let mut queue = self.shared.queue.lock();
        if queue.position(work).is_some() {
            return false;
        }
        queue.last += 1;
        let ticket = queue.last;
        queue.pending.push_back((ticket, work.clone()));
        drop(queue);
        self.worker.poke();
        true
    }

    /// `cancel_work`: takes it from the queue; true if it was there.
    pub fn cancel_work(&self, work: &Arc<Work>) -> bool {
        let mut queue = self.shared.queue.lock();
        let at = queue.position(work);
        let cancelled = at.and_then(|at| queue.pending.remove(at)).is_some();
        drop(queue);
        self.shared.changed.notify_all();
        cancelled
    }

    /// `cancel_work_sync`: and waits until it does not run any more.
    pub fn cancel_work_sync(&self, work: &Arc<Work>) -> bool {
        let mut cancelled = self.cancel_work(work);
        __cancel_work_sync(&self.shared, work);
        // It may have queued itself again, which the kernel forbids meanwhile.
        cancelled |= self.cancel_work(work);
        cancelled
    }

    /// `flush_work`: waits until its last queued run has ended; true if it had to wait.
    pub fn flush_work(&self, work: &Arc<Work>) -> bool {
        __flush_work(&self.shared, work)
    }

    /// `flush_workqueue`: waits until everything that is queued now has been done.
    pub fn flush(&self) {
        __flush_workqueue(&self.shared);
    }
}

fn worker_thread(shared: &Shared) {
    loop {
        let mut queue = shared.queue.lock();
        queue.current = queue.pending.pop_front();
        let current = queue.current.clone();
        drop(queue);
        let Some((_, work)) = current else { return };
        process_one_work(shared, &work);
        shared.queue.lock().current = None;
        shared.changed.notify_all();
    }
}

fn process_one_work(shared: &Shared, work: &Work) {
    raw::acquire(&shared.map, Acquire::WRITE);
    raw::acquire(&work.map, Acquire::WRITE);
    (work.func)();
    raw::release(&work.map);
    raw::release(&shared.map);
}

fn __flush_work(shared: &Shared, work: &Arc<Work>) -> bool {
    let Some(ticket) = shared.queue.lock().ticket(work) else { return false };
    work.touch();
    // With one worker only, the item waits for all before it.
    touch(&shared.map);
    let mut queue = shared.queue.lock();
    while queue.has(ticket) {
        shared.changed.wait(&mut queue);
    }
    true
}

fn __cancel_work_sync(shared: &Shared, work: &Arc<Work>) {
    if !shared.queue.lock().is_current(work) {
        return;
    }
    work.touch();
    let mut queue = shared.queue.lock();
    while queue.is_current(work) {
        shared.changed.wait(&mut queue);
    }
}

fn __flush_workqueue(shared: &Shared) {
    touch(&shared.map);
    let mut queue = shared.queue.lock();
    let last = queue.last;
    while queue.pending.iter().chain(&queue.current).any(|(ticket, _)| *ticket <= last) {
        shared.changed.wait(&mut queue);
    }
}

/// `struct delayed_work`: is queued when its time has come.
pub struct DelayedWork {
    work: Arc<Work>,
    /// Whether the timer runs.
    armed: Mutex<bool>,
}

impl DelayedWork {
    /// `INIT_DELAYED_WORK`.
    pub fn new(class: &'static LockClass, func: impl Fn() + Send + Sync + 'static) -> Self {
        DelayedWork { work: Work::new(class, func), armed: Mutex::new(false) }
    }

    /// `queue_delayed_work`: starts the timer, unless it runs.
    pub fn queue(&self, wq: &Workqueue) {
        let queued = wq.shared.queue.lock().position(&self.work).is_some();
        if !queued {
            *self.armed.lock() = true;
        }
    }

    /// `mod_delayed_work` without a delay: its time has come, whether the timer runs or not.
    pub fn expire(&self, wq: &Workqueue) {
        *self.armed.lock() = false;
        wq.queue_work(&self.work);
    }

    /// `cancel_delayed_work`.
    pub fn cancel(&self, wq: &Workqueue) {
        *self.armed.lock() = false;
        wq.cancel_work(&self.work);
    }

    /// `cancel_delayed_work_sync`.
    pub fn cancel_sync(&self, wq: &Workqueue) {
        *self.armed.lock() = false;
        wq.cancel_work_sync(&self.work);
    }

    /// Time passes: the timer fires, if it runs. True if it did.
    pub fn fire(&self, wq: &Workqueue) -> bool {
        let armed = core::mem::take(&mut *self.armed.lock());
        if armed {
            irq::hardirq(|| delayed_work_timer_fn(wq, &self.work));
        }
        armed
    }
}

fn delayed_work_timer_fn(wq: &Workqueue, work: &Arc<Work>) {
    wq.queue_work(work);
}

super::opaque_debug!(Work, Workqueue, DelayedWork);

#[cfg(test)]
mod tests;
