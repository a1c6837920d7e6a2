// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lockdep stress` through the real binary. What a run checks is tested with the models.
#![cfg(feature = "lockdep")]

#[expect(dead_code, reason = "what a report says is for other subcommands")]
mod command;

use command::lockdep;

#[test]
fn the_seed_is_printed_first_and_the_verdict_last() {
    let ended = lockdep(&["stress", "--seed", "5", "--ops", "120", "--faults"]);
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{}", ended.stdout);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines[0], "seed 5: 120 operations on 4 threads, policy P2 C, with failures");
    assert_eq!(lines.last(), Some(&"nothing lost, nothing left behind, nothing found"));
    let again = lockdep(&["stress", "--seed", "5", "--ops", "120", "--faults"]);
    let numbers = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned)).collect()
    };
    assert_eq!(numbers(&ended.stdout), numbers(&again.stdout), "each thread does the same again");
}

#[test]
fn without_a_seed_each_run_has_another_and_tells_it() {
    let seed = || {
        let ended = lockdep(&["stress", "--ops", "20", "--format", "json"]);
        assert_eq!(ended.status, 0, "{}", ended.stdout);
        let document: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
        let stress = &document["stress"];
        assert_eq!((stress["ok"].as_bool(), stress["ops"].as_u64()), (Some(true), Some(20)));
        let operations = stress["operations"].as_array().expect("a list");
        let done: u64 = operations.iter().filter_map(|kind| kind["done"].as_u64()).sum();
        assert_eq!(done, 20, "nothing is made to fail unless that is asked for");
        stress["seed"].as_u64().expect("a number")
    };
    assert_ne!(seed(), seed());
}

#[test]
fn a_finding_is_status_1() {
    // Pinning asserts a lock there that nobody takes.
    let ended = lockdep(&["stress", "--seed", "1", "--ops", "200", "--shmem", "B0"]);
    assert_eq!(ended.status, 1, "{}", ended.stdout);
    assert!(ended.stdout.ends_with("NOT CLEAN: done; found: assert-held\n"), "{}", ended.stdout);
}

#[test]
fn a_mistake_is_status_2() {
    let ended = lockdep(&["stress", "--policy", "P1"]);
    assert_eq!((ended.status, ended.stdout.as_str()), (2, ""));
    assert!(ended.stderr.contains("a thread that maps a dma-buf waits for itself"), "{}", ended.stderr);
    assert_eq!(lockdep(&["stress", "--threads", "0"]).status, 2);
    assert_eq!(lockdep(&["stress", "--threads", "65"]).status, 2);
    assert_eq!(lockdep(&["stress", "--seed", "x"]).status, 2);
}
