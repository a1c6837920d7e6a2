// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lockdep bugs`: each bug of the corpus is found in the broken code, and in the fixed there is nothing to find.
#![cfg(feature = "lockdep")]

#[expect(dead_code, reason = "what a report says is for other subcommands")]
mod command;

use std::sync::LazyLock;

use serde_json::Value;

use command::{json, lockdep, word};

/// All of them, run once for several tests.
static ALL: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let (status, bugs) = json("bugs", &["bugs"]);
    assert_eq!(status, 0);
    bugs
});

#[test]
fn every_bug_is_as_expected() {
    let ended = lockdep(&["bugs"]);
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{}", ended.stdout);
    insta::assert_snapshot!("bugs", ended.stdout);
}

#[test]
fn an_expected_report_is_about_the_lock_and_the_function_of_the_bug_and_a_silence_has_its_reason() {
    for bug in &*ALL {
        assert_eq!((&bug["ok"], &bug["fixed_clean"]), (&true.into(), &true.into()), "{bug:#}");
        assert_eq!(word(bug, "expected"), word(bug, "seen"), "{bug:#}");
        assert_eq!(
            (word(&bug["fixed"], "end"), bug["fixed"]["reports"].as_array().unwrap().len()),
            ("done", 0)
        );
        if word(bug, "seen") == "silence" {
            assert!(!word(bug, "silent_because").is_empty(), "{bug:#}");
            assert!(bug["report"].is_null(), "{bug:#}");
        } else {
            assert!(bug["silent_because"].is_null(), "{bug:#}");
            let kind = word(bug, "seen").split('+').next();
            // A report about too many locks is about none of them.
            assert!(bug["report"]["kind"].as_str() == kind || kind == Some("depth"), "{bug:#}");
        }
    }
}

#[test]
fn a_number_chooses_all_cases_of_a_bug_and_an_id_one() {
    let (status, bugs) = json("bugs", &["bugs", "9", "1"]);
    assert_eq!(status, 0);
    let ids: Vec<&str> = bugs.iter().map(|bug| word(bug, "id")).collect();
    assert_eq!(ids, ["1", "9"], "in the order of the corpus");
    assert_eq!((word(&bugs[0]["broken"], "setup"), word(&bugs[0]["fixed"], "setup")), ("P1 B", "P2 B"));
    assert_eq!(word(&bugs[0]["broken"], "end"), "stopped", "it would wait for itself");
}

#[test]
fn what_is_no_bug_is_one_line_with_status_2() {
    for args in [["bugs", "15"], ["bugs", "mmap"]] {
        let ended = lockdep(&args);
        assert_eq!((ended.status, ended.stdout.as_str()), (2, ""));
        let message = format!("lockdep: unknown bug `{}`: it is one of 1, 2, 3, 4, 5, ", args[1]);
        assert!(ended.stderr.starts_with(&message), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
}

#[test]
fn what_is_not_run_is_listed_with_its_reason() {
    let (status, listed) = json("not_run", &["bugs", "36"]);
    assert_eq!(status, 0);
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0]["number"], word(&listed[0], "expected")), (&36.into(), "silence"));
    assert!(word(&listed[0], "silent_because").contains("use after free"));
}

#[test]
fn what_our_validator_can_be_told_makes_a_silent_bug_heard() {
    let numbers = |wanted: &str| -> Vec<_> {
        let told = |bug: &&Value| word(bug, "id").ends_with(wanted);
        ALL.iter().filter(told).map(|bug| bug["number"].as_u64().unwrap()).collect()
    };
    for (told, expected) in [("-guard", [11, 45, 46].as_slice()), ("-wait", &[17, 39]), ("-sig", &[41, 42])] {
        assert_eq!(numbers(told), expected, "{told}");
        for number in expected {
            let id = number.to_string();
            let seen = |id: &str| ALL.iter().find(|bug| word(bug, "id") == id).map(|bug| word(bug, "seen"));
            assert_eq!(seen(&id), Some("silence"));
            assert_ne!(seen(&format!("{id}{told}")), Some("silence"));
        }
    }
}
