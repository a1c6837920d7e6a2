// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Interrupts of a simulated CPU: every thread has one to itself. What runs in an interrupt is run by the thread
//! that simulates the device (a timer that fires, for example), between [`softirq`]'s begin and end.

use core::cell::Cell;

use lockdep::Context;
use lockdep::raw;

thread_local! {
    static IRQS_OFF: Cell<bool> = const { Cell::new(false) };
    static IN_INTERRUPT: Cell<u32> = const { Cell::new(0) };
    static BH_OFF: Cell<u32> = const { Cell::new(0) };
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

/// `local_bh_disable`.
#[track_caller]
pub fn local_bh_disable() {
    if BH_OFF.replace(BH_OFF.get() + 1) == 0 {
        raw::disable_context(Context::SoftIrq);
    }
}

/// `local_bh_enable`.
#[track_caller]
pub fn local_bh_enable() {
    let depth = BH_OFF.get();
    debug_assert!(depth > 0, "local_bh_enable without local_bh_disable");
    BH_OFF.set(depth.saturating_sub(1));
    if depth == 1 {
        raw::enable_context(Context::SoftIrq);
    }
}

/// `in_interrupt`: in one, or where no bottom half can run.
#[must_use]
pub fn in_interrupt() -> bool {
    IN_INTERRUPT.get() > 0 || BH_OFF.get() > 0
}

/// `irq_enter`: what follows on this thread runs in a hard interrupt. `threaded`: in the thread that handles it, so
/// that spinlocks may be taken.
pub fn irq_enter(threaded: bool) {
    raw::context_enter(Context::HardIrq, threaded);
    IN_INTERRUPT.set(IN_INTERRUPT.get() + 1);
}

/// `irq_exit`.
pub fn irq_exit() {
    IN_INTERRUPT.set(IN_INTERRUPT.get().saturating_sub(1));
    raw::context_exit(Context::HardIrq);
}

/// What follows on this thread runs as a softirq.
pub fn softirq_enter() {
    raw::context_enter(Context::SoftIrq, false);
    IN_INTERRUPT.set(IN_INTERRUPT.get() + 1);
}

/// The end of that.
pub fn softirq_exit() {
    IN_INTERRUPT.set(IN_INTERRUPT.get().saturating_sub(1));
    raw::context_exit(Context::SoftIrq);
}

/// Runs `f` as a softirq on this CPU (a timer, for example).
pub fn softirq<R>(f: impl FnOnce() -> R) -> R {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            softirq_exit();
        }
    }
    softirq_enter();
    let _leave = Leave;
    f()
}

/// Runs `f` as a hard interrupt on this CPU; interrupts stay off meanwhile.
pub fn hardirq<R>(f: impl FnOnce() -> R) -> R {
    interrupt(false, f)
}

/// The same for a handler that a kernel for real-time runs in a thread, so that it may take spinlocks.
pub fn hardirq_threaded<R>(f: impl FnOnce() -> R) -> R {
    interrupt(true, f)
}

fn interrupt<R>(threaded: bool, f: impl FnOnce() -> R) -> R {
    struct Leave(bool);
    impl Drop for Leave {
        fn drop(&mut self) {
            IRQS_OFF.set(self.0);
            irq_exit();
        }
    }
    irq_enter(threaded);
    let _leave = Leave(IRQS_OFF.replace(true));
    f()
}

/// Forgets the state of a CPU whose code panicked.
pub(crate) fn reset() {
    IRQS_OFF.set(false);
    IN_INTERRUPT.set(0);
    BH_OFF.set(0);
}
