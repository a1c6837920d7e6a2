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
mod sketches;

use ::core::cell::RefCell;
use std::rc::Rc;

use lockdep::{PanicOn, Report, ReportKind, Validator};

use super::world::{Failure, Outcome, World};
use super::{End, Run, Setup, judged, would_hang};
use crate::bug::Bug;
use crate::kernel::shrinker::direct_reclaim_at;
use crate::policy::{LockingPolicy, ShmemLocking};
use crate::user::{Child, Process};

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
    /// The same; neither the broken code nor the fixed has these.
    BugWithout(Bug, Setup, &'static [Bug]),
    /// The setups: first the broken one.
    Setups(Setup, Setup),
    /// Nothing: what looks like a bug is not one.
    Nothing(Setup),
}

/// What the broken code must show.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The kinds of report, in order; none is silence.
    pub kinds: &'static [ReportKind],
    /// The class of the lock that one of the first kind is about, and the function that is at fault.
    about: Option<(&'static str, &'static str)>,
    /// Of a silence: why a validator of locks sees nothing.
    pub why: &'static str,
    /// How the run ends.
    pub ends: Ends,
}

/// How a run of broken code ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// With nothing amiss that a program can see.
    Done,
    /// The task would wait for itself, so the finding stops it.
    Stopped,
    /// The run fails, and its message has this in it.
    Failed(&'static str),
}

impl Expected {
    const fn reports(kinds: &'static [ReportKind], class: &'static str, function: &'static str) -> Self {
        Expected { kinds, about: Some((class, function)), why: "", ends: Ends::Done }
    }

    /// A lock that this very task holds already.
    const fn hang(class: &'static str, function: &'static str) -> Self {
        Expected { ends: Ends::Stopped, ..Self::reports(&[ReportKind::Recursive], class, function) }
    }

    const fn silence(why: &'static str, ends: Ends) -> Self {
        Expected { kinds: &[], about: None, why, ends }
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
        let mut cases = [core::CASES, gem::CASES, panfrost::CASES, shmem::CASES, sketches::CASES].concat();
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

    /// True if this bug makes a difference.
    #[must_use]
    pub fn is_about(&self, bug: Bug) -> bool {
        match self.switch {
            Switch::Bug(switch, _) => switch == bug,
            Switch::BugWithout(switch, _, without) => switch == bug || without.contains(&bug),
            Switch::Setups(..) | Switch::Nothing(_) => false,
        }
    }

    /// Where it runs, the broken code and the fixed.
    #[must_use]
    pub fn setups(&self) -> [Setup; 2] {
        match self.switch {
            Switch::Bug(_, setup) | Switch::BugWithout(_, setup, _) | Switch::Nothing(setup) => {
                [setup, setup]
            }
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
        if !lockdep::ENABLED && broken && self.expected.ends == Ends::Stopped {
            return would_hang();
        }
        judged(&Validator::builder().panic_on(PanicOn::Certain).build(), setup, |world| {
            if let Switch::BugWithout(_, _, without) = self.switch {
                without.iter().for_each(|bug| world.kernel.fix(*bug));
            }
            match self.switch {
                Switch::Bug(bug, _) | Switch::BugWithout(bug, ..) if broken => world.kernel.break_with(bug),
                Switch::Bug(bug, _) | Switch::BugWithout(bug, ..) => world.kernel.fix(bug),
                Switch::Setups(..) | Switch::Nothing(_) => {}
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
        let Expected { kinds, about, .. } = self.case.expected;
        let about = about.is_none() || self.report().is_some();
        self.broken.reported() == kinds && about && self.ended_as_expected() && self.is_fixed_clean()
    }

    /// True if the run of the broken code ended as it must.
    #[must_use]
    pub fn ended_as_expected(&self) -> bool {
        match (self.case.expected.ends, &self.broken.end) {
            (Ends::Done, End::Done) | (Ends::Stopped, End::Stopped) => true,
            (Ends::Failed(what), End::Failed(failure)) => failure.to_string().contains(what),
            _ => false,
        }
    }

    /// True if the fixed code ran to its end and nothing was found.
    #[must_use]
    pub fn is_fixed_clean(&self) -> bool {
        self.fixed.is(&[], false)
    }

    /// The expected report, about the right lock in the right function.
    #[must_use]
    pub fn report(&self) -> Option<&Report> {
        let Expected { kinds: [kind, ..], about: Some((class, function)), .. } = self.case.expected else {
            return None;
        };
        self.broken.reports.iter().find(|report| {
            let wanted = report.wanted.as_ref();
            report.kind() == *kind
                && wanted.is_some_and(|wanted| {
                    wanted.lock.class == class && wanted.site.function == Some(function)
                })
        })
    }
}

/// An entry that is not run: a race in which no lock is taken in a wrong order or where it must not be, and whose broken code
/// the models do not have.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    /// The entry's number.
    pub number: u32,
    /// What the bug is.
    pub name: &'static str,
    /// Why a validator of locks sees nothing.
    pub why: &'static str,
}

/// The entries that are not run.
pub const LISTED: &[Listed] = &[
    Listed {
        number: 30,
        name: "GEM LRU: the lock is found through a pointer",
        why: "the right lock for what the pointer was; nobody says that the lock protects the pointer too",
    },
    Listed {
        number: 31,
        name: "panfrost: free against the shrinker's list",
        why: "each task takes the list's lock; one frees what the other found there (use after free)",
    },
    Listed {
        number: 32,
        name: "panfrost: an error pointer among the pages",
        why: "all under the right lock; a slot keeps an error, and a release takes it for a page",
    },
    Listed {
        number: 33,
        name: "export against gem_close",
        why: "a lock is missing where the link to the dma-buf is set and cleared",
    },
    Listed {
        number: 34,
        name: "flink and open against close",
        why: "a lock is missing where a name is looked up and a handle made for it",
    },
    Listed {
        number: 35,
        name: "a handle is visible before its open has ended",
        why: "the lock is right, and dropped too early: what it protects is not ready yet",
    },
    Listed {
        number: 36,
        name: "dma-buf is released while its name is read",
        why: "no lock is involved: the release was tied to the file, its users to the directory entry (use after free)",
    },
    Listed {
        number: 37,
        name: "dma-buf is in the debugfs list after its inode",
        why: "both tasks take the list's lock; the entry is taken out too late (use after free)",
    },
    Listed {
        number: 47,
        name: "dma-resv: a fence takes two slots, or is lost",
        why: "a matter of counting under the right lock; it ends in a BUG or in a use after free",
    },
];

/// Runs `first`; at its first allocation another task of the process runs `second`. With the bug the two meet nowhere, so
/// the second overtakes the first; without it waits for a lock that the first has.
fn overtaken<R: Send + 'static>(
    world: &World,
    bug: Bug,
    first: impl FnOnce() -> Outcome,
    second: impl FnOnce(&Process) -> R + Send + 'static,
) -> Outcome {
    let process = world.init.clone();
    let overtakes = world.kernel.core().has(bug);
    let (mut second, waiting) = (Some(second), Rc::new(RefCell::new(None)));
    let started = waiting.clone();
    let start = move |_| {
        if let Some(second) = second.take()
            && let Ok(task) = process.spawn(second)
        {
            if overtakes {
                task.wait();
            } else {
                started.replace(Some(task));
            }
        }
        false
    };
    let result = direct_reclaim_at(world.kernel.core(), start, first);
    waiting.take().map(Child::wait);
    result
}
