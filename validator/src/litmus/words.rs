// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! The words of a line with their columns, and errors that name them: what the parser of any small language of lines
//! needs. The litmus language is one, the scripts of the driver models are another.

use std::fmt;

/// Why a text is no program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong and what was expected.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ParseError {}

/// The words of one line, with their columns.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    pub(super) line: u32,
    pub(super) text: &'a str,
    /// What is still to be read of it.
    pub(super) rest: &'a str,
}

impl<'a> Words<'a> {
    /// The words of this line.
    #[must_use]
    pub fn new(line: u32, text: &'a str) -> Self {
        Words { line, text, rest: text }
    }

    /// The number of the line, from 1.
    #[must_use]
    pub fn line(&self) -> u32 {
        self.line
    }

    /// Where a part of the line stands in it.
    #[must_use]
    pub fn column_of(&self, part: &str) -> u32 {
        let offset = part.as_ptr().addr() - self.text.as_ptr().addr();
        u32::try_from(self.text[..offset].chars().count() + 1).unwrap_or(u32::MAX)
    }

    /// The error that this part of the line is.
    ///
    /// # Errors
    /// Always.
    pub fn error<T>(&self, at: &str, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError { line: self.line, column: self.column_of(at), message: message.into() })
    }

    /// The next word, which stays; empty at the end of the line.
    #[must_use]
    pub fn peek(&self) -> &'a str {
        self.rest.split_whitespace().next().unwrap_or(&self.rest[self.rest.len()..])
    }

    /// Takes the next word.
    ///
    /// # Errors
    /// If there is none; the text says what it should have been.
    pub fn next(&mut self, expected: &str) -> Result<&'a str, ParseError> {
        let word = self.peek();
        if word.is_empty() {
            return self.error(word, format!("expected {expected}, found the end of the line"));
        }
        let start = word.as_ptr().addr() - self.rest.as_ptr().addr();
        self.rest = &self.rest[start + word.len()..];
        Ok(word)
    }

    /// There is no further word.
    ///
    /// # Errors
    /// If there is one.
    pub fn end(&self) -> Result<(), ParseError> {
        let word = self.peek();
        if word.is_empty() {
            Ok(())
        } else {
            self.error(word, format!("expected the end of the line, found `{word}`"))
        }
    }
}
