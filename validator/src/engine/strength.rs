// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! Who at the two ends of a dependency can block whom.
//!
//! An edge `prev → next` has a *strength*: how `prev` was held (E exclusively, U upgradable, S shared) and what
//! the task that took `next` waited for (N everybody, R writers only: a recursive reader, G readers only: an
//! upgrade, which has excluded all others before). Edges of different strength between two classes are
//! different edges, each with evidence of its own.
//!
//! A cycle is a deadlock only if at each lock in it the one who waits is blocked by the one who holds:
//!
//! | waits \ holds | E | U | S |
//! |---|---|---|---|
//! | N | yes | yes | yes (a writer, or a reader behind a waiting writer) |
//! | R | yes | no | no |
//! | G | no | no | yes |
//!
//! Kernel counterpart: `__calc_dep_bit()`, which knows no upgrades.

use crate::event::Mode;

/// How the earlier lock of a dependency is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hold {
    /// By a writer.
    Exclusive,
    /// By an upgradable reader.
    Upgradable,
    /// By a reader.
    Shared,
}

impl Hold {
    pub(super) const ALL: [Hold; 3] = [Hold::Exclusive, Hold::Upgradable, Hold::Shared];

    /// The hold of this mode.
    #[must_use]
    pub const fn of(mode: Mode) -> Self {
        match mode {
            Mode::Write => Hold::Exclusive,
            Mode::Upgradable => Hold::Upgradable,
            Mode::Read | Mode::RecursiveRead => Hold::Shared,
        }
    }
}

/// Whom the task that takes the later lock of a dependency waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wait {
    /// Everybody (a reader: by way of a waiting writer).
    Everybody,
    /// Writers: a recursive reader.
    Writers,
    /// Readers: an upgradable reader on its way to a writer.
    Readers,
}

impl Wait {
    pub(super) const ALL: [Wait; 3] = [Wait::Everybody, Wait::Writers, Wait::Readers];

    /// The wait of an acquisition in this mode.
    #[must_use]
    pub const fn of(mode: Mode) -> Self {
        match mode {
            Mode::RecursiveRead => Wait::Writers,
            Mode::Write | Mode::Read | Mode::Upgradable => Wait::Everybody,
        }
    }

    /// True if a task that waits like this is blocked by one that holds like that.
    #[must_use]
    pub const fn blocked_by(self, hold: Hold) -> bool {
        match self {
            Wait::Everybody => true,
            Wait::Writers => matches!(hold, Hold::Exclusive),
            Wait::Readers => matches!(hold, Hold::Shared),
        }
    }
}

/// Who at the two ends of a dependency can block whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Strength {
    /// How the earlier lock is held.
    pub hold: Hold,
    /// Whom the task waits for at the later one.
    pub wait: Wait,
}

impl Strength {
    /// The strength of "took `next` while holding `prev`".
    #[must_use]
    pub const fn of(prev: Mode, next: Mode) -> Self {
        Strength { hold: Hold::of(prev), wait: Wait::of(next) }
    }

    /// The two letters of the module documentation, as in `EN`.
    #[must_use]
    pub const fn letters(self) -> &'static str {
        match (self.hold, self.wait) {
            (Hold::Exclusive, Wait::Everybody) => "EN",
            (Hold::Exclusive, Wait::Writers) => "ER",
            (Hold::Exclusive, Wait::Readers) => "EG",
            (Hold::Upgradable, Wait::Everybody) => "UN",
            (Hold::Upgradable, Wait::Writers) => "UR",
            (Hold::Upgradable, Wait::Readers) => "UG",
            (Hold::Shared, Wait::Everybody) => "SN",
            (Hold::Shared, Wait::Writers) => "SR",
            (Hold::Shared, Wait::Readers) => "SG",
        }
    }
}
