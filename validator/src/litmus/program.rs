// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! A litmus program as data.

use crate::event::{HeldAs, WaitType};
use crate::report::model::ReportKind;

/// What kind of lock a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockType {
    /// Spinlock.
    Spin,
    /// Raw spinlock.
    RawSpin,
    /// Reader/writer spinlock; its readers are recursive in interrupts.
    RwLock,
    /// Sleeping reader/writer lock.
    RwSem,
    /// Mutex.
    Mutex,
    /// Mutex with priority inheritance.
    RtMutex,
    /// Wound/wait mutex.
    Ww,
    /// One lock for each CPU.
    Local,
    /// No lock at all: something that is waited for like one.
    Map,
    /// Something that is waited for until it happens (a completion).
    Event,
}

impl LockType {
    /// Every kind with its word.
    pub const ALL: [(&'static str, LockType); 10] = [
        ("spin", LockType::Spin),
        ("raw_spin", LockType::RawSpin),
        ("rwlock", LockType::RwLock),
        ("rwsem", LockType::RwSem),
        ("mutex", LockType::Mutex),
        ("rtmutex", LockType::RtMutex),
        ("ww", LockType::Ww),
        ("local", LockType::Local),
        ("map", LockType::Map),
        ("event", LockType::Event),
    ];

    /// The wait type of its class.
    #[must_use]
    pub const fn waits(self) -> WaitType {
        match self {
            LockType::RawSpin => WaitType::Spin,
            LockType::Spin | LockType::RwLock | LockType::Local => WaitType::Config,
            LockType::RwSem | LockType::Mutex | LockType::RtMutex | LockType::Ww | LockType::Event => {
                WaitType::Sleep
            }
            LockType::Map => WaitType::Unchecked,
        }
    }
}

/// What the rules make of a lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracking {
    /// All of them apply.
    #[default]
    Full,
    /// It is known to be held, but is in no order.
    Unchecked,
    /// It does not exist.
    None,
}

/// One declared lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockDecl {
    /// Its name in the file.
    pub name: String,
    /// Its kind.
    pub kind: LockType,
    /// Its class.
    pub class: String,
    /// The class is ordered by declaration: an earlier lock may be held while a later one is taken.
    pub ordered: bool,
    /// What the rules make of it.
    pub tracking: Tracking,
}

/// An order recorded before the first step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prime {
    /// These locks, each taken while the one before is held.
    Chain(Vec<String>),
    /// The order that the kernel teaches itself at boot for reservation objects.
    DmaResv,
}

/// A section of a task that something else runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Section {
    /// A hard interrupt; threaded handlers may take spinlocks.
    HardIrq {
        /// Runs as a thread.
        threaded: bool,
    },
    /// A soft interrupt.
    SoftIrq,
    /// Direct reclaim.
    Reclaim,
    /// A dma-fence signalling section.
    Signalling,
    /// The function of a work item.
    Work(String),
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Take a lock.
    Lock {
        /// Which.
        lock: String,
        /// By whom.
        how: How,
        /// 0 to 7.
        subclass: u8,
        /// Nested under this lock or context.
        nest: Option<String>,
    },
    /// Release.
    Unlock(String),
    /// Write hold to read hold.
    Downgrade(String),
    /// Upgradable hold to write hold: waits for the readers.
    Upgrade(String),
    /// Turn a hold into one of another class or subclass.
    Reclass {
        /// The lock.
        lock: String,
        /// Its class from now on; none: the one it has.
        class: Option<String>,
        /// 0 to 7.
        subclass: u8,
    },
    /// A class goes away.
    Unregister(String),
    /// A class of that name comes anew.
    Register(String),
    /// Pin.
    Pin(String),
    /// Set the pin again that was lifted last.
    Repin(String),
    /// Lift the last pin.
    Unpin(String),
    /// Read something that RCU protects: one of these must be held.
    Rcu(Vec<String>),
    /// Initialise anew.
    Init(String),
    /// Free the memory.
    Free(String),
    /// Start an acquire context of a ww class.
    Ctx {
        /// Its name.
        name: String,
        /// The class of its locks.
        class: String,
    },
    /// No more locks with this context.
    Done(String),
    /// End of the context.
    Fini(String),
    /// Assert held.
    AssertHeld(String, HeldAs),
    /// Assert not held.
    AssertNotHeld(String),
    /// May be taken here.
    MightLock(String),
    /// Interrupts off or on.
    Irq(bool),
    /// Bottom halves off or on.
    Bh(bool),
    /// Begin of a section.
    Begin(Section),
    /// Its end.
    End,
    /// Allocate memory.
    Alloc,
    /// Touch user memory.
    MightFault,
    /// Wait for a fence.
    WaitFence,
    /// Wait for a work item.
    Flush(String),
    /// Wait for an event.
    Wait(String),
    /// Let an event happen.
    Complete(String),
    /// Start another task: what this one did before happened before all that the other one does.
    Spawn(String),
    /// Wait for the end of another task: what that one did before happened before what this one does next.
    Join(String),
    /// End of the task.
    Exit,
    /// Return to user space.
    UserReturn,
}

/// How a lock is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Exclusively.
    Write,
    /// Shared.
    Read,
    /// Shared, overtaking waiting writers.
    ReadRecursive,
    /// A trylock that succeeds.
    Try,
    /// A shared trylock that succeeds.
    TryRead,
    /// The same, overtaking waiting writers.
    TryReadRecursive,
    /// Shared with readers, exclusive among its own kind.
    Upgradable,
    /// A trylock for that, which succeeds.
    TryUpgradable,
    /// The slow path of a ww mutex.
    Slow,
}

impl How {
    /// A trylock.
    pub(super) const fn is_try(self) -> bool {
        matches!(self, How::Try | How::TryRead | How::TryReadRecursive | How::TryUpgradable)
    }
}

/// One line that does something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its line in the file, from 1.
    pub line: u32,
    /// Who does it.
    pub task: String,
    /// What.
    pub op: Op,
}

/// One expected report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The line on which it must appear.
    pub line: u32,
    /// Its kind.
    pub kind: ReportKind,
}

/// A whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// The title.
    pub name: Option<String>,
    /// Declared orders.
    pub primes: Vec<Prime>,
    /// Declared locks.
    pub locks: Vec<LockDecl>,
    /// The steps in file order.
    pub steps: Vec<Step>,
    /// The expected reports in file order.
    pub expected: Vec<Expectation>,
}
