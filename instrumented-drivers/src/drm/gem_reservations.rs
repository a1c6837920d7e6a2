// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The reservation locks of several GEM objects at once, and waiting for one without its lock.
//!
//! Kernel counterpart: `drivers/gpu/drm/drm_gem.c`.

use std::sync::Arc;

use super::gem::DrmGemObject;
use crate::bug::Bug;
use crate::dma_buf::fence::__dma_fence_might_wait;
use crate::dma_buf::resv::{
    DmaResvUsage, RESERVATION_WW_CLASS, dma_resv_lock_interruptible, dma_resv_lock_slow_interruptible,
    dma_resv_test_signaled, dma_resv_unlock, dma_resv_wait,
};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::locking::WwAcquireCtx;

/// `drm_gem_lock_reservations`: the locks of all objects, under one context, in whatever order works.
///
/// # Errors
/// -EALREADY if two objects share a lock, -EINTR (injected). Nothing is held then.
pub fn drm_gem_lock_reservations(objects: &[Arc<DrmGemObject>]) -> Result<WwAcquireCtx> {
    let ctx = WwAcquireCtx::init(&RESERVATION_WW_CLASS);
    let mut contended: Option<usize> = None;
    let result = 'retry: loop {
        if let Some(slow) = contended
            && let Err(error) = dma_resv_lock_slow_interruptible(objects[slow].resv(), &ctx)
        {
            break Err(error);
        }
        for (i, obj) in objects.iter().enumerate() {
            if contended == Some(i) {
                continue;
            }
            let Err(error) = dma_resv_lock_interruptible(obj.resv(), Some(&ctx)) else { continue };
            for held in &objects[..i] {
                dma_resv_unlock(held.resv());
            }
            if let Some(slow) = contended
                && slow >= i
            {
                dma_resv_unlock(objects[slow].resv());
            }
            if error != Errno::EDEADLK {
                break 'retry Err(error);
            }
            contended = Some(i);
            continue 'retry;
        }
        break Ok(());
    };
    match result {
        Ok(()) => {
            ctx.done();
            Ok(ctx)
        }
        Err(error) => {
            if objects.iter().any(|obj| obj.dev.core.has(Bug::CtxNotFinished)) {
                ctx.leave_stack();
            } else {
                ctx.fini();
            }
            Err(error)
        }
    }
}

/// `drm_gem_unlock_reservations`.
#[expect(clippy::needless_pass_by_value, reason = "the context ends here")]
pub fn drm_gem_unlock_reservations(objects: &[Arc<DrmGemObject>], ctx: WwAcquireCtx) {
    for obj in objects {
        dma_resv_unlock(obj.resv());
    }
    ctx.fini();
}

/// How long to wait for an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitTimeout {
    /// Not at all.
    Now,
    /// Until nothing moves any more in the kernel and its devices. There is no clock.
    Soon,
    /// For ever.
    Forever,
}

/// `drm_gem_dma_resv_wait`, of an object that was looked up: waits until nobody uses it like this; takes no lock.
///
/// # Errors
/// -EBUSY if it is in use and there is no time, -ETIMEDOUT if the time is up, -EINTR (injected).
#[track_caller]
pub(super) fn wait_for_object(obj: &DrmGemObject, usage: DmaResvUsage, timeout: WaitTimeout) -> Result {
    let resv = obj.resv();
    let late = match timeout {
        WaitTimeout::Forever => return dma_resv_wait(resv, usage, true),
        WaitTimeout::Now => Errno::EBUSY,
        WaitTimeout::Soon => Errno::ETIMEDOUT,
    };
    __dma_fence_might_wait();
    if timeout == WaitTimeout::Soon {
        obj.dev.core.background.settle();
    }
    if dma_resv_test_signaled(resv, usage) { Ok(()) } else { Err(late) }
}
