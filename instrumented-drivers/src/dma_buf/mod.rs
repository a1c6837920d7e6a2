// SPDX-License-Identifier: GPL-2.0-only
//! Buffer sharing between drivers: the dma-buf core, the reservation lock, fences.
//!
//! Kernel counterpart: `drivers/dma-buf/`.

pub mod core;
pub mod fence;
pub mod ioctl;
pub mod poll;
pub mod resv;
pub mod sync_file;

pub use self::core::{
    DmaBuf, DmaBufAttachment, DmaBufExportInfo, DmaBufOps, DmaDirection, ImporterOps, SgTable, Tail,
};
