// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! `ww-api`: the interface of wound/wait mutexes is used against its rules: a context used after it was declared
//! done, a back-off that is not heeded, a slow path without a back-off, and so on.
//!
//! Which rule was broken is found where the state is, in the lock itself ([`crate::ww`]); here it becomes a report.
//!
//! Kernel counterpart: the `DEBUG_LOCKS_WARN_ON`s of `ww_mutex.h`.

use super::{Engine, Finding, Task, base, plain};
use crate::event::{Mode, Place};
use crate::ids::{ClassId, Instance};
use crate::report::model::{Acquired, ReportKind};
use crate::ww::WwMisuse;

/// The report on a misuse of the mutex or context `instance`.
#[must_use]
pub fn report(
    engine: &Engine,
    task: &Task,
    instance: Instance,
    class: ClassId,
    what: WwMisuse,
    place: Place,
) -> Finding {
    let lock = engine.lock_name(class, instance);
    let name = lock.class.clone();
    let summary = format!("`{name}` {}", what.sentence());
    let signature = format!("{name}:{what}");
    let mut report = base(engine, task, ReportKind::WwApi, &signature, summary, what.help());
    report.misuse = Some(what);
    report.wanted = Some(Acquired {
        lock,
        mode: Mode::Write,
        trylock: false,
        site: place.into(),
        task: task.name.clone(),
    });
    plain(report)
}
