// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a lock costs, counted instead of timed: instructions for a pair of lock and unlock of a known order.
//!
//! `cargo bench --bench instructions` and the same with `--features lockdep`. It is exact, so it is checked: with the
//! feature off, ours is the bare lock to the instruction; with it on, a pair costs no more than its [`Row::budget`], however
//! deep the nest. Exit status 1 if that is not so.
//!
//! How: this program starts itself once more for each row, as a child that it lets run one instruction at a time
//! (ptrace) between two signals that the child sends itself. What the same rounds cost without a lock is subtracted. Only
//! for Linux, and where a process may trace its child; elsewhere it says so and counts nothing. Unoptimised code is
//! counted, but not checked.

mod common;

use common::{
    BareMutex, BareRead, BareReentrant, BareTry, BareWrite, Lock, OurMutex, OurRead, OurReentrant, OurTry,
    OurWrite, nest_of, new_nest,
};

/// One lock type of both makers.
struct Row {
    name: &'static str,
    bare: fn(usize, usize),
    ours: fn(usize, usize),
    depths: &'static [usize],
    /// What a pair may cost more than the bare one with the feature on: what was counted with rustc 1.95 for x86-64, and
    /// four to spare for other compilers. The aim for a mutex is 60.
    budget: u32,
}

const ROWS: [Row; 5] = [
    row::<BareMutex, OurMutex>("Mutex", &[1, 4, 8, 16], 64),
    row::<BareTry, OurTry>("Mutex, try_lock", &[1, 4], 67),
    row::<BareRead, OurRead>("RwLock, read", &[1, 4], 73),
    row::<BareWrite, OurWrite>("RwLock, write", &[1, 4], 64),
    row::<BareReentrant, OurReentrant>("ReentrantMutex", &[1, 4], 104),
];

const fn row<B: Lock, O: Lock>(name: &'static str, depths: &'static [usize], budget: u32) -> Row {
    Row { name, bare: rounds::<B>, ours: rounds::<O>, depths, budget }
}

/// So many nests of this depth; only they are between the signals.
fn rounds<L: Lock>(depth: usize, rounds: usize) {
    let locks = new_nest::<L>();
    // The first times are for learning.
    for _ in 0..3 {
        nest_of(depth, &locks);
    }
    traced::mark();
    for _ in 0..rounds {
        nest_of(depth, &locks);
    }
    traced::mark();
}

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let [_, role, row, maker, depth, times] = &args[..]
        && role == traced::ROLE
    {
        let [row, depth, times] = [row, depth, times].map(|text| text.parse::<usize>().expect("we wrote it"));
        let run = if maker == "bare" { ROWS[row].bare } else { ROWS[row].ours };
        run(depth, times);
        return std::process::ExitCode::SUCCESS;
    }
    match table() {
        Ok(true) => std::process::ExitCode::SUCCESS,
        Ok(false) => std::process::ExitCode::FAILURE,
        Err(reason) => {
            println!("nothing was counted: {reason}");
            std::process::ExitCode::SUCCESS
        }
    }
}

/// Prints the table; false if a pair costs more than it may.
fn table() -> Result<bool, traced::Unavailable> {
    let mode = if lockdep::ENABLED { "on" } else { "off" };
    println!("Instructions for a pair of lock and unlock, validator {mode}:\n");
    println!("| lock | depth | bare | ours | more | at most |\n|---|---|---|---|---|---|");
    let mut good = true;
    for (number, Row { name, depths, budget, .. }) in ROWS.iter().enumerate() {
        let budget = if lockdep::ENABLED { *budget } else { 0 };
        for &depth in *depths {
            let bare = per_pair(number, "bare", depth)?;
            let ours = per_pair(number, "ours", depth)?;
            let more = ours - bare;
            println!("| {name} | {depth} | {bare:.1} | {ours:.1} | {more:.1} | {budget} |");
            good &= more <= f64::from(budget);
        }
    }
    println!();
    if cfg!(debug_assertions) {
        println!("unoptimised code: not checked");
        return Ok(true);
    }
    if !good {
        println!("a pair costs more instructions than it may");
    }
    Ok(good)
}

/// Instructions for one lock and unlock.
fn per_pair(row: usize, maker: &str, depth: usize) -> Result<f64, traced::Unavailable> {
    const ROUNDS: usize = 40;
    let count = |depth: usize| {
        traced::instructions(&[&row.to_string(), maker, &depth.to_string(), &ROUNDS.to_string()])
    };
    let difference = count(depth)? - count(0)?;
    Ok(difference as f64 / (ROUNDS * depth) as f64)
}

#[cfg(target_os = "linux")]
mod traced {
    //! A child that is let run one instruction at a time.

    use std::fmt;
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use nix::sys::ptrace;
    use nix::sys::signal::{Signal, raise};
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::Pid;

    /// The first argument of the child.
    pub(crate) const ROLE: &str = "--traced";

    /// Where the counting begins and where it ends.
    const MARK: Signal = Signal::SIGUSR1;

    /// Why nothing can be counted here.
    #[derive(Debug)]
    pub(crate) struct Unavailable(String);

    impl fmt::Display for Unavailable {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.0)
        }
    }

    /// Tells the parent where the child is.
    pub(crate) fn mark() {
        raise(MARK).expect("a signal to oneself");
    }

    /// Instructions of the child between its two marks.
    pub(crate) fn instructions(args: &[&str]) -> Result<i64, Unavailable> {
        let refused = |error: std::io::Error| Unavailable(format!("a child cannot be traced here: {error}"));
        let mut command = Command::new(std::env::current_exe().expect("the name of this program"));
        command.arg(ROLE).args(args);
        // SAFETY: between fork and exec the child makes one system call and allocates nothing.
        unsafe { command.pre_exec(|| ptrace::traceme().map_err(Into::into)) };
        let mut child = command.spawn().map_err(refused)?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let counted = step_between_marks(pid).map_err(|error| refused(error.into()));
        drop(child.kill());
        drop(child.wait());
        counted
    }

    fn step_between_marks(pid: Pid) -> nix::Result<i64> {
        let at_mark = |status| matches!(status, WaitStatus::Stopped(_, MARK));
        // It stops when the new program is loaded, and from then on at each signal.
        waitpid(pid, None)?;
        ptrace::cont(pid, None)?;
        assert!(at_mark(waitpid(pid, None)?), "the child comes to its first mark");
        let mut instructions = 0;
        loop {
            ptrace::step(pid, None)?;
            match waitpid(pid, None)? {
                WaitStatus::Stopped(_, Signal::SIGTRAP) => instructions += 1,
                status => {
                    assert!(at_mark(status), "the child comes to its second mark, not to {status:?}");
                    return Ok(instructions);
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod traced {
    //! Here nothing can be counted.

    /// The first argument of the child, which there is none of.
    pub(crate) const ROLE: &str = "--traced";

    /// Why nothing can be counted here.
    pub(crate) type Unavailable = &'static str;

    /// There is no parent to tell.
    pub(crate) fn mark() {}

    /// Nothing can be counted here.
    pub(crate) fn instructions(_: &[&str]) -> Result<i64, Unavailable> {
        Err("only on Linux can a child be run one instruction at a time by us")
    }
}
