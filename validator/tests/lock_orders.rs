// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the lock types tell the validator: modes, classes, places, and what is a finding.
#![cfg(feature = "lockdep")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockdep::sync::{
    ArcMutexGuard, Condvar, Mutex, MutexGuard, ReentrantMutex, ReentrantMutexGuard, RwLock,
    RwLockUpgradableReadGuard, RwLockWriteGuard,
};
use lockdep::{Context, LockClass, PanicOn, Place, RecordedOp, Report, Validator, WaitType, raw};

/// The findings of a program, in a validator of its own that never panics.
fn reports(program: impl FnOnce()) -> Vec<Report> {
    let v = Validator::builder().panic_on(PanicOn::Never).build();
    v.scope(program);
    v.reports()
}

fn kinds(program: impl FnOnce()) -> Vec<&'static str> {
    reports(program).iter().map(|report| report.kind().name()).collect()
}

/// The words of each acquisition in a program, and how many lines after `start` it was made.
fn acquisitions(start: u32, program: impl FnOnce()) -> Vec<(String, u32)> {
    let v = Validator::builder().record(true).build();
    v.scope(program);
    v.take_recorded()
        .into_iter()
        .filter_map(|event| {
            let RecordedOp::Acquire { how } = event.op else { return None };
            let Place::Code(at) = event.site.place else { panic!("no place") };
            assert_eq!(at.file(), file!(), "the place is the caller's");
            let mut words = how.mode.to_string();
            if how.trylock {
                words.push_str(" try");
            }
            if how.subclass > 0 {
                words.push_str(&format!(" /{}", how.subclass));
            }
            Some((words, at.line() - start))
        })
        .collect()
}

fn expect(seen: &[(String, u32)], expected: &[(&str, u32)]) {
    let seen: Vec<_> = seen.iter().map(|(words, line)| (words.as_str(), *line)).collect();
    assert_eq!(seen, expected);
}

#[test]
fn each_way_to_lock_a_mutex_has_its_mode_and_its_place() {
    let m = Arc::new(Mutex::new(()));
    let start = line!();
    let seen = acquisitions(start, || {
        drop(m.lock());
        drop(m.lock_nested(1));
        drop(m.try_lock());
        drop(m.try_lock_for(Duration::ZERO));
        drop(m.try_lock_until(Instant::now()));
        drop(m.lock_arc());
        drop(m.try_lock_arc());
        drop(m.try_lock_arc_for(Duration::ZERO));
        drop(m.try_lock_arc_until(Instant::now()));
    });
    let tried = "write try";
    expect(
        &seen,
        &[
            ("write", 2),
            ("write /1", 3),
            (tried, 4),
            (tried, 5),
            (tried, 6),
            ("write", 7),
            (tried, 8),
            (tried, 9),
            (tried, 10),
        ],
    );
}

#[test]
fn each_way_to_lock_a_rwlock_has_its_mode_and_its_place() {
    let rw = Arc::new(RwLock::new(()));
    let start = line!();
    let seen = acquisitions(start, || {
        drop((rw.read(), rw.read_nested(2)));
        drop((rw.read_recursive(), rw.upgradable_read()));
        drop(rw.write());
        drop(rw.write_nested(1));
        drop((rw.try_read(), rw.try_read_recursive(), rw.try_upgradable_read()));
        drop(rw.try_write());
        drop((rw.try_read_for(Duration::ZERO), rw.try_read_recursive_until(Instant::now())));
        drop(rw.try_upgradable_read_for(Duration::ZERO));
        drop((rw.read_arc(), rw.read_arc_recursive(), rw.upgradable_read_arc()));
        drop(rw.write_arc());
        drop((rw.try_read_arc(), rw.try_read_recursive_arc(), rw.try_upgradable_read_arc()));
        drop(rw.try_write_arc_until(Instant::now()));
    });
    let upgradable = "upgradable read";
    expect(
        &seen,
        &[
            ("read", 2),
            ("read /2", 2),
            ("recursive read", 3),
            (upgradable, 3),
            ("write", 4),
            ("write /1", 5),
            ("read try", 6),
            ("recursive read try", 6),
            ("upgradable read try", 6),
            ("write try", 7),
            ("read try", 8),
            ("recursive read try", 8),
            ("upgradable read try", 9),
            ("read", 10),
            ("recursive read", 10),
            (upgradable, 10),
            ("write", 11),
            ("read try", 12),
            ("recursive read try", 12),
            ("upgradable read try", 12),
            ("write try", 13),
        ],
    );
}

#[test]
fn each_way_to_lock_a_reentrant_mutex_has_its_mode_and_its_place() {
    let re = Arc::new(ReentrantMutex::new(()));
    let start = line!();
    let seen = acquisitions(start, || {
        drop((re.lock(), re.lock(), re.try_lock(), re.lock_arc()));
        drop(re.lock_nested(3));
        drop((re.try_lock(), re.lock()));
        drop(re.try_lock_for(Duration::ZERO));
        drop(re.try_lock_until(Instant::now()));
        drop(re.lock_arc());
        drop(re.try_lock_arc());
        drop(re.try_lock_arc_for(Duration::ZERO));
        drop(re.try_lock_arc_until(Instant::now()));
    });
    let tried = "write try";
    expect(
        &seen,
        &[
            ("write", 2),
            ("write /3", 3),
            (tried, 4),
            (tried, 5),
            (tried, 6),
            ("write", 7),
            (tried, 8),
            (tried, 9),
            (tried, 10),
        ],
    );
}

#[test]
fn the_class_is_the_place_of_construction_unless_one_is_given() {
    static NAMED: LockClass = LockClass::new("named");
    let line = line!();
    let pair = [1, 2].map(|_| Mutex::new(()));
    let other = Mutex::new(());
    let [third, fourth] = [3, 4].map(|i| Mutex::with_class(&NAMED, i));
    let from: [RwLock<u8>; 1] = [5.into()];
    let v = Validator::new();
    v.scope(|| {
        let _guards = (pair[0].lock(), other.lock(), third.lock(), from[0].read());
        let _pair = (pair[1].lock(), fourth.lock());
    });
    let names: Vec<String> =
        v.with_engine(|engine| engine.classes().iter().map(|(_, class)| class.display_name()).collect());
    let file = file!();
    assert_eq!(
        names,
        [
            format!("Mutex at {file}:{}:31", line + 1),
            format!("Mutex at {file}:{}:17", line + 2),
            "named".to_owned(),
            format!("RwLock at {file}:{}:36", line + 4),
        ]
    );
}

#[test]
fn a_lock_without_a_place_is_held_but_has_no_order() {
    let [a, b] = [(), ()].map(lock_api::Mutex::<lockdep::sync::RawMutex, ()>::new);
    let rw = lock_api::RwLock::<lockdep::sync::RawRwLock, ()>::new(());
    let v = Validator::new();
    v.scope(|| {
        drop((a.lock(), rw.read()));
        drop((rw.write(), b.lock()));
        let _guard = a.lock();
        assert!(!raw::is_quiet());
    });
    assert!(v.reports().is_empty(), "{:?}", v.reports());
}

#[test]
fn read_recursion_is_a_finding_unless_the_inner_one_overtakes_writers() {
    let rw = RwLock::new(());
    let twice = reports(|| drop((rw.read(), rw.read())));
    assert_eq!(twice[0].kind().name(), "recursive");
    assert!(!twice[0].is_certain(), "it hangs only if a writer comes in between");
    assert!(reports(|| drop((rw.read(), rw.read_recursive()))).is_empty());
    assert!(reports(|| drop((rw.read_recursive(), rw.read_recursive()))).is_empty());
    assert!(reports(|| drop((rw.upgradable_read(), rw.read_recursive()))).is_empty());
    assert_eq!(kinds(|| drop((rw.read_recursive(), rw.read()))), ["recursive"]);
    assert_eq!(kinds(|| drop((rw.upgradable_read(), rw.read()))), ["recursive"]);
    assert_eq!(kinds(|| drop((rw.read(), rw.upgradable_read()))), ["recursive"]);
}

/// Runs a program that would hang; the validator panics instead, with one report.
fn hangs(program: impl FnOnce()) -> Report {
    let v = Validator::new();
    v.scope(|| {
        let outcome = catch_unwind(AssertUnwindSafe(program));
        assert!(outcome.is_err(), "it did not panic");
    });
    let [report] = &v.reports()[..] else { panic!("{:?}", v.reports()) };
    assert!(report.is_certain());
    report.clone()
}

#[test]
fn what_would_hang_for_certain_panics_before_it_does() {
    let m = Arc::new(Mutex::new(()));
    hangs(|| drop((m.lock(), m.lock())));
    hangs(|| drop((m.lock(), m.lock_nested(1))));
    hangs(|| drop((m.lock_arc(), m.lock_arc())));
    hangs(|| drop((m.try_lock(), m.lock())));
    let rw = RwLock::new(());
    hangs(|| drop((rw.read(), rw.write())));
    hangs(|| drop((rw.read_recursive(), rw.write())));
    hangs(|| drop((rw.write(), rw.read())));
    hangs(|| drop((rw.write(), rw.read_recursive())));
    hangs(|| drop((rw.write(), rw.upgradable_read())));
    hangs(|| drop((rw.upgradable_read(), rw.upgradable_read())));
    hangs(|| drop((rw.upgradable_read(), rw.write())));
    let report = hangs(|| {
        let reader = rw.read_recursive();
        let upgradable = rw.try_upgradable_read().unwrap();
        drop((RwLockUpgradableReadGuard::upgrade(upgradable), reader));
    });
    assert_eq!(report.conflict.unwrap().mode, lockdep::Mode::RecursiveRead);
    assert!(!m.is_locked() && !rw.is_locked(), "unwinding has released everything");
}

#[test]
fn an_upgrade_is_contradicted_by_readers_only() {
    let rw = RwLock::new(());
    let m = Mutex::new(());
    let upgrade_under_m = || {
        let upgradable = rw.upgradable_read();
        let _m = m.lock();
        drop(RwLockUpgradableReadGuard::upgrade(upgradable));
    };
    // Two of these cannot overlap: the upgradable read excludes.
    assert!(reports(upgrade_under_m).is_empty());
    // A reader that takes `m` can: it has what the upgrade waits for.
    assert_eq!(
        kinds(|| {
            upgrade_under_m();
            drop((rw.read(), m.lock()));
        }),
        ["circular"]
    );
    assert_eq!(
        kinds(|| {
            drop((rw.read_recursive(), m.lock()));
            upgrade_under_m();
        }),
        ["circular"]
    );
    // A writer that takes `m` is excluded, too.
    assert!(
        reports(|| {
            upgrade_under_m();
            drop((rw.write(), m.lock()));
        })
        .is_empty()
    );
    // A recursive read passes an upgradable one.
    assert!(
        reports(|| {
            drop((rw.upgradable_read(), m.lock()));
            drop((m.lock(), rw.read_recursive()));
        })
        .is_empty()
    );
    assert_eq!(
        kinds(|| {
            drop((rw.upgradable_read(), m.lock()));
            drop((m.lock(), rw.read()));
        }),
        ["circular"]
    );
}

#[test]
fn a_hold_has_the_mode_it_was_converted_to() {
    use lockdep::HeldAs::{Read, Write};
    let rw = RwLock::new(());
    let v = Validator::builder().panic_on(PanicOn::Finding).build();
    v.scope(|| {
        let upgradable = rw.upgradable_read();
        lockdep::assert_held!(rw, Read);
        let writer = RwLockUpgradableReadGuard::upgrade(upgradable);
        lockdep::assert_held!(rw, Write);
        let mut upgradable = RwLockWriteGuard::downgrade_to_upgradable(writer);
        lockdep::assert_held!(rw, Read);
        upgradable.with_upgraded(|()| lockdep::assert_held!(rw, Write));
        lockdep::assert_held!(rw, Read);
        let Ok(writer) = RwLockUpgradableReadGuard::try_upgrade(upgradable) else { panic!("nobody reads") };
        lockdep::assert_held!(rw, Write);
        let reader = RwLockWriteGuard::downgrade(writer);
        lockdep::assert_held!(rw, Read);
        drop(reader);
        lockdep::assert_not_held!(rw);
        // The upgradable hold goes first, the read that came after it stays.
        let upgradable = rw.upgradable_read();
        let reader = rw.read_recursive();
        drop(upgradable);
        lockdep::assert_held!(rw, Read);
        drop(rw.try_upgradable_read().expect("nobody holds it so"));
        drop(reader);
        assert!(raw::is_quiet());
    });
}

#[test]
fn trylock_orders_are_no_finding_but_what_is_taken_under_one_is() {
    let (a, b) = (Mutex::new(()), Mutex::new(()));
    // The trylock backs off, so nobody waits in this order.
    assert!(
        reports(|| {
            drop((a.lock(), b.lock()));
            drop((b.lock(), a.try_lock().unwrap()));
            drop((b.lock(), a.try_lock_for(Duration::ZERO).unwrap()));
        })
        .is_empty()
    );
    // What the trylock got is held while others wait for it.
    assert_eq!(
        kinds(|| {
            drop((a.lock(), b.lock()));
            drop((b.try_lock().unwrap(), a.lock()));
        }),
        ["circular"]
    );
    assert_eq!(
        kinds(|| {
            drop((a.lock(), b.lock()));
            drop((b.try_lock_until(Instant::now()).unwrap(), a.lock()));
        }),
        ["circular"]
    );
}

#[test]
fn a_lock_held_across_a_wait_and_taken_under_the_mutex_is_an_inversion() {
    let (state, other) = (Mutex::new(0), Mutex::new(()));
    let condvar = Condvar::new();
    let v = Validator::builder().panic_on(PanicOn::Finding).build();
    let start = line!();
    v.scope(|| {
        drop((state.lock(), other.lock()));
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let _other = other.lock();
            let mut guard = state.try_lock().unwrap();
            // Nobody will ever notify: only a report before the wait can end this test.
            condvar.wait(&mut guard);
        }));
        assert!(outcome.is_err());
        assert!(!state.is_locked() && !other.is_locked(), "unwinding has released both");
        assert!(raw::is_quiet());
    });
    let reports = v.reports();
    assert_eq!(reports[0].kind().name(), "circular");
    let wanted = reports[0].wanted.as_ref().unwrap();
    assert!(wanted.lock.class.starts_with("Mutex at "), "{wanted:?}");
    let Place::Code(at) = wanted.site.place else { panic!("no place") };
    assert_eq!((at.file(), at.line()), (file!(), start + 7));
}

#[test]
fn a_lock_taken_after_the_mutex_and_kept_across_the_wait_is_an_inversion_by_itself() {
    let (state, other) = (Mutex::new(0), Mutex::new(()));
    let condvar = Condvar::new();
    let waits = || {
        let mut guard = state.lock();
        let _other = other.lock();
        condvar.wait_for(&mut guard, Duration::ZERO);
    };
    assert_eq!(kinds(waits), ["circular"]);
    // The other way round there is one order only.
    let waits = || {
        let _other = other.lock();
        let mut guard = state.lock();
        condvar.wait_for(&mut guard, Duration::ZERO);
    };
    assert!(reports(waits).is_empty());
}

#[test]
fn a_wait_takes_the_mutex_again_at_the_subclass_it_had() {
    static CLASS: LockClass = LockClass::new("strict").strict();
    let (outer, inner) = (Mutex::with_class(&CLASS, ()), Mutex::with_class(&CLASS, ()));
    let v = Validator::new();
    v.scope(|| {
        let _outer = outer.lock();
        let mut guard = inner.lock_nested(1);
        Condvar::new().wait_for(&mut guard, Duration::ZERO);
        lockdep::assert_held!(inner);
    });
    assert!(v.reports().is_empty(), "{:?}", v.reports());
}

#[test]
fn taking_a_reentrant_mutex_again_is_no_dependency() {
    let re = ReentrantMutex::new(());
    let m = Mutex::new(());
    let v = Validator::new();
    v.scope(|| {
        let _outer = re.lock();
        let _m = m.lock();
        let inner = re.lock();
        drop(inner);
        lockdep::assert_held!(re);
        lockdep::might_lock(&re);
    });
    assert!(v.reports().is_empty(), "{:?}", v.reports());
    assert_eq!(v.dependencies().len(), 1);
    assert_eq!(
        kinds(|| {
            drop((re.lock(), m.lock()));
            drop((m.lock(), re.lock()));
        }),
        ["circular"]
    );
}

#[test]
fn might_lock_reports_the_order_of_the_path_not_taken() {
    let (a, b) = (Mutex::new(()), RwLock::new(()));
    let found = reports(|| {
        let guard = a.lock();
        lockdep::might_lock(&b);
        drop(guard);
        assert!(!b.is_locked() && raw::is_quiet());
        drop((b.read(), a.lock()));
    });
    assert_eq!(found[0].kind().name(), "circular");
}

#[test]
fn assertions_report_and_name_their_place() {
    let m = Arc::new(Mutex::new(()));
    let found = reports(|| {
        lockdep::assert_held!(m);
        let _guard = m.lock();
        lockdep::assert_held!(m);
        lockdep::assert_not_held!(m);
    });
    let found: Vec<_> =
        found.iter().map(|r| (r.kind().name(), r.wanted.as_ref().unwrap().site.to_string())).collect();
    let at = |line: u32, column: u32| format!("{}:{line}:{column}", file!());
    let line = line!();
    assert_eq!(found, [("assert-held", at(line - 8, 9)), ("assert-not-held", at(line - 5, 9))]);
}

static SPINS: LockClass = LockClass::new("spins").waits(WaitType::Spin);
static SLEEPS: LockClass = LockClass::new("sleeps").waits(WaitType::Sleep);

#[test]
fn a_try_whose_hook_panics_gives_the_lock_back() {
    static IN_IRQ: LockClass = LockClass::new("taken in an interrupt");
    // Taken in an interrupt, the locks must not be taken with interrupts enabled: a rule for trylocks, too.
    let m = Arc::new(Mutex::with_class(&IN_IRQ, ()));
    let rw = Arc::new(RwLock::with_class(&IN_IRQ, ()));
    let re = Arc::new(ReentrantMutex::with_class(&IN_IRQ, ()));
    let tries: [(&str, &dyn Fn()); 13] = [
        ("try_lock", &|| drop(m.try_lock())),
        ("try_lock_for", &|| drop(m.try_lock_for(Duration::ZERO))),
        ("try_lock_until", &|| drop(m.try_lock_until(Instant::now()))),
        ("try_lock_arc", &|| drop(m.try_lock_arc())),
        ("try_read", &|| drop(rw.try_read())),
        ("try_read_recursive", &|| drop(rw.try_read_recursive())),
        ("try_upgradable_read", &|| drop(rw.try_upgradable_read())),
        ("try_write", &|| drop(rw.try_write())),
        ("try_write_arc", &|| drop(rw.try_write_arc())),
        ("try_read_for", &|| drop(rw.try_read_for(Duration::ZERO))),
        ("reentrant", &|| drop(re.try_lock())),
        ("reentrant, timed", &|| drop(re.try_lock_for(Duration::ZERO))),
        ("reentrant, owned", &|| drop(re.try_lock_arc())),
    ];
    for (name, attempt) in tries {
        let v = Validator::builder().panic_on(PanicOn::Finding).build();
        v.scope(|| {
            raw::context_enter(Context::HardIrq, false);
            drop(m.lock());
            raw::context_exit(Context::HardIrq);
            assert!(catch_unwind(AssertUnwindSafe(attempt)).is_err(), "{name}: no panic");
        });
        assert_eq!(v.reports()[0].kind().name(), "irq-state", "{name}");
        assert!(!m.is_locked() && !rw.is_locked() && !re.is_locked(), "{name}: still locked");
    }
}

#[test]
fn a_lock_whose_hook_panics_is_not_taken() {
    let spin = Mutex::with_class(&SPINS, ());
    let m = Arc::new(Mutex::with_class(&SLEEPS, ()));
    let rw = Arc::new(RwLock::with_class(&SLEEPS, ()));
    let re = Arc::new(ReentrantMutex::with_class(&SLEEPS, ()));
    let locks: [(&str, &dyn Fn()); 9] = [
        ("lock", &|| drop(m.lock())),
        ("lock_nested", &|| drop(m.lock_nested(1))),
        ("lock_arc", &|| drop(m.lock_arc())),
        ("read", &|| drop(rw.read())),
        ("read_arc", &|| drop(rw.read_arc())),
        ("upgradable_read", &|| drop(rw.upgradable_read())),
        ("write", &|| drop(rw.write())),
        ("reentrant", &|| drop(re.lock())),
        ("reentrant, owned", &|| drop(re.lock_arc())),
    ];
    for (name, lock) in locks {
        let v = Validator::builder().panic_on(PanicOn::Finding).build();
        v.scope(|| {
            let _spin = spin.lock();
            assert!(catch_unwind(AssertUnwindSafe(lock)).is_err(), "{name}: no panic");
            lockdep::assert_not_held!(m);
        });
        assert!(!m.is_locked() && !rw.is_locked() && !re.is_locked(), "{name}: locked");
    }
}

/// An interrupt leaves a lock behind between two others, so that their order shows only when it is released.
fn out_of_order(release_between: impl FnOnce(MutexGuard<'_, ()>)) -> Validator {
    let (a, between, c) = (Mutex::new(()), Mutex::new(()), Mutex::new(()));
    let v = Validator::builder().panic_on(PanicOn::Finding).build();
    v.scope(|| {
        drop((c.lock(), a.lock()));
        let _a = a.lock();
        raw::context_enter(Context::SoftIrq, false);
        let guard = between.lock();
        raw::context_exit(Context::SoftIrq);
        let _c = c.lock();
        release_between(guard);
        assert!(!between.is_locked());
    });
    v
}

#[test]
fn a_release_never_unwinds() {
    for v in [out_of_order(|guard| drop(guard)), out_of_order(|guard| MutexGuard::unlock_fair(guard))] {
        assert_eq!(v.reports()[0].kind().name(), "circular");
    }
}

#[test]
fn locking_again_under_a_live_guard_never_unwinds() {
    let (a, b) = (Arc::new(Mutex::new(())), Mutex::new(()));
    let re = ReentrantMutex::new(());
    let v = Validator::builder().panic_on(PanicOn::Finding).build();
    v.scope(|| {
        drop((a.lock(), b.lock()));
        drop((re.lock(), b.lock()));
        let mut guard = a.lock();
        // `b` stays held while `a` is taken again.
        let b_guard = MutexGuard::unlocked(&mut guard, || b.lock());
        assert!(a.is_locked() && b.is_locked());
        lockdep::assert_held!(a);
        drop(guard);
        assert!(!a.is_locked());
        drop(b_guard);
        let mut guard = re.lock();
        let b_guard = ReentrantMutexGuard::unlocked(&mut guard, || b.lock());
        assert!(re.is_owned_by_current_thread());
        drop((guard, b_guard));
        assert!(!re.is_locked());
        let mut owned = a.lock_arc();
        drop(ArcMutexGuard::unlocked(&mut owned, || b.lock()));
        drop(owned);
        assert!(!a.is_locked());
    });
    let kinds: Vec<_> = v.reports().iter().map(|report| report.kind().name()).collect();
    assert_eq!(kinds, ["circular", "circular"]);
}

#[test]
fn debug_output_takes_no_order() {
    let (a, b) = (Mutex::new(()), Mutex::new(()));
    assert!(
        reports(|| {
            drop((a.lock(), b.lock()));
            let _guard = b.lock();
            assert_eq!(format!("{a:?} {b:?}"), "Mutex { data: () } Mutex { data: <locked> }");
        })
        .is_empty()
    );
}
