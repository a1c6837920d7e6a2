// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be done to a hold besides letting go of it: another class, pins; and locks that are not looked at.
#![cfg(feature = "lockdep")]

use lockdep::raw::{self, Acquire, Held, LockMap};
use lockdep::sync::Mutex;
use lockdep::{LockClass, PanicOn, Validator};

static QUEUE: LockClass = LockClass::new("queue").strict();
static OTHER: LockClass = LockClass::new("other").strict();

/// Kind and signature of each finding.
fn findings(program: impl FnOnce()) -> Vec<String> {
    let v = Validator::builder().panic_on(PanicOn::Never).build();
    v.scope(program);
    v.reports().iter().map(|report| report.signature().to_owned()).collect()
}

#[test]
fn a_hold_that_becomes_one_of_another_subclass_makes_room_for_a_second_lock() {
    let (a, b) = (LockMap::new(&QUEUE), LockMap::new(&QUEUE));
    let both = |reclass: bool| {
        raw::acquire(&a, Acquire::WRITE);
        if reclass {
            raw::reclass(&a, None, 1);
        }
        raw::acquire(&b, Acquire::WRITE);
        raw::release(&b);
        raw::release(&a);
    };
    assert_eq!(findings(|| both(false)), ["recursive:queue:W>W"]);
    assert!(findings(|| (0..3).for_each(|_| both(true))).is_empty());
    let (c, d) = (LockMap::new(&QUEUE), LockMap::new(&QUEUE));
    let contradicted = findings(|| {
        both(true);
        raw::acquire(&c, Acquire::WRITE);
        raw::acquire(&d, Acquire::WRITE.subclass(1));
        raw::release(&d);
        raw::release(&c);
    });
    assert_eq!(contradicted, ["circular:queue-EN>queue/1-EN>"]);
}

#[test]
fn what_lies_above_a_hold_of_another_class_is_checked_again() {
    let (a, b, x) = (LockMap::new(&QUEUE), LockMap::new(&OTHER), LockMap::new(&LOW));
    static LOW: LockClass = LockClass::new("low");
    let found = findings(|| {
        raw::acquire(&b, Acquire::WRITE);
        raw::acquire(&a, Acquire::WRITE);
        raw::release(&a);
        raw::release(&b);
        raw::acquire(&x, Acquire::WRITE);
        raw::acquire(&b, Acquire::WRITE);
        raw::reclass(&x, Some(&QUEUE), 0);
        raw::release(&b);
        raw::release(&x);
        assert!(raw::is_quiet());
        raw::reclass(&x, None, 1);
    });
    assert_eq!(found, ["circular:other-EN>queue-EN>", "balance:release"]);
}

#[test]
fn a_pinned_lock_must_not_be_released_however_well_the_chain_is_known() {
    let m = LockMap::new(&QUEUE);
    let found = findings(|| {
        let round = |pinned: bool| {
            raw::acquire(&m, Acquire::WRITE);
            let cookie = pinned.then(|| raw::pin(&m));
            raw::release(&m);
            cookie
        };
        (0..3).for_each(|_| assert!(round(false).is_none()));
        let stale = round(true).unwrap();
        raw::acquire(&m, Acquire::WRITE);
        raw::unpin(&m, stale);
        let cookie = raw::pin(&m);
        raw::unpin(&m, cookie);
        raw::repin(&m, cookie);
        raw::unpin(&m, cookie);
        raw::release(&m);
        _ = raw::pin(&m);
        let before = raw::slow_entries();
        round(false);
        assert_eq!(raw::slow_entries(), before, "nothing is pinned: the fast path is open");
    });
    assert_eq!(found, ["pin:queue"; 3]);
}

#[test]
fn untracked_locks_are_as_if_they_were_not_there() {
    static UNTRACKED: LockClass = LockClass::new("untracked").untracked();
    let (a, b, m) = (LockMap::new(&UNTRACKED), LockMap::new(&UNTRACKED), LockMap::new(&QUEUE));
    let found = findings(|| {
        raw::release(&a);
        raw::acquire(&a, Acquire::WRITE);
        raw::acquire(&a, Acquire::WRITE);
        raw::acquire(&b, Acquire::READ);
        assert!(raw::is_quiet());
        assert_eq!(raw::held(&a), Held::Unknown);
        raw::assert_held(&a, lockdep::HeldAs::Write);
        raw::assert_not_held(&a);
        raw::acquire(&m, Acquire::WRITE.nest(&a));
        raw::release(&m);
        raw::wait(&a);
        raw::complete(&a);
    });
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_read_under_rcu_wants_one_of_its_protections() {
    static RCU: LockClass = LockClass::new("rcu_read_lock").unchecked();
    let (section, writers) = (LockMap::new(&RCU), LockMap::new(&QUEUE));
    let read = || raw::assert_any_held(&[&section, &writers]);
    let found = findings(|| {
        for (map, how) in [(&section, Acquire::RECURSIVE_READ), (&writers, Acquire::WRITE)] {
            raw::acquire(map, how);
            read();
            raw::release(map);
        }
        read();
    });
    assert_eq!(found, ["rcu:rcu_read_lock"]);
}

#[test]
fn a_declared_order_is_everybodys_and_nothing_guards_it() {
    let (gate, q, o) = (LockMap::new(&GATE), LockMap::new(&QUEUE), LockMap::new(&OTHER));
    static GATE: LockClass = LockClass::new("gate");
    let v = Validator::builder().panic_on(PanicOn::Never).build();
    v.declare_order(&[&GATE, &QUEUE, &OTHER]);
    assert_eq!(v.dependencies().len(), 2);
    v.scope(|| {
        for map in [&gate, &o, &q] {
            raw::acquire(map, Acquire::WRITE);
        }
        raw::release(&q);
        raw::release(&o);
        raw::release(&gate);
    });
    let reports = v.reports();
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].signature(), "circular:other-EN>queue-EN>");
    assert_eq!(reports[0].severity(), lockdep::Severity::Error);
    assert!(reports[0].tags().is_empty(), "not what one thread did: {:?}", reports[0].tags());
    assert!(reports[0].to_string().contains("by (declared order)"));
    // And the other way round: what was seen before contradicts what is declared.
    v.declare_order(&[&QUEUE, &GATE]);
    assert_eq!(v.reports().len(), 2);
    v.declare_order(&[&QUEUE, &QUEUE]);
    assert_eq!(v.reports().len(), 2);
}

#[test]
fn a_subclass_that_there_is_not_is_a_finding_and_the_lock_is_held_all_the_same() {
    let m = Mutex::with_class(&QUEUE, ());
    let found = findings(|| {
        let _m = m.lock_nested(8);
        lockdep::assert_held!(m);
    });
    assert_eq!(found, ["subclass:queue"]);
}
