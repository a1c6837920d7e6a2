// SPDX-License-Identifier: MIT OR Apache-2.0
//! Small numbers with a meaning, so that they cannot be mixed up.

use core::fmt;

/// A lock class in one validator: every lock that obeys one rule. Numbers are handed out in the order of
/// first use, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassId(pub(crate) u32);

impl ClassId {
    /// The position of the class in the order of first use.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One lock object: an address, or any other number that is unique among the locks held at one time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instance(pub u64);

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// One lock object for as long as it exists, wherever it moves: a number that is never used again. 0 stands for a
/// lock whose identity is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockId(pub u32);

impl LockId {
    /// Not known.
    pub const UNKNOWN: LockId = LockId(0);
}

/// A task: one thread of control with its own stack of held locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u32);
