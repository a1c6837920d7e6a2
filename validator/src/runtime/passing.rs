// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! What one thread hands to another: the validator that watches, and what has happened before
//! ([`crate::engine::sight`]): the starter's doings before the new thread's, and those before the joiner's.
//!
//! Only threads of [`crate::thread`] are known of. What a thread has done is passed on when it ends, also by a panic,
//! whether somebody will wait for it or not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::thread::{Current, Thread};
use super::{Validator, inside};
use crate::engine::sight::Clock;

/// What has happened up to some point, as one validator knows it.
#[derive(Clone, Debug)]
struct Passed {
    epoch: u32,
    clock: Arc<Clock>,
}

impl Passed {
    /// All that this thread knows to have happened; none if it is not watched.
    fn by_this_thread() -> Option<Passed> {
        let mut entered = Thread::enter()?;
        let thread = entered.thread();
        let Current { validator, task, .. } = entered.current();
        let before = task.segment;
        let clock = task.pass_on();
        if task.segment != before {
            // What it does from now on is to be noted as done later.
            thread.forget_chains();
        }
        Some(Passed { epoch: validator.epoch, clock })
    }

    /// It has happened before whatever this thread does from now on.
    fn follow(&self) {
        let Some(mut entered) = Thread::enter() else { return };
        let Current { validator, task, .. } = entered.current();
        if validator.epoch == self.epoch {
            task.follow(&self.clock);
        }
    }
}

/// What another thread is started with.
pub(crate) struct Binding {
    validator: Option<Validator>,
    start: Option<Passed>,
    end: End,
}

impl Binding {
    /// The validator that is bound to this thread (none if the thread is past its end), and what has happened.
    pub(crate) fn current() -> Self {
        Binding {
            validator: Thread::validator().map(|inner| Validator { inner }),
            start: Passed::by_this_thread(),
            end: End::default(),
        }
    }

    /// The end of the thread, for who waits for it.
    pub(crate) fn end(&self) -> End {
        self.end.clone()
    }

    /// Runs a thread's work under it, and checks at its end that no lock is held.
    pub(crate) fn run_task<R>(self, f: impl FnOnce() -> R) -> R {
        struct AtEnd(End);
        impl Drop for AtEnd {
            fn drop(&mut self) {
                if let Some(passed) = Passed::by_this_thread() {
                    // The only place that sets it.
                    let _ = self.0.0.set(passed);
                }
            }
        }
        let Binding { validator, start, end } = self;
        let work = || {
            let _end = AtEnd(end);
            if let Some(start) = start {
                start.follow();
            }
            let result = f();
            crate::hook::task_exit();
            result
        };
        match validator {
            Some(validator) => validator.scope(work),
            None => work(),
        }
    }
}

/// What a thread had done at its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct End(Arc<OnceLock<Passed>>);

impl End {
    /// The thread has ended before whatever this one does from now on.
    pub(crate) fn follow(&self) {
        if let Some(passed) = self.0.get() {
            passed.follow();
        }
    }
}

/// The ends of the threads of each open scope. A scope is a `Copy` handle, so they cannot lie in it.
static SCOPES: Mutex<BTreeMap<u32, Vec<End>>> = Mutex::new(BTreeMap::new());

/// A scope that waits for all its threads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScopeId(u32);

impl ScopeId {
    pub(crate) fn open() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        ScopeId(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// One of its threads.
    pub(crate) fn add(self, end: &End) {
        inside(|| SCOPES.lock().entry(self.0).or_default().push(end.clone()));
    }

    /// All its threads have ended.
    pub(crate) fn close(self) {
        let ends = inside(|| SCOPES.lock().remove(&self.0));
        ends.iter().flatten().for_each(End::follow);
    }
}
