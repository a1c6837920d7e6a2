// SPDX-License-Identifier: MIT OR Apache-2.0
//! Standard output, and the ways a command can end.

use std::io::{self, BufWriter, Write};

use clap::ValueEnum;

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document on standard output.
    Json,
}

/// How a command ended when nothing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Status 0.
    AsExpected,
    /// Status 1.
    Finding,
}

/// How a command ended when it could not go on.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A mistake that the user can mend: one line that says which.
    User(String),
    /// Nobody reads our output any more.
    ClosedPipe,
}

impl Failure {
    /// A mistake that the user can mend.
    pub(crate) fn user(message: impl Into<String>) -> Self {
        Failure::User(message.into())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
            _ => Failure::User(format!("cannot write to standard output: {error}")),
        }
    }
}

/// Buffered standard output; colours are dropped where the terminal has none.
pub(crate) struct Output {
    writer: BufWriter<anstream::AutoStream<io::Stdout>>,
}

impl Output {
    pub(crate) fn new() -> Self {
        Output { writer: BufWriter::new(anstream::AutoStream::auto(io::stdout())) }
    }

    /// Writes a JSON document.
    pub(crate) fn json(&mut self, value: &serde_json::Value) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::user(format!("internal error: {error}")))?;
        writeln!(self, "{text}")?;
        Ok(())
    }

    /// Writes what is still in the buffer; to be called once at the end, so that an error is not lost.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        self.writer.flush()?;
        Ok(())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
