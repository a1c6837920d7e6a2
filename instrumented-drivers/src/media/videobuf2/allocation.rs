// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Making and giving up buffers: REQBUFS, CREATE_BUFS.
//!
//! New buffers are made aside, under `q->lock` only, and put into the table under `q->mmap_lock`, so that an `mmap` that
//! comes in between sees all of a buffer or nothing. Old ones are freed under both.
//!
//! Kernel counterpart: `videobuf2-core.c`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use super::core::{BufferState, MAX_BUFFERS, Memory, Plane, Vb2Buffer, Vb2Queue};
use super::streaming::__vb2_queue_cancel;
use crate::dma_buf::core::dma_buf_put;
use crate::kernel::cell::KRwCell;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::reclaim;
use crate::kernel::shmem::page_align;

/// `vb2_core_reqbufs`: gives up all buffers, then makes `count` new ones. Returns how many it made.
///
/// # Errors
/// -EBUSY while streaming, or while somebody waits in DQBUF; -ENOMEM (injected), or what the driver says.
pub fn vb2_core_reqbufs(q: &Vb2Queue, memory: Memory, count: usize) -> Result<usize> {
    if q.is_streaming() || (q.waiting_in_dqbuf.load(Ordering::Acquire) && count > 0) {
        return Err(Errno::EBUSY);
    }
    let unused = q.num_buffers() == 0 && q.memory().is_none_or(|old| old == memory);
    if count == 0 || !unused {
        q.mmap_lock.lock();
        __vb2_queue_cancel(q);
        __vb2_queue_free(q, &q.buffers());
        q.mmap_lock.unlock();
        if count == 0 {
            return Ok(0);
        }
    }
    let count = count.max(q.min_reqbufs_allocation()).min(MAX_BUFFERS);
    begin_allocation(q, memory)?;
    let made = queue_alloc_with_driver(q, memory, count, Vec::new()).and_then(|made| {
        if made.len() >= q.min_reqbufs_allocation() {
            return Ok(made);
        }
        q.mmap_lock.lock();
        free_buffers(&made);
        q.mmap_lock.unlock();
        Err(Errno::ENOMEM)
    });
    if made.is_err() {
        q.mmap_lock.lock();
        q.table.write(|table| table.memory = None);
        vb2_core_free_buffers_storage(q);
        q.mmap_lock.unlock();
    }
    let made = made?;
    // The buffers are there for everybody from here on.
    let count = made.len();
    q.mmap_lock.lock();
    publish(q, made);
    q.mmap_lock.unlock();
    q.state.with(|state| state.waiting_for_buffers = true);
    Ok(count)
}

/// `vb2_core_create_bufs`: `count` further buffers, with planes of these sizes. Returns the first index and how many.
///
/// # Errors
/// -ENOSPC if the table is full, -EINVAL if the others have another kind of memory, -EBUSY, -ENOMEM (injected), or
/// what the driver says.
pub fn vb2_core_create_bufs(
    q: &Vb2Queue,
    memory: Memory,
    count: usize,
    sizes: &[usize],
) -> Result<(usize, usize)> {
    let before = q.num_buffers();
    if before == MAX_BUFFERS {
        return Err(Errno::ENOSPC);
    }
    if before == 0 {
        if q.waiting_in_dqbuf.load(Ordering::Acquire) && count > 0 {
            return Err(Errno::EBUSY);
        }
        begin_allocation(q, memory)?;
        q.state.with(|state| state.waiting_for_buffers = true);
    } else if q.memory() != Some(memory) {
        return Err(Errno::EINVAL);
    }
    let count = count.min(MAX_BUFFERS - before);
    let made = queue_alloc_with_driver(q, memory, count, sizes.to_vec())?;
    let first = made.first().map_or(0, |vb| vb.index);
    let count = made.len();
    q.mmap_lock.lock();
    publish(q, made);
    q.mmap_lock.unlock();
    Ok((first, count))
}

/// The first short hold of `mmap_lock`: from here on a driver sees the new kind of memory.
#[track_caller]
fn begin_allocation(q: &Vb2Queue, memory: Memory) -> Result {
    q.mmap_lock.lock();
    let storage = vb2_core_allocated_buffers_storage(q);
    if storage.is_ok() {
        q.table.write(|table| table.memory = Some(memory));
    }
    q.mmap_lock.unlock();
    storage
}

/// The table and its bitmap.
fn vb2_core_allocated_buffers_storage(q: &Vb2Queue) -> Result {
    if q.table.read(|table| table.allocated) {
        return Ok(());
    }
    reclaim::kmalloc()?;
    reclaim::kmalloc()?;
    q.table.write(|table| {
        table.allocated = true;
        table.bufs = vec![None; MAX_BUFFERS];
    });
    Ok(())
}

pub(super) fn vb2_core_free_buffers_storage(q: &Vb2Queue) {
    q.table.write(|table| {
        table.allocated = false;
        table.bufs = Vec::new();
    });
}

fn publish(q: &Vb2Queue, made: Vec<Arc<Vb2Buffer>>) {
    q.table.write(|table| {
        for vb in made {
            let index = vb.index;
            table.bufs[index] = Some(vb);
        }
    });
}

/// Asks the driver, allocates, and asks it again if there were fewer than it wanted.
#[track_caller]
fn queue_alloc_with_driver(
    q: &Vb2Queue,
    memory: Memory,
    count: usize,
    sizes: Vec<usize>,
) -> Result<Vec<Arc<Vb2Buffer>>> {
    let ops = q.ops()?;
    let (mut wanted, mut sizes) = (count, sizes);
    ops.queue_setup(&mut wanted, &mut sizes)?;
    q.core.warn_on(sizes.is_empty() || sizes.contains(&0), "queue_setup without a plane");
    let made = __vb2_queue_alloc(q, memory, wanted, &sizes);
    if made.is_empty() {
        return Err(Errno::ENOMEM);
    }
    if made.len() < wanted {
        let mut fewer = made.len();
        let agreed = ops.queue_setup(&mut fewer, &mut sizes);
        if agreed.is_err() || fewer > made.len() {
            q.mmap_lock.lock();
            free_buffers(&made);
            q.mmap_lock.unlock();
            return Err(Errno::ENOMEM);
        }
    }
    Ok(made)
}

/// Makes buffers, as many as there is memory for. Nobody else sees them yet.
fn __vb2_queue_alloc(q: &Vb2Queue, memory: Memory, count: usize, sizes: &[usize]) -> Vec<Arc<Vb2Buffer>> {
    let free: Vec<usize> = q.table.read(|table| {
        table.bufs.iter().enumerate().filter(|(_, vb)| vb.is_none()).map(|(index, _)| index).collect()
    });
    let made = free.into_iter().take(count).map_while(|index| alloc_buffer(q, memory, index, sizes).ok());
    made.collect()
}

fn alloc_buffer(q: &Vb2Queue, memory: Memory, index: usize, sizes: &[usize]) -> Result<Arc<Vb2Buffer>> {
    reclaim::kmalloc()?;
    let mut planes: Vec<Plane> =
        sizes.iter().map(|size| Plane { length: *size, min_length: *size, ..Plane::default() }).collect();
    if memory == Memory::Mmap {
        __vb2_buf_mem_alloc(q, &mut planes)?;
    }
    Ok(Arc::new(Vb2Buffer {
        index,
        memory,
        state: AtomicU8::new(BufferState::Dequeued as u8),
        prepared: AtomicBool::new(false),
        synced: AtomicBool::new(false),
        sequence: AtomicU32::new(0),
        planes: KRwCell::new("the planes of a buffer", planes),
        live: q.core.born("vb2_buffer"),
    }))
}

fn __vb2_buf_mem_alloc(q: &Vb2Queue, planes: &mut [Plane]) -> Result {
    for index in 0..planes.len() {
        match q.mem_ops.alloc(&q.core, page_align(planes[index].length)) {
            Ok(memory) => planes[index].mem_priv = Some(memory),
            Err(error) => {
                planes[..index]
                    .iter_mut()
                    .filter_map(|plane| plane.mem_priv.take())
                    .for_each(|mem| mem.put());
                return Err(error);
            }
        }
    }
    Ok(())
}

/// `__vb2_queue_free`: frees these buffers; memory that somebody else uses lives on.
pub(super) fn __vb2_queue_free(q: &Vb2Queue, buffers: &[Arc<Vb2Buffer>]) {
    q.mmap_lock.assert_held();
    free_buffers(buffers);
    q.table.write(|table| {
        for vb in buffers {
            table.bufs[vb.index] = None;
        }
        if table.bufs.iter().all(Option::is_none) {
            table.memory = None;
        }
    });
    if q.num_buffers() == 0 {
        q.state.with(|state| state.queued_list.clear());
    }
}

fn free_buffers(buffers: &[Arc<Vb2Buffer>]) {
    for vb in buffers {
        vb.planes.write(|planes| __vb2_free_mem(vb.memory, planes));
        vb.live.freed();
    }
}

pub(super) fn __vb2_free_mem(memory: Memory, planes: &mut [Plane]) {
    for plane in planes {
        match memory {
            Memory::Mmap => plane.mem_priv.take().into_iter().for_each(|mem| mem.put()),
            Memory::UserPtr => plane.mem_priv.take().into_iter().for_each(|mem| mem.put_userptr()),
            Memory::DmaBuf => __vb2_plane_dmabuf_put(plane),
        }
    }
}

/// `__vb2_plane_dmabuf_put`: a plane that shares the attachment of another one has only a reference.
pub(super) fn __vb2_plane_dmabuf_put(plane: &mut Plane) {
    if let Some(memory) = plane.mem_priv.take()
        && !plane.dbuf_duplicated
    {
        if plane.dbuf_mapped {
            memory.unmap_dmabuf();
        }
        memory.detach_dmabuf();
    }
    if let Some(dbuf) = plane.dbuf.take() {
        dma_buf_put(dbuf);
    }
    plane.fd = None;
    plane.dbuf_mapped = false;
    plane.dbuf_duplicated = false;
    plane.length = plane.min_length;
}
