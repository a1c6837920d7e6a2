// SPDX-License-Identifier: MIT OR Apache-2.0
//! The real binary, and what its reports say, for the tests of several subcommands.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// How a command ended, and what it wrote.
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the command.
pub(crate) fn lockdep(args: &[&str]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_lockdep"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the binary was built for this test");
    Ended {
        status: output.status.code().expect("ends by itself"),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// Runs it for JSON: the status, and the list under this name.
pub(crate) fn json(list: &str, args: &[&str]) -> (i32, Vec<Value>) {
    let ended = lockdep(&[args, &["--format", "json"]].concat());
    let document: Value = serde_json::from_str(&ended.stdout)
        .unwrap_or_else(|error| panic!("{error}\n{}\n{}", ended.stdout, ended.stderr));
    let list = document[list].as_array().unwrap_or_else(|| panic!("no {list} in {document:#}"));
    (ended.status, list.clone())
}

/// A field that is a string.
pub(crate) fn word<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_else(|| panic!("{field} is a string in {object:#}"))
}

/// A field that is a list of strings.
pub(crate) fn words<'a>(object: &'a Value, field: &str) -> Vec<&'a str> {
    let list = object[field].as_array().unwrap_or_else(|| panic!("{field} is a list in {object:#}"));
    list.iter().map(|item| item.as_str().expect("a string")).collect()
}

/// Lock name and function of each line of a report that names both, in order: what is wanted, what it is at odds
/// with, what is held. Works on a kernel's report and on ours.
pub(crate) fn facts(report: &str) -> Vec<(String, String)> {
    report
        .lines()
        .filter_map(|line| {
            let (lock, place) = line.split_once("at: ")?;
            let name = lock.split_once('(')?.1.split_once(')')?.0;
            let function = place.split(['+', ' ']).next()?;
            Some((name.to_owned(), function.to_owned()))
        })
        .collect()
}

/// The report that a real kernel printed in this program when the dma-buf core held the lock around mmap.
pub(crate) fn old_policy_report(program: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/old-policy/{program}.log"));
    std::fs::read_to_string(path).expect("part of the repository")
}
