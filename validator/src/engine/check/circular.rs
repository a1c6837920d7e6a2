// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! `circular`: a new dependency closes a cycle.
//!
//! The search is [`Graph::find_path`](crate::engine::graph::Graph); this file turns its path into a report. The
//! signature is the cycle of class names and strengths, started at the smallest name, so it is the same from
//! whichever side the cycle was closed.
//!
//! Kernel counterpart: `check_noncircular()`, `print_circular_bug()`.

use super::{Engine, Finding, HeldLock, Task, base, edge};
use crate::engine::graph::{Dependency, EdgeId};
use crate::report::model::ReportKind;

/// The report on `held → new`, with `path` leading from `new` back to `held`.
pub(in crate::engine) fn report(
    engine: &Engine,
    task: &Task,
    held: &HeldLock,
    new: &HeldLock,
    closing: &Dependency,
    path: &[EdgeId],
) -> Finding {
    let dependencies: Vec<&Dependency> =
        std::iter::once(closing).chain(path.iter().map(|edge| engine.graph().edge(*edge))).collect();
    let wanted = engine.acquired(task, new);
    let conflict = engine.acquired(task, held);
    let mut round: Vec<&str> = vec![&conflict.lock.class];
    let names: Vec<String> =
        dependencies.iter().map(|hop| engine.classes().get(hop.to).display_name()).collect();
    round.extend(names.iter().map(String::as_str));
    let summary = format!(
        "`{}` is taken while `{}` is held, but elsewhere the order is the other way round ({}): \
         threads that do both at the same time wait for each other",
        wanted.lock.class,
        conflict.lock.class,
        round.join(" → "),
    );
    let help = "agree on one order for these locks, or release the first before taking the second";
    let mut report =
        base(engine, task, ReportKind::Circular, &signature(engine, &dependencies), summary, help);
    report.edges =
        dependencies.iter().enumerate().map(|(i, dependency)| edge(engine, dependency, i == 0)).collect();
    report.wanted = Some(wanted);
    report.conflict = Some(conflict);
    let edges = std::iter::once(None).chain(path.iter().copied().map(Some)).collect();
    Finding { report, edges }
}

fn signature(engine: &Engine, cycle: &[&Dependency]) -> String {
    let mut hops: Vec<String> = cycle
        .iter()
        .map(|hop| format!("{}-{}>", engine.classes().get(hop.from).display_name(), hop.strength.letters()))
        .collect();
    let first = (0..hops.len()).min_by_key(|at| hops[*at].clone()).unwrap_or(0);
    hops.rotate_left(first);
    hops.concat()
}
