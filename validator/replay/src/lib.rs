// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads a kernel's recorded lock events and judges them with the lockdep engine.
#![cfg(feature = "lockdep")]
