// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `struct sync_file`: a fence as a file descriptor. It is ready for reading once the fence is signalled.
//!
//! # Locking
//!
//! `&sync_file->wq` (wait queue, irq-safe): who waits in poll. It is inside no other lock of this file.
//!
//! * `&fence->lock` → `&sync_file->wq`: the callback on the fence wakes them

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lockdep::LockClass;

use super::fence::{DmaFence, dma_fence_add_callback};
use crate::kernel::KernelCore;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::{File, FileMode, FileOps};
use crate::kernel::locking::spin_class;
use crate::kernel::poll::{PollEvents, PollTable, WaitQueueHead, poll_wait};
use crate::kernel::reclaim;

static WQ: LockClass = spin_class("&sync_file->wq");

/// The private data of such a file.
pub struct SyncFile {
    fence: Arc<DmaFence>,
    wq: Arc<WaitQueueHead>,
    armed: AtomicBool,
}

/// `sync_file_create`.
///
/// # Errors
/// -ENOMEM (injected).
pub fn sync_file_create(core: &KernelCore, fence: Arc<DmaFence>) -> Result<Arc<File>> {
    reclaim::kmalloc()?;
    let wq = Arc::new(WaitQueueHead::new(&WQ));
    Ok(File::new(core, FileMode::READ_WRITE, SyncFile { fence, wq, armed: AtomicBool::new(false) }))
}

/// `sync_file_get_fence`.
///
/// # Errors
/// -EINVAL if it is another kind of file.
pub fn sync_file_get_fence(file: &File) -> Result<Arc<DmaFence>> {
    file.private::<SyncFile>().map(|sync| sync.fence.clone()).ok_or(Errno::EINVAL)
}

impl FileOps for SyncFile {
    fn poll(&self, _file: &Arc<File>, table: &mut PollTable) -> PollEvents {
        sync_file_poll(self, table)
    }
}

fn sync_file_poll(sync: &SyncFile, table: &mut PollTable) -> PollEvents {
    poll_wait(&sync.wq, table);
    if !sync.armed.swap(true, Ordering::AcqRel) {
        let wq = sync.wq.clone();
        // A fence that is signalled already needs no wake-up.
        let _already = dma_fence_add_callback(&sync.fence, Box::new(move || fence_check_cb_func(&wq)));
    }
    if sync.fence.is_signaled() { PollEvents::IN } else { PollEvents::NONE }
}

fn fence_check_cb_func(wq: &WaitQueueHead) {
    let flags = wq.lock.lock_irqsave();
    wq.wake_up_locked();
    wq.lock.unlock_irqrestore(flags);
}

crate::kernel::opaque_debug!(SyncFile);
