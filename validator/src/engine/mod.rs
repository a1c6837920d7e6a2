// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! The engine: a pure state machine. Events of tasks go in, what was learned and what was found comes out.
//!
//! [`Engine::step`] takes one [`Event`] of one [`Task`] and does, for an acquisition, in this order:
//!
//! 1. the lock may wait here ([`check::wait_context`]);
//! 2. note in which context the class is taken ([`usage`]); if that is new, it must not be at odds with the class
//!    itself ([`check::irq_state`]) or with another one along a known path ([`check::irq_inversion`]);
//! 3. the nest lock, if one is named, is held ([`check::nest_missing`]);
//! 4. no other lock of the class is held, unless the rules of the class allow it ([`check::recursive`]), and if
//!    they do, the order of the lock objects contradicts no earlier one ([`instances`]);
//! 5. each new dependency from a held lock closes no cycle ([`check::circular`]), joins no interrupt-safe to an
//!    interrupt-unsafe class ([`check::irq_order`]), and is then learned (`order.rs`);
//! 6. push.
//!
//! Waiting for an event is an acquisition that is not pushed. Who lets an event happen while holding locks got there only
//! by taking them, so the event comes before each of these (5., with the event as the lock that is held).
//!
//! A nested acquisition of the class on top of the stack needs only 3 and 6. A trylock skips 1, 4 and 5 (it
//! cannot block), an unchecked class 2, 4 and 5.
//!
//! A dependency that breaks a rule is reported and *not* learned, so that one mistake does not make every later
//! dependency of the same classes look wrong. Nothing ever switches the engine off.
//!
//! Invariants: the graph has no strong cycle; findings are data, built here and rendered elsewhere; there is
//! no clock, no lock, no thread-local and no output in this module or below it.
//!
//! Kernel counterpart: `__lock_acquire()`, `validate_chain()`, `check_prevs_add()`, `__lock_release()`.
//!
//! Cannot see: orders that no run ever took; waits that nobody tells of; an order that exists only in a trylock
//! loop.

pub mod check;
mod chunks;
pub mod class;
mod edges;
pub mod evidence;
pub mod graph;
pub mod instances;
mod line;
mod order;
mod search;
pub mod sight;
mod stats;
pub mod strength;
pub mod task;
mod topology;
pub mod usage;

use std::num::NonZeroU32;

use rustc_hash::FxHashMap;

pub use class::{Class, ClassDef};
pub use edges::{Edge, EdgeId};
pub use evidence::{End, StackId};
pub use graph::{Dependency, Graph};
pub use strength::{Hold, Strength, Wait};
pub use task::{HeldLock, Task};

use crate::event::{Acquisition, Context, Event, PinOp, Place};
use crate::ids::{ClassId, Instance};
use crate::report::model::{Acquired, LockName, Report};
use class::Classes;
use evidence::Evidence;
use instances::Instances;
use usage::{Fact, FirstUse};

/// A report, and for each of its edges the number under which the graph knows it.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The report.
    pub report: Report,
    /// One for each of [`Report::edges`]; `None` for the new one, which is not learned.
    pub edges: Vec<Option<EdgeId>>,
    /// One for each of [`Report::usages`]: whose, and what.
    pub usages: Vec<(ClassId, Fact)>,
}

/// What one event led to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Dependencies that are new in the graph.
    pub learned: Vec<EdgeId>,
    /// Facts about classes that are new.
    pub noted: Vec<(ClassId, Fact)>,
    /// Findings that were not made before.
    pub findings: Vec<Finding>,
    /// Findings that were made before, of acquisitions that would certainly block for ever.
    pub again: Vec<Report>,
    /// True if the same event in the same state will lead to nothing new: its chain may be cached.
    pub clean: bool,
    /// True if "the same state" includes which lock objects are held, not only their classes.
    pub per_instance: bool,
}

/// What the engine has done so far; counted, so it can be asserted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events taken.
    pub events: u64,
    /// Findings that were made again and not reported again.
    pub duplicates: u64,
}

/// The state that all tasks of one validator share. See the module documentation.
#[derive(Debug, Default)]
pub struct Engine {
    classes: Classes,
    graph: Graph,
    evidence: Evidence,
    instances: Instances,
    depth_max: usize,
    /// Cycles that a guard excuses, as long as it does.
    guarded: Vec<order::GuardedCycle>,
    /// A class has ceased to guard since they were looked at.
    recheck_due: bool,
    reported: FxHashMap<check::Identity, u64>,
    repeat: bool,
    counters: Counters,
}

impl Engine {
    /// An engine that knows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Switches on that each finding is given every time it is made, for a caller that counts by itself: in a
    /// recorded trace every acquisition has a place of its own, so the engine would take each for new and keep
    /// them all.
    pub fn repeat_findings(&mut self, on: bool) {
        self.repeat = on;
    }

    /// Adds a class and gives its number.
    pub fn register(&mut self, def: ClassDef) -> ClassId {
        self.classes.register(def)
    }

    /// The classes.
    #[must_use]
    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// The dependencies.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// A dependency with the evidence of its first sight, unless it has gone with one of its classes.
    #[must_use]
    pub fn dependency(&self, edge: EdgeId) -> Option<Dependency> {
        self.graph.dependency(edge, &self.evidence)
    }

    /// When a fact about a class was first seen.
    #[must_use]
    pub fn first_use(&self, class: ClassId, fact: Fact) -> Option<FirstUse> {
        let first = self.classes.first_use(class, fact)?;
        let (by, task) = (self.evidence.end(first.by), self.evidence.name(first.who).clone());
        Some(FirstUse { fact, by, task, stack: first.stack.get() })
    }

    /// The orders of single locks within a class.
    #[must_use]
    pub fn instances(&self) -> &Instances {
        &self.instances
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Tells that more than one lock of this class exists, where the engine does not see every acquisition. True if an
    /// excused cycle may have lost its guard: the next acquisition should then be given to the engine, which will tell.
    pub fn many_instances(&mut self, class: ClassId) -> bool {
        let new = self.classes.get_mut(class).populate_many();
        self.recheck_due |= new && !self.guarded.is_empty();
        self.recheck_due
    }

    /// Tells which stack belongs to what was learned and noted in a step before.
    pub fn attach_stack(&mut self, edges: &[EdgeId], facts: &[(ClassId, Fact)], stack: StackId) {
        for edge in edges {
            self.graph.set_stack(*edge, stack);
        }
        for (class, fact) in facts {
            self.classes.set_stack(*class, *fact, stack);
        }
    }

    /// Forgets a class. Who still holds a lock of it learns nothing from that any more.
    fn remove_class(&mut self, class: ClassId) {
        self.graph.remove_class(class, &mut self.evidence);
        self.instances.remove_class(class);
        self.guarded.retain(|kept| !kept.is_about(class));
        self.classes.remove(class, &mut self.evidence);
    }

    /// Takes one event of one task. See the module documentation for the order of the rules.
    pub fn step(&mut self, task: &mut Task, event: Event) -> Outcome {
        self.counters.events += 1;
        let mut outcome = Outcome { clean: true, ..Outcome::default() };
        match event {
            Event::Acquire(acq) => self.acquire(task, &acq, &mut outcome),
            Event::Release { instance, place } => self.release(task, instance, place, &mut outcome),
            Event::Downgrade { instance, place } => {
                self.replace(task, instance, place, Task::downgraded, &mut outcome);
            }
            Event::Convert { instance, from, to, waits, place } => {
                let converted = |held: &HeldLock| held.instance == instance && held.bits.mode() == from;
                if let Some(position) = task.held.iter().rposition(converted) {
                    if waits {
                        self.upgrade(task, position, to, place, &mut outcome);
                    }
                    task.convert(position, to, place);
                }
            }
            Event::Reclass { instance, class, check, place } => {
                let rest =
                    |held: &HeldLock| HeldLock { bits: held.bits.with_class(class, check), place, ..*held };
                self.replace(task, instance, place, rest, &mut outcome);
            }
            Event::Pin { instance, class, op, place } => {
                let count = task.pinned(instance);
                let report = check::pin::check(self, task, (class, instance), op, count, place);
                if report.is_none() || matches!(op, PinOp::Unpin(_)) {
                    task.pin(instance, op);
                }
                self.found(&mut outcome, report);
            }
            Event::BadSubclass { instance, class, subclass, place } => {
                let report = check::subclass::report(self, task, (class, instance), subclass, place);
                self.found(&mut outcome, Some(report));
            }
            Event::RemoveClass { class, held, place } => {
                if held > 0 {
                    let own = task.held().iter().find(|held| held.bits.class() == class);
                    let instance = own.map_or(Instance(0), |held| held.instance);
                    let report = check::key::removed(self, task, (class, instance), held, place);
                    self.found(&mut outcome, Some(report));
                }
                self.remove_class(class);
            }
            Event::ClassGone { instance, class, place } => {
                let report = check::key::used(self, task, (class, instance), place);
                self.found(&mut outcome, Some(report));
            }
            Event::RcuUnprotected { instance, class, place } => {
                let report = check::rcu::report(self, task, (class, instance), place);
                self.found(&mut outcome, Some(report));
            }
            Event::Declare { before, after, place } => {
                self.declare(task, before, after, place, &mut outcome);
            }
            Event::Wait { instance, class, place } => {
                self.classes.get_mut(class).make_event();
                let wait = Acquisition { sync: true, ..Acquisition::exclusive(class, instance, place) };
                self.acquire(task, &wait, &mut outcome);
            }
            Event::Complete { instance, class, place } => {
                self.classes.get_mut(class).make_event();
                self.complete(task, class, instance, place, &mut outcome);
            }
            Event::AssertHeld { instance, class, how, place } => {
                let report = check::assert_held::check(self, task, instance, class, how, place);
                self.found(&mut outcome, report);
            }
            Event::AssertNotHeld { instance, class, place } => {
                let report = check::assert_not_held::check(self, task, instance, class, place);
                self.found(&mut outcome, report);
            }
            Event::WwMisuse { instance, class, what, place } => {
                let report = check::ww_api::report(self, task, instance, class, what, place);
                self.found(&mut outcome, Some(report));
            }
            Event::Freed { start, len, place } => {
                let report = check::freed::check(self, task, start, len, place);
                self.found(&mut outcome, report);
            }
            Event::Dropped { lock } => self.instances.remove(lock),
            Event::Exit { place } => {
                let report = check::exit::check(self, task, place);
                self.found(&mut outcome, report);
            }
            Event::UserReturn { place } => {
                let report = check::user_return::check(self, task, place);
                self.found(&mut outcome, report);
            }
            Event::Context { context, enter: true, threaded } => task.enter(context, threaded),
            Event::Context { enter: false, .. } => task.leave(),
            Event::Enable { context, on, .. } => {
                let was_on = task.irq.enabled(context);
                task.irq.set_enabled(context, on);
                if on && !was_on {
                    self.mark_held(task, context, &mut outcome);
                }
            }
        }
        task.learned |= !outcome.learned.is_empty() || outcome.per_instance;
        outcome
    }

    fn acquire(&mut self, task: &mut Task, acq: &Acquisition, outcome: &mut Outcome) {
        let bits = task.bits(acq);
        let (part, key) = task.with(bits);
        let many = self.classes.get_mut(acq.class).populate(acq.instance);
        if std::mem::take(&mut self.recheck_due) || many {
            self.recheck(outcome);
        }
        let entry = HeldLock {
            nest: acq.nest.unwrap_or(Instance(0)),
            rank: acq.rank.and_then(|rank| NonZeroU32::MIN.checked_add(rank)),
            part,
            ..HeldLock::new(task.key, acq.instance, acq.lock, bits, acq.place)
        };
        if !entry.is_merged() {
            let report = check::wait_context::check(self, task, &entry);
            self.found(outcome, report);
            if acq.check {
                for fact in usage::facts_of(bits) {
                    self.mark(task, &entry, fact, outcome);
                }
            }
        }
        let report = check::nest_missing::check(self, task, &entry);
        self.found(outcome, report);
        if !entry.is_merged() && !acq.trylock && acq.check {
            self.order(task, &entry, outcome);
        }
        outcome.per_instance |= self.instances_matter(task, &entry);
        if !acq.sync {
            task.push(entry, key);
            self.depth_max = self.depth_max.max(task.held().len());
        }
        let report = check::depth::check(self, task);
        self.found(outcome, report);
    }

    /// Notes a usage fact and, if it is new, applies the interrupt rules.
    fn mark(&mut self, task: &Task, lock: &HeldLock, fact: Fact, outcome: &mut Outcome) {
        if self.classes.get(lock.bits.class()).usage.has(fact) {
            return;
        }
        let together = outcome.noted.iter().any(|(class, _)| *class == lock.bits.class());
        if !self.classes.note(lock, fact, together, &task.name, &mut self.evidence) {
            return;
        }
        outcome.noted.push((lock.bits.class(), fact));
        let finding = match check::irq_state::check(self, task, lock, fact) {
            None => check::irq_inversion::check(self, task, lock, fact),
            finding => finding,
        };
        self.found(outcome, finding);
    }

    /// True if the verdict on this chain may change with the instances in it: a lock of the same key is held
    /// already, and nothing serialises the two.
    fn instances_matter(&self, task: &Task, new: &HeldLock) -> bool {
        let group = self.classes.get(new.bits.class()).group;
        let related = |held: &HeldLock| self.classes.get(held.bits.class()).group == group;
        !new.is_merged() && task.held().iter().any(related)
    }

    fn release(&mut self, task: &mut Task, instance: Instance, place: Place, outcome: &mut Outcome) {
        if let Some(position) = task.position(instance).filter(|_| task.pinned(instance) > 0) {
            let class = task.held()[position].bits.class();
            let report = check::pin::released(self, task, (class, instance), place);
            self.found(outcome, Some(report));
            task.unpin(instance);
        }
        if task.pop_top(instance) {
            return;
        }
        let Some(position) = task.position(instance) else {
            let report = check::balance::check(self, task, instance, place);
            self.found(outcome, Some(report));
            return;
        };
        let (_, above) = task.split_at(position);
        self.replay(task, above, outcome);
    }

    /// A hold becomes another one in its place.
    fn replace(
        &mut self,
        task: &mut Task,
        instance: Instance,
        place: Place,
        change: impl FnOnce(&HeldLock) -> HeldLock,
        outcome: &mut Outcome,
    ) {
        let Some(position) = task.position(instance) else {
            let report = check::balance::check(self, task, instance, place);
            self.found(outcome, Some(report));
            return;
        };
        let (entry, above) = task.split_at(position);
        self.replay(task, [change(&entry)].into_iter().chain(above), outcome);
    }

    /// Puts entries back that lay above one that was taken out. Each is validated anew in its new chain, as the
    /// kernel does: what was held under the released lock is now directly above what lies below.
    fn replay(&mut self, task: &mut Task, above: impl IntoIterator<Item = HeldLock>, outcome: &mut Outcome) {
        for entry in above {
            let (part, key) = task.with(entry.bits);
            let entry = HeldLock { prev_key: task.key, part, ..entry };
            if !entry.is_merged() && !entry.bits.trylock() && entry.bits.check() {
                self.order(task, &entry, outcome);
            }
            let report = check::nest_missing::check(self, task, &entry);
            self.found(outcome, report);
            outcome.per_instance |= self.instances_matter(task, &entry);
            task.push(entry, key);
        }
    }

    /// A context is switched on: every lock held meanwhile is from now on taken with it enabled.
    fn mark_held(&mut self, task: &Task, context: Context, outcome: &mut Outcome) {
        for held in task.held().iter().filter(|held| held.bits.check()) {
            for fact in usage::facts_of_enabling(context, held.bits, task.irq) {
                self.mark(task, held, fact, outcome);
            }
        }
    }

    /// Takes a finding into the outcome, unless it was made before.
    fn found(&mut self, outcome: &mut Outcome, finding: Option<Finding>) {
        let Some(finding) = finding else { return };
        outcome.clean = false;
        if self.repeat {
            outcome.findings.push(finding);
            return;
        }
        let count = self.reported.entry(check::identity(&finding.report)).or_insert(0);
        *count += 1;
        if *count > 1 {
            self.counters.duplicates += 1;
            outcome.again.extend(finding.report.certain.then_some(finding.report));
        } else {
            outcome.findings.push(finding);
        }
    }

    /// How often each distinct finding was made, in no order.
    pub fn occurrences(&self) -> impl Iterator<Item = (&str, u64)> {
        self.reported.iter().map(|((signature, ..), count)| (signature.as_str(), *count))
    }

    /// The lock as reports name it.
    #[must_use]
    pub fn lock_name(&self, class: ClassId, instance: Instance) -> LockName {
        let entry = self.classes.get(class);
        let (outer, inner) = entry.waits;
        LockName {
            class: entry.display_name(),
            instance,
            usage: entry.usage.letters(),
            waits: (inner as u8 != 0).then_some((outer as u8, inner as u8)),
            event: entry.is_event(),
        }
    }

    /// A held lock as reports show it.
    #[must_use]
    pub fn acquired(&self, task: &Task, held: &HeldLock) -> Acquired {
        Acquired {
            lock: self.lock_name(held.bits.class(), held.instance),
            mode: held.bits.mode(),
            trylock: held.bits.trylock(),
            site: held.place.into(),
            task: task.name.clone(),
            stack: None,
        }
    }

    /// Asserts the invariants of all parts.
    ///
    /// # Panics
    /// If the validator itself is wrong.
    pub fn check_invariants(&self) {
        self.graph.check_invariants();
        self.evidence.check(self.graph.references().chain(self.classes.references()));
        self.instances.check_invariants();
    }
}

fn end_of(held: &HeldLock) -> End {
    End { instance: held.instance, mode: held.bits.mode(), trylock: held.bits.trylock(), place: held.place }
}
