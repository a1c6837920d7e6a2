// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads that fork: `runtime/fork/gate.rs`.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::atomic::AtomicU32;
use crate::explore;
use crate::gate::Gate;

/// What a thread has inside the gate. Loom reports it if two look at one at the same time, or if one does not see
/// what the other did.
struct Inside {
    gate: Gate,
    states: [UnsafeCell<u32>; 2],
}

impl Inside {
    fn new() -> Arc<Self> {
        let gate = Gate { word: AtomicU32::new(0) };
        Arc::new(Inside { gate, states: [UnsafeCell::new(0), UnsafeCell::new(0)] })
    }

    /// Works inside: the state is odd meanwhile.
    fn work(&self, mine: usize) {
        self.gate.enter();
        // SAFETY: nobody else writes this state, and the one who reads it has shut the gate.
        self.states[mine].with_mut(|state| unsafe { *state += 1 });
        // SAFETY: as above.
        self.states[mine].with_mut(|state| unsafe { *state += 1 });
        self.gate.leave();
    }

    /// Forks: what the child would get must be whole.
    fn fork(&self) {
        self.gate.shut(false);
        for state in &self.states {
            // SAFETY: whoever writes it is outside while the gate is shut.
            assert_eq!(state.with(|state| unsafe { *state }) % 2, 0, "a thread is inside at the fork");
        }
        self.gate.open();
    }
}

#[test]
fn nobody_is_inside_at_a_fork() {
    explore(3, || {
        let inside = Inside::new();
        let worker = {
            let inside = inside.clone();
            thread::spawn(move || (0..2).for_each(|mine| inside.work(mine)))
        };
        inside.fork();
        worker.join().unwrap();
    });
}

#[test]
fn the_gate_stays_shut_until_the_last_of_two_forks_is_through() {
    explore(2, || {
        let inside = Inside::new();
        let worker = {
            let inside = inside.clone();
            thread::spawn(move || inside.work(0))
        };
        let other = {
            let inside = inside.clone();
            thread::spawn(move || inside.fork())
        };
        inside.fork();
        worker.join().unwrap();
        other.join().unwrap();
        inside.work(1);
    });
}

#[test]
fn a_thread_that_forks_from_inside_does_not_wait_for_itself() {
    explore(3, || {
        let inside = Inside::new();
        let worker = {
            let inside = inside.clone();
            thread::spawn(move || inside.work(0))
        };
        inside.gate.enter();
        inside.gate.shut(true);
        // SAFETY: the one who writes it is outside while the gate is shut.
        assert_eq!(inside.states[0].with(|state| unsafe { *state }) % 2, 0);
        inside.gate.open();
        inside.gate.leave();
        worker.join().unwrap();
    });
}

#[test]
fn the_gate_is_open_in_the_child() {
    explore(3, || {
        let inside = Inside::new();
        // One thread stands at the gate, another one forks: neither exists in the child.
        inside.gate.enter();
        inside.gate.shut(true);
        inside.gate.shut(true);
        inside.gate.open_in_child(true);
        inside.gate.leave();
        inside.work(0);
        inside.fork();
    });
}
