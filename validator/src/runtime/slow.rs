// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything that is not a known acquisition: first uses, new chains, out-of-order releases, assertions,
//! findings.
//!
//! An acquisition goes: class (registered on first use) → chain key → this thread's cache → the shared set of
//! clean chains → the engine. What was learned gets a stack and what was found is delivered after the engine's
//! lock is dropped. A panic that is due is handed to the caller, which may raise it (this thread is no longer
//! busy then), so that it has the caller's place.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::chains::Seen;
use super::contention;
use super::fork::Pass;
use super::known::{enabling_key, objects_key};
pub(crate) use super::sink::Verdict;
use super::stack::Traced;
use super::thread::{Current, Thread};
use super::{Inner, RecordedOp, VALIDATORS};
use crate::engine::task::{ChainKey, Part, Task};
use crate::engine::{Engine, HeldLock, Outcome};
use crate::event::{Acquisition, Event, Mode, Place};
use crate::hook::{Acquire, Held, Key, LockClass, LockMap};
use crate::ids::{ClassId, Instance, LockId};
use crate::limits::{HELD_RESERVED, SUBCLASSES};
use crate::report::model::{Acquired, Report};

/// The slow half of [`crate::raw::acquire`]. Whoever raises the panic takes the acquisition back before, with
/// [`take_back`].
#[cold]
#[inline(never)]
pub(crate) fn acquire(map: &LockMap, how: Acquire<'_>, place: Place) -> Option<Verdict> {
    if !map.is_tracked() {
        return None;
    }
    if !map.is_registered() {
        return event(map, place, |instance, class, place| Event::ClassGone { instance, class, place });
    }
    let mut entered = Thread::enter()?;
    let (thread, records) = (entered.thread(), entered.records());
    let gate = Pass::new();
    let Current { validator, task, holdings, traced, .. } = entered.current();
    if !how.sync && !task.holds(map.instance()) {
        holdings.extend(map.begin_to_hold().map(|holding| (map.instance(), holding)));
    }
    let validator = validator.clone();
    if task.held.capacity() < HELD_RESERVED {
        task.reserve(HELD_RESERVED);
    }
    let new = map.word_of(validator.epoch).is_none();
    let class = validator.class_of(map, how.subclass.min(SUBCLASSES - 1));
    if new && validator.registry.has_many(map) {
        thread.remember_name(map);
    }
    let acq = Acquisition {
        class,
        instance: map.instance(),
        lock: map.identify(),
        mode: how.mode,
        trylock: how.trylock,
        check: map.is_checked(),
        sync: how.sync,
        nest: how.nest.filter(|nest| nest.is_tracked()).map(LockMap::instance),
        rank: None,
        place,
    };
    if records {
        validator.record(task, RecordedOp::Acquire { how: how.into() }, acq.class, map, place);
    }
    let bits = task.bits(&acq);
    let (part, key) = task.with(bits);
    let merged = part == Part::Merged;
    let nest_held = acq.nest.is_none_or(|nest| task.holds(nest));
    let objects = objects_key(task, key, acq.lock);
    // What this thread knows first: the set of clean chains is shared.
    let known = || thread.is_known(objects) || validator.is_clean(thread, task.seen(), key);
    let clean = !validator.registry.takes_recheck() && nest_held && (merged || known());
    if clean && !acq.sync {
        let entry = HeldLock::new(task.key, acq.instance, acq.lock, bits, place);
        task.push(HeldLock { nest: acq.nest.unwrap_or(entry.nest), part, ..entry }, key);
        validator.trace(traced, acq.instance);
        return None;
    }
    let outcome = validator.judge(task, Event::Acquire(acq), |task, outcome| {
        match (outcome.clean && !acq.sync, outcome.per_instance) {
            (true, false) => validator.publish(thread, task, key),
            // One entry for each set of objects: kept by this thread, as long as there is room.
            (true, true) => thread.remember(objects),
            (false, _) => {}
        }
    });
    if outcome.per_instance {
        validator.nests_instances.store(true, Ordering::Relaxed);
    }
    drop(gate);
    let verdict = deliver(&validator, outcome, traced);
    if !acq.sync {
        validator.trace(traced, acq.instance);
    }
    verdict
}

/// A lock goes away.
pub(crate) fn dropped(lock: LockId) {
    let Some(mut entered) = Thread::enter_existing() else { return };
    let Current { validator, task, .. } = entered.current();
    if validator.nests_instances.load(Ordering::Relaxed) {
        let _gate = Pass::new();
        validator.clone().engine.lock().step(task, Event::Dropped { lock });
    }
}

/// Forgets the acquisition made last: its lock is not taken after all.
#[cold]
pub(crate) fn take_back(map: &LockMap) {
    if let Some(mut entered) = Thread::enter() {
        entered.current().task.pop_top(map.instance());
    }
}

impl Task {
    /// Who takes a chain, when this task does so now.
    fn seen(&self) -> Seen {
        Seen::By(self.id, self.segment)
    }
}

impl Inner {
    /// Asks the engine; what it found clean is then published.
    fn judge(&self, task: &mut Task, event: Event, publish: impl FnOnce(&Task, &Outcome)) -> Outcome {
        let ask = |engine: &mut Engine, task: &mut Task| engine.step(task, event);
        self.chains.judge(&self.engine, task, ask, |_, task, outcome| publish(task, outcome))
    }

    /// Lets every thread know that a chain is clean.
    fn publish(&self, thread: &Thread, task: &Task, key: ChainKey) {
        self.chains.publish(task.seen(), key, || task.chain(key));
        thread.remember(key);
    }

    /// True if this chain was validated clean before.
    fn is_clean(&self, thread: &Thread, now: Seen, key: ChainKey) -> bool {
        if thread.is_known(key) {
            return true;
        }
        self.chain_lookups.fetch_add(1, Ordering::Relaxed);
        let clean = self.chains.is_clean(now, key);
        if clean {
            self.chain_hits.fetch_add(1, Ordering::Relaxed);
            thread.remember(key);
        }
        clean
    }
}

/// The slow half of [`crate::raw::release`]: not on top, or recording, or not held.
#[cold]
#[inline(never)]
pub(crate) fn release(map: &LockMap, place: Place, strict: bool) -> Option<Verdict> {
    let instance = map.instance();
    if !map.is_tracked() || Thread::release_known(instance) {
        return None;
    }
    // Taken after its class had gone away, it is not tracked.
    let strict = strict && map.is_registered();
    let mut entered = Thread::enter()?;
    let (thread, records) = (entered.thread(), entered.records());
    let gate = Pass::new();
    if Thread::measures() {
        contention::released(entered.current(), instance);
    }
    let Current { validator, task, traced, .. } = entered.current();
    if let Some(at) = traced.iter().rposition(|(held, _)| *held == instance) {
        traced.remove(at);
    }
    let validator = validator.clone();
    if records {
        let class = validator.class_of(map, 0);
        let class = task
            .held()
            .iter()
            .rfind(|held| held.instance == instance)
            .map_or(class, |held| held.bits.class());
        validator.record(task, RecordedOp::Release, class, map, place);
    }
    let free = task.pinned(instance) == 0;
    if free && task.pop_top(instance) {
        return None;
    }
    if !task.holds(instance) {
        let current = entered.current();
        if !strict && !holds(current, instance) {
            return None;
        }
        // Taken before a scope was entered and released inside it: it is on the stack of an outer binding.
        let (validator, task) = binding_of(current, instance);
        let outcome = validator.engine.lock().step(task, Event::Release { instance, place });
        drop(gate);
        return deliver(&validator, outcome, &entered.current().traced);
    }
    let now = task.seen();
    if free && task.take_out_if(instance, |key| validator.is_clean(thread, now, key)) {
        return None;
    }
    let position = task.position(instance);
    let outcome = validator.judge(task, Event::Release { instance, place }, |task, outcome| {
        if let (Some(position), true, false) = (position, outcome.clean, outcome.per_instance) {
            // What lay above was validated in its new chains.
            let above = task.held.iter().skip(position + 1).map(|held| held.prev_key);
            for key in above.chain((position < task.held.len()).then_some(task.key)) {
                validator.publish(thread, task, key);
            }
        }
    });
    drop(gate);
    deliver(&validator, outcome, &entered.current().traced)
}

/// True if this thread holds the lock, under whatever binding.
pub(super) fn holds(current: &Current, instance: Instance) -> bool {
    current.task.holds(instance) || current.outer.iter().any(|(_, task)| task.holds(instance))
}

/// The binding under which this thread holds the lock: the one in force (also if none does), or one around it.
fn binding_of(current: &mut Current, instance: Instance) -> (Arc<Inner>, &mut Task) {
    let Current { validator, task, outer, .. } = current;
    if !task.holds(instance)
        && let Some((validator, task)) = outer.iter_mut().rev().find(|(_, task)| task.holds(instance))
    {
        return (validator.clone(), task);
    }
    (validator.clone(), task)
}

/// An event that concerns one lock.
pub(crate) fn event(
    map: &LockMap,
    place: Place,
    make: impl FnOnce(Instance, ClassId, Place) -> Event,
) -> Option<Verdict> {
    event_at(map, map.key(), 0, place, make)
}

/// The same, with the class of this key and subclass.
#[cold]
#[inline(never)]
pub(crate) fn event_at(
    map: &LockMap,
    key: Key,
    subclass: u8,
    place: Place,
    make: impl FnOnce(Instance, ClassId, Place) -> Event,
) -> Option<Verdict> {
    if !map.is_tracked() {
        return None;
    }
    let mut entered = Thread::enter()?;
    let records = entered.records();
    let gate = Pass::new();
    let (validator, task) = binding_of(entered.current(), map.instance());
    let class = if key.address() == map.key().address() {
        validator.class_of(map, subclass.min(SUBCLASSES - 1))
    } else {
        let subclass = subclass.min(SUBCLASSES - 1);
        validator.registry.class_of_key(&validator.engine, key, subclass, map.identify())
    };
    let event = make(map.instance(), class, place);
    if records {
        for op in recorded_ops(event) {
            validator.record(task, op, class, map, place);
        }
    }
    let outcome = validator.engine.lock().step(task, event);
    drop(gate);
    deliver(&validator, outcome, &entered.current().traced)
}

/// A lock goes away while this thread holds some. If it is one of these (it may have been moved since), that is a
/// finding, and nothing is left of the hold.
#[cold]
#[inline(never)]
pub(crate) fn dropped_while_held(lock: LockId) -> Option<Verdict> {
    let mut entered = Thread::enter()?;
    let gate = Pass::new();
    let current = entered.current();
    let tasks = std::iter::once(&current.task).chain(current.outer.iter().map(|(_, task)| task));
    let mut held = tasks.flat_map(|task| task.held());
    let instance = held.find(|held| held.lock == lock)?.instance;
    let (validator, task) = binding_of(current, instance);
    let place = Place::Unknown;
    let mut engine = validator.engine.lock();
    let outcome = engine.step(task, Event::Freed { start: instance.0, len: 1, place });
    while task.holds(instance) {
        engine.step(task, Event::Release { instance, place });
    }
    drop(engine);
    drop(gate);
    deliver(&validator, outcome, &entered.current().traced)
}

/// What a recording shows of an event that is neither an acquisition nor a release.
fn recorded_ops(event: Event) -> Vec<RecordedOp> {
    match event {
        Event::Downgrade { .. } => vec![RecordedOp::Downgrade],
        Event::AssertHeld { .. } => vec![RecordedOp::AssertHeld],
        Event::Convert { to: Mode::Write, .. } => {
            vec![RecordedOp::Release, RecordedOp::Acquire { how: Acquire::WRITE.into() }]
        }
        Event::Convert { .. } => vec![RecordedOp::Downgrade],
        _ => Vec::new(),
    }
}

/// An event that concerns the task.
#[cold]
#[inline(never)]
pub(crate) fn task_event(event: Event) -> Option<Verdict> {
    let mut entered = Thread::enter()?;
    let thread = entered.thread();
    let gate = Pass::new();
    let Current { validator, task, .. } = entered.current();
    let validator = validator.clone();
    let enabling = match event {
        Event::Enable { context, on: true, .. } => Some(enabling_key(task, context)),
        _ => None,
    };
    let outcome = validator.engine.lock().step(task, event);
    if let (Some(key), true) = (enabling, outcome.clean) {
        thread.remember(key);
    }
    drop(gate);
    deliver(&validator, outcome, &entered.current().traced)
}

/// A class on the heap goes away, of which this many locks are held: every validator forgets it.
pub(crate) fn unregister(address: usize, held: u32, place: Place) -> Option<Verdict> {
    let mut entered = Thread::enter();
    let gate = Pass::new();
    let mut own = None;
    for validator in live_validators() {
        let classes = validator.registry.classes_of(address);
        if classes.is_empty() {
            continue;
        }
        let mut engine = validator.engine.lock();
        let mut left = held;
        for class in classes {
            match entered.as_mut().map(|entered| entered.current()) {
                Some(Current { validator: bound, task, .. }) if Arc::ptr_eq(bound, &validator) => {
                    // Told once, by the validator that watches this thread.
                    let held = std::mem::take(&mut left);
                    let outcome = engine.step(task, Event::RemoveClass { class, held, place });
                    own = own.or(Some((validator.clone(), outcome)));
                }
                _ => {
                    let mut task = validator.new_task();
                    engine.step(&mut task, Event::RemoveClass { class, held: 0, place });
                }
            }
        }
        // Which chains it was in cannot be told from their keys. They are only a cache.
        validator.chains.set.clear();
    }
    drop(gate);
    own.and_then(|(validator, outcome)| deliver(&validator, outcome, &Vec::new()))
}

/// No lock bears this key any more, and its address may become that of another one.
pub(crate) fn forget_key(address: usize) {
    let _entered = Thread::enter_existing();
    let _gate = Pass::new();
    for validator in live_validators() {
        validator.registry.forget(address);
    }
}

fn live_validators() -> Vec<Arc<Inner>> {
    VALIDATORS.lock().iter().filter_map(Weak::upgrade).collect()
}

/// The program declares an order: each class before the next one.
pub(super) fn declare(validator: &Inner, order: &[&'static LockClass], place: Place) -> Option<Verdict> {
    let _entered = Thread::enter();
    let gate = Pass::new();
    let mut task = validator.new_task();
    task.name = "(declared order)".into();
    let class_of = |class: &&'static LockClass| {
        validator.registry.class_of_key(&validator.engine, Key::of_class(class), 0, LockId::UNKNOWN)
    };
    let classes: Vec<ClassId> = order.iter().map(class_of).collect();
    let mut engine = validator.engine.lock();
    let mut all = Outcome::default();
    for pair in classes.windows(2) {
        let event = Event::Declare { before: pair[0], after: pair[1], place };
        let outcome = engine.step(&mut task, event);
        all.learned.extend(outcome.learned);
        all.findings.extend(outcome.findings);
    }
    drop(engine);
    drop(gate);
    deliver(validator, all, &Vec::new())
}

/// The end of a thread: like [`task_event`] with `Exit`, but there is nobody left to panic to.
pub(super) fn thread_exit() {
    if std::thread::panicking() {
        return;
    }
    let Some(mut entered) = Thread::enter() else { return };
    let gate = Pass::new();
    let Current { validator, task, .. } = entered.current();
    if task.held().is_empty() {
        return;
    }
    let validator = validator.clone();
    let outcome = validator.engine.lock().step(task, Event::Exit { place: Place::Unknown });
    drop(gate);
    drop(deliver(&validator, outcome, &entered.current().traced));
}

/// Whether this thread holds the lock.
pub(crate) fn held(instance: Instance) -> Held {
    let Some(mut entered) = Thread::enter() else { return Held::Unknown };
    if holds(entered.current(), instance) { Held::Yes } else { Held::No }
}

/// The locks this thread holds, outermost first.
pub(crate) fn held_locks() -> Vec<Acquired> {
    let Some(mut entered) = Thread::enter() else { return Vec::new() };
    let _gate = Pass::new();
    let Current { validator, task, .. } = entered.current();
    let engine = validator.engine.lock();
    let mut held: Vec<Acquired> = task.held().iter().map(|held| engine.acquired(task, held)).collect();
    drop(engine);
    for acquired in &mut held {
        acquired.site = crate::places::site(acquired.site.place);
    }
    held
}

/// The subclass at which this thread holds the lock; 0 if it does not.
pub(crate) fn held_subclass(map: &LockMap) -> u8 {
    let Some(mut entered) = Thread::enter() else { return 0 };
    let _gate = Pass::new();
    let Current { validator, task, .. } = entered.current();
    let Some(position) = task.position(map.instance()) else { return 0 };
    let class = task.held()[position].bits.class();
    validator.engine.lock().classes().get(class).subclass
}

/// True if this thread holds nothing that is known of.
pub(crate) fn is_quiet() -> bool {
    Thread::enter().is_none_or(|mut entered| entered.current().task.held().is_empty())
}

/// Names this thread in reports.
pub(crate) fn set_task_name(name: &str) {
    if let Some(mut entered) = Thread::enter() {
        entered.current().task.name = name.into();
    }
}

/// Gives what was learned a stack, completes what was found, and hands it to the sink: outside the gate, for nobody
/// knows what a callback does, or who holds standard error.
fn deliver(validator: &Inner, outcome: Outcome, traced: &Traced) -> Option<Verdict> {
    let mut verdict = outcome.again.iter().find_map(|report| validator.sink.made_again(report));
    if outcome.learned.is_empty() && outcome.noted.is_empty() && outcome.findings.is_empty() {
        return verdict;
    }
    let gate = Pass::new();
    let stack = validator.capture(&outcome, traced);
    let complete = |finding| validator.complete(finding, stack, traced);
    let reports: Vec<Report> = outcome.findings.into_iter().map(complete).collect();
    drop(gate);
    for report in &reports {
        let due = validator.sink.deliver(report);
        verdict = verdict.or(due);
    }
    verdict
}
