// SPDX-License-Identifier: MIT OR Apache-2.0
//! Completions: what they do, and waits that a lock makes endless.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lockdep::sync::{Completion, Mutex};
use lockdep::{LockClass, Validator, thread};

#[test]
fn each_completion_lets_one_waiter_go_on_and_the_last_one_all() {
    let done = Completion::new();
    let passed = AtomicUsize::new(0);
    thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                done.wait();
                passed.fetch_add(1, Ordering::Relaxed);
            });
        }
        done.complete();
        done.complete();
        done.complete();
    });
    assert_eq!(passed.load(Ordering::Relaxed), 3);
    assert!(!done.is_complete());
    assert!(!done.wait_for(Duration::ZERO));
    done.complete_all();
    done.wait();
    assert!(done.wait_for(Duration::MAX));
    assert!(done.is_complete());
    done.restart();
    assert!(!done.is_complete());
}

/// One thread waits under the lock, another one completes under it, one after the other.
fn waits(wait: impl FnOnce(&Completion), complete: impl FnOnce(&Mutex<()>, &Completion)) -> Validator {
    let (m, done) = (Mutex::new(()), Completion::new());
    let v = Validator::new();
    v.scope(|| {
        complete(&m, &done);
        let _m = m.lock();
        wait(&done);
    });
    v
}

#[test]
fn a_wait_under_the_lock_that_is_held_where_it_happens_is_found_though_nobody_hangs() {
    let under_lock = |m: &Mutex<()>, done: &Completion| {
        let _m = m.lock();
        done.complete();
    };
    let v = waits(|done| done.wait(), under_lock);
    let kinds: Vec<_> = v.reports().iter().map(|report| report.kind().name()).collect();
    if !lockdep::ENABLED {
        return assert!(kinds.is_empty());
    }
    assert_eq!(kinds, ["circular"]);
    let report = &v.reports()[0];
    assert!(report.tags().contains(&"event"), "{:?}", report.tags());
    let text = report.to_string();
    for line in
        ["is going to wait for:", "waited for at validator/tests/completion.rs:", "complete(Completion at"]
    {
        assert!(text.contains(line), "{line:?} is not in:\n{text}");
    }
    // Without the lock, or for a while only, no wait lasts for ever.
    assert!(waits(Completion::wait, |_, done| done.complete()).reports().is_empty());
    assert!(waits(|done| assert!(done.wait_for(Duration::MAX)), under_lock).reports().is_empty());
}

#[test]
fn the_side_that_completes_is_told_too() {
    static DONE: LockClass = LockClass::new("done");
    let (m, done) = (Mutex::new(()), Completion::with_class(&DONE));
    let v = Validator::new();
    v.scope(|| {
        done.complete();
        {
            let _m = m.lock();
            done.wait();
        }
        let _m = m.lock();
        done.complete();
    });
    if lockdep::ENABLED {
        assert_eq!(v.reports().len(), 1);
        let text = v.reports()[0].to_string();
        assert!(text.contains("`done` happens while `Mutex at"), "{text}");
        assert!(text.contains("lets happen:"), "{text}");
    }
}
