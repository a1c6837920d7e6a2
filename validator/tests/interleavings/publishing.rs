// SPDX-License-Identifier: MIT OR Apache-2.0
//! The set of clean chains: `runtime/chains.rs`.

use loom::sync::Arc;
use loom::thread;

use crate::chains::{Chains, Seen};
use crate::explore;
use crate::ids::TaskId;
use crate::shared::Mutex;

const CHAIN: u64 = 7;

/// The set, and an engine that only notes who took the chain.
#[derive(Default)]
struct Validator {
    chains: Chains<u64>,
    engine: Mutex<Vec<Seen>>,
}

fn task_of(seen: Seen) -> Option<TaskId> {
    match seen {
        Seen::By(task, _) => Some(task),
        Seen::BySeveral => None,
    }
}

impl Validator {
    /// A task takes the chain: the engine must know of that afterwards, or that several do.
    fn take(&self, task: u32, segment: u32) {
        let mut now = Seen::By(TaskId(task), segment);
        if !self.chains.is_clean(now, CHAIN) {
            let note = |engine: &mut Vec<Seen>, now: &mut Seen| engine.push(*now);
            self.chains.judge(&self.engine, &mut now, note, |chains, now, ()| {
                chains.publish(*now, CHAIN, || CHAIN);
            });
        }
        let engine = self.engine.lock();
        let by_several = engine.iter().any(|one| engine.iter().any(|other| task_of(*one) != task_of(*other)));
        assert!(!engine.is_empty(), "the chain is in the set, and the engine has not judged it");
        assert!(
            by_several || engine.contains(&now),
            "the engine does not know that this task takes the chain"
        );
    }
}

#[test]
fn a_chain_in_the_set_was_judged_and_the_engine_knows_who_takes_it() {
    explore(2, || {
        let validator = Arc::new(Validator::default());
        let others = [1, 2].map(|task| {
            let validator = validator.clone();
            thread::spawn(move || validator.take(task, 0))
        });
        validator.take(0, 0);
        for other in others {
            other.join().unwrap();
        }
        assert!(validator.chains.set.get(&CHAIN).is_some_and(|chain| chain.locks == CHAIN));
    });
}

#[test]
fn a_task_that_has_passed_on_what_it_did_is_seen_once_more_unless_several_take_the_chain() {
    explore(3, || {
        let validator = Arc::new(Validator::default());
        let other = {
            let validator = validator.clone();
            thread::spawn(move || (0..2).for_each(|segment| validator.take(1, segment)))
        };
        (0..2).for_each(|segment| validator.take(0, segment));
        other.join().unwrap();
        let judged = validator.engine.lock().len();
        validator.take(0, 2);
        validator.take(3, 0);
        assert_eq!(validator.engine.lock().len(), judged, "several take it: nobody asks any more");
    });
}
