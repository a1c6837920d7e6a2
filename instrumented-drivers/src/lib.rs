// SPDX-License-Identifier: GPL-2.0-only
//! Models of the Linux buffer-sharing drivers, instrumented with lockdep.

pub mod functions;
pub mod scenario;
