// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! `exit`: a task ends with locks held.
//!
//! Kernel counterpart: `debug_check_no_locks_held()`, `print_held_locks_bug()`.

use super::{Engine, Finding, Task, base, held_classes, plain};
use crate::event::Place;
use crate::report::model::ReportKind;

/// Applies the rule to a task that ends.
#[must_use]
pub fn check(engine: &Engine, task: &Task, _place: Place) -> Option<Finding> {
    let first = task.held().first()?;
    let names = held_classes(engine, task.held());
    let summary =
        format!("thread `{}` ends while it holds `{names}`: nobody can release it any more", task.name);
    let help = "look for a guard that was forgotten, or an unlock that an early return leaves out";
    let mut report = base(engine, task, ReportKind::Exit, &names, summary, help);
    report.conflict = Some(engine.acquired(task, first));
    Some(plain(report))
}
