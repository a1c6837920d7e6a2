// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads a kernel's recorded lock events and judges them with the lockdep engine.
//!
//! The way of a line: `input` (plain or gzip, line by line) → `ftrace` (what the line says; `lkx` for the
//! form with all arguments) → `judge` (whose stack it belongs to, which class it means by `classes`, one
//! event for the engine) → a finding. `output` renders the result. Everything is streamed: memory grows with
//! the number of classes, dependencies, tasks and distinct findings, not with the length of the trace.
//!
//! Ground truth: kernel traces with the kernel's own verdict, in the root package's `tests/data/traces`.
//!
//! Cannot see what the events do not say: classes behind one name, subclasses, nest locks and kinds of read have
//! to be declared (`classes`); initialising, freeing, downgrading and pinning leave no event at all.
#![forbid(unsafe_code)]
#![cfg(feature = "lockdep")]

pub mod classes;
mod context;
pub mod ftrace;
pub mod input;
pub mod judge;
pub mod lkx;
mod names;
pub mod output;
pub mod prime;
mod tasks;

use std::path::Path;

pub use classes::Annotations;
pub use input::{InputError, Lines};
pub use judge::{Counts, Found, Judge};
pub use prime::Dump;

/// How a replay is done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// End at the first finding: what the kernel, which switches itself off then, would have said.
    pub stop_at_first: bool,
}

/// The verdict on one trace.
#[derive(Debug)]
pub struct Replay {
    /// The file, as it was named.
    pub file: String,
    /// How much was read and learned.
    pub counts: Counts,
    /// What was found, in the order of the lines.
    pub findings: Vec<Found>,
    /// What the reader of the verdict should know about the trace.
    pub notes: Vec<String>,
    /// Why the trace was not read to its end; what stands above was read before.
    pub error: Option<InputError>,
}

/// Traces that are judged one after the other, each knowing what those before it taught.
#[derive(Debug)]
pub struct History<'a> {
    judge: Judge<'a>,
    options: Options,
}

impl<'a> History<'a> {
    /// A history that begins with what is declared and what the kernel knew before.
    #[must_use]
    pub fn new(annotations: &'a Annotations, dumps: &[Dump], options: Options) -> Self {
        let mut judge = Judge::new(annotations);
        for dump in dumps {
            judge.prime(dump.clone());
        }
        History { judge, options }
    }

    /// Names tasks with their file from here on, because several files are to be one history.
    pub fn begin_file(&mut self, file: &str) {
        self.judge.begin_file(file);
    }

    /// Replays a file. `progress` is told now and then how many bytes of it were read.
    pub fn replay_file(&mut self, path: &Path, progress: &mut dyn FnMut(u64)) -> Replay {
        let file = path.display().to_string();
        match Lines::open(path) {
            Ok(lines) => self.replay(&file, lines, progress),
            Err(error) => Replay {
                file,
                counts: Counts::default(),
                findings: Vec::new(),
                notes: Vec::new(),
                error: Some(error),
            },
        }
    }

    /// Replays lines from anywhere under the name `file`.
    pub fn replay(&mut self, file: &str, mut lines: Lines, progress: &mut dyn FnMut(u64)) -> Replay {
        let error = feed(&mut self.judge, &mut lines, self.options, progress).err();
        let stopped = self.options.stop_at_first && !self.judge.findings().is_empty();
        let error = error.or_else(|| if stopped { None } else { self.judge.incomplete() });
        Replay {
            file: file.to_owned(),
            counts: self.judge.counts(),
            notes: self.judge.notes(error.is_none() && !stopped),
            findings: self.judge.take_findings(),
            error,
        }
    }
}

/// Lines between two calls of `progress`.
const PROGRESS_LINES: u64 = 1 << 15;

fn feed(
    judge: &mut Judge,
    lines: &mut Lines,
    options: Options,
    progress: &mut dyn FnMut(u64),
) -> Result<(), InputError> {
    loop {
        let number = lines.number() + 1;
        let Some(line) = lines.next_line()? else { break };
        judge.line(number, line)?;
        if options.stop_at_first && !judge.findings().is_empty() {
            break;
        }
        if number.is_multiple_of(PROGRESS_LINES) {
            progress(lines.bytes_read());
        }
    }
    progress(lines.bytes_read());
    Ok(())
}
