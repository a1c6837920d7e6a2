// SPDX-License-Identifier: GPL-2.0-only
//! Cameras: video buffers and a capture driver.
//!
//! Kernel counterpart: `drivers/media/`.

pub mod videobuf2;
pub mod vivid;
