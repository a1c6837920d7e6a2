// SPDX-License-Identifier: GPL-2.0-only
//! The models from outside: one binary for all of it, because each test binary is linked anew.

mod common;
mod convention;
mod fastrpc;
mod fences;
mod i915;
mod injection;
mod lima;
mod omapdrm;
mod policy_matrix;
mod races;
mod regimes;
mod rules;
mod shmem;
mod tegra;
mod user_api;
mod ww_mutex;
