// SPDX-License-Identifier: MIT OR Apache-2.0
//! The numbers and the text of what was learned.
#![cfg(feature = "lockdep")]

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
    assert_eq!(stats.engine_events, 3, "one for each chain: the other 27 acquisitions were known");
    assert_eq!(
        stats.searches, 0,
        "all in the order of first use; where nothing interrupts, none for interrupts"
    );
    assert_eq!(stats.stacks, 3, "each first use of a class");
    assert_eq!((stats.findings, stats.duplicates), (0, 0));
    assert_eq!((stats.irq_safe, stats.irq_unsafe), (0, 3));
    assert!(stats.to_string().contains(" classes                            3\n"), "{stats}");
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
