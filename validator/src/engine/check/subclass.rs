// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! `subclass`: a lock is taken at a subclass that there is not. It counts as taken at the last one there is.
//!
//! Kernel counterpart: `look_up_lock_class()`, "looking up invalid subclass", after which the lock is not tracked.

use super::{Engine, Finding, Task, misused};
use crate::event::Place;
use crate::ids::{ClassId, Instance};
use crate::limits::SUBCLASSES;
use crate::report::model::ReportKind;

/// The report on an acquisition at subclass `subclass`.
#[must_use]
pub fn report(
    engine: &Engine,
    task: &Task,
    lock: (ClassId, Instance),
    subclass: u8,
    place: Place,
) -> Finding {
    let what = format!("is taken at subclass {subclass}; there are {SUBCLASSES}, from 0");
    let help = "use fewer levels; for an order among many locks of one class give each a rank, or a class of its own";
    misused(engine, task, ReportKind::Subclass, lock, &what, help, place)
}
