// SPDX-License-Identifier: MIT OR Apache-2.0
//! A global allocator that takes a watched lock: the validator allocates itself, so it must not trip over its own
//! feet; and what it does in its steady state it does without allocating.
//!
//! The lock is a spinlock with the hooks of `lockdep::raw`: parking_lot's locks allocate when they wait for the
//! first time in a thread, so an allocator cannot use them, watched or not.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use lockdep::raw::{self, Acquire, LockClass, LockMap};
use lockdep::sync::{Mutex, ReentrantMutex, RwLock};

/// Locks and unlocks a watched spinlock for each allocation.
struct Counting {
    map: LockMap,
    locked: AtomicBool,
}

static HEAP: LockClass = LockClass::new("heap");

#[global_allocator]
static ALLOCATOR: Counting = Counting { map: LockMap::new(&HEAP), locked: AtomicBool::new(false) };

thread_local! {
    /// Allocations of this thread.
    static MINE: Cell<usize> = const { Cell::new(0) };
}

impl Counting {
    fn count(&self) {
        raw::acquire(&self.map, Acquire::WRITE);
        while self.locked.swap(true, Ordering::Acquire) {
            std::hint::spin_loop();
        }
        MINE.set(MINE.get() + 1);
        raw::release(&self.map);
        self.locked.store(false, Ordering::Release);
    }
}

// SAFETY: everything is the system allocator's; counting changes no memory that was given away.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.count();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.count();
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) };
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.count();
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// How often this thread allocates in `f`.
fn allocations(f: impl FnOnce()) -> usize {
    let before = MINE.get();
    f();
    MINE.get() - before
}

#[test]
fn a_locking_allocator_is_watched_and_does_not_confuse_the_validator() {
    let m = Mutex::new(Vec::new());
    let v = lockdep::Validator::new();
    v.scope(|| {
        for i in 0..100 {
            // The vector grows under `m`: `m`, then the allocator's lock.
            m.lock().push(i);
        }
        lockdep::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| m.lock().push(0));
            }
        });
        // An inversion is found, reported and rendered, all of which allocates.
        let other = Mutex::new(());
        drop((m.lock(), other.lock()));
        drop((other.lock(), m.lock()));
        for report in v.reports() {
            assert!(format!("{report}").contains("circular"));
        }
    });
    let found: Vec<_> = v.reports().iter().map(|report| report.kind().name()).collect();
    if lockdep::ENABLED {
        assert_eq!(found, ["circular"], "{:?}", v.reports());
        let to_allocator = |(_, to): &(String, String)| to == "heap";
        assert!(v.dependencies().iter().any(to_allocator), "{:?}", v.dependencies());
    }
}

#[test]
fn threads_begin_and_end_under_a_locking_allocator() {
    for _ in 0..20 {
        std::thread::spawn(|| drop(vec![0u8; 100])).join().unwrap();
        lockdep::thread::spawn(|| drop(vec![0u8; 100])).join().unwrap();
    }
    assert!(lockdep::global().reports().is_empty());
}

#[test]
fn the_steady_state_does_not_allocate() {
    let locks: Vec<_> = (0..8).map(|i| (Mutex::new(i), RwLock::new(i), ReentrantMutex::new(i))).collect();
    let round = || {
        let nested: [_; 3] = [&locks[0], &locks[1], &locks[2]];
        for (m, rw, re) in nested {
            let _guards = (m.lock(), rw.read(), re.lock(), re.lock());
        }
        let outer = locks[3].0.lock();
        for (_, rw, _) in &locks {
            drop(rw.upgradable_read());
            drop(rw.write());
            drop(rw.try_read());
        }
        drop(outer);
    };
    let v = lockdep::Validator::new();
    v.scope(|| {
        let first = allocations(round);
        assert_eq!(first > 0, lockdep::ENABLED, "{first} allocations");
        // The second round may still meet chains that the first made known to the set of all threads only.
        round();
        assert_eq!(allocations(|| (0..100).for_each(|_| round())), 0);
    });
    assert!(v.reports().is_empty(), "{:?}", v.reports());
}
