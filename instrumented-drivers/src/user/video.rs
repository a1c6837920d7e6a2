// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The cameras, and the system calls that belong to them: the V4L2 ioctls, and the program's own memory (memfd).

use std::sync::Arc;

use super::{Driver, Process};
use crate::dma_buf::core::dma_buf_fd;
use crate::kernel::KernelCore;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::{Fd, File};
use crate::kernel::memfd::{Seals, memfd_add_seals, memfd_create, memfd_punch_hole};
use crate::kernel::task::syscall;
use crate::media::videobuf2::core::BufferInfo;
use crate::media::videobuf2::dma_contig::Vb2DmaContigMemops;
use crate::media::videobuf2::dma_sg::Vb2DmaSgMemops;
use crate::media::videobuf2::v4l2::{CurrentTask, VideoFile, v4l2_open};
use crate::media::videobuf2::vmalloc::Vb2VmallocMemops;
use crate::media::videobuf2::{Memory, PlaneMemory, UserPlane, Vb2MemOps};
use crate::media::vivid::{Format, VividDev, vivid_s_fmt, vivid_tick};

/// The cameras of a kernel, one for each allocator.
#[derive(Clone, Debug)]
pub struct VideoDevices(Arc<[(Driver, Arc<VividDev>)]>);

impl VideoDevices {
    pub(super) fn register(core: &Arc<KernelCore>) -> Self {
        let drivers: [(Driver, &'static dyn Vb2MemOps); 3] = [
            (Driver::VividVmalloc, &Vb2VmallocMemops),
            (Driver::VividDmaContig, &Vb2DmaContigMemops),
            (Driver::VividDmaSg, &Vb2DmaSgMemops),
        ];
        let create = |(driver, mem_ops)| (driver, VividDev::create_instance(core, mem_ops));
        VideoDevices(drivers.map(create).into())
    }

    /// The camera of this driver.
    #[must_use]
    pub fn get(&self, driver: Driver) -> Option<&Arc<VividDev>> {
        self.0.iter().find(|(other, _)| *other == driver).map(|(_, dev)| dev)
    }

    pub(super) fn open(&self, core: &KernelCore, driver: Driver) -> Option<Arc<File>> {
        Some(v4l2_open(core, self.get(driver)?))
    }

    pub(super) fn abandon(&self) {
        self.0.iter().for_each(|(_, dev)| dev.abandon());
    }
}

/// The buffer that is given to QBUF and PREPARE_BUF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueBuffer {
    /// Its number.
    pub index: usize,
    /// Whose memory it is.
    pub memory: Memory,
    /// Its planes; empty for MMAP.
    pub planes: Vec<UserPlane>,
}

impl QueueBuffer {
    /// A buffer that the queue has allocated.
    #[must_use]
    pub const fn mmap(index: usize) -> Self {
        QueueBuffer { index, memory: Memory::Mmap, planes: Vec::new() }
    }

    /// A buffer whose planes are these dma-bufs, whole.
    #[must_use]
    pub fn dmabuf(index: usize, fds: &[Fd]) -> Self {
        let plane = |fd: &Fd| UserPlane { memory: PlaneMemory::Fd(*fd), length: 0, bytesused: 0 };
        QueueBuffer { index, memory: Memory::DmaBuf, planes: fds.iter().map(plane).collect() }
    }

    /// A buffer whose planes are the program's memory: address and length of each.
    #[must_use]
    pub fn userptr(index: usize, memory: &[(u64, usize)]) -> Self {
        let plane = |(address, length): &(u64, usize)| UserPlane {
            memory: PlaneMemory::UserPtr(*address),
            length: *length,
            bytesused: 0,
        };
        QueueBuffer { index, memory: Memory::UserPtr, planes: memory.iter().map(plane).collect() }
    }
}

/// Video. Each call fails with -EBADF for a closed descriptor, with -ENOTTY for another kind of file, with -EINTR if a
/// signal is injected while it waits for the device, with -EBUSY while another file owns the queue.
impl Process {
    fn with_video<R>(&self, fd: Fd, f: impl FnOnce(&VideoFile<VividDev>) -> Result<R>) -> Result<R> {
        self.with_file(fd, |file| f(file.private().ok_or(Errno::ENOTTY)?))
    }

    fn current(&self) -> CurrentTask<'_> {
        CurrentTask { files: &self.0.files, mm: &self.0.mm }
    }

    /// `fcntl(F_SETFL)`: DQBUF does not wait.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY.
    pub fn set_nonblock(&self, fd: Fd, on: bool) -> Result {
        self.with_video(fd, |file| {
            file.set_nonblock(on);
            Ok(())
        })
    }

    /// `VIDIOC_S_FMT`.
    ///
    /// # Errors
    /// -EBUSY while there are buffers, -EINVAL for an empty picture.
    pub fn s_fmt(&self, fd: Fd, format: Format) -> Result {
        self.with_video(fd, |file| vivid_s_fmt(file, format))
    }

    /// `VIDIOC_REQBUFS`: how many buffers there are now.
    ///
    /// # Errors
    /// -EBUSY while streaming or while somebody waits in DQBUF, -ENOMEM (injected).
    pub fn reqbufs(&self, fd: Fd, count: usize, memory: Memory) -> Result<usize> {
        self.with_video(fd, |file| file.reqbufs(memory, count))
    }

    /// `VIDIOC_CREATE_BUFS`: the first of the new buffers, and how many.
    ///
    /// # Errors
    /// -EINVAL for another kind of memory than that of the others or planes that are too small, -ENOSPC, -EBUSY,
    /// -ENOMEM (injected).
    pub fn create_bufs(
        &self,
        fd: Fd,
        count: usize,
        memory: Memory,
        sizes: &[usize],
    ) -> Result<(usize, usize)> {
        self.with_video(fd, |file| file.create_bufs(memory, count, sizes))
    }

    /// `VIDIOC_QUERYBUF`.
    ///
    /// # Errors
    /// -EINVAL if there is no such buffer.
    pub fn querybuf(&self, fd: Fd, index: usize) -> Result<BufferInfo> {
        self.with_video(fd, |file| file.querybuf(index))
    }

    /// `VIDIOC_PREPARE_BUF`.
    ///
    /// # Errors
    /// -EINVAL, -EFAULT, -ENOMEM (injected), or what an exporter says.
    pub fn prepare_buf(&self, fd: Fd, buffer: &QueueBuffer) -> Result {
        self.with_video(fd, |file| {
            file.prepare_buf(&self.current(), buffer.index, buffer.memory, &buffer.planes)
        })
    }

    /// `VIDIOC_QBUF`.
    ///
    /// # Errors
    /// -EINVAL, -EFAULT, -EIO, -ENOMEM (injected), or what an exporter says.
    pub fn qbuf(&self, fd: Fd, buffer: &QueueBuffer) -> Result {
        self.with_video(fd, |file| file.qbuf(&self.current(), buffer.index, buffer.memory, &buffer.planes))
    }

    /// `VIDIOC_DQBUF`.
    ///
    /// # Errors
    /// -EAGAIN if there is none and the file does not wait, -EINVAL unless streaming, -EIO.
    pub fn dqbuf(&self, fd: Fd) -> Result<BufferInfo> {
        self.with_video(fd, VideoFile::dqbuf)
    }

    /// `VIDIOC_EXPBUF`: a plane of a buffer as a dma-buf.
    ///
    /// # Errors
    /// -EINVAL unless the memory is MMAP and the plane exists, -EMFILE, -ENOMEM (injected).
    pub fn expbuf(&self, fd: Fd, index: usize, plane: usize) -> Result<Fd> {
        self.with_video(fd, |file| file.expbuf(index, plane, |dbuf| dma_buf_fd(&self.0.files, dbuf)))
    }

    /// `VIDIOC_STREAMON`.
    ///
    /// # Errors
    /// -EINVAL without buffers, -ENOMEM if there is no thread to be had.
    pub fn streamon(&self, fd: Fd) -> Result {
        self.with_video(fd, VideoFile::streamon)
    }

    /// `VIDIOC_STREAMOFF`.
    ///
    /// # Errors
    /// None of its own.
    pub fn streamoff(&self, fd: Fd) -> Result {
        self.with_video(fd, VideoFile::streamoff)
    }

    /// Lets the camera's clock reach the next frame.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY.
    pub fn camera_tick(&self, fd: Fd) -> Result {
        self.with_video(fd, |file| {
            vivid_tick(&file.dev);
            Ok(())
        })
    }

    /// Waits until the camera has filled so many buffers since the stream began.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY.
    pub fn camera_wait(&self, fd: Fd, captured: usize) -> Result {
        self.with_video(fd, |file| {
            file.dev.wait_captured(captured);
            Ok(())
        })
    }

    /// Waits until no frame is due any more: those that were have been taken or dropped.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY.
    pub fn camera_wait_idle(&self, fd: Fd) -> Result {
        self.with_video(fd, |file| {
            file.dev.wait_idle();
            Ok(())
        })
    }

    /// Waits until somebody sleeps until this camera fills a buffer, and it has none to fill.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY.
    pub fn camera_wait_sleeper(&self, fd: Fd) -> Result {
        self.with_video(fd, |file| {
            file.dev.wait_sleeper();
            Ok(())
        })
    }

    /// `memfd_create` and `ftruncate`: memory of the program's own.
    ///
    /// # Errors
    /// -EINVAL for size 0, -EMFILE, -ENOMEM (injected).
    pub fn memfd_create(&self, size: usize) -> Result<Fd> {
        syscall(|| self.0.files.install(memfd_create(&self.0.core, size)?))
    }

    /// `fcntl(F_ADD_SEALS)`.
    ///
    /// # Errors
    /// -EBADF, -EINVAL on another kind of file, -EPERM if sealed against it.
    pub fn add_seals(&self, fd: Fd, seals: Seals) -> Result {
        self.with_file(fd, |file| memfd_add_seals(file, seals))
    }

    /// `fallocate(FALLOC_FL_PUNCH_HOLE)` over a whole memfd.
    ///
    /// # Errors
    /// -EBADF, -EINVAL on another kind of file, -EPERM if sealed against it.
    pub fn punch_hole(&self, fd: Fd) -> Result {
        self.with_file(fd, |file| memfd_punch_hole(file))
    }
}
