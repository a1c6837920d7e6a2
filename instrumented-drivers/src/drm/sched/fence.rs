// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The two fences of a scheduler's job: one for when it was handed to the hardware, one for when it is done.
//!
//! All of them are of one lock class, so one must not be signalled under the lock of another: what a fence's callback
//! wants to signal, it leaves to a work item.
//!
//! Kernel counterpart: `drivers/gpu/drm/scheduler/sched_fence.c`.

use std::sync::{Arc, Weak};

use lockdep::LockClass;

use super::DrmGpuScheduler;
use super::entity::DrmSchedEntity;
use crate::dma_buf::fence::{DmaFence, dma_fence_set_error, dma_fence_signal};
use crate::kernel::cell::KPtr;
use crate::kernel::errno::Errno;
use crate::kernel::locking::{SpinLock, spin_class};

static FENCE_LOCK: LockClass = spin_class("&fence->lock");

/// `struct drm_sched_fence`.
pub struct DrmSchedFence {
    /// The job has been handed to the hardware.
    pub scheduled: Arc<DmaFence>,
    /// The job is done.
    pub finished: Arc<DmaFence>,
    /// The hardware's own fence.
    pub(super) parent: KPtr<DmaFence>,
    sched: Weak<DrmGpuScheduler>,
}

impl DrmSchedFence {
    /// `drm_sched_fence_init`.
    pub(super) fn init(sched: &Arc<DrmGpuScheduler>, entity: &DrmSchedEntity) -> Arc<Self> {
        let seqno = entity.next_seqno();
        let [scheduled, finished] = entity.fence_contexts;
        let lock = Arc::new(SpinLock::new(&FENCE_LOCK));
        let fence = Arc::new(DrmSchedFence {
            scheduled: DmaFence::new(&sched.core, lock.clone(), scheduled, seqno),
            finished: DmaFence::new(&sched.core, lock, finished, seqno),
            parent: KPtr::null(),
            sched: Arc::downgrade(sched),
        });
        let container: Arc<DrmSchedFence> = fence.clone();
        for part in [&fence.scheduled, &fence.finished] {
            part.set_container(Arc::downgrade(&(container.clone() as _)));
        }
        fence
    }

    pub(super) fn is_of(&self, sched: &DrmGpuScheduler) -> bool {
        core::ptr::eq(self.sched.as_ptr(), sched)
    }
}

/// `to_drm_sched_fence`: the pair that a fence is one of, if it is.
pub(super) fn to_drm_sched_fence(fence: &DmaFence) -> Option<Arc<DrmSchedFence>> {
    fence.container()
}

/// `drm_sched_fence_scheduled`.
pub(super) fn drm_sched_fence_scheduled(fence: &DrmSchedFence, parent: Option<&Arc<DmaFence>>) {
    // Before it is signalled, for those who look at it then.
    if let Some(parent) = parent {
        fence.parent.swap(Some(parent.clone()));
    }
    signal(&fence.scheduled);
}

/// `drm_sched_fence_finished`.
pub(super) fn drm_sched_fence_finished(fence: &DrmSchedFence, result: Result<(), Errno>) {
    if let Err(error) = result {
        dma_fence_set_error(&fence.finished, error);
    }
    signal(&fence.finished);
}

/// It may have been signalled in an earlier life of the job, before a reset.
fn signal(fence: &DmaFence) {
    let _signalled_before = dma_fence_signal(fence);
}

crate::kernel::opaque_debug!(DrmSchedFence);
