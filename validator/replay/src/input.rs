// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines of a file that may be gzip-compressed, and everything that can be wrong with one.
//!
//! Gzip is recognised by its first two bytes, not by the name. The reader has one buffer; a line is handed out
//! as a slice of it, so nothing is copied and nothing grows with the file. A line ends with a newline: a last
//! line without one was cut off, and what it says must not be trusted, even if it reads well (`lk_` of `lk_a`).

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

use flate2::read::MultiGzDecoder;
use thiserror::Error;

use crate::ftrace::Malformed;
use crate::tasks::DEPTH;

/// Room for a chunk of the file. A multiple of the usual read-ahead.
const CHUNK: usize = 256 << 10;

/// No line of a trace is longer: a class name is a C expression, a marker at most a page.
const LONGEST_LINE: usize = 64 << 10;

/// Why a file could not be read, or not to its end.
#[derive(Debug, Error)]
#[error("{}{reason}", self.prefix())]
pub struct InputError {
    /// The line it happened in, from 1; `None` if it is about the file as a whole.
    pub line: Option<u64>,
    /// What is wrong.
    pub reason: Reason,
}

/// What can be wrong with an input file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Reason {
    /// It cannot be opened.
    #[error("cannot open it: {0}")]
    Open(#[source] io::Error),
    /// It cannot be read (further).
    #[error("cannot read it: {0}")]
    Read(#[source] io::Error),
    /// The compressed data ends too early.
    #[error("the gzip data is cut off here")]
    GzipCut,
    /// The compressed data is wrong.
    #[error("the gzip data is damaged here: {0}")]
    GzipDamaged(#[source] io::Error),
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// Bytes that no text has.
    #[error("this is not text: the line has byte {0:#04x} in it")]
    Binary(u8),
    /// The last line has no newline.
    #[error("the file is cut off in the middle of this line")]
    CutLine,
    /// A line without end.
    #[error("the line is longer than {LONGEST_LINE} bytes, so this is no trace")]
    LongLine,
    /// Not a line that a trace can have.
    #[error("not a line of a trace: {0}")]
    Malformed(#[source] Malformed),
    /// Not a line of a dump.
    #[error("not a line of /proc/lockdep: `ADDRESS … BD: N USAGE: NAME` or ` -> [ADDRESS] NAME` expected")]
    Dump,
    /// Comments only, or not even those.
    #[error("there is no event in this file")]
    NoEvents,
    /// The header says there is more.
    #[error("the header speaks of {0} events and there is none: the file is cut off")]
    EventsMissing(u64),
    /// Releases are missing.
    #[error(
        "a task seems to hold more than {DEPTH} locks here, which no kernel allows: releases are missing (was \
         lock_release recorded?), so the rest is not judged"
    )]
    TooDeep,
    /// The kernel had no room for some events.
    #[error(
        "{}events of CPU {cpu} were lost here (the ring buffer was overrun): \
         locks may have been taken and released unseen, so the rest is not judged",
        .count.map(|n| format!("{n} ")).unwrap_or_default()
    )]
    Overrun {
        /// The CPU whose buffer it was.
        cpu: u32,
        /// How many, if the kernel knew.
        count: Option<u64>,
    },
}

impl InputError {
    pub(crate) fn at(line: u64, reason: Reason) -> Self {
        InputError { line: Some(line), reason }
    }

    pub(crate) fn whole(reason: Reason) -> Self {
        InputError { line: None, reason }
    }

    fn prefix(&self) -> String {
        self.line.map(|line| format!("line {line}: ")).unwrap_or_default()
    }
}

/// The lines of one input.
pub struct Lines {
    reader: Box<dyn Read>,
    gzip: bool,
    bytes_read: Rc<Cell<u64>>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    number: u64,
    at_end: bool,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines")
            .field("gzip", &self.gzip)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl Lines {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// If it cannot be opened or its first bytes cannot be read.
    pub fn open(path: &Path) -> Result<Self, InputError> {
        if path == Path::new("-") {
            return Self::new(Box::new(io::stdin()));
        }
        let file = File::open(path).map_err(|error| InputError::whole(Reason::Open(error)))?;
        Self::new(Box::new(file))
    }

    /// Reads from anything.
    ///
    /// # Errors
    /// If the first bytes cannot be read.
    pub fn new(source: Box<dyn Read>) -> Result<Self, InputError> {
        let bytes_read = Rc::new(Cell::new(0));
        let mut source = Counted { source, count: bytes_read.clone() };
        let mut magic = [0; 2];
        let known =
            read_full(&mut source, &mut magic).map_err(|error| InputError::whole(Reason::Read(error)))?;
        let gzip = magic == [0x1f, 0x8b];
        let whole = io::Cursor::new(magic).take(known as u64).chain(source);
        let reader: Box<dyn Read> = if gzip {
            Box::new(MultiGzDecoder::new(io::BufReader::with_capacity(CHUNK, whole)))
        } else {
            Box::new(whole)
        };
        Ok(Lines {
            reader,
            gzip,
            bytes_read,
            buffer: vec![0; CHUNK],
            start: 0,
            end: 0,
            number: 0,
            at_end: false,
        })
    }

    /// Number of the line handed out last; 0 before the first.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many bytes of the file itself were taken so far (compressed ones, if it is).
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.get()
    }

    /// The next line, without its newline; `None` at the end.
    ///
    /// # Errors
    /// See [`Reason`]. After an error there are no further lines.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, InputError> {
        let mut searched = self.start;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[searched..self.end]) {
                let newline = searched + at;
                let line = self.start..newline;
                self.start = newline + 1;
                self.number += 1;
                let line = &self.buffer[line];
                return Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)));
            }
            let unfinished = self.end - self.start;
            if self.at_end {
                return self.finish(unfinished);
            }
            if unfinished > LONGEST_LINE {
                return Err(self.fail(Reason::LongLine));
            }
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, unfinished);
            searched = unfinished;
            self.fill()?;
        }
    }

    fn finish(&mut self, unfinished: usize) -> Result<Option<&[u8]>, InputError> {
        match (unfinished, self.number) {
            (0, 0) => Err(InputError::whole(Reason::Empty)),
            (0, _) => Ok(None),
            _ => {
                let binary = binary_byte(&self.buffer[self.start..self.end]);
                Err(self.fail(binary.map_or(Reason::CutLine, Reason::Binary)))
            }
        }
    }

    fn fill(&mut self) -> Result<(), InputError> {
        loop {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.at_end = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let reason = match error.kind() {
                        io::ErrorKind::UnexpectedEof if self.gzip => Reason::GzipCut,
                        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData if self.gzip => {
                            Reason::GzipDamaged(error)
                        }
                        _ => Reason::Read(error),
                    };
                    return Err(self.fail(reason));
                }
            }
            return Ok(());
        }
    }

    /// An error in the line that comes next; there will be no more lines.
    fn fail(&mut self, reason: Reason) -> InputError {
        (self.start, self.end, self.at_end) = (0, 0, true);
        InputError::at(self.number + 1, reason)
    }
}

/// A byte that no text line has, if there is one.
pub(crate) fn binary_byte(line: &[u8]) -> Option<u8> {
    line.iter().copied().find(|byte| matches!(byte, 0..=8 | 14..=31 | 127))
}

fn read_full(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Counts what is read through it.
struct Counted {
    source: Box<dyn Read>,
    count: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}
