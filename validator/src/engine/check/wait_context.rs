// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! `wait-context`: a lock that waits is taken where waiting is not allowed: a sleeping lock under a spinning one
//! or in an interrupt.
//!
//! The most permissive wait type allowed is the minimum over the context and the locks held in it; a class of
//! kind override replaces what was held before it. Trylocks and classes without a wait type are exempt.
//!
//! Kernel counterpart: `check_wait_context()`, `print_lock_invalid_wait_context()`.

use super::{Engine, Finding, HeldLock, Task, base, plain};
use crate::event::{Context, LockKind, WaitType};
use crate::report::model::ReportKind;

/// Applies the rule to an acquisition that is not on the stack yet.
#[must_use]
pub fn check(engine: &Engine, task: &Task, new: &HeldLock) -> Option<Finding> {
    let (outer, _) = engine.classes().get(new.bits.class()).waits;
    if outer == WaitType::Unchecked || new.bits.trylock() {
        return None;
    }
    let irq = new.bits.irq();
    let mut allowed = if irq.inside(Context::HardIrq) {
        if irq.threaded() { WaitType::Config } else { WaitType::Spin }
    } else if irq.inside(Context::SoftIrq) {
        WaitType::Config
    } else {
        WaitType::Sleep
    };
    let mut culprit = None;
    for held in task.held().iter().filter(|held| held.bits.irq().level() == irq.level()) {
        let class = engine.classes().get(held.bits.class());
        let (_, inner) = class.waits;
        if inner == WaitType::Unchecked {
            continue;
        }
        if class.kind == LockKind::WaitOverride || inner < allowed {
            allowed = inner;
            culprit = Some(held);
        }
    }
    if outer <= allowed {
        return None;
    }
    let name = engine.lock_name(new.bits.class(), new.instance).class;
    let (summary, below) = match culprit {
        Some(held) => {
            let below = engine.lock_name(held.bits.class(), held.instance).class;
            (
                format!("`{name}` can {} while `{below}` is held, which does not allow that", verb(outer)),
                below,
            )
        }
        None => (
            format!("`{name}` can {} in an interrupt, which does not allow that", verb(outer)),
            String::new(),
        ),
    };
    let help = "take this lock before the other one, or use a lock that spins";
    let signature = format!("{name}:{below}:{}>{}", outer as u8, allowed as u8);
    let mut report = base(engine, task, ReportKind::WaitContext, &signature, summary, help);
    report.wanted = Some(engine.acquired(task, new));
    report.conflict = culprit.map(|held| engine.acquired(task, held));
    Some(plain(report))
}

fn verb(wait: WaitType) -> &'static str {
    match wait {
        WaitType::Sleep => "sleep",
        _ => "wait",
    }
}
