// SPDX-License-Identifier: GPL-2.0-only
//! What runs on the models: named programs with what is expected of them.
//!
//! * [`registry`] lists the scenarios; [`Scenario::run`] judges one under a [`Setup`] with a validator of its own.
//! * [`bugs`] are the bugs that kernels had, broken and fixed.
//! * [`mission`] is the matrix of policies, regimes, exporters and paths to an exporter's `mmap`.
//! * [`sequence`] is the written form of what a program locked, for the comparison with a real kernel.
//!
//! Every scenario ends with no lock held, every object freed and no work put off, or it fails.
#![forbid(unsafe_code)]

pub mod bugs;
mod displays;
mod fastrpc;
mod fences;
mod gpu;
mod heaps;
mod i915;
mod i915_live;
mod import;
mod kunit;
mod lima;
mod mapping;
pub mod mission;
mod program;
mod races;
// A verdict on what somebody wrote: there is none without the validator.
#[cfg(feature = "lockdep")]
pub mod script;
pub mod sequence;
mod stack;
pub mod stress;
mod timelines;
mod trouble;
mod vgem;
mod video;
mod world;
mod ww;

use core::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use lockdep::{PanicOn, Recorded, Report, ReportKind, Validator};

use crate::kernel::{CallbackEntry, MmapEntry, task};
use crate::policy::{LockingPolicy, ShmemLocking};
pub use trouble::{Trouble, Troubled};
pub use world::{Failure, World};

/// The two choices every scenario runs under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Setup {
    /// What the dma-buf core holds when it calls an exporter.
    pub policy: LockingPolicy,
    /// Which locks the shmem helper takes.
    pub shmem: ShmemLocking,
}

impl Setup {
    /// The kernel that the recorded sequences are from: 6.12.
    pub const LINUX_6_12: Self = Setup { policy: LockingPolicy::P2, shmem: ShmemLocking::C };

    /// All combinations.
    pub fn all() -> impl Iterator<Item = Setup> {
        LockingPolicy::ALL
            .into_iter()
            .flat_map(|policy| ShmemLocking::ALL.into_iter().map(move |shmem| Setup { policy, shmem }))
    }

    /// True if mapping a buffer through its dma-buf makes a task wait for itself: the dma-buf core holds the
    /// reservation lock, and so wants the exporter.
    #[must_use]
    pub fn mmap_deadlocks(self) -> bool {
        self.policy == LockingPolicy::P1 && self.shmem.on_reservation_lock()
    }

    /// True if the shmem helper's `pin` asserts a lock that nobody takes.
    #[must_use]
    pub fn pin_is_unlocked(self) -> bool {
        self.shmem == ShmemLocking::B0
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.policy, self.shmem)
    }
}

/// A named program.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Short: `V1`, `S5`, or the program's name.
    pub id: &'static str,
    /// Where it comes from: the name of the IGT test, KUnit test or recorded program.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// What a validator must find.
    expects: Expects,
    program: fn(&World) -> Result<(), Failure>,
}

/// What a scenario does that matters for the expectation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    /// Nothing is ever found.
    Clean,
    /// It maps a dma-buf of the shmem helper: a deadlock, if the core holds the lock that the helper takes.
    MapsDmaBuf,
    /// It pins through the helper, or attaches a foreign device, which does: B0 asserts a lock that nobody takes.
    Pins,
    /// Both, in this order.
    PinsThenMaps,
    /// Both, the other way round: a deadlock stops it before it pins.
    MapsThenPins,
    /// It maps an import for the kernel: pins; in A two `vmap_lock`s of one class nest; in P0 the core does not hold
    /// the lock that all other regimes expect there.
    VmapsImport,
    /// It maps a buffer of the shmem helper for the kernel: in P0 the core does not hold the lock that all regimes but
    /// A expect there.
    Vmaps,
    /// It calls functions without the reservation lock that they expect unless they have mutexes of their own.
    CallsUnlocked,
    /// It maps a buffer whose exporter still asserts, under P2, what the core held under P1.
    AssertsWhatP1Held,
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scenario({} {})", self.id, self.name)
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub enum End {
    /// It ran to its end, and left nothing behind.
    Done,
    /// A finding stopped it where it would have waited for ever.
    Stopped,
    /// Something was not as it should be.
    Failed(Failure),
}

/// A judged run.
#[derive(Debug)]
pub struct Run {
    /// How it ended.
    pub end: End,
    /// What the validator found.
    pub reports: Vec<Report>,
    /// What was locked, if that was asked for.
    pub recorded: Vec<Recorded>,
    /// Each entry into a driver's `mmap`, with what was held.
    pub mmaps: Vec<MmapEntry>,
    /// The ways in which callbacks of exporters were entered.
    pub callbacks: Vec<CallbackEntry>,
    /// The order that was learned, from the boot on: names of the earlier and the later class.
    pub order: Vec<(String, String)>,
}

/// Every scenario.
#[must_use]
pub fn registry() -> Vec<Scenario> {
    [
        program::SCENARIOS,
        vgem::SCENARIOS,
        fences::SCENARIOS,
        timelines::SCENARIOS,
        mapping::SCENARIOS,
        import::SCENARIOS,
        races::SCENARIOS,
        video::SCENARIOS,
        heaps::SCENARIOS,
        gpu::SCENARIOS,
        fastrpc::SCENARIOS,
        i915::SCENARIOS,
        i915_live::SCENARIOS,
        lima::SCENARIOS,
        displays::SCENARIOS,
        kunit::SCENARIOS,
        ww::SCENARIOS,
    ]
    .concat()
}

impl Scenario {
    /// The scenario with this id or name, whatever the case of its letters.
    #[must_use]
    pub fn find(wanted: &str) -> Option<Scenario> {
        let is_it = |known: &str| known.eq_ignore_ascii_case(wanted);
        registry().into_iter().find(|scenario| is_it(scenario.id) || is_it(scenario.name))
    }

    /// The kinds of finding that are right under this setup, in the order in which they are made.
    #[must_use]
    pub fn expected(&self, setup: Setup) -> Vec<ReportKind> {
        let mut kinds = Vec::new();
        let own_mutexes = !setup.shmem.on_reservation_lock();
        let asserted = match self.expects {
            Expects::Clean | Expects::MapsDmaBuf => false,
            Expects::Pins | Expects::PinsThenMaps => setup.pin_is_unlocked(),
            Expects::MapsThenPins => setup.pin_is_unlocked() && !self.hangs(setup),
            Expects::VmapsImport => {
                setup.pin_is_unlocked() || (setup.policy == LockingPolicy::P0 && !own_mutexes)
            }
            Expects::Vmaps => setup.policy == LockingPolicy::P0 && !own_mutexes,
            Expects::CallsUnlocked => !own_mutexes,
            Expects::AssertsWhatP1Held => setup.policy == LockingPolicy::P2,
        };
        if asserted {
            kinds.push(ReportKind::AssertHeld);
        }
        if self.hangs(setup) || (self.expects == Expects::VmapsImport && own_mutexes) {
            kinds.push(ReportKind::Recursive);
        }
        kinds
    }

    /// True if the program waits for itself under this setup; without a validator to stop it, it hangs.
    #[must_use]
    pub fn hangs(&self, setup: Setup) -> bool {
        let maps =
            matches!(self.expects, Expects::MapsDmaBuf | Expects::PinsThenMaps | Expects::MapsThenPins);
        maps && setup.mmap_deadlocks()
    }

    /// True if the run found what is right under this setup and nothing else, and ended as it had to.
    #[must_use]
    pub fn is_as_expected(&self, setup: Setup, run: &Run) -> bool {
        run.is(&self.expected(setup), self.hangs(setup))
    }

    /// Runs it under a validator of its own.
    #[must_use]
    pub fn run(&self, setup: Setup) -> Run {
        self.run_with(setup, false)
    }

    /// The same, and everything that is locked is written down.
    #[must_use]
    pub fn run_recorded(&self, setup: Setup) -> Run {
        self.run_with(setup, true)
    }

    fn run_with(&self, setup: Setup, record: bool) -> Run {
        if !lockdep::ENABLED && self.hangs(setup) {
            return would_hang();
        }
        judged(&Validator::builder().panic_on(PanicOn::Certain).record(record).build(), setup, self.program)
    }
}

/// Runs a program in a new world under this validator.
fn judged(validator: &Validator, setup: Setup, program: impl FnOnce(&World) -> Result<(), Failure>) -> Run {
    crate::functions::register();
    let (end, core) = validator.scope(|| {
        lockdep::raw::set_task_name("init");
        let world = World::new(setup);
        // The boot is nobody's program.
        drop(validator.take_recorded());
        let core = world.kernel.core().clone();
        let run = || match setup.pin_is_unlocked() {
            // Nobody takes the lock that should protect the pages; two who touch them at once have no outcome to expect.
            true => task::alone(&core, || program(&world)),
            false => program(&world),
        };
        let end = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(())) => world.end(),
            Ok(Err(failure)) => End::Failed(failure),
            Err(panic) if is_finding(&*panic) => End::Stopped,
            Err(panic) => resume_unwind(panic),
        };
        (end, core)
    });
    Run {
        end,
        reports: validator.reports().into_iter().map(stack::readable).collect(),
        recorded: validator.take_recorded(),
        mmaps: core.mmap_log(),
        callbacks: core.callbacks().into_iter().collect(),
        order: validator.dependencies(),
    }
}

/// Instead of a run that nothing would stop.
fn would_hang() -> Run {
    let end = End::Failed(Failure::new("this would hang, and no validator is compiled in to stop it"));
    Run {
        end,
        reports: Vec::new(),
        recorded: Vec::new(),
        mmaps: Vec::new(),
        callbacks: Vec::new(),
        order: Vec::new(),
    }
}

/// A validator's panic says so.
fn is_finding(panic: &(dyn core::any::Any + Send)) -> bool {
    panic.downcast_ref::<String>().is_some_and(|text| text.starts_with("lockdep: "))
}

impl Run {
    /// The kinds of finding that were made, each once, in order.
    #[must_use]
    pub fn reported(&self) -> Vec<ReportKind> {
        let mut kinds = Vec::new();
        for report in &self.reports {
            if !kinds.contains(&report.kind()) {
                kinds.push(report.kind());
            }
        }
        kinds
    }

    /// What went wrong in the run itself.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match &self.end {
            End::Failed(failure) => Some(failure),
            End::Done | End::Stopped => None,
        }
    }

    /// True if exactly these kinds were found, and the run was stopped if and only if it had to be.
    fn is(&self, expected: &[ReportKind], stops: bool) -> bool {
        let ended = match self.end {
            End::Done => !stops,
            End::Stopped => stops,
            End::Failed(_) => false,
        };
        ended && self.reported() == expected
    }
}

impl End {
    /// One word.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            End::Done => "done",
            End::Stopped => "stopped",
            End::Failed(_) => "failed",
        }
    }
}
