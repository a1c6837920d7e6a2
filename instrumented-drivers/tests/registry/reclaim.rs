// SPDX-License-Identifier: GPL-2.0-only
//! Each allocation of each scenario finds memory short and runs the shrinkers of all drivers, under whatever is held
//! there: nobody hangs, nothing is found, nothing is leaked.

use instrumented_drivers::scenario::{End, Scenario, Setup, Trouble, registry};

/// They count what reclaim finds, and it may have been there before them.
const COUNT_RECLAIMED: [&str; 2] = ["P10", "V12"];

fn allocations(scenario: &Scenario, setup: Setup) -> usize {
    scenario.places(setup).iter().filter(|place| place.plan.allocation.is_some()).count()
}

/// Runs it with memory always short; says how often reclaim was asked.
fn short_of_memory(scenario: &Scenario, setup: Setup) -> usize {
    let troubled = scenario.run_in(setup, Trouble::ShortOfMemory);
    let run = &troubled.run;
    let ended = match &run.end {
        End::Done => !scenario.hangs(setup),
        End::Stopped => scenario.hangs(setup),
        End::Failed(_) => false,
    };
    let through = troubled.gave_up.is_none() || COUNT_RECLAIMED.contains(&scenario.id);
    // Nobody finds anything where no validator is compiled in.
    let expected = if lockdep::ENABLED { scenario.expected(setup) } else { Vec::new() };
    let right = run.reported() == expected && ended && through;
    assert!(right, "{} {setup}: {troubled:#?}", scenario.id);
    troubled.reclaims
}

#[test]
fn reclaim_may_come_at_every_allocation_of_every_scenario() {
    let mut reclaims = 0;
    for setup in Setup::all() {
        for scenario in registry().iter().filter(|scenario| lockdep::ENABLED || !scenario.hangs(setup)) {
            reclaims += short_of_memory(scenario, setup);
        }
    }
    println!("{reclaims} reclaims");
    assert!(reclaims > 50_000, "only {reclaims} reclaims");
}

/// Every allocation is an entry into reclaim to the validator, whether memory is short or not.
#[test]
fn every_allocation_is_seen_as_reclaim() {
    if !lockdep::ENABLED {
        return;
    }
    for scenario in registry() {
        let run = scenario.run_recorded(Setup::LINUX_6_12);
        let entered = run.recorded.iter().filter(|event| format!("{event:?}").contains("fs_reclaim")).count();
        let allocations = allocations(&scenario, Setup::LINUX_6_12);
        assert!(entered >= allocations, "{}: {entered} of {allocations}", scenario.id);
    }
}
