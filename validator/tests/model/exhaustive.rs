// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every small program, up to symmetry: two tasks, three locks, writing, reading, reading recursively and trying.
//!
//! Two claims. Every *sequence* of events (there are 27,376,384 of six) is judged alike by the engine and by the naive
//! twin. And on every *pair of programs* the engine, which sees one run after the other, says what a search through all
//! interleavings says: there is an error exactly where something can wait for ever, in a world ([`Why`]) in which up to
//! three threads run each program and writers come by. Of 470,030 pairs of up to six operations there are 400
//! exceptions, all of one class: a gate lock that one side holds for reading and the other for writing shuts out the
//! interleaving, and the engine counts as gates only locks that both sides hold for writing. No other false alarm, and
//! none missed.
//!
//! What the engine cannot know is what no run shows, so each program runs once for every set of trylocks that fail.
//!
//! The test-suite does three and four events; `LOCKDEP_EVENTS=6` does what is said above (see `CONTRIBUTING.md`).

use std::collections::BTreeMap;

use lockdep::engine::{ClassDef, Engine, Task};
use lockdep::event::{Acquisition, Event, Mode, Place};
use lockdep::ids::{ClassId, Instance, TaskId};
use lockdep::{ReportKind, Severity};

use super::agree;
use super::explorer::{How, LOCKS, Op, Program, Start, deadlocks, open};
use super::program::{Action, Step, Taking};

/// The longest programs of a run.
fn events(affordable: usize) -> usize {
    std::env::var("LOCKDEP_EVENTS").ok().and_then(|events| events.parse().ok()).unwrap_or(affordable)
}

/// Every sequence of `left` more events, up to the names of tasks and locks.
struct Sequences {
    steps: Vec<Step>,
    held: [Vec<usize>; 2],
    locks: usize,
    count: u64,
}

impl Sequences {
    fn walk(&mut self, left: usize) {
        if left == 0 {
            self.count += 1;
            if let Err(difference) = agree(&self.steps) {
                panic!("{difference}");
            }
            return;
        }
        let tasks = if self.steps.is_empty() { 1 } else { 2 };
        for task in 0..tasks {
            for nth in 0..self.held[task].len() {
                let lock = self.held[task].remove(nth);
                self.with((task, Action::Release(nth)), left);
                self.held[task].insert(nth, lock);
            }
            for lock in 0..LOCKS.min(self.locks + 1) {
                let known = self.locks;
                self.locks = known.max(lock + 1);
                self.held[task].push(lock);
                for how in How::ALL {
                    let taking = Taking::new(lock, mode(how), how == How::Try);
                    self.with((task, Action::Take(taking)), left);
                }
                self.held[task].pop();
                self.locks = known;
            }
        }
    }

    fn with(&mut self, step: Step, left: usize) {
        self.steps.push(step);
        self.walk(left - 1);
        self.steps.pop();
    }
}

fn mode(how: How) -> Mode {
    match how {
        How::Write | How::Try => Mode::Write,
        How::Read => Mode::Read,
        How::Recursive => Mode::RecursiveRead,
    }
}

#[test]
fn every_short_sequence_is_judged_like_by_the_twin() {
    let mut sequences = Sequences { steps: Vec::new(), held: Default::default(), locks: 0, count: 0 };
    sequences.walk(events(3));
    println!("{} sequences", sequences.count);
    assert!(sequences.count > 1000);
}

/// Every program of so many operations, up to what cannot matter: a lock that is taken last is the last operation,
/// nothing stands behind an acquisition that waits for the task itself, and no lock is tried that the task may hold
/// (it fails, and what comes then is the program without it). Locks are numbered in the order of their first use;
/// `locks` of them are used before.
fn programs(length: usize, locks: u8) -> Vec<Program> {
    let mut all = Vec::new();
    extend(&mut Vec::with_capacity(length), length, locks, &mut all);
    all
}

fn extend(program: &mut Program, left: usize, locks: u8, all: &mut Vec<Program>) {
    if left == 0 {
        all.push(program.clone());
        return;
    }
    let open = open(program, program.len());
    for lock in 0..(LOCKS as u8).min(locks + 1) {
        let held = (0..program.len()).filter(|at| open & 1 << at != 0).filter_map(|at| match program[at] {
            Op::Take(of, how) if of == lock => Some(how),
            _ => None,
        });
        let held: Vec<How> = held.collect();
        for how in How::ALL {
            let hangs =
                held.contains(&How::Write) || how == How::Write && held.iter().any(|held| *held != How::Try);
            if how == How::Try && !held.is_empty() || hangs && left > 1 {
                continue;
            }
            program.push(Op::Take(lock, how));
            extend(program, left - 1, locks.max(lock + 1), all);
            program.pop();
        }
    }
    for at in (0..program.len() as u8).filter(|at| left > 1 && open & 1 << at != 0) {
        program.push(Op::Release(at));
        extend(program, left - 1, locks, all);
        program.pop();
    }
}

/// The engine's verdict on the programs run after each other, each once for every set of its trylocks that could fail:
/// what no run shows the engine cannot know. Nothing, excused, or an error.
fn judge(programs: [&[Op]; 2]) -> Option<(ReportKind, Severity)> {
    let mut engine = Engine::new();
    let classes = ["a", "b", "c"].map(|name| engine.register(ClassDef::named(name)));
    let mut worst: Option<(ReportKind, Severity)> = None;
    for (id, program) in (0u32..).zip(programs) {
        let is_try = |(at, op): (usize, &Op)| if matches!(op, Op::Take(_, How::Try)) { 1u8 << at } else { 0 };
        let tries = program.iter().enumerate().map(is_try).fold(0, |tries, one| tries | one);
        for failing in (0..=tries).filter(|failing| failing & !tries == 0) {
            let mut task = Task::new(TaskId(id), "task".into(), 7);
            for (at, op) in program.iter().enumerate() {
                let Some(event) = event(program, at, *op, failing, classes) else { continue };
                for finding in engine.step(&mut task, event).findings {
                    let found = (finding.report.kind, finding.report.severity);
                    worst = worst.filter(|(_, severity)| *severity >= found.1).or(Some(found));
                }
            }
        }
    }
    worst
}

/// The event of an operation, if these trylocks fail.
fn event(program: &[Op], at: usize, op: Op, failing: u8, classes: [ClassId; LOCKS]) -> Option<Event> {
    let place = Place::Unknown;
    let instance = |lock: u8| Instance(u64::from(lock) + 1);
    match op {
        Op::Release(of) => match program[usize::from(of)] {
            Op::Take(lock, _) if failing & 1 << of == 0 => {
                Some(Event::Release { instance: instance(lock), place })
            }
            _ => None,
        },
        Op::Take(..) if failing & 1 << at != 0 => None,
        Op::Take(lock, how) => Some(Event::Acquire(Acquisition {
            mode: mode(how),
            trylock: how == How::Try,
            ..Acquisition::exclusive(classes[usize::from(lock)], instance(lock), place)
        })),
    }
}

/// The smallest world in which a pair of programs deadlocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// The two tasks alone.
    Alone,
    /// A writer comes by and queues between two readers.
    Writers,
    /// Two threads run each program.
    Copies2,
    /// Both.
    Copies2AndWriters,
    /// Three threads run each program, and writers come by.
    Copies3AndWriters,
    /// None of these.
    Never,
}

/// The worlds from the smallest to the largest, each with the copies of each program and whether writers come by. What
/// deadlocks in one deadlocks in the larger ones.
const WORLDS: [(Why, usize, bool); 5] = [
    (Why::Alone, 1, false),
    (Why::Writers, 1, true),
    (Why::Copies2, 2, false),
    (Why::Copies2AndWriters, 2, true),
    (Why::Copies3AndWriters, 3, true),
];

fn why(programs: [&[Op]; 2], found: bool) -> Why {
    // Three copies of each are too many to search in vain.
    let worlds = if found { &WORLDS[..] } else { &WORLDS[3..4] };
    let deadlocks = |copies, writers| deadlocks(programs, Start { copies, writers });
    worlds
        .iter()
        .find(|(_, copies, writers)| deadlocks(*copies, *writers))
        .map_or(Why::Never, |world| world.0)
}

fn is_error(verdict: Option<(ReportKind, Severity)>) -> bool {
    verdict.is_some_and(|(_, severity)| severity == Severity::Error)
}

/// True if the engine excuses the programs once all their locks are taken for writing.
fn has_mixed_gate(programs: [&[Op]; 2]) -> bool {
    let writing = programs.map(|program| -> Program {
        let write = |op: &Op| {
            if let Op::Take(lock, How::Read | How::Recursive) = *op {
                Op::Take(lock, How::Write)
            } else {
                *op
            }
        };
        program.iter().map(write).collect()
    });
    judge([&writing[0], &writing[1]]).is_some_and(|(_, severity)| severity == Severity::Guarded)
}

/// Verdicts and worlds, with how many pairs of programs there were.
type Counts = BTreeMap<(Option<(ReportKind, Severity)>, Why), u64>;

/// Every pair of programs with so many operations together, none of which is an error for itself (that was counted
/// when the other one was empty).
fn compare(length: usize, counts: &mut Counts) {
    for first in length.div_ceil(2)..=length {
        for one in programs(first, 0) {
            if first < length && is_error(judge([&one, &[]])) {
                continue;
            }
            let used =
                one.iter().filter_map(|op| if let Op::Take(lock, _) = op { Some(lock + 1) } else { None });
            for other in programs(length - first, used.max().unwrap_or(0)) {
                if is_error(judge([&other, &[]])) {
                    continue;
                }
                let pair = [one.as_slice(), other.as_slice()];
                let verdict = judge(pair);
                let why = why(pair, verdict.is_some());
                assert!(
                    is_error(verdict) == (why != Why::Never) || why == Why::Never && has_mixed_gate(pair),
                    "the engine says {verdict:?}, and it deadlocks: {why:?}\n{one:?}\n{other:?}"
                );
                *counts.entry((verdict, why)).or_default() += 1;
            }
        }
    }
}

#[test]
fn every_pair_of_short_programs_is_judged_like_by_a_search_of_all_interleavings() {
    let mut counts = Counts::new();
    for length in 1..=events(4) {
        compare(length, &mut counts);
    }
    println!("{counts:#?}");
    // Each world but the one with three copies is needed for some pair of four operations.
    let seen = |world: Why| counts.keys().any(|(_, why)| *why == world);
    assert!(WORLDS[..4].iter().all(|(world, ..)| seen(*world)));
}
