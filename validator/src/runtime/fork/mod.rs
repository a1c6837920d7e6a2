// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fork: the child must not inherit a validator lock that a thread held which does not exist there.
//!
//! Whoever takes a lock of the validator passes a gate first. A fork shuts the gate and waits until everybody is
//! out; both processes open it again after. So at the moment of the fork no validator lock is held and no thread
//! waits for one. The fast path takes no lock and needs no gate. Nothing of the user's (callbacks, standard error)
//! is waited for inside.
//!
//! Forks may overlap: the gate is open when the last one is through. A thread that forks from inside (only an
//! allocator or the closure of `with_engine` could) does not wait for itself.

#[cfg(unix)]
mod gate;
#[cfg(unix)]
#[path = "unix.rs"]
mod imp;
#[cfg(not(unix))]
#[path = "elsewhere.rs"]
mod imp;

pub(super) use imp::Pass;

/// What the gate is made of.
#[cfg(unix)]
mod atomic {
    pub(super) use std::sync::atomic::{AtomicU32, Ordering};
    pub(super) use std::thread::yield_now;
}
