// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lockdep diff`: a change of policy, seen in what the models do.
#![cfg(feature = "lockdep")]

#[expect(dead_code, reason = "what a report says is for other subcommands")]
mod command;

use command::{json, lockdep, word};

/// The patches that moved the locking of mmap to the exporters, file by file: the core lets go, the exporters no
/// longer assert. fastrpc, which they forgot, is a finding instead.
#[test]
fn from_p1_to_p2_the_core_lets_go_and_each_exporter_stops_asserting() {
    let ended = lockdep(&["diff", "P1:B", "P2:B"]);
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
    insta::assert_snapshot!("diff-P1-P2", ended.stdout);
}

#[test]
fn with_the_helper_moved_to_the_reservation_lock_it_takes_that_in_mmap_and_in_the_fault() {
    let (status, files) = json("files", &["diff", "p1:a", "p2:b"]);
    assert_eq!(status, 0);
    let helper = files.iter().find(|file| word(file, "file").ends_with("/gem_shmem_helper.rs")).unwrap();
    let has = |list: &str, what: &str| helper[list].as_array().unwrap().iter().any(|line| line == what);
    for function in ["drm_gem_shmem_mmap", "drm_gem_shmem_fault", "drm_gem_shmem_vm_open"] {
        assert!(has("come", &format!("{function} takes reservation_ww_class_mutex")), "{helper:#}");
    }
    assert!(has("gone", "drm_gem_shmem_fault takes &shmem->pages_lock"), "{helper:#}");
}

#[test]
fn between_equals_nothing_changes() {
    let ended = lockdep(&["diff", "P2", "P2:C"]);
    assert!(!ended.stdout.contains("changes"), "{}", ended.stdout);
    assert_eq!(ended.stdout.matches("    the same").count(), 2, "{}", ended.stdout);
}

#[test]
fn what_is_no_policy_is_one_line_with_status_2() {
    for (args, message) in [
        (["P1", "P9"], "unknown policy `P9`: it is one of P0, P1, P2"),
        (["P1:X", "P2"], "unknown shmem regime `X`"),
    ] {
        let ended = lockdep(&["diff", args[0], args[1]]);
        assert_eq!((ended.status, ended.stdout.as_str()), (2, ""));
        assert!(ended.stderr.contains(message), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
}
