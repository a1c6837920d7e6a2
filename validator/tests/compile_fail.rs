// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that must not compile, with the reason the compiler gives. To accept a new one after a look:
//! `TRYBUILD=overwrite cargo test -p lockdep --features lockdep --test compile_fail`.
#![cfg(feature = "lockdep")]

use std::process::Command;

/// The compiler whose words the expected messages are; others say the same in other words.
const RUSTC: &str = "rustc 1.95.";

#[test]
fn misuse_does_not_compile() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().expect("the compiler runs").stdout;
    let version = String::from_utf8_lossy(&version);
    if !version.starts_with(RUSTC) {
        eprintln!("not compared: the expected messages are those of {RUSTC}x, this is {version}");
        return;
    }
    let tests = trybuild::TestCases::new();
    tests.compile_fail("tests/ui/*.rs");
}
