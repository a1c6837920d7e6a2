// SPDX-License-Identifier: MIT OR Apache-2.0
//! The numbers and the text of what was learned.
#![cfg(feature = "lockdep")]

use std::sync::Arc;

use lockdep::sync::{Mutex, RwLock};
use lockdep::{Context, LockClass, Validator};

static A: LockClass = LockClass::new("a");
static B: LockClass = LockClass::new("b");
static C: LockClass = LockClass::new("c");

fn learned() -> Validator {
    let (a, b, c) = (Mutex::with_class(&A, ()), Mutex::with_class(&B, ()), Mutex::with_class(&C, ()));
    let v = Validator::new();
    v.scope(|| {
        for _ in 0..10 {
            let _a = a.lock();
            let _b = b.lock();
            let _c = c.lock();
        }
    });
    v
}

#[test]
fn numbers_say_what_was_learned_and_a_known_chain_adds_nothing() {
    let stats = learned().stats();
    assert_eq!(stats.classes, 3);
    assert_eq!(stats.dependencies, 2, "a -> b and b -> c; a -> c follows");
    assert_eq!(stats.indirect_dependencies, 3);
    assert_eq!(stats.chains, 3, "a, ab, abc");
    assert_eq!(stats.depth_max, 3);
    assert_eq!(
        (stats.chain_lookups, stats.chain_hits),
        (3, 0),
        "the other 27 acquisitions were known to the thread"
    );
    assert_eq!(stats.engine_events, 3, "one for each chain");
    assert_eq!(
        stats.searches, 0,
        "all in the order of first use; where nothing interrupts, none for interrupts"
    );
    let stacks = if cfg!(miri) { 0 } else { 3 };
    assert_eq!(stats.stacks, stacks, "each first use of a class");
    assert_eq!((stats.findings, stats.duplicates), (0, 0));
    assert_eq!((stats.irq_safe, stats.irq_unsafe), (0, 3));
    assert!(stats.to_string().contains(" classes                            3\n"), "{stats}");
}

/// The second thread goes to the engine, too: it then knows that several take these locks in this order.
#[test]
fn each_thread_looks_a_chain_up_once_and_the_third_one_finds_it() {
    let locks = Arc::new((Mutex::with_class(&A, ()), Mutex::with_class(&B, ())));
    let v = Validator::new();
    let mut numbers = Vec::new();
    v.scope(|| {
        for _ in 0..4 {
            let locks = locks.clone();
            let work = move || {
                for _ in 0..10 {
                    let _a = locks.0.lock();
                    let _b = locks.1.lock();
                }
            };
            lockdep::thread::spawn(work).join().unwrap();
            let stats = v.stats();
            assert_eq!((stats.searches, stats.visited, stats.dependencies), (0, 0, 1));
            numbers.push([stats.chain_lookups, stats.chain_hits]);
        }
    });
    assert_eq!(numbers, [[2, 0], [4, 0], [6, 2], [8, 4]]);
}

/// Another lock of a known class is no news.
#[test]
fn more_locks_of_a_class_reach_the_engine_no_more() {
    let v = Validator::new();
    v.scope(|| {
        let outer = Mutex::with_class(&A, ());
        let inner: Vec<_> = (0..100).map(|_| Mutex::with_class(&B, ())).collect();
        let _outer = outer.lock();
        drop(inner[0].lock());
        drop(inner[1].lock());
        let before = v.stats();
        inner.iter().for_each(|lock| drop(lock.lock()));
        assert_eq!(v.stats(), before);
    });
}

#[test]
fn the_text_lists_each_class_with_what_was_taken_under_it() {
    let text = learned().dump();
    let expected =
        "FD:    2 BD:    0 +.+.: a\n -> b\nFD:    1 BD:    1 +.+.: b\n -> c\nFD:    0 BD:    2 +.+.: c\n";
    assert_eq!(text, expected);
}

#[test]
fn chains_are_listed_with_context_and_modes() {
    let (m, rw) = (Mutex::with_class(&A, ()), RwLock::with_class(&B, ()));
    let handlers = RwLock::with_class(&C, ());
    let v = Validator::new();
    v.scope(|| {
        for _ in 0..2 {
            let _rw = rw.read();
            drop(m.try_lock());
            lockdep::raw::context_enter(Context::HardIrq, false);
            drop(handlers.try_read());
            lockdep::raw::context_exit(Context::HardIrq);
        }
        // Released in the middle: what is above is a chain of its own.
        drop((rw.write(), m.lock()));
    });
    let chains: Vec<String> = v.chains().iter().map(ToString::to_string).collect();
    let expected = [
        "irq_context: 0\n a\n",
        "irq_context: 0\n b\n",
        "irq_context: 0\n b\n a\n",
        "irq_context: 0\n b, read\n",
        "irq_context: 0\n b, read\n a, trylock\n",
        "irq_context: hardirq\n c, read, trylock\n",
    ];
    assert_eq!(chains, expected);
}

#[test]
fn nestings_that_only_the_objects_order_are_listed() {
    let locks: Vec<Mutex<u32>> = (0..3).map(|n| Mutex::with_class(&A, n)).collect();
    let other = Mutex::with_class(&B, 0);
    let v = Validator::new();
    v.scope(|| {
        for _ in 0..2 {
            drop((locks[0].lock(), locks[1].lock(), locks[2].lock()));
            // Somebody says which comes first.
            drop((other.lock(), locks[0].lock(), locks[1].lock_nested(1)));
        }
    });
    assert!(v.reports().is_empty());
    let nestings = v.unordered_nestings();
    assert_eq!(nestings.len(), 1);
    assert_eq!((nestings[0].class.as_str(), nestings[0].pairs), ("a", 3));
    assert!(nestings[0].outer.to_string().contains("stats.rs:") && nestings[0].inner != nestings[0].outer);
    assert_eq!(v.stats().unordered_nestings, 3);
    assert!(v.dump().contains("unordered: a, pairs: 3, the first by "), "{}", v.dump());
}

/// One thread holds the mutex, another one comes to it; whether it has to wait is a matter of luck.
fn contend(m: &Mutex<()>) {
    let guard = m.lock();
    lockdep::thread::scope(|s| {
        let (at_the_lock, is_there) = std::sync::mpsc::channel();
        let waiter = s.spawn(move || {
            at_the_lock.send(()).unwrap();
            drop(m.lock());
        });
        is_there.recv().unwrap();
        (0..10).for_each(|_| std::thread::yield_now());
        drop(guard);
        waiter.join().unwrap();
    });
}

#[test]
fn waits_and_holds_are_measured_if_asked_for() {
    let (m, rw) = (Mutex::with_class(&A, ()), RwLock::with_class(&B, ()));
    let v = Validator::builder().contention(true).build();
    let mut rounds = 0;
    v.scope(|| {
        drop(rw.read());
        while v.contention()[0].wait.count == 0 {
            contend(&m);
            rounds += 1;
        }
        drop(m.try_lock());
    });
    let measured = v.contention();
    assert_eq!(measured.iter().map(|class| class.class.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let (a, b) = (&measured[0], &measured[1]);
    assert_eq!((a.acquisitions, a.hold.count, a.wait.count), (2 * rounds, 2 * rounds, 1));
    assert!(a.hold.total >= a.hold.max && a.wait.total == a.wait.max && !a.wait.max.is_zero());
    assert!(a.places.len() == 1 && a.places[0].0.to_string().contains("stats.rs:"), "{a}");
    assert_eq!((b.acquisitions, b.hold.count, b.wait.count), (1, 1, 0));
    assert!(b.to_string().starts_with("b: contentions 0, wait max 0.00 total 0.00, acquisitions 1,"), "{b}");
}

#[test]
fn nothing_is_measured_otherwise() {
    let m = Mutex::with_class(&A, ());
    let v = Validator::new();
    v.scope(|| contend(&m));
    assert!(v.contention().is_empty());
}
