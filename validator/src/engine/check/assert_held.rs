// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! `assert-held`: the program claims to hold a lock and does not, or not in the mode it claims.
//!
//! Kernel counterpart: `lockdep_assert_held()`, `_write`, `_read`. The kernel compares by class once several
//! locks of a ww class are held; here the instance always decides.

use super::{Engine, Finding, Task, base, plain};
use crate::event::{HeldAs, Mode, Place};
use crate::ids::{ClassId, Instance};
use crate::report::model::{Acquired, ReportKind};

/// Applies the rule.
#[must_use]
pub fn check(
    engine: &Engine,
    task: &Task,
    instance: Instance,
    class: ClassId,
    how: HeldAs,
    place: Place,
) -> Option<Finding> {
    let held = task.held().iter().rfind(|held| held.instance == instance);
    if held.is_some_and(|held| how.fits(held.bits.mode())) {
        return None;
    }
    let lock = engine.lock_name(class, instance);
    let name = lock.class.clone();
    let summary = match held {
        None => format!("`{name}` must be held here, and this thread does not hold it"),
        Some(held) => {
            format!("`{name}` is held for {} here, which is not what is asserted", held.bits.mode())
        }
    };
    let help = "take the lock around this call, or call the variant that takes it itself";
    let mut report = base(engine, task, ReportKind::AssertHeld, &name, summary, help);
    report.asserted = Some(how);
    report.wanted = Some(Acquired {
        lock,
        mode: Mode::Write,
        trylock: false,
        site: place.into(),
        task: task.name.clone(),
        stack: None,
    });
    report.conflict = held.map(|held| engine.acquired(task, held));
    Some(plain(report))
}
