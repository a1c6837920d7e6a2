// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! A program reads and writes an object through calls of the driver, or says that it is about to through a mapping.
//!
//! All of them wait for the GPU twice: at first without a lock, so that nobody who needs the lock has to wait for the
//! GPU too, then under it, for what was submitted meanwhile. The bytes are copied with no lock held: the program's
//! memory may fault.
//!
//! Kernel counterpart: `i915_gem_domain.c`, and `pread`, `pwrite` in `i915_gem.c`. Integrated devices only.

use std::sync::Arc;

use super::object::{for_i915_gem_ww, i915_gem_object_lock};
use super::pages::{i915_gem_object_pin_pages, i915_gem_object_unpin_pages, i915_vma_pin_ww};
use super::{DISCRETE, I915};
use crate::dma_buf::SgTable;
use crate::dma_buf::resv::{dma_resv_lock_interruptible, dma_resv_unlock, dma_resv_usage_rw, dma_resv_wait};
use crate::drm::device::DrmDriver;
use crate::drm::file::{DrmFile, Handle};
use crate::drm::gem::{DrmGemObject, drm_gem_object_put};
use crate::drm::gem_handle::drm_gem_object_lookup;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::mm::Mm;
use crate::kernel::uaccess::{copy_from_user, copy_to_user};

/// Some bytes of an object.
#[derive(Clone, Copy, Debug)]
pub struct I915Bytes {
    /// Which object.
    pub handle: Handle,
    /// Where they begin in it.
    pub offset: usize,
    /// Where they are in the program's memory.
    pub address: u64,
    /// How many.
    pub len: usize,
}

/// `i915_gem_object_wait`.
fn wait(obj: &DrmGemObject, write: bool) -> Result {
    dma_resv_wait(obj.resv(), dma_resv_usage_rw(write), true)
}

/// Pins the pages and waits for the GPU, the object's lock held.
#[track_caller]
fn pin_and_wait(obj: &Arc<DrmGemObject>, write: bool) -> Result<Arc<SgTable>> {
    let pages = i915_gem_object_pin_pages(obj)?;
    match wait(obj, write) {
        Ok(()) => Ok(pages),
        Err(error) => {
            i915_gem_object_unpin_pages(obj);
            Err(error)
        }
    }
}

/// `i915_gem_object_prepare_read`, `i915_gem_object_prepare_write` with the lock around: pages for the CPU, which
/// have to be unpinned.
fn prepare(obj: &Arc<DrmGemObject>, write: bool) -> Result<Arc<SgTable>> {
    dma_resv_lock_interruptible(obj.resv(), None)?;
    let pages = pin_and_wait(obj, write);
    dma_resv_unlock(obj.resv());
    pages
}

/// `i915_gem_gtt_prepare`: the same through the GPU's addresses, which is the way to the pages of an import.
fn i915_gem_gtt_prepare(obj: &Arc<DrmGemObject>, write: bool) -> Result<Arc<SgTable>> {
    let i915 = I915::of(&obj.dev);
    for_i915_gem_ww(true, |ww| {
        i915_gem_object_lock(obj, ww)?;
        let pages = pin_and_wait(obj, write)?;
        match i915_vma_pin_ww(&i915, obj, ww) {
            Ok(()) => Ok(pages),
            Err(error) => {
                i915_gem_object_unpin_pages(obj);
                Err(error)
            }
        }
    })
}

/// Finds an object of an integrated device; what is said on a discrete one depends on the call.
fn lookup(file: &DrmFile, handle: Handle, discrete: Errno) -> Result<Arc<DrmGemObject>> {
    file.dev.private::<I915>().ok_or(Errno::ENODEV)?;
    if file.dev.driver.name() == DISCRETE.name() {
        return Err(discrete);
    }
    drm_gem_object_lookup(file, handle).ok_or(Errno::ENOENT)
}

/// `i915_gem_set_domain_ioctl`: what the GPU has written can be seen by the CPU, and the other way round.
///
/// # Errors
/// -ENODEV on another driver's file or a discrete device, -ENOENT, -EINTR, -ENOMEM (injected).
pub fn i915_gem_set_domain(file: &DrmFile, handle: Handle, write: bool) -> Result {
    let obj = lookup(file, handle, Errno::ENODEV)?;
    let result =
        wait(&obj, write).and_then(|()| prepare(&obj, write)).map(|_pages| i915_gem_object_unpin_pages(&obj));
    drm_gem_object_put(obj);
    result
}

/// The common part of reading and writing.
fn access(file: &DrmFile, bytes: I915Bytes, write: bool, copy: impl FnOnce(&SgTable) -> Result) -> Result {
    let obj = lookup(file, bytes.handle, Errno::EOPNOTSUPP)?;
    let inside = bytes.offset.checked_add(bytes.len).is_some_and(|end| end <= obj.size);
    let pages = if inside { wait(&obj, write) } else { Err(Errno::EINVAL) }.and_then(|()| {
        if obj.import_attach().is_some() { i915_gem_gtt_prepare(&obj, write) } else { prepare(&obj, write) }
    });
    let result = pages.and_then(|pages| {
        let copied = copy(&pages);
        i915_gem_object_unpin_pages(&obj);
        copied
    });
    drm_gem_object_put(obj);
    result
}

/// `i915_gem_pread_ioctl`.
///
/// # Errors
/// -ENODEV on another driver's file, -EOPNOTSUPP on a discrete device, -ENOENT, -EINVAL past the end, -EFAULT,
/// -EINTR, -ENOMEM (injected).
pub fn i915_gem_pread(file: &DrmFile, mm: &Arc<Mm>, bytes: I915Bytes) -> Result {
    let copy =
        |pages: &SgTable| copy_to_user(mm, bytes.address, bytes.len, |at| pages.read(bytes.offset + at));
    access(file, bytes, false, copy)
}

/// `i915_gem_pwrite_ioctl`.
///
/// # Errors
/// As [`i915_gem_pread`].
pub fn i915_gem_pwrite(file: &DrmFile, mm: &Arc<Mm>, bytes: I915Bytes) -> Result {
    let copy = |pages: &SgTable| {
        copy_from_user(mm, bytes.address, bytes.len, |at, value| pages.write(bytes.offset + at, value))
    };
    access(file, bytes, true, copy)
}
