// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Getting the memory of a buffer that is about to be queued: pinning the program's memory, attaching to and mapping
//! somebody else's buffer. All under `q->lock`, and never under `q->mmap_lock`.
//!
//! Kernel counterpart: `__buf_prepare()` and below in `videobuf2-core.c`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::allocation::{__vb2_free_mem, __vb2_plane_dmabuf_put};
use super::core::{BufferState, Memory, Plane, PlaneMemory, UserPlane, Vb2Buffer, Vb2Queue};
use crate::dma_buf::DmaBuf;
use crate::dma_buf::core::{dma_buf_get, dma_buf_put};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::{Fd, FileTable};
use crate::kernel::mm::Mm;

/// `current`: the task that makes the system call.
#[derive(Clone, Copy)]
pub struct Current<'a> {
    /// Its open files.
    pub files: &'a FileTable,
    /// Its memory.
    pub mm: &'a Arc<Mm>,
}

/// Prepares a buffer unless it is prepared already.
pub(super) fn __buf_prepare(
    q: &Vb2Queue,
    vb: &Vb2Buffer,
    current: &Current<'_>,
    planes: &[UserPlane],
) -> Result {
    if q.error.load(Ordering::Acquire) {
        return Err(Errno::EIO);
    }
    if vb.prepared.load(Ordering::Relaxed) {
        return Ok(());
    }
    vb.set_state(BufferState::Preparing);
    let result = match vb.memory {
        Memory::Mmap => __prepare_mmap(q, vb),
        Memory::UserPtr => __prepare_userptr(q, vb, current, planes),
        Memory::DmaBuf => __prepare_dmabuf(q, vb, current, planes),
    };
    vb.set_state(BufferState::Dequeued);
    result?;
    __vb2_buf_mem_prepare(vb);
    vb.prepared.store(true, Ordering::Relaxed);
    Ok(())
}

fn __vb2_buf_mem_prepare(vb: &Vb2Buffer) {
    vb.synced.store(true, Ordering::Release);
    vb.planes.read(|planes| {
        for memory in planes.iter().filter_map(|plane| plane.mem_priv.as_ref()) {
            memory.prepare();
        }
    });
}

fn __prepare_mmap(q: &Vb2Queue, vb: &Vb2Buffer) -> Result {
    q.ops()?.buf_prepare(vb)
}

/// Everything of a buffer that the program must say.
fn said<T>(planes: &[UserPlane], vb: &Vb2Buffer, get: impl Fn(&UserPlane) -> Option<T>) -> Result<Vec<T>> {
    let all: Option<Vec<T>> = planes.iter().map(get).collect();
    all.filter(|all| all.len() == vb.num_planes()).ok_or(Errno::EINVAL)
}

fn __prepare_userptr(q: &Vb2Queue, vb: &Vb2Buffer, current: &Current<'_>, planes: &[UserPlane]) -> Result {
    let wanted = said(planes, vb, |plane| match plane.memory {
        PlaneMemory::UserPtr(address) => Some((address, plane.length)),
        _ => None,
    })?;
    let prepared = acquire_userptr(q, vb, current, &wanted).and_then(|()| q.ops()?.buf_prepare(vb));
    if prepared.is_err() {
        vb.planes.write(|planes| {
            __vb2_free_mem(Memory::UserPtr, planes);
            planes.iter_mut().for_each(|plane| plane.userptr = 0);
        });
    }
    prepared
}

fn acquire_userptr(q: &Vb2Queue, vb: &Vb2Buffer, current: &Current<'_>, wanted: &[(u64, usize)]) -> Result {
    for (number, (address, length)) in wanted.iter().copied().enumerate() {
        let same = vb.planes.read(|planes| {
            let plane = &planes[number];
            plane.mem_priv.is_some() && (plane.userptr, plane.length) == (address, length)
        });
        if same {
            continue;
        }
        if length < vb.planes.read(|planes| planes[number].min_length) {
            return Err(Errno::EINVAL);
        }
        if let Some(old) = vb.planes.write(|planes| planes[number].mem_priv.take()) {
            old.put_userptr();
        }
        let memory = q.mem_ops.get_userptr(&q.core, current.mm, address, length)?;
        vb.planes.write(|planes| {
            let plane = &mut planes[number];
            (plane.mem_priv, plane.userptr, plane.length) = (Some(memory), address, length);
        });
    }
    Ok(())
}

/// A buffer that the program names, with a reference to it.
struct Named {
    fd: Fd,
    dbuf: DmaBuf,
    length: usize,
}

fn get_dmabufs(vb: &Vb2Buffer, current: &Current<'_>, planes: &[UserPlane]) -> Result<Vec<Named>> {
    let fds = said(planes, vb, |plane| match plane.memory {
        PlaneMemory::Fd(fd) => Some((fd, plane.length)),
        _ => None,
    })?;
    let mut got: Vec<Named> = Vec::new();
    for (number, (fd, length)) in fds.into_iter().enumerate() {
        // Whatever is wrong with it, the program is told the same.
        let checked = dma_buf_get(current.files, fd).map_err(|_| Errno::EINVAL).and_then(|dbuf| {
            let length = if length == 0 { dbuf.size } else { length };
            let enough = length >= vb.planes.read(|planes| planes[number].min_length);
            got.push(Named { fd, dbuf, length });
            if enough { Ok(()) } else { Err(Errno::EINVAL) }
        });
        if let Err(error) = checked {
            got.into_iter().for_each(|named| dma_buf_put(named.dbuf));
            return Err(error);
        }
    }
    Ok(got)
}

/// Attaches to and maps new buffers; the same ones as last time are still mapped.
fn __prepare_dmabuf(q: &Vb2Queue, vb: &Vb2Buffer, current: &Current<'_>, planes: &[UserPlane]) -> Result {
    let wanted = get_dmabufs(vb, current, planes)?;
    let is_same = |(plane, named): (&Plane, &Named)| {
        plane.dbuf.as_ref().is_some_and(|old| old.is(&named.dbuf)) && plane.length == named.length
    };
    let same = vb.planes.read(|planes| planes.iter().zip(&wanted).all(is_same));
    let acquired = if same {
        wanted.into_iter().for_each(|named| dma_buf_put(named.dbuf));
        Ok(())
    } else {
        vb.planes.write(|planes| {
            planes.iter_mut().for_each(__vb2_plane_dmabuf_put);
            acquire_dmabufs(q, planes, wanted)
        })
    };
    let prepared = acquired.and_then(|()| q.ops()?.buf_prepare(vb));
    if prepared.is_err() {
        vb.planes.write(|planes| planes.iter_mut().for_each(__vb2_plane_dmabuf_put));
    }
    prepared
}

/// Takes over the references. Planes in one buffer share its attachment.
fn acquire_dmabufs(q: &Vb2Queue, planes: &mut [Plane], wanted: Vec<Named>) -> Result {
    let mut result = Ok(());
    for (number, Named { fd, dbuf, length }) in wanted.into_iter().enumerate() {
        if result.is_err() {
            dma_buf_put(dbuf);
            continue;
        }
        let (before, rest) = planes.split_at_mut(number);
        let plane = &mut rest[0];
        (plane.fd, plane.length) = (Some(fd), length);
        let shared = before.iter().find(|other| other.dbuf.as_ref().is_some_and(|other| other.is(&dbuf)));
        if let Some(other) = shared {
            plane.mem_priv = other.mem_priv.clone();
            plane.dbuf_duplicated = true;
            plane.dbuf = Some(dbuf);
            continue;
        }
        result = q.mem_ops.attach_dmabuf(&q.core, &dbuf, length).and_then(|memory| {
            plane.mem_priv = Some(memory.clone());
            memory.map_dmabuf()?;
            plane.dbuf_mapped = true;
            Ok(())
        });
        plane.dbuf = Some(dbuf);
    }
    result
}

crate::kernel::opaque_debug!(Current<'_>);
