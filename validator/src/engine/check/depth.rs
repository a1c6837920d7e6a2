// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! `depth`: more locks held at one time than can be meant.
//!
//! The stack grows as needed and checking goes on; the report is made once, when the bound is first passed.
//!
//! Kernel counterpart: `MAX_LOCK_DEPTH too low!`, after which the kernel checks nothing any more.

use super::{Engine, Finding, Task, base, plain};
use crate::limits::HELD_DEPTH_REPORT;
use crate::report::model::ReportKind;

/// Applies the rule to the stack after an acquisition.
#[must_use]
pub fn check(engine: &Engine, task: &Task) -> Option<Finding> {
    let chain = task.held();
    if chain.len() != HELD_DEPTH_REPORT || chain.last()?.is_merged() {
        return None;
    }
    let summary = format!("thread `{}` holds {} locks at one time", task.name, chain.len());
    let help = "look for a loop that takes locks and never releases them";
    Some(plain(base(engine, task, ReportKind::Depth, "held", summary, help)))
}
