// SPDX-License-Identifier: MIT OR Apache-2.0
//! `benches/RESULTS.md`.

use std::fmt::Write as _;
use std::process::Command;

use crate::Measured;
use crate::run::{Program, Result, output};

pub fn page(
    release: &Measured,
    dev: &Measured,
    instructions: &[String; 2],
    learning: &str,
    programs: &[Program],
) -> Result<String> {
    let mut page = String::from(
        "# Results\n\nWritten by `cargo run --release --manifest-path benches/comparison/Cargo.toml`; do not edit.\n\n",
    );
    writeln!(page, "{}\n", machine()?)?;
    page.push_str(
        "Times are nanoseconds of CPU time per pair of lock and unlock: the median of several runs of each program, which \
         ran in turn. In brackets: how many times the first column. Read the ratios; the times are this machine's.\n\n\
         ## Locks of a known order, release build\n\n![the same as a drawing](RESULTS.svg)\n\n",
    );
    page.push_str(&table(release)?);
    page.push_str("\n## The same as tests are built (profile dev)\n\n");
    page.push_str(&table(dev)?);
    page.push_str("\n## Instructions\n\nCounted, not timed: the same in every run.\n\n");
    for text in instructions {
        writeln!(page, "{}\n", text.trim())?;
    }
    writeln!(page, "## New dependencies\n\n```text\n{}\n```\n", learning.trim_end())?;
    page.push_str(
        "## Whole programs\n\nThe driver models at work, in nanoseconds of wall time by criterion, the median of five runs in turn. The stress is a kernel of its own with four \
         threads and so many random operations, from its boot to its end: everything in it is new. The last ones are a public crate, r2d2, whose parking_lot is ours, in \
         nanoseconds of CPU time: a thread borrows a connection, and counts the twelve words of a line in it.\n\n\
         | program | off | on | on / off |\n|---|---|---|---|\n",
    );
    for (name, off, on) in programs {
        writeln!(page, "| {name} | {off:.0} | {on:.0} | {:.2} |", on / off)?;
    }
    Ok(page)
}

/// Where and when.
fn machine() -> Result<String> {
    let ask = |program: &str, args: &[&str]| output(Command::new(program).args(args));
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown processor");
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown");
    Ok(format!(
        "{count} cores of {}, {}, {}, commit {}; load {load} at the end.",
        model.trim_start_matches([' ', '\t', ':']).trim(),
        ask("rustc", &["--version"])?.trim(),
        ask("date", &["+%Y-%m-%d"])?.trim(),
        ask("git", &["describe", "--always", "--dirty"])?.trim(),
    ))
}

fn table(measured: &Measured) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "| | {} |", measured.names.join(" | "))?;
    writeln!(text, "|---|{}", "---|".repeat(measured.names.len()))?;
    for (workload, times) in &measured.rows {
        let cell = |time: &f64| format!("{time:.1} ({:.1})", time / times[0]);
        let cells: Vec<String> = times.iter().map(cell).collect();
        writeln!(text, "| {workload} | {} |", cells.join(" | "))?;
    }
    Ok(text)
}
