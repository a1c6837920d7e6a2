// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! A task between two looks at user mode: work that it must do before it returns there.
//!
//! `fput` of the last reference does not release the file; it queues the release here. A system call runs the queue
//! at its very end, with nothing held ([`syscall`]). Code that runs in no system call counts as a kernel thread,
//! whose releases are a delayed work item: [`flush_delayed_work`] runs them.
//!
//! Kernel counterpart: `task_work_add()`, `task_work_run()` (last in, first out), `delayed_fput()`.

use core::cell::{Cell, RefCell};
use std::sync::Arc;

use lockdep::raw;

use super::core_state::KernelCore;
use super::irq;

type Work = Box<dyn FnOnce()>;

thread_local! {
    static WORK: RefCell<Vec<Work>> = const { RefCell::new(Vec::new()) };
    static SYSCALL_DEPTH: Cell<u32> = const { Cell::new(0) };
    static ALONE: RefCell<Option<Arc<KernelCore>>> = const { RefCell::new(None) };
}

/// Runs `f`; this thread then returns to user mode only when no thread of the kernel has anything left to do. So what the
/// kernel does on its own never runs beside the thread's next call.
pub(crate) fn alone<R>(core: &Arc<KernelCore>, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Arc<KernelCore>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            ALONE.set(self.0.take());
        }
    }
    let _restore = Restore(ALONE.replace(Some(core.clone())));
    f()
}

/// `task_work_add`.
pub(crate) fn task_work_add(work: impl FnOnce() + 'static) {
    WORK.with_borrow_mut(|queue| queue.push(Box::new(work)));
}

/// `task_work_run`: until nothing is left, also of what the work itself queued.
fn task_work_run() {
    loop {
        let batch = WORK.take();
        if batch.is_empty() {
            return;
        }
        for work in batch.into_iter().rev() {
            work();
        }
    }
}

/// Runs the releases that kernel threads have put off.
pub fn flush_delayed_work() {
    task_work_run();
}

/// Runs `f` as one system call of this thread: the queued work follows, then the return to user mode, where no lock
/// may be held.
///
/// If `f` panics, the queue is thrown away: locks may be held, nothing more can be done in this world.
#[track_caller]
pub fn syscall<R>(f: impl FnOnce() -> R) -> R {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            SYSCALL_DEPTH.set(SYSCALL_DEPTH.get() - 1);
            if std::thread::panicking() {
                drop(WORK.take());
                irq::reset();
            }
        }
    }
    SYSCALL_DEPTH.set(SYSCALL_DEPTH.get() + 1);
    let _leave = Leave;
    let result = f();
    if SYSCALL_DEPTH.get() == 1 {
        task_work_run();
        raw::user_return();
        if let Some(core) = ALONE.with_borrow(Clone::clone) {
            core.background.settle();
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::{flush_delayed_work, syscall, task_work_add};
    use std::cell::RefCell;
    use std::rc::Rc;

    #[test]
    fn work_runs_at_the_end_of_the_system_call_and_so_does_the_work_it_queues() {
        let log = Rc::new(RefCell::new(Vec::new()));
        syscall(|| {
            let inner = log.clone();
            task_work_add(move || {
                inner.borrow_mut().push("work");
                let last = inner.clone();
                task_work_add(move || last.borrow_mut().push("work of work"));
            });
            log.borrow_mut().push("body");
        });
        assert_eq!(*log.borrow(), ["body", "work", "work of work"]);
    }

    #[test]
    fn work_of_a_kernel_thread_waits_for_the_flush() {
        let done = Rc::new(RefCell::new(false));
        let flag = done.clone();
        task_work_add(move || *flag.borrow_mut() = true);
        assert!(!*done.borrow());
        flush_delayed_work();
        assert!(*done.borrow());
    }
}
