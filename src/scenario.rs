// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lockdep scenario`: named programs on the models of the drivers, judged under each policy and regime.

mod script;

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::scenario::script::LANGUAGE;
use instrumented_drivers::scenario::sequence::Sequence;
use instrumented_drivers::scenario::{Run, Scenario, Setup, registry};
use lockdep::ReportKind;
use serde_json::{Value, json};

use crate::app::choice::{one_of, quiet_findings};
use crate::app::output::{Failure, Format, Output, Status};
use crate::app::progress;

/// Named programs on the models of the drivers: tests of IGT and KUnit, and recorded programs.
///
/// Each runs under a validator of its own for every chosen policy and regime, and must find what is expected
/// there and nothing else; it must end with no lock held and everything freed.
///
/// Exit status: 0 if every run is as expected; with --policy, 1 if there is any finding; 2 for a mistake in the
/// arguments. A script: 0 if it is found what the file says, else 1; 2 for a mistake in the file, or if a call does
/// not end as the file says.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = LANGUAGE.replace("```text\n", "").replace("```\n", ""))]
pub(crate) struct Args {
    /// Scenarios, by id or name; see --list [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Policy of the dma-buf core: P0, P1 or P2 [default: all; with --events and --script P2]
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,
    /// Locks of the GEM shmem helper: A, B0, B or C [default: all; with --events and --script C]
    #[arg(long, value_name = "REGIME")]
    shmem: Option<String>,
    /// Print what was locked, in order and by function, instead of the verdict
    #[arg(long)]
    events: bool,
    /// Run a program from a file instead (`-`: standard input), by default under P2 and C: prints what was locked, the
    /// findings, and whether they are those that the file says
    #[arg(long, value_name = "FILE", conflicts_with_all = ["names", "events", "list"])]
    script: Option<PathBuf>,
    /// List the scenarios and run none
    #[arg(long)]
    list: bool,
    /// How the result is written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

/// A scenario under one setup.
struct Judged {
    scenario: Scenario,
    setup: Setup,
    run: Run,
    time: Duration,
}

impl Judged {
    fn new(scenario: Scenario, setup: Setup) -> Self {
        let start = Instant::now();
        let run = scenario.run(setup);
        Judged { scenario, setup, run, time: start.elapsed() }
    }

    fn is_ok(&self) -> bool {
        self.scenario.is_as_expected(self.setup, &self.run)
    }
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    let scenarios = chosen(&args.names)?;
    let policy = one_of("policy", args.policy.as_deref(), &LockingPolicy::ALL)?;
    let shmem = one_of("shmem regime", args.shmem.as_deref(), &ShmemLocking::ALL)?;
    if args.list {
        return list(&scenarios, args.format, out);
    }
    quiet_findings();
    let Setup { policy: usual_policy, shmem: usual_shmem } = Setup::LINUX_6_12;
    let setup = Setup { policy: policy.unwrap_or(usual_policy), shmem: shmem.unwrap_or(usual_shmem) };
    if let Some(file) = &args.script {
        return script::run(file, setup, args.format, out);
    }
    if args.events {
        return events(&scenarios, setup, args.format, out);
    }
    let setups: Vec<Setup> = Setup::all()
        .filter(|setup| policy.is_none_or(|policy| policy == setup.policy))
        .filter(|setup| shmem.is_none_or(|shmem| shmem == setup.shmem))
        .collect();
    let bar = progress::bar((scenarios.len() * setups.len()) as u64, "{wide_msg} {bar:30} {pos}/{len} {eta}");
    let mut judged = Vec::new();
    for scenario in scenarios {
        bar.set_message(scenario.id);
        let runs = setups.iter().map(|setup| Judged::new(scenario, *setup)).inspect(|_| bar.inc(1));
        let runs: Vec<Judged> = runs.collect();
        if args.format == Format::Text {
            // Whole lines at once, so that bar and table do not get in each other's way.
            bar.suspend(|| text(&runs, out).and_then(|()| out.finish()))?;
        }
        judged.extend(runs);
    }
    bar.finish_and_clear();
    match args.format {
        Format::Json => out.json(&document(&judged))?,
        Format::Text => summary(&judged, policy.is_some(), out)?,
    }
    let good = judged.iter().all(|j| j.is_ok() && (policy.is_none() || j.run.reports.is_empty()));
    Ok(if good { Status::AsExpected } else { Status::Finding })
}

/// The scenarios with these names; all if there are none.
pub(crate) fn chosen(names: &[String]) -> Result<Vec<Scenario>, Failure> {
    if names.is_empty() {
        return Ok(registry());
    }
    let find = |name: &String| {
        Scenario::find(name).ok_or_else(|| {
            let ids: Vec<&str> = registry().iter().map(|scenario| scenario.id).collect();
            Failure::user(format!("unknown scenario `{name}`: it is one of {}", ids.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

fn list(scenarios: &[Scenario], format: Format, out: &mut Output) -> Result<Status, Failure> {
    match format {
        Format::Text => {
            for Scenario { id, name, about, .. } in scenarios {
                writeln!(out, "{id:<17} {name}\n{:18}{about}", "")?;
            }
        }
        Format::Json => {
            let row = |s: &Scenario| json!({ "id": s.id, "name": s.name, "about": s.about });
            out.json(&json!({ "scenarios": scenarios.iter().map(row).collect::<Vec<_>>() }))?;
        }
    }
    Ok(Status::AsExpected)
}

fn events(scenarios: &[Scenario], setup: Setup, format: Format, out: &mut Output) -> Result<Status, Failure> {
    let mut documents = Vec::new();
    let mut good = true;
    for scenario in scenarios {
        let run = scenario.run_recorded(setup);
        good &= scenario.is_as_expected(setup, &run);
        let sequence = Sequence::from(&*run.recorded).to_string();
        match format {
            Format::Text => {
                writeln!(out, "# models, program {}, policy {setup}: {}", scenario.id, run.end.name())?;
                writeln!(out, "{sequence}")?;
            }
            Format::Json => documents.push(json!({
                "id": scenario.id,
                "policy": setup.policy.name(),
                "shmem": setup.shmem.name(),
                "sequence": sequence,
            })),
        }
    }
    if format == Format::Json {
        out.json(&json!({ "events": documents }))?;
    }
    Ok(if good { Status::AsExpected } else { Status::Finding })
}

/// How long they took, in all.
fn milliseconds(runs: &[Judged]) -> String {
    let time: Duration = runs.iter().map(|judged| judged.time).sum();
    format!("{:.1} ms", 1000.0 * time.as_secs_f64())
}

fn words(kinds: &[ReportKind]) -> String {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    if names.is_empty() { "clean".into() } else { names.join(", ") }
}

/// One scenario: a line for each verdict with the setups that had it, then what is wrong.
fn text(runs: &[Judged], out: &mut Output) -> Result<(), Failure> {
    let Some(Judged { scenario, .. }) = runs.first() else { return Ok(()) };
    writeln!(out, "{:<17} {:<62} {:>10}", scenario.id, scenario.name, milliseconds(runs))?;
    let mut verdicts: Vec<(String, Vec<String>)> = Vec::new();
    for judged in runs.iter().filter(|judged| judged.is_ok()) {
        let verdict = words(&judged.run.reported());
        match verdicts.iter_mut().find(|(known, _)| *known == verdict) {
            Some((_, setups)) => setups.push(judged.setup.to_string()),
            None => verdicts.push((verdict, vec![judged.setup.to_string()])),
        }
    }
    for (verdict, setups) in &verdicts {
        let all = setups.len() == runs.len() && runs.len() > 1;
        let setups = if all { format!("all {}", runs.len()) } else { setups.join(", ") };
        writeln!(out, "    {verdict:<23} {setups}")?;
    }
    for Judged { scenario, setup, run, .. } in runs.iter().filter(|judged| !judged.is_ok()) {
        let expected = words(&scenario.expected(*setup));
        writeln!(out, "    NOT AS EXPECTED {setup}: expected {expected}, got {}", words(&run.reported()))?;
        if let Some(failure) = run.failure() {
            writeln!(out, "    failed: {failure}")?;
        }
        for report in &run.reports {
            writeln!(out, "{report}")?;
        }
    }
    Ok(())
}

fn summary(judged: &[Judged], policy_chosen: bool, out: &mut Output) -> Result<(), Failure> {
    let wrong = judged.iter().filter(|judged| !judged.is_ok()).count();
    let findings = judged.iter().filter(|judged| !judged.run.reports.is_empty()).count();
    let (runs, time) = (judged.len(), milliseconds(judged));
    writeln!(out, "\n{runs} runs, {findings} with a finding, {wrong} not as expected, {time}")?;
    if policy_chosen && findings > 0 {
        writeln!(out, "a policy was chosen, so any finding counts: exit status 1")?;
    }
    Ok(())
}

fn document(judged: &[Judged]) -> Value {
    let names = |kinds: Vec<ReportKind>| kinds.into_iter().map(ReportKind::name).collect::<Vec<_>>();
    let row = |judged: &Judged| {
        let Judged { scenario, setup, run, time } = judged;
        json!({
            "id": scenario.id,
            "name": scenario.name,
            "policy": setup.policy.name(),
            "shmem": setup.shmem.name(),
            "ok": judged.is_ok(),
            "expected": names(scenario.expected(*setup)),
            "reported": names(run.reported()),
            "reports": run.reports.iter().map(lockdep::Report::to_json).collect::<Vec<_>>(),
            "end": run.end.name(),
            "failure": run.failure().map(ToString::to_string),
            "milliseconds": 1000.0 * time.as_secs_f64(),
        })
    };
    json!({ "results": judged.iter().map(row).collect::<Vec<_>>() })
}
