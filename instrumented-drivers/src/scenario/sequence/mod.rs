// SPDX-License-Identifier: GPL-2.0-only
//! Lock sequences: what tasks locked, in order, with the function that acted, as text.
//!
//! The form is that of sequences extracted from traces of a real kernel, so that a model can be held against the
//! driver it models, event by event ([`compare`]):
//!
//! ```text
//! task init
//! + &mm->mmap_lock #1 W @ vm_mmap_pgoff
//!   + reservation_ww_class_mutex #1 W @ drm_gem_shmem_mmap
//! repeat 64 {
//!     + fs_reclaim #1 W @ __alloc_pages_noprof
//!     - fs_reclaim #1 @ __alloc_pages_noprof
//! }
//!   - reservation_ww_class_mutex #1 @ drm_gem_shmem_mmap
//! - &mm->mmap_lock #1 @ vm_mmap_pgoff
//! ```
//!
//! `+` acquire, `-` release, `~` downgrade; `#n` the n-th lock of the class in this task; `W` write, `R` read, `RR`
//! recursive read; then `try`, `sub=N`, `nest` where given; `@` the function. Two spaces for each lock held. A
//! block that stands several times in a row is written once. `#` at the start of a line makes it a comment.
#![forbid(unsafe_code)]

mod compare;
mod fold;
mod parse;
mod project;
#[cfg(test)]
mod tests;

use core::fmt;
use std::collections::HashMap;

use lockdep::ids::{LockId, TaskId};
use lockdep::{Mode, Recorded, RecordedOp};

pub use compare::{Mismatch, compare};
pub use parse::SequenceError;
pub use project::{NOT_EXTRACTED, OUT_OF_SCOPE, OutOfScope, as_extracted, in_scope};

/// What some tasks locked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// One section for each task, in the order in which they first locked something.
    pub tasks: Vec<TaskSequence>,
}

/// What one task locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSequence {
    /// The task's name; several tasks may share one.
    pub task: String,
    /// All events, repetitions written out.
    pub steps: Vec<Step>,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was done.
    pub op: Op,
    /// To a lock of which class.
    pub class: String,
    /// To which lock of the class, counted from 1 in the order of first use in the task.
    pub instance: usize,
    /// In which function, `?` if nobody knows.
    pub function: String,
}

/// What was done to a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Taken.
    Acquire(How),
    /// Released.
    Release,
    /// Turned from a write hold into a read hold.
    Downgrade,
}

impl Op {
    /// None for an assertion: a kernel's record has none.
    fn of(op: RecordedOp) -> Option<Self> {
        match op {
            RecordedOp::Acquire { how } => Some(Op::Acquire(How {
                mode: how.mode,
                trylock: how.trylock,
                subclass: how.subclass,
                nest: how.nest,
            })),
            RecordedOp::Release => Some(Op::Release),
            RecordedOp::Downgrade => Some(Op::Downgrade),
            RecordedOp::AssertHeld => None,
        }
    }
}

/// How a lock was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// Write, read, recursive read.
    pub mode: Mode,
    /// By a trylock.
    pub trylock: bool,
    /// 0 to 7.
    pub subclass: u8,
    /// Under a nest lock.
    pub nest: bool,
}

impl Step {
    /// The change of the number of held locks.
    fn opens(&self) -> bool {
        matches!(self.op, Op::Acquire(_))
    }

    fn closes(&self) -> bool {
        self.op == Op::Release
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Step { op, class, instance, function } = self;
        match op {
            Op::Acquire(how) => write!(f, "+ {class} #{instance} {how} @ {function}"),
            Op::Release => write!(f, "- {class} #{instance} @ {function}"),
            Op::Downgrade => write!(f, "~ {class} #{instance} @ {function}"),
        }
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.mode {
            Mode::Write => "W",
            Mode::Read => "R",
            Mode::RecursiveRead => "RR",
            // The kernel has none; the letters of our own types.
            Mode::Upgradable => "U",
        })?;
        if self.trylock {
            f.write_str(" try")?;
        }
        if self.subclass != 0 {
            write!(f, " sub={}", self.subclass)?;
        }
        if self.nest {
            f.write_str(" nest")?;
        }
        Ok(())
    }
}

impl TaskSequence {
    /// Each step with the number of locks held around it.
    fn nested(&self) -> impl Iterator<Item = (usize, &Step)> {
        self.steps.iter().scan(0usize, |held, step| {
            if step.closes() {
                *held = held.saturating_sub(1);
            }
            let depth = *held;
            if step.opens() {
                *held += 1;
            }
            Some((depth, step))
        })
    }
}

impl fmt::Display for TaskSequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "task {}", self.task)?;
        let nested: Vec<_> = self.nested().collect();
        for fold::Block { steps, times } in fold::blocks(&nested) {
            if times > 1 {
                writeln!(f, "repeat {times} {{")?;
            }
            for (depth, step) in steps {
                writeln!(f, "{:indent$}{step}", "", indent = 2 * depth)?;
            }
            if times > 1 {
                writeln!(f, "}}")?;
            }
        }
        Ok(())
    }
}

/// The text form, tasks separated by an empty line.
impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, task) in self.tasks.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            write!(f, "{task}")?;
        }
        Ok(())
    }
}

impl From<&[Recorded]> for Sequence {
    /// What a validator recorded, a section for each task.
    fn from(events: &[Recorded]) -> Self {
        let mut sections: Vec<Section> = Vec::new();
        for event in events {
            let Some(op) = Op::of(event.op) else { continue };
            let known = sections.iter().position(|section| section.task == event.task);
            let position = known.unwrap_or_else(|| {
                sections.push(Section::new(event));
                sections.len() - 1
            });
            sections[position].add(event, op);
        }
        Sequence { tasks: sections.into_iter().map(|section| section.sequence).collect() }
    }
}

/// A section in the making.
struct Section {
    task: TaskId,
    sequence: TaskSequence,
    /// The number of each lock seen in this task.
    numbers: HashMap<(String, LockId), usize>,
    /// How many locks of a class were seen.
    seen: HashMap<String, usize>,
}

impl Section {
    fn new(first: &Recorded) -> Self {
        Section {
            task: first.task,
            sequence: TaskSequence { task: first.task_name.to_string(), steps: Vec::new() },
            numbers: HashMap::new(),
            seen: HashMap::new(),
        }
    }

    fn add(&mut self, event: &Recorded, op: Op) {
        let class = event.class.to_string();
        let seen = self.seen.entry(class.clone()).or_default();
        let instance = *self.numbers.entry((class.clone(), event.lock)).or_insert_with(|| {
            *seen += 1;
            *seen
        });
        let function = event.site.function.unwrap_or("?").to_owned();
        self.sequence.steps.push(Step { op, class, instance, function });
    }
}
