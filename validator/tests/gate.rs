// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lock-free parts of the runtime in all interleavings that the memory model allows, with loom.
#![cfg(feature = "lockdep")]

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU64;
use loom::sync::{Arc, Mutex};
use loom::thread;

mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU32, Ordering};
    pub(crate) use loom::thread::yield_now;
}

#[path = "../src/runtime/fork/gate.rs"]
mod gate;

use atomic::{AtomicU32, Ordering};
use gate::Gate;

/// All interleavings with so many switches that no thread asked for. (Loops that wait have many branches.)
fn explore(switches: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(switches);
    builder.max_branches = 10_000;
    builder.check(model);
}

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

/// A model of `LockMap`'s word and the engine's classes: the word is stored and read relaxed, without the engine's
/// lock, and still whoever reads a class in it and then takes the lock finds that class.
#[test]
fn a_class_in_a_locks_word_is_known_to_the_engine() {
    explore(3, || {
        let shared = Arc::new((AtomicU64::new(0), Mutex::new(Vec::new())));
        let resolve = |(word, classes): &(AtomicU64, Mutex<Vec<u64>>)| {
            let known = word.load(Ordering::Relaxed);
            if known == 0 {
                let mut classes = classes.lock().unwrap();
                let class = classes.len() as u64 + 1;
                classes.push(class);
                drop(classes);
                word.store(class, Ordering::Relaxed);
            } else {
                assert!(classes.lock().unwrap().contains(&known), "a class that nobody registered");
            }
        };
        let other = {
            let shared = shared.clone();
            thread::spawn(move || resolve(&shared))
        };
        resolve(&shared);
        resolve(&shared);
        other.join().unwrap();
    });
}
