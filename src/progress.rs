// SPDX-License-Identifier: MIT OR Apache-2.0
//! Progress for those who sit and wait. Where standard error is no terminal, a bar draws nothing.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar for so many things, of which the template says what to show.
pub(crate) fn bar(length: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
