// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! Events written down as they come ([`crate::Builder::record`]), as data: the same types in both modes.

use std::sync::Arc;

use crate::event::Mode;
use crate::hook::Acquire;
use crate::ids::{Instance, LockId, TaskId};
use crate::report::model::Site;

/// What was done to a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordedOp {
    /// Taken.
    Acquire {
        /// How.
        how: RecordedHow,
    },
    /// Released.
    Release,
    /// Turned from a write hold into a read hold.
    Downgrade,
    /// Asserted to be held.
    AssertHeld,
}

/// How a lock was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordedHow {
    /// Write, read, recursive read.
    pub mode: Mode,
    /// By a trylock.
    pub trylock: bool,
    /// 0 to 7.
    pub subclass: u8,
    /// Under a nest lock.
    pub nest: bool,
}

impl From<Acquire<'_>> for RecordedHow {
    fn from(how: Acquire<'_>) -> Self {
        RecordedHow { mode: how.mode, trylock: how.trylock, subclass: how.subclass, nest: how.nest.is_some() }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Number of the task, in the order of their start.
    pub task: TaskId,
    /// Its name.
    pub task_name: Arc<str>,
    /// What was done.
    pub op: RecordedOp,
    /// Name of the class's key, without `#N` and `/S`.
    pub class: Arc<str>,
    /// The lock object.
    pub instance: Instance,
    /// The same, for as long as the lock exists: an instance is an address, which may be used again.
    pub lock: LockId,
    /// Where.
    pub site: Site,
}
