// SPDX-License-Identifier: MIT OR Apache-2.0
//! Verdicts: the kernel's on recorded traces, and ours on what a trace leaves open.

use serde_json::Value;

use crate::{file, first, json, replay, small, stderr, stdout, trace, verdicts};

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
fn many_reservations_under_one_context_are_fine() {
    let instances = (0u64..200).map(|n| {
        format!("  t-7 [000] ..... 1.0: lock_acquire: {:x} reservation_ww_class_mutex\n", 0xff00 + n)
    });
    let context = "  t-7 [000] ..... 1.0: lock_acquire: ff reservation_ww_class_acquire\n".to_owned();
    let path = file("many.trace", std::iter::once(context).chain(instances).collect::<String>().as_bytes());
    let output = replay(&["--format", "json", &path]);
    assert_eq!((first(&output), stderr(&output)), (None, String::new()));
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
