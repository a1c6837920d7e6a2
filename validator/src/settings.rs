// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! What can be chosen about a validator: the same types in both modes.

/// When a finding panics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PanicOn {
    /// Never: a certain deadlock is reported, and then hangs.
    Never,
    /// If the acquisition would certainly block for ever.
    #[default]
    Certain,
    /// At every finding that is an error.
    Finding,
}

/// When stacks are captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stacks {
    /// Never: reports have places only.
    Off,
    /// At each new dependency, where a class is first taken in or with a kind of context, and at findings.
    #[default]
    NewEdges,
    /// The same, and at every acquisition for as long as the lock is held: a report then shows how each held lock, and the
    /// earlier lock of each dependency, was come by. No acquisition is on the fast path.
    Full,
}
