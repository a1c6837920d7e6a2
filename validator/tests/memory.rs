// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many bytes the engine keeps for each class and each dependency, and the runtime for each thread: the first two
//! with a margin of about a fifth above what was counted here. The bytes of the whole process are counted, so these tests
//! are by themselves, one after the other.
#![cfg(feature = "lockdep")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use lockdep::engine::{ClassDef, Engine, Task};
use lockdep::event::{Acquisition, Event, Place};
use lockdep::ids::{ClassId, Instance, TaskId};
use lockdep::{Validator, sync};

/// Counts the bytes in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything through to the system's allocator; the counter owns nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

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
            let before = IN_USE.load(Ordering::Relaxed);
            validator.scope(|| {
                nest();
                IN_USE.load(Ordering::Relaxed) - before
            })
        };
        scope.spawn(count).join().expect("it does not panic")
    });
    println!("{bytes} bytes for each thread");
    assert!((1..=16 * 1024).contains(&bytes), "{bytes} bytes for each thread");
}

#[test]
fn a_class_and_a_dependency_take_so_many_bytes() {
    let _alone = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    // Tables that double are nearly full.
    const CLASSES: u32 = 3_500;
    const DISTANCES: u32 = 8;
    let start = IN_USE.load(Ordering::Relaxed);
    let mut engine = Engine::new();
    let classes: Vec<ClassId> =
        (0..CLASSES).map(|n| engine.register(ClassDef::named(&format!("class{n}")))).collect();
    let for_classes = IN_USE.load(Ordering::Relaxed) - start;
    let mut task = Task::new(TaskId(1), "task".into(), 0);
    for distance in 1..=DISTANCES {
        for pair in classes.windows(distance as usize + 1) {
            let pair = [pair[0], pair[distance as usize]].map(|class| {
                let instance = Instance(class.index() as u64 + 1);
                Acquisition::exclusive(class, instance, Place::Line(1))
            });
            for acquisition in pair {
                engine.step(&mut task, Event::Acquire(acquisition));
            }
            for acquisition in pair.iter().rev() {
                let (instance, place) = (acquisition.instance, acquisition.place);
                engine.step(&mut task, Event::Release { instance, place });
            }
        }
    }
    let dependencies = engine.graph().edges().len();
    assert!(dependencies > 27_000, "{dependencies}");
    let for_dependencies = IN_USE.load(Ordering::Relaxed) - start - for_classes;
    let (class, dependency) = (for_classes / CLASSES as usize, for_dependencies / dependencies);
    assert!(class <= 200, "{class} bytes for each class");
    // What a class gets with its first dependency is in this.
    assert!(dependency <= 210, "{dependency} bytes for each dependency");
    println!("{class} bytes for each class, {dependency} for each dependency");
}
