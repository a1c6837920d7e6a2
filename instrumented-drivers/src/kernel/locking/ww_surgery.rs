// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! What the kernel's self-test does to wound/wait mutexes behind their back, because it has only one thread: it lets
//! another task seem to hold one, and overwrites fields as a broken driver would.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use lockdep::ids::Instance;
use lockdep::raw::{self, Acquire};

use super::ww_mutex::{Ticket, WwAcquireCtx, WwMutex};

/// No context has this number.
const STALE: Instance = Instance(u64::MAX);

impl WwAcquireCtx {
    /// Makes the context younger by one.
    pub(crate) fn bump(&self) {
        self.ticket.stamp.fetch_add(1, Ordering::Relaxed);
    }

    /// Another context that counts the same locks, one younger or older. The validator does not learn of it: to it
    /// the copy is the same context.
    pub(crate) fn copy(&self, younger: bool) -> Self {
        let stamp = self.ticket.stamp.load(Ordering::Relaxed);
        let stamp = if younger { stamp + 1 } else { stamp - 1 };
        let ticket = Ticket::new(self.class, self.ticket.map.clone(), stamp);
        ticket.rules.lock().set_acquired(self.ticket.rules.lock().acquired());
        WwAcquireCtx { class: self.class, ticket: Arc::new(ticket) }
    }

    /// Lets the context forget that it holds locks.
    pub(crate) fn uncount(&self) {
        self.ticket.rules.lock().set_acquired(0);
    }
}

impl WwMutex {
    /// Locks the mutex below, which knows nothing of contexts.
    #[track_caller]
    pub(crate) fn raw_lock(&self) {
        raw::acquire(self.map(), Acquire::WRITE);
        let without_context = self.wait(None);
        debug_assert!(without_context.is_ok(), "only a context is told to give up");
    }

    /// Unlocks it.
    #[track_caller]
    pub(crate) fn raw_unlock(&self) {
        raw::release(self.map());
        self.unlock_real();
    }

    /// Locks the mutex below as one that `nest` serialises.
    #[track_caller]
    pub(crate) fn raw_lock_nest(&self, nest: &WwAcquireCtx) {
        raw::acquire(self.map(), Acquire::WRITE.nest(&nest.ticket.map));
        let without_context = self.wait(None);
        debug_assert!(without_context.is_ok(), "only a context is told to give up");
    }

    /// Tells the validator that this task released it.
    #[track_caller]
    pub(crate) fn forget(&self) {
        raw::release(self.map());
    }

    /// Tells the validator that this task took it, by trylock.
    #[track_caller]
    pub(crate) fn recall(&self) {
        raw::acquire(self.map(), Acquire::WRITE.trylock());
    }

    /// Writes this context, or none, into the locked mutex as its owner.
    pub(crate) fn set_owner(&self, ctx: Option<&WwAcquireCtx>) {
        if let Some(owner) = &mut self.state.lock().owner {
            owner.ticket = ctx.map(|ctx| ctx.ticket.clone());
        }
    }

    /// Leaves a context behind that does not exist any more.
    pub(crate) fn set_stale(&self) {
        self.edit_rules(|rules| rules.set_ctx(Some(STALE)));
    }

    /// True if that one is still there.
    pub(crate) fn is_stale(&self) -> bool {
        self.edit_rules(|rules| rules.ctx() == Some(STALE))
    }
}
