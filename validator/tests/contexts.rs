// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interrupting contexts through the hooks.
#![cfg(feature = "lockdep")]

use lockdep::raw::{self, Acquire, LockMap};
use lockdep::report::model::Stack;
use lockdep::{Context, LockClass, PanicOn, Report, Stacks, Validator};

static QUEUE: LockClass = LockClass::new("queue");

#[inline(never)]
fn in_the_handler(map: &LockMap) {
    raw::context_enter(Context::HardIrq, false);
    raw::acquire(map, Acquire::WRITE);
    raw::release(map);
    raw::context_exit(Context::HardIrq);
}

#[inline(never)]
fn in_the_program(map: &LockMap) {
    raw::acquire(map, Acquire::WRITE);
    raw::release(map);
}

fn finding(stacks: Stacks) -> Report {
    let map = LockMap::new(&QUEUE);
    let v = Validator::builder().panic_on(PanicOn::Never).stacks(stacks).build();
    v.scope(|| {
        in_the_handler(&map);
        in_the_program(&map);
    });
    let [report] = &v.reports()[..] else { panic!("{:?}", v.reports()) };
    report.clone()
}

#[test]
fn both_states_that_are_at_odds_have_the_stack_where_they_came_about() {
    let report = finding(Stacks::NewEdges);
    assert_eq!(report.kind().name(), "irq-state");
    let has =
        |stack: &Stack, function: &str| stack.frames.iter().any(|frame| frame.function.contains(function));
    let stack = |at: usize| report.usages[at].stack.clone().expect("a stack");
    assert!(has(&stack(0), "in_the_handler") && !has(&stack(0), "in_the_program"), "{report}");
    assert!(has(&stack(1), "in_the_program") && !has(&stack(1), "in_the_handler"), "{report}");
    assert_eq!(report.to_string().matches("in_the_handler").count(), 1, "{report}");
    assert!(report.to_json()["usages"][0]["stack"].is_array());
}

static OUTER: LockClass = LockClass::new("outer");
static INNER: LockClass = LockClass::new("inner");

#[inline(never)]
fn take_first(map: &LockMap) {
    raw::acquire(map, Acquire::WRITE);
}

#[inline(never)]
fn take_second(map: &LockMap) {
    raw::acquire(map, Acquire::WRITE);
}

/// Two locks in both orders, the first one twice: the hold that counts is the second.
fn inversion(stacks: Stacks) -> Report {
    let (outer, inner) = (LockMap::new(&OUTER), LockMap::new(&INNER));
    let v = Validator::builder().panic_on(PanicOn::Never).stacks(stacks).build();
    v.scope(|| {
        for (first, second) in [(&outer, &inner), (&inner, &outer)] {
            take_second(first);
            raw::release(first);
            take_first(first);
            take_second(second);
            raw::release(second);
            raw::release(first);
        }
    });
    let [report] = &v.reports()[..] else { panic!("{:?}", v.reports()) };
    report.clone()
}

#[test]
fn with_all_stacks_each_held_lock_and_the_earlier_lock_of_each_dependency_has_its_own() {
    let report = inversion(Stacks::Full);
    assert_eq!(report.kind().name(), "circular");
    let taken_in = |stack: &Option<std::sync::Arc<Stack>>, function: &str| {
        let has =
            |name| stack.iter().flat_map(|stack| &stack.frames).any(|frame| frame.function.contains(name));
        ["take_first", "take_second"].map(has) == ["take_first", "take_second"].map(|name| name == function)
    };
    assert_eq!((report.edges.len(), report.held.len()), (2, 1));
    for edge in &report.edges {
        assert!(taken_in(&edge.from.stack, "take_first") && taken_in(&edge.stack, "take_second"), "{edge:?}");
    }
    assert!(taken_in(&report.held[0].stack, "take_first"), "{report}");
    // Two dependencies and a held lock.
    assert_eq!(report.to_string().matches("take_first").count(), 3, "{report}");
    assert!(report.to_json()["held"][0]["stack"].is_array());

    let report = inversion(Stacks::NewEdges);
    assert!(report.held[0].stack.is_none() && report.edges.iter().all(|edge| edge.from.stack.is_none()));
    assert!(!report.to_string().contains("take_first"), "{report}");
    assert!(report.to_json()["held"][0].get("stack").is_none());
}

#[test]
fn without_stacks_there_are_places_only() {
    let report = finding(Stacks::Off);
    assert!(report.usages.iter().all(|used| used.stack.is_none()));
    assert!(report.to_string().contains("validator/tests/contexts.rs:"));
}
