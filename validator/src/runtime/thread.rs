// SPDX-License-Identifier: MIT OR Apache-2.0
//! What each thread has: its task, the validator that watches it, and its chain cache.
//!
//! The fast path is [`Thread::acquire_known`]: one thread-local pointer, one key mix, one compare, one push. It
//! takes no lock, writes no shared memory and calls nothing that could come back here. Everything else goes
//! through [`Thread::enter`], which marks the thread busy: while it is busy, hooks do nothing, so locks taken
//! by the allocator, by a sink or by the validator's own tools are not watched and cannot recurse.
//!
//! The thread-local is const-initialised and has no destructor of its own; the state behind it is freed by a
//! second one, [`AtExit`], which also checks that the thread holds nothing. A lock taken after that (in the
//! destructor of another thread-local) is not watched.
//!
//! Invariants: `current` is touched only by its own thread, and either inside the fast path or while `BUSY` is
//! set; a key is put in the cache only after its chain was validated clean; keys of different validators
//! differ by their seed.

use std::cell::{Cell, UnsafeCell};
use std::sync::Arc;

use super::Inner;
use crate::engine::HeldLock;
use crate::engine::task::{Bits, ChainKey, Task, mix};
use crate::event::{Mode, Place};
use crate::hook::{Acquire, LockMap};
use crate::ids::{ClassId, Instance};
use crate::limits::{CHAIN_CACHE_SLOTS, HELD_RESERVED};

/// The thread is inside the validator.
pub(super) const BUSY: u8 = 1;
/// The validator that watches this thread writes down every event.
const RECORD: u8 = 2;
/// Nobody watches this thread.
const OFF: u8 = 4;

/// A thread's state.
pub(crate) struct Thread {
    flags: Cell<u8>,
    epoch: Cell<u32>,
    current: UnsafeCell<Current>,
    cache: Box<[Cell<ChainKey>; CHAIN_CACHE_SLOTS]>,
}

/// The binding in force: who watches, and what the thread holds.
pub(super) struct Current {
    pub(super) validator: Arc<Inner>,
    pub(super) task: Task,
    /// The bindings that this one is nested in.
    pub(super) outer: Vec<(Arc<Inner>, Task)>,
}

thread_local! {
    static STATE: Cell<*const Thread> = const { Cell::new(core::ptr::null()) };
    static AT_EXIT: AtExit = const { AtExit(Cell::new(core::ptr::null())) };
}

/// Frees the state at the end of the thread.
struct AtExit(Cell<*const Thread>);

impl Drop for AtExit {
    fn drop(&mut self) {
        let state = self.0.get();
        if state.is_null() {
            return;
        }
        super::slow::thread_exit();
        STATE.set(core::ptr::without_provenance(usize::MAX));
        // SAFETY: `state` came from `Box::into_raw` in `Thread::create`, which stores it here once; `STATE` no
        // longer points to it, and only this thread ever could.
        drop(unsafe { Box::from_raw(state.cast_mut()) });
    }
}

impl Thread {
    /// This thread's state, if it has one and has not ended.
    #[inline]
    fn get() -> Option<&'static Thread> {
        let state = STATE.get();
        if state.is_null() || state.addr() == usize::MAX {
            return None;
        }
        // SAFETY: `STATE` points to a live `Thread` from its creation until `AtExit` resets it; the reference is
        // used only in this call of a hook, on this thread, and `AtExit` cannot run inside one.
        Some(unsafe { &*state })
    }

    /// The whole of a known acquisition. False: nothing was done, the slow path must.
    #[inline]
    pub(crate) fn acquire_known(map: &LockMap, how: Acquire<'_>, place: Place) -> bool {
        let Some(thread) = Thread::get() else { return false };
        let word = map.cached();
        if thread.flags.get() != 0
            || (word >> 32) != u64::from(thread.epoch.get())
            || how.subclass != 0
            || how.nest.is_some()
            || how.sync
        {
            return false;
        }
        // SAFETY: `BUSY` is not set, so no other reference into `current` exists on this thread, and no other
        // thread reaches it; nothing below calls back into a hook.
        let task = unsafe { &mut (*thread.current.get()).task };
        #[expect(clippy::cast_possible_truncation, reason = "the class is the low half")]
        let class = ClassId(word as u32);
        let bits = Bits::new(class, how.mode, how.trylock, map.is_checked(), false, false, task.irq);
        let key = mix(task.key, bits.word());
        if thread.slot(key).get() != key || task.held.len() == task.held.capacity() {
            return false;
        }
        let entry = HeldLock {
            prev_key: task.key,
            instance: map.instance(),
            lock: map.lock_id(),
            bits,
            nest: Instance(0),
            rank: None,
            place,
            merged: false,
        };
        task.push(entry, key);
        true
    }

    /// Releases the topmost lock if it is this one. False: nothing was done.
    #[inline]
    pub(crate) fn release_top(instance: Instance) -> bool {
        let Some(thread) = Thread::get() else { return false };
        if thread.flags.get() != 0 {
            return false;
        }
        // SAFETY: as in `acquire_known`.
        let task = unsafe { &mut (*thread.current.get()).task };
        task.pop_top(instance)
    }

    /// [`release_top`](Self::release_top) if it is held upgradably.
    #[inline]
    pub(crate) fn release_top_upgradable(instance: Instance) -> bool {
        let Some(thread) = Thread::get() else { return false };
        if thread.flags.get() != 0 {
            return false;
        }
        // SAFETY: as in `acquire_known`.
        let task = unsafe { &mut (*thread.current.get()).task };
        task.held.last().is_some_and(|top| top.bits.mode() == Mode::Upgradable) && task.pop_top(instance)
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "only the low bits are used")]
    fn slot(&self, key: ChainKey) -> &Cell<ChainKey> {
        &self.cache[key as usize & (CHAIN_CACHE_SLOTS - 1)]
    }

    pub(super) fn is_known(&self, key: ChainKey) -> bool {
        self.slot(key).get() == key
    }

    pub(super) fn remember(&self, key: ChainKey) {
        self.slot(key).set(key);
    }

    /// Marks this thread busy and gives access to its state, made on first use. `None` if it is busy already,
    /// not watched, or past its end.
    pub(super) fn enter() -> Option<Entered> {
        let thread = match Thread::get() {
            Some(thread) => thread,
            None if STATE.get().is_null() => Thread::create()?,
            None => return None,
        };
        thread.mark_busy()
    }

    /// Like [`enter`](Self::enter), for a thread that has a state already.
    pub(super) fn enter_existing() -> Option<Entered> {
        Thread::get()?.mark_busy()
    }

    fn mark_busy(&'static self) -> Option<Entered> {
        if self.flags.get() & (BUSY | OFF) != 0 {
            return None;
        }
        self.flags.set(self.flags.get() | BUSY);
        Some(Entered { thread: self })
    }

    /// Runs `f` with this thread not watched, if it has no state yet.
    pub(super) fn unwatched<R>(f: impl FnOnce() -> R) -> R {
        struct Restore(*const Thread);
        impl Drop for Restore {
            fn drop(&mut self) {
                STATE.set(self.0);
            }
        }
        if !STATE.get().is_null() {
            return f();
        }
        let _restore = Restore(STATE.replace(core::ptr::without_provenance(usize::MAX)));
        f()
    }

    /// True if this thread holds nothing that it could be asked about now.
    #[inline]
    pub(crate) fn holds_nothing() -> bool {
        let Some(thread) = Thread::get() else { return true };
        if thread.flags.get() & BUSY != 0 {
            return true;
        }
        // SAFETY: as in `acquire_known`, for a look at two lengths.
        let current = unsafe { &*thread.current.get() };
        current.task.held.is_empty() && current.outer.is_empty()
    }

    fn create() -> Option<&'static Thread> {
        // A marker first: what is locked while the state is being made is not watched.
        STATE.set(core::ptr::without_provenance(usize::MAX));
        let validator = super::global().inner.clone();
        let created = Thread::with_validator(validator);
        let registered = AT_EXIT.try_with(|at_exit| at_exit.0.set(created));
        if registered.is_err() {
            // SAFETY: `created` comes from `Box::into_raw` and was given to nobody.
            drop(unsafe { Box::from_raw(created.cast_mut()) });
            return None;
        }
        STATE.set(created);
        Thread::get()
    }

    fn with_validator(validator: Arc<Inner>) -> *const Thread {
        let task = validator.new_task();
        let thread = Thread {
            flags: Cell::new(flags_for(&validator)),
            epoch: Cell::new(validator.epoch),
            current: UnsafeCell::new(Current { validator, task, outer: Vec::new() }),
            cache: Box::new([const { Cell::new(0) }; CHAIN_CACHE_SLOTS]),
        };
        Box::into_raw(Box::new(thread))
    }

    /// The validator this thread is bound to, watching or not.
    pub(super) fn validator() -> Option<Arc<Inner>> {
        let thread = Thread::get().or_else(|| STATE.get().is_null().then(Thread::create).flatten())?;
        // SAFETY: a shared look at a field that only `bind` and `unbind` change, which are not running.
        Some(unsafe { &*thread.current.get() }.validator.clone())
    }

    /// Binds this thread to a validator until [`unbind`](Self::unbind). False if the thread is past its end, or
    /// inside the validator (a sink that opens a scope is not watched in it).
    pub(super) fn bind(validator: &Arc<Inner>) -> bool {
        let Some(thread) = Thread::get().or_else(|| STATE.get().is_null().then(Thread::create).flatten())
        else {
            return false;
        };
        if thread.flags.get() & BUSY != 0 {
            return false;
        }
        thread.flags.set(thread.flags.get() | BUSY);
        // SAFETY: `BUSY` was not set and is now, so this is the only reference into `current`.
        let current = unsafe { &mut *thread.current.get() };
        let mut task = validator.new_task();
        task.reserve(HELD_RESERVED);
        let old_task = core::mem::replace(&mut current.task, task);
        let old = core::mem::replace(&mut current.validator, validator.clone());
        current.outer.push((old, old_task));
        thread.adopt(validator);
        true
    }

    /// Goes back to the binding before.
    pub(super) fn unbind() {
        let Some(thread) = Thread::get() else { return };
        thread.flags.set(thread.flags.get() | BUSY);
        // SAFETY: as in `bind`.
        let current = unsafe { &mut *thread.current.get() };
        if let Some((validator, task)) = current.outer.pop() {
            current.task = task;
            current.validator = validator;
        }
        let validator = current.validator.clone();
        thread.adopt(&validator);
    }

    fn adopt(&self, validator: &Inner) {
        self.epoch.set(validator.epoch);
        self.flags.set(flags_for(validator));
    }
}

fn flags_for(validator: &Inner) -> u8 {
    if !validator.config.watch {
        OFF
    } else if validator.config.record {
        RECORD
    } else {
        0
    }
}

/// This thread, marked busy until this is dropped.
pub(super) struct Entered {
    thread: &'static Thread,
}

impl Entered {
    pub(super) fn thread(&self) -> &'static Thread {
        self.thread
    }

    /// The binding in force.
    #[expect(clippy::mut_from_ref, reason = "the busy flag makes this the only reference on this thread")]
    pub(super) fn current(&self) -> &mut Current {
        // SAFETY: while `Entered` lives, `BUSY` is set and every other way to `current` on this thread is shut;
        // callers hold the result only between calls to this function.
        unsafe { &mut *self.thread.current.get() }
    }

    pub(super) fn records(&self) -> bool {
        self.thread.flags.get() & RECORD != 0
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.thread.flags.set(self.thread.flags.get() & !BUSY);
    }
}
