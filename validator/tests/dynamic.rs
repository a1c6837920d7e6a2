// SPDX-License-Identifier: MIT OR Apache-2.0
//! Classes that go away, and what is left of them: nothing but the reports.
#![cfg(feature = "lockdep")]

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use lockdep::raw;
use lockdep::sync::{Mutex, RwLock};
use lockdep::{DynamicClass, LockClass, PanicOn, ReportKind, Validator, thread};

static LIKE: LockClass = LockClass::new("like").strict();

fn lenient() -> Validator {
    Validator::builder().panic_on(PanicOn::Never).build()
}

fn kinds(v: &Validator) -> Vec<ReportKind> {
    v.reports().iter().map(lockdep::Report::kind).collect()
}

#[test]
fn each_class_on_the_heap_obeys_an_order_of_its_own() {
    let classes = ["one", "two"].map(|name| DynamicClass::new(name, &LIKE));
    let [one, two] = classes.each_ref().map(|class| Mutex::with_dynamic_class(class, ()));
    let (plain, again) = (Mutex::new(()), RwLock::with_dynamic_class(&classes[0], ()));
    let v = lenient();
    v.scope(|| {
        drop((one.lock(), plain.lock()));
        drop((plain.lock(), two.lock()));
        assert!(v.reports().is_empty());
        drop((plain.lock(), again.write()));
        drop((one.lock(), again.read()));
    });
    assert_eq!(kinds(&v), [ReportKind::Circular, ReportKind::Recursive]);
    assert_eq!(
        v.reports()[1].signature(),
        "recursive:one:W>r",
        "the name, and the kernel's rule of the template"
    );
}

#[test]
fn what_was_learned_of_a_class_goes_with_it() {
    let (before, after) = (Mutex::new(()), Mutex::new(()));
    let v = lenient();
    v.scope(|| {
        for round in 0..3 {
            let class = DynamicClass::new("passing", &LIKE);
            let lock = Mutex::with_dynamic_class(&class, ());
            // The other way round each time: a contradiction, if anything were left of the time before.
            if round % 2 == 0 {
                drop((before.lock(), lock.lock()));
                drop((lock.lock(), after.lock()));
            } else {
                drop((lock.lock(), before.lock()));
                drop((after.lock(), lock.lock()));
            }
            assert_eq!(v.dependencies().len(), 2);
            assert!(v.stats().chains > 0);
            drop(class);
            assert!(v.dependencies().is_empty());
            assert_eq!(v.stats().chains, 0);
            assert!(!v.dump().contains("passing"));
            v.with_engine(|engine| engine.check_invariants());
        }
    });
    assert!(v.reports().is_empty(), "{:?}", v.reports());
    assert_eq!((v.stats().classes, v.stats().removed_classes), (2, 3));
}

#[test]
fn other_orders_stay_when_a_class_goes() {
    let (a, b) = (Mutex::new(()), Mutex::new(()));
    let v = lenient();
    v.scope(|| {
        let class = DynamicClass::new("passing", &LIKE);
        let lock = Mutex::with_dynamic_class(&class, ());
        drop((lock.lock(), a.lock()));
        drop((a.lock(), b.lock()));
        drop((lock.lock(), b.lock()));
        drop((lock, class));
        assert_eq!(v.dependencies().len(), 1);
        drop((b.lock(), a.lock()));
    });
    assert_eq!(kinds(&v), [ReportKind::Circular]);
    let edges = &v.reports()[0].edges;
    let stack = edges[1].stack.is_some() || cfg!(miri);
    assert!(edges.len() == 2 && stack, "the stack is still the right edge's");
}

#[test]
fn a_class_that_goes_while_a_lock_of_it_is_held_is_a_finding_whoever_holds_it() {
    let v = lenient();
    v.scope(|| {
        let class = DynamicClass::new("held here", &LIKE);
        let lock = Mutex::with_dynamic_class(&class, ());
        let plain = Mutex::new(());
        for _ in 0..3 {
            // On top, and below another one; each release is seen.
            drop(lock.lock());
            let (guard, other) = (lock.lock(), plain.lock());
            drop(guard);
            drop(other);
        }
        let guard = lock.lock();
        class.unregister();
        assert_eq!(kinds(&v), [ReportKind::Key]);
        assert!(v.reports()[0].summary().contains("`held here` goes away while a lock of it is held"));
        drop((plain.lock(), guard));
        assert!(raw::is_quiet());

        let class = DynamicClass::new("held there", &LIKE);
        let lock = Mutex::with_dynamic_class(&class, ());
        let (taken, gone) = (Barrier::new(2), Barrier::new(2));
        thread::scope(|s| {
            s.spawn(|| {
                let _guard = lock.lock();
                taken.wait();
                gone.wait();
            });
            taken.wait();
            drop(class);
            gone.wait();
        });
        assert_eq!(kinds(&v), [ReportKind::Key; 2]);
        assert!(v.reports()[1].summary().contains("held there"));
        drop(lock.lock());
        assert!(raw::is_quiet(), "a lock without a class is not tracked");
        drop(lock.try_lock());
    });
    let summaries: Vec<_> = v.reports()[2..].iter().map(|report| report.summary().to_owned()).collect();
    assert_eq!(summaries, ["`held there` is taken, and its class has gone away"; 2]);
}

#[test]
fn a_thread_that_ends_with_the_lock_holds_the_class_no_more() {
    let v = lenient();
    v.scope(|| {
        let class = DynamicClass::new("leaked", &LIKE);
        let lock = Mutex::with_dynamic_class(&class, ());
        thread::scope(|s| {
            s.spawn(|| std::mem::forget(lock.lock()));
        });
        drop(class);
    });
    assert_eq!(kinds(&v), [ReportKind::Exit]);
}

#[test]
fn a_class_is_forgotten_by_every_validator_that_knew_it() {
    let (one, other) = (lenient(), lenient());
    let class = DynamicClass::new("shared", &LIKE);
    let (lock, plain) = (Mutex::with_dynamic_class(&class, ()), Mutex::new(()));
    for v in [&one, &other] {
        v.scope(|| drop((lock.lock(), plain.lock())));
    }
    one.scope(|| drop(class));
    for v in [&one, &other] {
        assert!(v.dependencies().is_empty());
        assert!(v.reports().is_empty());
    }
}

/// So often a class comes and goes in each of two threads.
const TURNS: u32 = if cfg!(miri) { 2 } else { 200 };

/// Makes and drops classes whose locks are nested with `first`, each time the other way round.
fn churn(first: &Mutex<u32>) {
    for turn in 0..TURNS {
        let class = DynamicClass::new("churn", &LIKE);
        let lock = Mutex::with_dynamic_class(&class, 0);
        if turn % 2 == 0 {
            drop((first.lock(), lock.lock()));
        } else {
            drop((lock.lock(), first.lock()));
        }
    }
}

#[test]
fn classes_come_and_go_while_other_threads_lock() {
    let v = Validator::builder().panic_on(PanicOn::Finding).build();
    let (a, b) = (Mutex::new(0), Mutex::new(0));
    let done = AtomicBool::new(false);
    v.scope(|| {
        thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        let (mut a, mut b) = (a.lock(), b.lock());
                        *a += 1;
                        *b += 1;
                    }
                });
            }
            let churns = [s.spawn(|| churn(&a)), s.spawn(|| churn(&b))];
            churns.into_iter().for_each(|churn| churn.join().unwrap());
            done.store(true, Ordering::Relaxed);
        });
    });
    assert!(v.reports().is_empty(), "{:?}", v.reports());
    v.with_engine(|engine| engine.check_invariants());
    assert_eq!(v.dependencies().len(), 1, "{:?}", v.dependencies());
    assert_eq!(v.stats().removed_classes, u64::from(2 * TURNS));
}
