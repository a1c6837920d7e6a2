// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Everything at once: what the scenarios do, mixed at random over several threads in one kernel, with failures if
//! that is wanted.
//!
//! A run is seeded. Which operations a thread does, with which arguments and failures, follows from the seed and the
//! thread's number alone. How the threads take turns does not: that is up to the machine, so a run that is repeated
//! does the same things in another order, and a call that found something busy may find it free.
//!
//! What is checked: each byte that is written, by a program or a device, is read back as it was written; an operation
//! fails only if a failure was injected into it; at the end no lock is held, every object was freed, no work is put off
//! and the kernel has warned of nothing; and with a validator, nothing was found.

pub mod gpu;
mod ops;
mod random;

use std::sync::Arc;

use lockdep::{PanicOn, Validator};

use self::ops::{Lane, OPERATIONS, Shared};
use super::world::{Failure, Outcome, World};
use super::{Run, Setup, judged};
use crate::kernel::KernelCore;
use crate::kernel::fault::{Plan, Seen, drill_back_offs, inject};
use crate::kernel::shrinker::direct_reclaim_at;
use crate::user::{Child, Process};
pub use random::Random;

/// The largest number of threads.
pub const LARGEST: usize = 64;

/// What is to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stress {
    /// Under which policies.
    pub setup: Setup,
    /// Where all choices come from.
    pub seed: u64,
    /// How many threads, at most [`LARGEST`].
    pub threads: usize,
    /// How many operations, in all threads together.
    pub operations: usize,
    /// Interruptible waits and allocations fail, and contexts of wound/wait mutexes are told to back off.
    pub faults: bool,
}

/// How often an operation was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// To its end.
    pub done: usize,
    /// Until an injected failure.
    pub cut_short: usize,
}

/// What came of it.
#[derive(Debug)]
pub struct Stressed {
    /// How it ended and what was found.
    pub run: Run,
    /// Each kind of operation.
    pub counts: Vec<(&'static str, Count)>,
}

impl Stressed {
    /// True if nothing was found, lost or left behind.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.run.is(&[], false)
    }
}

/// What one thread did.
type Counts = [Count; OPERATIONS.len()];

impl Stress {
    /// Runs it; `progress` is called after each operation.
    ///
    /// Where [`Setup::mmap_deadlocks`], the first mapping of a dma-buf would be the end of its thread, and the locks that
    /// it holds would keep the others waiting: such a setup fails at once.
    #[must_use]
    pub fn run(&self, progress: &Arc<dyn Fn() + Send + Sync>) -> Stressed {
        let mut total = Counts::default();
        let validator = Validator::builder().panic_on(PanicOn::Certain).build();
        let run = judged(&validator, self.setup, |world| self.program(world, progress, &mut total));
        let counts = OPERATIONS.iter().zip(total).map(|((name, _), count)| (*name, count)).collect();
        Stressed { run, counts }
    }

    fn program(&self, world: &World, progress: &Arc<dyn Fn() + Send + Sync>, total: &mut Counts) -> Outcome {
        if self.setup.mmap_deadlocks() {
            return Err(Failure::new("mapping a dma-buf deadlocks in this setup"));
        }
        if self.threads > LARGEST {
            return Err(Failure::new("too many threads"));
        }
        let shared = Arc::new(Shared::new(world)?);
        let start = |number| {
            let (stress, shared, core) = (*self, shared.clone(), world.kernel.core().clone());
            let progress = progress.clone();
            world.init.spawn(move |process| stress.thread(process, core, number, &shared, &*progress))
        };
        let threads: Vec<Child<Outcome<Counts>>> = (0..self.threads).map(start).collect::<Result<_, _>>()?;
        // All of them, before one failure is passed on: the world must not end under a thread.
        let ended: Vec<Outcome<Counts>> = threads.into_iter().map(Child::wait).collect();
        for counts in ended {
            for (all, one) in total.iter_mut().zip(counts?) {
                all.done += one.done;
                all.cut_short += one.cut_short;
            }
        }
        shared.finish(&world.init)
    }

    /// How many operations a thread does.
    fn share(&self, number: usize) -> usize {
        self.operations / self.threads + usize::from(number < self.operations % self.threads)
    }

    fn thread(
        self,
        process: &Process,
        core: Arc<KernelCore>,
        number: usize,
        shared: &Arc<Shared>,
        progress: &(dyn Fn() + Send + Sync),
    ) -> Outcome<Counts> {
        let lane = Lane::new(process, core.clone(), number, shared)?;
        let mut random = Random::new(self.seed, number as u64);
        let mut counts = Counts::default();
        for nth in 0..self.share(number) {
            let kind = random.below(OPERATIONS.len());
            let (name, operation) = OPERATIONS[kind];
            let mut random = random.split();
            let circumstances = Circumstances::new(self.faults, &mut random);
            let (result, cut_short) = circumstances.apply(&core, || operation(&lane, &mut random));
            let what = |failure: &Failure| format!("thread {number}, operation {nth} ({name}): {failure}");
            match result {
                Ok(()) => counts[kind].done += 1,
                Err(failure) if cut_short && failure.is_refused() => counts[kind].cut_short += 1,
                Err(failure) => return Err(Failure::new(what(&failure))),
            }
            lane.put_away(&mut random).map_err(|error| Failure::new(what(&error.into())))?;
            progress();
        }
        lane.gpu.finish()?;
        Ok(counts)
    }
}

/// What happens to an operation from outside.
struct Circumstances {
    /// Memory is short at each allocation whose number this divides.
    short: u32,
    plan: Plan,
    back_offs: bool,
}

impl Circumstances {
    fn new(faults: bool, random: &mut Random) -> Self {
        let mut number = |limit: usize| 1 + u32::try_from(random.below(limit)).unwrap_or_default();
        let short = number(40);
        let (which, at) = (number(4), number(12));
        let plan = match which {
            1 => Plan::interrupt(at),
            2 => Plan::allocation(at),
            _ => Plan::NONE,
        };
        let back_offs = number(4) == 1;
        Circumstances { short, plan: if faults { plan } else { Plan::NONE }, back_offs: faults && back_offs }
    }

    /// What came of it, and whether something in it was made to fail.
    fn apply(&self, core: &Arc<KernelCore>, operation: impl FnOnce() -> Outcome) -> (Outcome, bool) {
        let short = self.short;
        let reclaiming = || direct_reclaim_at(core, move |nth| nth.is_multiple_of(short), operation);
        let backing_off = || if self.back_offs { drill_back_offs(reclaiming) } else { reclaiming() };
        let (result, Seen { interruptible, allocations }) = inject(self.plan, backing_off);
        let reached = |place: Option<u32>, seen| place.is_some_and(|place| place <= seen);
        let failed =
            reached(self.plan.interrupt, interruptible) || reached(self.plan.allocation, allocations);
        (result, failed)
    }
}
