// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `poll` on a dma-buf: ready for reading once all writers are done, for writing once everybody is.
//!
//! Each direction arms one callback on the first pending fence and holds a reference to the file until the callback
//! has run. The callback runs in the signalling of a fence, with the fence's lock held.
//!
//! # Locking
//!
//! * `reservation_ww_class_mutex` → `&dmabuf->poll`: a direction is armed
//! * `reservation_ww_class_mutex` → `&fence->lock` → `&dmabuf->poll`: the callback is put on a fence; it runs under the
//!   fence's lock
//! * `&rq->lock` → `&dmabuf->poll`: the same for a request of Intel's graphics

use std::sync::Arc;

use super::core::DmaBuf;
use super::fence::dma_fence_add_callback;
use super::resv::{dma_resv_fences, dma_resv_lock, dma_resv_unlock, dma_resv_usage_rw};
use crate::kernel::file::{File, fput, get_file};
use crate::kernel::poll::{PollEvents, PollTable, poll_wait};

pub(super) fn dma_buf_poll(buf: &DmaBuf, table: &mut PollTable) -> PollEvents {
    poll_wait(&buf.poll, table);
    let mut events = table.requested_events() & (PollEvents::IN | PollEvents::OUT);
    if events.is_empty() {
        return events;
    }
    dma_resv_lock(buf.resv());
    for (direction, write) in [(PollEvents::OUT, true), (PollEvents::IN, false)] {
        if !events.contains(direction) {
            continue;
        }
        buf.poll.lock.lock_irq();
        let busy = buf.poll_active.with(|active| {
            let busy = active.contains(direction);
            *active = *active | direction;
            busy
        });
        buf.poll.lock.unlock_irq();
        if busy {
            events = events.without(direction);
            continue;
        }
        let file = get_file(buf.file());
        if dma_buf_poll_add_cb(buf, write, direction) {
            events = events.without(direction);
        } else {
            // Nothing is pending: no callback will come.
            finish(file, direction);
        }
    }
    dma_resv_unlock(buf.resv());
    events
}

/// Arms the callback on the first fence that is pending; it then owns the reference to the file. False if there is
/// none.
fn dma_buf_poll_add_cb(buf: &DmaBuf, write: bool, direction: PollEvents) -> bool {
    dma_resv_fences(buf.resv(), dma_resv_usage_rw(write)).iter().any(|fence| {
        let file = buf.file().clone();
        dma_fence_add_callback(fence, Box::new(move || dma_buf_poll_cb(file, direction))).is_ok()
    })
}

fn dma_buf_poll_cb(file: Arc<File>, direction: PollEvents) {
    finish(file, direction);
}

/// The body of `dma_buf_poll_cb`, which the compiler also puts into `dma_buf_poll`.
#[track_caller]
fn finish(file: Arc<File>, direction: PollEvents) {
    if let Some(buf) = DmaBuf::of(&file) {
        let flags = buf.poll.lock.lock_irqsave();
        buf.poll.wake_up_locked();
        buf.poll_active.with(|active| *active = active.without(direction));
        buf.poll.lock.unlock_irqrestore(flags);
    }
    fput(file);
}
