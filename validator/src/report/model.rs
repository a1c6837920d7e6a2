// SPDX-License-Identifier: MIT OR Apache-2.0
//! A report: everything that is known about one finding, as data.
//!
//! Built by the checks of the engine, completed by the runtime (stacks, function names), rendered elsewhere.
//! A report owns its data, so it can outlive the validator that made it.

use core::fmt;
use std::sync::Arc;

use crate::event::{HeldAs, Mode, Place};
use crate::ids::Instance;
use crate::ww::WwMisuse;

/// What rule was broken. The [`name`](ReportKind::name) is the same word in file, enum, JSON and litmus files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ReportKind {
    /// A task takes a lock of a class that it holds already (kernel: `print_deadlock_bug`).
    Recursive,
    /// A new dependency closes a cycle (kernel: `print_circular_bug`).
    Circular,
    /// One class is used both inside an interrupting context and with that context enabled
    /// (kernel: `print_usage_bug`).
    IrqState,
    /// A class changed its interrupt state and an existing path became illegal
    /// (kernel: `print_irq_inversion_bug`).
    IrqInversion,
    /// A new dependency leads from an interrupt-safe to an interrupt-unsafe class
    /// (kernel: `print_bad_irq_dependency`).
    IrqOrder,
    /// A lock is released that is not held (kernel: `print_unlock_imbalance_bug`).
    Balance,
    /// Memory with a held lock in it is freed, or a held lock is initialised anew
    /// (kernel: `print_freed_lock_bug`).
    Freed,
    /// A task ends with locks held (kernel: `print_held_locks_bug`).
    Exit,
    /// A task returns to user space with locks held (kernel: `lockdep_sys_exit`).
    UserReturn,
    /// The lock that is said to serialise a nesting is not held
    /// (kernel: `print_lock_nested_lock_not_held`).
    NestMissing,
    /// A lock that waits is taken where waiting is not allowed (kernel: `print_lock_invalid_wait_context`).
    WaitContext,
    /// A lock that must be held is not (kernel: `lockdep_assert_held`).
    AssertHeld,
    /// A lock that must not be held is (kernel: `lockdep_assert_not_held`).
    AssertNotHeld,
    /// The wound/wait mutex interface was used against its rules (kernel: `DEBUG_LOCKS_WARN_ON` in
    /// `ww_mutex.h`).
    WwApi,
    /// A pinned lock is released, or a pin set or lifted where there is none (kernel: `lock_pin_lock`).
    Pin,
    /// Data that RCU protects is read unprotected (kernel: `lockdep_rcu_suspicious`).
    Rcu,
    /// A subclass beyond the number there is.
    Subclass,
    /// A key that cannot be one.
    Key,
    /// More locks held at one time than can be meant.
    Depth,
}

impl ReportKind {
    /// Every kind.
    pub const ALL: [ReportKind; 19] = [
        ReportKind::Recursive,
        ReportKind::Circular,
        ReportKind::IrqState,
        ReportKind::IrqInversion,
        ReportKind::IrqOrder,
        ReportKind::Balance,
        ReportKind::Freed,
        ReportKind::Exit,
        ReportKind::UserReturn,
        ReportKind::NestMissing,
        ReportKind::WaitContext,
        ReportKind::AssertHeld,
        ReportKind::AssertNotHeld,
        ReportKind::WwApi,
        ReportKind::Pin,
        ReportKind::Rcu,
        ReportKind::Subclass,
        ReportKind::Key,
        ReportKind::Depth,
    ];

    /// The kind's word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ReportKind::Recursive => "recursive",
            ReportKind::Circular => "circular",
            ReportKind::IrqState => "irq-state",
            ReportKind::IrqInversion => "irq-inversion",
            ReportKind::IrqOrder => "irq-order",
            ReportKind::Balance => "balance",
            ReportKind::Freed => "freed",
            ReportKind::Exit => "exit",
            ReportKind::UserReturn => "user-return",
            ReportKind::NestMissing => "nest-missing",
            ReportKind::WaitContext => "wait-context",
            ReportKind::AssertHeld => "assert-held",
            ReportKind::AssertNotHeld => "assert-not-held",
            ReportKind::WwApi => "ww-api",
            ReportKind::Pin => "pin",
            ReportKind::Rcu => "rcu",
            ReportKind::Subclass => "subclass",
            ReportKind::Key => "key",
            ReportKind::Depth => "depth",
        }
    }

    /// The kind with this word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for ReportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Severity {
    /// A pattern that would deadlock but for a lock that both sides hold; does not fail a run by default.
    Guarded,
    /// A broken rule.
    Error,
}

impl Severity {
    /// The severity's word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Guarded => "guarded",
            Severity::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A place with the function it is in, where that is known.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Site {
    /// File and line, or line of the input.
    pub place: Place,
    /// The function, if somebody told the validator ([`crate::places`]).
    pub function: Option<&'static str>,
}

impl From<Place> for Site {
    fn from(place: Place) -> Self {
        Site { place, function: None }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.function {
            Some(function) => write!(f, "{function} ({})", self.place),
            None => fmt::Display::fmt(&self.place, f),
        }
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One frame of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Demangled name of the function.
    pub function: String,
    /// `file:line`, if the binary has line tables.
    pub place: Option<String>,
}

/// A resolved stack, innermost frame first, without the validator's own frames.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stack {
    /// The frames.
    pub frames: Vec<Frame>,
}

/// A lock as a report names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LockName {
    /// Class name with `#N` (N-th class of that name) and `/S` (subclass).
    pub class: String,
    /// The lock object.
    pub instance: Instance,
    /// Usage letters as the kernel prints them, for example `+.+.`.
    pub usage: String,
    /// `outer:inner` wait types, if the class has any.
    pub waits: Option<(u8, u8)>,
    /// Not a lock but an event: "taken" means waited for, "held" means that it happens.
    pub event: bool,
}

/// One acquisition: by whom, how, where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acquired {
    /// What was taken.
    pub lock: LockName,
    /// How.
    pub mode: Mode,
    /// As a trylock.
    pub trylock: bool,
    /// Where.
    pub site: Site,
    /// The thread's name.
    pub task: Arc<str>,
    /// The stack there, of a lock that was held: only with [`Stacks::Full`](crate::Stacks::Full).
    pub stack: Option<Arc<Stack>>,
}

/// One dependency of a cycle or path: `to` was taken while `from` was held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The earlier lock: its class, and where it had been taken.
    pub from: Acquired,
    /// The later lock: its class, and where it was taken under `from`.
    pub to: Acquired,
    /// The stack at the later acquisition, the first time it was seen.
    pub stack: Option<Arc<Stack>>,
    /// True for the dependency that this very acquisition would add.
    pub new: bool,
}

/// In which context a class was used, and where it first was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// The state, in the kernel's words: `IN-HARDIRQ-W`, `SOFTIRQ-ON-R` …
    pub state: String,
    /// The acquisition that made it so.
    pub by: Acquired,
    /// The stack there.
    pub stack: Option<Arc<Stack>>,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The rule.
    pub kind: ReportKind,
    /// How much it weighs.
    pub severity: Severity,
    /// What is known besides: `single-thread` (only one thread was ever seen to do this), `ordered` (two of the orders
    /// are known to have happened one before the other, because a thread was started after the first, or waited for),
    /// `event` (one of the waits is not for a lock).
    pub tags: Vec<&'static str>,
    /// Equal for two findings of one cause, in this and in other runs: made of class names and modes, with no
    /// address and no thread in it. (A class without a name of its own is called after its place.)
    pub signature: String,
    /// The problem in one sentence.
    pub summary: String,
    /// Name of the task that made the finding.
    pub task: Arc<str>,
    /// The acquisition (or release, or assertion) that broke the rule.
    pub wanted: Option<Acquired>,
    /// For assertions: which hold was asked for.
    pub asserted: Option<HeldAs>,
    /// For `ww-api`: which rule of the interface was broken.
    pub misuse: Option<WwMisuse>,
    /// The held lock it is at odds with.
    pub conflict: Option<Acquired>,
    /// The dependencies that make the cycle or path. For a cycle, first the new one (`conflict` → `wanted`), then
    /// the known ones in the order in which they lead from `wanted` back to `conflict`; for the interrupt rules
    /// the path from the lock used in the context to the one taken with the context enabled.
    pub edges: Vec<Edge>,
    /// For the interrupt rules: the states that are at odds, the one used in the context first.
    pub usages: Vec<Used>,
    /// All locks the task held, outermost first.
    pub held: Vec<Acquired>,
    /// The stack at the finding.
    pub stack: Option<Arc<Stack>>,
    /// What to do about it, for this kind of finding.
    pub help: String,
    /// True if the acquisition would certainly block for ever: this task holds this very lock already.
    pub certain: bool,
}

impl Report {
    /// The rule that was broken.
    #[must_use]
    pub fn kind(&self) -> ReportKind {
        self.kind
    }

    /// How much it weighs.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// A name of the cause, the same in every run.
    #[must_use]
    pub fn signature(&self) -> &str {
        &self.signature
    }

    /// What is known besides the kind.
    #[must_use]
    pub fn tags(&self) -> &[&'static str] {
        &self.tags
    }

    /// The problem in one sentence.
    #[must_use]
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// True if the acquisition would certainly block for ever.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.certain
    }
}
