// SPDX-License-Identifier: GPL-2.0-only
//! Holds one sequence against another, event by event.

use core::fmt;
use std::collections::HashMap;

use super::{Sequence, Step, TaskSequence};

/// How many events are shown before the place where two sequences part, and from there on.
const CONTEXT: usize = 6;

/// The first place where two sequences differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Which task, counted from 1, and its name.
    task: (usize, String),
    /// Which event of the task, counted from 1.
    event: usize,
    /// The events before it, the same on both sides.
    before: Vec<String>,
    /// From there on, what should be.
    expected: Vec<String>,
    /// From there on, what is.
    got: Vec<String>,
}

/// Compares what a model locked with what it should have locked: class, instance, mode, trylock, subclass, nest
/// lock, function, order and nesting of every event, and the number and names of the tasks.
///
/// Function names are compared without what a C compiler appends to them (`.isra.0`, `.constprop.0`). A lock may have
/// the number of one that is not used any more: an allocator gives freed memory out again.
///
/// # Errors
/// The first difference, with some events around it.
pub fn compare(expected: &Sequence, got: &Sequence) -> Result<(), Box<Mismatch>> {
    let tasks = expected.tasks.len().max(got.tasks.len());
    for number in 0..tasks {
        let (expected, got) = (expected.tasks.get(number), got.tasks.get(number));
        compare_tasks(number, expected, got)?;
    }
    Ok(())
}

fn compare_tasks(
    number: usize,
    expected: Option<&TaskSequence>,
    got: Option<&TaskSequence>,
) -> Result<(), Box<Mismatch>> {
    let name = |task: Option<&TaskSequence>| task.map(|task| format!("task {}", task.task));
    let known = expected.or(got).map_or_else(String::new, |task| task.task.clone());
    if name(expected) != name(got) {
        return Err(Box::new(Mismatch {
            task: (number + 1, known),
            event: 0,
            before: Vec::new(),
            expected: name(expected).into_iter().collect(),
            got: name(got).into_iter().collect(),
        }));
    }
    let steps = |task: Option<&TaskSequence>| -> Vec<(usize, Step)> {
        task.into_iter().flat_map(TaskSequence::nested).map(|(depth, step)| (depth, step.clone())).collect()
    };
    let (expected, got) = (steps(expected), steps(got));
    let mut renumbered = got.clone();
    give_out_again(&expected, &mut renumbered);
    let same = expected.iter().zip(&renumbered).take_while(|(expected, got)| is_same(expected, got)).count();
    if same == expected.len() && same == got.len() {
        return Ok(());
    }
    let show = |steps: &[(usize, Step)]| {
        steps.iter().map(|(depth, step)| format!("{:indent$}{step}", "", indent = 2 * depth)).collect()
    };
    let from_here = |steps: &[(usize, Step)]| show(&steps[same..steps.len().min(same + CONTEXT)]);
    Err(Box::new(Mismatch {
        task: (number + 1, known),
        event: same + 1,
        before: show(&expected[same.saturating_sub(CONTEXT)..same]),
        expected: from_here(&expected),
        got: from_here(&got),
    }))
}

/// Numbers the locks in `got` as those in `expected`, where that says the same: a lock that is new takes the number of
/// the one that is expected in its place, if the lock that had it does not appear any more.
fn give_out_again(expected: &[(usize, Step)], got: &mut [(usize, Step)]) {
    let mut last_use: HashMap<(String, usize), usize> = HashMap::new();
    for (index, (_, step)) in got.iter().enumerate() {
        last_use.insert((step.class.clone(), step.instance), index);
    }
    // Who has an expected number; which number a lock has.
    let mut owners: HashMap<(&str, usize), usize> = HashMap::new();
    let mut numbers: HashMap<(String, usize), usize> = HashMap::new();
    for (index, ((_, wanted), (_, step))) in expected.iter().zip(got.iter()).enumerate() {
        let lock = (step.class.clone(), step.instance);
        if wanted.class != step.class || !step.opens() || numbers.contains_key(&lock) {
            continue;
        }
        let place = (wanted.class.as_str(), wanted.instance);
        let in_use = owners.get(&place).is_some_and(|owner| last_use[&(step.class.clone(), *owner)] > index);
        if !in_use {
            owners.insert(place, step.instance);
            numbers.insert(lock, wanted.instance);
        }
    }
    // The others get numbers that nobody expects.
    let highest = expected.iter().map(|(_, step)| step.instance).max().unwrap_or_default();
    for (_, step) in got {
        let number = numbers.get(&(step.class.clone(), step.instance));
        step.instance = number.copied().unwrap_or(highest + step.instance);
    }
}

fn is_same((depth, a): &(usize, Step), (other_depth, b): &(usize, Step)) -> bool {
    depth == other_depth
        && a.op == b.op
        && a.class == b.class
        && a.instance == b.instance
        && source_name(&a.function) == source_name(&b.function)
}

/// The name of a function as its source has it: what a C compiler appends to a copy starts with a dot.
pub(super) fn source_name(function: &str) -> &str {
    function.split_once('.').map_or(function, |(name, _)| name)
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, name) = &self.task;
        writeln!(f, "task {name} (no. {number}), event {}:", self.event)?;
        for line in &self.before {
            writeln!(f, "           {line}")?;
        }
        side(f, "expected", &self.expected)?;
        side(f, "     got", &self.got)
    }
}

fn side(f: &mut fmt::Formatter<'_>, label: &str, lines: &[String]) -> fmt::Result {
    if lines.is_empty() {
        return writeln!(f, "{label}   (nothing more)");
    }
    for (index, line) in lines.iter().enumerate() {
        writeln!(f, "{}   {line}", if index == 0 { label } else { "        " })?;
    }
    Ok(())
}

impl core::error::Error for Mismatch {}
