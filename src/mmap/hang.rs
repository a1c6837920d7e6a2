// SPDX-License-Identifier: MIT OR Apache-2.0
//! The proof that a finding is not a matter of opinion: the same cell, in a process of its own, with a validator
//! that watches nothing, does not come back.
//!
//! A process that does not come back could also be slow. So each cell has a control: the same path under the
//! policy that does not hold the lock, which must come back. And a process that hangs must be asleep.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use instrumented_drivers::policy::LockingPolicy;
use instrumented_drivers::scenario::Setup;
use instrumented_drivers::scenario::mission::Cell;
use serde_json::{Value, json};

use crate::app::output::{Failure, Output, Status};

/// How long a process that has begun may stay silent before the watchdog ends it.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same for a control, which is expected to come back: only a broken one ever takes this long.
const CONTROL_PATIENCE: Duration = Duration::from_secs(60);
/// Processes at one time.
const AT_ONCE: usize = 6;

const BEGUN: &str = "begun";
const DONE: &str = "done";

/// What became of one cell without a validator.
pub(super) struct Proof {
    pub(super) cell: Cell,
    /// It did not come back.
    pub(super) hung: bool,
    /// What the system said about the process when the watchdog looked, for example `S (sleeping)`.
    pub(super) state: Option<String>,
    /// The same path under P2 came back.
    pub(super) control_returned: bool,
}

impl Proof {
    pub(super) fn is_as_expected(&self) -> bool {
        self.hung && self.is_asleep() && self.control_returned
    }

    /// A process that waits for a lock sleeps; one that is merely slow runs.
    fn is_asleep(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.starts_with('S') || state.starts_with('D'))
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "hung": self.hung,
            "state": self.state,
            "watchdog_seconds": PATIENCE.as_secs(),
            "control": { "policy": "P2", "returned": self.control_returned },
        })
    }

    pub(super) fn watchdog() -> Duration {
        PATIENCE
    }
}

/// Runs every deadlocking cell, and its control, without a validator.
pub(super) fn prove(cells: &[Cell]) -> Result<Vec<Proof>, Failure> {
    let deadlocks: Vec<Cell> = cells.iter().copied().filter(Cell::deadlocks).collect();
    let mut proofs = Vec::new();
    // Drawn on standard error, and only if that is a terminal.
    let progress = indicatif::ProgressBar::new(deadlocks.len() as u64).with_message("waiting for hangs");
    for batch in deadlocks.chunks(AT_ONCE) {
        let results: Vec<Result<Proof, Failure>> = thread::scope(|scope| {
            let running: Vec<_> = batch.iter().map(|cell| scope.spawn(|| proof(*cell))).collect();
            running
                .into_iter()
                .map(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|_| Err(Failure::user("internal error: a watchdog panicked")))
                })
                .collect()
        });
        for result in results {
            proofs.push(result?);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(proofs)
}

fn proof(cell: Cell) -> Result<Proof, Failure> {
    let control = Cell { setup: Setup { policy: LockingPolicy::P2, ..cell.setup }, ..cell };
    let (control_returned, _) = comes_back(control, CONTROL_PATIENCE)?;
    let (returned, state) = comes_back(cell, PATIENCE)?;
    Ok(Proof { cell, hung: !returned, state, control_returned })
}

/// Whether a process that runs the cell says that it is done; if not, its state when it was given up.
fn comes_back(cell: Cell, patience: Duration) -> Result<(bool, Option<String>), Failure> {
    let mut child = start(cell)?;
    let output = child.stdout.take().ok_or_else(|| Failure::user("internal error: no pipe to a child"))?;
    // The watchdog waits on a channel, so that it can stop waiting; the reader ends with the process.
    let (sender, lines) = mpsc::channel();
    let reader = thread::spawn(move || read_lines(output, &sender));
    let begun = lines.recv_timeout(CONTROL_PATIENCE).is_ok_and(|line| line == BEGUN);
    let done = begun && lines.recv_timeout(patience).is_ok_and(|line| line == DONE);
    let state = if done { None } else { state_of(child.id()) };
    let ended = child.kill().and_then(|()| child.wait());
    let _ = reader.join();
    ended.map_err(|error| Failure::user(format!("cannot end a child process: {error}")))?;
    if begun {
        Ok((done, state))
    } else {
        Err(Failure::user(format!("the process for {} {} did not begin", cell.setup, cell.path)))
    }
}

fn start(cell: Cell) -> Result<Child, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::user(format!("cannot find this program to start it again: {error}")))?;
    Command::new(program)
        .args(["mmap", "--unwatched"])
        .args(["--policy", cell.setup.policy.name(), "--shmem", cell.setup.shmem.name()])
        .args(["--exporter", cell.exporter.name(), "--path", cell.path.name()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| Failure::user(format!("cannot start a child process: {error}")))
}

fn read_lines(output: ChildStdout, sender: &mpsc::Sender<String>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if sender.send(line).is_err() {
            return;
        }
    }
}

/// `State:` of a process, as Linux tells it.
fn state_of(process: u32) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("State:"))?;
    Some(line.trim().to_owned())
}

/// The child's side: one cell, nobody watches.
pub(super) fn child(cells: &[Cell], out: &mut Output) -> Result<Status, Failure> {
    let [cell] = cells else { return Err(Failure::user("--unwatched needs exactly one cell")) };
    // Whoever started this process holds the other end. If that one is gone, nobody will end a process that
    // hangs, so it ends itself.
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(3);
    });
    writeln!(out, "{BEGUN}")?;
    out.flush()?;
    let outcome = cell.run_unwatched();
    if let Some(failure) = outcome.run.failure() {
        return Err(Failure::user(format!("{failure}")));
    }
    writeln!(out, "{DONE}")?;
    Ok(Status::AsExpected)
}
