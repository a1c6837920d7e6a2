// SPDX-License-Identifier: MIT OR Apache-2.0
//! Locks that are met: `runtime/classes.rs` and `hook/tag.rs`. A validator here is its epoch, its engine and its registry.

use loom::sync::Arc;
use loom::thread;

use crate::classes::Registry;
use crate::engine::{ClassDef, Engine};
use crate::explore;
use crate::hook::{Key, LockMap};
use crate::ids::ClassId;
use crate::shared::Mutex;

struct Validator {
    epoch: u32,
    engine: Mutex<Engine>,
    registry: Registry,
}

impl Validator {
    fn new(epoch: u32) -> Self {
        Validator { epoch, engine: Mutex::default(), registry: Registry::default() }
    }

    /// A thread that this validator watches is about to take the lock.
    fn meet(&self, map: &LockMap) -> ClassId {
        let class = self.registry.class_of(&self.engine, self.epoch, map, 0);
        let known = self.engine.lock().classes[class.0 as usize];
        assert_eq!(known.address, map.key().address(), "the lock is taken for one of another class");
        class
    }
}

const KEY: Key = Key(8);
const OTHER: Key = Key(16);

#[test]
fn a_lock_that_two_threads_meet_at_once_is_one_lock_of_one_class() {
    explore(3, || {
        let shared = Arc::new((Validator::new(1), LockMap::new(KEY)));
        let other = {
            let shared = shared.clone();
            thread::spawn(move || shared.0.meet(&shared.1))
        };
        let class = shared.0.meet(&shared.1);
        assert_eq!(other.join().unwrap(), class);
        let engine = shared.0.engine.lock();
        assert_eq!(engine.classes, [ClassDef { address: KEY.0, subclass: 0, sibling: None }]);
        assert_eq!(engine.many, [], "it guards what is taken under it");
    });
}

#[test]
fn the_second_lock_of_a_class_is_told_to_the_engine_once() {
    explore(3, || {
        let shared = Arc::new((Validator::new(1), [LockMap::new(KEY), LockMap::new(KEY)]));
        let meet = |(validator, maps): &(Validator, [LockMap; 2]), which: usize| {
            let class = validator.meet(&maps[which]);
            // Who finds that one more changes nothing does not tell the engine any more.
            if validator.registry.has_many(&maps[which]) {
                assert_eq!(validator.engine.lock().many, [class]);
            }
            class
        };
        let other = {
            let shared = shared.clone();
            thread::spawn(move || meet(&shared, 0))
        };
        let class = meet(&shared, 1);
        other.join().unwrap();
        assert_eq!(shared.0.engine.lock().many, [class]);
        let registry = &shared.0.registry;
        assert!(registry.has_many(&shared.1[0]) && registry.takes_recheck() && !registry.takes_recheck());
    });
}

#[test]
fn who_sees_a_locks_word_finds_its_number() {
    explore(3, || {
        let shared = Arc::new((Validator::new(1), LockMap::new(KEY)));
        let other = {
            let shared = shared.clone();
            thread::spawn(move || {
                let (validator, map) = &*shared;
                // As the fast path does.
                if map.word_of(validator.epoch).is_some() {
                    assert_ne!(map.tag.number(), 0, "the lock would be taken for one that is not known");
                }
            })
        };
        shared.0.meet(&shared.1);
        other.join().unwrap();
    });
}

/// One lock is used under two validators: each thread goes from one to the other, as at the start and at the end of
/// a scope, while the other thread meets the lock.
#[test]
fn a_thread_never_takes_the_class_that_another_validator_gave_a_lock() {
    explore(2, || {
        let shared = Arc::new((Validator::new(1), Validator::new(2), LockMap::new(KEY)));
        // Another class has the number there that ours has here.
        shared.1.meet(&LockMap::new(OTHER));
        let other = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.1.meet(&shared.2);
                shared.0.meet(&shared.2);
            })
        };
        shared.0.meet(&shared.2);
        shared.1.meet(&shared.2);
        other.join().unwrap();
        for validator in [&shared.0, &shared.1] {
            assert_eq!(validator.engine.lock().many, [], "one lock, whoever gave it its word last");
        }
    });
}
