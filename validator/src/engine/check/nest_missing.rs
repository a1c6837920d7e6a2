// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! `nest-missing`: the lock that is said to serialise a nesting is not held by this task.
//!
//! Checked at each nested acquisition, and again when a release below one makes the chain anew (a ww context
//! that is finished while its locks are still held).
//!
//! Kernel counterpart: `check_nest_lock()`/`print_lock_nested_lock_not_held()`.

use super::{Engine, Finding, HeldLock, Task, base, plain};
use crate::report::model::ReportKind;

/// Applies the rule to an acquisition that is not on the stack yet.
#[must_use]
pub fn check(engine: &Engine, task: &Task, new: &HeldLock) -> Option<Finding> {
    if !new.bits.nest() || task.holds(new.nest) {
        return None;
    }
    let name = engine.lock_name(new.bits.class(), new.instance).class;
    let summary = format!("`{name}` is taken as nested under a lock that this thread does not hold");
    let help = "take the nest lock (the acquire context) first, and release it last";
    let mut report = base(engine, task, ReportKind::NestMissing, &name, summary, help);
    report.wanted = Some(engine.acquired(task, new));
    Some(plain(report))
}
