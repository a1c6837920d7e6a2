// SPDX-License-Identifier: MIT OR Apache-2.0
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
