// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where nothing forks.

/// Nothing forks here.
#[must_use]
pub(in crate::runtime) struct Pass(());

impl Pass {
    pub(in crate::runtime) fn new() -> Self {
        Pass(())
    }
}
