// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! Our locks, to be taken for parking_lot's: a crate whose manifest says
//! `parking_lot = { package = "locks", path = "…" }` uses them without a change to its source.

pub use lockdep::sync::*;
