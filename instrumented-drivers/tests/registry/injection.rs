// SPDX-License-Identifier: GPL-2.0-only
//! Each interruptible wait and each allocation of each scenario fails once: no lock stays held, nothing is leaked,
//! nothing is found.
//!
//! A scenario passes a place in the source many times (a buffer has 64 pages): the first and the last time are taken.
//! [`Trouble`] says which threads are spared.

use std::collections::BTreeMap;

use instrumented_drivers::kernel::fault::Plan;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::scenario::{End, Scenario, Setup, Trouble, registry};

/// The first and the last time that each place was passed.
fn plans(scenario: &Scenario, setup: Setup) -> Vec<Plan> {
    let mut places: BTreeMap<_, [Plan; 2]> = BTreeMap::new();
    for place in scenario.places(setup) {
        let key = (place.at.to_string(), place.plan.interrupt.is_some());
        places.entry(key).and_modify(|plans| plans[1] = place.plan).or_insert([place.plan; 2]);
    }
    let mut plans: Vec<_> = places.into_values().flatten().collect();
    plans.dedup();
    plans
}

/// How many times something failed. Panics with all complaints.
fn survive_everything(setup: Setup) -> usize {
    let (mut runs, mut complaints) = (0, Vec::new());
    for scenario in registry() {
        let expected = scenario.expected(setup);
        for plan in plans(&scenario, setup) {
            let what = format!("{} {setup} {plan:?}", scenario.id);
            let troubled = scenario.run_in(setup, Trouble::Fails(plan));
            let found = troubled.run.reported();
            // A buffer that cannot be mapped for the kernel is worth a warning to the core.
            let ended = match &troubled.run.end {
                End::Done => true,
                End::Failed(failure) => failure.to_string().contains("dma_buf_vmap failed"),
                End::Stopped => false,
            };
            if !ended || !found.iter().all(|kind| expected.contains(kind)) {
                complaints.push(format!("{what}: {troubled:#?}"));
            }
            runs += 1;
        }
    }
    assert!(complaints.is_empty(), "{} of {runs} runs:\n{}", complaints.len(), complaints.join("\n"));
    runs
}

#[test]
fn every_scenario_survives_every_failure_under_p2_and_c() {
    let runs = survive_everything(Setup::LINUX_6_12);
    println!("{runs} failures");
    assert!(runs > 1000, "only {runs} failures");
}

#[test]
fn every_scenario_survives_every_failure_under_p1_and_a() {
    let runs = survive_everything(Setup { policy: LockingPolicy::P1, shmem: ShmemLocking::A });
    println!("{runs} failures");
    assert!(runs > 1000, "only {runs} failures");
}
