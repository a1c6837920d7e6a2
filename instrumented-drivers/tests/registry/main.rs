// SPDX-License-Identifier: GPL-2.0-only
//! What holds for all scenarios and across them, whatever befalls them.

mod injection;
mod interleavings;
mod priming;
mod reclaim;
mod two_threads;
