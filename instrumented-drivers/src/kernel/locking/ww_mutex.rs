// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `struct ww_mutex`: mutexes that are taken in any order under an acquire context, which resolves the deadlocks.
//!
//! Each context draws a stamp when it begins; a larger stamp is younger.
//!
//! | | wait-die | wound-wait |
//! |---|---|---|
//! | older wants a lock of a younger | waits | wounds the holder, waits |
//! | younger wants a lock of an older | -EDEADLK, if it holds at least one lock | waits |
//! | wounded holder | - | -EDEADLK at its next lock that it would have to wait for |
//!
//! Waiters with a context queue by stamp, others behind those that were there before; the first of the queue gets
//! the lock. A waiter sleeps with `thread::park_timeout`, whose token takes the place of the kernel's wake-up: whoever
//! changes something that a waiter looks at unparks it.
//!
//! The validator sees a context as a lock of class `<class>_acquire`, and each lock taken under it as nested in
//! that one. Without a context a ww mutex is a plain mutex. Use against the rules (a lock after done, an ignored
//! -EDEADLK) is found by [`lockdep::ww`], whose states are part of context and mutex, and reported as `ww-api`.
//!
//! Kernel counterpart: `kernel/locking/ww_mutex.h`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};

use lockdep::ids::Instance;
use lockdep::raw::{self, Acquire, LockMap};
use lockdep::ww::{BackOffDrill, WwCtxState, WwLockState, WwMisuse};
use lockdep::{HeldAs, LockClass};
use parking_lot::Mutex as Gate;

use super::orphan;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::fault;
use crate::kernel::interleave::{Step, before};

/// How a deadlock between two contexts is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WwAlgorithm {
    /// The younger one gives up when it would wait for an older one.
    WaitDie,
    /// The older one takes the lock away from a younger one.
    WoundWait,
}

/// `struct ww_class`: what the mutexes and contexts of one kind share.
#[derive(Debug)]
pub struct WwClass {
    mutex: &'static LockClass,
    acquire: &'static LockClass,
    algorithm: WwAlgorithm,
    stamp: AtomicU64,
}

impl WwClass {
    /// `mutex` and `acquire` are the validator's classes of the locks and of the contexts.
    #[must_use]
    pub const fn new(mutex: &'static LockClass, acquire: &'static LockClass, algorithm: WwAlgorithm) -> Self {
        WwClass { mutex, acquire, algorithm, stamp: AtomicU64::new(1) }
    }

    /// Tells it from other classes.
    fn number(&self) -> u64 {
        core::ptr::from_ref(self).addr() as u64
    }
}

/// The part of a context that other tasks look at.
pub(super) struct Ticket {
    pub(super) map: Arc<LockMap>,
    algorithm: WwAlgorithm,
    pub(super) stamp: AtomicU64,
    pub(super) rules: Gate<WwCtxState>,
    drill: Gate<Option<BackOffDrill>>,
    wounded: AtomicBool,
    task: Thread,
}

/// What the rules of the interface say to a call.
type Verdict = core::result::Result<(), WwMisuse>;

static CONTEXTS: AtomicU64 = AtomicU64::new(1);

impl Ticket {
    pub(super) fn new(class: &'static WwClass, map: Arc<LockMap>, stamp: u64) -> Self {
        let id = Instance(CONTEXTS.fetch_add(1, Ordering::Relaxed));
        Ticket {
            map,
            algorithm: class.algorithm,
            stamp: AtomicU64::new(stamp),
            rules: Gate::new(WwCtxState::new(id, class.number())),
            drill: Gate::new(fault::is_drill().then(|| BackOffDrill::new(stamp))),
            wounded: AtomicBool::new(false),
            task: thread::current(),
        }
    }

    fn is_younger_than(&self, other: &Ticket) -> bool {
        self.stamp.load(Ordering::Relaxed) > other.stamp.load(Ordering::Relaxed)
    }

    fn has_locks(&self) -> bool {
        self.rules.lock().acquired() > 0
    }

    /// Whether a lock that was just taken is to be given back, to see what the caller does then.
    fn is_drill_due(&self) -> bool {
        self.rules.lock().acquired() > 1 && self.drill.lock().as_mut().is_some_and(BackOffDrill::due)
    }
}

/// `struct ww_acquire_ctx`: one attempt to take several locks.
pub struct WwAcquireCtx {
    pub(super) class: &'static WwClass,
    pub(super) ticket: Arc<Ticket>,
}

impl WwAcquireCtx {
    /// `ww_acquire_init`.
    #[track_caller]
    #[must_use]
    pub fn init(class: &'static WwClass) -> Self {
        let stamp = class.stamp.fetch_add(1, Ordering::Relaxed);
        let ticket = Arc::new(Ticket::new(class, Arc::new(LockMap::new(class.acquire)), stamp));
        raw::acquire(&ticket.map, Acquire::WRITE);
        WwAcquireCtx { class, ticket }
    }

    /// `ww_acquire_done`: no further lock will be taken.
    #[track_caller]
    pub fn done(&self) {
        raw::assert_held(&self.ticket.map, HeldAs::Any);
        let verdict = self.ticket.rules.lock().done();
        tell(&self.ticket.map, verdict);
    }

    /// `ww_acquire_fini`.
    #[track_caller]
    pub fn fini(&self) {
        raw::release(&self.ticket.map);
        let verdict = self.ticket.rules.lock().fini();
        tell(&self.ticket.map, verdict);
    }

    /// The function returns in whose frame it is: what the next call puts there is put over it.
    #[track_caller]
    pub fn leave_stack(&self) {
        raw::freed(&*self.ticket.map);
    }

    /// How many locks are held under it.
    #[must_use]
    pub fn acquired(&self) -> usize {
        self.ticket.rules.lock().acquired() as usize
    }

    /// True after [`done`](Self::done).
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.ticket.rules.lock().is_done()
    }
}

/// Reports what is against the rules.
#[track_caller]
fn tell(map: &LockMap, verdict: Verdict) {
    if let Err(misuse) = verdict {
        raw::ww_misuse(map, misuse);
    }
}

struct Waiter {
    id: u64,
    task: Thread,
    ticket: Option<Arc<Ticket>>,
}

pub(super) struct Owner {
    task: Thread,
    pub(super) ticket: Option<Arc<Ticket>>,
}

pub(super) struct State {
    pub(super) owner: Option<Owner>,
    /// Made on first use: the number of a class is no constant.
    rules: Option<WwLockState>,
    queue: Vec<Waiter>,
    next_id: u64,
}

impl State {
    fn rules(&mut self, class: &WwClass) -> &mut WwLockState {
        self.rules.get_or_insert_with(|| WwLockState::new(class.number()))
    }
}

/// A mutex of a [`WwClass`].
pub struct WwMutex {
    map: LockMap,
    class: &'static WwClass,
    pub(super) state: Gate<State>,
}

impl WwMutex {
    /// A lock of this class.
    #[must_use]
    pub const fn new(class: &'static WwClass) -> Self {
        WwMutex {
            map: LockMap::new(class.mutex),
            class,
            state: Gate::new(State { owner: None, rules: None, queue: Vec::new(), next_id: 0 }),
        }
    }

    /// `ww_mutex_lock`.
    ///
    /// # Errors
    /// -EALREADY if this context holds it, -EDEADLK if the context has to release everything first.
    #[track_caller]
    pub fn lock(&self, ctx: Option<&WwAcquireCtx>) -> Result {
        self.lock_common(ctx, false)?;
        self.drill(ctx)
    }

    /// `ww_mutex_lock_interruptible`.
    ///
    /// # Errors
    /// As [`lock`](Self::lock), and -EINTR if a signal was injected ([`fault`]).
    #[track_caller]
    pub fn lock_interruptible(&self, ctx: Option<&WwAcquireCtx>) -> Result {
        self.lock_common(ctx, true)?;
        self.drill(ctx)
    }

    /// `ww_mutex_lock_slow`: the lock at which this context had to give up, now that it holds nothing.
    #[track_caller]
    pub fn lock_slow(&self, ctx: &WwAcquireCtx) {
        let result = self.lock_slow_common(ctx, false);
        debug_assert!(result.is_ok() || lockdep::ENABLED, "a context without locks is never told to give up");
    }

    /// `ww_mutex_lock_slow_interruptible`.
    ///
    /// # Errors
    /// -EINTR if a signal was injected ([`fault`]).
    #[track_caller]
    pub fn lock_slow_interruptible(&self, ctx: &WwAcquireCtx) -> Result {
        self.lock_slow_common(ctx, true)
    }

    /// `ww_mutex_trylock`: never told to give up.
    #[track_caller]
    pub fn trylock(&self, ctx: Option<&WwAcquireCtx>) -> bool {
        self.check_alive();
        before(self, Step::TryWrite);
        let mut state = self.state.lock();
        if state.owner.is_some() {
            return false;
        }
        let verdict = self.take(&mut state, ctx.map(|ctx| &ctx.ticket));
        drop(state);
        raw::acquire(&self.map, how(ctx).trylock());
        tell(&self.map, verdict);
        true
    }

    /// `ww_mutex_unlock`.
    #[track_caller]
    pub fn unlock(&self) {
        let verdict = self.leave_ctx();
        tell(&self.map, verdict);
        raw::release(&self.map);
        self.unlock_real();
    }

    /// `ww_mutex_destroy`: nobody holds it, and nobody will use it again.
    #[track_caller]
    pub fn destroy(&self) {
        let mine = self.is_held();
        raw::freed(self);
        let mut state = self.state.lock();
        // What this task holds itself has its report already.
        let locked = state.owner.is_some() && !mine;
        let verdict = state.rules(self.class).destroy(locked);
        drop(state);
        tell(&self.map, verdict);
    }

    /// It belongs to no context any more.
    fn leave_ctx(&self) -> Verdict {
        let mut state = self.state.lock();
        match state.owner.as_mut().and_then(|owner| owner.ticket.take()) {
            Some(ticket) => ticket.rules.lock().dropped(state.rules(self.class)),
            None => Ok(()),
        }
    }

    pub(super) fn unlock_real(&self) {
        before(self, Step::EndWrite);
        let mut state = self.state.lock();
        let owner = state.owner.take();
        debug_assert!(owner.is_some() || lockdep::ENABLED, "unlock of a lock that is not locked");
        if let Some(first) = state.queue.first() {
            first.task.unpark();
        }
    }

    /// `lockdep_assert_held`.
    #[track_caller]
    pub fn assert_held(&self) {
        raw::assert_held(&self.map, HeldAs::Any);
    }

    /// `lockdep_assert_not_held`.
    #[track_caller]
    pub fn assert_not_held(&self) {
        raw::assert_not_held(&self.map);
    }

    /// `might_lock`: an acquisition that is released at once, for the validator only.
    #[track_caller]
    pub fn might_lock(&self) {
        raw::might_lock(&self.map, Acquire::WRITE);
    }

    /// `ww_mutex_is_locked`, by whomever.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.state.lock().owner.is_some()
    }

    /// Whether this task holds it; known with the validator off too.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let me = thread::current().id();
        self.state.lock().owner.as_ref().is_some_and(|owner| owner.task.id() == me)
    }

    /// How many tasks wait for it.
    #[must_use]
    pub fn waiters(&self) -> usize {
        self.state.lock().queue.len()
    }

    fn id(&self) -> Instance {
        Instance(core::ptr::from_ref(self).addr() as u64)
    }

    /// What the validator knows it by, to be a nest lock.
    pub(crate) fn map(&self) -> &LockMap {
        &self.map
    }

    /// The lock is not one that was destroyed.
    #[track_caller]
    fn check_alive(&self) {
        let verdict = self.edit_rules(|rules| rules.used());
        tell(&self.map, verdict);
    }

    #[track_caller]
    fn lock_slow_common(&self, ctx: &WwAcquireCtx, interruptible: bool) -> Result {
        let verdict = ctx.ticket.rules.lock().slow();
        tell(&ctx.ticket.map, verdict);
        self.lock_common(Some(ctx), interruptible)
    }

    #[track_caller]
    fn lock_common(&self, ctx: Option<&WwAcquireCtx>, interruptible: bool) -> Result {
        self.check_alive();
        let ticket = ctx.map(|ctx| &ctx.ticket);
        if let Some(ticket) = ticket {
            if self.is_owned_by(ticket) {
                return Err(Errno::EALREADY);
            }
            if !ticket.has_locks() {
                // A wound is for the locks that were held; they are gone.
                ticket.wounded.store(false, Ordering::Release);
            }
        }
        raw::acquire(&self.map, how(ctx));
        let result =
            if interruptible && fault::interrupted() { Err(Errno::EINTR) } else { self.wait(ticket) };
        match result {
            Ok(verdict) => {
                tell(&self.map, verdict);
                Ok(())
            }
            Err(error) => {
                if let (Some(ticket), Errno::EDEADLK) = (ticket, error) {
                    let verdict = ticket.rules.lock().backed_off(self.id());
                    tell(&self.map, verdict);
                }
                raw::release(&self.map);
                Err(error)
            }
        }
    }

    /// A made-up -EDEADLK, if a drill is on and it is time for one.
    #[track_caller]
    fn drill(&self, ctx: Option<&WwAcquireCtx>) -> Result {
        let Some(ctx) = ctx.filter(|ctx| ctx.ticket.is_drill_due()) else { return Ok(()) };
        let verdict = ctx.ticket.rules.lock().backed_off(self.id());
        tell(&self.map, verdict);
        self.unlock();
        Err(Errno::EDEADLK)
    }

    fn is_owned_by(&self, ticket: &Arc<Ticket>) -> bool {
        let state = self.state.lock();
        let owner = state.owner.as_ref().and_then(|owner| owner.ticket.as_ref());
        owner.is_some_and(|owner| Arc::ptr_eq(owner, ticket))
    }

    /// Returns once this task has it, with what the rules say to that.
    pub(super) fn wait(&self, ticket: Option<&Arc<Ticket>>) -> Result<Verdict> {
        before(self, Step::Write);
        let mut state = self.state.lock();
        if state.owner.is_none() && state.queue.is_empty() {
            return Ok(self.take(&mut state, ticket));
        }
        let id = self.enqueue(&mut state, ticket)?;
        loop {
            if state.owner.is_none() && state.queue.first().is_some_and(|first| first.id == id) {
                state.queue.remove(0);
                return Ok(self.take(&mut state, ticket));
            }
            if let Some(ticket) = ticket
                && self.must_give_up(&state, ticket, id)
            {
                state.queue.retain(|waiter| waiter.id != id);
                if let (None, Some(first)) = (&state.owner, state.queue.first()) {
                    first.task.unpark();
                }
                return Err(Errno::EDEADLK);
            }
            if orphan::any_panicked(state.owner.as_ref().map(|owner| owner.task.id())) {
                drop(state);
                orphan::give_up();
            }
            drop(state);
            thread::park_timeout(orphan::PATIENCE);
            state = self.state.lock();
        }
    }

    /// Queues this task: by stamp among those with a context.
    fn enqueue(&self, state: &mut State, ticket: Option<&Arc<Ticket>>) -> Result<u64> {
        let id = state.next_id;
        state.next_id += 1;
        let waiter = Waiter { id, task: thread::current(), ticket: ticket.cloned() };
        let Some(ticket) = ticket else {
            state.queue.push(waiter);
            return Ok(id);
        };
        let older_waits = state.queue.iter().filter_map(|waiter| waiter.ticket.as_ref());
        if self.class.algorithm == WwAlgorithm::WaitDie
            && ticket.has_locks()
            && older_waits.clone().any(|other| ticket.is_younger_than(other))
        {
            return Err(Errno::EDEADLK);
        }
        let behind =
            |other: &Waiter| other.ticket.as_ref().is_some_and(|other| other.is_younger_than(ticket));
        let position = state.queue.iter().position(behind).unwrap_or(state.queue.len());
        state.queue.insert(position, waiter);
        match self.class.algorithm {
            // Those behind us that hold locks must give up for us.
            WwAlgorithm::WaitDie => wake_all(&state.queue[position + 1..]),
            WwAlgorithm::WoundWait => {
                let owner = state.owner.as_ref().and_then(|owner| owner.ticket.as_ref());
                wound(owner, ticket);
            }
        }
        Ok(id)
    }

    fn must_give_up(&self, state: &State, ticket: &Arc<Ticket>, id: u64) -> bool {
        if !ticket.has_locks() {
            return false;
        }
        match self.class.algorithm {
            WwAlgorithm::WoundWait => ticket.wounded.load(Ordering::Acquire),
            WwAlgorithm::WaitDie => {
                let owner = state.owner.as_ref().and_then(|owner| owner.ticket.as_ref());
                let before = state.queue.iter().take_while(|waiter| waiter.id != id);
                let ahead = before.filter_map(|waiter| waiter.ticket.as_ref());
                owner.into_iter().chain(ahead).any(|other| ticket.is_younger_than(other))
            }
        }
    }

    /// Makes this task the owner and lets the waiters look at the new situation.
    fn take(&self, state: &mut State, ticket: Option<&Arc<Ticket>>) -> Verdict {
        state.owner = Some(Owner { task: thread::current(), ticket: ticket.cloned() });
        let Some(ticket) = ticket else { return Ok(()) };
        let verdict = ticket.rules.lock().took(state.rules(self.class), self.id());
        match self.class.algorithm {
            WwAlgorithm::WaitDie => wake_all(&state.queue),
            WwAlgorithm::WoundWait => {
                let waiting = state.queue.iter().filter_map(|waiter| waiter.ticket.as_ref());
                for other in waiting {
                    wound(Some(ticket), other);
                }
            }
        }
        verdict
    }

    /// Works on the state that the rules look at.
    pub(super) fn edit_rules<R>(&self, f: impl FnOnce(&mut WwLockState) -> R) -> R {
        f(self.state.lock().rules(self.class))
    }
}

fn how(ctx: Option<&WwAcquireCtx>) -> Acquire<'_> {
    match ctx {
        Some(ctx) => Acquire::WRITE.nest(&ctx.ticket.map),
        None => Acquire::WRITE,
    }
}

/// Wounds a holder for an older one that waits.
fn wound(holder: Option<&Arc<Ticket>>, by: &Ticket) {
    if let Some(holder) = holder
        && holder.algorithm == WwAlgorithm::WoundWait
        && holder.is_younger_than(by)
    {
        holder.wounded.store(true, Ordering::Release);
        holder.task.unpark();
    }
}

fn wake_all(waiters: &[Waiter]) {
    for waiter in waiters {
        waiter.task.unpark();
    }
}

crate::kernel::opaque_debug!(WwMutex, WwAcquireCtx);
