// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! What a validator knows and has done, as numbers and as text.
//!
//! Kernel counterpart: `/proc/lockdep_stats` (the numbers) and `/proc/lockdep` (the text of [`dump`]).

use core::fmt;

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
    /// The most locks that one task was seen to hold.
    pub depth_max: u64,
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
    pub fn rows(&self) -> [(&'static str, u64); 16] {
        [
            ("classes", self.classes),
            ("dependencies", self.dependencies),
            ("indirect dependencies", self.indirect_dependencies),
            ("chains", self.chains),
            ("instances", self.instances),
            ("depth max", self.depth_max),
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

/// What the process-wide validator has learned, as text: each class with the number of classes that come after and
/// before it, its usage, and the classes that were taken directly under it.
#[must_use]
pub fn dump() -> String {
    crate::global().dump()
}
