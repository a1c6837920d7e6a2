// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `sw_sync`: timelines that a program moves itself. A fence of a timeline signals when the timeline has come to its number;
//! the fences that are left when it is closed signal with an error.
//!
//! # Locking
//!
//! | lock | kind | protects |
//! |---|---|---|
//! | `sync_timeline_list_lock` | spinlock, irq-safe | the list of timelines |
//! | `&obj->lock` | spinlock, irq-safe | a timeline and its fences, whose lock it is |
//!
//! * `sync_timeline_list_lock` → `&obj->lock`: the file of debugfs; interrupts are off from the first lock on, so the second
//!   one is taken without touching them
//! * `&obj->lock` → `&sync_file->wq`: a fence signals, and whoever waits for its file wakes up
//!
//! Kernel counterpart: `drivers/dma-buf/sw_sync.c`, `sync_debug.c`.

use std::sync::{Arc, Weak};

use lockdep::LockClass;

use super::fence::{DmaFence, dma_fence_context_alloc, dma_fence_set_error, dma_fence_signal_locked};
use super::sync_file::{sync_file_create, sync_file_get_fence};
use crate::kernel::KernelCore;
use crate::kernel::cell::KCell;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::{File, FileMode, FileOps};
use crate::kernel::locking::{SpinLock, spin_class};
use crate::kernel::reclaim;

static LIST_LOCK: LockClass = spin_class("sync_timeline_list_lock");
static OBJ_LOCK: LockClass = spin_class("&obj->lock");

/// The timelines of a kernel.
pub(crate) struct SyncTimelines {
    lock: SpinLock,
    list: KCell<Vec<Weak<Timeline>>>,
}

impl SyncTimelines {
    pub(crate) fn new() -> Self {
        SyncTimelines {
            lock: SpinLock::new(&LIST_LOCK),
            list: KCell::new("the list of timelines", Vec::new()),
        }
    }
}

struct Points {
    value: u64,
    pending: Vec<Weak<DmaFence>>,
}

/// `struct sync_timeline`.
struct Timeline {
    lock: Arc<SpinLock>,
    context: u64,
    points: KCell<Points>,
}

impl Timeline {
    /// Signals those that this says so about, under the lock.
    #[track_caller]
    fn signal(&self, is_due: impl Fn(&DmaFence, u64) -> bool, error: Option<Errno>) {
        let due = self.points.with(|points| {
            let value = points.value;
            let is_due =
                |point: &mut Weak<DmaFence>| point.upgrade().is_none_or(|point| is_due(&point, value));
            points.pending.extract_if(.., is_due).collect::<Vec<_>>()
        });
        for fence in due.iter().filter_map(Weak::upgrade) {
            error.iter().for_each(|error| dma_fence_set_error(&fence, *error));
            let signaled = dma_fence_signal_locked(&fence);
            debug_assert!(signaled.is_ok(), "nobody else signals it");
        }
    }
}

/// The private data of a timeline's file.
struct SwSync(Arc<Timeline>);

impl FileOps for SwSync {
    fn release(&self, _file: &Arc<File>) {
        sw_sync_debugfs_release(&self.0);
    }
}

fn sw_sync_debugfs_release(timeline: &Timeline) {
    timeline.lock.lock_irq();
    timeline.signal(|_, _| true, Some(Errno::ENOENT));
    timeline.lock.unlock_irq();
}

/// `sw_sync_debugfs_open`: a new timeline, at 0.
///
/// # Errors
/// -ENOMEM (injected).
pub fn sw_sync_debugfs_open(core: &KernelCore) -> Result<Arc<File>> {
    reclaim::kmalloc()?;
    let timeline = Arc::new(Timeline {
        lock: Arc::new(SpinLock::new(&OBJ_LOCK)),
        context: dma_fence_context_alloc(),
        points: KCell::new("a timeline's fences", Points { value: 0, pending: Vec::new() }),
    });
    sync_timeline_debug_add(core, &timeline);
    Ok(File::new(core, FileMode::READ_WRITE, SwSync(timeline)))
}

fn sync_timeline_debug_add(core: &KernelCore, timeline: &Arc<Timeline>) {
    let flags = core.timelines.lock.lock_irqsave();
    core.timelines.list.with(|list| {
        list.retain(|other| other.strong_count() > 0);
        list.push(Arc::downgrade(timeline));
    });
    core.timelines.lock.unlock_irqrestore(flags);
}

fn timeline(file: &File) -> Result<&Arc<Timeline>> {
    file.private::<SwSync>().map(|sync| &sync.0).ok_or(Errno::ENOTTY)
}

/// `sw_sync_ioctl_create_fence`: a file of a fence that signals when the timeline comes to this number.
///
/// # Errors
/// -ENOTTY if it is no timeline, -ENOMEM (injected).
pub fn sw_sync_ioctl_create_fence(core: &KernelCore, file: &File, number: u64) -> Result<Arc<File>> {
    let timeline = timeline(file)?;
    reclaim::kmalloc()?;
    let fence = DmaFence::new(core, timeline.lock.clone(), timeline.context, number);
    let sync_file = sync_file_create(core, fence.clone())?;
    timeline.lock.lock_irq();
    timeline.points.with(|points| points.pending.push(Arc::downgrade(&fence)));
    timeline.signal(|point, value| point.seqno <= value, None);
    timeline.lock.unlock_irq();
    Ok(sync_file)
}

/// `sw_sync_ioctl_inc`.
///
/// # Errors
/// -ENOTTY if it is no timeline.
pub fn sw_sync_ioctl_inc(file: &File, by: u64) -> Result {
    let timeline = timeline(file)?;
    timeline.lock.lock_irq();
    timeline.points.with(|points| points.value += by);
    timeline.signal(|point, value| point.seqno <= value, None);
    timeline.lock.unlock_irq();
    Ok(())
}

/// `sync_file_ioctl_merge`: a file that is ready when both are.
///
/// # Errors
/// -EINVAL if one is no sync file, -ENOMEM (injected).
pub fn sync_file_ioctl_merge(core: &KernelCore, one: &File, other: &File) -> Result<Arc<File>> {
    let parts = [sync_file_get_fence(one)?, sync_file_get_fence(other)?];
    let parts = parts.iter().flat_map(DmaFence::unwrap_all).collect();
    sync_file_create(core, DmaFence::array(core, parts)?)
}

/// `sync_info_debugfs_show`: each timeline's value and how many fences wait for it.
#[must_use]
pub fn sync_info_debugfs_show(core: &KernelCore) -> Vec<(u64, usize)> {
    core.timelines.lock.lock_irq();
    let shown = core.timelines.list.with(|list| list.iter().filter_map(Weak::upgrade).collect::<Vec<_>>());
    let shown = shown.iter().map(|timeline| sync_print_obj(timeline)).collect();
    core.timelines.lock.unlock_irq();
    shown
}

fn sync_print_obj(timeline: &Timeline) -> (u64, usize) {
    timeline.lock.lock();
    let shown = timeline.points.with(|points| {
        let pending = points.pending.iter().filter(|point| point.strong_count() > 0).count();
        (points.value, pending)
    });
    timeline.lock.unlock();
    shown
}

crate::kernel::opaque_debug!(SyncTimelines);
