// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! Assertions on held locks. Macros, so that a lock behind any chain of smart pointers can be named as it is.

/// Reports `assert-held` if this thread does not hold the lock, or does not hold it in the given
/// [way](crate::HeldAs). Costs nothing with the feature off.
///
/// ```
/// use lockdep::{HeldAs, sync::{Mutex, RwLock}};
/// use std::sync::Arc;
///
/// let queue = Arc::new(Mutex::new(vec![1]));
/// let table = RwLock::new(0);
/// let guards = (queue.lock(), table.read());
/// lockdep::assert_held!(queue);
/// lockdep::assert_held!(table, HeldAs::Read);
/// # drop(guards);
/// ```
#[macro_export]
macro_rules! assert_held {
    ($lock:expr $(,)?) => {
        $crate::assert_held!($lock, $crate::HeldAs::Any)
    };
    ($lock:expr, $how:expr $(,)?) => {{
        #[allow(unused_imports, reason = "the lock may be a type that has the method itself")]
        use $crate::sync::Watched as _;
        $crate::raw::assert_held(($lock).__lockdep_map(), $how)
    }};
}

/// Reports `assert-not-held` if this thread holds the lock. Costs nothing with the feature off.
///
/// ```
/// let queue = lockdep::sync::Mutex::new(vec![1]);
/// lockdep::assert_not_held!(queue);
/// assert_eq!(queue.lock().len(), 1);
/// ```
#[macro_export]
macro_rules! assert_not_held {
    ($lock:expr $(,)?) => {{
        #[allow(unused_imports, reason = "the lock may be a type that has the method itself")]
        use $crate::sync::Watched as _;
        $crate::raw::assert_not_held(($lock).__lockdep_map())
    }};
}
