// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! `balance`: a lock is released (or downgraded) that this task does not hold.
//!
//! Kernel counterpart: `print_unlock_imbalance_bug()`.

use super::{Engine, Finding, Task, base, plain};
use crate::event::{Mode, Place};
use crate::ids::Instance;
use crate::report::model::{Acquired, LockName, ReportKind};

/// The report on a release that was not found on the stack.
#[must_use]
pub fn check(engine: &Engine, task: &Task, instance: Instance, place: Place) -> Finding {
    let summary = if task.held().is_empty() {
        "a lock is released by a thread that holds no lock at all".to_owned()
    } else {
        "a lock is released that this thread does not hold".to_owned()
    };
    let help = "look for a second release on this path, or for the lock that was meant";
    let mut report = base(engine, task, ReportKind::Balance, "release", summary, help);
    report.wanted = Some(Acquired {
        lock: LockName {
            class: "(not held)".to_owned(),
            instance,
            usage: String::new(),
            waits: None,
            event: false,
        },
        mode: Mode::Write,
        trylock: false,
        site: place.into(),
        task: task.name.clone(),
        stack: None,
    });
    plain(report)
}
