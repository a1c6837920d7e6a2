// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measures everything that is said about speed and writes it down: `benches/RESULTS.md` and `benches/RESULTS.svg`.
//!
//! `cargo run --release --manifest-path benches/comparison/Cargo.toml`, on a machine that does nothing else; about ten
//! minutes, most of them for building. Each contender is a program of its own (one build of parking_lot cannot be with
//! and without its deadlock detection); they run in turn, several times, so that a machine that is slower for a while is
//! slower for all of them.

mod page;
mod plot;
mod pool;
mod run;

use std::collections::BTreeMap;
use std::process::ExitCode;

use run::{Build, Profile, run_contender};

/// How often each contender runs; the median counts.
const TURNS: usize = 7;

/// A program to be measured.
struct Contender {
    name: &'static str,
    /// The feature of this package that makes it.
    feature: &'static str,
    profile: Profile,
}

/// The first one is what the others are compared with.
const RELEASE: [Contender; 9] = [
    release("parking_lot, bare", "parking-lot"),
    release("std, bare", "std"),
    release("lockdep off", "lockdep-off"),
    release("lockdep on", "lockdep-on"),
    release("tracing-mutex", "tracing-mutex"),
    release("parking_lot deadlock_detection", "parking-lot-detection"),
    release("deloxide", "deloxide"),
    release("deloxide lock-order-graph", "deloxide-order"),
    release("no_deadlocks", "no-deadlocks"),
];

/// The same, as tests are built.
const DEV: [Contender; 4] = [
    Contender { name: "parking_lot, bare", feature: "parking-lot", profile: Profile::Dev },
    Contender { name: "lockdep on", feature: "lockdep-on", profile: Profile::Dev },
    Contender { name: "lockdep on, itself optimised", feature: "lockdep-on", profile: Profile::Tuned },
    Contender { name: "tracing-mutex", feature: "tracing-mutex", profile: Profile::Dev },
];

const fn release(name: &'static str, feature: &'static str) -> Contender {
    Contender { name, feature, profile: Profile::Release }
}

/// Nanoseconds by workload, in the order of the workloads, for each contender.
pub struct Measured {
    pub names: Vec<&'static str>,
    pub rows: Vec<(String, Vec<f64>)>,
}

fn measure(contenders: &[Contender]) -> run::Result<Measured> {
    let builds: Vec<Build> = contenders
        .iter()
        .map(|contender| run::build(contender.feature, contender.profile))
        .collect::<run::Result<_>>()?;
    let mut workloads: Vec<String> = Vec::new();
    let mut samples: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
    for turn in 1..=TURNS {
        eprintln!("turn {turn} of {TURNS}");
        for (column, build) in builds.iter().enumerate() {
            for (workload, nanoseconds) in run_contender(build)? {
                let row = workloads.iter().position(|known| *known == workload).unwrap_or_else(|| {
                    workloads.push(workload);
                    workloads.len() - 1
                });
                samples.entry((row, column)).or_default().push(nanoseconds);
            }
        }
    }
    let median = |row, column| run::median(samples[&(row, column)].clone());
    let columns = 0..contenders.len();
    let row = |(row, workload)| (workload, columns.clone().map(|column| median(row, column)).collect());
    Ok(Measured {
        names: contenders.iter().map(|contender| contender.name).collect(),
        rows: workloads.into_iter().enumerate().map(row).collect(),
    })
}

fn results() -> run::Result<()> {
    let release = measure(&RELEASE)?;
    let dev = measure(&DEV)?;
    let instructions = [run::bench("instructions", false, &[])?, run::bench("instructions", true, &[])?];
    let learning = run::bench("learning", true, &[])?;
    let mut programs = run::programs()?;
    programs.extend(pool::measure()?);
    let folder = run::benches();
    plot::draw(&folder.join("RESULTS.svg"), &release)?;
    let page = page::page(&release, &dev, &instructions, &learning, &programs)?;
    std::fs::write(folder.join("RESULTS.md"), page)?;
    eprintln!("written: benches/RESULTS.md, benches/RESULTS.svg");
    Ok(())
}

fn main() -> ExitCode {
    match results() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("results: {error}");
            ExitCode::FAILURE
        }
    }
}
