// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! What a lock remembers for the validators that use it: the word of its class, and its number. Both are read without a
//! lock, while other threads write them.
//!
//! The *word* says all about the class in its high half, and whose word it is, the validator's epoch, in its low half:
//! so one look gives the class or nothing, whatever another thread stores under another validator. It is a cache; a
//! stale word leads to a look-up.
//!
//! The *number* is given once and stays. It comes before the word: who sees a word (acquire) that was stored after the
//! number was there (release) finds the number, so the fast path need not ask.
//!
//! This file takes its atomics from whoever includes it: `tests/interleavings` includes it with loom's, and tries all
//! interleavings.

use super::atomic::{AtomicU32, AtomicU64, Ordering};

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Tag {
    /// 0 = not resolved.
    pub(super) word: AtomicU64,
    /// 0 = none yet.
    pub(super) number: AtomicU32,
}

impl Tag {
    /// The word last stored.
    #[inline]
    pub(super) fn word(&self) -> u64 {
        self.word.load(Ordering::Acquire)
    }

    /// That word if it is one of this epoch.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the epoch is the low half")]
    pub(super) fn word_of(&self, epoch: u32) -> Option<u64> {
        let word = self.word();
        (word as u32 == epoch).then_some(word)
    }

    /// Stores a word. The lock must have its number.
    pub(super) fn remember(&self, word: u64) {
        self.word.store(word, Ordering::Release);
    }

    /// The number; not known before [`identify`](Self::identify).
    #[inline]
    pub(super) fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    /// Gives it a number, if it has none.
    pub(super) fn identify(&self, number: impl FnOnce() -> u32) -> u32 {
        if self.number() == 0 {
            // Another thread may have been first; then its number stands, and this one is never used.
            let _ = self.number.compare_exchange(0, number(), Ordering::Relaxed, Ordering::Relaxed);
        }
        self.number()
    }
}
