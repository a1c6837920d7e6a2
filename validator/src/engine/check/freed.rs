// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! `freed`: memory with a held lock in it is freed, or a held lock is initialised anew.
//!
//! Kernel counterpart: `debug_check_no_locks_freed()`, `print_freed_lock_bug()`.

use super::{Engine, Finding, Task, base, plain};
use crate::event::Place;
use crate::report::model::ReportKind;

/// Applies the rule to the range `start..start + len`.
#[must_use]
pub fn check(engine: &Engine, task: &Task, start: u64, len: u64, place: Place) -> Option<Finding> {
    let inside = |instance: u64| instance.wrapping_sub(start) < len;
    let held = task.held().iter().find(|held| inside(held.instance.0))?;
    let conflict = engine.acquired(task, held);
    let summary =
        format!("`{}` is freed or initialised anew while this thread holds it", conflict.lock.class);
    let help = "release the lock before its memory goes away";
    let mut report = base(engine, task, ReportKind::Freed, &conflict.lock.class.clone(), summary, help);
    let mut wanted = conflict.clone();
    wanted.site = place.into();
    report.wanted = Some(wanted);
    report.conflict = Some(conflict);
    Some(plain(report))
}
