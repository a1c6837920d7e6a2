// SPDX-License-Identifier: MIT OR Apache-2.0
//! The locks that are compared, and nests of them: parking_lot's own ("bare") and ours, each behind one trait, so that
//! both run the same code.

use std::hint::black_box;

use lockdep::LockClass;

/// The deepest nest.
const DEEPEST: usize = 16;

/// As many classes as locks are nested, so that they can be in one order.
static CLASSES: [LockClass; DEEPEST] = [const { LockClass::new("bench") }; DEEPEST];

/// A way to take a lock of one maker.
pub(crate) trait Lock: Sync + Sized {
    /// What the lock gives while it is held.
    type Guard<'a>
    where
        Self: 'a;
    /// Takes the lock.
    fn take(&self) -> Self::Guard<'_>;
    /// The `i`-th of a nest; each is of a class of its own.
    fn nth(i: usize) -> Self;
}

/// Locks of one order.
pub(crate) type Nest<L> = [L; DEEPEST];

/// A nest of unused locks.
pub(crate) fn new_nest<L: Lock>() -> Nest<L> {
    std::array::from_fn(L::nth)
}

macro_rules! lock {
    ($name:ident, $inner:ty, $guard:ty, $make:expr, $($take:tt)+) => {
        pub(crate) struct $name($inner);
        impl Lock for $name {
            type Guard<'a> = $guard;
            #[inline(always)]
            fn take(&self) -> Self::Guard<'_> {
                self.0 $($take)+
            }
            fn nth(i: usize) -> Self {
                $name($make(i))
            }
        }
    };
}

/// The bare lock and ours, made and taken in the same way.
macro_rules! both {
    ($bare:ident, $ours:ident: $lock:ident, $guard:ident, $($take:tt)+) => {
        lock!($bare, parking_lot::$lock<u64>, parking_lot::$guard<'a, u64>, |_| parking_lot::$lock::new(0), $($take)+);
        lock!(
            $ours,
            lockdep::sync::$lock<u64>,
            lockdep::sync::$guard<'a, u64>,
            |i: usize| lockdep::sync::$lock::with_class(&CLASSES[i], 0),
            $($take)+
        );
    };
}

both!(BareMutex, OurMutex: Mutex, MutexGuard, .lock());
both!(BareTry, OurTry: Mutex, MutexGuard, .try_lock().expect("nobody else has it"));
both!(BareRead, OurRead: RwLock, RwLockReadGuard, .read());
both!(BareWrite, OurWrite: RwLock, RwLockWriteGuard, .write());
both!(BareReentrant, OurReentrant: ReentrantMutex, ReentrantMutexGuard, .lock());

/// Takes these locks one under the other and lets them go in reverse.
macro_rules! nest {
    ($locks:expr, $($i:literal)*) => {{
        $(let _guard = black_box(&$locks[$i]).take();)*
    }};
}

/// One nest of 1, 4, 8 or 16 locks; of 0, what a nest costs without any.
pub(crate) fn nest_of<L: Lock>(depth: usize, locks: &Nest<L>) {
    match depth {
        0 => {}
        1 => nest!(locks, 0),
        4 => nest!(locks, 0 1 2 3),
        8 => nest!(locks, 0 1 2 3 4 5 6 7),
        16 => nest!(locks, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15),
        _ => panic!("no nest is {depth} deep"),
    }
}
