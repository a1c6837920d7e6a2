// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! What a validator knows and has done, as numbers and as text.
//!
//! Kernel counterpart: `/proc/lockdep_stats` (the numbers), `/proc/lockdep` (the text of [`dump`]) and
//! `/proc/lockdep_chains` ([`Chain`]), `/proc/lock_stat` ([`Contention`]).

use core::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::event::Mode;
use crate::report::model::Site;

/// Numbers of one validator. What is there now ([`instances`](Self::instances), and, where classes go away,
/// classes, dependencies and chains) may shrink; the rest only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Lock classes (each subclass is one).
    pub classes: u64,
    /// Direct dependencies; the strengths between two classes count one each.
    pub dependencies: u64,
    /// Pairs of classes that are connected, directly or not.
    pub indirect_dependencies: u64,
    /// Distinct clean chains.
    pub chains: u64,
    /// Locks that are in some order with others of their class.
    pub instances: u64,
    /// Pairs of locks of one class that were nested with no subclass, nest lock or rank to say which comes first.
    pub unordered_nestings: u64,
    /// The most locks that one task was seen to hold.
    pub depth_max: u64,
    /// Chains that a thread met and did not know yet, so that it looked them up in the set that all threads share. A thread
    /// that takes what it has taken before adds nothing.
    pub chain_lookups: u64,
    /// Chains that were found there; the others went on to the engine.
    pub chain_hits: u64,
    /// Events that reached the engine; a known acquisition does not.
    pub engine_events: u64,
    /// Searches of the graph.
    pub searches: u64,
    /// States visited in them.
    pub visited: u64,
    /// Stacks captured.
    pub stacks: u64,
    /// Distinct findings.
    pub findings: u64,
    /// Findings that were made again.
    pub duplicates: u64,
    /// Cycles that a guard excuses.
    pub guarded_cycles: u64,
    /// Classes that have gone away.
    pub removed_classes: u64,
    /// Classes used in an interrupting context.
    pub irq_safe: u64,
    /// Classes taken with an interrupting context enabled.
    pub irq_unsafe: u64,
}

impl Stats {
    /// Each number with its name, in a fixed order.
    #[must_use]
    pub fn rows(&self) -> [(&'static str, u64); 19] {
        [
            ("classes", self.classes),
            ("dependencies", self.dependencies),
            ("indirect dependencies", self.indirect_dependencies),
            ("chains", self.chains),
            ("instances", self.instances),
            ("unordered nestings", self.unordered_nestings),
            ("depth max", self.depth_max),
            ("chain lookups", self.chain_lookups),
            ("chain hits", self.chain_hits),
            ("engine events", self.engine_events),
            ("searches", self.searches),
            ("visited", self.visited),
            ("stacks", self.stacks),
            ("findings", self.findings),
            ("duplicates", self.duplicates),
            ("guarded cycles", self.guarded_cycles),
            ("removed classes", self.removed_classes),
            ("irq-safe", self.irq_safe),
            ("irq-unsafe", self.irq_unsafe),
        ]
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.rows() {
            writeln!(f, " {name:<24}{value:>12}")?;
        }
        Ok(())
    }
}

/// A class of which locks are nested, and nothing but the lock objects says in which order. No finding by itself: the order
/// of the objects is watched. It is a place where an order could be stated.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnorderedNesting {
    /// Name of the class.
    pub class: String,
    /// How many pairs of its locks were seen.
    pub pairs: u64,
    /// Where the outer lock of the first pair was taken.
    pub outer: Site,
    /// Where the inner one was.
    pub inner: Site,
    /// By whom.
    pub task: Arc<str>,
}

impl fmt::Display for UnorderedNesting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UnorderedNesting { class, pairs, outer, inner, task } = self;
        write!(f, "unordered: {class}, pairs: {pairs}, the first by {task}: {outer}, then {inner}")
    }
}

/// How long something took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Times {
    /// How often.
    pub count: u64,
    /// Altogether.
    pub total: Duration,
    /// The longest.
    pub max: Duration,
}

impl Times {
    #[cfg(feature = "lockdep")]
    pub(crate) fn add(&mut self, time: Duration) {
        self.count += 1;
        self.total += time;
        self.max = self.max.max(time);
    }
}

/// How the locks of one class were waited for and held.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contention {
    /// Name of the class.
    pub class: String,
    /// How often one was taken.
    pub acquisitions: u64,
    /// Waits.
    pub wait: Times,
    /// Holds that have ended.
    pub hold: Times,
    /// Where was waited, and how often; the first few places.
    pub places: Vec<(Site, u64)>,
}

/// As the kernel's `/proc/lock_stat`, in microseconds.
impl fmt::Display for Contention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let Contention { class, acquisitions, wait, hold, places } = self;
        writeln!(
            f,
            "{class}: contentions {}, wait max {:.2} total {:.2}, acquisitions {acquisitions}, hold max {:.2} total {:.2}",
            wait.count,
            micros(wait.max),
            micros(wait.total),
            micros(hold.max),
            micros(hold.total),
        )?;
        for (place, count) in places {
            writeln!(f, " {count:>10} {place}")?;
        }
        Ok(())
    }
}

/// A sequence of locks that one task was seen to hold, and that breaks no rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Chain {
    /// Taken in a hard interrupt.
    pub hard_irq: bool,
    /// Taken in a soft interrupt.
    pub soft_irq: bool,
    /// The locks, outermost first; those of the interrupted code are not among them.
    pub locks: Vec<ChainLock>,
}

/// One lock of a [`Chain`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct ChainLock {
    /// Name of its class.
    pub class: String,
    /// How it is held.
    pub mode: Mode,
    /// It was got by a trylock.
    pub trylock: bool,
}

/// As the kernel's `/proc/lockdep_chains`, with the modes that are not `write`.
impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let context = match (self.hard_irq, self.soft_irq) {
            (false, false) => "0",
            (true, false) => "hardirq",
            (false, true) => "softirq",
            (true, true) => "hardirq-softirq",
        };
        writeln!(f, "irq_context: {context}")?;
        for lock in &self.locks {
            write!(f, " {}", lock.class)?;
            if lock.mode != Mode::Write {
                write!(f, ", {}", lock.mode)?;
            }
            writeln!(f, "{}", if lock.trylock { ", trylock" } else { "" })?;
        }
        Ok(())
    }
}

/// What the process-wide validator has learned, as text: each class with the number of classes that come after and
/// before it, its usage, and the classes that were taken directly under it.
#[must_use]
pub fn dump() -> String {
    crate::global().dump()
}
