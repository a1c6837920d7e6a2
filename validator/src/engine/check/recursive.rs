// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! `recursive`: a task takes a lock of a class that it holds already.
//!
//! Fine are: a recursive read under any read; a lock that comes later in the class's own order; a lock taken under a nest lock that this task holds. In a class
//! that is not strict, only the very same lock object counts: taking it again blocks for ever, except for two
//! readers, who block only if a writer waits between them (two upgradable reads exclude each other).
//!
//! Kernel counterpart: `check_deadlock()`, `print_deadlock_bug()`.

use super::{Engine, Finding, HeldLock, Task, base, end, plain};
use crate::engine::instances::Nesting;
use crate::engine::sight;
use crate::event::Mode;
use crate::report::model::{Edge, ReportKind};

/// What the rule says about an acquisition.
#[derive(Debug)]
pub enum Verdict {
    /// No lock of the class is held, or it does not matter.
    Fine,
    /// One is held, and the nest lock serialises them: no dependency is learned from this acquisition.
    Nested,
    /// The rule is broken.
    Finding(Box<Finding>),
}

/// Applies the rule to an acquisition that is not on the stack yet.
#[must_use]
pub fn check(engine: &Engine, task: &Task, new: &HeldLock) -> Verdict {
    let class = new.bits.class();
    let strict = engine.classes().get(class).strict;
    let mut nest_seen = false;
    for held in task.held() {
        nest_seen |= new.bits.nest() && held.instance == new.nest;
        let same_instance = held.instance == new.instance;
        let same = if strict {
            held.bits.class() == class
        } else {
            same_instance
                && engine.classes().get(held.bits.class()).group == engine.classes().get(class).group
        };
        let recursive_read = new.bits.mode() == Mode::RecursiveRead && held.bits.mode().is_read();
        let ranked = matches!((held.rank, new.rank), (Some(held), Some(new)) if held < new);
        if !same || recursive_read || ranked {
            continue;
        }
        if nest_seen {
            return Verdict::Nested;
        }
        return Verdict::Finding(Box::new(report(engine, task, held, new)));
    }
    Verdict::Fine
}

/// Applies the rule to a hold that is about to be upgraded: another hold of the same lock by this task can only
/// be a read, and the upgrade waits for it.
#[must_use]
pub fn check_upgrade(engine: &Engine, task: &Task, upgraded: &HeldLock) -> Option<Finding> {
    let is_reader = |mode| matches!(mode, Mode::Read | Mode::RecursiveRead);
    let other = |held: &&HeldLock| held.instance == upgraded.instance && is_reader(held.bits.mode());
    task.held().iter().find(other).map(|held| report(engine, task, held, upgraded))
}

/// The report on two locks of one key that are taken in an order that contradicts an earlier one: `path` leads
/// from the new lock back to the held one.
#[must_use]
pub fn contradiction(
    engine: &Engine,
    task: &Task,
    held: &HeldLock,
    new: &HeldLock,
    closing: &Nesting,
    path: &[Nesting],
) -> Finding {
    let name = engine.lock_name(new.bits.class(), new.instance).class;
    let summary = format!(
        "two locks of class `{name}` are taken in both orders ({} of them in a ring): threads that do both at the \
         same time wait for each other",
        path.len() + 1
    );
    let help = "take them in an order that both sides know, for example by address or by key";
    let hops: String = std::iter::once(closing).chain(path).map(|hop| hop.strength.letters()).collect();
    let mut report =
        base(engine, task, ReportKind::Recursive, &format!("{name}:instances:{hops}"), summary, help);
    report.edges = std::iter::once(closing)
        .chain(path)
        .enumerate()
        .map(|(i, hop)| Edge {
            from: end(engine, hop.from.1, &hop.held, &hop.task),
            to: end(engine, hop.to.1, &hop.taken, &hop.task),
            stack: None,
            new: i == 0,
        })
        .collect();
    report.tags =
        sight::tags(&std::iter::once(closing).chain(path).map(|hop| &hop.tasks).collect::<Vec<_>>());
    report.wanted = Some(engine.acquired(task, new));
    report.conflict = Some(engine.acquired(task, held));
    let edges = report.edges.iter().map(|_| None).collect();
    Finding { report, edges, usages: Vec::new() }
}

fn report(engine: &Engine, task: &Task, held: &HeldLock, new: &HeldLock) -> Finding {
    let name = engine.lock_name(new.bits.class(), new.instance).class;
    let same_instance = held.instance == new.instance;
    let (old_mode, new_mode) = (held.bits.mode(), new.bits.mode());
    let both_upgradable = (old_mode, new_mode) == (Mode::Upgradable, Mode::Upgradable);
    let readers = old_mode.is_read() && new_mode.is_read() && !both_upgradable;
    let certain = same_instance && !readers && !new.bits.sync();
    let summary = match (same_instance, readers) {
        (true, true) => format!(
            "`{name}` is read-locked twice by one thread: if a writer waits in between, both wait for ever"
        ),
        (true, false) => {
            format!("`{name}` is taken by a thread that holds this very lock already: it waits for itself")
        }
        (false, _) => format!(
            "two locks of class `{name}` are taken by one thread, with nothing to say which comes first: \
             another thread may take them in the other order"
        ),
    };
    let help = if same_instance {
        "release the lock before this call, or call a variant that expects it to be held"
    } else {
        "if there is an order among these locks, say so with a subclass (lock_nested) or a nest lock"
    };
    let signature = format!("{name}:{}>{}", letter(held.bits.mode()), letter(new.bits.mode()));
    let mut report = base(engine, task, ReportKind::Recursive, &signature, summary, help);
    report.wanted = Some(engine.acquired(task, new));
    report.conflict = Some(engine.acquired(task, held));
    report.certain = certain;
    plain(report)
}

fn letter(mode: Mode) -> char {
    match mode {
        Mode::Write => 'W',
        Mode::Read => 'r',
        Mode::RecursiveRead => 'R',
        Mode::Upgradable => 'u',
    }
}
