// SPDX-License-Identifier: MIT OR Apache-2.0
//! The closed input alphabet of the engine, and the few words every layer shares: mode, wait type, context,
//! place.
//!
//! Everything the engine can learn, it learns from an [`Event`]. The lock types, the litmus runner and the
//! replay of a recorded trace all speak this alphabet; a rule that needs new input adds a variant here.
//!
//! Kernel counterpart: the parameters of `lock_acquire()`, `lock_release()` and their siblings in
//! `kernel/locking/lockdep.c`.

use core::fmt;
use core::panic::Location;

use crate::ids::{ClassId, Instance, LockId};
use crate::ww::WwMisuse;

/// How a lock is taken. A class is one node of the order graph whatever the mode; the mode decides which
/// dependencies can block whom.
///
/// Writers block everybody. A (non-recursive) reader is blocked by a writer and by a *waiting* writer; a
/// recursive reader only by a writer that holds the lock. An upgradable reader excludes writers and its own
/// kind, and shares with readers until it is upgraded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Mode {
    /// Exclusive (kernel: `read = 0`).
    #[default]
    Write = 0,
    /// Shared; queues behind a waiting writer (kernel: `read = 1`).
    Read = 1,
    /// Shared; overtakes a waiting writer (kernel: `read = 2`).
    RecursiveRead = 2,
    /// Shared with readers, exclusive among its own kind, and may become a writer without letting go (no kernel
    /// counterpart; parking_lot's `upgradable_read`).
    Upgradable = 3,
}

impl Mode {
    /// True for all but [`Write`](Mode::Write).
    #[must_use]
    pub const fn is_read(self) -> bool {
        !matches!(self, Mode::Write)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Write => "write",
            Mode::Read => "read",
            Mode::RecursiveRead => "recursive read",
            Mode::Upgradable => "upgradable read",
        })
    }
}

/// What a lock does to a thread that waits for it (kernel: `enum lockdep_wait_type`).
///
/// A lock may only be taken inside one whose wait type is at least as permissive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum WaitType {
    /// Not checked.
    #[default]
    Unchecked = 0,
    /// Never waits (RCU outside).
    Free = 1,
    /// Spins with preemption off (raw spinlock).
    Spin = 2,
    /// Spins, may sleep on a real-time kernel (spinlock, rwlock).
    Config = 3,
    /// Sleeps (mutex, rwsem, ww mutex).
    Sleep = 4,
}

/// How a class takes part in the wait-context check (kernel: `enum lockdep_lock_type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum LockKind {
    /// An ordinary lock.
    #[default]
    Normal = 0,
    /// One lock for each CPU (local lock): no interrupt inversion through it.
    PerCpu = 1,
    /// Replaces the wait type of everything held before (an annotation).
    WaitOverride = 2,
}

/// An interrupting context: code that may run in the middle of any other code of the same thread.
///
/// In a user program a signal handler is the hard interrupt and "signals masked" is "interrupts off".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Context {
    /// Hard interrupt, or a signal handler.
    HardIrq = 0,
    /// Soft interrupt (bottom half).
    SoftIrq = 1,
}

/// Where something happened.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Place {
    /// Not known.
    #[default]
    Unknown,
    /// A line of a Rust program.
    Code(&'static Location<'static>),
    /// A line of an input file (litmus file, recorded trace), counted from 1.
    Line(u32),
}

impl Place {
    /// The place of the caller of the function this is written in, if that one is `#[track_caller]`.
    #[must_use]
    #[track_caller]
    #[inline]
    pub const fn caller() -> Self {
        Place::Code(Location::caller())
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Unknown => f.write_str("(place unknown)"),
            Place::Code(at) => write!(f, "{}:{}:{}", at.file(), at.line(), at.column()),
            Place::Line(line) => write!(f, "line {line}"),
        }
    }
}

/// Which hold an assertion asks for (kernel: `lockdep_assert_held`, `_write`, `_read`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HeldAs {
    /// Held in any mode.
    #[default]
    Any,
    /// Held by a reader.
    Read,
    /// Held exclusively.
    Write,
}

impl HeldAs {
    /// True if a hold in this mode is what is claimed.
    #[must_use]
    pub const fn fits(self, mode: Mode) -> bool {
        match self {
            HeldAs::Any => true,
            HeldAs::Read => mode.is_read(),
            HeldAs::Write => matches!(mode, Mode::Write),
        }
    }
}

/// One acquisition as the engine sees it (kernel: the arguments of `lock_acquire()`).
#[derive(Clone, Copy, Debug)]
pub struct Acquisition {
    /// The class, already resolved for the subclass.
    pub class: ClassId,
    /// The lock object. Meaningful only while the lock is held.
    pub instance: Instance,
    /// The lock object for as long as it exists, if that is known.
    pub lock: LockId,
    /// Write, read or recursive read.
    pub mode: Mode,
    /// The attempt could not block; it is reported only if it succeeded.
    pub trylock: bool,
    /// False: bookkeeping only (held, balance, exit), no ordering rules.
    pub check: bool,
    /// Validate and forget: a wait for everybody who is inside, not a hold (kernel: `lock_sync()`).
    pub sync: bool,
    /// The lock or context that serialises the nesting of several instances of this class.
    pub nest: Option<Instance>,
    /// The lock's position in its class's own order, if the class has one: a lower one may be held while a
    /// higher one is taken (kernel: `lock_set_cmp_fn()`).
    pub rank: Option<u32>,
    /// Where in the program.
    pub place: Place,
}

/// What is done with a pin. The cookies are made by whoever speaks to the engine, and are never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinOp {
    /// It is set, and this cookie given for it.
    Pin(u16),
    /// A pin that was lifted is set again, with the cookie that it had.
    Repin(u16),
    /// It is lifted by whoever has this cookie.
    Unpin(u16),
}

impl Acquisition {
    /// An exclusive one without anything special, of a lock that is known only while it is held.
    #[must_use]
    pub const fn exclusive(class: ClassId, instance: Instance, place: Place) -> Self {
        Acquisition {
            class,
            instance,
            lock: LockId::UNKNOWN,
            mode: Mode::Write,
            trylock: false,
            check: true,
            sync: false,
            nest: None,
            rank: None,
            place,
        }
    }
}

/// One thing that happened in one task. See `Engine::step`.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A lock is about to be waited for, or a trylock has succeeded.
    Acquire(Acquisition),
    /// A lock is about to be released.
    Release {
        /// The lock object.
        instance: Instance,
        /// Where.
        place: Place,
    },
    /// A write hold becomes a (non-recursive) read hold.
    Downgrade {
        /// The lock object.
        instance: Instance,
        /// Where.
        place: Place,
    },
    /// A hold becomes a hold of another mode without being given up: a partial downgrade, or an upgrade. A lock
    /// that is not held in mode `from` is no finding.
    Convert {
        /// The lock object.
        instance: Instance,
        /// The mode so far.
        from: Mode,
        /// The mode from now on.
        to: Mode,
        /// It waits for the readers to leave (an upgrade), so orders are checked.
        waits: bool,
        /// Where.
        place: Place,
    },
    /// A hold becomes one of another class (or subclass), as if the lock had been released and taken anew.
    Reclass {
        /// The lock object.
        instance: Instance,
        /// The class from now on.
        class: ClassId,
        /// That class is subject to the ordering rules.
        check: bool,
        /// Where.
        place: Place,
    },
    /// A lock is pinned, or no longer: while it is, it must not be released.
    Pin {
        /// The lock object.
        instance: Instance,
        /// Its class, for the name.
        class: ClassId,
        /// What is done.
        op: PinOp,
        /// Where.
        place: Place,
    },
    /// A lock is about to be taken at a subclass that there is not.
    BadSubclass {
        /// The lock object.
        instance: Instance,
        /// Its class, for the name.
        class: ClassId,
        /// Which subclass.
        subclass: u8,
        /// Where.
        place: Place,
    },
    /// A class goes away, with all that is known of it.
    RemoveClass {
        /// Which.
        class: ClassId,
        /// How many of its locks are held, by whomever.
        held: u32,
        /// Where.
        place: Place,
    },
    /// A lock is about to be taken whose class has gone away.
    ClassGone {
        /// The lock object.
        instance: Instance,
        /// Its class, for the name.
        class: ClassId,
        /// Where.
        place: Place,
    },
    /// Data is read that RCU protects, and the task holds nothing that allows it.
    RcuUnprotected {
        /// What should be held, or the first of several.
        instance: Instance,
        /// Its class, for the name.
        class: ClassId,
        /// Where.
        place: Place,
    },
    /// The program says that locks of the one class come before those of the other, as if some task had taken them so,
    /// guarded by nothing.
    Declare {
        /// The class held.
        before: ClassId,
        /// The class taken.
        after: ClassId,
        /// Where.
        place: Place,
    },
    /// Somebody waits until an event happens, however long that takes.
    Wait {
        /// The event.
        instance: Instance,
        /// Its class.
        class: ClassId,
        /// Where.
        place: Place,
    },
    /// An event happens: whoever waits for it goes on.
    Complete {
        /// The event.
        instance: Instance,
        /// Its class.
        class: ClassId,
        /// Where.
        place: Place,
    },
    /// The program claims that it holds the lock.
    AssertHeld {
        /// The lock object.
        instance: Instance,
        /// Its class, for the name.
        class: ClassId,
        /// Which hold.
        how: HeldAs,
        /// Where.
        place: Place,
    },
    /// The program claims that it does not hold the lock.
    AssertNotHeld {
        /// The lock object.
        instance: Instance,
        /// Its class, for the name.
        class: ClassId,
        /// Where.
        place: Place,
    },
    /// The interface of wound/wait mutexes was used against its rules ([`crate::ww`]).
    WwMisuse {
        /// The mutex or the context.
        instance: Instance,
        /// Its class, for the name.
        class: ClassId,
        /// Which rule.
        what: WwMisuse,
        /// Where.
        place: Place,
    },
    /// Memory is freed or a lock in it is initialised anew.
    Freed {
        /// First address.
        start: u64,
        /// Length in bytes, at least 1.
        len: u64,
        /// Where.
        place: Place,
    },
    /// A lock goes away that other locks of its class were nested with.
    Dropped {
        /// Which.
        lock: LockId,
    },
    /// The task ends.
    Exit {
        /// Where.
        place: Place,
    },
    /// The task returns from the code under test to its caller's world (kernel: return to user space).
    UserReturn {
        /// Where.
        place: Place,
    },
    /// An interrupting context begins or ends in this task.
    Context {
        /// Which.
        context: Context,
        /// True at its begin.
        enter: bool,
        /// The handler runs as a thread of its own, so that spinning locks are allowed in it.
        threaded: bool,
    },
    /// A context is switched on or off for this task (kernel: `local_irq_enable`, `local_bh_disable` …).
    Enable {
        /// Which.
        context: Context,
        /// True: it may interrupt from now on.
        on: bool,
        /// Where.
        place: Place,
    },
}
