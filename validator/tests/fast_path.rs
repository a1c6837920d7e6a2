// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is known stays on the fast path, counted; and the fast path changes no verdict, compared with an engine
//! that sees every event.
#![cfg(feature = "lockdep")]

use std::sync::Arc;

use lockdep::engine::{ClassDef, Engine, Task};
use lockdep::event::{Acquisition, Event, Place};
use lockdep::ids::{Instance, LockId, TaskId};
use lockdep::raw::{self, Acquire, LockMap};
use lockdep::sync::{Mutex, RwLock};
use lockdep::{LockClass, Mode, PanicOn, Validator};
use proptest::prelude::*;

/// How often `f` leaves the fast path, in this thread.
fn slow_entries(f: impl FnOnce()) -> u64 {
    let before = raw::slow_entries();
    f();
    raw::slow_entries() - before
}

fn nest(locks: &[Mutex<()>; 3], rw: &RwLock<()>) {
    let _first = locks[0].lock();
    let _second = locks[1].lock();
    let _read = rw.read();
    let _third = locks[2].lock();
}

#[test]
fn the_second_identical_acquisition_takes_no_slow_path() {
    let alike = [1, 2, 3].map(|_| Mutex::new(()));
    let distinct: [Mutex<()>; 3] = [Mutex::new(()), Mutex::new(()), Mutex::new(())];
    let rw = RwLock::new(());
    let v = Validator::new();
    v.scope(|| {
        let first = slow_entries(|| nest(&distinct, &rw));
        assert_eq!(first, 4, "each acquisition once");
        let events = v.with_engine(|engine| engine.counters().events);
        assert_eq!(slow_entries(|| (0..100).for_each(|_| nest(&distinct, &rw))), 0);
        assert_eq!(v.with_engine(|engine| engine.counters().events), events);
        // Several locks of one class: the verdict depends on the objects, but this thread knows it, too.
        let nest_alike = || {
            let _first = alike[0].lock();
            let _second = alike[1].lock();
            let _third = alike[2].lock();
        };
        nest_alike();
        let events = v.with_engine(|engine| engine.counters().events);
        assert_eq!(slow_entries(|| (0..100).for_each(|_| nest_alike())), 0);
        assert_eq!(v.with_engine(|engine| engine.counters().events), events);
    });
    assert!(v.reports().is_empty());
}

#[test]
fn from_the_third_lock_of_a_class_on_its_first_use_is_like_every_other() {
    static CLASS: LockClass = LockClass::new("many");
    let locks: Vec<_> = (0..10).map(|_| Mutex::with_class(&CLASS, ())).collect();
    let v = Validator::new();
    v.scope(|| {
        let round = || locks.iter().for_each(|lock| drop(lock.lock()));
        assert_eq!(slow_entries(round), 2, "the first one makes the class, the second makes it one of many");
        assert_eq!(slow_entries(round), 0);
    });
}

#[test]
fn another_thread_learns_from_the_shared_set() {
    let locks = Arc::new([Mutex::new(()), Mutex::new(()), Mutex::new(())]);
    let rw = Arc::new(RwLock::new(()));
    let v = Validator::new();
    v.scope(|| {
        nest(&locks, &rw);
        for turn in 0..3 {
            let (locks, rw, v) = (locks.clone(), rw.clone(), v.clone());
            let thread = lockdep::thread::spawn(move || {
                let events = || v.with_engine(|engine| engine.counters().events);
                let before = events();
                nest(&locks, &rw);
                let engine = events() - before;
                (engine, slow_entries(|| nest(&locks, &rw)))
            });
            let (engine, slow) = thread.join().unwrap();
            // The second thread goes to the engine once more, so that it is known that several take these orders.
            assert_eq!(engine, if turn == 0 { 4 } else { 0 });
            assert_eq!(slow, 0);
        }
    });
}

#[test]
fn trylocks_and_modes_have_chains_of_their_own() {
    let (m, rw) = (Mutex::new(()), RwLock::new(()));
    let v = Validator::new();
    v.scope(|| {
        let ways: [&dyn Fn(); 6] = [
            &|| drop(m.lock()),
            &|| drop(m.try_lock()),
            &|| drop(rw.read()),
            &|| drop(rw.read_recursive()),
            &|| drop(rw.upgradable_read()),
            &|| drop(rw.write()),
        ];
        for way in ways {
            assert_eq!(slow_entries(way), 1);
            assert_eq!(slow_entries(way), 0);
        }
    });
}

#[test]
fn known_out_of_order_releases_need_no_engine() {
    let (a, b, c) = (Mutex::new(()), Mutex::new(()), Mutex::new(()));
    let v = Validator::new();
    v.scope(|| {
        let round = || drop((a.lock(), b.lock(), c.lock()));
        round();
        let events = v.with_engine(|engine| engine.counters().events);
        (0..100).for_each(|_| round());
        assert_eq!(v.with_engine(|engine| engine.counters().events), events);
    });
}

const LOCKS: usize = 5;

#[derive(Clone, Copy, Debug)]
enum Action {
    Take { lock: usize, mode: Mode, trylock: bool },
    LetGo { nth: usize },
}

fn action() -> impl Strategy<Value = Action> {
    let mode = prop_oneof![3 => Just(Mode::Write), 1 => Just(Mode::Read), 1 => Just(Mode::RecursiveRead)];
    prop_oneof![
        (0..LOCKS, mode, prop::bool::weighted(0.2)).prop_map(|(lock, mode, trylock)| Action::Take {
            lock,
            mode,
            trylock
        }),
        (0..4usize).prop_map(|nth| Action::LetGo { nth }),
    ]
}

static CLASSES: [LockClass; LOCKS] = [
    LockClass::new("c0"),
    LockClass::new("c1"),
    LockClass::new("c2"),
    LockClass::new("c3").strict(),
    LockClass::new("c4").unchecked(),
];

/// Kind and signature of each finding, in order.
type Findings = Vec<(String, String)>;

/// The program through the hooks, three times over, so that caches are filled and used.
fn through_hooks(program: &[Action]) -> Findings {
    let maps: Vec<LockMap> = CLASSES.iter().map(LockMap::new).collect();
    let v = Validator::builder().panic_on(PanicOn::Never).stacks(lockdep::Stacks::Off).build();
    v.scope(|| {
        for _ in 0..3 {
            let mut held: Vec<usize> = Vec::new();
            for action in program {
                match *action {
                    Action::Take { lock, mode, trylock } => {
                        let how = Acquire { mode, ..Acquire::WRITE };
                        raw::acquire(&maps[lock], if trylock { how.trylock() } else { how });
                        held.push(lock);
                    }
                    Action::LetGo { nth } if nth < held.len() => {
                        let lock = held[nth];
                        raw::release(&maps[lock]);
                        let last = held.iter().rposition(|other| *other == lock).unwrap();
                        held.remove(last);
                    }
                    Action::LetGo { .. } => {}
                }
            }
            held.iter().rev().for_each(|lock| raw::release(&maps[*lock]));
        }
    });
    v.reports().iter().map(|report| (report.kind().to_string(), report.signature().to_owned())).collect()
}

/// The same events, each through the engine.
fn through_engine(program: &[Action]) -> Findings {
    let mut engine = Engine::new();
    let mut classes = [None; LOCKS];
    let mut task = Task::new(TaskId(0), "t".into(), 1);
    let mut findings = Findings::new();
    let mut step = |engine: &mut Engine, task: &mut Task, event: Event| {
        for finding in engine.step(task, event).findings {
            findings.push((finding.report.kind.to_string(), finding.report.signature));
        }
    };
    for _ in 0..3 {
        let mut held: Vec<usize> = Vec::new();
        for action in program {
            match *action {
                Action::Take { lock, mode, trylock } => {
                    let name = CLASSES[lock].name();
                    let strict = CLASSES[lock].is_strict();
                    let class = *classes[lock]
                        .get_or_insert_with(|| engine.register(ClassDef { strict, ..ClassDef::named(name) }));
                    let place = Place::Line(u32::try_from(lock).unwrap());
                    let acq = Acquisition {
                        lock: LockId(u32::try_from(lock).unwrap() + 1),
                        mode,
                        trylock,
                        check: CLASSES[lock].is_checked(),
                        ..Acquisition::exclusive(class, Instance(lock as u64 + 1), place)
                    };
                    step(&mut engine, &mut task, Event::Acquire(acq));
                    held.push(lock);
                }
                Action::LetGo { nth } if nth < held.len() => {
                    let lock = held[nth];
                    let last = held.iter().rposition(|other| *other == lock).unwrap();
                    held.remove(last);
                    let instance = Instance(lock as u64 + 1);
                    step(&mut engine, &mut task, Event::Release { instance, place: Place::Unknown });
                }
                Action::LetGo { .. } => {}
            }
        }
        for lock in held.iter().rev() {
            let instance = Instance(*lock as u64 + 1);
            step(&mut engine, &mut task, Event::Release { instance, place: Place::Unknown });
        }
    }
    findings
}

/// Each finding once: places differ between the two, and with them how often one is told apart.
fn distinct(mut findings: Findings) -> Findings {
    findings.sort();
    findings.dedup();
    findings
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_caches_change_no_verdict(program in prop::collection::vec(action(), 1..25)) {
        prop_assert_eq!(distinct(through_hooks(&program)), distinct(through_engine(&program)));
    }
}
