// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where reports go: collected always, then to callbacks, then printed, then a panic if one is due.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::report::model::{Report, Severity};

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

type Callback = Arc<dyn Fn(&Report) + Send + Sync>;

/// The end of the line for reports.
pub(super) struct Sink {
    print: bool,
    panic_on: PanicOn,
    reports: Mutex<Vec<Report>>,
    callbacks: Mutex<Vec<Callback>>,
}

/// The panic that is due after a delivery. Dropping it means to go on.
#[must_use]
pub(crate) struct Verdict {
    message: String,
}

impl Verdict {
    /// Panics, on the thread and at the place of the finding.
    #[track_caller]
    pub(crate) fn raise(self) -> ! {
        panic!("{}", self.message);
    }
}

impl Sink {
    pub(super) fn new(print: bool, panic_on: PanicOn) -> Self {
        Sink { print, panic_on, reports: Mutex::default(), callbacks: Mutex::default() }
    }

    pub(super) fn add(&self, callback: Callback) {
        self.callbacks.lock().push(callback);
    }

    pub(super) fn reports(&self) -> Vec<Report> {
        self.reports.lock().clone()
    }

    /// Delivers one report. Never panics by itself, and asks for no panic on a thread that panics already.
    pub(super) fn deliver(&self, report: Report) -> Option<Verdict> {
        let callbacks = self.callbacks.lock().clone();
        for callback in &callbacks {
            callback(&report);
        }
        if self.print {
            eprintln!("{report}");
        }
        let due = match self.panic_on {
            PanicOn::Never => false,
            PanicOn::Certain => report.certain,
            PanicOn::Finding => report.severity == Severity::Error,
        };
        let message = format!("lockdep: {}: {}", report.kind, report.summary);
        self.reports.lock().push(report);
        (due && !std::thread::panicking()).then_some(Verdict { message })
    }
}
