// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The locks of any number of objects, one after the other, until no other context is in the way: who is told to back
//! off gives all of them back, waits for the one that was in the way, and begins again with that.
//!
//! The first object that was locked is given back last: a validator that keeps one entry for all locks under a context
//! remembers it by the first one.
//!
//! Kernel counterpart: `drivers/gpu/drm/drm_exec.c`.

use std::sync::Arc;

use super::gem::{DrmGemObject, drm_gem_object_get, drm_gem_object_put};
use crate::dma_buf::resv::{
    RESERVATION_WW_CLASS, dma_resv_lock_interruptible, dma_resv_lock_slow_interruptible,
    dma_resv_reserve_fences, dma_resv_unlock,
};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::locking::WwAcquireCtx;
use crate::kernel::reclaim;

/// `struct drm_exec`, with `DRM_EXEC_INTERRUPTIBLE_WAIT`.
pub struct DrmExec {
    ctx: WwAcquireCtx,
    ignore_duplicates: bool,
    objects: Vec<Arc<DrmGemObject>>,
    contended: Option<Arc<DrmGemObject>>,
    /// Locked already, after it was in the way.
    prelocked: Option<Arc<DrmGemObject>>,
}

impl DrmExec {
    /// `drm_exec_init`; `ignore_duplicates`: an object that is locked already is no error.
    #[must_use]
    pub fn init(ignore_duplicates: bool) -> Self {
        let ctx = WwAcquireCtx::init(&RESERVATION_WW_CLASS);
        DrmExec { ctx, ignore_duplicates, objects: Vec::new(), contended: None, prelocked: None }
    }

    /// `drm_exec_until_all_locked`: runs `body` until it was not told to back off. `body` passes -EDEADLK on.
    ///
    /// # Errors
    /// What `body` says.
    pub fn until_all_locked(&mut self, mut body: impl FnMut(&mut Self) -> Result) -> Result {
        loop {
            let result = body(self);
            if self.contended.is_none() {
                self.ctx.done();
                return result;
            }
            self.unlock_all();
        }
    }

    /// `drm_exec_lock_obj`.
    ///
    /// # Errors
    /// -EDEADLK: begin again; -EALREADY if this one holds it, -EINTR, -ENOMEM (injected).
    pub fn lock_obj(&mut self, obj: &Arc<DrmGemObject>) -> Result {
        self.lock_contended()?;
        if self.prelocked.take_if(|prelocked| Arc::ptr_eq(prelocked, obj)).is_some() {
            return Ok(());
        }
        match dma_resv_lock_interruptible(obj.resv(), Some(&self.ctx)) {
            Ok(()) => self.obj_locked(obj),
            Err(Errno::EALREADY) if self.ignore_duplicates => Ok(()),
            Err(error) => {
                self.contended = (error == Errno::EDEADLK).then(|| drm_gem_object_get(obj));
                Err(error)
            }
        }
    }

    /// `drm_exec_obj_locked`: the list of objects may have to grow.
    fn obj_locked(&mut self, obj: &Arc<DrmGemObject>) -> Result {
        if let Err(error) = reclaim::kmalloc() {
            dma_resv_unlock(obj.resv());
            return Err(error);
        }
        self.objects.push(drm_gem_object_get(obj));
        Ok(())
    }

    fn lock_contended(&mut self) -> Result {
        let Some(obj) = self.contended.take() else { return Ok(()) };
        let locked =
            dma_resv_lock_slow_interruptible(obj.resv(), &self.ctx).and_then(|()| self.obj_locked(&obj));
        self.prelocked = locked.is_ok().then(|| obj.clone());
        drm_gem_object_put(obj);
        locked
    }

    /// `drm_exec_unlock_obj`.
    pub fn unlock_obj(&mut self, obj: &Arc<DrmGemObject>) {
        if let Some(at) = self.objects.iter().position(|other| Arc::ptr_eq(other, obj)) {
            unlock(self.objects.remove(at));
        }
    }

    /// `drm_exec_prepare_obj`: the lock, and room for fences.
    ///
    /// # Errors
    /// As [`lock_obj`](Self::lock_obj).
    pub fn prepare_obj(&mut self, obj: &Arc<DrmGemObject>, fences: usize) -> Result {
        self.lock_obj(obj)?;
        dma_resv_reserve_fences(obj.resv(), fences).inspect_err(|_| self.unlock_obj(obj))
    }

    /// `drm_exec_prepare_array`.
    ///
    /// # Errors
    /// As [`lock_obj`](Self::lock_obj).
    pub fn prepare_array(&mut self, objects: &[Arc<DrmGemObject>], fences: usize) -> Result {
        objects.iter().try_for_each(|obj| self.prepare_obj(obj, fences))
    }

    fn unlock_all(&mut self) {
        self.prelocked = None;
        core::mem::take(&mut self.objects).into_iter().rev().for_each(unlock);
    }

    /// `drm_exec_fini`.
    pub fn fini(mut self) {
        self.unlock_all();
        self.ctx.fini();
    }
}

fn unlock(obj: Arc<DrmGemObject>) {
    dma_resv_unlock(obj.resv());
    drm_gem_object_put(obj);
}

crate::kernel::opaque_debug!(DrmExec);
