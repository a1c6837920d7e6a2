// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine against a naive twin.
//!
//! The twin keeps a plain list of edges, recomputes everything at each step by fixpoint iteration, and shares no
//! code with the engine. Random programs of a few tasks and locks are run through both; after each event both
//! must agree on whether a rule was broken, and on which, and the engine's invariants must hold.
#![cfg(feature = "lockdep")]

use std::collections::BTreeSet;

use lockdep::engine::{ClassDef, Engine, Task};
use lockdep::event::{Acquisition, Event, HeldAs, Mode, Place};
use lockdep::ids::{ClassId, Instance, LockId, TaskId};
use proptest::prelude::*;

const TASKS: usize = 3;
/// Six locks of five classes: the last two are one class.
const CLASS_OF: [usize; 6] = [0, 1, 2, 3, 4, 4];

#[derive(Clone, Copy, Debug)]
enum Action {
    Acquire {
        task: usize,
        lock: usize,
        mode: Mode,
        trylock: bool,
        check: bool,
    },
    /// Releases the n-th lock that the task holds, whichever that is.
    Release {
        task: usize,
        nth: usize,
    },
    Downgrade {
        task: usize,
        nth: usize,
    },
    /// An upgrade or a partial downgrade of the n-th lock, whatever its mode allows.
    Convert {
        task: usize,
        nth: usize,
        up: bool,
    },
    ReleaseUnheld {
        task: usize,
        lock: usize,
    },
    AssertHeld {
        task: usize,
        lock: usize,
        how: HeldAs,
    },
    Exit {
        task: usize,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let task = 0..TASKS;
    let lock = 0..CLASS_OF.len();
    let mode = prop_oneof![3 => Just(Mode::Write), 2 => Just(Mode::Read), 2 => Just(Mode::RecursiveRead),
        1 => Just(Mode::Upgradable)];
    let how = prop_oneof![Just(HeldAs::Any), Just(HeldAs::Read), Just(HeldAs::Write)];
    prop_oneof![
        12 => (task.clone(), lock.clone(), mode, prop::bool::weighted(0.15), prop::bool::weighted(0.95))
            .prop_map(|(task, lock, mode, trylock, check)| Action::Acquire { task, lock, mode, trylock, check }),
        9 => (task.clone(), 0..4usize).prop_map(|(task, nth)| Action::Release { task, nth }),
        1 => (task.clone(), 0..4usize).prop_map(|(task, nth)| Action::Downgrade { task, nth }),
        2 => (task.clone(), 0..4usize, prop::bool::ANY)
            .prop_map(|(task, nth, up)| Action::Convert { task, nth, up }),
        1 => (task.clone(), lock.clone()).prop_map(|(task, lock)| Action::ReleaseUnheld { task, lock }),
        1 => (task.clone(), lock, how).prop_map(|(task, lock, how)| Action::AssertHeld { task, lock, how }),
        1 => task.prop_map(|task| Action::Exit { task }),
    ]
}

/// One edge of the twin: held class, taken class, letter of the hold, letter of the wait.
type Edge = (usize, usize, char, char);

/// Who waits for whom, as a list.
const BLOCKED: [(char, char); 5] = [('N', 'E'), ('N', 'U'), ('N', 'S'), ('R', 'E'), ('G', 'S')];

fn hold_letter(mode: Mode) -> char {
    match mode {
        Mode::Write => 'E',
        Mode::Upgradable => 'U',
        Mode::Read | Mode::RecursiveRead => 'S',
    }
}

#[derive(Clone, Copy, Debug)]
struct Hold {
    lock: usize,
    mode: Mode,
    trylock: bool,
    check: bool,
}

#[derive(Default)]
struct Twin {
    edges: BTreeSet<Edge>,
    held: [Vec<Hold>; TASKS],
}

impl Twin {
    /// True if somebody who waits for `to` in this way can, over steps that block, come to wait for `from` while
    /// that is held in this way.
    fn closes_cycle(&self, (from, to, hold, wait): Edge) -> bool {
        let mut states = BTreeSet::from([(to, wait)]);
        loop {
            let mut next = states.clone();
            for (class, waits) in &states {
                for (a, b, holds, next_waits) in &self.edges {
                    if a == class && BLOCKED.contains(&(*waits, *holds)) {
                        next.insert((*b, *next_waits));
                    }
                }
            }
            if next == states {
                break;
            }
            states = next;
        }
        states.iter().any(|(class, waits)| *class == from && BLOCKED.contains(&(*waits, hold)))
    }

    /// What an acquisition breaks. Dependencies that break nothing are learned.
    fn order(&mut self, task: usize, new: Hold) -> Kinds {
        let mut broken = BTreeSet::new();
        if new.trylock || !new.check {
            return broken;
        }
        let class = CLASS_OF[new.lock];
        let clash = self.held[task].iter().any(|held| {
            let readers = new.mode == Mode::RecursiveRead && held.mode != Mode::Write;
            CLASS_OF[held.lock] == class && !readers
        });
        if clash {
            broken.insert("recursive");
            return broken;
        }
        let wait = if new.mode == Mode::RecursiveRead { 'R' } else { 'N' };
        broken.extend(self.depend(&self.held[task].clone(), class, wait));
        broken
    }

    /// The dependencies of a wait for `class` while these are held.
    fn depend(&mut self, held: &[Hold], class: usize, wait: char) -> Kinds {
        let mut broken = BTreeSet::new();
        for held in held.iter().rev() {
            let edge = (CLASS_OF[held.lock], class, hold_letter(held.mode), wait);
            if held.check && edge.0 != class && !self.edges.contains(&edge) {
                if self.closes_cycle(edge) {
                    broken.insert("circular");
                } else {
                    self.edges.insert(edge);
                }
            }
            if !held.trylock && held.mode != Mode::RecursiveRead {
                break;
            }
        }
        broken
    }

    /// What a change from one mode to another breaks; only an upgrade waits.
    fn convert(&mut self, task: usize, position: usize, to: Mode) -> Kinds {
        let hold = self.held[task][position];
        let mut broken = BTreeSet::new();
        if to == Mode::Write && hold.check {
            let reads = |other: &Hold| {
                other.lock == hold.lock && matches!(other.mode, Mode::Read | Mode::RecursiveRead)
            };
            if self.held[task].iter().any(reads) {
                broken.insert("recursive");
            } else {
                let mut others = self.held[task].clone();
                others.remove(position);
                let first = if hold.trylock { 0 } else { position };
                broken = self.depend(&others[first..], CLASS_OF[hold.lock], 'G');
            }
        }
        self.held[task][position].mode = to;
        broken
    }

    fn acquire(&mut self, task: usize, new: Hold) -> Kinds {
        let broken = self.order(task, new);
        self.held[task].push(new);
        broken
    }

    /// Takes out the hold at a position; what lay above is validated anew in its new place.
    fn take_out(&mut self, task: usize, position: usize, instead: Option<Hold>) -> Kinds {
        let top = position + 1 == self.held[task].len() && instead.is_none();
        let above = self.held[task].split_off(position + 1);
        self.held[task].pop();
        let mut broken = BTreeSet::new();
        for hold in instead.into_iter().chain(above) {
            assert!(!top);
            broken.extend(self.acquire(task, hold));
        }
        broken
    }

    fn position(&self, task: usize, lock: usize) -> Option<usize> {
        self.held[task].iter().rposition(|held| held.lock == lock)
    }
}

type Kinds = BTreeSet<&'static str>;

/// What the engine found anew, and how many findings it had made before.
type Verdict = (Kinds, u64);

struct Pair {
    engine: Engine,
    tasks: Vec<Task>,
    classes: Vec<ClassId>,
    twin: Twin,
}

impl Pair {
    fn new() -> Self {
        let mut engine = Engine::new();
        // Guards have tests of their own; here none of the locks is one.
        let class = |i| ClassDef { excludes: false, ..ClassDef::named(&format!("c{i}")) };
        let classes = (0..5).map(|i| engine.register(class(i))).collect();
        let tasks = (0..TASKS).map(|i| Task::new(TaskId(i as u32), format!("t{i}").into(), 7)).collect();
        Pair { engine, tasks, classes, twin: Twin::default() }
    }

    /// The kinds that the engine finds, made before or not.
    fn step(&mut self, task: usize, event: Event) -> Verdict {
        let before = self.engine.counters().duplicates;
        let outcome = self.engine.step(&mut self.tasks[task], event);
        self.engine.check_invariants();
        self.tasks[task].check_invariants();
        let kinds = outcome.findings.iter().map(|finding| finding.report.kind.name()).collect();
        (kinds, self.engine.counters().duplicates - before)
    }

    /// Runs one action through both; the engine's verdict and the twin's.
    fn act(&mut self, action: Action) -> Option<(Verdict, Kinds)> {
        let instance = |lock: usize| Instance(lock as u64 + 1);
        let place = Place::Unknown;
        Some(match action {
            Action::Acquire { task, lock, mode, trylock, check } => {
                let class = self.classes[CLASS_OF[lock]];
                let acq = Acquisition {
                    class,
                    instance: instance(lock),
                    lock: LockId::UNKNOWN,
                    mode,
                    trylock,
                    check,
                    sync: false,
                    nest: None,
                    rank: None,
                    place,
                };
                let broken = self.twin.acquire(task, Hold { lock, mode, trylock, check });
                (self.step(task, Event::Acquire(acq)), broken)
            }
            Action::Release { task, nth } => {
                let lock = self.twin.held[task].get(nth)?.lock;
                let position = self.twin.position(task, lock)?;
                let broken = self.twin.take_out(task, position, None);
                (self.step(task, Event::Release { instance: instance(lock), place }), broken)
            }
            Action::Downgrade { task, nth } => {
                let lock = self.twin.held[task].get(nth)?.lock;
                let position = self.twin.position(task, lock)?;
                let reader = Hold { mode: Mode::Read, ..self.twin.held[task][position] };
                let broken = self.twin.take_out(task, position, Some(reader));
                (self.step(task, Event::Downgrade { instance: instance(lock), place }), broken)
            }
            Action::Convert { task, nth, up } => {
                let Hold { lock, mode: from, .. } = *self.twin.held[task].get(nth)?;
                let to = match (from, up) {
                    (Mode::Upgradable, true) => Mode::Write,
                    (Mode::Upgradable, false) => Mode::Read,
                    (Mode::Write, false) => Mode::Upgradable,
                    _ => return None,
                };
                let same = |held: &Hold| held.lock == lock && held.mode == from;
                let position = self.twin.held[task].iter().rposition(same)?;
                let broken = self.twin.convert(task, position, to);
                let event = Event::Convert { instance: instance(lock), from, to, waits: up, place };
                (self.step(task, event), broken)
            }
            Action::ReleaseUnheld { task, lock } => {
                if self.twin.position(task, lock).is_some() {
                    return None;
                }
                (
                    self.step(task, Event::Release { instance: instance(lock), place }),
                    BTreeSet::from(["balance"]),
                )
            }
            Action::AssertHeld { task, lock, how } => {
                let holds = self.twin.position(task, lock).is_some_and(|at| {
                    let mode = self.twin.held[task][at].mode;
                    how == HeldAs::Any || (how == HeldAs::Write) == (mode == Mode::Write)
                });
                let class = self.classes[CLASS_OF[lock]];
                let event = Event::AssertHeld { instance: instance(lock), class, how, place };
                (
                    self.step(task, event),
                    if holds { BTreeSet::new() } else { BTreeSet::from(["assert-held"]) },
                )
            }
            Action::Exit { task } => {
                let broken =
                    if self.twin.held[task].is_empty() { BTreeSet::new() } else { BTreeSet::from(["exit"]) };
                (self.step(task, Event::Exit { place }), broken)
            }
        })
    }
}

fn agree(actions: &[Action]) -> Result<(), TestCaseError> {
    let mut pair = Pair::new();
    for (i, action) in actions.iter().enumerate() {
        let Some(((kinds, duplicates), broken)) = pair.act(*action) else { continue };
        prop_assert!(kinds.is_subset(&broken), "step {i} {action:?}: engine {kinds:?}, twin {broken:?}");
        // What the engine does not report anew it has counted as found before.
        let known = broken.difference(&kinds).count() as u64;
        prop_assert!(
            duplicates >= known,
            "step {i} {action:?}: engine {kinds:?}+{duplicates}, twin {broken:?}"
        );
        prop_assert!(
            !broken.is_empty() || duplicates == 0,
            "step {i} {action:?}: {duplicates} duplicates of nothing"
        );
    }
    let learned: BTreeSet<Edge> = pair
        .engine
        .graph()
        .edges()
        .iter()
        .map(|edge| {
            let letters: Vec<char> = edge.strength.letters().chars().collect();
            (edge.from.index(), edge.to.index(), letters[0], letters[1])
        })
        .collect();
    prop_assert_eq!(learned, pair.twin.edges);
    Ok(())
}

proptest! {
    // More with PROPTEST_CASES.
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_programs_are_judged_alike(actions in prop::collection::vec(action(), 1..60)) {
        agree(&actions)?;
    }
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2000)
}
