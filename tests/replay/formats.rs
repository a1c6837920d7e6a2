// SPDX-License-Identifier: MIT OR Apache-2.0
//! Other tools, other files, and the form of the result.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::{file, first, json, replay, small, stderr, stdout, trace, unpacked, verdicts};

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

/// Prints the events of a trace as another tool does: `convert` gets task, PID, CPU, time, event and text.
fn converted(name: &str, head: &str, convert: fn([&str; 6]) -> String) -> String {
    let text = unpacked(name);
    let events = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (task, rest) = line.split_at(16);
        let (pid, rest) = rest[1..].split_once(' ').expect("a PID");
        let (cpu, rest) = rest.trim_start()[1..].split_once("] ").expect("a CPU");
        let (time, rest) = rest[5..].trim_start().split_once(": ").expect("a time");
        let (event, text) = rest.split_once(": ").expect("an event");
        convert([task.trim_start(), pid, cpu, time, event, text]) + "\n"
    });
    head.to_owned() + &events.collect::<String>()
}

fn as_perf([task, pid, cpu, time, event, text]: [&str; 6]) -> String {
    let task = if task == "<idle>" { "swapper" } else { task };
    let text = if event.starts_with("lock_") { format!("0x{text}") } else { text.to_owned() };
    format!("{task} {pid:>5} [{cpu}] {time:>12}: {:>24}: {text}", format!("group:{event}"))
}

fn as_trace_cmd([task, pid, cpu, time, event, text]: [&str; 6]) -> String {
    let text = if event.starts_with("lock_") { format!("0x{text}") } else { text.to_owned() };
    format!("{task:>16}-{pid:<5} [{cpu}] {time:>12}: {:<20} {text}", format!("{event}:"))
}

#[test]
fn what_perf_and_trace_cmd_print_gets_the_same_verdict() {
    let traces = [
        ("abba.trace.gz", 462, "circular"),
        ("exit_held.trace.gz", 1043, "exit"),
        ("old_policy_self_import.trace.gz", 8826, "recursive"),
        // Contexts from the events around an interrupt, for want of flags.
        ("hardirq_state.trace.gz", 489, "irq-state"),
    ];
    for (name, line, kind) in traces {
        let perf = file("perf.txt", converted(name, "", as_perf).as_bytes());
        let output = replay(&["--format", "json", &perf]);
        assert_eq!(first(&output), Some((line - 12, kind.to_owned())), "perf: {name}: {}", stderr(&output));
        let head = "cpus=2\nCPU 3 is empty\n";
        let trace_cmd = file("trace-cmd.txt", converted(name, head, as_trace_cmd).as_bytes());
        let output = replay(&["--format", "json", &trace_cmd]);
        assert_eq!(
            first(&output),
            Some((line - 10, kind.to_owned())),
            "trace-cmd: {name}: {}",
            stderr(&output)
        );
        let text = stdout(&replay(&[&perf]));
        assert!(text.contains(": note: there is no flags column"), "{text}");
    }
}

#[test]
fn several_files_can_be_one_history() {
    let there = file("there.trace", small("+a +b -b -a").as_bytes());
    let back = file("back.trace", small("+x -x +b +a -a -b").as_bytes());
    assert_eq!(first(&replay(&["--format", "json", &there, &back])), None);
    let output = replay(&["--format", "json", "--together", &there, &back]);
    assert_eq!(first(&output), Some((4, "circular".to_owned())));
    let text = json(&output)["traces"][1]["findings"][0]["text"].as_str().expect("a text").to_owned();
    assert!(text.contains(&format!("-> #0 b -> a (new, by task: 1-9-7 ({back})):")), "{text}");
    assert!(text.contains(&format!("-> #1 a -> b (known, by task: 1-9-7 ({there})):")), "{text}");
    // What is held at the end of one file says nothing about the next.
    let open = file("open.trace", small("+b").as_bytes());
    let take = file("take.trace", small("+a -a").as_bytes());
    assert_eq!(first(&replay(&["--format", "json", "--together", &there, &open, &take])), None);
}

#[test]
fn what_the_kernel_knew_before_may_be_given() {
    let dump = trace("ext/abba.lockdep-before.gz");
    // Without the built-in orders the boot-time order is missing, and the kernel's graph has it.
    let names = file(
        "names.classes",
        b"rcu_*: recursive-read, unchecked\n*seqcount: recursive-read\nconsole_srcu: recursive-read, unchecked\n",
    );
    let path = trace("resv_mmap.trace.gz");
    let args = ["--format", "json", "--no-builtin", "--classes", &names];
    assert_eq!(first(&replay(&[&args[..], &[&path]].concat())), None);
    assert_eq!(
        first(&replay(&[&args[..], &["--prime", &dump, &path]].concat())),
        Some((456, "circular".to_owned()))
    );
    // A declared order does the same.
    let order = file(
        "boot.order",
        b"order: read &mm->mmap_lock < reservation_ww_class_acquire < reservation_ww_class_mutex\n",
    );
    assert_eq!(
        first(&replay(&[&args[..], &["--prime", &order, &path]].concat())),
        Some((456, "circular".to_owned()))
    );
    // And nothing that was silent or found before changes by it.
    for verdict in verdicts() {
        let path = verdict.path.display().to_string();
        let output = replay(&["--format", "json", "--prime", &dump, &path]);
        let wanted = verdict.finding.map(|(kind, line, _)| (line, kind.to_owned()));
        assert_eq!(first(&output), wanted, "{path}");
        assert!(!stdout(&replay(&["--prime", &dump, &path])).contains("left out"), "{path}");
    }
}
