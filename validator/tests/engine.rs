// SPDX-License-Identifier: MIT OR Apache-2.0
//! The thinnest true path: lock → event → engine → report.
#![cfg(feature = "lockdep")]

use lockdep::sync::Mutex;
use lockdep::{ReportKind, Validator};

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
    println!("{}", reports[0]);
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
