// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! `irq-state`: one class is taken both inside an interrupting context and with that context enabled: the
//! interrupt can come while the lock is held, and then waits for the code it interrupted.
//!
//! A writer conflicts with everybody on the other side, a reader only with writers: readers do not wait for
//! each other when the one in the interrupt is recursive.
//!
//! Kernel counterpart: `valid_state()`, `print_usage_bug()`.

use super::{Engine, Finding, HeldLock, Task, base, interrupt, plain, with_usages};
use crate::engine::usage::Fact;
use crate::report::model::ReportKind;

/// Applies the rule after `fact` was noted for the class of `lock`.
#[must_use]
pub fn check(engine: &Engine, task: &Task, lock: &HeldLock, fact: Fact) -> Option<Finding> {
    let class = lock.bits.class();
    let usage = engine.classes().get(class).usage;
    let conflicting = [false, true]
        .into_iter()
        .map(|read| fact.opposite(read))
        .find(|opposite| usage.has(*opposite) && !(opposite.read && fact.read))?;
    let name = engine.lock_name(class, lock.instance).class;
    let context = interrupt(fact.context);
    let summary = format!(
        "`{name}` is taken in a {context} and also with that interrupt enabled: the interrupt can come while the \
         lock is held, and then waits for the code it interrupted"
    );
    let help = "switch the interrupt off wherever this lock is taken outside of it (irqsave, bh)";
    let (old, new) = (conflicting.to_string(), fact.to_string());
    let mut report = base(engine, task, ReportKind::IrqState, &format!("{name}:{old}>{new}"), summary, help);
    report.wanted = Some(engine.acquired(task, lock));
    Some(with_usages(engine, plain(report), fact.context, class, class))
}
