// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! `irq-order`: a new dependency joins a class that is used in an interrupting context to one that is taken
//! with that context enabled.
//!
//! Three searches, as in the kernel: which contexts do the classes before the new dependency serve in; is there
//! a class after it that is taken with one of these enabled; and which class before it is that one's partner,
//! in that very context.
//!
//! Kernel counterpart: `check_irq_usage()`, `print_bad_irq_dependency()`.

use super::{Finding, HeldLock, Task, base, edge, interrupt, known, with_usages};
use crate::engine::Engine;
use crate::engine::search::{Arrived, Direction};
use crate::engine::usage::CONTEXTS;
use crate::engine::{Dependency, Graph};
use crate::event::Context;
use crate::report::model::ReportKind;

/// Applies the rule to the dependency `held → new`, which is not in the graph yet.
pub(in crate::engine) fn check(
    engine: &mut Engine,
    task: &Task,
    held: &HeldLock,
    new: &HeldLock,
    joining: &Dependency,
) -> Option<Finding> {
    if !CONTEXTS.into_iter().any(|context| engine.classes().any_used(context, false)) {
        return None;
    }
    let Engine { graph, classes, .. } = engine;
    let skip = |_: &Graph, class| classes.get(class).skips_irq_rules();
    let before = Arrived::holding(held.bits.class(), held.bits.mode());
    let after = Arrived::waiting(new.bits.class(), new.bits.mode());
    let used_in = |at: Arrived, context| classes.get(at.class).usage.any(context, false, !at.is_weak());
    let enabled = |at: Arrived, context| classes.get(at.class).usage.any(context, true, !at.is_weak());

    let mut served: Vec<Context> = Vec::new();
    graph.search(Direction::Backward, before, skip, |at| {
        served.extend(CONTEXTS.into_iter().filter(|context| used_in(at, *context)));
        false
    });
    if served.is_empty() {
        return None;
    }
    let (unsafe_end, path_after) = graph
        .search(Direction::Forward, after, skip, |at| served.iter().any(|context| enabled(at, *context)))?;
    let contexts: Vec<Context> =
        CONTEXTS.into_iter().filter(|c| served.contains(c) && enabled(unsafe_end, *c)).collect();
    let (safe_end, path_before) = graph.search(Direction::Backward, before, skip, |at| {
        contexts.iter().any(|context| used_in(at, *context))
    })?;
    let context = contexts.into_iter().find(|context| used_in(safe_end, *context))?;

    let name = |class| engine.classes().get(class).display_name();
    let (safe_name, unsafe_name) = (name(safe_end.class), name(unsafe_end.class));
    let interrupt = interrupt(context);
    let summary = format!(
        "`{safe_name}` is taken in a {interrupt}, `{unsafe_name}` with that interrupt enabled, and taking `{}` \
         under `{}` makes the one wait for the other: the interrupt can wait for ever",
        name(joining.to),
        name(joining.from),
    );
    let help = "do not take the second lock under the first, or switch the interrupt off wherever the second is taken";
    let signature = format!("{safe_name}>{unsafe_name}:{}-{}", name(joining.from), name(joining.to));
    let mut report = base(engine, task, ReportKind::IrqOrder, &signature, summary, help);
    report.edges = path_before
        .iter()
        .map(|hop| known(engine, *hop))
        .chain([edge(engine, joining, true)])
        .chain(path_after.iter().map(|hop| known(engine, *hop)))
        .collect();
    report.wanted = Some(engine.acquired(task, new));
    report.conflict = Some(engine.acquired(task, held));
    let edges =
        path_before.into_iter().map(Some).chain([None]).chain(path_after.into_iter().map(Some)).collect();
    let finding = Finding { report, edges, usages: Vec::new() };
    Some(with_usages(engine, finding, context, safe_end.class, unsafe_end.class))
}
