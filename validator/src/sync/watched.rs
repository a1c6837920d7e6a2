// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! Checks that a program can make on its own locks.

use crate::hook::{self, Acquire, Held, LockMap};

/// A lock type of [`lockdep::sync`](crate::sync). Sealed.
pub trait Watched: sealed::Sealed {
    #[doc(hidden)]
    fn __lockdep_map(&self) -> &LockMap;

    /// True for locks that their owner may take again.
    #[doc(hidden)]
    const REENTRANT: bool = false;
}

pub(super) mod sealed {
    /// Nobody else can name this.
    pub trait Sealed {}
}

/// Says that the lock may be taken here, on some path: an order that would be wrong is reported even if this run
/// goes another way. A read-write lock counts as taken for writing.
///
/// ```
/// use lockdep::sync::Mutex;
///
/// fn flush(journal: &Mutex<Vec<u8>>, force: bool) {
///     lockdep::might_lock(journal);
///     if force {
///         journal.lock().clear();
///     }
/// }
///
/// flush(&Mutex::new(Vec::new()), false);
/// ```
#[inline]
#[track_caller]
pub fn might_lock<L: Watched + ?Sized>(lock: &L) {
    let map = lock.__lockdep_map();
    if L::REENTRANT && hook::held(map) == Held::Yes {
        return;
    }
    hook::might_lock(map, Acquire::WRITE);
}
