// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lockdep litmus FILE…`: run litmus files and compare with their expectations.

use std::io::Write;
use std::path::{Path, PathBuf};

use lockdep::litmus::{Program, Run, parse};
use serde_json::{Value, json};

use crate::app::output::{Failure, Format, Output, Status};

/// Run litmus files: small lock programs with their expected findings.
///
/// Each file runs on an engine of its own. Exit status 0: every file reported exactly what it expects; 1: one did
/// not; 2: a file cannot be read or parsed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files to run
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print each report in full, expected ones too
    #[arg(long)]
    reports: bool,
    /// Write each report as a litmus file that reproduces it into this folder
    #[arg(long, value_name = "DIR")]
    litmus_out: Option<PathBuf>,
    /// How results are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

struct Done<'a> {
    file: &'a PathBuf,
    program: Program,
    run: Run,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    let mut done = Vec::new();
    for file in &args.files {
        let name = file.display();
        let text =
            std::fs::read_to_string(file).map_err(|error| Failure::user(format!("{name}: {error}")))?;
        let program = parse(&text).map_err(|error| Failure::user(format!("{name}:{error}")))?;
        let run = program.run();
        done.push(Done { file, program, run });
    }
    if let Some(folder) = &args.litmus_out {
        write_programs(&done, folder)?;
    }
    match args.format {
        Format::Text => text(&done, args.reports, out)?,
        Format::Json => out.json(&json!({ "files": done.iter().map(file_json).collect::<Vec<_>>() }))?,
    }
    let all = done.iter().all(|done| done.run.as_expected());
    Ok(if all { Status::AsExpected } else { Status::Finding })
}

/// Writes one file for each report, named after the file and line that made it.
fn write_programs(files: &[Done<'_>], folder: &Path) -> Result<(), Failure> {
    let failed = |path: &Path, error: std::io::Error| Failure::user(format!("{}: {error}", path.display()));
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    for Done { file, run, .. } in files {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        for had in &run.reported {
            let path = folder.join(format!("{stem}-{}-{}.litmus", had.line, had.report.kind));
            std::fs::write(&path, had.report.to_litmus()).map_err(|error| failed(&path, error))?;
        }
    }
    Ok(())
}

fn text(files: &[Done<'_>], reports: bool, out: &mut Output) -> Result<(), Failure> {
    for Done { file, program, run } in files {
        let verdict = if run.as_expected() { "ok" } else { "FAILED" };
        let title = program.name.as_deref().unwrap_or("");
        writeln!(out, "{verdict:6} {}  {title}", file.display())?;
        for missing in run.missing() {
            writeln!(out, "       line {}: expected {}, nothing was reported", missing.line, missing.kind)?;
        }
        for had in run.unexpected() {
            writeln!(
                out,
                "       line {}: not expected: {}: {}",
                had.line, had.report.kind, had.report.summary
            )?;
        }
        if reports {
            for had in &run.reported {
                writeln!(out, "\nline {}:\n{}\n", had.line, had.report)?;
            }
        }
    }
    let failed = files.iter().filter(|done| !done.run.as_expected()).count();
    writeln!(out, "{} passed, {failed} failed", files.len() - failed)?;
    Ok(())
}

fn file_json(done: &Done<'_>) -> Value {
    json!({
        "file": done.file.display().to_string(),
        "name": done.program.name,
        "ok": done.run.as_expected(),
        "expected": done.run.expected.iter().map(|e| json!({ "line": e.line, "kind": e.kind.name() })).collect::<Vec<_>>(),
        "reported": done.run.reported.iter().map(|r| json!({
            "line": r.line,
            "kind": r.report.kind.name(),
            "severity": r.report.severity.name(),
        })).collect::<Vec<_>>(),
    })
}
