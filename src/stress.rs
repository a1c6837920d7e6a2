// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lockdep stress`: everything that the scenarios do, at once, on several threads in one simulated kernel.

use std::io::Write;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::value_parser;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::scenario::Setup;
use instrumented_drivers::scenario::stress::{LARGEST, Stress, Stressed};
use lockdep::{Report, ReportKind};
use serde_json::json;

use crate::app::choice::{one_of, quiet_findings};
use crate::app::output::{Failure, Format, Output, Status};
use crate::app::progress;

/// Everything at once: what the scenarios do, mixed at random over several threads in one simulated kernel.
///
/// Each byte that is written must be read back, an operation may fail only if a failure was injected into it, at the
/// end no lock may be held and everything must be freed, and nothing may be found.
///
/// Which operations a thread does, with which arguments and failures, follows from the seed and the thread's number;
/// with the seed that was printed, the same number of threads and of operations, it is the same again. How the
/// threads take turns is up to the machine.
///
/// Exit status: 0 if all of this holds, else 1; 2 for a mistake in the arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where all choices come from [default: another one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How many operations, in all threads together
    #[arg(long, value_name = "N", default_value_t = 2000)]
    ops: u32,
    /// How many threads
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u32).range(1..=LARGEST as i64))]
    threads: u32,
    /// Let waits be interrupted, allocations fail and wound/wait contexts be told to back off
    #[arg(long)]
    faults: bool,
    /// Policy of the dma-buf core: P0, P1 or P2
    #[arg(long, value_name = "POLICY", default_value = "P2")]
    policy: String,
    /// Locks of the GEM shmem helper: A, B0, B or C
    #[arg(long, value_name = "REGIME", default_value = "C")]
    shmem: String,
    /// How the result is written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    let stress = stress(args)?;
    quiet_findings();
    if args.format == Format::Text {
        // First of all, so that it is known whatever happens.
        let Stress { setup, seed, threads, operations, faults } = stress;
        let with = if faults { ", with failures" } else { "" };
        writeln!(out, "seed {seed}: {operations} operations on {threads} threads, policy {setup}{with}")?;
        out.finish()?;
    }
    let bar = progress::bar(stress.operations as u64, "{bar:40} {pos}/{len} {eta}");
    let shown = bar.clone();
    let step: Arc<dyn Fn() + Send + Sync> = Arc::new(move || shown.inc(1));
    let stressed = stress.run(&step);
    bar.finish_and_clear();
    match args.format {
        Format::Text => text(&stressed, out)?,
        Format::Json => json(&stress, &stressed, out)?,
    }
    Ok(if stressed.is_clean() { Status::AsExpected } else { Status::Finding })
}

fn stress(args: &Args) -> Result<Stress, Failure> {
    let usual = Setup::LINUX_6_12;
    let setup = Setup {
        policy: one_of("policy", Some(&args.policy), &LockingPolicy::ALL)?.unwrap_or(usual.policy),
        shmem: one_of("shmem regime", Some(&args.shmem), &ShmemLocking::ALL)?.unwrap_or(usual.shmem),
    };
    if setup.mmap_deadlocks() {
        return Err(Failure::user(format!(
            "under {setup} a thread that maps a dma-buf waits for itself (see `lockdep mmap`), and others for it: there \
             is nothing to stress"
        )));
    }
    Ok(Stress {
        setup,
        seed: args.seed.unwrap_or_else(any_seed),
        threads: args.threads as usize,
        operations: args.ops as usize,
        faults: args.faults,
    })
}

/// Short enough to type again.
fn any_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ (now.as_secs() & 0xffff_ffff)
}

fn text(stressed: &Stressed, out: &mut Output) -> Result<(), Failure> {
    for (name, count) in &stressed.counts {
        write!(out, "    {name:<10} {:>7}", count.done + count.cut_short)?;
        match count.cut_short {
            0 => writeln!(out)?,
            cut_short => writeln!(out, "  {cut_short:>5} cut short by a failure")?,
        }
    }
    for report in &stressed.run.reports {
        writeln!(out, "\n{report}")?;
    }
    let found = stressed.run.reported();
    let names: Vec<&str> = found.into_iter().map(ReportKind::name).collect();
    let found = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    match stressed.run.failure() {
        Some(failure) => writeln!(out, "FAILED: {failure}; found: {found}")?,
        None if stressed.is_clean() => writeln!(out, "nothing lost, nothing left behind, nothing found")?,
        None => writeln!(out, "NOT CLEAN: {}; found: {found}", stressed.run.end.name())?,
    }
    Ok(())
}

fn json(stress: &Stress, stressed: &Stressed, out: &mut Output) -> Result<(), Failure> {
    let count = |(name, count): &(&str, instrumented_drivers::scenario::stress::Count)| json!({ "name": name, "done": count.done, "cut_short": count.cut_short });
    out.json(&json!({ "stress": {
        "seed": stress.seed,
        "threads": stress.threads,
        "ops": stress.operations,
        "faults": stress.faults,
        "policy": stress.setup.policy.name(),
        "shmem": stress.setup.shmem.name(),
        "ok": stressed.is_clean(),
        "end": stressed.run.end.name(),
        "failure": stressed.run.failure().map(ToString::to_string),
        "reports": stressed.run.reports.iter().map(Report::to_json).collect::<Vec<_>>(),
        "operations": stressed.counts.iter().map(count).collect::<Vec<_>>(),
    }}))
}
