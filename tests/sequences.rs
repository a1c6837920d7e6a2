// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the models lock, held against what a real kernel's drivers locked (`data/sequences`).

#[cfg(feature = "lockdep")]
#[path = "sequences/differences.rs"]
mod differences;
#[cfg(feature = "lockdep")]
#[path = "sequences/edges.rs"]
mod edges;
#[cfg(feature = "lockdep")]
#[path = "sequences/recorded.rs"]
mod recorded;

use std::path::{Path, PathBuf};

use instrumented_drivers::scenario::sequence::Sequence;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sequences")
}

/// A recorded sequence, as text without its comments and as data.
fn read(path: &Path) -> (String, Sequence) {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let sequence = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n"));
    (lines.collect(), sequence)
}

#[test]
fn every_recorded_sequence_is_read_and_written_back_unchanged() {
    let files = std::fs::read_dir(folder()).expect("the folder is part of the repository");
    let paths: Vec<PathBuf> = files.map(|entry| entry.expect("readable").path()).collect();
    assert!(paths.len() >= 12, "only {} files", paths.len());
    for path in paths {
        let (text, sequence) = read(&path);
        assert_eq!(sequence.to_string(), text, "{}", path.display());
    }
}
