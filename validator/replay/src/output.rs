// SPDX-License-Identifier: MIT OR Apache-2.0
//! A verdict as text and as JSON.

use std::io::{self, Write};

use lockdep::Report;
use serde_json::{Value, json};

use crate::Replay;

/// Writes the verdict for people: one summary line, then each finding with the line of the trace. A file in
/// which nothing could be read has none.
///
/// # Errors
/// If `out` cannot be written to.
pub fn text(out: &mut dyn Write, replay: &Replay) -> io::Result<()> {
    let counts = &replay.counts;
    if counts.events == 0 && replay.error.is_some() {
        return Ok(());
    }
    let verdict = match (replay.findings.len(), &replay.error) {
        (0, Some(_)) => "no finding before the broken place".to_owned(),
        (0, None) => "no finding".to_owned(),
        (1, _) => "1 finding".to_owned(),
        (n, _) => format!("{n} findings"),
    };
    writeln!(
        out,
        "{}: {} events, {} acquisitions, {} releases, {} classes, {} dependencies: {verdict}",
        replay.file, counts.events, counts.acquisitions, counts.releases, counts.classes, counts.edges,
    )?;
    for note in &replay.notes {
        writeln!(out, "{}: note: {note}", replay.file)?;
    }
    for found in &replay.findings {
        writeln!(out, "\n{}:{}: {}", replay.file, found.line, found.source)?;
        writeln!(out, "{}", found.report)?;
    }
    match counts.repeated {
        0 => {}
        1 => writeln!(out, "\n{}: 1 more finding of the same cause", replay.file)?,
        n => writeln!(out, "\n{}: {n} more findings of the same causes", replay.file)?,
    }
    Ok(())
}

/// The verdicts as one JSON document.
#[must_use]
pub fn json(replays: &[Replay]) -> Value {
    json!({ "traces": replays.iter().map(trace).collect::<Vec<_>>() })
}

fn trace(replay: &Replay) -> Value {
    json!({
        "file": replay.file,
        "events": replay.counts.events,
        "acquisitions": replay.counts.acquisitions,
        "releases": replay.counts.releases,
        "classes": replay.counts.classes,
        "edges": replay.counts.edges,
        "findings": replay.findings.iter().map(|found| json!({
            "line": found.line,
            "kind": found.report.kind.name(),
            "task": &*found.report.task,
            "classes": classes(&found.report),
            "text": found.report.to_string(),
        })).collect::<Vec<_>>(),
    })
}

/// The classes that a finding is about, each once: those of the cycle in its order; else the one that was wanted and
/// the one that it is at odds with; else what is held.
#[must_use]
pub fn classes(report: &Report) -> Vec<&str> {
    let mut classes: Vec<&str> = report.edges.iter().map(|edge| edge.from.lock.class.as_str()).collect();
    if classes.is_empty() {
        classes.extend(report.wanted.iter().chain(&report.conflict).map(|end| end.lock.class.as_str()));
    }
    if report.wanted.is_none() && report.edges.is_empty() {
        classes.extend(report.held.iter().map(|held| held.lock.class.as_str()));
    }
    let mut seen = Vec::new();
    classes.retain(|class| {
        let new = !seen.contains(class);
        seen.push(*class);
        new
    });
    classes
}
