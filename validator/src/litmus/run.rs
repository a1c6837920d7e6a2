// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! Runs a program on a fresh engine, each step to its end, and compares what was reported with what was
//! expected.

use std::collections::{BTreeMap, BTreeSet};

use super::program::{Expectation, How, LockDecl, LockType, Op, Prime, Program, Section, Step, Tracking};
use super::ww::{Attempt, WwWorld};
use crate::engine::{ClassDef, Engine, Finding, Task};
use crate::event::{Acquisition, Context, Event, HeldAs, LockKind, Mode, PinOp, Place};
use crate::ids::{ClassId, Instance, LockId, TaskId};
use crate::limits::SUBCLASSES;
use crate::report::model::Report;
use crate::ww::WwMisuse;

/// One report of a run.
#[derive(Clone, Debug)]
pub struct Reported {
    /// The line of the step that made it.
    pub line: u32,
    /// The report.
    pub report: Report,
}

/// What a run reported, next to what was expected.
#[derive(Clone, Debug)]
pub struct Run {
    /// From the file.
    pub expected: Vec<Expectation>,
    /// In the order of the steps.
    pub reported: Vec<Reported>,
}

impl Run {
    /// Expected reports that did not come.
    #[must_use]
    pub fn missing(&self) -> Vec<&Expectation> {
        let mut left: Vec<_> = self.reported.iter().map(|r| (r.line, r.report.kind)).collect();
        self.expected
            .iter()
            .filter(|wanted| match left.iter().position(|had| *had == (wanted.line, wanted.kind)) {
                Some(at) => {
                    left.swap_remove(at);
                    false
                }
                None => true,
            })
            .collect()
    }

    /// Reports that came and were not expected.
    #[must_use]
    pub fn unexpected(&self) -> Vec<&Reported> {
        let mut left: Vec<_> = self.expected.iter().map(|e| (e.line, e.kind)).collect();
        self.reported
            .iter()
            .filter(|had| match left.iter().position(|wanted| *wanted == (had.line, had.report.kind)) {
                Some(at) => {
                    left.swap_remove(at);
                    false
                }
                None => true,
            })
            .collect()
    }

    /// True if exactly the expected reports came, on their lines.
    #[must_use]
    pub fn as_expected(&self) -> bool {
        self.missing().is_empty() && self.unexpected().is_empty()
    }
}

impl Program {
    /// Runs the program on a fresh engine.
    #[must_use]
    pub fn run(&self) -> Run {
        let mut runner = Runner { program: self, ..Runner::new(self) };
        for prime in &self.primes {
            runner.prime(prime);
        }
        runner.reported.clear();
        for step in &self.steps {
            runner.step(step);
        }
        Run { expected: self.expected.clone(), reported: runner.reported }
    }
}

struct Runner<'p> {
    program: &'p Program,
    engine: Engine,
    tasks: BTreeMap<&'p str, State>,
    classes: BTreeMap<(String, u8), ClassId>,
    instances: BTreeMap<String, Instance>,
    ww: WwWorld,
    /// Classes that have gone away.
    gone: BTreeSet<&'p str>,
    /// The cookies of the pins that are set, and the ones given back last.
    pins: BTreeMap<&'p str, (Vec<u16>, u16)>,
    cookies: u16,
    reported: Vec<Reported>,
    line: u32,
}

/// A task and the sections it is in.
struct State {
    task: Task,
    sections: Vec<Section>,
}

/// How an instance is taken, resolved.
struct Taking {
    mode: Mode,
    trylock: bool,
    nest: Option<Instance>,
    rank: Option<u32>,
}

impl Taking {
    const WRITE: Taking = Taking { mode: Mode::Write, trylock: false, nest: None, rank: None };
    const READ: Taking = Taking { mode: Mode::Read, ..Taking::WRITE };
}

/// A task, made on first use.
fn state<'a, 'p>(tasks: &'a mut BTreeMap<&'p str, State>, name: &'p str) -> &'a mut State {
    let id = TaskId(u32::try_from(tasks.len()).unwrap_or(u32::MAX));
    tasks.entry(name).or_insert_with(|| State { task: Task::new(id, name.into(), 0), sections: Vec::new() })
}

impl<'p> Runner<'p> {
    fn new(program: &'p Program) -> Self {
        Runner {
            program,
            engine: Engine::new(),
            tasks: BTreeMap::new(),
            classes: BTreeMap::new(),
            instances: BTreeMap::new(),
            ww: WwWorld::new(program),
            gone: BTreeSet::new(),
            pins: BTreeMap::new(),
            cookies: 0,
            reported: Vec::new(),
            line: 0,
        }
    }

    fn decl(&self, lock: &str) -> Option<&'p LockDecl> {
        self.program.locks.iter().find(|decl| decl.name == lock)
    }

    fn instance(&mut self, name: &str) -> Instance {
        let next = Instance((self.instances.len() as u64 + 1) * 0x100);
        *self.instances.entry(name.to_owned()).or_insert(next)
    }

    /// The class of a lock, a context (`ctx:NAME` in `contexts`) or a built-in map.
    fn class(&mut self, name: &str, kind: LockType, subclass: u8) -> ClassId {
        let subclass = subclass.min(SUBCLASSES - 1);
        if let Some(class) = self.classes.get(&(name.to_owned(), subclass)) {
            return *class;
        }
        let sibling = (0..SUBCLASSES).find_map(|s| self.classes.get(&(name.to_owned(), s)).copied());
        let class = self.engine.register(ClassDef {
            subclass,
            sibling,
            waits: (kind.waits(), kind.waits()),
            excludes: kind != LockType::Map,
            kind: if kind == LockType::Local { LockKind::PerCpu } else { LockKind::Normal },
            ..ClassDef::named(name)
        });
        self.classes.insert((name.to_owned(), subclass), class);
        class
    }

    fn prime(&mut self, prime: &'p Prime) {
        const TASK: &str = "(declared order)";
        let chain: Vec<(String, LockType, Taking)> = match prime {
            Prime::Chain(names) => {
                names.iter().map(|name| (name.clone(), self.kind(name), Taking::WRITE)).collect()
            }
            Prime::DmaResv => vec![
                ("mmap_lock".into(), LockType::RwSem, Taking::READ),
                ("resv_acquire".into(), LockType::Map, Taking::WRITE),
                ("resv".into(), LockType::Ww, Taking::WRITE),
                ("fs_reclaim".into(), LockType::Map, Taking::WRITE),
                ("fence".into(), LockType::Map, Taking::WRITE),
            ],
        };
        for (name, kind, taking) in &chain {
            let class_name = self.decl(name).map_or(name.clone(), |decl| decl.class.clone());
            let class = self.class(&class_name, *kind, 0);
            let instance = self.instance(name);
            let taking = Taking { ..*taking };
            self.acquire(TASK, class, instance, taking);
        }
        for (name, _, _) in chain.iter().rev() {
            let instance = self.instance(name);
            self.event(TASK, Event::Release { instance, place: Place::Unknown });
        }
    }

    fn kind(&self, name: &str) -> LockType {
        self.decl(name).map_or(LockType::Map, |decl| decl.kind)
    }

    fn task(&mut self, name: &'p str) -> &mut Task {
        &mut state(&mut self.tasks, name).task
    }

    fn event(&mut self, task: &'p str, event: Event) {
        let state = state(&mut self.tasks, task);
        let outcome = self.engine.step(&mut state.task, event);
        state.task.check_invariants();
        self.engine.check_invariants();
        let line = self.line;
        self.reported
            .extend(outcome.findings.into_iter().map(|Finding { report, .. }| Reported { line, report }));
    }

    fn acquire(&mut self, task: &'p str, class: ClassId, instance: Instance, taking: Taking) {
        let place = Place::Line(self.line);
        let Taking { mode, trylock, nest, rank } = taking;
        let unchecked = |(name, known): (&String, &Instance)| {
            *known == instance && self.tracking(name) == Tracking::Unchecked
        };
        let check = !self.instances.iter().any(unchecked);
        self.event(
            task,
            Event::Acquire(Acquisition {
                class,
                instance,
                lock: self.lock_id(instance),
                mode,
                trylock,
                check,
                sync: false,
                nest,
                rank,
                place,
            }),
        );
    }

    /// Declared locks are objects of their own; maps and contexts stand for something else.
    fn lock_id(&self, instance: Instance) -> LockId {
        let real = |name: &str| {
            self.decl(name).is_some_and(|decl| !matches!(decl.kind, LockType::Map | LockType::Event))
        };
        match self.instances.iter().find(|(_, known)| **known == instance) {
            Some((name, _)) if real(name) => LockId(u32::try_from(instance.0).unwrap_or(0)),
            _ => LockId::UNKNOWN,
        }
    }

    fn release(&mut self, task: &'p str, instance: Instance) {
        self.event(task, Event::Release { instance, place: Place::Line(self.line) });
    }

    /// Takes a built-in map or lock and releases it at once.
    fn touch(&mut self, task: &'p str, name: &str, kind: LockType, taking: Taking) {
        let class = self.class(name, kind, 0);
        let instance = self.instance(name);
        self.acquire(task, class, instance, taking);
        self.release(task, instance);
    }

    fn step(&mut self, step: &'p Step) {
        self.line = step.line;
        if let Op::Lock { lock, .. } | Op::Unlock(lock) = &step.op
            && self.is_beyond(step.task.as_str(), lock)
        {
            if self.tracking(lock) != Tracking::None && matches!(step.op, Op::Lock { .. }) {
                let (class, instance) = self.known(lock);
                let place = Place::Line(step.line);
                self.event(&step.task, Event::ClassGone { instance, class, place });
            }
            return;
        }
        let task = step.task.as_str();
        let place = Place::Line(step.line);
        match &step.op {
            Op::Lock { lock, how, subclass, nest } => {
                if self.kind(lock) == LockType::Ww {
                    self.ww_lock(task, lock, *how, *subclass, nest.as_deref());
                } else {
                    self.lock(task, lock, *how, *subclass, nest.as_deref());
                }
            }
            Op::Unlock(lock) => {
                let verdict = self.ww.dropped(task, lock);
                self.ww_verdict(task, lock, verdict);
                let instance = self.instance(lock);
                self.release(task, instance);
            }
            Op::Downgrade(lock) => {
                let instance = self.instance(lock);
                self.event(task, Event::Downgrade { instance, place });
            }
            Op::Upgrade(lock) => {
                let (from, to) = (Mode::Upgradable, Mode::Write);
                let instance = self.instance(lock);
                self.event(task, Event::Convert { instance, from, to, waits: true, place });
            }
            Op::Reclass { lock, class, subclass } => {
                let (name, kind) = self.class_of(lock);
                let class = self.class(class.as_ref().unwrap_or(&name), kind, *subclass);
                let (instance, check) = (self.instance(lock), self.tracking(lock) == Tracking::Full);
                self.event(task, Event::Reclass { instance, class, check, place });
            }
            Op::Unregister(name) => self.unregister(task, name),
            Op::Register(name) => {
                self.gone.remove(name.as_str());
                self.classes.retain(|(known, _), _| known != name);
            }
            Op::Pin(lock) => {
                self.cookies += 1;
                let cookie = self.cookies;
                self.pins.entry(lock).or_default().0.push(cookie);
                self.pin(task, lock, PinOp::Pin(cookie));
            }
            Op::Repin(lock) => {
                let (set, last) = self.pins.entry(lock).or_default();
                set.push(*last);
                let cookie = *last;
                self.pin(task, lock, PinOp::Repin(cookie));
            }
            Op::Unpin(lock) => {
                let (set, last) = self.pins.entry(lock).or_default();
                *last = set.pop().unwrap_or(*last);
                let cookie = *last;
                self.pin(task, lock, PinOp::Unpin(cookie));
            }
            Op::Rcu(locks) => {
                let held = locks.iter().any(|lock| {
                    let instance = self.instance(lock);
                    self.task(task).holds(instance)
                });
                if let (Some(first), false) = (locks.first(), held) {
                    let (class, instance) = self.known(first);
                    self.event(task, Event::RcuUnprotected { instance, class, place });
                }
            }
            Op::Init(lock) | Op::Free(lock) => {
                let start = self.instance(lock).0;
                self.event(task, Event::Freed { start, len: 1, place });
                let verdict = self.ww.destroy(task, lock);
                if matches!(step.op, Op::Free(_)) {
                    self.ww_verdict(task, lock, verdict);
                } else if let Some(decl) = self.decl(lock).filter(|decl| decl.kind == LockType::Ww) {
                    self.ww.init(lock, &decl.class);
                }
            }
            Op::Ctx { name, class } => {
                let instance = self.instance(name);
                self.ww.begin(name, instance, class);
                let (class, _) = self.known(name);
                self.acquire(task, class, instance, Taking::WRITE);
            }
            Op::Done(name) => {
                let (class, instance) = self.known(name);
                self.event(task, Event::AssertHeld { instance, class, how: HeldAs::Any, place });
                let verdict = self.ww.done(name);
                self.ww_verdict(task, name, verdict);
            }
            Op::Fini(name) => {
                let instance = self.instance(name);
                self.release(task, instance);
                let verdict = self.ww.fini(name);
                self.ww_verdict(task, name, verdict);
            }
            Op::AssertHeld(lock, how) => {
                let (class, instance) = self.known(lock);
                self.event(task, Event::AssertHeld { instance, class, how: *how, place });
            }
            Op::AssertNotHeld(lock) => {
                let (class, instance) = self.known(lock);
                self.event(task, Event::AssertNotHeld { instance, class, place });
            }
            Op::MightLock(lock) => {
                let (class, instance) = self.known(lock);
                self.acquire(task, class, instance, Taking::WRITE);
                self.release(task, instance);
            }
            Op::Irq(on) => self.event(task, Event::Enable { context: Context::HardIrq, on: *on, place }),
            Op::Bh(on) => self.event(task, Event::Enable { context: Context::SoftIrq, on: *on, place }),
            Op::Begin(section) => self.begin(task, section),
            Op::End => self.end(task),
            Op::Alloc => self.touch(task, "fs_reclaim", LockType::Map, Taking::WRITE),
            Op::MightFault => self.touch(task, "mmap_lock", LockType::RwSem, Taking::READ),
            Op::WaitFence => self.wait_fence(task),
            Op::Flush(work) => self.touch(task, work, LockType::Map, Taking::WRITE),
            Op::Wait(name) => {
                let (class, instance) = self.known(name);
                self.event(task, Event::Wait { instance, class, place });
            }
            Op::Complete(name) => {
                let (class, instance) = self.known(name);
                self.event(task, Event::Complete { instance, class, place });
            }
            Op::Spawn(other) => {
                let clock = self.task(task).pass_on();
                self.task(other).follow(&clock);
            }
            Op::Join(other) => {
                let clock = self.task(other).pass_on();
                self.task(task).follow(&clock);
            }
            Op::Exit => self.event(task, Event::Exit { place }),
            Op::UserReturn => self.event(task, Event::UserReturn { place }),
        }
    }

    fn pin(&mut self, task: &'p str, lock: &str, op: PinOp) {
        let (class, instance) = self.known(lock);
        self.event(task, Event::Pin { instance, class, op, place: Place::Line(self.line) });
    }

    fn unregister(&mut self, task: &'p str, name: &'p str) {
        let classes: Vec<ClassId> =
            self.classes.iter().filter(|((known, _), _)| known == name).map(|(_, class)| *class).collect();
        for class in classes {
            let held = self.tasks.values().flat_map(|state| state.task.held());
            let held = held.filter(|held| held.bits.class() == class).count();
            let held = u32::try_from(held).unwrap_or(u32::MAX);
            self.event(task, Event::RemoveClass { class, held, place: Place::Line(self.line) });
        }
        self.gone.insert(name);
    }

    /// True if the lock is as good as not there: untracked, or its class has gone away and the task does not hold it.
    fn is_beyond(&self, task: &str, lock: &str) -> bool {
        let gone = self.decl(lock).is_some_and(|decl| self.gone.contains(decl.class.as_str()));
        let held = || {
            let (task, instance) = (self.tasks.get(task), self.instances.get(lock));
            task.zip(instance).is_some_and(|(state, instance)| state.task.holds(*instance))
        };
        self.tracking(lock) == Tracking::None || gone && !held()
    }

    fn tracking(&self, lock: &str) -> Tracking {
        self.decl(lock).map_or(Tracking::Full, |decl| decl.tracking)
    }

    /// Class name and kind of a lock, a context or a built-in map.
    fn class_of(&self, name: &str) -> (String, LockType) {
        match (self.decl(name), self.ww.ctx_class(name)) {
            (Some(decl), _) => (decl.class.clone(), decl.kind),
            (None, Some(class)) => (format!("{class}_acquire"), LockType::Map),
            (None, None) => (name.to_owned(), LockType::Map),
        }
    }

    fn known(&mut self, lock: &str) -> (ClassId, Instance) {
        let (class, kind) = self.class_of(lock);
        (self.class(&class, kind, 0), self.instance(lock))
    }

    /// A mutex, or a context, was used like this.
    fn ww_verdict(&mut self, task: &'p str, name: &str, verdict: Result<(), WwMisuse>) {
        let Err(what) = verdict else { return };
        let (class, instance) = self.known(name);
        self.event(task, Event::WwMisuse { instance, class, what, place: Place::Line(self.line) });
    }

    /// A wound/wait mutex is locked, with a context or without.
    fn ww_lock(&mut self, task: &'p str, lock: &str, how: How, subclass: u8, nest: Option<&str>) {
        let verdict = self.ww.used(lock);
        self.ww_verdict(task, lock, verdict);
        let ctx = nest.filter(|nest| self.ww.ctx_class(nest).is_some());
        if let (Some(ctx), How::Slow) = (ctx, how) {
            let verdict = self.ww.slow(ctx);
            self.ww_verdict(task, ctx, verdict);
        }
        let attempt = match how {
            _ if how.is_try() => Attempt::Take,
            _ => self.ww.attempt(task, lock, ctx),
        };
        if attempt == Attempt::Already {
            return;
        }
        self.lock(task, lock, how, subclass, nest);
        let instance = self.instance(lock);
        let verdict = match (attempt, ctx) {
            (Attempt::BackOff, Some(ctx)) => {
                let verdict = self.ww.backed_off(ctx, instance);
                self.release(task, instance);
                verdict
            }
            _ => self.ww.took(task, lock, instance, ctx),
        };
        self.ww_verdict(task, lock, verdict);
    }

    fn lock(&mut self, task: &'p str, lock: &str, how: How, subclass: u8, nest: Option<&str>) {
        let nest = nest.map(|nest| self.instance(nest));
        let (class, kind) = self.class_of(lock);
        let class = self.class(&class, kind, subclass);
        let instance = self.instance(lock);
        if subclass >= SUBCLASSES {
            let place = Place::Line(self.line);
            self.event(task, Event::BadSubclass { instance, class, subclass, place });
        }
        let position = self.program.locks.iter().position(|decl| decl.name == lock && decl.ordered);
        let rank = position.and_then(|position| u32::try_from(position).ok());
        let irq = self.tasks.get(task).map(|state| state.task.irq());
        let bh_off = irq.is_some_and(|irq| irq.level() != 0 || !irq.enabled(Context::SoftIrq));
        let mode = match how {
            How::Read | How::TryRead if kind == LockType::RwLock && bh_off => Mode::RecursiveRead,
            How::Read | How::TryRead => Mode::Read,
            How::ReadRecursive | How::TryReadRecursive => Mode::RecursiveRead,
            How::Upgradable | How::TryUpgradable => Mode::Upgradable,
            How::Write | How::Try | How::Slow => Mode::Write,
        };
        self.acquire(task, class, instance, Taking { mode, trylock: how.is_try(), nest, rank });
    }

    fn begin(&mut self, task: &'p str, section: &'p Section) {
        match section {
            Section::HardIrq { threaded } => {
                self.event(
                    task,
                    Event::Context { context: Context::HardIrq, enter: true, threaded: *threaded },
                );
            }
            Section::SoftIrq => {
                self.event(task, Event::Context { context: Context::SoftIrq, enter: true, threaded: false });
            }
            Section::Reclaim => self.hold(task, "fs_reclaim", Taking::WRITE),
            Section::Signalling => self.hold(task, "fence", Taking::READ),
            Section::Work(work) => self.hold(task, work, Taking::WRITE),
        }
        if let Some(state) = self.tasks.get_mut(task) {
            state.sections.push(section.clone());
        }
    }

    fn hold(&mut self, task: &'p str, name: &str, taking: Taking) {
        let class = self.class(name, LockType::Map, 0);
        let instance = self.instance(name);
        self.acquire(task, class, instance, taking);
    }

    fn end(&mut self, task: &'p str) {
        let Some(section) = self.tasks.get_mut(task).and_then(|state| state.sections.pop()) else { return };
        let name = match &section {
            Section::HardIrq { .. } | Section::SoftIrq => {
                let context = if section == Section::SoftIrq { Context::SoftIrq } else { Context::HardIrq };
                self.event(task, Event::Context { context, enter: false, threaded: false });
                return;
            }
            Section::Reclaim => "fs_reclaim",
            Section::Signalling => "fence",
            Section::Work(work) => work,
        };
        let instance = self.instance(name);
        self.release(task, instance);
    }

    /// Waiting for a fence takes the fence map for writing; a signalling section that this task is in does not
    /// wait for itself, so its hold is dropped meanwhile.
    fn wait_fence(&mut self, task: &'p str) {
        let instance = self.instance("fence");
        let signalling = self.tasks.get(task).is_some_and(|state| state.task.holds(instance));
        if signalling {
            self.release(task, instance);
        }
        self.touch(task, "fence", LockType::Map, Taking::WRITE);
        if signalling {
            self.hold(task, "fence", Taking::READ);
        }
    }
}
