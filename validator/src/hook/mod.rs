// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hooks a lock calls: the boundary between code that locks and the validator that watches.
//!
//! [`enabled`](self) and `disabled` are twins with one API; the feature `lockdep` chooses between them here and
//! nowhere else. With the feature off a [`LockMap`] is zero-sized and each function an empty inline one.
//!
//! A lock that is written outside this crate embeds a [`LockMap`] and calls, in this order:
//!
//! 1. [`acquire`] **before** it may block (so that a real deadlock still gets its report), or, for a
//!    trylock, after it has succeeded;
//! 2. [`release`] **before** the real unlock (otherwise the next owner could be seen twice).
//!
//! ```
//! use lockdep::raw::{self, Acquire, LockClass, LockMap};
//!
//! static QUEUE: LockClass = LockClass::new("queue");
//!
//! struct MyLock { map: LockMap, raw: std::sync::atomic::AtomicBool }
//!
//! impl MyLock {
//!     #[track_caller]
//!     fn lock(&self) {
//!         raw::acquire(&self.map, Acquire::WRITE);
//!         while self.raw.swap(true, std::sync::atomic::Ordering::Acquire) {
//!             std::hint::spin_loop();
//!         }
//!     }
//!     #[track_caller]
//!     fn unlock(&self) {
//!         raw::release(&self.map);
//!         self.raw.store(false, std::sync::atomic::Ordering::Release);
//!     }
//! }
//!
//! let lock = MyLock { map: LockMap::new(&QUEUE), raw: false.into() };
//! lock.lock();
//! lock.unlock();
//! ```

use crate::event::{LockKind, Mode, WaitType};

#[cfg(feature = "lockdep")]
#[path = "enabled.rs"]
mod imp;
#[cfg(not(feature = "lockdep"))]
#[path = "disabled.rs"]
mod imp;

pub use imp::{
    DynamicClass, LockMap, PinCookie, acquire, assert_any_held, assert_held, assert_not_held, complete,
    context_enter, context_exit, disable_context, downgrade, enable_context, freed, held, held_locks,
    is_quiet, might_lock, pin, reclass, release, repin, set_task_name, slow_entries, task_exit, unpin,
    user_return, wait, ww_misuse,
};
#[cfg(feature = "lockdep")]
pub(crate) use imp::{Holding, Key};
pub(crate) use imp::{
    OwnedMap, acquire_again, acquire_with, convert, held_subclass, release_quietly, release_upgradable,
    upgrade,
};

/// A lock class: all locks that obey one ordering rule. Its identity is the address of the `static` it lives
/// in; the name is for people.
///
/// ```
/// use lockdep::{LockClass, sync::Mutex};
///
/// static CACHE: LockClass = LockClass::new("cache");
///
/// let a = Mutex::with_class(&CACHE, 1);
/// let b = Mutex::with_class(&CACHE, 2); // same class, another lock
/// assert_eq!(*a.lock() + 1, *b.lock());
/// ```
#[derive(Debug)]
pub struct LockClass {
    name: &'static str,
    strict: bool,
    check: bool,
    track: bool,
    pseudo: bool,
    kind: LockKind,
    inner: WaitType,
    outer: WaitType,
    /// If it lies on the heap.
    dynamic: Option<imp::Dynamic>,
}

impl LockClass {
    /// A class with this name.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        LockClass {
            name,
            strict: false,
            check: true,
            track: true,
            pseudo: false,
            kind: LockKind::Normal,
            inner: WaitType::Unchecked,
            outer: WaitType::Unchecked,
            dynamic: None,
        }
    }

    /// The kernel's rule for this class: holding one lock of it while taking another is a finding
    /// (`recursive`), unless a subclass or a nest lock says why it is fine.
    #[must_use]
    pub const fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Bookkeeping only: the class takes part in held, balance and exit checks, in no ordering rule
    /// (kernel: `check = 0`, `lockdep_set_novalidate_class()`).
    #[must_use]
    pub const fn unchecked(mut self) -> Self {
        self.check = false;
        self
    }

    /// The locks of the class do not exist for the validator: neither held nor in any order. Each acquisition asks for that
    /// once more, which costs about as much as one that is tracked (kernel: `lockdep_set_notrack_class()`).
    #[must_use]
    pub const fn untracked(mut self) -> Self {
        self.track = false;
        self
    }

    /// Not really a lock: something that is waited for like one (reclaim, a fence, an acquire context). Two
    /// threads can be inside at one time, so it guards nothing (kernel: a bare `lockdep_map`).
    #[must_use]
    pub const fn pseudo(mut self) -> Self {
        self.pseudo = true;
        self
    }

    /// What waiting for a lock of this class does to the thread (kernel: `wait_type_inner`).
    #[must_use]
    pub const fn waits(mut self, inner: WaitType) -> Self {
        self.inner = inner;
        self
    }

    /// The wait type that the surroundings must allow, where it differs from [`waits`](Self::waits)
    /// (kernel: `wait_type_outer`).
    #[must_use]
    pub const fn waits_outer(mut self, outer: WaitType) -> Self {
        self.outer = outer;
        self
    }

    /// Per-CPU locks and wait overrides.
    #[must_use]
    pub const fn kind(mut self, kind: LockKind) -> Self {
        self.kind = kind;
        self
    }

    /// The name given to [`new`](Self::new), or to [`DynamicClass::new`].
    #[must_use]
    pub fn name(&self) -> &str {
        self.dynamic.as_ref().map_or(self.name, |dynamic| dynamic.name())
    }

    /// True if [`strict`](Self::strict).
    #[must_use]
    pub const fn is_strict(&self) -> bool {
        self.strict
    }

    /// False if [`unchecked`](Self::unchecked).
    #[must_use]
    pub const fn is_checked(&self) -> bool {
        self.check
    }

    /// False if [`untracked`](Self::untracked).
    #[must_use]
    pub const fn is_tracked(&self) -> bool {
        self.track
    }

    /// True if [`pseudo`](Self::pseudo).
    #[must_use]
    pub const fn is_pseudo(&self) -> bool {
        self.pseudo
    }

    /// See [`kind`](Self::kind).
    #[must_use]
    pub const fn lock_kind(&self) -> LockKind {
        self.kind
    }

    /// `(outer, inner)` wait types; `outer` defaults to `inner`.
    #[must_use]
    pub const fn wait_types(&self) -> (WaitType, WaitType) {
        let outer = if matches!(self.outer, WaitType::Unchecked) { self.inner } else { self.outer };
        (outer, self.inner)
    }
}

/// How a lock is taken: the arguments of [`acquire`] besides the lock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Acquire<'a> {
    /// 0 to 7: a level of deliberate nesting within one class.
    pub subclass: u8,
    /// Write, read or recursive read.
    pub mode: Mode,
    /// Could not block, and has succeeded already.
    pub trylock: bool,
    /// Validate and forget (kernel: `lock_sync()`).
    pub sync: bool,
    /// Held, and serialises the nesting of several locks of this class.
    pub nest: Option<&'a LockMap>,
}

impl<'a> Acquire<'a> {
    /// Exclusive, blocking.
    pub const WRITE: Self =
        Acquire { subclass: 0, mode: Mode::Write, trylock: false, sync: false, nest: None };
    /// Shared, blocking; queues behind a waiting writer.
    pub const READ: Self = Acquire { mode: Mode::Read, ..Self::WRITE };
    /// Shared, blocking; overtakes a waiting writer.
    pub const RECURSIVE_READ: Self = Acquire { mode: Mode::RecursiveRead, ..Self::WRITE };
    /// Shared with readers, exclusive among its own kind, blocking.
    pub const UPGRADABLE: Self = Acquire { mode: Mode::Upgradable, ..Self::WRITE };

    /// The same as a trylock that has succeeded.
    #[inline]
    #[must_use]
    pub const fn trylock(mut self) -> Self {
        self.trylock = true;
        self
    }

    /// The same with a subclass, 0 to 7.
    #[inline]
    #[must_use]
    pub const fn subclass(mut self, subclass: u8) -> Self {
        self.subclass = subclass;
        self
    }

    /// The same under a lock that serialises the nesting.
    #[inline]
    #[must_use]
    pub const fn nest(mut self, lock: &'a LockMap) -> Self {
        self.nest = Some(lock);
        self
    }
}

/// Whether this thread holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// The validator is off, or has not watched this thread.
    Unknown,
}
