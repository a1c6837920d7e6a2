// SPDX-License-Identifier: GPL-2.0-only
//! Everything at once, with the validator and without: nothing lost, nothing left behind, nothing found.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::scenario::Setup;
use instrumented_drivers::scenario::stress::{Random, Stress, Stressed};

const STRESS: Stress =
    Stress { setup: Setup::LINUX_6_12, seed: 1, threads: 4, operations: 600, faults: false };

#[track_caller]
fn clean(stress: Stress) -> Stressed {
    let passed = Arc::new(AtomicUsize::new(0));
    let count = passed.clone();
    let progress: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let stressed = stress.run(&progress);
    assert!(stressed.is_clean(), "{stress:?}: {:?}\n{:?}", stressed.run.end, stressed.run.reports.first());
    assert_eq!(passed.load(Ordering::Relaxed), stress.operations, "each operation is told of");
    stressed
}

#[test]
fn nothing_is_lost_or_left_behind_and_nothing_is_found() {
    for seed in 0..3 {
        let stressed = clean(Stress { seed, ..STRESS });
        for (name, count) in stressed.counts {
            assert!(count.done > 0 && count.cut_short == 0, "{name}: {count:?}");
        }
    }
}

#[test]
fn nor_if_waits_and_allocations_fail() {
    for seed in 0..3 {
        let stressed = clean(Stress { seed, faults: true, ..STRESS });
        let done: usize = stressed.counts.iter().map(|(_, count)| count.done).sum();
        let cut_short: usize = stressed.counts.iter().map(|(_, count)| count.cut_short).sum();
        assert_eq!(done + cut_short, STRESS.operations);
        assert!(done > cut_short && cut_short > STRESS.operations / 20, "{done} {cut_short}");
    }
}

#[test]
fn what_a_run_does_follows_from_its_seed() {
    let totals = |seed, faults| -> Vec<usize> {
        let counts = clean(Stress { seed, faults, operations: 200, ..STRESS }).counts;
        counts.into_iter().map(|(_, count)| count.done + count.cut_short).collect()
    };
    assert_eq!(totals(7, false), totals(7, false));
    assert_eq!(totals(7, false), totals(7, true), "failures do not change what comes next");
    assert_ne!(totals(7, false), totals(8, false));
}

#[test]
fn a_part_that_takes_more_numbers_does_not_change_what_comes_after_it() {
    let next = |taken: usize| {
        let mut random = Random::new(3, 1);
        let mut part = random.split();
        for _ in 0..taken {
            part.below(10);
        }
        (0..20).map(|_| random.below(1000)).collect::<Vec<_>>()
    };
    assert_eq!(next(0), next(100));
}

#[test]
fn a_setup_in_which_mapping_deadlocks_is_refused() {
    let setup = Setup { policy: LockingPolicy::P1, shmem: ShmemLocking::C };
    let progress: Arc<dyn Fn() + Send + Sync> = Arc::new(|| ());
    let refused = Stress { setup, ..STRESS }.run(&progress);
    let failure = refused.run.failure().expect("it did not run");
    assert!(failure.to_string().contains("mapping a dma-buf deadlocks"), "{failure}");
}
