// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! Who was seen to do something, and what had happened before.
//!
//! A task's life is cut into *segments*: one ends whenever the task passes on what it has done so far, to a task that
//! it starts or to one that waits for its end. A [`Clock`] is what somebody knows of others: of which task how many
//! segments are over. So an order that was seen in a segment which a second order's task knew to be over happened
//! before it, and the two can never meet.
//!
//! Why it is right: a chain that is known to be clean is not looked at again within one segment, but once in each
//! further one of the same task, so [`Sight::last`] is never too early; [`Sight::first`] is what was known at the very
//! first time. What two tasks were seen to do is never said to have happened before anything.
//!
//! Only tasks that were the first to see some order get into a clock, so clocks stay small where threads come and go.
//!
//! Kernel counterpart: none; `lockdep-facts` §6.1, case X12.

use std::sync::Arc;

use super::Task;
use crate::ids::TaskId;

/// Longer cycles are not searched for two orders that cannot meet.
const CYCLE_MAX: usize = 64;

/// For each task that is known to have done something: how many of its segments are over. Sorted by task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock(Vec<(TaskId, u32)>);

impl Clock {
    /// True if that segment of that task is known to be over.
    fn knows(&self, task: TaskId, segment: u32) -> bool {
        self.0.binary_search_by_key(&task, |(task, _)| *task).is_ok_and(|at| self.0[at].1 > segment)
    }

    /// True if the other one knows all of this.
    fn is_within(&self, other: &Clock) -> bool {
        self.0.iter().all(|(task, over)| *over == 0 || other.knows(*task, over - 1))
    }

    /// What this and the other one know together.
    pub(super) fn join(&mut self, other: &Clock) {
        for (task, over) in &other.0 {
            match self.0.binary_search_by_key(task, |(task, _)| *task) {
                Ok(at) => self.0[at].1 = self.0[at].1.max(*over),
                Err(at) => self.0.insert(at, (*task, *over)),
            }
        }
    }

    /// The first `over` segments of the task are over.
    pub(super) fn note(&mut self, task: TaskId, over: u32) {
        self.join(&Clock(vec![(task, over)]));
    }
}

/// When one task was seen to do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Who.
    pub task: TaskId,
    /// What it knew the first time.
    pub first: Arc<Clock>,
    /// In which of its segments it did so the last time.
    pub last: u32,
}

impl Sight {
    fn is_before(&self, other: &Sight) -> bool {
        self.task != other.task && other.first.knows(self.task, self.last)
    }
}

/// Who was seen to do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tasks {
    /// One task only.
    One(Sight),
    /// At least two.
    Several,
}

impl Tasks {
    /// This task, now.
    pub(super) fn now(task: &Task) -> Self {
        Tasks::One(Sight { task: task.id, first: task.clock.clone(), last: task.segment })
    }

    /// One more sight.
    pub(super) fn add(&mut self, other: &Tasks) {
        match (&mut *self, other) {
            (Tasks::One(known), Tasks::One(other)) if known.task == other.task => {
                known.last = known.last.max(other.last);
                if other.first.is_within(&known.first) {
                    known.first = other.first.clone();
                }
            }
            _ => *self = Tasks::Several,
        }
    }
}

/// What is known of a cycle besides: only one task was ever seen to do all of it; or two of its orders, of different
/// tasks, are known to have happened one before the other.
pub(super) fn tags(cycle: &[&Tasks]) -> Vec<&'static str> {
    let single = |tasks: &&Tasks| match (tasks, cycle[0]) {
        (Tasks::One(sight), Tasks::One(first)) => sight.task == first.task,
        _ => false,
    };
    if cycle.iter().all(single) {
        return vec!["single-thread"];
    }
    let sights =
        || cycle.iter().filter_map(|tasks| if let Tasks::One(sight) = tasks { Some(sight) } else { None });
    if cycle.len() <= CYCLE_MAX && sights().any(|one| sights().any(|other| one.is_before(other))) {
        return vec!["ordered"];
    }
    Vec::new()
}
