// SPDX-License-Identifier: MIT OR Apache-2.0
//! Builds and runs what is measured, by way of cargo.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Whatever goes wrong ends the whole.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How a contender is compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Release,
    /// As tests are.
    Dev,
    /// The same, but with the validator itself optimised: see `Cargo.toml`.
    Tuned,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Profile::Release => "release",
            Profile::Dev => "dev",
            Profile::Tuned => "tuned",
        }
    }

    /// Where cargo puts what it has built.
    fn folder(self) -> &'static str {
        if self == Profile::Dev { "debug" } else { self.name() }
    }
}

/// A program that was built.
pub struct Build(PathBuf);

/// The folder of this package.
pub fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder `benches`.
pub fn benches() -> &'static Path {
    package().parent().expect("it is in benches")
}

/// What a command writes to its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    eprintln!("{command:?}");
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The cargo that runs us.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Builds a contender and puts it where the next one does not overwrite it.
pub fn build(feature: &str, profile: Profile) -> Result<Build> {
    let target = package().join("target");
    let mut command = cargo();
    command.args(["build", "--quiet", "--bin", "contender", "--features", feature]);
    command.args(["--profile", profile.name()]).arg("--target-dir").arg(&target).current_dir(package());
    output(&mut command)?;
    let built = target.join(profile.folder()).join("contender");
    let kept = target.join(format!("contender-{feature}-{}", profile.name()));
    std::fs::copy(built, &kept)?;
    Ok(Build(kept))
}

/// Runs it once: workloads and nanoseconds.
pub fn run_contender(build: &Build) -> Result<Vec<(String, f64)>> {
    let text = output(&mut Command::new(&build.0))?;
    // Some contenders greet.
    let lines = text.lines().filter_map(|line| line.split_once('\t'));
    lines.map(|(workload, nanoseconds)| Ok((workload.to_owned(), nanoseconds.parse()?))).collect()
}

/// What a bench of the root package prints.
pub fn bench(name: &str, on: bool, args: &[&str]) -> Result<String> {
    let mut command = cargo();
    command.args(["bench", "--quiet", "--bench", name]).current_dir(benches());
    if on {
        command.args(["--features", "lockdep"]);
    }
    output(command.arg("--").args(args))
}

/// The one in the middle.
pub fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// A piece of a whole program: its name, nanoseconds with the validator off and with it on.
pub type Program = (String, f64, f64);

/// How often each bench runs in either mode, in turn: the machine is not the same from one minute to the next. The median
/// counts.
const TURNS: usize = 5;

/// Whole programs on the driver models, off and on.
pub fn programs() -> Result<Vec<Program>> {
    const BRIEFLY: [&str; 6] =
        ["--output-format", "bencher", "--warm-up-time", "0.5", "--measurement-time", "1"];
    let mut programs: Vec<(String, [Vec<f64>; 2])> = Vec::new();
    for name in ["buffer_life", "drivers"] {
        for _ in 0..TURNS {
            for (on, mode) in ["off", "on"].into_iter().enumerate() {
                for (row, nanoseconds) in rows(&bench(name, on == 1, &BRIEFLY)?, mode) {
                    let known = programs.iter().position(|(name, _)| *name == row);
                    let at = known.unwrap_or_else(|| {
                        programs.push((row, Default::default()));
                        programs.len() - 1
                    });
                    programs[at].1[on].push(nanoseconds);
                }
            }
        }
    }
    // What only one mode has is no whole program.
    programs.retain(|(_, samples)| samples.iter().all(|samples| samples.len() == TURNS));
    if programs.is_empty() {
        return Err("the benches have no program in common".into());
    }
    Ok(programs.into_iter().map(|(name, [off, on])| (name, median(off), median(on))).collect())
}

/// The rows of criterion's `bencher` format, without the mode in their names.
fn rows(text: &str, mode: &str) -> Vec<(String, f64)> {
    let row = |line: &str| {
        let (name, time) = line.strip_prefix("test ")?.split_once(" ... bench:")?;
        let name: Vec<&str> = name.split('/').filter(|part| *part != mode).collect();
        let nanoseconds = time.split_whitespace().next()?.replace(',', "").parse().ok()?;
        Some((name.join(", "), nanoseconds))
    };
    text.lines().filter_map(row).collect()
}
