// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! `ww-api`: the interface of wound/wait mutexes is used against its rules: a context used after it was declared
//! done, a back-off that is not heeded, a slow path without a back-off, and so on.
//!
//! Which rule was broken is found where the state is, in the lock itself ([`crate::ww`]); here it becomes a report.
//!
//! Kernel counterpart: the `DEBUG_LOCKS_WARN_ON`s of `ww_mutex.h`.

use super::{Engine, Finding, Task, misused};
use crate::event::Place;
use crate::ids::{ClassId, Instance};
use crate::report::model::ReportKind;
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
    let sentence = what.sentence();
    let mut finding =
        misused(engine, task, ReportKind::WwApi, (class, instance), sentence, what.help(), place);
    finding.report.signature =
        format!("{}:{}:{what}", ReportKind::WwApi, engine.lock_name(class, instance).class);
    finding.report.misuse = Some(what);
    finding.report.conflict = None;
    finding
}
