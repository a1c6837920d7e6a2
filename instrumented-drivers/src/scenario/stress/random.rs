// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Numbers that nobody has to trust (xorshift), the same for the same seed everywhere.

/// A generator.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of a thread of a seeded run.
    #[must_use]
    pub fn new(seed: u64, thread: u64) -> Self {
        let seed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let state = seed ^ thread.wrapping_add(1).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        // Zero is the one state that it never leaves.
        Random(if state == 0 { 1 } else { state })
    }

    /// The next number below the limit.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A generator for a part: however many numbers it takes, this one goes on in the same way.
    #[must_use]
    pub fn split(&mut self) -> Random {
        let part = self.below(1 << 30) as u64;
        Random::new(self.0, part)
    }
}
