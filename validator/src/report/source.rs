// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! The source lines of a report's places, where their files are at hand.
//!
//! A place has the path that the compiler was given: for the crates of a workspace relative to its root, and a test
//! runs in the folder of its package. So a file is looked for in the current folder and in all above it. Files are
//! read when a report is rendered, and at no other time; what is not found, or has changed so that the place is no
//! longer in it, is left out.

use core::fmt;
use core::panic::Location;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use annotate_snippets::{Annotation, AnnotationKind, Level, Renderer, Snippet};

use super::model::{Acquired, Report, ReportKind};
use crate::event::Place;

/// A report's text and the source lines of its places. Made by [`Report::with_sources`].
#[derive(Clone, Copy, Debug)]
pub struct WithSources<'a>(&'a Report);

impl Report {
    /// For printing: the text, and below it the source lines of the acquisitions, as far as their files are at hand.
    #[must_use]
    pub fn with_sources(&self) -> WithSources<'_> {
        WithSources(self)
    }
}

impl fmt::Display for WithSources<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0, f)?;
        match snippets(self.0) {
            Some(text) => write!(f, "\n\n{text}"),
            None => Ok(()),
        }
    }
}

fn snippets(report: &Report) -> Option<String> {
    let folder = std::env::current_dir().unwrap_or_default();
    let mut files: BTreeMap<&str, (String, Vec<Annotation<'_>>)> = BTreeMap::new();
    for (place, kind, label) in places(report) {
        if !files.contains_key(place.file())
            && let Some(text) = read(&folder, place.file())
        {
            files.insert(place.file(), (text, Vec::new()));
        }
        if let Some((text, annotations)) = files.get_mut(place.file())
            && let Some(span) = span(text, place)
        {
            annotations.push(kind.span(span).label(label));
        }
    }
    files.retain(|_, (_, annotations)| !annotations.is_empty());
    if files.is_empty() {
        return None;
    }
    let snippets =
        files.into_iter().map(|(path, (text, labels))| Snippet::source(text).path(path).annotations(labels));
    let group = Level::NOTE.primary_title("the places in the source").elements(snippets);
    Some(Renderer::plain().render(&[group]))
}

/// The places that are told apart, each with what happens there: the finding's own first.
fn places(report: &Report) -> Vec<(&'static Location<'static>, AnnotationKind, String)> {
    let taken = |acquired: &Acquired| {
        if acquired.lock.event {
            return format!("the event `{}`, by {}", acquired.lock.class, acquired.task);
        }
        let by = if acquired.trylock { " by trylock" } else { "" };
        format!("`{}` is taken for {}{by} by {}", acquired.lock.class, acquired.mode, acquired.task)
    };
    let wanted = report.wanted.iter().map(|wanted| {
        let what = match report.kind {
            ReportKind::Balance => "released here".to_owned(),
            ReportKind::Freed => format!("`{}` is freed or initialised here", wanted.lock.class),
            ReportKind::AssertHeld | ReportKind::AssertNotHeld => {
                format!("asserted of `{}`", wanted.lock.class)
            }
            ReportKind::WwApi | ReportKind::Pin | ReportKind::Key | ReportKind::Rcu => {
                format!("`{}` is used here", wanted.lock.class)
            }
            _ => taken(wanted),
        };
        (wanted, AnnotationKind::Primary, what)
    });
    let edges = report.edges.iter().flat_map(|edge| [&edge.from, &edge.to]);
    let known = report.conflict.iter().chain(edges).chain(report.usages.iter().map(|used| &used.by));
    let known = known.map(|acquired| (acquired, AnnotationKind::Context, taken(acquired)));
    let mut places: Vec<(&Location<'_>, _, _)> = Vec::new();
    for (acquired, kind, label) in wanted.chain(known) {
        if let Place::Code(place) = acquired.site.place
            && !places.iter().any(|(other, ..)| *other == place)
        {
            places.push((place, kind, label));
        }
    }
    places
}

/// The text of a file that the compiler knew under this path.
fn read(folder: &Path, file: &str) -> Option<String> {
    folder.ancestors().find_map(|folder| std::fs::read_to_string(folder.join(file)).ok())
}

/// The word at a place.
fn span(text: &str, place: &Location<'_>) -> Option<Range<usize>> {
    let line = text.lines().nth(place.line() as usize - 1)?;
    let (column, _) = line.char_indices().nth(place.column() as usize - 1)?;
    let word = line[column..].find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(line.len() - column);
    let start = line.as_ptr().addr() - text.as_ptr().addr() + column;
    Some(start..start + word.max(1))
}
