// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! The rules, one file each, named as their report kind. A rule is a function over the engine's state that
//! returns a finding or nothing; it changes nothing and prints nothing.

pub mod assert_held;
pub mod assert_not_held;
pub mod balance;
pub mod circular;
pub mod depth;
pub mod exit;
pub mod freed;
pub mod nest_missing;
pub mod recursive;
pub mod user_return;

use super::{Engine, Finding, HeldLock, Task};
use crate::event::Place;
use crate::report::model::{Report, ReportKind, Severity};

/// What makes two findings one: the signature, and, except for cycles (where the signature says it all), the
/// two places, because one class can be misused at several.
pub(super) fn identity(report: &Report) -> (String, Place, Place) {
    let place = |acquired: &Option<crate::report::model::Acquired>| match acquired {
        Some(acquired) if report.kind != ReportKind::Circular => acquired.site.place,
        _ => Place::Unknown,
    };
    (report.signature.clone(), place(&report.wanted), place(&report.conflict))
}

/// A report with what every kind has.
fn base(
    engine: &Engine,
    task: &Task,
    kind: ReportKind,
    signature: &str,
    summary: String,
    help: &str,
) -> Report {
    Report {
        kind,
        severity: Severity::Error,
        signature: format!("{kind}:{signature}"),
        summary,
        task: task.name.clone(),
        wanted: None,
        asserted: None,
        conflict: None,
        edges: Vec::new(),
        held: task.held().iter().map(|held| engine.acquired(task, held)).collect(),
        stack: None,
        help: help.to_owned(),
        certain: false,
    }
}

/// A finding without edges.
fn plain(report: Report) -> Finding {
    Finding { report, edges: Vec::new() }
}

/// The classes of all held locks, for a signature.
fn held_classes(engine: &Engine, held: &[HeldLock]) -> String {
    let mut names: Vec<_> =
        held.iter().map(|held| engine.classes().get(held.bits.class()).display_name()).collect();
    names.dedup();
    names.join(",")
}
