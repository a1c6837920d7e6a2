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
pub mod irq_inversion;
pub mod irq_order;
pub mod irq_state;
pub mod key;
pub mod nest_missing;
pub mod pin;
pub mod rcu;
pub mod recursive;
pub mod subclass;
pub mod user_return;
pub mod wait_context;
pub mod ww_api;

use std::sync::Arc;

use super::usage::Fact;
use super::{Dependency, EdgeId, End, Engine, Finding, HeldLock, Task};
use crate::event::{Context, Mode, Place};
use crate::ids::{ClassId, Instance};
use crate::report::model::{Acquired, Edge, Report, ReportKind, Severity, Used};

/// See [`identity`].
pub(super) type Identity = (String, Severity, Place, Place);

/// What makes two findings one: the signature, and, except for cycles (where the signature says it all), the
/// two places, because one class can be misused at several.
pub(super) fn identity(report: &Report) -> Identity {
    let place = |acquired: &Option<Acquired>| match acquired {
        Some(acquired) if report.kind != ReportKind::Circular => acquired.site.place,
        _ => Place::Unknown,
    };
    (report.signature.clone(), report.severity, place(&report.wanted), place(&report.conflict))
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
        tags: Vec::new(),
        signature: format!("{kind}:{signature}"),
        summary,
        task: task.name.clone(),
        wanted: None,
        asserted: None,
        misuse: None,
        conflict: None,
        edges: Vec::new(),
        usages: Vec::new(),
        held: task.held().iter().map(|held| engine.acquired(task, held)).collect(),
        stack: None,
        help: help.to_owned(),
        certain: false,
    }
}

/// The finding that one lock is used as it must not be. Its signature has no place, and no number that is in `what`.
fn misused(
    engine: &Engine,
    task: &Task,
    kind: ReportKind,
    (class, instance): (ClassId, Instance),
    what: &str,
    help: &str,
    place: Place,
) -> Finding {
    let lock = engine.lock_name(class, instance);
    let name = lock.class.clone();
    let held = task.held().iter().rfind(|held| held.instance == instance);
    let mut report = base(engine, task, kind, &name, format!("`{name}` {what}"), help);
    report.wanted = Some(Acquired {
        lock,
        mode: Mode::Write,
        trylock: false,
        site: place.into(),
        task: task.name.clone(),
        stack: None,
    });
    report.conflict = held.map(|held| engine.acquired(task, held));
    plain(report)
}

/// A finding without edges.
fn plain(report: Report) -> Finding {
    Finding { report, edges: Vec::new(), usages: Vec::new() }
}

/// One end of a dependency as reports show it.
fn end(engine: &Engine, class: ClassId, end: &End, task: &Arc<str>) -> Acquired {
    Acquired {
        lock: engine.lock_name(class, end.instance),
        mode: end.mode,
        trylock: end.trylock,
        site: end.place.into(),
        task: task.clone(),
        stack: None,
    }
}

/// A dependency as reports show it.
fn edge(engine: &Engine, dependency: &Dependency, new: bool) -> Edge {
    Edge {
        from: end(engine, dependency.from, &dependency.held, &dependency.task),
        to: end(engine, dependency.to, &dependency.taken, &dependency.task),
        stack: None,
        new,
    }
}

/// A known dependency as reports show it.
fn known(engine: &Engine, id: EdgeId) -> Edge {
    edge(engine, &dependency(engine, id), false)
}

/// A known dependency.
fn dependency(engine: &Engine, id: EdgeId) -> Dependency {
    engine.dependency(id).expect("a known edge")
}

/// Puts into a finding the facts of this context that make it one: that one class is used inside, and the other (or the
/// same) with it enabled. Of each, writing first.
fn with_usages(
    engine: &Engine,
    mut finding: Finding,
    context: Context,
    inside: ClassId,
    outside: ClassId,
) -> Finding {
    for (class, enabled) in [(inside, false), (outside, true)] {
        let first = [false, true]
            .into_iter()
            .find_map(|read| engine.first_use(class, Fact { context, enabled, read }));
        if let Some(first) = first {
            let by = end(engine, class, &first.by, &first.task);
            finding.report.usages.push(Used { state: first.fact.to_string(), by, stack: None });
            finding.usages.push((class, first.fact));
        }
    }
    finding
}

/// The context's word in sentences.
fn interrupt(context: Context) -> &'static str {
    match context {
        Context::HardIrq => "hard interrupt",
        Context::SoftIrq => "soft interrupt",
    }
}

/// The classes of all held locks, for a signature.
fn held_classes(engine: &Engine, held: &[HeldLock]) -> String {
    let mut names: Vec<_> =
        held.iter().map(|held| engine.classes().get(held.bits.class()).display_name()).collect();
    names.dedup();
    names.join(",")
}
