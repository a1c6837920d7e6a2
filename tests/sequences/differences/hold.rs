// SPDX-License-Identifier: MIT OR Apache-2.0
//! A sequence as holds: a lock from where it is taken to where it is released.

use core::fmt;
use std::collections::BTreeSet;

use instrumented_drivers::scenario::sequence::{Op, Sequence, Step, TaskSequence};

/// One hold, by what can be said about it in each run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hold {
    /// `CLASS HOW @ FUNCTION`, and the function that releases it, if it is another.
    pub(crate) what: String,
    /// The class.
    pub(crate) class: String,
    /// The function that takes it.
    pub(crate) function: String,
    /// The lock taken last of those that are held.
    inside: Option<String>,
    /// The locks that are taken directly under it.
    around: BTreeSet<String>,
    open: bool,
}

impl Hold {
    /// True if it is never released.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(outer) = &self.inside {
            write!(f, ", in {outer}")?;
        }
        for (number, inner) in self.around.iter().enumerate() {
            f.write_str(if number == 0 { ", around " } else { " and " })?;
            f.write_str(inner)?;
        }
        Ok(())
    }
}

/// For each step that takes a lock, the step that releases it.
fn releases(task: &TaskSequence) -> Vec<(usize, Option<usize>)> {
    let is_same = |a: &Step, b: &Step| a.class == b.class && a.instance == b.instance;
    let mut all: Vec<(usize, Option<usize>)> = Vec::new();
    for (index, step) in task.steps.iter().enumerate() {
        match step.op {
            Op::Acquire(_) => all.push((index, None)),
            Op::Release => {
                let held = |(begin, end): &&mut (usize, Option<usize>)| {
                    end.is_none() && is_same(&task.steps[*begin], step)
                };
                if let Some((_, end)) = all.iter_mut().rev().find(held) {
                    *end = Some(index);
                }
            }
            Op::Downgrade => {}
        }
    }
    all
}

fn what(task: &TaskSequence, (begin, end): (usize, Option<usize>)) -> String {
    let Step { op: Op::Acquire(how), class, function, .. } = &task.steps[begin] else {
        unreachable!("a hold begins with an acquisition")
    };
    let until = end.map(|end| &task.steps[end].function).filter(|release| *release != function);
    let until = until.map_or_else(String::new, |release| format!(" until {release}"));
    format!("{class} {how} @ {function}{until}")
}

/// Every hold of all tasks.
pub(crate) fn holds(sequence: &Sequence) -> Vec<Hold> {
    sequence.tasks.iter().flat_map(holds_of).collect()
}

fn holds_of(task: &TaskSequence) -> Vec<Hold> {
    let all = releases(task);
    let short = |begin: usize| format!("{} @ {}", task.steps[begin].class, task.steps[begin].function);
    let mut found: Vec<Hold> = Vec::new();
    for (number, hold) in all.iter().enumerate() {
        let (begin, end) = *hold;
        let outer = all[..number].iter().rposition(|(_, end)| end.is_none_or(|end| end > begin));
        if let Some(outer) = outer {
            found[outer].around.insert(short(begin));
        }
        let Step { class, function, .. } = &task.steps[begin];
        found.push(Hold {
            what: what(task, *hold),
            class: class.clone(),
            function: function.clone(),
            inside: outer.map(|outer| short(all[outer].0)),
            around: BTreeSet::new(),
            open: end.is_none(),
        });
    }
    found
}

/// The sequence without the holds of which this is said.
pub(crate) fn without(sequence: &Sequence, left_out: &BTreeSet<&str>) -> Sequence {
    let tasks = sequence.tasks.iter().map(|task| {
        let out = releases(task).into_iter().filter(|hold| left_out.contains(what(task, *hold).as_str()));
        let out: BTreeSet<usize> = out.flat_map(|(begin, end)| [Some(begin), end]).flatten().collect();
        let steps = task.steps.iter().enumerate().filter(|(index, _)| !out.contains(index));
        TaskSequence { task: task.task.clone(), steps: steps.map(|(_, step)| step.clone()).collect() }
    });
    Sequence { tasks: tasks.collect() }
}

/// What both do before the outermost hold in which the second one is stopped. Both have had as many outermost holds by
/// then: a policy and a regime do not change what a program asks for.
pub(crate) fn before(whole: &Sequence, stopped: &Sequence) -> (Sequence, Sequence) {
    let mut cut = (Sequence::default(), Sequence::default());
    for (whole, stopped) in whole.tasks.iter().zip(&stopped.tasks) {
        let done = outermost(stopped).len();
        let [whole, stopped] = [whole, stopped].map(|task| {
            let end = done.checked_sub(1).map_or(0, |last| outermost(task)[last] + 1);
            TaskSequence { task: task.task.clone(), steps: task.steps[..end].to_vec() }
        });
        cut.0.tasks.push(whole);
        cut.1.tasks.push(stopped);
    }
    cut
}

/// Where the outermost holds end.
fn outermost(task: &TaskSequence) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut free = 0;
    for (begin, end) in releases(task) {
        let Some(end) = end else { break };
        if begin >= free {
            ends.push(end);
        }
        free = free.max(end);
    }
    ends
}

#[test]
fn a_hold_is_known_by_what_it_is_inside_and_around() {
    let parse = |text: &str| text.parse::<Sequence>().expect("a sequence");
    let whole =
        parse("task t\n+ a #1 W @ f\n- a #1 @ g\n+ b #1 R @ h\n  + a #2 W @ f\n  - a #2 @ f\n- b #1 @ h\n");
    let said: Vec<String> = holds(&whole).iter().map(ToString::to_string).collect();
    assert_eq!(said, ["a W @ f until g", "b R @ h, around a @ f", "a W @ f, in b @ h"]);
    let rest = without(&whole, &BTreeSet::from(["b R @ h"]));
    assert_eq!(rest, parse("task t\n+ a #1 W @ f\n- a #1 @ g\n+ a #2 W @ f\n- a #2 @ f\n"));
    // Stopped in the second of the outermost holds.
    let mut stopped = whole.clone();
    stopped.tasks[0].steps.truncate(4);
    let (reference, done) = before(&whole, &stopped);
    assert_eq!(done, parse("task t\n+ a #1 W @ f\n- a #1 @ g\n"));
    assert_eq!(reference, done);
}
