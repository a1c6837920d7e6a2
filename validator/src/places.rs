// SPDX-License-Identifier: MIT OR Apache-2.0
//! Function names for places: who lives at `file.rs:123`?
//!
//! A held lock remembers the caller's [`Location`](core::panic::Location), which is free but knows no function
//! name. A crate that can tell (from a table made when it was built) registers it here, and reports and
//! recorded events then name the function, as the kernel's do.

use parking_lot::RwLock;

use crate::event::Place;
use crate::report::model::Site;

/// The functions of one source file: first line, last line, name. Inner functions follow their outer ones.
pub type Functions = &'static [(u32, u32, &'static str)];

/// Source file as `Location::file` gives it, and its functions.
pub type FileFunctions = (&'static str, Functions);

static TABLES: RwLock<Vec<&'static [FileFunctions]>> = RwLock::new(Vec::new());

/// Adds a table. Registering the same one again does nothing.
pub fn register(table: &'static [FileFunctions]) {
    let mut tables = TABLES.write();
    if !tables.iter().any(|known| core::ptr::eq(*known, table)) {
        tables.push(table);
    }
}

/// The innermost registered function around this place.
#[must_use]
pub fn function_at(place: Place) -> Option<&'static str> {
    let Place::Code(at) = place else { return None };
    let tables = TABLES.read();
    let (_, functions) = tables.iter().flat_map(|table| table.iter()).find(|(file, _)| *file == at.file())?;
    functions
        .iter()
        .filter(|(first, last, _)| (*first..=*last).contains(&at.line()))
        .min_by_key(|(first, last, _)| last - first)
        .map(|(_, _, name)| *name)
}

/// A place with its function.
#[must_use]
pub fn site(place: Place) -> Site {
    Site { place, function: function_at(place) }
}
