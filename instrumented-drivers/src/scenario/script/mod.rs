// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Scripts: programs over the modelled devices that a user wrote.
//!
#![doc = include_str!("language.md")]

mod calls;
mod parse;
mod run;
#[cfg(test)]
mod tests;
mod value;

use lockdep::litmus::ParseError;
use lockdep::{PanicOn, ReportKind, Validator};

use self::parse::Block;
use self::run::Task;
use super::world::Failure;
use super::{Run, Setup, judged};
use crate::policy::{LockingPolicy, ShmemLocking};

/// How a script is written: the header of this module, which is also what `lockdep scenario --help` prints.
pub const LANGUAGE: &str = include_str!("language.md");

/// A program that was read from a text.
pub struct Script {
    finds: Vec<Finds>,
    steps: Block,
}

/// What must be found.
struct Finds {
    kinds: Vec<ReportKind>,
    /// In these setups, else in all.
    only: Vec<Only>,
}

/// Some setups: those with this policy and this regime, as far as they are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Only {
    policy: Option<LockingPolicy>,
    shmem: Option<ShmemLocking>,
}

impl Only {
    fn holds(self, setup: Setup) -> bool {
        self.policy.is_none_or(|policy| policy == setup.policy)
            && self.shmem.is_none_or(|shmem| shmem == setup.shmem)
    }
}

impl Script {
    /// Reads one.
    ///
    /// # Errors
    /// The first mistake in the text.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse::parse(text)
    }

    /// The kinds of finding that the text says are right under this setup, in its order.
    #[must_use]
    pub fn expected(&self, setup: Setup) -> Vec<ReportKind> {
        let hold = |finds: &&Finds| finds.only.is_empty() || finds.only.iter().any(|only| only.holds(setup));
        self.finds.iter().filter(hold).flat_map(|finds| finds.kinds.iter().copied()).collect()
    }

    /// True if the run found what is right under this setup and nothing else, and left nothing behind.
    #[must_use]
    pub fn is_as_expected(&self, setup: Setup, run: &Run) -> bool {
        run.failure().is_none() && run.reported() == self.expected(setup)
    }

    /// Runs it under a validator of its own; what is locked is written down. The second is what went otherwise than
    /// the text says; then the run is what there was until then.
    #[must_use]
    pub fn run(&self, setup: Setup) -> (Run, Option<ParseError>) {
        let mut wrong = None;
        let validator = Validator::builder().panic_on(PanicOn::Certain).record(true).build();
        let run = judged(&validator, setup, |world| {
            Task::new(&world.init).run(&self.steps).map_err(|error| {
                let failure = Failure::new(error.to_string());
                wrong = Some(error);
                failure
            })
        });
        (run, wrong)
    }
}

crate::kernel::opaque_debug!(Script);
