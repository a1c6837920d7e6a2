// SPDX-License-Identifier: MIT OR Apache-2.0
//! One golden report of each kind, as text and as JSON.
//!
//! The programs are files of the litmus corpus, so instances and places are numbers of the file and the same
//! everywhere. A change of a snapshot is a change of what users see: review it as such.
#![cfg(feature = "lockdep")]

use lockdep::ReportKind;
use lockdep::report::model::Report;

/// The first report of this kind in a file of the corpus.
fn report(kind: ReportKind, file: &str) -> Report {
    let path = format!("{}/tests/litmus/{file}.litmus", env!("CARGO_MANIFEST_DIR"));
    let program =
        lockdep::litmus::parse(&std::fs::read_to_string(path).expect("a corpus file")).expect("it parses");
    let found = program.run().reported.into_iter().map(|reported| reported.report).find(|r| r.kind() == kind);
    found.unwrap_or_else(|| panic!("{file} reports {kind}"))
}

/// The kinds that exist so far, each with a file that shows it.
const SHOWN: [(ReportKind, &str); 18] = [
    (ReportKind::Recursive, "seed_mmap_self_import"),
    (ReportKind::Circular, "abbcca"),
    (ReportKind::IrqState, "hardirq_state"),
    (ReportKind::IrqInversion, "hardirq_inversion"),
    (ReportKind::IrqOrder, "hardirq_safe_unsafe"),
    (ReportKind::Balance, "balance"),
    (ReportKind::Freed, "freed_held"),
    (ReportKind::Exit, "exit_held"),
    (ReportKind::UserReturn, "user_return"),
    (ReportKind::NestMissing, "nest_missing"),
    (ReportKind::WaitContext, "wait_context"),
    (ReportKind::AssertHeld, "asserts"),
    (ReportKind::AssertNotHeld, "asserts"),
    (ReportKind::WwApi, "ww_api_still_holding"),
    (ReportKind::Pin, "pin"),
    (ReportKind::Rcu, "rcu"),
    (ReportKind::Key, "key"),
    (ReportKind::Subclass, "subclass"),
];

#[test]
fn text_of_each_kind() {
    for (kind, file) in SHOWN {
        insta::assert_snapshot!(format!("text-{kind}"), report(kind, file).to_string());
    }
}

#[test]
fn json_of_each_kind() {
    for (kind, file) in SHOWN {
        let mut json = report(kind, file).to_json();
        // The text has a snapshot of its own.
        assert_eq!(json["text"], report(kind, file).to_string());
        json["text"] = "…".into();
        insta::assert_snapshot!(
            format!("json-{kind}"),
            serde_json::to_string_pretty(&json).expect("a JSON value is printable")
        );
    }
}

/// Every kind, but the one that needs more locks than a file of the corpus has.
#[test]
fn every_kind_is_shown_and_has_one_line_of_help() {
    let shown = SHOWN.map(|(kind, _)| kind);
    assert!(ReportKind::ALL.iter().all(|kind| shown.contains(kind) || *kind == ReportKind::Depth));
    for report in SHOWN.map(|(kind, file)| report(kind, file)).iter().chain([&depth()]) {
        let help: Vec<String> = report
            .to_string()
            .lines()
            .filter_map(|line| line.strip_prefix("help: "))
            .map(str::to_owned)
            .collect();
        assert_eq!(help, [report.help.as_str()]);
        assert!(!report.help.is_empty() && !report.help.contains('\n'));
    }
}

fn depth() -> Report {
    let locks = (1..=lockdep::limits::HELD_DEPTH_REPORT).map(|i| format!("lock l{i} : map\nt: lock l{i}\n"));
    let program = lockdep::litmus::parse(&locks.collect::<String>()).expect("it parses");
    program.run().reported.remove(0).report
}

#[test]
fn text_of_too_many_locks() {
    let text = depth().to_string();
    let is_far_down =
        |line: &&str| line.starts_with(" #") && !line.starts_with(" #0:") && !line.starts_with(" #999:");
    let lines: Vec<&str> = text.lines().filter(|line| !is_far_down(line)).collect();
    insta::assert_snapshot!("text-depth", lines.join("\n"));
}
