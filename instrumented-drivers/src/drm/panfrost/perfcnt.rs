// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Performance counters: one file at a time has them. The GPU writes samples into an object that is mapped into the
//! file's GPU address space and for the kernel; the program gets a copy.
//!
//! `perfcnt->lock` is held all the way: while the object is made, while the GPU is waited for, and while the copy faults
//! the program's pages in. So it is outside `mmap_lock` and the reservation lock.
//!
//! Kernel counterpart: `drivers/gpu/drm/panfrost/panfrost_perfcnt.c`, `panfrost_gpu.c`. (That these ioctls must be
//! switched on by a module parameter is left out.)

use std::sync::Arc;

use lockdep::LockClass;

use super::device::PanfrostDevice;
use super::drv::PanfrostFilePriv;
use super::gem::{
    PANFROST_BO_NOEXEC, PanfrostGemMapping, panfrost_gem_close, panfrost_gem_create,
    panfrost_gem_mapping_get, panfrost_gem_mapping_put, panfrost_gem_open, to_panfrost_bo,
};
use super::hw::{GPU_IRQ_CLEAN_CACHES_COMPLETED, GPU_IRQ_PERFCNT_SAMPLE_COMPLETED, GpuCommand};
use super::mmu::{PanfrostMmu, panfrost_mmu_as_get, panfrost_mmu_as_put};
use crate::drm::file::DrmFile;
use crate::drm::gem::{DrmGemObject, drm_gem_object_put, drm_gem_vmap_unlocked, drm_gem_vunmap_unlocked};
use crate::kernel::cell::KCell;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::fault;
use crate::kernel::irq_thread::IrqReturn;
use crate::kernel::kthread::Background;
use crate::kernel::locking::{Mutex, sleep_class};
use crate::kernel::mm::Mm;
use crate::kernel::shmem::IosysMap;
use crate::kernel::uaccess::copy_to_user;
use crate::kernel::wait::Completion;

static PERFCNT_LOCK: LockClass = sleep_class("&perfcnt->lock");

/// Bytes in a sample.
pub const PERFCNT_SIZE: usize = 4096;

/// Who has the counters, and what that needs.
struct User {
    /// The file, by its address space.
    mmu: Arc<PanfrostMmu>,
    mapping: Arc<PanfrostGemMapping>,
    buf: IosysMap,
    slot: usize,
}

/// `struct panfrost_perfcnt`.
pub(super) struct Perfcnt {
    lock: Mutex,
    /// Under `lock`.
    user: KCell<Option<User>>,
    dump_comp: Completion,
}

impl Perfcnt {
    /// `panfrost_perfcnt_init`.
    pub(super) fn init(background: &Background) -> Self {
        Perfcnt {
            lock: Mutex::new(&PERFCNT_LOCK),
            user: KCell::new("the user of the performance counters", None),
            dump_comp: Completion::new(background),
        }
    }

    /// What `f` makes of the user, if it is this file.
    fn with_user<R>(&self, file: &PanfrostFilePriv, f: impl FnOnce(&User) -> R) -> Option<R> {
        self.user.with(|user| user.as_ref().filter(|user| Arc::ptr_eq(&user.mmu, &file.mmu)).map(f))
    }
}

/// `panfrost_gpu_irq_handler`: a hard interrupt does it all.
pub(super) fn panfrost_gpu_irq_handler(pfdev: &PanfrostDevice) -> IrqReturn {
    let state = pfdev.hw.gpu_stat();
    if state == 0 {
        return IrqReturn::None;
    }
    if state & GPU_IRQ_PERFCNT_SAMPLE_COMPLETED != 0 {
        panfrost_perfcnt_sample_done(pfdev);
    }
    if state & GPU_IRQ_CLEAN_CACHES_COMPLETED != 0 {
        panfrost_perfcnt_clean_cache_done(pfdev);
    }
    pfdev.hw.clear_gpu(state);
    IrqReturn::Handled
}

fn panfrost_perfcnt_sample_done(pfdev: &PanfrostDevice) {
    pfdev.hw.gpu_command(GpuCommand::CleanCaches);
}

fn panfrost_perfcnt_clean_cache_done(pfdev: &PanfrostDevice) {
    pfdev.perfcnt.dump_comp.complete();
}

fn panfrost_perfcnt_enable_locked(file: &DrmFile, panfrost: &PanfrostFilePriv) -> Result {
    let pfdev = &panfrost.pfdev;
    if pfdev.perfcnt.with_user(panfrost, |_| ()).is_some() {
        return Ok(());
    }
    if pfdev.perfcnt.user.with(|user| user.is_some()) {
        return Err(Errno::EBUSY);
    }
    let obj = panfrost_gem_create(&file.dev, PERFCNT_SIZE, PANFROST_BO_NOEXEC)?;
    let result = panfrost_gem_open(&obj, panfrost)
        .and_then(|()| start(panfrost, &obj).inspect_err(|_| panfrost_gem_close(&obj, panfrost)));
    // The mapping holds it now.
    drm_gem_object_put(obj);
    result
}

/// The middle of `panfrost_perfcnt_enable_locked`, which it shows.
#[track_caller]
fn start(file: &PanfrostFilePriv, obj: &Arc<DrmGemObject>) -> Result {
    let pfdev = &file.pfdev;
    let mapping = panfrost_gem_mapping_get(to_panfrost_bo(obj), file).ok_or(Errno::EINVAL)?;
    let buf = match drm_gem_vmap_unlocked(obj) {
        Ok(buf) => buf,
        Err(error) => {
            panfrost_gem_mapping_put(mapping);
            return Err(error);
        }
    };
    // Clears the counters, and waits until the caches know it.
    pfdev.perfcnt.dump_comp.reinit();
    pfdev.hw.gpu_command(GpuCommand::CleanCaches);
    if !pfdev.perfcnt.dump_comp.wait_timeout(&pfdev.core.background) {
        drm_gem_vunmap_unlocked(obj, &buf);
        panfrost_gem_mapping_put(mapping);
        return Err(Errno::ETIMEDOUT);
    }
    let slot = panfrost_mmu_as_get(pfdev, &mapping.mmu);
    let user = User { mmu: file.mmu.clone(), mapping, buf, slot };
    pfdev.perfcnt.user.set(Some(user));
    Ok(())
}

fn panfrost_perfcnt_disable_locked(file: &PanfrostFilePriv) -> Result {
    let pfdev = &file.pfdev;
    if pfdev.perfcnt.with_user(file, |_| ()).is_none() {
        return Err(Errno::EINVAL);
    }
    let Some(user) = pfdev.perfcnt.user.replace(None) else { return Err(Errno::EINVAL) };
    let obj = &user.mapping.obj;
    drm_gem_vunmap_unlocked(obj, &user.buf);
    panfrost_gem_close(obj, file);
    panfrost_mmu_as_put(pfdev, &user.mmu);
    panfrost_gem_mapping_put(user.mapping);
    Ok(())
}

/// `panfrost_ioctl_perfcnt_enable`: takes the counters, or gives them back.
///
/// # Errors
/// -EBUSY if another file has them, -EINVAL if they are given back by a file that does not have them, -ETIMEDOUT if the
/// GPU does not answer, -ENOSPC, -EINTR, -ENOMEM (injected).
pub fn panfrost_ioctl_perfcnt_enable(file: &DrmFile, enable: bool) -> Result {
    let panfrost = PanfrostFilePriv::of(file)?;
    let perfcnt = &panfrost.pfdev.perfcnt;
    perfcnt.lock.lock();
    let result = if enable {
        panfrost_perfcnt_enable_locked(file, panfrost)
    } else {
        panfrost_perfcnt_disable_locked(panfrost)
    };
    perfcnt.lock.unlock();
    result
}

fn panfrost_perfcnt_dump_locked(pfdev: &PanfrostDevice, slot: usize, address: u64) -> Result {
    pfdev.perfcnt.dump_comp.reinit();
    let len = PERFCNT_SIZE as u64;
    pfdev.hw.gpu_command(GpuCommand::Sample { space: slot, base: address, len });
    if fault::interrupted() {
        return Err(Errno::EINTR);
    }
    let answered = pfdev.perfcnt.dump_comp.wait_timeout(&pfdev.core.background);
    if answered { Ok(()) } else { Err(Errno::ETIMEDOUT) }
}

/// `panfrost_ioctl_perfcnt_dump`: a sample, [`PERFCNT_SIZE`] bytes, into the program's memory.
///
/// # Errors
/// -EINVAL if this file does not have the counters, -ETIMEDOUT if the GPU does not answer, -EFAULT if there is no such
/// memory, -EINTR (injected).
pub fn panfrost_ioctl_perfcnt_dump(file: &DrmFile, mm: &Arc<Mm>, to: u64) -> Result {
    let panfrost = PanfrostFilePriv::of(file)?;
    let pfdev = &panfrost.pfdev;
    pfdev.perfcnt.lock.lock();
    let user = |user: &User| (user.slot, user.mapping.gpu_address(), user.buf.clone());
    let result = match pfdev.perfcnt.with_user(panfrost, user) {
        Some((slot, address, buf)) => panfrost_perfcnt_dump_locked(pfdev, slot, address)
            .and_then(|()| copy_to_user(mm, to, PERFCNT_SIZE, |at| buf.read(at))),
        None => Err(Errno::EINVAL),
    };
    pfdev.perfcnt.lock.unlock();
    result
}

/// `panfrost_perfcnt_close`: the file is closed.
pub(super) fn panfrost_perfcnt_close(file: &PanfrostFilePriv) {
    file.pfdev.perfcnt.lock.lock();
    // It is an error if this file does not have them; it need not.
    let _had_them = panfrost_perfcnt_disable_locked(file);
    file.pfdev.perfcnt.lock.unlock();
}

crate::kernel::opaque_debug!(Perfcnt);
