// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events written down as they come, for comparison with a recorded sequence.

use std::sync::Arc;

use super::Inner;
use crate::engine::Task;
use crate::event::{Mode, Place};
use crate::hook::Acquire;
use crate::ids::{ClassId, Instance, TaskId};
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
    /// Where.
    pub site: Site,
}

impl Inner {
    pub(super) fn record(
        &self,
        task: &Task,
        op: RecordedOp,
        class: ClassId,
        instance: Instance,
        place: Place,
    ) {
        let class = self.engine.lock().classes().get(class).def.name.clone();
        let site = crate::places::site(place);
        let event = Recorded { task: task.id, task_name: task.name.clone(), op, class, instance, site };
        self.recorded.lock().push(event);
    }
}
