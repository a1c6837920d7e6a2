// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The video device's file: which lock surrounds what.
//!
//! | call | under `q->lock` |
//! |---|---|
//! | the queue's ioctls, `poll`, `release` | yes |
//! | `mmap` | no |
//!
//! The first open file that makes buffers owns the queue until it gives them up or is closed; the others are told
//! -EBUSY.
//!
//! Kernel counterpart: `videobuf2-v4l2.c`, `drivers/media/v4l2-core/v4l2-ioctl.c`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::allocation::{vb2_core_create_bufs, vb2_core_reqbufs};
use super::core::{
    BufferInfo, Memory, UserPlane, Vb2Queue, vb2_core_expbuf, vb2_core_queue_release, vb2_mmap, vb2_querybuf,
};
use super::prepare::Current;
use super::streaming::{
    vb2_core_dqbuf, vb2_core_poll, vb2_core_prepare_buf, vb2_core_qbuf, vb2_core_streamoff, vb2_core_streamon,
};
use crate::dma_buf::DmaBuf;
use crate::kernel::KernelCore;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::{File, FileMode, FileOps};
use crate::kernel::locking::Mutex;
use crate::kernel::mm::VmArea;
use crate::kernel::poll::{PollEvents, PollTable};

pub use super::prepare::Current as CurrentTask;

/// A device with a queue.
pub trait VideoDevice: Send + Sync + 'static {
    /// Its queue.
    fn queue(&self) -> &Vb2Queue;
}

/// An open file of a video device.
pub struct VideoFile<D: VideoDevice> {
    /// The device.
    pub dev: Arc<D>,
    nonblock: AtomicBool,
    id: u64,
}

/// `v4l2_open`.
pub fn v4l2_open<D: VideoDevice>(core: &KernelCore, dev: &Arc<D>) -> Arc<File> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    File::new(
        core,
        FileMode::READ_WRITE,
        VideoFile { dev: dev.clone(), nonblock: AtomicBool::new(false), id },
    )
}

impl<D: VideoDevice> VideoFile<D> {
    /// `fcntl(F_SETFL)` with or without `O_NONBLOCK`.
    pub fn set_nonblock(&self, on: bool) {
        self.nonblock.store(on, Ordering::Relaxed);
    }

    fn q(&self) -> &Vb2Queue {
        self.dev.queue()
    }

    /// `vb2_queue_is_busy`: another file owns the queue.
    fn not_busy(&self) -> Result {
        let owner = self.q().state.with(|state| state.owner);
        if owner.is_none_or(|owner| owner == self.id) { Ok(()) } else { Err(Errno::EBUSY) }
    }

    fn set_owner(&self, owns: bool) {
        self.q().state.with(|state| state.owner = owns.then_some(self.id));
    }

    /// Runs an ioctl of this device that is not the queue's, under the same lock.
    ///
    /// # Errors
    /// -EINTR (injected), or what `f` says.
    pub fn ioctl<R>(&self, f: impl FnOnce(&D) -> Result<R>) -> Result<R> {
        __video_do_ioctl(self.q(), || f(&self.dev))
    }

    /// `VIDIOC_REQBUFS`.
    ///
    /// # Errors
    /// As [`vb2_core_reqbufs`]; -EBUSY if another file owns the queue, -EINTR (injected).
    pub fn reqbufs(&self, memory: Memory, count: usize) -> Result<usize> {
        __video_do_ioctl(self.q(), || {
            self.not_busy()?;
            let made = vb2_core_reqbufs(self.q(), memory, count)?;
            self.set_owner(made > 0);
            Ok(made)
        })
    }

    /// `VIDIOC_CREATE_BUFS`.
    ///
    /// # Errors
    /// As [`vb2_core_create_bufs`]; -EBUSY if another file owns the queue, -EINTR (injected).
    pub fn create_bufs(&self, memory: Memory, count: usize, sizes: &[usize]) -> Result<(usize, usize)> {
        __video_do_ioctl(self.q(), || {
            self.not_busy()?;
            let made = vb2_core_create_bufs(self.q(), memory, count, sizes)?;
            self.set_owner(true);
            Ok(made)
        })
    }

    /// `VIDIOC_QUERYBUF`.
    ///
    /// # Errors
    /// -EINVAL if there is no such buffer, -EINTR (injected).
    pub fn querybuf(&self, index: usize) -> Result<BufferInfo> {
        __video_do_ioctl(self.q(), || vb2_querybuf(self.q(), index))
    }

    /// `VIDIOC_PREPARE_BUF`.
    ///
    /// # Errors
    /// As [`vb2_core_prepare_buf`]; -EBUSY if another file owns the queue, -EINTR (injected).
    pub fn prepare_buf(
        &self,
        current: &Current<'_>,
        index: usize,
        memory: Memory,
        planes: &[UserPlane],
    ) -> Result {
        __video_do_ioctl(self.q(), || {
            self.not_busy()?;
            vb2_core_prepare_buf(self.q(), current, index, memory, planes)
        })
    }

    /// `VIDIOC_QBUF`.
    ///
    /// # Errors
    /// As [`vb2_core_qbuf`]; -EBUSY if another file owns the queue, -EINTR (injected).
    pub fn qbuf(&self, current: &Current<'_>, index: usize, memory: Memory, planes: &[UserPlane]) -> Result {
        __video_do_ioctl(self.q(), || {
            self.not_busy()?;
            vb2_core_qbuf(self.q(), current, index, memory, planes)
        })
    }

    /// `VIDIOC_DQBUF`.
    ///
    /// # Errors
    /// As [`vb2_core_dqbuf`]; -EBUSY if another file owns the queue, -EINTR (injected).
    pub fn dqbuf(&self) -> Result<BufferInfo> {
        __video_do_ioctl(self.q(), || {
            self.not_busy()?;
            vb2_core_dqbuf(self.q(), self.nonblock.load(Ordering::Relaxed))
        })
    }

    /// `VIDIOC_EXPBUF`, up to the descriptor.
    ///
    /// # Errors
    /// As [`vb2_core_expbuf`]; -EBUSY if another file owns the queue, -EINTR (injected).
    pub fn expbuf<R>(
        &self,
        index: usize,
        plane: usize,
        install: impl FnOnce(DmaBuf) -> Result<R>,
    ) -> Result<R> {
        __video_do_ioctl(self.q(), || {
            self.not_busy()?;
            install(vb2_core_expbuf(self.q(), index, plane)?)
        })
    }

    /// `VIDIOC_STREAMON`.
    ///
    /// # Errors
    /// As [`vb2_core_streamon`]; -EBUSY if another file owns the queue, -EINTR (injected).
    pub fn streamon(&self) -> Result {
        __video_do_ioctl(self.q(), || {
            self.not_busy()?;
            vb2_core_streamon(self.q())
        })
    }

    /// `VIDIOC_STREAMOFF`.
    ///
    /// # Errors
    /// -EBUSY if another file owns the queue, -EINTR (injected).
    pub fn streamoff(&self) -> Result {
        __video_do_ioctl(self.q(), || {
            self.not_busy()?;
            vb2_core_streamoff(self.q());
            Ok(())
        })
    }
}

fn __video_do_ioctl<R>(q: &Vb2Queue, f: impl FnOnce() -> Result<R>) -> Result<R> {
    q.lock().lock_interruptible()?;
    let result = f();
    q.lock().unlock();
    result
}

impl<D: VideoDevice> FileOps for VideoFile<D> {
    fn mmap(&self, _file: &Arc<File>, vma: &mut VmArea) -> Result {
        vb2_mmap(self.q(), vma)
    }

    fn poll(&self, _file: &Arc<File>, table: &mut PollTable) -> PollEvents {
        vb2_fop_poll(self.q(), table)
    }

    fn release(&self, _file: &Arc<File>) {
        _vb2_fop_release(self, Some(self.q().lock()));
    }
}

fn vb2_fop_poll(q: &Vb2Queue, table: &mut PollTable) -> PollEvents {
    if q.lock().lock_interruptible().is_err() {
        return PollEvents::ERR;
    }
    let events = vb2_core_poll(q, table);
    q.lock().unlock();
    events
}

fn _vb2_fop_release<D: VideoDevice>(file: &VideoFile<D>, lock: Option<&Mutex>) {
    if let Some(lock) = lock {
        lock.lock();
    }
    if file.not_busy().is_ok() {
        vb2_queue_release(file.q());
        file.set_owner(false);
    }
    if let Some(lock) = lock {
        lock.unlock();
    }
}

#[track_caller]
fn vb2_queue_release(q: &Vb2Queue) {
    vb2_core_queue_release(q);
}

impl<D: VideoDevice> core::fmt::Debug for VideoFile<D> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("VideoFile").field("id", &self.id).finish_non_exhaustive()
    }
}
