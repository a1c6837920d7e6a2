// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Timers. Time passes when a test says so ([`Kernel::pass_time`](crate::user::Kernel::pass_time)), and not otherwise.
//!
//! A timer runs as a softirq with hard interrupts off (`TIMER_IRQSAFE`). One whose owner is gone does nothing: it holds a
//! weak reference, which stands for the kernel's deletion of the timer.
//!
//! Kernel counterpart: `kernel/time/timer.c`.

use core::time::Duration;

use parking_lot::Mutex;

use super::irq;

struct Timer {
    due: Duration,
    run: Box<dyn FnOnce() + Send>,
}

/// The timers of a kernel, and its clock.
#[derive(Default)]
pub(crate) struct Timers(Mutex<State>);

#[derive(Default)]
struct State {
    now: Duration,
    pending: Vec<Timer>,
}

impl Timers {
    /// `mod_timer` of a new timer.
    pub(crate) fn after(&self, delay: Duration, run: impl FnOnce() + Send + 'static) {
        let mut state = self.0.lock();
        let due = state.now + delay;
        state.pending.push(Timer { due, run: Box::new(run) });
    }

    /// Time passes; what is due by then runs on this thread's CPU, the earliest first.
    pub(crate) fn pass(&self, time: Duration) {
        let mut state = self.0.lock();
        state.now += time;
        let now = state.now;
        let (mut due, later): (Vec<_>, Vec<_>) =
            core::mem::take(&mut state.pending).into_iter().partition(|timer| timer.due <= now);
        state.pending = later;
        drop(state);
        due.sort_by_key(|timer| timer.due);
        for timer in due {
            irq::softirq(|| {
                let flags = irq::local_irq_save();
                (timer.run)();
                irq::local_irq_restore(flags);
            });
        }
    }
}

super::opaque_debug!(Timers);
