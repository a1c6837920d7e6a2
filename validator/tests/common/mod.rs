// SPDX-License-Identifier: MIT OR Apache-2.0
//! What several test programs need.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::process::{Command, Output};

use lockdep::{PanicOn, Validator};

/// The environment variable that tells a test program to play a child.
const PART: &str = "LOCKDEP_TEST_PART";

/// This test program again, to run `test` alone in the part `part`, with these environment variables.
pub(crate) fn command(test: &str, part: &str, variables: &[(&str, &str)]) -> Command {
    let program = std::env::current_exe().expect("the test program");
    let mut command = Command::new(program);
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(PART, part);
    command.env_remove("LOCKDEP").env_remove("LOCKDEP_STACKS").env("RUST_BACKTRACE", "0");
    command.envs(variables.iter().copied());
    command
}

/// Runs it.
pub(crate) fn play(test: &str, part: &str, variables: &[(&str, &str)]) -> Output {
    command(test, part, variables).output().expect("the test program runs")
}

/// The part that this process is to play, if it is a child.
pub(crate) fn part() -> Option<String> {
    std::env::var(PART).ok()
}

/// What a process wrote to standard error.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The kinds of what a validator has found.
pub(crate) fn kinds(v: &Validator) -> Vec<&'static str> {
    v.reports().iter().map(|report| report.kind().name()).collect()
}

/// A validator that never panics.
pub(crate) fn lenient() -> Validator {
    Validator::builder().panic_on(PanicOn::Never).build()
}

/// A validator that panics at every finding.
pub(crate) fn severe() -> Validator {
    Validator::builder().panic_on(PanicOn::Finding).build()
}

/// The message of a caught panic.
pub(crate) fn message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_default()
}
