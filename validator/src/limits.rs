// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every bound in one place, with the assertions that relate them.
//!
//! Tables that hold what a program *has* (classes, dependencies, held locks) grow; a bound here is either a
//! property of the model (subclasses) or the size of a cache, whose overflow costs time and nothing else.

/// Number of subclasses of one key (kernel: `MAX_LOCKDEP_SUBCLASSES`).
pub const SUBCLASSES: u8 = 8;

/// Slots of a thread's chain cache; a key may lie in one of two, so a power of two.
pub const CHAIN_CACHE_SLOTS: usize = 1024;

/// Held locks a thread has room for before its stack grows.
pub const HELD_RESERVED: usize = 64;

/// A held stack deeper than this is reported once as `depth`: some loop takes locks and never releases them.
pub const HELD_DEPTH_REPORT: usize = 1000;

/// Frames kept of a captured stack.
pub const STACK_FRAMES: usize = 48;

const _: () = assert!(CHAIN_CACHE_SLOTS.is_power_of_two());
const _: () = assert!(HELD_RESERVED < HELD_DEPTH_REPORT);
const _: () = assert!(CHAIN_CACHE_SLOTS * size_of::<u64>() <= 16 * 1024);
