// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any text as a litmus program.
#![no_main]

#[path = "../harness.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| harness::litmus(data));
