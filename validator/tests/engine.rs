// SPDX-License-Identifier: MIT OR Apache-2.0
//! The thinnest true path: lock → event → engine → report.
#![cfg(feature = "lockdep")]

use lockdep::engine::{ClassDef, Engine, Task};
use lockdep::event::{Acquisition, Context, Event, Place};
use lockdep::ids::{Instance, TaskId};
use lockdep::sync::Mutex;
use lockdep::{ReportKind, Validator};

/// An exclusive acquisition of the only lock of a class.
fn taking(engine: &mut Engine, name: &str) -> Acquisition {
    let class = engine.register(ClassDef::named(name));
    Acquisition::exclusive(class, Instance(class.index() as u64 + 1), Place::Unknown)
}

#[test]
fn an_unchecked_lock_in_between_hides_no_dependency() {
    let mut engine = Engine::new();
    let (a, b) = (taking(&mut engine, "a"), taking(&mut engine, "b"));
    let between = Acquisition { check: false, ..taking(&mut engine, "between") };
    let mut task = Task::new(TaskId(0), "task".into(), 7);
    for acquisition in [a, between, b] {
        engine.step(&mut task, Event::Acquire(acquisition));
    }
    let edge = engine.graph().edges().next().expect("it was learned");
    assert_eq!((edge.from, edge.to), (a.class, b.class));
}

#[test]
fn a_chain_of_100_000_locks_taken_back_to_front_is_learned_and_closed() {
    const LOCKS: usize = 100_000;
    let mut engine = Engine::new();
    let locks: Vec<_> = (0..LOCKS).map(|i| taking(&mut engine, &format!("l{i}"))).collect();
    let mut task = Task::new(TaskId(0), "task".into(), 7);
    let mut both = |engine: &mut Engine, first: Acquisition, second: Acquisition| {
        let mut findings = engine.step(&mut task, Event::Acquire(first)).findings;
        findings.extend(engine.step(&mut task, Event::Acquire(second)).findings);
        for taken in [second, first] {
            engine.step(&mut task, Event::Release { instance: taken.instance, place: Place::Unknown });
        }
        findings
    };
    for pair in locks.windows(2).rev() {
        assert!(both(&mut engine, pair[0], pair[1]).is_empty());
    }
    assert!(engine.graph().counters().visited < 10, "{:?}", engine.graph().counters());
    let findings = both(&mut engine, locks[LOCKS - 1], locks[0]);
    assert_eq!(findings[0].report.edges.len(), LOCKS);
    assert!(findings[0].report.to_string().contains("l99999"));
    engine.check_invariants();
}

/// The graph on which an order that is kept by searching all between two places breaks down (`benches/learning.rs`,
/// "local any": there 136 classes were looked at for each dependency, and 82 more in searches for cycles).
#[test]
fn a_deep_order_that_is_learned_against_the_numbers_costs_few_steps_for_each_dependency() {
    const CLASSES: u32 = 10_000;
    const DEPENDENCIES: u64 = 50_000;
    let mut engine = Engine::new();
    let mut locks: Vec<_> = (0..CLASSES).map(|i| taking(&mut engine, &format!("l{i}"))).collect();
    let mut state = 1u64;
    let mut below = |limit: u32| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((state >> 33) % u64::from(limit)).unwrap() as usize
    };
    for i in (1..CLASSES).rev() {
        locks.swap(i as usize, below(i + 1));
    }
    let mut task = Task::new(TaskId(0), "task".into(), 7);
    let mut most = 0;
    while (engine.graph().len() as u64) < DEPENDENCIES {
        let first = below(CLASSES - 101);
        let second = first + 1 + below(100);
        let before = engine.graph().counters().moved;
        for lock in [locks[first], locks[second]] {
            assert!(engine.step(&mut task, Event::Acquire(lock)).findings.is_empty());
        }
        for lock in [locks[second], locks[first]] {
            engine.step(&mut task, Event::Release { instance: lock.instance, place: Place::Unknown });
        }
        most = most.max(engine.graph().counters().moved - before);
    }
    let counters = engine.graph().counters();
    assert_eq!((counters.searches, counters.visited), (0, 0), "the order knows that there is no cycle");
    assert!(counters.moved <= 8 * DEPENDENCIES, "{counters:?}");
    assert!(most <= 2 * u64::from(CLASSES), "{most} steps for one");
    engine.check_invariants();
}

#[test]
fn what_is_only_waited_for_is_not_held_when_an_interrupt_comes() {
    let mut engine = Engine::new();
    let a = taking(&mut engine, "a");
    let mut task = Task::new(TaskId(0), "task".into(), 7);
    let context = Context::HardIrq;
    for event in [
        Event::Acquire(Acquisition { sync: true, ..a }),
        Event::Context { context, enter: true, threaded: false },
        Event::Acquire(a),
        Event::Release { instance: a.instance, place: Place::Unknown },
        Event::Context { context, enter: false, threaded: false },
    ] {
        assert!(engine.step(&mut task, event).findings.is_empty(), "{event:?}");
    }
}

#[test]
fn abba_on_one_thread_is_circular() {
    let a = Mutex::new(());
    let b = Mutex::new(());
    let v = Validator::new();
    v.scope(|| {
        drop((a.lock(), b.lock()));
        drop((b.lock(), a.lock()));
        drop((b.lock(), a.lock()));
    });
    let reports = v.reports();
    assert_eq!(reports.len(), 1, "{reports:#?}");
    assert_eq!(reports[0].kind(), ReportKind::Circular);
    assert_eq!((v.stats().findings, v.stats().duplicates), (1, 1));
}

#[test]
fn the_same_lock_twice_panics_instead_of_hanging() {
    let a = Mutex::new(());
    let v = Validator::new();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        v.scope(|| {
            let _first = a.lock();
            let _second = a.lock();
        });
    }));
    assert!(outcome.is_err());
    assert_eq!(v.reports()[0].kind(), ReportKind::Recursive);
    assert!(v.reports()[0].is_certain());
}

#[test]
fn the_held_locks_of_a_thread_can_be_listed() {
    let a = Mutex::new(());
    let v = Validator::new();
    v.scope(|| {
        assert_eq!(lockdep::raw::held_locks().len(), 0);
        let line = line!() + 1;
        let _guard = a.lock();
        let held = lockdep::raw::held_locks();
        assert_eq!(held.len(), 1);
        assert!(held[0].site.place.to_string().contains(&format!("engine.rs:{line}:")), "{held:?}");
    });
}
