// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The way of a buffer: queued by the program, filled by the driver, waited for and dequeued.
//!
//! ```text
//! Dequeued --prepare--> Preparing --> Dequeued (prepared) --qbuf--> Queued --> Active --buffer_done--> Done, Error --dqbuf--> Dequeued
//! ```
//!
//! The driver gives a buffer back from whatever context, an interrupt mostly; so `done_lock` is taken with interrupts
//! off everywhere. Everything else happens under `q->lock`.
//!
//! Kernel counterpart: `videobuf2-core.c`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::core::{BufferInfo, BufferState, Memory, UserPlane, Vb2Buffer, Vb2Queue, fill_user_buffer};
use super::prepare::{__buf_prepare, Current};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::poll::{PollEvents, PollTable, poll_wait, wait_event_interruptible};

/// What `q->lock` protects besides the table.
#[derive(Default)]
pub(super) struct QueueState {
    /// What the program has queued and not dequeued, in order.
    pub(super) queued_list: VecDeque<Arc<Vb2Buffer>>,
    pub(super) start_streaming_called: bool,
    /// Nothing was queued since the buffers were made.
    pub(super) waiting_for_buffers: bool,
    /// The open file that made the buffers.
    pub(super) owner: Option<u64>,
}

/// `vb2_core_prepare_buf`: gets a buffer's memory ready ahead of time.
///
/// # Errors
/// -EINVAL if it is not dequeued or its memory does not do, -EIO after a failure of the device, or what the allocator
/// says.
pub fn vb2_core_prepare_buf(
    q: &Vb2Queue,
    current: &Current<'_>,
    index: usize,
    memory: Memory,
    planes: &[UserPlane],
) -> Result {
    let vb = buffer_of_this_kind(q, index, memory)?;
    if vb.state() != BufferState::Dequeued || vb.prepared.load(Ordering::Relaxed) {
        return Err(Errno::EINVAL);
    }
    __buf_prepare(q, &vb, current, planes)
}

fn buffer_of_this_kind(q: &Vb2Queue, index: usize, memory: Memory) -> Result<Arc<Vb2Buffer>> {
    if q.memory() != Some(memory) {
        return Err(Errno::EINVAL);
    }
    q.get_buffer(index)
}

/// `vb2_core_qbuf`.
///
/// # Errors
/// As [`vb2_core_prepare_buf`], or what the driver says when it starts.
pub fn vb2_core_qbuf(
    q: &Vb2Queue,
    current: &Current<'_>,
    index: usize,
    memory: Memory,
    planes: &[UserPlane],
) -> Result {
    let vb = buffer_of_this_kind(q, index, memory)?;
    if q.error.load(Ordering::Acquire) {
        return Err(Errno::EIO);
    }
    if vb.state() != BufferState::Dequeued {
        return Err(Errno::EINVAL);
    }
    __buf_prepare(q, &vb, current, planes)?;
    vb.set_state(BufferState::Queued);
    let (started, queued) = q.state.with(|state| {
        state.queued_list.push_back(vb.clone());
        state.waiting_for_buffers = false;
        (state.start_streaming_called, state.queued_list.len())
    });
    if started {
        return __enqueue_in_driver(q, &vb);
    }
    if q.is_streaming() && queued >= q.min_queued_buffers {
        let result = vb2_start_streaming(q);
        if result.is_err() {
            q.state.with(|state| state.queued_list.retain(|other| !Arc::ptr_eq(other, &vb)));
            vb.set_state(BufferState::Dequeued);
        }
        return result;
    }
    Ok(())
}

fn __enqueue_in_driver(q: &Vb2Queue, vb: &Arc<Vb2Buffer>) -> Result {
    vb.set_state(BufferState::Active);
    q.owned_by_drv_count.fetch_add(1, Ordering::AcqRel);
    q.ops()?.buf_queue(vb);
    Ok(())
}

fn vb2_start_streaming(q: &Vb2Queue) -> Result {
    for vb in q.state.with(|state| state.queued_list.clone()) {
        __enqueue_in_driver(q, &vb)?;
    }
    q.state.with(|state| state.start_streaming_called = true);
    let result = q.ops()?.start_streaming(q.owned_by_drv_count.load(Ordering::Acquire));
    if result.is_err() {
        q.state.with(|state| state.start_streaming_called = false);
        let kept = q.owned_by_drv_count.load(Ordering::Acquire) > 0;
        q.core.warn_on(kept, "the driver keeps buffers after start_streaming failed");
        let done = q.done_count.load(Ordering::Acquire) > 0;
        q.core.warn_on(done, "the driver gave buffers back as done after start_streaming failed");
    }
    result
}

/// `vb2_buffer_done`: the driver gives a buffer back. From any context.
pub fn vb2_buffer_done(q: &Vb2Queue, vb: &Arc<Vb2Buffer>, state: BufferState) {
    if q.core.warn_on(vb.state() != BufferState::Active, "a buffer is given back that the driver has not") {
        return;
    }
    if state != BufferState::Queued {
        __vb2_buf_mem_finish(vb);
    }
    let flags = q.done_lock.lock_irqsave();
    vb.set_state(state);
    if state != BufferState::Queued {
        q.done_list.with(|list| list.push_back(vb.clone()));
        q.done_count.fetch_add(1, Ordering::AcqRel);
    }
    q.owned_by_drv_count.fetch_sub(1, Ordering::AcqRel);
    q.done_lock.unlock_irqrestore(flags);
    if state != BufferState::Queued {
        q.done_wq.wake_up();
    }
}

pub(super) fn __vb2_buf_mem_finish(vb: &Vb2Buffer) {
    if vb.synced.swap(false, Ordering::AcqRel) {
        vb.planes.read(|planes| {
            for memory in planes.iter().filter_map(|plane| plane.mem_priv.as_ref()) {
                memory.finish();
            }
        });
    }
}

/// `vb2_queue_error`: the device has failed; everybody who waits is told.
pub fn vb2_queue_error(q: &Vb2Queue) {
    q.error.store(true, Ordering::Release);
    q.done_wq.wake_up();
}

/// `vb2_core_dqbuf`: the oldest filled buffer. Without `nonblocking` it waits for one, and `q->lock` is dropped while
/// it sleeps.
///
/// # Errors
/// -EAGAIN if there is none and it must not wait, -EINVAL unless streaming (also if that ends while it waits), -EBUSY
/// if somebody else waits, -EIO after a failure of the device, -EINTR (injected).
pub fn vb2_core_dqbuf(q: &Vb2Queue, nonblocking: bool) -> Result<BufferInfo> {
    let vb = __vb2_get_done_vb(q, nonblocking)?;
    vb.prepared.store(false, Ordering::Relaxed);
    let mut info = fill_user_buffer(&vb);
    info.prepared = false;
    q.state.with(|state| state.queued_list.retain(|other| !Arc::ptr_eq(other, &vb)));
    vb.set_state(BufferState::Dequeued);
    Ok(info)
}

#[track_caller]
fn __vb2_get_done_vb(q: &Vb2Queue, nonblocking: bool) -> Result<Arc<Vb2Buffer>> {
    __vb2_wait_for_done_vb(q, nonblocking)?;
    let flags = q.done_lock.lock_irqsave();
    // `q->lock` has been held since the list was seen not to be empty, and nobody else takes from it.
    let vb = q.done_list.with(VecDeque::pop_front);
    if vb.is_some() {
        q.done_count.fetch_sub(1, Ordering::AcqRel);
    }
    q.done_lock.unlock_irqrestore(flags);
    vb.ok_or(Errno::EAGAIN)
}

fn __vb2_wait_for_done_vb(q: &Vb2Queue, nonblocking: bool) -> Result {
    let done = || q.done_count.load(Ordering::Acquire) > 0;
    let error = || q.error.load(Ordering::Acquire);
    loop {
        if q.waiting_in_dqbuf.load(Ordering::Acquire) {
            return Err(Errno::EBUSY);
        }
        if !q.is_streaming() {
            return Err(Errno::EINVAL);
        }
        if error() {
            return Err(Errno::EIO);
        }
        if done() {
            return Ok(());
        }
        if nonblocking {
            return Err(Errno::EAGAIN);
        }
        let ops = q.ops()?;
        q.waiting_in_dqbuf.store(true, Ordering::Release);
        ops.wait_prepare(q);
        // Nothing is held: a stream can end and buffers can be queued while this sleeps.
        let woken = wait_event_interruptible(&q.done_wq, || {
            let over = || done() || !q.is_streaming() || error();
            let now = over();
            if !now {
                ops.sleeper(&|| !over());
            }
            now
        });
        ops.wait_finish(q);
        q.waiting_in_dqbuf.store(false, Ordering::Release);
        woken?;
    }
}

/// `vb2_core_poll`: ready for reading once a buffer is filled.
pub fn vb2_core_poll(q: &Vb2Queue, table: &mut PollTable) -> PollEvents {
    poll_wait(&q.done_wq, table);
    let nothing_queued = q.state.with(|state| state.waiting_for_buffers);
    if !q.is_streaming() || q.error.load(Ordering::Acquire) || nothing_queued {
        return PollEvents::ERR;
    }
    let flags = q.done_lock.lock_irqsave();
    let first = q.done_list.with(|list| list.front().map(|vb| vb.state()));
    q.done_lock.unlock_irqrestore(flags);
    match (first, q.ops()) {
        (Some(BufferState::Done | BufferState::Error), _) => PollEvents::IN,
        (_, Ok(ops)) if table.sleeps() => {
            ops.sleeper(&|| q.done_count.load(Ordering::Acquire) == 0);
            PollEvents::NONE
        }
        _ => PollEvents::NONE,
    }
}

/// `vb2_core_streamon`.
///
/// # Errors
/// -EINVAL without buffers, or what the driver says.
pub fn vb2_core_streamon(q: &Vb2Queue) -> Result {
    if q.is_streaming() {
        return Ok(());
    }
    if q.num_buffers() < q.min_queued_buffers {
        return Err(Errno::EINVAL);
    }
    if q.state.with(|state| state.queued_list.len()) >= q.min_queued_buffers {
        vb2_start_streaming(q)?;
    }
    q.streaming.store(true, Ordering::Release);
    Ok(())
}

/// `vb2_core_streamoff`: all buffers come back, also the filled ones.
pub fn vb2_core_streamoff(q: &Vb2Queue) {
    __vb2_queue_cancel(q);
    q.state.with(|state| state.waiting_for_buffers = true);
}

/// Ends the stream: all buffers go back to the program.
pub(super) fn __vb2_queue_cancel(q: &Vb2Queue) {
    let started = q.state.with(|state| core::mem::take(&mut state.start_streaming_called));
    if started && let Ok(ops) = q.ops() {
        ops.stop_streaming();
    }
    let kept = q.owned_by_drv_count.swap(0, Ordering::AcqRel) > 0;
    q.core.warn_on(kept, "the driver keeps buffers after stop_streaming");
    q.streaming.store(false, Ordering::Release);
    q.error.store(false, Ordering::Release);
    q.state.with(|state| state.queued_list.clear());
    // The driver has stopped, so nobody adds to it.
    q.done_list.with(VecDeque::clear);
    q.done_count.store(0, Ordering::Release);
    q.done_wq.wake_up();
    for vb in q.buffers() {
        __vb2_buf_mem_finish(&vb);
        vb.prepared.store(false, Ordering::Relaxed);
        vb.set_state(BufferState::Dequeued);
    }
}
