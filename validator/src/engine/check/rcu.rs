// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! `rcu`: data that RCU protects is read where nothing protects it: in no read-side section, and without the lock that
//! writers hold.
//!
//! Kernel counterpart: `rcu_dereference_check()`, `lockdep_rcu_suspicious()`.

use super::{Engine, Finding, Task, misused};
use crate::event::Place;
use crate::ids::{ClassId, Instance};
use crate::report::model::ReportKind;

/// The report on a read that none of the maps allows; the first of them stands for all.
#[must_use]
pub fn report(engine: &Engine, task: &Task, map: (ClassId, Instance), place: Place) -> Finding {
    let what =
        "must be held here (or another lock that protects the same data), and this thread holds none of them";
    let help = "read it in a read-side section, or hold the lock that writers hold";
    misused(engine, task, ReportKind::Rcu, map, what, help, place)
}
