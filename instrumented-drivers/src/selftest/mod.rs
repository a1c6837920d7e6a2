// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The kernel's locking self-test: 394 small lock sequences, each of which must be reported or must stay silent.
//!
//! The cases are data ([`blocks`]); [`Case::run`] runs one through the real lock types of [`crate::kernel`] on a
//! validator of its own, step by step until the first report. The kernel counts only whether something is reported;
//! here the kind of the report must be the right one, too.
//!
//! A case may leave locks held and interrupts off: its locks go away with it, and the thread's simulated CPU is reset.
//! With the feature `lockdep` off the cases run and nothing is reported.
//!
//! Kernel counterpart: `lib/locking-selftest.c`. The one thing that is not taken over is the order: a case knows nothing
//! of the ones before it.

mod bench;
mod program;
mod tables;

use std::panic::{AssertUnwindSafe, catch_unwind};

use lockdep::{PanicOn, Report, ReportKind, Validator};

use bench::Bench;
use program::Op;

/// Cases that are printed as one table.
#[derive(Debug)]
pub struct Block {
    /// The part of the suite, as the kernel's log calls it.
    pub section: &'static str,
    /// The part begins here.
    pub title: bool,
    /// How the columns are headed; empty if they only have numbers.
    pub heads: &'static [&'static str],
    /// Its cases, row by row.
    pub cases: Vec<Case>,
}

/// One cell of the suite.
#[derive(Debug)]
pub struct Case {
    /// The number of the group it belongs to, from 1 (there is no 9).
    pub group: u8,
    /// The part of the suite.
    pub section: &'static str,
    /// The row, as it is printed.
    pub row: String,
    /// The column: the name of the kernel's test function.
    pub column: String,
    /// The position of the column, from 0.
    pub slot: usize,
    /// What must be reported; `None`: it must stay silent.
    pub expected: Option<ReportKind>,
    recursive_readers: bool,
    steps: Vec<Op>,
}

/// What came of a case.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The first report.
    pub report: Option<Report>,
    /// A call that returned something else than the case says.
    pub problem: Option<String>,
}

impl Outcome {
    /// The kind of the first report.
    #[must_use]
    pub fn kind(&self) -> Option<ReportKind> {
        self.report.as_ref().map(Report::kind)
    }
}

/// The whole suite, in the order of the kernel's log.
#[must_use]
pub fn blocks() -> Vec<Block> {
    tables::blocks()
}

impl Case {
    /// Runs the case on this thread.
    #[must_use]
    pub fn run(&self) -> Outcome {
        // No case blocks for ever by itself, so nothing has to be prevented by a panic.
        let validator = Validator::builder().panic_on(PanicOn::Never).build();
        let mut bench = Bench::new(self.recursive_readers);
        let mut problem = None;
        validator.scope(|| {
            for op in &self.steps {
                let done = catch_unwind(AssertUnwindSafe(|| bench.step(*op)));
                if !validator.reports().is_empty() {
                    break;
                }
                problem = match done {
                    Ok(step) => step.err(),
                    Err(_) => Some(format!("{op:?} panicked without a report")),
                };
                if problem.is_some() {
                    break;
                }
            }
        });
        bench::tidy_up();
        Outcome { report: validator.reports().into_iter().next(), problem }
    }

    /// True if this is what must come of it.
    #[must_use]
    pub fn is_passed_by(&self, outcome: &Outcome) -> bool {
        outcome.problem.is_none() && outcome.kind() == self.expected
    }
}

#[cfg(test)]
mod tests;
