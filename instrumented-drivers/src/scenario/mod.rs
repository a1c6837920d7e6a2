// SPDX-License-Identifier: GPL-2.0-only
//! What runs on the models: named programs with what is expected of them, and the written form of what a
//! program locked.

pub mod sequence;
