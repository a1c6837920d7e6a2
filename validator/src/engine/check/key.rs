// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! `key`: a class goes away while a lock of it is held, or a lock is taken whose class has gone.
//!
//! Kernel counterpart: "INIT: key not registered", and what is said of `lockdep_unregister_key()`: that no lock with the key
//! may be in use any more, which the kernel does not check.

use super::{Engine, Finding, Task, misused};
use crate::event::Place;
use crate::ids::{ClassId, Instance};
use crate::report::model::ReportKind;

/// The report on a class that goes while `held` locks of it are held; `instance` is one of them, if this task holds it.
#[must_use]
pub fn removed(engine: &Engine, task: &Task, lock: (ClassId, Instance), held: u32, place: Place) -> Finding {
    let what = match held {
        1 => "goes away while a lock of it is held".to_owned(),
        _ => format!("goes away while {held} locks of it are held"),
    };
    let help = "release its locks before the class is dropped: drop what contains the locks first";
    misused(engine, task, ReportKind::Key, lock, &what, help, place)
}

/// The report on a lock whose class has gone. The acquisition is not tracked.
#[must_use]
pub fn used(engine: &Engine, task: &Task, lock: (ClassId, Instance), place: Place) -> Finding {
    let help = "keep the class as long as its locks";
    misused(engine, task, ReportKind::Key, lock, "is taken, and its class has gone away", help, place)
}
