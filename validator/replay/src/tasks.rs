// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tasks, and the stacks that each of them has: one for each level it can be interrupted on.

use std::sync::Arc;

use lockdep::Context;
use lockdep::engine::{Engine, Task};
use lockdep::event::Event;
use lockdep::ids::{Instance, TaskId};

use crate::context::Irqs;
use crate::ftrace::Level;

/// Levels with a stack; non-maskable interrupts have none.
const LEVELS: usize = 4;

/// Locks that one task can hold (kernel: `MAX_LOCK_DEPTH`, after which it checks nothing any more).
pub(crate) const DEPTH: usize = 48;

/// A PID, or for the idle tasks, which all have PID 0, the CPU.
pub(crate) type TaskKey = u64;

/// The key of a task.
pub(crate) fn key(pid: u32, cpu: u32) -> TaskKey {
    if pid == 0 { 1 << 32 | u64::from(cpu) } else { u64::from(pid) }
}

/// A task or the idle task of a CPU.
#[derive(Debug)]
pub(crate) struct Who {
    comm: Box<[u8]>,
    name: Arc<str>,
    stacks: [Option<Box<Task>>; LEVELS],
    /// The epoch in which it was known to hold nothing but what the trace shows.
    pub(crate) grounded: Option<u32>,
}

impl Who {
    pub(crate) fn new(comm: &[u8], pid: u32, file: Option<&str>) -> Self {
        let mut who =
            Who { comm: Box::default(), name: Arc::from(""), stacks: Default::default(), grounded: None };
        who.rename(comm, pid, file);
        who
    }

    /// Takes the name of an event, if it has one and it is another one.
    pub(crate) fn meet(&mut self, comm: &[u8], pid: u32, file: Option<&str>) {
        if *self.comm != *comm && comm != b"<...>" {
            self.rename(comm, pid, file);
        }
    }

    fn rename(&mut self, comm: &[u8], pid: u32, file: Option<&str>) {
        let mut name = format!("{}-{pid}", String::from_utf8_lossy(comm));
        if let Some(file) = file {
            name.push_str(&format!(" ({file})"));
        }
        self.comm = comm.into();
        self.name = name.into();
        for stack in self.stacks.iter_mut().flatten() {
            stack.name = self.name.clone();
        }
    }

    pub(crate) fn stack(&self, level: Level) -> Option<&Task> {
        self.stacks.get(level as usize)?.as_deref()
    }

    pub(crate) fn stack_mut(&mut self, level: Level) -> Option<&mut Task> {
        self.stacks.get_mut(level as usize)?.as_deref_mut()
    }

    /// The stack of a level, made in this interrupt state when it is first needed.
    pub(crate) fn make_stack(&mut self, level: Level, irqs: Option<Irqs>, engine: &mut Engine) -> &mut Task {
        let slot = &mut self.stacks[(level as usize).min(LEVELS - 1)];
        slot.get_or_insert_with(|| {
            let mut task = Box::new(Task::new(TaskId(0), self.name.clone(), u64::MAX));
            let enters: &[Context] = match level {
                Level::Task | Level::Nmi => &[],
                Level::SoftIrq => &[Context::SoftIrq],
                Level::HardIrq => &[Context::HardIrq],
                Level::HardInSoft => &[Context::SoftIrq, Context::HardIrq],
            };
            for context in enters {
                engine.step(&mut task, Event::Context { context: *context, enter: true, threaded: false });
            }
            // Not known counts as off: only what is seen on is marked as such.
            let irqs = irqs.unwrap_or(Irqs { hard: false, soft: false });
            task.set_enabled(Context::HardIrq, irqs.hard);
            task.set_enabled(Context::SoftIrq, irqs.soft);
            task
        })
    }

    /// True if more locks are held on a level than any kernel allows. (Those that a wound/wait context serialises
    /// count as one there, too.)
    pub(crate) fn is_too_deep(&self, level: Level) -> bool {
        self.stack(level).is_some_and(|task| {
            task.held().len() > DEPTH && task.held().iter().filter(|held| !held.is_merged()).count() > DEPTH
        })
    }

    /// The level on which a lock is held: this one, or, if a missing line left it elsewhere, another.
    pub(crate) fn level_of(&self, instance: Instance, first: Level) -> Option<Level> {
        let others = [Level::Task, Level::SoftIrq, Level::HardIrq, Level::HardInSoft];
        let holds = |level: &Level| self.stack(*level).is_some_and(|task| task.holds(instance));
        std::iter::once(first).chain(others).find(holds)
    }
}
