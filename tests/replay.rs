// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lockdep replay` on recorded kernel traces, against the kernel's own verdicts, and on everything that is not a
//! trace.
#![cfg(feature = "lockdep")]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::Value;

const TRACES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/traces");

fn replay(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lockdep")).arg("replay").args(args).output().expect("the command starts")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("one JSON document on standard output")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Writes a file for one test and gives its path.
fn file(name: &str, bytes: &[u8]) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, bytes).expect("a file in the temporary folder");
    path.display().to_string()
}

fn trace(name: &str) -> String {
    format!("{TRACES}/{name}")
}

/// The text of a compressed trace.
fn unpacked(name: &str) -> String {
    let packed = std::fs::File::open(trace(name)).expect("a trace");
    let mut text = String::new();
    GzDecoder::new(packed).read_to_string(&mut text).expect("a gzip file");
    text
}

fn packed(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

/// What the kernel said about a trace.
#[derive(Debug)]
struct Verdict {
    path: PathBuf,
    acquisitions: u64,
    releases: u64,
    /// Kind, line and task, unless it was silent.
    finding: Option<(&'static str, u64, String)>,
}

/// The kernel's verdicts, one for each trace.
fn verdicts() -> Vec<Verdict> {
    let text = std::fs::read_to_string(trace("verdicts.csv")).expect("the verdicts");
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().expect("a header");
    let column = |name: &str| header.iter().position(|title| *title == name).expect("a column");
    let [file, acquire, release, verdict, line, task] =
        ["file", "acquire", "release", "verdict", "trigger_line", "verdict_task"].map(column);
    lines
        .map(|row| {
            let kind = match row[verdict] {
                "silent" => None,
                text if text.contains("recursive locking") => Some("recursive"),
                text if text.contains("circular locking") => Some("circular"),
                text if text.contains("inconsistent lock state") => Some("irq-state"),
                text if text.contains("still has locks held") => Some("exit"),
                text => panic!("a verdict without a kind: {text}"),
            };
            let plain = PathBuf::from(trace(row[file]));
            Verdict {
                path: if plain.exists() { plain } else { PathBuf::from(trace(row[file]) + ".gz") },
                acquisitions: row[acquire].parse().expect("a number"),
                releases: row[release].parse().expect("a number"),
                finding: kind.map(|kind| (kind, row[line].parse().expect("a line"), row[task].to_owned())),
            }
        })
        .collect()
}

#[test]
fn the_first_finding_is_the_kernels_and_silent_traces_stay_silent() {
    let verdicts = verdicts();
    assert_eq!(verdicts.len(), 13);
    for verdict in verdicts {
        let path = verdict.path.display().to_string();
        let output = replay(&["--format", "json", &path]);
        assert_eq!(stderr(&output), "", "{path}");
        let json = json(&output);
        let trace = &json["traces"][0];
        assert_eq!(trace["acquisitions"], verdict.acquisitions, "{path}");
        assert_eq!(trace["releases"], verdict.releases, "{path}");
        let findings = trace["findings"].as_array().expect("findings");
        let first = findings.first().map(|first| {
            let word = |key: &str| first[key].as_str().expect("a word").to_owned();
            (word("kind"), first["line"].as_u64().expect("a line"), word("task"))
        });
        let wanted = verdict.finding.map(|(kind, line, task)| (kind.to_owned(), line, task));
        assert_eq!(first, wanted, "{path}");
        assert_eq!(output.status.code(), Some(i32::from(first.is_some())), "{path}");
    }
}

#[test]
fn the_trigger_line_and_the_whole_cycle_are_printed() {
    let output = replay(&[&trace("abba.trace.gz")]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1));
    let mut lines = text.lines();
    let summary = lines.next().expect("a summary");
    assert!(
        summary.ends_with(
            "2739 events, 1051 acquisitions, 1051 releases, 36 classes, 24 dependencies: 1 finding"
        ),
        "{summary}"
    );
    assert!(
        text.contains("abba.trace.gz:462: init-38      [000] ...1.     4.881374: lock_acquire: "),
        "{text}"
    );
    for line in ["lk_b taken for write at line 460", "lk_a taken for write at line 462"] {
        assert!(text.contains(line), "the new dependency: {text}");
    }
    for line in ["lk_a taken for write at line 454", "lk_b taken for write at line 456"] {
        assert!(text.contains(line), "the known dependency: {text}");
    }
}

#[test]
fn json_has_exactly_the_documented_fields() {
    let keys = |value: &Value| {
        let mut keys: Vec<_> = value.as_object().expect("an object").keys().cloned().collect();
        keys.sort();
        keys
    };
    let json = json(&replay(&["--format", "json", &trace("abba.trace.gz"), &trace("resv_ctx_ok.trace")]));
    assert_eq!(keys(&json), ["traces"]);
    assert_eq!(json["traces"].as_array().map(Vec::len), Some(2));
    for trace in json["traces"].as_array().expect("traces") {
        assert_eq!(
            keys(trace),
            ["acquisitions", "classes", "edges", "events", "file", "findings", "releases"]
        );
    }
    let finding = &json["traces"][0]["findings"][0];
    assert_eq!(keys(finding), ["classes", "kind", "line", "task", "text"]);
    assert_eq!(finding["classes"], serde_json::json!(["lk_b", "lk_a"]));
    assert!(
        finding["text"].as_str().expect("a text").contains("possible circular locking dependency detected")
    );
}

#[test]
fn a_trace_may_come_from_standard_input() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lockdep"))
        .args(["replay", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let packed = std::fs::read(trace("abba.trace.gz")).expect("a trace");
    child.stdin.take().expect("a pipe").write_all(&packed).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("\n-:462: init-38"), "{}", stdout(&output));
}

/// A trace of one task, without header: `+name` takes a lock, `-name` releases it.
fn small(steps: &str) -> String {
    let addresses = |name: &str| 0xffff_8880_0000_0000 + u64::from(name.as_bytes()[0]) * 64;
    let line = |(number, step): (usize, &str)| {
        let (event, name) = match step.split_at(1) {
            ("+", name) => ("lock_acquire", name),
            (_, name) => ("lock_release", name),
        };
        format!("  task: 1-9-7 [000] ..... 1.{number:06}: {event}: {:x} {name}\n", addresses(name))
    };
    steps.split_whitespace().enumerate().map(line).collect()
}

#[test]
fn every_finding_is_given_once_unless_the_first_is_enough() {
    let twice = "+c +d -d -c +d +c -c -d";
    let text = small(&format!("+a +b -b -a +b +a -a -b {twice} {twice} +e +e -e -e"));
    let path = file("several.trace", text.as_bytes());
    let found = |args: &[&str]| {
        let json = json(&replay(&[&["--format", "json", &path], args].concat()));
        let findings = json["traces"][0]["findings"].as_array().expect("findings").clone();
        let found = |f: &Value| (f["line"].as_u64(), f["kind"].as_str().map(str::to_owned));
        (json["traces"][0]["events"].as_u64(), findings.iter().map(found).collect::<Vec<_>>())
    };
    let kind = |line: u64, kind: &str| (Some(line), Some(kind.to_owned()));
    let all = vec![kind(6, "circular"), kind(14, "circular"), kind(26, "recursive")];
    assert_eq!(found(&[]), (Some(28), all.clone()));
    assert_eq!(found(&["--stop-at-first"]), (Some(6), all[..1].to_vec()));
    let text = stdout(&replay(&[&path]));
    assert!(text.contains(": 1 more finding of the same cause\n"), "{text}");
}

#[test]
fn a_release_is_held_against_a_task_only_if_its_beginning_was_seen() {
    let kinds = |text: String| {
        let path = file("balance.trace", text.as_bytes());
        let json = json(&replay(&["--format", "json", &path]));
        let findings = json["traces"][0]["findings"].as_array().expect("findings").clone();
        findings
            .iter()
            .map(|f| (f["line"].clone(), f["kind"].clone(), f["classes"].clone()))
            .collect::<Vec<_>>()
    };
    let event = |text: &str| format!("  task: 1-9-7 [000] d.... 1.000000: {text}\n");
    let balance = |line: u64| vec![(line.into(), "balance".into(), serde_json::json!(["b"]))];
    // It may have taken the lock before the trace began …
    assert_eq!(kinds(small("+a -b -a")), []);
    // … but not after it was made, or came back to user space.
    let fork =
        "  init-1 [000] ..... 1.000000: sched_process_fork: comm=init pid=1 child_comm=x child_pid=7\n";
    assert_eq!(kinds(format!("{fork}{}", small("+a -b -a"))), balance(3));
    let user = event("irq_enable: caller=syscall_exit_to_user_mode+0x7d/0x130 parent=0x0");
    assert_eq!(kinds(format!("{user}{}", small("+a -b -a"))), balance(3));
    // Written by a system call that the trace saw begin.
    let marker = event("tracing_mark_write: hello: world");
    assert_eq!(kinds(format!("{}{marker}{}", small("+s"), small("-s +a -b -a"))), balance(5));
    // No acquisition at all any more: the events were switched off.
    assert_eq!(kinds(format!("{fork}{}", small("+a -a +c -c"))), []);
    let hole = "  other-8 [000] ..... 1.000000: lock_release: ff00 x\n".repeat(3);
    assert_eq!(kinds(format!("{fork}{}{hole}{}", small("+a -a"), small("-b"))), []);
}

#[test]
fn a_lock_held_on_the_way_to_user_space_is_a_finding() {
    let user = "  task: 1-9-7 [000] d.... 1.000000: irq_enable: caller=syscall_exit_to_user_mode+0x7d/0x130 parent=0x0\n";
    let path = file("user.trace", format!("{}{user}", small("+a -a +b")).as_bytes());
    let json = json(&replay(&["--format", "json", &path]));
    let finding = &json["traces"][0]["findings"][0];
    assert_eq!((&finding["line"], &finding["kind"]), (&4.into(), &"user-return".into()));
    assert_eq!(finding["task"], "task: 1-9-7");
    assert_eq!(finding["classes"], serde_json::json!(["b"]));
}

#[test]
fn without_annotations_the_names_alone_are_not_enough() {
    let kinds = |args: &[&str]| {
        let json = json(&replay(&[&["--format", "json"], args].concat()));
        let findings = json["traces"][0]["findings"].as_array().expect("findings").clone();
        findings.into_iter().map(|f| f["kind"].as_str().expect("a kind").to_owned()).collect::<Vec<_>>()
    };
    // The context that orders two reservation locks is not in the events.
    let path = trace("resv_ctx_ok.trace");
    assert_eq!(kinds(&[&path]), [""; 0]);
    assert!(kinds(&["--no-builtin", &path]).contains(&"recursive".to_owned()));
    // Nor is what the kernel taught itself at boot.
    let path = trace("resv_mmap.trace.gz");
    assert_eq!(kinds(&[&path]), ["circular"]);
    assert!(!kinds(&["--no-builtin", &path]).contains(&"circular".to_owned()));
    // Taking back a built-in line.
    let classes = file("plain.classes", b"reservation_ww_class_mutex: plain\n");
    let path = trace("resv_ctx_ok.trace");
    assert_eq!(kinds(&["--classes", &classes, &path]), ["recursive"]);
}

/// A file that is broken after its finding.
struct Broken {
    name: &'static str,
    bytes: Vec<u8>,
    message: &'static str,
    /// The line of the finding that was made before.
    finding: bool,
}

fn broken_files() -> Vec<Broken> {
    let text = unpacked("abba.trace.gz");
    let lines: Vec<&str> = text.lines().collect();
    let head = format!("{}\n", lines[..800].join("\n"));
    let with = |line: &str| format!("{head}{line}\n{}\n", lines[801..].join("\n")).into_bytes();
    let whole = packed(&text);
    let mut damaged = whole.clone();
    let last = damaged.len() - 6;
    damaged[last] ^= 1;
    let mut binary = head.clone().into_bytes();
    binary.extend([0, 1, 2, b'\n']);
    let broken = |name, bytes, message, finding| Broken { name, bytes, message, finding };
    vec![
        broken(
            "cut-line.trace",
            text.as_bytes()[..head.len() + 40].to_vec(),
            "line 801: the file is cut off in the middle of this line",
            true,
        ),
        broken(
            "short-line.trace",
            with("            init-38      [001] ...1.     4.88"),
            "line 801: not a line of a trace: a time stamp (`SECONDS.MICROSECONDS:`) is missing",
            true,
        ),
        broken(
            "no-event.trace",
            with("            init-38      [001] ...1.     4.881374: lock_acq"),
            "line 801: not a line of a trace: `EVENT:` is missing after the time stamp",
            true,
        ),
        broken(
            "no-address.trace",
            with("            init-38      [001] ...1.     4.881374: lock_acquire: lk_a"),
            "line 801: not a line of a trace: a lock event must name the address of the lock, in hexadecimal",
            true,
        ),
        broken(
            "no-name.trace",
            with("            init-38      [001] ...1.     4.881374: lock_release: ffffffff81b0a450"),
            "line 801: not a line of a trace: a lock event must name the lock after its address",
            true,
        ),
        broken(
            "hidden.trace",
            with("            init-38      [001] ...1.     4.881374: lock_release: (____ptrval____) lk_a"),
            "line 801: not a line of a trace: the kernel printed no address",
            true,
        ),
        broken(
            "overrun.trace",
            with("CPU:1 [LOST 1234 EVENTS]"),
            "line 801: 1234 events of CPU 1 were lost here (the ring buffer was overrun)",
            true,
        ),
        broken("lost.trace", with("CPU:0 [LOST EVENTS]"), "line 801: events of CPU 0 were lost here", true),
        broken("binary.trace", binary, "line 801: this is not text: the line has byte 0x00 in it", true),
        broken("cut.gz", whole[..whole.len() - 500].to_vec(), ": the gzip data is cut off here", true),
        broken("cut-trailer.gz", whole[..whole.len() - 4].to_vec(), ": the gzip data is cut off here", true),
        broken("damaged.gz", damaged, ": the gzip data is damaged here: ", true),
        broken("head.gz", whole[..9].to_vec(), "line 1: the gzip data is cut off here", false),
        broken(
            "elf.trace",
            b"\x7fELF\x02\x01\x01\0\0\n".to_vec(),
            "line 1: this is not text: the line has byte 0x7f",
            false,
        ),
        broken("empty.trace", Vec::new(), ": the file is empty", false),
        broken(
            "prose.trace",
            b"Dear kernel,\n".to_vec(),
            "line 1: not a line of a trace: `TASK-PID [CPU]`",
            false,
        ),
        broken(
            "header.trace",
            format!("{}\n", lines[..12].join("\n")).into_bytes(),
            ": the header speaks of 2739 events and there is none",
            false,
        ),
        broken("comments.trace", b"# tracer: nop\n#\n".to_vec(), ": there is no event in this file", false),
        broken("long.trace", vec![b'x'; 100_000], "line 1: the line is longer than 65536 bytes", false),
    ]
}

#[test]
fn broken_input_is_named_with_its_line_and_what_was_read_before_is_judged() {
    for Broken { name, bytes, message, finding } in broken_files() {
        let path = file(name, &bytes);
        let output = replay(&[&path]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(said.starts_with(&format!("lockdep: {path}: ")), "{name}: {said}");
        assert!(said.contains(message), "{name}: {said}");
        assert_eq!(said.lines().count(), 1, "{name}: {said}");
        assert_eq!(stdout(&output).contains(&format!("{path}:462: init-38")), finding, "{name}");
    }
}

#[test]
fn a_broken_trace_among_good_ones_spoils_nothing() {
    let broken = file("among.trace", b"Dear kernel,\n");
    let good = trace("abba.trace.gz");
    let output = replay(&["--format", "json", &broken, &good, "no/such.trace"]);
    assert_eq!(output.status.code(), Some(2));
    let json = json(&output);
    assert_eq!(json["traces"][1]["findings"][0]["line"], 462);
    let said = stderr(&output);
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.contains("among.trace: line 1: "), "{said}");
    assert!(said.contains("no/such.trace: cannot open it: "), "{said}");
}

#[test]
fn a_folder_is_no_trace() {
    let output = replay(&[TRACES]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).starts_with(&format!("lockdep: {TRACES}: cannot read it: ")),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_trace_is_required() {
    let output = replay(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("<TRACE>..."), "{}", stderr(&output));
}

#[test]
fn mistakes_in_an_annotation_file_are_named_with_their_line() {
    let cases = [
        ("word.classes", "# ok\nlk_a: recursive\n", "line 2: unknown word `recursive`: recursive-read, "),
        (
            "form.classes",
            "lk_a recursive-read\n",
            "line 1: `NAME: WORD, WORD…` or `order: NAME < NAME…` expected",
        ),
        ("name.classes", "*: unchecked\n", "line 1: a name is missing"),
        ("nest.classes", "a: nest=\n", "line 1: a name is missing"),
        ("quote.classes", "\"a: unchecked\n", "line 1: the closing quote of the name is missing"),
        ("order.classes", "order: a\n", "line 1: an order needs two names at least"),
        ("twice.classes", "order: a < b < a\n", "line 1: `a` stands in this order twice"),
    ];
    for (name, text, message) in cases {
        let path = file(name, text.as_bytes());
        let output = replay(&["--classes", &path, &trace("resv_ctx_ok.trace")]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(said.starts_with(&format!("lockdep: {path}: {message}")), "{name}: {said}");
        assert_eq!(said.lines().count(), 1, "{name}: {said}");
    }
    let output = replay(&["--classes", "no/such.classes", &trace("resv_ctx_ok.trace")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).starts_with("lockdep: no/such.classes: "), "{}", stderr(&output));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    // More than a pipe holds.
    let path = trace("abba.trace.gz");
    let mut child = Command::new(env!("CARGO_BIN_EXE_lockdep"))
        .arg("replay")
        .args(std::iter::repeat_n(&path, 60))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(stderr(&output), "");
    assert_eq!(output.status.code(), Some(0));
}
