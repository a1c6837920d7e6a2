// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! What a thread can settle alone although it is not on the fast path: it touches nothing that is shared, and where it
//! answers `false` it has done nothing and the slow path must.
//!
//! Why it is right: each answer either depends on this thread's state alone (a merged acquisition, an assertion that is
//! met, a context that is switched off), or the engine has given it before, for the same key, and the thread has
//! remembered that in its chain cache. Kinds of keys differ by a constant that is mixed in.

use super::thread::{NAMES, Thread};
use crate::engine::HeldLock;
use crate::engine::task::{Bits, ChainKey, Part, Task, mix};
use crate::event::{Context, HeldAs, Place};
use crate::hook::{Acquire, LockMap};
use crate::ids::{Instance, LockId};

/// What is mixed into the key of a chain for its objects, and for a context that is switched on under it.
const OBJECTS: u64 = u64::MAX;
const ENABLING: u64 = u64::MAX - 8;

/// The key of a chain together with the objects in it, for chains whose verdict depends on them.
pub(super) fn objects_key(task: &Task, key: ChainKey, new: LockId) -> ChainKey {
    let held = task.held.iter().map(|held| held.lock);
    held.chain([new]).fold(mix(key, OBJECTS), |key, lock| mix(key, u64::from(lock.0)))
}

/// The key of a context that is switched on under what the task holds.
pub(super) fn enabling_key(task: &Task, context: Context) -> ChainKey {
    mix(mix(task.key, ENABLING + context as u64), task.irq.bits())
}

impl Thread {
    /// An acquisition that differs from a known one in what the fast path does not look at: the first use of one more lock
    /// of a class, a chain whose verdict depends on the objects in it, a lock under a nest lock.
    pub(crate) fn acquire_nearly_known(map: &LockMap, how: Acquire<'_>, place: Place) -> bool {
        if let Some(nest) = how.nest {
            let nested = || Thread::acquire_nested(map, how, nest, place);
            return nested() || Thread::name(map) && nested();
        }
        (Thread::name(map) && Thread::acquire_known(map, how, place))
            || Thread::acquire_if(map, how, place, |thread, task, key| {
                thread.is_known(objects_key(task, key, map.lock_id()))
            })
    }

    /// A lock under a nest lock that is held: in a known chain, or one more of the class on top, which is no part of the
    /// chain.
    fn acquire_nested(map: &LockMap, how: Acquire<'_>, nest: &LockMap, place: Place) -> bool {
        let (Some(thread), Some(task)) = (Thread::get(), Thread::open_task()) else { return false };
        let Some(word) = map.word_of(thread.stamp()) else { return false };
        if how.subclass != 0 || how.sync || !nest.is_tracked() {
            return false;
        }
        let nest = nest.instance();
        let bits = Bits::from_word(word ^ thread.flip.get()).taken(how.mode, how.trylock).nested();
        let (part, key) = task.with(bits);
        let known = || {
            part == Part::Merged
                || thread.is_known(key)
                || thread.is_known(objects_key(task, key, map.lock_id()))
        };
        if !task.has_room() || !task.holds(nest) || !known() {
            return false;
        }
        let entry = HeldLock::new(task.key, map.instance(), map.lock_id(), bits, place);
        task.push(HeldLock { nest, part, ..entry }, key);
        true
    }

    /// Releases a lock that is not on top, if all chains that result are known to this thread.
    #[inline]
    pub(super) fn release_known(instance: Instance) -> bool {
        let Some(thread) = Thread::get() else { return false };
        Thread::open_task().is_some_and(|task| task.take_out_if(instance, |key| thread.is_known(key)))
    }

    /// True if the lock is held in this way.
    pub(crate) fn holds_as(instance: Instance, how: HeldAs) -> bool {
        let held = Thread::open_task().and_then(|task| {
            let position = task.position(instance)?;
            Some(task.held[position].bits.mode())
        });
        held.is_some_and(|mode| how.fits(mode))
    }

    /// Switches a context on or off, if that says nothing new about the locks that are held.
    pub(crate) fn enable_known(context: Context, on: bool) -> bool {
        let (Some(thread), Some(task)) = (Thread::get(), Thread::open_task()) else { return false };
        if on
            && !task.irq.enabled(context)
            && !task.held.is_empty()
            && !thread.is_known(enabling_key(task, context))
        {
            return false;
        }
        let before = task.irq.bits();
        task.irq.set_enabled(context, on);
        thread.flip.set(thread.flip.get() ^ before ^ task.irq.bits());
        true
    }

    /// Gives a new lock the word of its class, if this thread has lately met two others of the class.
    fn name(map: &LockMap) -> bool {
        let Some(thread) = Thread::get() else { return false };
        let address = map.key().address();
        let (known, word) = thread.names[name_slot(address)].get();
        #[expect(clippy::cast_possible_truncation, reason = "the epoch is the low half")]
        let is_mine = word as u32 == thread.stamp();
        if known != address || !is_mine || map.cached() == word {
            return false;
        }
        // Before the word that lets the fast path use the lock.
        map.identify_as(|| thread.next_number());
        map.remember(word);
        true
    }

    /// Remembers the word of a lock for the next one of its class.
    pub(super) fn remember_name(&self, map: &LockMap) {
        let address = map.key().address();
        self.names[name_slot(address)].set((address, map.cached()));
    }

    /// A number for a lock, from those that this thread has set aside.
    fn next_number(&self) -> u32 {
        const ASIDE: u32 = 64;
        let mut numbers = self.numbers.take();
        let number = numbers.next().unwrap_or_else(|| {
            let first = LockMap::numbers(ASIDE);
            numbers = first.wrapping_add(1)..first.wrapping_add(ASIDE);
            first
        });
        self.numbers.set(numbers);
        number
    }
}

/// Class keys are statics, and some words apart.
const fn name_slot(address: usize) -> usize {
    (address >> 4) & (NAMES - 1)
}
