// SPDX-License-Identifier: MIT OR Apache-2.0
//! The delivery of findings: `runtime/sink.rs`.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use lockdep::{PanicOn, Report};
use loom::sync::Arc;
use loom::thread;

use crate::explore;
use crate::shared::Mutex;
use crate::sink::Sink;

/// A report that a real validator made, under so many names.
fn reports<const N: usize>() -> [Report; N] {
    let (a, b) = (lockdep::sync::Mutex::new(()), lockdep::sync::Mutex::new(()));
    let v = lockdep::Validator::new();
    v.scope(|| {
        drop((a.lock(), b.lock()));
        drop((b.lock(), a.lock()));
    });
    let report = v.reports().swap_remove(0);
    std::array::from_fn(|name| {
        let mut report = report.clone();
        report.summary = name.to_string();
        report
    })
}

fn names(reports: &[Report]) -> Vec<&str> {
    reports.iter().map(|report| report.summary.as_str()).collect()
}

fn sink() -> Sink {
    Sink::new(false, false, PanicOn::Never)
}

/// A finding is made under the engine's lock, and delivered after it; who makes it again does not deliver it again.
#[test]
fn each_finding_is_delivered_once_and_those_of_a_thread_in_its_order() {
    let all = reports::<3>();
    explore(3, move || {
        let shared = Arc::new((Mutex::<BTreeSet<String>>::default(), sink()));
        let find = |(engine, sink): &(Mutex<BTreeSet<String>>, Sink), report: &Report| {
            let new = engine.lock().insert(report.summary.clone());
            if new {
                assert!(sink.deliver(report).is_none());
            }
        };
        let other = {
            let (shared, all) = (shared.clone(), all.clone());
            thread::spawn(move || [0, 1].map(|which| find(&shared, &all[which])))
        };
        find(&shared, &all[2]);
        find(&shared, &all[1]);
        other.join().unwrap();
        let delivered = shared.1.reports();
        let mut delivered = names(&delivered);
        let at = |name| delivered.iter().position(|known| *known == name);
        // Whoever was first with 1 had made the one before.
        assert!(at("0") < at("1") || at("2") < at("1"), "{delivered:?}");
        delivered.sort_unstable();
        assert_eq!(delivered, ["0", "1", "2"]);
    });
}

#[test]
fn who_adds_a_callback_and_then_asks_misses_no_finding_and_may_ask_in_the_callback() {
    let [report] = reports::<1>();
    explore(3, move || {
        // What only keeps count need not be loom's.
        let called = std::sync::Arc::new(AtomicUsize::new(0));
        let sink = std::sync::Arc::new(sink());
        let other = {
            let (sink, report) = (sink.clone(), report.clone());
            thread::spawn(move || sink.deliver(&report).is_none())
        };
        let counts = called.clone();
        let asked = std::sync::Arc::downgrade(&sink);
        sink.add(std::sync::Arc::new(move |report| {
            let sink = asked.upgrade().expect("it delivers");
            assert_eq!(names(&sink.reports()), [report.summary.as_str()]);
            counts.fetch_add(1, Ordering::Relaxed);
        }));
        let collected = sink.reports().len();
        assert!(other.join().unwrap());
        let called = called.load(Ordering::Relaxed);
        assert!(called <= 1 && collected + called >= 1, "collected {collected}, called {called}");
        assert_eq!(sink.reports().len(), 1);
    });
}
