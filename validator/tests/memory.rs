// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many bytes the engine keeps for each class and each dependency, and the runtime for each thread. The bytes of the
//! whole process are counted, so these tests are by themselves, one after the other.
#![cfg(feature = "lockdep")]

#[path = "../../benches/common/counting.rs"]
mod counting;

use std::sync::{Mutex, PoisonError};

use counting::in_use;
use lockdep::engine::{ClassDef, Engine, Task};
use lockdep::event::{Acquisition, Event, Place};
use lockdep::ids::{ClassId, Instance, TaskId};
use lockdep::{Validator, sync};

/// Held by the test that counts.
static COUNTING: Mutex<()> = Mutex::new(());

#[test]
fn a_thread_takes_at_most_16_kib() {
    let _alone = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    let validator = Validator::new();
    let (outer, inner) = (sync::Mutex::new(()), sync::Mutex::new(()));
    let nest = || {
        let _outer = outer.lock();
        drop(inner.lock());
    };
    // What is learned belongs to nobody.
    for _ in 0..2 {
        std::thread::scope(|scope| scope.spawn(|| validator.scope(nest)).join().expect("it does not panic"));
    }
    let bytes = std::thread::scope(|scope| {
        let count = || {
            let before = in_use();
            validator.scope(|| {
                nest();
                in_use() - before
            })
        };
        scope.spawn(count).join().expect("it does not panic")
    });
    println!("{bytes} bytes for each thread");
    assert!((1..=16 * 1024).contains(&bytes), "{bytes} bytes for each thread");
}

/// Takes and releases the only lock of each of these classes, each inside the one before.
fn nest(engine: &mut Engine, task: &mut Task, classes: &[ClassId]) {
    let nest: Vec<Acquisition> = classes
        .iter()
        .map(|class| Acquisition::exclusive(*class, Instance(class.index() as u64 + 1), Place::Line(1)))
        .collect();
    for acquisition in &nest {
        engine.step(task, Event::Acquire(*acquisition));
    }
    for Acquisition { instance, place, .. } in nest.into_iter().rev() {
        engine.step(task, Event::Release { instance, place });
    }
}

/// At each number, not only where some table happens to be full.
#[test]
fn a_class_takes_100_bytes_and_a_dependency_64_whatever_their_number() {
    const DISTANCES: usize = 8;
    let _alone = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    for count in [400, 512, 513, 1000, 1023, 1024, 1025, 2100, 3500] {
        let mut classes: Vec<ClassId> = Vec::with_capacity(count);
        let mut task = Task::new(TaskId(1), "task".into(), 0);
        nest(&mut Engine::new(), &mut task, &[]);
        let start = in_use();
        let mut engine = Engine::new();
        for n in 0..count {
            classes.push(engine.register(ClassDef::named(&format!("class{n}"))));
            nest(&mut engine, &mut task, &classes[n..]);
        }
        let for_classes = in_use() - start;
        let class = for_classes / count;
        println!("{count} classes: {class} bytes for each, name and first uses included");
        assert!(class <= 100, "{class} bytes for each of {count} classes");
        // Dependencies of each class, the next one after the one before.
        for later in 1..count {
            for earlier in later.saturating_sub(DISTANCES)..later {
                nest(&mut engine, &mut task, &[classes[earlier], classes[later]]);
            }
            let dependencies = engine.graph().len();
            let bytes = in_use() - start - for_classes;
            // What a class gets with its first dependency is in this.
            let few = dependencies < 2000;
            assert!(few || bytes <= 64 * dependencies, "{bytes} bytes for {dependencies} dependencies");
        }
        let dependencies = engine.graph().len();
        let bytes = in_use() - start - for_classes;
        println!("{dependencies} dependencies: {:.1} bytes for each", bytes as f64 / dependencies as f64);
        assert_eq!(dependencies, DISTANCES * count - DISTANCES * (DISTANCES + 1) / 2);
    }
}

#[test]
fn a_class_is_not_charged_for_those_that_came_before_it() {
    let _alone = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut engine = Engine::new();
    for _ in 0..10_000 {
        engine.register(ClassDef::named("alike"));
    }
    let before = in_use();
    engine.register(ClassDef::named("another"));
    let bytes = in_use() - before;
    assert!(bytes <= 8 * 1024, "{bytes} bytes for one class");
}
