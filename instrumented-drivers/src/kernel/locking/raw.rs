// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The blocking parts, without validator: one exclusive lock, one reader-writer lock.
//!
//! They know who holds them, so that the models can say it with the validator off too.

use std::thread::{self, ThreadId};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::orphan;
use crate::kernel::interleave::{Step, before};

/// An exclusive lock.
pub(super) struct RawLock {
    owner: Mutex<Option<ThreadId>>,
    free: Condvar,
}

impl RawLock {
    pub(super) const fn new() -> Self {
        RawLock { owner: Mutex::new(None), free: Condvar::new() }
    }

    pub(super) fn lock(&self) {
        before(self, Step::Write);
        let mut owner = self.owner.lock();
        while owner.is_some() {
            if !orphan::wait(&self.free, &mut owner, |owner| *owner) {
                orphan::give_up();
            }
        }
        *owner = Some(thread::current().id());
    }

    pub(super) fn try_lock(&self) -> bool {
        before(self, Step::TryWrite);
        let mut owner = self.owner.lock();
        let free = owner.is_none();
        if free {
            *owner = Some(thread::current().id());
        }
        free
    }

    pub(super) fn unlock(&self) {
        before(self, Step::EndWrite);
        let owner = self.owner.lock().take();
        debug_assert!(owner.is_some() || lockdep::ENABLED, "unlock of a lock that is not locked");
        self.free.notify_one();
    }

    pub(super) fn held_by_me(&self) -> bool {
        *self.owner.lock() == Some(thread::current().id())
    }
}

#[derive(Default)]
struct Shared {
    writer: Option<ThreadId>,
    readers: Vec<ThreadId>,
    waiting_writers: usize,
}

impl Shared {
    fn holders(&self) -> Vec<ThreadId> {
        self.writer.iter().chain(&self.readers).copied().collect()
    }
}

/// A reader-writer lock whose readers queue behind a waiting writer.
pub(super) struct RawRwLock {
    state: Mutex<Shared>,
    changed: Condvar,
}

impl RawRwLock {
    pub(super) const fn new() -> Self {
        let state = Shared { writer: None, readers: Vec::new(), waiting_writers: 0 };
        RawRwLock { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn wait(&self, state: &mut MutexGuard<'_, Shared>) {
        if !orphan::wait(&self.changed, state, Shared::holders) {
            orphan::give_up();
        }
    }

    pub(super) fn read(&self) {
        before(self, Step::Read);
        let mut state = self.state.lock();
        while state.writer.is_some() || state.waiting_writers > 0 {
            self.wait(&mut state);
        }
        state.readers.push(thread::current().id());
    }

    /// A read that overtakes waiting writers.
    pub(super) fn read_recursive(&self) {
        before(self, Step::Read);
        let mut state = self.state.lock();
        while state.writer.is_some() {
            self.wait(&mut state);
        }
        state.readers.push(thread::current().id());
    }

    pub(super) fn try_read(&self) -> bool {
        before(self, Step::TryRead);
        let mut state = self.state.lock();
        let free = state.writer.is_none() && state.waiting_writers == 0;
        if free {
            state.readers.push(thread::current().id());
        }
        free
    }

    pub(super) fn write(&self) {
        before(self, Step::Write);
        let mut state = self.state.lock();
        state.waiting_writers += 1;
        while state.writer.is_some() || !state.readers.is_empty() {
            self.wait(&mut state);
        }
        state.waiting_writers -= 1;
        state.writer = Some(thread::current().id());
    }

    pub(super) fn try_write(&self) -> bool {
        before(self, Step::TryWrite);
        let mut state = self.state.lock();
        let free = state.writer.is_none() && state.readers.is_empty();
        if free {
            state.writer = Some(thread::current().id());
        }
        free
    }

    pub(super) fn unlock_read(&self) {
        before(self, Step::EndRead);
        let mut state = self.state.lock();
        debug_assert!(
            !state.readers.is_empty() || lockdep::ENABLED,
            "read unlock of a lock that is not read-locked"
        );
        // It may have been read-locked by another thread.
        let me = thread::current().id();
        match state.readers.iter().rposition(|reader| *reader == me) {
            Some(mine) => drop(state.readers.swap_remove(mine)),
            None => drop(state.readers.pop()),
        }
        self.changed.notify_all();
    }

    pub(super) fn unlock_write(&self) {
        before(self, Step::EndWrite);
        let writer = self.state.lock().writer.take();
        debug_assert!(
            writer.is_some() || lockdep::ENABLED,
            "write unlock of a lock that is not write-locked"
        );
        self.changed.notify_all();
    }

    pub(super) fn downgrade(&self) {
        before(self, Step::Downgrade);
        let mut state = self.state.lock();
        state.writer = None;
        state.readers.push(thread::current().id());
        self.changed.notify_all();
    }

    pub(super) fn write_held_by_me(&self) -> bool {
        self.state.lock().writer == Some(thread::current().id())
    }
}
