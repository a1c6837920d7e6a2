// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! `irq-inversion`: a class is newly used in (or newly taken with) an interrupting context, and a known path
//! connects it to a class on the other side: the interrupt waits for the first lock, whose holder waits for the
//! second, whose holder was interrupted.
//!
//! Where the path is weak at its far end, only writers there count. Per-CPU classes carry no inversion.
//!
//! Kernel counterpart: `check_usage_forwards()`, `check_usage_backwards()`, `print_irq_inversion_bug()`.

use super::{Finding, HeldLock, Task, base, interrupt, known, with_usages};
use crate::engine::Engine;
use crate::engine::Graph;
use crate::engine::search::{Arrived, Direction};
use crate::engine::usage::Fact;
use crate::report::model::ReportKind;

/// Applies the rule after `fact` was noted for the class of `lock`.
pub(in crate::engine) fn check(
    engine: &mut Engine,
    task: &Task,
    lock: &HeldLock,
    fact: Fact,
) -> Option<Finding> {
    let class = lock.bits.class();
    let other_side = engine.classes().any_used(fact.context, !fact.enabled);
    if !other_side || engine.classes().get(class).skips_irq_rules() {
        return None;
    }
    let (direction, start) = match fact.enabled {
        true => (Direction::Backward, Arrived::holding(class, lock.bits.mode())),
        false => (Direction::Forward, Arrived::waiting(class, lock.bits.mode())),
    };
    let Engine { graph, classes, .. } = engine;
    let (other, path) = graph.search(
        direction,
        start,
        |_: &Graph, class| classes.get(class).skips_irq_rules(),
        |at| classes.get(at.class).usage.any(fact.context, !fact.enabled, !at.is_weak()),
    )?;
    let (inside, outside) = if fact.enabled { (other.class, class) } else { (class, other.class) };
    let name = |class| engine.classes().get(class).display_name();
    let (inside_name, outside_name) = (name(inside), name(outside));
    let context = interrupt(fact.context);
    let summary = format!(
        "`{inside_name}` is taken in a {context}, `{outside_name}` with that interrupt enabled, and somebody takes \
         `{outside_name}` while holding `{inside_name}`: the interrupt can wait for ever"
    );
    let help =
        "switch the interrupt off wherever the second lock is taken, or do not take it under the first";
    let signature = format!("{inside_name}>{outside_name}:{fact}");
    let mut report = base(engine, task, ReportKind::IrqInversion, &signature, summary, help);
    report.edges = path.iter().map(|hop| known(engine, *hop)).collect();
    report.wanted = Some(engine.acquired(task, lock));
    let finding = Finding { report, edges: path.into_iter().map(Some).collect(), usages: Vec::new() };
    Some(with_usages(engine, finding, fact.context, inside, outside))
}
