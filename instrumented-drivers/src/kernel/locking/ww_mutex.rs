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
//! the lock. A waiter sleeps with `thread::park`, whose token takes the place of the kernel's wake-up: whoever
//! changes something that a waiter looks at unparks it.
//!
//! The validator sees a context as a lock of class `<class>_acquire`, and each lock taken under it as nested in
//! that one. Without a context a ww mutex is a plain mutex.
//!
//! Kernel counterpart: `kernel/locking/ww_mutex.h`. Not checked yet: wrong use of a context (lock after done, an
//! ignored -EDEADLK).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, Thread};

use lockdep::raw::{self, Acquire, LockMap};
use lockdep::{HeldAs, LockClass};
use parking_lot::Mutex as Gate;

use crate::kernel::errno::{Errno, Result};
use crate::kernel::fault;

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
}

/// The part of a context that other tasks look at.
struct Ticket {
    map: LockMap,
    algorithm: WwAlgorithm,
    stamp: u64,
    acquired: AtomicUsize,
    wounded: AtomicBool,
    task: Thread,
}

impl Ticket {
    fn is_younger_than(&self, other: &Ticket) -> bool {
        self.stamp > other.stamp
    }

    fn has_locks(&self) -> bool {
        self.acquired.load(Ordering::Acquire) > 0
    }
}

/// `struct ww_acquire_ctx`: one attempt to take several locks.
pub struct WwAcquireCtx {
    ticket: Arc<Ticket>,
    /// Address of the lock at which it had to give up.
    contending: AtomicUsize,
    done: AtomicBool,
}

impl WwAcquireCtx {
    /// `ww_acquire_init`.
    #[track_caller]
    #[must_use]
    pub fn init(class: &'static WwClass) -> Self {
        let ticket = Arc::new(Ticket {
            map: LockMap::new(class.acquire),
            algorithm: class.algorithm,
            stamp: class.stamp.fetch_add(1, Ordering::Relaxed),
            acquired: AtomicUsize::new(0),
            wounded: AtomicBool::new(false),
            task: thread::current(),
        });
        raw::acquire(&ticket.map, Acquire::WRITE);
        WwAcquireCtx { ticket, contending: AtomicUsize::new(0), done: AtomicBool::new(false) }
    }

    /// `ww_acquire_done`: no further lock will be taken.
    #[track_caller]
    pub fn done(&self) {
        raw::assert_held(&self.ticket.map, HeldAs::Any);
        self.done.store(true, Ordering::Relaxed);
    }

    /// `ww_acquire_fini`.
    #[track_caller]
    pub fn fini(&self) {
        raw::release(&self.ticket.map);
    }

    /// How many locks are held under it.
    #[must_use]
    pub fn acquired(&self) -> usize {
        self.ticket.acquired.load(Ordering::Relaxed)
    }

    /// True after [`done`](Self::done).
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }
}

struct Waiter {
    id: u64,
    task: Thread,
    ticket: Option<Arc<Ticket>>,
}

struct Owner {
    task: Thread,
    ticket: Option<Arc<Ticket>>,
}

struct State {
    owner: Option<Owner>,
    queue: Vec<Waiter>,
    next_id: u64,
}

/// A mutex of a [`WwClass`].
pub struct WwMutex {
    map: LockMap,
    algorithm: WwAlgorithm,
    state: Gate<State>,
}

impl WwMutex {
    /// A lock of this class.
    #[must_use]
    pub const fn new(class: &'static WwClass) -> Self {
        WwMutex {
            map: LockMap::new(class.mutex),
            algorithm: class.algorithm,
            state: Gate::new(State { owner: None, queue: Vec::new(), next_id: 0 }),
        }
    }

    /// `ww_mutex_lock`.
    ///
    /// # Errors
    /// -EALREADY if this context holds it, -EDEADLK if the context has to release everything first.
    #[track_caller]
    pub fn lock(&self, ctx: Option<&WwAcquireCtx>) -> Result {
        self.lock_common(ctx, false, false)
    }

    /// `ww_mutex_lock_interruptible`.
    ///
    /// # Errors
    /// As [`lock`](Self::lock), and -EINTR if a signal was injected ([`fault`]).
    #[track_caller]
    pub fn lock_interruptible(&self, ctx: Option<&WwAcquireCtx>) -> Result {
        self.lock_common(ctx, true, false)
    }

    /// `ww_mutex_lock_slow`: the lock at which this context had to give up, now that it holds nothing.
    #[track_caller]
    pub fn lock_slow(&self, ctx: &WwAcquireCtx) {
        let result = self.lock_common(Some(ctx), false, true);
        debug_assert!(result.is_ok(), "a context without locks is never told to give up");
    }

    /// `ww_mutex_lock_slow_interruptible`.
    ///
    /// # Errors
    /// -EINTR if a signal was injected ([`fault`]).
    #[track_caller]
    pub fn lock_slow_interruptible(&self, ctx: &WwAcquireCtx) -> Result {
        self.lock_common(Some(ctx), true, true)
    }

    /// `ww_mutex_trylock`: never told to give up.
    #[track_caller]
    pub fn trylock(&self, ctx: Option<&WwAcquireCtx>) -> bool {
        let mut state = self.state.lock();
        if state.owner.is_some() {
            return false;
        }
        self.take(&mut state, ctx.map(|ctx| &ctx.ticket));
        drop(state);
        raw::acquire(&self.map, how(ctx).trylock());
        true
    }

    /// `ww_mutex_unlock`.
    #[track_caller]
    pub fn unlock(&self) {
        raw::release(&self.map);
        let mut state = self.state.lock();
        let owner = state.owner.take();
        debug_assert!(owner.is_some() || lockdep::ENABLED, "unlock of a lock that is not locked");
        if let Some(ticket) = owner.and_then(|owner| owner.ticket) {
            ticket.acquired.fetch_sub(1, Ordering::AcqRel);
        }
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

    fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    #[track_caller]
    fn lock_common(&self, ctx: Option<&WwAcquireCtx>, interruptible: bool, slow: bool) -> Result {
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
        if let (Some(ctx), true) = (ctx, slow) {
            ctx.contending.store(0, Ordering::Relaxed);
        }
        let result =
            if interruptible && fault::interrupted() { Err(Errno::EINTR) } else { self.wait(ticket) };
        if let Err(error) = result {
            if let (Some(ctx), Errno::EDEADLK) = (ctx, error) {
                ctx.contending.store(self.address(), Ordering::Relaxed);
            }
            raw::release(&self.map);
        }
        result
    }

    fn is_owned_by(&self, ticket: &Arc<Ticket>) -> bool {
        let state = self.state.lock();
        let owner = state.owner.as_ref().and_then(|owner| owner.ticket.as_ref());
        owner.is_some_and(|owner| Arc::ptr_eq(owner, ticket))
    }

    fn wait(&self, ticket: Option<&Arc<Ticket>>) -> Result {
        let mut state = self.state.lock();
        if state.owner.is_none() && state.queue.is_empty() {
            self.take(&mut state, ticket);
            return Ok(());
        }
        let id = self.enqueue(&mut state, ticket)?;
        loop {
            if state.owner.is_none() && state.queue.first().is_some_and(|first| first.id == id) {
                state.queue.remove(0);
                self.take(&mut state, ticket);
                return Ok(());
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
            drop(state);
            thread::park();
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
        if self.algorithm == WwAlgorithm::WaitDie
            && ticket.has_locks()
            && older_waits.clone().any(|other| ticket.is_younger_than(other))
        {
            return Err(Errno::EDEADLK);
        }
        let behind =
            |other: &Waiter| other.ticket.as_ref().is_some_and(|other| other.is_younger_than(ticket));
        let position = state.queue.iter().position(behind).unwrap_or(state.queue.len());
        state.queue.insert(position, waiter);
        match self.algorithm {
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
        match self.algorithm {
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
    fn take(&self, state: &mut State, ticket: Option<&Arc<Ticket>>) {
        state.owner = Some(Owner { task: thread::current(), ticket: ticket.cloned() });
        let Some(ticket) = ticket else { return };
        ticket.acquired.fetch_add(1, Ordering::AcqRel);
        match self.algorithm {
            WwAlgorithm::WaitDie => wake_all(&state.queue),
            WwAlgorithm::WoundWait => {
                let waiting = state.queue.iter().filter_map(|waiter| waiter.ticket.as_ref());
                for other in waiting {
                    wound(Some(ticket), other);
                }
            }
        }
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

/// Who owns a lock, for tests.
#[cfg(test)]
impl WwMutex {
    pub(super) fn waiters(&self) -> usize {
        self.state.lock().queue.len()
    }
}

crate::kernel::opaque_debug!(WwMutex, WwAcquireCtx);
