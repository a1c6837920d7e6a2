// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine against a naive twin, and against what really happens.
//!
//! Random programs of a few tasks and locks are run through the engine and through a [`twin`] that was written apart
//! from it; after each event both must agree on which rules were broken, and the engine's invariants must hold. At the
//! end they must have learned the same dependencies. What differs is shrunk, and printed as a litmus file. Small
//! programs are run through without exception, see [`exhaustive`].
//!
//! Not in the twin: guards (`tests/litmus/x8_*`), and the order of single locks (`tests/instances.rs`).
#![cfg(feature = "lockdep")]

mod exhaustive;
mod explorer;
mod program;
mod twin;

use std::collections::BTreeSet;

use lockdep::engine::{ClassDef, Engine, Task};
use lockdep::event::{Acquisition, Event, Place};
use lockdep::ids::{ClassId, Instance, LockId, TaskId};
use program::{Action, Class, KEYS, LOCKS, Step, TASKS};
use proptest::prelude::*;
use twin::{Edge, Kinds, Twin};

/// The engine and its twin on one history.
struct Pair {
    engine: Engine,
    tasks: Vec<Task>,
    classes: Vec<(Class, ClassId)>,
    twin: Twin,
}

impl Pair {
    fn new() -> Self {
        let mut engine = Engine::new();
        engine.repeat_findings(true);
        let mut classes = Vec::new();
        for (i, key) in KEYS.iter().enumerate() {
            let def = ClassDef {
                waits: (key.waits, key.waits),
                kind: key.kind,
                strict: key.strict,
                // None of the locks is a guard.
                excludes: false,
                ..ClassDef::named(key.name)
            };
            let first = engine.register(def.clone());
            let second = engine.register(ClassDef { subclass: 1, sibling: Some(first), ..def });
            classes.extend([((i, 0), first), ((i, 1), second)]);
        }
        let tasks = (0..TASKS).map(|i| Task::new(TaskId(i as u32), format!("t{i}").into(), 7)).collect();
        Pair { engine, tasks, classes, twin: Twin::default() }
    }

    fn class(&self, class: Class) -> ClassId {
        self.classes.iter().find(|(known, _)| *known == class).expect("all are registered").1
    }

    /// The event of a step, before it is taken.
    fn event(&self, task: usize, action: Action) -> Option<Event> {
        let instance = |lock: usize| Instance(lock as u64 + 1);
        let nth = |nth: usize| self.twin.held(task).get(nth).map(|held| held.taking);
        let class = |lock: usize| self.class((LOCKS[lock], 0));
        let place = Place::Unknown;
        Some(match action {
            Action::Take(taking) => Event::Acquire(Acquisition {
                class: self.class(taking.class()),
                instance: instance(taking.lock),
                lock: LockId::UNKNOWN,
                mode: taking.mode,
                trylock: taking.trylock,
                check: taking.check,
                sync: taking.sync,
                nest: taking.nest.map(instance),
                rank: None,
                place,
            }),
            Action::Release(at) => Event::Release { instance: instance(nth(at)?.lock), place },
            Action::ReleaseUnheld(lock) => Event::Release { instance: instance(lock), place },
            Action::Downgrade(at) => Event::Downgrade { instance: instance(nth(at)?.lock), place },
            Action::Convert(at, up) => {
                let from = nth(at)?.mode;
                let to = Twin::converted(from, up)?;
                Event::Convert { instance: instance(nth(at)?.lock), from, to, waits: up, place }
            }
            Action::AssertHeld(lock, how) => {
                Event::AssertHeld { instance: instance(lock), class: class(lock), how, place }
            }
            Action::AssertNotHeld(lock) => {
                Event::AssertNotHeld { instance: instance(lock), class: class(lock), place }
            }
            Action::Free(lock) => Event::Freed { start: instance(lock).0, len: 1, place },
            Action::Enter(context, threaded) => Event::Context { context, enter: true, threaded },
            Action::Leave => {
                Event::Context { context: lockdep::Context::HardIrq, enter: false, threaded: false }
            }
            Action::Enable(context, on) => Event::Enable { context, on, place },
            Action::Exit => Event::Exit { place },
            Action::UserReturn => Event::UserReturn { place },
        })
    }

    /// Takes one step with both; what each found, or nothing if the step is not possible.
    fn step(&mut self, (task, action): Step) -> Option<(Kinds, Kinds)> {
        let event = self.event(task, action)?;
        let broken = self.twin.act(task, action)?;
        let outcome = self.engine.step(&mut self.tasks[task], event);
        self.engine.check_invariants();
        self.tasks[task].check_invariants();
        Some((outcome.findings.iter().map(|finding| finding.report.kind.name()).collect(), broken))
    }

    fn learned(&self) -> BTreeSet<Edge> {
        let class = |id: ClassId| self.classes.iter().find(|(_, known)| *known == id).expect("registered").0;
        let edges = self.engine.graph().edges().map(|edge| {
            let mut letters = edge.strength.letters().chars();
            let mut letter = || letters.next().expect("two letters");
            (class(edge.from), class(edge.to), letter(), letter())
        });
        edges.collect()
    }
}

/// Runs the steps; what differs, if anything, after the text of the program.
fn agree(steps: &[Step]) -> Result<(), String> {
    let mut pair = Pair::new();
    for (i, step) in steps.iter().enumerate() {
        let Some((found, broken)) = pair.step(*step) else { continue };
        if found != broken {
            return Err(format!("{}# the last step: engine {found:?}, twin {broken:?}", text(&steps[..=i])));
        }
    }
    let (engine, twin) = (pair.learned(), &pair.twin.edges);
    if engine != *twin {
        let only = |one: &BTreeSet<Edge>, other| one.difference(other).copied().collect::<Vec<_>>();
        let (more, less) = (only(&engine, twin), only(twin, &engine));
        return Err(format!(
            "{}# learned by the engine only: {more:?}, by the twin only: {less:?}",
            text(steps)
        ));
    }
    Ok(())
}

/// The steps that are possible, as a litmus file.
fn text(steps: &[Step]) -> String {
    let mut twin = Twin::default();
    let lines = steps.iter().filter_map(|(task, action)| {
        let held: Vec<usize> = twin.held(*task).iter().map(|held| held.taking.lock).collect();
        twin.act(*task, *action).map(|_| program::line(*task, *action, &held))
    });
    program::litmus(&lines.collect::<Vec<_>>())
}

proptest! {
    // More with PROPTEST_CASES.
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_programs_are_judged_alike(steps in prop::collection::vec(program::step(), 1..60)) {
        agree(&steps).map_err(TestCaseError::fail)?;
    }
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1000)
}
