// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where processes fork: handlers that shut the gate and open it again.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

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
            prepare();
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

/// Registers the handlers, before anybody goes in. Without a lock, which a fork could leave taken: so two threads that are
/// the first may both do it. Then a fork shuts the gate twice and opens it twice.
fn prepare() {
    static PREPARED: AtomicBool = AtomicBool::new(false);
    if !PREPARED.load(Ordering::Relaxed) {
        // SAFETY: the handlers are functions of this program that live for ever and do not unwind.
        unsafe { libc::pthread_atfork(Some(before), Some(after), Some(after_in_child)) };
        PREPARED.store(true, Ordering::Relaxed);
    }
}
