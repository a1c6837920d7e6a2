// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The locking policies that are compared: values, chosen when a [`Kernel`](crate::user::Kernel) is made, read by
//! the dma-buf core, the exporters' assertions, the GEM core (`pin`) and the shmem helper.

use core::fmt;
use core::str::FromStr;

/// What the dma-buf core holds when it calls an exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LockingPolicy {
    /// Up to v6.1: no common rule. `map`/`unmap` under the reservation lock only for dynamic users, `vmap` under
    /// `dmabuf->lock`.
    P0,
    /// v6.2 to v6.5: the core holds the reservation lock around `map`, `unmap`, `vmap`, `vunmap` **and `mmap`**.
    P1,
    /// Since v6.6: as P1, but `mmap` is called without the lock; exporters take it themselves.
    P2,
}

impl LockingPolicy {
    /// All of them, oldest first.
    pub const ALL: [Self; 3] = [Self::P0, Self::P1, Self::P2];

    /// `P0`, `P1`, `P2`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::P0 => "P0",
            Self::P1 => "P1",
            Self::P2 => "P2",
        }
    }
}

/// Which locks the GEM shmem helper uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ShmemLocking {
    /// Its own two mutexes, `pages_lock` and `vmap_lock`.
    A,
    /// The reservation lock; `pin` asserts it but nobody takes it (the first attempt, reverted).
    B0,
    /// The reservation lock; the `pin` callback takes it (v6.6 to v6.9).
    B,
    /// The reservation lock; the GEM core takes it around the `pin` callback (since v6.10).
    C,
}

impl ShmemLocking {
    /// All of them, oldest first.
    pub const ALL: [Self; 4] = [Self::A, Self::B0, Self::B, Self::C];

    /// `A`, `B0`, `B`, `C`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B0 => "B0",
            Self::B => "B",
            Self::C => "C",
        }
    }

    /// True if the reservation lock protects the pages (all but A).
    #[must_use]
    pub const fn on_reservation_lock(self) -> bool {
        !matches!(self, Self::A)
    }
}

/// A name that is none of [`LockingPolicy::ALL`] or [`ShmemLocking::ALL`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownName {
    given: String,
    known: String,
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not one of {}", self.given, self.known)
    }
}

impl std::error::Error for UnknownName {}

macro_rules! named {
    ($type:ty) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $type {
            type Err = UnknownName;

            fn from_str(given: &str) -> Result<Self, UnknownName> {
                let found = Self::ALL.into_iter().find(|value| value.name() == given);
                found.ok_or_else(|| UnknownName {
                    given: given.to_owned(),
                    known: Self::ALL.map(Self::name).join(", "),
                })
            }
        }
    };
}

named!(LockingPolicy);
named!(ShmemLocking);

#[cfg(test)]
mod tests {
    use super::{LockingPolicy, ShmemLocking};

    #[test]
    fn every_name_is_read_back() {
        for policy in LockingPolicy::ALL {
            assert_eq!(policy.name().parse(), Ok(policy));
        }
        for shmem in ShmemLocking::ALL {
            assert_eq!(shmem.to_string().parse(), Ok(shmem));
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = "B1".parse::<ShmemLocking>().unwrap_err();
        assert_eq!(error.to_string(), "`B1` is not one of A, B0, B, C");
    }
}
