// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! Usage: in which contexts a class was ever taken, and with which contexts enabled.
//!
//! For each context four facts: used in it, read in it, taken with it enabled, read with it enabled. A trylock
//! does not count as used *in* a context (it cannot block the code it interrupted), but does count as taken
//! with the context enabled. What is only waited for (`sync`) is the other way round: no interrupt finds it held.
//!
//! Kernel counterpart: `mark_usage()`, `mark_held_locks()`, `get_usage_chars()`.

use std::fmt;
use std::sync::Arc;

use super::evidence::{End, EndId, Stack, StackId, WitnessId};
use super::task::{Bits, Irq};
use crate::event::Context;

/// A set of usage facts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage(u8);

/// One fact: used in or enabled, for writing or reading, in one context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The context.
    pub context: Context,
    /// True: taken with the context enabled; false: taken inside it.
    pub enabled: bool,
    /// By a reader.
    pub read: bool,
}

impl Fact {
    const fn bit(self) -> u8 {
        1 << (self.read as u8 | (self.enabled as u8) << 1 | (self.context as u8) << 2)
    }

    /// The same context from the other side: used in ↔ enabled.
    #[must_use]
    pub const fn opposite(self, read: bool) -> Fact {
        Fact { context: self.context, enabled: !self.enabled, read }
    }
}

/// As the kernel prints a usage state: `IN-HARDIRQ-W`, `SOFTIRQ-ON-R` …
impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let context = match self.context {
            Context::HardIrq => "HARDIRQ",
            Context::SoftIrq => "SOFTIRQ",
        };
        let mode = if self.read { 'R' } else { 'W' };
        match self.enabled {
            false => write!(f, "IN-{context}-{mode}"),
            true => write!(f, "{context}-ON-{mode}"),
        }
    }
}

/// The first time a fact was seen.
#[derive(Clone, Debug)]
pub struct FirstUse {
    /// What.
    pub fact: Fact,
    /// The acquisition that made it so.
    pub by: End,
    /// Who.
    pub task: Arc<str>,
    /// The stack there.
    pub stack: Option<StackId>,
}

/// How it is kept, for all facts that were first seen together.
#[derive(Debug)]
pub(super) struct KeptUse {
    pub(super) by: EndId,
    pub(super) who: WitnessId,
    pub(super) stack: Stack,
}

impl KeptUse {
    pub(super) const NONE: KeptUse = KeptUse { by: EndId::NONE, who: WitnessId::NONE, stack: Stack::NONE };
}

/// Both contexts.
pub const CONTEXTS: [Context; 2] = [Context::HardIrq, Context::SoftIrq];

impl Usage {
    /// This fact.
    pub(super) const fn only(fact: Fact) -> Self {
        Usage(fact.bit())
    }

    /// True if the fact is known.
    #[must_use]
    pub const fn has(self, fact: Fact) -> bool {
        self.0 & fact.bit() != 0
    }

    /// Adds a fact; true if it is new.
    pub fn add(&mut self, fact: Fact) -> bool {
        let new = !self.has(fact);
        self.0 |= fact.bit();
        new
    }

    /// True if the class was taken inside the context (or, for `enabled`, with it enabled): for writing, or,
    /// where readers count, in any mode.
    #[must_use]
    pub const fn any(self, context: Context, enabled: bool, readers: bool) -> bool {
        self.has(Fact { context, enabled, read: false })
            || readers && self.has(Fact { context, enabled, read: true })
    }

    /// The letters the kernel prints: hardirq write, hardirq read, softirq write, softirq read; each `.`
    /// neither, `-` used in, `+` enabled, `?` both.
    #[must_use]
    pub fn letters(self) -> String {
        let mut letters = String::with_capacity(4);
        for context in CONTEXTS {
            for read in [false, true] {
                let used = self.has(Fact { context, enabled: false, read });
                let enabled = self.has(Fact { context, enabled: true, read });
                letters.push(match (used, enabled) {
                    (false, false) => '.',
                    (true, false) => '-',
                    (false, true) => '+',
                    (true, true) => '?',
                });
            }
        }
        letters
    }
}

/// The facts that one acquisition makes.
pub(super) fn facts_of(bits: Bits) -> impl Iterator<Item = Fact> {
    let irq = bits.irq();
    let read = bits.mode().is_read();
    let hard_on = irq.enabled(Context::HardIrq) && !irq.inside(Context::HardIrq) && !bits.sync();
    CONTEXTS.into_iter().flat_map(move |context| {
        let used = irq.inside(context) && !bits.trylock();
        // Soft interrupts run only where hard ones may, too.
        let enabled = hard_on && !bits.sync() && irq.enabled(context) && !irq.inside(context);
        [(used, false), (enabled, true)]
            .into_iter()
            .filter_map(move |(holds, enabled)| holds.then_some(Fact { context, enabled, read }))
    })
}

/// The facts that switching `context` on makes for a lock that is held meanwhile, in a task in this state after it.
pub(super) fn facts_of_enabling(context: Context, bits: Bits, irq: Irq) -> impl Iterator<Item = Fact> {
    let read = bits.mode().is_read();
    // Soft interrupts come once both are on.
    let hard = context == Context::HardIrq;
    let soft = irq.enabled(Context::SoftIrq) && irq.enabled(Context::HardIrq);
    [(hard, Context::HardIrq), (soft, Context::SoftIrq)]
        .into_iter()
        .filter_map(move |(holds, context)| holds.then_some(Fact { context, enabled: true, read }))
}
