// SPDX-License-Identifier: MIT OR Apache-2.0
//! Validators, callbacks and threads that come and go while other threads are at work. Who is where is decided by
//! channels, never by time; the only clock is the one that ends a test whose threads wait for each other.
#![cfg(feature = "lockdep")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::spawn;
use std::time::Duration;

use lockdep::sync::Mutex;
use lockdep::{LockClass, Validator, raw};

mod common;

use common::{kinds, lenient, message, severe};

/// Two locks of two classes, the first ones or the second ones.
fn pair(which: usize) -> Arc<(Mutex<()>, Mutex<()>)> {
    static CLASSES: [[LockClass; 2]; 2] =
        [[LockClass::new("a"), LockClass::new("b")], [LockClass::new("c"), LockClass::new("d")]];
    let [first, second] = &CLASSES[which];
    Arc::new((Mutex::with_class(first, ()), Mutex::with_class(second, ())))
}

fn forwards(locks: &(Mutex<()>, Mutex<()>)) {
    drop((locks.0.lock(), locks.1.lock()));
}

fn backwards(locks: &(Mutex<()>, Mutex<()>)) {
    drop((locks.1.lock(), locks.0.lock()));
}

/// After this long they will not come any more. Miri takes its time.
const PATIENCE: Duration = Duration::from_secs(if cfg!(miri) { 3600 } else { 60 });

/// Waits until another thread says so.
fn wait(from: &Receiver<()>) {
    match from.recv_timeout(PATIENCE) {
        Ok(()) => {}
        Err(RecvTimeoutError::Timeout) => panic!("the threads wait for each other"),
        Err(RecvTimeoutError::Disconnected) => panic!("the other thread failed"),
    }
}

/// Something that only what is watched holds on to: when the count is one again, the validator is gone.
fn watched_for_its_end(v: &Validator) -> Arc<()> {
    let token = Arc::new(());
    let held = token.clone();
    v.on_report(move |_| _ = Arc::strong_count(&held));
    token
}

#[test]
fn one_scope_is_entered_by_several_threads_at_once_and_each_is_watched_by_it_alone() {
    let (v, others) = (lenient(), lenient());
    let locks = pair(0);
    let (inside, arrived) = channel();
    let threads: Vec<(Sender<()>, _)> = [forwards, backwards]
        .map(|work| {
            let (go, gone) = channel();
            let (v, others, locks, inside) = (v.clone(), others.clone(), locks.clone(), inside.clone());
            let thread = spawn(move || {
                others.scope(|| {
                    v.scope(|| {
                        inside.send(()).unwrap();
                        wait(&gone);
                        work(&locks);
                    });
                    // Watched by the one before again.
                    drop(locks.0.lock());
                });
            });
            (go, thread)
        })
        .into();
    threads.iter().for_each(|_| wait(&arrived));
    for (go, thread) in threads {
        go.send(()).unwrap();
        thread.join().unwrap();
    }
    assert_eq!(kinds(&v), ["circular"]);
    assert_eq!((v.stats().classes, others.stats().classes), (2, 1));
    assert!(others.reports().is_empty() && others.dependencies().is_empty());
}

#[test]
fn a_validator_that_nobody_holds_any_more_watches_to_the_end_of_its_threads_and_is_then_gone() {
    let (locks, v) = (pair(0), lenient());
    let found = Arc::new(AtomicUsize::new(0));
    let count = found.clone();
    v.on_report(move |_| _ = count.fetch_add(1, Ordering::Relaxed));
    let end = watched_for_its_end(&v);
    let ((go, gone), (inside, arrived)) = (channel(), channel());
    let thread = v.scope(|| {
        forwards(&locks);
        let locks = locks.clone();
        lockdep::thread::spawn(move || {
            let _second = locks.1.lock();
            inside.send(()).unwrap();
            wait(&gone);
            drop(locks.0.lock());
        })
    });
    wait(&arrived);
    drop(v);
    assert_eq!(Arc::strong_count(&end), 2, "the thread is watched by it");
    go.send(()).unwrap();
    thread.join().unwrap();
    assert_eq!(found.load(Ordering::Relaxed), 1, "what was learned before is not forgotten");
    assert_eq!(Arc::strong_count(&end), 1);
}

#[test]
fn a_hold_that_outlives_its_validator_is_released_without_a_word() {
    let locks = pair(0);
    let v = severe();
    let end = watched_for_its_end(&v);
    let first = v.scope(|| locks.0.lock());
    drop(v);
    assert_eq!(Arc::strong_count(&end), 1, "a hold keeps no validator");
    let next = severe();
    next.scope(|| {
        let _second = locks.1.lock();
        assert_eq!(raw::held_locks().len(), 1);
        drop(first);
        assert_eq!(raw::held_locks().len(), 1);
    });
    assert!(next.reports().is_empty() && next.dependencies().is_empty());
}

#[test]
fn what_a_thread_remembers_of_a_validator_that_is_gone_it_takes_for_nothing_under_the_next_one() {
    let locks = pair(0);
    for round in 0..if cfg!(miri) { 3 } else { 100 } {
        let v = lenient();
        let end = watched_for_its_end(&v);
        // The classes get the same numbers each time: the first validator's chains would be true of the next one's.
        v.scope(|| {
            drop(locks.0.lock());
            drop(locks.1.lock());
            if round % 2 == 0 {
                (0..3).for_each(|_| forwards(&locks));
            } else {
                backwards(&locks);
                forwards(&locks);
            }
        });
        let found = if round % 2 == 0 { &[][..] } else { &["circular"] };
        assert_eq!(kinds(&v), found, "round {round}");
        drop(v);
        assert_eq!(Arc::strong_count(&end), 1, "the thread remembers chains, not whose they were");
    }
}

/// While a callback waits, or is about to panic, other threads deliver theirs: no lock of the validator is held.
#[test]
fn callbacks_of_several_threads_may_wait_for_each_other_and_one_that_panics_is_its_own_threads_matter() {
    let v = lenient();
    let ((inside, arrived), (go, gone)) = (channel(), channel());
    let gone = std::sync::Mutex::new(gone);
    let ours = Arc::new(Mutex::new(0));
    let counter = ours.clone();
    v.on_report(move |_| {
        if std::thread::current().name() == Some("first") {
            inside.send(()).unwrap();
            wait(&gone.lock().unwrap());
            // The other thread made its finding under this one.
            *counter.lock() += 1;
            panic!("the first one's");
        }
        *counter.try_lock().expect("the first one has not got there") += 1;
    });
    let first = {
        let (v, locks) = (v.clone(), pair(0));
        let work = move || {
            v.scope(|| {
                forwards(&locks);
                let unwound = catch_unwind(AssertUnwindSafe(|| backwards(&locks)));
                assert!(raw::is_quiet());
                message(&*unwound.unwrap_err())
            })
        };
        std::thread::Builder::new().name("first".into()).spawn(work).unwrap()
    };
    wait(&arrived);
    let (done, finished) = channel();
    let second = {
        let (v, locks) = (v.clone(), pair(1));
        spawn(move || {
            v.scope(|| {
                forwards(&locks);
                backwards(&locks);
                done.send(()).unwrap();
            });
        })
    };
    wait(&finished);
    second.join().unwrap();
    assert_eq!((kinds(&v), *ours.lock()), (vec!["circular"; 2], 1));
    go.send(()).unwrap();
    assert_eq!(first.join().unwrap(), "the first one's");
    assert_eq!(*ours.lock(), 2);
}

/// A callback is called inside the validator: what it starts must not look at what its own thread is in the middle of.
#[test]
fn a_callback_that_starts_a_thread_has_it_watched_by_the_same_validator() {
    let (v, locks, theirs) = (lenient(), pair(0), pair(1));
    v.on_report(move |_| {
        let theirs = theirs.clone();
        lockdep::thread::spawn(move || forwards(&theirs)).join().unwrap();
    });
    v.scope(|| {
        forwards(&locks);
        backwards(&locks);
    });
    assert_eq!(v.dependencies(), [("a", "b"), ("c", "d")].map(|(a, b)| (a.to_owned(), b.to_owned())));
}

#[test]
fn a_thread_that_ends_by_a_finding_leaves_what_it_learned_and_no_unproven_chain() {
    let (v, locks) = (severe(), pair(0));
    let end = |work: fn(&(Mutex<()>, Mutex<()>))| {
        let locks = locks.clone();
        v.scope(|| lockdep::thread::spawn(move || work(&locks))).join()
    };
    end(forwards).unwrap();
    let panic = end(backwards).unwrap_err();
    assert!(message(&*panic).contains("circular"), "{}", message(&*panic));
    let known = v.stats();
    // The next ones take the same orders: the good one is known, the other one is judged again each time.
    for _ in 0..2 {
        end(forwards).unwrap();
        end(backwards).unwrap();
    }
    let now = v.stats();
    assert_eq!((now.dependencies, now.findings), (known.dependencies, known.findings));
    assert_eq!(now.duplicates, known.duplicates + 2);
    assert!(locks.0.try_lock().is_some() && locks.1.try_lock().is_some());
}

/// Threads that each learn something and end at once, while others do the same.
#[test]
fn nothing_that_threads_learn_is_lost_when_they_end() {
    static OUTER: LockClass = LockClass::new("outer");
    static INNER: [LockClass; THREADS * EACH] = [const { LockClass::new("inner") }; THREADS * EACH];
    const THREADS: usize = if cfg!(miri) { 3 } else { 8 };
    const EACH: usize = if cfg!(miri) { 2 } else { 20 };
    let v = severe();
    let outer = Mutex::with_class(&OUTER, ());
    v.scope(|| {
        for classes in INNER.chunks(THREADS) {
            lockdep::thread::scope(|threads| {
                for class in classes {
                    let outer = &outer;
                    threads.spawn(move || {
                        let inner = Mutex::with_class(class, ());
                        drop((outer.lock(), inner.lock()));
                    });
                }
            });
        }
    });
    let stats = v.stats();
    assert_eq!((stats.classes, stats.dependencies), ((THREADS * EACH + 1) as u64, (THREADS * EACH) as u64));
    assert!(v.reports().is_empty());
    v.with_engine(|engine| engine.check_invariants());
}
