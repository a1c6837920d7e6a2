// SPDX-License-Identifier: GPL-2.0-only
//! Buffer sharing between drivers: the dma-buf core, the reservation lock, fences.
//!
//! Kernel counterpart: `drivers/dma-buf/`.

pub mod access;
pub mod attach;
pub mod core;
pub mod fence;
pub mod heaps;
pub mod ioctl;
pub mod poll;
pub mod resv;
pub mod sw_sync;
pub mod sync_file;
pub mod udmabuf;

pub use self::attach::{DmaBufAttachment, DmaDirection, ImporterOps, SgTable};
pub use self::core::{DmaBuf, DmaBufExportInfo, DmaBufOps, Tail};

#[cfg(test)]
mod tests_exporter;
#[cfg(test)]
mod tests_mmap;
