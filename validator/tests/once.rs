// SPDX-License-Identifier: MIT OR Apache-2.0
//! Initialisers: what they do, and their place among the locks.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{kinds, lenient};
use lockdep::Validator;
use lockdep::sync::{LazyLock, Mutex, Once, OnceLock};

#[test]
fn each_initialises_once() {
    let once = Once::new();
    let mut count = 0;
    once.call_once(|| count += 1);
    once.call_once(|| count += 1);
    assert_eq!(count, 1);
    let mut lock = OnceLock::new();
    assert_eq!(lock.get(), None);
    assert_eq!((lock.get_or_init(|| 1), lock.get_or_init(|| 2), lock.set(3)), (&1, &1, Err(3)));
    *lock.get_mut().unwrap() = 4;
    assert_eq!(format!("{lock:?}"), "OnceLock(4)");
    assert_eq!(lock.into_inner(), Some(4));
    let lazy = LazyLock::new(|| {
        count += 1;
        count
    });
    assert_eq!((*lazy, *LazyLock::force(&lazy)), (2, 2));
}

#[test]
fn an_initialiser_that_panics_is_no_finding_and_another_one_may_try() {
    let (m, cell) = (Mutex::new(()), OnceLock::new());
    let v = Validator::new();
    v.scope(|| {
        catch_unwind(AssertUnwindSafe(|| cell.get_or_init(|| panic!("no value")))).unwrap_err();
        assert!(lockdep::raw::is_quiet());
        let _m = m.lock();
        assert_eq!(cell.get_or_init(|| 1), &1);
    });
    assert!(v.reports().is_empty());
}

/// The initialiser takes the lock, and elsewhere the value is asked for under the lock, long after it was made.
fn found(initialise: impl Fn(&Mutex<()>)) -> Vec<&'static str> {
    let m = Mutex::new(());
    let v = lenient();
    v.scope(|| {
        initialise(&m);
        let m = &m;
        let _held = m.lock();
        initialise(m);
    });
    kinds(&v)
}

#[test]
fn a_lock_that_an_initialiser_takes_and_that_is_held_where_the_value_is_wanted_is_an_inversion() {
    let expected: &[&str] = if lockdep::ENABLED { &["circular"] } else { &[] };
    let once = Once::new();
    assert_eq!(found(|m| once.call_once(|| drop(m.lock()))), expected);
    let cell = OnceLock::new();
    let kinds = found(|m| {
        cell.get_or_init(|| drop(m.lock()));
    });
    assert_eq!(kinds, expected);
    static LOCK: Mutex<()> = Mutex::new(());
    let lazy = LazyLock::new(|| drop(LOCK.lock()));
    let v = lenient();
    v.scope(|| {
        LazyLock::force(&lazy);
        let _held = LOCK.lock();
        LazyLock::force(&lazy);
    });
    assert_eq!(common::kinds(&v), expected);
    // Who knows that the value is there does not wait for it.
    let asked = found(|m| {
        if cell.get().is_none() || !once.is_completed() {
            drop(m.lock());
        }
    });
    assert!(asked.is_empty());
}

#[test]
fn initialisers_that_want_each_other_are_an_inversion_though_each_runs_once() {
    // Two services of each kind, as a program has them in two tests: no single one is initialised in both orders.
    let logs: [OnceLock<u32>; 2] = std::array::from_fn(|_| OnceLock::new());
    let configs: [OnceLock<u32>; 2] = std::array::from_fn(|_| OnceLock::new());
    let v = lenient();
    v.scope(|| {
        logs[0].get_or_init(|| *configs[0].get_or_init(|| 1) + 1);
        configs[0].get_or_init(|| 1);
        configs[1].get_or_init(|| *logs[0].get_or_init(|| 1) + 1);
    });
    assert_eq!(kinds(&v).is_empty(), !lockdep::ENABLED);
}

#[test]
#[cfg(feature = "lockdep")]
fn an_initialiser_that_asks_for_its_own_value_panics_instead_of_hanging() {
    let cell = OnceLock::new();
    let v = Validator::new();
    v.scope(|| {
        let init = || cell.get_or_init(|| *cell.get_or_init(|| 1));
        let panic = catch_unwind(AssertUnwindSafe(init)).unwrap_err();
        assert!(common::message(&*panic).starts_with("lockdep: recursive: "));
    });
    assert!(v.reports()[0].is_certain());
    assert!(cell.get().is_none());
}
