// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! A process and its system calls.
//!
//! A [`Process`] is shared by its threads: clone it into each. Every call runs what it has put off (the release of
//! files) before it returns.

use std::sync::Arc;
use std::thread::Builder;

use lockdep::thread::JoinHandle;

use super::devices::Devices;
use super::{Driver, Kernel};
use crate::dma_buf::DmaBuf;
use crate::dma_buf::ioctl::{DMA_BUF_SYNC_END, DMA_BUF_SYNC_START, DmaBufIoctl, dma_buf_ioctl};
use crate::dma_buf::sync_file::sync_file_get_fence;
use crate::drm::file::{DrmFile, Handle};
use crate::drm::gem_shmem_helper::drm_gem_shmem_dumb_create;
use crate::drm::prime::{drm_gem_prime_fd_to_handle, drm_gem_prime_handle_to_fd};
use crate::drm::vgem::{VgemFence, vgem_fence_attach_ioctl, vgem_fence_signal_ioctl};
use crate::drm::{gem, gem_handle};
use crate::kernel::KernelCore;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::{Fd, File, FileTable, fput, get_file};
use crate::kernel::locking::watched;
use crate::kernel::mm::{
    MapFlags, Mm, Signal, copy_process, mmput, read_user, vm_mmap_pgoff, vm_munmap, write_user,
};
use crate::kernel::poll::{PollEvents, PollTimeout, do_poll};
use crate::kernel::shmem::PAGE_SIZE;
use crate::kernel::task::syscall;
use crate::misc::forwarding_importer::importer_set_buffer;

pub(super) struct Inner {
    name: String,
    pub(super) core: Arc<KernelCore>,
    devices: Arc<Devices>,
    pub(super) mm: Arc<Mm>,
    pub(super) files: FileTable,
}

/// A process; clones are its threads.
#[derive(Clone)]
pub struct Process(pub(super) Arc<Inner>);

impl Process {
    pub(super) fn new(kernel: &Kernel, name: &str) -> Self {
        Process(Arc::new(Inner {
            name: name.to_owned(),
            core: kernel.core.clone(),
            devices: kernel.devices.clone(),
            mm: Mm::new(&kernel.core),
            files: FileTable::default(),
        }))
    }

    /// Opens a driver's device.
    ///
    /// # Errors
    /// -ENODEV if it was unloaded, -ENOMEM (injected).
    pub fn open(&self, driver: Driver) -> Result<Fd> {
        syscall(|| self.0.files.install(self.0.devices.open(&self.0.core, driver)?))
    }

    /// `close`.
    ///
    /// # Errors
    /// -EBADF.
    pub fn close(&self, fd: Fd) -> Result {
        syscall(|| self.0.files.close(fd))
    }

    /// `dup`.
    ///
    /// # Errors
    /// -EBADF, -EMFILE.
    pub fn dup(&self, fd: Fd) -> Result<Fd> {
        self.with_file(fd, |file| self.0.files.install(get_file(file)))
    }

    /// Hands an open file to another process (`SCM_RIGHTS`).
    ///
    /// # Errors
    /// -EBADF, -EMFILE.
    pub fn send_fd(&self, fd: Fd, to: &Process) -> Result<Fd> {
        self.with_file(fd, |file| to.0.files.install(get_file(file)))
    }

    /// `lseek(fd, 0, SEEK_END)`.
    ///
    /// # Errors
    /// -EBADF, -ESPIPE.
    pub fn lseek_end(&self, fd: Fd) -> Result<u64> {
        self.with_file(fd, |file| file.ops().llseek_end())
    }

    /// `DRM_IOCTL_MODE_CREATE_DUMB`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENOSYS if the driver has none, -EINVAL for size 0, -ENOMEM.
    pub fn mode_create_dumb(&self, fd: Fd, width: u32, height: u32, bpp: u32) -> Result<Handle> {
        self.with_drm(fd, |file| drm_gem_shmem_dumb_create(file, width, height, bpp))
    }

    /// `DRM_IOCTL_MODE_MAP_DUMB`: the offset for [`mmap`](Self::mmap).
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENOENT, -EINVAL for an imported object.
    pub fn mode_map_dumb(&self, fd: Fd, handle: Handle) -> Result<u64> {
        self.with_drm(fd, |file| gem::drm_gem_dumb_map_offset(file, handle))
    }

    /// A driver's own ioctl for the offset, which allows imported objects.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENOENT.
    pub fn driver_map_offset(&self, fd: Fd, handle: Handle) -> Result<u64> {
        self.with_drm(fd, |file| gem::driver_map_offset(file, handle))
    }

    /// `DRM_IOCTL_GEM_CLOSE`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -EINVAL if there is no such handle.
    pub fn gem_close(&self, fd: Fd, handle: Handle) -> Result {
        self.with_drm(fd, |file| gem_handle::drm_gem_handle_delete(file, handle))
    }

    /// `DRM_IOCTL_GEM_FLINK`: a global name.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENOENT.
    pub fn gem_flink(&self, fd: Fd, handle: Handle) -> Result<u32> {
        self.with_drm(fd, |file| gem_handle::drm_gem_flink_ioctl(file, handle))
    }

    /// `DRM_IOCTL_GEM_OPEN`: a handle for a global name.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENOENT.
    pub fn gem_open(&self, fd: Fd, name: u32) -> Result<Handle> {
        self.with_drm(fd, |file| gem_handle::drm_gem_open_ioctl(file, name))
    }

    /// `DRM_IOCTL_PRIME_HANDLE_TO_FD`; `flags` is made of
    /// [`DRM_CLOEXEC`](crate::drm::prime::DRM_CLOEXEC) and [`DRM_RDWR`](crate::drm::prime::DRM_RDWR).
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -EINVAL, -ENOENT, -ENOMEM (injected).
    pub fn prime_handle_to_fd(&self, fd: Fd, handle: Handle, flags: u32) -> Result<Fd> {
        self.with_drm(fd, |file| drm_gem_prime_handle_to_fd(file, &self.0.files, handle, flags))
    }

    /// `DRM_IOCTL_PRIME_FD_TO_HANDLE`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -EINVAL, or what the exporter says.
    pub fn prime_fd_to_handle(&self, fd: Fd, buffer: Fd) -> Result<Handle> {
        self.with_drm(fd, |file| drm_gem_prime_fd_to_handle(file, &self.0.files, buffer))
    }

    /// `mmap`: the address.
    ///
    /// # Errors
    /// -EBADF, -EINVAL, -EACCES, -ENODEV, -EOVERFLOW, -EINTR (injected), or what the driver says.
    pub fn mmap(&self, fd: Fd, len: u64, offset: u64, flags: MapFlags) -> Result<u64> {
        self.with_file(fd, |file| {
            if !offset.is_multiple_of(PAGE_SIZE as u64) {
                return Err(Errno::EINVAL);
            }
            vm_mmap_pgoff(&self.0.mm, file, len, offset / PAGE_SIZE as u64, flags)
        })
    }

    /// `munmap`.
    ///
    /// # Errors
    /// -EINVAL, -EINTR (injected).
    pub fn munmap(&self, address: u64, len: u64) -> Result {
        syscall(|| vm_munmap(&self.0.mm, address, len))
    }

    /// Reads a byte of its memory; faults the page in.
    ///
    /// # Errors
    /// The signal the process gets.
    pub fn read_byte(&self, address: u64) -> core::result::Result<u8, Signal> {
        syscall(|| read_user(&self.0.mm, address))
    }

    /// Writes a byte of its memory; faults the page in.
    ///
    /// # Errors
    /// The signal the process gets.
    pub fn write_byte(&self, address: u64, value: u8) -> core::result::Result<(), Signal> {
        syscall(|| write_user(&self.0.mm, address, value))
    }

    /// How many pages are mapped right now.
    #[must_use]
    pub fn mapped_pages(&self) -> usize {
        self.0.mm.mapped_pages()
    }

    /// `DMA_BUF_IOCTL_SYNC`, begin; `rw` is made of [`DMA_BUF_SYNC_READ`](crate::dma_buf::ioctl::DMA_BUF_SYNC_READ) and
    /// [`DMA_BUF_SYNC_WRITE`](crate::dma_buf::ioctl::DMA_BUF_SYNC_WRITE). Waits for the buffer's users.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -EINVAL, -EINTR (injected).
    pub fn sync_start(&self, buffer: Fd, rw: u64) -> Result {
        self.sync(buffer, rw | DMA_BUF_SYNC_START)
    }

    /// `DMA_BUF_IOCTL_SYNC`, end.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -EINVAL.
    pub fn sync_end(&self, buffer: Fd, rw: u64) -> Result {
        self.sync(buffer, rw | DMA_BUF_SYNC_END)
    }

    /// `DMA_BUF_IOCTL_SYNC` with whatever flags.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -EINVAL, -EINTR (injected).
    pub fn sync(&self, buffer: Fd, flags: u64) -> Result {
        self.with_buffer(buffer, |buf| dma_buf_ioctl(buf, DmaBufIoctl::Sync(flags)).map(drop))
    }

    /// `DMA_BUF_SET_NAME`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENOMEM (injected).
    pub fn set_name(&self, buffer: Fd, name: &str) -> Result {
        let command = DmaBufIoctl::SetName(name.to_owned());
        self.with_buffer(buffer, |buf| dma_buf_ioctl(buf, command).map(drop))
    }

    /// `DMA_BUF_IOCTL_EXPORT_SYNC_FILE`: a file that is ready once the buffer is.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -EINVAL, -ENOMEM (injected).
    pub fn export_sync_file(&self, buffer: Fd, rw: u64) -> Result<Fd> {
        self.with_buffer(buffer, |buf| {
            let file = dma_buf_ioctl(buf, DmaBufIoctl::ExportSyncFile(rw))?;
            self.0.files.install(file.ok_or(Errno::EINVAL)?)
        })
    }

    /// `DMA_BUF_IOCTL_IMPORT_SYNC_FILE`: the buffer is in use until that file is ready.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -EINVAL if the other is no sync file, -ENOMEM (injected).
    pub fn import_sync_file(&self, buffer: Fd, rw: u64, sync_file: Fd) -> Result {
        self.with_buffer(buffer, |buf| {
            let file = self.0.files.fget(sync_file)?;
            let fence = sync_file_get_fence(&file);
            fput(file);
            dma_buf_ioctl(buf, DmaBufIoctl::ImportSyncFile(rw, fence?)).map(drop)
        })
    }

    /// `poll` without waiting.
    ///
    /// # Errors
    /// -EBADF.
    pub fn poll(&self, fd: Fd, events: PollEvents) -> Result<PollEvents> {
        self.poll_with(fd, events, PollTimeout::Now)
    }

    /// `poll` with a timeout of its own kind: without waiting, without end, or with a signal that comes before any
    /// event.
    ///
    /// # Errors
    /// -EBADF, -EINTR.
    pub fn poll_with(&self, fd: Fd, events: PollEvents, timeout: PollTimeout) -> Result<PollEvents> {
        self.with_file(fd, |file| {
            do_poll(events, timeout, |table| file.ops().poll(file, table)).ok_or(Errno::EINTR)
        })
    }

    /// `DRM_IOCTL_VGEM_FENCE_ATTACH`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV, -ENOENT, -EBUSY, -ENOMEM (injected).
    pub fn vgem_fence_attach(&self, fd: Fd, handle: Handle, write: bool) -> Result<VgemFence> {
        self.with_drm(fd, |file| vgem_fence_attach_ioctl(file, handle, write))
    }

    /// `DRM_IOCTL_VGEM_FENCE_SIGNAL`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV, -ENOENT, -ETIMEDOUT.
    pub fn vgem_fence_signal(&self, fd: Fd, fence: VgemFence) -> Result {
        self.with_drm(fd, |file| vgem_fence_signal_ioctl(file, fence))
    }

    /// Tells the forwarding importer which buffer its file maps.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -EINVAL.
    pub fn importer_set_buffer(&self, fd: Fd, buffer: Fd) -> Result {
        self.with_file(fd, |file| importer_set_buffer(file, &self.0.files, buffer))
    }

    /// `fork`: the child has copies of everything mapped and of all open files, and runs `f` on a thread of its own;
    /// then it exits.
    ///
    /// # Errors
    /// -EINTR (injected), -EAGAIN if there is no thread to be had.
    pub fn fork<R, F>(&self, f: F) -> Result<Child<R>>
    where
        R: Send + 'static,
        F: FnOnce(&Process) -> R + Send + 'static,
    {
        let mm = syscall(|| copy_process(&self.0.mm, &self.0.core))?;
        let child = Process(Arc::new(Inner {
            name: self.0.name.clone(),
            core: self.0.core.clone(),
            devices: self.0.devices.clone(),
            mm,
            files: self.0.files.dup(),
        }));
        let builder = Builder::new().name(self.0.name.clone());
        let task = child.clone();
        let run = move || {
            let result = f(&task);
            task.exit();
            result
        };
        lockdep::thread::spawn_with(builder, || watched(run)).map(|child| Child(Some(child))).map_err(|_| {
            child.exit();
            Errno::EAGAIN
        })
    }

    /// A further thread of this process.
    ///
    /// # Errors
    /// -EAGAIN if there is none to be had.
    pub fn spawn<R, F>(&self, f: F) -> Result<Child<R>>
    where
        R: Send + 'static,
        F: FnOnce(&Process) -> R + Send + 'static,
    {
        let process = self.clone();
        let builder = Builder::new().name(self.0.name.clone());
        let thread = lockdep::thread::spawn_with(builder, move || watched(|| f(&process)));
        thread.map(|thread| Child(Some(thread))).map_err(|_| Errno::EAGAIN)
    }

    /// `exit`: unmaps everything, closes all files. No further call may follow.
    pub fn exit(&self) {
        syscall(|| {
            mmput(&self.0.mm);
            self.0.files.close_all();
        });
    }

    /// The open file, for what a test wants to look at. Takes no reference.
    ///
    /// # Errors
    /// -EBADF.
    pub fn peek(&self, fd: Fd) -> Result<Arc<File>> {
        let file = self.0.files.fget(fd)?;
        let same = file.clone();
        syscall(|| fput(file));
        Ok(same)
    }

    pub(super) fn with_file<R>(&self, fd: Fd, f: impl FnOnce(&Arc<File>) -> Result<R>) -> Result<R> {
        syscall(|| {
            let file = self.0.files.fget(fd)?;
            let result = f(&file);
            fput(file);
            result
        })
    }

    pub(super) fn mm(&self) -> &Arc<Mm> {
        &self.0.mm
    }

    pub(super) fn with_drm<R>(&self, fd: Fd, f: impl FnOnce(&DrmFile) -> Result<R>) -> Result<R> {
        self.with_file(fd, |file| f(file.private().ok_or(Errno::ENOTTY)?))
    }

    fn with_buffer<R>(&self, fd: Fd, f: impl FnOnce(&DmaBuf) -> Result<R>) -> Result<R> {
        self.with_file(fd, |file| f(&DmaBuf::of(file).ok_or(Errno::ENOTTY)?))
    }
}

/// A child process or a thread, at work. If nobody waits for it, dropping this does: a program that gives up does not
/// end under its threads.
#[derive(Debug)]
pub struct Child<R>(Option<JoinHandle<R>>);

impl<R> Child<R> {
    /// `waitpid`: waits for its end.
    ///
    /// # Panics
    /// With the child's own panic, if it panicked.
    pub fn wait(mut self) -> R {
        match self.0.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => unreachable!("nobody waits twice"),
        }
    }
}

impl<R> Drop for Child<R> {
    fn drop(&mut self) {
        // A world in which a finding stopped somebody stays as it is; others may wait for ever there.
        if let Some(thread) = self.0.take().filter(|_| !std::thread::panicking()) {
            drop(thread.join());
        }
    }
}

crate::kernel::opaque_debug!(Process);
