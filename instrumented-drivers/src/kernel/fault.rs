// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Fault injection: lets the n-th interruptible wait or the n-th allocation of this thread fail, so that every
//! error path can be run.
//!
//! A test first runs a scenario with [`Plan::NONE`] to learn from [`Seen`] how many places there are, then once
//! for each place. Kernel counterpart: `CONFIG_FAULT_INJECTION`, and a signal that arrives at the worst moment.

use core::cell::{Cell, RefCell};
use core::panic::Location;
use core::sync::atomic::{AtomicU32, Ordering};

/// What fails. Places are counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The interruptible wait that is hit by a signal (-EINTR).
    pub interrupt: Option<u32>,
    /// The allocation that fails (-ENOMEM).
    pub allocation: Option<u32>,
}

impl Plan {
    /// Nothing fails.
    pub const NONE: Plan = Plan { interrupt: None, allocation: None };

    /// The n-th interruptible wait fails.
    #[must_use]
    pub const fn interrupt(n: u32) -> Self {
        Plan { interrupt: Some(n), allocation: None }
    }

    /// The n-th allocation fails.
    #[must_use]
    pub const fn allocation(n: u32) -> Self {
        Plan { interrupt: None, allocation: Some(n) }
    }
}

/// How many places were passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Interruptible waits.
    pub interruptible: u32,
    /// Allocations.
    pub allocations: u32,
}

thread_local! {
    static PLAN: Cell<Plan> = const { Cell::new(Plan::NONE) };
    static DRILL: Cell<bool> = const { Cell::new(false) };
    static PLACES: RefCell<Option<Vec<Place>>> = const { RefCell::new(None) };
    static SEEN: Cell<Seen> = const { Cell::new(Seen { interruptible: 0, allocations: 0 }) };
}

/// Runs `f` on this thread with these faults and counts the places it passes.
pub fn inject<R>(plan: Plan, f: impl FnOnce() -> R) -> (R, Seen) {
    struct Restore(Plan, Seen);
    impl Drop for Restore {
        fn drop(&mut self) {
            PLAN.set(self.0);
            SEEN.set(self.1);
        }
    }
    let _restore = Restore(PLAN.replace(plan), SEEN.replace(Seen::default()));
    let result = f();
    (result, SEEN.get())
}

/// What another thread does from time to time: a test can make it fail the next time.
#[derive(Debug, Default)]
pub(crate) struct FailsNextTime(AtomicU32);

impl FailsNextTime {
    /// The n-th allocation fails, from 1.
    pub(crate) fn at(&self, allocation: u32) {
        self.0.store(allocation, Ordering::Relaxed);
    }

    /// Runs `f` on this thread, with the fault that a test has asked for, if one has.
    pub(crate) fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        let plan = match self.0.swap(0, Ordering::Relaxed) {
            0 => Plan::NONE,
            allocation => Plan::allocation(allocation),
        };
        inject(plan, f).0
    }
}

/// Runs `f` on this thread with made-up back-offs: contexts of wound/wait mutexes that begin in it are told -EDEADLK
/// now and then when they have just taken a lock, which they lose again. Every caller has to be able to handle that.
///
/// Kernel counterpart: `CONFIG_DEBUG_WW_MUTEX_SLOWPATH`.
pub fn drill_back_offs<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            DRILL.set(self.0);
        }
    }
    let _restore = Restore(DRILL.replace(true));
    f()
}

/// A place that was passed: what would make it fail, and where it is in the source.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The plan that lets this one fail.
    pub plan: Plan,
    /// Who waits or allocates.
    pub at: &'static Location<'static>,
}

/// Runs `f` on this thread with nothing failing and lists the places it passes.
pub fn places<R>(f: impl FnOnce() -> R) -> (R, Vec<Place>) {
    struct Restore(Option<Vec<Place>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            PLACES.set(self.0.take());
        }
    }
    let _restore = Restore(PLACES.replace(Some(Vec::new())));
    let (result, _) = inject(Plan::NONE, f);
    (result, PLACES.take().unwrap_or_default())
}

#[track_caller]
fn passed(plan: Plan) {
    let at = Location::caller();
    PLACES.with_borrow_mut(|places| places.iter_mut().for_each(|places| places.push(Place { plan, at })));
}

/// Called by each new context: true in [`drill_back_offs`].
pub(crate) fn is_drill() -> bool {
    DRILL.get()
}

/// Called by each interruptible wait: true if a signal arrives now.
#[track_caller]
pub(crate) fn interrupted() -> bool {
    let mut seen = SEEN.get();
    seen.interruptible += 1;
    SEEN.set(seen);
    passed(Plan::interrupt(seen.interruptible));
    PLAN.get().interrupt == Some(seen.interruptible)
}

/// Called by each allocation: true if it fails.
#[track_caller]
pub(crate) fn allocation_fails() -> bool {
    let mut seen = SEEN.get();
    seen.allocations += 1;
    SEEN.set(seen);
    passed(Plan::allocation(seen.allocations));
    PLAN.get().allocation == Some(seen.allocations)
}
