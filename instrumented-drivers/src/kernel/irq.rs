// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Interrupts of a simulated CPU: every thread has one to itself. What runs in an interrupt is run by the thread
//! that simulates the device (a timer that fires, for example), between [`softirq`]'s begin and end.

use core::cell::Cell;

use lockdep::raw;
use lockdep::{Context, raw::context_exit};

thread_local! {
    static IRQS_OFF: Cell<bool> = const { Cell::new(false) };
    static IN_INTERRUPT: Cell<u32> = const { Cell::new(0) };
}

/// What `local_irq_save` hands to `local_irq_restore`.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct IrqFlags {
    were_off: bool,
}

/// `local_irq_disable`.
#[track_caller]
pub fn local_irq_disable() {
    if !IRQS_OFF.replace(true) {
        raw::disable_context(Context::HardIrq);
    }
}

/// `local_irq_enable`.
#[track_caller]
pub fn local_irq_enable() {
    if IRQS_OFF.replace(false) {
        raw::enable_context(Context::HardIrq);
    }
}

/// `local_irq_save`.
#[track_caller]
pub fn local_irq_save() -> IrqFlags {
    let were_off = IRQS_OFF.get();
    local_irq_disable();
    IrqFlags { were_off }
}

/// `local_irq_restore`.
#[track_caller]
pub fn local_irq_restore(flags: IrqFlags) {
    if !flags.were_off {
        local_irq_enable();
    }
}

/// `in_interrupt`.
#[must_use]
pub fn in_interrupt() -> bool {
    IN_INTERRUPT.get() > 0
}

/// Runs `f` as a softirq on this CPU (a timer, for example).
pub fn softirq<R>(f: impl FnOnce() -> R) -> R {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            IN_INTERRUPT.set(IN_INTERRUPT.get() - 1);
            context_exit(Context::SoftIrq);
        }
    }
    raw::context_enter(Context::SoftIrq, false);
    IN_INTERRUPT.set(IN_INTERRUPT.get() + 1);
    let _leave = Leave;
    f()
}

/// Forgets the state of a CPU whose code panicked.
pub(crate) fn reset() {
    IRQS_OFF.set(false);
    IN_INTERRUPT.set(0);
}
