// SPDX-License-Identifier: GPL-2.0-only
//! videobuf2: queues of frame buffers between a program and a capture driver.
//!
//! # Locking
//!
//! | lock | kind | protects |
//! |---|---|---|
//! | `q->lock` (the driver's, here `&dev->mutex`) | mutex | every ioctl of the queue |
//! | `&q->mmap_lock` | mutex | the table of buffers, against `mmap` |
//! | `&q->done_lock` | spinlock, interrupts off | the list of filled buffers |
//! | `&q->done_wq` | wait queue | who sleeps until a buffer is filled |
//!
//! * `&dev->mutex` → `&q->mmap_lock`, `&q->done_lock`, `reservation_ww_class_mutex`: what a queue's ioctls take
//! * `&dev->mutex` → `&mm->mmap_lock` → `&q->mmap_lock`: user memory is pinned under the first; a program that maps a
//!   buffer has the second
//! * `&q->mmap_lock` → `reservation_ww_class_mutex`: buffers are given up, and imported ones detached
//! * `&q->mmap_lock` → `&dmabuf->lock` (P0): and unmapped for the kernel
//! * `&q->mmap_lock` → `&q->done_wq`: who waits for a buffer that is given up is woken
//!
//! So `vb2_mmap` must never take `q->lock`, and `q->mmap_lock` must be dropped before user memory is touched. The table
//! changes under both locks and is read under either.
//!
//! A program that waits in DQBUF has dropped `q->lock`; when it wakes up and has it back, everything may be different.
//!
//! A buffer's memory counts its users: the queue, each VMA, each exported dma-buf. A queue can give up its buffers while
//! they are mapped or exported; they live until the last user is gone.
//!
//! The three allocators have no locks of their own. As exporters they keep one mapping for each attachment, under the
//! reservation lock that the core holds; in P0, where it does not, they take the buffer's mutex.
//!
//! Kernel counterpart: `drivers/media/common/videobuf2/`. Not modelled: output queues, requests, file I/O (`read()`),
//! cache hints.

pub mod allocation;
pub mod core;
pub mod dma_contig;
pub mod dma_sg;
pub mod memops;
mod prepare;
pub mod streaming;
pub mod v4l2;
pub mod vmalloc;

pub use self::core::{BufferState, Memory, PlaneMemory, UserPlane, Vb2Buffer, Vb2Ops, Vb2Queue};
pub use self::memops::{MemPriv, Vb2MemOps, Vb2Memory};
