// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Access by the CPU: bracketing, mappings in the kernel, the name, and the file in debugfs.
//!
//! Kernel counterpart: `drivers/dma-buf/dma-buf.c`.

use super::attach::DmaDirection;
use super::core::DmaBuf;
use super::resv::{
    dma_resv_assert_held, dma_resv_describe, dma_resv_lock, dma_resv_lock_interruptible, dma_resv_might_lock,
    dma_resv_unlock, dma_resv_usage_rw, dma_resv_wait,
};
use crate::bug::Bug;
use crate::kernel::KernelCore;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::shmem::IosysMap;

#[derive(Default)]
pub(super) struct VmapState {
    pub(super) count: usize,
    pub(super) map: Option<IosysMap>,
}

/// `dma_buf_begin_cpu_access`: the caller must not hold the reservation lock, even if the exporter has no callback.
///
/// # Errors
/// -EINTR (injected), or what the exporter says.
pub fn dma_buf_begin_cpu_access(buf: &DmaBuf, dir: DmaDirection) -> Result {
    dma_resv_might_lock(&buf.resv);
    buf.enter("begin_cpu_access").begin_cpu_access(buf, dir)?;
    dma_resv_wait(&buf.resv, dma_resv_usage_rw(dir.writes()), true)
}

/// `dma_buf_end_cpu_access`.
///
/// # Errors
/// What the exporter says.
pub fn dma_buf_end_cpu_access(buf: &DmaBuf, dir: DmaDirection) -> Result {
    dma_resv_might_lock(&buf.resv);
    buf.enter("end_cpu_access").end_cpu_access(buf, dir)
}

/// `dma_buf_vmap`: maps the buffer to the kernel, once for all users. The reservation lock must be held (P0: nothing;
/// the buffer's mutex is taken).
///
/// # Errors
/// -EINVAL if the buffer cannot be mapped, or what the exporter says.
pub fn dma_buf_vmap(buf: &DmaBuf) -> Result<IosysMap> {
    if !buf.ops.has_vmap() {
        return Err(Errno::EINVAL);
    }
    if buf.p0() {
        buf.lock.lock();
        let result = vmap_counted(buf);
        buf.lock.unlock();
        return result;
    }
    dma_resv_assert_held(&buf.resv);
    vmap_counted(buf)
}

fn vmap_counted(buf: &DmaBuf) -> Result<IosysMap> {
    let mapped = buf.vmap.with(|vmap| {
        let map = vmap.map.clone()?;
        vmap.count += 1;
        Some(map)
    });
    if let Some(map) = mapped {
        return Ok(map);
    }
    let map = buf.enter("vmap").vmap(buf);
    buf.core.warn_on(map.is_err(), "dma_buf_vmap failed");
    let map = map?;
    buf.vmap.set(VmapState { count: 1, map: Some(map.clone()) });
    Ok(map)
}

/// `dma_buf_vunmap`.
///
/// # Panics
/// If it is not mapped, or mapped elsewhere (`BUG_ON` in the kernel).
pub fn dma_buf_vunmap(buf: &DmaBuf, map: &IosysMap) {
    if buf.p0() {
        buf.lock.lock();
        vunmap_counted(buf, map);
        buf.lock.unlock();
        return;
    }
    dma_resv_assert_held(&buf.resv);
    vunmap_counted(buf, map);
}

fn vunmap_counted(buf: &DmaBuf, map: &IosysMap) {
    let last = buf.vmap.with(|vmap| {
        let ours = vmap.map.as_ref().is_some_and(|mapped| mapped.is_equal(map));
        assert!(ours && vmap.count > 0, "kernel BUG: dma_buf_vunmap of something that is not mapped");
        vmap.count -= 1;
        vmap.count == 0
    });
    if last {
        buf.enter("vunmap").vunmap(buf, map);
        buf.vmap.set(VmapState::default());
    }
}

/// `dma_buf_vmap_unlocked`: takes the lock itself.
///
/// # Errors
/// As [`dma_buf_vmap`].
pub fn dma_buf_vmap_unlocked(buf: &DmaBuf) -> Result<IosysMap> {
    if buf.p0() {
        return dma_buf_vmap(buf);
    }
    dma_resv_lock(&buf.resv);
    let result = dma_buf_vmap(buf);
    dma_resv_unlock(&buf.resv);
    result
}

/// `dma_buf_vunmap_unlocked`: takes the lock itself. Ends in a jump to the unlock.
#[track_caller]
pub fn dma_buf_vunmap_unlocked(buf: &DmaBuf, map: &IosysMap) {
    if buf.p0() {
        return dma_buf_vunmap(buf, map);
    }
    crate::kernel::own(|| {
        dma_resv_lock(&buf.resv);
        dma_buf_vunmap(buf, map);
    });
    dma_resv_unlock(&buf.resv);
}

/// Around the name: a spinlock, for it is read where nobody may sleep.
#[track_caller]
fn name_lock(buf: &DmaBuf) {
    if buf.core.has(Bug::NameMutex) { buf.lock.lock() } else { buf.name_lock.lock() }
}

#[track_caller]
fn name_unlock(buf: &DmaBuf) {
    if buf.core.has(Bug::NameMutex) { buf.lock.unlock() } else { buf.name_lock.unlock() }
}

/// `dma_buf_set_name`, part of `dma_buf_ioctl`. The name has been copied before.
#[track_caller]
pub(super) fn dma_buf_set_name(buf: &DmaBuf, name: String) {
    name_lock(buf);
    buf.name.set(Some(name));
    name_unlock(buf);
}

/// `dmabuffs_dname`: the name, as `/proc/*/maps` shows it.
#[must_use]
pub fn dmabuffs_dname(buf: &DmaBuf) -> Option<String> {
    name_lock(buf);
    let name = buf.name.get();
    name_unlock(buf);
    name
}

/// `dma_buf_debug_show`: the file `bufinfo` in debugfs.
///
/// # Errors
/// -EINTR (injected).
pub fn dma_buf_debug_show(core: &KernelCore) -> Result<String> {
    core.debugfs_list_mutex.lock_interruptible()?;
    let mut text = String::new();
    for file in core.db_list.get() {
        let Some(buf) = file.upgrade().as_ref().and_then(DmaBuf::of) else { continue };
        if let Err(error) = dma_resv_lock_interruptible(&buf.resv, None) {
            core.debugfs_list_mutex.unlock();
            return Err(error);
        }
        name_lock(&buf);
        let name = buf.name.get().unwrap_or_default();
        name_unlock(&buf);
        let line = format!("{} {} {} {name}\n", buf.size, buf.exp_name, dma_resv_describe(&buf.resv));
        text.push_str(&line);
        dma_resv_unlock(&buf.resv);
    }
    core.debugfs_list_mutex.unlock();
    Ok(text)
}
