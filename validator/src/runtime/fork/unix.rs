// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where processes fork: handlers that shut the gate and open it again.

use std::cell::Cell;
use std::sync::Once;
use std::sync::atomic::AtomicU32;

use super::gate::Gate;

static GATE: Gate = Gate { word: AtomicU32::new(0) };

thread_local! {
    /// This thread is inside.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// A pass through the gate, until it is dropped. Inside another one it is nothing.
#[must_use]
pub(in crate::runtime) struct Pass {
    outermost: bool,
}

impl Pass {
    pub(in crate::runtime) fn new() -> Self {
        let outermost = !INSIDE.get();
        if outermost {
            GATE.enter();
            INSIDE.set(true);
        }
        Pass { outermost }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.outermost {
            INSIDE.set(false);
            GATE.leave();
        }
    }
}

extern "C" fn before() {
    GATE.shut(INSIDE.get());
}

extern "C" fn after() {
    GATE.open();
}

extern "C" fn after_in_child() {
    GATE.open_in_child(INSIDE.get());
}

/// Registers the handlers, once for the process.
pub(in crate::runtime) fn prepare_once() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handlers are functions of this program that live for ever and do not unwind.
        unsafe { libc::pthread_atfork(Some(before), Some(after), Some(after_in_child)) };
    });
}
