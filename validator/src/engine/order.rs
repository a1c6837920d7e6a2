// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! Learning the order: which dependencies one acquisition makes, and what excuses a cycle.
//!
//! **Which held locks get an edge.** From the top of the stack downwards to the first one through which everything
//! below is connected anyway. That is one that is neither a trylock nor unchecked (these have no incoming edge), nor a
//! recursive read (a path through it would be weak), nor nested in a lock of its class (it may have been refused one).
//! A lock that the task reads already makes none when it is read again: no writer can be inside.
//!
//! **Guards.** An edge remembers the classes of which a lock was held exclusively, besides its two ends, every time
//! it was seen. If one such class has a single lock, and that is held around every edge of a cycle, the cycle
//! cannot happen. If it is the lock that the program names as the one that serialises the nesting, nothing is
//! wrong; otherwise the finding has severity `guarded`. An acquire context is no lock and guards nothing: the order
//! *among* its locks is excused by the back-off, a cycle through another lock is not. Excused cycles are kept, and
//! become errors when an edge is seen without the guard.
//!
//! Why it is exact as far as it goes: an edge's guards shrink with every chain in which it is seen, every chain
//! is seen at least once, and a class counts as a guard only as long as one lock of it is known.
//!
//! Kernel counterpart: `check_prevs_add()`, `check_prev_add()`. The kernel stops at recursive readers and learns
//! nothing from nested acquisitions (`lockdep-facts` FN-2, FN-3, cases X2 to X5), and knows no guards (X8).

use super::edges::{EdgeId, keep_guards};
use super::instances::Nesting;
use super::sight::Tasks;
use super::task::Bits;
use super::{Dependency, Engine, Finding, HeldLock, Hold, Outcome, Strength, Task, Wait, check, end_of};
use crate::event::{Mode, Place};
use crate::ids::{ClassId, Instance, LockId};
use crate::report::model::Severity;

/// More guards than this on one dependency are not looked at: the cycle is then reported as an error.
const GUARDS_MAX: usize = 8;

/// A cycle that a guard excuses.
#[derive(Clone, Debug)]
pub(super) struct GuardedCycle {
    closing: Dependency,
    finding: Finding,
}

impl GuardedCycle {
    /// True if the cycle goes away with the class. (If the class was elsewhere on it, it is not found any more.)
    pub(super) fn is_about(&self, class: ClassId) -> bool {
        self.closing.from == class || self.closing.to == class
    }
}

/// What the search for a cycle came to.
enum Cycle {
    None,
    /// Excused by the lock that is named as the one that serialises the nesting.
    Nested(Finding),
    /// To be reported.
    Found(Finding),
}

impl Engine {
    /// Steps 4 and 5 of the engine's contract.
    pub(super) fn order(&mut self, task: &Task, new: &HeldLock, outcome: &mut Outcome) {
        match check::recursive::check(self, task, new) {
            check::recursive::Verdict::Fine | check::recursive::Verdict::Nested => {}
            check::recursive::Verdict::Finding(finding) => {
                self.found(outcome, Some(*finding));
                return;
            }
        }
        self.nest_instances(task, new, outcome);
        if reads_again(task, new) {
            return;
        }
        let level = new.bits.irq().level();
        for (position, held) in task.held().iter().enumerate().rev() {
            if held.bits.irq().level() != level {
                break;
            }
            if held.bits.check() && held.bits.class() != new.bits.class() {
                let strength = Strength::of(held.bits.mode(), new.bits.mode());
                let adjacent = position + 1 == task.held().len();
                self.depend(task, held, new, strength, adjacent, outcome);
            }
            if connects(task, position) {
                break;
            }
        }
    }

    /// An event happens under the locks that are held: until it does, its waiters wait for these, too. Locks that
    /// were got by a trylock are no condition for it.
    pub(super) fn complete(
        &mut self,
        task: &Task,
        class: ClassId,
        instance: Instance,
        place: Place,
        outcome: &mut Outcome,
    ) {
        let event = unheld(task, class, instance, place);
        for (position, held) in task.held().iter().enumerate().rev() {
            if held.bits.irq().level() != event.bits.irq().level() {
                break;
            }
            if held.bits.check() && !held.bits.trylock() {
                let strength = Strength::of(Mode::Write, held.bits.mode());
                self.depend(task, &event, held, strength, position + 1 == task.held().len(), outcome);
            }
        }
    }

    /// The program declares an order. It is everybody's, and nothing guards it.
    pub(super) fn declare(
        &mut self,
        task: &Task,
        before: ClassId,
        after: ClassId,
        place: Place,
        outcome: &mut Outcome,
    ) {
        if before == after {
            return;
        }
        let [held, new] = [before, after].map(|class| unheld(task, class, Instance(0), place));
        let strength = Strength::of(Mode::Write, Mode::Write);
        let dependency = seen_now(task, &held, &new, strength, true, Vec::new());
        let dependency = Dependency { tasks: Tasks::Several, ..dependency };
        self.learn(task, &held, &new, dependency, outcome);
    }

    /// Records in which order the objects are taken, where the class does not say it.
    fn nest_instances(&mut self, task: &Task, new: &HeldLock, outcome: &mut Outcome) {
        if new.lock == LockId::UNKNOWN || new.bits.nest() || new.rank.is_some() {
            return;
        }
        let group = self.classes.get(new.bits.class()).group;
        for held in task.held() {
            let other = held.lock != LockId::UNKNOWN && held.lock != new.lock;
            if !other || self.classes.get(held.bits.class()).group != group || !held.bits.check() {
                continue;
            }
            let nesting = Nesting {
                from: (held.lock, held.bits.class()),
                to: (new.lock, new.bits.class()),
                strength: Strength::of(held.bits.mode(), new.bits.mode()),
                held: end_of(held),
                taken: end_of(new),
                task: task.name.clone(),
                tasks: Tasks::now(task),
            };
            if let Some(path) = self.instances.see(&nesting) {
                let finding = check::recursive::contradiction(self, task, held, new, &nesting, &path);
                self.found(outcome, Some(finding));
            }
        }
    }

    /// What an upgrade waits for: readers of the lock, while everything that was taken after it is held too. What
    /// was taken before it has a stronger dependency on it already, unless it came by a trylock.
    pub(super) fn upgrade(
        &mut self,
        task: &Task,
        position: usize,
        to: Mode,
        place: Place,
        outcome: &mut Outcome,
    ) {
        let entry = &task.held()[position];
        let upgraded = HeldLock { bits: entry.bits.with_mode(to), place, ..*entry };
        if !upgraded.bits.check() {
            return;
        }
        if let Some(finding) = check::recursive::check_upgrade(self, task, &upgraded) {
            self.found(outcome, Some(finding));
            return;
        }
        let first = if entry.bits.trylock() { 0 } else { position + 1 };
        let others = task.held().iter().enumerate().skip(first).filter(|(at, _)| *at != position);
        for (depth, (at, held)) in others.rev().enumerate() {
            if held.bits.check() && held.bits.class() != upgraded.bits.class() {
                let strength = Strength { hold: Hold::of(held.bits.mode()), wait: Wait::Readers };
                self.depend(task, held, &upgraded, strength, depth == 0, outcome);
            }
            if connects(task, at) {
                break;
            }
        }
    }

    /// Learns the dependency `held → new`, or reports the cycle it would close.
    fn depend(
        &mut self,
        task: &Task,
        held: &HeldLock,
        new: &HeldLock,
        strength: Strength,
        adjacent: bool,
        outcome: &mut Outcome,
    ) {
        let (from, to) = (held.bits.class(), new.bits.class());
        // Who waits for an event may do so under the same locks: they keep nobody apart.
        let event = self.classes.get(from).is_event();
        let guards = if event { Vec::new() } else { guards_of(task, from, to) };
        let dependency = seen_now(task, held, new, strength, adjacent, guards);
        self.learn(task, held, new, dependency, outcome);
    }

    /// Learns a dependency, or one more sight of it, or reports the cycle it would close.
    fn learn(
        &mut self,
        task: &Task,
        held: &HeldLock,
        new: &HeldLock,
        dependency: Dependency,
        outcome: &mut Outcome,
    ) {
        let Dependency { from, to, strength, .. } = dependency;
        if self.classes.get(from).is_removed() || self.classes.get(to).is_removed() {
            return;
        }
        if let Some(edge) = self.graph.lookup(from, to, strength) {
            if self.graph.seen_again(edge, &dependency, &mut self.evidence) {
                self.recheck(outcome);
            }
            return;
        }
        match self.cycle(task, held, new, &dependency) {
            Cycle::Found(finding) => {
                if finding.report.severity == Severity::Guarded {
                    self.keep(dependency, finding.clone());
                }
                self.found(outcome, Some(finding));
            }
            Cycle::Nested(finding) => self.keep(dependency, finding),
            Cycle::None => match check::irq_order::check(self, task, held, new, &dependency) {
                None => {
                    outcome.learned.push(self.insert(held, new, &dependency));
                    self.recheck(outcome);
                }
                finding => self.found(outcome, finding),
            },
        }
    }

    fn insert(&mut self, held: &HeldLock, new: &HeldLock, dependency: &Dependency) -> EdgeId {
        let ends = [held, new].map(|end| self.classes.evidence(end, &mut self.evidence));
        let who = self.evidence.witness(&dependency.task, &dependency.tasks);
        self.graph.insert(dependency, ends, who)
    }

    fn cycle(&mut self, task: &Task, held: &HeldLock, new: &HeldLock, closing: &Dependency) -> Cycle {
        let Dependency { from, to, strength, .. } = *closing;
        let Some(path) = self.graph.find_path(from, to, strength) else { return Cycle::None };
        let guards = self.excusing(closing);
        let report =
            |engine: &Engine, path: &[_]| check::circular::report(engine, task, held, new, closing, path);
        if guards.is_empty() {
            return Cycle::Found(report(self, &path));
        }
        if let Some(path) = self.graph.find_path_without(from, to, strength, &guards) {
            return Cycle::Found(report(self, &path));
        }
        let mut finding = report(self, &path);
        finding.report.severity = Severity::Guarded;
        let nests = path.iter().map(|edge| self.graph.nest(*edge)).chain([closing.nest]);
        if nests.flatten().any(|nest| guards.contains(&nest)) {
            Cycle::Nested(finding)
        } else {
            Cycle::Found(finding)
        }
    }

    /// The classes that would excuse a cycle through this dependency, if they guard the rest of it too.
    fn excusing(&self, closing: &Dependency) -> Vec<ClassId> {
        let guards = closing.guards.iter().copied().filter(|class| self.classes.get(*class).is_guard());
        guards.take(GUARDS_MAX).collect()
    }

    fn keep(&mut self, closing: Dependency, finding: Finding) {
        let same = |kept: &GuardedCycle| {
            (kept.closing.from, kept.closing.to, kept.closing.strength)
                == (closing.from, closing.to, closing.strength)
        };
        match self.guarded.iter_mut().find(|kept| same(kept)) {
            Some(kept) => {
                keep_guards(&mut kept.closing.guards, &closing.guards);
            }
            None => self.guarded.push(GuardedCycle { closing, finding }),
        }
    }

    /// Looks at the excused cycles again: an edge has lost a guard, a class guards no more, or there is a new way round.
    pub(super) fn recheck(&mut self, outcome: &mut Outcome) {
        for kept in std::mem::take(&mut self.guarded) {
            let Dependency { from, to, strength, .. } = kept.closing;
            let guards = self.excusing(&kept.closing);
            match self.graph.find_path_without(from, to, strength, &guards) {
                None => self.guarded.push(kept),
                Some(path) => {
                    let finding = check::circular::unguarded(self, kept.finding, &kept.closing, &path);
                    self.found(outcome, Some(finding));
                }
            }
        }
    }
}

/// The dependency that a task makes now.
fn seen_now(
    task: &Task,
    held: &HeldLock,
    new: &HeldLock,
    strength: Strength,
    adjacent: bool,
    guards: Vec<ClassId>,
) -> Dependency {
    Dependency {
        from: held.bits.class(),
        to: new.bits.class(),
        strength,
        held: end_of(held),
        taken: end_of(new),
        task: task.name.clone(),
        tasks: Tasks::now(task),
        guards: guards.into(),
        nest: new.bits.nest().then(|| class_of(task, new.nest)).flatten(),
        stack: None,
        adjacent,
    }
}

/// What stands in for a lock that nobody holds: an event, or any lock of a class.
fn unheld(task: &Task, class: ClassId, instance: Instance, place: Place) -> HeldLock {
    let bits = Bits::new(class, Mode::Write, false, true, false, true, task.irq());
    HeldLock::new(task.key, instance, LockId::UNKNOWN, bits, place)
}

/// True if what lies below this entry is connected to whatever is taken next through the entry itself.
fn connects(task: &Task, position: usize) -> bool {
    let held = &task.held()[position];
    let nested = held.bits.nest()
        && task.held()[..position].iter().any(|below| below.bits.class() == held.bits.class());
    held.bits.check() && !held.bits.trylock() && held.bits.mode() != Mode::RecursiveRead && !nested
}

/// True if the task reads this very lock already: no writer is inside then, and a recursive reader waits for nobody else.
fn reads_again(task: &Task, new: &HeldLock) -> bool {
    let read = |held: &HeldLock| held.instance == new.instance && held.bits.mode().is_read();
    new.bits.mode() == Mode::RecursiveRead && task.held().iter().any(read)
}

/// The classes of the locks held exclusively besides the two ends of a dependency.
fn guards_of(task: &Task, from: ClassId, to: ClassId) -> Vec<ClassId> {
    let mut guards: Vec<ClassId> = task
        .held()
        .iter()
        .filter(|held| held.bits.mode() == Mode::Write)
        .map(|held| held.bits.class())
        .filter(|class| *class != from && *class != to)
        .collect();
    guards.sort_unstable();
    guards.dedup();
    guards
}

fn class_of(task: &Task, instance: Instance) -> Option<ClassId> {
    task.held().iter().rfind(|held| held.instance == instance).map(|held| held.bits.class())
}
