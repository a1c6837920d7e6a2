// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Interrupts with a handler in a thread: the hard handler only says whose interrupt it is, the thread does the work
//! and may sleep.
//!
//! The hard handler runs on the thread that raises the line, as an interrupt of whatever that one does.
//!
//! Kernel counterpart: `kernel/irq/manage.c`. As in the kernel, waiting for a handler ([`IrqAction::synchronize`])
//! is not an event for the validator.

use std::sync::Arc;

use super::irq;
use super::kthread::{Background, Kthread};
use super::wait::Sleepers;

/// `irqreturn_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqReturn {
    /// Not this device's.
    None,
    /// Done.
    Handled,
    /// The thread does the rest.
    WakeThread,
}

/// `struct irqaction`, and the line that it sits on.
pub struct IrqAction {
    handler: Box<dyn Fn() -> IrqReturn + Send + Sync>,
    thread: Option<Arc<Kthread>>,
    in_progress: parking_lot::Mutex<usize>,
    done: Sleepers,
}

impl IrqAction {
    /// `request_irq`.
    pub fn request(handler: impl Fn() -> IrqReturn + Send + Sync + 'static) -> Self {
        Self::new(Box::new(handler), None)
    }

    /// `request_threaded_irq`.
    pub fn request_threaded(
        background: &Background,
        name: &str,
        handler: impl Fn() -> IrqReturn + Send + Sync + 'static,
        thread_fn: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let thread = background.kthread(&format!("irq/{name}"), thread_fn);
        Self::new(Box::new(handler), Some(thread))
    }

    fn new(handler: Box<dyn Fn() -> IrqReturn + Send + Sync>, thread: Option<Arc<Kthread>>) -> Self {
        IrqAction { handler, thread, in_progress: parking_lot::Mutex::new(0), done: Sleepers::default() }
    }

    /// The device raises the line.
    pub fn raise(&self) {
        *self.in_progress.lock() += 1;
        let result = irq::hardirq(|| (self.handler)());
        if let (IrqReturn::WakeThread, Some(thread)) = (result, &self.thread) {
            thread.poke();
        }
        *self.in_progress.lock() -= 1;
        self.done.wake_all();
    }

    /// Whether the thread has something to do.
    pub fn is_busy(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| thread.is_busy())
    }

    /// `synchronize_irq`: waits until neither the handler nor its thread is at work.
    pub fn synchronize(&self) {
        self.done.wait_until(|| *self.in_progress.lock() == 0);
        if let Some(thread) = &self.thread {
            thread.wait_idle();
        }
    }
}

super::opaque_debug!(IrqAction);

#[cfg(test)]
mod tests {
    use super::{IrqAction, IrqReturn};
    use crate::kernel::irq;
    use crate::kernel::kthread::Background;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn the_hard_handler_runs_in_the_interrupt_and_the_thread_outside() {
        let background = Background::default();
        let handled = Arc::new(AtomicUsize::new(0));
        let count = handled.clone();
        let action = IrqAction::request_threaded(
            &background,
            "test",
            || {
                assert!(irq::in_interrupt());
                IrqReturn::WakeThread
            },
            move || {
                assert!(!irq::in_interrupt());
                count.fetch_add(1, Ordering::Relaxed);
            },
        );
        for expected in 1..=3 {
            action.raise();
            action.synchronize();
            assert_eq!(handled.load(Ordering::Relaxed), expected);
        }
        background.settle();
        background.stop();
    }

    #[test]
    fn a_handler_that_has_done_everything_wakes_nobody() {
        let background = Background::default();
        let action = IrqAction::request_threaded(
            &background,
            "test",
            || IrqReturn::Handled,
            || panic!("the thread must not run"),
        );
        action.raise();
        action.synchronize();
        background.settle();
        background.stop();
    }
}
