// SPDX-License-Identifier: MIT OR Apache-2.0
//! Source lines below a printed report: of this file, which is at hand, and of one that is not.
#![cfg(feature = "lockdep")]

mod common;

use lockdep::sync::Mutex;
use lockdep::{LockClass, PanicOn, Place, Report, Validator};

static JOURNAL: LockClass = LockClass::new("journal");
static TABLE: LockClass = LockClass::new("table");

/// Two locks in both orders, the second time in a way that prints.
fn both_orders(v: &Validator) {
    let (journal, table) = (Mutex::with_class(&JOURNAL, ()), Mutex::with_class(&TABLE, ()));
    v.scope(|| {
        let first = journal.lock();
        let second = table.lock();
        drop((first, second));
        let first = table.lock();
        let second = journal.lock();
        drop((first, second));
    });
}

fn report() -> Report {
    let v = Validator::builder().stacks(lockdep::Stacks::Off).build();
    both_orders(&v);
    v.reports().remove(0)
}

#[test]
fn the_lines_of_the_acquisitions_are_shown_below_the_text() {
    let report = report();
    let text = report.with_sources().to_string();
    let snippets = text.strip_prefix(&report.to_string()).expect("the text comes first").trim_start();
    insta::assert_snapshot!("source-lines", snippets);
}

#[test]
fn nothing_is_shown_of_a_file_that_is_not_at_hand() {
    #[track_caller]
    fn caller((): ()) -> Place {
        Place::caller()
    }
    // The caller is the standard library, whose sources have a path of the machine that built it.
    let [elsewhere] = [()].map(caller);
    let mut report = report();
    let places = report.wanted.iter_mut().chain(&mut report.conflict);
    let edges = report.edges.iter_mut().flat_map(|edge| [&mut edge.from, &mut edge.to]);
    places.chain(edges).for_each(|acquired| acquired.site = elsewhere.into());
    assert_eq!(report.with_sources().to_string(), report.to_string());
}

#[test]
fn printing_shows_them_unless_it_is_switched_off() {
    let name = "printing_shows_them_unless_it_is_switched_off";
    if let Some(part) = common::part() {
        let builder = Validator::builder().print(true).panic_on(PanicOn::Never);
        both_orders(&builder.sources(part == "on").build());
        return;
    }
    let shown =
        |part| common::stderr(&common::play(name, part, &[])).contains("let second = journal.lock();");
    assert!(shown("on"));
    assert!(!shown("off"));
}
