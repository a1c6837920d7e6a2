// SPDX-License-Identifier: GPL-2.0-only
//! Models of the Linux buffer-sharing drivers, instrumented with lockdep.
//!
//! Four layers:
//!
//! * [`kernel`]: what the drivers stand on. Locks that really block, files with deferred release, address
//!   spaces with page faults and fork, memory that is really shared.
//! * [`dma_buf`], [`drm`], [`media`], [`misc`]: the drivers. Files and functions have the kernel's names, so that who knows
//!   the C finds the place at once. They take the kernel's locks in the kernel's order.
//! * [`user`]: the system calls that a test program makes. Start with [`user::Kernel`].
//! * [`scenario`]: the test programs.
//!
//! [`policy`] holds the two questions the models exist for: does the dma-buf core hold the reservation lock
//! around an exporter's `mmap`, and which locks does the shmem helper use. [`bug`] lists the mistakes that a kernel can
//! have.
//!
//! With the feature `lockdep` off all of it runs as ordinary concurrent code.

pub mod bug;
pub mod dma_buf;
pub mod drm;
pub mod functions;
pub mod kernel;
pub mod media;
pub mod misc;
pub mod policy;
pub mod scenario;
pub mod selftest;
pub mod user;
