// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! `user-return`: a task returns to user space with locks held.
//!
//! Kernel counterpart: `lockdep_sys_exit()`.

use super::{Engine, Finding, Task, base, held_classes, plain};
use crate::event::Place;
use crate::report::model::ReportKind;

/// Applies the rule to a task that returns.
#[must_use]
pub fn check(engine: &Engine, task: &Task, _place: Place) -> Option<Finding> {
    let first = task.held().first()?;
    let names = held_classes(engine, task.held());
    let summary = format!("thread `{}` returns to user space while it holds `{names}`", task.name);
    let help = "each system call must release what it took, on its error paths too";
    let mut report = base(engine, task, ReportKind::UserReturn, &names, summary, help);
    report.conflict = Some(engine.acquired(task, first));
    Some(plain(report))
}
