// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The ioctls of a GPU.

use core::cell::Cell;
use std::sync::Arc;

use super::{Driver, Kernel, Process};
use crate::drm::file::Handle;
use crate::drm::gem_shmem_helper::drm_gem_shmem_dumb_create;
use crate::drm::lima::{LimaDevice, lima_gem_create_handle};
use crate::drm::panfrost::device::PanfrostDevice;
use crate::drm::panfrost::drv::{
    PanfrostMadv, PanfrostParam, panfrost_ioctl_create_bo, panfrost_ioctl_get_bo_offset,
    panfrost_ioctl_get_param, panfrost_ioctl_madvise, panfrost_ioctl_mmap_bo,
};
use crate::drm::panfrost::gem::PANFROST_BO_NOEXEC;
use crate::drm::panfrost::hw::program::JobChain;
use crate::drm::panfrost::perfcnt::{panfrost_ioctl_perfcnt_dump, panfrost_ioctl_perfcnt_enable};
use crate::drm::panfrost::submit::{
    PanfrostSubmit, WaitTimeout, panfrost_ioctl_submit, panfrost_ioctl_wait_bo,
};
use crate::drm::syncobj::{
    SyncobjHandle, drm_syncobj_create_ioctl, drm_syncobj_destroy_ioctl, drm_syncobj_wait_ioctl,
};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::Fd;
use crate::kernel::mm::MapFlags;
use crate::kernel::shmem::PAGE_SIZE;

impl Kernel {
    /// The GPU's driver.
    #[must_use]
    pub fn panfrost(&self) -> Arc<PanfrostDevice> {
        PanfrostDevice::of(self.drm_device(Driver::Panfrost).unwrap_or_else(|| unreachable!("it was probed")))
    }

    /// Waits until no thread of the kernel and no simulated device has anything left to do, other than to wait for
    /// something that the caller has to bring about.
    ///
    /// # Panics
    /// With the panic of such a thread, if one panicked.
    pub fn settle(&self) {
        self.core.background.settle();
    }
}

impl Process {
    /// A buffer of this size, by the ioctl that the driver has for it: a dumb buffer, or
    /// `PANFROST_CREATE_BO`, or `LIMA_GEM_CREATE`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -EINVAL for size 0, -ENOMEM.
    pub fn driver_create_buffer(&self, fd: Fd, size: u32) -> Result<Handle> {
        self.with_drm(fd, |file| {
            if file.dev.driver.has_dumb_buffers() {
                drm_gem_shmem_dumb_create(file, size, 1, 8)
            } else if file.dev.private::<LimaDevice>().is_some() {
                lima_gem_create_handle(file, size as usize, 0)
            } else {
                panfrost_ioctl_create_bo(file, size as usize, PANFROST_BO_NOEXEC).map(|(handle, _)| handle)
            }
        })
    }

    /// `DRM_IOCTL_PANFROST_GET_PARAM`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -EINVAL.
    pub fn panfrost_get_param(&self, fd: Fd, param: PanfrostParam) -> Result<u64> {
        self.with_drm(fd, |file| panfrost_ioctl_get_param(file, param))
    }

    /// `DRM_IOCTL_PANFROST_CREATE_BO`: a handle, and the address for the GPU. `flags` is made of
    /// [`PANFROST_BO_NOEXEC`](crate::drm::panfrost::gem::PANFROST_BO_NOEXEC) and
    /// [`PANFROST_BO_HEAP`](crate::drm::panfrost::gem::PANFROST_BO_HEAP).
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV, -EINVAL, -ENOSPC, -ENOMEM.
    pub fn panfrost_create_bo(&self, fd: Fd, size: usize, flags: u32) -> Result<(Handle, u64)> {
        self.with_drm(fd, |file| panfrost_ioctl_create_bo(file, size, flags))
    }

    /// `DRM_IOCTL_PANFROST_MMAP_BO`: the offset for [`mmap`](Self::mmap).
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV, -ENOENT, -EINVAL for a heap.
    pub fn panfrost_mmap_bo(&self, fd: Fd, handle: Handle) -> Result<u64> {
        self.with_drm(fd, |file| panfrost_ioctl_mmap_bo(file, handle))
    }

    /// `DRM_IOCTL_PANFROST_GET_BO_OFFSET`: the address for the GPU.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV, -ENOENT, -EINVAL.
    pub fn panfrost_get_bo_offset(&self, fd: Fd, handle: Handle) -> Result<u64> {
        self.with_drm(fd, |file| panfrost_ioctl_get_bo_offset(file, handle))
    }

    /// `DRM_IOCTL_PANFROST_MADVISE`: true unless the content was thrown away before.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENODEV, -ENOENT, -EINVAL if the object has other users, -EINTR (injected).
    pub fn panfrost_madvise(&self, fd: Fd, handle: Handle, madv: PanfrostMadv) -> Result<bool> {
        self.with_drm(fd, |file| panfrost_ioctl_madvise(file, handle, madv))
    }

    /// `DRM_IOCTL_PANFROST_SUBMIT`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, or as [`panfrost_ioctl_submit`].
    pub fn panfrost_submit(&self, fd: Fd, args: &PanfrostSubmit) -> Result {
        self.with_drm(fd, |file| panfrost_ioctl_submit(file, args))
    }

    /// `DRM_IOCTL_PANFROST_WAIT_BO`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENOENT, -EBUSY, -ETIMEDOUT, -EINTR (injected).
    pub fn panfrost_wait_bo(&self, fd: Fd, handle: Handle, timeout: WaitTimeout) -> Result {
        self.with_drm(fd, |file| panfrost_ioctl_wait_bo(file, handle, timeout))
    }

    /// `DRM_IOCTL_PANFROST_PERFCNT_ENABLE`: takes the performance counters, or gives them back.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, or as [`panfrost_ioctl_perfcnt_enable`].
    pub fn panfrost_perfcnt_enable(&self, fd: Fd, enable: bool) -> Result {
        self.with_drm(fd, |file| panfrost_ioctl_perfcnt_enable(file, enable))
    }

    /// `DRM_IOCTL_PANFROST_PERFCNT_DUMP`: a sample of
    /// [`PERFCNT_SIZE`](crate::drm::panfrost::perfcnt::PERFCNT_SIZE) bytes, to this address.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, or as [`panfrost_ioctl_perfcnt_dump`].
    pub fn panfrost_perfcnt_dump(&self, fd: Fd, to: u64) -> Result {
        self.with_drm(fd, |file| panfrost_ioctl_perfcnt_dump(file, self.mm(), to))
    }

    /// `DRM_IOCTL_SYNCOBJ_CREATE`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENOMEM (injected).
    pub fn syncobj_create(&self, fd: Fd, signaled: bool) -> Result<SyncobjHandle> {
        self.with_drm(fd, |file| drm_syncobj_create_ioctl(file, signaled))
    }

    /// `DRM_IOCTL_SYNCOBJ_DESTROY`.
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -EINVAL.
    pub fn syncobj_destroy(&self, fd: Fd, handle: SyncobjHandle) -> Result {
        self.with_drm(fd, |file| drm_syncobj_destroy_ioctl(file, handle))
    }

    /// `DRM_IOCTL_SYNCOBJ_WAIT`: returns the error of the fence that was in it, if it has one (a program would find it
    /// through a sync file).
    ///
    /// # Errors
    /// -EBADF, -ENOTTY, -ENOENT, -EINVAL if there is no fence in it, -EINTR (injected).
    pub fn syncobj_wait(&self, fd: Fd, handle: SyncobjHandle) -> Result<Option<Errno>> {
        self.with_drm(fd, |file| drm_syncobj_wait_ioctl(file, handle))
    }
}

/// Where a program keeps its job chains: an object of four pages, mapped for the CPU.
#[derive(Debug)]
pub struct Programs {
    /// The object.
    pub handle: Handle,
    gpu_address: u64,
    cpu_address: u64,
    used: Cell<u64>,
}

impl Programs {
    const SIZE: usize = 4 * PAGE_SIZE;

    /// A new object in this file.
    ///
    /// # Errors
    /// As [`Process::panfrost_create_bo`] and [`Process::mmap`].
    pub fn new(process: &Process, gpu: Fd) -> Result<Self> {
        let (handle, gpu_address) = process.panfrost_create_bo(gpu, Self::SIZE, 0)?;
        let offset = process.panfrost_mmap_bo(gpu, handle)?;
        let cpu_address = process.mmap(gpu, Self::SIZE as u64, offset, MapFlags::SHARED)?;
        Ok(Programs { handle, gpu_address, cpu_address, used: Cell::new(0) })
    }

    /// Writes a chain into memory, behind the last one; its GPU address.
    ///
    /// # Panics
    /// If there is no room.
    pub fn load(&self, process: &Process, chain: impl FnOnce(JobChain) -> JobChain) -> u64 {
        let at = self.used.get();
        let chain = chain(JobChain::at(self.gpu_address + at));
        for (offset, byte) in (at..).zip(chain.bytes()) {
            let written = process.write_byte(self.cpu_address + offset, *byte);
            assert!(written.is_ok(), "the object has no room for the chain");
        }
        self.used.set(at + chain.bytes().len() as u64);
        self.gpu_address + at
    }

    /// The next chains overwrite the first.
    pub fn rewind(&self) {
        self.used.set(0);
    }

    /// A job with this chain and these objects, besides the one with the chain.
    #[must_use]
    pub fn job(&self, jc: u64, bos: &[Handle]) -> PanfrostSubmit {
        let bo_handles = core::iter::once(self.handle).chain(bos.iter().copied()).collect();
        PanfrostSubmit { jc, bo_handles, ..PanfrostSubmit::default() }
    }

    /// Unmaps the object, so that it no longer keeps the file.
    ///
    /// # Errors
    /// As [`Process::munmap`].
    pub fn unmap(&self, process: &Process) -> Result {
        process.munmap(self.cpu_address, Self::SIZE as u64)
    }
}
