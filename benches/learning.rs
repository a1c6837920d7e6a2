// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a new dependency costs, as the graph grows: `cargo bench --bench learning --features lockdep`.
//!
//! The engine learns a random order of many classes, one dependency after the other: two locks are taken and
//! released. The graphs are *wide* (any two classes) or *local* (classes near each other in the order, which makes
//! paths of thousands of classes); the classes are first used along the order, or in any sequence. Times are per
//! dependency, the two acquisitions and releases included: the mean in time of this thread, single ones by the clock, and so
//! with whatever interrupts them. The memory is all that the engine holds.
//!
//! What stacks cost is measured through the lock types, for each setting: one order of many classes is learned, and then taken
//! once more.
//!
//! An argument `--quick` leaves the large graphs out, `--classes=NUMBER` all but those of that size; criterion's other
//! arguments mean nothing here.

#[path = "common/counting.rs"]
mod counting;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use lockdep::engine::{ClassDef, Engine, Task};
use lockdep::event::{Acquisition, Event, Place};
use lockdep::ids::{ClassId, Instance, TaskId};
use lockdep::sync::Mutex;
use lockdep::{LockClass, Stacks, Validator};

/// A graph that takes longer than this is left unfinished.
const LONGEST: Duration = Duration::from_secs(60);

/// The CPU time of this thread: what else the machine does is not counted. To ask for it takes a third of a microsecond.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().expect("positive"), time.tv_nsec.try_into().expect("below 10^9"))
}

/// A small generator of numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((self.0 >> 33) % u64::from(limit)).expect("below a u32")
    }
}

#[derive(Clone, Copy)]
struct Shape {
    classes: u32,
    dependencies: u32,
    /// How far apart the two classes of a dependency are at most.
    span: u32,
    /// Classes have their first use in the order in which they are nested.
    along: bool,
}

impl Shape {
    fn name(self) -> String {
        let width = if self.span == self.classes { "wide" } else { "local" };
        let first = if self.along { "along" } else { "any" };
        format!("{:>7} {:>8}  {width:<5} {first:<5}", self.classes, self.dependencies)
    }
}

/// The only lock of a class.
fn instance_of(class: ClassId) -> Instance {
    Instance(u64::try_from(class.index()).expect("small") + 1)
}

fn acquire(engine: &mut Engine, task: &mut Task, class: ClassId) {
    let acquisition = Acquisition::exclusive(class, instance_of(class), Place::Line(1));
    let outcome = engine.step(task, Event::Acquire(acquisition));
    assert!(outcome.findings.is_empty(), "the order is one");
}

/// The classes, by their places in the order.
fn register(shape: Shape, engine: &mut Engine, numbers: &mut Numbers) -> Vec<ClassId> {
    let mut ids: Vec<ClassId> =
        (0..shape.classes).map(|n| engine.register(ClassDef::named(&format!("class{n}")))).collect();
    if !shape.along {
        for i in (1..ids.len()).rev() {
            let j = numbers.below(u32::try_from(i + 1).expect("small")) as usize;
            ids.swap(i, j);
        }
    }
    ids
}

/// Dependencies of this shape, each once: the place in the order of the class that is held, and of the one that is taken.
fn dependencies(shape: Shape, numbers: &mut Numbers) -> Vec<(u32, u32)> {
    let mut known = HashSet::new();
    let any = std::iter::repeat_with(|| {
        let outer = numbers.below(shape.classes - 1);
        (outer, outer + 1 + numbers.below((shape.classes - 1 - outer).min(shape.span)))
    });
    any.filter(|pair| known.insert(*pair)).take(shape.dependencies as usize).collect()
}

fn measure(shape: Shape) {
    let mut numbers = Numbers(1);
    let before = counting::in_use();
    let mut engine = Engine::new();
    let ids = register(shape, &mut engine, &mut numbers);
    let for_classes = counting::in_use() - before - size_of_val(&*ids);
    let dependencies = dependencies(shape, &mut numbers);
    let mut task = Task::new(TaskId(1), "bench".into(), 0);
    let mut times: Vec<u32> = Vec::with_capacity(dependencies.len());
    let before = counting::in_use();
    let (begin, used) = (Instant::now(), cpu_time());
    let mut last = begin;
    for (outer, inner) in &dependencies {
        let (outer, inner) = (ids[*outer as usize], ids[*inner as usize]);
        acquire(&mut engine, &mut task, outer);
        acquire(&mut engine, &mut task, inner);
        for class in [inner, outer] {
            let instance = instance_of(class);
            engine.step(&mut task, Event::Release { instance, place: Place::Line(1) });
        }
        let now = Instant::now();
        times.push(u32::try_from((now - last).as_nanos()).unwrap_or(u32::MAX));
        last = now;
        if now - begin > LONGEST {
            break;
        }
    }
    let (done, used) = (times.len(), cpu_time() - used);
    let for_dependencies = counting::in_use() - before;
    assert_eq!(engine.graph().len(), done, "each is new");
    times.sort_unstable();
    let at = |part: f64| f64::from(times[((done - 1) as f64 * part) as usize]) / 1000.0;
    let mean = used.as_nanos() as f64 / done as f64 / 1000.0;
    let searched = engine.graph().counters();
    println!(
        "{}  {done:>8}  {mean:>8.2} {:>7.2} {:>8.2} {:>9.2} {:>10.1}  {:>8.1} {:>8.1}  {:>5} {:>5}",
        shape.name(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        searched.visited as f64 / done as f64,
        searched.moved as f64 / done as f64,
        for_classes / shape.classes as usize,
        for_dependencies / done,
    );
}

/// The classes of the locks that are taken with stacks.
static CLASSES: [LockClass; 1000] = [const { LockClass::new("bench") }; 1000];

fn measure_stacks(name: &str, stacks: Stacks) {
    const NESTS: usize = 10_000;
    let locks: Vec<Mutex<()>> = CLASSES.iter().map(|class| Mutex::with_class(class, ())).collect();
    let mut numbers = Numbers(1);
    let pairs: Vec<(usize, usize)> = (0..NESTS)
        .map(|_| {
            let first = numbers.below(999);
            (first as usize, (first + 1 + numbers.below(999 - first)) as usize)
        })
        .collect();
    let validator = Validator::builder().stacks(stacks).build();
    let time = |pairs: &[(usize, usize)], rounds: usize| {
        let start = cpu_time();
        for (outer, inner) in std::iter::repeat_n(pairs, rounds).flatten() {
            let _outer = locks[*outer].lock();
            drop(locks[*inner].lock());
        }
        (cpu_time() - start).as_nanos() as f64 / (pairs.len() * rounds) as f64 / 1000.0
    };
    // Of the known ones as many as a thread remembers.
    let (learning, known) = validator.scope(|| (time(&pairs, 1), time(&pairs[..100], 1000)));
    let stats = validator.stats();
    println!("{name:<9}  {learning:>12.2} {known:>12.3}  {:>12} {:>8}", stats.dependencies, stats.stacks);
}

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let only: Option<u32> = std::env::args().find_map(|arg| arg.strip_prefix("--classes=")?.parse().ok());
    println!(
        "classes     deps  graph first      done   mean µs     p50      p99     p99.9        max   visited    moved  B/class B/dep"
    );
    for (classes, dependencies) in [(1_000, 10_000), (10_000, 100_000), (100_000, 1_000_000)] {
        if quick && classes > 1_000 || only.is_some_and(|only| only != classes) {
            continue;
        }
        for span in [classes, 100] {
            for along in [true, false] {
                measure(Shape { classes, dependencies, span, along });
            }
        }
    }
    println!();
    println!("stacks     new, µs/nest  known, µs/nest  dependencies  stacks");
    for (name, stacks) in [("off", Stacks::Off), ("new-edges", Stacks::NewEdges), ("full", Stacks::Full)] {
        measure_stacks(name, stacks);
    }
}
