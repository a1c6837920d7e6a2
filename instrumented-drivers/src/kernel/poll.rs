// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Wait queues and `poll`.
//!
//! The functions are cut as the C compiler left them: `add_wait_queue` and `remove_wait_queue` end in an unlock that
//! became a jump, so the release shows in their caller.
//!
//! Kernel counterpart: `kernel/sched/wait.c`, `fs/select.c`.

use core::mem;
use core::ops::{BitAnd, BitOr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};

use lockdep::LockClass;

use super::cell::KCell;
use super::errno::{Errno, Result};
use super::locking::SpinLock;
use super::{fault, own};

/// What a file is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PollEvents(u32);

impl PollEvents {
    /// Nothing.
    pub const NONE: Self = PollEvents(0);
    /// `POLLIN`.
    pub const IN: Self = PollEvents(1);
    /// `POLLOUT`.
    pub const OUT: Self = PollEvents(4);
    /// `POLLERR`: reported whether asked for or not.
    pub const ERR: Self = PollEvents(8);

    /// True if there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True if all of `other` is in `self`.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Without these.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        PollEvents(self.0 & !other.0)
    }
}

impl BitOr for PollEvents {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        PollEvents(self.0 | other.0)
    }
}

impl BitAnd for PollEvents {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        PollEvents(self.0 & other.0)
    }
}

/// One waiting task.
struct Waiter {
    woken: AtomicBool,
    task: Thread,
}

/// `wait_queue_head_t`.
pub struct WaitQueueHead {
    pub(crate) lock: SpinLock,
    entries: KCell<Vec<Arc<Waiter>>>,
}

impl WaitQueueHead {
    /// A queue whose lock is of this class.
    pub(crate) const fn new(class: &'static LockClass) -> Self {
        WaitQueueHead { lock: SpinLock::new(class), entries: KCell::new("a wait queue", Vec::new()) }
    }

    /// `wake_up_locked_poll`: the caller holds the queue's lock.
    pub(crate) fn wake_up_locked(&self) {
        self.entries.with(|entries| {
            for waiter in entries.iter() {
                waiter.woken.store(true, Ordering::Release);
                waiter.task.unpark();
            }
        });
    }

    /// `wake_up`.
    pub(crate) fn wake_up(&self) {
        __wake_up(self);
    }
}

fn __wake_up(head: &WaitQueueHead) {
    let flags = head.lock.lock_irqsave();
    head.wake_up_locked();
    head.lock.unlock_irqrestore(flags);
}

/// `wait_event_interruptible`: sleeps until the condition is true; it is looked at after each wake-up, with nothing
/// held.
///
/// # Errors
/// -EINTR if a signal was injected ([`fault`]). A condition that came true before the signal could be seen wins, and
/// then there was no wait to inject one into.
pub(crate) fn wait_event_interruptible(
    head: &Arc<WaitQueueHead>,
    mut condition: impl FnMut() -> bool,
) -> Result {
    if condition() {
        return Ok(());
    }
    let woken = do_poll(PollEvents::IN, PollTimeout::Interruptible, |table| {
        poll_wait(head, table);
        if condition() { PollEvents::IN } else { PollEvents::NONE }
    });
    woken.map(drop).ok_or(Errno::EINTR)
}

/// The wait queues that one `poll` call sits in.
#[derive(Default)]
pub struct PollTable {
    entries: Vec<(Arc<WaitQueueHead>, Arc<Waiter>)>,
    /// The second look of a blocking poll registers nothing.
    registered: bool,
    wanted: PollEvents,
    /// Finding nothing, the caller goes to sleep.
    sleeps: bool,
}

/// `poll_wait`.
#[track_caller]
pub(crate) fn poll_wait(head: &Arc<WaitQueueHead>, table: &mut PollTable) {
    if !table.registered {
        let waiter = Arc::new(Waiter { woken: AtomicBool::new(false), task: thread::current() });
        table.entries.push((head.clone(), waiter.clone()));
        add_wait_queue(head, waiter);
    }
}

#[track_caller]
fn add_wait_queue(head: &WaitQueueHead, waiter: Arc<Waiter>) {
    let flags = own(|| head.lock.lock_irqsave());
    head.entries.with(|entries| entries.push(waiter));
    head.lock.unlock_irqrestore(flags);
}

#[track_caller]
fn remove_wait_queue(head: &WaitQueueHead, waiter: &Arc<Waiter>) {
    let flags = own(|| head.lock.lock_irqsave());
    head.entries.with(|entries| entries.retain(|other| !Arc::ptr_eq(other, waiter)));
    head.lock.unlock_irqrestore(flags);
}

/// How long a poll waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollTimeout {
    /// It looks once.
    Now,
    /// Until an event comes.
    Forever,
    /// Until a signal comes, and one does.
    Signal,
    /// Until an event comes, unless a signal is injected at the moment of going to sleep ([`fault`]).
    Interruptible,
}

/// `do_poll` over one file: `look` asks the file. `None`: a signal came first.
pub(crate) fn do_poll(
    wanted: PollEvents,
    timeout: PollTimeout,
    mut look: impl FnMut(&mut PollTable) -> PollEvents,
) -> Option<PollEvents> {
    let sleeps = matches!(timeout, PollTimeout::Forever | PollTimeout::Interruptible);
    let mut table = PollTable { wanted, sleeps, ..PollTable::default() };
    let result = loop {
        let ready = look(&mut table) & (wanted | PollEvents::ERR);
        let first = !mem::replace(&mut table.registered, true);
        match timeout {
            _ if !ready.is_empty() => break Some(ready),
            PollTimeout::Now => break Some(PollEvents::NONE),
            PollTimeout::Signal => break None,
            PollTimeout::Interruptible if first && fault::interrupted() => break None,
            // Nobody will ever wake it.
            _ if table.entries.is_empty() => break Some(PollEvents::NONE),
            PollTimeout::Forever | PollTimeout::Interruptible => table.wait(),
        }
    };
    poll_freewait(table);
    result
}

impl PollTable {
    /// `poll_requested_events`.
    pub(crate) fn requested_events(&self) -> PollEvents {
        self.wanted
    }

    /// The opposite of `poll_does_not_wait`: the caller goes to sleep if there is no event now.
    pub(crate) fn sleeps(&self) -> bool {
        self.sleeps
    }

    fn wait(&self) {
        while !self.entries.iter().any(|(_, waiter)| waiter.woken.swap(false, Ordering::Acquire)) {
            thread::park();
        }
    }
}

fn poll_freewait(table: PollTable) {
    for (head, waiter) in table.entries {
        remove_wait_queue(&head, &waiter);
    }
}

super::opaque_debug!(WaitQueueHead, PollTable);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fault::{Plan, Seen, inject};

    #[test]
    fn a_condition_that_comes_true_on_the_way_to_sleep_leaves_no_wait_to_interrupt() {
        static CLASS: LockClass = LockClass::new("wait");
        let head = Arc::new(WaitQueueHead::new(&CLASS));
        let waits = |true_at: u32| {
            let mut looks = 0;
            inject(Plan::interrupt(1), || {
                wait_event_interruptible(&head, || {
                    looks += 1;
                    looks == true_at
                })
            })
        };
        assert_eq!(waits(1), (Ok(()), Seen::default()), "it was true before");
        assert_eq!(waits(2), (Ok(()), Seen::default()), "it came true while the task sat down in the queue");
        assert_eq!(waits(3), (Err(Errno::EINTR), Seen { interruptible: 1, allocations: 0 }));
    }
}
