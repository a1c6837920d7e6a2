// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lockdep bugs`: real locking bugs on the models of the drivers, in the broken code and in the fixed.

use std::io::Write;

use clap::Args as ClapArgs;
use instrumented_drivers::scenario::Run;
use instrumented_drivers::scenario::bugs::{Case, Ends, Judged, LISTED, Listed};
use lockdep::ReportKind;
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
    let (cases, listed) = chosen(&args.ids)?;
    quiet_findings();
    let judged: Vec<Judged> = cases.into_iter().map(Case::judge).collect();
    match args.format {
        Format::Text => text(&judged, &listed, out)?,
        Format::Json => {
            let bugs: Vec<Value> = judged.iter().map(document).collect();
            let not_run: Vec<Value> = listed.iter().map(one_not_run).collect();
            out.json(&json!({ "bugs": bugs, "not_run": not_run }))?;
        }
    }
    let good = judged.iter().all(Judged::is_as_expected);
    Ok(if good { Status::AsExpected } else { Status::Finding })
}

/// What has these ids, in the order of the corpus, run and not run; all if there are none.
fn chosen(ids: &[String]) -> Result<(Vec<Case>, Vec<Listed>), Failure> {
    let (mut cases, mut listed) = (Case::all(), LISTED.to_vec());
    let is_it = |one: &Listed, id: &String| one.number.to_string() == *id;
    for id in ids {
        if !cases.iter().any(|case| case.is_called(id)) && !listed.iter().any(|one| is_it(one, id)) {
            let known: Vec<&str> = cases.iter().map(|case| case.id).collect();
            return Err(Failure::user(format!("unknown bug `{id}`: it is one of {}", known.join(", "))));
        }
    }
    cases.retain(|case| ids.is_empty() || ids.iter().any(|id| case.is_called(id)));
    listed.retain(|one| ids.is_empty() || ids.iter().any(|id| is_it(one, id)));
    Ok((cases, listed))
}

/// The kinds of report, as one word.
fn word(kinds: &[ReportKind]) -> String {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    if names.is_empty() { "silence".into() } else { names.join("+") }
}

fn text(judged: &[Judged], listed: &[Listed], out: &mut Output) -> Result<(), Failure> {
    writeln!(out, "{:<9} {:<46} {:<17} {:<17} fixed", "id", "name", "expected", "seen")?;
    for one in judged {
        row(one, out)?;
    }
    for Listed { number, name, why } in listed {
        writeln!(out, "{number:<9} {name:<46} {:<17} {:<17} -\n{:10}why: {why}", "silence", "not run", "")?;
    }
    let silent = judged.iter().filter(|one| one.case.expected.kinds.is_empty()).count();
    let wrong = judged.iter().filter(|one| !one.is_as_expected()).count();
    let (ran, not_run) = (judged.len(), listed.len());
    writeln!(out, "\n{ran} cases, {silent} of them silent, {wrong} not as expected; {not_run} not run")?;
    Ok(())
}

fn row(one: &Judged, out: &mut Output) -> Result<(), Failure> {
    let Case { id, name, expected, .. } = one.case;
    let fixed = if one.is_fixed_clean() { "clean" } else { "NOT CLEAN" };
    let (wanted, seen) = (word(expected.kinds), word(&one.broken.reported()));
    writeln!(out, "{id:<9} {name:<46} {wanted:<17} {seen:<17} {fixed}")?;
    if !expected.why.is_empty() {
        writeln!(out, "{:10}why: {}", "", expected.why)?;
    }
    if let Ends::Failed(shows) = expected.ends {
        writeln!(out, "{:10}the run shows: {shows}", "")?;
    }
    if one.is_as_expected() { Ok(()) } else { not_as_expected(one, out) }
}

/// What was found and how the runs ended.
fn not_as_expected(one: &Judged, out: &mut Output) -> Result<(), Failure> {
    writeln!(out, "{:10}NOT AS EXPECTED: {:?}", "", one.case.expected)?;
    for (name, run) in [("broken", &one.broken), ("fixed", &one.fixed)] {
        writeln!(out, "{:10}{name}: {}, {}", "", run.end.name(), word(&run.reported()))?;
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
    let shows = if let Ends::Failed(shows) = case.expected.ends { Some(shows) } else { None };
    json!({
        "id": case.id,
        "number": case.number(),
        "name": case.name,
        "expected": word(case.expected.kinds),
        "seen": word(&broken.reported()),
        "fixed_clean": one.is_fixed_clean(),
        "ok": one.is_as_expected(),
        "silent_because": Some(case.expected.why).filter(|why| !why.is_empty()),
        "run_shows": shows,
        "report": one.report().map(lockdep::Report::to_json),
        "broken": ran(broken, &broken_setup),
        "fixed": ran(fixed, &fixed_setup),
    })
}

fn one_not_run(one: &Listed) -> Value {
    json!({ "number": one.number, "name": one.name, "expected": word(&[]), "silent_because": one.why })
}

fn ran(run: &Run, setup: &str) -> Value {
    json!({
        "setup": setup,
        "end": run.end.name(),
        "failure": run.failure().map(ToString::to_string),
        "reports": run.reports.iter().map(lockdep::Report::to_json).collect::<Vec<_>>(),
    })
}
