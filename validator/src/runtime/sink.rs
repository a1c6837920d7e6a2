// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where reports go: collected always, then to callbacks, then printed, then a panic if one is due.
//!
//! A report comes here once, from the thread that made the finding, when no lock of the validator is held any more. So
//! those of one thread stand in the order in which it made them; two threads may deliver in another order than the engine
//! found. A report is collected before the callbacks are looked up: who adds a callback and then asks for the reports
//! misses none.
//!
//! This file takes its locks from whoever includes it: `tests/interleavings` includes it with loom's, and tries all
//! interleavings.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use super::fork::Pass;
use super::shared::Mutex;
use crate::report::model::{Report, Severity};
use crate::settings::PanicOn;

type Callback = Arc<dyn Fn(&Report) + Send + Sync>;

/// The end of the line for reports.
pub(super) struct Sink {
    print: bool,
    sources: bool,
    panic_on: PanicOn,
    reports: Mutex<Vec<Report>>,
    callbacks: Mutex<Vec<Callback>>,
}

/// The panic that is due after a delivery. Dropping it means to go on.
#[must_use]
pub(crate) enum Verdict {
    /// The validator's own.
    Finding(String),
    /// A callback panicked: so shall the code that made the finding.
    Callback(Box<dyn Any + Send>),
}

impl Verdict {
    /// Panics, on the thread and at the place of the finding.
    #[track_caller]
    pub(crate) fn raise(self) -> ! {
        match self {
            Verdict::Finding(message) => panic!("{message}"),
            Verdict::Callback(payload) => resume_unwind(payload),
        }
    }
}

impl Sink {
    pub(super) fn new(print: bool, sources: bool, panic_on: PanicOn) -> Self {
        Sink { print, sources, panic_on, reports: Mutex::default(), callbacks: Mutex::default() }
    }

    pub(super) fn add(&self, callback: Callback) {
        self.callbacks.lock().push(callback);
    }

    pub(super) fn reports(&self) -> Vec<Report> {
        self.reports.lock().clone()
    }

    /// Delivers one report. Does not panic, and asks for no panic on a thread that panics already.
    pub(super) fn deliver(&self, report: &Report) -> Option<Verdict> {
        let callbacks = {
            let _gate = Pass::new();
            self.reports.lock().push(report.clone());
            self.callbacks.lock().clone()
        };
        let mut panicked = None;
        for callback in &callbacks {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| callback(report))) {
                panicked = panicked.or(Some(Verdict::Callback(payload)));
            }
        }
        if self.print {
            // It panics if standard error is a closed pipe. (Written otherwise, it would not be captured in tests.)
            _ = catch_unwind(AssertUnwindSafe(|| match self.sources {
                true => eprintln!("{}", report.with_sources()),
                false => eprintln!("{report}"),
            }));
        }
        match self.panic_on {
            _ if std::thread::panicking() => None,
            PanicOn::Finding if report.severity == Severity::Error => Some(Self::panic_for(report)),
            PanicOn::Certain if report.certain => Some(Self::panic_for(report)),
            _ => panicked,
        }
    }

    /// A finding that was made before and is not reported again. Where it would hang, it panics each time.
    pub(super) fn made_again(&self, report: &Report) -> Option<Verdict> {
        let due = report.certain && self.panic_on != PanicOn::Never && !std::thread::panicking();
        due.then(|| Self::panic_for(report))
    }

    fn panic_for(report: &Report) -> Verdict {
        Verdict::Finding(format!("lockdep: {}: {}", report.kind, report.summary))
    }
}
