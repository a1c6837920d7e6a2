// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! The set of clean chains that all threads share, and who was seen to take each.
//!
//! It is read without the engine's lock. Why that is right: a chain is published after the engine has found it clean
//! ([`Chains::judge`]), so who finds it here, and then asks the engine anything, meets an engine that has judged it. The
//! second thread that takes a chain goes to the engine once more, so that it is known which orders several threads
//! take; so does the first one, after it has passed on what it did.
//!
//! This file knows no thread, and takes its locks from whoever includes it: `tests/interleavings` includes it with
//! loom's, and tries all interleavings.

use super::shared::{Map, Mutex};
use crate::ids::TaskId;

/// Who was seen to take a chain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// This task, in this segment of its life ([`crate::engine::sight`]).
    By(TaskId, u32),
    BySeveral,
}

impl Seen {
    fn is_by_task_of(self, other: Seen) -> bool {
        matches!((self, other), (Seen::By(one, _), Seen::By(other, _)) if one == other)
    }
}

/// A chain that was found clean.
pub(super) struct CleanChain<L> {
    seen: Seen,
    /// For who wants a list.
    pub(super) locks: L,
}

/// See the module documentation.
#[derive(Default)]
pub(super) struct Chains<L> {
    pub(super) set: Map<u64, CleanChain<L>>,
}

impl<L> Chains<L> {
    /// True if the chain was found clean before, and the engine learns nothing if this task takes it now.
    pub(super) fn is_clean(&self, now: Seen, key: u64) -> bool {
        self.set.get(&key).is_some_and(|known| known.seen == now || known.seen == Seen::BySeveral)
    }

    /// Lets every thread know that the engine has found a chain clean.
    pub(super) fn publish(&self, now: Seen, key: u64, locks: impl FnOnce() -> L) {
        let seen = |known: &mut CleanChain<L>| {
            known.seen = if known.seen.is_by_task_of(now) { now } else { Seen::BySeveral };
        };
        self.set.entry(key).and_modify(seen).or_insert_with(|| CleanChain { seen: now, locks: locks() });
    }

    /// Asks the engine, and then has published what it found clean: not before, and not under its lock.
    pub(super) fn judge<E, T, A>(
        &self,
        engine: &Mutex<E>,
        task: &mut T,
        ask: impl FnOnce(&mut E, &mut T) -> A,
        publish: impl FnOnce(&Self, &T, &A),
    ) -> A {
        let answer = ask(&mut engine.lock(), task);
        publish(self, task, &answer);
        answer
    }
}
