// SPDX-License-Identifier: MIT OR Apache-2.0
//! The text of a report, shaped like the kernel's: headline, what is wanted, what is held, the chain, the
//! scenario, all held locks, the stack. In front of it stands the problem in one sentence, and at its end what
//! to do.

use core::fmt;

use super::model::{Acquired, Edge, Report, ReportKind, Severity, Stack};
use crate::event::{HeldAs, Mode};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = "=".repeat(72);
        writeln!(f, "{rule}")?;
        let notes: String = match self.severity {
            Severity::Guarded => Some(self.severity.name()),
            Severity::Error => None,
        }
        .into_iter()
        .chain(self.tags.iter().copied())
        .map(|note| format!(", {note}"))
        .collect();
        writeln!(f, "WARNING: {} [{}{notes}]", headline(self.kind), self.kind)?;
        writeln!(f, "{}", self.summary)?;
        writeln!(f, "{}", "-".repeat(72))?;
        sides(f, self)?;
        usages(f, self)?;
        chain(f, self)?;
        scenario(f, self)?;
        held(f, self)?;
        if let Some(stack) = &self.stack {
            writeln!(f, "\nstack of {}:", self.task)?;
            frames(f, stack, "  ")?;
        }
        writeln!(f, "\nhelp: {}", self.help)?;
        write!(f, "id:   {}", self.signature)
    }
}

/// The kernel's headline for a kind.
fn headline(kind: ReportKind) -> &'static str {
    match kind {
        ReportKind::Recursive => "possible recursive locking detected",
        ReportKind::Circular => "possible circular locking dependency detected",
        ReportKind::IrqState => "inconsistent lock state",
        ReportKind::IrqInversion => "possible irq lock inversion dependency detected",
        ReportKind::IrqOrder => "interrupt-safe -> interrupt-unsafe lock order detected",
        ReportKind::Balance => "bad unlock balance detected",
        ReportKind::Freed => "held lock freed",
        ReportKind::Exit => "task ends with locks held",
        ReportKind::UserReturn => "lock held when returning to user space",
        ReportKind::NestMissing => "nested lock was not taken",
        ReportKind::WaitContext => "invalid wait context",
        ReportKind::AssertHeld => "lock is not held",
        ReportKind::AssertNotHeld => "lock is held",
        ReportKind::WwApi => "wound/wait mutex misused",
        ReportKind::Pin => "pinned lock misused",
        ReportKind::Rcu => "suspicious RCU usage",
        ReportKind::Subclass => "invalid subclass",
        ReportKind::Key => "invalid lock class key",
        ReportKind::Depth => "too many locks held",
    }
}

fn sides(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    if let Some(wanted) = &report.wanted {
        let verb = match (report.kind, report.asserted) {
            (ReportKind::Balance, _) => "is trying to release lock",
            (ReportKind::Freed, _) => "frees or initialises",
            (_, Some(HeldAs::Any)) => "should hold",
            (_, Some(HeldAs::Read)) => "should hold for reading",
            (_, Some(HeldAs::Write)) => "should hold for writing",
            (ReportKind::WwApi | ReportKind::Pin | ReportKind::Key, _) => "uses",
            (ReportKind::Rcu, _) => "should hold",
            (ReportKind::AssertNotHeld, _) => "should not hold",
            _ if wanted.lock.event => match report.edges.first() {
                Some(edge) if edge.from.lock.event => "lets happen",
                _ => "is going to wait for",
            },
            _ => "is trying to acquire lock",
        };
        writeln!(f, "{} {verb}:\n  {}", report.task, Line(wanted))?;
    }
    if let (Some(conflict), Some(_)) = (&report.conflict, &report.wanted) {
        let (intro, outro) = match report.kind {
            ReportKind::Circular if wanted_is_event(report) => ("while it is holding lock", ""),
            ReportKind::Circular => {
                ("but task is already holding lock", "\nwhich lock already depends on the new lock.")
            }
            ReportKind::Recursive => ("but task is already holding lock", ""),
            ReportKind::IrqOrder | ReportKind::WaitContext => ("while it is holding lock", ""),
            _ => ("which is held as", ""),
        };
        writeln!(f, "\n{intro}:\n  {}{outro}", Line(conflict))?;
    }
    Ok(())
}

fn usages(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    for used in &report.usages {
        writeln!(
            f,
            "\n{} became {{{}}} in {}:\n  {}",
            used.by.lock.class,
            used.state,
            used.by.task,
            Line(&used.by)
        )?;
        if let Some(stack) = &used.stack {
            frames(f, stack, "    ")?;
        }
    }
    Ok(())
}

fn chain(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    if report.edges.is_empty() {
        return Ok(());
    }
    match report.kind {
        ReportKind::Circular | ReportKind::Recursive => {
            writeln!(f, "\nthe dependencies of the cycle, the new one first:")?;
        }
        _ => writeln!(f, "\nthe dependencies from the one to the other:")?,
    }
    for (i, edge) in report.edges.iter().enumerate() {
        let age = if edge.new { "new" } else { "known" };
        writeln!(
            f,
            "\n-> #{i} {} -> {} ({age}, by {}):",
            edge.from.lock.class, edge.to.lock.class, edge.to.task
        )?;
        for (end, done) in [(&edge.from, "happens"), (&edge.to, "waited for")] {
            if end.lock.event {
                writeln!(f, "     {} {done} at {}", end.lock.class, end.site)?;
            } else {
                writeln!(f, "     {} taken for {} at {}", end.lock.class, how(end), end.site)?;
            }
            if let Some(stack) = &end.stack {
                frames(f, stack, "       ")?;
            }
        }
        if let (Some(stack), false) = (&edge.stack, edge.new) {
            frames(f, stack, "       ")?;
        }
    }
    Ok(())
}

fn scenario(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let columns = match report.kind {
        ReportKind::Circular | ReportKind::Recursive if !report.edges.is_empty() => {
            report.edges.iter().map(calls).collect::<Vec<_>>()
        }
        ReportKind::Recursive => match (&report.conflict, &report.wanted) {
            (Some(conflict), Some(wanted)) => vec![[call(conflict), call(wanted)]],
            _ => return Ok(()),
        },
        _ => return Ok(()),
    };
    writeln!(f, "\nPossible unsafe locking scenario, one column for each thread:\n")?;
    let width = columns.iter().flatten().map(|cell| cell.chars().count()).max().unwrap_or(0).max(8) + 2;
    let row = |f: &mut fmt::Formatter<'_>, cells: Vec<String>| {
        let line: String = cells.iter().map(|cell| format!("{cell:<width$}")).collect();
        writeln!(f, "  {}", line.trim_end())
    };
    row(f, (0..columns.len()).map(|i| format!("thread {i}")).collect())?;
    row(f, columns.iter().map(|_| "--------".to_owned()).collect())?;
    for step in 0..2 {
        row(f, columns.iter().map(|column| column[step].clone()).collect())?;
    }
    writeln!(f, "\n *** DEADLOCK ***")
}

fn held(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    match report.held.len() {
        0 => return writeln!(f, "\nno locks held by {}.", report.task),
        1 => writeln!(f, "\n1 lock held by {}:", report.task)?,
        n => writeln!(f, "\n{n} locks held by {}:", report.task)?,
    }
    for (i, acquired) in report.held.iter().enumerate() {
        writeln!(f, " #{i}: {}", Line(acquired))?;
        if let Some(stack) = &acquired.stack {
            frames(f, stack, "     ")?;
        }
    }
    Ok(())
}

fn frames(f: &mut fmt::Formatter<'_>, stack: &Stack, indent: &str) -> fmt::Result {
    for frame in &stack.frames {
        match &frame.place {
            Some(place) => writeln!(f, "{indent}{} ({place})", frame.function)?,
            None => writeln!(f, "{indent}{}", frame.function)?,
        }
    }
    Ok(())
}

/// One acquisition in the kernel's form: `address (name){usage}-{outer:inner}, mode, at: place`.
struct Line<'a>(&'a Acquired);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Acquired { lock, site, .. } = self.0;
        write!(f, "{:#x} ({})", lock.instance.0, lock.class)?;
        if !lock.usage.is_empty() {
            write!(f, "{{{}}}", lock.usage)?;
        }
        if let Some((outer, inner)) = lock.waits {
            write!(f, "-{{{outer}:{inner}}}")?;
        }
        write!(f, ", {}, at: {site}", how(self.0))
    }
}

fn how(acquired: &Acquired) -> String {
    let by = if acquired.trylock { " by trylock" } else { "" };
    format!("{}{by}", acquired.mode)
}

fn wanted_is_event(report: &Report) -> bool {
    report.wanted.as_ref().is_some_and(|wanted| wanted.lock.event)
}

/// What a thread does in the scenario, in this order.
fn calls(edge: &Edge) -> [String; 2] {
    let (from, to) = (&edge.from, &edge.to);
    if from.lock.event {
        [call(to), format!("complete({})", from.lock.class)]
    } else if to.lock.event {
        [call(from), format!("wait({})", to.lock.class)]
    } else {
        [call(from), call(to)]
    }
}

fn call(acquired: &Acquired) -> String {
    let verb = match (acquired.mode, acquired.trylock) {
        (Mode::Write, false) => "lock",
        (Mode::Write, true) => "trylock",
        (_, false) => "rlock",
        (_, true) => "try_rlock",
    };
    format!("{verb}({})", acquired.lock.class)
}
