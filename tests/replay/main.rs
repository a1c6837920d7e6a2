// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lockdep replay` on recorded kernel traces, against the kernel's own verdicts, and on everything that is not a
//! trace.
#![cfg(feature = "lockdep")]

mod broken;
mod formats;
mod verdicts;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flate2::read::GzDecoder;
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

/// The first finding of a run: its line and its kind.
fn first(output: &Output) -> Option<(u64, String)> {
    let json = json(output);
    let finding = json["traces"].as_array()?.last()?["findings"].as_array()?.first()?.clone();
    Some((finding["line"].as_u64()?, finding["kind"].as_str()?.to_owned()))
}
