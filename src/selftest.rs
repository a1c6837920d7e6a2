// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lockdep selftest`: the kernel's locking self-test, judged by this validator, as the kernel prints it.

use std::io::Write;

use instrumented_drivers::selftest::{Block, Case, Outcome, blocks};
use lockdep::ReportKind;
use serde_json::{Value, json};

use crate::app::output::{Failure, Format, Output, Status};

/// Run the kernel's locking self-test: 394 lock sequences, each of which must be reported or stay silent.
///
/// Every case takes the locks of the kernel substrate on a validator of its own. `ok`: what had to be reported was
/// reported, with the right kind, or nothing was. Exit status 0: all passed; 1: one failed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How results are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

struct Done {
    case: Case,
    outcome: Outcome,
}

impl Done {
    fn is_passed(&self) -> bool {
        self.case.is_passed_by(&self.outcome)
    }
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    let mut done = Vec::new();
    for block in blocks() {
        let Block { section, title, heads, cases } = block;
        let block = Block { section, title, heads, cases: Vec::new() };
        let cases = cases.into_iter().map(|case| Done { outcome: case.run(), case }).collect::<Vec<_>>();
        done.push((block, cases));
    }
    let failed = done.iter().flat_map(|(_, cases)| cases).filter(|done| !done.is_passed()).count();
    match args.format {
        Format::Text => text(&done, failed, out)?,
        Format::Json => out.json(&json(&done, failed))?,
    }
    Ok(if failed == 0 { Status::AsExpected } else { Status::Finding })
}

/// The kernel's log names rows of up to this length.
const ROW: usize = 33;

fn text(blocks: &[(Block, Vec<Done>)], failed: usize, out: &mut Output) -> Result<(), Failure> {
    let rule = "-".repeat(76);
    writeln!(out, "{rule}")?;
    for (block, cases) in blocks {
        if block.title {
            writeln!(out, "  | {} |", block.section)?;
        }
        if !block.heads.is_empty() {
            let heads: String = block.heads.iter().map(|head| format!("{head:^6}|")).collect();
            writeln!(out, "{:>ROW$} |{heads}", "")?;
        }
        for row in cases.chunk_by(|a, b| a.case.row == b.case.row) {
            writeln!(out, "{:>ROW$}:{}", row[0].case.row, cells(row))?;
        }
        writeln!(out, "{rule}")?;
    }
    let all = blocks.iter().flat_map(|(_, cases)| cases);
    for Done { case, outcome } in all.clone().filter(|done| !done.is_passed()) {
        let (row, column) = (&case.row, &case.column);
        let (wanted, had) = (verdict(case.expected), verdict(outcome.kind()));
        write!(out, "FAILED {row}, {column}: expected {wanted}, had {had}")?;
        match &outcome.problem {
            Some(problem) => writeln!(out, " ({problem})")?,
            None => writeln!(out)?,
        }
    }
    let total = all.count();
    writeln!(out, "{} of {total} passed", total - failed)?;
    Ok(())
}

/// One row: every cell below its head.
fn cells(row: &[Done]) -> String {
    let mut line = String::new();
    for (slot, done) in row.iter().map(|done| (done.case.slot, done)) {
        let blank = (slot * 7).saturating_sub(line.len());
        if blank > 0 {
            line += &format!("{:>1$}", "|", blank);
        }
        line += if done.is_passed() { "  ok  |" } else { "FAILED|" };
    }
    line
}

fn verdict(kind: Option<ReportKind>) -> &'static str {
    kind.map_or("silence", ReportKind::name)
}

fn json(blocks: &[(Block, Vec<Done>)], failed: usize) -> Value {
    let cases: Vec<_> = blocks.iter().flat_map(|(_, cases)| cases).map(case_json).collect();
    json!({
        "total": cases.len(),
        "passed": cases.len() - failed,
        "failed": failed,
        "cases": cases,
    })
}

fn case_json(Done { case, outcome }: &Done) -> Value {
    let word = |kind: Option<ReportKind>| if kind.is_some() { "splat" } else { "silent" };
    json!({
        "section": case.section,
        "row": case.row,
        "column": case.column,
        "expected": word(case.expected),
        "observed": word(outcome.kind()),
        "kind": outcome.kind().map(ReportKind::name),
    })
}
