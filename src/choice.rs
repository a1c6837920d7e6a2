// SPDX-License-Identifier: MIT OR Apache-2.0
//! Words on the command line that choose one of some known things, and the panics that are findings.

use core::fmt::Display;
use std::panic;

use super::output::Failure;

/// The value with this name, whatever the case of its letters; none if none was given.
pub(crate) fn one_of<T: Copy + Display>(
    what: &str,
    given: Option<&str>,
    known: &[T],
) -> Result<Option<T>, Failure> {
    let Some(given) = given else { return Ok(None) };
    let found = known.iter().find(|value| value.to_string().eq_ignore_ascii_case(given));
    match found {
        Some(value) => Ok(Some(*value)),
        None => {
            let names: Vec<String> = known.iter().map(ToString::to_string).collect();
            Err(Failure::user(format!("unknown {what} `{given}`: it is one of {}", names.join(", "))))
        }
    }
}

/// A finding that stops a run panics, which is how it unwinds. It is shown as a report; the message that Rust
/// prints for a panic would only be in the way. Other panics keep theirs.
pub(crate) fn quiet_findings() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let finding =
            info.payload().downcast_ref::<String>().is_some_and(|text| text.starts_with("lockdep: "));
        if !finding {
            usual(info);
        }
    }));
}
