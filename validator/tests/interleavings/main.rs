// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parts of the validator that threads share, in all interleavings that the memory model allows, with loom.
//!
//! The parts are the validator's own source files, included here with loom's locks and atomics. What they use besides
//! has a stand-in, as simple as can be.
//!
//! Not here, because the ordering is a crate's and not ours: the table of validators, recorded events and stacks (a
//! mutex each), and what a thread hands on when it ends (`OnceLock`). A thread's own state is seen by that thread only.
#![cfg(feature = "lockdep")]

mod delivering;
mod engine;
mod forks;
mod hook;
mod meeting;
mod publishing;
mod shared;

#[path = "../../src/runtime/chains.rs"]
mod chains;
#[path = "../../src/runtime/classes.rs"]
#[expect(dead_code, reason = "not all that a registry can do takes part in a model")]
mod classes;
#[path = "../../src/runtime/fork/gate.rs"]
mod gate;
#[path = "../../src/runtime/sink.rs"]
#[expect(dead_code, reason = "nothing is raised here")]
mod sink;
#[path = "../../src/hook/tag.rs"]
mod tag;

mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    pub(crate) use loom::thread::yield_now;
}

/// Nobody forks in the models of other parts.
mod fork {
    pub(crate) struct Pass;

    impl Pass {
        pub(crate) fn new() -> Self {
            Pass
        }
    }
}

mod ids {
    pub(crate) use lockdep::ids::{LockId, TaskId};

    /// The real one cannot be made outside of the crate.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct ClassId(pub(crate) u32);
}

mod limits {
    pub(crate) use lockdep::limits::SUBCLASSES;
}

mod report {
    pub(crate) use lockdep::report::model;
}

mod settings {
    pub(crate) use lockdep::PanicOn;
}

/// All interleavings with so many switches that no thread asked for. (Loops that wait have many branches.)
fn explore(switches: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(switches);
    builder.max_branches = 10_000;
    builder.check(model);
}
