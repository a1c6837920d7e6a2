// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lockdep diff`: what changes from one locking policy to another, seen in what the models do.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use clap::Args as ClapArgs;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::scenario::mission::Cell;
use instrumented_drivers::scenario::{Run, Setup, registry};
use lockdep::{Place, Recorded, RecordedOp, Report};
use serde_json::{Value, json};

use crate::app::choice::{one_of, quiet_findings};
use crate::app::output::{Failure, Format, Output, Status};

/// What changes from one locking policy to another.
///
/// Runs every scenario and every way to an exporter's mmap under both, and tells
/// for each callback of the exporters whether the task held the reservation lock; which findings come and go; and for
/// each file of the drivers which function takes or asserts a lock in the one and not in the other.
///
/// A policy is P0, P1 or P2, with the locks of the GEM shmem helper behind a colon: `lockdep diff P1:A P2:B`
/// is what the patches of Linux 6.6 did.
///
/// Exit status: 0; 2 for a mistake in the arguments.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The policy before: P0, P1 or P2, and :A, :B0, :B or :C [default regime: C]
    #[arg(value_name = "BEFORE")]
    before: String,
    /// The policy after
    #[arg(value_name = "AFTER")]
    after: String,
    /// How the result is written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

/// What programs on the models do under one setup.
#[derive(Default)]
struct Behaviour {
    /// For each callback, whether it was entered with the reservation lock held, without it, or both.
    callbacks: BTreeMap<&'static str, BTreeSet<bool>>,
    /// Kind and class of each finding, and the function that made it.
    findings: BTreeSet<String>,
    /// For each file, which function takes or asserts which lock.
    locking: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Behaviour {
    fn of(setup: Setup) -> Self {
        let mut seen = Self::default();
        for cell in Cell::all().filter(|cell| cell.setup == setup) {
            seen.add(&cell.run_recorded().run);
        }
        for scenario in registry() {
            seen.add(&scenario.run_recorded(setup));
        }
        seen
    }

    fn add(&mut self, run: &Run) {
        for entry in &run.callbacks {
            self.callbacks.entry(entry.callback).or_default().insert(entry.resv_held);
        }
        self.findings.extend(run.reports.iter().map(finding));
        for (file, what) in run.recorded.iter().filter_map(locking) {
            self.locking.entry(file).or_default().insert(what);
        }
    }
}

fn finding(report: &Report) -> String {
    let wanted = report.wanted.as_ref();
    let class = wanted.map_or("", |wanted| wanted.lock.class.as_str());
    let function = wanted.and_then(|wanted| wanted.site.function).unwrap_or("?");
    format!("{} on {class} in {function}", report.kind())
}

/// The file, and what is done to a lock in which of its functions; none for the end of a hold.
fn locking(event: &Recorded) -> Option<(&'static str, String)> {
    let Place::Code(place) = event.site.place else { return None };
    // The kernel around the drivers has no policy, and there it depends on chance who must wait.
    if place.file().contains("/src/kernel/") {
        return None;
    }
    let verb = match event.op {
        RecordedOp::Acquire { how } if how.trylock => "tries",
        RecordedOp::Acquire { .. } => "takes",
        RecordedOp::AssertHeld => "asserts",
        RecordedOp::Release | RecordedOp::Downgrade => return None,
    };
    let function = event.site.function.unwrap_or("?");
    Some((place.file(), format!("{function} {verb} {}", event.class)))
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    let (before, after) = (setup(&args.before)?, setup(&args.after)?);
    quiet_findings();
    let (was, is) = (Behaviour::of(before), Behaviour::of(after));
    let change = Change::between(&was, &is);
    match args.format {
        Format::Text => change.write(before, after, out)?,
        Format::Json => out.json(&change.document(before, after))?,
    }
    Ok(Status::AsExpected)
}

/// A setup from its written form, `P1` or `P1:A`.
fn setup(text: &str) -> Result<Setup, Failure> {
    let (policy, shmem) = text.split_once(':').map_or((text, None), |(policy, shmem)| (policy, Some(shmem)));
    let policy = one_of("policy", Some(policy), &LockingPolicy::ALL)?.unwrap_or(Setup::LINUX_6_12.policy);
    let shmem = one_of("shmem regime", shmem, &ShmemLocking::ALL)?.unwrap_or(Setup::LINUX_6_12.shmem);
    Ok(Setup { policy, shmem })
}

/// What is only before, and what is only after.
#[derive(Default)]
struct Difference<'a> {
    gone: Vec<&'a str>,
    come: Vec<&'a str>,
}

impl<'a> Difference<'a> {
    fn between(before: &'a BTreeSet<String>, after: &'a BTreeSet<String>) -> Self {
        let only = |one: &'a BTreeSet<String>, other| one.difference(other).map(String::as_str).collect();
        Difference { gone: only(before, after), come: only(after, before) }
    }

    fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.come.is_empty()
    }

    fn write(&self, out: &mut Output) -> Result<(), Failure> {
        for what in &self.gone {
            writeln!(out, "    - {what}")?;
        }
        for what in &self.come {
            writeln!(out, "    + {what}")?;
        }
        Ok(())
    }

    fn document(&self) -> Value {
        json!({ "gone": self.gone, "come": self.come })
    }
}

struct Change<'a> {
    /// Callback, in words whether the lock was held before and after.
    callbacks: Vec<(&'static str, &'static str, &'static str)>,
    findings: Difference<'a>,
    files: Vec<(&'static str, Difference<'a>)>,
}

/// How a callback finds the reservation lock.
fn held(ways: Option<&BTreeSet<bool>>) -> &'static str {
    let Some(ways) = ways else { return "not called" };
    match (ways.contains(&true), ways.contains(&false)) {
        (true, false) => "held",
        (true, true) => "either",
        _ => "free",
    }
}

impl<'a> Change<'a> {
    fn between(before: &'a Behaviour, after: &'a Behaviour) -> Self {
        static NOTHING: BTreeSet<String> = BTreeSet::new();
        let names: BTreeSet<&'static str> =
            before.callbacks.keys().chain(after.callbacks.keys()).copied().collect();
        let row = |name| (name, held(before.callbacks.get(name)), held(after.callbacks.get(name)));
        let files: BTreeSet<&'static str> =
            before.locking.keys().chain(after.locking.keys()).copied().collect();
        let file = |file| {
            let of = |behaviour: &'a Behaviour| behaviour.locking.get(file).unwrap_or(&NOTHING);
            (file, Difference::between(of(before), of(after)))
        };
        Change {
            callbacks: names.into_iter().map(row).collect(),
            findings: Difference::between(&before.findings, &after.findings),
            files: files.into_iter().map(file).filter(|(_, gone)| !gone.is_empty()).collect(),
        }
    }

    fn write(&self, before: Setup, after: Setup, out: &mut Output) -> Result<(), Failure> {
        let (before, after) = (before.to_string(), after.to_string());
        writeln!(out, "The reservation lock when a callback of an exporter runs\n")?;
        writeln!(out, "    {:<18} {before:<10} {after}", "callback")?;
        for (callback, was, is) in &self.callbacks {
            let mark = if was == is { "" } else { "  <- changes" };
            writeln!(out, "    {callback:<18} {was:<10} {is}{mark}")?;
        }
        writeln!(out, "\nFindings: - only under {before}, + only under {after}\n")?;
        self.findings.write(out)?;
        if self.findings.is_empty() {
            writeln!(out, "    the same")?;
        }
        writeln!(out, "\nWhat takes or asserts a lock, by file")?;
        for (file, change) in &self.files {
            writeln!(out, "\n  {file}")?;
            change.write(out)?;
        }
        if self.files.is_empty() {
            writeln!(out, "\n    the same")?;
        }
        Ok(())
    }

    fn document(&self, before: Setup, after: Setup) -> Value {
        let callback =
            |(name, was, is): &(&str, &str, &str)| json!({ "callback": name, "before": was, "after": is });
        let file = |(file, change): &(&str, Difference<'_>)| json!({ "file": file, "gone": change.gone, "come": change.come });
        json!({
            "before": before.to_string(),
            "after": after.to_string(),
            "callbacks": self.callbacks.iter().map(callback).collect::<Vec<_>>(),
            "findings": self.findings.document(),
            "files": self.files.iter().map(file).collect::<Vec<_>>(),
        })
    }
}
