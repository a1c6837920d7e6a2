// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lockdep bugs`: real locking bugs on the models of the drivers, in the broken code and in the fixed.

use std::io::Write;

use clap::Args as ClapArgs;
use instrumented_drivers::scenario::Run;
use instrumented_drivers::scenario::bugs::{Case, Expected, Judged};
use serde_json::{Value, json};

use crate::app::choice::quiet_findings;
use crate::app::output::{Failure, Format, Output, Status};

/// Real locking bugs on the models of the drivers, in the broken code and in the fixed.
///
/// Each runs twice, under a validator of its own: with the bug, where it must find what is expected and nothing else,
/// and without, where it must find nothing. Some bugs break no rule about locks; the reason is printed, and what the
/// run shows instead.
///
/// Exit status: 0 if every bug is as expected; 1 if one is not; 2 for a mistake in the arguments.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Bugs, by number; a number with a word behind it is one of several cases of a bug [default: all]
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// How the result is written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    let cases = chosen(&args.ids)?;
    quiet_findings();
    let judged: Vec<Judged> = cases.into_iter().map(Case::judge).collect();
    match args.format {
        Format::Text => text(&judged, out)?,
        Format::Json => out.json(&json!({ "bugs": judged.iter().map(document).collect::<Vec<_>>() }))?,
    }
    let good = judged.iter().all(Judged::is_as_expected);
    Ok(if good { Status::AsExpected } else { Status::Finding })
}

/// The cases with these ids, in the order of the corpus; all if there are none.
fn chosen(ids: &[String]) -> Result<Vec<Case>, Failure> {
    let mut cases = Case::all();
    for id in ids {
        if !cases.iter().any(|case| case.is_called(id)) {
            let known: Vec<&str> = cases.iter().map(|case| case.id).collect();
            return Err(Failure::user(format!("unknown bug `{id}`: it is one of {}", known.join(", "))));
        }
    }
    cases.retain(|case| ids.is_empty() || ids.iter().any(|id| case.is_called(id)));
    Ok(cases)
}

/// The kinds of report, as one word or several.
fn seen(run: &Run) -> String {
    let kinds: Vec<&str> = run.reported().into_iter().map(|kind| kind.name()).collect();
    if kinds.is_empty() { "silence".into() } else { kinds.join(", ") }
}

fn expected(case: &Case) -> &'static str {
    match case.expected {
        Expected::Report { kind, .. } => kind.name(),
        Expected::Silence { .. } => "silence",
    }
}

fn text(judged: &[Judged], out: &mut Output) -> Result<(), Failure> {
    writeln!(out, "{:<9} {:<70} {:<13} {:<13} fixed", "id", "name", "expected", "seen")?;
    for one in judged {
        let Judged { case, broken, .. } = one;
        let fixed = if one.is_fixed_clean() { "clean" } else { "NOT CLEAN" };
        let (id, name) = (case.id, case.name);
        writeln!(out, "{id:<9} {name:<70} {:<13} {:<13} {fixed}", expected(case), seen(broken))?;
        if let Expected::Silence { why, shows } = case.expected {
            writeln!(out, "{:10}why: {why}", "")?;
            if !shows.is_empty() {
                writeln!(out, "{:10}instead: {shows}", "")?;
            }
        }
        if !one.is_as_expected() {
            not_as_expected(one, out)?;
        }
    }
    let silent = judged.iter().filter(|one| matches!(one.case.expected, Expected::Silence { .. })).count();
    let wrong = judged.iter().filter(|one| !one.is_as_expected()).count();
    writeln!(out, "\n{} bugs, {silent} of them silent, {wrong} not as expected", judged.len())?;
    Ok(())
}

/// What was found and how the runs ended.
fn not_as_expected(one: &Judged, out: &mut Output) -> Result<(), Failure> {
    writeln!(out, "{:10}NOT AS EXPECTED: {:?}", "", one.case.expected)?;
    for (name, run) in [("broken", &one.broken), ("fixed", &one.fixed)] {
        writeln!(out, "{:10}{name}: {}, {}", "", run.end.name(), seen(run))?;
        if let Some(failure) = run.failure() {
            writeln!(out, "{:10}{failure}", "")?;
        }
        for report in &run.reports {
            writeln!(out, "{report}")?;
        }
    }
    Ok(())
}

fn document(one: &Judged) -> Value {
    let Judged { case, broken, fixed } = one;
    let [broken_setup, fixed_setup] = case.setups().map(|setup| setup.to_string());
    let (why, shows) = match case.expected {
        Expected::Silence { why, shows } => (Some(why), Some(shows).filter(|shows| !shows.is_empty())),
        Expected::Report { .. } => (None, None),
    };
    json!({
        "id": case.id,
        "number": case.number(),
        "name": case.name,
        "expected": expected(case),
        "seen": seen(broken),
        "fixed_clean": one.is_fixed_clean(),
        "ok": one.is_as_expected(),
        "silent_because": why,
        "shows_instead": shows,
        "report": one.report().map(lockdep::Report::to_json),
        "broken": ran(broken, &broken_setup),
        "fixed": ran(fixed, &fixed_setup),
    })
}

fn ran(run: &Run, setup: &str) -> Value {
    json!({
        "setup": setup,
        "end": run.end.name(),
        "failure": run.failure().map(ToString::to_string),
        "reports": run.reports.iter().map(lockdep::Report::to_json).collect::<Vec<_>>(),
    })
}
