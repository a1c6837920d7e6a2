// SPDX-License-Identifier: MIT OR Apache-2.0
//! What each thread has: its task, the validator that watches it, and its chain cache.
//!
//! The fast path is [`Thread::acquire_known`], in five hops: this thread's state through one thread-local pointer;
//! the class, if the lock's word bears this thread's stamp; the key of the chain with the lock; that key in the
//! cache; one push. It takes no lock, writes no shared memory and calls nothing that could come back here.
//! What a thread can settle alone with a word more to look up is in [`known`](super::known). Everything else goes through [`Thread::enter`], which marks the thread busy: while it is busy, hooks do nothing,
//! so locks taken by the allocator, by a sink or by the validator's own tools are not watched and cannot recurse.
//!
//! The **stamp** is the epoch of the validator that watches, or [`NEVER`] while the fast path is shut: the thread is
//! busy, nobody watches, everything is written down, measured or traced, or each release is to be looked at. One comparison with the low half of a lock's word so asks
//! "may I" and "is this class known to my validator" at once. What is in the way then is turned into what is needed:
//! the word xor [`flip`](Thread::flip) has the interrupt state in the place of the epoch.
//!
//! The thread-local is const-initialised and has no destructor of its own; the state behind it is freed by a
//! second one, [`AtExit`], which also checks that the thread holds nothing. A lock taken after that (in the
//! destructor of another thread-local) is not watched. A thread without state points to a [`Head`] that shuts the
//! fast path, so there is no null to ask for.
//!
//! In a build with debug assertions the hops are not inlined: then an optimised validator (`[profile.dev.package.lockdep]`)
//! serves an unoptimised program.
//!
//! Invariants: `current` is touched only by its own thread, and either inside the fast path or while `BUSY` is
//! set; a key is put in the cache only after its chain was validated clean; keys of different validators
//! differ by their seed; stamp and flip follow from flags, epoch and interrupt state whenever `BUSY` is not set
//! ([`Thread::settle`]).

use std::cell::{Cell, UnsafeCell};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::stack::Traced;
use super::{Config, Inner};
use crate::engine::HeldLock;
use crate::engine::task::{Bits, ChainKey, Task, mix};
use crate::event::{Mode, Place};
use crate::hook::{Acquire, Holding, LockMap};
use crate::ids::Instance;
use crate::limits::{CHAIN_CACHE_SLOTS, HELD_RESERVED};
use crate::settings::Stacks;

/// The thread is inside the validator.
const BUSY: u8 = 1;
/// The validator that watches this thread writes down every event.
const RECORD: u8 = 2;
/// Nobody watches this thread.
const OFF: u8 = 4;
/// The head stands alone: the thread has no state.
const ALONE: u8 = 8;
/// This thread has pinned a lock, or holds one of a class that may go away: each release is to be looked at.
const CAREFUL: u8 = 16;
/// The validator that watches this thread measures how long locks are waited for and held.
const MEASURE: u8 = 32;

/// The validator that watches this thread captures the stack of each acquisition.
const TRACE: u8 = 64;

/// The stamp of a thread whose fast path is shut. No lock's word bears it.
pub(super) const NEVER: u32 = u32::MAX;

/// What a hook looks at first.
struct Head {
    stamp: Cell<u32>,
    flags: Cell<u8>,
}

impl Head {
    const fn new(flags: u8) -> Self {
        Head { stamp: Cell::new(NEVER), flags: Cell::new(flags) }
    }
}

/// A head without a thread.
struct Lone(Head);

// SAFETY: the cells are only ever set by way of a `Thread`; these are read.
unsafe impl Sync for Lone {}

/// The head of a thread that has made no state yet.
static FRESH: Lone = Lone(Head::new(ALONE));
/// The head of a thread that is making its state, or has ended: not watched.
static AWAY: Lone = Lone(Head::new(ALONE));

/// So many class keys a thread remembers for the next lock of the class.
pub(super) const NAMES: usize = 16;

/// A thread's state.
#[repr(C)]
pub(crate) struct Thread {
    head: Head,
    /// What turns a lock's word into [`Bits`]: takes the epoch out and puts the interrupt state in.
    pub(super) flip: Cell<u64>,
    /// How often this thread was busy.
    entries: Cell<u64>,
    current: UnsafeCell<Current>,
    cache: [Cell<ChainKey>; CHAIN_CACHE_SLOTS],
    /// Class keys, and the word that their locks bear.
    pub(super) names: [Cell<(usize, u64)>; NAMES],
    /// Numbers set aside for new locks.
    pub(super) numbers: Cell<Range<u32>>,
}

/// The binding in force: who watches, and what the thread holds.
pub(super) struct Current {
    pub(super) validator: Arc<Inner>,
    pub(super) task: Task,
    /// The bindings that this one is nested in.
    pub(super) outer: Vec<(Arc<Inner>, Task)>,
    /// Held locks of classes that may go away, under whatever binding.
    pub(super) holdings: Vec<(Instance, Holding)>,
    /// Since when locks are held, where that is measured.
    pub(super) since: Vec<(Instance, Instant)>,
    /// How held locks were come by, where that is captured.
    pub(super) traced: Traced,
}

thread_local! {
    /// Never null: one of the two statics, or the head of this thread's state.
    static STATE: Cell<*const Head> = const { Cell::new(&raw const FRESH.0) };
    static AT_EXIT: AtExit = const { AtExit(Cell::new(core::ptr::null_mut())) };
}

/// Frees the state at the end of the thread.
struct AtExit(Cell<*mut Thread>);

impl Drop for AtExit {
    fn drop(&mut self) {
        let state = self.0.get();
        if state.is_null() {
            return;
        }
        super::slow::thread_exit();
        STATE.set(&raw const AWAY.0);
        // SAFETY: `state` came from `Box::into_raw` in `Thread::create`, which stores it here once; `STATE` no
        // longer points to it, and only this thread ever could.
        drop(unsafe { Box::from_raw(state) });
    }
}

impl Thread {
    #[inline]
    fn head() -> &'static Head {
        // SAFETY: `STATE` points to a static, or to a live `Thread` from its creation until `AtExit` resets it; the
        // reference is used only in this call of a hook, on this thread, and `AtExit` cannot run inside one.
        unsafe { &*STATE.get() }
    }

    /// This thread's state, if it has one and has not ended.
    #[inline]
    pub(super) fn get() -> Option<&'static Thread> {
        if Thread::head().flags.get() & ALONE != 0 {
            return None;
        }
        // SAFETY: `ALONE` is not set, so this is the head of a `Thread`, whose first field it is; the pointer was made
        // from one to the whole. For how long: as in `head`.
        Some(unsafe { &*STATE.get().cast::<Thread>() })
    }

    /// The whole of a known acquisition. False: nothing was done, the slow path must.
    #[cfg_attr(not(debug_assertions), inline)]
    pub(crate) fn acquire_known(map: &LockMap, how: Acquire<'_>, place: Place) -> bool {
        Thread::acquire_if(map, how, place, |thread, _, key| thread.is_known(key))
    }

    #[inline(always)]
    pub(super) fn acquire_if(
        map: &LockMap,
        how: Acquire<'_>,
        place: Place,
        is_clean: impl FnOnce(&Thread, &Task, ChainKey) -> bool,
    ) -> bool {
        let state = STATE.get();
        // SAFETY: as in `head`.
        let stamp = unsafe { &(*state).stamp };
        let Some(word) = map.word_of(stamp.get()) else { return false };
        if how.subclass != 0 || how.sync || how.nest.is_some() {
            return false;
        }
        // SAFETY: no lone head has a stamp that a lock can bear; otherwise as in `get`.
        let thread = unsafe { &*state.cast::<Thread>() };
        // SAFETY: with this stamp `BUSY` is not set, so no other reference into `current` exists on this thread, and
        // no other thread reaches it; nothing below calls back into a hook.
        let task = unsafe { &mut (*thread.current.get()).task };
        let bits = Bits::from_word(word ^ thread.flip.get()).taken(how.mode, how.trylock);
        let key = mix(task.key, bits.word());
        if !is_clean(thread, task, key) || !task.has_room() {
            return false;
        }
        task.push(HeldLock::new(task.key, map.instance(), map.lock_id(), bits, place), key);
        true
    }

    /// True if the topmost lock is this one. False: it may lie deeper, or the fast path is shut.
    #[inline]
    pub(crate) fn holds_on_top(instance: Instance) -> bool {
        Thread::open_task().is_some_and(|task| task.held.last().is_some_and(|top| top.instance == instance))
    }

    /// Releases the topmost lock if it is this one. False: nothing was done.
    #[cfg_attr(not(debug_assertions), inline)]
    pub(crate) fn release_top(instance: Instance) -> bool {
        Thread::open_task().is_some_and(|task| task.pop_top(instance))
    }

    /// [`release_top`](Self::release_top) if it is held upgradably.
    #[cfg_attr(not(debug_assertions), inline)]
    pub(crate) fn release_top_upgradable(instance: Instance) -> bool {
        Thread::open_task().is_some_and(|task| {
            let upgradable = |top: &HeldLock| top.bits.mode() == Mode::Upgradable;
            task.held.last().is_some_and(upgradable) && task.pop_top(instance)
        })
    }

    /// The epoch that a lock's word must bear: [`NEVER`] while the fast path is shut.
    pub(super) fn stamp(&self) -> u32 {
        self.head.stamp.get()
    }

    /// This thread's task, unless the fast path is shut.
    #[inline]
    pub(super) fn open_task() -> Option<&'static mut Task> {
        if Thread::head().flags.get() != 0 {
            return None;
        }
        // SAFETY: as in `get`.
        let thread = unsafe { &*STATE.get().cast::<Thread>() };
        // SAFETY: `BUSY` is not set; otherwise as in `acquire_known`. The callers let go of it before they return.
        Some(unsafe { &mut (*thread.current.get()).task })
    }

    /// The first of the two slots in which a key may lie.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "only the low bits are used")]
    const fn slot(key: ChainKey) -> usize {
        key as usize & (CHAIN_CACHE_SLOTS - 2)
    }

    #[inline]
    pub(super) fn is_known(&self, key: ChainKey) -> bool {
        let slot = Self::slot(key);
        self.cache[slot].get() == key || self.cache[slot + 1].get() == key
    }

    pub(super) fn remember(&self, key: ChainKey) {
        let slot = Self::slot(key);
        if self.is_known(key) {
            return;
        }
        // The newest first, and then the one that was: two hot chains never drive each other out, whatever else is there.
        self.cache[slot + 1].set(self.cache[slot].replace(key));
    }

    /// Drops every chain that this thread knows.
    pub(super) fn forget_chains(&self) {
        self.cache.iter().for_each(|slot| slot.set(0));
    }

    /// This thread's state, made on first use; `None` if it is being made, or past its end.
    fn get_or_create() -> Option<&'static Thread> {
        Thread::get()
            .or_else(|| core::ptr::eq(STATE.get(), &raw const FRESH.0).then(Thread::create).flatten())
    }

    /// Marks this thread busy and gives access to its state, made on first use. `None` if it is busy already,
    /// not watched, or past its end.
    pub(super) fn enter() -> Option<Entered> {
        Thread::get_or_create()?.mark_busy()
    }

    /// Like [`enter`](Self::enter), for a thread that has a state already.
    pub(super) fn enter_existing() -> Option<Entered> {
        Thread::get()?.mark_busy()
    }

    fn mark_busy(&'static self) -> Option<Entered> {
        if self.head.flags.get() & (BUSY | OFF) != 0 {
            return None;
        }
        self.shut();
        Some(Entered { thread: self })
    }

    /// Makes the thread busy.
    fn shut(&self) {
        self.entries.set(self.entries.get() + 1);
        self.head.flags.set(self.head.flags.get() | BUSY);
        self.head.stamp.set(NEVER);
    }

    /// Makes the thread no longer busy: opens the fast path if it may be.
    fn settle(&self, flags: u8) {
        // SAFETY: as in `Entered::current`: `BUSY` is still set.
        let current = unsafe { &mut *self.current.get() };
        if !current.holdings.is_empty() {
            let mut holdings = std::mem::take(&mut current.holdings);
            holdings.retain(|(lock, _)| super::slow::holds(current, *lock));
            current.holdings = holdings;
        }
        if !current.traced.is_empty() {
            let mut traced = std::mem::take(&mut current.traced);
            traced.retain(|(lock, _)| super::slow::holds(current, *lock));
            current.traced = traced;
        }
        let careful = current.task.has_pins() || !current.holdings.is_empty();
        let Current { validator, task, .. } = current;
        self.flip.set(u64::from(validator.epoch) ^ task.irq.bits());
        let flags = if careful { flags | CAREFUL } else { flags & !CAREFUL };
        self.head.stamp.set(if flags == 0 { validator.epoch } else { NEVER });
        self.head.flags.set(flags);
    }

    /// Runs `f` with this thread not watched, if it has no state yet.
    pub(super) fn unwatched<R>(f: impl FnOnce() -> R) -> R {
        struct Restore(*const Head);
        impl Drop for Restore {
            fn drop(&mut self) {
                STATE.set(self.0);
            }
        }
        if !core::ptr::eq(STATE.get(), &raw const FRESH.0) {
            return f();
        }
        let _restore = Restore(STATE.replace(&raw const AWAY.0));
        f()
    }

    /// True if this thread holds nothing that it could be asked about now.
    #[inline]
    pub(crate) fn holds_nothing() -> bool {
        let Some(thread) = Thread::get() else { return true };
        if thread.head.flags.get() & BUSY != 0 {
            return true;
        }
        // SAFETY: as in `acquire_known`, for a look at a few lengths.
        let current = unsafe { &*thread.current.get() };
        current.task.held.is_empty() && current.outer.iter().all(|(_, task)| task.held.is_empty())
    }

    // On the path of every hook but the fastest, and large: its frame may hold a whole state.
    #[cold]
    #[inline(never)]
    fn create() -> Option<&'static Thread> {
        // First: what is locked while the state is being made is not watched.
        STATE.set(&raw const AWAY.0);
        let validator = super::global().inner.clone();
        let created = Box::into_raw(Thread::new(validator));
        let registered = AT_EXIT.try_with(|at_exit| at_exit.0.set(created));
        if registered.is_err() {
            // SAFETY: `created` comes from `Box::into_raw` and was given to nobody.
            drop(unsafe { Box::from_raw(created) });
            return None;
        }
        STATE.set(created.cast_const().cast::<Head>());
        Thread::get()
    }

    /// On the heap from the start: it is large, and not to be copied.
    fn new(validator: Arc<Inner>) -> Box<Self> {
        let task = validator.new_task();
        let flags = flags_for(&validator);
        let thread = Box::new(Thread {
            head: Head::new(BUSY),
            flip: Cell::new(0),
            entries: Cell::new(0),
            current: UnsafeCell::new(Current {
                validator,
                task,
                outer: Vec::new(),
                holdings: Vec::new(),
                since: Vec::new(),
                traced: Vec::new(),
            }),
            cache: [const { Cell::new(0) }; CHAIN_CACHE_SLOTS],
            names: [const { Cell::new((0, 0)) }; NAMES],
            numbers: Cell::new(0..0),
        });
        thread.settle(flags);
        thread
    }

    /// True if waits are to be timed.
    pub(crate) fn measures() -> bool {
        Thread::head().flags.get() & MEASURE != 0
    }

    /// How often this thread has left the fast path so far.
    pub(crate) fn entries() -> u64 {
        Thread::get().map_or(0, |thread| thread.entries.get())
    }

    /// The validator this thread is bound to, watching or not.
    pub(super) fn validator() -> Option<Arc<Inner>> {
        let thread = Thread::get_or_create()?;
        // SAFETY: a shared look at a field that only `bind` and `unbind` change, which are not running. At this field and
        // no other: a callback may ask, and who called it goes on to use the rest of `current`.
        Some(unsafe { &(*thread.current.get()).validator }.clone())
    }

    /// Binds this thread to a validator until [`unbind`](Self::unbind). False if the thread is past its end, or
    /// inside the validator (a sink that opens a scope is not watched in it).
    pub(super) fn bind(validator: &Arc<Inner>) -> bool {
        let Some(thread) = Thread::get_or_create() else { return false };
        if thread.head.flags.get() & BUSY != 0 {
            return false;
        }
        thread.shut();
        // SAFETY: `BUSY` was not set and is now, so this is the only reference into `current`.
        let current = unsafe { &mut *thread.current.get() };
        let mut task = validator.new_task();
        task.reserve(HELD_RESERVED);
        let old_task = core::mem::replace(&mut current.task, task);
        let old = core::mem::replace(&mut current.validator, validator.clone());
        current.outer.push((old, old_task));
        thread.settle(flags_for(validator));
        true
    }

    /// Goes back to the binding before.
    pub(super) fn unbind() {
        let Some(thread) = Thread::get() else { return };
        thread.shut();
        // SAFETY: as in `bind`.
        let current = unsafe { &mut *thread.current.get() };
        if let Some((validator, task)) = current.outer.pop() {
            current.task = task;
            current.validator = validator;
        }
        let flags = flags_for(&current.validator);
        thread.settle(flags);
    }
}

fn flags_for(validator: &Inner) -> u8 {
    let Config { watch, record, contention, stacks } = validator.config;
    if !watch {
        return OFF;
    }
    let flag = |on, flag| if on { flag } else { 0 };
    flag(record, RECORD) | flag(contention, MEASURE) | flag(stacks == Stacks::Full, TRACE)
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
    pub(super) fn current(&mut self) -> &mut Current {
        // SAFETY: while `Entered` lives, `BUSY` is set and every other way to `current` on this thread is shut; there
        // is one `Entered` at a time, and it lends what it points to once at a time.
        unsafe { &mut *self.thread.current.get() }
    }

    pub(super) fn records(&self) -> bool {
        self.thread.head.flags.get() & RECORD != 0
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.thread.settle(self.thread.head.flags.get() & !BUSY);
    }
}
