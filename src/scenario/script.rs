// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lockdep scenario --script FILE`: a program that the user wrote, run on the models.

use std::io::{self, Read, Write};
use std::path::Path;

use instrumented_drivers::scenario::script::Script;
use instrumented_drivers::scenario::sequence::Sequence;
use instrumented_drivers::scenario::{Run, Setup};
use lockdep::{Report, ReportKind};
use serde_json::json;

use super::words;
use crate::app::output::{Failure, Format, Output, Status};

pub(super) fn run(file: &Path, setup: Setup, format: Format, out: &mut Output) -> Result<Status, Failure> {
    let (name, text) = read(file)?;
    let at = |error| Failure::user(format!("{name}:{error}"));
    let script = Script::parse(&text).map_err(at)?;
    let (run, wrong) = script.run(setup);
    let good = script.is_as_expected(setup, &run);
    let expected = script.expected(setup);
    let sequence = Sequence::from(&*run.recorded).to_string();
    match format {
        Format::Text => {
            writeln!(out, "# models, script {name}, policy {setup}: {}", run.end.name())?;
            write!(out, "{sequence}")?;
            if wrong.is_none() {
                write_verdict(&run, &expected, good, out)?;
            }
        }
        Format::Json => out.json(&json!({ "script": {
            "file": name,
            "policy": setup.policy.name(),
            "shmem": setup.shmem.name(),
            "ok": good,
            "expected": expected.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
            "reported": run.reported().iter().map(|kind| kind.name()).collect::<Vec<_>>(),
            "reports": run.reports.iter().map(Report::to_json).collect::<Vec<_>>(),
            "end": run.end.name(),
            "failure": wrong.as_ref().map(ToString::to_string).or_else(|| run.failure().map(ToString::to_string)),
            "sequence": sequence,
        }}))?,
    }
    match wrong {
        // What there was until then is printed all the same.
        Some(error) => out.finish().and(Err(at(error))),
        None => Ok(if good { Status::AsExpected } else { Status::Finding }),
    }
}

/// The text, and the name for messages.
fn read(file: &Path) -> Result<(String, String), Failure> {
    let stdin = file == Path::new("-");
    let name = if stdin { "<stdin>".to_owned() } else { file.display().to_string() };
    let text = if stdin {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    match text {
        Ok(text) => Ok((name, text)),
        Err(error) => Err(Failure::user(format!("{name}: {error}"))),
    }
}

fn write_verdict(run: &Run, expected: &[ReportKind], good: bool, out: &mut Output) -> io::Result<()> {
    for report in &run.reports {
        writeln!(out, "\n{report}")?;
    }
    let verdict = words(&run.reported());
    if good {
        writeln!(out, "\nverdict: {verdict}, as expected")
    } else {
        writeln!(out, "\nverdict: {verdict}; NOT AS EXPECTED: {}", words(expected))?;
        run.failure().map_or(Ok(()), |failure| writeln!(out, "failed: {failure}"))
    }
}
