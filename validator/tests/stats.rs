// SPDX-License-Identifier: MIT OR Apache-2.0
//! The numbers and the text of what was learned.
#![cfg(feature = "lockdep")]

use lockdep::sync::Mutex;
use lockdep::{LockClass, Validator};

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
