// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `lockdep`: who holds which lock in mmap, kernel lock scenarios, recorded lock traces.
//!
//! One file for each subcommand; [`app`] parses the command line and dispatches. Built without the feature
//! `lockdep` there is nothing to run, and `disabled.rs` says so.

#[cfg(feature = "lockdep")]
#[path = "enabled.rs"]
mod app;
#[cfg(not(feature = "lockdep"))]
#[path = "disabled.rs"]
mod app;

fn main() -> std::process::ExitCode {
    app::main()
}
