// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lockdep replay TRACE…`: a recorded kernel lock trace, judged by our engine.

use std::path::{Path, PathBuf};

use lockdep_replay::{Annotations, Dump, History, InputError, Options, Replay, output};

use crate::app::output::{Failure, Format, Output, Status};
use crate::app::progress;

/// Judge a recorded kernel lock trace.
///
/// TRACE is what `cat trace`, `trace-cmd report` or `perf script` prints with the events lock_acquire and lock_release
/// on, plain or gzip (`-` is standard input); recording irq_enable, irq_disable, sched_switch, sched_process_fork and
/// sched_process_exit as well makes the verdict sharper. Each trace is judged on its own. A lock's name is its class; what that leaves open (recursive
/// reads, unchecked locks, subclasses, nesting) is declared in an annotation file, and the names of a Linux kernel
/// are built in.
///
/// Exit status 0: no finding; 1: a finding; 2: a trace or an annotation file cannot be read to its end (what was read
/// before is judged and printed all the same).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Traces to judge
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,
    /// Annotations of lock names, added to the built-in ones
    ///
    /// One line for each name: `NAME: WORD, WORD…`, where WORD is recursive-read, unchecked, instance-class (each
    /// static lock of the name is a class of its own), subclass-on-nesting, nest=NAME or plain; `*` at the start or
    /// end of NAME stands for anything, and the last line that fits counts. `order: NAME < NAME…` declares an
    /// order that was known before the first event.
    #[arg(long, value_name = "FILE")]
    classes: Vec<PathBuf>,
    /// Leave the built-in annotations out
    #[arg(long)]
    no_builtin: bool,
    /// What was known before the first event: a dump of /proc/lockdep, plain or gzip, or `order:` lines
    #[arg(long, value_name = "FILE")]
    prime: Vec<PathBuf>,
    /// Take the traces as one history: each knows the orders that those before it taught
    #[arg(long)]
    together: bool,
    /// End at the first finding of a trace, as the kernel does
    #[arg(long)]
    stop_at_first: bool,
    /// How results are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    let mut annotations = annotations(args)?;
    let dumps = prime(args, &mut annotations)?;
    let options = Options { stop_at_first: args.stop_at_first };
    let mut errors = Vec::new();
    let mut findings = false;
    let mut done = Vec::new();
    let mut history = History::new(&annotations, &dumps, options);
    for (index, trace) in args.traces.iter().enumerate() {
        if args.together {
            history.begin_file(&trace.display().to_string());
        } else if index > 0 {
            history = History::new(&annotations, &dumps, options);
        }
        let replay = watched(trace, &mut history);
        findings |= !replay.findings.is_empty();
        errors.extend(replay.error.as_ref().map(|error| format!("{}: {error}", replay.file)));
        match args.format {
            Format::Text => output::text(out, &replay)?,
            Format::Json => done.push(replay),
        }
    }
    if args.format == Format::Json {
        out.json(&output::json(&done))?;
    }
    if !errors.is_empty() {
        out.finish()?;
        return Err(Failure::user(errors.join("\nlockdep: ")));
    }
    Ok(if findings { Status::Finding } else { Status::AsExpected })
}

fn annotations(args: &Args) -> Result<Annotations, Failure> {
    let mut annotations = if args.no_builtin { Annotations::none() } else { Annotations::builtin() };
    for file in &args.classes {
        add(&mut annotations, file)?;
    }
    Ok(annotations)
}

fn add(annotations: &mut Annotations, file: &Path) -> Result<(), Failure> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| Failure::user(format!("{name}: {error}")))?;
    annotations.add(&text).map_err(|error| Failure::user(format!("{name}: {error}")))
}

/// Reads what was known before: dumps; orders go to the annotations.
fn prime(args: &Args, annotations: &mut Annotations) -> Result<Vec<Dump>, Failure> {
    let mut dumps = Vec::new();
    for file in &args.prime {
        let fail = |error: InputError| Failure::user(format!("{}: {error}", file.display()));
        if Dump::is_one(file).map_err(fail)? {
            dumps.push(Dump::read(file).map_err(fail)?);
        } else {
            add(annotations, file)?;
        }
    }
    Ok(dumps)
}

/// Replays with a progress bar.
fn watched(trace: &Path, history: &mut History<'_>) -> Replay {
    let length = std::fs::metadata(trace).map_or(0, |data| data.len());
    let bar = progress::bar(length, "{wide_msg} {bar:30} {bytes}/{total_bytes} {eta}");
    bar.set_message(trace.display().to_string());
    let replay = history.replay_file(trace, &mut |read| bar.set_position(read));
    bar.finish_and_clear();
    replay
}
