// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Locks whose thread has panicked.
//!
//! The models release their locks by hand, so a thread that panics leaves them locked, and who waits for one would wait for
//! good: a failure would look like a hang. So who waits looks at times whether the thread that has the lock has
//! panicked, and panics, too; the program then ends with the first panic's message at the top.
//!
//! Not seen: locks of threads that the models did not start, and waits for what is no lock.

use std::thread::{self, ThreadId};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// How often who waits for a lock looks.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);

/// The threads that have panicked. Their numbers are not used again.
static PANICKED: Mutex<Vec<ThreadId>> = Mutex::new(Vec::new());

/// Runs what a thread of the models does.
pub(crate) fn watched<R>(f: impl FnOnce() -> R) -> R {
    struct Watch;
    impl Drop for Watch {
        fn drop(&mut self) {
            if thread::panicking() {
                PANICKED.lock().push(thread::current().id());
            }
        }
    }
    let _watch = Watch;
    f()
}

/// True if one of these threads has panicked.
pub(super) fn any_panicked(holders: impl IntoIterator<Item = ThreadId>) -> bool {
    let panicked = PANICKED.lock();
    holders.into_iter().any(|holder| panicked.contains(&holder))
}

/// Ends the wait for a lock that nobody will release.
#[cold]
pub(super) fn give_up() -> ! {
    panic!("internal error: this waits for a lock of a thread that has panicked");
}

/// Waits for a change. False if there was none for a while, and one of the threads that have the lock has panicked.
pub(super) fn wait<T, H>(changed: &Condvar, state: &mut MutexGuard<'_, T>, holders: impl Fn(&T) -> H) -> bool
where
    H: IntoIterator<Item = ThreadId>,
{
    !(changed.wait_for(state, PATIENCE).timed_out() && any_panicked(holders(state)))
}
