// SPDX-License-Identifier: GPL-2.0-only
//! Real locking bugs of the past, and some of the present: each is run in the broken code and in the fixed.
//!
//! A [`Case`] is one entry of the corpus: what switches between the two (a [`Bug`] of the models, or the policies), a
//! program that gets there, and what a validator must say to the broken code: one kind of report, about this lock in
//! this function, or nothing, with the reason. Where no rule about locks is broken, the run itself shows the harm:
//! something is never freed, counted wrongly, or warned about. The fixed code must be clean.
//!
//! An entry can have a second case, where our engine sees more than the kernel's: what waits for an event or a fence is
//! told to it.
#![forbid(unsafe_code)]

mod core;
mod gem;
mod panfrost;
mod shmem;

use lockdep::{PanicOn, Report, ReportKind, Validator};

use super::world::{Failure, World};
use super::{End, Run, Setup, judged, would_hang};
use crate::bug::Bug;
use crate::policy::{LockingPolicy, ShmemLocking};

/// An entry of the corpus.
#[derive(Clone, Copy)]
pub struct Case {
    /// The entry's number, with a word behind it if it is the entry's second case.
    pub id: &'static str,
    /// What the bug is, in a few words.
    pub name: &'static str,
    switch: Switch,
    /// What the broken code must show.
    pub expected: Expected,
    program: fn(&World) -> Result<(), Failure>,
}

/// What makes the difference between the broken and the fixed code.
#[derive(Clone, Copy)]
enum Switch {
    /// A bug under a setup.
    Bug(Bug, Setup),
    /// The setups: first the broken one.
    Setups(Setup, Setup),
}

/// What the broken code must show.
#[derive(Clone, Copy, Debug)]
pub enum Expected {
    /// Reports of one kind.
    Report {
        /// The kind.
        kind: ReportKind,
        /// The class of the lock that is wanted, in one of them.
        class: &'static str,
        /// The function that wants it there.
        function: &'static str,
        /// The task would wait for ever, so the finding stops it.
        stops: bool,
    },
    /// No report.
    Silence {
        /// Why a validator of locks sees nothing.
        why: &'static str,
        /// What the run shows instead: a part of the message with which it fails.
        shows: &'static str,
    },
}

impl Expected {
    const fn report(kind: ReportKind, class: &'static str, function: &'static str) -> Self {
        Expected::Report { kind, class, function, stops: false }
    }

    /// The same, and the task waits for itself.
    const fn hang(class: &'static str, function: &'static str) -> Self {
        Expected::Report { kind: ReportKind::Recursive, class, function, stops: true }
    }

    const fn stops(&self) -> bool {
        matches!(self, Expected::Report { stops: true, .. })
    }
}

const RESV: &str = "reservation_ww_class_mutex";

const fn setup(policy: LockingPolicy, shmem: ShmemLocking) -> Setup {
    Setup { policy, shmem }
}

const P1_A: Setup = setup(LockingPolicy::P1, ShmemLocking::A);
const P1_B: Setup = setup(LockingPolicy::P1, ShmemLocking::B);
const P2_A: Setup = setup(LockingPolicy::P2, ShmemLocking::A);
const P2_B0: Setup = setup(LockingPolicy::P2, ShmemLocking::B0);
const P2_B: Setup = setup(LockingPolicy::P2, ShmemLocking::B);
const P2_C: Setup = Setup::LINUX_6_12;

/// A case that was run.
#[derive(Debug)]
pub struct Judged {
    /// Which.
    pub case: Case,
    /// The run of the broken code.
    pub broken: Run,
    /// The run of the fixed code.
    pub fixed: Run,
}

impl Case {
    /// Every case, by number.
    #[must_use]
    pub fn all() -> Vec<Case> {
        let mut cases = [core::CASES, gem::CASES, panfrost::CASES, shmem::CASES].concat();
        cases.sort_by_key(|case| (case.number(), case.id));
        cases
    }

    /// The entry's number.
    ///
    /// # Panics
    /// Never: every id begins with one.
    #[must_use]
    pub fn number(&self) -> u32 {
        let digits = self.id.split('-').next().unwrap_or(self.id);
        digits.parse().unwrap_or_else(|_| unreachable!("{} begins with a number", self.id))
    }

    /// True if it is called that: an id names one case, a number all cases of the entry.
    #[must_use]
    pub fn is_called(&self, wanted: &str) -> bool {
        self.id == wanted || self.number().to_string() == wanted
    }

    /// True if this bug makes the difference.
    #[must_use]
    pub fn is_about(&self, bug: Bug) -> bool {
        matches!(self.switch, Switch::Bug(switch, _) if switch == bug)
    }

    /// Where it runs, the broken code and the fixed.
    #[must_use]
    pub fn setups(&self) -> [Setup; 2] {
        match self.switch {
            Switch::Bug(_, setup) => [setup, setup],
            Switch::Setups(broken, fixed) => [broken, fixed],
        }
    }

    /// Runs both under validators of their own.
    #[must_use]
    pub fn judge(self) -> Judged {
        let [broken, fixed] = self.setups();
        Judged { case: self, broken: self.run(broken, true), fixed: self.run(fixed, false) }
    }

    fn run(&self, setup: Setup, broken: bool) -> Run {
        if !lockdep::ENABLED && broken && self.expected.stops() {
            return would_hang();
        }
        judged(&Validator::builder().panic_on(PanicOn::Certain).build(), setup, |world| {
            match self.switch {
                Switch::Bug(bug, _) if broken => world.kernel.break_with(bug),
                Switch::Bug(bug, _) => world.kernel.fix(bug),
                Switch::Setups(..) => {}
            }
            (self.program)(world)
        })
    }
}

impl ::core::fmt::Debug for Case {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        write!(f, "Case({} {})", self.id, self.name)
    }
}

impl Judged {
    /// True if the broken code showed what it must and nothing else, and the fixed code showed nothing.
    #[must_use]
    pub fn is_as_expected(&self) -> bool {
        let broken = match self.case.expected {
            Expected::Report { kind, stops, .. } => {
                self.broken.is(&[kind], stops) && (!lockdep::ENABLED || self.report().is_some())
            }
            Expected::Silence { shows, .. } => {
                let ended = match &self.broken.end {
                    End::Done => shows.is_empty(),
                    End::Stopped => false,
                    End::Failed(failure) => !shows.is_empty() && failure.to_string().contains(shows),
                };
                ended && self.broken.reports.is_empty()
            }
        };
        broken && self.is_fixed_clean()
    }

    /// True if the fixed code ran to its end and nothing was found.
    #[must_use]
    pub fn is_fixed_clean(&self) -> bool {
        self.fixed.is(&[], false)
    }

    /// The expected report, about the right lock in the right function.
    #[must_use]
    pub fn report(&self) -> Option<&Report> {
        let Expected::Report { kind, class, function, .. } = self.case.expected else { return None };
        self.broken.reports.iter().find(|report| {
            report.kind() == kind
                && report.wanted.as_ref().is_some_and(|wanted| {
                    wanted.lock.class == class && wanted.site.function == Some(function)
                })
        })
    }
}
