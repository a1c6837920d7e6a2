// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! `circular`: a new dependency closes a cycle.
//!
//! The search is [`Graph::find_path`](crate::engine::graph::Graph); this file turns its path into a report. The
//! signature is the cycle of class names and strengths, started at the smallest name, so it is the same from
//! whichever side the cycle was closed.
//!
//! Kernel counterpart: `check_noncircular()`, `print_circular_bug()`.

use super::{Engine, Finding, HeldLock, Task, base, dependency, edge, plain};
use crate::engine::sight;
use crate::engine::{Dependency, EdgeId};
use crate::report::model::{ReportKind, Severity};

/// The report on `held → new`, with `path` leading from `new` back to `held`.
pub(in crate::engine) fn report(
    engine: &Engine,
    task: &Task,
    held: &HeldLock,
    new: &HeldLock,
    closing: &Dependency,
    path: &[EdgeId],
) -> Finding {
    let help = "agree on one order for these locks, or release the first before taking the second";
    let mut report = base(engine, task, ReportKind::Circular, "", String::new(), help);
    report.wanted = Some(engine.acquired(task, new));
    report.conflict = Some(engine.acquired(task, held));
    if engine.classes().get(closing.from).is_event() {
        // What the task does is to let the event happen, and what it holds is the lock.
        std::mem::swap(&mut report.wanted, &mut report.conflict);
    }
    describe(engine, plain(report), closing, path)
}

/// The report on a cycle that was excused until now, with the path that no guard excuses.
pub(in crate::engine) fn unguarded(
    engine: &Engine,
    mut excused: Finding,
    closing: &Dependency,
    path: &[EdgeId],
) -> Finding {
    excused.report.severity = Severity::Error;
    describe(engine, excused, closing, path)
}

/// Fills in what depends on the path.
fn describe(engine: &Engine, finding: Finding, closing: &Dependency, path: &[EdgeId]) -> Finding {
    let mut report = finding.report;
    let known = path.iter().map(|edge| dependency(engine, *edge));
    let dependencies: Vec<Dependency> = std::iter::once(closing.clone()).chain(known).collect();
    let name = |class| engine.classes().get(class).display_name();
    let round: Vec<String> =
        std::iter::once(closing.from).chain(dependencies.iter().map(|hop| hop.to)).map(name).collect();
    let is_event = |class| engine.classes().get(class).is_event();
    let (from, to, round) = (name(closing.from), name(closing.to), round.join(" → "));
    report.summary = if is_event(closing.from) {
        format!(
            "`{from}` happens while `{to}` is held, but elsewhere it is waited for by who keeps `{to}` away ({round}): \
             then it never happens"
        )
    } else {
        let done = if is_event(closing.to) { "waited for" } else { "taken" };
        format!(
            "`{to}` is {done} while `{from}` is held, but elsewhere the order is the other way round ({round}): \
             threads that do both at the same time wait for each other"
        )
    };
    report.signature = format!("{}:{}", ReportKind::Circular, signature(engine, &dependencies));
    report.edges =
        dependencies.iter().enumerate().map(|(i, dependency)| edge(engine, dependency, i == 0)).collect();
    report.tags = sight::tags(&dependencies.iter().map(|hop| &hop.tasks).collect::<Vec<_>>());
    if dependencies.iter().any(|hop| is_event(hop.from)) {
        report.tags.push("event");
        report.help = "wait before taking the lock, or let the event happen without it".to_owned();
    }
    let edges = std::iter::once(None).chain(path.iter().copied().map(Some)).collect();
    Finding { report, edges, usages: Vec::new() }
}

fn signature(engine: &Engine, cycle: &[Dependency]) -> String {
    let mut hops: Vec<String> = cycle
        .iter()
        .map(|hop| format!("{}-{}>", engine.classes().get(hop.from).display_name(), hop.strength.letters()))
        .collect();
    let first = (0..hops.len()).min_by_key(|at| hops[*at].clone()).unwrap_or(0);
    hops.rotate_left(first);
    hops.concat()
}
