// SPDX-License-Identifier: MIT OR Apache-2.0
//! The litmus corpus, and the subcommand on good and bad files.
#![cfg(feature = "lockdep")]

use std::path::PathBuf;
use std::process::{Command, Output};

fn corpus() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/litmus");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "litmus"))
        .collect();
    files.sort();
    files
}

fn lockdep(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lockdep")).args(args).output().expect("the command starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Writes a file for one test and gives its path.
fn file(name: &str, text: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("a file in the temporary folder");
    path.display().to_string()
}

#[test]
fn every_file_reports_exactly_what_it_expects() {
    let files = corpus();
    assert!(files.len() >= 46, "the corpus shrank to {} files", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).expect("readable");
        let program =
            lockdep::litmus::parse(&text).unwrap_or_else(|error| panic!("{}:{error}", path.display()));
        let run = program.run();
        if !run.as_expected() {
            wrong.push(format!(
                "{}: missing {:?}, unexpected {:?}",
                path.display(),
                run.missing(),
                run.unexpected()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_report_of_the_corpus_can_be_printed_as_a_program_that_reproduces_it() {
    let mut kinds = std::collections::BTreeSet::new();
    let read =
        |path: PathBuf| (path.display().to_string(), std::fs::read_to_string(&path).expect("readable"));
    let programs = corpus().into_iter().map(read).chain([("(depth)".to_owned(), depth())]);
    for (path, text) in programs {
        for reported in lockdep::litmus::parse(&text).expect("it parses").run().reported {
            let report = reported.report;
            let printed = report.to_litmus();
            let again = lockdep::litmus::parse(&printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
            let run = again.run();
            assert!(run.as_expected(), "{path}: {:?}\n{printed}", run.reported);
            assert_eq!(run.reported.len(), 1, "{printed}");
            assert_eq!(run.reported[0].report.kind, report.kind, "{printed}");
            kinds.insert(report.kind);
        }
    }
    assert_eq!(Vec::from_iter(kinds), lockdep::ReportKind::ALL);
}

/// More locks at one time than anybody would write down.
fn depth() -> String {
    let lock = |i: usize| format!("lock l{i} : map\nt: lock l{i}\n");
    (1..lockdep::limits::HELD_DEPTH_REPORT).map(lock).collect::<String>()
        + "lock last : map\nt: lock last #! depth\n"
}

/// Kind and severity of each report of a corpus file.
fn severities(file: &str) -> Vec<(lockdep::ReportKind, lockdep::Severity)> {
    let path = format!("{}/tests/litmus/{file}.litmus", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("a corpus file");
    let run = lockdep::litmus::parse(&text).expect("it parses").run();
    run.reported.iter().map(|had| (had.report.kind, had.report.severity)).collect()
}

#[test]
fn a_gate_lock_makes_a_cycle_guarded_until_it_is_left_out() {
    use lockdep::ReportKind::Circular;
    use lockdep::Severity::{Error, Guarded};
    assert_eq!(severities("x8_gate_lock"), [(Circular, Guarded)]);
    assert_eq!(severities("x8_gate_lock_left_out"), [(Circular, Guarded), (Circular, Error)]);
    assert_eq!(severities("x8_gate_lock_way_round"), [(Circular, Guarded), (Circular, Error)]);
    assert_eq!(severities("x8_two_gates"), [(Circular, Error)]);
    assert_eq!(severities("x5_nest_lock_missing_once"), [(Circular, Error)]);
}

#[test]
fn a_cycle_of_one_thread_says_so() {
    let tags = |text: &str| {
        let run = lockdep::litmus::parse(text).expect("it parses").run();
        run.reported[0].report.tags().to_vec()
    };
    let abba = "lock a, b : mutex\n1: lock a\n1: lock b\n1: unlock b\n1: unlock a\n2: lock b\n2: lock a\n";
    assert_eq!(tags(&abba.replace("2:", "1:")), ["single-thread"]);
    assert!(tags(abba).is_empty());
}

/// The tags of the only report of a corpus file.
fn tags(file: &str) -> Vec<&'static str> {
    let path = format!("{}/tests/litmus/{file}.litmus", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("a corpus file");
    let run = lockdep::litmus::parse(&text).expect("it parses").run();
    assert_eq!(run.reported.len(), 1);
    let tags = run.reported[0].report.tags().to_vec();
    let printed = lockdep::litmus::parse(&run.reported[0].report.to_litmus()).expect("it parses").run();
    assert_eq!(printed.reported[0].report.tags(), tags, "the printed program has the tags of its report");
    tags
}

#[test]
fn a_cycle_whose_orders_are_known_not_to_meet_says_so_and_stays_an_error() {
    use lockdep::ReportKind::Circular;
    use lockdep::Severity::Error;
    assert_eq!(tags("x12_ordered_by_spawn"), ["ordered"]);
    assert_eq!(severities("x12_ordered_by_spawn"), [(Circular, Error)]);
    assert_eq!(tags("x12_ordered_by_join"), ["ordered"]);
    assert!(tags("x12_seen_again_after_spawn").is_empty());
}

#[test]
fn a_missed_expectation_ends_with_status_1_and_says_so() {
    let path = file("missed.litmus", "lock a : mutex\nt: lock a #! circular\n");
    let output = lockdep(&["litmus", &path]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("line 2: expected circular, nothing was reported"), "{text}");
}

#[test]
fn an_unexpected_report_ends_with_status_1_and_says_so() {
    let path = file("unexpected.litmus", "lock a : mutex\nt: unlock a\n");
    let output = lockdep(&["litmus", &path]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("line 2: not expected: balance"), "{text}");
}

#[test]
fn mistakes_are_told_with_file_line_column_and_what_was_expected() {
    let cases = [
        ("kind.litmus", "lock a : mutx\n", ":1:10: `mutx` is no lock kind; expected one of: spin raw_spin"),
        ("name.litmus", "lock a : mutex\nt: lock b\n", ":2:9: `b` is not declared"),
        ("op.litmus", "t: lok a\n", ":1:4: `lok` is no operation; expected lock read"),
        ("report.litmus", "lock a : mutex\nt: lock a #! deadlock\n", ":2:14: `deadlock` is no report kind"),
        ("open.litmus", "t: hardirq {\n", ":1:1: the section that task `t` opens here is never closed"),
        ("close.litmus", "t: }\n", ":1:4: task `t` has no open section here"),
        ("event.litmus", "lock e : event\nt: lock e\n", ":2:9: `e` is an event: expected a lock, or `wait`"),
        ("ctx.litmus", "t: ctx c class=\n", ":1:10: expected `class=W`, found `class=`"),
        ("sub.litmus", "lock a : mutex\nt: lock a sub=x\n", ":2:15: `x` is no subclass; expected 0 to 7"),
        ("twice.litmus", "lock a : mutex\nlock a : spin\n", ":2:6: `a` is declared already"),
        (
            "half.litmus",
            "lock a : mutex\nt: lock\n",
            ":2:8: expected the name of a lock, found the end of the line",
        ),
        (
            "more.litmus",
            "lock a : mutex\nt: unlock a now\n",
            ":2:13: expected the end of the line, found `now`",
        ),
        ("prime.litmus", "lock a, b : mutex\nprime: a > b\n", ":2:10: expected `<`"),
        (
            "word.litmus",
            "hello\n",
            ":1:1: expected `lock …`, `name: …`, `prime: …` or `TASK: OP`, found `hello`",
        ),
    ];
    for (name, text, message) in cases {
        let output = lockdep(&["litmus", &file(name, text)]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(said.contains(&format!("{name}{message}")), "{name}: {said}");
        assert_eq!(said.lines().count(), 1, "{name}: one line: {said}");
    }
}

#[test]
fn a_file_that_does_not_exist_is_one_line_and_status_2() {
    let output = lockdep(&["litmus", "no/such.litmus"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).starts_with("lockdep: no/such.litmus: "), "{}", stderr(&output));
    assert_eq!(stderr(&output).lines().count(), 1);
}

#[test]
fn json_names_file_expectations_and_reports() {
    let path = file("json.litmus", "name: twice\nlock a : mutex\nt: lock a\nt: lock a #! recursive\n");
    let output = lockdep(&["litmus", "--format", "json", &path]);
    assert_eq!(output.status.code(), Some(0));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON on standard output");
    let file = &json["files"][0];
    assert_eq!(file["name"], "twice");
    assert_eq!(file["ok"], true);
    assert_eq!(file["expected"][0], serde_json::json!({ "line": 4, "kind": "recursive" }));
    assert_eq!(
        file["reported"][0],
        serde_json::json!({ "line": 4, "kind": "recursive", "severity": "error" })
    );
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let files: Vec<String> = corpus().into_iter().map(|path| path.display().to_string()).collect();
    let mut child = Command::new(env!("CARGO_BIN_EXE_lockdep"))
        .args(["litmus", "--reports"])
        .args(&files)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the command starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(stderr(&output), "");
    assert_eq!(output.status.code(), Some(0));
}
