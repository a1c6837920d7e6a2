// SPDX-License-Identifier: GPL-2.0-only
//! The substrate: the parts of a kernel that buffer-sharing drivers stand on.
//!
//! | module | kernel counterpart |
//! |---|---|
//! | [`locking`] | `kernel/locking/` |
//! | [`task`], [`irq`] | task work, the syscall boundary, interrupt state |
//! | [`kthread`], [`wait`], [`workqueue`], [`irq_thread`] | threads of the kernel, and what they wait for and work on |
//! | [`reclaim`], [`gfp`], [`shrinker`] | `fs_reclaim` and the allocators' hooks, drivers that give memory back |
//! | [`mod@file`], [`poll`] | `fs/file_table.c`, `fs/select.c`, wait queues |
//! | [`mm`], [`uaccess`] | `mm/mmap.c`, `kernel/fork.c`, the page fault |
//! | [`shmem`], [`memfd`] | `mm/shmem.c`, `mm/memfd.c`: memory that is really shared |
//! | [`vmalloc`] | `mm/vmalloc.c`: pages mapped next to each other for the kernel |
//! | [`fault`], [`live`] | fault injection, leak check |
//!
//! # Functions and places
//!
//! A report names the function in which a lock was taken, as the kernel's reports do. What the kernel inlines is
//! `#[track_caller]` here, so the event lands in the caller. Sometimes the C compiler turns the last call of a
//! function (an unlock) into a jump, and the kernel's own recording shows the caller there; such a function is
//! `#[track_caller]` here too, and does the rest of its work inside `own`.

pub mod cell;
pub mod errno;
pub mod fault;
pub mod file;
pub mod gfp;
pub mod interleave;
pub mod irq;
pub mod irq_thread;
pub mod kthread;
pub mod live;
pub mod locking;
pub mod memfd;
pub mod mm;
pub mod poll;
pub mod reclaim;
pub mod shmem;
pub mod shrinker;
pub mod task;
mod timer;
pub mod uaccess;
pub mod vmalloc;
pub mod wait;
pub mod workqueue;

mod core_state;

pub use core_state::{CallbackEntry, KernelCore, MmapEntry};

/// Runs the part of a `#[track_caller]` function whose events are its own and not its caller's: a closure does not
/// inherit the caller's place.
pub(crate) fn own<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// A `Debug` that names the type and nothing inside: kernel objects point at each other in circles.
macro_rules! opaque_debug {
    ($($type:ty),+) => {
        $(impl core::fmt::Debug for $type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.debug_struct(stringify!($type)).finish_non_exhaustive()
            }
        })+
    };
}
pub(crate) use opaque_debug;
