// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! Counting and listing what the engine has learned. Reads only.
//!
//! Kernel counterpart: `lockdep_proc.c` (`l_show()`, `lockdep_stats_show()`).

use std::fmt::Write;

use super::Engine;
use super::task::Bits;
use super::usage::CONTEXTS;
use crate::event::Context;
use crate::ids::ClassId;
use crate::places;
use crate::stats::{Chain, ChainLock, Stats, UnorderedNesting};

impl Engine {
    /// The engine's part of the numbers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counters = self.counters();
        let searched = self.graph.counters();
        let used = |enabled: bool| {
            let any = |class: &super::Class| CONTEXTS.into_iter().any(|c| class.usage.any(c, enabled, true));
            self.classes.iter().filter(|(_, class)| any(class)).count() as u64
        };
        Stats {
            classes: (self.classes.len() - self.classes.removed()) as u64,
            removed_classes: self.classes.removed() as u64,
            dependencies: self.graph.len() as u64,
            indirect_dependencies: self.classes.iter().map(|(id, _)| self.reach(id, true)).sum(),
            instances: self.instances.len() as u64,
            unordered_nestings: self.instances.unordered().map(|(_, pairs, _)| pairs).sum(),
            depth_max: self.depth_max as u64,
            engine_events: counters.events,
            searches: searched.searches,
            visited: searched.visited,
            findings: self.reported.len() as u64,
            duplicates: counters.duplicates,
            guarded_cycles: self.guarded.len() as u64,
            irq_safe: used(false),
            irq_unsafe: used(true),
            ..Stats::default()
        }
    }

    /// The number of classes that can be reached from one, along the edges or against them.
    fn reach(&self, from: ClassId, forward: bool) -> u64 {
        let mut seen = vec![false; self.classes.len()];
        let mut stack = vec![from];
        seen[from.index()] = true;
        let mut count = 0;
        while let Some(at) = stack.pop() {
            for next in self.graph.adjacent(at, forward) {
                if !std::mem::replace(&mut seen[next.index()], true) {
                    count += 1;
                    stack.push(next);
                }
            }
        }
        count
    }

    /// Same-class nestings that only the objects order. See [`crate::Validator::unordered_nestings`].
    #[must_use]
    pub fn unordered_nestings(&self) -> Vec<UnorderedNesting> {
        let nestings = self.instances.unordered().map(|(class, pairs, first)| UnorderedNesting {
            class: self.classes.get(class).display_name(),
            pairs,
            outer: places::site(first.held.place),
            inner: places::site(first.taken.place),
            task: first.task.clone(),
        });
        nestings.collect()
    }

    /// A chain with names. See [`crate::Validator::chains`].
    #[must_use]
    pub fn chain(&self, locks: &[Bits]) -> Chain {
        let level = locks.last().map_or(0, |last| last.irq().level());
        let inside = |context| locks.last().is_some_and(|last| last.irq().inside(context));
        let named = |bits: &Bits| ChainLock {
            class: self.classes.get(bits.class()).display_name(),
            mode: bits.mode(),
            trylock: bits.trylock(),
        };
        Chain {
            hard_irq: inside(Context::HardIrq),
            soft_irq: inside(Context::SoftIrq),
            locks: locks.iter().filter(|bits| bits.irq().level() == level).map(named).collect(),
        }
    }

    /// What was learned, as text. See [`crate::stats::dump`].
    #[must_use]
    pub fn dump(&self) -> String {
        let mut text = String::new();
        for (id, class) in self.classes.iter() {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "FD:{:5} BD:{:5} {}: {}",
                self.reach(id, true),
                self.reach(id, false),
                class.usage.letters(),
                class.display_name()
            );
            let mut next: Vec<ClassId> = self
                .graph
                .edges()
                .filter(|edge| edge.from == id && edge.adjacent)
                .map(|edge| edge.to)
                .collect();
            next.sort_unstable();
            next.dedup();
            for to in next {
                let _ = writeln!(text, " -> {}", self.classes.get(to).display_name());
            }
        }
        for nesting in self.unordered_nestings() {
            let _ = writeln!(text, "{nesting}");
        }
        text
    }
}
