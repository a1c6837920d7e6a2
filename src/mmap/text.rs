// SPDX-License-Identifier: MIT OR Apache-2.0
//! The matrix for people: the cells on one screen, what they mean, then each distinct report once.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::scenario::mission::{Cell, Exporter, MapPath, Outcome};
use lockdep::{Report, ReportKind};

use super::hang::Proof;
use crate::app::output::Output;

/// Letters for what is held, so that a cell fits in a column.
const LETTERS: &str = "mrabcdefghijkl";

pub(super) fn write(outcomes: &[Outcome], proofs: &[Proof], out: &mut Output) -> io::Result<()> {
    let locks = locks(outcomes);
    matrix(outcomes, &locks, out)?;
    legend(outcomes, &locks, out)?;
    failures(outcomes, out)?;
    hangs(proofs, out)?;
    reports(outcomes, out)
}

/// The names of all locks that were held in an exporter's mmap, most common first.
fn locks(outcomes: &[Outcome]) -> Vec<String> {
    let mut names: Vec<(usize, String)> = Vec::new();
    for name in outcomes.iter().flat_map(Outcome::held_in_mmap) {
        match names.iter_mut().find(|(_, known)| *known == name) {
            Some((count, _)) => *count += 1,
            None => names.push((1, name)),
        }
    }
    names.sort_by_key(|(count, _)| core::cmp::Reverse(*count));
    names.into_iter().map(|(_, name)| name).collect()
}

fn letters(outcome: &Outcome, locks: &[String]) -> String {
    let letter = |name: String| {
        let position = locks.iter().position(|lock| *lock == name);
        position.and_then(|position| LETTERS.chars().nth(position)).unwrap_or('?').to_string()
    };
    let held: Vec<String> = outcome.held_in_mmap().into_iter().map(letter).collect();
    if held.is_empty() { "-".into() } else { held.join("+") }
}

/// A line of the matrix.
struct Row {
    policy: LockingPolicy,
    /// None: the same in all regimes.
    shmem: Option<ShmemLocking>,
    exporter: Exporter,
    cells: Vec<String>,
}

impl Row {
    fn of(outcomes: &[Outcome], paths: &[MapPath], locks: &[String]) -> Self {
        let Cell { setup, exporter, .. } = outcomes[0].cell;
        let cell = |path: &MapPath| {
            let outcome = outcomes.iter().find(|outcome| outcome.cell.path == *path);
            outcome.map_or_else(|| " ".repeat(17), |outcome| entry(outcome, locks))
        };
        Row {
            policy: setup.policy,
            shmem: Some(setup.shmem),
            exporter,
            cells: paths.iter().map(cell).collect(),
        }
    }
}

/// The lines: for each policy, those that depend on the regime, then those that do not.
fn rows(outcomes: &[Outcome], paths: &[MapPath], locks: &[String]) -> Vec<Row> {
    let lines = outcomes.chunk_by(|a, b| a.cell.setup == b.cell.setup && a.cell.exporter == b.cell.exporter);
    let lines: Vec<Row> = lines.map(|line| Row::of(line, paths, locks)).collect();
    let mut rows = Vec::new();
    for lines in lines.chunk_by(|a, b| a.policy == b.policy) {
        let alike = |row: &Row| {
            let mut others = lines.iter().filter(|other| other.exporter == row.exporter);
            lines[0].shmem != lines[lines.len() - 1].shmem && others.all(|other| other.cells == row.cells)
        };
        let row = |row: &Row, shmem| Row { cells: row.cells.clone(), shmem, ..*row };
        let (same, different): (Vec<&Row>, Vec<&Row>) = lines.iter().partition(|row| alike(row));
        rows.extend(different.iter().map(|line| row(line, line.shmem)));
        rows.extend(same.iter().filter(|line| line.shmem == lines[0].shmem).map(|line| row(line, None)));
    }
    rows
}

fn matrix(outcomes: &[Outcome], locks: &[String], out: &mut Output) -> io::Result<()> {
    let paths: Vec<MapPath> =
        MapPath::ALL.into_iter().filter(|path| outcomes.iter().any(|o| o.cell.path == *path)).collect();
    writeln!(out, "What a task holds when an exporter's mmap runs, and the verdict")?;
    writeln!(out)?;
    let header: String = paths.iter().map(|path| format!(" {path:<17}")).collect();
    writeln!(out, "policy shmem exporter      {}", header.trim_end())?;
    let mut policy = None;
    for row in rows(outcomes, &paths, locks) {
        if policy.is_some_and(|policy| policy != row.policy) {
            writeln!(out)?;
        }
        policy = Some(row.policy);
        let shmem = row.shmem.map_or("all", ShmemLocking::name);
        let line = format!("{:<6} {shmem:<5} {:<14} {}", row.policy, row.exporter, row.cells.join(" "));
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// One cell: what is held, the verdict, `!` if it is not the expected one.
fn entry(outcome: &Outcome, locks: &[String]) -> String {
    let (word, style) = match outcome.verdict() {
        _ if outcome.run.failure().is_some() => ("failed", AnsiColor::Red.on_default().bold()),
        None => ("clean", AnsiColor::Green.on_default()),
        Some(kind) if outcome.is_deadlock() => (kind.name(), AnsiColor::Red.on_default().bold()),
        Some(kind) => (kind.name(), AnsiColor::Yellow.on_default()),
    };
    let mark = if outcome.is_as_expected() { "" } else { "!" };
    let held = letters(outcome, locks);
    let padding = 17usize.saturating_sub(held.len() + 1 + word.len() + mark.len());
    format!("{held} {style}{word}{style:#}{mark}{:padding$}", "")
}

fn legend(outcomes: &[Outcome], locks: &[String], out: &mut Output) -> io::Result<()> {
    writeln!(out)?;
    if !locks.is_empty() {
        let names: Vec<String> =
            LETTERS.chars().zip(locks).map(|(letter, name)| format!("{letter} = {name}")).collect();
        writeln!(out, "held in mmap: {}", names.join(", "))?;
    }
    let deadlocks = outcomes.iter().filter(|o| o.is_deadlock()).count();
    let others = outcomes.iter().filter(|o| o.verdict().is_some() && !o.is_deadlock()).count();
    let unexpected = outcomes.iter().filter(|o| !o.is_as_expected()).count();
    writeln!(
        out,
        "{}: {deadlocks} deadlock, {others} with another finding; {}",
        count(outcomes.len(), "cell"),
        match unexpected {
            0 => "every one as expected".to_owned(),
            n => format!("{} NOT as expected, marked with `!`", count(n, "cell")),
        }
    )?;
    if deadlocks > 0 {
        writeln!(
            out,
            "A deadlock is expected where the dma-buf core holds the reservation lock around mmap (P1) and\n\
             the exporter takes it there (B0, B, C): both are the same lock, and the task waits for itself."
        )?;
    }
    if outcomes.iter().any(|o| o.verdict().is_some() && o.cell.asserts_what_p1_held()) {
        writeln!(
            out,
            "`assert-held` is expected of fastrpc under P2: its mmap still asserts the lock that the core held\n\
             under P1. `--fixed` runs it without."
        )?;
    }
    if outcomes.iter().any(|o| o.verdict() == Some(ReportKind::AssertHeld) && o.cell.setup.pin_is_unlocked())
    {
        writeln!(
            out,
            "`assert-held` is expected where a foreign device attaches under B0: the helper's pin asserts\n\
             a lock that nobody takes. It has nothing to do with mmap."
        )?;
    }
    Ok(())
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn failures(outcomes: &[Outcome], out: &mut Output) -> io::Result<()> {
    for outcome in outcomes {
        if let Some(failure) = outcome.run.failure() {
            writeln!(out, "\n{} failed: {failure}", outcome.cell)?;
        }
    }
    Ok(())
}

fn hangs(proofs: &[Proof], out: &mut Output) -> io::Result<()> {
    if proofs.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nThe same without a validator, each in a process of its own:\n")?;
    for Proof { cell, hung, state, control_returned } in proofs {
        let what = if *hung { "hangs" } else { "came back!" };
        let state = state.as_deref().map_or_else(String::new, |state| format!(", state {state}"));
        let control = if *control_returned { "P2 comes back" } else { "P2 does NOT come back!" };
        writeln!(out, "  {cell:<34} {what}{state}; {control}")?;
    }
    writeln!(
        out,
        "\nA watchdog ended what had not come back {} s after it began.",
        Proof::watchdog().as_secs()
    )
}

/// Each report that differs in what it says about functions, with the cells it was made in.
fn reports(outcomes: &[Outcome], out: &mut Output) -> io::Result<()> {
    let mut distinct: Vec<(&Report, Vec<&Cell>)> = Vec::new();
    for outcome in outcomes {
        for report in &outcome.run.reports {
            match distinct.iter_mut().find(|(known, _)| identity(known) == identity(report)) {
                Some((_, cells)) => cells.push(&outcome.cell),
                None => distinct.push((report, vec![&outcome.cell])),
            }
        }
    }
    // The deadlocks are what this is about.
    distinct.sort_by_key(|(report, _)| !report.is_certain());
    let total = distinct.len();
    let bold = Style::new().bold();
    for (number, (report, cells)) in distinct.into_iter().enumerate() {
        let first = cells[0];
        let others = match cells.len() - 1 {
            0 => String::new(),
            n => format!(", and in {n} more"),
        };
        writeln!(out, "\n{bold}report {} of {total}{bold:#}, made in {first}{others}:\n", number + 1)?;
        writeln!(out, "{report}")?;
    }
    Ok(())
}

/// Two reports with the same of these tell a reader the same.
fn identity(report: &Report) -> (&str, Option<&str>, Option<&str>) {
    let function =
        |side: &Option<lockdep::report::model::Acquired>| side.as_ref().and_then(|a| a.site.function);
    (report.signature(), function(&report.wanted), function(&report.conflict))
}
