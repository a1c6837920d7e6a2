// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is known stays on the fast path, counted; and the fast path changes no verdict, compared with an engine
//! that sees every event.
#![cfg(feature = "lockdep")]

use std::sync::Arc;

use lockdep::engine::{ClassDef, Engine, Task};
use lockdep::event::{Acquisition, Context, Event, HeldAs, Place};
use lockdep::ids::{Instance, LockId, TaskId};
use lockdep::raw::{self, Acquire, LockMap};
use lockdep::report::model::Severity;
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

#[test]
fn what_a_thread_can_settle_alone_goes_to_nobody() {
    static NESTED: LockClass = LockClass::new("nested");
    static OUTER: LockClass = LockClass::new("outer");
    let outer = LockMap::new(&OUTER);
    let many: Vec<LockMap> = (0..5).map(|_| LockMap::new(&NESTED)).collect();
    let v = Validator::new();
    let round = || {
        raw::acquire(&outer, Acquire::WRITE);
        many.iter().for_each(|map| raw::acquire(map, Acquire::WRITE.nest(&outer)));
        raw::assert_held(&many[2], HeldAs::Write);
        raw::disable_context(Context::HardIrq);
        raw::enable_context(Context::HardIrq);
        // The first first: the others stand for it.
        many.iter().for_each(raw::release);
        raw::release(&outer);
        // Nothing is held any more.
        raw::freed(&outer);
        raw::user_return();
        raw::task_exit();
    };
    v.scope(|| {
        round();
        assert_eq!(slow_entries(round), 0);
        let events = v.with_engine(|engine| engine.counters().events);
        round();
        assert_eq!(v.with_engine(|engine| engine.counters().events), events);
    });
    assert!(v.reports().is_empty());
}

/// The class of each lock: several of the first, so that objects and nest locks matter.
const CLASS_OF: [usize; LOCKS] = [0, 1, 2, 3, 4, 0, 0, 1];
const LOCKS: usize = 8;

/// The one that nestings are serialised by.
const NEST: usize = 2;

/// What a program does. It does not take what it holds: then it would wait for itself, and whatever came later would be
/// the validator's imagination.
#[derive(Clone, Copy, Debug)]
enum Action {
    Take { lock: usize, mode: Mode, trylock: bool, nest: bool },
    LetGo { nth: usize },
    Enable { on: bool },
    Assert { lock: usize, how: HeldAs },
}

fn action() -> impl Strategy<Value = Action> {
    let mode = prop_oneof![3 => Just(Mode::Write), 1 => Just(Mode::Read), 1 => Just(Mode::RecursiveRead)];
    let take = (0..LOCKS, mode, prop::bool::weighted(0.2), prop::bool::weighted(0.3));
    let how = prop_oneof![Just(HeldAs::Any), Just(HeldAs::Read), Just(HeldAs::Write)];
    prop_oneof![
        6 => take.prop_map(|(lock, mode, trylock, nest)| Action::Take { lock, mode, trylock, nest }),
        6 => (0..4usize).prop_map(|nth| Action::LetGo { nth }),
        1 => prop::bool::ANY.prop_map(|on| Action::Enable { on }),
        1 => (0..LOCKS, how).prop_map(|(lock, how)| Action::Assert { lock, how }),
    ]
}

static CLASSES: [LockClass; 5] = [
    LockClass::new("c0"),
    LockClass::new("c1"),
    LockClass::new("c2"),
    LockClass::new("c3").strict(),
    LockClass::new("c4").unchecked(),
];

/// Kind and signature of each error, in order. Of an excused cycle it is told once whether the excuse was named, so that
/// depends on which way round was seen first.
type Findings = Vec<(String, String)>;

/// Each lock once, alone: how many locks a class has is known from then on, for the hooks and for the engine.
fn start() -> impl Iterator<Item = Action> {
    let take = |lock| Action::Take { lock, mode: Mode::Write, trylock: false, nest: false };
    (0..LOCKS).flat_map(move |lock| [take(lock), Action::LetGo { nth: 0 }])
}

/// What is left of a program when it ends: nothing.
fn end(held: &[usize]) -> impl Iterator<Item = Action> {
    (0..held.len()).rev().map(|nth| Action::LetGo { nth }).chain([Action::Enable { on: true }])
}

/// Takes the lock that an action releases off the list of what is held.
fn let_go(held: &mut Vec<usize>, nth: usize) -> Option<usize> {
    let lock = *held.get(nth)?;
    let last = held.iter().rposition(|other| *other == lock)?;
    held.remove(last);
    Some(lock)
}

/// The program through the hooks, three times over, so that caches are filled and used.
fn through_hooks(program: &[Action]) -> Findings {
    let maps: Vec<LockMap> = CLASS_OF.iter().map(|class| LockMap::new(&CLASSES[*class])).collect();
    let v = Validator::builder().panic_on(PanicOn::Never).stacks(lockdep::Stacks::Off).build();
    let mut held: Vec<usize> = Vec::new();
    let run = |held: &mut Vec<usize>, action: Action| match action {
        Action::Take { lock, .. } if held.contains(&lock) => {}
        Action::Take { lock, mode, trylock, nest } => {
            let how = Acquire { mode, trylock, nest: nest.then_some(&maps[NEST]), ..Acquire::WRITE };
            raw::acquire(&maps[lock], how);
            held.push(lock);
        }
        Action::LetGo { nth } => {
            if let Some(lock) = let_go(held, nth) {
                raw::release(&maps[lock]);
            }
        }
        Action::Enable { on: true } => raw::enable_context(Context::HardIrq),
        Action::Enable { on: false } => raw::disable_context(Context::HardIrq),
        Action::Assert { lock, how } => raw::assert_held(&maps[lock], how),
    };
    v.scope(|| {
        start().for_each(|action| run(&mut held, action));
        for _ in 0..3 {
            program.iter().for_each(|action| run(&mut held, *action));
            end(&held.clone()).for_each(|action| run(&mut held, action));
        }
    });
    let reports = v.reports();
    let errors = reports.iter().filter(|report| report.severity() == Severity::Error);
    errors.map(|report| (report.kind().to_string(), report.signature().to_owned())).collect()
}

/// The same events, each through the engine.
fn through_engine(program: &[Action]) -> Findings {
    let mut engine = Engine::new();
    let mut classes = [None; CLASSES.len()];
    let mut task = Task::new(TaskId(0), "t".into(), 1);
    let mut findings = Findings::new();
    let mut held: Vec<usize> = Vec::new();
    let instance = |lock: usize| Instance(lock as u64 + 1);
    let mut run = |held: &mut Vec<usize>, action: Action| {
        let mut class_of = |engine: &mut Engine, lock: usize| {
            let known = &CLASSES[CLASS_OF[lock]];
            let definition = || ClassDef { strict: known.is_strict(), ..ClassDef::named(known.name()) };
            *classes[CLASS_OF[lock]].get_or_insert_with(|| engine.register(definition()))
        };
        let event = match action {
            Action::Take { lock, .. } if held.contains(&lock) => return,
            Action::Take { lock, mode, trylock, nest } => {
                held.push(lock);
                let place = Place::Line(u32::try_from(lock).unwrap());
                Event::Acquire(Acquisition {
                    lock: LockId(u32::try_from(lock).unwrap() + 1),
                    mode,
                    trylock,
                    check: CLASSES[CLASS_OF[lock]].is_checked(),
                    nest: nest.then_some(instance(NEST)),
                    ..Acquisition::exclusive(class_of(&mut engine, lock), instance(lock), place)
                })
            }
            Action::LetGo { nth } => match let_go(held, nth) {
                Some(lock) => Event::Release { instance: instance(lock), place: Place::Unknown },
                None => return,
            },
            Action::Enable { on } => Event::Enable { context: Context::HardIrq, on, place: Place::Unknown },
            Action::Assert { lock, how } => {
                let class = class_of(&mut engine, lock);
                Event::AssertHeld { instance: instance(lock), class, how, place: Place::Unknown }
            }
        };
        let errors = engine.step(&mut task, event).findings.into_iter();
        for finding in errors.filter(|finding| finding.report.severity == Severity::Error) {
            findings.push((finding.report.kind.to_string(), finding.report.signature));
        }
    };
    start().for_each(|action| run(&mut held, action));
    for _ in 0..3 {
        program.iter().for_each(|action| run(&mut held, *action));
        end(&held.clone()).for_each(|action| run(&mut held, action));
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
