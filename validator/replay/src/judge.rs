// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whose stack an event belongs to, and what it means for the engine.
//!
//! One held stack for each task and context: a task is a PID, or the CPU for the idle tasks (PID 0 exists once per
//! CPU); its contexts are the levels of the flags column (task, soft interrupt, hard interrupt, hard in soft). A
//! lock taken in an interrupt has no order against the locks of the task that happened to be interrupted, so
//! the stacks never meet. Which level it is, `context.rs` decides.
//!
//! Two things the events leave open, and how they are decided:
//!
//! * *Interrupts on while a lock is held.* Each `irq_enable`, and each event whose flags are on again, marks what
//!   the stack holds then.
//! * *A release without an acquisition.* What was taken before the trace began cannot be told from a mistake,
//!   except for a task that is known to have started from nothing: it was forked in the trace, came back to user
//!   space, or wrote a marker from there. Only for such a task it is a `balance` finding. Several such
//!   releases in a row, with no acquisition at all between them, mean that the events were switched off for a
//!   while; nobody is known after that.
//!
//! Findings are counted by cause, not by line: the first one is kept.
//!
//! Kernel counterpart: the event is the first statement of `lock_acquire()` and `lock_release()`, so a trace goes on
//! after the kernel's first report, and the printing of that report is in it.

use lockdep::engine::{ClassDef, Edge, Engine, Finding, Outcome, Task};
use lockdep::event::{Acquisition, Event};
use lockdep::ids::{ClassId, Instance};
use lockdep::limits::SUBCLASSES;
use lockdep::{Context, Mode, Place, Report, ReportKind};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::classes::Annotations;
use crate::context::{Cpus, Irqs};
use crate::ftrace::{self, Level, Line, Op, Record};
use crate::input::{InputError, Reason, binary_byte};
use crate::lkx::FullAcquire;
use crate::names::{NameId, Names};
use crate::prime::{self, Dump};
use crate::tasks::{TaskKey, Who, key};

/// Unmatched releases in a row, without any acquisition between them, that mean that events are missing.
const HOLE: u32 = 3;

/// How much was read and learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events of any kind.
    pub events: u64,
    /// `lock_acquire` events.
    pub acquisitions: u64,
    /// `lock_release` events.
    pub releases: u64,
    /// Releases of what was taken before the trace began.
    pub unmatched: u64,
    /// Classes that were taken.
    pub classes: u64,
    /// Pairs of classes between which this trace taught an order that was not known before.
    pub edges: u64,
    /// Findings that were made before and are not listed again.
    pub repeated: u64,
}

/// A finding and where it was made.
#[derive(Clone, Debug)]
pub struct Found {
    /// The line, from 1.
    pub line: u64,
    /// The line's text.
    pub source: String,
    /// The report.
    pub report: Report,
}

/// Reads lines and judges them.
#[derive(Debug)]
pub struct Judge<'a> {
    engine: Engine,
    names: Names<'a>,
    tasks: FxHashMap<TaskKey, Who>,
    cpus: Cpus,
    /// Named in tasks, if there are several files.
    file: Option<String>,
    /// To be taught when it is known whether by key or by name.
    dumps: Vec<Dump>,
    left_out: usize,
    too_deep: bool,
    flags_missing: bool,
    /// Rises when events are missing and nothing is known any more about who holds what.
    epoch: u32,
    unmatched_in_a_row: u32,
    counts: Counts,
    declared_edges: usize,
    used: Vec<bool>,
    reported: FxHashMap<String, u64>,
    findings: Vec<Found>,
    entries: Option<(u64, u64)>,
}

/// Where an event happened, for everything that may find something.
#[derive(Clone, Copy)]
struct At<'l> {
    number: u64,
    line: &'l [u8],
}

impl At<'_> {
    fn place(self) -> Place {
        Place::Line(u32::try_from(self.number).unwrap_or(u32::MAX))
    }
}

impl<'a> Judge<'a> {
    /// A judge that has seen nothing but the declared orders.
    #[must_use]
    pub fn new(annotations: &'a Annotations) -> Self {
        let mut engine = Engine::new();
        engine.repeat_findings(true);
        let mut names = Names::new(annotations);
        prime::declare(&mut engine, &mut names, annotations);
        let declared_edges = engine.graph().len();
        Judge {
            engine,
            names,
            tasks: FxHashMap::default(),
            cpus: Cpus::default(),
            file: None,
            dumps: Vec::new(),
            left_out: 0,
            too_deep: false,
            flags_missing: false,
            epoch: 0,
            unmatched_in_a_row: 0,
            counts: Counts::default(),
            declared_edges,
            used: Vec::new(),
            reported: FxHashMap::default(),
            findings: Vec::new(),
            entries: None,
        }
    }

    /// Adds what the kernel knew before the first event.
    pub fn prime(&mut self, dump: Dump) {
        self.dumps.push(dump);
    }

    /// Goes over to another file of one history: what was learned stays, what was held is not known any more, and
    /// the counts begin anew. From here on tasks are named with their file, because a line alone says little.
    pub fn begin_file(&mut self, file: &str) {
        self.forget_holds();
        self.file = Some(file.to_owned());
        self.counts = Counts::default();
        self.used.clear();
        self.declared_edges = self.engine.graph().len();
        self.entries = None;
        (self.too_deep, self.flags_missing) = (false, false);
    }

    /// Takes one line.
    ///
    /// # Errors
    /// If it is no line of a trace, one that says that events were lost, or one that shows it.
    pub fn line(&mut self, number: u64, line: &[u8]) -> Result<(), InputError> {
        let at = At { number, line };
        let outcome = match ftrace::parse(line) {
            Ok(Line::Record(record)) => record.op().map(|op| self.record(at, &record, &op)),
            Ok(Line::Other) => Ok(()),
            Ok(Line::Entries { held, written }) => {
                self.entries = Some((held, written));
                Ok(())
            }
            Ok(Line::BufferStarted) => {
                self.forget_holds();
                Ok(())
            }
            Ok(Line::Lost { cpu, count }) => {
                return Err(InputError::at(number, Reason::Overrun { cpu, count }));
            }
            Err(malformed) => Err(malformed),
        };
        outcome.map_err(|malformed| {
            let reason = binary_byte(line).map_or(Reason::Malformed(malformed), Reason::Binary);
            InputError::at(number, reason)
        })?;
        if self.too_deep { Err(InputError::at(number, Reason::TooDeep)) } else { Ok(()) }
    }

    /// What was found so far.
    #[must_use]
    pub fn findings(&self) -> &[Found] {
        &self.findings
    }

    /// Takes out what was found so far.
    #[must_use]
    pub fn take_findings(&mut self) -> Vec<Found> {
        std::mem::take(&mut self.findings)
    }

    /// The engine with everything it learned.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The address of a class's key, where it is known: in the form with all arguments, and for static locks that
    /// are classes of their own.
    #[must_use]
    pub fn key_of(&self, class: ClassId) -> Option<u64> {
        self.names.key_of(class)
    }

    /// How much was read and learned.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let edges: Vec<&Edge> = self.engine.graph().edges().collect();
        let (known, learned) = edges.split_at(self.declared_edges);
        let pairs =
            |edges: &[&Edge]| -> FxHashSet<_> { edges.iter().map(|edge| (edge.from, edge.to)).collect() };
        let edges = pairs(learned).difference(&pairs(known)).count() as u64;
        Counts { edges, ..self.counts }
    }

    /// Why a file that was read to its end cannot be a whole trace, if so.
    #[must_use]
    pub fn incomplete(&self) -> Option<InputError> {
        match (self.counts.events, self.entries) {
            (0, None) => Some(InputError::whole(Reason::NoEvents)),
            (0, Some((held, _))) if held > 0 => Some(InputError::whole(Reason::EventsMissing(held))),
            _ => None,
        }
    }

    /// What a reader of the verdict should know about the trace; `to_the_end`: it was read to its end.
    #[must_use]
    pub fn notes(&self, to_the_end: bool) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some((held, written)) = self.entries {
            if written > held {
                notes.push(format!(
                    "the ring buffer was overrun before the first line: {} older events are not in the file",
                    written - held
                ));
            }
            if to_the_end && self.counts.events != held {
                notes.push(format!(
                    "the header speaks of {held} events, {} were read: the file is a part of a trace",
                    self.counts.events
                ));
            }
        }
        if self.flags_missing && self.counts.acquisitions > 0 {
            notes.push(
                "there is no flags column: only recorded interrupt events tell interrupts from tasks"
                    .to_owned(),
            );
        }
        match self.left_out {
            0 => {}
            n => notes.push(format!(
                "{n} dependencies known before contradict the others by name and were left out"
            )),
        }
        notes
    }

    fn record(&mut self, at: At<'_>, record: &Record<'_>, op: &Op<'_>) {
        self.counts.events += 1;
        match op {
            Op::Acquire { .. } | Op::FullAcquire(_) => self.counts.acquisitions += 1,
            Op::Release { .. } => self.counts.releases += 1,
            _ => {}
        }
        self.flags_missing |= record.flags.is_none();
        let key = key(record.pid, record.cpu);
        let mut site = self.cpus.locate(key, record, op);
        if site.level == Level::Nmi {
            return;
        }
        if let Op::FullAcquire(full) = op {
            site.level = full.level;
            site.irqs = Some(Irqs { hard: full.hard_on, soft: full.soft_on });
        }
        let level = site.level;
        let file = self.file.as_deref();
        let who = self.tasks.entry(key).or_insert_with(|| Who::new(record.task, record.pid, file));
        who.meet(record.task, record.pid, file);
        if matches!(op, Op::Acquire { .. } | Op::FullAcquire(_)) {
            self.teach(matches!(op, Op::FullAcquire(_)));
            if let Some(who) = self.tasks.get_mut(&key) {
                who.make_stack(level, site.irqs, &mut self.engine);
            }
        }
        if let Some(irqs) = site.irqs {
            self.observe(at, key, level, irqs);
        }
        match *op {
            Op::Acquire { address, trylock, read, name } => {
                let name = self.names.intern(name);
                let mode = match (read, self.names.rule(name).recursive_read || site.in_interrupt) {
                    (false, _) => Mode::Write,
                    (true, false) => Mode::Read,
                    (true, true) => Mode::RecursiveRead,
                };
                let acquisition = self.infer(at, key, level, name, address);
                let acquisition = acquisition.map(|known| Acquisition { mode, trylock, ..known });
                self.acquire(at, key, level, acquisition);
            }
            Op::FullAcquire(ref full) => {
                let acquisition = self.complete(at, full);
                self.acquire(at, key, level, Some(acquisition));
            }
            Op::Release { address, name } => self.release(at, key, level, address, name),
            Op::IrqEnable { caller } => {
                self.event(
                    at,
                    key,
                    level,
                    Event::Enable { context: Context::HardIrq, on: true, place: at.place() },
                );
                if level == Level::Task && memchr::memmem::find(caller, b"exit_to_user_mode").is_some() {
                    self.event(at, key, level, Event::UserReturn { place: at.place() });
                    self.ground(key);
                }
            }
            Op::Exit => self.event(at, key, level, Event::Exit { place: at.place() }),
            Op::Fork { child } if child != 0 => {
                let mut who = Who::new(b"", child, self.file.as_deref());
                who.grounded = Some(self.epoch);
                self.tasks.insert(u64::from(child), who);
            }
            // Written by a system call that the trace saw begin, since it took a lock there.
            Op::Marker if self.holds_something(key) => self.ground(key),
            _ => {}
        }
    }

    /// Teaches the dumps, now that it is known what classes are called.
    fn teach(&mut self, by_key: bool) {
        for dump in std::mem::take(&mut self.dumps) {
            self.left_out += prime::apply(&mut self.engine, &mut self.names, &dump, by_key);
            self.declared_edges = self.engine.graph().len();
        }
    }

    /// Takes over the interrupt state that an event shows.
    fn observe(&mut self, at: At<'_>, key: TaskKey, level: Level, irqs: Irqs) {
        let Some(task) = self.tasks.get_mut(&key).and_then(|who| who.stack_mut(level)) else { return };
        let was =
            Irqs { hard: task.irq().enabled(Context::HardIrq), soft: task.irq().enabled(Context::SoftIrq) };
        if was == irqs {
            return;
        }
        let on = |context| Event::Enable { context, on: true, place: at.place() };
        if !irqs.hard {
            task.set_enabled(Context::HardIrq, false);
        }
        if irqs.hard && was.hard && irqs.soft {
            self.event(at, key, level, on(Context::SoftIrq));
            return;
        }
        // Before hard interrupts: what they find on when they come on is marked with them.
        task.set_enabled(Context::SoftIrq, irqs.soft);
        if irqs.hard && !was.hard {
            self.event(at, key, level, on(Context::HardIrq));
        }
    }

    /// What a plain event leaves open about an acquisition: class, subclass, nest lock, and whether it is checked.
    fn infer(
        &mut self,
        at: At<'_>,
        key: TaskKey,
        level: Level,
        name: NameId,
        address: u64,
    ) -> Option<Acquisition> {
        let task = self.tasks.get(&key)?.stack(level)?;
        let instance = Instance(address);
        let rule = self.names.rule(name);
        let check = !rule.unchecked;
        let subclass = if rule.subclass_on_nesting { depth_of(&self.names, task, name, instance) } else { 0 };
        let nest = self.names.nest(name).and_then(|nest| {
            let held = task.held().iter().rfind(|held| self.names.name_of(held.bits.class()) == nest);
            held.map(|held| held.instance)
        });
        let class = self.names.class(&mut self.engine, name, address, subclass);
        Some(Acquisition { check, nest, ..Acquisition::exclusive(class, instance, at.place()) })
    }

    /// An acquisition of which everything is known.
    fn complete(&mut self, at: At<'_>, full: &FullAcquire<'_>) -> Acquisition {
        let name = self.names.intern(full.name);
        let def = ClassDef { subclass: full.subclass, ..full.class_def() };
        let class = self.names.class_of_key(&mut self.engine, (None, full.key), name, def);
        Acquisition {
            mode: full.mode,
            trylock: full.trylock,
            check: full.check,
            nest: (full.nest != 0).then_some(Instance(full.nest)),
            ..Acquisition::exclusive(class, Instance(full.address), at.place())
        }
    }

    fn acquire(&mut self, at: At<'_>, key: TaskKey, level: Level, acquisition: Option<Acquisition>) {
        let Some(acquisition) = acquisition else { return };
        self.unmatched_in_a_row = 0;
        note_use(&mut self.used, &mut self.counts, acquisition.class);
        self.event(at, key, level, Event::Acquire(acquisition));
        self.too_deep |= self.tasks.get(&key).is_some_and(|who| who.is_too_deep(level));
    }

    fn release(&mut self, at: At<'_>, key: TaskKey, level: Level, address: u64, name: &[u8]) {
        let instance = Instance(address);
        let Some(who) = self.tasks.get_mut(&key) else { return };
        let place = at.place();
        if let Some(found) = who.level_of(instance, level) {
            self.event(at, key, found, Event::Release { instance, place });
            return;
        }
        self.unmatched_in_a_row += 1;
        if self.unmatched_in_a_row == HOLE {
            self.epoch += 1;
        }
        if level != Level::Task || who.grounded != Some(self.epoch) {
            self.counts.unmatched += 1;
            return;
        }
        let task = who.make_stack(level, None, &mut self.engine);
        let mut outcome = self.engine.step(task, Event::Release { instance, place });
        for finding in &mut outcome.findings {
            name_balance(finding, &String::from_utf8_lossy(name));
        }
        self.take(at, outcome);
    }

    /// Gives the engine an event of a stack, if the stack exists.
    fn event(&mut self, at: At<'_>, key: TaskKey, level: Level, event: Event) {
        if let Some(task) = self.tasks.get_mut(&key).and_then(|who| who.stack_mut(level)) {
            let outcome = self.engine.step(task, event);
            self.take(at, outcome);
        }
    }

    /// Keeps the findings that are new.
    fn take(&mut self, at: At<'_>, outcome: Outcome) {
        for finding in outcome.findings {
            let count = self.reported.entry(finding.report.signature.clone()).or_insert(0);
            *count += 1;
            if *count > 1 {
                self.counts.repeated += 1;
                continue;
            }
            self.findings.push(Found {
                line: at.number,
                source: String::from_utf8_lossy(at.line).trim().to_owned(),
                report: finding.report,
            });
        }
    }

    fn ground(&mut self, key: TaskKey) {
        if let Some(who) = self.tasks.get_mut(&key) {
            who.grounded = Some(self.epoch);
        }
    }

    fn holds_something(&self, key: TaskKey) -> bool {
        let stack = self.tasks.get(&key).and_then(|who| who.stack(Level::Task));
        stack.is_some_and(|task| !task.held().is_empty())
    }

    /// Events are missing from the file here: what is held now is not known.
    fn forget_holds(&mut self) {
        self.epoch += 1;
        self.tasks.clear();
        self.cpus.forget();
    }
}

/// How many other locks of the name the task holds; 0 if it holds this very one.
fn depth_of(names: &Names<'_>, task: &Task, name: NameId, instance: Instance) -> u8 {
    let mut depth = 0;
    for held in task.held().iter().filter(|held| names.name_of(held.bits.class()) == name) {
        if held.instance == instance {
            return 0;
        }
        depth = (depth + 1).min(SUBCLASSES - 1);
    }
    depth
}

fn note_use(used: &mut Vec<bool>, counts: &mut Counts, class: ClassId) {
    if used.len() <= class.index() {
        used.resize(class.index() + 1, false);
    }
    if !std::mem::replace(&mut used[class.index()], true) {
        counts.classes += 1;
    }
}

/// A release event names its lock; the engine, which did not find it, cannot.
fn name_balance(finding: &mut Finding, name: &str) {
    if finding.report.kind == ReportKind::Balance {
        finding.report.signature = format!("{}:{name}", ReportKind::Balance);
        if let Some(wanted) = &mut finding.report.wanted {
            wanted.lock.class = name.to_owned();
        }
    }
}
