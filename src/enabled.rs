// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line: parse, dispatch, turn the outcome into an exit status.
//!
//! Exit status: 0 = as expected; 1 = an unexpected finding, or a missing expected one (with an explicitly chosen
//! policy: any finding); 2 = usage or input error, with one clear line on standard error. A closed pipe ends the
//! command quietly.

mod bugs;
mod choice;
mod diff;
mod graph;
mod litmus;
mod mmap;
mod output;
mod progress;
mod replay;
mod scenario;
mod selftest;
mod stress;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use output::{Failure, Output, Status};

#[derive(Debug, Parser)]
#[command(name = "lockdep", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Mmap(mmap::Args),
    Scenario(scenario::Args),
    Bugs(bugs::Args),
    Graph(graph::Args),
    Diff(diff::Args),
    /// Run litmus files: small lock programs with their expected findings
    Litmus(litmus::Args),
    /// Judge a recorded kernel lock trace
    Replay(replay::Args),
    Selftest(selftest::Args),
    Stress(stress::Args),
}

pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap knows which of these belong on standard output (help, version) and which are mistakes.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let mut out = Output::new();
    let outcome = run(&cli.command, &mut out).and_then(|status| out.finish().map(|()| status));
    match outcome {
        Ok(Status::AsExpected) | Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
        Ok(Status::Finding) => ExitCode::from(1),
        Err(Failure::User(message)) => {
            eprintln!("lockdep: {message}");
            ExitCode::from(2)
        }
    }
}

fn run(command: &Command, out: &mut Output) -> Result<Status, Failure> {
    match command {
        Command::Mmap(args) => mmap::run(args, out),
        Command::Scenario(args) => scenario::run(args, out),
        Command::Bugs(args) => bugs::run(args, out),
        Command::Diff(args) => diff::run(args, out),
        Command::Graph(args) => graph::run(args, out),
        Command::Litmus(args) => litmus::run(args, out),
        Command::Replay(args) => replay::run(args, out),
        Command::Selftest(args) => selftest::run(args, out),
        Command::Stress(args) => stress::run(args, out),
    }
}
