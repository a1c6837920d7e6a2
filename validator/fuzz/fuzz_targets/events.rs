// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes as events of the engine.
#![no_main]

#[path = "../harness.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| harness::events(data));
