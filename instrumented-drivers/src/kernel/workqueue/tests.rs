// SPDX-License-Identifier: GPL-2.0-only
//! What workqueues do, and what the validator says about waiting for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lockdep::{LockClass, Validator};

use super::{DelayedWork, Work, Workqueue, work_class};
use crate::kernel::kthread::Background;
use crate::kernel::locking::{Mutex, sleep_class};
use crate::kernel::wait::Completion;

static WQ: LockClass = work_class("(wq_completion)test");
static WORK: LockClass = work_class("(work_completion)(&test)");
static LOCK: LockClass = sleep_class("lock");

/// A queue, and a gate that its first item waits at.
struct World {
    background: Background,
    wq: Arc<Workqueue>,
    gate: Arc<Completion>,
    runs: Arc<AtomicUsize>,
}

impl World {
    fn new() -> Self {
        let background = Background::default();
        let wq = Arc::new(Workqueue::alloc_ordered(&background, "test", &WQ));
        let gate = Arc::new(Completion::new(&background));
        World { background, wq, gate, runs: Arc::default() }
    }

    /// An item that waits at the gate, then counts.
    fn gated(&self) -> Arc<Work> {
        let (gate, runs) = (self.gate.clone(), self.runs.clone());
        Work::new(&WORK, move || {
            gate.wait();
            runs.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn runs(&self) -> usize {
        self.runs.load(Ordering::Relaxed)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.background.stop();
    }
}

#[test]
fn an_item_is_queued_once_and_runs_once() {
    let world = World::new();
    let work = world.gated();
    let blocker = world.gated();
    assert!(world.wq.queue_work(&blocker));
    assert!(world.wq.queue_work(&work));
    assert!(!world.wq.queue_work(&work), "it is queued already");
    world.gate.complete_all();
    assert!(world.wq.flush_work(&work));
    assert_eq!(world.runs(), 2, "in order, so the first one is done too");
    assert!(!world.wq.flush_work(&work), "there is nothing to wait for");
}

#[test]
fn a_cancelled_item_does_not_run_and_one_that_runs_is_waited_for() {
    let world = World::new();
    let (running, waiting) = (world.gated(), world.gated());
    world.wq.queue_work(&running);
    world.wq.queue_work(&waiting);
    assert!(world.wq.cancel_work(&waiting));
    assert!(!world.wq.cancel_work(&waiting));
    world.gate.complete_all();
    world.wq.cancel_work_sync(&running);
    world.wq.flush();
    assert!(world.runs() <= 1, "the cancelled one never ran");
}

#[test]
fn a_delayed_item_waits_for_its_time() {
    let world = World::new();
    world.gate.complete_all();
    let (gate, runs) = (world.gate.clone(), world.runs.clone());
    let work = DelayedWork::new(&WORK, move || {
        gate.wait();
        runs.fetch_add(1, Ordering::Relaxed);
    });
    assert!(!work.fire(&world.wq), "the timer does not run");
    work.queue(&world.wq);
    world.background.settle();
    assert_eq!(world.runs(), 0);
    assert!(work.fire(&world.wq));
    world.background.settle();
    assert_eq!(world.runs(), 1);
    work.queue(&world.wq);
    work.cancel(&world.wq);
    assert!(!work.fire(&world.wq));
    work.queue(&world.wq);
    work.cancel_sync(&world.wq);
    assert!(!work.fire(&world.wq));
    assert_eq!(world.runs(), 1);
}

/// The kernel's own `flush_work_busy`: an item takes a lock that its waiter holds. And `flush_work`: with nothing to
/// wait for there is nothing to say.
#[test]
fn waiting_for_an_item_under_a_lock_that_it_takes_is_found_if_it_is_busy() {
    // One for the item and one for its queue, which serves nobody else meanwhile.
    for (busy, expected) in [(true, &["circular", "circular"][..]), (false, &[])] {
        if busy && !lockdep::ENABLED {
            continue;
        }
        let validator = Validator::new();
        validator.scope(|| {
            let world = World::new();
            let lock = Arc::new(Mutex::new(&LOCK));
            let (inner, gate, runs) = (lock.clone(), world.gate.clone(), world.runs.clone());
            // It takes the lock in its first run only, so that nothing really hangs.
            let work = Work::new(&WORK, move || {
                if runs.fetch_add(1, Ordering::Relaxed) == 0 {
                    inner.lock();
                    inner.unlock();
                } else {
                    gate.wait();
                }
            });
            world.wq.queue_work(&work);
            world.background.settle();
            let gate = world.gate.clone();
            validator.on_report(move |_| gate.complete_all());
            lock.lock();
            if busy {
                world.wq.queue_work(&work);
            }
            assert_eq!(world.wq.flush_work(&work), busy);
            lock.unlock();
        });
        let kinds: Vec<_> = validator.reports().iter().map(|report| report.kind().name()).collect();
        assert_eq!(kinds, expected, "busy: {busy}");
    }
}

#[test]
fn an_item_that_waits_for_itself_is_stopped() {
    if !lockdep::ENABLED {
        return;
    }
    let validator = Validator::new();
    validator.scope(|| {
        let world = World::new();
        let slot: Arc<parking_lot::Mutex<Option<Arc<Work>>>> = Arc::default();
        let (own, wq) = (slot.clone(), world.wq.clone());
        let work = Work::new(&WORK, move || {
            let own = own.lock().clone();
            if let Some(own) = own {
                wq.flush_work(&own);
            }
        });
        *slot.lock() = Some(work.clone());
        world.wq.queue_work(&work);
        let settled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.background.settle()));
        assert!(settled.is_err(), "the worker panicked instead of hanging");
        slot.lock().take();
    });
    assert_eq!(validator.reports()[0].kind().name(), "recursive");
}
