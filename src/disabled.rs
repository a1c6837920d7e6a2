// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command, built without the validator: says so and ends with status 2.

use std::process::ExitCode;

pub(crate) fn main() -> ExitCode {
    eprintln!(
        "lockdep: built without the feature `lockdep`, so there is nothing to judge with; \
         run `cargo run --release --features lockdep -- …`"
    );
    ExitCode::from(2)
}
