// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The queue and its buffers: look-up, `mmap`, export, release. How they are made is in
//! [`allocation`](super::allocation), how a buffer travels in [`streaming`](super::streaming). The locks are told in
//! [`super`].
//!
//! The functions that begin with `vb2_core_` are called with `q->lock` held, if not said otherwise.
//!
//! Kernel counterpart: `videobuf2-core.c`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use lockdep::LockClass;

use super::allocation::{__vb2_queue_free, vb2_core_free_buffers_storage};
use super::memops::{MemPriv, Vb2MemOps};
use super::streaming::{__vb2_queue_cancel, QueueState};
use crate::bug::Bug;
use crate::dma_buf::DmaBuf;
use crate::kernel::cell::{KCell, KRwCell};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::Fd;
use crate::kernel::live::Live;
use crate::kernel::locking::{Mutex, SpinLock, sleep_class, spin_class};
use crate::kernel::mm::VmArea;
use crate::kernel::poll::WaitQueueHead;
use crate::kernel::shmem::PAGE_SIZE;
use crate::kernel::{KernelCore, own};

static MMAP_LOCK: LockClass = sleep_class("&q->mmap_lock");
static DONE_LOCK: LockClass = spin_class("&q->done_lock");
static DONE_WQ: LockClass = spin_class("&q->done_wq");

/// `max_num_buffers`.
pub const MAX_BUFFERS: usize = 32;
/// `VB2_MAX_PLANES`.
const MAX_PLANES: u64 = 8;

/// `enum vb2_memory`: whose memory the buffers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Memory {
    /// The queue allocates it; the program maps it.
    Mmap,
    /// The program's own.
    UserPtr,
    /// Some exporter's.
    DmaBuf,
}

/// `enum vb2_buffer_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BufferState {
    /// The program has it.
    Dequeued,
    /// Its memory is being got.
    Preparing,
    /// Queued, not yet with the driver.
    Queued,
    /// The driver has it.
    Active,
    /// Filled.
    Done,
    /// Came back without a frame.
    Error,
}

impl BufferState {
    const ALL: [Self; 6] =
        [Self::Dequeued, Self::Preparing, Self::Queued, Self::Active, Self::Done, Self::Error];
}

/// Where the memory of a plane is, as the program says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaneMemory {
    /// MMAP: where to map it in the file.
    Offset(u64),
    /// USERPTR: its address.
    UserPtr(u64),
    /// DMABUF: the buffer.
    Fd(Fd),
}

/// A plane, as the program says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserPlane {
    /// Its memory.
    pub memory: PlaneMemory,
    /// In bytes; for DMABUF 0 means all of it.
    pub length: usize,
    /// How much of it is filled.
    pub bytesused: usize,
}

/// `struct vb2_plane`.
#[derive(Default)]
pub(super) struct Plane {
    pub(super) mem_priv: Option<MemPriv>,
    pub(super) dbuf: Option<DmaBuf>,
    pub(super) dbuf_mapped: bool,
    /// Another plane has the same buffer, and the attachment.
    pub(super) dbuf_duplicated: bool,
    pub(super) userptr: u64,
    pub(super) fd: Option<Fd>,
    pub(super) length: usize,
    pub(super) min_length: usize,
    pub(super) bytesused: AtomicUsize,
}

/// `struct vb2_buffer`.
pub struct Vb2Buffer {
    /// Its number in the queue.
    pub index: usize,
    pub(super) memory: Memory,
    pub(super) state: AtomicU8,
    pub(super) prepared: AtomicBool,
    pub(super) synced: AtomicBool,
    /// Which frame it holds.
    pub(super) sequence: AtomicU32,
    /// Changes under `q->lock`, for MMAP under `q->mmap_lock` too; read under either, or by the driver while it has
    /// the buffer.
    pub(super) planes: KRwCell<Vec<Plane>>,
    pub(super) live: Live,
}

impl Vb2Buffer {
    /// Where it is.
    #[must_use]
    pub fn state(&self) -> BufferState {
        BufferState::ALL[usize::from(self.state.load(Ordering::Acquire))]
    }

    pub(super) fn set_state(&self, state: BufferState) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// How many planes it has.
    #[must_use]
    pub fn num_planes(&self) -> usize {
        self.planes.read(Vec::len)
    }

    /// `vb2_plane_size`: the length of a plane's memory.
    #[must_use]
    pub fn plane_size(&self, plane: usize) -> usize {
        self.planes.read(|planes| planes.get(plane).map_or(0, |plane| plane.length))
    }

    /// `vb2_set_plane_payload`: how much of a plane is filled.
    pub fn set_plane_payload(&self, plane: usize, bytes: usize) {
        self.planes.read(|planes| {
            if let Some(plane) = planes.get(plane) {
                plane.bytesused.store(bytes, Ordering::Relaxed);
            }
        });
    }

    /// Which frame it holds; the driver says so before it gives the buffer back.
    pub fn set_sequence(&self, sequence: u32) {
        self.sequence.store(sequence, Ordering::Relaxed);
    }

    /// The memory of a plane, for the driver that fills it.
    #[must_use]
    pub fn plane_memory(&self, plane: usize) -> Option<MemPriv> {
        self.planes.read(|planes| planes.get(plane)?.mem_priv.clone())
    }

    /// `vb2_buffer_in_use`: somebody besides the queue uses its memory.
    fn in_use(&self) -> bool {
        self.memory == Memory::Mmap && self.planes.read(|planes| planes.iter().any(plane_in_use))
    }
}

fn plane_in_use(plane: &Plane) -> bool {
    plane.mem_priv.as_ref().is_some_and(|memory| memory.num_users() > 1)
}

/// `struct vb2_ops`: the driver.
pub trait Vb2Ops: Send + Sync {
    /// `queue_setup`: how many buffers, and how large the planes are. `sizes` is empty for REQBUFS; for CREATE_BUFS it
    /// is what the program wants, to be checked.
    ///
    /// # Errors
    /// -EINVAL if the sizes do not do.
    fn queue_setup(&self, count: &mut usize, sizes: &mut Vec<usize>) -> Result;

    /// `buf_prepare`: the buffer is about to be queued.
    ///
    /// # Errors
    /// -EINVAL if a plane is too small.
    fn buf_prepare(&self, vb: &Vb2Buffer) -> Result;

    /// `buf_queue`: the driver has the buffer now.
    fn buf_queue(&self, vb: &Arc<Vb2Buffer>);

    /// `start_streaming`; `count` buffers are with the driver already.
    ///
    /// # Errors
    /// What the driver says; it must have given all buffers back as queued.
    fn start_streaming(&self, count: usize) -> Result;

    /// `stop_streaming`: the driver gives all buffers back.
    fn stop_streaming(&self);

    /// `wait_prepare`: a task is about to sleep; the default drops `q->lock`.
    fn wait_prepare(&self, q: &Vb2Queue) {
        vb2_ops_wait_prepare(q);
    }

    /// `wait_finish`.
    fn wait_finish(&self, q: &Vb2Queue) {
        vb2_ops_wait_finish(q);
    }

    /// Somebody goes to sleep until a buffer is filled; `still_waits` says whether that is still so. No kernel has
    /// this: it is the moment when time passes in a simulated device.
    fn sleeper(&self, _still_waits: &dyn Fn() -> bool) {}
}

/// `vb2_ops_wait_prepare`.
pub fn vb2_ops_wait_prepare(q: &Vb2Queue) {
    q.lock.unlock();
}

/// `vb2_ops_wait_finish`.
pub fn vb2_ops_wait_finish(q: &Vb2Queue) {
    q.lock.lock();
}

/// The table of buffers.
#[derive(Default)]
pub(super) struct Table {
    /// None: `VB2_MEMORY_UNKNOWN`.
    pub(super) memory: Option<Memory>,
    pub(super) bufs: Vec<Option<Arc<Vb2Buffer>>>,
    /// It has memory of its own.
    pub(super) allocated: bool,
}

/// `struct vb2_queue`.
pub struct Vb2Queue {
    pub(super) core: Arc<KernelCore>,
    pub(super) ops: Weak<dyn Vb2Ops>,
    pub(super) mem_ops: &'static dyn Vb2MemOps,
    /// The driver's.
    pub(super) lock: Arc<Mutex>,
    pub(super) mmap_lock: Mutex,
    pub(super) done_lock: SpinLock,
    pub(super) done_wq: Arc<WaitQueueHead>,
    /// Changes under `q->lock` and `q->mmap_lock`, read under either.
    pub(super) table: KRwCell<Table>,
    /// Under `q->lock`.
    pub(super) state: KCell<QueueState>,
    /// Under `done_lock`; whether it is empty may be asked without.
    pub(super) done_list: KCell<VecDeque<Arc<Vb2Buffer>>>,
    pub(super) done_count: AtomicUsize,
    pub(super) streaming: AtomicBool,
    pub(super) error: AtomicBool,
    pub(super) waiting_in_dqbuf: AtomicBool,
    pub(super) owned_by_drv_count: AtomicUsize,
    /// The driver starts once so many are queued.
    pub(super) min_queued_buffers: usize,
}

impl Vb2Queue {
    /// `vb2_queue_init`.
    #[must_use]
    pub fn new(
        core: &Arc<KernelCore>,
        ops: Weak<dyn Vb2Ops>,
        mem_ops: &'static dyn Vb2MemOps,
        lock: Arc<Mutex>,
    ) -> Self {
        Vb2Queue {
            core: core.clone(),
            ops,
            mem_ops,
            lock,
            mmap_lock: Mutex::new(&MMAP_LOCK),
            done_lock: SpinLock::new(&DONE_LOCK),
            done_wq: Arc::new(WaitQueueHead::new(&DONE_WQ)),
            table: KRwCell::new("the buffers of a queue", Table::default()),
            state: KCell::new("the state of a queue", QueueState::default()),
            done_list: KCell::new("the filled buffers of a queue", VecDeque::new()),
            done_count: AtomicUsize::new(0),
            streaming: AtomicBool::new(false),
            error: AtomicBool::new(false),
            waiting_in_dqbuf: AtomicBool::new(false),
            owned_by_drv_count: AtomicUsize::new(0),
            min_queued_buffers: 1,
        }
    }

    /// `q->lock`.
    #[must_use]
    pub fn lock(&self) -> &Mutex {
        &self.lock
    }

    /// One buffer more than the driver starts with, so that the program can have one.
    pub(super) fn min_reqbufs_allocation(&self) -> usize {
        self.min_queued_buffers + 1
    }

    pub(super) fn ops(&self) -> Result<Arc<dyn Vb2Ops>> {
        self.ops.upgrade().ok_or(Errno::ENODEV)
    }

    pub(super) fn memory(&self) -> Option<Memory> {
        self.table.read(|table| table.memory)
    }

    /// `vb2_get_buffer`.
    pub(super) fn get_buffer(&self, index: usize) -> Result<Arc<Vb2Buffer>> {
        self.table.read(|table| table.bufs.get(index).cloned().flatten()).ok_or(Errno::EINVAL)
    }

    /// All of them.
    pub(super) fn buffers(&self) -> Vec<Arc<Vb2Buffer>> {
        self.table.read(|table| table.bufs.iter().flatten().cloned().collect())
    }

    /// `vb2_is_streaming`.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        self.streaming.load(Ordering::Acquire)
    }

    /// How many buffers it has.
    #[must_use]
    pub fn num_buffers(&self) -> usize {
        self.table.read(|table| table.bufs.iter().flatten().count())
    }
}

/// What QUERYBUF tells of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferInfo {
    /// Its number.
    pub index: usize,
    /// Whose memory it is.
    pub memory: Memory,
    /// Where it is.
    pub state: BufferState,
    /// Its memory is the device's now (`V4L2_BUF_FLAG_PREPARED`).
    pub prepared: bool,
    /// It is mapped or exported (`V4L2_BUF_FLAG_MAPPED`).
    pub mapped: bool,
    /// Which frame it holds.
    pub sequence: u32,
    /// Its planes.
    pub planes: Vec<UserPlane>,
}

/// `vb2_core_querybuf` and `__fill_v4l2_buffer`.
pub(super) fn fill_user_buffer(vb: &Vb2Buffer) -> BufferInfo {
    let plane = |(number, plane): (usize, &Plane)| UserPlane {
        memory: match vb.memory {
            Memory::Mmap => PlaneMemory::Offset(cookie(vb.index, number)),
            Memory::UserPtr => PlaneMemory::UserPtr(plane.userptr),
            Memory::DmaBuf => PlaneMemory::Fd(plane.fd.unwrap_or(Fd(-1))),
        },
        length: plane.length,
        bytesused: plane.bytesused.load(Ordering::Relaxed),
    };
    BufferInfo {
        index: vb.index,
        memory: vb.memory,
        state: vb.state(),
        prepared: vb.prepared.load(Ordering::Relaxed),
        mapped: vb.in_use(),
        sequence: vb.sequence.load(Ordering::Relaxed),
        planes: vb.planes.read(|planes| planes.iter().enumerate().map(plane).collect()),
    }
}

/// `vb2_querybuf`.
///
/// # Errors
/// -EINVAL if there is no such buffer.
pub fn vb2_querybuf(q: &Vb2Queue, index: usize) -> Result<BufferInfo> {
    Ok(fill_user_buffer(&*q.get_buffer(index)?))
}

/// The offset at which a plane is mapped: buffer and plane in one number, in pages.
fn cookie(index: usize, plane: usize) -> u64 {
    (index as u64 * MAX_PLANES + plane as u64) * PAGE_SIZE as u64
}

/// `vb2_core_expbuf`: a plane of a buffer as a dma-buf; the caller installs it.
///
/// # Errors
/// -EINVAL unless the memory is MMAP and the plane exists, -ENOMEM (injected).
pub fn vb2_core_expbuf(q: &Vb2Queue, index: usize, plane: usize) -> Result<DmaBuf> {
    let vb = q.get_buffer(index)?;
    if q.memory() != Some(Memory::Mmap) {
        return Err(Errno::EINVAL);
    }
    vb.plane_memory(plane).ok_or(Errno::EINVAL)?.get_dmabuf()
}

/// `vb2_mmap`: maps the plane that the offset names, whole. The caller holds the write side of `mmap_lock` and must
/// not hold `q->lock`, nor does this take it: a task may hold it and wait for `mmap_lock`.
///
/// # Errors
/// -EINVAL if it is private, or the offset names nothing, or it is too long.
pub fn vb2_mmap(q: &Vb2Queue, vma: &mut VmArea) -> Result {
    if !vma.flags.shared {
        return Err(Errno::EINVAL);
    }
    let old_way = q.core.has(Bug::Vb2MmapLocksQueue);
    if old_way {
        q.lock.lock();
    }
    q.mmap_lock.lock();
    let result = mmap_plane(q, vma);
    q.mmap_lock.unlock();
    if old_way {
        q.lock.unlock();
    }
    result
}

fn mmap_plane(q: &Vb2Queue, vma: &mut VmArea) -> Result {
    let memory = __find_plane_by_offset(q, vma.pgoff)?;
    // The offset has said which plane; the mapping begins at its beginning.
    vma.pgoff = 0;
    q.core.log_mmap(q.mem_ops.name(), "vb2_mmap", false);
    memory.mmap(vma)
}

fn __find_plane_by_offset(q: &Vb2Queue, pgoff: u64) -> Result<MemPriv> {
    q.mmap_lock.assert_held();
    if q.memory() != Some(Memory::Mmap) {
        return Err(Errno::EINVAL);
    }
    let index = usize::try_from(pgoff / MAX_PLANES).map_err(|_| Errno::EINVAL)?;
    let plane = usize::try_from(pgoff % MAX_PLANES).map_err(|_| Errno::EINVAL)?;
    q.get_buffer(index)?.plane_memory(plane).ok_or(Errno::EINVAL)
}

/// `vb2_core_queue_release`: the queue's owner is gone. Ends in a jump to the unlock.
#[track_caller]
pub fn vb2_core_queue_release(q: &Vb2Queue) {
    own(|| {
        __vb2_queue_cancel(q);
        q.mmap_lock.lock();
        __vb2_queue_free(q, &q.buffers());
        vb2_core_free_buffers_storage(q);
    });
    q.mmap_lock.unlock();
}

crate::kernel::opaque_debug!(Vb2Buffer, Vb2Queue);
