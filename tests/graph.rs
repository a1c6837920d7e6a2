// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lockdep graph`: the order that the models teach is the documented one, and the command tells where it is not.
#![cfg(feature = "lockdep")]

#[expect(dead_code, reason = "what a report says is for other subcommands")]
mod command;

use std::fs;
use std::path::Path;

use command::{json, lockdep, word};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/locking-order.txt");

/// A file with this text.
fn file(name: &str, text: &str) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).unwrap();
    path.into_os_string().into_string().unwrap()
}

#[test]
fn what_the_models_teach_is_documented_and_what_is_documented_is_taught() {
    let ended = lockdep(&["graph", "--against", DOCUMENT]);
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{}", ended.stdout);
}

#[test]
fn a_document_that_says_too_little_or_too_much_fails() {
    let good = fs::read_to_string(DOCUMENT).unwrap();
    let shorter = good.replace("&fence->lock -> &dmabuf->poll\n", "");
    assert_ne!(shorter, good);
    let said = |text: &str| {
        let ended = lockdep(&["graph", "--against", &file("locking-order", text)]);
        assert_eq!(ended.status, 1);
        ended.stdout
    };
    assert_eq!(said(&shorter), "learned, and not documented:\n&fence->lock -> &dmabuf->poll\n\n");
    let longer = format!("{good}&dmabuf->poll -> &q->mmap_lock\n");
    assert_eq!(said(&longer), "documented, and not learned:\n&dmabuf->poll -> &q->mmap_lock\n\n");
}

#[test]
fn every_pair_is_in_the_json_and_the_written_ones_are_marked() {
    let (status, edges) = json("edges", &["graph", "S3", "M1"]);
    assert_eq!(status, 0);
    let has = |from: &str, to: &str, implied: bool| {
        edges.iter().any(|e| word(e, "from") == from && word(e, "to") == to && e["implied"] == implied)
    };
    assert!(has("&mm->mmap_lock", "reservation_ww_class_acquire", false), "{edges:#?}");
    assert!(has("&mm->mmap_lock", "reservation_ww_class_mutex", true), "{edges:#?}");
}

#[test]
fn pictures_have_the_classes_in_them() {
    let dot = lockdep(&["graph", "--format", "dot"]).stdout;
    assert!(dot.contains("\"&q->mmap_lock\" -> \"reservation_ww_class_mutex\";"), "{dot}");
    let svg = lockdep(&["graph", "--format", "svg"]).stdout;
    assert!(svg.starts_with("<?xml"), "{svg}");
    assert!(svg.contains("reservation_ww_class_mutex"), "{svg}");
}

#[test]
fn under_p1_the_graph_has_what_p2_has_not() {
    let text = lockdep(&["graph", "--policy", "P1", "--shmem", "A"]).stdout;
    assert!(text.contains("&shmem->pages_lock"), "regime A has mutexes of its own: {text}");
}

#[test]
fn mistakes_are_one_line_with_status_2() {
    let bad = &file("bad-order", "a -> b\nnonsense\n");
    let expected: [(&[&str], &str); 4] = [
        (&["graph", "--against", "/no/such/file"], "cannot read /no/such/file"),
        (&["graph", "--against", bad], "bad-order:2: expected `outer class -> inner class, inner class`"),
        (&["graph", "Q99"], "unknown scenario `Q99`"),
        (&["graph", "--shmem", "D"], "unknown shmem regime `D`"),
    ];
    for (args, message) in expected {
        let ended = lockdep(args);
        assert_eq!((ended.status, ended.stdout.as_str()), (2, ""), "{args:?}");
        assert!(ended.stderr.contains(message), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
}
