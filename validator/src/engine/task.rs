// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! A task: the stack of held locks, the interrupt state, and the key of the current chain.
//!
//! The *chain* is the sequence of locks held, each with everything a rule could look
//! at: class, mode, trylock, check, nesting, interrupt state. Its 64-bit key is rolled on with each acquisition,
//! so "this sequence was validated before" is one comparison. A nested acquisition of the class on top of the
//! stack (ww mutexes under one context) leaves the key alone, so the chain does not depend on how many there
//! are; each still has an entry of its own, so that its instance is known. An interrupt goes on with the chain of what
//! it interrupted (dependencies do not, see [`Irq::level`]), so a key is right whatever the handler releases or leaves
//! held.
//!
//! Invariants (asserted in [`Task::check_invariants`]): the key of an entry's predecessor is the key the task
//! had before it; an empty stack has the seed as key.
//!
//! Kernel counterpart: `struct held_lock`, `curr_chain_key`, `iterate_chain_key()`. The kernel merges nested
//! entries into a count and forgets the instances.
//!
//! Cannot see: two chains with equal keys (2⁻⁶⁴ each).

use std::num::NonZeroU32;
use std::sync::Arc;

use super::sight::Clock;
use crate::event::{Acquisition, Context, Mode, PinOp, Place};
use crate::ids::{ClassId, Instance, LockId, TaskId};

/// The rolling key of a chain.
pub type ChainKey = u64;

/// Mixes one more acquisition into a key: a folded 64×64 multiplication, one instruction of the machine.
#[inline]
#[must_use]
pub const fn mix(key: ChainKey, bits: u64) -> ChainKey {
    let product = (key ^ bits) as u128 * 0x9e37_79b9_7f4a_7c15;
    (product as u64) ^ ((product >> 64) as u64)
}

/// Everything about an acquisition that a rule may look at, in one word. In the high half what the class decides
/// (its number and whether it is checked), in the low half how the lock is taken: mode, trylock, nested, sync, and
/// the interrupt state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits(u64);

const CLASS: u32 = 32;
const UNCHECKED: u64 = 1 << 63;
const MODE: u32 = 0;
const TRYLOCK: u64 = 1 << 2;
const NEST: u64 = 1 << 3;
const SYNC: u64 = 1 << 4;
const IRQ: u32 = 8;

/// One bit of the high half is not the class's number.
pub(crate) const CLASSES_MAX: u32 = 1 << 31;

impl Bits {
    /// Packs an acquisition.
    #[inline]
    #[must_use]
    pub const fn new(
        class: ClassId,
        mode: Mode,
        trylock: bool,
        check: bool,
        nest: bool,
        sync: bool,
        irq: Irq,
    ) -> Self {
        let mut bits = Bits::of_class(class, check).0 | irq.bits();
        if nest {
            bits |= NEST;
        }
        if sync {
            bits |= SYNC;
        }
        Bits(bits).taken(mode, trylock)
    }

    /// The high half: the low one says "exclusively, blocking, in a plain task".
    #[inline]
    #[must_use]
    pub(crate) const fn of_class(class: ClassId, check: bool) -> Self {
        let class = (class.0 as u64) << CLASS;
        Bits(if check { class } else { class | UNCHECKED })
    }

    /// From a word that was put together outside of this module.
    #[inline]
    #[must_use]
    pub(crate) const fn from_word(word: u64) -> Self {
        Bits(word)
    }

    /// The same, taken in this mode.
    #[inline]
    #[must_use]
    pub(crate) const fn taken(self, mode: Mode, trylock: bool) -> Self {
        Bits(self.0 | (mode as u64) << MODE | if trylock { TRYLOCK } else { 0 })
    }

    /// The same under a nest lock.
    #[must_use]
    pub(crate) const fn nested(self) -> Self {
        Bits(self.0 | NEST)
    }

    /// The word itself, for the chain key.
    #[inline]
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The class.
    #[inline]
    #[must_use]
    pub const fn class(self) -> ClassId {
        ClassId((self.0 >> CLASS) as u32 & (CLASSES_MAX - 1))
    }

    /// Write, read or recursive read.
    #[inline]
    #[must_use]
    pub const fn mode(self) -> Mode {
        match (self.0 >> MODE) & 3 {
            0 => Mode::Write,
            1 => Mode::Read,
            2 => Mode::RecursiveRead,
            _ => Mode::Upgradable,
        }
    }

    /// Taken by a trylock.
    #[inline]
    #[must_use]
    pub const fn trylock(self) -> bool {
        self.0 & TRYLOCK != 0
    }

    /// Subject to the ordering rules.
    #[inline]
    #[must_use]
    pub const fn check(self) -> bool {
        self.0 & UNCHECKED == 0
    }

    /// Taken under a nest lock.
    #[inline]
    #[must_use]
    pub const fn nest(self) -> bool {
        self.0 & NEST != 0
    }

    /// Validated and not held.
    #[inline]
    #[must_use]
    pub const fn sync(self) -> bool {
        self.0 & SYNC != 0
    }

    /// The interrupt state at the acquisition.
    #[inline]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "five bits")]
    pub const fn irq(self) -> Irq {
        Irq((self.0 >> IRQ) as u8)
    }

    /// The same, as a hold of this class.
    pub(super) const fn with_class(self, class: ClassId, check: bool) -> Self {
        Bits(self.0 & ((1 << CLASS) - 1) | Bits::of_class(class, check).0)
    }

    pub(super) fn with_mode(self, mode: Mode) -> Self {
        Bits(self.0 & !(3 << MODE) | (mode as u64) << MODE)
    }
}

/// The interrupt state of a task: inside which contexts it runs, and which may interrupt it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Irq(u8);

impl Irq {
    /// A plain task with everything enabled.
    pub const TASK: Irq = Irq(0);

    /// As a part of [`Bits`].
    #[inline]
    pub(crate) const fn bits(self) -> u64 {
        (self.0 as u64) << IRQ
    }

    const OFF: u8 = 2;
    const THREADED: u8 = 1 << 4;

    /// True inside this context.
    #[must_use]
    pub const fn inside(self, context: Context) -> bool {
        self.0 & (1 << context as u8) != 0
    }

    /// True if this context may interrupt (it is not switched off, and we are not in it).
    #[must_use]
    pub const fn enabled(self, context: Context) -> bool {
        self.0 & (1 << (context as u8 + Self::OFF)) == 0
    }

    /// True in a handler that runs as a thread.
    #[must_use]
    pub const fn threaded(self) -> bool {
        self.0 & Self::THREADED != 0
    }

    /// The part that separates dependencies: inside which contexts the task is. What an interrupt takes does not
    /// depend on what is held where it came; it could have come anywhere.
    #[must_use]
    pub const fn level(self) -> u8 {
        self.0 & 3
    }

    fn set_inside(&mut self, context: Context, inside: bool, threaded: bool) {
        self.set(1 << context as u8, inside);
        self.set(Self::THREADED, inside && threaded);
    }

    /// Switches a context on or off.
    pub fn set_enabled(&mut self, context: Context, on: bool) {
        self.set(1 << (context as u8 + Self::OFF), !on);
    }

    fn set(&mut self, bit: u8, on: bool) {
        if on {
            self.0 |= bit;
        } else {
            self.0 &= !bit;
        }
    }
}

/// Whether an acquisition is part of the chain. As wide as its neighbours in [`HeldLock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Part {
    /// It is.
    Chain,
    /// It is nested, of the class just below, and is not.
    Merged,
}

/// One acquisition in force.
///
/// The fields that are mostly 0 stand together: one store clears them. Before a lock is taken the processor waits for
/// all stores, so each counts.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct HeldLock {
    /// The chain key before this acquisition.
    pub prev_key: ChainKey,
    /// The lock object.
    pub instance: Instance,
    /// What the rules look at.
    pub bits: Bits,
    /// Where it was taken.
    pub place: Place,
    /// The nest lock, if [`Bits::nest`].
    pub nest: Instance,
    /// Its position in its class's own order, from 1.
    pub rank: Option<NonZeroU32>,
    /// Whether it is part of the chain.
    pub part: Part,
    /// The lock object, for as long as the lock exists.
    pub lock: LockId,
}

impl HeldLock {
    /// An entry under no nest lock and without a rank, which is part of the chain.
    #[inline]
    pub(crate) const fn new(
        prev_key: ChainKey,
        instance: Instance,
        lock: LockId,
        bits: Bits,
        place: Place,
    ) -> Self {
        let (nest, rank, part) = (Instance(0), None, Part::Chain);
        HeldLock { prev_key, instance, bits, place, nest, rank, part, lock }
    }

    /// True for a nested acquisition of the class just below, which is not part of the chain.
    #[inline]
    #[must_use]
    pub const fn is_merged(&self) -> bool {
        matches!(self.part, Part::Merged)
    }
}

/// One thread of control.
#[derive(Debug)]
pub struct Task {
    /// Its number.
    pub id: TaskId,
    /// Its name in reports.
    pub name: Arc<str>,
    seed: ChainKey,
    pub(crate) key: ChainKey,
    pub(crate) held: Vec<HeldLock>,
    pub(crate) irq: Irq,
    interrupted: Vec<Irq>,
    /// Locks that must not be released, with the sum of their cookies; never 0.
    pins: Vec<(Instance, u32)>,
    /// What it knows others to have done before.
    pub(super) clock: Arc<Clock>,
    /// How often it has passed on what it has done.
    pub(crate) segment: u32,
    /// It was the first to see some order.
    pub(super) learned: bool,
}

impl Task {
    /// A task that holds nothing. `seed` is the key of the empty chain: different for validators that share a
    /// chain cache.
    #[must_use]
    pub fn new(id: TaskId, name: Arc<str>, seed: ChainKey) -> Self {
        Task {
            id,
            name,
            seed,
            key: seed,
            held: Vec::new(),
            irq: Irq::TASK,
            interrupted: Vec::new(),
            pins: Vec::new(),
            clock: Arc::default(),
            segment: 0,
            learned: false,
        }
    }

    /// The locks held, outermost first.
    #[must_use]
    pub fn held(&self) -> &[HeldLock] {
        &self.held
    }

    /// The interrupt state.
    #[must_use]
    pub fn irq(&self) -> Irq {
        self.irq
    }

    /// What the cookies of a lock add up to; 0 if it is not pinned.
    pub(crate) fn pinned(&self, instance: Instance) -> u32 {
        self.pins.iter().find(|(pinned, _)| *pinned == instance).map_or(0, |(_, count)| *count)
    }

    /// True if some lock is pinned: then each release must be looked at.
    pub(crate) fn has_pins(&self) -> bool {
        !self.pins.is_empty()
    }

    /// Changes the sum.
    pub(super) fn pin(&mut self, instance: Instance, op: PinOp) {
        let before = self.pinned(instance);
        let after = match op {
            PinOp::Pin(cookie) | PinOp::Repin(cookie) => before.saturating_add(cookie.into()),
            PinOp::Unpin(cookie) => before.saturating_sub(cookie.into()),
        };
        self.unpin(instance);
        if after > 0 {
            self.pins.push((instance, after));
        }
    }

    /// Lifts all pins of a lock.
    pub(super) fn unpin(&mut self, instance: Instance) {
        self.pins.retain(|(pinned, _)| *pinned != instance);
    }

    /// What has happened before whatever comes after this: for a task that this one starts, or that waits for its
    /// end. If this task was the first to see some order, a segment of its life is over then.
    pub fn pass_on(&mut self) -> Arc<Clock> {
        if !self.learned {
            return self.clock.clone();
        }
        self.segment += 1;
        let mut clock = Clock::clone(&self.clock);
        clock.note(self.id, self.segment);
        Arc::new(clock)
    }

    /// All that this clock knows has happened before whatever this task does from now on.
    pub fn follow(&mut self, clock: &Clock) {
        let mut joined = Clock::clone(&self.clock);
        joined.join(clock);
        if joined != *self.clock {
            self.clock = Arc::new(joined);
        }
    }

    /// Sets the interrupt state as an outside observer saw it (replay of a recorded trace).
    pub fn set_enabled(&mut self, context: Context, on: bool) {
        self.irq.set_enabled(context, on);
    }

    pub(crate) fn reserve(&mut self, held: usize) {
        self.held.reserve(held);
    }

    /// The word for an acquisition now.
    #[inline]
    pub(crate) fn bits(&self, acq: &Acquisition) -> Bits {
        Bits::new(acq.class, acq.mode, acq.trylock, acq.check, acq.nest.is_some(), acq.sync, self.irq)
    }

    /// Whether this acquisition is part of the chain, or only one more of the nested class on top; and the key with it.
    #[inline]
    pub(crate) fn with(&self, bits: Bits) -> (Part, ChainKey) {
        let alike =
            |top: &HeldLock| top.bits.class() == bits.class() && top.bits.irq().level() == bits.irq().level();
        if bits.nest() && self.held.last().is_some_and(alike) {
            (Part::Merged, self.key)
        } else {
            (Part::Chain, mix(self.key, bits.word()))
        }
    }

    /// True if [`push`](Self::push) will not allocate.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.held.len() < self.held.capacity()
    }

    #[inline]
    pub(crate) fn push(&mut self, entry: HeldLock, key: ChainKey) {
        self.held.push(entry);
        self.key = key;
    }

    /// The position of a held lock, searched from the top.
    #[inline]
    pub(crate) fn position(&self, instance: Instance) -> Option<usize> {
        self.held.iter().rposition(|held| held.instance == instance)
    }

    /// True if the lock is held. Searched from the bottom, where nest locks lie.
    #[must_use]
    pub fn holds(&self, instance: Instance) -> bool {
        self.held.iter().any(|held| held.instance == instance)
    }

    /// The chain with this key, which is that of some held lock.
    pub(crate) fn chain(&self, key: ChainKey) -> Box<[Bits]> {
        let ends = |held: &HeldLock| !held.is_merged() && mix(held.prev_key, held.bits.word()) == key;
        let end = self.held.iter().rposition(ends).map_or(0, |at| at + 1);
        self.held[..end].iter().filter(|held| !held.is_merged()).map(|held| held.bits).collect()
    }

    /// Releases the topmost lock if it is this one.
    #[inline]
    pub(crate) fn pop_top(&mut self, instance: Instance) -> bool {
        match self.held.last() {
            Some(top) if top.instance == instance => {
                self.key = top.prev_key;
                self.held.pop();
                true
            }
            _ => false,
        }
    }

    /// Takes a lock out; what lies above moves down, into the chains that result, if all of these are clean. Not for
    /// other nested entries than in [`take_out_merged`](Self::take_out_merged): their verdict depends on more than the
    /// chain.
    pub(crate) fn take_out_if(&mut self, instance: Instance, is_clean: impl Fn(ChainKey) -> bool) -> bool {
        let Some(position) = self.position(instance) else { return false };
        if self.take_out_merged(position, &is_clean) {
            return true;
        }
        let mut key = self.held[position].prev_key;
        for held in &self.held[position + 1..] {
            key = mix(key, held.bits.word());
            if held.is_merged() || held.bits.nest() || !is_clean(key) {
                return false;
            }
        }
        let mut key = self.held[position].prev_key;
        for at in position + 1..self.held.len() {
            let held = HeldLock { prev_key: key, ..self.held[at] };
            key = mix(key, held.bits.word());
            self.held[at - 1] = held;
        }
        self.held.pop();
        self.key = key;
        true
    }

    /// Takes out one of several locks of a class under one nest lock, if it is not the nest lock of what lies above: then
    /// the others stand for it, and no chain changes. Not if its own acquisition was a finding, of which they know nothing.
    fn take_out_merged(&mut self, position: usize, is_clean: impl Fn(ChainKey) -> bool) -> bool {
        let (removed, above) = (self.held[position], &self.held[position + 1..]);
        let alike = || above.first().is_some_and(|next| next.is_merged() && next.bits == removed.bits);
        let replaceable = || alike() && is_clean(mix(removed.prev_key, removed.bits.word()));
        if !(removed.is_merged() || replaceable()) || above.iter().any(|held| held.nest == removed.instance) {
            return false;
        }
        self.held.remove(position);
        if !removed.is_merged() {
            let first = &mut self.held[position];
            (first.part, first.prev_key) = (Part::Chain, removed.prev_key);
        }
        true
    }

    /// Takes out the entry at `position` and everything above it; the key is then that of the rest.
    pub(crate) fn split_at(&mut self, position: usize) -> (HeldLock, Vec<HeldLock>) {
        let above = self.held.split_off(position + 1);
        let entry = self.held.pop().expect("the entry at `position`");
        self.key = entry.prev_key;
        (entry, above)
    }

    /// Changes the mode of the hold at `position`. The chain keys above follow; nothing is validated.
    pub(crate) fn convert(&mut self, position: usize, mode: Mode, place: Place) {
        let (entry, above) = self.split_at(position);
        let converted = HeldLock { bits: entry.bits.with_mode(mode), place, ..entry };
        for held in std::iter::once(converted).chain(above) {
            let key = if held.is_merged() { self.key } else { mix(self.key, held.bits.word()) };
            self.push(HeldLock { prev_key: self.key, ..held }, key);
        }
    }

    pub(crate) fn enter(&mut self, context: Context, threaded: bool) {
        self.interrupted.push(self.irq);
        self.irq.set_inside(context, true, threaded);
        self.irq.set_enabled(context, false);
        if context == Context::HardIrq {
            self.irq.set_enabled(Context::SoftIrq, false);
        }
    }

    pub(crate) fn leave(&mut self) {
        if let Some(irq) = self.interrupted.pop() {
            self.irq = irq;
        }
    }

    pub(crate) fn downgraded(entry: &HeldLock) -> HeldLock {
        HeldLock { bits: entry.bits.with_mode(Mode::Read), ..*entry }
    }

    /// Asserts what the module header promises.
    ///
    /// # Panics
    /// If the validator itself is wrong.
    pub fn check_invariants(&self) {
        let mut key = self.seed;
        for held in &self.held {
            assert_eq!(held.prev_key, key, "internal error: chain key of a held lock");
            if !held.is_merged() {
                key = mix(key, held.bits.word());
            }
        }
        assert_eq!(self.key, key, "internal error: key of the chain");
    }
}
