// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Threads of the kernel and of simulated devices: workers of workqueues, interrupt threads, a GPU.
//!
//! A [`Kthread`] sleeps until it is poked, then runs its function once (a further poke meanwhile makes one more run).
//! The thread is started by the first poke and inherits the validator of whoever poked; a kernel that never needs it
//! has none. [`Background`] knows all threads of a kernel: whether any is busy, and how to end them. There is no
//! clock anywhere: a thread waits for a condition or for a poke. A wait that has a time limit ends when nobody is busy.
//!
//! A panic (a finding instead of a certain hang) ends the thread; [`Background::settle`] passes it on.

use core::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Weak};
use std::thread::Builder;

use lockdep::thread::JoinHandle;
use parking_lot::{Condvar, Mutex};

use super::locking::watched;
use super::task::flush_delayed_work;
use super::wait::Sleepers;

#[derive(Default)]
struct Activity {
    /// Pokes that have not been answered, and runs that have not ended.
    busy: usize,
    panic: Option<Box<dyn Any + Send>>,
    /// Those whose time is up when nobody is busy any more.
    watchers: Vec<Weak<Sleepers>>,
}

#[derive(Default)]
struct Counter {
    activity: Mutex<Activity>,
    changed: Condvar,
}

impl Counter {
    fn begin(&self) {
        self.activity.lock().busy += 1;
    }

    fn end(&self) {
        let mut activity = self.activity.lock();
        activity.busy -= 1;
        let quiet = if activity.busy == 0 { activity.watchers.clone() } else { Vec::new() };
        drop(activity);
        self.changed.notify_all();
        quiet.iter().filter_map(Weak::upgrade).for_each(|sleepers| sleepers.wake_all());
    }
}

/// All background threads of a kernel.
#[derive(Default)]
pub struct Background {
    counter: Arc<Counter>,
    threads: Mutex<Vec<Weak<Kthread>>>,
}

impl Background {
    /// A thread, not started yet.
    pub fn kthread(&self, name: &str, run: impl Fn() + Send + Sync + 'static) -> Arc<Kthread> {
        let thread = Arc::new(Kthread {
            name: name.to_owned(),
            run: Box::new(run),
            state: Mutex::default(),
            changed: Condvar::new(),
            counter: self.counter.clone(),
        });
        self.threads.lock().push(Arc::downgrade(&thread));
        thread
    }

    /// Waits until no thread has anything left to do. A device that waits for something that the test has to bring
    /// about counts as having nothing to do.
    ///
    /// # Panics
    /// With the panic of a thread that panicked.
    pub fn settle(&self) {
        let mut activity = self.counter.activity.lock();
        while activity.busy > 0 {
            self.counter.changed.wait(&mut activity);
        }
        if let Some(panic) = activity.panic.take() {
            drop(activity);
            resume_unwind(panic);
        }
    }

    /// True if nobody is busy. There is no clock; what has not happened by then does not happen in time.
    pub fn is_quiet(&self) -> bool {
        self.counter.activity.lock().busy == 0
    }

    /// From now on these are woken whenever the last thread becomes idle.
    pub fn watch(&self, sleepers: &Arc<Sleepers>) {
        let mut activity = self.counter.activity.lock();
        activity.watchers.retain(|watcher| watcher.strong_count() > 0);
        activity.watchers.push(Arc::downgrade(sleepers));
    }

    /// Ends all threads. Those that are idle are waited for; one that hangs in a lock is left to itself.
    pub fn stop(&self) {
        let threads: Vec<_> = self.threads.lock().drain(..).collect();
        for thread in threads.iter().filter_map(Weak::upgrade) {
            thread.stop();
        }
    }
}

#[derive(Default)]
struct State {
    poked: bool,
    running: bool,
    stopped: bool,
    /// Above 0: it stalls. Below: it was told to go on before it did.
    stalled: i32,
    thread: Option<JoinHandle<()>>,
}

/// A thread that runs its function once for each poke.
pub struct Kthread {
    name: String,
    run: Box<dyn Fn() + Send + Sync>,
    state: Mutex<State>,
    changed: Condvar,
    counter: Arc<Counter>,
}

impl Kthread {
    /// Makes it run, or run once more.
    pub fn poke(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if state.stopped || state.poked || state.stalled > 0 {
            return;
        }
        self.counter.begin();
        state.poked = true;
        if state.thread.is_none() {
            let thread = self.clone();
            let builder = Builder::new().name(self.name.clone());
            let started = lockdep::thread::spawn_with(builder, move || watched(|| thread.serve()));
            state.thread =
                Some(started.unwrap_or_else(|error| panic!("no thread for {}: {error}", self.name)));
        }
        self.changed.notify_all();
    }

    fn serve(&self) {
        while self.next() {
            let result = catch_unwind(AssertUnwindSafe(|| {
                (self.run)();
                // What a kernel thread has put off is a work item of its own; it runs here.
                flush_delayed_work();
            }));
            let mut state = self.state.lock();
            state.running = false;
            if let Err(panic) = result {
                state.stopped = true;
                self.counter.activity.lock().panic.get_or_insert(panic);
            }
            drop(state);
            self.changed.notify_all();
            self.counter.end();
        }
    }

    /// Waits for a poke; false: it is over.
    fn next(&self) -> bool {
        let mut state = self.state.lock();
        while !state.poked && !state.stopped {
            self.changed.wait(&mut state);
        }
        if core::mem::take(&mut state.poked) && state.stopped {
            self.counter.end();
        }
        state.running = !state.stopped;
        state.running
    }

    /// Whether it runs, or will.
    pub fn is_busy(&self) -> bool {
        let state = self.state.lock();
        state.poked || state.running
    }

    /// Waits until it is idle.
    pub fn wait_idle(&self) {
        let mut state = self.state.lock();
        while state.poked || state.running {
            self.changed.wait(&mut state);
        }
    }

    /// The thread itself says: from now on I wait for something that only a test or a driver can bring about. It looks
    /// at everything again when it goes on, so pokes until then are for nothing.
    pub fn stalls(&self) {
        let mut state = self.state.lock();
        if core::mem::take(&mut state.poked) {
            self.counter.end();
        }
        state.stalled += 1;
        if state.stalled == 1 {
            self.counter.end();
        }
    }

    /// And now it goes on. Called by whoever brought it about; that may be just before the thread says that it stalls.
    pub fn goes_on(&self) {
        let mut state = self.state.lock();
        state.stalled -= 1;
        if state.stalled == 0 {
            self.counter.begin();
        }
    }

    fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        let idle = !state.running;
        let thread = state.thread.take();
        drop(state);
        self.changed.notify_all();
        if let Some(thread) = thread.filter(|_| idle) {
            // It has caught its panics; there is nothing to learn from the result.
            drop(thread.join());
        }
    }
}

super::opaque_debug!(Background, Kthread);

#[cfg(test)]
mod tests {
    use super::Background;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_poke_makes_a_run_and_settle_waits_for_it() {
        let background = Background::default();
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = runs.clone();
        let thread = background.kthread("test", move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        for expected in 1..=3 {
            thread.poke();
            background.settle();
            assert_eq!(runs.load(Ordering::Relaxed), expected);
        }
        background.stop();
        thread.poke();
        background.settle();
        assert_eq!(runs.load(Ordering::Relaxed), 3, "a stopped thread does nothing");
    }

    #[test]
    fn a_chain_of_pokes_is_waited_for_as_a_whole() {
        let background = Background::default();
        let done = Arc::new(AtomicUsize::new(0));
        let count = done.clone();
        let last = background.kthread("last", move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let next = last.clone();
        let first = background.kthread("first", move || next.poke());
        for expected in 1..=100 {
            first.poke();
            background.settle();
            assert_eq!(done.load(Ordering::Relaxed), expected);
        }
        background.stop();
    }

    #[test]
    fn the_panic_of_a_thread_comes_out_of_settle() {
        let background = Background::default();
        let thread = background.kthread("doomed", || std::panic::resume_unwind(Box::new("as asked")));
        thread.poke();
        let panic = catch_unwind(AssertUnwindSafe(|| background.settle())).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"as asked"));
        background.stop();
    }
}
