// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! The litmus language: a small lock program with its expected findings.
//!
//! ```text
//! name: two locks in both orders
//! lock a, b : mutex
//! t1: lock a
//! t1: lock b
//! t1: unlock b
//! t1: unlock a
//! t2: lock b
//! t2: lock a              #! circular
//! ```
//!
//! [`parse`] turns text into a [`Program`], [`Program::run`] executes it on a fresh engine, step by step in file
//! order, and tells which report stands on which line. Classes follow the kernel's rule (nesting two locks of
//! one class is `recursive`). An expectation stands on the line where the report must appear; a file with none
//! must be silent. After a finding the step counts as done and the file goes on.
//!
//! A lock is taken by `lock`, `read` (behind waiting writers), `read!` (past them) or `upread` (upgradable, later
//! perhaps `upgrade`), or tried by `try`, `tryread`, `tryread!`, `tryupread`; a trylock succeeds.
//!
//! Wound/wait mutexes (`ww`, `ctx`, `done`, `fini`, `slow`) are wait-die: a lock that the context has is -EALREADY and
//! no event; a context with locks that meets an older task's lock is told to back off, which is an acquisition that is
//! released at once; what is done against the protocol is `ww-api`.
//!
//! Besides locks: `lock c : event` with `wait c` and `complete c`; `TASK: spawn OTHER` and `TASK: join OTHER`, which keep
//! apart what came before and what comes after; `reclass X [class=C] [sub=N]` for a hold; `pin`, `repin`, `unpin X`;
//! `rcu X…` where one of the locks protects a read; `unregister CLASS` and `register CLASS`. A lock may be declared with
//! `check=no` (known to be held, in no order) or `track=no` (as if it were not there).
//!
//! ```
//! let program = lockdep::litmus::parse("lock a : mutex\nt: lock a\nt: lock a #! recursive\n").unwrap();
//! let run = program.run();
//! assert!(run.as_expected());
//! ```

mod parse;
mod print;
mod program;
mod run;
pub mod words;
mod ww;

pub use parse::parse;
pub use program::{Expectation, LockDecl, LockType, Op, Prime, Program, Section, Step, Tracking};
pub use run::{Reported, Run};
pub use words::ParseError;
