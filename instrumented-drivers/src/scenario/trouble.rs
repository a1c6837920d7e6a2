// SPDX-License-Identifier: GPL-2.0-only
//! Scenarios in trouble: something fails while they run, or memory is short. Whatever they are told then, they may give
//! up, and the process exits; nothing may be held, left over or found that is not there without the trouble.
//!
//! Trouble befalls the thread that runs the program. Its other threads, its children and the kernel's own threads are
//! spared: which of their waits comes first is up to the machine, and a failure has to be repeatable.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Run, Scenario, Setup, judged};
use crate::kernel::fault::{Place, Plan, inject, places};
use crate::kernel::shrinker::{Shrinker, direct_reclaim_at};
use lockdep::{PanicOn, Validator};

/// What befalls the thread that runs a scenario.
#[derive(Clone, Copy, Debug)]
pub enum Trouble {
    /// This wait or this allocation fails.
    Fails(Plan),
    /// Each allocation finds memory short and runs all shrinkers, under whatever is held there.
    ShortOfMemory,
}

/// How a scenario took it.
#[derive(Debug)]
pub struct Troubled {
    /// What made the program give up; a process that exits early does so without a word.
    pub gave_up: Option<String>,
    /// The run, judged after the process has exited. What a program did not reach counts as done.
    pub run: Run,
    /// How often memory was short, and all shrinkers were asked.
    pub reclaims: usize,
}

/// A shrinker that has nothing to give and counts how often it is asked.
#[derive(Default)]
struct Asked(AtomicUsize);

impl Shrinker for Asked {
    fn count_objects(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed);
        0
    }

    fn scan_objects(&self, _nr_to_scan: usize) -> Option<usize> {
        None
    }
}

impl Scenario {
    /// The places where something can fail in an undisturbed run, in order.
    #[must_use]
    pub fn places(&self, setup: Setup) -> Vec<Place> {
        let mut passed = Vec::new();
        let run = judged(&quiet(), setup, |world| {
            let (result, all) = places(|| (self.program)(world));
            passed = all;
            result
        });
        drop(run);
        passed
    }

    /// Runs it under a validator of its own, in trouble.
    #[must_use]
    pub fn run_in(&self, setup: Setup, trouble: Trouble) -> Troubled {
        let mut gave_up = None;
        let asked = Arc::new(Asked::default());
        let shrinker: Arc<dyn Shrinker> = asked.clone();
        let run = judged(&quiet(), setup, |world| {
            let result = match trouble {
                Trouble::Fails(plan) => inject(plan, || (self.program)(world)).0,
                Trouble::ShortOfMemory => {
                    let core = world.kernel.core();
                    core.shrinkers.register(Arc::downgrade(&shrinker));
                    direct_reclaim_at(core, |_| true, || (self.program)(world))
                }
            };
            gave_up = result.err().map(|failure| failure.to_string());
            Ok(())
        });
        Troubled { gave_up, run, reclaims: asked.0.load(Ordering::Relaxed) }
    }
}

fn quiet() -> Validator {
    Validator::builder().panic_on(PanicOn::Certain).print(false).build()
}
