// SPDX-License-Identifier: GPL-2.0-only
//! Stacks of the models, cut to what a kernel developer wants to see: from the function that locked up to the system
//! call of the program, in the kernel's names.
#![forbid(unsafe_code)]

use std::sync::Arc;

use lockdep::Report;
use lockdep::report::model::{Frame, Stack};

/// Where the program begins, and with it what is of no interest: what runs it.
const PROGRAM: &str = "instrumented_drivers::scenario::";
/// Before each function of the models.
const CRATE: &str = "instrumented_drivers::";
/// In each path to a source file of the models, wherever it was built.
const SOURCES: &str = "instrumented-drivers/src/";

/// The report with readable stacks.
pub(super) fn readable(mut report: Report) -> Report {
    let cut = |stack: &mut Option<Arc<Stack>>| {
        if let Some(full) = stack.take() {
            *stack = Some(Arc::new(Stack { frames: full.frames.iter().map_while(frame).collect() }));
        }
    };
    cut(&mut report.stack);
    report.edges.iter_mut().for_each(|edge| cut(&mut edge.stack));
    report
}

fn frame(frame: &Frame) -> Option<Frame> {
    if frame.function.contains(PROGRAM) {
        return None;
    }
    let place = frame.place.as_ref().map(|place| match place.find(SOURCES) {
        Some(start) => place[start..].to_owned(),
        None => place.clone(),
    });
    Some(Frame { function: frame.function.replace(CRATE, ""), place })
}
