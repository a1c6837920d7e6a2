// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! `assert-not-held`: the program claims not to hold a lock, and does.
//!
//! Kernel counterpart: `lockdep_assert_not_held()`.

use super::{Engine, Finding, Task, base, plain};
use crate::event::Place;
use crate::ids::{ClassId, Instance};
use crate::report::model::ReportKind;

/// Applies the rule.
#[must_use]
pub fn check(
    engine: &Engine,
    task: &Task,
    instance: Instance,
    _class: ClassId,
    place: Place,
) -> Option<Finding> {
    let held = task.held().iter().rfind(|held| held.instance == instance)?;
    let conflict = engine.acquired(task, held);
    let name = conflict.lock.class.clone();
    let summary = format!("`{name}` must not be held here, and this thread holds it");
    let help = "release the lock before this call";
    let mut report = base(engine, task, ReportKind::AssertNotHeld, &name, summary, help);
    let mut wanted = conflict.clone();
    wanted.site = place.into();
    report.wanted = Some(wanted);
    report.conflict = Some(conflict);
    Some(plain(report))
}
