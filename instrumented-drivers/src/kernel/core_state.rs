// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! What is global in a kernel and one per simulated kernel here, so that several can run side by side in one
//! process: the policies, the list of dma-bufs, the logs that a test reads.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use lockdep::LockClass;
use lockdep::raw;

use super::cell::KCell;
use super::file::File;
use super::kthread::Background;
use super::live::{Live, LiveObjects};
use super::locking::{self, Mutex, sleep_class};
use super::mm::Mm;
use super::shrinker::Shrinkers;
use super::timer::Timers;
use super::vmalloc::VmallocSpace;
use super::workqueue::{Workqueue, work_class};
use crate::bug::{Bug, Bugs};
use crate::dma_buf::fence::FenceStub;
use crate::dma_buf::sw_sync::SyncTimelines;
use crate::policy::{LockingPolicy, ShmemLocking};

/// An exporter's (or a driver's) `mmap` was entered: who held what, before it took a lock of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MmapEntry {
    /// The driver whose memory is being mapped.
    pub exporter: &'static str,
    /// The function that called it: `dma_buf_mmap_internal` (the dma-buf file), `dma_buf_mmap` (an importer
    /// forwards), or `drm_gem_mmap_obj` (the driver's own file).
    pub path: &'static str,
    /// The locks that the task held, outermost first (empty with the validator off).
    pub held: Vec<String>,
    /// Whether the buffer's reservation lock was among them (known with the validator off too).
    pub resv_held: bool,
}

/// A callback of an exporter was entered, in this way at least once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallbackEntry {
    /// The callback: `attach`, `map_dma_buf`, `mmap` …
    pub callback: &'static str,
    /// Whose.
    pub exporter: &'static str,
    /// Whether the task held the buffer's reservation lock.
    pub resv_held: bool,
}

/// The state that all drivers of one kernel share.
pub struct KernelCore {
    /// Who locks what around an exporter's callbacks.
    pub policy: LockingPolicy,
    /// Which locks the shmem helper uses.
    pub shmem: ShmemLocking,
    pub(crate) live: Arc<LiveObjects>,
    pub(crate) debugfs_list_mutex: Mutex,
    /// Under `debugfs_list_mutex`.
    pub(crate) db_list: KCell<Vec<Weak<File>>>,
    pub(crate) stub: FenceStub,
    pub(crate) timelines: SyncTimelines,
    pub(crate) vmalloc: VmallocSpace,
    pub(crate) shrinkers: Shrinkers,
    pub(crate) timers: Timers,
    pub(crate) background: Background,
    /// For work items that need no queue of their own.
    pub(crate) system_wq: Arc<Workqueue>,
    pub(crate) bugs: Bugs,
    mmap_log: parking_lot::Mutex<Vec<MmapEntry>>,
    callbacks: parking_lot::Mutex<BTreeSet<CallbackEntry>>,
    warnings: parking_lot::Mutex<Vec<String>>,
    /// Keeps every address space's memory until the end, so that no two of them are one lock instance.
    address_spaces: parking_lot::Mutex<Vec<Arc<Mm>>>,
}

static EVENTS: LockClass = work_class("(wq_completion)events");
static DEBUGFS_LIST_MUTEX: LockClass = sleep_class("debugfs_list_mutex");
/// Its name up to v6.9; P0 is older.
static DB_LIST_LOCK: LockClass = sleep_class("db_list.lock");

impl KernelCore {
    pub(crate) fn new(policy: LockingPolicy, shmem: ShmemLocking) -> Arc<Self> {
        let list = if policy == LockingPolicy::P0 { &DB_LIST_LOCK } else { &DEBUGFS_LIST_MUTEX };
        let background = Background::default();
        let system_wq = Arc::new(Workqueue::alloc_ordered(&background, "events", &EVENTS));
        Arc::new(KernelCore {
            policy,
            shmem,
            live: Arc::default(),
            debugfs_list_mutex: locking::Mutex::new(list),
            db_list: KCell::new("the list of dma-bufs", Vec::new()),
            stub: FenceStub::new(),
            timelines: SyncTimelines::new(),
            vmalloc: VmallocSpace::default(),
            shrinkers: Shrinkers::default(),
            timers: Timers::default(),
            background,
            system_wq,
            bugs: Bugs::of_linux_6_12(),
            mmap_log: parking_lot::Mutex::default(),
            callbacks: parking_lot::Mutex::default(),
            warnings: parking_lot::Mutex::default(),
            address_spaces: parking_lot::Mutex::default(),
        })
    }

    pub(crate) fn born(&self, kind: &'static str) -> Live {
        self.live.born(kind)
    }

    /// Whether this kernel has a bug.
    #[must_use]
    pub fn has(&self, bug: Bug) -> bool {
        self.bugs.has(bug)
    }

    /// The objects that are alive.
    #[must_use]
    pub fn live(&self) -> &LiveObjects {
        &self.live
    }

    /// Notes that an `mmap` of memory of `exporter` begins, with what is held now.
    pub(crate) fn log_mmap(&self, exporter: &'static str, path: &'static str, resv_held: bool) {
        let held = raw::held_locks().into_iter().map(|held| held.lock.class).collect();
        let entry = MmapEntry { exporter, path, held, resv_held };
        self.mmap_log.lock().push(entry);
    }

    /// All entries into an `mmap` so far.
    #[must_use]
    pub fn mmap_log(&self) -> Vec<MmapEntry> {
        self.mmap_log.lock().clone()
    }

    /// Notes that a callback of an exporter begins.
    pub(crate) fn log_callback(&self, exporter: &'static str, callback: &'static str, resv_held: bool) {
        self.callbacks.lock().insert(CallbackEntry { callback, exporter, resv_held });
    }

    /// The ways in which callbacks were entered so far.
    #[must_use]
    pub fn callbacks(&self) -> BTreeSet<CallbackEntry> {
        self.callbacks.lock().clone()
    }

    /// `WARN_ON`: notes what is wrong and goes on. Returns the condition.
    pub(crate) fn warn_on(&self, wrong: bool, what: &str) -> bool {
        if wrong {
            self.warnings.lock().push(what.to_owned());
        }
        wrong
    }

    /// The warnings so far (`WARN_ON` that hit).
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().clone()
    }

    pub(crate) fn keep_address_space(&self, mm: &Arc<Mm>) {
        self.address_spaces.lock().push(mm.clone());
    }

    /// Cuts the circles of a world that was left in the middle (after a panic): buffers that hold their exporter,
    /// which holds them; address spaces that know this kernel, which keeps them.
    pub(crate) fn abandon(&self) {
        self.background.stop();
        for mm in self.address_spaces.lock().drain(..) {
            mm.abandon();
        }
        let mut files = Vec::new();
        self.db_list.try_with(|list| files = core::mem::take(list));
        for file in files.iter().filter_map(Weak::upgrade) {
            file.abandon();
        }
    }
}

super::opaque_debug!(KernelCore);
