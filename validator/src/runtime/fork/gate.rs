// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! The gate that a fork shuts: a count of the threads inside, and of the forks under way, in one word.
//!
//! Who wants in adds one, and takes it back if a fork is under way. Who forks announces itself in the same word and
//! waits until nobody else is inside. As both are read-modify-write operations on one word, one of the two sees the
//! other: nobody is inside at the fork. What was written inside is seen by the fork, and by who comes in later.
//!
//! This file knows no thread and no static, and takes its atomics from whoever includes it: `tests/interleavings`
//! includes it with loom's, and tries all interleavings.

use super::atomic::{AtomicU32, Ordering, yield_now};

/// One fork under way; what is below counts the threads inside.
const FORK: u32 = 1 << 20;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) word: AtomicU32,
}

impl Gate {
    /// Comes in; waits while a fork is under way.
    pub(super) fn enter(&self) {
        // Acquire: what those did who were inside before a fork is seen here.
        while self.word.fetch_add(1, Ordering::Acquire) >= FORK {
            self.leave();
            while self.word.load(Ordering::Relaxed) >= FORK {
                yield_now();
            }
        }
    }

    /// Goes out.
    pub(super) fn leave(&self) {
        // Release: pairs with `shut`.
        self.word.fetch_sub(1, Ordering::Release);
    }

    /// Shuts the gate for a fork, and waits until nobody is inside but the one who forks (if he is).
    pub(super) fn shut(&self, i_am_inside: bool) {
        // What those did who went out is seen by the last look.
        self.word.fetch_add(FORK, Ordering::Relaxed);
        while self.word.load(Ordering::Acquire) % FORK > u32::from(i_am_inside) {
            yield_now();
        }
    }

    /// Opens the gate again, in the parent.
    pub(super) fn open(&self) {
        self.word.fetch_sub(FORK, Ordering::Release);
    }

    /// Opens the gate in the child: whoever stood at it, or forked at the same time, is not there.
    pub(super) fn open_in_child(&self, i_am_inside: bool) {
        // There is no other thread.
        self.word.store(u32::from(i_am_inside), Ordering::Relaxed);
    }
}
