// SPDX-License-Identifier: GPL-2.0-only
//! Drivers that belong nowhere else.

pub mod fastrpc;
pub mod forwarding_importer;
