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

#[test]
fn without_stacks_there_are_places_only() {
    let report = finding(Stacks::Off);
    assert!(report.usages.iter().all(|used| used.stack.is_none()));
    assert!(report.to_string().contains("validator/tests/contexts.rs:"));
}
