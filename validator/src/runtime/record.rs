// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes events down as they come.

use super::Inner;
use crate::engine::Task;
use crate::event::Place;
use crate::hook::LockMap;
use crate::ids::ClassId;
use crate::recorded::{Recorded, RecordedOp};

impl Inner {
    pub(super) fn record(&self, task: &Task, op: RecordedOp, class: ClassId, map: &LockMap, place: Place) {
        let name = || self.engine.lock().classes().get(class).name.as_ref().into();
        let class = self.recorded_names.lock().entry(class).or_insert_with(name).clone();
        let site = crate::places::site(place);
        let (instance, lock) = (map.instance(), map.lock_id());
        let event = Recorded { task: task.id, task_name: task.name.clone(), op, class, instance, lock, site };
        self.recorded.lock().push(event);
    }
}
