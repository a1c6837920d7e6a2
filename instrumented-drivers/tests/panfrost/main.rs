// SPDX-License-Identifier: GPL-2.0-only
//! The GPU's driver from outside.

mod bo;
mod common;
mod faults;
mod jobs;
mod order;
mod perfcnt;
mod purge;
mod reset;
mod scenarios;
mod sequences;
mod threads;
#[path = "../vb2_common/mod.rs"]
mod vb2_common;
