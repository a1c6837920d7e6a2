// SPDX-License-Identifier: GPL-2.0-only
//! What is left out before a model is compared with the driver it models: stated here, once, with the reason.

use std::collections::HashMap;

use super::compare::source_name;
use super::{Op, Sequence, Step, TaskSequence};

/// Events of the real kernel that the models do not have.
#[derive(Clone, Copy, Debug)]
pub struct OutOfScope {
    /// Locks of this class …
    pub class: &'static str,
    /// … taken in this function (any, if none) …
    pub function: Option<&'static str>,
    /// … after a lock of this class had been taken and released under the same held locks (always, if none).
    pub after: Option<&'static str>,
    /// Why.
    pub reason: &'static str,
}

/// All there is. Everything else the kernel recorded must be in the model, and nothing besides.
pub const OUT_OF_SCOPE: &[OutOfScope] = &[
    OutOfScope {
        class: "&vb->lock",
        function: None,
        after: None,
        reason: "the vmalloc allocator's, taken when an x86 kernel changes the caching of pages; a leaf lock \
                 that no driver sees",
    },
    OutOfScope {
        class: "fs_reclaim",
        function: Some("__alloc_pages_noprof"),
        after: Some("&vb->lock"),
        reason: "page tables of the kernel's own mapping, split on the first change of caching; how many are \
                 missing depends on what ran before on that machine",
    },
];

/// Classes of the models whose events were not kept when the sequences were extracted from the traces, because they
/// belong to one driver or to no buffer.
pub const NOT_EXTRACTED: &[&str] = &[
    "&dev->mutex",
    "&dev->slock",
    "&q->done_wq",
    "&sb->s_type->i_mutex_key",
    "mmu_notifier_invalidate_range_start",
];

impl OutOfScope {
    fn matches(&self, step: &Step, around: &Around<'_>) -> bool {
        self.class == step.class
            && self.function.is_none_or(|function| function == source_name(&step.function))
            && self.after.is_none_or(|after| around.released.contains(&after))
    }
}

/// What a kernel recorded, without what is [`OUT_OF_SCOPE`].
#[must_use]
pub fn in_scope(sequence: &Sequence) -> Sequence {
    let is_out =
        |step: &Step, around: &Around<'_>| OUT_OF_SCOPE.iter().any(|rule| rule.matches(step, around));
    map_tasks(sequence, |task| without(task, is_out))
}

/// What a model locked, by the rules by which the recorded sequences were extracted from traces of everything:
/// classes that are [`NOT_EXTRACTED`] are left out, a hold of `mmap_lock` in which no other lock is taken is left out (a program's own memory, whose mapping is
/// nobody's business here), and so is an allocation that happens under no lock but `mmap_lock`. A downgrade leaves no
/// event in a trace. What is left is numbered anew.
#[must_use]
pub fn as_extracted(sequence: &Sequence) -> Sequence {
    let extracted =
        map_tasks(sequence, |task| without(task, |step, _| NOT_EXTRACTED.contains(&step.class.as_str())));
    let allocations = map_tasks(&extracted, |task| {
        without(task, |step, around| {
            step.class == "fs_reclaim" && around.held.iter().all(|lock| is_memory(lock))
        })
    });
    map_tasks(&allocations, |task| renumbered(keep(task, &unseen(task))))
}

/// For each step, whether it is a downgrade or belongs to a hold of `mmap_lock` with nothing else in it.
fn unseen(task: &TaskSequence) -> Vec<bool> {
    let mut drop: Vec<bool> = task.steps.iter().map(|step| step.op == Op::Downgrade).collect();
    // Holds of `mmap_lock`: where they begin, and whether something else was locked inside.
    let mut holds: Vec<(usize, bool)> = Vec::new();
    for (index, step) in task.steps.iter().enumerate() {
        if !is_memory(step) {
            holds.iter_mut().for_each(|(_, used)| *used = true);
        } else if step.opens() {
            holds.push((index, false));
        } else if step.closes()
            && let Some(position) = holds.iter().rposition(|(begin, _)| is_lock(&task.steps[*begin], step))
            && let (begin, false) = holds.remove(position)
        {
            drop[begin] = true;
            drop[index] = true;
        }
    }
    drop
}

/// Counts the locks of each class from 1, in the order in which they appear.
fn renumbered(mut task: TaskSequence) -> TaskSequence {
    let mut seen: HashMap<String, Vec<usize>> = HashMap::new();
    for step in &mut task.steps {
        let known = seen.entry(step.class.clone()).or_default();
        let position = known.iter().position(|number| *number == step.instance).unwrap_or_else(|| {
            known.push(step.instance);
            known.len() - 1
        });
        step.instance = position + 1;
    }
    task
}

fn is_memory(step: &Step) -> bool {
    step.class == "&mm->mmap_lock"
}

fn is_lock(a: &Step, b: &Step) -> bool {
    a.class == b.class && a.instance == b.instance
}

fn map_tasks(sequence: &Sequence, map: impl Fn(&TaskSequence) -> TaskSequence) -> Sequence {
    let tasks = sequence.tasks.iter().map(map).filter(|task| !task.steps.is_empty());
    Sequence { tasks: tasks.collect() }
}

fn keep(task: &TaskSequence, drop: &[bool]) -> TaskSequence {
    let steps = task.steps.iter().zip(drop).filter(|(_, drop)| !**drop).map(|(step, _)| step.clone());
    TaskSequence { task: task.task.clone(), steps: steps.collect() }
}

/// What surrounds an acquisition.
struct Around<'a> {
    /// The locks held.
    held: &'a [&'a Step],
    /// The classes of the locks that were released since the innermost of these was taken.
    released: &'a [&'a str],
}

/// The task without the holds that begin with a step for which `is_out` says so.
fn without(task: &TaskSequence, is_out: impl Fn(&Step, &Around<'_>) -> bool) -> TaskSequence {
    let mut held: Vec<&Step> = Vec::new();
    let mut out: Vec<bool> = Vec::new();
    let mut released: Vec<Vec<&str>> = vec![Vec::new()];
    let mut drop = Vec::new();
    for step in &task.steps {
        let position = held.iter().rposition(|held| is_lock(held, step));
        match step.op {
            Op::Acquire(_) => {
                let around = Around { held: &held, released: released.last().map_or(&[], Vec::as_slice) };
                out.push(is_out(step, &around));
                drop.push(out[held.len()]);
                held.push(step);
                released.push(Vec::new());
            }
            Op::Release => {
                drop.push(position.is_some_and(|position| {
                    held.remove(position);
                    out.remove(position)
                }));
                released.pop();
                if let Some(here) = released.last_mut() {
                    here.push(&step.class);
                }
            }
            Op::Downgrade => drop.push(position.is_some_and(|position| out[position])),
        }
    }
    keep(task, &drop)
}
