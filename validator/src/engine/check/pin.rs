// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! `pin`: a lock that was pinned, so that nobody lets go of it meanwhile, is released; or a pin is set or lifted where
//! there is none.
//!
//! Who pins a lock gets a cookie, and lifts the pin by giving it back. The cookies of one lock are added up, so only a
//! cookie that was never given for it, or was given back already, is noticed.
//!
//! Kernel counterpart: `__lock_pin_lock()`, `__lock_unpin_lock()`, and the first warning of `__lock_release()`.

use super::{Engine, Finding, Task, misused};
use crate::event::{PinOp, Place};
use crate::ids::{ClassId, Instance};
use crate::report::model::ReportKind;

/// Applies the rule to a pin that is set or lifted; `count` is what the lock's cookies add up to.
#[must_use]
pub fn check(
    engine: &Engine,
    task: &Task,
    (class, instance): (ClassId, Instance),
    op: PinOp,
    count: u32,
    place: Place,
) -> Option<Finding> {
    let what = match op {
        _ if !task.holds(instance) => "is pinned or unpinned by a thread that does not hold it",
        PinOp::Unpin(_) if count == 0 => "is unpinned and was not pinned",
        PinOp::Unpin(cookie) if u32::from(cookie) > count => "is unpinned with a cookie that it never gave",
        _ => return None,
    };
    let help = "pin a lock while it is held, and unpin it once, with the cookie of the pin";
    Some(misused(engine, task, ReportKind::Pin, (class, instance), what, help, place))
}

/// The report on a pinned lock that is released.
#[must_use]
pub fn released(
    engine: &Engine,
    task: &Task,
    (class, instance): (ClassId, Instance),
    place: Place,
) -> Finding {
    let help =
        "unpin the lock before it is released, or do not release it here: somebody relies on its being held";
    misused(engine, task, ReportKind::Pin, (class, instance), "is released while it is pinned", help, place)
}
